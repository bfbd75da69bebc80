//! Who has a name: somebody else's Service, another link's mirror, an incumbent.

use heliostat::core::{
    claim::Outcome,
    io::{Change, Input, Local, RemoteEvent, WriteFailure, WriteOp},
    model::Map,
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{common::*, says};

#[test]
fn m23_what_somebody_took_over_is_theirs() {
    for lost in ["marker", "uid", "selector"] {
        let mut sim = Sim::with_books();
        sim.edit_service("shop/books-east", |state| match lost {
            "marker" => {
                state.labels.remove("app.kubernetes.io/managed-by");
            }
            "uid" => {
                state.annotations.remove("heliostat.dev/link-uid");
            }
            _ => state.has_selector = true,
        });
        let theirs = sim.services[&key("shop/books-east")].clone();
        let state = theirs.ours.as_ref().unwrap();
        assert!(
            state.labels.keys().chain(Map::from(&state.annotations).keys()).all(|k| !k.starts_with("heliostat.dev/")),
            "{lost}"
        );
        assert_eq!((state.link_owners.len(), sim.slices.len()), (0, 0), "{lost}");
        assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NameConflict".to_owned())], "{lost}");
        sim.writes();
        sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
        sim.origin("shop/books", origin("b2"));
        assert_eq!(sim.writes(), [], "{lost}: never written again");
        assert_eq!(sim.services[&key("shop/books-east")], theirs);
    }
}

#[test]
fn m10_a_service_that_is_not_ours_is_never_touched() {
    let mut sim = Sim::fixture();
    sim.foreign_service("shop/books-east");
    let theirs = sim.services.clone();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NameConflict".to_owned())]);
    assert_eq!(sim.counts("shop/all"), (1, 0, 0, 1));
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"), "a conflict blocks no rollout");
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
    assert_eq!((sim.writes(), &sim.services), (vec![], &theirs));
    sim.origin("shop/books", origin("b2"));
    sim.delete_service("shop/books-east");
    assert!(sim.services[&key("shop/books-east")].ours.is_some(), "taken when it becomes free");
}

#[test]
fn m11_two_links_two_mirrors() {
    let mut sim = Sim::with_books();
    sim.set_link(link("north", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["east", "north"]}})));
    sim.connect("north");
    sim.list("north", &[("shop/books", origin("n1"))], &[]);
    assert_eq!(sim.names(), ["shop/books-east", "shop/books-north"]);
}

#[test]
fn m12_the_incumbent_keeps_a_contested_name_also_over_restarts() {
    for first in ["b-c", "c"] {
        let mut sim = Sim::new();
        sim.namespace("shop");
        sim.set_link(link("b-c", json!({})));
        sim.set_link(link("c", json!({})));
        sim.set_policy(policy("shop/all", json!({"links": {"names": ["b-c", "c"]}})));
        let lists = |sim: &mut Sim, name: &str| {
            let service = if name == "c" { "shop/a-b" } else { "shop/a" };
            sim.connect(name);
            sim.list(name, &[(service, origin(&format!("uid-of-{name}")))], &[]);
        };
        let second = if first == "c" { "b-c" } else { "c" };
        lists(&mut sim, first);
        lists(&mut sim, second);
        assert_eq!(sim.names(), ["shop/a-b-c"]);
        assert_eq!(sim.mirror("shop/a-b-c").labels.get("heliostat.dev/link").unwrap(), first);
        assert_eq!(sim.counts("shop/all"), (2, 1, 0, 1));
        sim.writes();
        sim.restart();
        lists(&mut sim, second);
        lists(&mut sim, first);
        assert_eq!(sim.writes(), [], "stable over restarts");
    }
}

#[test]
fn a13_a_tenants_own_marks_do_nothing() {
    let mut sim = Sim::with_books();
    let state = sim.mirror("shop/books-east").clone();
    let mut forged = state.clone();
    forged.annotations.clear();
    let service = heliostat::core::model::LocalService {
        uid: "t".into(),
        resource_version: "901".into(),
        terminating: false,
        ours: Some(Box::new(forged)),
    };
    sim.services.insert(key("shop/mine"), service.clone());
    sim.writes();
    sim.give(Input::Local(Local::Service(Change::Set(key("shop/mine"), service.clone()))));
    sim.settle();
    assert_eq!((sim.writes(), &sim.services[&key("shop/mine")]), (vec![], &service));
}

