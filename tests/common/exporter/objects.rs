//! Bindings, Services and slices as in the catalogue's fixture.

use heliostat::core::model::{
    AddressType, Family, Origin, OriginCommon, OriginPort, OriginType, Protocol, Readiness, RemoteEndpoint,
    RemoteSlice, RemoteSliceCommon, SlicePort, SliceRole,
};
use serde_json::{Value, json};

use crate::common::map;

pub fn spec(export: Value) -> Value {
    let mut spec = json!({"routing": "Port", "export": {
        "services": {"namespaces": ["*"]},
        "provider": {"gatewayAPI": {"gatewayRef": {"namespace": "edge", "name": "main"}}},
        "ports": {"from": 20000, "to": 20099, "lease": "1h"},
    }});
    for (field, value) in export.as_object().unwrap() {
        match field.as_str() {
            "routing" => spec["routing"] = value.clone(),
            field => spec["export"][field] = value.clone(),
        }
    }
    spec
}

pub fn service(name: &str, ports: &[(&str, u16)]) -> Origin {
    let port = |(name, port): &(&str, u16)| OriginPort {
        name: (*name).into(),
        port: *port,
        protocol: Protocol::Tcp,
        app_protocol: None,
        node_port: None,
        pod_port: None,
    };
    Origin {
        uid: format!("uid-{name}").into(),
        labels: map(&[("heliostat.dev/export", "true"), ("tier", "front")]),
        ingress: [].into(),
        common: OriginCommon {
            annotations: map(&[]),
            kind: OriginType::ClusterIp,
            ports: ports.iter().map(port).collect(),
            has_selector: true,
            local_traffic: false,
            malformed: None,
        }
        .into(),
    }
}

pub fn pods(service: &str, addresses: &[&str]) -> RemoteSlice {
    let endpoint = |address: &&str| RemoteEndpoint {
        address: Some((*address).into()),
        readiness: Readiness::all(true),
        hostname: None,
        node: None,
    };
    let port = |name: &str, port| SlicePort { name: name.into(), port, protocol: Protocol::Tcp, app_protocol: None };
    RemoteSlice {
        role: SliceRole::Pods { service: service.into() },
        common: RemoteSliceCommon {
            address_type: AddressType::Ip(Family::V4),
            ports: vec![port("http", 8080), port("grpc", 9090)].into(),
        }
        .into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        trigger_time: None,
    }
}
