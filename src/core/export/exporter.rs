//! What is known of the exporter's side.

use std::collections::{BTreeMap, BTreeSet};

use super::{object::Objects, provider::Providers};
use crate::core::{
    envoy::EnvoyState,
    io::{Change, ExportNews},
    model::{Key, Origin, RemoteNode, RemoteSlice, SliceRole},
    world,
};

/// What the exporter's side is told at start.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// Makes the provider of a binding.
    pub providers: Providers,
    /// The image of Heliostat's own gateway.
    pub envoy_image: String,
}

/// What is known of this cluster as an exporter.
#[derive(Debug, Default)]
pub struct Known {
    /// All Services.
    pub services: BTreeMap<Key, Origin>,
    /// Kubernetes' own slices.
    pub slices: BTreeMap<Key, RemoteSlice>,
    /// Names of those slices, by their Service.
    pub slices_of: BTreeMap<Key, BTreeSet<String>>,
    /// Nodes.
    pub nodes: BTreeMap<String, RemoteNode>,
    /// The objects of all kinds that are followed.
    pub objects: Objects,
    /// What the Envoys of each binding say.
    pub envoys: BTreeMap<String, EnvoyState>,
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

    /// The slices of a Service.
    pub fn slices_of<'a>(&'a self, service: &'a Key) -> impl Iterator<Item = &'a RemoteSlice> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(&Key::new(service.namespace.clone(), name.clone())))
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
                if !changed.is_empty() {
                    self.index();
                }
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

    fn index(&mut self) {
        self.slices_of.clear();
        for (key, slice) in &self.slices {
            let SliceRole::Pods { service } = &slice.role else { continue };
            let service = Key::new(key.namespace.clone(), service.clone());
            self.slices_of.entry(service).or_default().insert(key.name.clone());
        }
    }
}
