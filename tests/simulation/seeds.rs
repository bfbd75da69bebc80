//! Plays many seeds side by side, and tells which faults have met which writes.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{server::Verb, world::Chance};

/// By fault and by kind of write.
pub(crate) type Struck = BTreeMap<(String, String), u64>;

/// Something that is played by seeds.
pub(crate) struct Play {
    /// Plays a seed; gives what has struck what.
    pub(crate) play: fn(u64) -> Struck,
    /// A seed in words.
    pub(crate) described: fn(u64) -> String,
    /// Plays a seed again, exactly as it was: what follows `HELIOSTAT_SEED=…`.
    pub(crate) again: &'static str,
    /// Every fault, by name.
    pub(crate) faults: Vec<&'static str>,
    /// Every kind of write.
    pub(crate) kinds: &'static [(Verb, &'static str)],
    /// So many seeds are enough for every fault to meet every kind of write.
    pub(crate) covering: u64,
    /// So many are played if nobody says otherwise.
    pub(crate) few: u64,
    /// Of the seeds that are asked for one in so many is played.
    pub(crate) share: u64,
}

impl Play {
    /// The seed, the seeds or the minutes that the environment asks for, else a few seeds.
    pub(crate) fn run(&self) {
        if let Some(seed) = from_environment("HELIOSTAT_SEED") {
            println!("{}", (self.described)(seed));
            (self.play)(seed);
            return;
        }
        let minutes = from_environment("HELIOSTAT_SOAK_MINUTES");
        let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
        let first = from_environment("HELIOSTAT_FIRST_SEED").unwrap_or(0);
        let asked = from_environment("HELIOSTAT_SEEDS").map(|seeds| seeds.div_ceil(self.share));
        let most = asked.unwrap_or(if until.is_some() { u64::MAX - first } else { self.few });
        let (struck, played, failed) = self.play_all(first..first + most, until);
        let empty = self.coverage(&struck);
        println!("{played} seeds from {first}; HELIOSTAT_SEEDS says how many");
        assert_eq!(failed, Vec::<u64>::new(), "the seeds that failed; each again: HELIOSTAT_SEED=… {}", self.again);
        if played >= self.covering {
            assert_eq!(empty, Vec::<String>::new(), "no write has met these faults");
        }
    }

    /// Plays seeds side by side until there are no more, or the time is over; gives what has struck what,
    /// how many there were, and those that failed.
    fn play_all(&self, seeds: std::ops::Range<u64>, until: Option<Instant>) -> (Struck, u64, Vec<u64>) {
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
                        match catch_unwind(AssertUnwindSafe(|| (self.play)(seed))) {
                            Ok(more) => {
                                let mut struck = struck.lock().unwrap();
                                more.into_iter().for_each(|(cell, times)| *struck.entry(cell).or_default() += times);
                            }
                            Err(_) => {
                                let (what, again) = ((self.described)(seed), self.again);
                                println!("failed: {what}; again: HELIOSTAT_SEED={seed} {again}");
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
    fn coverage(&self, struck: &Struck) -> Vec<String> {
        let kinds: Vec<String> =
            self.kinds.iter().map(|(verb, resource)| format!("{} {resource}", verb.as_str())).collect();
        println!("{:16}{}", "", kinds.iter().map(|kind| format!("{kind:>29}")).collect::<String>());
        let mut empty = Vec::new();
        for fault in &self.faults {
            let mut row = format!("{fault:16}");
            for kind in &kinds {
                let times = struck.get(&((*fault).to_owned(), kind.clone())).copied().unwrap_or(0);
                row += &format!("{times:>29}");
                if times == 0 {
                    empty.push(format!("{fault} × {kind}"));
                }
            }
            println!("{row}");
        }
        empty
    }
}

/// Each of these seeds asks for the same, in the same order, when it is played again.
pub(crate) fn always_the_same(seeds: [u64; 3], play: impl Fn(u64) -> Vec<String>) {
    for seed in seeds {
        let traces = [play(seed), play(seed)];
        for (index, (a, b)) in traces[0].iter().zip(&traces[1]).enumerate() {
            assert_eq!(a, b, "line {index} of seed {seed}");
        }
        assert_eq!(traces[0].len(), traces[1].len());
    }
}

/// What a seed stands for: one of these for certain, others by chance.
pub(crate) fn drawn<T: Copy + PartialEq>(of: &[T], seed: u64, chance: &mut Chance) -> Vec<T> {
    let index = |n: u64| usize::try_from(n % of.len() as u64).unwrap();
    let mut all = vec![of[index(seed)]];
    for _ in 0..chance.below(3) {
        let other = of[index(chance.below(100))];
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
