//! The two clusters: what is exported in the one, and the other's links, mirrors and audit log.
//!
//! `benches/run` has made both, a link between them, the policy, and the namespaces.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use heliostat::{cluster::client::local_client, run::WRITES_IN_FLIGHT};
use kube::Client;
use serde_json::{Value, json};

use crate::{
    api,
    audit_log::{self, Place},
    mirrors::Mirror,
    plan::Plan,
};

/// Namespace of the exported Services, and of their mirrors.
pub(crate) const NAMESPACE: &str = "shop";
/// Namespace in both clusters of what is changed by hand; no policy speaks of it.
pub(crate) const BY_HAND: &str = "by-hand";
/// What a link looks for so that it sees a Service.
pub(crate) const EXPORT: &str = "heliostat.dev/export";
/// Label of the headless Services.
const HEADLESS: &str = "is-headless";
/// The link that `benches/run` has made: the others are like it.
const FIRST_LINK: &str = "east";
/// The user of the kubeconfigs: the controller and the loop write as this one, and nobody else does.
const USER: &str = "admin";
/// The policy that `benches/run` has made.
const POLICY: &str = "/apis/heliostat.dev/v1alpha1/namespaces/heliostat-system/mirrorpolicies/shop";
/// Longest wait for an API server to have nothing more to do.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The cluster whose Services are mirrored.
#[derive(Clone)]
pub(crate) struct Exporter {
    /// The administrator's client.
    pub(crate) client: Client,
    /// Where the Services are that are changed.
    namespace: &'static str,
}

impl Exporter {
    /// The cluster of a kubeconfig.
    pub(crate) async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        Ok(Self { client: local_client(Some(kubeconfig), None).await?, namespace: NAMESPACE })
    }

    /// The same cluster, of which nobody but the benchmark mirrors anything.
    pub(crate) fn by_hand(&self) -> Self {
        Self { namespace: BY_HAND, ..self.clone() }
    }

    /// Exports as many Services as a plan needs, with two pods each. A load balancer serves each: a mirror of such a
    /// one is a Service and one slice.
    pub(crate) async fn export(&self, plan: &Plan) -> anyhow::Result<()> {
        let all = stream::iter(0..plan.origins()).map(|i| self.export_one(i, plan));
        all.buffer_unordered(WRITES_IN_FLIGHT).try_collect::<()>().await?;
        let headless = stream::iter(0..plan.headless()).map(|i| self.export_headless(i));
        headless.buffer_unordered(WRITES_IN_FLIGHT).try_collect().await
    }

    async fn export_headless(&self, number: usize) -> anyhow::Result<()> {
        let (name, labels) = (format!("h{number:05}"), json!({EXPORT: "true", HEADLESS: "true"}));
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"clusterIP": "None", "ports": ports(80)},
        });
        api::create::<Value>(&self.client, &api::services(NAMESPACE), service).await?;
        api::create::<Value>(&self.client, &api::slices(NAMESPACE), pods(number, &name, labels)).await.map(drop)
    }

    async fn export_one(&self, number: usize, plan: &Plan) -> anyhow::Result<()> {
        let name = origin(number);
        let mut labels = json!({EXPORT: "true"});
        for size in plan.sizes().into_iter().filter(|size| number < *size) {
            labels[first(size)] = json!("true");
        }
        let (links, ..) = plan.links_apart;
        labels[part_of(links)] = json!((number % links).to_string());
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": labels.clone()},
            "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports(80)},
        });
        api::create::<Value>(&self.client, &api::services(NAMESPACE), service).await?;
        let slice = pods(number, &name, labels);
        api::create::<Value>(&self.client, &api::slices(NAMESPACE), slice).await?;
        self.set_address(number, "203.0.113.5").await
    }

    /// Sets the address of a Service's load balancer.
    pub(crate) async fn set_address(&self, number: usize, address: &str) -> anyhow::Result<()> {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        let path = format!("{}/{}/status", api::services(self.namespace), origin(number));
        api::patch(&self.client, path, status).await.map(drop)
    }

    /// Sets the first port of a Service.
    pub(crate) async fn set_port(&self, number: usize, port: u16) -> anyhow::Result<()> {
        self.change(number, json!({"spec": {"ports": ports(port)}})).await
    }

    /// Exports a Service, or no longer.
    pub(crate) async fn set_exported(&self, number: usize, exported: bool) -> anyhow::Result<()> {
        let value = exported.then_some("true");
        self.change(number, json!({"metadata": {"labels": {EXPORT: value}}})).await
    }

    async fn change(&self, number: usize, patch: Value) -> anyhow::Result<()> {
        let path = format!("{}/{}", api::services(self.namespace), origin(number));
        api::patch(&self.client, path, patch).await.map(drop)
    }
}

