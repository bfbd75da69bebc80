//! The sessions of all links: starts, replaces and ends them as links and Secrets change.
//!
//! A changed Secret is heard of at once, by a watch. Good credentials begin a new session beside
//! the old one, which goes when the new one has listed (no gap in what is known), when the new one
//! is turned away, or when it has failed for [`OVERLAP`]. Credentials that are gone or cannot be
//! used end the session at once: what was withdrawn is not used any more.

mod manager;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{Api, Client, runtime::watcher::Config};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::manager::Manager;
use super::{
    client::link_client,
    credentials::Credentials,
    dns::{Lookup, SystemLookup},
    follow::{Audience, News, Read, follow},
    own::OwnCluster,
    wire::{SecretData, Wire},
};
use crate::{
    clock::Clock,
    core::io::{Input, SessionTask},
};

/// How long an old session stays beside a new one that fails for reasons that may pass.
const OVERLAP: Duration = Duration::from_secs(60);
/// How often this cluster's own API server is asked where it is, and how soon again on failure.
const OWN_REFRESH: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(5));
/// Secrets that hold no kubeconfig and may be large are not read.
const SECRETS: &str = "type!=helm.sh/release.v1";

/// Makes hardened clients, which find servers by the system's nameservers.
#[must_use]
pub fn system_connect() -> Connect {
    let lookup: Arc<dyn Lookup> = Arc::new(SystemLookup::default());
    Arc::new(move |credentials, own| link_client(credentials, own, lookup.clone()))
}

/// The sessions of all links. `apply` says what is wanted, `run` sees to it.
pub struct Sessions {
    wanted: watch::Sender<BTreeMap<String, SessionTask>>,
    context: Context,
}

/// What every session is made with.
#[derive(Clone)]
struct Context {
    client: Client,
    namespace: String,
    out: mpsc::Sender<Input>,
    own: OwnCluster,
    connect: Connect,
    clock: Clock,
}

/// Makes the client of a link. Tests have one of their own.
pub type Connect = Arc<dyn Fn(&Credentials, &OwnCluster) -> Result<Client, http::Error> + Send + Sync>;

impl Sessions {
    /// Sessions whose credentials are Secrets of `namespace`, read with `client`, and whose news
    /// goes to `out`. Nothing runs yet.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: impl Into<String>,
        out: mpsc::Sender<Input>,
        connect: Connect,
        clock: Clock,
    ) -> Self {
        let (namespace, own) = (namespace.into(), OwnCluster::default());
        let context = Context { client, namespace, out, own, connect, clock };
        Self { wanted: watch::Sender::default(), context }
    }

    /// What the session of a link is to do from now on; none: it ends. Never waits.
    pub fn apply(&self, link: String, task: Option<SessionTask>) {
        self.wanted.send_if_modified(|wanted| match task {
            Some(task) => wanted.insert(link, task.clone()).as_ref() != Some(&task),
            None => wanted.remove(&link).is_some(),
        });
    }

    /// Runs the sessions until `shutdown`; they have ended when this returns.
    pub async fn run(&self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.run_for_ever()).await;
    }

    async fn run_for_ever(&self) {
        // No link is dialled before it is known where none must lead.
        while !self.refresh_own().await {
            sleep(OWN_REFRESH.1).await;
        }
        let (told, secrets) = mpsc::channel(16);
        let api: Api<Wire<SecretData>> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let read: Read<Wire<SecretData>, String, SecretData> =
            |wire| wire.into_named().map(|(name, data)| (name, Ok(data)));
        tokio::join!(
            self.manage(secrets),
            follow(api, Config::default().fields(SECRETS), read, Forward(told)),
            self.keep_own_fresh(),
        );
    }

    async fn manage(&self, mut secrets: mpsc::Receiver<News<String, SecretData>>) {
        let (reports, mut reported) = mpsc::channel(64);
        let mut manager = Manager::new(self.context.clone(), reports);
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = wanted.changed() => match changed {
                    Ok(()) => {
                        let wanted = wanted.borrow_and_update().clone();
                        manager.want(wanted).await;
                    }
                    Err(_) => return,
                },
                Some(news) = secrets.recv() => manager.on_secret(news).await,
                Some(report) = reported.recv() => manager.on_report(report).await,
            }
        }
    }

    async fn keep_own_fresh(&self) {
        loop {
            sleep(OWN_REFRESH.0).await;
            self.refresh_own().await;
        }
    }

    async fn refresh_own(&self) -> bool {
        let refreshed = self.context.own.refresh(&self.context.client).await;
        if let Err(error) = &refreshed {
            tracing::warn!("this cluster's own API server cannot be asked where it is: {error}");
        }
        refreshed.is_ok()
    }
}

/// Hands news of Secrets to the manager.
struct Forward(mpsc::Sender<News<String, SecretData>>);

impl Audience<String, SecretData> for Forward {
    async fn hear(&mut self, news: News<String, SecretData>) {
        // The manager only stops listening at shutdown.
        let _ = self.0.send(news).await;
    }
}

#[cfg(test)]
mod tests;
