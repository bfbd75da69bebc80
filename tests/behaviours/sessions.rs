//! Who may speak for a link: the session that was listed last, and one that replaces it from its own
//! first listing on; nobody before a listing, of another cluster, or while the link is suspended.

use std::collections::BTreeMap;

use heliostat::core::io::{About, Change, Input, Local, Output, RemoteEvent};
use jiff::Timestamp;
use serde_json::json;

use crate::{common::*, says};

fn gone() -> RemoteEvent {
    RemoteEvent::ServiceGone(key("shop/books"), "b1".into())
}

fn nothing_listed(cluster_uid: &str) -> [RemoteEvent; 2] {
    let cluster_uid = || cluster_uid.to_owned();
    [
        RemoteEvent::ServicesListed {
            cluster_uid: cluster_uid(),
            scope: None,
            version: None,
            services: BTreeMap::new(),
        },
        RemoteEvent::SlicesListed { cluster_uid: cluster_uid(), scope: None, slices: BTreeMap::new() },
    ]
}

/// Everything that is known of shop/books goes by these, one alone.
fn losing_events() -> Vec<RemoteEvent> {
    let slice = RemoteEvent::SliceGone(key("shop/books-x"));
    [gone(), slice].into_iter().chain(nothing_listed("east-uid")).collect()
}

fn ready() -> Vec<String> {
    vec!["203.0.113.5:80 http ready".to_owned(), "203.0.113.5:9090 grpc ready".to_owned()]
}

#[test]
fn p05_only_the_session_that_was_listed_last_is_followed() {
    for event in losing_events() {
        for speaks in [1, 3] {
            let mut sim = Sim::with_books();
            sim.session = 2;
            let slices = [("shop/books-x", pods("books", &["10.1.0.1"], true))];
            sim.list("east", &[("shop/books", origin("b1"))], &slices);
            sim.session = speaks;
            sim.remote("east", event.clone());
            assert_eq!(sim.endpoints("shop/books-east"), ready(), "session {speaks}: {event:?}");
            sim.session = 2;
            sim.remote("east", event.clone());
            let all = sim.slices.values().flat_map(|slice| &*slice.body.endpoints);
            assert!(all.into_iter().all(|e| !e.readiness.ready), "it is followed: {event:?}");
        }
    }
}

#[test]
fn p05_slices_that_are_listed_anew_are_taken_over() {
    let mut sim = Sim::with_books();
    let list = |sim: &mut Sim, ready: bool| {
        let slices = [(key("shop/books-x"), pods("books", &["10.1.0.1"], ready))].into();
        sim.remote("east", RemoteEvent::SlicesListed { cluster_uid: "east-uid".into(), scope: None, slices });
    };
    list(&mut sim, false);
    assert_ne!(sim.endpoints("shop/books-east"), ready());
    list(&mut sim, true);
    assert_eq!(sim.endpoints("shop/books-east"), ready());
}

#[test]
fn l07_another_clusters_listing_of_a_scope_says_nothing() {
    let mut sim = Sim::with_books();
    nothing_listed("other-uid").into_iter().for_each(|event| sim.remote("east", event));
    assert_eq!(sim.endpoints("shop/books-east"), ready());
    // Nor does anything that comes after another cluster has answered, its nodes included.
    sim.session = 2;
    sim.lose("east");
    sim.remote("east", connected("other-uid"));
    sim.session = 1;
    losing_events().into_iter().for_each(|event| sim.remote("east", event));
    sim.session = 2;
    sim.remote("east", RemoteEvent::NodesListed(Ok([("n1".to_owned(), node("10.9.9.9"))].into())));
    assert_eq!(sim.endpoints("shop/books-east"), ready());
    assert_eq!(sim.engine.world().links["east"].remote.nodes, None);
}

#[test]
fn nothing_is_followed_while_a_link_is_suspended_or_before_its_first_listing() {
    for event in losing_events() {
        let mut sim = Sim::with_books();
        sim.set_link(link("east", json!({"suspend": true})));
        sim.remote("east", event.clone());
        sim.set_link(link("east", json!({})));
        assert_eq!(sim.endpoints("shop/books-east"), ready(), "{event:?}");
    }
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.origin("shop/books", origin("b1"));
    assert_eq!(sim.names(), Vec::<String>::new(), "it may be a part of what there is");
}

