//! Links that come, are lost, lead elsewhere or are made anew, and what others notice of it.

use heliostat::core::io::{Change, Input, Local, Output, OwnKind, RemoteEvent, WriteOp};
use jiff::SignedDuration;
use serde_json::json;

use crate::{common::*, says};

#[test]
fn m18_one_cluster_twice_and_a_cluster_to_itself() {
    let mut sim = Sim::with_books();
    sim.set_link(link("again", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["east", "again"]}})));
    sim.remote("again", connected("east-uid"));
    sim.remote("again", listed("east-uid", &[("shop/books", origin("b1"))], &[]));
    assert_eq!(sim.names(), ["shop/books-again", "shop/books-east"]);
    let accepted = |sim: &Sim, name: &str| {
        let status = sim.links[name].status.clone().unwrap();
        status.conditions.into_iter().find(|c| c.type_ == "Accepted").unwrap().message
    };
    assert!(accepted(&sim, "again").contains("link east leads to the same cluster"));
    sim.set_link(link("self", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["self"]}})));
    sim.remote("self", connected("west-uid"));
    sim.remote("self", listed("west-uid", &[("shop/books", origin("b1"))], &[]));
    assert_eq!(sim.link_condition("self", "Accepted"), says("False", "SelfLink"));
    assert_eq!(sim.link_condition("self", "Stalled"), says("True", "SelfLink"));
    assert!(!sim.names().contains(&"shop/books-self".to_owned()));
}

#[test]
fn l01_any_order_converges() {
    let mut sim = Sim::new();
    sim.set_policy(policy("shop/all", json!({})));
    sim.namespace("shop");
    assert_eq!(sim.policy_condition("shop/all", "ResolvedRefs"), says("False", "RefNotPermitted"));
    sim.set_link(link("east", json!({})));
    let why =
        RemoteEvent::Credentials { reason: heliostat::api::Reason::CredentialsNotFound, message: "no Secret".into() };
    sim.remote("east", why);
    assert_eq!(sim.link_condition("east", "CredentialsValid"), says("False", "CredentialsNotFound"));
    assert_eq!(sim.link_condition("east", "Stalled"), None, "a Secret that is not there yet stalls nothing");
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"));
}

#[test]
fn a_lost_link_deletes_nothing() {
    let mut sim = Sim::with_books();
    sim.writes();
    sim.lose("east");
    assert_eq!(sim.link_condition("east", "Connected"), says("False", "RemoteUnreachable"));
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"), "until onLoss.after");
    assert_eq!(sim.link_condition("east", "Stalled"), None);
    sim.pass(SignedDuration::from_mins(6));
    assert_eq!(sim.link_condition("east", "Ready"), says("False", "Stale"));
    assert_eq!(
        sim.policy_condition("shop/all", "Ready"),
        says("True", "Ready"),
        "loss leaves a policy's Ready as it was"
    );
    sim.connect("east");
    assert_eq!(
        sim.link_condition("east", "Connected"),
        says("False", "RemoteUnreachable"),
        "True again after a complete listing"
    );
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert_eq!(sim.link_condition("east", "Connected"), says("True", "Connected"));
    assert_eq!(sim.writes(), [], "nothing was written all the while");
}

/// Promise 6: neither at the start nor later, whatever the other one is.
#[test]
fn p06_a_link_that_was_never_reached_delays_no_other() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    for name in ["a-dead-one", "a-silent-one", "east"] {
        sim.set_link(link(name, json!({})));
    }
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["a-dead-one", "a-silent-one", "east"]}})));
    sim.lose("a-dead-one");
    assert!(sim.engine.ready());
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"));
    assert_eq!(sim.link_condition("a-dead-one", "Connected"), says("False", "RemoteUnreachable"));
    sim.restart();
    sim.lose("a-dead-one");
    sim.connect("east");
    sim.list("east", &[("shop/pens", origin("p1"))], &[]);
    assert_eq!(sim.names(), ["shop/pens-east"]);
}

