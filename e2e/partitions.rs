//! Partitions of a real network: packets between controllers and API servers that the kernel drops or
//! refuses, while calls go through mirrors.

use std::time::Duration;

use serde_json::json;

use crate::{
    audit::Mark,
    controller,
    fixture::{SOON, assert_untouched},
    objects::{condition, same, wait},
    packets::{Address, Fate, Fault},
    replicas::{TAKEOVER, another_leads},
    rig::api_server,
    support::Case,
    traffic::Echo,
};

/// `Connected=False` comes within that time of silence.
const SILENCE: Duration = Duration::from_secs(20);
/// After a loss that did not last the remote is asked again soon.
const BACK: Duration = Duration::from_secs(10);

const AT_5: [&str; 2] = ["203.0.113.5:80 http", "203.0.113.5:9090 grpc"];
const AT_7: [&str; 2] = ["203.0.113.7:80 http", "203.0.113.7:9090 grpc"];
const AT_8: [&str; 2] = ["203.0.113.8:80 http", "203.0.113.8:9090 grpc"];

/// L04: no packet passes between the controller and the exporter's API server.
#[tokio::test]
async fn l04_a_partition_fails_no_call_and_what_was_missed_is_made_good() {
    the_exporter_is_cut_off("l04-dropped", 251, Fate::Dropped).await;
}

/// L04: what the controller sends arrives, and no answer does.
#[tokio::test]
async fn l04_a_partition_in_one_direction_is_noticed_as_well() {
    the_exporter_is_cut_off("l04-no-replies", 252, Fate::NoReplies).await;
}

/// L04: something on the way resets connections and refuses new ones.
#[tokio::test]
async fn l04_a_firewall_that_refuses_deletes_nothing() {
    the_exporter_is_cut_off("l04-refused", 253, Fate::Refused).await;
}

/// Nothing is written while the exporter is cut off, and then what it changed meanwhile and no more.
async fn the_exporter_is_cut_off(name: &str, last: u8, fate: Fate) {
    let case = Case::new(name).await;
    let address = Address::of_east(last).await;
    case.link_by(address.server).await;
    let echo = Echo::new(&case).await;
    for (origin, at) in [("books", "203.0.113.5"), ("pens", "203.0.113.6")] {
        case.export(origin, at).await;
    }
    case.leads_to(&case.mirrored("books"), &AT_5).await;
    case.has_services(&["books", "echo", "pens"].map(|origin| case.mirrored(origin)).each_ref().map(String::as_str))
        .await;
    case.link_says("Connected", "True", "Connected", BACK).await;
    let calls = echo.calls();
    settled(name).await;
    let (before, mark) = (case.landed().await, Mark::now());

    let pods = controller::addresses(&case.west).await;
    let fault = Fault::outside("west", &pods, address.server, fate).await;
    case.origins().delete("pens").await;
    case.load_balancer("books", json!([{"ip": "203.0.113.7"}])).await;
    case.export("ink", "203.0.113.8").await;
    let link = case.link_says("Connected", "False", "RemoteUnreachable", SILENCE).await;
    println!("{name}: {}", condition(&link, "Connected").unwrap().2);
    assert_eq!(condition(&link, "Stalled"), None, "a partition stalls nothing");
    assert_untouched(&before, &case.landed().await);
    assert_eq!(mirrors_written(&mark, name).await, Vec::<String>::new(), "while it is cut off");

    drop(fault);
    case.link_says("Connected", "True", "Connected", BACK).await;
    case.leads_to(&case.mirrored("books"), &AT_7).await;
    case.leads_to(&case.mirrored("ink"), &AT_8).await;
    case.has_services(&["books", "echo", "ink"].map(|origin| case.mirrored(origin)).each_ref().map(String::as_str))
        .await;
    case.link_says("Synced", "True", "InSync", BACK).await;
    calls.none_failed().await;
    // Whoever wrote something twice would have by now.
    tokio::time::sleep(SOON).await;
    let [books, ink, pens] = ["books", "ink", "pens"].map(|origin| format!("{name}/{}", case.mirrored(origin)));
    let mut written = mirrors_written(&mark, name).await;
    written.sort();
    let wanted = [
        format!("create endpointslices {ink}-"),
        format!("create services {ink} 201"),
        format!("delete services {pens} 200"),
        format!("patch endpointslices {books}-"),
    ];
    let each = written.iter().zip(&wanted).all(|(there, wanted)| there.starts_with(wanted));
    assert!(each && written.len() == wanted.len(), "what was missed, and nothing else: {written:#?}");
    let after = case.landed().await;
    for origin in ["books", "echo"] {
        let service = format!("Service {}", case.mirrored(origin));
        assert_eq!(after[&service], before[&service], "not written, with the cluster IP that it had");
    }
}

