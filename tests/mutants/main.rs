//! Whether the tests notice a broken promise: breaks the program on purpose, one small change after
//! the other as `table.yaml` says, and runs the tests that must fail then. `make mutants`.
//!
//! Works on a copy of the sources with a target folder of its own; never writes into the checkout.

#![allow(missing_docs, reason = "a program of its own")]

mod scratch;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    scratch::{Build, Ran, Scratch},
    table::Mutant,
};

/// What became of a mutant.
enum Fate {
    /// These tests failed, as they must.
    Caught(Vec<String>),
    /// No test failed: one is missing, or does not look closely.
    Survived,
    /// It says nothing about the tests.
    Useless(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chosen: BTreeSet<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mutants = table::read(repository, &chosen)?;
    let scratch = Scratch::open(repository, &cache()?)?;
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // What is dropped by a signal ends the programs that it has started.
    let outcome = tokio::select! {
        outcome = try_all(&scratch, &mutants) => outcome,
        _ = interrupted.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminated.recv() => Err(anyhow::anyhow!("terminated")),
    };
    scratch.heal()?;
    outcome
}

/// Where the copy and its target folder are: with the other things that are made once.
fn cache() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("HELIOSTAT_CACHE")
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("heliostat")))
        .or_else(|| Some(var("HOME")?.join(".cache/heliostat")))
        .map(|cache| cache.join("mutants"))
        .context("there is no place for a copy of the sources: set HELIOSTAT_CACHE")
}

async fn try_all(scratch: &Scratch, mutants: &[Mutant]) -> Result<bool> {
    unbroken(scratch, mutants).await?;
    println!("\n{:<8} {:<46} {:>5}  caught by", "promise", "mutant", "s");
    let (mut survivors, mut useless) = (Vec::new(), Vec::new());
    for mutant in mutants {
        let start = Instant::now();
        scratch.edit(mutant)?;
        let fate = fate(scratch, mutant).await;
        scratch.heal()?;
        let said = match fate? {
            Fate::Caught(tests) => tests.join(", "),
            Fate::Survived => {
                survivors.push(mutant);
                "SURVIVED".to_owned()
            }
            Fate::Useless(why) => {
                useless.push((mutant, why));
                "ERROR, see below".to_owned()
            }
        };
        let promise = mutant.promise.map_or_else(|| "-".to_owned(), |number| number.to_string());
        println!("{promise:<8} {:<46} {:>5}  {said}", mutant.name, start.elapsed().as_secs());
    }
    println!("\n{} of {} mutants were caught", mutants.len() - survivors.len() - useless.len(), mutants.len());
    for mutant in &survivors {
        println!("\nSURVIVED: {}, {}: {}", mutant.name, mutant.file, mutant.breaks);
        println!("none of these failed: {}; write the test that does", mutant.tests.join(", "));
    }
    for (mutant, why) in &useless {
        println!("\nERROR: {}, {}: {why}", mutant.name, mutant.file);
    }
    Ok(survivors.is_empty() && useless.is_empty())
}

/// The tests pass on what is not broken; else their failure would say nothing.
async fn unbroken(scratch: &Scratch, mutants: &[Mutant]) -> Result<()> {
    let mut targets: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for mutant in mutants {
        targets.entry(&mutant.target).or_default().extend(mutant.tests.iter().cloned());
    }
    for (target, tests) in targets {
        let tests: Vec<String> = tests.into_iter().collect();
        eprintln!("unbroken: {} tests of {target}", tests.len());
        let binary = match scratch.build(target).await? {
            Build::Done(binary) => binary,
            Build::Refused(why) => bail!("the sources do not compile as they are:\n{why}"),
        };
        match scratch.run(&binary, &tests).await? {
            Ran::Passed(count) if count == tests.len() => {}
            Ran::Passed(count) => bail!(
                "{} tests of {target} are named in the table and {count} of them exist: {}",
                tests.len(),
                tests.join(", ")
            ),
            Ran::Failed(failed) => bail!("fails on what is not broken: {}", failed.join(", ")),
            Ran::Died(why) => bail!("the tests of {target} end on what is not broken: {why}"),
        }
    }
    Ok(())
}

async fn fate(scratch: &Scratch, mutant: &Mutant) -> Result<Fate> {
    let binary = match scratch.build(&mutant.target).await? {
        Build::Done(binary) => binary,
        Build::Refused(why) => return Ok(Fate::Useless(format!("it does not compile:\n{why}"))),
    };
    Ok(match scratch.run(&binary, &mutant.tests).await? {
        Ran::Passed(_) => Fate::Survived,
        Ran::Failed(tests) => Fate::Caught(tests),
        Ran::Died(why) => Fate::Useless(why),
    })
}
