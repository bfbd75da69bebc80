//! Leader election by a `coordination.k8s.io` Lease: one replica writes, the others watch.
//!
//! As client-go does it: whether somebody else's Lease has run out is judged by how long *this*
//! replica has seen it unchanged, on its own monotonic clock; no clocks are compared. A leader
//! stops writing [`RENEW_WITHIN`] after it last *asked* for a renewal that succeeded, which is
//! before any other replica may take over; also when it was frozen meanwhile, since every write
//! looks at the clock. Never takes a Lease by anything but a conditional write.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::Client;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    call::{call, failure},
    render::{Rendered, Verb},
};
use crate::core::io::{WriteError, WriteFailure};

/// What is said when the Lease cannot be read or written.
const NO_ELECTION: &str = "leader election does not work, so this replica cannot lead; check its \
    rights on leases of coordination.k8s.io in its namespace, and that the namespace exists";
/// The resource, as RBAC spells it.
const LEASES: &str = "leases";
/// Name of the Lease, in the controller's namespace.
const NAME: &str = "heliostat";
/// After this long without a renewal, another replica may take over.
pub(crate) const DURATION: Duration = Duration::from_secs(15);
/// After this long without a renewal, the leader stops writing.
pub(crate) const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at the Lease, and two renewals.
const PERIOD: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether this replica may write. Cheap to clone; all clones tell the same.
#[derive(Clone, Debug)]
pub struct Leadership(Option<watch::Receiver<Option<Instant>>>);

impl Leadership {
    /// Of a controller that is alone.
    #[must_use]
    pub const fn always() -> Self {
        Self(None)
    }

    /// As the sender says: until then, or not at all.
    pub(super) const fn until(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(Some(until))
    }

