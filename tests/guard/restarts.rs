//! What is held stays so over restarts, and nothing is told twice for one.

use std::collections::BTreeMap;

use heliostat::core::io::RemoteEvent;
use jiff::SignedDuration;
use serde_json::json;

use crate::{annotate, common::*, condition, events, held, listing, message, mirrors, services, token, with_mirrors};

#[test]
fn l06_after_a_restart_it_is_held_again_with_the_same_token() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, Some(110)));
    let (first, said) = (token(&sim), message(&sim));
    sim.pass(SignedDuration::from_mins(20));
    sim.log.clear();
    sim.others.clear();
    sim.restart();
    assert_eq!((condition(&sim), sim.log.clone()), (held(), vec![]), "nothing before the first listing");
    sim.connect("east");
    sim.remote("east", listing(0..4, Some(120)));
    sim.pass(SignedDuration::from_mins(5));
    assert_eq!(sim.log, [], "not even a status");
    assert_eq!((message(&sim), events(&mut sim)), (said, vec![]));
    annotate(&mut sim, &first);
    assert_eq!(sim.names(), mirrors(0..4));
}

#[test]
fn l06_nothing_slips_through_while_this_cluster_is_not_known_yet() {
    use heliostat::core::io::{Change, Input, Local};
    let mut sim = with_mirrors(10);
    let services = std::mem::take(&mut sim.services);
    let slices = std::mem::take(&mut sim.slices);
    // A controller that has listed everything but its own Services when the exporter has answered.
    let mut fresh = Sim::fixture();
    fresh.restart_without_services();
    fresh.remote("east", connected("east-uid"));
    fresh.remote("east", listing(0..4, None));
    fresh.remote("east", RemoteEvent::ServiceGone(key("shop/s03"), "uid-3".into()));
    fresh.services = services.clone();
    fresh.slices = slices;
    fresh.give(Input::Local(Local::Slice(Change::All(fresh.slices.clone()))));
    fresh.give(Input::Local(Local::Service(Change::All(services))));
    fresh.settle();
    assert_eq!(condition(&fresh), held());
    assert!(message(&fresh).starts_with("6 of 9 "), "{}", message(&fresh));
    assert_eq!(fresh.names(), mirrors((0..10).filter(|i| *i != 3)), "a deletion that was seen is not held");
}

/// Nobody confirms the port of a held mirror while a controller starts anew: its lease runs on.
#[test]
fn l06_g07_the_lease_of_a_held_mirror_runs_on_over_a_restart() {
    let mut sim = Sim::fixture();
    sim.set_link(link("east", json!({"deletionGuard": {"maxPercent": 0, "minCount": 0}})));
    let list = |sim: &mut Sim, left: usize| {
        let gateway = |n: &str| published(n, "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]);
        let slices =
            ["s00", "s01"].into_iter().take(left).map(|n| (key(&format!("shop/{n}-gw")), gateway(n))).collect();
        let (cluster_uid, versions, services) = ("east-uid".into(), BTreeMap::new(), services(0..left));
        sim.connect("east");
        sim.remote("east", RemoteEvent::Listed { cluster_uid, versions, services, slices });
    };
    list(&mut sim, 2);
    list(&mut sim, 1);
    assert_eq!(condition(&sim), held());
    sim.pass(SignedDuration::from_hours(20));
    sim.restart();
    list(&mut sim, 1);
    let ready = |sim: &Sim, name: &str| sim.endpoints(name).iter().all(|e| !e.contains("not ready"));
    assert!(condition(&sim) == held() && ready(&sim, "shop/s01-east"), "not yet");
    sim.pass(SignedDuration::from_hours(5));
    assert!(!ready(&sim, "shop/s01-east"), "24 hours after it was confirmed last");
    assert!(ready(&sim, "shop/s00-east"));
    // Another set is held since then, though it follows at once.
    list(&mut sim, 2);
    assert_eq!(condition(&sim), None);
    list(&mut sim, 1);
    sim.pass(SignedDuration::from_hours(23));
    assert!(condition(&sim) == held() && ready(&sim, "shop/s01-east"));
}

#[test]
fn suspend_and_staleness_are_told_once() {
    let mut sim = with_mirrors(1);
    events(&mut sim);
    sim.set_link(link("east", json!({"suspend": true})));
    assert_eq!(events(&mut sim), ["Suspended"]);
    sim.restart();
    sim.pass(SignedDuration::from_mins(1));
    assert_eq!(events(&mut sim), Vec::<&str>::new());
    sim.set_link(link("east", json!({})));
    sim.connect("east");
    sim.remote("east", listing(0..1, None));
    assert!(events(&mut sim).contains(&"Accepted"));
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(6));
    assert_eq!(events(&mut sim), ["RemoteUnreachable", "Stale"]);
    sim.restart();
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(6));
    assert_eq!(events(&mut sim), Vec::<&str>::new());
}

#[test]
fn l06_that_something_is_held_is_said_also_while_the_link_is_lost_after_a_restart() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, Some(110)));
    sim.restart();
    sim.lose("east");
    assert_eq!(sim.link_condition("east", "Connected").unwrap().0, "False");
    assert_eq!(condition(&sim), held());
}

#[test]
fn l06_of_what_is_held_a_policy_lists_no_more_than_of_other_failures() {
    let mut sim = with_mirrors(60);
    sim.remote("east", listing(0..4, Some(110)));
    assert_eq!(condition(&sim), held());
    let policies: Vec<_> = sim.policies.values().filter_map(|policy| policy.status.as_ref()).collect();
    let [status] = &policies[..] else { panic!("{policies:?}") };
    assert_eq!((status.failures.len(), status.services.unwrap().mirrored), (32, 60));
}
