//! All resources of one gateway at one moment, each with a version that is a hash of its content:
//! the same configuration has the same versions in every replica and after every restart.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::render;
use crate::core::envoy::{EnvoyCluster, EnvoyConfig, EnvoyPort, EnvoyRouting};

/// The kinds of resources, in the order in which they make one another before they break anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Where traffic goes.
    Cluster,
    /// The backends of a cluster; named like it.
    Endpoints,
    /// A port; named by the text form of an [`EnvoyPort`].
    Listener,
    /// The hosts of a port with Host routing; named like it.
    Routes,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes];

    /// Its name on the wire.
    pub(super) const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind of that name.
    pub(super) fn parse(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether an Envoy has all of them, unasked; the others it asks for by name.
    pub(super) const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// One resource, ready to be sent.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) body: Any,
    /// What an Envoy that has it does because of it. A listener with Host routing says nothing: its
    /// routes do.
    pub(super) routing: Option<EnvoyRouting>,
}

impl Resource {
    fn new<M: Message + Name>(name: String, message: &M, routing: Option<EnvoyRouting>) -> Arc<Self> {
        let value = message.encode_to_vec();
        let digest = Sha256::digest(&value);
        let version = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Arc::new(Self { name, version, body: Any { type_url: M::type_url(), value }, routing })
    }
}

/// The resources of one kind, by name.
pub(super) type Resources = BTreeMap<String, Arc<Resource>>;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    config: EnvoyConfig,
    clusters: Resources,
    endpoints: Resources,
    listeners: Resources,
    routes: Resources,
    /// Ports that no Envoy could be told of, and why.
    pub(super) impossible: BTreeMap<EnvoyPort, String>,
}

impl Snapshot {
    /// The resources of a configuration. What did not change since `before` is taken from there.
    pub(super) fn new(config: EnvoyConfig, before: &Self) -> Self {
        let mut new = Self::default();
        for (name, cluster) in &config.clusters {
            new.add_cluster(name, cluster, before);
        }
        for (port, routing) in &config.ports {
            new.add_port(*port, routing, config.ipv6, before);
        }
        new.config = config;
        new
    }

    /// The configuration that this says.
    pub(super) const fn config(&self) -> &EnvoyConfig {
        &self.config
    }

    /// All resources of a kind.
    pub(super) const fn all(&self, kind: Kind) -> &Resources {
        match kind {
            Kind::Cluster => &self.clusters,
            Kind::Endpoints => &self.endpoints,
            Kind::Listener => &self.listeners,
            Kind::Routes => &self.routes,
        }
    }

    fn add_cluster(&mut self, name: &str, cluster: &EnvoyCluster, before: &Self) {
        let old = before.config.clusters.get(name);
        let kept = old.filter(|old| old.protocol == cluster.protocol).and_then(|_| before.clusters.get(name));
        let made = kept
            .cloned()
            .unwrap_or_else(|| Resource::new(name.to_owned(), &render::cluster(name, cluster.protocol), None));
        self.clusters.insert(name.to_owned(), made);
        let kept = old.filter(|old| old.endpoints == cluster.endpoints).and_then(|_| before.endpoints.get(name));
        let made = kept
            .cloned()
            .unwrap_or_else(|| Resource::new(name.to_owned(), &render::endpoints(name, &cluster.endpoints), None));
        self.endpoints.insert(name.to_owned(), made);
    }

    fn add_port(&mut self, port: EnvoyPort, routing: &EnvoyRouting, ipv6: bool, before: &Self) {
        let name = port.to_string();
        if before.config.ipv6 == ipv6 && before.config.ports.get(&port) == Some(routing) {
            let kept = |resources: &Resources| resources.get(&name).map(|kept| (name.clone(), Arc::clone(kept)));
            self.listeners.extend(kept(&before.listeners));
            self.routes.extend(kept(&before.routes));
            self.impossible.extend(before.impossible.get(&port).map(|why| (port, why.clone())));
            return;
        }
        let listener = match render::listener(port, routing, ipv6) {
            Ok(Some(listener)) => listener,
            Ok(None) => return,
            Err(why) => {
                self.impossible.insert(port, why.to_owned());
                return;
            }
        };
        let says = match routing {
            EnvoyRouting::Host { hosts } => {
                let routes = Resource::new(name.clone(), &render::routes(&name, hosts), Some(routing.clone()));
                self.routes.insert(name.clone(), routes);
                None
            }
            EnvoyRouting::Port { .. } | EnvoyRouting::Sni { .. } => Some(routing.clone()),
        };
        self.listeners.insert(name.clone(), Resource::new(name, &listener, says));
    }
}
