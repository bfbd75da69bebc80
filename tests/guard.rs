//! The deletion guard, decided in memory: what a listing lacks is not deleted in masses, nor by a
//! listing that is older than what was seen; what was deleted for sure is. Named by the ids of the
//! behaviour catalogue.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::*;
use heliostat::core::{
    io::{About, Output, RemoteEvent, WriteOp},
    model::{Key, Origin, RemoteSlice},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

const HELD: (&str, &str) = ("True", "DeletionHeld");

fn name(index: usize) -> String {
    format!("shop/s{index:02}")
}

fn mirrors(indices: impl IntoIterator<Item = usize>) -> Vec<String> {
    indices.into_iter().map(|index| format!("{}-east", name(index))).collect()
}

fn services(indices: impl IntoIterator<Item = usize>) -> BTreeMap<Key, Origin> {
    indices.into_iter().map(|index| (key(&name(index)), origin(&format!("uid-{index}")))).collect()
}

/// A complete listing of the origins with these numbers, at that resourceVersion.
fn listing(indices: impl IntoIterator<Item = usize>, version: Option<u64>) -> RemoteEvent {
    RemoteEvent::Listed {
        cluster_uid: "east-uid".into(),
        versions: version.map(|version| (None, version.to_string())).into_iter().collect(),
        services: services(indices),
        slices: BTreeMap::new(),
    }
}

/// The fixture with that many mirrors.
fn with_mirrors(count: usize) -> Sim {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.remote("east", listing(0..count, Some(100)));
    assert_eq!(sim.names(), mirrors(0..count));
    sim.log.clear();
    sim
}

fn condition(sim: &Sim) -> Option<(String, String)> {
    sim.link_condition("east", "DeletionHeld")
}

fn message(sim: &Sim) -> String {
    let status = sim.links["east"].status.clone().unwrap();
    status.conditions.into_iter().find(|c| c.type_ == "DeletionHeld").expect("nothing is held").message
}

/// The token, as a user finds it: the word after "token".
fn token(sim: &Sim) -> String {
    let message = message(sim);
    let mut words = message.split_whitespace().skip_while(|word| *word != "token");
    words.nth(1).unwrap().to_owned()
}

fn held() -> Option<(String, String)> {
    Some((HELD.0.into(), HELD.1.into()))
}

fn annotate(sim: &mut Sim, token: &str) {
    let mut link = sim.links["east"].clone();
    link.metadata.annotations.get_or_insert_default().insert("heliostat.dev/allow-deletion".into(), token.into());
    sim.set_link(link);
}

fn counts(sim: &Sim) -> (u32, u32, u32) {
    let services = sim.links["east"].status.as_ref().unwrap().services.unwrap();
    (services.seen, services.mirrored, services.skipped)
}

/// Events about the link, by reason, since this was asked last.
fn events(sim: &mut Sim) -> Vec<&'static str> {
    let told = |output| match output {
        Output::Event(event) if matches!(event.about, About::Link(..)) => Some(event.reason),
        _ => None,
    };
    std::mem::take(&mut sim.others).into_iter().filter_map(told).collect()
}

