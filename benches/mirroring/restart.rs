//! A restart with all mirrors in place: what the API server is asked to write.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    audit_log::line,
    clusters::Importer,
    controller::{Controller, Program},
    machine::Memory,
};

/// For how long after it is ready the controller is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// What a restart did.
#[derive(Debug, Serialize)]
pub(crate) struct Restart {
    /// From the start of the process until everything in the importer had been listed.
    pub(crate) to_ready_ms: f64,
    /// For how long it was watched after that.
    pub(crate) watched_s: u64,
    /// Every write, leases left out: there must be none.
    pub(crate) writes: Vec<String>,
    /// In the end.
    pub(crate) memory: Memory,
}

/// Starts the controller where another one has made everything already, and leaves it running.
pub(crate) async fn restart(importer: &Importer, program: &Program) -> anyhow::Result<(Restart, Controller)> {
    let log = importer.end_of_log()?;
    let start = Instant::now();
    let controller = program.start().await?;
    controller.ready().await?;
    let to_ready_ms = start.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(WATCHED).await;
    let writes = importer.writes_since(&log)?.iter().map(line).collect();
    let memory = controller.memory()?;
    Ok((Restart { to_ready_ms, watched_s: WATCHED.as_secs(), writes, memory }, controller))
}
