//! The command line: one file a subcommand, each with its `Args` and a `run`. Nothing here decides
//! what is mirrored; an error says what, where, why and what to do next.

mod check;
mod completion;
mod connect;
mod controller;
mod crds;
mod explain;
mod link;
mod logging;
mod output;
mod plan;
mod status;
mod survey;
mod table;
mod unlink;
mod version;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Makes the services of other clusters callable in this one, with no service mesh.
#[derive(Debug, Parser)]
#[command(name = "heliostat", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Kubeconfig file of this cluster [default: $KUBECONFIG, ~/.kube/config; controller: the pod's
    /// own account].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig [default: its current context].
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which cluster")]
    pub context: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Controller(controller::Args),
    Crds(crds::Args),
    Link(link::Args),
    Unlink(unlink::Args),
    Status(status::Args),
    Explain(explain::Args),
    Plan(plan::Args),
    Check(check::Args),
    Version(version::Args),
    Completion(completion::Args),
}

impl Command {
    /// Does what was asked. One-shot subcommands get a current `tokio` runtime.
    async fn run(self, global: Global) -> anyhow::Result<ExitCode> {
        if !matches!(self, Self::Controller(_)) {
            logging::text();
        }
        match self {
            Self::Controller(args) => controller::run(args, global).await,
            Self::Crds(args) => crds::run(&args),
            Self::Link(args) => link::run(args, &global).await,
            Self::Unlink(args) => unlink::run(args, &global).await,
            Self::Status(args) => status::run(args, &global).await,
            Self::Explain(args) => explain::run(args, &global).await,
            Self::Plan(args) => plan::run(args, &global).await,
            Self::Check(args) => return check::run(args, &global).await,
            Self::Version(args) => version::run(&args),
            Self::Completion(args) => completion::run(&args),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// The exit code when it could not be done: 1 of `check` means that something was found.
    fn undone(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Check(_)) { 2 } else { 1 })
    }
}

/// Parses the arguments and runs the subcommand: exit code 0, 1 for a failure, 2 for wrong usage;
/// of `check`, 1 when a check failed, 2 when it could not be made.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot start the program's threads");
            return failure(&error, cli.command.undone());
        }
    };
    let undone = cli.command.undone();
    match runtime.block_on(cli.command.run(cli.global)) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failure(&error, undone),
    }
}

/// The arguments, or an explanation and the end of the program.
fn parse() -> Cli {
    let program = std::env::args_os().next().unwrap_or_default();
    let mut command = Cli::command().bin_name(program_name(&program));
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// The words by which the program was called: kubectl starts `kubectl-heliostat` for
/// `kubectl heliostat`.
fn program_name(program: &OsStr) -> &'static str {
    if Path::new(program).file_stem() == Some(OsStr::new("kubectl-heliostat")) {
        "kubectl heliostat"
    } else {
        "heliostat"
    }
}

/// Tells the user on stderr: what failed, and each cause that was not said yet on a line of its own.
#[allow(clippy::print_stderr)]
fn failure(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    let mut said = error.to_string();
    eprintln!("error: {said}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
            said = cause;
        }
    }
    code
}

/// Whoever reads our output has had enough (`heliostat crds | head`); that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_kubectl_plugin_speaks_of_itself_as_one() {
        assert_eq!(program_name(OsStr::new("/usr/bin/kubectl-heliostat")), "kubectl heliostat");
        assert_eq!(program_name(OsStr::new("./heliostat")), "heliostat");
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        for subcommand in Cli::command().get_subcommands() {
            assert!(subcommand.get_about().is_some(), "{} has no help text", subcommand.get_name());
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_other_errors_are() {
        let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(closed).context("cannot print")));
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(!is_broken_pipe(&denied.into()));
    }
}
