//! Who has a name: somebody else's Service, another link's mirror, an incumbent.

use heliostat::core::{
    io::{Change, Input, Local, RemoteEvent},
    model::Map,
};
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
