//! The bare loop: the writes of a cold sync and nothing else. Knows in advance what to write.

use std::{path::Path, time::Instant};

use futures::{StreamExt, TryStreamExt, stream};
use heliostat::cluster::client::local_client;
use kube::Client;

use crate::{
    api::{self, Created},
    clusters::NAMESPACE,
    mirrors::Mirror,
};

/// Makes the mirrors with a client of its own, so many at a time, and of each the Service first, whose
/// uid the slice has to name. Gives how long each write took, in milliseconds.
pub(crate) async fn write(kubeconfig: &Path, mirrors: &[Mirror], at_a_time: usize) -> anyhow::Result<Vec<f64>> {
    let client = local_client(Some(kubeconfig), None).await?;
    let all = stream::iter(mirrors.to_vec()).map(|mirror| tokio::spawn(write_one(client.clone(), mirror)));
    let times: Vec<[f64; 2]> = all.buffer_unordered(at_a_time).map(|joined| joined?).try_collect().await?;
    Ok(times.into_iter().flatten().collect())
}

async fn write_one(client: Client, mirror: Mirror) -> anyhow::Result<[f64; 2]> {
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let service: Created = api::create(&client, &api::services(NAMESPACE), mirror.service_body()).await?;
    let service_ms = ms(start);
    let start = Instant::now();
    let slice = mirror.slice_body(&service.metadata.uid);
    api::create::<Created>(&client, &api::slices(NAMESPACE), slice).await?;
    Ok([service_ms, ms(start)])
}
