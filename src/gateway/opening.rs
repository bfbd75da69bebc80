//! The TCP ports of a Service in front of gateways that are told where to listen inside their pods.

use std::collections::BTreeMap;

use super::front::Front;
use crate::core::{
    export::provider::Supply,
    model::{Key, OriginPort, Protocol},
};

/// A TCP port of the Service whose number inside the pods is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// As it is reached from outside.
    pub(super) outside: u16,
    /// In the pods.
    pub(super) inside: u16,
}

/// All of them, in the Service's order.
pub(super) fn openings<'a>(front: &'a Front<'_>) -> impl Iterator<Item = Opening> + 'a {
    let tcp = front.ports.iter().filter(|(port, _)| port.protocol == Protocol::Tcp);
    tcp.filter_map(|(port, outside)| Some(Opening { outside: *outside, inside: port.pod_port? }))
}

/// Which of them may be given to routes: those behind which nothing listens, as `used` says in words.
pub(super) fn supply(key: &Key, front: &Front<'_>, used: impl Fn(u16) -> Option<String>) -> Supply {
    let mut pool = Vec::new();
    let mut taken = BTreeMap::new();
    let mut seen: BTreeMap<u16, u16> = BTreeMap::new();
    for Opening { outside, inside } in openings(front) {
        pool.push((Protocol::Tcp, outside));
        // Two that lead to one port would be one.
        let who = match *seen.entry(inside).or_insert(outside) {
            first if first == outside => used(inside),
            first => Some(format!("port {first} of the Service leads there too")),
        };
        if let Some(who) = who {
            taken.insert((Protocol::Tcp, outside), format!("pod port {inside}: {who}"));
        }
    }
    let hint = hint(key, front, &taken);
    Supply { pool: Some(pool.into_iter().collect()), taken, protocols: [Protocol::Tcp].into(), hint }
}

/// What to add where no port is left.
fn hint(key: &Key, front: &Front<'_>, taken: &BTreeMap<(Protocol, u16), String>) -> String {
    let mut hint = format!(
        "add a port to Service {key}, within spec.export.ports and with a number as targetPort on which nothing of the gateway listens"
    );
    let is_unnumbered = |port: &OriginPort| port.protocol == Protocol::Tcp && port.pod_port.is_none();
    if let Some((port, _)) = front.ports.iter().find(|(port, _)| is_unnumbered(port)) {
        hint += &format!("; port {} is not used, as its targetPort is a name", port.port);
    }
    if let Some(((_, port), who)) = taken.iter().next() {
        hint += &format!("; port {port} leads to {who}");
    }
    hint
}
