//! The admission policies of `config/admission.yaml`, held to a real API server: what the
//! controller's account may do to Services and EndpointSlices, and with which words the rest is
//! refused, RBAC being out of the way.
//!
//! All by dry run as that account, on objects of a namespace of its own that the administrator makes.
//! Their markers are those of a link that doesn't exist, and the link that is made is suspended, so a controller may run in the same cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use crate::audit::CONTROLLER;

const SERVICES: &str = "/api/v1/namespaces/admission/services";
const LINKS: &str = "/apis/heliostat.dev/v1alpha1/clusterlinks";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/admission/endpointslices";

// How each rule begins to explain itself.
const NAMESPACE: &str = "Heliostat writes no Service in kube-*";
const UNMARKED: &str = "Heliostat creates Services only with its label";
const NOT_A_MIRROR: &str = "Heliostat changes only its mirrors";
const NOT_DELETED: &str = "Heliostat deletes only Services that carry both its markers";
const SHAPE: &str = "A mirror is of type ClusterIP";
const OWNERS: &str = "Heliostat adds no finalizer to a mirror and no owner but a ClusterLink";
const STATUS: &str = "In a Service's status Heliostat writes only the condition";
const SLICE_NAMESPACE: &str = "Heliostat writes no EndpointSlice in kube-*";
const SLICE_UNMARKED: &str = "Heliostat writes only EndpointSlices with its label";
const SLICE_THEIRS: &str = "Heliostat changes and deletes only EndpointSlices with its label";
const SLICE_SHAPE: &str = "A mirror's slice names its Service";
const SLICE_OWNERS: &str = "Heliostat adds no finalizer to a slice and no owner but its mirror";

/// What the account asks for, and the beginning of the refusal, if it is to be refused.
#[derive(Clone)]
pub(crate) struct Case {
    what: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    refused: Option<&'static str>,
}

pub(crate) fn case(
    what: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    refused: Option<&'static str>,
) -> Case {
    Case { what, method, path, body, refused }
}

/// A mirror to create, with changes merged into it.
pub(crate) fn mirror(name: &str, change: &Value) -> Value {
    let mut mirror = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/link": "gone", "team": "web"},
            "annotations": {"heliostat.dev/link-uid": "gone", "heliostat.dev/copied-labels": "team", "note": "x"},
        },
        "spec": {"type": "ClusterIP", "ports": [{"name": "http", "port": 80}]},
    });
    merge(&mut mirror, change);
    mirror
}

/// A slice to create, with changes merged into it.
pub(crate) fn slice(name: &str, change: &Value) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/service-name": "gone", "endpointslice.kubernetes.io/managed-by": "heliostat.dev"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.1"]}],
        "ports": [{"name": "http", "port": 80}],
    });
    merge(&mut slice, change);
    slice
}

/// A JSON merge patch (RFC 7386).
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

fn condition(name: &str) -> Value {
    let at = "2026-01-02T03:04:05Z";
    json!({"type": name, "status": "False", "reason": "NoRoute", "message": "m", "lastTransitionTime": at})
}

/// Who owns what the account creates.
pub(crate) fn owner(api_version: &str, kind: &str, blocks: bool) -> Value {
    json!({"metadata": {"ownerReferences": [
        {"apiVersion": api_version, "kind": kind, "name": "admission", "uid": "gone", "blockOwnerDeletion": blocks},
    ]}})
}

