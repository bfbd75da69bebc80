//! The `heliostat` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    heliostat::cli::main()
}
