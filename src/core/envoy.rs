//! What Heliostat's own gateways are to do, and what their Envoys say of it: plain values between
//! the deciding side, which makes them, and the xDS server, which carries them. Never knows Envoy's
//! own types, nor why a port belongs to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
};

use super::name;

/// The Service by which Envoys reach the controller, and its port (config/components/exporter).
pub const XDS_SERVICE: (&str, u16) = ("heliostat-xds", 18000);

/// Longest part of a gateway's name that leaves room for a hash in the name of a Service.
const MAX_HEAD: usize = 54;

/// Name of all that a binding's own gateway is made of: `heliostat-gateway-<binding>`. Where that is
/// none for a Service, because it is too long or has dots, it is cut, and closed by a hash.
#[must_use]
pub fn gateway_name(binding: &str) -> String {
    let name = format!("heliostat-gateway-{binding}");
    if name::is_service_name(&name) {
        return name;
    }
    let head: String = name.chars().map(|c| if c == '.' { '-' } else { c }).take(MAX_HEAD).collect();
    format!("{}-{}", head.trim_end_matches('-'), name::hash(&[binding], 8))
}

/// Name of the Secret with the certificate by which a binding's Envoys are let in.
#[must_use]
pub fn certificate_name(binding: &str) -> String {
    format!("{}-tls", gateway_name(binding))
}

/// The name by which Envoys reach the controller in `namespace`.
#[must_use]
pub fn xds_host(namespace: &str, cluster_domain: &str) -> String {
    format!("{}.{namespace}.svc.{cluster_domain}", XDS_SERVICE.0)
}

/// What all the Envoys of one binding are to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyConfig {
    /// Each port that is open, and where what arrives there goes.
    pub ports: BTreeMap<EnvoyPort, EnvoyRouting>,
    /// Where it goes, by names that the routings use. A name without a cluster here goes nowhere:
    /// connections to it are closed, requests answered with 503.
    pub clusters: BTreeMap<String, EnvoyCluster>,
    /// Whether ports are opened on IPv6 beside IPv4. False where nodes have no IPv6: Envoy refuses
    /// a port that it cannot open on all of its addresses.
    pub ipv6: bool,
}

/// A port on the Envoy's pod. Its text form, such as `tcp-20001`, names it to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnvoyPort {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port; it has [`EnvoyRouting::Port`] only.
    Udp(u16),
}

impl EnvoyPort {
    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Tcp(port) | Self::Udp(port) => port,
        }
    }
}

impl fmt::Display for EnvoyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp-{port}"),
            Self::Udp(port) => write!(f, "udp-{port}"),
        }
    }
}

/// A string that is not the text form of an [`EnvoyPort`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} names no port of a gateway; such a name is for example tcp-20001")]
pub struct NotAPort(pub String);

impl FromStr for EnvoyPort {
    type Err = NotAPort;

    fn from_str(name: &str) -> Result<Self, NotAPort> {
        let parsed = name.split_once('-').and_then(|(transport, port)| {
            let port = port.parse().ok()?;
            match transport {
                "tcp" => Some(Self::Tcp(port)),
                "udp" => Some(Self::Udp(port)),
                _ => None,
            }
        });
        // `tcp-+1` and `tcp-01` would be second names of a port.
        parsed.filter(|port| port.to_string() == name).ok_or_else(|| NotAPort(name.to_owned()))
    }
}

/// How a port tells services apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvoyRouting {
    /// All that arrives goes to one cluster.
    Port {
        /// Name of the cluster.
        cluster: String,
    },
    /// By the Host of an HTTP request; an unknown one is answered with 404.
    Host {
        /// Where requests go, by lower-case host without port and trailing dot; those that arrive
        /// with them are found as well.
        hosts: BTreeMap<String, EnvoyHost>,
    },
    /// By the name in a TLS greeting, which stays encrypted; a connection that asks for an unknown
    /// name, or for none, is closed.
    Sni {
        /// Names of clusters, by lower-case name asked for.
        names: BTreeMap<String, String>,
    },
}

/// Where the requests for one host go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyHost {
    /// Name of the cluster.
    pub cluster: String,
    /// The Host that the backend sees instead of the caller's.
    pub rewrite: Option<String>,
}

impl EnvoyRouting {
    /// The names of all clusters that it uses.
    pub fn clusters(&self) -> BTreeSet<&str> {
        match self {
            Self::Port { cluster } => BTreeSet::from([cluster.as_str()]),
            Self::Host { hosts } => hosts.values().map(|host| host.cluster.as_str()).collect(),
            Self::Sni { names } => names.values().map(String::as_str).collect(),
        }
    }

    /// The part of it that goes to clusters that pass.
    pub fn only(&self, passes: impl Fn(&str) -> bool) -> Option<Self> {
        match self {
            Self::Port { cluster } => passes(cluster).then(|| self.clone()),
            Self::Host { hosts } => {
                let hosts = hosts.iter().filter(|(_, host)| passes(&host.cluster));
                Some(Self::Host { hosts: hosts.map(owned).collect() })
            }
            Self::Sni { names } => {
                let names = names.iter().filter(|(_, cluster)| passes(cluster));
                Some(Self::Sni { names: names.map(owned).collect() })
            }
        }
    }

