//! What is said to one Envoy on one stream of the incremental protocol, as a plain state machine: it
//! hears requests and is told snapshots, and speaks when something is to be said. It never waits,
//! and knows no stream.
//!
//! - Only differences are said, and of each kind one at a time: while an answer is awaited, further
//!   changes add up.
//! - Make before break: a port is changed when the clusters that it will use are there with their
//!   endpoints, and a cluster goes when no port uses it any more.
//! - A refusal is kept, with Envoy's words, and Envoy goes on with what it had. A refused message
//!   with many resources is said again in halves until the bad ones stand alone.
//! - What an Envoy says it has when it connects is believed, so that a new stream, also to another
//!   replica, says nothing again.

mod subscription;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Sent};

use super::snapshot::{Kind, Resource, Snapshot};
use crate::core::envoy::{EnvoyPort, EnvoyRouting};
use subscription::{Held, Message, Subscription};

/// Longest part of an Envoy's own words that is kept, in characters.
const WORDS: usize = 512;

/// What one Envoy does, as it acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) serving: BTreeMap<EnvoyPort, EnvoyRouting>,
    pub(super) refused: BTreeMap<EnvoyPort, String>,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    snapshot: Option<Arc<Snapshot>>,
    clusters: Subscription,
    endpoints: Subscription,
    listeners: Subscription,
    routes: Subscription,
    nonce: u64,
    /// Whether the report may be another one than when it was last taken.
    news: bool,
    /// Whether the Envoy took over everything once.
    is_up: bool,
}

impl Conversation {
    /// Hears one request: what the Envoy wants, and how it took what it was told.
    pub(super) fn hear(&mut self, request: DeltaDiscoveryRequest) {
        let Some(kind) = Kind::parse(&request.type_url) else { return };
        let refusal = request.error_detail.map(|error| error.message.chars().take(WORDS).collect::<String>());
        // Endpoints come and go all the time, and are in no report but when they are refused.
        self.news |= kind != Kind::Endpoints || refusal.is_some();
        let subscription = self.of_mut(kind);
        if !request.response_nonce.is_empty() {
            subscription.answer(kind, &request.response_nonce, refusal);
        }
        subscription.unsubscribe(&request.resource_names_unsubscribe);
        subscription.subscribe(kind, request.resource_names_subscribe);
        subscription.begin(kind, request.initial_resource_versions);
        self.compare();
    }

    /// Is told what the Envoy is to do from now on.
    pub(super) fn tell(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
        self.news = true;
        self.compare();
    }

    /// Lets what was refused be said once more: some refusals pass, such as a port in use.
    pub(super) fn retry(&mut self) {
        Kind::ALL.into_iter().for_each(|kind| self.of_mut(kind).retry());
    }

    /// What is to be said now, in order.
    pub(super) fn speak(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let Some(snapshot) = self.snapshot.clone() else {
            // Not knowing what an Envoy is to do is no reason to take anything from it.
            return Vec::new();
        };
        Kind::ALL.into_iter().filter_map(|kind| self.say(kind, &snapshot)).collect()
    }

