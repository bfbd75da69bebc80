//! What the tests here make in the exporter, and what they look at in the importer.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    objects::{Objects, same, wait},
    relay::Relay,
    rig::api_server,
    support::{Case, HOME, merge},
};

/// A change is visible after that long.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// All Services and EndpointSlices of a namespace, by kind and name.
pub(crate) type Snapshot = BTreeMap<String, Value>;

impl Case {
    pub(crate) fn origins(&self) -> Objects {
        Objects::services(&self.east, &self.name)
    }

    pub(crate) fn origin_slices(&self) -> Objects {
        Objects::slices(&self.east, &self.name)
    }

    pub(crate) fn mirrors(&self) -> Objects {
        Objects::services(&self.west, &self.name)
    }

    pub(crate) fn mirror_slices(&self) -> Objects {
        Objects::slices(&self.west, &self.name)
    }

    pub(crate) fn links(&self) -> Objects {
        Objects::links(&self.west)
    }

    pub(crate) fn policies(&self) -> Objects {
        Objects::policies(&self.west, &self.name)
    }

    /// Name of the mirror of an origin.
    pub(crate) fn mirrored(&self, origin: &str) -> String {
        format!("{origin}-{}", self.name)
    }

    /// Exports a Service of type LoadBalancer that a load balancer serves at that address.
    pub(crate) async fn export(&self, name: &str, address: &str) -> Value {
        self.origins().create(&exported(name, json!({}))).await;
        self.load_balancer(name, json!([{"ip": address}])).await
    }

    /// Lets the origin's load balancer report that.
    pub(crate) async fn load_balancer(&self, name: &str, ingress: Value) -> Value {
        self.origins().patch_status(name, json!({"loadBalancer": {"ingress": ingress}})).await
    }

    /// Addresses and ports of a mirror's slices, sorted: `address:port name`, and `not ready` where
    /// so.
    pub(crate) async fn endpoints(&self, mirror: &str) -> Vec<String> {
        endpoints_of(self.mirror_slices().all().await.values(), mirror)
    }

    /// Waits until a mirror has exactly these endpoints.
    pub(crate) async fn leads_to(&self, mirror: &str, wanted: &[&str]) {
        let wanted: Vec<String> = wanted.iter().map(|e| (*e).to_owned()).collect();
        wait(&format!("{}: {mirror} leads to {}", self.name, wanted.join(", ")), SOON, || async {
            same(self.endpoints(mirror).await, &wanted)
        })
        .await;
    }

    /// Waits until the case's namespace has exactly these Services.
    pub(crate) async fn has_services(&self, wanted: &[&str]) {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        wait(&format!("{}: Services {}", self.name, wanted.join(", ")), SOON, || async {
            same(self.mirrors().all().await.into_keys().collect::<Vec<_>>(), &wanted)
        })
        .await;
    }

    /// Waits until the policy lists exactly these failures (origin, reason), and gives their messages.
    pub(crate) async fn failures(&self, wanted: &[(&str, &str)]) -> Vec<String> {
        let mut wanted: Vec<(String, String)> = wanted.iter().map(|(o, r)| ((*o).into(), (*r).into())).collect();
        wanted.sort();
        wait(&format!("{}: failures {wanted:?}", self.name), SOON, || async {
            let policy = self.policies().get("all").await.unwrap();
            let failures = policy["status"]["failures"].as_array().cloned().unwrap_or_default();
            let text = |f: &Value, field: &str| f[field].as_str().unwrap_or_default().to_owned();
            let mut there: Vec<_> = failures.iter().map(|f| (text(f, "name"), text(f, "reason"))).collect();
            there.sort();
            same(there, &wanted).map(|()| failures.iter().map(|f| text(f, "message")).collect())
        })
        .await
    }

    /// Waits until the policy counts that many matched, mirrored, skipped and conflicted.
    pub(crate) async fn counts(&self, wanted: [u64; 4]) {
        wait(&format!("{}: counts {wanted:?}", self.name), SOON, || async {
            let policy = self.policies().get("all").await.unwrap();
            let count = |field: &str| policy["status"]["services"][field].as_u64().unwrap_or(u64::MAX);
            same(["matched", "mirrored", "skipped", "conflicted"].map(count), &wanted)
        })
        .await;
    }

