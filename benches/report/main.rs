//! The report of the benchmark, from its raw data: text for people, or docs/performance.md and its plots.
//! It measures nothing, and fails for no figure. `make report` calls it.

mod figures;
mod page;
mod plots;
#[path = "../mirroring/results.rs"]
mod results;
mod sections;
mod tables;
mod targets;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Parser;

/// Says what the benchmark has measured.
#[derive(Debug, Parser)]
struct Args {
    /// Raw data, as `make bench` leaves it in dist/bench.
    raw: PathBuf,
    /// Rewrite the results in this page, and the plots and the raw data in the folder that is named as it is.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let raw = read(&args.raw)?;
    let of = || format!("cannot report {}", args.raw.display());
    let Some(page) = args.page else {
        let results = serde_json::from_str(&raw).with_context(of)?;
        print!("{}", tables::text(&results));
        return Ok(());
    };
    for (path, text) in page::files(&page, &read(&page)?, &raw).with_context(of)? {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
