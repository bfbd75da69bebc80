//! One session with one exporter: connects, lists, follows, notices loss, and begins again, for
//! ever. Says what it learns to the engine under its number and never concludes anything from a
//! failure: no error becomes a deletion.
//!
//! ```text
//!            identify                 all lists complete, same uid
//! Connecting ────────▶ Reading: Listing ────────▶ Following
//!     ▲                    │  two missed heartbeats, 401, 403, another uid, …
//!     └──── Waiting ◀──────┘
//! ```
//!
//! A listing counts only if kube-system has the same uid before and after it. Watches are those of
//! kube's `watcher`, without its own retries: it yields `Init` before it lists, which is when the
//! uid is read, and after a 410 it lists again, by which deletions that the watch missed are found.

mod caps;
mod follow;
mod identity;
mod listing;
mod nodes;
mod once;
mod setback;
mod version;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};

pub use self::once::{Listing, list_once, list_published};
use self::{identity::Identity, version::Versions};
use super::{
    backoff::{Backoff, MAX_DELAY},
    credentials::CredentialsError,
    failure::Failure,
    own::OwnCluster,
};
use crate::{
    api::Reason,
    clock::Clock,
    core::io::{Input, RemoteEvent, Scope, SessionTask},
};

/// Between two heartbeats, and how long each may take. Two misses in a row are a loss, which is
/// noticed at most 15 s after the last sign of life (design: within 20 s).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Heartbeats missed in a row that are a loss.
const MISSES: u32 = 2;
/// First wait after a loss.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// A session, ready to run.
pub(super) struct Session {
    /// Name of its link.
    pub(super) link: String,
    /// Its number; later sessions have higher ones.
    pub(super) number: u64,
    /// The client of the link's credentials.
    pub(super) client: Client,
    /// When the credentials run out, where they say so.
    pub(super) credentials_expire_at: Option<Timestamp>,
    /// This cluster.
    pub(super) own: OwnCluster,
    /// What time it is.
    pub(super) clock: Clock,
    /// What to read. A change of `nodes` is followed; any other one begins a new listing.
    pub(super) task: watch::Receiver<SessionTask>,
    /// The engine.
    pub(super) out: mpsc::Sender<Input>,
    /// How it goes, for the manager of the sessions.
    pub(super) reports: mpsc::Sender<Report>,
}

/// How a session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) link: String,
    pub(super) number: u64,
    pub(super) progress: Progress,
}

/// What a session has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A complete listing was handed to the engine.
    Listed,
    /// It cannot read at present.
    Failed(Failure),
}

/// A namespace, or all of them, and how far the watch of its Services has come.
struct Watched {
    scope: Scope,
    versions: Versions,
}

impl Watched {
    fn of(task: &SessionTask) -> Vec<Self> {
        let watched = |scope: Scope| Self { scope, versions: Versions::default() };
        match &task.namespaces {
            Some(namespaces) => namespaces.iter().cloned().map(Some).map(watched).collect(),
            None => vec![watched(None)],
        }
    }
}

/// Where a session is.
enum State {
    /// Asks the remote who it is.
    Connecting,
    /// Lists, then follows.
    Reading(Identity),
    /// Waits before it connects again.
    Waiting(Duration),
}

/// Why reading ended.
#[derive(Debug)]
enum Ended {
    /// The engine does not listen any more.
    Closed,
    /// A new listing was asked for.
    Renewed,
    /// Another cluster answers.
    Replaced,
    /// The remote cannot be read.
    Failed(Failure),
}

