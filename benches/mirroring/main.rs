//! The benchmark: how quick the controller is between two API servers, and what it takes, beside what no
//! controller could do better. `make bench` makes the servers and runs this; `benches/report` says what
//! came out; docs/performance.md has the method.
//!
//! It judges only what does not depend on the machine: that what is compared is the same, that the last state
//! is right, and that a restart writes nothing. Times are kept, and never fail it.

mod api;
#[path = "../../e2e/audit_log.rs"]
mod audit_log;
mod bare;
mod churn;
mod clusters;
mod cold_sync;
mod controller;
mod limits;
mod machine;
mod mirrors;
mod plan;
mod propagation;
mod restart;
mod results;
mod ways;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use clusters::{Exporter, Importer, Link};
use controller::Program;
use plan::{Plan, Size};
use results::Results;

/// Measures the controller between two API servers; `make bench` makes them.
#[derive(Debug, Parser)]
struct Args {
    /// Kubeconfig of the importer, with its audit log beside it.
    #[arg(long, value_name = "FILE")]
    importer: PathBuf,
    /// Kubeconfig of the exporter.
    #[arg(long, value_name = "FILE")]
    exporter: PathBuf,
    /// How much: minutes, half an hour, or most of an hour.
    #[arg(long, value_enum, default_value_t = Size::Smoke)]
    size: Size,
    /// Folder for the raw data and the controller's log.
    #[arg(long, value_name = "FOLDER", default_value = "dist/bench")]
    out: PathBuf,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whichever way this ends, the controller that it started is dropped, and ends with it.
    tokio::select! {
        done = run(args) => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let importer = Importer::open(&args.importer).await?;
    let exporter = Exporter::open(&args.exporter).await?;
    let program = Program { kubeconfig: args.importer.clone(), log: args.out.join("controller.log") };
    let results = measure(&Plan::of(args.size), &importer, &exporter, &program, &args.out).await?;
    println!("{}", keep(&args.out, &results)?.display());
    let writes = &results.restart.writes;
    ensure!(writes.is_empty(), "after a restart nothing had to be written, and this was:\n{}", writes.join("\n"));
    Ok(())
}

/// Measures one thing after the other. What is there is kept each time, as the whole takes long.
async fn measure(
    plan: &Plan,
    importer: &Importer,
    exporter: &Exporter,
    program: &Program,
    out: &Path,
) -> anyhow::Result<Results> {
    let (begun, start, load_before) = (Timestamp::now(), Instant::now(), machine::load()?);
    machine::say(&format!("exporting {} Services", plan.origins() + plan.headless()));
    exporter.export(plan).await?;

    machine::say("warming up; what is written here is written again by the bare loop");
    let (_, warm_up) = cold_sync::in_turns(importer, program, &[Link::one(plan.pairs)], plan.pairs, 1).await?;
    let limits = limits::measure(importer, &warm_up).await?;
    let mut cold_syncs = Vec::new();
    for (mirrors, turns) in plan.cold_syncs {
        let one = [Link::one(*mirrors)];
        cold_syncs.push(cold_sync::in_turns(importer, program, &one, *mirrors, *turns).await?.0);
    }
    let mirrors = cold_syncs.last().map(|sync| sync.mirrors).context("the plan has no cold sync")?;
    let (restart, running) = restart::measure(importer, exporter, program, mirrors).await?;
    let half = limits.writes_per_second() / 2.0;
    let churn = churn::measure(importer, exporter, &running, mirrors, half, plan.churn).await?;
    running.stop().await?;
    let machine = machine::describe(importer).await?;
    let (propagation, ways) = (Vec::new(), Vec::new());
    let (took_s, load_after) = (0, String::new());
    let mut results = Results {
        begun,
        took_s,
        machine,
        load_before,
        load_after,
        limits,
        cold_syncs,
        restart,
        propagation,
        churn,
        ways,
    };
    let keep_so_far = |results: &mut Results| {
        (results.took_s, results.load_after) = (start.elapsed().as_secs(), machine::load()?);
        keep(out, results)
    };
    keep_so_far(&mut results)?;

    let (links, each, turns) = plan.links_apart;
    let (apart, all) = (Link::apart(links, each), links * each);
    results.cold_syncs.push(cold_sync::in_turns(importer, program, &apart, all, turns).await?.0);
    let running = program.start().await?;
    running.ready().await?;
    for rate in plan.rates {
        let batches = propagation::measure(importer, exporter, &running, (links, all), *rate).await?;
        results.propagation.extend(batches);
        keep_so_far(&mut results)?;
    }
    running.stop().await?;
    results.ways = ways::measure(importer, exporter, program, plan.ways, plan.pod_changes).await?;
    keep_so_far(&mut results)?;
    let (links, each) = plan.links_alike;
    let (sync, running) = cold_sync::once(importer, program, &Link::alike(links), links * each).await?;
    results.cold_syncs.push(sync);
    running.stop().await?;
    keep_so_far(&mut results)?;
    Ok(results)
}

/// Keeps the raw data in a file of its own.
fn keep(folder: &Path, results: &Results) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("mirroring-{}.json", results.begun.strftime("%Y%m%dT%H%M%SZ")));
    let json = serde_json::to_string(results)?;
    fs::write(&file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
