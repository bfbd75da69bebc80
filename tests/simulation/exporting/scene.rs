//! What is in the two clusters, and what users do in the exporter.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::gateway::{PORTS, PROBE};
use crate::{
    server::Server,
    world::{Chance, HOME, scene::kubeconfig},
};

/// Services that users may export; each is exported at the beginning, or later.
pub(crate) const SERVICES: u64 = 8;
/// Most that are exported at a time, so that there are ports for all once others are given back.
const MOST: usize = 6;

fn name(service: u64) -> String {
    format!("s{service}")
}

/// Every third Service has a second port.
fn ports(service: u64, http: u64) -> Value {
    let http = json!({"name": "http", "port": http, "targetPort": 8080});
    let grpc = json!({"name": "grpc", "port": 9090, "targetPort": 9090});
    if service.is_multiple_of(3) { json!([http, grpc]) } else { json!([http]) }
}

fn pods(ready: bool, address: &str) -> Value {
    json!([{"addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": false}}])
}

fn make(exporter: &Server, namespace: &str, name: &str, labels: &Value, ports: &Value) {
    let selector = json!({"app": name});
    let service = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": selector, "ports": ports},
    });
    exporter.make("services", &service);
    let mut labels = labels.clone();
    labels["kubernetes.io/service-name"] = json!(name);
    labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
    let slice = json!({
        "metadata": {"name": format!("{name}-pods"), "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}],
        "endpoints": pods(true, "10.244.0.7"),
    });
    exporter.make("endpointslices", &slice);
}

/// The exporter: Services, a binding, and what answers probes.
pub(crate) fn furnish_exporter(exporter: &Server) {
    for namespace in [HOME, "shop"] {
        exporter.make("namespaces", &json!({"metadata": {"name": namespace}}));
    }
    let labels = json!({"heliostat.dev/export": "true", "heliostat.dev/probe": "true"});
    make(exporter, HOME, PROBE, &labels, &json!([{"name": "http", "port": 80, "targetPort": 8080}]));
    answer_probes(exporter, false);
    (0..4).for_each(|service| export(exporter, service));
    make(exporter, "shop", "theirs", &json!({}), &json!([{"name": "http", "port": 80}]));
    // A listener that a user has taken.
    let parent = json!({"name": "main", "namespace": "edge", "sectionName": "tcp-20005"});
    let theirs = json!({
        "metadata": {"name": "theirs", "namespace": "shop"},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "theirs", "port": 80}]}]},
    });
    exporter.make("tcproutes", &theirs);
    let binding = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding", "metadata": {"name": "edge"},
        "spec": {"routing": "Port", "export": {
            "services": {"namespaces": ["shop"]},
            "provider": {"gatewayAPI": {"gatewayRef": {"namespace": "edge", "name": "main"}}},
            "ports": {"from": PORTS.start(), "to": PORTS.end(), "lease": "30s"},
        }},
    });
    exporter.make("gatewaybindings", &binding);
}

/// What of somebody else's nobody may touch.
pub(crate) fn theirs(exporter: &Server) -> Value {
    let mut route = exporter.read("tcproutes", "shop", "theirs").unwrap();
    let service = exporter.read("services", "shop", "theirs").unwrap();
    for field in ["resourceVersion", "managedFields"] {
        route["metadata"].as_object_mut().unwrap().remove(field);
    }
    json!([route["metadata"], route["spec"], service])
}

/// The importer: a link, whose gateways are probed, and a policy.
pub(crate) fn furnish_importer(importer: &Server) {
    for namespace in [HOME, "shop"] {
        importer.make("namespaces", &json!({"metadata": {"name": namespace}}));
    }
    let secret = json!({
        "metadata": {"name": "east-kubeconfig", "namespace": HOME},
        "data": {"kubeconfig": STANDARD.encode(kubeconfig("east"))},
    });
    importer.make("secrets", &secret);
    let link = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": "east"},
        "spec": {
            "kubeconfigSecretRef": {"name": "east-kubeconfig"},
            "allowedNamespaces": {"from": "All"},
            "probe": {"period": "10s", "timeout": "2s", "failureThreshold": 3},
        },
    });
    importer.make("clusterlinks", &link);
    let policy = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"links": {"names": ["east"]}, "via": ["Gateway"]},
    });
    importer.make("mirrorpolicies", &policy);
}

