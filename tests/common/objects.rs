//! What users write and what exporters have, as in the catalogue's fixture.

use std::collections::BTreeMap;

use heliostat::{
    api::{ClusterLink, GatewayBinding, MirrorPolicy},
    core::{
        io::RemoteEvent,
        model::{
            AddressType, Family, Map, Origin, OriginCommon, OriginPort, OriginType, Protocol, Published, Readiness,
            RemoteEndpoint, RemoteNode, RemoteSlice, RemoteSliceCommon, SlicePort, SliceRole,
        },
    },
};
use serde_json::{Value, json};

use super::{key, map};

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.into_iter().for_each(|(k, v)| merge(base.entry(k).or_insert(Value::Null), v))
        }
        (base, over) => *base = over,
    }
}

/// A link as in the catalogue's fixture, with changes to its spec.
pub fn link(name: &str, spec: Value) -> ClusterLink {
    let mut object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {"kubeconfigSecretRef": {"name": format!("{name}-kubeconfig")}, "allowedNamespaces": {"from": "All"}},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// A policy over link east, with changes to its spec.
pub fn policy(text: &str, spec: Value) -> MirrorPolicy {
    let key = key(text);
    let mut object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": format!("uid-{text}"), "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"links": {"names": ["east"]}},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

pub fn binding(name: &str, spec: Value) -> GatewayBinding {
    let object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

pub fn port(name: &str, number: u16) -> OriginPort {
    OriginPort {
        name: name.into(),
        port: number,
        protocol: Protocol::Tcp,
        app_protocol: None,
        node_port: None,
        pod_port: None,
    }
}

/// An exported LoadBalancer Service with ports http 80 and grpc 9090 at 203.0.113.5.
pub fn origin(uid: &str) -> Origin {
    Origin {
        uid: uid.into(),
        labels: map(&[("heliostat.dev/export", "true")]),
        ingress: vec![heliostat::core::model::Ingress::Ip("203.0.113.5".into())].into(),
        common: OriginCommon {
            annotations: Map::new(),
            kind: OriginType::LoadBalancer,
            ports: vec![port("http", 80), port("grpc", 9090)].into(),
            has_selector: true,
            local_traffic: false,
            malformed: None,
        }
        .into(),
    }
}

/// The same, of another type.
pub fn of_kind(uid: &str, kind: OriginType) -> Origin {
    let mut origin = origin(uid);
    origin.kind = kind;
    origin
}

pub fn slice_port(name: &str, number: u16) -> SlicePort {
    SlicePort { name: name.into(), port: number, protocol: Protocol::Tcp, app_protocol: None }
}

/// The pods of a Service.
pub fn pods(service: &str, addresses: &[&str], ready: bool) -> RemoteSlice {
    let endpoint = |a: &&str| RemoteEndpoint {
        address: Some((*a).into()),
        readiness: Readiness::all(ready),
        hostname: None,
        node: Some("n1".into()),
    };
    RemoteSlice {
        role: SliceRole::Pods { service: service.into() },
        common: RemoteSliceCommon {
            address_type: AddressType::Ip(Family::V4),
            ports: vec![slice_port("http", 8080), slice_port("grpc", 9090)].into(),
        }
        .into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        trigger_time: None,
    }
}

/// A published slice of a gateway with Port routing.
pub fn published(service: &str, binding: &str, addresses: &[&str], ports: &[(&str, u16)]) -> RemoteSlice {
    let what = Published {
        service: service.into(),
        binding: binding.into(),
        contract: "v1".into(),
        routing: "Port".into(),
        hostnames: vec![],
        port_lease: Some("24h".into()),
        identity: None,
    };
    let ports = ports.iter().map(|(name, number)| slice_port(name, *number)).collect();
    RemoteSlice {
        role: SliceRole::Published(what.into()),
        common: RemoteSliceCommon { address_type: AddressType::Ip(Family::V4), ports }.into(),
        ..pods(service, addresses, true)
    }
}

pub fn connected(uid: &str) -> RemoteEvent {
    RemoteEvent::Connected {
        cluster_uid: uid.into(),
        server_version: "v1.36.3".into(),
        credentials_expire_at: None,
        own_server: false,
    }
}

pub fn listed(uid: &str, services: &[(&str, Origin)], slices: &[(&str, RemoteSlice)]) -> RemoteEvent {
    RemoteEvent::Listed {
        cluster_uid: uid.into(),
        versions: BTreeMap::new(),
        services: services.iter().map(|(k, v)| (key(k), v.clone())).collect(),
        slices: slices.iter().map(|(k, v)| (key(k), v.clone())).collect(),
    }
}

pub fn node(address: &str) -> RemoteNode {
    RemoteNode { usable: true, external: vec![], internal: vec![address.into()] }
}
