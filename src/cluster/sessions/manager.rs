//! Which session each link has, and why. One event after the other; nothing here waits for a
//! remote.

use std::{collections::BTreeMap, hash::BuildHasher, hash::RandomState, mem};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Context, OVERLAP};
use crate::{
    api::Reason,
    cluster::{
        credentials::{Credentials, CredentialsError},
        failure::{self, Failure},
        follow::News,
        session::{Progress, Report, Session},
        wire::{SecretData, SecretValue},
    },
    core::io::{Change, Input, RemoteEvent, SessionTask},
};

/// The sessions of all links.
pub(super) struct Manager {
    context: Context,
    reports: mpsc::Sender<Report>,
    secrets: Secrets,
    wanted: BTreeMap<String, SessionTask>,
    slots: BTreeMap<String, Slot>,
    last_number: u64,
    hasher: RandomState,
}

/// What is known of the Secrets in the controller's namespace.
enum Secrets {
    /// Not listed yet.
    Awaited,
    /// Never listed, because of this.
    Unreadable(String),
    /// As last heard.
    Known(BTreeMap<String, SecretData>),
}

/// The sessions of one link.
#[derive(Default)]
struct Slot {
    /// Hash of the link's uid and the credentials: with another one, another session begins.
    ground: Option<u64>,
    link_uid: String,
    current: Option<Running>,
    /// The session before, kept until the current one has listed.
    previous: Option<Running>,
}

/// A session that runs; it ends when this is dropped.
struct Running {
    number: u64,
    started: Instant,
    listed: bool,
    task: watch::Sender<SessionTask>,
    handle: AbortOnDropHandle<()>,
}

/// Why a link has no credentials that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Problem {
    reason: Reason,
    message: String,
}

impl Running {
    /// Ends it; afterwards it says nothing any more.
    async fn end(self) {
        self.handle.abort();
        let _ = self.handle.await;
    }
}

impl Slot {
    async fn end(&mut self) {
        for running in [self.current.take(), self.previous.take()].into_iter().flatten() {
            running.end().await;
        }
    }

    /// A new session; the one before stays beside it if it is any good.
    async fn replace(&mut self, next: Running) {
        let before = self.current.replace(next);
        let superseded = match before {
            Some(before) if before.listed => self.previous.replace(before),
            other => other,
        };
        if let Some(superseded) = superseded {
            superseded.end().await;
        }
    }
}

impl Manager {
    pub(super) fn new(context: Context, reports: mpsc::Sender<Report>) -> Self {
        Self {
            context,
            reports,
            secrets: Secrets::Awaited,
            wanted: BTreeMap::new(),
            slots: BTreeMap::new(),
            last_number: 0,
            hasher: RandomState::new(),
        }
    }

    /// These are all the sessions there should be.
    pub(super) async fn want(&mut self, wanted: BTreeMap<String, SessionTask>) {
        let before = mem::replace(&mut self.wanted, wanted);
        let gone = before.keys().filter(|link| !self.wanted.contains_key(*link));
        for link in gone.cloned().collect::<Vec<_>>() {
            if let Some(mut slot) = self.slots.remove(&link) {
                slot.end().await;
            }
        }
        let changed = self.wanted.iter().filter(|(link, task)| before.get(*link) != Some(*task));
        for link in changed.map(|(link, _)| link.clone()).collect::<Vec<_>>() {
            self.reconcile(&link).await;
        }
    }

    pub(super) async fn on_secret(&mut self, news: News<String, SecretData>) {
        let concerned = match news {
            News::Change(Change::All(all)) => {
                self.secrets = Secrets::Known(all);
                None
            }
            News::Change(Change::Set(name, data)) => {
                if let Secrets::Known(secrets) = &mut self.secrets {
                    secrets.insert(name.clone(), data);
                }
                Some(name)
            }
            News::Change(Change::Gone(name)) => {
                if let Secrets::Known(secrets) = &mut self.secrets {
                    secrets.remove(&name);
                }
                Some(name)
            }
            News::Unreadable(..) => return,
            News::Failed(error) => {
                let said = failure::said(&error);
                tracing::warn!(namespace = self.context.namespace, "Secrets cannot be read: {said}");
                // What was known stays; only a start without any knowledge is told.
                if matches!(self.secrets, Secrets::Known(_)) {
                    return;
                }
                self.secrets = Secrets::Unreadable(said);
                None
            }
        };
        let of_it = |task: &SessionTask| concerned.as_ref().is_none_or(|name| task.secret == *name);
        let links: Vec<String> =
            self.wanted.iter().filter(|(_, task)| of_it(task)).map(|(link, _)| link.clone()).collect();
        for link in links {
            self.reconcile(&link).await;
        }
    }

