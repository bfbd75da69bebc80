//! An exporter whose etcd is put back to an older state, or loses everything, so that the same address and
//! certificates lead to another cluster.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    fixture::{Snapshot, assert_untouched},
    objects::{Objects, condition, wait},
    rig::rig,
    support::{Case, HOME, namespace},
};

/// The longest pause between two attempts to reach a remote is 60 s, and then it is listed.
const BACK: Duration = Duration::from_secs(75);
/// A remote's version is looked at every 15 s.
const NOTICED: Duration = Duration::from_secs(30);

/// A case whose exporter is a cluster of its own, of nothing but etcd and API server: its administrator's
/// certificate outlives what etcd forgets, as no token would.
async fn case(name: &'static str, cluster: &str) -> Case {
    let said = rig("up", &["--api-only", cluster]).await;
    // The last line: `spare: up at ADDRESS, kubeconfig FILE (4 s)`.
    let path = said.rsplit_once(", kubeconfig ").unwrap().1.split(' ').next().unwrap();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.proxy_url = None;
    config.default_retry = false;
    // What an earlier run left in the importer goes.
    let west = Case::bare(name).await.west;
    let case = Case { name: name.to_owned(), west, east: Client::try_from(config).unwrap() };
    namespace(&case.west, name).await;
    namespace(&case.east, name).await;
    let secret = json!({"metadata": {"name": format!("{name}-kubeconfig"), "labels": {"case": name}}});
    Objects::secrets(&case.west, HOME).create(&secret).await;
    case.set_kubeconfig(&std::fs::read_to_string(path).unwrap()).await;
    case.link_object(name, json!({})).await;
    case.policy("all", json!({})).await;
    case.link_says("Synced", "True", "InSync", Duration::from_secs(10)).await;
    case
}

/// Plays a case, and removes its cluster however that ends.
async fn with_a_cluster(cluster: &'static str, play: impl Future<Output = ()>) {
    let played = AssertUnwindSafe(play).catch_unwind().await;
    rig("down", &[cluster]).await;
    if let Err(failed) = played {
        std::panic::resume_unwind(failed);
    }
}

async fn books_and_pens(case: &Case) -> Snapshot {
    for (name, address) in [("books", "203.0.113.5"), ("pens", "203.0.113.6")] {
        lands(case, name, address).await;
    }
    case.landed().await
}

async fn lands(case: &Case, name: &str, address: &str) {
    case.export(name, address).await;
    wait(&format!("{}: {name} is mirrored", case.name), BACK, || async {
        case.mirrors().get(&case.mirrored(name)).await.map(drop).ok_or("not yet")
    })
    .await;
    let wanted = [format!("{address}:80 http"), format!("{address}:9090 grpc")];
    case.leads_to(&case.mirrored(name), &wanted.each_ref().map(String::as_str)).await;
}

/// Waits until the link's condition has that reason; gives the link.
async fn reason(case: &Case, kind: &str, reason: &str, promise: Duration) -> Value {
    wait(&format!("{}: {kind} says {reason}", case.name), promise, || async {
        let link = case.links().get(&case.name).await.unwrap();
        match condition(&link, kind) {
            Some((status, why, _)) if status == "True" && why == reason => Ok(link),
            other => Err(other),
        }
    })
    .await
}

async fn kube_system_uid(cluster: &Client) -> String {
    let namespaces = Objects::at(cluster, "/api/v1/namespaces");
    let uid = |object: Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    wait("the namespace kube-system is there", Duration::from_secs(10), || async {
        namespaces.get("kube-system").await.map(uid).ok_or("none")
    })
    .await
}

/// L08 on a real etcd: what came after the backup is held and carries on, and is found again when it returns.
#[tokio::test]
async fn alone_l08_an_etcd_restored_from_a_backup_deletes_nothing() {
    with_a_cluster("spare", async {
        let case = case("l08-etcd", "spare").await;
        lands(&case, "books", "203.0.113.5").await;
        rig("backup", &["spare", "save"]).await;
        lands(&case, "pens", "203.0.113.6").await;
        let before = case.landed().await;
        let uid = kube_system_uid(&case.east).await;

        rig("backup", &["spare", "restore"]).await;
        assert_eq!(kube_system_uid(&case.east).await, uid, "the same cluster");
        assert!(case.origins().get("pens").await.is_none(), "it knows nothing of them");
        let link = reason(&case, "DeletionHeld", "DeletionHeld", BACK + NOTICED).await;
        let (.., message) = condition(&link, "DeletionHeld").unwrap();
        assert!(message.contains("1 of 2 mirrors are held") && message.contains("older"), "{message}");
        assert_untouched(&before, &case.landed().await);

        // They are made anew there, as whoever restored it would: the mirror is the one that it was.
        case.export("pens", "203.0.113.6").await;
        wait("l08-etcd: nothing is held", NOTICED, || async {
            let link = case.links().get("l08-etcd").await.unwrap();
            condition(&link, "DeletionHeld").map_or(Ok(()), Err)
        })
        .await;
        let after = case.landed().await;
        let address = |at: &Snapshot| at["Service pens-l08-etcd"]["spec"]["clusterIP"].clone();
        assert_eq!(address(&after), address(&before), "whoever has its address keeps it");
        assert_eq!(after["Service books-l08-etcd"], before["Service books-l08-etcd"]);
    })
    .await;
}

/// L07 on a real API server: another cluster behind the same address and certificates changes nothing
/// until somebody says that it is meant.
#[tokio::test]
async fn alone_l07_another_cluster_behind_the_same_address_changes_nothing() {
    with_a_cluster("spare", async {
        let case = case("l07", "spare").await;
        let before = books_and_pens(&case).await;
        let old = kube_system_uid(&case.east).await;

        rig("backup", &["spare", "forget"]).await;
        let new = kube_system_uid(&case.east).await;
        assert_ne!(new, old);
        namespace(&case.east, "l07").await;
        case.export("books", "203.0.113.9").await;
        let link = reason(&case, "Stalled", "RemoteIdentityChanged", BACK).await;
        let (.., message) = condition(&link, "Stalled").unwrap();
        assert!(message.contains(&new) && message.contains(&old), "{message}");
        tokio::time::sleep(NOTICED).await;
        assert_untouched(&before, &case.landed().await);

        case.links().patch("l07", json!({"spec": {"clusterUID": new}})).await;
        case.leads_to("books-l07", &["203.0.113.9:80 http", "203.0.113.9:9090 grpc"]).await;
        let after = case.landed().await;
        let address = |at: &Snapshot| at["Service books-l07"]["spec"]["clusterIP"].clone();
        assert_eq!(address(&after), address(&before), "the same origin by name keeps its mirror");
    })
    .await;
}