#[test]
fn l06_a_listing_that_lacks_most_origins_deletes_nothing() {
    let mut sim = with_mirrors(10);
    let (services, slices) = (sim.services.clone(), sim.slices.clone());
    events(&mut sim);
    sim.remote("east", listing(0..4, Some(110)));
    assert_eq!(sim.writes(), [], "they stay exactly as they are");
    assert_eq!((&sim.services, &sim.slices), (&services, &slices));
    assert_eq!(condition(&sim), held());
    let text = message(&sim);
    assert!(text.starts_with("6 of 10 mirrors are held since 2026-06-01T12:00:"), "{text}");
    let token = token(&sim);
    assert!(text.split_whitespace().any(|word| word == token), "a word of its own");
    let command = format!("kubectl annotate clusterlink east heliostat.dev/allow-deletion={token}");
    assert!(text.contains(&command) && text.contains("Look at the exporter"), "{text}");
    assert_eq!(counts(&sim), (4, 10, 0), "they are counted as what they are: mirrored");
    assert_eq!(sim.counts("shop/all"), (10, 10, 0, 0));
    assert_eq!(sim.failures("shop/all").len(), 6);
    assert!(sim.failures("shop/all").iter().all(|(_, reason)| reason == "DeletionHeld"));
    assert_eq!(sim.link_condition("east", "Ready"), Some(("True".into(), "Ready".into())), "the state is known");
    assert_eq!(sim.policy_condition("shop/all", "Ready"), Some(("True".into(), "Ready".into())));
    assert_eq!(events(&mut sim), ["DeletionHeld"]);
    // As long as that lasts, be it said again or not.
    sim.remote("east", listing(0..4, Some(120)));
    sim.pass(SignedDuration::from_hours(30));
    sim.log.clear();
    sim.remote("east", listing(0..4, Some(130)));
    assert_eq!((sim.log.clone(), events(&mut sim)), (vec![], vec![]), "and nothing is said twice");
    assert_eq!(sim.services, services);
}

#[test]
fn l06_they_return() {
    let mut sim = with_mirrors(10);
    let services = sim.services.clone();
    sim.remote("east", listing(0..4, None));
    assert_eq!(condition(&sim), held());
    events(&mut sim);
    sim.remote("east", listing(0..10, None));
    assert_eq!((sim.writes(), condition(&sim)), (vec![], None));
    assert_eq!(sim.services, services, "as if nothing had happened");
    assert_eq!((events(&mut sim), sim.failures("shop/all")), (vec!["DeletionHeld"], vec![]));
    // Another one goes with the listing by which they return: it is one of ten.
    sim.remote("east", listing(0..4, None));
    assert_eq!(condition(&sim), held());
    sim.remote("east", listing(1..10, None));
    assert_eq!((sim.names(), condition(&sim)), (mirrors(1..10), None));
    sim.remote("east", listing(0..10, None));
    sim.pass(SignedDuration::from_mins(10));
    // One by one, by a watch; the last one as another origin of its name.
    sim.remote("east", listing(0..4, None));
    let first = token(&sim);
    (4..9).for_each(|index| sim.origin(&name(index), origin(&format!("uid-{index}"))));
    assert_eq!(condition(&sim), held());
    assert!(message(&sim).starts_with("1 of 10 "));
    assert_ne!(token(&sim), first, "another set");
    sim.origin(&name(9), origin("another"));
    assert_eq!(condition(&sim), None);
    assert_eq!(sim.mirror("shop/s09-east").annotations.get("heliostat.dev/origin-uid").unwrap(), "another");
    assert_eq!(sim.names(), mirrors(0..10));
}

#[test]
fn l06_the_token_lets_exactly_its_set_go() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, None));
    let first = token(&sim);
    for wrong in ["", "yes", "00000000", &first.to_uppercase(), &format!(" {first}")] {
        if *wrong != first {
            annotate(&mut sim, wrong);
        }
    }
    assert_eq!((sim.writes(), condition(&sim)), (vec![], held()));
    // The set grows before the token is there.
    sim.remote("east", listing(0..3, None));
    assert_ne!(token(&sim), first);
    annotate(&mut sim, &first);
    assert_eq!((sim.writes(), condition(&sim)), (vec![], held()), "good for that set only");
    let second = token(&sim);
    annotate(&mut sim, &second);
    assert_eq!(sim.names(), mirrors(0..3));
    assert_eq!(sim.slices.len(), 3);
    assert_eq!((condition(&sim), counts(&sim), sim.failures("shop/all")), (None, (3, 3, 0), vec![]));
    // What comes back and goes again is another set, though the annotation is still there.
    sim.remote("east", listing(0..10, None));
    assert_eq!(sim.names(), mirrors(0..10));
    sim.writes();
    sim.remote("east", listing(0..3, None));
    assert_eq!((sim.writes(), condition(&sim)), (vec![], held()));
    assert_ne!(token(&sim), second);
}

