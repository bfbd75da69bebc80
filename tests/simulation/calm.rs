//! Without any fault: what the others are compared with.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use crate::{
    adversary::{KINDS, strike},
    server::Wrong,
    world::{
        Chance, LINKS, World,
        oracle::{Wrote, counts, decoys, differences, picture, twice, written},
        scene::{self, CHANGES, Change},
        simulate,
    },
};

/// Slices that there are once everything is mirrored: one a mirror, and those of nobody's.
pub(crate) const MIRRORS: usize = 25;

/// All clusters, furnished.
pub(crate) fn world() -> World {
    let world = World::new();
    for (link, exporter) in &world.exporters {
        scene::furnish_exporter(exporter, link);
    }
    scene::furnish_importer(&world.importer);
    world
}

/// Every change of every link, in an order of its own for each seed, with the time before each.
pub(crate) fn script(chance: &mut Chance) -> Vec<(u64, &'static str, Change, u64)> {
    let mut all: Vec<(&'static str, Change, u64)> =
        LINKS.into_iter().flat_map(|link| CHANGES.map(|(change, origin)| (link, change, origin))).collect();
    chance.shuffle(&mut all);
    all.into_iter().map(|(link, change, origin)| (chance.below(8000), link, change, origin)).collect()
}

/// What a run without faults writes.
pub(crate) async fn baseline() -> (World, Vec<Wrote>) {
    let world = world();
    let controller = world.start("one", false);
    sleep(Duration::from_secs(30)).await;
    for (pause, link, change, origin) in script(&mut Chance::new(0)) {
        sleep(Duration::from_millis(pause)).await;
        scene::change(&world, link, change, origin);
    }
    sleep(Duration::from_secs(300)).await;
    controller.stop().await;
    let wrote = written(&world, 0);
    (world, wrote)
}

#[test]
fn a_run_without_faults_ends_as_planned_and_then_is_silent() {
    simulate(0, async || {
        let world = world();
        let before = decoys(&world.importer);
        let controller = world.start("one", false);
        sleep(Duration::from_secs(60)).await;
        let made = counts(&written(&world, 0));
        assert_eq!(made["create"], 23);
        assert_eq!(world.importer.count("endpointslices"), MIRRORS);
        let since = world.trace.len();
        sleep(Duration::from_secs(7200)).await;
        let lines: Vec<String> = written(&world, since).into_iter().map(|write| write.line).collect();
        assert_eq!(lines, Vec::<String>::new());
        controller.stop().await;
        assert_eq!(decoys(&world.importer), before);
    });
    simulate(0, async || {
        let (world, wrote) = baseline().await;
        let kinds: BTreeSet<String> = wrote.iter().map(|write| format!("{} {}", write.verb, write.kind)).collect();
        let met = KINDS.map(|(verb, kind)| format!("{} {kind}", verb.as_str()));
        assert_eq!(kinds, BTreeSet::from(met), "the kinds of writes that meet every fault");
        let fresh = world.with_another_importer();
        scene::furnish_importer(&fresh.importer);
        let controller = fresh.start("fresh", false);
        sleep(Duration::from_secs(300)).await;
        controller.stop().await;
        let wrong = differences(&picture(&world.importer), &picture(&fresh.importer));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// A clock that is set back delays nothing that waits to be tried again.
#[test]
fn l12_a_clock_that_is_set_back_delays_no_retry() {
    simulate(0, async || {
        let world = world();
        strike(&world.importer, &KINDS, ("503", Wrong::Answer(503, None)));
        let controller = world.start("one", false);
        sleep(Duration::from_millis(300)).await;
        assert!(world.importer.count("endpointslices") < MIRRORS, "some writes have failed");
        world.jump(-3600);
        sleep(Duration::from_secs(120)).await;
        assert_eq!(world.importer.count("endpointslices"), MIRRORS);
        let since = world.trace.len();
        sleep(Duration::from_secs(7200)).await;
        let late: Vec<String> = written(&world, since).into_iter().map(|write| write.line).collect();
        assert_eq!(late, Vec::<String>::new());
        controller.stop().await;
    });
}

/// The controller dies with every single one of its first writes, and another one takes over.
#[test]
fn l09_a_crash_after_any_write_changes_nothing_of_the_end() {
    let (should, writes) = simulate(0, async || {
        let world = world();
        let controller = world.start("one", false);
        sleep(Duration::from_secs(60)).await;
        let writes = controller.wire.writes();
        controller.stop().await;
        (picture(&world.importer), writes)
    });
    assert!(writes > 46, "a Service and a slice for each mirror, and statuses");
    for n in 1..=writes {
        simulate(n, async || {
            let world = world();
            let (foreign, controller) = (decoys(&world.importer), world.start("one", false));
            controller.wire.die_after(n);
            assert!(controller.death(Duration::from_secs(60)).await, "there are {n} writes");
            controller.kill().await;
            let controller = world.start("two", false);
            sleep(Duration::from_secs(30)).await;
            let wrong = differences(&picture(&world.importer), &should);
            assert!(wrong.is_empty(), "after write {n}:\n{}", wrong.join("\n"));
            let wrote = written(&world, 0);
            assert_eq!(twice(&wrote), Vec::<String>::new(), "after write {n}");
            assert_eq!(decoys(&world.importer), foreign);
            let since = world.trace.len();
            sleep(Duration::from_secs(120)).await;
            assert_eq!(written(&world, since), [], "after write {n}");
            controller.stop().await;
        });
    }
}

/// An API server that comes back with a backup is the same cluster, and its watches say nothing.
#[test]
fn l08_a_restored_cluster_be_it_ones_own_is_read_anew() {
    for restored in ["west", "east"] {
        simulate(0, async || {
            let world = world();
            let server = world.exporters.get(restored).unwrap_or(&world.importer).clone();
            let controller = world.start("one", false);
            sleep(Duration::from_secs(60)).await;
            let backup = server.backup();
            server.age(100_000);
            for (change, origin) in CHANGES {
                scene::change(&world, "east", change, origin);
            }
            sleep(Duration::from_secs(60)).await;
            server.restore(&backup);
            sleep(Duration::from_secs(60)).await;
            if restored == "east" {
                // The new origin was lost with the backup; its mirror stays until somebody lets it go.
                assert!(world.importer.read("services", "shop", "s8-east").is_some());
                scene::let_go(&world.importer);
                sleep(Duration::from_secs(10)).await;
                assert!(world.importer.read("services", "shop", "s8-east").is_none());
            }
            let fresh = world.with_another_importer();
            scene::furnish_importer(&fresh.importer);
            let other = fresh.start("fresh", false);
            sleep(Duration::from_secs(60)).await;
            let wrong = differences(&picture(&world.importer), &picture(&fresh.importer));
            assert!(wrong.is_empty(), "{restored}:\n{}", wrong.join("\n"));
            other.stop().await;
            controller.stop().await;
        });
    }
}
