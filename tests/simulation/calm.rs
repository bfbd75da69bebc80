//! Without any fault: what the others are compared with.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::{
    Chance, LINKS, World,
    oracle::{Wrote, counts, decoys, differences, picture, written},
    scene::{self, CHANGES, Change},
    simulate,
};

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
        println!("{made:?}");
        for (key, value) in picture(&world.importer) {
            println!("{key} {value}");
        }
        let since = world.trace.lines().len();
        sleep(Duration::from_secs(7200)).await;
        let lines: Vec<String> = written(&world, since).into_iter().map(|write| write.line).collect();
        assert_eq!(lines, Vec::<String>::new());
        controller.stop().await;
        assert_eq!(decoys(&world.importer), before);
    });
    simulate(0, async || {
        let (world, wrote) = baseline().await;
        let mut kinds: Vec<String> = wrote.iter().map(|write| format!("{} {}", write.verb, write.kind)).collect();
        kinds.sort();
        kinds.dedup();
        println!("{kinds:?} {}", wrote.len());
        let fresh = world.with_another_importer();
        scene::furnish_importer(&fresh.importer);
        let controller = fresh.start("fresh", false);
        sleep(Duration::from_secs(300)).await;
        controller.stop().await;
        let wrong = differences(&picture(&world.importer), &picture(&fresh.importer));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