impl Session {
    /// Runs until it is dropped, or nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_DELAY, MAX_DELAY);
        let mut state = Some(State::Connecting);
        while let Some(now) = state {
            state = self.step(now, &mut backoff).await;
        }
    }

    async fn step(&mut self, state: State, backoff: &mut Backoff) -> Option<State> {
        let ended = match state {
            State::Connecting => match self.connect().await {
                Ok(identity) => return Some(State::Reading(identity)),
                Err(ended) => ended,
            },
            State::Reading(identity) => self.read(&identity, backoff).await,
            State::Waiting(delay) => {
                tokio::select! {
                    biased;
                    () = sleep(delay) => {}
                    changed = self.task.changed() => changed.ok()?,
                }
                return Some(State::Connecting);
            }
        };
        match ended {
            Ended::Closed => None,
            Ended::Renewed => Some(State::Connecting),
            Ended::Replaced => Some(State::Waiting(backoff.next(None))),
            Ended::Failed(failure) => {
                let delay = backoff.next(failure.retry_after);
                self.fail(failure).await.ok()?;
                Some(State::Waiting(delay))
            }
        }
    }

    async fn connect(&self) -> Result<Identity, Ended> {
        if let Some(at) = self.credentials_expire_at.filter(|at| *at <= self.clock.now()) {
            let expired = CredentialsError::Expired { at };
            return Err(Ended::Failed(Failure::new(expired.reason(), expired.to_string())));
        }
        let identity = Identity::ask(&self.client).await.map_err(Ended::Failed)?;
        self.tell(self.connected(&identity, false)).await?;
        Ok(identity)
    }

    fn connected(&self, identity: &Identity, own_server: bool) -> RemoteEvent {
        RemoteEvent::Connected {
            cluster_uid: identity.uid.clone(),
            server_version: identity.version.clone(),
            credentials_expire_at: self.credentials_expire_at,
            own_server,
        }
    }

    /// Lists and follows until something ends it.
    async fn read(&self, identity: &Identity, backoff: &mut Backoff) -> Ended {
        let task = self.task.borrow().clone();
        let running = AtomicBool::new(false);
        let scopes = Watched::of(&task);
        let (nodes_told, nodes) = watch::channel(false);
        let ended = tokio::select! {
            biased;
            ended = self.renewal(&task) => ended,
            ended = self.heartbeat(identity, &running, &scopes) => ended,
            ended = self.setback(&task) => ended,
            ended = self.follow_nodes(&nodes_told) => ended,
            ended = self.follow(&task, &scopes, identity, &running, nodes, backoff) => ended,
        };
        // A later listing is held against it.
        match self.tell_reached(&scopes).await {
            Ok(()) => ended,
            Err(closed) => closed,
        }
    }

    /// Tells how far the watches have come, where that is news.
    async fn tell_reached(&self, scopes: &[Watched]) -> Result<(), Ended> {
        for Watched { scope, versions } in scopes {
            if let Some(version) = versions.tell_news() {
                self.tell(RemoteEvent::Reached { scope: scope.clone(), version }).await?;
            }
        }
        Ok(())
    }

    /// Ends when something else is to be read than this, nodes apart.
    async fn renewal(&self, task: &SessionTask) -> Ended {
        let differs = |now: &SessionTask| SessionTask { nodes: task.nodes, ..now.clone() } != *task;
        match self.task.clone().wait_for(differs).await {
            Ok(_) => Ended::Renewed,
            Err(_) => Ended::Closed,
        }
    }

    /// Asks who is there on a request of its own: a connection on which nothing comes any more
    /// looks like one on which nothing happens.
    async fn heartbeat(&self, identity: &Identity, running: &AtomicBool, scopes: &[Watched]) -> Ended {
        let mut ticks = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            ticks.tick().await;
            let failure = match timeout(HEARTBEAT, Identity::uid(&self.client)).await {
                Ok(Ok(uid)) if uid != identity.uid => return Ended::Replaced,
                Ok(Ok(_)) => {
                    missed = 0;
                    if let Err(ended) = self.tell_reached(scopes).await {
                        return ended;
                    }
                    if running.load(Ordering::Relaxed)
                        && let Err(ended) = self.tell(RemoteEvent::Alive).await
                    {
                        return ended;
                    }
                    continue;
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(
                    Reason::RemoteUnreachable,
                    format!("the API server does not answer the heartbeat within {} s", HEARTBEAT.as_secs()),
                ),
            };
            missed += 1;
            if missed >= MISSES || failure.is_verdict() {
                return Ended::Failed(failure);
            }
        }
    }

    async fn tell(&self, event: RemoteEvent) -> Result<(), Ended> {
        // Now, not when there is room for it: waiting is part of how long news takes.
        let received = self.clock.now();
        let input = Input::Remote { link: self.link.clone(), session: self.number, received, event };
        self.out.send(input).await.map_err(|_| Ended::Closed)
    }

    async fn report(&self, progress: Progress) -> Result<(), Ended> {
        let report = Report { link: self.link.clone(), number: self.number, progress };
        self.reports.send(report).await.map_err(|_| Ended::Closed)
    }

    /// Says why nothing can be read.
    async fn fail(&self, failure: Failure) -> Result<(), Ended> {
        let (reason, message) = (failure.reason, failure.message.clone());
        tracing::debug!(link = self.link, session = self.number, %reason, message, "not reading");
        self.tell(match reason {
            // It was not dialled, but who is there is known.
            Reason::SelfLink => self.connected(&Identity::own(&self.own), true),
            Reason::CredentialsRejected | Reason::CredentialsExpired => RemoteEvent::Credentials { reason, message },
            _ => RemoteEvent::Lost { reason, message },
        })
        .await?;
        self.report(Progress::Failed(failure)).await
    }
}

#[cfg(test)]
mod tests;
