//! Objects of an exporter: untrusted. What Kubernetes would not allow is refused with a reason.

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::Value;

use super::{FromWire, Keep, field};
use crate::{
    api::names,
    core::{
        copy::may_be_copied,
        model::{
            AddressType, Family, Ingress, List, Origin, OriginCommon, OriginPort, OriginType, Published,
            RemoteEndpoint, RemoteNode, RemoteSlice, RemoteSliceCommon, SlicePort, SliceRole, Text,
        },
    },
};

/// Most endpoints of a slice: what the API server allows (`maxEndpoints` of its validation).
const MAX_ENDPOINTS: usize = 1000;
/// Most addresses of a load balancer or of a node that are kept, and names of a gateway.
const MAX_ADDRESSES: usize = 64;
/// Longest address or hostname that is kept (RFC 1035); no other text of a gateway is longer.
const MAX_HOST: usize = 253;

pub(super) const METADATA: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("resourceVersion", Keep::All),
    ("deletionTimestamp", Keep::All),
    ("labels", Keep::All),
    ("annotations", Keep::All),
    ("ownerReferences", Keep::All),
]);

impl FromWire for Origin {
    type Kind = Service;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        (
            "spec",
            Keep::Fields(&[
                ("type", Keep::All),
                ("clusterIP", Keep::All),
                ("selector", Keep::All),
                ("externalTrafficPolicy", Keep::All),
                ("ports", Keep::All),
            ]),
        ),
        ("status", Keep::Fields(&[("loadBalancer", Keep::Fields(&[("ingress", Keep::All)]))])),
    ]);

    fn from_wire(object: &Value) -> Self {
        let (meta, spec) = (&object["metadata"], &object["spec"]);
        let checked = origin_checked(meta, spec);
        let (kind, ports, malformed) = match checked {
            Ok((kind, ports)) => (kind, ports, None),
            Err(why) => (OriginType::ClusterIp, Vec::new(), Some(why.into())),
        };
        let common = OriginCommon {
            annotations: field::annotations(&meta["annotations"], is_of_use),
            kind,
            ports: ports.into(),
            has_selector: field::has_entries(&spec["selector"]),
            local_traffic: spec["externalTrafficPolicy"] == "Local",
            malformed,
        };
        Self {
            uid: meta["uid"].as_str().filter(|uid| field::is_uid(uid)).unwrap_or_default().into(),
            labels: field::labels(&meta["labels"]).shared(),
            ingress: ingress(&object["status"]["loadBalancer"]["ingress"]),
            common: common.into(),
        }
    }
}

/// What a mirror may carry, and what an exporter reads of its gateway's Service.
fn is_of_use(annotation: &str) -> bool {
    may_be_copied(annotation) || annotation == names::LINKERD_GATEWAY_IDENTITY_ANNOTATION
}

fn origin_checked(meta: &Value, spec: &Value) -> Result<(OriginType, Vec<OriginPort>), String> {
    match field::text(&meta["uid"]) {
        Some(uid) if field::is_uid(uid) => {}
        Some(_) => return Err(format!("metadata.uid is {}, which is no uid", field::show(&meta["uid"]))),
        None => return Err("metadata.uid is missing".to_owned()),
    }
    Ok((origin_type(spec)?, origin_ports(&spec["ports"])?))
}

fn origin_type(spec: &Value) -> Result<OriginType, String> {
    match &spec["type"] {
        Value::Null => Ok(cluster_ip(spec)),
        Value::String(s) if s == "ClusterIP" => Ok(cluster_ip(spec)),
        Value::String(s) if s == "NodePort" => Ok(OriginType::NodePort),
        Value::String(s) if s == "LoadBalancer" => Ok(OriginType::LoadBalancer),
        Value::String(s) if s == "ExternalName" => Ok(OriginType::ExternalName),
        other => Err(format!("spec.type is {}, not a type of Service", field::show(other))),
    }
}

fn cluster_ip(spec: &Value) -> OriginType {
    if spec["clusterIP"] == "None" { OriginType::Headless } else { OriginType::ClusterIp }
}

fn origin_ports(list: &Value) -> Result<Vec<OriginPort>, String> {
    let ports = field::ports(list, "spec.ports")?;
    if ports.len() > 1 && ports.iter().any(|p| p.name.is_empty()) {
        return Err("spec.ports has several entries and one of them has no name".to_owned());
    }
    if let Some((port, protocol)) = field::twice(ports.iter().map(|p| (p.port, p.protocol))) {
        return Err(format!("spec.ports has {port}/{} twice", protocol.as_str()));
    }
    ports.into_iter().zip(field::list(list)).map(|(port, value)| origin_port(port, value)).collect()
}

fn origin_port(port: SlicePort, value: &Value) -> Result<OriginPort, String> {
    let SlicePort { name, port, protocol, app_protocol } = port;
    let node_port = match &value["nodePort"] {
        Value::Null => None,
        Value::Number(n) if n.as_u64() == Some(0) => None,
        number => match field::port_number(number) {
            Some(number) => Some(number),
            None => {
                return Err(format!("the nodePort of port {port} is {}, not a port number", field::show(number)));
            }
        },
    };
    let pod_port = match &value["targetPort"] {
        Value::Null => Some(port),
        Value::Number(n) if n.as_u64() == Some(0) => Some(port),
        target => field::port_number(target),
    };
    Ok(OriginPort { name, port, protocol, app_protocol, node_port, pod_port })
}

fn ingress(list: &Value) -> Box<[Ingress]> {
    let ip = |entry: &Value| written(&entry["ip"]).map(|ip| Ingress::Ip(ip.as_str().into()));
    let one = |entry: &Value| ip(entry).or_else(|| host(&entry["hostname"]).map(Ingress::Hostname));
    field::list(list).iter().filter_map(one).take(MAX_ADDRESSES).collect()
}

