//! The delay of a single change: from the beginning of the request that changes an origin's port
//! until somebody else, who watches the importer, sees it in the mirror.
//!
//! Between any two of these, the same is done by hand, which no controller can undercut: the change
//! of a Service nobody exports, seen by a watch of ours; then a Service and a slice in the importer
//! patched, and seen by watches of ours.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::{Stream, StreamExt};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api,
    clusters::{Exporter, Importer, NAMESPACE, origin, ports},
};

/// Namespace in both clusters of what is changed by hand; no policy speaks of it.
const BY_HAND: &str = "by-hand";
/// Name of everything in it.
const NAME: &str = "echo";
/// Between two changes, so that nobody is still busy with the last one.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a change to be seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The ports that are changed to begin here.
const FIRST_PORT: u16 = 20_000;

/// One change by the controller and one by hand, in milliseconds from the beginning of the request.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    /// The mirror's Service showed the new port.
    pub(crate) service: f64,
    /// The mirror's Service and its slice showed it.
    pub(crate) mirror: f64,
    /// By hand: a watch in the exporter showed it.
    pub(crate) by_hand_remote: f64,
    /// By hand: from there until both writes to the importer were answered.
    pub(crate) by_hand_writes: f64,
    /// By hand: watches in the importer showed both, from the beginning.
    pub(crate) by_hand: f64,
}

/// Changes the ports of origins, one after the other.
pub(crate) async fn one_at_a_time(importer: &Importer, exporter: &Exporter, many: u16) -> anyhow::Result<Vec<Change>> {
    let mut mirrors = Both::of(&importer.client, NAMESPACE).await?;
    let mut hand = Hand::make(&importer.client, &exporter.client).await?;
    let mut changes = Vec::new();
    for number in 0..many {
        let port = FIRST_PORT + number;
        tokio::time::sleep(PAUSE).await;
        // Another origin each time, as long as there are any: all must be equally quick.
        let origin = format!("{}/{}", api::services(NAMESPACE), origin(usize::from(number) % mirrors.services.known));
        let start = Instant::now();
        let change = api::patch(&exporter.client, origin, json!({"spec": {"ports": ports(port)}}));
        let (_, (service, mirror)) = tokio::try_join!(change, mirrors.show(port))?;
        tokio::time::sleep(PAUSE).await;
        let ms = |seen: Instant, since: Instant| seen.duration_since(since).as_secs_f64() * 1e3;
        let (service, mirror) = (ms(service, start), ms(mirror, start));
        let start = Instant::now();
        let Carried { remote, written, shown } = hand.carry(port).await?;
        changes.push(Change {
            service,
            mirror,
            by_hand_remote: ms(remote, start),
            by_hand_writes: ms(written, remote),
            by_hand: ms(shown, start),
        });
    }
    Ok(changes)
}

/// A watch of one kind in one namespace.
struct Sight {
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<DynamicObject>>> + Send>>,
    known: usize,
}

impl Sight {
    /// Opens it, and reads what is there already.
    async fn open(client: &Client, namespace: &str, resource: &ApiResource) -> anyhow::Result<Self> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let mut sight = Self { events: watcher(api, watcher::Config::default()).boxed(), known: 0 };
        loop {
            match sight.next().await? {
                Event::InitApply(_) => sight.known += 1,
                Event::InitDone => return Ok(sight),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Event<DynamicObject>> {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        event.context("a change was not seen in time")?.context("a watch has ended")?.context("a watch failed")
    }

    /// Waits until an object shows that port, and says when that was.
    async fn show(&mut self, port: u16) -> anyhow::Result<Instant> {
        loop {
            let seen = self.next().await?;
            let now = Instant::now();
            match seen {
                Event::Apply(object) if has_port(&object.data, port) => return Ok(now),
                Event::Apply(_) | Event::Delete(_) => {}
                Event::Init | Event::InitApply(_) | Event::InitDone => bail!("a watch had to begin anew"),
            }
        }
    }
}

fn has_port(object: &Value, port: u16) -> bool {
    let of_service = object["spec"]["ports"].as_array();
    let ports = of_service.or_else(|| object["ports"].as_array()).into_iter().flatten();
    ports.into_iter().any(|there| there["port"] == port)
}

/// Watches of the two kinds that a mirror consists of.
struct Both {
    services: Sight,
    slices: Sight,
}

impl Both {
    async fn of(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let (services, slices) = (ApiResource::erase::<Service>(&()), ApiResource::erase::<EndpointSlice>(&()));
        Ok(Self {
            services: Sight::open(client, namespace, &services).await?,
            slices: Sight::open(client, namespace, &slices).await?,
        })
    }

    /// When the Service showed that port, and when it and a slice did.
    async fn show(&mut self, port: u16) -> anyhow::Result<(Instant, Instant)> {
        let (service, slice) = tokio::try_join!(self.services.show(port), self.slices.show(port))?;
        Ok((service, service.max(slice)))
    }
}

/// What is changed by hand.
struct Hand {
    here: Client,
    there: Client,
    remote: Sight,
    local: Both,
}

/// When a change by hand had got how far.
struct Carried {
    remote: Instant,
    written: Instant,
    shown: Instant,
}

impl Hand {
    async fn make(here: &Client, there: &Client) -> anyhow::Result<Self> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"type": "ClusterIP", "ports": ports(80)},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4", "ports": ports(80), "endpoints": [{"addresses": ["203.0.113.5"]}],
        });
        for cluster in [here, there] {
            api::create::<Value>(cluster, &api::services(BY_HAND), service.clone()).await?;
        }
        api::create::<Value>(here, &api::slices(BY_HAND), slice).await?;
        Ok(Self {
            here: here.clone(),
            there: there.clone(),
            remote: Sight::open(there, BY_HAND, &ApiResource::erase::<Service>(&())).await?,
            local: Both::of(here, BY_HAND).await?,
        })
    }

    async fn carry(&mut self, port: u16) -> anyhow::Result<Carried> {
        let (service, slice) =
            (format!("{}/{NAME}", api::services(BY_HAND)), format!("{}/{NAME}", api::slices(BY_HAND)));
        let of_service = json!({"spec": {"ports": ports(port)}});
        let change = api::patch(&self.there, service.clone(), of_service.clone());
        let follow = async {
            let remote = self.remote.show(port).await?;
            api::patch(&self.here, service.clone(), of_service.clone()).await?;
            api::patch(&self.here, slice, json!({"ports": ports(port)})).await?;
            Ok((remote, Instant::now()))
        };
        let (_, (remote, written), (_, shown)) = tokio::try_join!(change, follow, self.local.show(port))?;
        Ok(Carried { remote, written, shown })
    }
}
