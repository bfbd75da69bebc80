//! West's audit log: which requests the controller really made.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use crate::rig;

/// The controller's account.
const CONTROLLER: &str = "system:serviceaccount:heliostat-system:heliostat";

/// A place in the log.
pub(crate) struct Mark {
    path: PathBuf,
    offset: u64,
}

impl Mark {
    /// The end of the log as it is now.
    pub(crate) fn now() -> Self {
        let path = rig::file("west", "audit.log");
        let offset = std::fs::metadata(&path).unwrap().len();
        Self { path, offset }
    }

    /// What the controller has written since: `verb resource namespace/name code`, in order. Lines
    /// are written when a request is over, so this first waits for those on their way. The Lease of
    /// leader election is left out.
    pub(crate) async fn writes(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(|event| write(&event)).collect()
    }

    /// The same, only of one namespace.
    pub(crate) async fn writes_in(&self, namespace: &str) -> Vec<String> {
        let place = format!(" {namespace}/");
        self.writes().await.into_iter().filter(|write| write.contains(&place)).collect()
    }
}

fn write(event: &Value) -> Option<String> {
    let verb = event["verb"].as_str()?;
    let at = &event["objectRef"];
    let ours = event["user"]["username"] == CONTROLLER && event["stage"] == "ResponseComplete";
    let reading = ["get", "list", "watch"].contains(&verb);
    if !ours || reading || at["resource"] == "leases" {
        return None;
    }
    let text = |field: &str| at[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        sub => format!("{}/{sub}", text("resource")),
    };
    Some(format!("{verb} {resource} {}/{} {}", text("namespace"), text("name"), event["responseStatus"]["code"]))
}
