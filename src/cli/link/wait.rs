//! Waits until a link works, and tells what it is waiting for.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use tokio::time::Instant;

use crate::{
    api::{ClusterLink, ConditionType, link::ClusterLinkStatus},
    cli::{connect::Cluster, output::Progress},
};

/// How long a running controller may take to notice a new link; it holds a watch, so this is
/// generous.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(300);

/// How far a link is.
#[derive(Debug, PartialEq, Eq)]
enum Progressed {
    /// No controller has looked at this generation yet.
    Unseen,
    /// It works; what it sees.
    Ready(String),
    /// It is not there yet; why.
    NotYet(String),
    /// It will not get there by itself; why.
    Stuck(String),
}

/// How the wait ended, where that is no failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The link is Ready; what it sees.
    Ready(String),
    /// No controller has taken it up.
    NoController,
    /// Nobody waited.
    NotAwaited,
}

/// Waits for `Ready=True` at the link's present generation.
///
/// # Errors
/// The controller says that a human must act, or time has run out; with the condition's message.
pub(super) async fn until_ready(
    importer: &Cluster,
    name: &str,
    timeout: Duration,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let links: Api<ClusterLink> = Api::all(importer.client.clone());
    let start = Instant::now();
    loop {
        let link = links.get(name).await.map_err(|e| importer.failed(&format!("read ClusterLink {name}"), e))?;
        let waited = start.elapsed();
        let waiting_for = match judge(&link) {
            Progressed::Ready(seen) => return Ok(Outcome::Ready(seen)),
            Progressed::Stuck(why) => {
                bail!("link {name} was made, but it cannot work as it is: {why}")
            }
            Progressed::Unseen if waited >= NOTICE_TIMEOUT.min(timeout) => {
                return Ok(Outcome::NoController);
            }
            Progressed::Unseen => "the controller to notice it".to_owned(),
            Progressed::NotYet(why) if waited >= timeout => {
                bail!("link {name} was made and stays, but it was not Ready within {} s: {why}", timeout.as_secs())
            }
            Progressed::NotYet(why) => why,
        };
        progress.wait(&format!("link {name}: waiting for {waiting_for}"));
        tokio::time::sleep(PERIOD).await;
    }
}

/// What a link's status says.
fn judge(link: &ClusterLink) -> Progressed {
    let Some(status) = &link.status else {
        return Progressed::Unseen;
    };
    if status.observed_generation != link.metadata.generation {
        return Progressed::Unseen;
    }
    if let Some(stalled) = condition(status, ConditionType::Stalled).filter(|c| c.status == "True") {
        return Progressed::Stuck(told(stalled));
    }
    if condition(status, ConditionType::Ready).is_some_and(|c| c.status == "True") {
        let seen = status.services.unwrap_or_default().seen;
        return Progressed::Ready(format!("{seen} services seen"));
    }
    let telling = [
        ConditionType::Accepted,
        ConditionType::CredentialsValid,
        ConditionType::Connected,
        ConditionType::Synced,
        ConditionType::Ready,
    ];
    let first = telling.into_iter().filter_map(|kind| condition(status, kind)).find(|c| c.status != "True");
    Progressed::NotYet(first.map_or_else(|| "its first conditions".to_owned(), told))
}

fn condition(status: &ClusterLinkStatus, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// A condition in words.
fn told(condition: &Condition) -> String {
    format!("{}={} ({}): {}", condition.type_, condition.status, condition.reason, condition.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn link(generation: i64, observed: i64, conditions: &[(&str, &str)]) -> ClusterLink {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status)| {
                json!({
                    "type": kind, "status": status, "reason": "Because", "message": "words",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            })
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "heliostat.dev/v1alpha1",
            "kind": "ClusterLink",
            "metadata": {"name": "east", "generation": generation},
            "spec": {"kubeconfigSecretRef": {"name": "s"}},
            "status": {"observedGeneration": observed, "conditions": conditions, "services": {"seen": 3}},
        }))
        .unwrap()
    }

    #[test]
    fn an_older_generations_status_says_nothing() {
        assert_eq!(judge(&link(1, -1, &[])), Progressed::Unseen);
        assert_eq!(judge(&link(2, 1, &[("Ready", "True")])), Progressed::Unseen);
    }

    #[test]
    fn ready_is_ready_and_stalled_is_final() {
        assert_eq!(judge(&link(2, 2, &[("Ready", "True")])), Progressed::Ready("3 services seen".to_owned()));
        assert_eq!(
            judge(&link(2, 2, &[("Stalled", "True"), ("Ready", "False")])),
            Progressed::Stuck("Stalled=True (Because): words".to_owned())
        );
    }

    #[test]
    fn the_first_condition_that_is_not_good_explains_the_wait() {
        let conditions =
            [("Ready", "False"), ("CredentialsValid", "True"), ("Connected", "False"), ("Synced", "False")];
        assert_eq!(judge(&link(1, 1, &conditions)), Progressed::NotYet("Connected=False (Because): words".to_owned()));
    }
}