fn creations() -> Vec<Case> {
    let create = |what, change: Value, refused| case(what, "POST", SERVICES.into(), mirror("new", &change), refused);
    let elsewhere = |namespace: &str| format!("/api/v1/namespaces/{namespace}/services");
    let link = "heliostat.dev/v1alpha1";
    vec![
        create("a mirror", json!({}), None),
        create("a headless mirror", json!({"spec": {"clusterIP": "None"}}), None),
        create("a mirror that its link owns", owner(link, "ClusterLink", false), None),
        create("no label", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}), Some(UNMARKED)),
        create(
            "another's label",
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}}),
            Some(UNMARKED),
        ),
        create("no link", json!({"metadata": {"annotations": {"heliostat.dev/link-uid": null}}}), Some(UNMARKED)),
        create("an empty link", json!({"metadata": {"annotations": {"heliostat.dev/link-uid": ""}}}), Some(UNMARKED)),
        create("a selector", json!({"spec": {"selector": {"app": "x"}}}), Some(SHAPE)),
        create("a node port", json!({"spec": {"type": "NodePort"}}), Some(SHAPE)),
        create("a load balancer", json!({"spec": {"type": "LoadBalancer"}}), Some(SHAPE)),
        create("an alias", json!({"spec": {"type": "ExternalName", "externalName": "x.example"}}), Some(SHAPE)),
        create("an alias in waiting", json!({"spec": {"externalName": "x.example"}}), Some(SHAPE)),
        create("external addresses", json!({"spec": {"externalIPs": ["203.0.113.9"]}}), Some(SHAPE)),
        create("a load balancer's address", json!({"spec": {"loadBalancerIP": "203.0.113.9"}}), Some(SHAPE)),
        create("a finalizer", json!({"metadata": {"finalizers": ["example.com/x"]}}), Some(OWNERS)),
        create("another owner", owner("v1", "Node", false), Some(OWNERS)),
        create("a link of another group", owner("example.com/v1", "ClusterLink", false), Some(OWNERS)),
        create("a link that it blocks", owner(link, "ClusterLink", true), Some(OWNERS)),
        case("in kube-system", "POST", elsewhere("kube-system"), mirror("new", &json!({})), Some(NAMESPACE)),
        case("in kube-public", "POST", elsewhere("kube-public"), mirror("new", &json!({})), Some(NAMESPACE)),
        case("in its own namespace", "POST", elsewhere("heliostat-system"), mirror("new", &json!({})), Some(NAMESPACE)),
    ]
}

/// `mirror` is one, `edited` is one that somebody edited, `taken` one that somebody gave a
/// selector, `unmarked` one whose label somebody replaced, `theirs` somebody's own.
/// `link` is the uid of a link that owns the taken one; what nobody owns, Kubernetes collects.
fn bases(link: &str) -> Vec<(&'static str, Value)> {
    let edited = json!({
        "metadata": {"finalizers": ["example.com/x"]},
        "spec": {"type": "LoadBalancer", "externalIPs": ["203.0.113.9"], "loadBalancerSourceRanges": ["203.0.113.0/24"]},
    });
    let condition =
        json!({"status": {"conditions": [condition("heliostat.dev/Mirrored"), condition("example.com/Theirs")]}});
    let mut taken = json!({"spec": {"selector": {"app": "x"}}});
    merge(&mut taken, &owner("heliostat.dev/v1alpha1", "ClusterLink", false));
    taken["metadata"]["ownerReferences"][0]["uid"] = json!(link);
    merge(&mut taken, &condition);
    vec![
        (SERVICES, mirror("mirror", &condition)),
        (SERVICES, mirror("edited", &edited)),
        (SERVICES, mirror("taken", &taken)),
        (SERVICES, mirror("unmarked", &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}}))),
        (
            SERVICES,
            json!({"metadata": {"name": "theirs"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}),
        ),
        (SLICES, slice("ours", &json!({}))),
        (
            SLICES,
            slice(
                "others",
                &json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "example.com"}}}),
            ),
        ),
    ]
}