#[test]
fn l06_what_passes_within_ten_minutes_counts_together() {
    let mut sim = with_mirrors(12);
    sim.remote("east", listing(3..12, None));
    assert_eq!(sim.names(), mirrors(3..12), "3 of 12 pass");
    sim.pass(SignedDuration::from_mins(5));
    sim.remote("east", listing(6..12, None));
    assert_eq!((sim.names(), condition(&sim)), (mirrors(3..12), held()), "6 of 12 would be too many: all 3 are held");
    assert!(message(&sim).starts_with("3 of 9 "));
    let mut sim = with_mirrors(12);
    sim.remote("east", listing(3..12, None));
    sim.pass(SignedDuration::from_mins(10));
    sim.remote("east", listing(6..12, None));
    assert_eq!((sim.names(), condition(&sim)), (mirrors(6..12), None), "ten minutes later they pass");
}

#[test]
fn l06_few_or_a_small_part_pass_and_the_spec_says_how_many() {
    for (guard, there, left) in
        [(json!({}), 6, 1), (json!({}), 100, 70), (json!({"maxPercent": 100}), 50, 0), (json!({"minCount": 50}), 50, 0)]
    {
        let mut sim = with_mirrors(there);
        sim.set_link(link("east", json!({"deletionGuard": guard})));
        sim.remote("east", listing(0..left, None));
        assert_eq!((sim.names().len(), condition(&sim)), (left, None), "{guard} {there}");
    }
    for (guard, there, left) in
        [(json!({}), 6, 0), (json!({}), 100, 69), (json!({"maxPercent": 0, "minCount": 0}), 100, 99)]
    {
        let mut sim = with_mirrors(there);
        sim.set_link(link("east", json!({"deletionGuard": guard})));
        sim.remote("east", listing(0..left, None));
        assert_eq!((sim.names().len(), condition(&sim)), (there, held()), "{guard} {there}");
    }
}

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

#[test]
fn a_suspended_policy_is_no_way_around_the_guard() {
    let mut sim = with_mirrors(10);
    sim.set_policy(policy("shop/all", json!({"suspend": true})));
    sim.remote("east", listing(0..4, None));
    sim.set_policy(policy("shop/all", json!({})));
    assert_eq!((sim.names(), condition(&sim)), (mirrors(0..10), held()));
}

#[test]
fn edits_of_held_mirrors_are_left_and_another_claim_waits() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, None));
    sim.writes();
    sim.edit_service("shop/s05-east", |state| {
        state.annotations.insert("heliostat.dev/origin".into(), "shop/elsewhere".into());
        state.ports.edit(|ports| ports.pop());
    });
    assert_eq!((sim.writes(), sim.names()), (vec![], mirrors(0..10)));
    // Another origin that wants the name of a held mirror does not get it.
    let other = heliostat::core::model::Origin { uid: "x".into(), ..origin("x") };
    sim.set_policy(policy(
        "shop/other",
        json!({"services": {"namespaces": ["stock"]}, "mirror": {"name": "{service}-east"}}),
    ));
    sim.set_link(link("east", json!({"namespaceSameness": false})));
    let uid = sim.services[&key("shop/s06-east")].uid.clone();
    sim.origin("stock/s06", other);
    assert_eq!(sim.services[&key("shop/s06-east")].uid, uid);
    assert_eq!(sim.failures("shop/other"), [("stock/s06".to_owned(), "NameConflict".to_owned())]);
}

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

