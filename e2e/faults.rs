//! Faults that last: a remote that stays away, CRDs that go, a cluster that refuses some of the writes, and
//! clusters that mirror each other.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    audit::Mark,
    controller,
    fixture::{SOON, assert_untouched, exported_cluster_ip},
    objects::{Objects, condition, same, says, wait},
    relay::Relay,
    rig::rig,
    support::{Case, HOME, account, kubeconfig_for},
    traffic::Echo,
};

const AT_5: [&str; 2] = ["203.0.113.5:80 http", "203.0.113.5:9090 grpc"];
/// `onLoss.after` of the links here.
const AFTER: Duration = Duration::from_secs(30);
/// A changed Secret is picked up within that time.
const PICKED_UP: Duration = Duration::from_secs(10);
/// Until a remote that is back has been asked again.
const BACK: Duration = Duration::from_secs(60);
/// A write that was refused is tried again, at the latest after that long.
const RETRIED: Duration = Duration::from_secs(60);

/// L03: the remote is away for longer than `onLoss.after`, and the controller is started anew
/// meanwhile: each action at its time, and with Keep and NotReady nothing is made anew.
#[tokio::test]
async fn alone_l03_a_remote_that_stays_away_is_lost_after_its_time() {
    let mut cases: Vec<(Case, Relay)> = Vec::new();
    for action in ["Keep", "NotReady", "Delete"] {
        let case = Case::new(&format!("l03-{}", action.to_lowercase())).await;
        let relay = case.relay().await;
        let spec = json!({"onLoss": {"action": action, "after": format!("{}s", AFTER.as_secs())}});
        case.links().patch(&case.name, json!({"spec": spec})).await;
        case.export("books", "203.0.113.5").await;
        case.leads_to(&case.mirrored("books"), &AT_5).await;
        cases.push((case, relay));
    }
    let mut before = Vec::new();
    for (case, relay) in &cases {
        before.push(case.landed().await);
        relay.cut();
    }
    for (case, _) in &cases {
        case.link_says("Connected", "False", "RemoteUnreachable", Duration::from_secs(20)).await;
    }
    controller::stop(&cases[0].0.west).await;
    controller::start(&cases[0].0.west).await;
    for ((case, _), before) in cases.iter().zip(&before) {
        let link = case.links().get(&case.name).await.unwrap();
        assert_eq!(says(&link, "Ready"), ("True".into(), "Ready".into()), "{}: not yet", case.name);
        assert_untouched(before, &case.landed().await);
    }
    let [keep, not_ready, delete] = [&cases[0], &cases[1], &cases[2]];
    for (case, _) in &cases {
        let link = case.link_says("Ready", "False", "Stale", AFTER).await;
        assert_eq!(condition(&link, "Stalled"), None, "an outage stalls nothing");
    }
    assert_untouched(&before[0], &keep.0.landed().await);
    let away = AT_5.map(|endpoint| format!("{endpoint} not ready"));
    let away: Vec<&str> = away.iter().map(String::as_str).collect();
    not_ready.0.leads_to(&not_ready.0.mirrored("books"), &away).await;
    delete.0.has_services(&[]).await;

    for (case, relay) in &cases {
        relay.open();
        case.link_says("Connected", "True", "Connected", BACK).await;
        case.link_says("Ready", "True", "Ready", SOON).await;
        case.leads_to(&case.mirrored("books"), &AT_5).await;
    }
    for ((case, _), before) in cases.iter().zip(&before) {
        let mirror = case.mirrored("books");
        let now = case.mirrors().get(&mirror).await.unwrap();
        let was = &before[&format!("Service {mirror}")];
        let same_one = now["metadata"]["uid"] == was["metadata"]["uid"];
        assert_eq!(same_one, case.name != "l03-delete", "{}: made anew only where it was deleted", case.name);
    }
}

