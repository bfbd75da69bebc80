//! Deletions that are known for sure, by events, states, specs or loss, are not held.

use heliostat::core::io::RemoteEvent;
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
