//! Carries out writes: each once, all at the same time, each with a deadline, and every one is
//! answered. Never retries, orders or drops one: how many are under way, and what follows from a
//! failure, the deciding side knows.

use std::{sync::Arc, time::Duration};

use kube::Client;
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    call::{call, failure},
    lease::Leadership,
    render::{Rendered, Verb, render},
};
use crate::{
    cluster::wire::{LocalServiceWire, LocalSliceWire, ObjectWire},
    core::io::{Input, Write, WriteError, WriteFailure, WriteId, WriteOp, Written},
    metrics::Metrics,
};

/// Longest wait for the answer to a write.
const DEADLINE: Duration = Duration::from_secs(10);

/// See the file's description.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    under_way: JoinSet<Input>,
}

struct Shared {
    client: Client,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    /// Held by the first of the writes that wait for leadership: they wait in the order of their decision.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that writes through `client` while `leadership` lasts. After `shutdown`, writes
    /// that have not been sent are not.
    #[must_use]
    pub fn new(client: Client, leadership: Leadership, metrics: Arc<Metrics>, shutdown: CancellationToken) -> Self {
        let shared = Shared { client, leadership, metrics, shutdown, turn: Mutex::default() };
        Self { shared: Arc::new(shared), under_way: JoinSet::new() }
    }

    /// Begins a write; [`Writer::answered`] gives the answer.
    pub fn begin(&mut self, write: Write) {
        let shared = Arc::clone(&self.shared);
        self.under_way.spawn(async move {
            let Write { id, op } = write;
            let result = shared.write(id, &op).await;
            Input::Written { id, result }
        });
    }

    /// The next answer; waits for ever while nothing is under way. Cancel safe.
    pub async fn answered(&mut self) -> Input {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) => tracing::error!(%error, "a write ended without an answer"),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for the answers to what has been sent, at most `grace`.
    pub async fn drain(mut self, grace: Duration) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("stopped with writes unanswered; the next start finds out how they went");
        }
    }
}

impl Shared {
    async fn write(&self, id: WriteId, op: &WriteOp) -> Result<Written, WriteError> {
        let Some(left) = self.leadership.remaining() else {
            return Err(self.wait_for_leadership().await);
        };
        if self.shutdown.is_cancelled() {
            return Err(failure(WriteFailure::Transient, "the controller is stopping"));
        }
        let rendered = render(op);
        let sent = Instant::now();
        // A write whose answer is awaited no longer than leadership lasts cannot surprise the
        // next leader: the client gives up what it cannot deliver. If it is carried out after that, its
        // preconditions still hold it.
        let answer = call(&self.client, rendered.request(), left.min(DEADLINE)).await;
        let result = answer.map_or_else(|error| gone_is_deleted(op, error), |body| read(op, &body));
        self.report(id, &rendered, &result, sent.elapsed());
        result
    }

    /// What was decided while another replica wrote is not carried out later: it is answered as a
    /// conflict once this replica leads, so that it is decided again.
    async fn wait_for_leadership(&self) -> WriteError {
        tokio::select! {
            biased;
            () = self.turn_to_write() => {}
            () = self.shutdown.cancelled() => {}
        }
        failure(WriteFailure::Conflict, "decided while another replica was the leader")
    }

    async fn turn_to_write(&self) {
        let _turn = self.turn.lock().await;
        self.leadership.acquired().await;
    }

    fn report(&self, id: WriteId, rendered: &Rendered, result: &Result<Written, WriteError>, took: Duration) {
        let Rendered { verb, resource, path, .. } = rendered;
        let counted = result.as_ref().map(|_| ()).map_err(|error| error.kind);
        self.metrics.wrote(resource, verb.as_str(), counted, took);
        let (id, verb) = (id.0, verb.as_str());
        match result {
            Ok(_) => tracing::debug!(id, verb, path, ?took, "written"),
            Err(WriteError { kind, message, .. }) if is_routine(*kind) => {
                tracing::debug!(id, verb, path, ?kind, message, "not written");
            }
            Err(WriteError { kind, message, .. }) => {
                tracing::warn!(id, verb, path, ?kind, message, "not written");
            }
        }
    }
}

/// Failures that only mean that the cluster moved on; they are decided again.
const fn is_routine(kind: WriteFailure) -> bool {
    matches!(kind, WriteFailure::Conflict | WriteFailure::NotFound)
}

/// What was to be deleted and is not there has been deleted.
fn gone_is_deleted(op: &WriteOp, error: WriteError) -> Result<Written, WriteError> {
    if error.kind == WriteFailure::NotFound && render(op).verb == Verb::Delete {
        Ok(Written::Deleted)
    } else {
        Err(error)
    }
}

/// The answer to a write that succeeded.
fn read(op: &WriteOp, body: &[u8]) -> Result<Written, WriteError> {
    match op {
        WriteOp::CreateService(..) | WriteOp::PatchService(..) | WriteOp::PatchServiceConditions(..) => {
            parse::<LocalServiceWire>(body)?
                .into_model()
                .map(|(_, service)| Written::Service(service))
                .ok_or_else(not_understood)
        }
        WriteOp::CreateSlice(..) | WriteOp::PatchSlice(..) => parse::<LocalSliceWire>(body)?
            .into_model()
            .map(|(_, slice)| Written::Slice(slice))
            .ok_or_else(not_understood),
        WriteOp::CreateObject(..) | WriteOp::PatchObject(..) => parse::<ObjectWire>(body)?
            .into_keyed()
            .map(|(_, object)| Written::Object(Box::new(object)))
            .ok_or_else(not_understood),
        WriteOp::DeleteService(..) | WriteOp::DeleteSlice(..) | WriteOp::DeleteObject(..) => Ok(Written::Deleted),
        WriteOp::LinkStatus(..) | WriteOp::PolicyStatus(..) | WriteOp::BindingStatus(..) => {
            let object: serde_json::Value = parse(body)?;
            let version = object["metadata"]["resourceVersion"].as_str();
            version.map(|version| Written::Status(version.to_owned())).ok_or_else(not_understood)
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, WriteError> {
    serde_json::from_slice(body).map_err(|_| not_understood())
}

fn not_understood() -> WriteError {
    failure(
        WriteFailure::Transient,
        "this cluster's API server accepted the write, but its answer cannot be understood",
    )
}

#[cfg(test)]
mod tests;