    pub(super) async fn on_report(&mut self, report: Report) {
        let Some(slot) = self.slots.get_mut(&report.link) else { return };
        let Some(current) = slot.current.as_mut().filter(|current| current.number == report.number) else { return };
        match report.progress {
            Progress::Listed => {
                current.listed = true;
                if let Some(previous) = slot.previous.take() {
                    previous.end().await;
                }
            }
            Progress::Failed(failure) if failure.is_verdict() || current.started.elapsed() > OVERLAP => {
                if let Some(previous) = slot.previous.take() {
                    let number = previous.number;
                    previous.end().await;
                    // The engine hears a new session out only once the old one is lost.
                    self.tell(&report.link, number, lost(failure)).await;
                }
            }
            Progress::Failed(_) => {}
        }
    }

    async fn reconcile(&mut self, link: &str) {
        let Some(task) = self.wanted.get(link).cloned() else { return };
        let Some(found) = self.find(&task) else { return };
        let ground = self.hasher.hash_one((&task.link_uid, &found));
        let slot = self.slots.entry(link.to_owned()).or_default();
        if slot.ground == Some(ground) {
            if let Some(current) = &slot.current {
                current.task.send_replace(task);
            }
            return;
        }
        if slot.link_uid != task.link_uid {
            slot.end().await;
            slot.link_uid = task.link_uid.clone();
        }
        slot.ground = Some(ground);
        self.last_number += 1;
        let number = self.last_number;
        match found.and_then(|bytes| self.start(link, number, task, &bytes)) {
            Ok(running) => {
                if let Some(slot) = self.slots.get_mut(link) {
                    slot.replace(running).await;
                }
            }
            Err(Problem { reason, message }) => {
                if let Some(slot) = self.slots.get_mut(link) {
                    slot.end().await;
                }
                self.tell(link, number, RemoteEvent::Credentials { reason, message }).await;
            }
        }
    }

    /// The kubeconfig of a link, or why there is none; nothing while that is not known yet.
    fn find(&self, task: &SessionTask) -> Option<Result<Vec<u8>, Problem>> {
        let SessionTask { secret, key, .. } = task;
        let namespace = &self.context.namespace;
        let not_found = |message: String| Some(Err(Problem { reason: Reason::CredentialsNotFound, message }));
        let secrets = match &self.secrets {
            Secrets::Awaited => return None,
            Secrets::Unreadable(why) => {
                return not_found(format!(
                    "Secrets of namespace {namespace} cannot be read: {why}; apply the shipped Role"
                ));
            }
            Secrets::Known(secrets) => secrets,
        };
        let Some(data) = secrets.get(secret) else {
            return not_found(format!("Secret {namespace}/{secret} is not there; heliostat link prints it"));
        };
        match data.get(key) {
            Some(SecretValue::Bytes(bytes)) if !bytes.is_empty() => Some(Ok(bytes.clone())),
            Some(SecretValue::TooLarge(size)) => {
                Some(Err(rejected(task, namespace, &CredentialsError::TooLarge { bytes: *size })))
            }
            _ => not_found(format!(
                "Secret {namespace}/{secret} has nothing under key {key:?}; put the kubeconfig there: heliostat link prints it"
            )),
        }
    }

    fn start(&self, link: &str, number: u64, task: SessionTask, kubeconfig: &[u8]) -> Result<Running, Problem> {
        let context = &self.context;
        let reject = |error: &CredentialsError| rejected(&task, &context.namespace, error);
        let credentials = Credentials::parse(kubeconfig).map_err(|error| reject(&error))?;
        credentials.check_expiry(context.clock.now()).map_err(|error| reject(&error))?;
        let client = (context.connect)(&credentials, &context.own).map_err(|error| Problem {
            reason: Reason::CredentialsRejected,
            message: format!("clusters[0].cluster.server of the kubeconfig makes no URL: {error}"),
        })?;
        let (task, tasks) = watch::channel(task);
        let session = Session {
            link: link.to_owned(),
            number,
            client,
            credentials_expire_at: credentials.expires_at,
            own: context.own.clone(),
            clock: context.clock.clone(),
            task: tasks,
            out: context.out.clone(),
            reports: self.reports.clone(),
        };
        tracing::debug!(link, session = number, "starting");
        let handle = AbortOnDropHandle::new(tokio::spawn(session.run()));
        Ok(Running { number, started: Instant::now(), listed: false, task, handle })
    }

    async fn tell(&self, link: &str, session: u64, event: RemoteEvent) {
        let received = self.context.clock.now();
        let input = Input::Remote { link: link.to_owned(), session, received, event };
        // The engine only stops listening at shutdown.
        let _ = self.context.out.send(input).await;
    }
}

fn rejected(task: &SessionTask, namespace: &str, error: &CredentialsError) -> Problem {
    let SessionTask { secret, key, .. } = task;
    Problem { reason: error.reason(), message: format!("Secret {namespace}/{secret}, key {key:?}: {error}") }
}

fn lost(failure: Failure) -> RemoteEvent {
    RemoteEvent::Lost { reason: failure.reason, message: failure.message }
}
