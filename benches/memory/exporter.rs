//! An exporter: its Services and slices as JSON, and as a session's reader makes them.

use std::collections::BTreeMap;

use heliostat::{
    cluster::wire::{OriginWire, RemoteSliceWire},
    core::{
        io::RemoteEvent,
        model::{Key, Origin, RemoteSlice},
    },
};
use serde_json::{Value, json};

/// Namespaces of an exporter.
pub(crate) const NAMESPACES: usize = 10;

const WORDS: &[&str] = &["checkout", "payments-api", "inventory", "search-frontend", "mail-relay"];

/// See the file's description.
pub(crate) struct Exporter {
    pub(crate) name: String,
    pub(crate) uid: String,
    number: usize,
    origins: usize,
    headless: bool,
}

/// A uid as Kubernetes makes them.
pub(crate) fn uid(kind: u16, number: usize, index: usize) -> String {
    format!(
        "{:08x}-{kind:04x}-4a6b-9c3d-{number:04x}{index:08x}",
        0x9e37_79b9_usize.wrapping_mul(index + 1) & 0xffff_ffff
    )
}

impl Exporter {
    pub(crate) fn new(number: usize, origins: usize) -> Self {
        Self { name: format!("cluster-{number:03}"), uid: uid(1, number, 0), number, origins, headless: false }
    }

    /// One that has the same headless Services as all others.
    pub(crate) fn alike(number: usize, origins: usize) -> Self {
        Self { number: 0, headless: true, ..Self::new(number, origins) }
    }

    /// A name that no other exporter has: names that are alike would be held once.
    fn key(&self, index: usize) -> Key {
        let namespace = format!("team-{}", index % NAMESPACES);
        Key::new(namespace, format!("{}-{:02x}{index:04}", WORDS[index % WORDS.len()], self.number))
    }

    fn labels(&self, index: usize) -> Value {
        let name = self.key(index).name;
        json!({
            "app.kubernetes.io/name": name,
            "example.com/tier": if index.is_multiple_of(2) { "front" } else { "back" },
            "heliostat.dev/export": "true",
        })
    }

    /// A Service as its API server tells it.
    pub(crate) fn service(&self, index: usize) -> Value {
        let key = self.key(index);
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": key.name, "namespace": key.namespace,
                "uid": uid(2, self.number, index), "resourceVersion": (100_000 + index).to_string(),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": self.labels(index),
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"apiVersion\":\"v1\",\"kind\":\"Service\"}\n"},
                "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {}}}}],
            },
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
                "sessionAffinity": "None", "allocateLoadBalancerNodePorts": true,
                "selector": {"app.kubernetes.io/name": key.name},
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30000 + index % 2000},
                    {"name": "grpc", "port": 9090, "protocol": "TCP", "targetPort": 9090, "nodePort": 30000 + (index + 1) % 2000},
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": self.address(203, index), "ipMode": "VIP"}]}},
        });
        if self.headless {
            (service["spec"]["type"], service["spec"]["clusterIP"]) = (json!("ClusterIP"), json!("None"));
            service["status"] = json!({"loadBalancer": {}});
        }
        service
    }

    fn address(&self, first: u8, index: usize) -> String {
        format!("{first}.{}.{}.{}", 1 + self.number % 200, index / 250, 1 + index % 250)
    }

    /// The slice of its pods.
    pub(crate) fn slice(&self, index: usize) -> Value {
        let key = self.key(index);
        let mut labels = self.labels(index);
        labels["kubernetes.io/service-name"] = json!(key.name);
        labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
        let endpoint = |first: u8| {
            json!({
                "addresses": [self.address(first, index)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", index % 7),
                "targetRef": {"kind": "Pod", "namespace": key.namespace, "name": format!("{}-{first}", key.name), "uid": uid(3, self.number, index)},
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{}-{:05x}", key.name, 0xb1e55 ^ index), "namespace": key.namespace,
                "uid": uid(4, self.number, index), "resourceVersion": (200_000 + index).to_string(),
                "labels": labels,
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": key.name, "uid": uid(2, self.number, index), "controller": true}],
            },
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "grpc", "port": 9090, "protocol": "TCP"}],
            "endpoints": [endpoint(10), endpoint(11)],
        })
    }

    /// All Services, as a session reads them.
    pub(crate) fn services(&self) -> BTreeMap<Key, Origin> {
        (0..self.origins).map(|index| read_service(&self.service(index))).collect()
    }

    /// All slices, as a session reads them.
    pub(crate) fn slices(&self) -> BTreeMap<Key, RemoteSlice> {
        (0..self.origins).map(|index| read_slice(&self.slice(index))).collect()
    }

    /// One Service has another port.
    pub(crate) fn change(&self, index: usize) -> RemoteEvent {
        let mut service = self.service(index);
        service["spec"]["ports"][0]["port"] = json!(81);
        let (key, origin) = read_service(&service);
        RemoteEvent::Service(key, Box::new(origin))
    }

    /// One pod of a Service is another one.
    pub(crate) fn change_slice(&self, index: usize) -> RemoteEvent {
        let mut slice = self.slice(index);
        slice["endpoints"][0]["addresses"] = json!(["10.255.255.7"]);
        let (key, slice) = read_slice(&slice);
        RemoteEvent::Slice(key, Box::new(slice))
    }
}

fn read_service(object: &Value) -> (Key, Origin) {
    serde_json::from_str::<OriginWire>(&object.to_string()).unwrap().into_model().unwrap()
}

fn read_slice(object: &Value) -> (Key, RemoteSlice) {
    let (key, slice) = serde_json::from_str::<RemoteSliceWire>(&object.to_string()).unwrap().into_model().unwrap();
    (key, slice.unwrap())
}