#[test]
fn l07_of_another_cluster_the_same_names_stay_and_the_rest_is_guarded() {
    let mut sim = with_mirrors(10);
    let uids: BTreeMap<Key, _> = sim.services.iter().map(|(k, s)| (k.clone(), s.uid.clone())).collect();
    events(&mut sim);
    let other = |left: usize| {
        let mut all = services(0..left);
        all.values_mut().for_each(|origin| origin.uid = format!("{}-of-another", origin.uid).into());
        RemoteEvent::Listed {
            cluster_uid: "other-uid".into(),
            versions: BTreeMap::from([(None, "7".to_owned())]),
            services: all,
            slices: BTreeMap::new(),
        }
    };
    sim.lose("east");
    sim.session = 2;
    sim.remote("east", connected("other-uid"));
    sim.remote("east", other(4));
    sim.pass(SignedDuration::from_hours(2));
    assert_eq!((sim.writes(), sim.names().len()), (vec![], 10), "frozen");
    assert_eq!(condition(&sim), None);
    assert_eq!(sim.link_condition("east", "Stalled"), Some(("True".into(), "RemoteIdentityChanged".into())));
    assert_eq!(events(&mut sim), ["RemoteUnreachable", "RemoteIdentityChanged"]);
    sim.set_link(link("east", json!({"clusterUID": "other-uid"})));
    assert_eq!(sim.writes(), [], "what is known is still of the old one");
    sim.remote("east", other(4));
    assert_eq!(sim.names(), mirrors(0..10), "6 of 10 are too many, a listing of another cluster or not");
    assert_eq!(condition(&sim), held());
    assert!(!message(&sim).contains("older"), "versions of two clusters are not compared");
    assert_eq!(sim.mirror("shop/s00-east").annotations.get("heliostat.dev/origin-uid").unwrap(), "uid-0-of-another");
    assert!(sim.services.iter().all(|(key, service)| uids[key] == service.uid), "no cluster IP changed");
    let token = token(&sim);
    annotate(&mut sim, &token);
    assert_eq!(sim.names(), mirrors(0..4));
    assert!(sim.services.iter().all(|(key, service)| uids[key] == service.uid));
}

#[test]
fn l08_an_older_listing_deletes_nothing_however_few() {
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..9, Some(99)));
    assert_eq!((sim.names().len(), condition(&sim)), (10, held()), "1 of 10, by 99 after 100");
    assert!(message(&sim).contains("older than what was seen before"));
    // From there on it is the measure: what goes then goes as usual, and what is held stays so.
    sim.remote("east", listing(0..8, Some(101)));
    assert_eq!(sim.names(), mirrors((0..10).filter(|i| *i != 8)));
    assert!(message(&sim).starts_with("1 of 9 "));
    let token = token(&sim);
    annotate(&mut sim, &token);
    assert_eq!((sim.names(), condition(&sim)), (mirrors(0..8), None));
}

#[test]
fn l08_events_and_bookmarks_count_and_a_new_session_is_held_against_them() {
    let mut sim = with_mirrors(10);
    sim.remote("east", RemoteEvent::Reached { scope: None, version: "500".into() });
    sim.lose("east");
    sim.session = 2;
    sim.connect("east");
    sim.remote("east", listing(0..9, Some(499)));
    assert_eq!((sim.names().len(), condition(&sim)), (10, held()));
    // A watch of one namespace that is listed again.
    let mut sim = with_mirrors(10);
    let scope = Some("shop".to_owned());
    sim.remote("east", RemoteEvent::Reached { scope: scope.clone(), version: "500".into() });
    let relist = |indices: std::ops::Range<usize>, version: &str| RemoteEvent::ServicesListed {
        cluster_uid: "east-uid".into(),
        scope: scope.clone(),
        version: Some(version.into()),
        services: services(indices),
    };
    sim.remote("east", relist(0..9, "500"));
    assert_eq!((sim.names().len(), condition(&sim)), (9, None), "not older: one passes");
    sim.remote("east", relist(0..8, "65"));
    assert_eq!((sim.names().len(), condition(&sim)), (9, held()));
    // 100 % is no way around that.
    let mut sim = with_mirrors(10);
    sim.set_link(link("east", json!({"deletionGuard": {"maxPercent": 100}})));
    sim.remote("east", listing(0..1, Some(101)));
    assert_eq!((sim.names().len(), condition(&sim)), (1, None));
    sim.remote("east", listing(0..0, Some(100)));
    assert_eq!((sim.names().len(), condition(&sim)), (1, held()));
    // What is no number is not compared.
    let mut sim = with_mirrors(10);
    sim.remote("east", relist(0..10, "abc"));
    sim.remote("east", relist(0..9, "abb"));
    assert_eq!((sim.names().len(), condition(&sim)), (9, None));
}