    /// Every Service and slice in the case's namespace of the importer, once nothing of them has changed for a
    /// moment: a mirror is made by several writes. What never stands still is taken as it is.
    pub(crate) async fn landed(&self) -> Snapshot {
        let mut before = self.standing().await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.standing().await;
            if now == before {
                return now;
            }
            before = now;
        }
        before
    }

    async fn standing(&self) -> Snapshot {
        let services = self.mirrors().all().await.into_iter().map(|(name, o)| (format!("Service {name}"), o));
        let slices = self.mirror_slices().all().await.into_iter().map(|(name, o)| (format!("EndpointSlice {name}"), o));
        services.chain(slices).collect()
    }

    /// Waits until the link says so.
    pub(crate) async fn link_says(&self, kind: &str, status: &str, reason: &str, promise: Duration) -> Value {
        link_says(&self.links(), &self.name, kind, status, reason, promise).await
    }

    /// The kubeconfig of the case's link.
    pub(crate) async fn kubeconfig(&self) -> Value {
        let secret = Objects::secrets(&self.west, HOME).get(&format!("{}-kubeconfig", self.name)).await.unwrap();
        let text = STANDARD.decode(secret["data"]["kubeconfig"].as_str().unwrap()).unwrap();
        serde_saphyr::from_slice(&text).unwrap()
    }

    /// Gives the case's link another kubeconfig.
    pub(crate) async fn set_kubeconfig(&self, kubeconfig: &str) {
        let secrets = Objects::secrets(&self.west, HOME);
        let data = json!({"data": {"kubeconfig": STANDARD.encode(kubeconfig)}});
        secrets.patch(&format!("{}-kubeconfig", self.name), data).await;
    }

    /// Makes the case's link anew, through a relay, and waits until it is in sync. A changed Secret
    /// would not do: the old connections stay until the new ones are in sync.
    pub(crate) async fn relay(&self) -> Relay {
        let relay = Relay::to(api_server("east")).await;
        self.link_by(relay.address).await;
        self.link_says("Synced", "True", "InSync", Duration::from_secs(10)).await;
        assert!(relay.connections() > 0, "the link goes through the relay");
        relay
    }

    /// Makes the case's link anew, to another address of the same API server.
    pub(crate) async fn link_by(&self, server: SocketAddr) {
        self.links().delete(&self.name).await;
        self.link_again(server).await;
    }

    /// The same for a link that was deleted.
    pub(crate) async fn link_again(&self, server: SocketAddr) {
        let mut kubeconfig = self.kubeconfig().await;
        let cluster = &mut kubeconfig["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://{server}"));
        cluster["tls-server-name"] = json!("kubernetes");
        self.set_kubeconfig(&kubeconfig.to_string()).await;
        self.link_object(&self.name, json!({})).await;
    }
}

/// Waits until a link says so.
pub(crate) async fn link_says(
    links: &Objects,
    name: &str,
    kind: &str,
    status: &str,
    reason: &str,
    promise: Duration,
) -> Value {
    let wanted = (status.to_owned(), reason.to_owned());
    wait(&format!("link {name}: {kind}={status}/{reason}"), promise, || async {
        let link = links.get(name).await.ok_or_else(|| ("no link".to_owned(), String::new()))?;
        same(crate::objects::says(&link, kind), &wanted).map(|()| link)
    })
    .await
}

/// An exported Service with ports http 80 and grpc 9090, with changes. Its class is one that the
/// cluster's own load balancer leaves alone, so that a test decides what it reports.
pub(crate) fn exported(name: &str, change: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"heliostat.dev/export": "true"}},
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "loadBalancerClass": "heliostat.test/by-hand",
            "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9090}],
        },
    });
    merge(&mut service, change);
    service
}

/// An exported Service without load balancer, and without selector.
pub(crate) fn exported_cluster_ip(name: &str) -> Value {
    exported(
        name,
        json!({"spec": {"type": "ClusterIP", "allocateLoadBalancerNodePorts": null, "loadBalancerClass": null}}),
    )
}

/// A slice with the pods of an exported Service, at port 8080 for http and 9090 for grpc.
pub(crate) fn pods(name: &str, service: &str, addresses: &[String]) -> Value {
    let endpoint = |a: &String| json!({"addresses": [a], "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"heliostat.dev/export": "true", "kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "grpc", "port": 9090, "protocol": "TCP"}],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A published slice of a gateway with Port routing: http at 20001, grpc at 20002.
pub(crate) fn published(name: &str, service: &str, binding: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": {
                "heliostat.dev/export": "true",
                "heliostat.dev/service-name": service,
                "heliostat.dev/binding": binding,
                "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev",
                "service.kubernetes.io/service-proxy-name": "heliostat.dev",
                "service.kubernetes.io/headless": "",
            },
            "annotations": {
                "heliostat.dev/contract": "v1", "heliostat.dev/routing": "Port", "heliostat.dev/port-lease": "24h",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 20001, "protocol": "TCP"}, {"name": "grpc", "port": 20002, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

/// `address:port name` of all slices of a Service, sorted, and `not ready` where so.
pub(crate) fn endpoints_of<'a>(slices: impl Iterator<Item = &'a Value>, service: &str) -> Vec<String> {
    let mut all = Vec::new();
    for slice in slices.filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == service) {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            for port in slice["ports"].as_array().into_iter().flatten() {
                let (address, ready) = (endpoint["addresses"][0].as_str().unwrap(), &endpoint["conditions"]["ready"]);
                let ready = if *ready == true { "" } else { " not ready" };
                all.push(format!("{address}:{} {}{ready}", port["port"], port["name"].as_str().unwrap_or_default()));
            }
        }
    }
    all.sort();
    all
}

/// What differs between two snapshots: what came, went and changed, by kind and name.
pub(crate) fn differences(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{key} went"));
    let other = after.iter().filter_map(|(key, now)| match before.get(key) {
        None => Some(format!("{key} came")),
        Some(then) if then != now => Some(format!("{key} changed: {then} to {now}")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Nothing differs.
pub(crate) fn assert_untouched(before: &Snapshot, after: &Snapshot) {
    assert_eq!(differences(before, after), Vec::<String>::new());
}
