//! Creations and patches.

use http::Method;
use serde_json::{Value, json};

use super::{
    World,
    ask::{ask, text, version},
};

const LINKS: &str = "/apis/heliostat.dev/v1alpha1/clusterlinks";

fn labels(value: Value) -> Value {
    json!({"metadata": {"labels": value}})
}

pub(super) async fn create_conflict(world: &World) {
    let made = world.service("a", json!({})).await;
    assert_eq!(made["kind"], "Service");
    assert_eq!(text(&made["metadata"]["uid"]).len(), 36);
    let answer =
        world.post(&world.services(), &json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await;
    assert_eq!(answer.refusal(), (409, "AlreadyExists", "services a".to_owned()));
    assert_eq!(answer.message(), "services \"a\" already exists");
    let slice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [], "ports": []});
    world.post(&world.slices(), &slice).await.expect(201);
    let answer = world.post(&world.slices(), &slice).await;
    assert_eq!(answer.refusal(), (409, "AlreadyExists", "endpointslices a".to_owned()));
    assert_eq!(answer.message(), "endpointslices.discovery.k8s.io \"a\" already exists");
}

pub(super) async fn create_without_namespace(world: &World) {
    let path = "/api/v1/namespaces/nobody-is-here/services";
    let answer = world.post(path, &json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await;
    assert_eq!(answer.refusal(), (404, "NotFound", "namespaces nobody-is-here".to_owned()));
    assert_eq!(answer.message(), "namespaces \"nobody-is-here\" not found");
}

pub(super) async fn create_with_a_version(world: &World) {
    let secret = json!({"metadata": {"name": "a", "resourceVersion": "1"}});
    let answer = world.post(&world.secrets(), &secret).await;
    assert_eq!((answer.code, answer.message()), (500, "resourceVersion should not be set on objects to be created"));
}

pub(super) async fn cluster_addresses(world: &World) {
    let (a, b) = (world.service("a", json!({})).await, world.service("b", json!({})).await);
    let address = |service: &Value| text(&service["spec"]["clusterIP"]);
    assert!(address(&a).starts_with("10.96.") && address(&a) != address(&b));
    assert_eq!(a["spec"]["clusterIPs"], json!([address(&a)]));
    let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    let headless = world.post(&world.services(), &headless).await.expect(201);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let other = world.patch(&format!("{}/a", world.services()), &json!({"spec": {"clusterIP": address(&b)}})).await;
    assert_eq!(other.refusal(), (422, "Invalid", "Service a".to_owned()));
    assert_eq!(other.body["details"]["causes"][0]["field"], "spec.clusterIPs[0]");
    let taken = json!({"metadata": {"name": "c"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}});
    let taken = world.post(&world.services(), &taken).await;
    assert_eq!(taken.refusal(), (422, "Invalid", "Service c".to_owned()));
    assert!(taken.message().ends_with("provided IP is already allocated"), "{}", taken.message());
    // Taken away, it is given back.
    let kept = world
        .patch(&format!("{}/a", world.services()), &json!({"spec": {"clusterIP": null, "clusterIPs": null}}))
        .await;
    assert_eq!(address(&kept.expect(200)), address(&a));
}

pub(super) async fn filled_in(world: &World) {
    let service = world.service("a", json!({})).await;
    for (field, value) in [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("ipFamilies", json!(["IPv4"])),
        ("ipFamilyPolicy", json!("SingleStack")),
        ("ports", json!([{"protocol": "TCP", "port": 80, "targetPort": 80}])),
    ] {
        assert_eq!(service["spec"][field], value, "{field}");
    }
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    let slice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.1.1"]}], "ports": [{"port": 80}]});
    let slice = world.post(&world.slices(), &slice).await.expect(201);
    assert_eq!(slice["ports"], json!([{"name": "", "protocol": "TCP", "port": 80}]));
    assert_eq!(slice["endpoints"], json!([{"addresses": ["10.1.1.1"], "conditions": {}}]));
    let link = json!({"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": world.place}, "spec": {"suspend": true, "kubeconfigSecretRef": {"name": "x"}}});
    let link = world.post(LINKS, &link).await.expect(201);
    world.delete(&format!("{LINKS}/{}", world.place), &Value::Null).await.expect(200);
    assert_eq!(link["spec"]["onLoss"], json!({"action": "Keep", "after": "5m"}));
    assert_eq!(link["spec"]["kubeconfigSecretRef"], json!({"name": "x", "key": "kubeconfig"}));
    assert_eq!(link["status"], json!({"observedGeneration": -1}));
}

