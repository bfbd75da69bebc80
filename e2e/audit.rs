//! The clusters' audit logs: which requests the controllers really made.

use std::time::Duration;

use serde_json::Value;

use crate::{
    audit_log::{Place, line},
    rig,
};

/// The controller's account.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:heliostat-system:heliostat";

/// A place in the log.
pub(crate) struct Mark(Place);

impl Mark {
    /// The end of west's log as it is now.
    pub(crate) fn now() -> Self {
        Self::of("west")
    }

    /// The end of a cluster's log as it is now.
    pub(crate) fn of(cluster: &str) -> Self {
        Self(Place::end_of(rig::file(cluster, "audit.log")).unwrap())
    }

    /// What the controller has written since: `verb resource namespace/name code`, in order. Lines
    /// are written when a request is over, so this first waits for those on their way. The Lease of
    /// leader election is left out.
    pub(crate) async fn writes(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.0.writes_by(CONTROLLER, |write| line(&write)).unwrap()
    }

    /// The same, only of the replica whose pod has that address.
    pub(crate) async fn writes_from(&self, address: &str) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let from_there = |write: Value| (write["sourceIPs"][0] == address).then(|| line(&write));
        self.0.writes_by(CONTROLLER, from_there).unwrap().into_iter().flatten().collect()
    }

    /// The same, only of one namespace.
    pub(crate) async fn writes_in(&self, namespace: &str) -> Vec<String> {
        let place = format!(" {namespace}/");
        self.writes().await.into_iter().filter(|write| write.contains(&place)).collect()
    }
}
