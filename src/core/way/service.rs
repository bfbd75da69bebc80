//! Service: the origin's own load balancer, else its port on the exporter's nodes.

use sha2::{Digest, Sha256};

use super::{Question, Source, Yield, carried, endpoints, origin_ready, pod_slices, resolved};
use crate::{
    api::Reason,
    core::{
        model::{Ingress, MirrorEndpoint, OriginType, RemoteNode, SlicePort},
        select::Refusal,
    },
};

/// Most nodes that one mirror uses (design: section 5).
const MAX_NODES: usize = 16;

pub(super) fn offer(q: &Question<'_>) -> Result<Yield, (Refusal, Yield)> {
    let has_node_ports = q.ports.iter().any(|p| p.node_port.is_some());
    match q.origin.kind {
        OriginType::LoadBalancer if !q.origin.ingress.is_empty() => Ok(load_balancer(q)),
        OriginType::LoadBalancer | OriginType::NodePort if has_node_ports => node_port(q),
        OriginType::LoadBalancer => {
            Err(nothing(Reason::Pending, format!("{} has no load balancer address yet", q.key)))
        }
        _ => Err(nothing(Reason::NoRoute, format!("{} is neither of type LoadBalancer nor NodePort", q.key))),
    }
}

fn nothing(reason: Reason, message: String) -> (Refusal, Yield) {
    (Refusal::new(reason, message), Yield::default())
}

fn source(ports: Vec<SlicePort>, endpoints: Vec<MirrorEndpoint>) -> Source {
    Source { name: vec!["service".to_owned()], ports, endpoints, trigger_time: None, port_lease: None, linkerd: None }
}

fn load_balancer(q: &Question<'_>) -> Yield {
    let mut out = Yield::default();
    let ready = origin_ready(q);
    let mut found = Vec::new();
    for ingress in &q.origin.ingress {
        found.extend(match ingress {
            Ingress::Ip(ip) => endpoints(q, std::iter::once(ip.as_text().as_ref()), ready, &mut out),
            Ingress::Hostname(host) => resolved(q, host, ready, &mut out),
        });
    }
    let ports = q.ports.iter().map(|p| carried(p, p.port)).collect();
    out.sources.push(source(ports, found));
    out
}

fn node_port(q: &Question<'_>) -> Result<Yield, (Refusal, Yield)> {
    let mut out = Yield { nodes: true, ..Yield::default() };
    let nodes = match &q.remote.nodes {
        None => {
            out.awaits = true;
            return Err((Refusal::new(Reason::Pending, "the exporter's nodes are being read"), out));
        }
        Some(Err(why)) => {
            // No failure makes an address go: what is there stays as it was.
            out.unresolved = true;
            let message = format!(
                "the exporter's nodes cannot be read: {why}; let the link's account list nodes, or give {} a load balancer or a gateway",
                q.key
            );
            return Err((Refusal::new(Reason::Forbidden, message), out));
        }
        Some(Ok(nodes)) => nodes,
    };
    let local: Vec<&str> = pod_slices(q)
        .flat_map(|(_, s)| &s.endpoints)
        .filter(|e| e.readiness.serving)
        .filter_map(|e| e.node.as_deref())
        .collect();
    let eligible = |name: &str, node: &RemoteNode| node.usable && (!q.origin.local_traffic || local.contains(&name));
    let mut ranked: Vec<(u64, &RemoteNode)> =
        nodes.iter().filter(|(name, node)| eligible(name, node)).map(|(name, node)| (rank(q, name), node)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let ready = origin_ready(q);
    let mut found = Vec::new();
    for (_, node) in ranked.into_iter().take(MAX_NODES) {
        let addresses = if node.external.is_empty() { &node.internal } else { &node.external };
        found.extend(endpoints(q, addresses.iter().map(|address| address.as_str()), ready, &mut out));
    }
    if found.is_empty() && out.notes.is_empty() {
        let which = if q.origin.local_traffic { "with endpoints (externalTrafficPolicy: Local) " } else { "" };
        return Err((
            Refusal::new(
                Reason::NoRoute,
                format!("the exporter has no ready, schedulable node {which}with an address"),
            ),
            out,
        ));
    }
    let ports: Vec<SlicePort> = q.ports.iter().filter_map(|p| p.node_port.map(|number| carried(p, number))).collect();
    out.sources.push(source(ports, found));
    Ok(out)
}

/// Rendezvous hash: each node has its own rank for each origin, so that few addresses move when a
/// node comes or goes.
fn rank(q: &Question<'_>, node: &str) -> u64 {
    let digest = Sha256::digest(format!("{node}/{}", q.key));
    digest.iter().take(8).fold(0, |rank, byte| rank << 8 | u64::from(*byte))
}
