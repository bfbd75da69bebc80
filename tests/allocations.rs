//! How often memory is asked for, and for how much, where it is done a hundred thousand times: to read
//! an object, to decide about a mirror, and to hold one. Counts, which are the same on every machine;
//! never times.
//!
//! A number here is what was counted when the line was changed last. What takes a tenth more fails. Who
//! makes it less writes the new number down; `cargo test --test allocations -- --nocapture` prints all.
//!
//! One test, in a program of its own: what is counted is what the whole process does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/memory/exporter.rs"]
mod exporter;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/memory/importer.rs"]
mod importer;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/memory/meter.rs"]
mod meter;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/memory/work.rs"]
mod work;

use std::{collections::BTreeMap, fmt::Debug};

use exporter::Exporter;
use heliostat::{
    cluster::wire::{LocalServiceWire, LocalSliceWire, OriginWire, RemoteSliceWire},
    core::world::tighten,
};
use importer::Importer;
use serde::de::DeserializeOwned;
use work::MANY;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What is counted for one object.
struct Count {
    what: &'static str,
    /// Blocks that were asked for, or that are held.
    blocks: f64,
    /// Bytes of these.
    bytes: f64,
}

/// What was counted, beside what it may be.
#[derive(Default)]
struct Counts(Vec<(Count, Count)>);

impl Counts {
    fn add(&mut self, what: &'static str, (blocks, bytes): (f64, f64), (most_blocks, most_bytes): (f64, f64)) {
        let limit = Count { what, blocks: most_blocks, bytes: most_bytes };
        self.0.push((Count { what, blocks, bytes }, limit));
    }

    fn judge(self) {
        for (count, limit) in &self.0 {
            let Count { what, blocks, bytes } = count;
            println!("{what:40} {blocks:8.1} blocks of {:8.1} {bytes:9.0} bytes of {:9.0}", limit.blocks, limit.bytes);
        }
        let beyond =
            |(count, limit): &&(Count, Count)| count.blocks > limit.blocks * 1.1 || count.bytes > limit.bytes * 1.1;
        let wrong: Vec<&str> = self.0.iter().filter(beyond).map(|(count, _)| count.what).collect();
        assert!(wrong.is_empty(), "more than a tenth more than it was: {wrong:?}");
    }
}

/// What something asks for, for each of so many objects.
fn asked<T>(objects: usize, work: impl FnOnce() -> T) -> (f64, f64) {
    let before = dhat::HeapStats::get();
    let made = work();
    let after = dhat::HeapStats::get();
    drop(made);
    let each = |count: u64| count as f64 / objects as f64;
    (each(after.total_blocks - before.total_blocks), each(after.total_bytes - before.total_bytes))
}

/// What it takes to read a page that is like one that was read before.
fn read<W: DeserializeOwned + Clone + Debug>(page: &[u8]) -> (f64, f64) {
    let _before = work::read::<W>(page);
    asked(MANY, || work::read::<W>(page))
}

/// What holds mirrors of everything that these exporters have, and what each takes.
fn mirrored(exporters: &[Exporter]) -> (Importer, (f64, f64)) {
    let before = dhat::HeapStats::get();
    let importer = work::mirrored(exporters);
    let after = dhat::HeapStats::get();
    let each = |now: usize, then: usize| (now - then) as f64 / MANY as f64;
    (importer, (each(after.curr_blocks, before.curr_blocks), each(after.curr_bytes, before.curr_bytes)))
}

#[test]
fn p07_what_is_done_for_each_mirror_takes_no_more_memory_than_it_did() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut counts = Counts::default();
    let exporter = Exporter::new(0, MANY);

    let services = work::page(|index| exporter.service(index));
    counts.add("to read a Service of a link", read::<OriginWire>(&services), (96.1, 9_150.0));
    counts.add("to read a Service of this cluster", read::<LocalServiceWire>(&services), (78.1, 6_636.0));
    let slices = work::page(|index| exporter.slice(index));
    counts.add("to read a slice of a link", read::<RemoteSliceWire>(&slices), (102.8, 9_286.0));
    counts.add("to read a slice of this cluster", read::<LocalSliceWire>(&slices), (109.0, 10_465.0));
    drop((services, slices));

    // Everything is mirrored, and held.
    let (mut importer, held) = mirrored(&[Exporter::new(1, MANY)]);
    counts.add("to hold a mirror and its origin", held, (10.8, 1_626.0));
    let (alike, held) = mirrored(&[2, 3, 4].map(|link| Exporter::alike(link, MANY / 3)));
    counts.add("to hold one of what links have alike", held, (6.7, 1_207.0));
    drop(alike);

    let mut tree: BTreeMap<usize, [u8; 100]> = BTreeMap::new();
    for index in 0..MANY {
        tree.insert(index, [0; 100]);
    }
    counts.add("to make a tree tight", asked(MANY, || tighten(&mut tree)), (0.1, 126.0));

    let mirrors = work::mirrors(&importer);
    let decide = || work::decide(&importer, &mirrors);
    assert!(decide().iter().all(|decision| decision.write.is_none() && decision.outcomes.len() == 1));
    counts.add("to plan a mirror and to compare it", asked(MANY, decide), (50.0, 5_590.0));

    let idle = asked(MANY, || work::idle(&mut importer));
    counts.add("to find out that nothing happened", idle, (0.1, 10.0));
    counts.judge();
}
