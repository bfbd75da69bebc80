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
use subscription::{Message, Subscription};

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
        self.recognise();
    }

    /// Is told what the Envoy is to do from now on.
    pub(super) fn tell(&mut self, snapshot: Arc<Snapshot>) {
        for kind in Kind::ALL {
            self.of_mut(kind).forget_refusals(|name, version| {
                snapshot.all(kind).get(name).is_none_or(|wanted| wanted.version != version)
            });
        }
        self.snapshot = Some(snapshot);
        self.news = true;
        self.recognise();
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

    /// What the Envoy does and refuses, if that may be news.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        std::mem::take(&mut self.news).then(|| self.report())
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        for (name, listener) in self.listeners.held() {
            let Ok(port) = name.parse() else { continue };
            let said = listener.and_then(|listener| listener.routing.as_ref());
            let said = said.or_else(|| self.routes.has(name).and_then(|routes| routes.routing.as_ref()));
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
            Kind::Cluster => true,
            Kind::Endpoints => !self.clusters.is_under_way(&resource.name),
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
        self.clusters.refusal(cluster).is_some()
            || self.clusters.has_version(cluster, &wanted.version)
                && (self.endpoints.has_any(cluster) || self.endpoints.refusal(cluster).is_some())
    }

    /// The clusters that some port uses, will use or may be using; none if that is not known.
    fn used_clusters(&self, snapshot: &Snapshot) -> Option<BTreeSet<String>> {
        let mut used = BTreeSet::new();
        let mut add = |routing: &EnvoyRouting| used.extend(routing.clusters().into_iter().map(str::to_owned));
        snapshot.config().ports.values().for_each(&mut add);
        for subscription in [&self.listeners, &self.routes] {
            // Routes of a port that is gone are used by nothing.
            for (name, resource) in subscription.held().filter(|(name, _)| self.listeners.has_any(name)) {
                match resource {
                    Some(resource) => resource.routing.iter().for_each(&mut add),
                    None if subscription.refusal(name).is_some() => {}
                    None => return None,
                }
            }
            subscription.under_way().for_each(|resource| resource.routing.iter().for_each(&mut add));
        }
        Some(used)
    }

    /// Finds out what the Envoy's resources say, by their versions.
    fn recognise(&mut self) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        Kind::ALL.into_iter().for_each(|kind| self.of_mut(kind).recognise(snapshot.all(kind)));
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
mod tests;
