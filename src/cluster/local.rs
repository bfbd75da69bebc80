//! Follows this cluster: what users wrote (links, policies, bindings), what mirrors are made of
//! (Services, slices of ours, Namespaces) and which ranges are its own (Nodes, ServiceCIDRs). An
//! exporter is followed as an importer would see it too: its Services, their pods and its Nodes.
//!
//! Never exits and never takes a failure for a deletion: while a kind cannot be read, what was
//! known of it stays, and [`LocalHealth`] says what is missing.

use std::{collections::BTreeMap, fmt, fmt::Debug};

use kube::{
    Api, Client, Resource,
    api::ObjectMeta,
    runtime::watcher::{self, Config},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    failure,
    follow::{Audience, News, Read, follow},
    text::{MAX_MESSAGE, clean},
    wire::{
        ClusterNamespace, LocalNamespaceWire, LocalNodeWire, LocalServiceWire, LocalSliceWire, OriginWire,
        RemoteNodeWire, RemoteSliceWire, ServiceRangesWire,
    },
};
use crate::{
    api::{ClusterLink, GatewayBinding, MirrorPolicy, names},
    core::{
        io::{Change, ExportNews, Input, Local, OwnKind},
        model::{Key, LocalNode, LocalService, LocalSlice, Origin, RemoteNode, RemoteSlice},
    },
};

/// A kind of object of this cluster that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalKind {
    /// `clusterlinks.heliostat.dev`.
    ClusterLinks,
    /// `mirrorpolicies.heliostat.dev`.
    MirrorPolicies,
    /// `gatewaybindings.heliostat.dev`.
    GatewayBindings,
    /// Namespaces.
    Namespaces,
    /// Services.
    Services,
    /// EndpointSlices of ours.
    EndpointSlices,
    /// Nodes.
    Nodes,
    /// ServiceCIDRs; a cluster older than 1.33 has none.
    ServiceCidrs,
    /// Services, read as what may be exported.
    ExportServices,
    /// EndpointSlices of Services: the pods behind what may be exported.
    ExportSlices,
    /// Nodes, read as places where node ports answer.
    ExportNodes,
}

impl LocalKind {
    /// Those that are always followed.
    const BASE: [Self; 8] = [
        Self::ClusterLinks,
        Self::MirrorPolicies,
        Self::GatewayBindings,
        Self::Namespaces,
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::ServiceCidrs,
    ];
    /// Those that an exporter needs beside them.
    const EXPORT: [Self; 3] = [Self::ExportServices, Self::ExportSlices, Self::ExportNodes];

    /// The resource, as RBAC names it, and what it is read for where that is not the only reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterLinks => "clusterlinks.heliostat.dev",
            Self::MirrorPolicies => "mirrorpolicies.heliostat.dev",
            Self::GatewayBindings => "gatewaybindings.heliostat.dev",
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices.discovery.k8s.io",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs.networking.k8s.io",
            Self::ExportServices => "services (to export)",
            Self::ExportSlices => "endpointslices.discovery.k8s.io (to export)",
            Self::ExportNodes => "nodes (to export)",
        }
    }

    /// What is asked for of the kind.
    fn config(self) -> Config {
        match self {
            Self::EndpointSlices => {
                Config::default().labels(&format!("{}={}", names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGER))
            }
            Self::ExportSlices => Config::default().labels(names::SERVICE_NAME_LABEL),
            _ => Config::default(),
        }
    }

    /// As the engine names it, if it is a kind of ours.
    const fn own(self) -> Option<OwnKind> {
        match self {
            Self::ClusterLinks => Some(OwnKind::Links),
            Self::MirrorPolicies => Some(OwnKind::Policies),
            Self::GatewayBindings => Some(OwnKind::Bindings),
            _ => None,
        }
    }
}

impl fmt::Display for LocalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How well this cluster can be read: each kind that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalHealth(BTreeMap<LocalKind, KindHealth>);

/// How well a kind can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KindHealth {
    listed: bool,
    failure: Option<String>,
    unreadable: BTreeMap<String, String>,
}

impl LocalHealth {
    fn new(export: bool) -> Self {
        let more = LocalKind::EXPORT.into_iter().filter(|_| export);
        Self(LocalKind::BASE.into_iter().chain(more).map(|kind| (kind, KindHealth::default())).collect())
    }

    /// The kinds that are followed.
    pub fn kinds(&self) -> impl Iterator<Item = LocalKind> {
        self.0.keys().copied()
    }