#[test]
fn l03_loss_actions_are_due_at_the_same_time_with_a_restart_in_between() {
    for action in ["NotReady", "Delete"] {
        let mut sim = Sim::fixture();
        sim.set_link(link("east", json!({"onLoss": {"action": action, "after": "10m"}})));
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        sim.lose("east");
        sim.pass(SignedDuration::from_mins(5));
        sim.restart();
        sim.lose("east");
        sim.pass(SignedDuration::from_secs(280));
        assert!(sim.endpoints("shop/books-east").iter().all(|e| !e.contains("not")), "{action}: not yet");
        let uid = sim.services[&key("shop/books-east")].uid.clone();
        sim.pass(SignedDuration::from_secs(20));
        match action {
            "Delete" => assert_eq!(sim.names(), Vec::<String>::new()),
            _ => {
                assert!(sim.endpoints("shop/books-east").iter().all(|e| e.contains("not ready")));
                assert_eq!(sim.mirror("shop/books-east").mirrored().unwrap().reason, "Stale");
            }
        }
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        assert!(sim.endpoints("shop/books-east").iter().all(|e| !e.contains("not")));
        assert_eq!(sim.services[&key("shop/books-east")].uid == uid, action == "NotReady", "{action}");
        assert_eq!(sim.mirror("shop/books-east").mirrored(), None);
    }
}

#[test]
fn l07_another_cluster_freezes_until_it_is_acknowledged() {
    let mut sim = Sim::with_books();
    let uid = sim.services[&key("shop/books-east")].uid.clone();
    sim.origin("shop/pens", origin("p1"));
    sim.writes();
    sim.session = 2;
    sim.lose("east");
    sim.remote("east", connected("other-uid"));
    sim.remote("east", listed("other-uid", &[("shop/books", origin("b9"))], &[]));
    assert_eq!((sim.writes(), sim.names().len()), (vec![], 2));
    assert_eq!(sim.link_condition("east", "Ready"), says("False", "RemoteIdentityChanged"));
    assert_eq!(sim.link_condition("east", "Stalled"), says("True", "RemoteIdentityChanged"));
    sim.set_link(link("east", json!({"clusterUID": "other-uid"})));
    sim.remote("east", listed("other-uid", &[("shop/books", origin("b9"))], &[]));
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.services[&key("shop/books-east")].uid, uid, "the same origin keeps its cluster IP");
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/origin-uid").unwrap(), "b9");
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"));
}

/// While a CRD is gone, what was known of its objects may be old: nothing follows from it.
#[test]
fn l11_nothing_is_decided_while_a_kind_of_ours_is_not_served() {
    let mut sim = Sim::with_books();
    sim.log.clear();
    sim.give(Input::Local(Local::Unserved(OwnKind::Policies)));
    sim.give(Input::Local(Local::Policy(Change::Gone(key("shop/all")))));
    sim.origin("shop/pens", origin("p1"));
    assert_eq!(sim.writes(), []);
    assert_eq!(sim.names(), ["shop/books-east"]);
    let all = sim.policies.iter().map(|(key, policy)| (key.clone(), Box::new(policy.clone()))).collect();
    sim.give(Input::Local(Local::Policy(Change::All(all))));
    sim.settle();
    assert_eq!(sim.names(), ["shop/books-east", "shop/pens-east"]);
    assert!(!sim.log.iter().any(|op| matches!(op, WriteOp::DeleteService(..))), "{:?}", sim.log);
}

