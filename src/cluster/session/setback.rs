//! Begins anew when the remote is older than it was. Concludes nothing itself.

use kube::{Api, api::ListParams};
use tokio::time::{sleep, timeout};

use super::{Ended, Session};
use crate::{
    cluster::{
        version::{DEADLINE, Highest, LOOK},
        wire::OriginWire,
    },
    core::io::SessionTask,
};

impl Session {
    /// Ends when the remote's version is lower than it was.
    pub(super) async fn setback(&self, task: &SessionTask) -> Ended {
        let mut highest = Highest::default();
        // Whoever lists and follows tells why there is no answer. The first look is at what is about to be listed.
        while !highest.exceeds(self.version(task).await.as_deref()) {
            sleep(LOOK).await;
        }
        tracing::warn!(link = self.link, "the remote went back to an earlier state; it is listed anew");
        Ended::Renewed
    }

    /// The version that the remote has reached, by the rights that every link has.
    async fn version(&self, task: &SessionTask) -> Option<String> {
        let api: Api<OriginWire> = match &task.namespaces {
            Some(namespaces) => Api::namespaced(self.client.clone(), namespaces.first()?),
            None => Api::all(self.client.clone()),
        };
        let one = ListParams { label_selector: task.selector.clone(), ..ListParams::default().limit(1) };
        let list = timeout(DEADLINE, api.list(&one)).await.ok()?.ok()?;
        list.metadata.resource_version
    }
}
