//! The controller itself: its pod stopped, started and made anew.

use std::{collections::BTreeMap, time::Duration};

use kube::Client;
use serde_json::{Value, json};

use crate::{
    objects::{Objects, wait},
    rig::rig,
    support::HOME,
};

/// A pod has to be scheduled and started.
const START: Duration = Duration::from_secs(10);

/// As config/deployment.yaml has it.
const REPLICAS: u64 = 2;

fn deployments(cluster: &Client) -> Objects {
    Objects::at(cluster, format!("/apis/apps/v1/namespaces/{HOME}/deployments"))
}

/// The controller's pods; those of its gateways are beside them.
async fn pods(cluster: &Client) -> BTreeMap<String, Value> {
    let all = Objects::pods(cluster, HOME).all().await;
    all.into_iter().filter(|(_, pod)| pod["metadata"]["labels"]["app.kubernetes.io/name"] == "heliostat").collect()
}

/// Ends the controller and waits until it is gone.
pub(crate) async fn stop(cluster: &Client) {
    deployments(cluster).patch("heliostat", json!({"spec": {"replicas": 0}})).await;
    wait("the controller is stopped", START, || async {
        let left = pods(cluster).await;
        if left.is_empty() { Ok(()) } else { Err(left.into_keys().collect::<Vec<_>>()) }
    })
    .await;
}

/// Starts the controller, as many replicas as are shipped, and waits until they are ready.
pub(crate) async fn start(cluster: &Client) {
    deployments(cluster).patch("heliostat", json!({"spec": {"replicas": REPLICAS}})).await;
    wait("the controller is ready", START, || async {
        let deployment = deployments(cluster).get("heliostat").await.unwrap();
        if deployment["status"]["readyReplicas"] == REPLICAS { Ok(()) } else { Err(deployment["status"].clone()) }
    })
    .await;
}

/// Who leads, by the Lease.
#[derive(PartialEq, Eq)]
pub(crate) struct Leader {
    /// The process: the pod and a random part, so that a restart is somebody new.
    pub(crate) holder: String,
    pub(crate) pod: String,
    /// From where it asks the API server.
    pub(crate) address: String,
}

/// See above; none as well while the Lease names a pod that is gone.
pub(crate) async fn leader(cluster: &Client) -> Option<Leader> {
    let leases = Objects::at(cluster, format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"));
    let holder = leases.get("heliostat").await?["spec"]["holderIdentity"].as_str()?.to_owned();
    let pod = holder.rsplit_once('_')?.0.to_owned();
    let address = pods(cluster).await.get(&pod)?["status"]["podIP"].as_str()?.to_owned();
    Some(Leader { holder, pod, address })
}

/// From where the replicas ask API servers.
pub(crate) async fn addresses(cluster: &Client) -> Vec<String> {
    let address = |pod: &Value| Some(pod["status"]["podIP"].as_str()?.to_owned());
    pods(cluster).await.values().filter_map(address).collect()
}

/// How often the controller's containers have been restarted, all together.
pub(crate) async fn restarts(cluster: &Client) -> u64 {
    let of = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
    pods(cluster).await.values().map(of).sum()
}

/// Memory of the leader's process, as the kernel counts it.
pub(crate) async fn resident_kib(cluster: &Client) -> u64 {
    let pod = leader(cluster).await.unwrap().pod;
    let status = rig("inside", &["west", &format!("{HOME}/{pod}"), "status"]).await;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time from the container's start until the pod was ready, in whole seconds as Kubernetes counts.
pub(crate) async fn seconds_to_ready(cluster: &Client) -> i64 {
    let pods = pods(cluster).await;
    let pod = pods.values().next().unwrap();
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let started = time(&pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]);
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "True").unwrap();
    time(&ready["lastTransitionTime"]).duration_since(started).as_secs()
}
