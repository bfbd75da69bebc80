//! The admission policies of `config/components/exporter`, held to a real API server: what the
//! controller's account may do as an exporter, and with which words the rest is refused.
//!
//! All by dry run as that account. The controller is stopped meanwhile: the objects that the
//! administrator makes here are those of a binding that does not exist, which it clears away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    admission::{Case, case, go_wrong, merge, mirror, owner, send, slice},
    controller,
    objects::{Objects, wait},
    support::{HOME, client, namespace, remove_namespace},
};

const PLACE: &str = "admission-exporter";
const UPSTREAMS: &str = "/apis/gloo.solo.io/v1/namespaces/admission-exporter/upstreams";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

// How each rule begins to explain itself.
const PUBLISHED_NAMESPACE: &str = "Heliostat publishes nothing of kube-*";
const PUBLISHED_OTHER: &str = "Heliostat makes no published slice of another one";
const PUBLISHED_SHAPE: &str = "A published slice names its Service and its binding";
const PUBLISHED_CLAIM: &str = "A published slice claims no pod and no node";
const PUBLISHED_OWNER: &str = "A published slice is owned by its Service";
const SLICE_UNMARKED: &str = "Heliostat writes only EndpointSlices with its label";
const NO_SERVICE_HERE: &str = "Heliostat writes no Service in kube-*";
const NAMED: &str = "In its own namespace Heliostat writes only what is named as a gateway's";
const MARKED: &str = "In its own namespace Heliostat makes, changes and deletes only objects with its labels";
const SERVICE: &str = "The Service of a gateway selects its pods";
const PODS: &str = "The pods of a gateway have no account of their own";
const HOLDER: &str = "A port claim keeps its holder";
const OWNED: &str = "Heliostat adds no finalizer to what is a gateway's";
const ROUTE_NAMESPACE: &str = "Heliostat writes no route in kube-*";
const ROUTE_MARKED: &str = "Of a gateway's kinds Heliostat makes, changes and deletes only objects with its labels";
const ROUTE_OWNED: &str = "Heliostat adds no finalizer to a route";
const NO_RIGHT: &str = "cannot ";

fn slices_of(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn own(resource: &str) -> String {
    let group = match resource {
        "deployments" => "/apis/apps/v1",
        "leases" => "/apis/coordination.k8s.io/v1",
        _ => "/api/v1",
    };
    format!("{group}/namespaces/{HOME}/{resource}")
}

fn labels() -> Value {
    json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "gone"}}})
}

/// An object of a binding, with changes merged into it.
fn of_binding(name: &str, body: &Value, change: &Value) -> Value {
    let mut object = labels();
    object["metadata"]["name"] = json!(name);
    merge(&mut object, body);
    merge(&mut object, change);
    object
}

fn published(name: &str, change: &Value) -> Value {
    let mut object = slice(name, &json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}}));
    let more = json!({"metadata": {
        "labels": {
            "heliostat.dev/service-name": "books",
            "heliostat.dev/binding": "gone",
            "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev",
            "service.kubernetes.io/service-proxy-name": "heliostat.dev",
            "service.kubernetes.io/headless": "",
        },
        "annotations": {"heliostat.dev/contract": "v1"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "books", "uid": "gone"}],
    }});
    merge(&mut object, &more);
    merge(&mut object, change);
    object
}

