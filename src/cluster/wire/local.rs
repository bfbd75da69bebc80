//! Objects of this cluster. Its API server is trusted, what users wrote into it is not.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use serde_json::Value;

use super::{FromWire, Keep, field, remote::METADATA};
use crate::{
    api::{GROUP, names},
    core::model::{
        Annotations, Family, LinkerdKeys, LocalNamespace, LocalNode, LocalPort, LocalService, LocalSlice, Map,
        MirrorCommon, MirrorEndpoint, MirrorState, MirroredCondition, Oddities, Seldom, SliceBody, SliceCommon, Text,
    },
};

/// Fields of a Service's spec that a mirror has, by us or by the API server's defaults.
const KNOWN_FIELDS: &[&str] = &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "ports", "selector", "type"];

/// Fields of a Service's spec that the API server defaults, with the value it gives a ClusterIP
/// Service; another value is somebody's.
const DEFAULTED_FIELDS: &[(&str, &str)] = &[("internalTrafficPolicy", "Cluster"), ("sessionAffinity", "None")];

/// Labels on a slice that change who serves it. A mirror's slices never carry them.
const STEERING_LABELS: &[&str] = &[names::SERVICE_PROXY_NAME_LABEL, names::HEADLESS_LABEL];

impl FromWire for LocalService {
    type Kind = Service;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        ("spec", Keep::All),
        ("status", Keep::Fields(&[("conditions", Keep::All)])),
    ]);

    fn from_wire(object: &Value) -> Self {
        let meta = &object["metadata"];
        let marked = meta["labels"][names::MANAGED_BY_LABEL] == names::MANAGER
            || meta["annotations"][names::LINK_UID_ANNOTATION].is_string();
        Self {
            uid: string(&meta["uid"]).into(),
            resource_version: string(&meta["resourceVersion"]).into(),
            terminating: meta["deletionTimestamp"].is_string(),
            ours: marked.then(|| Box::new(mirror(object))),
        }
    }
}

fn mirror(object: &Value) -> MirrorState {
    let (meta, spec) = (&object["metadata"], &object["spec"]);
    let owners = field::list(&meta["ownerReferences"]).iter();
    let (links, others): (Vec<&Value>, Vec<&Value>) = owners.partition(|owner| is_owner(owner, GROUP, "ClusterLink"));
    let conditions = field::list(&object["status"]["conditions"]).iter();
    let (mirrored, rest): (Vec<&Value>, Vec<&Value>) = conditions.partition(|c| c["type"] == names::MIRRORED_CONDITION);
    let common = MirrorCommon {
        labels: texts(&meta["labels"]),
        link_owners: links.iter().map(|owner| (owned(&owner["name"]), owned(&owner["uid"]))).collect(),
        service_type: field::text(&spec["type"]).unwrap_or("ClusterIP").into(),
        headless: spec["clusterIP"] == "None",
        has_selector: field::has_entries(&spec["selector"]),
        families: field::list(&spec["ipFamilies"]).iter().filter_map(|f| Family::parse(f.as_str()?)).collect(),
        prefers_dual_stack: spec["ipFamilyPolicy"] == "PreferDualStack",
        ports: field::list(&spec["ports"]).iter().filter_map(local_port).collect(),
    };
    MirrorState {
        annotations: Annotations::from(texts(&meta["annotations"])),
        common: common.into(),
        odd: Seldom::new(Oddities {
            other_owners: others.into_iter().cloned().collect(),
            foreign_fields: foreign_fields(spec),
            mirrored: mirrored.first().map(|c| mirrored_condition(c)),
            other_conditions: rest.into_iter().cloned().collect(),
        }),
    }
}

fn local_port(value: &Value) -> Option<LocalPort> {
    let port = field::port(value, "spec.ports").ok()?;
    let target_is_port = value["targetPort"].is_null() || field::port_number(&value["targetPort"]) == Some(port.port);
    Some(LocalPort { port, target_is_port })
}

fn foreign_fields(spec: &Value) -> Vec<Text> {
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let is_default =
        |name: &str, value: &Value| DEFAULTED_FIELDS.iter().any(|(field, default)| *field == name && value == default);
    let fields = spec.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| !KNOWN_FIELDS.contains(&name.as_str()) && is_set(value) && !is_default(name, value))
        .map(|(name, _)| name.into())
        .collect()
}

/// A condition that is not False says nothing a mirror should say: its reason is read as empty,
/// so that it differs from any that is wanted.
fn mirrored_condition(condition: &Value) -> MirroredCondition {
    let is_false = condition["status"] == "False";
    MirroredCondition {
        reason: if is_false { owned(&condition["reason"]) } else { Text::default() },
        message: owned(&condition["message"]),
        since: condition["lastTransitionTime"].as_str().and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH),
        observed_generation: condition["observedGeneration"].as_i64().unwrap_or(0),
    }
}

