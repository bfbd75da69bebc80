//! Which remote addresses may become endpoints here. Everything a remote says is text until it
//! has passed through this file (design: section 7).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

/// Metadata services of clouds that do not lie in a link-local range.
const METADATA: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Ranges of this cluster and what a link may or may not use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Ranges of this cluster: services, pods, and each node's exact addresses.
    pub own: Arc<[IpNet]>,
    /// Lifts the refusal of `own`, and of nothing else.
    pub allow: Vec<IpNet>,
    /// Always refused.
    pub deny: Vec<IpNet>,
}

impl AddressPolicy {
    /// The address that the text says, if it may be an endpoint here; else why not.
    pub fn admit(&self, text: &str) -> Result<IpAddr, String> {
        let address = parse(text)?;
        self.check(address).map(|()| address)
    }

    /// Whether an address may be an endpoint here; else why not.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        if let Some(what) = never(address) {
            return Err(format!("{address} is {what} and never used"));
        }
        if self.deny.iter().any(|net| net.contains(&address)) {
            return Err(format!("{address} lies in the link's spec.addresses.deny"));
        }
        match self.own.iter().find(|net| net.contains(&address)) {
            Some(net) if !self.allow.iter().any(|net| net.contains(&address)) => Err(format!(
                "{address} lies in this cluster's own range {net}; if it really is the remote's, add it to the link's spec.addresses.allow"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether an address is reached from private networks only: RFC 1918, CGNAT (RFC 6598), ULA
/// (RFC 4193), link-local and loopback (design: section 7).
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let cgnat = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || cgnat
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Strict and canonical: what the text says must be exactly how Kubernetes writes that address,
/// so that no octal, hexadecimal, mapped or zoned spelling slips through.
fn parse(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.to_string() == text => Ok(address),
        Ok(address) => Err(format!("{text:?} is not how {address} is written")),
        Err(_) => Err(format!("{:?} is not an IP address", text.chars().take(64).collect::<String>())),
    }
}

/// What an address is that can never be an endpoint.
fn never(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("a cloud metadata address");
    }
    match address {
        IpAddr::V4(v4) => never_v4(v4),
        IpAddr::V6(v6) => never_v6(v6),
    }
}

fn never_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("link-local"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved or broadcast"),
        _ => None,
    }
}

fn never_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let segments = v6.segments();
    if v6.is_unspecified() {
        Some("unspecified")
    } else if v6.is_loopback() {
        Some("a loopback address")
    } else if v6.is_multicast() {
        Some("multicast")
    } else if segments[0] & 0xffc0 == 0xfe80 || segments[0] & 0xffc0 == 0xfec0 {
        Some("link-local")
    } else if segments[..4] == [0; 4] {
        Some("an IPv4 address in an IPv6 spelling")
    } else if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || segments[..3] == [0x64, 0xff9b, 1] || segments[0] == 0x2002
    {
        Some("a translated IPv4 address (NAT64 or 6to4)")
    } else {
        None
    }
}

/// Reads CIDRs; the first that is none is named.
pub fn parse_cidrs(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| format!("{text:?} is not a CIDR; write for example 10.0.0.0/8")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> AddressPolicy {
        AddressPolicy {
            own: vec![
                "10.96.0.0/16".parse().unwrap(),
                "10.244.0.0/24".parse().unwrap(),
                "172.30.0.31/32".parse().unwrap(),
            ]
            .into(),
            allow: vec!["10.244.0.128/25".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            deny: vec!["203.0.113.66/32".parse().unwrap(), "10.244.0.200/32".parse().unwrap()],
        }
    }

    #[test]
    fn a08_addresses_that_must_never_be_endpoints() {
        for bad in [
            "127.0.0.1",
            "127.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "2130706433",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "100.100.100.200",
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "febf::1",
            "fec0::1",
            "feff::1",
            "::ffff:0:10.0.0.1",
            "2002::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "0:0:0:0:0:0:0:1",
            "2001:DB8::1",
            " 10.0.0.1",
            "10.0.0.1 ",
            "10.0.0.1/32",
            "10.0.0.01",
            "",
            "gw.example",
            "10.96.0.1",
            "10.244.0.5",
            "172.30.0.31",
            "203.0.113.66",
            "10.244.0.200",
        ] {
            assert!(policy().admit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ordinary_addresses_and_those_that_allow_lifts_pass() {
        for good in [
            "172.30.0.32",
            "10.0.0.1",
            "192.168.1.1",
            "203.0.113.10",
            "2001:db8::1",
            "fd12::5",
            "10.244.0.129",
            "64:ff9c::1",
        ] {
            assert!(policy().admit(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn g15_private_is_what_no_public_network_leads_to() {
        for private in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "11.0.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "101.64.0.1",
            "203.0.113.7",
            "2001:db8::1",
            "::2",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        assert!(policy().admit("10.96.0.1").unwrap_err().contains("spec.addresses.allow"));
        assert!(parse_cidrs(&["10.0.0.0/8".into(), "x".into()]).unwrap_err().contains("\"x\""));
    }
}