    /// What the Envoy does and refuses, if that may be news. The first report comes when it has taken
    /// over everything: until then it has not yet said what it has, or is not ready and gets no traffic.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        let snapshot = self.snapshot.as_ref()?;
        self.is_up = self.is_up || self.is_complete(snapshot);
        (self.is_up && std::mem::take(&mut self.news)).then(|| self.report())
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        for (name, listener) in self.listeners.held() {
            let Ok(port) = name.parse() else { continue };
            // A port says itself where it leads, or its hosts do.
            let said = listener.routing().or_else(|| self.routes.routing(name));
            if let Some(does) = said.and_then(|said| said.only(|cluster| self.clusters.has_any(cluster))) {
                report.serving.insert(port, does);
            }
        }
        if let Some(snapshot) = &self.snapshot {
            report.refused = self.refused(snapshot);
        }
        report
    }

    fn refused(&self, snapshot: &Snapshot) -> BTreeMap<EnvoyPort, String> {
        let mut refused = snapshot.impossible.clone();
        for (port, routing) in &snapshot.config().ports {
            let name = port.to_string();
            let words = self.listeners.refusal(&name).or_else(|| self.routes.refusal(&name));
            let words = words.or_else(|| {
                routing
                    .clusters()
                    .into_iter()
                    .find_map(|cluster| self.clusters.refusal(cluster).or_else(|| self.endpoints.refusal(cluster)))
            });
            refused.extend(words.map(|words| (*port, words.to_owned())));
        }
        refused
    }

    fn say(&mut self, kind: Kind, snapshot: &Snapshot) -> Option<DeltaDiscoveryResponse> {
        if !self.of(kind).listens() {
            return None;
        }
        let wanted = snapshot.all(kind);
        let changed: Vec<_> = self.of(kind).missing(kind, wanted).cloned().collect();
        let (now, later): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|resource| self.may_change(kind, resource, snapshot));
        let first = kind.is_wildcard() && self.of(kind).is_new();
        // An Envoy is ready once it has its first listeners, so the first ones come all at once.
        if first && !later.is_empty() {
            return None;
        }
        let mut removed: Vec<_> = self.of(kind).superfluous(kind, wanted).cloned().collect();
        if kind == Kind::Cluster && !removed.is_empty() {
            let used = self.used_clusters(snapshot);
            removed.retain(|name| used.as_ref().is_some_and(|used| !used.contains(name)));
        }
        let message = self.of_mut(kind).next_message(now, removed);
        if message.is_empty() && !first {
            return None;
        }
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let response = response(kind, nonce.clone(), &message);
        self.expect_again(kind, &message);
        self.of_mut(kind).sent(nonce, message);
        Some(response)
    }

    /// A changed cluster waits for its endpoints anew, and a changed listener for its routes, though
    /// Envoy does not ask for them anew.
    fn expect_again(&mut self, kind: Kind, message: &Message) {
        let dependent = match kind {
            Kind::Cluster => &mut self.endpoints,
            Kind::Listener => &mut self.routes,
            Kind::Endpoints | Kind::Routes => return,
        };
        message.changed.keys().for_each(|name| dependent.expect(name));
    }

    /// Whether what a resource builds on is there.
    fn may_change(&self, kind: Kind, resource: &Resource, snapshot: &Snapshot) -> bool {
        match kind {
            // Envoy answers what it was told of clusters when it has their endpoints.
            Kind::Cluster | Kind::Endpoints => true,
            Kind::Routes if self.listeners.is_under_way(&resource.name) => false,
            Kind::Listener | Kind::Routes => {
                let clusters = resource.routing.iter().flat_map(EnvoyRouting::clusters);
                clusters.into_iter().all(|cluster| self.is_settled(cluster, snapshot))
            }
        }
    }

    /// Whether waiting for a cluster would bring nothing more: it is there with its endpoints, or
    /// refused, or unknown.
    fn is_settled(&self, cluster: &str, snapshot: &Snapshot) -> bool {
        let Some(wanted) = snapshot.all(Kind::Cluster).get(cluster) else { return true };
        let is_refused = |subscription: &Subscription| {
            subscription.refusal(cluster).is_some() && !subscription.is_under_way(cluster)
        };
        let is_there = self.clusters.has_version(cluster, &wanted.version) && !self.clusters.is_under_way(cluster);
        let has_endpoints = self.endpoints.has_any(cluster) || is_refused(&self.endpoints);
        is_refused(&self.clusters) || is_there && has_endpoints
    }

    /// The clusters that some port uses, will use or may be using; none if that is not known.
    fn used_clusters(&self, snapshot: &Snapshot) -> Option<BTreeSet<String>> {
        if !self.has_introduced_itself() {
            return None;
        }
        let mut used = BTreeSet::new();
        let mut add = |routing: &EnvoyRouting| used.extend(routing.clusters().into_iter().map(str::to_owned));
        snapshot.config().ports.values().for_each(&mut add);
        for subscription in [&self.listeners, &self.routes] {
            // Routes of a port that is gone are used by nothing.
            for (_, held) in subscription.held().filter(|(name, _)| self.listeners.may_have(name)) {
                if held.is_unknown() {
                    return None;
                }
                held.all().flat_map(|resource| &resource.routing).for_each(&mut add);
            }
            subscription.under_way().for_each(|resource| resource.routing.iter().for_each(&mut add));
        }
        Some(used)
    }

    /// Whether all is known that the Envoy brought from an earlier stream: it says so kind by kind.
    fn has_introduced_itself(&self) -> bool {
        let has_routes = |name| self.routes.has_any(name) || self.routes.refusal(name).is_some();
        let is_hosts = |listener: &Held| listener.all().any(|listener| listener.routing.is_none());
        let mut hosts = self.listeners.held().filter(|(_, listener)| is_hosts(listener));
        self.clusters.is_asked() && self.listeners.is_asked() && hosts.all(|(name, _)| has_routes(name))
    }

    /// Whether the Envoy does all that it is to do and does not refuse, and nothing else.
    fn is_complete(&self, snapshot: &Snapshot) -> bool {
        let has_all = |kind| {
            let (subscription, wanted) = (self.of(kind), snapshot.all(kind));
            let has = |resource: &Arc<Resource>| {
                subscription.has_version(&resource.name, &resource.version)
                    || subscription.refusal(&resource.name).is_some()
            };
            subscription.under_way().next().is_none() && wanted.values().all(has)
        };
        self.has_introduced_itself() && Kind::ALL.into_iter().all(has_all)
    }

    /// Compares what the Envoy has and refused with what it is to have.
    fn compare(&mut self) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        Kind::ALL.into_iter().for_each(|kind| self.of_mut(kind).compare(snapshot.all(kind)));
    }

    const fn of(&self, kind: Kind) -> &Subscription {
        match kind {
            Kind::Cluster => &self.clusters,
            Kind::Endpoints => &self.endpoints,
            Kind::Listener => &self.listeners,
            Kind::Routes => &self.routes,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut Subscription {
        match kind {
            Kind::Cluster => &mut self.clusters,
            Kind::Endpoints => &mut self.endpoints,
            Kind::Listener => &mut self.listeners,
            Kind::Routes => &mut self.routes,
        }
    }
}

fn response(kind: Kind, nonce: String, message: &Message) -> DeltaDiscoveryResponse {
    let resource = |resource: &Arc<Resource>| Sent {
        name: resource.name.clone(),
        version: resource.version.clone(),
        resource: Some(resource.body.clone()),
        ..Sent::default()
    };
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce,
        resources: message.changed.values().map(resource).collect(),
        removed_resources: message.removed.iter().cloned().collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
