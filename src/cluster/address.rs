//! Which addresses an API server may have: checked when a URL is read and again at every connect,
//! after resolution.

use std::net::{IpAddr, Ipv4Addr};

use crate::core::address::AddressPolicy;

/// What is said of a loopback address.
pub(super) const LOOPBACK: &str =
    "leads to a loopback address, which is this very pod; give the address that the remote has from here";
/// What is said of every other forbidden address.
const FORBIDDEN: &str = "leads to an address that is never dialled (loopback, unspecified, link-local, multicast, reserved or cloud metadata); give the address that the remote has from here";

/// Whether an API server may have this address. What may not be an endpoint may not be a server
/// either; a NAT64 address (RFC 6052) is judged by the IPv4 address in it.
///
/// # Errors
/// Says why not, without the address.
pub(super) fn check(address: IpAddr) -> Result<(), &'static str> {
    let judged = nat64(address).map_or(address, IpAddr::V4);
    if judged.is_loopback() {
        return Err(LOOPBACK);
    }
    AddressPolicy::default().check(judged).map_err(|_| FORBIDDEN)
}

fn nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a02_forbidden_addresses_in_any_family() {
        for bad in [
            "127.0.0.1",
            "127.255.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "255.255.255.255",
        ] {
            assert!(check(bad.parse().unwrap()).is_err(), "{bad}");
        }
        for good in ["172.30.0.3", "10.0.0.1", "203.0.113.1", "2001:db8::1", "fd12::1", "64:ff9b::cb00:7101"] {
            assert_eq!(check(good.parse().unwrap()), Ok(()), "{good}");
        }
    }
}
