//! Follows the kinds of objects that the exporter's side asks for, each in a task of its own: asks
//! discovery in which version the cluster serves it, lists, watches, and tells all of it as plain
//! JSON.
//!
//! A kind is said not to be served only by discovery itself; every other failure leaves what was
//! known, is told, and is tried again. Never decides which kinds matter, and never exits for one.

mod discovery;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use kube::{
    Api, Client,
    core::{ApiResource, GroupVersionKind},
    runtime::watcher::{self, Config},
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::discovery::{Discovery, Served};
use super::{
    backoff::Backoff,
    failure,
    follow::{Audience, FIRST_DELAY, LONGEST_DELAY, News, follow_once},
    wire::ObjectWire,
};
use crate::{
    api::names,
    core::{
        export::object::{Kind, KindNews, PUBLISHED_SLICE},
        io::{Change, ExportNews, Input},
        model::Key,
    },
};

/// Time between two looks whether a kind that is not served has come.
const LOOK: Duration = Duration::from_secs(8);
/// While a kind is read in another version than the preferred one: time between two looks whether
/// the cluster serves a better one by now.
const RECHECK: Duration = Duration::from_secs(60);
/// Failures in a row before the deciding side is told: a watch that breaks off once is nothing a
/// user must read about.
const PATIENCE: u32 = 2;

/// How well each kind that is asked for can be read: for `/readyz` and logs. None of it keeps the
/// controller from being ready, as other kinds, and its own gateways, do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsHealth(BTreeMap<Kind, Reading>);

/// How well a kind can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// Not asked yet.
    #[default]
    Waiting,
    /// The cluster does not serve it.
    NotServed,
    /// It is followed, in this version.
    Followed(&'static str),
    /// It cannot be read, and why.
    Failed(String),
}

impl fmt::Display for ObjectsHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, reading) in &self.0 {
            match reading {
                Reading::Waiting => writeln!(f, "{kind} has not been listed yet")?,
                Reading::NotServed => writeln!(f, "{kind}: not served by this cluster")?,
                Reading::Followed(version) => writeln!(f, "{kind}: followed, {version}")?,
                Reading::Failed(why) => writeln!(f, "{why}")?,
            }
        }
        Ok(())
    }
}

/// See the file's description.
#[derive(Debug)]
pub struct Objects {
    shared: Shared,
    following: BTreeMap<Kind, Following>,
}

