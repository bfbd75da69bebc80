//! `heliostat version`: which build this is.

use std::io::Write as _;

/// Print the version of this program.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Prints it.
pub(super) fn run(_args: &Args) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "heliostat {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