/// Whether a pod that answers probes is ready.
pub(crate) fn answer_probes(exporter: &Server, ready: bool) {
    let name = format!("{PROBE}-pods");
    exporter.change("endpointslices", HOME, &name, &json!({"endpoints": pods(ready, "10.244.0.9")}));
}

fn export(exporter: &Server, service: u64) {
    make(exporter, "shop", &name(service), &json!({"heliostat.dev/export": "true"}), &ports(service, 80));
}

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new Service, or one that was deleted before.
    Export,
    /// The consent is given again.
    Again,
    /// The consent is withdrawn.
    Unexport,
    Delete,
    /// No pod is ready any more, or they are again.
    Pods(bool),
    /// Another port.
    Port(u64),
    /// Somebody edits a route of ours.
    Edit,
}

/// Some changes, each one that makes sense after the others.
pub(crate) fn script(chance: &mut Chance, changes: usize) -> Vec<(Change, u64)> {
    let mut there: BTreeSet<u64> = (0..4).collect();
    let (mut exported, mut unready, mut script) = (there.clone(), BTreeSet::new(), Vec::new());
    while script.len() < changes {
        let service = chance.below(SERVICES);
        let change = match (there.contains(&service), exported.contains(&service)) {
            (_, false) if exported.len() >= MOST => continue,
            (false, _) => Change::Export,
            (true, false) => Change::Again,
            (true, true) => match chance.below(6) {
                0 | 1 => Change::Unexport,
                2 => Change::Delete,
                3 => Change::Pods(unready.contains(&service)),
                4 => Change::Port(80 + chance.below(5)),
                _ => Change::Edit,
            },
        };
        match change {
            Change::Export => drop((there.insert(service), exported.insert(service))),
            Change::Again => drop(exported.insert(service)),
            Change::Unexport => drop(exported.remove(&service)),
            Change::Delete => drop((there.remove(&service), exported.remove(&service), unready.remove(&service))),
            Change::Pods(true) => drop(unready.remove(&service)),
            Change::Pods(false) => drop(unready.insert(service)),
            Change::Port(_) | Change::Edit => {}
        }
        script.push((change, service));
    }
    script
}

/// Makes a change happen.
pub(crate) fn change(exporter: &Server, change: Change, service: u64) {
    let name = name(service);
    let slice = format!("{name}-pods");
    let label = |consent: Value| json!({"metadata": {"labels": {"heliostat.dev/export": consent}}});
    match change {
        Change::Export => export(exporter, service),
        Change::Again => exporter.change("services", "shop", &name, &label(json!("true"))),
        Change::Unexport => exporter.change("services", "shop", &name, &label(Value::Null)),
        Change::Delete => {
            exporter.drop("services", "shop", &name);
            exporter.drop("endpointslices", "shop", &slice);
        }
        Change::Pods(ready) => {
            exporter.change("endpointslices", "shop", &slice, &json!({"endpoints": pods(ready, "10.244.0.7")}));
        }
        Change::Port(port) => {
            exporter.change("services", "shop", &name, &json!({"spec": {"ports": ports(service, port)}}));
        }
        Change::Edit => {
            let ours = format!("heliostat-edge-{name}-");
            let route = exporter.all("tcproutes").into_keys().find(|(_, name)| name.starts_with(&ours));
            if let Some((namespace, name)) = route {
                let mut rules = exporter.read("tcproutes", &namespace, &name).unwrap()["spec"]["rules"].clone();
                rules[0]["backendRefs"][0]["port"] = json!(1);
                exporter.change("tcproutes", &namespace, &name, &json!({"spec": {"rules": rules}}));
            }
        }
    }
}
