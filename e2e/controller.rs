//! The controller itself: its pod stopped, started and made anew.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use crate::{
    objects::{Objects, wait},
    support::HOME,
};

/// A pod has to be scheduled and started.
const START: Duration = Duration::from_secs(10);

fn deployments(west: &Client) -> Objects {
    Objects::at(west, format!("/apis/apps/v1/namespaces/{HOME}/deployments"))
}

/// Ends the controller and waits until it is gone.
pub(crate) async fn stop(west: &Client) {
    deployments(west).patch("heliostat", json!({"spec": {"replicas": 0}})).await;
    let pods = Objects::pods(west, HOME);
    wait("the controller is stopped", START, || async {
        // Gateways of its own are there, too.
        let is_controller = |pod: &Value| pod["metadata"]["labels"]["app.kubernetes.io/name"] == "heliostat";
        let left: Vec<String> =
            pods.all().await.into_iter().filter(|(_, pod)| is_controller(pod)).map(|(name, _)| name).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Starts the controller and waits until it is ready.
pub(crate) async fn start(west: &Client) {
    deployments(west).patch("heliostat", json!({"spec": {"replicas": 1}})).await;
    wait("the controller is ready", START, || async {
        let deployment = deployments(west).get("heliostat").await.unwrap();
        if deployment["status"]["readyReplicas"] == 1 { Ok(()) } else { Err(deployment["status"].clone()) }
    })
    .await;
}

/// Time from the container's start until the pod was ready, in whole seconds as Kubernetes counts.
pub(crate) async fn seconds_to_ready(west: &Client) -> i64 {
    let pods = Objects::pods(west, HOME).all().await;
    let pod = pods.values().next().unwrap();
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let started = time(&pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]);
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "True").unwrap();
    time(&ready["lastTransitionTime"]).duration_since(started).as_secs()
}