    /// For how long this replica may write from now on without asking again; none: not at all.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let Some(until) = &self.0 else {
            return Some(Duration::MAX);
        };
        let left = (*until.borrow())?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Waits until this replica may write; for ever, should the election have ended.
    pub async fn acquired(&self) {
        let Some(mut until) = self.0.clone() else {
            return;
        };
        while self.remaining().is_none() {
            if until.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Takes part in the election.
pub struct Elector {
    client: Client,
    path: String,
    identity: String,
    until: watch::Sender<Option<Instant>>,
    seen: Option<Seen>,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Elector");
        out.field("path", &self.path).field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The Lease, and since when it has been like this.
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Seen {
    fn holder(&self) -> &str {
        let spec = self.lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    /// Nobody holds it, or whoever does has not renewed it for as long as it is good.
    fn is_free(&self) -> bool {
        let spec = self.lease.spec.as_ref();
        let good_for = spec
            .and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok())
            .map_or(DURATION, Duration::from_secs);
        self.holder().is_empty() || self.since.elapsed() >= good_for
    }

    fn transitions(&self) -> i32 {
        let spec = self.lease.spec.as_ref();
        spec.and_then(|spec| spec.lease_transitions).unwrap_or_default()
    }
}

impl Elector {
    /// A candidate for the Lease in the controller's `namespace`. Its name there is `host` and a
    /// random part, so that a restart is somebody new.
    #[must_use]
    pub fn new(client: Client, namespace: &str, host: &str) -> (Self, Leadership) {
        let (until, leadership) = watch::channel(None);
        let random = RandomState::new().build_hasher().finish();
        let elector = Self {
            client,
            path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            identity: format!("{host}_{random:016x}"),
            until,
            seen: None,
        };
        (elector, Leadership::until(leadership))
    }

    /// Takes part until `shutdown`. The Lease then still is this replica's, so that what is under
    /// way can end; [`Elector::release`] gives it away.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        tracing::info!(identity = self.identity, "taking part in leader election");
        let mut failing = false;
        loop {
            match self.round().await {
                Ok(()) => failing = false,
                Err(error) if failing => tracing::debug!(error.message, "{NO_ELECTION}"),
                Err(error) => {
                    tracing::warn!(error.message, path = self.path, "{NO_ELECTION}");
                    failing = true;
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Gives the Lease away, if it is this replica's, so that another one need not wait.
    pub async fn release(mut self) {
        self.until.send_replace(None);
        let Some(seen) = self.seen.take() else { return };
        if seen.holder() == self.identity {
            // As client-go leaves it: no holder, and good for the shortest time there is.
            let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1});
            if let Err(error) = self.patch(&seen.lease, spec).await {
                tracing::debug!(error.message, "the Lease was not released; it will run out");
            }
        }
    }

    /// One look at the Lease: make, renew or take it, or wait.
    async fn round(&mut self) -> Result<(), WriteError> {
        let asked = Instant::now();
        self.look().await?;
        let answer = match &self.seen {
            None => self.create().await,
            Some(seen) if seen.holder() == self.identity => self.renew(seen).await,
            Some(seen) if seen.is_free() => self.take(seen).await,
            Some(seen) => {
                if self.until.send_replace(None).is_some() {
                    let leader = seen.holder();
                    tracing::warn!(leader, "another replica leads now; this one only watches");
                }
                return Ok(());
            }
        };
        match answer {
            Ok(lease) => {
                self.observe(lease);
                let until = self.until.send_replace(Some(asked + RENEW_WITHIN));
                if until.is_none() {
                    tracing::info!(identity = self.identity, "this replica leads");
                }
                Ok(())
            }
            // Somebody was faster; the next look tells who. What is held stays held until its
            // time is over.
            Err(error) if is_lost_race(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Finds out what the Lease says now.
    async fn look(&mut self) -> Result<(), WriteError> {
        let request = http::Request::get(self.object_path()).body(Vec::new());
        match call(&self.client, request, DEADLINE).await {
            Ok(body) => self.observe(parse(&body)?),
            Err(error) if error.kind == WriteFailure::NotFound => self.seen = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Remembers the Lease; its time starts anew when it says something else.
    fn observe(&mut self, lease: Lease) {
        let same = self.seen.take().filter(|seen| seen.lease.spec == lease.spec);
        let since = same.map_or_else(Instant::now, |seen| seen.since);
        self.seen = Some(Seen { lease, since });
    }

    async fn create(&self) -> Result<Lease, WriteError> {
        let create = Rendered {
            verb: Verb::Create,
            resource: LEASES,
            path: self.path.clone(),
            body: json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME},
                "spec": self.claim(0),
            }),
        };
        parse(&call(&self.client, create.request(), DEADLINE).await?)
    }

    async fn renew(&self, seen: &Seen) -> Result<Lease, WriteError> {
        self.patch(&seen.lease, json!({"renewTime": now()})).await
    }

    async fn take(&self, seen: &Seen) -> Result<Lease, WriteError> {
        let claim = self.claim(seen.transitions().saturating_add(1));
        self.patch(&seen.lease, claim).await
    }

    fn claim(&self, transitions: i32) -> Value {
        let now = now();
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        })
    }

    /// Changes the Lease, if it is still as it was seen.
    async fn patch(&self, seen: &Lease, spec: Value) -> Result<Lease, WriteError> {
        let patch = Rendered {
            verb: Verb::Patch,
            resource: LEASES,
            path: self.object_path(),
            body: json!({
                "metadata": {
                    "uid": seen.metadata.uid,
                    "resourceVersion": seen.metadata.resource_version,
                },
                "spec": spec,
            }),
        };
        parse(&call(&self.client, patch.request(), DEADLINE).await?)
    }

    fn object_path(&self) -> String {
        format!("{}/{NAME}", self.path)
    }
}

const fn is_lost_race(error: &WriteError) -> bool {
    matches!(error.kind, WriteFailure::AlreadyExists | WriteFailure::Conflict | WriteFailure::NotFound)
}

fn parse(body: &[u8]) -> Result<Lease, WriteError> {
    serde_json::from_slice(body).map_err(|_| {
        let message = "the API server's answer is no Lease";
        failure(WriteFailure::Transient, message)
    })
}

/// The time that users read in the Lease; nothing is decided by it.
fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

#[cfg(test)]
mod tests;