fn publishing() -> Vec<Case> {
    let slices = slices_of(PLACE);
    let create =
        |what, change: Value, refused| case(what, "POST", slices_of(PLACE), published("new", &change), refused);
    let patch = |what, name: &str, body: Value, refused| case(what, "PATCH", format!("{slices}/{name}"), body, refused);
    let label = |key: &str, value: Value| {
        let mut change = json!({"metadata": {"labels": {}}});
        change["metadata"]["labels"][key] = value;
        change
    };
    let by = |manager: &str| label("endpointslice.kubernetes.io/managed-by", json!(manager));
    let owners = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
    let books =
        json!({"apiVersion": "v1", "kind": "Service", "name": "books", "uid": "gone", "blockOwnerDeletion": true});
    let elsewhere = json!({"endpoints": [{"addresses": ["203.0.113.2"], "conditions": {"ready": false}}]});
    vec![
        create("a published slice", json!({}), None),
        create("one of a hostname", json!({"addressType": "FQDN", "endpoints": [{"addresses": ["gw.example"]}]}), None),
        create("one of no binding", label("heliostat.dev/binding", Value::Null), Some(PUBLISHED_SHAPE)),
        create("one of no Service", label("heliostat.dev/service-name", json!("")), Some(PUBLISHED_SHAPE)),
        create("one for kube-proxy", label("service.kubernetes.io/headless", Value::Null), Some(PUBLISHED_SHAPE)),
        create(
            "one for kube-proxy too",
            label("service.kubernetes.io/service-proxy-name", Value::Null),
            Some(PUBLISHED_SHAPE),
        ),
        create("a Service's own", label("kubernetes.io/service-name", json!("books")), Some(PUBLISHED_SHAPE)),
        create(
            "a node",
            json!({"endpoints": [{"addresses": ["203.0.113.2"], "nodeName": "x"}]}),
            Some(PUBLISHED_CLAIM),
        ),
        create("one without owner", owners(json!([])), Some(PUBLISHED_OWNER)),
        create("one of another Service's", label("heliostat.dev/service-name", json!("films")), Some(PUBLISHED_OWNER)),
        create("one that blocks its Service", owners(json!([books])), Some(PUBLISHED_OWNER)),
        create("a finalizer", json!({"metadata": {"finalizers": ["example.com/x"]}}), Some(PUBLISHED_OWNER)),
        case(
            "in kube-public",
            "POST",
            slices_of("kube-public"),
            published("new", &json!({})),
            Some(PUBLISHED_NAMESPACE),
        ),
        patch("what is published", "published", elsewhere.clone(), None),
        patch("a mirror's out of a published one", "published", by("heliostat.dev"), Some(PUBLISHED_OTHER)),
        patch("a published one out of a mirror's", "ours", by("gateway.heliostat.dev"), Some(PUBLISHED_OTHER)),
        patch("a published one out of somebody's", "others", by("gateway.heliostat.dev"), Some(PUBLISHED_OTHER)),
        patch("somebody's slice", "others", elsewhere, Some(SLICE_UNMARKED)),
        case("a published slice", "DELETE", format!("{slices}/published"), Value::Null, None),
        // An exporter is an importer too.
        case("a mirror's slice", "POST", slices_of(PLACE), slice("new", &json!({})), None),
        case("a mirror", "POST", format!("/api/v1/namespaces/{PLACE}/services"), mirror("new", &json!({})), None),
    ]
}

fn services() -> Vec<Case> {
    let body = json!({"spec": {"type": "LoadBalancer", "selector": {"heliostat.dev/binding": "gone"}, "ports": [{"name": "tcp-20001", "port": 20001}]}});
    let service = move |name: &str, change: Value| of_binding(name, &body, &change);
    let gateway = |what, change: Value, refused| {
        case(what, "POST", own("services"), service("heliostat-gateway-new", change), refused)
    };
    let unmarked = json!({"metadata": {"labels": {"heliostat.dev/binding": null}}});
    let alias = json!({"spec": {"type": "ExternalName", "externalName": "x.example", "selector": null}});
    let bound = |kind: &str, blocks| owner("heliostat.dev/v1alpha1", kind, blocks);
    vec![
        gateway("a gateway's Service", json!({}), None),
        gateway("one of node ports", json!({"spec": {"type": "NodePort"}}), None),
        gateway("one that its binding owns", bound("GatewayBinding", false), None),
        gateway("one that blocks its binding", bound("GatewayBinding", true), Some(OWNED)),
        gateway("one that a link owns", bound("ClusterLink", false), Some(OWNED)),
        gateway("one without marks", unmarked, Some(MARKED)),
        gateway("one without pods", json!({"spec": {"selector": null}}), Some(SERVICE)),
        gateway("an alias", alias, Some(SERVICE)),
        gateway("external addresses", json!({"spec": {"externalIPs": ["203.0.113.9"]}}), Some(SERVICE)),
        case("one named otherwise", "POST", own("services"), service("books", json!({})), Some(NAMED)),
        case("a mirror here", "POST", own("services"), mirror("books-east", &json!({})), Some(NAMED)),
        case("its own Service", "PATCH", own("services") + "/heliostat-metrics", labels(), Some(NAMED)),
        case("its own Service", "DELETE", own("services") + "/heliostat-metrics", Value::Null, Some(NAMED)),
        case(
            "a status here",
            "PATCH",
            own("services") + "/heliostat-metrics/status",
            json!({"status": {"conditions": [{
                "type": "heliostat.dev/Mirrored", "status": "False", "reason": "NoRoute", "message": "m",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }]}}),
            Some(NO_SERVICE_HERE),
        ),
    ]
}

/// A Deployment's pod, with changes merged into it.
fn deployment(name: &str, pod: &Value) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"heliostat.dev/binding": "gone"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "envoy", "image": "x"}]},
    });
    merge(&mut template["spec"], pod);
    let spec = json!({"selector": {"matchLabels": {"heliostat.dev/binding": "gone"}}, "template": template});
    of_binding(name, &json!({"spec": spec}), &json!({}))
}