/// As when credentials were renewed: the old session goes on until the new one has listed.
#[test]
fn l05_a_session_that_replaces_a_working_one_speaks_by_its_first_listing() {
    let mut sim = Sim::with_books();
    let status = |sim: &Sim| {
        let status = sim.links["east"].status.clone().unwrap();
        (status.server_version, status.credentials_expire_at.map(|at| at.0))
    };
    assert_eq!(status(&sim), (Some("v1.36.3".to_owned()), None));
    sim.session = 2;
    sim.lose("east");
    assert_eq!(sim.link_condition("east", "Connected"), says("True", "Connected"), "the working one goes on");
    let expires: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    sim.remote(
        "east",
        RemoteEvent::Connected {
            cluster_uid: "east-uid".into(),
            server_version: "v1.37.0".into(),
            credentials_expire_at: Some(expires),
            own_server: false,
        },
    );
    assert_eq!(status(&sim), (Some("v1.36.3".to_owned()), None), "it may not be allowed to list");
    assert_eq!(sim.link_condition("east", "Connected"), says("True", "Connected"));
    let slices = [("shop/books-x", pods("books", &["10.1.0.1"], true))];
    sim.list("east", &[("shop/books", origin("b1"))], &slices);
    assert_eq!(status(&sim), (Some("v1.37.0".to_owned()), Some(expires)), "and then what it said of itself");
}

#[test]
fn a_link_is_in_sync_from_its_first_listing_on_and_told_so_once() {
    let told = |sim: &mut Sim| {
        let in_sync = |output: &Output| match output {
            Output::Event(event) => matches!(event.about, About::Link(..)) && event.reason == "InSync",
            _ => false,
        };
        std::mem::take(&mut sim.others).iter().filter(|output| in_sync(output)).count()
    };
    let mut sim = Sim::fixture();
    sim.connect("east");
    assert_eq!(sim.links["east"].status.as_ref().unwrap().cluster_uid.as_deref(), Some("east-uid"), "it is pinned");
    assert_eq!(told(&mut sim), 0);
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", origin("b1"))], &[]);
    list(&mut sim);
    assert_eq!(told(&mut sim), 1);
    list(&mut sim);
    assert_eq!(told(&mut sim), 0);
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    assert_eq!(told(&mut sim), 0, "it was so before the restart");
}

#[test]
fn a_link_made_anew_waits_for_a_listing_of_its_own() {
    let mut sim = Sim::with_books();
    let mut anew = link("east", json!({}));
    anew.metadata.uid = Some("another".into());
    sim.give(Input::Local(Local::Link(Change::Set("east".into(), Box::new(anew)))));
    sim.settle();
    let remote = &sim.engine.world().links["east"].remote;
    assert!(!remote.listed && remote.services.is_empty() && remote.pinned_uid.is_none());
}

#[test]
fn m16_labels_of_namespaces_admit_and_their_loss_ends_it() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    let choice = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
    sim.set_link(link("east", json!({"allowedNamespaces": choice})));
    sim.set_policy(policy("shop/all", json!({})));
    // One that selects nothing is told as well.
    let nothing = json!({"selector": {"matchLabels": {"tier": "none"}}});
    sim.set_policy(policy("shop/none", json!({"services": nothing})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    let resolved = |sim: &Sim| ["shop/all", "shop/none"].map(|policy| sim.policy_condition(policy, "ResolvedRefs"));
    let both = |status, reason| [says(status, reason), says(status, reason)];
    assert_eq!(resolved(&sim), both("False", "RefNotPermitted"));
    let label = |sim: &mut Sim, team: &str| {
        let mut namespace = sim.engine.world().namespaces["shop"].clone();
        namespace.labels.insert("team".into(), team.into());
        sim.give(Input::Local(Local::Namespace(Change::Set("shop".into(), namespace))));
        sim.settle();
    };
    label(&mut sim, "a");
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(resolved(&sim), both("True", "Resolved"));
    label(&mut sim, "b");
    assert_eq!(sim.names(), Vec::<String>::new());
    assert_eq!(resolved(&sim), both("False", "RefNotPermitted"));
}