pub(super) async fn invalid(world: &World) {
    let answer =
        world.post(&world.services(), &json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 0}]}})).await;
    assert_eq!(answer.refusal(), (422, "Invalid", "Service a".to_owned()));
    let causes = answer.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<String> = causes.iter().map(|cause| text(&cause["field"])).collect();
    assert_eq!(fields, ["spec.ports[0].port", "spec.ports[0].targetPort"]);
    assert!(causes.iter().all(|cause| cause["message"] == "Invalid value: 0: must be between 1 and 65535, inclusive"));
    let answer =
        world.post(&world.services(), &json!({"metadata": {"name": "A_b"}, "spec": {"ports": [{"port": 80}]}})).await;
    assert_eq!((answer.code, answer.body["details"]["causes"][0]["field"].as_str()), (422, Some("metadata.name")));
    let slice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [], "ports": []});
    world.post(&world.slices(), &slice).await.expect(201);
    let answer = world.patch(&format!("{}/a", world.slices()), &json!({"addressType": "IPv6"})).await;
    assert_eq!(answer.refusal(), (422, "Invalid", "EndpointSlice a".to_owned()));
    assert_eq!(answer.body["details"]["causes"][0]["field"], "addressType");
}

pub(super) async fn patch_preconditions(world: &World) {
    let path = format!("{}/a", world.services());
    let made = world.service("a", json!({})).await;
    let at =
        |uid: &str, version: &str| json!({"metadata": {"uid": uid, "resourceVersion": version, "labels": {"x": "y"}}});
    let uid = text(&made["metadata"]["uid"]);
    for wrong in [at(&uid, "1"), at("other", "1")] {
        let answer = world.patch(&path, &wrong).await;
        assert_eq!(answer.refusal(), (409, "Conflict", "services a".to_owned()), "{wrong}");
        assert!(answer.message().contains("the object has been modified"), "{}", answer.message());
    }
    // An object made anew always has another version; the uid alone is no conflict.
    let answer = world.patch(&path, &json!({"metadata": {"uid": "other", "labels": {"x": "y"}}})).await;
    assert_eq!(answer.refusal(), (422, "Invalid", "Service a".to_owned()));
    assert_eq!(answer.body["details"]["causes"][0]["field"], "metadata.uid");
    assert_eq!(version(&world.get(&path).await.expect(200)), version(&made));
    let done = world.patch(&path, &at(&uid, &version(&made))).await.expect(200);
    assert_eq!(done["metadata"]["labels"], json!({"x": "y"}));
    let answer = world.patch(&format!("{path}b"), &labels(json!({}))).await;
    assert_eq!(answer.refusal(), (404, "NotFound", "services ab".to_owned()));
}

pub(super) async fn noop_patch(world: &World) {
    let path = format!("{}/a", world.services());
    let made = world.service("a", json!({"x": "y"})).await;
    for nothing in [
        labels(json!({"x": "y"})),
        labels(json!({"z": null})),
        json!({"spec": {"type": "ClusterIP"}}),
        json!({"status": {"conditions": []}}),
    ] {
        let same = world.patch(&path, &nothing).await.expect(200);
        assert_eq!(version(&same), version(&made), "{nothing}");
    }
    assert_eq!(version(&world.get(&path).await.expect(200)), version(&made));
}

pub(super) async fn merge_patch(world: &World) {
    let path = format!("{}/a", world.services());
    world.service("a", json!({"x": "1", "y": "2"})).await;
    let change =
        json!({"metadata": {"labels": {"x": null, "z": "3"}}, "spec": {"ports": [{"port": 90, "protocol": "TCP"}]}});
    let changed = world.patch(&path, &change).await.expect(200);
    assert_eq!(changed["metadata"]["labels"], json!({"y": "2", "z": "3"}));
    assert_eq!(changed["spec"]["ports"], json!([{"protocol": "TCP", "port": 90, "targetPort": 90}]));
}

