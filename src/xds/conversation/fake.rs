//! An Envoy, as far as the protocol goes; it holds the server to "make before break".

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        config::{
            listener::v3::{Listener, filter::ConfigType},
            route::v3::{RouteConfiguration, route::Action, route_action::ClusterSpecifier as RouteTo},
        },
        extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Sent},
    },
    google::{protobuf::Any, rpc::Status},
};
use prost::{Message as _, Name as _};

use crate::xds::snapshot::Kind;

/// See above.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) has: BTreeMap<Kind, BTreeMap<String, (String, Any)>>,
    asks: BTreeMap<Kind, BTreeSet<String>>,
    /// What it refuses, by kind and name.
    pub(super) refuses: BTreeSet<(Kind, String)>,
    /// What it refused, or was told not to be there, and did not take since.
    refused: BTreeSet<(Kind, String)>,
    /// Its answer about clusters, which a real Envoy keeps back until it has endpoints for all of them.
    kept_back: Option<DeltaDiscoveryRequest>,
}

impl Fake {
    /// Its first requests on a stream.
    pub(super) fn hello(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.kept_back = None;
        let request = |kind: Kind| {
            let names = self.asks.get(&kind).cloned().unwrap_or_default();
            let has = self.has.get(&kind).into_iter().flatten();
            (kind.is_wildcard() || !names.is_empty()).then(|| DeltaDiscoveryRequest {
                resource_names_subscribe: names.into_iter().collect(),
                initial_resource_versions: has.map(|(name, (version, _))| (name.clone(), version.clone())).collect(),
                ..about(kind)
            })
        };
        Kind::ALL.into_iter().filter_map(request).collect()
    }

    pub(super) fn hear(&mut self, response: &DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let kind = Kind::parse(&response.type_url).unwrap();
        let mut bad = Vec::new();
        for name in &response.removed_resources {
            self.lose(kind, name);
            // That there are no endpoints is an answer too.
            if kind == Kind::Endpoints {
                self.refused.insert((kind, name.clone()));
            }
        }
        for sent in &response.resources {
            let asked = self.asks.get(&kind).is_some_and(|asks| asks.contains(&sent.name));
            if !kind.is_wildcard() && !asked {
                // What came too late is passed over.
                continue;
            }
            let has = self.has.get(&kind).and_then(|has| has.get(&sent.name));
            let has_it_already = has.is_some_and(|(version, _)| *version == sent.version);
            if !has_it_already && self.refuses.contains(&(kind, sent.name.clone())) {
                bad.push(sent.name.clone());
            } else {
                self.take(kind, sent);
            }
        }
        let refusal = Status { code: 3, message: format!("cannot take {}", bad.join(",")), details: Vec::new() };
        let answer = DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail: (!bad.is_empty()).then_some(refusal),
            ..about(kind)
        };
        self.refused.extend(bad.into_iter().map(|name| (kind, name)));
        let mut requests = Vec::new();
        requests.extend(self.ask(Kind::Endpoints, self.names(Kind::Cluster)));
        if kind == Kind::Cluster {
            self.kept_back = Some(answer);
        } else {
            requests.push(answer);
        }
        if self.is_warm() {
            requests.extend(self.kept_back.take());
        }
        let listeners = self.has.get(&Kind::Listener).into_iter().flatten();
        let hosts = listeners.filter(|(_, (_, any))| proxies(any).next().is_none());
        let hosts = hosts.map(|(name, _)| name.clone()).collect();
        requests.extend(self.ask(Kind::Routes, hosts));
        requests
    }

    fn take(&mut self, kind: Kind, sent: &Sent) {
        let any = sent.resource.clone().unwrap();
        for cluster in clusters_of(kind, &any) {
            for before in [Kind::Cluster, Kind::Endpoints] {
                let settled = self.has(before, &cluster) || self.refused.contains(&(before, cluster.clone()));
                // Of a cluster that it refused it asks for no endpoints.
                let settled = settled || self.refused.contains(&(Kind::Cluster, cluster.clone()));
                assert!(settled, "{} came before the {before:?} {cluster}", sent.name);
            }
        }
        self.refused.remove(&(kind, sent.name.clone()));
        self.has.entry(kind).or_default().insert(sent.name.clone(), (sent.version.clone(), any));
    }

    fn lose(&mut self, kind: Kind, name: &str) {
        if kind == Kind::Cluster {
            for user in [Kind::Listener, Kind::Routes] {
                for (port, (_, any)) in self.has.get(&user).into_iter().flatten() {
                    assert!(!clusters_of(user, any).contains(name), "{name} was taken from {port}");
                }
            }
        }
        self.has.entry(kind).or_default().remove(name);
    }

    fn ask(&mut self, kind: Kind, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let asked = self.asks.entry(kind).or_default();
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: names.difference(asked).cloned().collect(),
            resource_names_unsubscribe: asked.difference(&names).cloned().collect(),
            ..about(kind)
        };
        for name in &request.resource_names_unsubscribe {
            self.has.entry(kind).or_default().remove(name);
        }
        let news = *asked != names;
        *asked = names;
        news.then_some(request)
    }

    fn is_warm(&self) -> bool {
        let has_endpoints =
            |name: &String| self.has(Kind::Endpoints, name) || self.refused.contains(&(Kind::Endpoints, name.clone()));
        self.names(Kind::Cluster).iter().all(has_endpoints)
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.has.get(&kind).is_some_and(|has| has.contains_key(name))
    }

    pub(super) fn names(&self, kind: Kind) -> BTreeSet<String> {
        self.has.get(&kind).map(|has| has.keys().cloned().collect()).unwrap_or_default()
    }
}

/// The clusters that a listener or routes name.
fn clusters_of(kind: Kind, any: &Any) -> BTreeSet<String> {
    match kind {
        Kind::Listener => proxies(any)
            .flat_map(|proxy| proxy.cluster_specifier)
            .filter_map(|to| match to {
                ClusterSpecifier::Cluster(name) => Some(name),
                ClusterSpecifier::WeightedClusters(_) => None,
            })
            .collect(),
        Kind::Routes => {
            let hosts = RouteConfiguration::decode(&*any.value).unwrap().virtual_hosts;
            let actions = hosts.into_iter().flat_map(|host| host.routes).filter_map(|route| route.action);
            actions
                .filter_map(|action| match action {
                    Action::Route(route) => match route.cluster_specifier {
                        Some(RouteTo::Cluster(name)) => Some(name),
                        _ => None,
                    },
                    _ => None,
                })
                .collect()
        }
        Kind::Cluster | Kind::Endpoints => BTreeSet::new(),
    }
}

fn proxies(listener: &Any) -> impl Iterator<Item = TcpProxy> {
    let chains = Listener::decode(&*listener.value).unwrap().filter_chains;
    let configs = chains.into_iter().flat_map(|chain| chain.filters).filter_map(|filter| filter.config_type);
    configs.filter_map(|config| match config {
        ConfigType::TypedConfig(any) if any.type_url == TcpProxy::type_url() => TcpProxy::decode(&*any.value).ok(),
        _ => None,
    })
}

pub(super) fn about(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..DeltaDiscoveryRequest::default() }
}
