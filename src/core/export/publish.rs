//! Published slices: what importers read (design: section 4). One for each exported Service,
//! binding and type of address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::{Map, Value, json};

use super::{
    binding::CheckedExport,
    object::{self, Object, ObjectId, Objects, Owner, PUBLISHED_SLICE},
    provider::RouteId,
};
use crate::{
    api::{
        binding::Routing,
        names::{
            CONTRACT_ANNOTATION, CONTRACT_V1, GATEWAY_IDENTITY_ANNOTATION, HEADLESS_LABEL, HOSTNAMES_ANNOTATION,
            PORT_LEASE_ANNOTATION, PUBLISHED_BINDING_LABEL, PUBLISHED_MANAGER, PUBLISHED_SERVICE_LABEL,
            ROUTING_ANNOTATION, SERVICE_NAME_LABEL, SERVICE_PROXY_NAME, SERVICE_PROXY_NAME_LABEL,
            SLICE_MANAGED_BY_LABEL,
        },
    },
    core::{
        model::{Key, Map as Labels, Origin, OriginPort, Protocol},
        name,
    },
};

/// A published slice as it is.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its name.
    pub key: Key,
    /// The Service that it speaks of.
    pub service: Key,
    /// The ports by name and protocol, and their outside numbers.
    pub ports: BTreeMap<(String, Protocol), u16>,
    /// Some address of it is ready.
    pub ready: bool,
    /// The names it says the gateway answers to.
    pub hostnames: Vec<String>,
}

/// Whether a published slice is one of ours: it has the name that we give to what it speaks of.
#[must_use]
pub fn is_ours(key: &Key, slice: &Value) -> bool {
    let label = |name: &str| object::label(slice, name);
    let service = Key::new(key.namespace.clone(), label(PUBLISHED_SERVICE_LABEL));
    let address_type = slice["addressType"].as_str().unwrap_or_default();
    *key == slice_key(label(PUBLISHED_BINDING_LABEL), &service, address_type)
}

fn slice_key(binding: &str, service: &Key, address_type: &str) -> Key {
    let hash = name::hash(&[binding, &service.namespace, &service.name, address_type], 10);
    Key::new(service.namespace.clone(), format!("{}-{hash}", service.name))
}

/// The slices of ours that a binding has published, terminating ones left out.
#[must_use]
pub fn published(objects: &Objects, binding: &str) -> Vec<Published> {
    let of_binding = objects.all(PUBLISHED_SLICE).filter(|(key, slice)| {
        object::label(slice, PUBLISHED_BINDING_LABEL) == binding
            && is_ours(key, slice)
            && !object::is_terminating(slice)
    });
    of_binding.map(|(key, slice)| read(key, slice)).collect()
}

fn read(key: &Key, slice: &Value) -> Published {
    let port = |port: &Value| {
        let protocol = Protocol::parse(port["protocol"].as_str().unwrap_or("TCP"))?;
        let number = u16::try_from(port["port"].as_u64()?).ok()?;
        Some(((port["name"].as_str().unwrap_or_default().to_owned(), protocol), number))
    };
    let names = object::annotation(slice, HOSTNAMES_ANNOTATION);
    Published {
        key: key.clone(),
        service: Key::new(key.namespace.clone(), object::label(slice, PUBLISHED_SERVICE_LABEL)),
        ports: object::list(&slice["ports"]).iter().filter_map(port).collect(),
        ready: object::list(&slice["endpoints"]).iter().any(|e| e["conditions"]["ready"] == true),
        hostnames: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    }
}

/// A port that is published: the Service's, and its outside number.
#[derive(Clone, Debug)]
pub struct OutsidePort<'a> {
    /// The Service's port.
    pub port: &'a OriginPort,
    /// The gateway's.
    pub number: u16,
}

/// What is to be said of a Service.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The Service's name.
    pub service: &'a Key,
    /// The Service.
    pub origin: &'a Origin,
    /// Its ports that the gateway carries.
    pub ports: Vec<OutsidePort<'a>>,
    /// The names the gateway answers to.
    pub hostnames: &'a [String],
    /// It has a ready endpoint and the gateway carries it.
    pub ready: bool,
    /// Linkerd: the gateway's identity.
    pub identity: Option<&'a str>,
}

