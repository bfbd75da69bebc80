//! What the deciding side knows of objects: small, checked, comparable values. Readers convert
//! wire objects to these on entry; writers render these to JSON. No Kubernetes type passes.

use std::{
    borrow::Cow,
    fmt,
    net::IpAddr,
    ops::{Deref, DerefMut},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use super::value::{Alike, Pooled};
pub use super::{
    annotations::Annotations,
    value::{Address, List, Map, One, Seldom, Text, Uid, Version},
};
use crate::intern::Pool;

/// `<namespace>/<name>` of a namespaced object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<Text>, name: impl Into<Text>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Whether its text is read as this key again.
    pub fn is_written_as_key(&self) -> bool {
        let whole = |part: &str| !part.is_empty() && !part.contains('/');
        whole(&self.namespace) && whole(&self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A string that is not `<namespace>/<name>`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not <namespace>/<name>; write for example shop/books")]
pub struct NotAKey(pub String);

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(s: &str) -> Result<Self, NotAKey> {
        match s.split_once('/') {
            Some((ns, name)) if !ns.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Self::new(ns, name)),
            _ => Err(NotAKey(s.to_owned())),
        }
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default of Kubernetes.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name as it stands in a Service.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The protocol of that name; none for names that Kubernetes does not know.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.as_str() == name)
    }
}

/// Address family of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The name as it stands in `addressType` and `ipFamilies`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|f| f.as_str() == name)
    }
}

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

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlicePort {
    /// Name; empty for a Service's only, unnamed port.
    pub name: Text,
    /// Port number, 1–65535.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Application protocol.
    pub app_protocol: Option<Text>,
}

/// Conditions of an endpoint. Unset `ready` counts as true, as Kubernetes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Readiness {
    /// Takes traffic.
    pub ready: bool,
    /// Would take traffic if it were not terminating.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
}

impl Readiness {
    /// Ready and serving, or neither.
    pub const fn all(ready: bool) -> Self {
        Self { ready, serving: ready, terminating: false }
    }
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

/// A Service of this cluster. Of those that do not carry our managed-by label only `meta` is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalService {
    /// uid.
    pub uid: Uid,
    /// resourceVersion.
    pub resource_version: Version,
    /// Being deleted.
    pub terminating: bool,
    /// What matters of a Service that carries our managed-by label or our link-uid annotation.
    pub ours: Option<Box<MirrorState>>,
}

/// A Service that carries at least one of our markers, as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorState {
    /// All annotations.
    pub annotations: Annotations,
    /// What many have alike.
    pub common: One<MirrorCommon>,
    /// What most mirrors have nothing of.
    pub odd: Seldom<Oddities>,
}

/// What mirrors have alike, by link, policy and ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MirrorCommon {
    /// All labels.
    pub labels: Map,
    /// ownerReferences to a ClusterLink: (name, uid).
    pub link_owners: List<(Text, Text)>,
    /// `type`.
    pub service_type: Text,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Has a selector: somebody took it over.
    pub has_selector: bool,
    /// `ipFamilies`.
    pub families: List<Family>,
    /// `ipFamilyPolicy` is PreferDualStack.
    pub prefers_dual_stack: bool,
    /// Ports, with what somebody may have edited.
    pub ports: List<LocalPort>,
}

/// What of a mirror is as others have made it, and its condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// ownerReferences to anything but a ClusterLink, as they are, so that a patch of the list keeps them.
    pub other_owners: Vec<serde_json::Value>,
    /// Fields we never set and somebody did (externalIPs, externalName, loadBalancer*, …), by name.
    pub foreign_fields: Vec<Text>,
    /// `status.conditions` entry `heliostat.dev/Mirrored`.
    pub mirrored: Option<MirroredCondition>,
    /// Other entries of `status.conditions`, as they are.
    pub other_conditions: Vec<serde_json::Value>,
}

impl MirrorState {
    /// See [`Oddities`].
    pub fn other_owners(&self) -> &[serde_json::Value] {
        self.odd.get().map_or(&[], |odd| &odd.other_owners)
    }

    /// See [`Oddities`].
    pub fn foreign_fields(&self) -> &[Text] {
        self.odd.get().map_or(&[], |odd| &odd.foreign_fields)
    }

    /// See [`Oddities`].
    pub fn mirrored(&self) -> Option<&MirroredCondition> {
        self.odd.get()?.mirrored.as_ref()
    }

    /// See [`Oddities`].
    pub fn other_conditions(&self) -> &[serde_json::Value] {
        self.odd.get().map_or(&[], |odd| &odd.other_conditions)
    }
}