impl FromWire for LocalSlice {
    type Kind = EndpointSlice;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        ("addressType", Keep::All),
        ("ports", Keep::All),
        ("endpoints", Keep::All),
    ]);

    fn from_wire(object: &Value) -> Self {
        let meta = &object["metadata"];
        let kind = object["addressType"].as_str().unwrap_or_default();
        let family = Family::parse(kind);
        let (service_owners, others): (Vec<&Value>, Vec<&Value>) =
            field::list(&meta["ownerReferences"]).iter().partition(|owner| is_owner(owner, "", "Service"));
        let (ports, all_ports) = readable(&object["ports"], |port| field::port(port, "ports").ok());
        let (endpoints, all_endpoints) = readable(&object["endpoints"], mirror_endpoint);
        let common = SliceCommon {
            family: family.unwrap_or(Family::V4),
            ports: ports.into(),
            port_lease: meta["annotations"][names::PORT_LEASE_ANNOTATION].as_str().map(Text::from),
            linkerd: linkerd_keys(&meta["annotations"]),
        };
        let steered = STEERING_LABELS.iter().any(|label| meta["labels"][label].is_string());
        Self {
            uid: string(&meta["uid"]).into(),
            resource_version: string(&meta["resourceVersion"]).into(),
            terminating: meta["deletionTimestamp"].is_string(),
            service: field::text(&meta["labels"][names::SERVICE_NAME_LABEL]).map(Text::from),
            service_owner: service_owners.first().map(|owner| string(&owner["uid"]).into()).unwrap_or_default(),
            other_owners: !others.is_empty() || service_owners.len() > 1,
            body: SliceBody {
                endpoints: endpoints.into(),
                trigger_time: field::text(&meta["annotations"][names::TRIGGER_TIME_ANNOTATION]).map(Text::from),
                common: common.into(),
            },
            alien_type: family.is_none().then(|| kind.into()),
            alien_fields: steered || !all_ports || !all_endpoints,
        }
    }
}

/// What there is of Linkerd's keys, be it empty or one of them alone: an edit must differ.
fn linkerd_keys(annotations: &Value) -> Option<Box<LinkerdKeys>> {
    let key = |name: &str| annotations[name].as_str().map(Text::from);
    let keys = LinkerdKeys {
        identity: key(names::LINKERD_IDENTITY_ANNOTATION),
        service: key(names::LINKERD_SERVICE_ANNOTATION),
    };
    (keys != LinkerdKeys::default()).then(|| Box::new(keys))
}

/// What can be read of a list, sorted, and whether that was all.
fn readable<T: Ord>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> (Vec<T>, bool) {
    let list = field::list(value);
    let mut items: Vec<T> = list.iter().filter_map(read).collect();
    items.sort();
    let all = items.len() == list.len();
    (items, all)
}

/// An endpoint as we write them: one address, conditions, perhaps a hostname, and nothing else.
fn mirror_endpoint(value: &Value) -> Option<MirrorEndpoint> {
    let ours = ["addresses", "conditions", "hostname"];
    if value.as_object()?.iter().any(|(name, value)| !ours.contains(&name.as_str()) && !value.is_null()) {
        return None;
    }
    let [address] = field::list(&value["addresses"]) else {
        return None;
    };
    Some(MirrorEndpoint {
        address: address.as_str()?.parse::<IpAddr>().ok()?,
        readiness: field::readiness(&value["conditions"]),
        hostname: field::text(&value["hostname"]).map(Text::from),
    })
}

/// A Namespace of this cluster, with its uid: that of kube-system is the cluster's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNamespace {
    /// uid.
    pub uid: String,
    /// What else matters.
    pub namespace: LocalNamespace,
}

impl FromWire for ClusterNamespace {
    type Kind = Namespace;
    const KEEP: Keep = Keep::Fields(&[("metadata", METADATA)]);

    fn from_wire(object: &Value) -> Self {
        let meta = &object["metadata"];
        Self {
            uid: owned(&meta["uid"]).into(),
            namespace: LocalNamespace {
                labels: texts(&meta["labels"]),
                terminating: meta["deletionTimestamp"].is_string(),
            },
        }
    }
}

impl FromWire for LocalNode {
    type Kind = Node;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        ("spec", Keep::Fields(&[("podCIDR", Keep::All), ("podCIDRs", Keep::All)])),
        ("status", Keep::Fields(&[("addresses", Keep::All)])),
    ]);

    fn from_wire(object: &Value) -> Self {
        let spec = &object["spec"];
        let addresses = field::list(&object["status"]["addresses"]).iter();
        let mut pod_cidrs = cidrs(&spec["podCIDRs"]);
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(spec["podCIDR"].as_str().and_then(|s| s.parse::<IpNet>().ok()));
        }
        Self { addresses: addresses.filter_map(|a| a["address"].as_str()?.parse().ok()).collect(), pod_cidrs }
    }
}

/// The ranges of a ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRanges(pub Vec<IpNet>);

impl FromWire for ServiceRanges {
    type Kind = ServiceCIDR;
    const KEEP: Keep = Keep::Fields(&[("metadata", METADATA), ("spec", Keep::Fields(&[("cidrs", Keep::All)]))]);

    fn from_wire(object: &Value) -> Self {
        Self(cidrs(&object["spec"]["cidrs"]))
    }
}

fn cidrs(list: &Value) -> Vec<IpNet> {
    field::list(list).iter().filter_map(|s| s.as_str()?.parse().ok()).collect()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn owned(value: &Value) -> Text {
    string(value).into()
}

fn texts(value: &Value) -> Map {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k, v.as_str()?))).collect()
}

/// Whether an ownerReference is to a kind of a group, whatever its version.
fn is_owner(owner: &Value, group: &str, kind: &str) -> bool {
    let version = owner["apiVersion"].as_str().unwrap_or_default();
    let of_group = version.rsplit_once('/').map_or("", |(group, _)| group);
    of_group == group && owner["kind"] == kind
}

#[cfg(test)]
mod tests;