fn changes() -> Vec<Case> {
    let patch = |what, name: &str, body, refused| case(what, "PATCH", format!("{SERVICES}/{name}"), body, refused);
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let ports = json!({"spec": {"ports": [{"name": "http", "port": 81}]}});
    let mut adopt = labels(json!({"app.kubernetes.io/managed-by": "heliostat"}));
    merge(&mut adopt, &json!({"metadata": {"annotations": {"heliostat.dev/link-uid": "gone"}}}));
    let all_of_ours = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": null, "heliostat.dev/link": null, "team": null},
        "annotations": {"heliostat.dev/link-uid": null, "heliostat.dev/copied-labels": null},
        "ownerReferences": null,
    }});
    let mut and_more = all_of_ours.clone();
    merge(&mut and_more, &ports);
    let mut keep_their_label = all_of_ours.clone();
    keep_their_label["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/managed-by");
    let repair = json!({"spec": {
        "type": "ClusterIP", "externalIPs": null, "loadBalancerSourceRanges": null, "ports": [{"name": "http", "port": 80}],
    }});
    vec![
        patch("a mirror's ports", "mirror", ports.clone(), None),
        patch("a mirror's type", "mirror", json!({"spec": {"type": "LoadBalancer"}}), Some(SHAPE)),
        patch("a mirror's selector", "mirror", json!({"spec": {"selector": {"app": "x"}}}), Some(SHAPE)),
        patch("a mirror's finalizers", "mirror", json!({"metadata": {"finalizers": ["example.com/x"]}}), Some(OWNERS)),
        patch("the repair of an edited mirror", "edited", repair, None),
        patch("an edited mirror, not repaired", "edited", labels(json!({"heliostat.dev/link": "a"})), Some(SHAPE)),
        patch("somebody's Service", "theirs", labels(json!({"a": "b"})), Some(NOT_A_MIRROR)),
        patch("the adoption of somebody's Service", "theirs", adopt, Some(NOT_A_MIRROR)),
        patch("a taken Service's ports", "taken", ports, Some(NOT_A_MIRROR)),
        patch("a taken Service's own label", "taken", labels(json!({"mine": "x"})), Some(NOT_A_MIRROR)),
        patch(
            "a taken Service's own annotation",
            "taken",
            json!({"metadata": {"annotations": {"note": null}}}),
            Some(NOT_A_MIRROR),
        ),
        patch("our keys off a taken Service", "taken", all_of_ours.clone(), None),
        patch("our keys off a taken Service, and more", "taken", and_more, Some(NOT_A_MIRROR)),
        patch("our keys off an unmarked Service", "unmarked", keep_their_label, None),
        patch("their label off an unmarked Service", "unmarked", all_of_ours, Some(NOT_A_MIRROR)),
    ]
}

fn statuses_and_deletions() -> Vec<Case> {
    let status = |what, name: &str, conditions: &[&str], refused| {
        let conditions: Vec<_> = conditions.iter().map(|name| condition(name)).collect();
        let body = json!({"status": {"conditions": conditions}});
        case(what, "PATCH", format!("{SERVICES}/{name}/status"), body, refused)
    };
    let delete = |what, path: String, refused| case(what, "DELETE", path, Value::Null, refused);
    let (ours, theirs) = ("heliostat.dev/Mirrored", "example.com/Theirs");
    vec![
        status("a mirror's condition, the same", "mirror", &[ours, theirs], None),
        status("a mirror's condition, taken off", "mirror", &[theirs], None),
        status("a mirror's condition of somebody, taken off", "mirror", &[ours], Some(STATUS)),
        status("a mirror's condition of somebody, added", "mirror", &[ours, theirs, "example.com/New"], Some(STATUS)),
        status("our condition off a taken Service", "taken", &[theirs], None),
        status("a condition on somebody's Service", "theirs", &[ours], Some(STATUS)),
        delete("a mirror", format!("{SERVICES}/mirror"), None),
        delete("a taken Service", format!("{SERVICES}/taken"), Some(NOT_DELETED)),
        delete("an unmarked Service", format!("{SERVICES}/unmarked"), Some(NOT_DELETED)),
        delete("somebody's Service", format!("{SERVICES}/theirs"), Some(NOT_DELETED)),
        delete("a slice of ours", format!("{SLICES}/ours"), None),
        delete("somebody's slice", format!("{SLICES}/others"), Some(SLICE_THEIRS)),
    ]
}

