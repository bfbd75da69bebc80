//! The life of a link: the remote down and back, watches that end in every way, credentials that
//! change.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    controller,
    fixture::{SOON, assert_untouched, differences},
    objects::{Objects, condition, says, wait},
    rig::rig,
    support::{Case, HOME, kubeconfig},
    traffic::Echo,
};

/// `Connected=False` comes within that time of silence.
const SILENCE: Duration = Duration::from_secs(20);
/// A changed Secret is picked up within that time.
const PICKED_UP: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to reach a remote is 60 s; right after a loss it is short.
const BACK: Duration = Duration::from_secs(10);

const AT_5: [&str; 2] = ["203.0.113.5:80 http", "203.0.113.5:9090 grpc"];
const AT_6: [&str; 2] = ["203.0.113.6:80 http", "203.0.113.6:9090 grpc"];

/// L02: with a remote down at its start the controller is ready at once and other links work; the
/// remote's own mirrors stay, and follow when it is back.
#[tokio::test]
async fn alone_l02_a_remote_that_is_down_at_start() {
    let (down, up) = (Case::new("l02-down").await, Case::new("l02-up").await);
    let relay = down.relay().await;
    down.export("books", "203.0.113.5").await;
    down.leads_to("books-l02-down", &AT_5).await;
    controller::stop(&down.west).await;
    relay.cut();
    let before = down.landed().await;
    up.export("books", "203.0.113.5").await;
    down.origins().delete("books").await;
    down.export("pens", "203.0.113.6").await;

    controller::start(&down.west).await;
    let seconds = controller::seconds_to_ready(&down.west).await;
    println!("l02: ready {seconds} s after its start");
    assert!(seconds <= 10, "ready only after {seconds} s");
    up.leads_to("books-l02-up", &AT_5).await;
    down.link_says("Connected", "False", "RemoteUnreachable", SILENCE).await;
    let link = down.links().get("l02-down").await.unwrap();
    assert_eq!(condition(&link, "Stalled"), None, "an outage stalls nothing");
    assert_untouched(&before, &down.landed().await);

    relay.open();
    down.link_says("Connected", "True", "Connected", Duration::from_secs(60)).await;
    down.has_services(&["pens-l02-down"]).await;
    down.leads_to("pens-l02-down", &AT_6).await;
}

/// A case with mirrors of `books` and `pens` over a relay, and what there is.
async fn relayed(name: &str) -> (Case, crate::relay::Relay) {
    let case = Case::new(name).await;
    let relay = case.relay().await;
    case.export("books", "203.0.113.5").await;
    case.export("pens", "203.0.113.6").await;
    case.leads_to(&case.mirrored("books"), &AT_5).await;
    case.leads_to(&case.mirrored("pens"), &AT_6).await;
    (case, relay)
}

/// `pens` went while nobody watched; that is noticed, and nothing else happens.
async fn only_pens_goes(case: &Case, before: &crate::fixture::Snapshot, promise: Duration) {
    let pens = format!("Service {}", case.mirrored("pens"));
    wait(&format!("{}: the deletion is noticed", case.name), promise, || async {
        let landed = case.landed().await;
        if landed.keys().any(|key| key.contains("pens")) { Err(landed.into_keys().collect::<Vec<_>>()) } else { Ok(()) }
    })
    .await;
    case.link_says("Connected", "True", "Connected", promise).await;
    let changes = differences(before, &case.landed().await);
    assert_eq!(changes.len(), 2, "the mirror and its slice: {changes:#?}");
    assert!(changes.iter().all(|change| change.contains("pens") && change.ends_with(" went")), "{changes:#?}");
    assert!(changes.contains(&format!("{pens} went")));
}

