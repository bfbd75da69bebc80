//! Two replicas: one writes, and the other takes over when that one is gone, frozen or asked to go.

use std::time::Duration;

use kube::Client;
use serde_json::json;

use crate::{
    audit::Mark,
    controller::{self, Leader},
    exports::Exports,
    objects::{Objects, wait},
    rig::rig,
    support::{Case, HOME},
};

/// A Lease that is not renewed is taken after that long (`src/apply/lease.rs`): it is good for 15 seconds, and
/// looked at every two.
pub(crate) const TAKEOVER: Duration = Duration::from_secs(17);
/// One that is given away is taken at the next look.
const HANDOVER: Duration = Duration::from_secs(2);

/// Another process: that of the other pod, or of the same one once it was started anew.
pub(crate) async fn another_leads(cluster: &Client, than: &Leader, promise: Duration) -> Leader {
    wait(&format!("another than {} leads", than.holder), promise, || async {
        controller::leader(cluster).await.filter(|leader| leader.holder != than.holder).ok_or("nobody")
    })
    .await
}

async fn signal(cluster: &str, pod: &str, signal: &str) {
    rig("signal", &[cluster, &format!("{HOME}/{pod}"), signal]).await;
}

/// L10: the leader is frozen past its Lease: the other one goes on; thawed, the first writes nothing
/// more, and nobody changes back.
#[tokio::test]
async fn alone_l10_a_frozen_leader_is_replaced_and_thawed_it_only_watches() {
    let case = Case::new("l10").await;
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-l10", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    let before = case.landed().await;
    let old = wait("somebody leads", TAKEOVER, || async { controller::leader(&case.west).await.ok_or("nobody") }).await;
    signal("west", &old.pod, "STOP").await;
    let new = another_leads(&case.west, &old, TAKEOVER).await;
    assert_ne!(old.pod, new.pod);
    crate::fixture::assert_untouched(&before, &case.landed().await);
    case.load_balancer("books", json!([{"ip": "203.0.113.6"}])).await;
    case.leads_to("books-l10", &["203.0.113.6:80 http", "203.0.113.6:9090 grpc"]).await;

    let mark = Mark::now();
    signal("west", &old.pod, "CONT").await;
    case.load_balancer("books", json!([{"ip": "203.0.113.7"}])).await;
    case.leads_to("books-l10", &["203.0.113.7:80 http", "203.0.113.7:9090 grpc"]).await;
    // Longer than a Lease: whoever wanted it back would have it.
    tokio::time::sleep(TAKEOVER).await;
    assert_eq!(mark.writes_from(&old.address).await, Vec::<String>::new(), "the thawed replica only watches");
    assert!(!mark.writes_from(&new.address).await.is_empty());
    assert!(controller::leader(&case.west).await == Some(new), "nobody changes back");
}

/// The leader of an exporter is killed, then the next one asked to go: calls are answered all the while,
/// nothing is written twice, and a new export is carried, which only happens once Envoy has found the
/// new leader.
#[tokio::test]
async fn alone_l10_another_replica_takes_over_the_gateway() {
    let exports = Exports::new("l10x", json!({"export": {"provider": {"envoy": {}}}})).await;
    let east = &exports.case.east;
    exports.backend("echo", true).await;
    exports.answers("echo", TAKEOVER).await;
    let port = exports.outside_port("echo", "http").await;

    let first = controller::leader(east).await.unwrap();
    signal("east", &first.pod, "KILL").await;
    exports.answers("echo", Duration::from_secs(1)).await;
    let second = another_leads(east, &first, TAKEOVER).await;
    exports.backend("second", true).await;
    exports.answers("second", TAKEOVER).await;

    Objects::pods(east, HOME).delete(&second.pod).await;
    exports.answers("echo", Duration::from_secs(1)).await;
    another_leads(east, &second, HANDOVER).await;
    exports.backend("third", true).await;
    exports.answers("third", TAKEOVER).await;
    exports.answers("echo", Duration::from_secs(1)).await;
    assert_eq!(exports.outside_port("echo", "http").await, port);
}