pub(super) async fn empty_is_absent(world: &World) {
    let path = format!("{}/a", world.services());
    world.service("a", json!({"x": "y"})).await;
    let condition = json!({"type": "X", "status": "False", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    for conditions in [json!([condition]), json!([])] {
        world.patch(&format!("{path}/status"), &json!({"status": {"conditions": conditions}})).await.expect(200);
    }
    let emptied =
        json!({"metadata": {"labels": {"x": null}, "annotations": {}, "ownerReferences": [], "finalizers": []}});
    let object = world.patch(&path, &emptied).await.expect(200);
    for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
        assert!(object["metadata"].get(field).is_none(), "{field}: {object}");
    }
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
}

pub(super) async fn patch_media_type(world: &World) {
    world.service("a", json!({})).await;
    let path = format!("{}/a", world.services());
    let answer =
        ask(&world.client, Method::PATCH, &path, &[("content-type", "application/json")], &labels(json!({}))).await;
    assert_eq!(answer.refusal(), (415, "UnsupportedMediaType", "- -".to_owned()));
}

fn link(world: &World) -> Value {
    json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": world.place},
        "spec": {"kubeconfigSecretRef": {"name": "x"}, "suspend": true}, "status": {"clusterUID": "ignored"},
    })
}

pub(super) async fn status_subresource(world: &World) {
    let path = format!("{LINKS}/{}", world.place);
    let made = world.post(LINKS, &link(world)).await.expect(201);
    assert!(made["status"]["clusterUID"].is_null(), "a creation says nothing of the status");
    let change =
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"limits": {"services": 7}}, "status": {"clusterUID": "u"}});
    let by_status = world.patch(&format!("{path}/status"), &change).await.expect(200);
    assert_eq!(by_status["status"]["clusterUID"], "u");
    assert_eq!((&by_status["spec"], &by_status["metadata"]["labels"]), (&made["spec"], &made["metadata"]["labels"]));
    let change =
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"limits": {"services": 7}}, "status": {"clusterUID": "v"}});
    let without = world.patch(&path, &change).await.expect(200);
    assert_eq!((&without["status"]["clusterUID"], &without["spec"]["limits"]["services"]), (&json!("u"), &json!(7)));
    let old = json!({"metadata": {"resourceVersion": version(&made)}, "status": {"clusterUID": "w"}});
    let answer = world.patch(&format!("{path}/status"), &old).await;
    assert_eq!((answer.code, answer.body["reason"].as_str()), (409, Some("Conflict")));
    world.delete(&path, &Value::Null).await.expect(200);
}

pub(super) async fn status_of_a_service(world: &World) {
    let path = format!("{}/a", world.services());
    let made = world.service("a", json!({})).await;
    let condition = json!({"type": "heliostat.dev/Mirrored", "status": "False", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let change = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"ports": [{"port": 81}]}, "status": {"conditions": [condition]}});
    let by_status = world.patch(&format!("{path}/status"), &change).await.expect(200);
    assert_eq!(by_status["status"]["conditions"][0]["type"], "heliostat.dev/Mirrored");
    assert_eq!(by_status["spec"], made["spec"]);
    assert_eq!(by_status["metadata"]["labels"], json!({"x": "y"}));
    let without = world.patch(&path, &json!({"status": {"conditions": []}})).await.expect(200);
    assert_eq!((version(&without), &without["status"]), (version(&by_status), &by_status["status"]));
}

pub(super) async fn generation_of_ours(world: &World) {
    let path = format!("{LINKS}/{}", world.place);
    let generation = |object: Value| object["metadata"]["generation"].as_u64();
    assert_eq!(generation(world.post(LINKS, &link(world)).await.expect(201)), Some(1));
    assert_eq!(generation(world.patch(&path, &labels(json!({"x": "y"}))).await.expect(200)), Some(1));
    let status = json!({"status": {"clusterUID": "u"}});
    assert_eq!(generation(world.patch(&format!("{path}/status"), &status).await.expect(200)), Some(1));
    assert_eq!(
        generation(world.patch(&path, &json!({"spec": {"limits": {"services": 7}}})).await.expect(200)),
        Some(2)
    );
    world.delete(&path, &Value::Null).await.expect(200);
}

pub(super) async fn generation_of_slices(world: &World) {
    let generation = |object: Value| object["metadata"]["generation"].as_u64();
    let slice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}]});
    assert_eq!(generation(world.post(&world.slices(), &slice).await.expect(201)), Some(1));
    let path = format!("{}/a", world.slices());
    let annotated = json!({"metadata": {"annotations": {"x": "y"}}});
    assert_eq!(generation(world.patch(&path, &annotated).await.expect(200)), Some(1));
    assert_eq!(generation(world.patch(&path, &labels(json!({"x": "y"}))).await.expect(200)), Some(2));
    let endpoints = json!({"endpoints": [{"addresses": ["10.1.1.1"]}]});
    assert_eq!(generation(world.patch(&path, &endpoints).await.expect(200)), Some(3));
    assert_eq!(generation(world.service("a", json!({})).await), None, "a Service has none");
}
