//! What is in the clusters: origins of each way, links, policies, and decoys that nobody may touch.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{HOME, LINKS, World};
use crate::server::Server;

/// Origins of each exporter.
pub(crate) const ORIGINS: u64 = 8;
/// Namespaces with origins: the origin's number decides.
pub(crate) const NAMESPACES: [&str; 2] = ["shop", "stock"];

/// Where an origin is.
pub(crate) fn namespace_of(origin: u64) -> &'static str {
    NAMESPACES[usize::from(origin % 2 == 1)]
}

fn authority() -> &'static str {
    static AUTHORITY: LazyLock<String> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
    });
    &AUTHORITY
}

pub(crate) fn kubeconfig(link: &str) -> String {
    let authority = STANDARD.encode(authority());
    json!({
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{link}.example"), "certificate-authority-data": authority}}],
        "users": [{"name": "c", "user": {"token": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    })
    .to_string()
}

/// Makes an origin with its pods: every second one has a load balancer, the others are reached directly.
pub(crate) fn export(exporter: &Server, link: &str, origin: u64) {
    let (namespace, name) = (namespace_of(origin), format!("s{origin}"));
    let balanced = origin % 4 < 2;
    let labels =
        json!({"heliostat.dev/export": "true", "tier": if origin.is_multiple_of(3) { "front" } else { "back" }});
    let service = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"type": if balanced { "LoadBalancer" } else { "ClusterIP" }, "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9090}]},
    });
    exporter.make("services", &service);
    if balanced {
        balance(exporter, origin, &format!("203.0.113.{}", 10 + origin));
    }
    let mut labels = labels;
    labels["kubernetes.io/service-name"] = json!(name);
    labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
    let slice = json!({
        "metadata": {"name": format!("{name}-pods"), "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}],
        "endpoints": endpoints(link, origin, true),
    });
    exporter.make("endpointslices", &slice);
}

fn endpoints(link: &str, origin: u64, ready: bool) -> Value {
    let cluster = LINKS.iter().position(|name| *name == link).unwrap();
    let endpoint = |pod: u64| json!({"addresses": [format!("10.{}.{origin}.{pod}", 50 + cluster)], "conditions": {"ready": ready, "serving": ready, "terminating": false}});
    json!([endpoint(1), endpoint(2)])
}

fn balance(exporter: &Server, origin: u64, address: &str) {
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    exporter.change("services", namespace_of(origin), &format!("s{origin}/status"), &status);
}

/// The exporter, furnished.
pub(crate) fn furnish_exporter(exporter: &Server, link: &str) {
    for namespace in NAMESPACES {
        exporter.make("namespaces", &json!({"metadata": {"name": namespace}}));
    }
    (0..ORIGINS).for_each(|origin| export(exporter, link, origin));
    // One that has not consented.
    let private = json!({"metadata": {"name": "private", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
    exporter.make("services", &private);
}

/// Something of somebody else that looks like ours.
pub(crate) const DECOYS: [(&str, &str, &str); 4] = [
    ("services", "shop", "s4-north"),
    ("services", "shop", "lookalike"),
    ("endpointslices", "shop", "lookalike-1"),
    ("services", "elsewhere", "s0-east"),
];

/// The importer, furnished: links, policies, decoys.
pub(crate) fn furnish_importer(importer: &Server) {
    for namespace in [HOME, "shop", "stock", "elsewhere"] {
        importer.make("namespaces", &json!({"metadata": {"name": namespace}}));
    }
    decoys(importer);
    for (link, action) in LINKS.iter().zip(["Keep", "Keep", "NotReady"]) {
        let secret = json!({
            "metadata": {"name": format!("{link}-kubeconfig"), "namespace": HOME},
            "data": {"kubeconfig": STANDARD.encode(kubeconfig(link))},
        });
        importer.make("secrets", &secret);
        let link = json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": link},
            "spec": {
                "kubeconfigSecretRef": {"name": format!("{link}-kubeconfig")},
                "allowedNamespaces": {"from": "All"},
                "onLoss": {"action": action, "after": "2m"},
                "probe": {"disabled": true},
            },
        });
        importer.make("clusterlinks", &link);
    }
    let all = json!({"names": LINKS});
    policy(
        importer,
        "shop",
        "all",
        json!({"links": all, "via": ["Service", "Direct"], "mirror": {"labels": ["tier"]}}),
    );
    policy(
        importer,
        "stock",
        "back",
        json!({"links": all, "via": ["Service", "Direct"], "services": {"selector": {"matchLabels": {"tier": "back"}}}}),
    );
    policy(
        importer,
        HOME,
        "front",
        json!({"links": all, "via": ["Direct"], "services": {"namespaces": ["stock"], "selector": {"matchLabels": {"tier": "front"}}}}),
    );
}

fn policy(importer: &Server, namespace: &str, name: &str, spec: Value) {
    let metadata = json!({"name": name, "namespace": namespace});
    importer.make(
        "mirrorpolicies",
        &json!({"apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": metadata, "spec": spec}),
    );
}

fn decoys(importer: &Server) {
    let foreign = |namespace: &str, name: &str, labels: Value| json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
    // A mirror's name.
    importer.make("services", &foreign("shop", "s4-north", json!({})));
    // Our labels, on what is not a mirror.
    importer.make("services", &foreign("shop", "lookalike", json!({"app.kubernetes.io/managed-by": "heliostat"})));
    importer.make("services", &foreign("elsewhere", "s0-east", json!({"heliostat.dev/link": "east"})));
    let labels = json!({"kubernetes.io/service-name": "lookalike", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    let slice = json!({"metadata": {"name": "lookalike-1", "namespace": "shop", "labels": labels}, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": []});
    importer.make("endpointslices", &slice);
}

/// A change, once furnished: each is of an origin of its own, so that no outage can merge two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Another port.
    Port,
    /// The Service is deleted, and its pods.
    Gone,
    /// The consent is withdrawn.
    Unexported,
    /// No pod is ready any more.
    Unready,
    /// The load balancer is at another address.
    Moved,
    /// Reached by its load balancer no more, but directly.
    Direct,
    /// Nothing carries it any more: no load balancer, no pods.
    Stranded,
    /// A new origin.
    New,
    /// Somebody edits the mirror.
    Edited,
}

/// For each origin of a link what happens to it.
pub(crate) const CHANGES: [(Change, u64); 9] = [
    (Change::Port, 0),
    (Change::Moved, 1),
    (Change::Gone, 2),
    (Change::Unready, 3),
    (Change::Direct, 4),
    (Change::Stranded, 5),
    (Change::Unexported, 6),
    (Change::Edited, 7),
    (Change::New, ORIGINS),
];

/// Makes a change happen.
pub(crate) fn change(world: &World, link: &'static str, change: Change, origin: u64) {
    let exporter = &world.exporters[link];
    let (namespace, name) = (namespace_of(origin), format!("s{origin}"));
    let pods = format!("{name}-pods");
    match change {
        Change::Port => {
            exporter.change(
                "services",
                namespace,
                &name,
                &json!({"spec": {"ports": [{"name": "http", "port": 81}, {"name": "grpc", "port": 9090}]}}),
            );
        }
        Change::Gone => {
            exporter.drop("services", namespace, &name);
            exporter.drop("endpointslices", namespace, &pods);
        }
        Change::Unexported => {
            let label = json!({"metadata": {"labels": {"heliostat.dev/export": null}}});
            exporter.change("endpointslices", namespace, &pods, &label);
            exporter.change("services", namespace, &name, &label);
        }
        Change::Unready => {
            exporter.change("endpointslices", namespace, &pods, &json!({"endpoints": endpoints(link, origin, false)}));
        }
        Change::Moved => balance(exporter, origin, "203.0.113.99"),
        Change::Direct => {
            exporter.change("services", namespace, &name, &json!({"spec": {"type": "ClusterIP"}}));
            exporter.change(
                "services",
                namespace,
                &format!("{name}/status"),
                &json!({"status": {"loadBalancer": {"ingress": null}}}),
            );
        }
        Change::Stranded => {
            exporter.drop("endpointslices", namespace, &pods);
            exporter.change(
                "services",
                namespace,
                &format!("{name}/status"),
                &json!({"status": {"loadBalancer": {"ingress": null}}}),
            );
        }
        Change::New => export(exporter, link, origin),
        Change::Edited => {
            let mirror = format!("{name}-{link}");
            if world.importer.read("services", namespace, &mirror).is_some() {
                let edit = json!({"metadata": {"labels": {"heliostat.dev/policy": "nobody"}}, "spec": {"ports": [{"name": "x", "port": 7}]}});
                world.importer.change("services", namespace, &mirror, &edit);
            }
        }
    }
}

/// A user who has looked at what is held lets it go: what an older exporter has lost is lost.
pub(crate) fn let_go(importer: &Server) {
    for ((_, name), link) in importer.all("clusterlinks") {
        let conditions = link["status"]["conditions"].as_array().into_iter().flatten();
        let mut held =
            conditions.filter(|condition| condition["type"] == "DeletionHeld" && condition["status"] == "True");
        if let Some(condition) = held.next() {
            let message = condition["message"].as_str().unwrap();
            let token = message.split("the token ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            let annotation = json!({"metadata": {"annotations": {"heliostat.dev/allow-deletion": token}}});
            importer.change("clusterlinks", "", &name, &annotation);
        }
    }
}
