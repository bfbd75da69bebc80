//! Notices that an API server is older than it was: it came back with a restored backup.
//!
//! Nothing else tells. It is the same cluster by its uid, and a watch that goes on from a version
//! which is not reached yet is answered with silence, not with an error.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// Between two looks. A backup is older than what a cluster writes in this time.
pub(super) const LOOK: Duration = Duration::from_secs(15);
/// How long a look may take: a slow server is looked at too.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The highest version of a server that was seen.
#[derive(Debug, Default)]
pub(super) struct Highest(u64);

impl Highest {
    /// Whether the server is older than it was. A look that failed tells nothing.
    pub(super) fn exceeds(&mut self, seen: Option<&str>) -> bool {
        let Some(version) = seen.and_then(|version| version.parse().ok()) else { return false };
        let exceeds = version < self.0;
        self.0 = self.0.max(version);
        exceeds
    }
}

/// Ends when this cluster's API server is older than it was.
pub async fn own_server_set_back(client: &Client) {
    let mut highest = Highest::default();
    while !highest.exceeds(own_version(client).await.as_deref()) {
        sleep(LOOK).await;
    }
}

async fn own_version(client: &Client) -> Option<String> {
    let request = Request::get("/api/v1/namespaces?limit=1").body(Vec::new()).ok()?;
    let list: Value = timeout(DEADLINE, client.request(request)).await.ok()?.ok()?;
    list["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l08_only_a_lower_number_is_a_setback() {
        let mut highest = Highest::default();
        for seen in [None, Some("7"), Some("7"), Some("9"), None, Some("other"), Some("")] {
            assert!(!highest.exceeds(seen), "{seen:?}");
        }
        assert!(highest.exceeds(Some("8")));
    }
}