fn of_gateways() -> Vec<Case> {
    let secret = |name: &str| of_binding(name, &json!({"data": {"tls.key": ""}}), &json!({}));
    let shared = json!({"metadata": {"labels": {"heliostat.dev/binding": null}}});
    let map = |name: &str| of_binding(name, &json!({"data": {"a": "b"}}), &json!({}));
    let create = |what, resource: &str, body: Value, refused| case(what, "POST", own(resource), body, refused);
    let named = |name: &str| json!({"metadata": {"name": name}});
    vec![
        create("a gateway's certificate", "secrets", secret("heliostat-gateway-new-tls"), None),
        create("the authority", "secrets", of_binding("heliostat-xds-ca", &json!({}), &shared), None),
        create("a link's Secret", "secrets", secret("east-kubeconfig"), Some(NAMED)),
        create("a Secret without marks", "secrets", named("heliostat-gateway-new-tls"), Some(MARKED)),
        case("a link's Secret", "PATCH", own("secrets") + "/admission-kubeconfig", labels(), Some(NAMED)),
        case("somebody's Secret", "PATCH", own("secrets") + "/heliostat-gateway-theirs-tls", labels(), Some(MARKED)),
        case("a certificate", "DELETE", own("secrets") + "/heliostat-gateway-ours-tls", Value::Null, Some(NO_RIGHT)),
        case(
            "a Secret elsewhere",
            "POST",
            format!("/api/v1/namespaces/{PLACE}/secrets"),
            secret("heliostat-gateway-new-tls"),
            Some(NO_RIGHT),
        ),
        create("a gateway's files", "configmaps", map("heliostat-gateway-new"), None),
        create("another ConfigMap", "configmaps", map("new"), Some(NAMED)),
        case("somebody's ConfigMap", "PATCH", own("configmaps") + "/kube-root-ca.crt", labels(), Some(NAMED)),
        create("a gateway's pods", "deployments", deployment("heliostat-gateway-new", &json!({})), None),
        create(
            "pods with a token",
            "deployments",
            deployment("heliostat-gateway-new", &json!({"automountServiceAccountToken": null})),
            Some(PODS),
        ),
        create(
            "pods of its own account",
            "deployments",
            deployment("heliostat-gateway-new", &json!({"serviceAccountName": "heliostat"})),
            Some(PODS),
        ),
        create("other pods", "deployments", deployment("new", &json!({})), Some(NAMED)),
        case("itself", "PATCH", own("deployments") + "/heliostat", labels(), Some(NAMED)),
    ]
}

fn claims() -> Vec<Case> {
    let lease = |name: &str| of_binding(name, &json!({"spec": {"holderIdentity": "shop/books/80"}}), &json!({}));
    let (there, elected) = (own("leases") + "/port-00000000-tcp-1", own("leases") + "/heliostat");
    let holder = |holder: &str| json!({"spec": {"holderIdentity": holder}});
    vec![
        case("a port claim", "POST", own("leases"), lease("port-0123abcd-udp-20001"), None),
        case("another Lease", "POST", own("leases"), lease("port-of-mine"), Some(NAMED)),
        case(
            "a claim without marks",
            "POST",
            own("leases"),
            json!({"metadata": {"name": "port-0123abcd-udp-20001"}}),
            Some(MARKED),
        ),
        case(
            "the release of a claim",
            "PATCH",
            there.clone(),
            json!({"spec": {"renewTime": "2026-01-02T03:04:05.000000Z"}}),
            None,
        ),
        case("another holder", "PATCH", there.clone(), holder("shop/films/80"), Some(HOLDER)),
        case("a claim", "DELETE", there, Value::Null, None),
        case("the leader's Lease", "PATCH", elected.clone(), holder("another"), None),
        case("the leader's Lease", "DELETE", elected, Value::Null, Some(NAMED)),
    ]
}

