//! What is known of this cluster as an exporter. Only stores and looks up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::object::Objects;
use crate::core::{
    envoy::EnvoyState,
    io::{Change, ExportNews},
    model::{Key, Origin, OriginPort, RemoteEndpoint, RemoteNode, RemoteSlice, SliceRole, Text},
    world,
};

/// See the file's description.
#[derive(Debug, Default)]
pub struct Known {
    /// All Services.
    pub services: BTreeMap<Key, Origin>,
    /// Services that have a ready endpoint.
    pub ready: BTreeSet<Key>,
    /// Nodes.
    pub nodes: BTreeMap<String, RemoteNode>,
    /// The objects of all kinds that are followed.
    pub objects: Objects,
    /// What the Envoys of each binding say.
    pub envoys: BTreeMap<String, EnvoyState>,
    slices: BTreeMap<Key, RemoteSlice>,
    /// Names of those slices, by their Service.
    slices_of: BTreeMap<Key, BTreeSet<Text>>,
    service_of: BTreeMap<Key, Key>,
    services_listed: bool,
    slices_listed: bool,
    nodes_listed: bool,
}

impl Known {
    /// Services, slices and nodes have been listed.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.services_listed && self.slices_listed && self.nodes_listed
    }

    /// Takes news over; says whether they were any.
    pub fn take(&mut self, news: ExportNews) -> bool {
        match news {
            ExportNews::Service(change) => {
                self.services_listed |= matches!(change, Change::All(_));
                !world::apply(&mut self.services, change).is_empty()
            }
            ExportNews::Slice(change) => {
                self.slices_listed |= matches!(change, Change::All(_));
                let changed = world::apply(&mut self.slices, change);
                changed.iter().for_each(|slice| self.index(slice));
                !changed.is_empty()
            }
            ExportNews::Node(change) => {
                self.nodes_listed |= matches!(change, Change::All(_));
                !world::apply(&mut self.nodes, change).is_empty()
            }
            ExportNews::Objects(kind, news) => self.objects.take(kind, news),
            ExportNews::Envoy(state) => {
                let news = self.envoys.get(&state.binding) != Some(&state);
                self.envoys.insert(state.binding.clone(), state);
                news
            }
        }
    }

    fn index(&mut self, slice: &Key) {
        let service = self.slices.get(slice).and_then(|s| match &s.role {
            SliceRole::Pods { service } => Some(Key::new(slice.namespace.clone(), service.clone())),
            SliceRole::Published(_) => None,
        });
        let before = match &service {
            Some(service) => {
                self.slices_of.entry(service.clone()).or_default().insert(slice.name.clone());
                self.service_of.insert(slice.clone(), service.clone())
            }
            None => self.service_of.remove(slice),
        };
        if let Some(before) = before.filter(|before| Some(before) != service.as_ref()) {
            if let Some(names) = self.slices_of.get_mut(&before) {
                names.remove(&slice.name);
                if names.is_empty() {
                    self.slices_of.remove(&before);
                }
            }
            self.judge_ready(&before);
        }
        if let Some(service) = service {
            self.judge_ready(&service);
        }
    }

    fn judge_ready(&mut self, service: &Key) {
        let ready = self.slices_of(service).any(|slice| slice.endpoints.iter().any(|e| e.readiness.ready));
        match ready {
            true => drop(self.ready.insert(service.clone())),
            false => drop(self.ready.remove(service)),
        }
    }

    fn slices_of(&self, service: &Key) -> impl Iterator<Item = &RemoteSlice> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(&Key::new(service.namespace.clone(), name.clone())))
    }

    /// Whether a Service has a ready endpoint; one without a selector whose slices are not there
    /// counts as ready.
    #[must_use]
    pub fn is_ready(&self, key: &Key, service: &Origin) -> bool {
        self.ready.contains(key) || (!service.has_selector && !self.slices_of.contains_key(key))
    }

    /// Where the pods of a Service's port are reached: the ready ones; where there is none, those
    /// that still serve while they end (as kube-proxy does, KEP-1672). One family: IPv4 where
    /// there is any, so that a pod of two families does not count twice.
    #[must_use]
    pub fn endpoints(&self, service: &Key, port: &OriginPort) -> BTreeSet<SocketAddr> {
        let mut all: Vec<(SocketAddr, &RemoteEndpoint)> = Vec::new();
        for slice in self.slices_of(service) {
            let found = slice.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol);
            let Some(number) = found.map(|p| p.port) else { continue };
            all.extend(slice.endpoints.iter().filter_map(|endpoint| {
                let address: IpAddr = endpoint.address.as_ref()?.as_text().parse().ok()?;
                Some((SocketAddr::new(address, number), endpoint))
            }));
        }
        let v4 = all.iter().any(|(address, _)| address.is_ipv4());
        all.retain(|(address, _)| address.is_ipv4() == v4);
        let usable = |fits: fn(&RemoteEndpoint) -> bool| -> BTreeSet<SocketAddr> {
            all.iter().filter(|(_, endpoint)| fits(endpoint)).map(|(address, _)| *address).collect()
        };
        let ready = usable(|endpoint| endpoint.readiness.ready);
        if ready.is_empty() { usable(|endpoint| endpoint.readiness.serving) } else { ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{AddressType, Family, Protocol, Readiness, RemoteNode, RemoteSliceCommon, SlicePort};

    #[test]
    fn nodes_are_news_when_they_change() {
        let node = |usable| RemoteNode { usable, external: vec![], internal: vec!["10.0.0.1".into()] };
        let mut known = Known::default();
        let news = |known: &mut Known, usable| known.take(ExportNews::Node(Change::Set("n1".into(), node(usable))));
        assert_eq!([true, true, false].map(|usable| news(&mut known, usable)), [true, false, true]);
    }

    #[test]
    fn the_pods_of_a_port_are_reached_at_the_port_of_its_name_and_protocol() {
        let port = |protocol, name: &str, port| SlicePort { name: name.into(), port, protocol, app_protocol: None };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let ports = vec![port(udp, "dns", 1), port(tcp, "other", 2), port(tcp, "dns", 3)].into();
        let readiness = Readiness::all(true);
        let pod = RemoteEndpoint { address: Some("10.1.0.1".into()), readiness, hostname: None, node: None };
        let slice = RemoteSlice {
            role: SliceRole::Pods { service: "dns".into() },
            common: RemoteSliceCommon { address_type: AddressType::Ip(Family::V4), ports }.into(),
            endpoints: [pod].into_iter().collect(),
            trigger_time: None,
        };
        let mut known = Known::default();
        known.take(ExportNews::Slice(Change::Set(Key::new("shop", "dns-abc"), slice)));
        let dns = OriginPort {
            name: "dns".into(),
            port: 53,
            protocol: tcp,
            app_protocol: None,
            node_port: None,
            pod_port: None,
        };
        assert_eq!(known.endpoints(&Key::new("shop", "dns"), &dns), ["10.1.0.1:3".parse().unwrap()].into());
    }
}
