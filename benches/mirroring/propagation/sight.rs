//! Watches of the benchmark's own: who saw what when. They read nothing from the controller.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::clusters::EXPORT;

/// What an object said when it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When.
    pub(crate) at: Timestamp,
    /// Its own name.
    pub(crate) name: String,
    /// Number of its first port.
    pub(crate) port: Option<u16>,
    /// Its first address.
    pub(crate) address: Option<String>,
    /// It has the label.
    pub(crate) exported: bool,
    /// It is no more.
    pub(crate) gone: bool,
}

/// A watch of one kind in one namespace, and all it has shown, by Service.
pub(crate) struct Sight {
    seen: Arc<Mutex<BTreeMap<String, Vec<Seen>>>>,
    watching: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Sight {
    /// Of Services. Returns when what is there already has been read.
    pub(crate) async fn of_services(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        Self::open(client, namespace, ApiResource::erase::<Service>(&()), drop).await
    }

    /// Of slices.
    pub(crate) async fn of_slices(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        Self::open(client, namespace, ApiResource::erase::<EndpointSlice>(&()), drop).await
    }

    /// Calls `also` with everything it sees, at once.
    pub(crate) async fn open(
        client: &Client,
        namespace: &str,
        kind: ApiResource,
        also: impl Fn(Seen) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        let mut events = watcher(api, watcher::Config::default()).boxed();
        let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<Seen>>::new()));
        let (listed, all) = oneshot::channel();
        let book = seen.clone();
        let watching = tokio::spawn(async move {
            let mut listed = Some(listed);
            while let Some(event) = events.next().await {
                let now = Timestamp::now();
                let (object, gone) = match event.context("a watch of the benchmark's failed")? {
                    Event::Apply(object) => (object, false),
                    Event::Delete(object) => (object, true),
                    Event::Init | Event::InitApply(_) if listed.is_some() => continue,
                    Event::InitDone => {
                        listed.take().map(|listed| listed.send(()));
                        continue;
                    }
                    Event::Init | Event::InitApply(_) => bail!("a watch of the benchmark's had to begin anew"),
                };
                let (service, seen) = read(&object, now, gone);
                book.lock().unwrap_or_else(PoisonError::into_inner).entry(service).or_default().push(seen.clone());
                also(seen);
            }
            bail!("a watch of the benchmark's has ended")
        });
        let sight = Self { seen, watching };
        all.await.context("a watch of the benchmark's did not begin")?;
        Ok(sight)
    }

    /// When a Service, or a slice of it, was first seen like that, not before some moment.
    pub(crate) fn first(&self, service: &str, since: Timestamp, like: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let book = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(service)?.iter().find(|seen| seen.at >= since && like(seen)).cloned()
    }

    /// Forgets all it has seen.
    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The name of the Service that an object is, or is a slice of; and what it says.
fn read(object: &DynamicObject, at: Timestamp, gone: bool) -> (String, Seen) {
    let data = &object.data;
    let ports = data["spec"]["ports"].as_array().or_else(|| data["ports"].as_array());
    // A slice's ports are sorted; the one that changes is `http` in both.
    let http = ports.and_then(|ports| ports.iter().find(|port| port["name"] == "http"));
    let port = http.and_then(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok());
    let of_slice = &data["endpoints"][0]["addresses"][0];
    let of_service = &data["status"]["loadBalancer"]["ingress"][0]["ip"];
    let address = of_slice.as_str().or_else(|| Value::as_str(of_service)).map(str::to_owned);
    let exported = object.labels().get(EXPORT).is_some_and(|value| value == "true");
    let name = object.name_any();
    let service = object.labels().get("kubernetes.io/service-name").unwrap_or(&name).clone();
    (service, Seen { at, name, port, address, exported, gone })
}
