//! Counts what is held and how long it took, by what was done.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

/// What one kind of step has cost so far.
#[derive(Clone, Copy, Default)]
struct Cost {
    calls: u32,
    took: Duration,
    longest: Duration,
    bytes: i64,
    blocks: i64,
}

/// See the file's description.
pub(crate) struct Meter {
    counts: bool,
    costs: BTreeMap<&'static str, Cost>,
}

fn held() -> (i64, i64) {
    let stats = dhat::HeapStats::get();
    (i64::try_from(stats.curr_bytes).unwrap(), i64::try_from(stats.curr_blocks).unwrap())
}

impl Meter {
    pub(crate) fn new(counts: bool) -> Self {
        Self { counts, costs: BTreeMap::new() }
    }

    /// Does something, and counts what it has left behind.
    pub(crate) fn step<T>(&mut self, what: &'static str, step: impl FnOnce() -> T) -> T {
        let before = if self.counts { held() } else { (0, 0) };
        let start = Instant::now();
        let done = step();
        let took = start.elapsed();
        let after = if self.counts { held() } else { (0, 0) };
        let cost = self.costs.entry(what).or_default();
        cost.calls += 1;
        cost.took += took;
        cost.longest = cost.longest.max(took);
        cost.bytes += after.0 - before.0;
        cost.blocks += after.1 - before.1;
        done
    }

    /// The bytes and blocks of what a step makes, which goes again.
    pub(crate) fn weigh<T>(&self, make: impl FnOnce() -> T) -> (i64, i64) {
        if !self.counts {
            return (0, 0);
        }
        let before = held();
        let made = make();
        let after = held();
        drop(made);
        (after.0 - before.0, after.1 - before.1)
    }

    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    pub(crate) fn table(&self, mirrors: usize) {
        let each = |count: i64| count as f64 / mirrors as f64;
        println!(
            "{:34} {:>8} {:>10} {:>10} {:>10} {:>12} {:>12}",
            "step", "calls", "ms", "µs a call", "longest ms", "bytes/mirror", "blocks/mirror"
        );
        for (what, cost) in &self.costs {
            let Cost { calls, took, longest, bytes, blocks } = *cost;
            println!(
                "{what:34} {calls:>8} {:>10.1} {:>10.1} {:>10.2} {:>12.1} {:>12.2}",
                took.as_secs_f64() * 1e3,
                took.as_secs_f64() * 1e6 / f64::from(calls),
                longest.as_secs_f64() * 1e3,
                each(bytes),
                each(blocks)
            );
        }
        if self.counts {
            let stats = dhat::HeapStats::get();
            let (bytes, blocks) = held();
            println!(
                "all that is held: {bytes} bytes in {blocks} blocks, {:.1} and {:.2} a mirror",
                each(bytes),
                each(blocks)
            );
            println!("at most: {} bytes, {:.1} a mirror", stats.max_bytes, stats.max_bytes as f64 / mirrors as f64);
        } else {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            status
                .lines()
                .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
                .for_each(|l| println!("{l}"));
        }
        println!();
    }
}