fn routes() -> Vec<Case> {
    let upstream = |name: &str, change: Value| {
        let kind = json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream"});
        of_binding(name, &kind, &change)
    };
    let create =
        |what, change: Value, refused| case(what, "POST", UPSTREAMS.to_owned(), upstream("new", change), refused);
    let at = |name: &str| format!("{UPSTREAMS}/{name}");
    let unmarked = || json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}});
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "new", "labels": labels()["metadata"]["labels"]},
    });
    vec![
        create("a route", json!({}), None),
        create("a route that its Service owns", owner("v1", "Service", false), None),
        create("a route that its binding owns", owner("heliostat.dev/v1alpha1", "GatewayBinding", false), None),
        create("another owner", owner("v1", "Pod", false), Some(ROUTE_OWNED)),
        create("a finalizer", json!({"metadata": {"finalizers": ["example.com/x"]}}), Some(ROUTE_OWNED)),
        create("a route without marks", unmarked(), Some(ROUTE_MARKED)),
        case("our route", "PATCH", at("ours"), json!({"spec": {"a": 1}}), None),
        case("our route's mark", "PATCH", at("ours"), unmarked(), Some(ROUTE_MARKED)),
        case("somebody's route", "PATCH", at("theirs"), json!({"spec": {"a": 1}}), Some(ROUTE_MARKED)),
        case("the adoption of somebody's route", "PATCH", at("theirs"), labels(), Some(ROUTE_MARKED)),
        case("our route", "DELETE", at("ours"), Value::Null, None),
        case("somebody's route", "DELETE", at("theirs"), Value::Null, Some(ROUTE_MARKED)),
        case(
            "in kube-public",
            "POST",
            UPSTREAMS.replace(PLACE, "kube-public"),
            upstream("new", json!({})),
            Some(ROUTE_NAMESPACE),
        ),
        case(
            "a Gateway",
            "POST",
            format!("/apis/gateway.networking.k8s.io/v1/namespaces/{PLACE}/gateways"),
            gateway,
            Some(NO_RIGHT),
        ),
    ]
}

/// Stands in for a gateway's kind: this one is Gloo's, which no cluster here can have.
fn stand_in() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "upstreams.gloo.solo.io"},
        "spec": {
            "group": "gloo.solo.io", "scope": "Namespaced",
            "names": {"plural": "upstreams", "singular": "upstream", "kind": "Upstream"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// What the administrator makes; the Service `books` has that uid.
fn bases(books: &str) -> Vec<(String, Value)> {
    let owned = |name: &str| {
        let mut slice = published(name, &json!({}));
        slice["metadata"]["ownerReferences"][0]["uid"] = json!(books);
        slice
    };
    let others = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "example.com"}}});
    let lease = of_binding("port-00000000-tcp-1", &json!({"spec": {"holderIdentity": "shop/books/80"}}), &json!({}));
    let named = |name: &str| json!({"metadata": {"name": name}});
    let mut theirs = of_binding("theirs", &json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream"}), &json!({}));
    theirs["metadata"]["labels"] = json!({});
    let ours = of_binding("ours", &json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream"}), &json!({}));
    vec![
        (slices_of(PLACE), owned("published")),
        (slices_of(PLACE), slice("ours", &json!({}))),
        (slices_of(PLACE), slice("others", &others)),
        (own("leases"), lease),
        (own("secrets"), named("admission-kubeconfig")),
        (own("secrets"), named("heliostat-gateway-theirs-tls")),
        (own("secrets"), of_binding("heliostat-gateway-ours-tls", &json!({}), &json!({}))),
        (UPSTREAMS.to_owned(), ours),
        (UPSTREAMS.to_owned(), theirs),
    ]
}

async fn clean(east: &kube::Client) {
    remove_namespace(east, PLACE).await;
    for (collection, object) in bases("") {
        if collection.contains(HOME) {
            Objects::at(east, collection).remove(object["metadata"]["name"].as_str().unwrap()).await;
        }
    }
    Objects::at(east, CRDS).remove("upstreams.gloo.solo.io").await;
}

/// Every case goes as foreseen.
#[tokio::test]
async fn alone_admission_holds_an_exporter_to_its_own() {
    let east = client("east").await;
    controller::stop(&east).await;
    clean(&east).await;
    namespace(&east, PLACE).await;
    Objects::at(&east, CRDS).create(&stand_in()).await;
    wait("the stand-in is served", Duration::from_secs(2), || async {
        let answer = send(&east, "GET", UPSTREAMS, &Value::Null, None).await;
        if answer.is_ok() { Ok(()) } else { Err(answer) }
    })
    .await;
    let service = json!({"metadata": {"name": "books"}, "spec": {"ports": [{"port": 80}]}});
    let books = Objects::services(&east, PLACE).create(&service).await;
    for (collection, object) in bases(books["metadata"]["uid"].as_str().unwrap()) {
        Objects::at(&east, collection).create(&object).await;
    }
    if Objects::at(&east, own("leases")).get("heliostat").await.is_none() {
        Objects::at(&east, own("leases")).create(&json!({"metadata": {"name": "heliostat"}})).await;
    }
    let cases = [publishing(), services(), of_gateways(), claims(), routes()].concat();
    let wrong = go_wrong(&east, cases).await;
    clean(&east).await;
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
    controller::start(&east).await;
}
