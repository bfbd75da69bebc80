//! The benchmark: cold sync, restart, and the delay of a single change, between two API servers.
//! `make bench` makes these and runs this; docs/performance.md has the method and what came out.
//!
//! It judges only what does not depend on the machine: that what is compared is the same, and that a
//! restart writes nothing. Times are printed beside what they should be.

mod api;
#[path = "../../e2e/audit_log.rs"]
mod audit_log;
mod bare;
mod changes;
mod clusters;
mod cold_sync;
mod controller;
mod machine;
mod mirrors;
mod report;
mod restart;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use clusters::{Exporter, Importer};
use cold_sync::Round;
use controller::Program;
use report::{Report, Results};

/// Measures the controller between two API servers; `make bench` makes them.
#[derive(Debug, Parser)]
struct Args {
    /// Kubeconfig of the importer, with its audit log beside it.
    #[arg(long, value_name = "FILE")]
    importer: PathBuf,
    /// Kubeconfig of the exporter.
    #[arg(long, value_name = "FILE")]
    exporter: PathBuf,
    /// Exported Services.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    services: u16,
    /// Cold syncs by the bare loop and by the controller, in turns.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Changes of a single port, one at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    changes: u16,
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
        done = measure(args) => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    }
}

async fn measure(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let importer = Importer::open(&args.importer).await?;
    let exporter = Exporter::open(&args.exporter).await?;
    let program = Program { kubeconfig: args.importer.clone(), log: args.out.join("controller.log") };
    let load_before = machine::load()?;
    let services = usize::from(args.services);

    machine::say(&format!("exporting {services} Services"));
    exporter.export(services).await?;
    machine::say("warming up: one cold sync, which also tells what is written");
    let warm_up = cold_sync::by_controller(&importer, &program, services).await?;
    let mut last = warm_up.mirrors;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        machine::say(&format!("round {number} of {}: the bare loop, then the controller", args.rounds));
        let bare = cold_sync::by_loop(&importer, &args.importer, &last).await?;
        let controlled = cold_sync::by_controller(&importer, &program, services).await?;
        mirrors::same(&bare.mirrors, &last)?;
        mirrors::same(&controlled.mirrors, &last)?;
        last = controlled.mirrors;
        rounds.push(Round { bare: bare.run, controller: controlled.run });
    }
    machine::say("restarting with all mirrors in place");
    let (restart, running) = restart::restart(&importer, &program).await?;
    machine::say(&format!("changing {} ports, one at a time, each by the controller and by hand", args.changes));
    let changes = changes::one_at_a_time(&importer, &exporter, args.changes).await?;
    let memory_after_changes = running.memory()?;
    running.stop().await?;

    let results = Results {
        machine: machine::describe(&importer).await?,
        load_before,
        load_after: machine::load()?,
        services,
        warm_up: warm_up.run,
        rounds,
        restart,
        changes,
        memory_after_changes,
    };
    let report = Report::of(&results);
    let file = report::keep(&args.out, &report)?;
    println!("{report}\nRaw data: {}", file.display());
    report.judge()
}
