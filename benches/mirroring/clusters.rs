//! The two clusters: what is exported in the one, and the other's mirrors and audit log.
//!
//! `benches/run` has made both, the link between them, the policy, and the namespaces.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use heliostat::{cluster::client::local_client, run::WRITES_IN_FLIGHT};
use kube::Client;
use serde_json::{Value, json};

use crate::{api, audit_log::Place, mirrors::Mirror};

/// Namespace of the exported Services, and of their mirrors.
pub(crate) const NAMESPACE: &str = "shop";
/// The user of the kubeconfigs: the controller and the loop write as this one, and nobody else does.
const USER: &str = "admin";
/// Statuses of the link and the policy, which `benches/run` has made.
const STATUSES: [&str; 2] = [
    "/apis/heliostat.dev/v1alpha1/clusterlinks/east/status",
    "/apis/heliostat.dev/v1alpha1/namespaces/heliostat-system/mirrorpolicies/shop/status",
];
/// Longest wait for an API server to have nothing more to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// The cluster whose Services are mirrored.
pub(crate) struct Exporter {
    /// The administrator's client.
    pub(crate) client: Client,
}

impl Exporter {
    /// The cluster of a kubeconfig.
    pub(crate) async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        Ok(Self { client: local_client(Some(kubeconfig), None).await? })
    }

    /// Exports that many Services that a load balancer serves: a mirror of such a one is a Service
    /// and one slice.
    pub(crate) async fn export(&self, many: usize) -> anyhow::Result<()> {
        let all = stream::iter(0..many).map(|i| self.export_one(origin(i)));
        all.buffer_unordered(WRITES_IN_FLIGHT).try_collect().await
    }

    async fn export_one(&self, name: String) -> anyhow::Result<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"heliostat.dev/export": "true"}},
            "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports(80)},
        });
        api::create::<Value>(&self.client, &api::services(NAMESPACE), service).await?;
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}});
        api::patch(&self.client, format!("{}/{name}/status", api::services(NAMESPACE)), status).await?;
        Ok(())
    }
}

/// Name of an exported Service.
pub(crate) fn origin(number: usize) -> String {
    format!("s{number:05}")
}

/// The ports of every Service here; the first may differ.
pub(crate) fn ports(http: u16) -> Value {
    json!([{"name": "http", "port": http, "protocol": "TCP"}, {"name": "grpc", "port": 9090, "protocol": "TCP"}])
}

/// The cluster that gets the mirrors.
pub(crate) struct Importer {
    /// The administrator's client.
    pub(crate) client: Client,
    audit_log: PathBuf,
}

impl Importer {
    /// The cluster of a kubeconfig, beside which its audit log lies.
    pub(crate) async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = local_client(Some(kubeconfig), None).await?;
        Ok(Self { client, audit_log: kubeconfig.with_file_name("audit.log") })
    }

    /// The end of the audit log as it is now.
    pub(crate) fn end_of_log(&self) -> anyhow::Result<Place> {
        Place::end_of(self.audit_log.clone()).with_context(|| format!("cannot read {}", self.audit_log.display()))
    }

    /// All writes since then, but for leases.
    pub(crate) fn writes_since(&self, place: &Place) -> anyhow::Result<Vec<Value>> {
        place.writes_by(USER).with_context(|| format!("cannot read {}", self.audit_log.display()))
    }

    /// Waits until the API server has been asked nothing for so long. Looks at nothing but the length
    /// of its log, so that it does not take part in what it waits for.
    pub(crate) async fn quiet(&self, still: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut length, mut since) = (0, start);
        while since.elapsed() < still {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = std::fs::metadata(&self.audit_log)?.len();
            if now != length {
                (length, since) = (now, Instant::now());
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "the importer's API server is asked something all the time; its log is {}",
                    self.audit_log.display()
                );
            }
        }
        Ok(())
    }

    /// All mirrors, each with its slice. There must be that many, each with exactly one slice.
    pub(crate) async fn mirrors(&self, many: usize) -> anyhow::Result<Vec<Mirror>> {
        let services = api::list(&self.client, &api::services(NAMESPACE)).await?;
        let slices = api::list(&self.client, &api::slices(NAMESPACE)).await?;
        let there = (services.len(), slices.len());
        ensure!(there == (many, many), "{} Services and {} slices are there, and not {many} of each", there.0, there.1);
        Mirror::pair(services, slices)
    }

    /// Removes all mirrors, and what the link and the policy say of them.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        api::delete_all(&self.client, api::slices(NAMESPACE)).await?;
        api::delete_all(&self.client, api::services(NAMESPACE)).await?;
        for status in STATUSES {
            api::patch(&self.client, status.to_owned(), json!({"status": null})).await?;
        }
        self.mirrors(0).await?;
        self.quiet(Duration::from_secs(1)).await
    }
}
