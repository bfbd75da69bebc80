//! What is known of this cluster: mirrors and their slices, and what stands in their way.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Annotations, Family, List, Map, One, Readiness, Seldom, SlicePort, Text, Uid, Version};

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
