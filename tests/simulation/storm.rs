//! The controller in bad weather: whatever happens, in the end there is what a controller would
//! make that starts from nothing; nothing was made or deleted twice, nothing foreign was touched,
//! and then there is silence.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::time::sleep;

use crate::{
    adversary::{KINDS, STROKES, Stage, Weather, strike},
    calm,
    server::Wrong,
    world::{
        Chance, World,
        oracle::{counts, decoys, differences, picture, twice, written},
        scene, simulate,
    },
};

/// By fault and by kind of write.
type Struck = BTreeMap<(String, String), u64>;

/// What a seed stands for: one fault of each sort for certain, others by chance.
fn weathers(seed: u64, chance: &mut Chance) -> Vec<Weather> {
    let index = |n: u64| usize::try_from(n % Weather::ALL.len() as u64).unwrap();
    let mut all = vec![Weather::ALL[index(seed)]];
    for _ in 0..chance.below(3) {
        let other = Weather::ALL[index(chance.below(100))];
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

/// The fault that single writes meet.
fn stroke(seed: u64) -> (&'static str, Wrong) {
    STROKES[usize::try_from(seed % STROKES.len() as u64).unwrap()]
}

/// A seed in words.
fn described(seed: u64) -> String {
    format!("seed {seed}: {:?}, {}", weathers(seed, &mut Chance::new(seed)), stroke(seed).0)
}

/// Plays a seed; gives what has struck what, and everything that was asked of the servers.
fn play(seed: u64) -> (Struck, Vec<String>) {
    simulate(seed, async || {
        let mut chance = Chance::new(seed);
        let weathers = weathers(seed, &mut chance);
        let stroke = stroke(seed);
        let world = calm::world();
        let foreign = decoys(&world.importer);
        let stage = Stage::new(world, if weathers.contains(&Weather::TwoLeaders) { 2 } else { 1 });
        strike(&stage.world.importer, stroke);
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

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Plays seeds side by side until there are no more, or the time is over; gives what has struck what,
/// how many there were, and those that failed.
fn play_all(seeds: std::ops::Range<u64>, until: Option<Instant>) -> (Struck, u64, Vec<u64>) {
    let (next, played) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let (struck, failed) = (Mutex::new(Struck::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || until.is_some_and(|until| Instant::now() >= until) {
                        return;
                    }
                    played.fetch_add(1, Ordering::Relaxed);
                    match catch_unwind(AssertUnwindSafe(|| play(seed))) {
                        Ok((more, _)) => {
                            let mut struck = struck.lock().unwrap();
                            more.into_iter().for_each(|(cell, times)| *struck.entry(cell).or_default() += times);
                        }
                        Err(_) => {
                            println!("failed: {}; again: HELIOSTAT_SEED={seed} {AGAIN}", described(seed));
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    (struck.into_inner().unwrap(), played.into_inner(), failed.into_inner().unwrap())
}

/// Prints how often which fault met which kind of write; gives the cells that are empty.
fn coverage(struck: &Struck) -> Vec<String> {
    let kinds: Vec<String> = KINDS.iter().map(|(verb, resource)| format!("{} {resource}", verb.as_str())).collect();
    let faults = Weather::ALL.iter().map(|weather| weather.name()).chain(STROKES.iter().map(|stroke| stroke.0));
    println!("{:16}{}", "", kinds.iter().map(|kind| format!("{kind:>29}")).collect::<String>());
    let mut empty = Vec::new();
    for fault in faults {
        let mut row = format!("{fault:16}");
        for kind in &kinds {
            let times = struck.get(&(fault.to_owned(), kind.clone())).copied().unwrap_or(0);
            row += &format!("{times:>29}");
            if times == 0 {
                empty.push(format!("{fault} × {kind}"));
            }
        }
        println!("{row}");
    }
    empty
}

/// Enough for every fault to meet every kind of write.
const COVERING: u64 = 34;
/// A few, unoptimised, so that `cargo test` alone is not for nothing; `make test-simulation` plays thousands.
const SEEDS: u64 = 6;
/// Plays a seed again, exactly as it was.
const AGAIN: &str = "cargo test --profile simulation --test simulation storm_ -- --nocapture";

#[test]
fn storm_whatever_happens_the_end_is_as_planned() {
    if let Some(seed) = from_environment("HELIOSTAT_SEED") {
        println!("{}", described(seed));
        play(seed);
        return;
    }
    let until =
        from_environment("HELIOSTAT_SOAK_MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let first = from_environment("HELIOSTAT_FIRST_SEED").unwrap_or(0);
    let most = from_environment("HELIOSTAT_SEEDS").unwrap_or(if until.is_some() { u64::MAX - first } else { SEEDS });
    let (struck, played, failed) = play_all(first..first + most, until);
    let empty = coverage(&struck);
    println!("{played} seeds from {first}; HELIOSTAT_SEEDS says how many");
    assert_eq!(failed, Vec::<u64>::new(), "the seeds that failed; each again: HELIOSTAT_SEED=… {AGAIN}");
    if played >= COVERING {
        assert_eq!(empty, Vec::<String>::new(), "no write has met these faults");
    }
}

#[test]
fn a_seed_always_plays_the_same() {
    // With crashes; with two leaders, kinds that reorder and rights revoked; with two leaders and lists cut.
    for seed in [0, 14, 30] {
        let traces = [play(seed).1, play(seed).1];
        for (index, (a, b)) in traces[0].iter().zip(&traces[1]).enumerate() {
            assert_eq!(a, b, "line {index} of seed {seed}");
        }
        assert_eq!(traces[0].len(), traces[1].len());
    }
}
