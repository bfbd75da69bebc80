//! What mirrors take by each way: memory, and writes when pods change in the exporter.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use heliostat::run::WRITES_IN_FLIGHT;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use crate::{
    api,
    clusters::{EXPORT, Exporter, Importer, Link, NAMESPACE, Write, ports},
    controller::{Controller, Program},
    machine,
    results::WayFigures,
};

/// Label of what belongs to one measurement.
const LABEL: &str = "way";
/// Pods that change a second.
const PER_SECOND: u32 = 100;
/// Without a request for so long, everything has been done.
const STILL: Duration = Duration::from_secs(3);
/// Most endpoints of a slice, as Kubernetes makes them by default.
const IN_A_SLICE: usize = 100;

/// Measures each way with mirrors and endpoints of each as the plan says.
pub(crate) async fn measure(
    importer: &Importer,
    exporter: &Exporter,
    program: &Program,
    ways: &[(&str, usize, usize)],
    pod_changes: usize,
) -> anyhow::Result<Vec<WayFigures>> {
    let mut figures = Vec::new();
    for (way, mirrors, endpoints) in ways {
        machine::say(&format!("{mirrors} mirrors by {way}, {endpoints} endpoints each"));
        let origins = Origins { exporter, way, mirrors: *mirrors, endpoints: *endpoints };
        figures.push(origins.measure(importer, program, pod_changes).await?);
    }
    Ok(figures)
}

/// Services with pods' slices, which nobody but the benchmark writes.
struct Origins<'a> {
    exporter: &'a Exporter,
    way: &'a str,
    mirrors: usize,
    endpoints: usize,
}

impl Origins<'_> {
    async fn measure(&self, importer: &Importer, program: &Program, pod_changes: usize) -> anyhow::Result<WayFigures> {
        importer.link(&[Link::to(LABEL, &self.value())], self.way).await?;
        importer.clear().await?;
        let controller = program.start().await?;
        controller.ready().await?;
        importer.quiet(STILL).await?;
        let without_kib = controller.memory()?.resident_kib;
        controller.stop().await?;

        let all = stream::iter(0..self.mirrors).map(|number| self.make(number));
        all.buffer_unordered(WRITES_IN_FLIGHT).try_collect::<()>().await?;
        let controller = program.start().await?;
        importer.quiet(STILL).await?;
        let there = api::list(&importer.client, &api::services(NAMESPACE)).await?.len();
        ensure!(there == self.mirrors, "{there} mirrors by {}, and not {}", self.way, self.mirrors);
        let with_kib = controller.memory()?.resident_kib;
        let (writes, cpu_ms) = self.change_pods(importer, &controller, pod_changes).await?;
        controller.stop().await?;
        self.remove().await?;
        Ok(WayFigures {
            way: self.way.to_owned(),
            endpoints: self.endpoints,
            mirrors: self.mirrors,
            without_kib,
            with_kib,
            pod_changes,
            writes,
            cpu_ms,
        })
    }

    fn value(&self) -> String {
        format!("{}-{}", self.way.to_lowercase(), self.endpoints)
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number:04}", self.value())
    }

    fn slice_name(&self, number: usize, part: usize) -> String {
        format!("{}-{part}", self.name(number))
    }

    /// A Service, its pods' slices, and for Gateway what a gateway publishes of it.
    async fn make(&self, number: usize) -> anyhow::Result<()> {
        let (client, name) = (&self.exporter.client, self.name(number));
        let labels = json!({EXPORT: "true", LABEL: self.value()});
        let kind = if self.way == "Service" { "LoadBalancer" } else { "ClusterIP" };
        let mut spec = json!({"type": kind, "ports": ports(80)});
        if self.way == "Service" {
            spec["allocateLoadBalancerNodePorts"] = json!(false);
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec,
        });
        let created: api::Created = api::create(client, &api::services(NAMESPACE), service).await?;
        if self.way == "Service" {
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}});
            api::patch(client, format!("{}/{name}/status", api::services(NAMESPACE)), status).await?;
        }
        for part in 0..self.endpoints.div_ceil(IN_A_SLICE) {
            let mut labels = labels.clone();
            labels["kubernetes.io/service-name"] = json!(name);
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": self.slice_name(number, part), "labels": labels},
                "addressType": "IPv4", "ports": ports(8080), "endpoints": self.pods(number, part, 0),
            });
            api::create::<Value>(client, &api::slices(NAMESPACE), slice).await?;
        }
        if self.way == "Gateway" {
            let slice = published(&name, &labels, &created.metadata.uid, 20_000 + number);
            api::create::<Value>(client, &api::slices(NAMESPACE), slice).await?;
        }
        Ok(())
    }

    /// Endpoints of one slice; the first of them is another one with each `turn`.
    fn pods(&self, number: usize, part: usize, turn: usize) -> Value {
        let many = IN_A_SLICE.min(self.endpoints - part * IN_A_SLICE);
        let address = |index: usize| {
            let last = if index == 0 { 100 + turn % 100 } else { index };
            format!("11.{}.{}.{last}", number % 250, part + 16 * (number / 250))
        };
        let endpoint = |index| json!({"addresses": [address(index)], "conditions": {"ready": true}});
        (0..many).map(endpoint).collect()
    }

    /// One pod after another goes, and one comes in its place; gives the writes that followed, and the
    /// controller's time on a core.
    async fn change_pods(
        &self,
        importer: &Importer,
        controller: &Controller,
        many: usize,
    ) -> anyhow::Result<(usize, u64)> {
        let (log, cpu) = (importer.end_of_log()?, controller.cpu_ms()?);
        let mut pace = interval(Duration::from_secs(1) / PER_SECOND);
        let start = Instant::now();
        for change in 0..many {
            pace.tick().await;
            let (number, turn) = (change % self.mirrors, 1 + change / self.mirrors);
            let path = format!("{}/{}", api::slices(NAMESPACE), self.slice_name(number, 0));
            let patch = json!({"endpoints": self.pods(number, 0, turn)});
            api::patch(&self.exporter.client, path, patch).await?;
        }
        machine::say(&format!("{many} pods changed within {} s", start.elapsed().as_secs()));
        sleep(Duration::from_secs(1)).await;
        importer.quiet(STILL).await?;
        let writes = importer.writes_since(&log)?.iter().filter(|write| Write::is_of_mirror(write)).count();
        Ok((writes, controller.cpu_ms()? - cpu))
    }

    async fn remove(&self) -> anyhow::Result<()> {
        let ours = format!("labelSelector={LABEL}%3D{}", self.value());
        for collection in [api::slices(NAMESPACE), api::services(NAMESPACE)] {
            api::delete_all(&self.exporter.client, format!("{collection}?{ours}")).await?;
        }
        Ok(())
    }
}

/// What a gateway publishes of a Service by port (docs/concepts.md, "Published slices").
fn published(service: &str, labels: &Value, uid: &str, port: usize) -> Value {
    let mut labels = labels.clone();
    labels["heliostat.dev/service-name"] = json!(service);
    labels["heliostat.dev/binding"] = json!("public");
    labels["endpointslice.kubernetes.io/managed-by"] = json!("gateway.heliostat.dev");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-public-ipv4"), "labels": labels,
            "annotations": {
                "heliostat.dev/contract": "v1", "heliostat.dev/routing": "Port", "heliostat.dev/port-lease": "24h",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "uid": uid}],
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": port, "protocol": "TCP"}, {"name": "grpc", "port": port + 2000, "protocol": "TCP"},
        ],
        "endpoints": [{"addresses": ["203.0.113.10"], "conditions": {"ready": true}}],
    })
}