/// The slice of a Service's two pods, as nobody else makes it here.
fn pods(number: usize, service: &str, mut labels: Value) -> Value {
    labels["kubernetes.io/service-name"] = json!(service);
    let endpoint = |last: usize| {
        let address = format!("11.{}.{}.{last}", number / 250 % 250, number % 250);
        json!({"addresses": [address], "conditions": {"ready": true}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-pods"), "labels": labels},
        "addressType": "IPv4", "ports": ports(8080), "endpoints": [endpoint(1), endpoint(2)],
    })
}

/// Name of an exported Service.
pub(crate) fn origin(number: usize) -> String {
    format!("s{number:05}")
}

/// The ports of every Service here; the first may differ.
pub(crate) fn ports(http: u16) -> Value {
    json!([{"name": "http", "port": http, "protocol": "TCP"}, {"name": "grpc", "port": 9090, "protocol": "TCP"}])
}

/// Label of the first so many Services.
fn first(many: usize) -> String {
    format!("first-{many}")
}

/// Label whose value tells to which of so many links a Service belongs.
fn part_of(links: usize) -> String {
    format!("part-of-{links}")
}

/// A link of the benchmark's, and what it sees.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Its name.
    pub(crate) name: String,
    /// Labels of what it sees.
    sees: Value,
}

impl Link {
    /// The one link, which sees the first so many Services.
    pub(crate) fn one(many: usize) -> Self {
        Self { name: FIRST_LINK.to_owned(), sees: json!({EXPORT: "true", first(many): "true"}) }
    }

    /// So many links, each of which sees so many Services that no other one sees.
    pub(crate) fn apart(many: usize, each: usize) -> Vec<Self> {
        let link = |number: usize| Self {
            name: format!("l{number:03}"),
            sees: json!({EXPORT: "true", first(many * each): "true", part_of(many): number.to_string()}),
        };
        (0..many).map(link).collect()
    }

    /// So many links, all of which see the headless Services.
    pub(crate) fn alike(many: usize) -> Vec<Self> {
        let link =
            |number: usize| Self { name: format!("a{number:03}"), sees: json!({EXPORT: "true", HEADLESS: "true"}) };
        (0..many).map(link).collect()
    }

    /// The one link, which sees what has a label.
    pub(crate) fn to(label: &str, value: &str) -> Self {
        Self { name: FIRST_LINK.to_owned(), sees: json!({EXPORT: "true", label: value}) }
    }

    /// The link, among so many, that a Service belongs to.
    pub(crate) fn name_of(number: usize, links: usize) -> String {
        if links == 1 { FIRST_LINK.to_owned() } else { format!("l{:03}", number % links) }
    }
}

/// The cluster that gets the mirrors.
pub(crate) struct Importer {
    /// The administrator's client.
    pub(crate) client: Client,
    /// Of the administrator.
    pub(crate) kubeconfig: PathBuf,
    audit_log: PathBuf,
    like: Value,
}

