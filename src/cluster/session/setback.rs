//! Notices that a remote is older than it was: its API server came back with a restored backup.
//!
//! Nothing else tells. It is the same cluster by its uid, and a watch that goes on from a version
//! which is not reached yet is answered with silence, not with an error. Concludes nothing itself.

use std::time::Duration;

use kube::{Api, api::ListParams};
use tokio::time::{sleep, timeout};

use super::{Ended, Session};
use crate::{cluster::wire::OriginWire, core::io::SessionTask};

/// Between two looks. A backup is older than what a cluster writes in this time.
const LOOK: Duration = Duration::from_secs(15);
/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl Session {
    /// Ends when the remote's version is lower than it was.
    pub(super) async fn setback(&self, task: &SessionTask) -> Ended {
        let mut highest = 0;
        loop {
            sleep(LOOK).await;
            // Whoever lists and follows tells why there is no answer.
            let Some(version) = self.version(task).await else { continue };
            if version < highest {
                tracing::warn!(link = self.link, version, highest, "the remote went back to an earlier state");
                return Ended::Renewed;
            }
            highest = version;
        }
    }

    /// The version that the remote has reached.
    async fn version(&self, task: &SessionTask) -> Option<u64> {
        let api: Api<OriginWire> = match task.namespaces.as_deref().map(|all| all.first()) {
            Some(Some(namespace)) => Api::namespaced(self.client.clone(), namespace),
            Some(None) => return None,
            None => Api::all(self.client.clone()),
        };
        let one = ListParams { label_selector: task.selector.clone(), ..ListParams::default().limit(1) };
        let list = timeout(DEADLINE, api.list(&one)).await.ok()?.ok()?;
        list.metadata.resource_version?.parse().ok()
    }
}
