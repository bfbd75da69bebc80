//! How much memory the deciding side takes for each mirror, by part, and how much it works: the real
//! engine, fed with what the readers make of JSON, and answered as an API server would. No cluster.
//!
//! ```sh
//! cargo bench --bench memory                # counts blocks and bytes; slow, as each block is counted
//! cargo bench --bench memory -- --time      # measures how long it computes, and the resident memory
//! cargo bench --bench memory -- --restart   # begins with all mirrors in place
//! cargo bench --bench memory -- --alike     # all exporters have the same headless Services
//! ```
//!
//! It never judges: tests/allocations.rs does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement that cannot go on must end")]

mod exporter;
mod importer;
mod meter;

use clap::Parser;
use heliostat::core::io::{Change, Input, Local};

use exporter::Exporter;
use importer::Importer;
use meter::Meter;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Measures the memory of the deciding side.
#[derive(Debug, Parser)]
struct Args {
    /// Links.
    #[arg(long, default_value_t = 100)]
    links: usize,
    /// Origins of each.
    #[arg(long, default_value_t = 1000)]
    origins: usize,
    /// Counts nothing, so that times and the resident memory are true.
    #[arg(long)]
    time: bool,
    /// All mirrors are there at the start, as after a restart.
    #[arg(long)]
    restart: bool,
    /// All exporters have the same headless Services, which are mirrored by Direct.
    #[arg(long)]
    alike: bool,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let _profiler = (!args.time).then(|| dhat::Profiler::builder().testing().trim_backtraces(Some(0)).build());
    let new = if args.alike { Exporter::alike } else { Exporter::new };
    let exporters: Vec<Exporter> = (0..args.links).map(|link| new(link, args.origins)).collect();
    let mut meter = Meter::new(!args.time);
    let mut importer = Importer::new(&exporters);
    let stored = if args.restart { importer::stored(&exporters, &mut meter) } else { importer::Stored::default() };
    importer.start(stored, &mut meter);
    exporters.iter().for_each(|exporter| importer.connect(exporter, &mut meter));
    importer.settle(&mut meter);
    let mirrors = importer.engine.world().services.values().filter(|service| service.ours.is_some()).count();
    assert_eq!(mirrors, args.links * args.origins, "every origin is mirrored");
    assert!(!args.restart || importer.created == 0, "a restart makes nothing");
    meter.table(mirrors);
    importer.parts(&mut meter, mirrors);

    let mut after = Meter::new(false);
    for _ in 0..100 {
        importer.give("an idle tick", Input::Tick, &mut after);
    }
    for index in 0..100 {
        let exporter = &exporters[index % exporters.len()];
        let event = exporter.change(index % args.origins);
        importer.give_remote("an origin changed", exporter, event, &mut after);
        importer.settle(&mut after);
        let event = exporter.change_slice(index % args.origins);
        importer.give_remote("pods changed", exporter, event, &mut after);
        importer.settle(&mut after);
    }
    let (key, service) = importer.engine.world().services.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    importer.give("the same again", Local::Service(Change::Set(key, service)).into(), &mut after);
    after.table(1);
}