/// A port of a local Service that carries our markers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalPort {
    /// Name, port, protocol, application protocol.
    pub port: SlicePort,
    /// `targetPort` is the port itself, as the API server defaults it.
    pub target_is_port: bool,
}

/// The condition `heliostat.dev/Mirrored` of a mirror: False, with this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredCondition {
    /// Reason, one word.
    pub reason: Text,
    /// Message.
    pub message: Text,
    /// When it turned False.
    pub since: Timestamp,
    /// The mirror's metadata.generation is not used by Services; 0.
    pub observed_generation: i64,
}

/// An EndpointSlice of this cluster that carries our managed-by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSlice {
    /// uid.
    pub uid: Uid,
    /// resourceVersion.
    pub resource_version: Version,
    /// Being deleted.
    pub terminating: bool,
    /// Label `kubernetes.io/service-name`.
    pub service: Option<Text>,
    /// uid of the Service that owns it; of several the first; empty: there is none.
    pub service_owner: Uid,
    /// Other ownerReferences exist.
    pub other_owners: bool,
    /// What it says.
    pub body: SliceBody,
    /// `addressType` as text where it is none of ours.
    pub alien_type: Option<Text>,
    /// Fields or labels that we never set: targetRef, nodeName, zone, hints and the like.
    pub alien_fields: bool,
}

/// What a mirror's slice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceBody {
    /// Endpoints, sorted by address.
    pub endpoints: List<MirrorEndpoint>,
    /// Trigger time passed on by Direct; ignored when two bodies are compared for writing.
    pub trigger_time: Option<Text>,
    /// What many have alike.
    pub common: One<SliceCommon>,
}

/// What slices of mirrors have alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SliceCommon {
    /// Address family.
    pub family: Family,
    /// Ports, sorted.
    pub ports: List<SlicePort>,
    /// For how long its ports may be used while the link does not confirm them, in whole seconds
    /// (`3600s`); only by a gateway with routing Port. A controller that starts while the exporter is
    /// away knows it from here.
    pub port_lease: Option<Text>,
    /// What Linkerd must know of the addresses; only by a gateway with routing Linkerd.
    pub linkerd: Option<Box<LinkerdKeys>>,
}

/// What Linkerd's destination controller reads of a slice beside addresses, readiness and ports: two
/// annotations. It reads no key of ours from the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LinkerdKeys {
    /// TLS identity of the gateway.
    pub identity: Option<Text>,
    /// Full name of the origin in its own cluster.
    pub service: Option<Text>,
}

/// An endpoint of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorEndpoint {
    /// Its one address.
    pub address: IpAddr,
    /// Its conditions.
    pub readiness: Readiness,
    /// Its hostname, for headless mirrors.
    pub hostname: Option<Text>,
}

/// A namespace of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNamespace {
    /// Its labels, for `allowedNamespaces`.
    pub labels: Map,
    /// Being deleted.
    pub terminating: bool,
}

/// A node of this cluster: its addresses and pod ranges may not be mirror endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// All its addresses that are IPs.
    pub addresses: Vec<IpAddr>,
    /// Its pod ranges.
    pub pod_cidrs: Vec<ipnet::IpNet>,
}

/// Lists of these are held once.
macro_rules! pooled {
    ($($kind:ident),*) => {$(
        impl Pooled for $kind {
            fn pool() -> &'static Pool<Arc<[Self]>> {
                static LISTS: LazyLock<Pool<Arc<[$kind]>>> = LazyLock::new(Pool::default);
                &LISTS
            }
        }
    )*};
}

pooled!(OriginPort, SlicePort, Family, LocalPort, RemoteEndpoint, MirrorEndpoint);

/// These are held once.
macro_rules! alike {
    ($($kind:ident),*) => {$(
        impl Alike for $kind {
            fn pool() -> &'static Pool<Arc<Self>> {
                static ONES: LazyLock<Pool<Arc<$kind>>> = LazyLock::new(Pool::default);
                &ONES
            }
        }
    )*};
}

alike!(Key, OriginCommon, RemoteSliceCommon, Published, MirrorCommon, SliceCommon);

/// What many have alike reads as if it were their own.
macro_rules! common {
    ($($kind:ident: $common:ident),*) => {$(
        impl Deref for $kind {
            type Target = $common;

            fn deref(&self) -> &$common {
                &self.common
            }
        }

        impl DerefMut for $kind {
            fn deref_mut(&mut self) -> &mut $common {
                &mut self.common
            }
        }
    )*};
}

common!(Origin: OriginCommon, RemoteSlice: RemoteSliceCommon, MirrorState: MirrorCommon, SliceBody: SliceCommon);
