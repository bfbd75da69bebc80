//! The smallest controller that there can be: a watch in the exporter, and for each change that it
//! shows a Service and a slice in the importer patched, one after the other. Less is not possible
//! with a watch there and two writes here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{interval, sleep},
};

use super::{PATIENCE, all_done, sight::Sight};
use crate::{
    api,
    clusters::{BY_HAND, Exporter, Importer, origin, ports},
    results::Delay,
};

/// Services that are changed, one after the other.
const SERVICES: usize = 100;

/// By name: when the first write began, and when the last one was answered.
type Carried = Arc<Mutex<BTreeMap<(String, u16), (Timestamp, Timestamp)>>>;

/// Changes the ports of Services that nobody exports, and carries that over by hand.
pub(crate) async fn measure(
    importer: &Importer,
    exporter: &Exporter,
    per_second: u32,
    many: usize,
) -> anyhow::Result<Vec<Delay>> {
    furnish(importer, exporter).await?;
    let carried = Carried::default();
    let (news, mut told) = mpsc::unbounded_channel();
    let origins = Sight::open(&exporter.client, BY_HAND, ApiResource::erase::<Service>(&()), move |seen| {
        // Nobody reads any more: the measurement is over.
        drop(news.send((seen.name, seen.port)));
    })
    .await?;
    let (services, slices) =
        (Sight::of_services(&importer.client, BY_HAND).await?, Sight::of_slices(&importer.client, BY_HAND).await?);
    let (client, book) = (importer.client.clone(), carried.clone());
    let carrying = tokio::spawn(async move {
        while let Some((name, port)) = told.recv().await {
            let (client, book) = (client.clone(), book.clone());
            tokio::spawn(async move { carry(&client, &book, name, port.unwrap_or_default()).await });
        }
    });

    let mut pace = interval(Duration::from_secs(1) / per_second);
    let mut requests = JoinSet::new();
    let mut made = Vec::new();
    for number in 0..many {
        pace.tick().await;
        let (name, port) = (origin(number % SERVICES), super::FIRST_PORT + u16::try_from(number)? + 1);
        made.push((name.clone(), port, Timestamp::now()));
        let (client, path) = (exporter.client.clone(), format!("{}/{name}", api::services(BY_HAND)));
        requests
            .spawn(async move { api::patch(&client, path, json!({"spec": {"ports": ports(port)}})).await.map(drop) });
    }
    all_done(requests).await?;
    let delay = |(name, port, at): &(String, u16, Timestamp)| {
        let with_port = |sight: &Sight| sight.first(name, *at, |seen| seen.port == Some(*port)).map(|seen| seen.at);
        let (begun, answered) = *carried.lock().unwrap_or_else(PoisonError::into_inner).get(&(name.clone(), *port))?;
        let ms = |time: Timestamp| time.duration_since(*at).as_secs_f64() * 1e3;
        Some(Delay {
            noticed_ms: ms(with_port(&origins)?),
            decided_ms: ms(begun),
            answered_ms: ms(answered),
            shown_ms: ms(with_port(&services)?.max(with_port(&slices)?)),
        })
    };
    let start = Instant::now();
    loop {
        let delays: Option<Vec<Delay>> = made.iter().map(delay).collect();
        if let Some(delays) = delays {
            carrying.abort();
            return Ok(delays);
        }
        ensure!(start.elapsed() < PATIENCE, "a change that was carried over by hand was not seen in time");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn carry(client: &kube::Client, book: &Carried, name: String, port: u16) -> anyhow::Result<()> {
    let begun = Timestamp::now();
    let (service, slice) = (format!("{}/{name}", api::services(BY_HAND)), format!("{}/{name}", api::slices(BY_HAND)));
    api::patch(client, service, json!({"spec": {"ports": ports(port)}})).await?;
    api::patch(client, slice, json!({"ports": ports(port)})).await?;
    book.lock().unwrap_or_else(PoisonError::into_inner).insert((name, port), (begun, Timestamp::now()));
    Ok(())
}

/// Makes what is changed, anew each time.
async fn furnish(importer: &Importer, exporter: &Exporter) -> anyhow::Result<()> {
    for client in [&importer.client, &exporter.client] {
        api::delete_all(client, api::slices(BY_HAND)).await?;
        api::delete_all(client, api::services(BY_HAND)).await?;
    }
    let all = stream::iter(0..SERVICES).map(|number| furnish_one(importer, exporter, origin(number)));
    all.buffer_unordered(8).try_collect::<()>().await.context("cannot make what is changed by hand")
}

async fn furnish_one(importer: &Importer, exporter: &Exporter, name: String) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ClusterIP", "ports": ports(80)},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": ports(80), "endpoints": [{"addresses": ["203.0.113.5"]}],
    });
    for cluster in [&exporter.client, &importer.client] {
        api::create::<Value>(cluster, &api::services(BY_HAND), service.clone()).await?;
    }
    api::create::<Value>(&importer.client, &api::slices(BY_HAND), slice).await.map(drop)
}
