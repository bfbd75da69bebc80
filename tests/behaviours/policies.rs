//! What the specs of policies and links say is to be mirrored, and what is not whatever they say.

use heliostat::core::io::RemoteEvent;
use serde_json::json;

use crate::{common::*, says};

#[test]
fn m14_the_spec_alone_decides_what_exists() {
    let mut sim = Sim::with_books();
    sim.set_policy(policy("shop/all", json!({"services": {"ports": ["9090"]}})));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:9090 grpc ready"]);
    assert_eq!(sim.mirror("shop/books-east").ports.len(), 1);
    sim.set_policy(policy("shop/all", json!({"mirror": {"name": "{link}-{service}"}})));
    assert_eq!(sim.names(), ["shop/east-books"]);
    sim.set_policy(policy("shop/all", json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}})));
    assert_eq!(sim.names(), Vec::<String>::new());
    assert_eq!(sim.counts("shop/all"), (0, 0, 0, 0));
}

#[test]
fn m15_deleting_the_policy_removes_mirrors_even_when_the_remote_is_down() {
    let mut sim = Sim::with_books();
    sim.lose("east");
    assert_eq!(sim.names().len(), 1);
    sim.delete_policy("shop/all");
    assert_eq!(sim.names(), Vec::<String>::new());
    let mut sim = Sim::with_books();
    sim.restart();
    sim.lose("east");
    assert_eq!(sim.names().len(), 1, "not seen since the restart is no reason to delete");
    sim.delete_policy("shop/all");
    assert_eq!(sim.names(), Vec::<String>::new());
}

#[test]
fn m16_links_that_may_not_be_used() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    sim.set_link(link("east", json!({"allowedNamespaces": {"from": "Same"}})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    let message = |sim: &Sim| {
        let status = sim.policies[&key("shop/all")].status.clone().unwrap();
        let refs = status.conditions.into_iter().find(|c| c.type_ == "ResolvedRefs").unwrap();
        (refs.reason.clone(), refs.message.replace("nowhere", "east"))
    };
    sim.set_policy(policy("shop/all", json!({})));
    let not_admitted = message(&sim);
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["nowhere"]}})));
    assert_eq!(message(&sim), not_admitted, "a tenant is not told whether the link exists");
    assert_eq!(not_admitted.0, "RefNotPermitted");
    sim.set_link(link("east", json!({})));
    sim.set_policy(policy("shop/all", json!({"services": {"namespaces": ["vault"]}})));
    assert_eq!(sim.policy_condition("shop/all", "ResolvedRefs"), says("False", "NamespaceNotAllowed"));
    assert_eq!(sim.writes(), []);
}

#[test]
fn m17_a06_mirrors_and_the_api_are_not_mirrored() {
    let mut sim = Sim::new();
    ["shop", "default", "kube-system", "heliostat-system"].iter().for_each(|ns| sim.namespace(ns));
    sim.set_link(link("east", json!({"services": {"matchAll": true, "selector": null}})));
    sim.set_policy(policy(
        "heliostat-system/all",
        json!({"services": {"namespaces": ["default", "kube-system", "heliostat-system", "shop"]}}),
    ));
    sim.connect("east");
    let mut mirror = origin("m");
    mirror.labels.insert("app.kubernetes.io/managed-by".into(), "heliostat".into());
    sim.list(
        "east",
        &[
            ("default/kubernetes", origin("k")),
            ("kube-system/kube-dns", origin("d")),
            ("heliostat-system/metrics", origin("h")),
            ("shop/books-west", mirror),
        ],
        &[],
    );
    assert_eq!((sim.writes(), sim.counts("heliostat-system/all")), (vec![], (4, 0, 4, 0)));
}

#[test]
fn m24_preview_and_suspend_write_nothing() {
    for (field, reason) in [("preview", "Preview"), ("suspend", "Suspended")] {
        let mut sim = Sim::with_books();
        sim.set_policy(policy("shop/all", json!({field: true, "services": {"ports": ["http"]}})));
        sim.writes();
        sim.origin("shop/pens", origin("p1"));
        sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
        assert_eq!((sim.writes(), sim.names()), (vec![], vec!["shop/books-east".to_owned()]), "{field}");
        assert_eq!(sim.policy_condition("shop/all", "Accepted"), says("True", reason));
        assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"), "as it was");
        if field == "preview" {
            let status = sim.policies[&key("shop/all")].status.clone().unwrap();
            let programmed = status.conditions.iter().find(|c| c.type_ == "Programmed").unwrap();
            assert_eq!(programmed.message, "would create 1, update 0, delete 1");
        }
        sim.set_policy(policy("shop/all", json!({})));
        assert_eq!(sim.names(), ["shop/pens-east"], "{field} off: converges");
    }
}