    /// What both do; none when that is nothing because they tell services apart differently.
    pub fn common(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Port { .. }, Self::Port { .. }) => (self == other).then(|| self.clone()),
            (Self::Host { hosts }, Self::Host { hosts: others }) => Some(Self::Host { hosts: shared(hosts, others) }),
            (Self::Sni { names }, Self::Sni { names: others }) => Some(Self::Sni { names: shared(names, others) }),
            _ => None,
        }
    }

    /// Whether everything that the other does is done by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        self.common(other).as_ref() == Some(other)
    }
}

/// The entries that two maps have in common.
fn shared<V: Clone + PartialEq>(one: &BTreeMap<String, V>, two: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    one.iter().filter(|(key, value)| two.get(*key) == Some(*value)).map(owned).collect()
}

fn owned<V: Clone>((key, value): (&String, &V)) -> (String, V) {
    (key.clone(), value.clone())
}

/// Where traffic goes: one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyCluster {
    /// What its backends speak.
    pub protocol: EnvoyProtocol,
    /// The addresses of its ready backends. Without any, connections are closed and requests
    /// answered with 503.
    pub endpoints: BTreeSet<SocketAddr>,
}

/// What the backends of a cluster speak, as far as Envoy must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvoyProtocol {
    /// Bytes over TCP, which Envoy does not look into; also TLS that it passes through.
    Tcp,
    /// Datagrams.
    Udp,
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/2 without TLS: gRPC and h2c.
    Http2,
}

/// What the Envoys of one binding have acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyState {
    /// Name of the binding.
    pub binding: String,
    /// How many of its Envoys are connected to this replica. One counts once it has taken over all that it
    /// is to do: until then it is not ready, and its Service sends it nothing.
    pub connected: u32,
    /// What every connected Envoy does, down to the single host and name; nothing while none is
    /// connected. A change that is under way shows what all do at this moment, so what did not
    /// change stays here all the time.
    pub serving: BTreeMap<EnvoyPort, EnvoyRouting>,
    /// The ports at which some Envoy refused what it was told last, with its own words. It goes on
    /// with what it had.
    pub refused: BTreeMap<EnvoyPort, String>,
}

impl EnvoyState {
    /// Whether every connected Envoy does at least this at a port, and some Envoy is connected.
    pub fn serves(&self, port: EnvoyPort, routing: &EnvoyRouting) -> bool {
        self.serving.get(&port).is_some_and(|served| served.covers(routing))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use super::*;

    fn sni(names: &[(&str, &str)]) -> EnvoyRouting {
        EnvoyRouting::Sni { names: names.iter().map(|(name, cluster)| ((*name).into(), (*cluster).into())).collect() }
    }

    #[test]
    fn a_gateways_name_is_one_of_a_service() {
        assert_eq!(gateway_name("public"), "heliostat-gateway-public");
        assert_eq!(certificate_name("public"), "heliostat-gateway-public-tls");
        let long = ["a".repeat(63), format!("{}b", "a".repeat(62)), format!("{}.b", "a".repeat(44))];
        let bindings = long.iter().map(String::as_str).chain(["a.b", "a-b", "9"]);
        let names: BTreeSet<String> = bindings.map(gateway_name).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.iter().all(|name| name::is_service_name(name)), "{names:?}");
    }

    #[test]
    fn a_port_is_named_in_one_way_only() {
        for port in [EnvoyPort::Tcp(20001), EnvoyPort::Udp(53)] {
            assert_eq!(port.to_string().parse(), Ok(port));
        }
        for name in ["tcp", "tcp-", "tcp-01", "tcp-+1", "tcp-65536", "TCP-1", "sctp-1", ""] {
            assert_eq!(name.parse::<EnvoyPort>(), Err(NotAPort(name.into())));
        }
    }

    #[test]
    fn a_name_that_is_added_does_not_unserve_the_others() {
        let before = sni(&[("a", "x"), ("b", "y")]);
        let after = sni(&[("a", "x"), ("b", "z"), ("c", "z")]);
        let common = before.common(&after).unwrap();
        assert_eq!(common, sni(&[("a", "x")]));
        assert!(before.covers(&sni(&[("a", "x")])));
        assert!(!before.covers(&after));
    }

    #[test]
    fn what_goes_to_a_cluster_that_is_not_there_is_not_served() {
        let routing = sni(&[("a", "x"), ("b", "y")]);
        assert_eq!(routing.only(|cluster| cluster == "x"), Some(sni(&[("a", "x")])));
        let port = EnvoyRouting::Port { cluster: "x".into() };
        assert_eq!(port.only(|cluster| cluster == "y"), None);
        assert_eq!(port.common(&routing), None);
    }

    #[test]
    fn nothing_is_served_while_no_envoy_is_connected() {
        let state = EnvoyState { binding: "public".into(), ..EnvoyState::default() };
        assert!(!state.serves(EnvoyPort::Tcp(443), &sni(&[])));
    }
}
