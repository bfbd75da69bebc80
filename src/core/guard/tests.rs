use super::*;
use crate::core::{
    engine::Settings,
    io::{Change, Input, Local},
};

fn limits(max_percent: u32, min_count: u32) -> DeletionGuard {
    DeletionGuard { max_percent, min_count }
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn held(names: &[&str]) -> Guard {
    let entry = |name: &&str| {
        let held = Held {
            uid: format!("uid-{name}").into(),
            origin: Key::new("shop", *name),
            origin_uid: format!("origin-{name}").into(),
            policy: Key::new("shop", "all"),
        };
        (Key::new("shop", format!("{name}-east")), held)
    };
    Guard { held: names.iter().map(entry).collect(), ..Guard::default() }
}

#[test]
fn more_than_both_numbers_is_too_many() {
    let guard = Guard::default();
    for (deleted, of, crosses) in
        [(5, 5, false), (6, 6, true), (6, 20, false), (6, 19, true), (31, 100, true), (30, 100, false)]
    {
        assert_eq!(guard.crosses(deleted, of, &limits(30, 5)), crosses, "{deleted} of {of}");
    }
    assert!(guard.crosses(1, 1000, &limits(0, 0)), "none passes");
    assert!(!guard.crosses(1000, 1000, &limits(100, 0)), "100 switches it off");
    assert!(!guard.crosses(0, 0, &limits(0, 0)));
}

#[test]
fn what_passed_within_ten_minutes_counts_and_what_is_older_does_not() {
    let mut guard = Guard::default();
    guard.pass(at(0), 4, 20);
    guard.pass(at(6), 2, 16);
    assert!(guard.crosses(1, 14, &limits(30, 5)), "7 of the 20 at the window's start");
    guard.forget_before(at(10) - WINDOW);
    assert!(!guard.crosses(1, 14, &limits(30, 5)), "3 of 16");
    assert!(guard.crosses(4, 14, &limits(30, 5)), "6 of 16");
    guard.forget_before(at(16) - WINDOW);
    assert!(!guard.crosses(4, 14, &limits(30, 5)));
}

#[test]
fn l08_a_version_goes_back_only_against_its_own_scope_and_cluster() {
    let versions = |all: &[(&str, &str)]| all.iter().map(|(s, v)| (Some((*s).to_owned()), (*v).to_owned())).collect();
    let went_back = |guard: &mut Guard, cluster: &str, all: &[(&str, &str)]| {
        guard.unjudged.clear();
        guard.listed(None, cluster, &versions(all));
        guard.unjudged[&None]
    };
    let mut guard = Guard::default();
    assert!(!went_back(&mut guard, "a", &[("shop", "100"), ("stock", "90")]));
    assert!(!went_back(&mut guard, "a", &[("shop", "100"), ("stock", "95")]), "the same one is not older");
    guard.reached(Some("shop".into()), "120");
    guard.reached(Some("shop".into()), "110");
    assert!(went_back(&mut guard, "a", &[("shop", "119"), ("stock", "95")]));
    assert!(!went_back(&mut guard, "a", &[("shop", "119")]), "from there on it is counted anew");
    assert!(went_back(&mut guard, "a", &[("shop", "9")]), "as numbers, not as text");
    assert!(!went_back(&mut guard, "a", &[("shop", "aa")]), "what is no number is not compared");
    assert!(!went_back(&mut guard, "a", &[("shop", "1")]));
    guard.reached(Some("shop".into()), "200");
    assert!(!went_back(&mut guard, "b", &[("shop", "2")]), "another cluster counts by itself");
}

#[test]
fn a_token_is_good_for_its_set_only() {
    let token = held(&["a", "b"]).token("link");
    assert_eq!(token, held(&["b", "a"]).token("link"));
    assert_eq!(token.len(), 8);
    assert!(token.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    for other in [held(&["a"]), held(&["a", "b", "c"]), held(&["a", "c"])] {
        assert_ne!(token, other.token("link"));
    }
    assert_ne!(token, held(&["a", "b"]).token("another"));
    let mut anew = held(&["a", "b"]);
    anew.held.values_mut().for_each(|held| held.uid = format!("{}2", held.uid).into());
    assert_ne!(token, anew.token("link"), "what was deleted and made anew is another set");
}

#[test]
fn a_delete_is_awaited_with_the_origins_uid_only() {
    let guard = held(&["a"]);
    assert!(guard.awaits_deletion(&Key::new("shop", "a"), "origin-a"));
    assert!(!guard.awaits_deletion(&Key::new("shop", "a"), "another"));
    assert!(!guard.awaits_deletion(&Key::new("shop", "b"), "origin-b"));
}

#[test]
fn what_passed_is_added_up() {
    let mut guard = Guard::default();
    (0..3).for_each(|minute| guard.pass(at(minute), 1, 20));
    assert!(guard.crosses(4, 17, &limits(30, 5)), "7 of 20");
    assert!(!guard.crosses(3, 17, &limits(30, 5)), "6 of 20");
}

#[test]
fn l08_of_listings_that_cover_a_namespace_one_that_went_back_is_enough() {
    let mut guard = Guard::default();
    assert_eq!(guard.covers("shop"), None);
    guard.reached(Some("shop".into()), "100");
    guard.listed(None, "a", &BTreeMap::new());
    guard.reached(Some("shop".into()), "100");
    guard.listed(Some("shop".into()), "a", &[(Some("shop".to_owned()), "99".to_owned())].into());
    assert_eq!((guard.covers("shop"), guard.covers("stock")), (Some(true), Some(false)));
}

/// Of origins that are gone with their mirrors nothing must be kept.
#[test]
fn origins_that_are_gone_for_good_take_no_room() {
    let mut guard = Guard::default();
    let full_at = |guard: &mut Guard, count: usize| {
        (guard.gone.len()..count).for_each(|n| guard.is_gone(&Key::new("shop", n.to_string())));
        guard.is_full()
    };
    assert!(!full_at(&mut guard, GONE) && full_at(&mut guard, GONE + 1));
    guard.looked_through = GONE;
    assert!(!full_at(&mut guard, 2 * GONE) && full_at(&mut guard, 2 * GONE + 1), "it costs little for each");
    // That many mirrors of a link are deleted one by one, by what is said of their origins.
    let mut engine = Engine::new(Settings {
        namespace: "heliostat-system".into(),
        cluster_domain: "cluster.local".into(),
        cluster_cidrs: vec![],
        writes_in_flight: 8,
        export: None,
    });
    let link = serde_json::json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": "east", "uid": "u"},
        "spec": {"kubeconfigSecretRef": {"name": "east"}},
    });
    let link: crate::api::ClusterLink = serde_json::from_value(link).unwrap();
    engine.handle(Input::Local(Local::Link(Change::Set("east".into(), Box::new(link)))), at(0));
    engine.world.links.get_mut("east").unwrap().guard = guard;
    engine.look_through_gone("east");
    assert_eq!(engine.world.links["east"].guard.gone.len(), 0);
}