/// An address or a hostname, not yet checked to be one.
fn host(value: &Value) -> Option<Text> {
    written(value).map(Text::from)
}

fn written(value: &Value) -> Option<String> {
    field::text(value).filter(|s| s.len() <= MAX_HOST).map(|s| field::harmless(s, MAX_HOST))
}

/// Slices that name no Service, or have an address type that nobody knows, say nothing of use.
impl FromWire for Option<RemoteSlice> {
    type Kind = EndpointSlice;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        ("addressType", Keep::All),
        ("ports", Keep::All),
        (
            "endpoints",
            Keep::Fields(&[
                ("addresses", Keep::First(4)),
                (
                    "conditions",
                    Keep::Fields(&[("ready", Keep::All), ("serving", Keep::All), ("terminating", Keep::All)]),
                ),
                ("hostname", Keep::All),
                ("nodeName", Keep::All),
            ]),
        ),
    ]);

    fn from_wire(object: &Value) -> Self {
        let meta = &object["metadata"];
        let address_type = match object["addressType"].as_str()? {
            "FQDN" => AddressType::Fqdn,
            other => AddressType::Ip(Family::parse(other)?),
        };
        let endpoints = field::list(&object["endpoints"]);
        let usable = endpoints.len() <= MAX_ENDPOINTS;
        let trigger_time = meta["annotations"][names::TRIGGER_TIME_ANNOTATION].as_str();
        let ports = field::ports(&object["ports"], "ports").ok().filter(|_| usable).unwrap_or_default().into();
        Some(RemoteSlice {
            role: slice_role(meta)?,
            common: RemoteSliceCommon { address_type, ports }.into(),
            endpoints: if usable { endpoints.iter().map(endpoint).collect() } else { List::default() },
            trigger_time: trigger_time
                .filter(|t| t.len() <= 64 && t.parse::<jiff::Timestamp>().is_ok())
                .map(Text::from),
        })
    }
}

/// A slice as it stands, with those fields that say something: for who checks what is written
/// there, and not for who uses it.
#[derive(Clone, Debug)]
pub struct LabelledSlice(pub Value);

impl FromWire for LabelledSlice {
    type Kind = EndpointSlice;
    const KEEP: Keep = <Option<RemoteSlice> as FromWire>::KEEP;

    fn from_wire(object: &Value) -> Self {
        Self(object.clone())
    }
}

fn slice_role(meta: &Value) -> Option<SliceRole> {
    let label = |name: &str| meta["labels"][name].as_str().filter(|s| field::is_dns_subdomain(s)).map(Text::from);
    if meta["labels"][names::SLICE_MANAGED_BY_LABEL] != names::PUBLISHED_MANAGER {
        return Some(SliceRole::Pods { service: label(names::SERVICE_NAME_LABEL)? });
    }
    let note = |name: &str| field::text(&meta["annotations"][name]).map(|s| Text::from(field::harmless(s, MAX_HOST)));
    let hostnames = field::text(&meta["annotations"][names::HOSTNAMES_ANNOTATION]).unwrap_or_default();
    let published = Published {
        service: label(names::PUBLISHED_SERVICE_LABEL)?,
        binding: label(names::PUBLISHED_BINDING_LABEL)?,
        contract: note(names::CONTRACT_ANNOTATION).unwrap_or_default(),
        routing: note(names::ROUTING_ANNOTATION).unwrap_or_default(),
        hostnames: split_hostnames(hostnames),
        port_lease: note(names::PORT_LEASE_ANNOTATION),
        identity: note(names::GATEWAY_IDENTITY_ANNOTATION),
    };
    Some(SliceRole::Published(published.into()))
}

fn split_hostnames(list: &str) -> Vec<Text> {
    let names = list.split(',').map(str::trim).filter(|s| !s.is_empty() && s.len() <= MAX_HOST);
    names.take(MAX_ADDRESSES).map(|s| field::harmless(s, MAX_HOST).into()).collect()
}

fn endpoint(value: &Value) -> RemoteEndpoint {
    let name = |field: &Value, fits: fn(&str) -> bool| field.as_str().filter(|s| fits(s)).map(Text::from);
    RemoteEndpoint {
        address: field::list(&value["addresses"]).iter().find_map(written).map(|address| address.as_str().into()),
        readiness: field::readiness(&value["conditions"]),
        hostname: name(&value["hostname"], field::is_dns_label),
        node: name(&value["nodeName"], field::is_dns_subdomain),
    }
}

impl FromWire for RemoteNode {
    type Kind = Node;
    const KEEP: Keep = Keep::Fields(&[
        ("metadata", METADATA),
        ("spec", Keep::Fields(&[("unschedulable", Keep::All)])),
        (
            "status",
            Keep::Fields(&[
                ("addresses", Keep::All),
                ("conditions", Keep::Fields(&[("type", Keep::All), ("status", Keep::All)])),
            ]),
        ),
    ]);

    fn from_wire(object: &Value) -> Self {
        let status = &object["status"];
        let ready = field::list(&status["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let of = |kind: &str| -> Vec<Text> {
            let addresses = field::list(&status["addresses"]).iter().filter(|a| a["type"] == kind);
            addresses.filter_map(|a| host(&a["address"])).take(MAX_ADDRESSES).collect()
        };
        Self {
            usable: ready && object["spec"]["unschedulable"] != true,
            external: of("ExternalIP"),
            internal: of("InternalIP"),
        }
    }
}

#[cfg(test)]
mod tests;