/// L04, by EOF.
#[tokio::test]
async fn l04_deletions_during_a_watch_that_ended_are_noticed() {
    let (case, relay) = relayed("l04-eof").await;
    let before = case.landed().await;
    // A short end: it is taken up again, and nothing is written.
    let connections = relay.connections();
    relay.hang_up();
    wait("l04-eof: connected anew", BACK, || async {
        if relay.connections() > connections { Ok(()) } else { Err("not yet") }
    })
    .await;
    tokio::time::sleep(SOON).await;
    assert_untouched(&before, &case.landed().await);
    // A longer one, in which something was deleted.
    relay.cut();
    case.origins().delete("pens").await;
    tokio::time::sleep(SOON).await;
    assert_untouched(&before, &case.landed().await);
    relay.open();
    only_pens_goes(&case, &before, BACK).await;
}

/// L04, by silence: connections stay open and nothing answers.
#[tokio::test]
async fn l04_a_silent_remote_is_noticed() {
    let (case, relay) = relayed("l04-silence").await;
    let before = case.landed().await;
    relay.silence();
    case.origins().delete("pens").await;
    case.link_says("Connected", "False", "RemoteUnreachable", SILENCE).await;
    assert_untouched(&before, &case.landed().await);
    relay.open();
    only_pens_goes(&case, &before, BACK).await;
}

/// L04, by half-open connections: the watch is dead while new connections, and with them heartbeats,
/// come through. A watch lives for a minute at most.
#[tokio::test]
async fn l04_a_watch_that_a_firewall_forgot_is_made_anew() {
    let (case, relay) = relayed("l04-half-open").await;
    let before = case.landed().await;
    relay.forget();
    case.origins().delete("pens").await;
    only_pens_goes(&case, &before, Duration::from_secs(60) + BACK).await;
}

/// L04, by 410: an API server that was started anew does not know the old resourceVersion.
#[tokio::test]
async fn alone_l04_deletions_before_a_410_are_noticed() {
    let (case, relay) = relayed("l04-410").await;
    relay.cut();
    let before = case.landed().await;
    case.origins().delete("pens").await;
    rig("component", &["east", "restart", "kube-apiserver"]).await;
    // Something newer, so that the watch cache of the new server begins after the deletion.
    case.origins().patch("books", json!({"metadata": {"annotations": {"note": "newer"}}})).await;
    relay.open();
    only_pens_goes(&case, &before, BACK).await;
}

/// The exporter's API server stops: mirrors stay and carry traffic, the link says so within 20 s;
/// when it is back no mirror is made anew.
#[tokio::test]
async fn alone_the_exporters_api_stops_and_its_mirrors_carry_traffic() {
    let case = Case::new("api-stop").await;
    let mirror = case.mirrored("echo");
    let echo = Echo::new(&case).await;
    case.link_says("Connected", "True", "Connected", SOON).await;
    let before = case.landed().await;

    let stopping = Instant::now();
    rig("component", &["east", "stop", "kube-apiserver"]).await;
    case.link_says("Connected", "False", "RemoteUnreachable", SILENCE).await;
    println!("api-stop: {} ms from the order to stop to Connected=False", stopping.elapsed().as_millis());
    for _ in 0..5 {
        echo.call().await.unwrap();
    }
    assert_untouched(&before, &case.landed().await);
    let link = case.links().get(&case.name).await.unwrap();
    assert_eq!(says(&link, "Ready"), ("True".into(), "Ready".into()), "until onLoss.after");
    assert_eq!(condition(&link, "Stalled"), None);

    rig("component", &["east", "start", "kube-apiserver"]).await;
    case.link_says("Connected", "True", "Connected", Duration::from_secs(60)).await;
    echo.call().await.unwrap();
    assert_untouched(&before, &case.landed().await);
    case.origins().patch("echo", json!({"spec": {"selector": {"app": "nobody"}}})).await;
    // The exporter's own controllers take their time after an outage; that is not what is measured here.
    wait("api-stop: the exporter knows of its change", Duration::from_secs(10), || async {
        let slices = case.origin_slices().all().await;
        let ready = |s: &Value| {
            s["endpoints"].as_array().is_some_and(|all| all.iter().any(|e| e["conditions"]["ready"] == true))
        };
        if slices.values().any(ready) { Err(slices) } else { Ok(()) }
    })
    .await;
    wait("api-stop: changes are followed again", SOON, || async {
        let there = case.endpoints(&mirror).await;
        if there.iter().all(|e| e.ends_with("not ready")) && !there.is_empty() { Ok(()) } else { Err(there) }
    })
    .await;
}

