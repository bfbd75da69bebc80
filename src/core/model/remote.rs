//! What is known of an exporter. All texts come from there, and none has been believed yet.

use std::borrow::Cow;

use super::{Address, Family, List, Map, One, Protocol, Readiness, SlicePort, Text, Uid};

/// Type of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginType {
    /// A Service with a cluster IP.
    ClusterIp,
    /// `clusterIP: None`.
    Headless,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a load balancer.
    LoadBalancer,
    /// A DNS alias; never mirrored.
    ExternalName,
}

/// A port of an origin, as it is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginPort {
    /// Name; empty where a Service with a single port leaves it out.
    pub name: Text,
    /// Port of the Service, 1–65535.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Application protocol, as the origin says it.
    pub app_protocol: Option<Text>,
    /// Port on every node, where there is one.
    pub node_port: Option<u16>,
    /// `targetPort`, the port on its pods, where that is a number and not a name.
    pub pod_port: Option<u16>,
}

/// An address that a load balancer reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    /// An IP address, not yet checked: it comes from the remote.
    Ip(Address),
    /// A hostname, to be resolved as an absolute name.
    Hostname(Text),
}

impl Ingress {
    /// As it is written.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Ip(address) => address.as_text(),
            Self::Hostname(name) => Cow::Borrowed(name),
        }
    }
}

/// A remote Service, reduced to what decides about its mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its uid.
    pub uid: Uid,
    /// Its labels, whole: selectors and allow-lists read them.
    pub labels: Map,
    /// What its load balancer reports.
    pub ingress: Box<[Ingress]>,
    /// What many have alike.
    pub common: One<OriginCommon>,
}

/// What many origins have alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginCommon {
    /// Its annotations without those that are neither ever copied nor read.
    pub annotations: Map,
    /// Its type.
    pub kind: OriginType,
    /// Its ports.
    pub ports: List<OriginPort>,
    /// Whether it selects pods; without, somebody else makes its slices.
    pub has_selector: bool,
    /// `externalTrafficPolicy: Local`.
    pub local_traffic: bool,
    /// Why the object cannot be understood (bad port, protocol or type), in words for a user.
    /// Such an origin is skipped; it never fails the link.
    pub malformed: Option<Text>,
}

/// An endpoint of a remote slice; addresses are unchecked text from the remote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteEndpoint {
    /// The first of its addresses: Kubernetes uses no other.
    pub address: Option<Address>,
    /// Its conditions.
    pub readiness: Readiness,
    /// Its hostname, for headless Services.
    pub hostname: Option<Text>,
    /// The node it runs on.
    pub node: Option<Text>,
}

/// Address type of a remote slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressType {
    /// IPv4 or IPv6 addresses.
    Ip(Family),
    /// Hostnames (published slices of gateways that have no fixed address).
    Fqdn,
}

/// A remote EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSlice {
    /// What it says of whom.
    pub role: SliceRole,
    /// What many have alike.
    pub common: One<RemoteSliceCommon>,
    /// Its endpoints.
    pub endpoints: List<RemoteEndpoint>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, passed on by Direct.
    pub trigger_time: Option<Text>,
}

/// What many remote slices have alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSliceCommon {
    /// Type of its addresses.
    pub address_type: AddressType,
    /// Its ports; none means that it cannot be used.
    pub ports: List<SlicePort>,
}

/// What a remote slice is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceRole {
    /// Kubernetes' own: the pods of the Service named (label `kubernetes.io/service-name`).
    Pods {
        /// Name of the Service, in the slice's namespace.
        service: Text,
    },
    /// A published slice: the gateway in front of the Service (design: section 4).
    Published(One<Published>),
}

/// What a published slice says beside addresses and ports. All text as the remote wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Published {
    /// Name of the Service, in the slice's namespace (label `heliostat.dev/service-name`).
    pub service: Text,
    /// The binding that published it.
    pub binding: Text,
    /// Version of the contract.
    pub contract: Text,
    /// Routing.
    pub routing: Text,
    /// Names the gateway answers.
    pub hostnames: Vec<Text>,
    /// Port lease, a Go duration.
    pub port_lease: Option<Text>,
    /// Linkerd identity.
    pub identity: Option<Text>,
}

/// A remote node, for NodePort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNode {
    /// Ready and schedulable.
    pub usable: bool,
    /// `ExternalIP` addresses, unchecked.
    pub external: Vec<Text>,
    /// `InternalIP` addresses, unchecked.
    pub internal: Vec<Text>,
}
