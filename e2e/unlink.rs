//! Deleting policies and links never needs the remote, and never hangs. The controller is stopped in
//! between, so the test runs alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    controller,
    fixture::{SOON, Snapshot, assert_untouched},
    objects::wait,
    relay::Relay,
    support::Case,
};

const ENDPOINTS: [&str; 2] = ["203.0.113.5:80 http", "203.0.113.5:9090 grpc"];
/// Kubernetes' garbage collector takes its time, which is nobody's promise here.
const COLLECTED: Duration = Duration::from_secs(10);

/// A case with a mirror, over a relay.
async fn mirrored(name: &str, deletion_policy: &str) -> (Case, Relay) {
    let case = Case::new(name).await;
    let relay = case.relay().await;
    case.links().patch(name, json!({"spec": {"deletionPolicy": deletion_policy}})).await;
    case.export("books", "203.0.113.5").await;
    case.leads_to(&case.mirrored("books"), &ENDPOINTS).await;
    let owned = deletion_policy == "Delete";
    wait(&format!("{name}: the mirror is owned by the link: {owned}"), SOON, || async {
        let service = case.mirrors().get(&case.mirrored("books")).await.unwrap();
        let owners = service["metadata"]["ownerReferences"].clone();
        if (owners[0]["name"] == name) == owned { Ok(()) } else { Err(owners) }
    })
    .await;
    (case, relay)
}

async fn link_is_gone(case: &Case) {
    wait(&format!("{}: the link is gone", case.name), SOON, || async {
        case.links().get(&case.name).await.map_or(Ok(()), Err)
    })
    .await;
}

async fn nothing_is_left(case: &Case, promise: Duration) {
    wait(&format!("{}: the mirror and its slices are gone", case.name), promise, || async {
        let left = case.landed().await;
        if left.is_empty() { Ok(()) } else { Err(left.into_keys().collect::<Vec<_>>()) }
    })
    .await;
}

/// All that an Orphan leaves: the mirror as it was, with its slices, still leading to the origin.
async fn left_working(case: &Case, before: &Snapshot) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_untouched(before, &case.landed().await);
    assert_eq!(case.endpoints(&case.mirrored("books")).await, ENDPOINTS);
    let service = &before[&format!("Service {}", case.mirrored("books"))];
    assert_eq!(service["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(service["metadata"]["finalizers"], Value::Null);
}

/// M15, with the controller: policy deleted, link deleted with Delete and with Orphan, with the
/// remote up and down.
#[tokio::test]
async fn alone_m15_deleting_policy_and_link_with_the_remote_up_and_down() {
    for down in [false, true] {
        let suffix = if down { "down" } else { "up" };
        let (policy, first) = mirrored(&format!("m15-policy-{suffix}"), "Delete").await;
        let (delete, second) = mirrored(&format!("m15-delete-{suffix}"), "Delete").await;
        let (orphan, third) = mirrored(&format!("m15-orphan-{suffix}"), "Orphan").await;
        if down {
            [&first, &second, &third].into_iter().for_each(Relay::cut);
            for case in [&policy, &delete, &orphan] {
                case.link_says("Connected", "False", "RemoteUnreachable", Duration::from_secs(20)).await;
            }
        }
        let before = orphan.landed().await;
        policy.policies().delete("all").await;
        delete.links().delete(&delete.name).await;
        orphan.links().delete(&orphan.name).await;
        nothing_is_left(&policy, SOON).await;
        link_is_gone(&delete).await;
        nothing_is_left(&delete, COLLECTED).await;
        link_is_gone(&orphan).await;
        left_working(&orphan, &before).await;
    }
}

/// M15, without the controller: Kubernetes alone removes, or leaves, what a deleted link made.
#[tokio::test]
async fn alone_m15_deleting_links_while_the_controller_is_down() {
    let (delete, first) = mirrored("m15-delete-stopped", "Delete").await;
    let (orphan, second) = mirrored("m15-orphan-stopped", "Orphan").await;
    controller::stop(&orphan.west).await;
    [&first, &second].into_iter().for_each(Relay::cut);
    let before = orphan.landed().await;
    delete.links().delete(&delete.name).await;
    orphan.links().delete(&orphan.name).await;
    link_is_gone(&delete).await;
    link_is_gone(&orphan).await;
    nothing_is_left(&delete, COLLECTED).await;
    left_working(&orphan, &before).await;
    controller::start(&orphan.west).await;
    left_working(&orphan, &before).await;
    nothing_is_left(&delete, SOON).await;
}