impl Importer {
    /// The cluster of a kubeconfig, beside which its audit log lies.
    pub(crate) async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = local_client(Some(kubeconfig), None).await?;
        let link = api::list(&client, &format!("{LINKS}?fieldSelector=metadata.name%3D{FIRST_LINK}")).await?;
        let like = link.into_iter().next().context("benches/run has made no link")?["spec"].take();
        let audit_log = kubeconfig.with_file_name("audit.log");
        Ok(Self { client, kubeconfig: kubeconfig.to_owned(), audit_log, like })
    }

    /// Makes exactly these links; the policy mirrors through all of them, by one way.
    pub(crate) async fn link(&self, links: &[Link], way: &str) -> anyhow::Result<()> {
        api::delete_all(&self.client, LINKS.to_owned()).await?;
        for Link { name, sees } in links {
            let mut spec = self.like.clone();
            spec["services"]["selector"] = json!({"matchLabels": sees});
            let link = json!({
                "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
                "metadata": {"name": name}, "spec": spec,
            });
            api::create::<Value>(&self.client, LINKS, link).await?;
        }
        api::patch(&self.client, POLICY.to_owned(), json!({"spec": {"via": [way]}})).await?;
        Ok(())
    }

    /// The end of the audit log as it is now.
    pub(crate) fn end_of_log(&self) -> anyhow::Result<Place> {
        Place::end_of(self.audit_log.clone()).with_context(|| format!("cannot read {}", self.audit_log.display()))
    }

    /// All writes since then, but for leases, each in short.
    pub(crate) fn writes_since(&self, place: &Place) -> anyhow::Result<Vec<Write>> {
        let writes = place.writes_by(USER, |event| Write::read(&event));
        let writes = writes.with_context(|| format!("cannot read {}", self.audit_log.display()))?;
        writes.into_iter().collect()
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

    /// Removes slices whose Services are gone, as Kubernetes' garbage collector does: there is none here.
    pub(crate) async fn collect(&self, namespace: &str) -> anyhow::Result<()> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let services = api::list(&self.client, &api::services(namespace)).await?;
        let services: BTreeSet<String> = services.iter().map(name).collect();
        for slice in api::list(&self.client, &api::slices(namespace)).await? {
            let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
            if !services.contains(service) {
                api::delete(&self.client, format!("{}/{}", api::slices(namespace), name(&slice))).await?;
            }
        }
        Ok(())
    }

    /// Removes all mirrors, and what the links and the policy say of them.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        api::delete_all(&self.client, api::slices(NAMESPACE)).await?;
        api::delete_all(&self.client, api::services(NAMESPACE)).await?;
        let links = api::list(&self.client, LINKS).await?;
        let names = links.iter().filter_map(|link| link["metadata"]["name"].as_str());
        let statuses = names.map(|name| format!("{LINKS}/{name}/status")).chain([format!("{POLICY}/status")]);
        for status in statuses {
            api::patch(&self.client, status, json!({"status": null})).await?;
        }
        self.mirrors(0).await?;
        self.quiet(Duration::from_secs(1)).await
    }
}

/// Where the links are.
const LINKS: &str = "/apis/heliostat.dev/v1alpha1/clusterlinks";

/// A write, as the audit log has it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// `services`, `endpointslices`, `clusterlinks/status`.
    pub(crate) resource: String,
    /// Of the object.
    pub(crate) name: String,
    /// When it reached the API server.
    pub(crate) received: jiff::Timestamp,
    /// When it was answered.
    pub(crate) answered: jiff::Timestamp,
    /// The whole in one line.
    pub(crate) line: String,
    namespace: String,
}

impl Write {
    fn read(event: &Value) -> anyhow::Result<Self> {
        let time = |field: &str| {
            let text = event[field].as_str().with_context(|| format!("no {field} in the audit log"))?;
            anyhow::Ok(text.parse()?)
        };
        Ok(Self {
            resource: audit_log::resource(event),
            name: event["objectRef"]["name"].as_str().unwrap_or_default().to_owned(),
            received: time("requestReceivedTimestamp")?,
            answered: time("stageTimestamp")?,
            line: audit_log::line(event),
            namespace: event["objectRef"]["namespace"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Of a mirror or a slice of it.
    pub(crate) fn is_of_mirror(&self) -> bool {
        self.is_in(NAMESPACE)
    }

    /// Of a Service or a slice there.
    pub(crate) fn is_in(&self, namespace: &str) -> bool {
        self.namespace == namespace && (self.resource == "services" || self.resource == "endpointslices")
    }
}
