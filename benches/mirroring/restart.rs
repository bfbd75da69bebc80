//! A restart with all mirrors in place: what the API server is asked to write, and how soon the controller
//! knows everything again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use heliostat::cluster::client::local_client;
use jiff::Timestamp;
use tokio::time::sleep;

use crate::{
    api,
    clusters::{Exporter, Importer, NAMESPACE, origin},
    controller::{Controller, Program},
    machine,
    results::Restart,
};

/// For how long after it is ready the controller is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// Without a request for so long, nothing more is to be said.
const STILL: Duration = Duration::from_secs(3);
/// Objects in one answer to a listing; the controller's watches ask for as many.
const PORTION: usize = 500;
/// Longest wait for it to be in sync.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the controller where another one has made everything already, twice; the second one goes on.
pub(crate) async fn measure(
    importer: &Importer,
    exporter: &Exporter,
    program: &Program,
    mirrors: usize,
) -> anyhow::Result<(Restart, Controller)> {
    machine::say(&format!("restarting with {mirrors} mirrors in place"));
    // The loop has made them, and says nothing in statuses.
    let controller = program.start().await?;
    importer.quiet(STILL).await?;
    controller.stop().await?;
    let bare_list_ms = list(importer, exporter).await?;
    let log = importer.end_of_log()?;
    let start = Instant::now();
    let controller = program.start().await?;
    controller.ready().await?;
    let to_ready_ms = start.elapsed().as_secs_f64() * 1e3;
    sleep(WATCHED).await;
    let writes = importer.writes_since(&log)?.into_iter().map(|write| write.line).collect();
    let memory = controller.memory()?;
    controller.stop().await?;

    // The last one in any listing.
    exporter.set_address(mirrors - 1, "203.0.113.6").await?;
    let log = importer.end_of_log()?;
    let start = Timestamp::now();
    let controller = program.start().await?;
    let begun = Instant::now();
    let landed = loop {
        let slice = importer.writes_since(&log)?.into_iter().find(|write| write.is_of_mirror());
        if let Some(slice) = slice {
            ensure!(slice.name.starts_with(&origin(mirrors - 1)), "something else was written: {}", slice.line);
            break slice.answered;
        }
        ensure!(begun.elapsed() < PATIENCE, "what changed while no controller ran does not land");
        sleep(Duration::from_millis(100)).await;
    };
    let to_in_sync_ms = landed.duration_since(start).as_secs_f64() * 1e3;
    let watched_s = WATCHED.as_secs();
    Ok((Restart { mirrors, bare_list_ms, to_ready_ms, to_in_sync_ms, watched_s, writes, memory }, controller))
}

/// Lists what the controller reads of both clusters, one kind after the other, and reads it as JSON.
async fn list(importer: &Importer, exporter: &Exporter) -> anyhow::Result<f64> {
    // Clients of its own, as a controller that starts has no connection yet.
    let here = local_client(Some(&importer.kubeconfig), None).await?;
    let start = Instant::now();
    for collection in [api::services(NAMESPACE), api::slices(NAMESPACE)] {
        api::list_in_portions(&here, &collection, PORTION).await?;
        api::list_in_portions(&exporter.client, &collection, PORTION).await?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