#[test]
fn limits_spare_incumbents() {
    let mut sim = Sim::fixture();
    sim.set_link(link("east", json!({"limits": {"services": 1}})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    sim.origin("shop/a-newcomer", origin("a1"));
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.failures("shop/all"), [("shop/a-newcomer".to_owned(), "QuotaExceeded".to_owned())]);
    assert_eq!(sim.counts("shop/all"), (2, 1, 1, 0));
    sim.set_link(link("east", json!({"limits": {"services": 2}})));
    assert_eq!(sim.names(), ["shop/a-newcomer-east", "shop/books-east"]);
}

#[test]
fn limits_refuse_newcomers_only() {
    let mut sim = Sim::fixture();
    sim.set_link(link("east", json!({"limits": {"services": 1}})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    sim.origin("shop/a-newcomer", origin("a1"));
    // What is within the limit follows its origin as ever.
    let mut moved = origin("b1");
    moved.ports = vec![port("http", 81)].into();
    sim.origin("shop/books", moved);
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:81 http not ready"]);
    assert_eq!(sim.names(), ["shop/books-east"]);
}

/// What is written there may be a slip of the pen: what exists stays until it is corrected, or gone.
#[test]
fn what_a_spec_that_is_not_accepted_or_on_its_way_out_has_made_stays() {
    let invalid_policy = policy("shop/all", json!({"mirror": {"name": "{nobody}"}}));
    let mut leaving_policy = policy("shop/all", json!({}));
    let invalid_link = link("east", json!({"onLoss": {"after": "soon"}}));
    let mut leaving_link = link("east", json!({}));
    let now = serde_json::from_value(json!("2026-06-01T12:00:00Z")).unwrap();
    leaving_policy.metadata.deletion_timestamp = Some(now);
    leaving_link.metadata.deletion_timestamp = leaving_policy.metadata.deletion_timestamp.clone();
    let gone = || RemoteEvent::ServiceGone(key("shop/books"), "b1".into());
    for policy in [invalid_policy, leaving_policy] {
        let mut sim = Sim::with_books();
        sim.set_policy(policy);
        sim.writes();
        sim.remote("east", gone());
        assert_eq!((sim.writes(), sim.names().len()), (vec![], 1));
    }
    for link in [invalid_link, leaving_link] {
        let mut sim = Sim::with_books();
        sim.set_link(link);
        sim.writes();
        sim.remote("east", gone());
        assert_eq!((sim.writes(), sim.names().len()), (vec![], 1));
    }
}

#[test]
fn m24_of_what_is_suspended_those_mirrors_count_that_are_there() {
    let mut sim = Sim::with_books();
    sim.set_policy(policy("shop/all", json!({"suspend": true})));
    sim.origin("shop/pens", origin("p1"));
    assert_eq!(sim.counts("shop/all"), (2, 1, 0, 0));
}

#[test]
fn origins_that_cannot_be_mirrored_say_why() {
    let refused = |name: &str, change: fn(&mut heliostat::core::model::Origin)| {
        let mut sim = Sim::fixture();
        ["default", "shop"].iter().for_each(|ns| sim.namespace(ns));
        let services = json!({"namespaces": ["default", "shop"], "ports": ["http"]});
        sim.set_policy(policy("heliostat-system/all", json!({"services": services})));
        sim.delete_policy("shop/all");
        sim.connect("east");
        let mut found = origin("o");
        change(&mut found);
        sim.list("east", &[(name, found)], &[]);
        sim.failures("heliostat-system/all").into_iter().map(|(_, reason)| reason).next()
    };
    assert_eq!(refused("default/books", |_| ()), None, "only default/kubernetes is the API");
    assert_eq!(refused("shop/kubernetes", |_| ()), None);
    assert_eq!(refused("default/kubernetes", |_| ()).as_deref(), Some("NamespaceNotAllowed"));
    assert_eq!(refused("shop/books", |o| o.malformed = Some("a port".into())).as_deref(), Some("UnsupportedValue"));
    assert_eq!(refused("shop/books", |o| o.ports = vec![].into()).as_deref(), Some("PortUnsupported"));
    assert_eq!(refused("shop/books", |o| o.ports = vec![port("db", 5)].into()).as_deref(), Some("PortUnsupported"));
}

#[test]
fn a_preview_counts_what_would_be_changed() {
    let mut sim = Sim::with_books();
    sim.set_policy(policy("shop/all", json!({"preview": true, "services": {"ports": ["9090"]}})));
    let conditions = &sim.policies[&key("shop/all")].status.as_ref().unwrap().conditions;
    let programmed = conditions.iter().find(|c| c.type_ == "Programmed").unwrap();
    assert_eq!(programmed.message, "would create 0, update 1, delete 0");
}
