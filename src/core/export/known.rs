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
