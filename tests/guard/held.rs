//! What too large a deletion by absence holds, and what lets it go.

use jiff::SignedDuration;
use serde_json::json;

use crate::{
    annotate, common::*, condition, counts, events, held, listing, message, mirrors, name, token, with_mirrors,
};

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
