//! Whatever is listed: sequences by chance.

use std::collections::{BTreeSet, VecDeque};

use heliostat::core::{
    io::{RemoteEvent, WriteOp},
    model::Key,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{common::*, condition, counts, listing, mirrors, name, services};

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
