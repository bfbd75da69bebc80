//! Listings of another cluster, and those that are older than what was seen.

use std::collections::BTreeMap;

use heliostat::core::{
    io::RemoteEvent,
    model::{Key, RemoteSlice},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{annotate, common::*, condition, events, held, listing, message, mirrors, services, token, with_mirrors};

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
    // Of too many that an older one lacks, that is what is said: by any listing they would be too many.
    let mut sim = with_mirrors(10);
    sim.remote("east", listing(0..4, Some(99)));
    assert!(message(&sim).contains("too many at once") && !message(&sim).contains("older"), "{}", message(&sim));
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