/// L11: the CRDs go under a running controller, and with them links and policies: mirrors stay under Orphan,
/// and are collected under Delete. When the CRDs and the objects are back, so is everything.
#[tokio::test]
async fn alone_l11_crds_go_and_come_back() {
    let mut cases = Vec::new();
    for policy in ["Orphan", "Delete"] {
        let case = Case::new(&format!("l11-{}", policy.to_lowercase())).await;
        case.links().patch(&case.name, json!({"spec": {"deletionPolicy": policy}})).await;
        case.export("books", "203.0.113.5").await;
        case.leads_to(&case.mirrored("books"), &AT_5).await;
        cases.push(case);
    }
    let (orphan, delete) = (&cases[0], &cases[1]);
    wait("l11: the orphan has no owner", SOON, || async {
        let mirror = orphan.mirrors().get("books-l11-orphan").await.unwrap();
        same(mirror["metadata"]["ownerReferences"].clone(), &Value::Null)
    })
    .await;
    let before = orphan.landed().await;
    let mut links = Vec::new();
    for case in &cases {
        links.push(case.links().get(&case.name).await.unwrap());
    }
    let restarts = controller::restarts(&orphan.west).await;

    let crds = Objects::at(&orphan.west, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    let kinds = ["clusterlinks.heliostat.dev", "mirrorpolicies.heliostat.dev", "gatewaybindings.heliostat.dev"];
    for kind in kinds {
        crds.remove(kind).await;
    }
    wait("l11: the CRDs are gone", RETRIED, || async {
        let all = crds.all().await;
        same(kinds.iter().any(|kind| all.contains_key(*kind)), &false)
    })
    .await;
    delete.has_services(&[]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_untouched(&before, &orphan.landed().await);

    rig("kubectl", &["west", "apply", "-k", "crds"]).await;
    rig("kubectl", &["west", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await;
    // Policies first: of a link that adopts mirrors, those that no policy asks for go.
    for (case, link) in cases.iter().zip(&links) {
        case.policy("all", json!({})).await;
        let metadata = json!({
            "name": case.name, "labels": link["metadata"]["labels"],
            "annotations": {"heliostat.dev/adopt": link["metadata"]["uid"]},
        });
        let again = json!({
            "apiVersion": link["apiVersion"], "kind": link["kind"], "metadata": metadata, "spec": link["spec"],
        });
        case.links().create(&again).await;
    }
    for case in &cases {
        // The kinds are asked for again after a pause that grows while they are missing.
        case.link_says("Ready", "True", "Ready", RETRIED).await;
        case.leads_to(&case.mirrored("books"), &AT_5).await;
    }
    let mirror = orphan.mirrors().get("books-l11-orphan").await.unwrap();
    assert_eq!(mirror["metadata"]["uid"], before["Service books-l11-orphan"]["metadata"]["uid"], "adopted");
    assert_eq!(controller::restarts(&orphan.west).await, restarts, "no crash");
}

/// L12: a quota of this cluster refuses some mirrors: they are tried again with patience, the reason is
/// said, and all others go on.
#[tokio::test]
async fn l12_a_quota_stops_only_what_it_stops() {
    let case = Case::new("l12").await;
    let quotas = Objects::at(&case.west, "/api/v1/namespaces/l12/resourcequotas");
    quotas.create(&json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/services": "1"}}})).await;
    wait("l12: the quota counts", RETRIED, || async {
        let quota = quotas.get("few").await.unwrap();
        same(quota["status"]["used"]["count/services"].clone(), &json!("0"))
    })
    .await;
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-l12", &AT_5).await;
    case.export("pens", "203.0.113.6").await;
    let messages = case.failures(&[("pens", "QuotaExceeded")]).await;
    assert!(messages[0].contains("few"), "{messages:?}");
    case.has_services(&["books-l12"]).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.7"}])).await;
    case.leads_to("books-l12", &["203.0.113.7:80 http", "203.0.113.7:9090 grpc"]).await;

    quotas.patch("few", json!({"spec": {"hard": {"count/services": "2"}}})).await;
    wait("l12: both are there", RETRIED, || async {
        let there: Vec<String> = case.mirrors().all().await.into_keys().collect();
        same(there, &vec!["books-l12".to_owned(), "pens-l12".to_owned()])
    })
    .await;
    case.failures(&[]).await;
}

/// L05: credentials are rotated again and again under traffic: no call fails, and no mirror is written.
#[tokio::test]
async fn l05_rotation_under_traffic_fails_no_call_and_writes_no_mirror() {
    const ROTATIONS: usize = 3;
    // An API server remembers for ten seconds that a token was good.
    const FORGOTTEN: Duration = Duration::from_secs(11);
    let case = Case::new("l05-traffic").await;
    let echo = Echo::new(&case).await;
    case.link_says("Connected", "True", "Connected", SOON).await;
    let (before, mark) = (case.landed().await, Mark::now());
    let calls = echo.calls();
    for _ in 0..ROTATIONS {
        let accounts = Objects::at(&case.east, format!("/api/v1/namespaces/{}/serviceaccounts", case.name));
        // The account is made anew, so that the old token is worth nothing from now on.
        let fresh = async {
            accounts.delete("link").await;
            accounts.create(&json!({"metadata": {"name": "link"}})).await;
            kubeconfig_for("east", &case.east, &case.name).await
        };
        case.set_kubeconfig(&fresh.await.to_string()).await;
        tokio::time::sleep(FORGOTTEN).await;
        case.export("newcomer", "203.0.113.6").await;
        wait("l05-traffic: changes are followed with the new token", PICKED_UP, || async {
            same(case.endpoints(&case.mirrored("newcomer")).await.len(), &2)
        })
        .await;
        case.origins().delete("newcomer").await;
        case.has_services(&[&case.mirrored("echo")]).await;
    }
    calls.none_failed().await;
    wait("l05-traffic: the newcomers' slices are collected", SOON, || async {
        same(case.mirror_slices().all().await.len(), &1)
    })
    .await;
    assert_untouched(&before, &case.landed().await);
    let echo = format!("{}/{}", case.name, case.mirrored("echo"));
    let writes: Vec<String> = mark.writes().await.into_iter().filter(|write| write.contains(&echo)).collect();
    assert_eq!(writes, Vec::<String>::new());
}

/// M17: two clusters mirror all of each other: no mirror of a mirror, and no growth.
#[tokio::test]
async fn m17_two_clusters_mirror_each_other() {
    let case = Case::new("m17").await;
    case.links().patch("m17", json!({"spec": {"services": {"selector": null, "matchAll": true}}})).await;
    // The other way round.
    account(&case.west, "m17").await;
    let back = Objects::links(&case.east);
    let secrets = Objects::secrets(&case.east, HOME);
    back.remove("m17").await;
    secrets.remove("m17-kubeconfig").await;
    let kubeconfig = kubeconfig_for("west", &case.west, "m17").await.to_string();
    secrets
        .create(&json!({"metadata": {"name": "m17-kubeconfig"}, "data": {"kubeconfig": STANDARD.encode(kubeconfig)}}))
        .await;
    let mut link = case.links().get("m17").await.unwrap();
    link["metadata"] = json!({"name": "m17"});
    link.as_object_mut().unwrap().remove("status");
    link["spec"].as_object_mut().unwrap().remove("clusterUID");
    back.create(&link).await;
    let mut policy = case.policies().get("all").await.unwrap();
    policy["metadata"] = json!({"name": "all"});
    policy.as_object_mut().unwrap().remove("status");
    Objects::policies(&case.east, "m17").create(&policy).await;

    case.origins().create(&exported_cluster_ip("books")).await;
    case.mirrors().create(&exported_cluster_ip("pens")).await;
    let there = async || {
        let names = async |objects: Objects| objects.all().await.into_keys().collect::<Vec<String>>();
        (names(case.origins()).await, names(case.mirrors()).await)
    };
    let all = |names: [&[&str]; 2]| {
        let [east, west] = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>());
        (east, west)
    };
    let wanted = all([&["books", "pens-m17"], &["books-m17", "pens"]]);
    wait("m17: each has the other's", SOON, || async { same(there().await, &wanted) }).await;
    // A later Service comes over once.
    case.origins().create(&exported_cluster_ip("ink")).await;
    let wanted = all([&["books", "ink", "pens-m17"], &["books-m17", "ink-m17", "pens"]]);
    wait("m17: one more", SOON, || async { same(there().await, &wanted) }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(there().await, wanted, "no growth");
    back.delete("m17").await;
    secrets.delete("m17-kubeconfig").await;
}