fn slices() -> Vec<Case> {
    let create = |what, change: Value, refused| case(what, "POST", SLICES.into(), slice("new", &change), refused);
    let patch = |what, name: &str, body, refused| case(what, "PATCH", format!("{SLICES}/{name}"), body, refused);
    let marked = |by: &str| json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": by}}});
    let endpoint = |more: Value| {
        let mut endpoint = json!({"addresses": ["203.0.113.2"], "conditions": {"ready": false}});
        merge(&mut endpoint, &more);
        json!({"endpoints": [endpoint]})
    };
    vec![
        create("a slice", json!({}), None),
        create("a slice that its mirror owns", owner("v1", "Service", false), None),
        create("no label", marked("example.com"), Some(SLICE_UNMARKED)),
        create("no Service", json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}}), Some(SLICE_SHAPE)),
        create("a pod", endpoint(json!({"targetRef": {"kind": "Pod", "name": "x"}})), Some(SLICE_SHAPE)),
        create("a node", endpoint(json!({"nodeName": "x"})), Some(SLICE_SHAPE)),
        create("names", json!({"addressType": "FQDN", "endpoints": [{"addresses": ["x.example"]}]}), Some(SLICE_SHAPE)),
        create("another owner", owner("v1", "Pod", false), Some(SLICE_OWNERS)),
        create("a finalizer", json!({"metadata": {"finalizers": ["example.com/x"]}}), Some(SLICE_OWNERS)),
        case(
            "in kube-public",
            "POST",
            SLICES.replace("/admission/", "/kube-public/"),
            slice("new", &json!({})),
            Some(SLICE_NAMESPACE),
        ),
        patch("our slice's endpoints", "ours", endpoint(json!({})), None),
        patch("our slice's label", "ours", marked("example.com"), Some(SLICE_UNMARKED)),
        patch("somebody's slice", "others", endpoint(json!({})), Some(SLICE_UNMARKED)),
        patch("the adoption of somebody's slice", "others", marked("heliostat.dev"), Some(SLICE_THEIRS)),
    ]
}

/// Every case goes as foreseen; `client` is the administrator's, and the policies are in place.
pub(crate) async fn the_controllers_account_is_held_to_its_mirrors(client: Client) {
    clean(&client).await;
    let namespace = json!({"metadata": {"name": "admission"}});
    send(&client, "POST", "/api/v1/namespaces", &namespace, None).await.unwrap();
    let link = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": "admission"},
        "spec": {"kubeconfigSecretRef": {"name": "admission"}, "suspend": true},
    });
    let link = send(&client, "POST", LINKS, &link, None).await.unwrap();
    for (collection, object) in bases(link["metadata"]["uid"].as_str().unwrap()) {
        send(&client, "POST", collection, &object, None).await.unwrap();
        let status = json!({"status": object["status"]});
        if !status["status"].is_null() {
            let path = format!("{collection}/{}/status", object["metadata"]["name"].as_str().unwrap());
            send(&client, "PATCH", &path, &status, None).await.unwrap();
        }
    }
    let wrong = go_wrong(&client, [creations(), changes(), statuses_and_deletions(), slices()].concat()).await;
    clean(&client).await;
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Tries all cases as the account, by dry run; gives what did not go as foreseen.
pub(crate) async fn go_wrong(client: &Client, cases: Vec<Case>) -> Vec<String> {
    let mut wrong = Vec::new();
    for Case { what, method, path, body, refused } in &cases {
        let answer = send(client, method, &format!("{path}?dryRun=All"), body, Some(CONTROLLER)).await;
        match (refused, answer) {
            (None, Ok(_)) => {}
            (None, Err(message)) => wrong.push(format!("{method} {what}: refused: {message}")),
            (Some(_), Ok(_)) => wrong.push(format!("{method} {what}: allowed")),
            (Some(words), Err(message)) if message.contains(words) => {}
            (Some(words), Err(message)) => wrong.push(format!("{method} {what}: not with {words:?}: {message}")),
        }
        // The same by anybody else is none of the policies' business.
        if let Err(message) = send(client, method, &format!("{path}?dryRun=All"), body, None).await
            && message.contains("ValidatingAdmissionPolicy")
        {
            wrong.push(format!("{method} {what}: by somebody else: {message}"));
        }
    }
    wrong
}

/// Sends a request, as somebody else if so wanted; gives the answer, or what the refusal says.
pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
    user: Option<&str>,
) -> Result<Value, String> {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut request = Request::builder().method(method).uri(path).header("Content-Type", content);
    if let Some(user) = user {
        request = request.header("Impersonate-User", user);
    }
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    match client.request(request.body(body).unwrap()).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{method} {path}: {error}"),
    }
}

/// Removes what this or an interrupted run has made.
async fn clean(client: &Client) {
    let freed = json!({"metadata": {"finalizers": null}});
    let _ = send(client, "PATCH", &format!("{SERVICES}/edited"), &freed, None).await;
    let _ = send(client, "DELETE", &format!("{LINKS}/admission"), &Value::Null, None).await;
    let gone = async {
        while send(client, "DELETE", "/api/v1/namespaces/admission", &Value::Null, None).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the namespace admission does not go");
}