/// What the task of a kind needs.
#[derive(Clone)]
struct Shared {
    client: Client,
    discovery: Discovery,
    start: Instant,
    namespace: String,
    out: mpsc::Sender<Input>,
    health: watch::Sender<ObjectsHealth>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Following {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Objects {
    /// Will tell `out`; `namespace` is the controller's own. Gives the state of the reading too.
    #[must_use]
    pub fn new(client: Client, namespace: &str, out: mpsc::Sender<Input>) -> (Self, watch::Receiver<ObjectsHealth>) {
        let health = watch::Sender::new(ObjectsHealth::default());
        let told = health.subscribe();
        let discovery = Discovery::new(client.clone());
        let shared = Shared { client, discovery, start: Instant::now(), namespace: namespace.to_owned(), out, health };
        (Self { shared, following: BTreeMap::new() }, told)
    }

    /// Follows the kinds of the latest set until `shutdown`.
    pub async fn run(mut self, mut wanted: watch::Receiver<BTreeSet<Kind>>, shutdown: CancellationToken) {
        let keep = async {
            loop {
                let kinds = wanted.borrow_and_update().clone();
                self.set(&kinds, &shutdown).await;
                if wanted.changed().await.is_err() {
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    async fn set(&mut self, kinds: &BTreeSet<Kind>, shutdown: &CancellationToken) {
        let (kept, ended) = std::mem::take(&mut self.following).into_iter().partition(|(kind, _)| kinds.contains(kind));
        self.following = kept;
        for (kind, Following { end, task }) in ended {
            end.cancel();
            // Once it has ended, nothing it said can come after this.
            let _ = task.await;
            self.shared.health.send_modify(|health| drop(health.0.remove(&kind)));
            self.shared.tell(kind, KindNews::Forgotten).await;
        }
        for kind in kinds {
            self.following.entry(*kind).or_insert_with(|| {
                let end = shutdown.child_token();
                let follower = Follower { kind: *kind, shared: self.shared.clone(), failures: 0 };
                follower.note(Reading::Waiting);
                let until = end.clone();
                let task = tokio::spawn(async move {
                    until.run_until_cancelled(follower.follow()).await;
                });
                Following { end, task }
            });
        }
    }
}

impl Shared {
    async fn tell(&self, kind: Kind, news: KindNews) {
        // The engine only stops listening at shutdown.
        let _ = self.out.send(Input::Export(ExportNews::Objects(kind, news))).await;
    }

    /// Waits until all kinds that are not served are asked for again, together.
    async fn next_look(&self) {
        let looks = self.start.elapsed().as_secs() / LOOK.as_secs() + 1;
        tokio::time::sleep_until(self.start + Duration::from_secs(looks * LOOK.as_secs())).await;
    }
}

/// Follows one kind.
struct Follower {
    kind: Kind,
    shared: Shared,
    /// In a row.
    failures: u32,
}

impl Follower {
    /// For ever.
    async fn follow(mut self) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let error = match self.shared.discovery.served(self.kind).await {
                Ok(Some(served)) => match self.follow_version(served, &mut backoff).await {
                    Some(error) => error,
                    None => continue,
                },
                Ok(None) => {
                    self.not_served().await;
                    self.shared.next_look().await;
                    continue;
                }
                Err(error) => error,
            };
            let asked = self.failed(&error).await;
            sleep(backoff.next(asked)).await;
        }
    }

    /// Follows the kind in a version until that fails, or until (none) a better one is served.
    async fn follow_version(&mut self, served: Served, backoff: &mut Backoff) -> Option<watcher::Error> {
        let (kind, shared) = (self.kind, self.shared.clone());
        let gvk = GroupVersionKind::gvk(kind.group, served.version, kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let api: Api<ObjectWire> = match kind.own_namespace && served.namespaced {
            true => Api::namespaced_with(shared.client, &shared.namespace, &resource),
            false => Api::all_with(shared.client, &resource),
        };
        let config = selector(kind).map_or_else(Config::default, |selector| Config::default().labels(&selector));
        let superseded = superseded(shared.discovery, kind, served);
        let mut audience = Versioned { version: served.version, follower: self };
        tokio::select! {
            error = follow_once(api, config, read, &mut audience, backoff) => Some(error),
            () = superseded => None,
        }
    }

    async fn not_served(&mut self) {
        self.failures = 0;
        if self.note(Reading::NotServed) {
            self.shared.tell(self.kind, KindNews::NotServed).await;
        }
    }

    /// Notes a failure; the deciding side is told of one that lasts, and of a refusal at once.
    /// Gives how long the API server asked to wait.
    async fn failed(&mut self, error: &watcher::Error) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let said = failure::said(error);
        let why = match failure::code(error) {
            Some(403) => format!("{} cannot be read: {said}; apply config/components/exporter", self.kind),
            _ => format!("{} cannot be read: {said}", self.kind),
        };
        if failure::code(error) == Some(403) || self.failures >= PATIENCE {
            if self.note(Reading::Failed(why.clone())) {
                self.shared.tell(self.kind, KindNews::Failed(why)).await;
            }
        } else {
            tracing::debug!("{why}");
        }
        failure::retry_after(error)
    }

    /// Notes how well the kind can be read; says whether that is new.
    fn note(&self, reading: Reading) -> bool {
        let kind = self.kind;
        self.shared.health.send_if_modified(|health| {
            if health.0.get(&kind) == Some(&reading) {
                return false;
            }
            match &reading {
                Reading::Waiting => {}
                Reading::NotServed => tracing::info!(%kind, "not served by this cluster"),
                Reading::Followed(version) => tracing::info!(%kind, version, "following"),
                Reading::Failed(why) => tracing::warn!(%kind, "{why}"),
            }
            health.0.insert(kind, reading);
            true
        })
    }
}

/// Waits until the cluster serves a version that is preferred to this one.
async fn superseded(discovery: Discovery, kind: Kind, served: Served) {
    if served.preference == 0 {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(RECHECK).await;
        if let Ok(Some(found)) = discovery.served(kind).await
            && found.preference < served.preference
        {
            return;
        }
    }
}

/// The label selector of a kind of which only ours are followed.
fn selector(kind: Kind) -> Option<String> {
    let (label, value) = match kind {
        PUBLISHED_SLICE => (names::SLICE_MANAGED_BY_LABEL, names::PUBLISHED_MANAGER),
        _ => (names::MANAGED_BY_LABEL, names::MANAGER),
    };
    kind.ours_only.then(|| format!("{label}={value}"))
}

fn read(wire: ObjectWire) -> Option<(Key, Result<Value, String>)> {
    wire.into_keyed().map(|(key, object)| (key, Ok(object)))
}

/// Hears what is read in one version.
struct Versioned<'a> {
    version: &'static str,
    follower: &'a mut Follower,
}

impl Audience<Key, Value> for Versioned<'_> {
    async fn hear(&mut self, news: News<Key, Value>) {
        let news = match news {
            News::Change(Change::All(objects)) => {
                self.follower.failures = 0;
                self.follower.note(Reading::Followed(self.version));
                KindNews::Listed(self.version.to_owned(), objects)
            }
            News::Change(Change::Set(key, object)) => KindNews::Set(key, object),
            News::Change(Change::Gone(key)) => KindNews::Gone(key),
            // Any JSON is understood; and who follows sees failures first.
            News::Unreadable(..) | News::Failed(_) => return,
        };
        self.follower.shared.tell(self.follower.kind, news).await;
    }
}

#[cfg(test)]
mod tests;
