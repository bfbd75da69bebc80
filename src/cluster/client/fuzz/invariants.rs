//! What holds of everything that was read from a remote, whatever it said.

use crate::{
    cluster::{
        session::weight::Weigh,
        text::clean,
        wire::{is_dns_subdomain, is_uid},
    },
    core::model::{
        Key, Map, Origin, OriginCommon, OriginPort, Published, RemoteEndpoint, RemoteNode, RemoteSlice, SlicePort,
        SliceRole, Text,
    },
};

/// A thousand endpoints or entries, each of its largest size.
const MOST: usize = 8 << 20;

pub(super) fn text(text: &str, most: usize) {
    assert!(text.chars().count() <= most && clean(text, most) == text, "{text:?}");
}

fn label(text: &str) {
    assert!(text.len() <= 63 && is_dns_subdomain(text) && !text.contains('.'), "{text:?}");
}

pub(super) fn key(key: &Key) {
    label(&key.namespace);
    assert!(is_dns_subdomain(&key.name), "{key:?}");
}

fn map(map: &Map, value: usize) {
    assert!(map.len() <= 1001);
    for (key, held) in map.iter() {
        text(key, 317);
        assert!(key.is_ascii() && held.len() <= value, "{key}: {held}");
    }
}

fn app_protocol(of: &Option<Text>) {
    of.iter().for_each(|app| text(app, 317));
}

pub(super) fn origin(of: &Origin) {
    let Origin { uid, labels, ingress, common } = of;
    let OriginCommon { annotations, ports, malformed, .. } = &**common;
    assert!(is_uid(&uid.to_string()) || uid.is_empty() && malformed.is_some());
    map(labels, 63);
    map(annotations, 4096);
    labels.values().for_each(|value| text(value, 63));
    assert!(malformed.is_none() || ports.is_empty());
    malformed.iter().for_each(|why| text(why, 300));
    assert!(ports.len() <= 1000 && ingress.len() <= 64);
    for (n, port) in ports.iter().enumerate() {
        let OriginPort { name, port: number, protocol, app_protocol: app, node_port, .. } = port;
        assert!(*number > 0 && *node_port != Some(0));
        assert!(name.is_empty() && ports.len() == 1 || !name.is_empty());
        text(name, 63);
        app_protocol(app);
        let rest = &ports[n + 1..];
        assert!(rest.iter().all(|p| p.name != *name && (p.port, p.protocol) != (*number, *protocol)));
    }
    for address in ingress {
        text(&address.as_text(), 253);
    }
    assert!(of.weight() <= MOST);
}

pub(super) fn slice(of: &RemoteSlice) {
    let RemoteSlice { role, common, endpoints, trigger_time } = of;
    let ports = &common.ports;
    match role {
        SliceRole::Pods { service } => assert!(is_dns_subdomain(service)),
        SliceRole::Published(published) => {
            let Published { service, binding, contract, routing, hostnames, port_lease, identity } = &**published;
            assert!(is_dns_subdomain(service) && is_dns_subdomain(binding) && hostnames.len() <= 64);
            let texts = [contract, routing].into_iter().chain(hostnames).chain(port_lease).chain(identity);
            texts.for_each(|said| text(said, 253));
        }
    }
    assert!(ports.len() <= 1000 && endpoints.len() <= 1000);
    for (n, port) in ports.iter().enumerate() {
        let SlicePort { name, port: number, app_protocol: app, .. } = port;
        assert!(*number > 0 && ports[n + 1..].iter().all(|p| p.name != *name));
        text(name, 63);
        app_protocol(app);
    }
    for RemoteEndpoint { address, hostname, node, .. } in endpoints {
        address.iter().for_each(|address| text(&address.as_text(), 253));
        hostname.iter().for_each(|name| label(name));
        assert!(node.as_deref().is_none_or(is_dns_subdomain));
    }
    trigger_time.iter().for_each(|time| text(time, 64));
    assert!(of.weight() <= MOST);
}

pub(super) fn node((name, of): &(String, RemoteNode)) {
    assert!(is_dns_subdomain(name));
    let RemoteNode { external, internal, .. } = of;
    assert!(external.len() <= 64 && internal.len() <= 64);
    external.iter().chain(internal).for_each(|address| text(address, 253));
}