/// L05: a rotated token; a Secret that is malformed, emptied, deleted and put right.
#[tokio::test]
async fn l05_credentials_change_and_no_mirror_is_touched() {
    let case = Case::new("l05").await;
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-l05", &AT_5).await;
    case.link_says("CredentialsValid", "True", "Valid", SOON).await;
    let before = case.landed().await;

    // A new token; the account of the old one is made anew, so that the old one is worth nothing.
    let accounts = Objects::at(&case.east, "/api/v1/namespaces/l05/serviceaccounts");
    accounts.delete("link").await;
    accounts.create(&json!({"metadata": {"name": "link"}})).await;
    let good = kubeconfig(&case.east, "l05").await.to_string();
    case.set_kubeconfig(&good).await;
    works(&case, "pens").await;
    assert_untouched(&before, &case.landed().await);

    let secrets = Objects::secrets(&case.west, HOME);
    let secret = secrets.get("l05-kubeconfig").await.unwrap();
    let canary = "c4n4ry-t0ken";
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [canary]}});
    let mut runs: Value = serde_json::from_str(&good).unwrap();
    runs["users"][0]["user"] = exec;
    let rejected = [("not YAML", format!("{{{canary}")), ("a program to run", runs.to_string())];
    for (what, text) in rejected {
        case.set_kubeconfig(&text).await;
        let link = case.link_says("CredentialsValid", "False", "CredentialsRejected", PICKED_UP).await;
        assert_eq!(says(&link, "Stalled"), ("True".into(), "CredentialsRejected".into()), "{what}");
        assert!(!link.to_string().contains(canary), "{what}: the status repeats a value of the kubeconfig");
        case.set_kubeconfig(&good).await;
        works(&case, "ink").await;
        assert_untouched(&before, &case.landed().await);
    }

    let gone = [
        ("emptied", json!({"data": null})),
        ("an empty value", json!({"data": {"kubeconfig": ""}})),
        ("another key", json!({"data": {"kubeconfig": null, "other": STANDARD.encode("x")}})),
    ];
    for (what, change) in gone {
        secrets.patch("l05-kubeconfig", change).await;
        let link = case.link_says("CredentialsValid", "False", "CredentialsNotFound", PICKED_UP).await;
        assert_eq!(condition(&link, "Stalled"), None, "{what}");
        case.set_kubeconfig(&good).await;
        works(&case, "ink").await;
        assert_untouched(&before, &case.landed().await);
    }
    secrets.delete("l05-kubeconfig").await;
    case.link_says("CredentialsValid", "False", "CredentialsNotFound", PICKED_UP).await;
    assert_untouched(&before, &case.landed().await);
    let data = json!({"kubeconfig": STANDARD.encode(&good)});
    secrets
        .create(&json!({"metadata": {"name": "l05-kubeconfig", "labels": secret["metadata"]["labels"]}, "data": data}))
        .await;
    works(&case, "ink").await;
    assert_untouched(&before, &case.landed().await);
    case.counts([1, 1, 0, 0]).await;
}

/// The link works with the credential that is there now: it says so, and follows a change.
async fn works(case: &Case, newcomer: &str) {
    case.link_says("CredentialsValid", "True", "Valid", PICKED_UP).await;
    case.link_says("Connected", "True", "Connected", PICKED_UP).await;
    case.export(newcomer, "203.0.113.6").await;
    wait(&format!("{}: changes are followed", case.name), PICKED_UP, || async {
        let there = case.endpoints(&case.mirrored(newcomer)).await;
        crate::objects::same(there, &AT_6.map(str::to_owned).to_vec())
    })
    .await;
    case.origins().delete(newcomer).await;
    case.has_services(&[&case.mirrored("books")]).await;
    wait(&format!("{}: its slices are collected", case.name), SOON, || async {
        let left = case.mirror_slices().all().await.len();
        if left == 1 { Ok(()) } else { Err(left) }
    })
    .await;
}