/// Waits until no mirror of a namespace has been written for a second.
async fn settled(namespace: &str) {
    wait(&format!("{namespace}: nothing more is written"), BACK, || async {
        let mark = Mark::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let written = mirrors_written(&mark, namespace).await;
        if written.is_empty() { Ok(()) } else { Err(written) }
    })
    .await;
}

/// Services and slices that controllers wrote in a namespace.
async fn mirrors_written(mark: &Mark, namespace: &str) -> Vec<String> {
    let written = mark.writes_in(namespace).await.into_iter();
    written.filter(|write| write.contains(" services ") || write.contains(" endpointslices ")).collect()
}

/// L10, L12: the leader is cut off from its own API server and hears on of the exporter: another replica
/// goes on, and when the first is back nothing of it arrives late. Then all replicas are cut off: calls go
/// on, and what was missed on both sides is made good.
#[tokio::test]
async fn alone_l10_replicas_cut_off_from_their_own_api_server() {
    let case = Case::new("l10-cut").await;
    let echo = Echo::new(&case).await;
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-l10-cut", &AT_5).await;
    let (restarts, calls) = (controller::restarts(&case.west).await, echo.calls());
    let own = api_server("west");
    let old = wait("somebody leads", TAKEOVER, || async { controller::leader(&case.west).await.ok_or("nobody") }).await;
    let fault = Fault::on_node("west", std::slice::from_ref(&old.address), own, Fate::Dropped).await;
    // The one that is cut off still leads, hears of this, and writes it: nothing of that may arrive later.
    case.load_balancer("books", json!([{"ip": "203.0.113.7"}])).await;
    let new = another_leads(&case.west, &old, TAKEOVER).await;
    assert_ne!(old.pod, new.pod);
    case.leads_to("books-l10-cut", &AT_7).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.8"}])).await;
    case.leads_to("books-l10-cut", &AT_8).await;
    settled("l10-cut").await;

    let mark = Mark::now();
    let before = case.landed().await;
    drop(fault);
    // Longer than a Lease: whoever wanted it back would have it.
    tokio::time::sleep(TAKEOVER).await;
    assert_eq!(mark.writes_from(&old.address).await, Vec::<String>::new(), "who was cut off only watches");
    assert!(controller::leader(&case.west).await == Some(new), "nobody changes back");
    assert_untouched(&before, &case.landed().await);

    let pods = controller::addresses(&case.west).await;
    assert_eq!(pods.len(), 2);
    let mark = Mark::now();
    let fault = Fault::on_node("west", &pods, own, Fate::Dropped).await;
    case.export("pens", "203.0.113.7").await;
    let slice = case.mirror_slices().all().await.into_keys().find(|name| name.starts_with("books")).unwrap();
    case.mirror_slices().delete(&slice).await;
    // Longer than a leader writes without renewal.
    tokio::time::sleep(SILENCE).await;
    assert_eq!(mark.writes().await, Vec::<String>::new(), "while all are cut off");
    drop(fault);
    wait("l10-cut: what was missed is made good", TAKEOVER, || async {
        let there = [case.endpoints("books-l10-cut").await, case.endpoints("pens-l10-cut").await];
        same(there, &[AT_8, AT_7].map(|all| all.map(str::to_owned).to_vec()))
    })
    .await;
    calls.none_failed().await;
    let books = "Service books-l10-cut";
    assert_eq!(case.landed().await[books], before[books], "not written, with the cluster IP that it had");
    assert_eq!(controller::restarts(&case.west).await, restarts, "nobody was restarted");
}
