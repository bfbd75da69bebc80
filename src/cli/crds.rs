//! `heliostat crds`: the CustomResourceDefinitions, as YAML.

use std::io::Write as _;

use crate::api::{crds, to_yaml};

/// Print the CustomResourceDefinitions as YAML, for kubectl apply -f -.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Prints them.
pub(super) fn run(_args: &Args) -> anyhow::Result<()> {
    let yaml = to_yaml(&crds()?)?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