/// Whoever waits for a name is told so, also while nothing is known of the link that has it.
#[test]
fn m12_a_name_is_taken_also_while_the_link_that_has_it_is_away() {
    let origins = |name: &str| [(if name == "c" { "shop/a-b" } else { "shop/a" }, origin(&format!("uid-of-{name}")))];
    let gateway = published("a-b", "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]);
    let lost = json!({"onLoss": {"action": "NotReady", "after": "5m"}});
    for (spec, slices) in [
        (json!({}), vec![]),
        (json!({}), vec![("shop/a-b-gw", gateway)]),
        (lost, vec![("shop/a-b-x", pods("a-b", &["10.1.0.1"], true))]),
    ] {
        let mut sim = Sim::new();
        sim.namespace("shop");
        sim.set_link(link("b-c", json!({})));
        sim.set_link(link("c", spec.clone()));
        sim.set_policy(policy("shop/all", json!({"links": {"names": ["b-c", "c"]}})));
        sim.connect("c");
        sim.list("c", &origins("c"), &slices);
        sim.restart();
        sim.lose("c");
        sim.pass(SignedDuration::from_mins(10));
        sim.connect("b-c");
        sim.list("b-c", &origins("b-c"), &[]);
        assert_eq!(sim.mirror("shop/a-b-c").labels.get("heliostat.dev/link").unwrap(), "c");
        assert_eq!(sim.failures("shop/all"), [("shop/a".to_owned(), "NameConflict".to_owned())], "{spec} {slices:?}");
    }
}

/// Two links whose books want the same name; east has it.
fn contested() -> Sim {
    let mut sim = Sim::with_books();
    sim.set_link(link("north", json!({})));
    let both = json!({"links": {"names": ["east", "north"]}, "mirror": {"name": "{service}-far"}});
    sim.set_policy(policy("shop/all", both));
    sim.connect("north");
    sim.list("north", &[("shop/books", origin("n1"))], &[]);
    sim
}

/// Origins of the same name, of which one link has the mirror: it is nobody else's.
#[test]
fn m12_a_mirror_counts_for_the_link_that_has_it() {
    let mut sim = contested();
    assert_eq!(sim.counts("shop/all"), (2, 1, 0, 1));
    sim.set_link(link("north", json!({"suspend": true})));
    assert_eq!(sim.counts("shop/all"), (2, 1, 0, 0));
}

#[test]
fn m12_the_next_in_line_gets_a_service_of_its_own() {
    let mut sim = contested();
    assert_eq!(sim.mirror("shop/books-far").labels.get("heliostat.dev/link").unwrap(), "east");
    sim.writes();
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
    assert_eq!(sim.mirror("shop/books-far").labels.get("heliostat.dev/link").unwrap(), "north");
    let writes = sim.writes();
    let services = writes.iter().filter(|op| !matches!(op, WriteOp::CreateSlice(..)));
    let anew = matches!(services.collect::<Vec<_>>()[..], [WriteOp::DeleteService(..), WriteOp::CreateService(..)]);
    assert!(anew, "clients of one cluster are not sent to another by the cluster IP they have: {writes:?}");
}

#[test]
fn m23_a_name_that_is_being_let_go_is_taken_already() {
    let mut sim = Sim::with_books();
    sim.refuse = vec![WriteFailure::Forbidden; 9].into();
    sim.edit_service("shop/books-east", |state| state.has_selector = true);
    let decision = sim.engine.decision(&key("shop/books-east"));
    assert!(decision.write.is_some() && matches!(decision.outcomes[..], [(_, Outcome::Conflicted(_))]));
}

#[test]
fn m10_m12_a_conflict_says_who_has_the_name() {
    let message = |sim: &Sim| sim.policies[&key("shop/all")].status.as_ref().unwrap().failures[0].message.clone();
    let mut sim = Sim::fixture();
    sim.foreign_service("shop/books-east");
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert!(message(&sim).contains("Service shop/books-east exists and is not Heliostat's"), "{}", message(&sim));
    let sim = contested();
    let taken = "the name shop/books-far is taken by the mirror of shop/books of link east (policy shop/all)";
    assert!(message(&sim).contains(taken), "{}", message(&sim));
}

#[test]
fn a13_marks_of_a_link_that_is_not_there_make_no_mirror() {
    let mut sim = Sim::with_books();
    let mut service = sim.services[&key("shop/books-east")].clone();
    service.uid = "t".into();
    service.ours.as_mut().unwrap().annotations.insert("heliostat.dev/link-uid".into(), "uid-of-nobody".into());
    sim.writes();
    sim.services.insert(key("shop/pens-east"), service.clone());
    sim.give(Input::Local(Local::Service(Change::Set(key("shop/pens-east"), service.clone()))));
    sim.settle();
    assert_eq!((sim.writes(), &sim.services[&key("shop/pens-east")]), (vec![], &service));
}
