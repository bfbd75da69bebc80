//! Deletions that are known for sure, by events, states, specs or loss, are not held.

use heliostat::core::{
    io::{Change, Input, Local, RemoteEvent, WriteFailure},
    model::LocalService,
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{common::*, condition, held, listing, message, mirrors, name, services, with_mirrors};

#[test]
fn deletions_that_are_known_are_not_held() {
    // By events with their uids.
    let mut sim = with_mirrors(10);
    (0..10).for_each(|i| sim.remote("east", RemoteEvent::ServiceGone(key(&name(i)), format!("uid-{i}"))));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
    // By states that are not to be mirrored, which a listing shows.
    let mut sim = with_mirrors(10);
    let mut all = services(0..10);
    all.values_mut().for_each(|o| o.kind = heliostat::core::model::OriginType::ExternalName);
    let RemoteEvent::Listed { cluster_uid, versions, slices, .. } = listing([], None) else { panic!() };
    sim.remote("east", RemoteEvent::Listed { cluster_uid, versions, services: all, slices });
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
    // By specs: a policy's, and a link's, whether they narrow namespaces or labels.
    let mut sim = with_mirrors(10);
    sim.delete_policy("shop/all");
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
    for services in [json!({"namespaces": ["other"]}), json!({"selector": {"matchLabels": {"tier": "front"}}})] {
        let mut sim = with_mirrors(10);
        sim.set_link(link("east", json!({"services": services})));
        sim.remote("east", listing([], None));
        assert_eq!((sim.names(), condition(&sim)), (vec![], None), "{services}");
    }
    // By loss.
    let mut sim = with_mirrors(10);
    sim.set_link(link("east", json!({"onLoss": {"action": "Delete", "after": "5m"}})));
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(6));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
}

#[test]
fn held_mirrors_go_by_what_is_known_of_them() {
    let hold = || {
        let mut sim = with_mirrors(10);
        sim.remote("east", listing(0..4, None));
        assert_eq!(condition(&sim), held());
        sim
    };
    // A DELETE with the origin's uid.
    let mut sim = hold();
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/s05"), "another".into()));
    assert_eq!(sim.names(), mirrors(0..10));
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/s05"), "uid-5".into()));
    assert_eq!(sim.names(), mirrors((0..10).filter(|i| *i != 5)));
    assert!(message(&sim).starts_with("5 of 9 "));
    // Somebody deletes the mirror itself: nothing is known that it could be made of.
    sim.delete_service("shop/s06-east");
    assert!(message(&sim).starts_with("4 of 8 "));
    // The policy goes; the link does not want the namespace any more.
    let mut sim = hold();
    sim.delete_policy("shop/all");
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
    let mut sim = hold();
    sim.set_link(link("east", json!({"services": {"namespaces": ["other"]}})));
    assert_eq!((sim.names(), condition(&sim)), (mirrors(0..4), None), "as far as specs alone tell");
    // The link is lost for long, with Delete.
    let mut sim = hold();
    sim.set_link(link("east", json!({"onLoss": {"action": "Delete", "after": "5m"}})));
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(4));
    assert_eq!(sim.names(), mirrors(0..10));
    sim.pass(SignedDuration::from_mins(2));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
}

/// Deleting with a finalizer takes its time, and a watch that was away shows only what came of it.
#[test]
fn a_held_mirror_that_somebody_deletes_is_held_no_more() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, None));
    let change = |sim: &mut Sim, name: &str, edit: fn(&mut LocalService)| {
        let service = sim.services.get_mut(&key(name)).unwrap();
        edit(service);
        let service = service.clone();
        sim.give(Input::Local(Local::Service(Change::Set(key(name), service))));
        sim.settle();
    };
    change(&mut sim, "shop/s05-east", |service| service.terminating = true);
    assert!(message(&sim).starts_with("5 of 9 "), "{}", message(&sim));
    assert!(!sim.failures("shop/all").iter().any(|(origin, _)| origin == "shop/s05"));
    // Somebody else's Service has taken its name.
    change(&mut sim, "shop/s06-east", |service| service.ours = None);
    assert!(message(&sim).starts_with("4 of 8 "), "{}", message(&sim));
}

#[test]
fn what_is_held_is_counted_by_link() {
    let mut sim = with_mirrors(10);
    let counted = |sim: &Sim| sim.engine.deletions_held().map(|(link, n)| (link.to_owned(), n)).collect::<Vec<_>>();
    assert_eq!(counted(&sim), []);
    sim.remote("east", listing(0..4, None));
    assert_eq!(counted(&sim), [("east".to_owned(), 6)]);
    sim.remote("east", listing(0..10, None));
    assert_eq!(counted(&sim), []);
}

/// By what the policy wants, whichever of it changes; each alone decides.
#[test]
fn l06_what_a_policy_does_not_want_any_more_is_not_held() {
    for spec in [
        json!({"services": {"namespaces": ["other"]}}),
        json!({"mirror": {"name": "{service}-elsewhere"}}),
        json!({"links": {"names": ["another"]}}),
    ] {
        let mut sim = with_mirrors(10);
        sim.remote("east", listing(0..4, None));
        assert_eq!(condition(&sim), held());
        sim.set_policy(policy("shop/all", spec.clone()));
        assert_eq!(condition(&sim), None, "{spec}");
        assert!(sim.names().iter().all(|mirror| mirror.ends_with("-elsewhere")), "{spec}: {:?}", sim.names());
    }
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, None));
    sim.set_link(link("east", json!({"allowedNamespaces": {"from": "Same"}})));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None), "the link does not admit it any more");
}

#[test]
fn what_was_seen_deleted_is_not_held_though_its_mirror_is_still_there() {
    let mut sim = with_mirrors(10);
    sim.refuse = vec![WriteFailure::Forbidden; 99].into();
    (4..10).for_each(|i| sim.remote("east", RemoteEvent::ServiceGone(key(&name(i)), format!("uid-{i}"))));
    sim.remote("east", listing(0..4, None));
    assert_eq!((sim.names().len(), condition(&sim)), (10, None));
}

/// Narrowed by a label, and one namespace is listed anew before all are.
#[test]
fn what_a_link_does_not_ask_for_any_more_is_not_held_in_the_scope_that_is_listed() {
    let mut sim = with_mirrors(10);
    sim.set_link(link("east", json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}})));
    let relist = |scope: &str| RemoteEvent::ServicesListed {
        cluster_uid: "east-uid".into(),
        scope: Some(scope.into()),
        version: None,
        services: services(0..0),
    };
    sim.remote("east", relist("stock"));
    assert_eq!((sim.names().len(), condition(&sim)), (10, None));
    sim.remote("east", relist("shop"));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
    let mut sim = with_mirrors(10);
    sim.set_link(link("east", json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}})));
    sim.remote("east", relist("shop"));
    assert_eq!((sim.names(), condition(&sim)), (vec![], None));
}