/// A link that was made anew adopts what the old one left, in whatever order links and policies come.
#[test]
fn l11_what_a_link_adopts_waits_for_its_first_listing() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    sim.set_link(link("east", json!({"deletionPolicy": "Orphan"})));
    sim.set_policy(policy("shop/all", json!({})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    let uid = sim.services[&key("shop/books-east")].uid.clone();
    sim.links.remove("east");
    sim.give(Input::Local(Local::Link(Change::Gone("east".into()))));
    sim.delete_policy("shop/all");
    sim.log.clear();

    let mut again = link("east", json!({}));
    again.metadata.uid = Some("uid-again".into());
    again.metadata.annotations = Some((&map(&[("heliostat.dev/adopt", "uid-east")])).into());
    sim.set_link(again);
    assert_eq!(sim.services[&key("shop/books-east")].uid, uid, "its policy may be on its way");
    sim.set_policy(policy("shop/all", json!({})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    let mirror = &sim.services[&key("shop/books-east")];
    assert_eq!(mirror.uid, uid, "adopted");
    assert_eq!(mirror.ours.as_ref().unwrap().annotations.get("heliostat.dev/link-uid").unwrap(), "uid-again");
    assert!(!sim.log.iter().any(|op| matches!(op, WriteOp::DeleteService(..))), "{:?}", sim.log);
}

#[test]
fn p06_many_mirrors_of_which_nothing_is_to_be_written_keep_no_other_news_waiting() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let names: Vec<String> = (0..1500).map(|n| format!("shop/s{n}")).collect();
    let services: Vec<_> = names.iter().map(|name| (name.as_str(), origin(&format!("uid-{name}")))).collect();
    sim.list("east", &services, &[]);
    assert_eq!((sim.services.len(), sim.engine.backlog()), (1500, (0, 0)));
    sim.writes();

    let ranges = Change::Set("more".to_owned(), vec!["10.200.0.0/16".parse().unwrap()]);
    let outputs = sim.engine.handle(Input::Local(Local::ServiceCidr(ranges)), sim.now);
    assert!(outputs.iter().all(|output| !matches!(output, Output::Write(_))), "{outputs:?}");
    assert_eq!(sim.engine.backlog(), (500, 0), "the rest is not looked at before other news had its turn");
    assert_eq!(sim.engine.next_wakeup(), Some(sim.now), "and no later");
    sim.give(Input::Tick);
    assert_eq!((sim.engine.backlog(), sim.writes()), ((0, 0), vec![]));
    assert!(sim.engine.next_wakeup().is_none_or(|wakeup| wakeup > sim.now));
}

#[test]
fn l03_g07_a_mirror_says_why_its_endpoints_are_not_ready() {
    let gateway = published("books", "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]);
    let loss = json!({"onLoss": {"action": "NotReady", "after": "5m"}});
    for (spec, after, why) in [(loss, 6, "spec.onLoss.after"), (json!({}), 24 * 60 + 1, "has not confirmed")] {
        let start = || {
            let mut sim = Sim::fixture();
            sim.set_link(link("east", spec.clone()));
            sim.connect("east");
            sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway.clone())]);
            sim
        };
        // Lost while it was followed, and before a controller has ever heard of it.
        for restarted in [false, true] {
            let mut sim = start();
            if restarted {
                sim.restart();
            }
            sim.lose("east");
            sim.pass(SignedDuration::from_mins(after - 3));
            let wakes = sim.engine.next_wakeup().unwrap();
            assert!(wakes > sim.now && wakes < sim.now + SignedDuration::from_mins(4), "{why}, {restarted}: {wakes}");
            let not_ready = |sim: &Sim| sim.endpoints("shop/books-east").iter().all(|e| e.contains("not ready"));
            assert!(!not_ready(&sim) && sim.mirror("shop/books-east").mirrored().is_none(), "{why}, {restarted}");
            sim.pass(SignedDuration::from_mins(4));
            assert!(not_ready(&sim), "{why}, {restarted}");
            let told = sim.mirror("shop/books-east").mirrored().unwrap();
            assert_eq!(told.reason, "Stale");
            assert!(told.message.contains(why), "{}", told.message);
            sim.connect("east");
            sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway.clone())]);
            assert!(!not_ready(&sim) && sim.mirror("shop/books-east").mirrored().is_none(), "{why}, {restarted}");
        }
    }
}

#[test]
fn l03_the_clock_of_a_loss_stands_still_while_the_link_is_suspended() {
    let mut sim = Sim::with_books();
    let loss =
        |suspend: bool| link("east", json!({"onLoss": {"action": "Delete", "after": "10m"}, "suspend": suspend}));
    sim.set_link(loss(false));
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(5));
    sim.set_link(loss(true));
    sim.pass(SignedDuration::from_hours(5));
    sim.set_link(loss(false));
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(4));
    assert_eq!(sim.names(), ["shop/books-east"], "nine minutes of ten");
    sim.pass(SignedDuration::from_mins(2));
    assert_eq!(sim.names(), Vec::<String>::new());
}
