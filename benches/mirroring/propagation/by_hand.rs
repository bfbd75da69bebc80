//! The smallest controller that there can be: a watch in the exporter, and for each change that it shows
//! the writes that carry it over, one after the other. It knows in advance which kind of change comes, and
//! has nothing to decide. Less is not possible with a watch there and these writes here.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{Client, core::ApiResource};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use super::sight::{Seen, Sight};
use crate::{
    api::{self, Created},
    clusters::{BY_HAND, EXPORT, Exporter, Importer, origin, ports},
    machine,
    results::Kind,
};

/// Writes at a time of what is changed afterwards.
const AT_A_TIME: usize = 8;

/// Makes so many Services in the exporter, and a Service and a slice for each in the importer; anew each time.
pub(crate) async fn furnish(importer: &Importer, exporter: &Exporter, many: usize) -> anyhow::Result<()> {
    for client in [&importer.client, &exporter.client] {
        api::delete_all(client, api::slices(BY_HAND)).await?;
        api::delete_all(client, api::services(BY_HAND)).await?;
    }
    let all = stream::iter(0..many).map(|number| furnish_one(importer, exporter, number));
    all.buffer_unordered(AT_A_TIME).try_collect().await
}

async fn furnish_one(importer: &Importer, exporter: &Exporter, number: usize) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": origin(number), "labels": {EXPORT: "true"}},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports(80)},
    });
    api::create::<Value>(&exporter.client, &api::services(BY_HAND), service).await?;
    exporter.by_hand().set_address(number, "203.0.113.5").await?;
    export(&importer.client, &origin(number), 80, "203.0.113.5").await
}

/// Carries changes of one kind over until it is dropped.
pub(crate) struct Carrier {
    carrying: JoinHandle<()>,
    _origins: Sight,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Carrier {
    /// Returns when its watch has begun.
    pub(crate) async fn start(importer: &Importer, exporter: &Exporter, kind: Kind) -> anyhow::Result<Self> {
        let (news, mut told) = mpsc::unbounded_channel();
        let services = ApiResource::erase::<Service>(&());
        // Nobody listens any more when the measurement is over.
        let origins = Sight::open(&exporter.client, BY_HAND, services, move |seen| drop(news.send(seen))).await?;
        let client = importer.client.clone();
        let carrying = tokio::spawn(async move {
            while let Some(seen) = told.recv().await {
                let client = client.clone();
                tokio::spawn(async move {
                    if let Err(error) = carry(&client, kind, &seen).await {
                        machine::say(&format!("by hand, {}: {error:#}", seen.name));
                    }
                });
            }
        });
        Ok(Self { carrying, _origins: origins })
    }
}

async fn carry(client: &Client, kind: Kind, seen: &Seen) -> anyhow::Result<()> {
    let (name, port) = (&seen.name, seen.port.unwrap_or_default());
    let address = seen.address.as_deref().unwrap_or_default();
    let (service, slice) = (format!("{}/{name}", api::services(BY_HAND)), format!("{}/{name}", api::slices(BY_HAND)));
    match kind {
        Kind::Export => export(client, name, port, address).await,
        Kind::Unexport => api::delete(client, service).await,
        Kind::Port => {
            api::patch(client, service, json!({"spec": {"ports": ports(port)}})).await?;
            api::patch(client, slice, json!({"ports": ports(port)})).await.map(drop)
        }
        Kind::Endpoints => api::patch(client, slice, json!({"endpoints": [{"addresses": [address]}]})).await.map(drop),
    }
}

async fn export(client: &Client, name: &str, port: u16, address: &str) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ClusterIP", "ports": ports(port)},
    });
    let service: Created = api::create(client, &api::services(BY_HAND), service).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/service-name": name},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "uid": service.metadata.uid}],
        },
        "addressType": "IPv4", "ports": ports(port), "endpoints": [{"addresses": [address]}],
    });
    api::create::<Created>(client, &api::slices(BY_HAND), slice).await.map(drop)
}