#[test]
fn l08_what_an_older_listing_shows_is_followed() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let slices = |address: &str| -> BTreeMap<Key, RemoteSlice> {
        let gateway = |n: &str| published(n, "public", &[address], &[("http", 20001), ("grpc", 20002)]);
        [(key("shop/s00-gw"), gateway("s00")), (key("shop/s01-gw"), gateway("s01"))].into()
    };
    let list = |sim: &mut Sim, left: usize, version: &str, address: &str| {
        let versions = BTreeMap::from([(None, version.to_owned())]);
        let (cluster_uid, services) = ("east-uid".into(), services(0..left));
        let mut slices = slices(address);
        slices.retain(|slice, _| left > 1 || slice.name == "s00-gw");
        sim.remote("east", RemoteEvent::Listed { cluster_uid, versions, services, slices });
    };
    list(&mut sim, 2, "100", "203.0.113.9");
    list(&mut sim, 1, "50", "203.0.113.8");
    assert_eq!(sim.endpoints("shop/s00-east")[0], "203.0.113.8:20001 http ready", "endpoints follow the exporter");
    assert_eq!(sim.endpoints("shop/s01-east")[0], "203.0.113.9:20001 http ready", "what is held stays as it is");
    // But for a port that is confirmed no more: its lease is 24 hours.
    sim.pass(SignedDuration::from_hours(23));
    assert!(sim.endpoints("shop/s01-east").iter().all(|e| !e.contains("not ready")));
    sim.pass(SignedDuration::from_hours(2));
    assert!(sim.endpoints("shop/s01-east").iter().all(|e| e.contains("not ready")));
    assert_eq!(sim.mirror("shop/s01-east").mirrored().unwrap().reason, "Stale");
    assert!(sim.endpoints("shop/s00-east").iter().all(|e| !e.contains("not ready")));
    list(&mut sim, 2, "60", "203.0.113.9");
    assert!(sim.endpoints("shop/s01-east").iter().all(|e| !e.contains("not ready")), "and back with its origin");
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

// ---- whatever is listed ----

#[derive(Clone, Debug)]
enum Step {
    /// A listing lacks those origins for which the mask has a bit.
    List(u32),
    /// One watch is listed again.
    Relist(u32),
    /// An origin is deleted, and that is seen.
    Gone(usize),
    Back(usize),
    Restart,
    Pass(i64),
}

const ORIGINS: usize = 24;

fn step() -> impl Strategy<Value = Step> {
    let mask = || prop_oneof![any::<u32>(), any::<(u32, u32, u32)>().prop_map(|(a, b, c)| a & b & c), Just(0)];
    prop_oneof![
        4 => mask().prop_map(Step::List),
        4 => mask().prop_map(Step::Relist),
        2 => (0..ORIGINS).prop_map(Step::Gone),
        2 => (0..ORIGINS).prop_map(Step::Back),
        1 => Just(Step::Restart),
        4 => (1..700i64).prop_map(Step::Pass),
    ]
}

fn not_in(mask: u32) -> Vec<usize> {
    (0..ORIGINS).filter(|index| mask & (1 << index) == 0).collect()
}