/// The slices that say so, one a type of address.
#[must_use]
pub fn slices(binding: &CheckedExport, addresses: &[String], what: &Publication<'_>) -> Vec<Object> {
    let mut by_type: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for address in addresses {
        let kind = match address.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => "FQDN",
        };
        by_type.entry(kind).or_default().insert(address);
    }
    by_type.into_iter().map(|(kind, addresses)| slice(binding, kind, &addresses, what)).collect()
}

fn slice(binding: &CheckedExport, address_type: &str, addresses: &BTreeSet<&str>, what: &Publication<'_>) -> Object {
    let Publication { service, origin, ports, hostnames, ready, identity } = what;
    let key = slice_key(&binding.name, service, address_type);
    let endpoint = |address: &&str| json!({"addresses": [address], "conditions": {"ready": ready}});
    let mut ports: Vec<Value> = ports.iter().map(port).collect();
    ports.sort_by_key(ToString::to_string);
    let body = Map::from_iter([
        ("addressType".to_owned(), json!(address_type)),
        ("endpoints".to_owned(), addresses.iter().map(endpoint).collect()),
        ("ports".to_owned(), Value::Array(ports)),
    ]);
    Object {
        id: ObjectId { kind: PUBLISHED_SLICE, key },
        labels: labels(binding, service, &origin.labels),
        annotations: annotations(binding, hostnames, *identity),
        only_these_labels: true,
        owner: Some(Owner {
            api_version: "v1".to_owned(),
            kind: "Service",
            name: service.name.to_string(),
            uid: origin.uid.to_string(),
        }),
        body,
    }
}

fn port(outside: &OutsidePort<'_>) -> Value {
    let OutsidePort { port, number } = outside;
    let mut value = json!({"port": number, "protocol": port.protocol.as_str(), "name": port.name});
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = json!(protocol);
    }
    value
}

/// All of the Service's, so that a link that selects the Service by its labels sees the slice too.
fn labels(binding: &CheckedExport, service: &Key, of_service: &Labels) -> Labels {
    let mut labels = of_service.clone();
    labels.remove(SERVICE_NAME_LABEL);
    for (key, value) in [
        (PUBLISHED_SERVICE_LABEL, service.name.as_str()),
        (PUBLISHED_BINDING_LABEL, binding.name.as_str()),
        (SLICE_MANAGED_BY_LABEL, PUBLISHED_MANAGER),
        (SERVICE_PROXY_NAME_LABEL, SERVICE_PROXY_NAME),
        (HEADLESS_LABEL, ""),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

fn annotations(binding: &CheckedExport, hostnames: &[String], identity: Option<&str>) -> Labels {
    let names = matches!(binding.routing, Routing::Host | Routing::Sni).then(|| hostnames.join(","));
    let lease = (binding.routing == Routing::Port).then(|| binding.export.ports.lease.clone());
    let pairs = [
        (CONTRACT_ANNOTATION, Some(CONTRACT_V1.to_owned())),
        (ROUTING_ANNOTATION, Some(binding.routing.as_str().to_owned())),
        (HOSTNAMES_ANNOTATION, names),
        (PORT_LEASE_ANNOTATION, lease),
        (GATEWAY_IDENTITY_ANNOTATION, identity.map(str::to_owned)),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The outside ports that a binding has published, by route: what was claimed before, should the
/// Leases have been lost.
#[must_use]
pub fn published_ports(published: &[Published], services: &BTreeMap<Key, Origin>) -> BTreeMap<RouteId, u16> {
    let mut out = BTreeMap::new();
    for slice in published {
        let Some(origin) = services.get(&slice.service) else { continue };
        for port in &origin.ports {
            if let Some(number) = slice.ports.get(&(port.name.to_string(), port.protocol)) {
                let route = RouteId { service: slice.service.clone(), port: port.port, protocol: port.protocol };
                out.insert(route, *number);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_what_is_published_are_read_and_none_where_there_are_none() {
        let names = |text: Option<&str>| {
            let slice = serde_json::json!({"metadata": {"annotations": {HOSTNAMES_ANNOTATION: text}}});
            read(&Key::new("shop", "books-abc"), &slice).hostnames.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(Some("books,books.shop")), ["books", "books.shop"]);
        assert!(names(Some("")).is_empty() && names(None).is_empty());
    }
}
