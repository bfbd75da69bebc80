//! The bare loop: the writes of a cold sync and nothing else. Knows in advance what to write.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use heliostat::{cluster::client::local_client, run::WRITES_IN_FLIGHT};
use kube::Client;
use serde::Deserialize;

use crate::{api, clusters::NAMESPACE, mirrors::Mirror};

/// Makes the mirrors with a client of its own: as many writes at a time as the controller, and of each
/// mirror the Service first, whose uid the slice has to name.
pub(crate) async fn write(kubeconfig: &Path, mirrors: &[Mirror]) -> anyhow::Result<()> {
    let client = local_client(Some(kubeconfig), None).await?;
    let all = stream::iter(mirrors.to_vec()).map(|mirror| tokio::spawn(write_one(client.clone(), mirror)));
    all.buffer_unordered(WRITES_IN_FLIGHT).map(|joined| joined?).try_collect().await
}

/// All that is read of an answer.
#[derive(Deserialize)]
struct Created {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

async fn write_one(client: Client, mirror: Mirror) -> anyhow::Result<()> {
    let service: Created = api::create(&client, &api::services(NAMESPACE), mirror.service_body()).await?;
    let slice = mirror.slice_body(&service.metadata.uid);
    api::create::<Created>(&client, &api::slices(NAMESPACE), slice).await.map(drop)
}
