//! The controller in bad weather: whatever happens, in the end there is what a controller would
//! make that starts from nothing; nothing was made or deleted twice, nothing foreign was touched,
//! and then there is silence.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use tokio::time::sleep;

use crate::{
    adversary::{KINDS, STROKES, Stage, Weather, strike, stroke},
    calm,
    seeds::{Play, Struck, always_the_same, drawn},
    world::{
        Chance, World,
        oracle::{counts, decoys, differences, picture, twice, written},
        scene, simulate,
    },
};

/// A seed in words.
fn described(seed: u64) -> String {
    format!("seed {seed}: {:?}, {}", drawn(&Weather::ALL, seed, &mut Chance::new(seed)), stroke(seed).0)
}

/// Plays a seed; gives what has struck what, and everything that was asked of the servers.
fn play(seed: u64) -> (Struck, Vec<String>) {
    simulate(seed, async || {
        let mut chance = Chance::new(seed);
        let weathers = drawn(&Weather::ALL, seed, &mut chance);
        let stroke = stroke(seed);
        let world = calm::world();
        let foreign = decoys(&world.importer);
        let stage = Stage::new(world, if weathers.contains(&Weather::TwoLeaders) { 2 } else { 1 });
        strike(&stage.world.importer, &KINDS, stroke);
        let brewing =
            join_all(weathers.iter().map(|weather| stage.brew(*weather, 12, Chance::new(chance.below(u64::MAX)))));
        let script = calm::script(&mut chance);
        tokio::join!(brewing, act(&stage.world, script));
        stage.clear_up();
        for _ in 0..3 {
            sleep(Duration::from_secs(200)).await;
            scene::let_go(&stage.world.importer);
        }
        sleep(Duration::from_secs(60)).await;
        judge(&stage.world, counts_are_certain(&weathers)).await;
        assert_eq!(decoys(&stage.world.importer), foreign, "something foreign was touched");
        let controllers: Vec<_> = stage.controllers().drain(..).collect();
        for controller in controllers {
            controller.stop().await;
        }
        (stage.world.importer.struck(), stage.world.trace.take())
    })
}

/// Everything that users do.
async fn act(world: &World, script: Vec<(u64, &'static str, scene::Change, u64)>) {
    // What changes before it was mirrored once would not be counted.
    until_all_is_there(world).await;
    for (pause, link, change, origin) in script {
        sleep(Duration::from_millis(pause)).await;
        scene::change(world, link, change, origin);
    }
}

/// The end is as from scratch, nothing was done twice, and two hours bring nothing new.
async fn judge(world: &World, counts_are_certain: bool) {
    let since = world.trace.len();
    let fresh = world.with_another_importer();
    scene::furnish_importer(&fresh.importer);
    let other = fresh.start("fresh", false);
    sleep(Duration::from_secs(600)).await;
    other.stop().await;
    sleep(Duration::from_secs(6600)).await;
    let late: Vec<String> = written(world, since).into_iter().map(|write| write.line).collect();
    let wrong = differences(&picture(&world.importer), &picture(&fresh.importer));
    assert!(wrong.is_empty(), "it ends otherwise than from scratch:\n{}", wrong.join("\n"));
    assert_eq!(late, Vec::<String>::new(), "it does not come to rest");
    if counts_are_certain {
        let wrote = written(world, 0);
        assert_eq!(counts(&wrote), expected(), "Services made or deleted");
        assert_eq!(twice(&wrote), Vec::<String>::new(), "made or deleted twice");
    }
}

/// Whether nothing may be made or deleted more often than without faults.
fn counts_are_certain(weathers: &[Weather]) -> bool {
    // What an older server has forgotten, here or there, comes and goes by itself, and so does what is told once more
    // as it was earlier. A leader whose link is lost goes by what it knew last, which may be older
    // than what the leader before it has written.
    let two_views = weathers.contains(&Weather::TwoLeaders) && weathers.len() > 1;
    let unruly = [Weather::OlderServer, Weather::OwnServerOlder, Weather::EventsRepeat];
    !two_views && !weathers.iter().any(|weather| unruly.contains(weather))
}

/// Waits until every mirror of the beginning is there, whatever the weather.
async fn until_all_is_there(world: &World) {
    let end = tokio::time::Instant::now() + Duration::from_secs(3600);
    while world.importer.count("endpointslices") < calm::MIRRORS {
        assert!(tokio::time::Instant::now() < end, "the mirrors are not made within an hour");
        sleep(Duration::from_millis(500)).await;
    }
}

/// What is made and deleted without any fault.
fn expected() -> BTreeMap<String, u64> {
    static EXPECTED: std::sync::OnceLock<BTreeMap<String, u64>> = std::sync::OnceLock::new();
    // In a thread of its own: it has chance of its own.
    EXPECTED
        .get_or_init(|| {
            let calm = || simulate(0, async || counts(&calm::baseline().await.1));
            std::thread::spawn(calm).join().unwrap()
        })
        .clone()
}

/// Enough for every fault to meet every kind of write.
const COVERING: u64 = 34;
/// A few, unoptimised, so that `cargo test` alone is not for nothing; `make test-simulation` plays thousands.
const SEEDS: u64 = 6;
/// Plays a seed again, exactly as it was.
const AGAIN: &str = "cargo test --profile simulation --test simulation storm_whatever -- --nocapture";

#[test]
fn storm_whatever_happens_the_end_is_as_planned() {
    let weathers = Weather::ALL.iter().map(|weather| weather.name());
    let play = Play {
        play: |seed| play(seed).0,
        described,
        again: AGAIN,
        faults: weathers.chain(STROKES.iter().map(|stroke| stroke.0)).collect(),
        kinds: &KINDS,
        covering: COVERING,
        few: SEEDS,
        share: 1,
    };
    play.run();
}

#[test]
fn a_seed_always_plays_the_same() {
    // With crashes; with two leaders, kinds that reorder and rights revoked; with two leaders and lists cut.
    always_the_same([0, 14, 30], |seed| play(seed).1);
}
