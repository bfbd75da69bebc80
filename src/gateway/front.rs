//! The Service in front of a gateway's pods, for providers with a `serviceRef`: its addresses and
//! ports as they are. It is somebody else's and never written.

use super::object::refuse_ref;
use crate::{
    api::{Reason, binding::ObjectRef},
    core::{
        export::provider::Surroundings,
        model::{Key, Origin, OriginPort, OriginType, RemoteNode},
        select::Refusal,
    },
};

/// Most nodes whose addresses are published (design: section 5).
const MAX_NODES: usize = 16;

/// See the file's description.
#[derive(Debug)]
pub(super) struct Front<'a> {
    /// Where it is reached from outside; none yet: empty.
    pub(super) addresses: Vec<String>,
    /// Its ports, and by which numbers they are reached at those addresses.
    pub(super) ports: Vec<(&'a OriginPort, u16)>,
    /// Why it is not reached, or no pod of it is ready.
    pub(super) unwell: Option<Refusal>,
    /// The Service.
    pub(super) service: &'a Origin,
}

/// The Service that a binding names.
pub(super) fn key(reference: &ObjectRef) -> Key {
    Key::new(reference.namespace.clone(), reference.name.clone())
}

impl<'a> Front<'a> {
    /// Reads it. `addressed` says that the binding has `spec.export.addresses`.
    ///
    /// # Errors
    /// `RefNotFound`, `UnsupportedValue`.
    pub(super) fn read(key: &Key, addressed: bool, around: &Surroundings<'a>) -> Result<Self, Refusal> {
        let Some(service) = around.services.get(key) else {
            let why = format!("there is no Service {key}; create it, or correct the binding's serviceRef");
            return Err(Refusal::new(Reason::RefNotFound, why));
        };
        if let Some(why) = &service.malformed {
            return Err(refuse_ref(format!("Service {key} cannot be understood: {why}")));
        }
        let (addresses, missing) = match service.kind {
            OriginType::LoadBalancer => (ingress(service), "has no load balancer address yet"),
            // Only nodes with its pods answer then, and which those are is not known here.
            OriginType::NodePort if service.local_traffic => {
                (Vec::new(), "has externalTrafficPolicy: Local, so not every node answers; set Cluster")
            }
            OriginType::NodePort => (of_nodes(around), "is of type NodePort, and no node is ready"),
            OriginType::ClusterIp | OriginType::Headless => {
                (Vec::new(), "is of type ClusterIP, which is not reached from outside; make it a LoadBalancer")
            }
            OriginType::ExternalName => {
                return Err(refuse_ref(format!("Service {key} is of type ExternalName, which has no pods")));
            }
        };
        let outside = |port: &OriginPort| match service.kind {
            OriginType::NodePort => port.node_port,
            _ => Some(port.port),
        };
        let unwell = if addresses.is_empty() && !addressed {
            Some(format!("Service {key} {missing}, or set spec.export.addresses"))
        } else {
            (!around.ready.contains(key)).then(|| format!("no pod behind Service {key} is ready"))
        };
        Ok(Self {
            addresses,
            ports: service.ports.iter().filter_map(|port| Some((port, outside(port)?))).collect(),
            unwell: unwell.map(|why| Refusal::new(Reason::Pending, why)),
            service,
        })
    }
}

/// What a Service's load balancer reports.
pub(super) fn ingress(service: &Origin) -> Vec<String> {
    service.ingress.iter().map(|ingress| ingress.as_text().into_owned()).collect()
}

/// Where node ports are reached.
pub(super) fn of_nodes(around: &Surroundings<'_>) -> Vec<String> {
    let usable = around.nodes.values().filter(|node| node.usable).take(MAX_NODES);
    let of_node = |node: &RemoteNode| if node.external.is_empty() { &node.internal } else { &node.external }.clone();
    usable.flat_map(of_node).map(String::from).collect()
}