/// A deletion by absence: when, and how many mirrors there were before it.
type Deleted = (Timestamp, usize);

/// Whether more than `percent` and `count` were deleted within any ten minutes of it.
fn too_many(deleted: &VecDeque<Deleted>, percent: usize, count: usize) -> bool {
    deleted.iter().enumerate().any(|(first, (start, of))| {
        let within =
            deleted.iter().skip(first).filter(|(at, _)| at.duration_since(*start) < SignedDuration::from_mins(10));
        let number = within.count();
        number > count && number * 100 > of * percent
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn whatever_listings_lack_no_ten_minutes_delete_more_than_the_guard_lets(
        steps in prop::collection::vec(step(), 1..40), percent in 0..60usize, count in 0..8usize,
    ) {
        let mut sim = Sim::fixture();
        let guard: Value = json!({"maxPercent": percent, "minCount": count});
        sim.set_link(link("east", json!({"deletionGuard": guard})));
        sim.connect("east");
        sim.remote("east", listing(0..ORIGINS, None));
        let mut deleted: VecDeque<Deleted> = VecDeque::new();
        let mut seen_gone: BTreeSet<Key> = BTreeSet::new();
        for step in steps {
            let before: BTreeSet<Key> = sim.services.keys().cloned().collect();
            let at = sim.now;
            match step {
                Step::List(mask) => {
                    seen_gone.retain(|mirror| !not_in(mask).iter().any(|i| mirrors([*i])[0] == mirror.to_string()));
                    sim.remote("east", listing(not_in(mask), None));
                }
                Step::Relist(mask) => {
                    seen_gone.retain(|mirror| !not_in(mask).iter().any(|i| mirrors([*i])[0] == mirror.to_string()));
                    let (cluster_uid, scope, version) = ("east-uid".into(), None, None);
                    sim.remote("east", RemoteEvent::ServicesListed { cluster_uid, scope, version, services: services(not_in(mask)) });
                }
                Step::Gone(index) => {
                    seen_gone.insert(key(&mirrors([index])[0]));
                    sim.remote("east", RemoteEvent::ServiceGone(key(&name(index)), format!("uid-{index}")));
                }
                Step::Back(index) => {
                    seen_gone.remove(&key(&mirrors([index])[0]));
                    sim.origin(&name(index), origin(&format!("uid-{index}")));
                }
                Step::Restart => {
                    // It forgets what it let pass, which is what the promise says.
                    deleted.clear();
                    sim.restart();
                    sim.connect("east");
                    sim.remote("east", listing(0..ORIGINS, None));
                }
                Step::Pass(seconds) => sim.pass(SignedDuration::from_secs(seconds)),
            }
            let gone = before.iter().filter(|mirror| !sim.services.contains_key(*mirror) && !seen_gone.contains(*mirror));
            deleted.extend(gone.map(|_| (at, before.len())));
            prop_assert!(!too_many(&deleted, percent, count), "{:?} of {}%, {}", deleted, percent, count);
            // What is said is what is done.
            let held = sim.engine.deletions_held().map(|(_, held)| held).sum::<usize>();
            prop_assert_eq!(condition(&sim).is_some(), held > 0);
            let (seen, mirrored, _) = counts(&sim);
            prop_assert_eq!((mirrored as usize, sim.services.len()), (sim.services.len(), seen as usize + held));
        }
        // And when everything returns, everything is as ever.
        sim.remote("east", listing(0..ORIGINS, None));
        prop_assert_eq!(sim.names(), mirrors(0..ORIGINS));
        prop_assert_eq!(condition(&sim), None);
        sim.log.clear();
        sim.remote("east", listing(0..ORIGINS, None));
        sim.restart();
        sim.connect("east");
        sim.remote("east", listing(0..ORIGINS, None));
        sim.pass(SignedDuration::from_mins(30));
        prop_assert_eq!(sim.log, Vec::<WriteOp>::new());
    }
}