    /// Every kind has been listed and is being followed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.values().all(|health| health.listed && health.failure.is_none())
    }

    /// What is missing, in words: for `/readyz` and logs.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.kinds().flat_map(|kind| self.problems_of(kind)).collect()
    }

    /// What is missing of one kind; nothing while it is followed.
    #[must_use]
    pub fn problems_of(&self, kind: LocalKind) -> Vec<String> {
        let Some(health) = self.0.get(&kind) else { return Vec::new() };
        let waiting = (!health.listed && health.failure.is_none() && health.unreadable.is_empty())
            .then(|| format!("{kind} have not been listed yet"));
        let unreadable = health.unreadable.iter().map(|(key, why)| format!("{kind} {key} cannot be understood: {why}"));
        waiting.into_iter().chain(health.failure.clone()).chain(unreadable).collect()
    }
}

/// Follows this cluster until `shutdown`, in tasks of its own, one a kind; with `export` also what
/// an exporter needs. Gives the state of the reading, for readiness and logs.
#[must_use]
pub fn watch_all(
    client: Client,
    export: bool,
    out: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) -> watch::Receiver<LocalHealth> {
    let health = watch::Sender::new(LocalHealth::new(export));
    let told = health.subscribe();
    let watches = Watches { client, out, health, shutdown };
    watches.base();
    if export {
        watches.export();
    }
    told
}

impl Watches {
    fn base(&self) {
        self.objects(LocalKind::ClusterLinks, named::<ClusterLink>, |change| vec![Local::Link(change)]);
        self.objects(LocalKind::MirrorPolicies, keyed::<MirrorPolicy>, |change| vec![Local::Policy(change)]);
        self.objects(LocalKind::GatewayBindings, named::<GatewayBinding>, |change| vec![Local::Binding(change)]);
        self.objects(LocalKind::Namespaces, |o: LocalNamespaceWire| o.into_named().map(ok), namespaces);
        self.objects(
            LocalKind::Services,
            |o: LocalServiceWire| o.into_model().map(ok::<Key, LocalService>),
            |change| vec![Local::Service(change)],
        );
        self.objects(
            LocalKind::EndpointSlices,
            |o: LocalSliceWire| o.into_model().map(ok::<Key, LocalSlice>),
            |change| vec![Local::Slice(change)],
        );
        self.objects(
            LocalKind::Nodes,
            |o: LocalNodeWire| o.into_named().map(ok::<String, LocalNode>),
            |change| vec![Local::Node(change)],
        );
        self.objects(
            LocalKind::ServiceCidrs,
            |o: ServiceRangesWire| o.into_named().map(|(name, ranges)| (name, Ok(ranges.0))),
            |change| vec![Local::ServiceCidr(change)],
        );
    }

    fn export(&self) {
        self.objects(
            LocalKind::ExportServices,
            |o: OriginWire| o.into_model().map(ok::<Key, Origin>),
            |change| vec![ExportNews::Service(change)],
        );
        self.objects(
            LocalKind::ExportSlices,
            |o: RemoteSliceWire| o.into_model().map(ok::<Key, Option<RemoteSlice>>),
            |change| vec![ExportNews::Slice(of_use(change))],
        );
        self.objects(
            LocalKind::ExportNodes,
            |o: RemoteNodeWire| o.into_named().map(ok::<String, RemoteNode>),
            |change| vec![ExportNews::Node(change)],
        );
    }
}

/// A slice that says nothing of use is none.
fn of_use(change: Change<Key, Option<RemoteSlice>>) -> Change<Key, RemoteSlice> {
    match change {
        Change::Set(key, Some(slice)) => Change::Set(key, slice),
        Change::Set(key, None) | Change::Gone(key) => Change::Gone(key),
        Change::All(all) => Change::All(all.into_iter().filter_map(|(key, slice)| Some((key, slice?))).collect()),
    }
}

fn ok<K, V>((key, value): (K, V)) -> (K, Result<V, String>) {
    (key, Ok(value))
}

/// Namespaces, and from kube-system's uid who this cluster is.
fn namespaces(change: Change<String, ClusterNamespace>) -> Vec<Local> {
    const KUBE_SYSTEM: &str = "kube-system";
    let uid = match &change {
        Change::Set(name, namespace) if name == KUBE_SYSTEM => Some(namespace.uid.clone()),
        Change::All(all) => all.get(KUBE_SYSTEM).map(|namespace| namespace.uid.clone()),
        _ => None,
    };
    let change = match change {
        Change::Set(name, namespace) => Change::Set(name, namespace.namespace),
        Change::Gone(name) => Change::Gone(name),
        Change::All(all) => Change::All(all.into_iter().map(|(name, namespace)| (name, namespace.namespace)).collect()),
    };
    uid.map(Local::ClusterUid).into_iter().chain([Local::Namespace(change)]).collect()
}

