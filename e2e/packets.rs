//! Faults of the network itself: packets between a pod and a server that the kernel drops or refuses, by
//! rules of nftables in the node's network. Each fault has a table of its own, which goes with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::rig::{api_server, rig, rig_now};

/// What becomes of packets between pods and a server.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// None comes through: connections stay half open.
    Dropped,
    /// The pods' packets arrive, the server's do not.
    NoReplies,
    /// The pods' connections are reset, and new ones refused.
    Refused,
}

/// A fault that lasts until it is dropped.
pub(crate) struct Fault {
    cluster: &'static str,
    table: String,
}

impl Fault {
    /// Between pods of a cluster and a server: of another cluster, or of this machine.
    pub(crate) async fn outside(cluster: &'static str, pods: &[String], server: SocketAddr, fate: Fate) -> Self {
        Self::put(cluster, ["forward", "forward"], pods, server, fate).await
    }

    /// Between pods of a cluster and a server on their own node.
    pub(crate) async fn on_node(cluster: &'static str, pods: &[String], server: SocketAddr, fate: Fate) -> Self {
        Self::put(cluster, ["input", "output"], pods, server, fate).await
    }

    /// `hooks`: where packets to the server pass, and where those from it do. There the pods have their own
    /// addresses, and the server its own too.
    async fn put(
        cluster: &'static str,
        [to, from]: [&str; 2],
        pods: &[String],
        server: SocketAddr,
        fate: Fate,
    ) -> Self {
        let (ip, port) = (server.ip(), server.port());
        let fault =
            Self { cluster, table: format!("inet heliostat-fault-{}-{port}", ip.to_string().replace('.', "-")) };
        let pods = pods.join(", ");
        let (there, back) = match fate {
            Fate::Dropped => ("drop", "drop"),
            Fate::NoReplies => ("accept", "drop"),
            Fate::Refused => ("reject with tcp reset", "drop"),
        };
        let table = &fault.table;
        // Before the node's own rules. What an earlier run has left goes first.
        let rules = format!(
            "add table {table}; delete table {table}; table {table} {{
              chain there {{
                type filter hook {to} priority -10
                ip saddr {{ {pods} }} ip daddr {ip} tcp dport {port} {there}
              }}
              chain back {{
                type filter hook {from} priority -10
                ip saddr {ip} ip daddr {{ {pods} }} tcp sport {port} {back}
              }}
            }}"
        );
        rig("enter", &[cluster, "nft", &rules]).await;
        fault
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        rig_now("enter", &[self.cluster, "nft", "delete", "table", &self.table]);
    }
}

/// One more address of the exporter's API server, so that a fault on the way to it concerns one test alone.
pub(crate) struct Address {
    /// Where the API server answers as well.
    pub(crate) server: SocketAddr,
    on_node: String,
}

impl Address {
    /// The rig gives out numbers up to 250: the others are free for tests.
    pub(crate) async fn of_east(last: u8) -> Self {
        let usual = api_server("east");
        let IpAddr::V4(node) = usual.ip() else { panic!("{usual} is not IPv4") };
        let [a, b, c, _] = node.octets();
        let ip = Ipv4Addr::new(a, b, c, last);
        let address = Self { server: SocketAddr::new(ip.into(), usual.port()), on_node: format!("{ip}/32") };
        rig("enter", &["east", "ip", "addr", "replace", &address.on_node, "dev", "eth0"]).await;
        address
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        rig_now("enter", &["east", "ip", "addr", "del", &self.on_node, "dev", "eth0"]);
    }
}
