//! `heliostat completion`: a shell's completion script.

use std::io::Write as _;

use clap::CommandFactory as _;

/// Print a shell's completion script.
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: source <(heliostat completion bash)")]
pub(super) struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "heliostat", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