/// An object of ours. One that does not fit its own schema any more (edited under another version
/// of the CRD) is reported, and nothing is concluded from it.
#[derive(Clone, Debug)]
struct Tolerant<K> {
    metadata: ObjectMeta,
    object: Result<Box<K>, String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Tolerant<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let metadata = serde_json::from_value(value["metadata"].clone()).unwrap_or_default();
        let object = serde_json::from_value(value).map(Box::new).map_err(|e| clean(&e.to_string(), MAX_MESSAGE));
        Ok(Self { metadata, object })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Tolerant<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        K::kind(&()).into_owned().into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        K::group(&()).into_owned().into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        K::version(&()).into_owned().into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        K::plural(&()).into_owned().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn named<K>(wire: Tolerant<K>) -> Option<(String, Result<Box<K>, String>)> {
    Some((wire.metadata.name?, wire.object))
}

fn keyed<K>(wire: Tolerant<K>) -> Option<(Key, Result<Box<K>, String>)> {
    Some((Key::new(wire.metadata.namespace?, wire.metadata.name?), wire.object))
}

struct Watches {
    client: Client,
    out: mpsc::Sender<Input>,
    health: watch::Sender<LocalHealth>,
    shutdown: CancellationToken,
}

impl Watches {
    fn objects<W, K, V, N>(&self, kind: LocalKind, read: Read<W, K, V>, tell: fn(Change<K, V>) -> Vec<N>)
    where
        W: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        K: Ord + Clone + Debug + fmt::Display + Send + 'static,
        V: Send + 'static,
        N: Into<Input> + Send + 'static,
    {
        let audience = Engine { kind, tell, out: self.out.clone(), health: self.health.clone() };
        let following = follow(Api::<W>::all(self.client.clone()), kind.config(), read, audience);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(following).await });
    }
}

/// Hands news on to the engine, and the state of the reading to whom it concerns.
struct Engine<K: Ord, V, N> {
    kind: LocalKind,
    tell: fn(Change<K, V>) -> Vec<N>,
    out: mpsc::Sender<Input>,
    health: watch::Sender<LocalHealth>,
}

impl<K: Ord + fmt::Display + Send, V: Send, N: Into<Input> + Send> Audience<K, V> for Engine<K, V, N> {
    async fn hear(&mut self, news: News<K, V>) {
        match news {
            News::Change(change) => {
                let is_listing = matches!(change, Change::All(_));
                self.tell_engine(change).await;
                if is_listing {
                    self.note(|health| *health = KindHealth { listed: true, ..KindHealth::default() });
                }
            }
            News::Unreadable(key, why) => self.note(|health| {
                match why {
                    Some(why) => health.unreadable.insert(key.to_string(), why),
                    None => health.unreadable.remove(&key.to_string()),
                };
            }),
            // An API server that does not know the kind has none of it.
            News::Failed(error) if self.kind == LocalKind::ServiceCidrs && failure::code(&error) == Some(404) => {
                self.tell_engine(Change::All(BTreeMap::new())).await;
                self.note(|health| *health = KindHealth { listed: true, ..KindHealth::default() });
            }
            News::Failed(error) => {
                if let Some(kind) = self.kind.own().filter(|_| failure::code(&error) == Some(404)) {
                    // The engine only stops listening at shutdown.
                    let _ = self.out.send(Input::Local(Local::Unserved(kind))).await;
                }
                let said = explain(self.kind, &error);
                self.note(|health| health.failure = Some(said));
            }
        }
    }
}

impl<K: Ord, V, N: Into<Input>> Engine<K, V, N> {
    async fn tell_engine(&self, change: Change<K, V>) {
        for news in (self.tell)(change) {
            // The engine only stops listening at shutdown.
            let _ = self.out.send(news.into()).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut KindHealth)) {
        let kind = self.kind;
        self.health.send_if_modified(|all| {
            let health = all.0.entry(kind).or_default();
            let before = health.clone();
            change(health);
            if *health == before {
                return false;
            }
            match all.problems_of(kind).as_slice() {
                [] => tracing::info!(%kind, "following"),
                problems => tracing::warn!(%kind, "{}", problems.join("; ")),
            }
            true
        });
    }
}

fn explain(kind: LocalKind, error: &watcher::Error) -> String {
    let said = failure::said(error);
    match failure::code(error) {
        Some(404) if kind.own().is_some() => {
            format!("{kind} is not installed; run: heliostat crds | kubectl apply -f -")
        }
        Some(403) => format!("{kind} cannot be read: {said}; apply the shipped ClusterRole"),
        _ => format!("{kind} cannot be read: {said}"),
    }
}

#[cfg(test)]
mod tests;
