//! Deletions, and what ends with something else.

use serde_json::{Value, json};

use super::{
    World,
    ask::{text, version},
};

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

pub(super) async fn delete_preconditions(world: &World) {
    let path = format!("{}/a", world.services());
    let made = world.service("a", json!({})).await;
    let answer = world.delete(&path, &json!({"uid": "other"})).await;
    assert_eq!(answer.refusal(), (409, "Conflict", "Service a".to_owned()));
    assert!(answer.message().contains("the UID in the precondition (other) does not match"), "{}", answer.message());
    let answer = world.delete(&path, &json!({"uid": uid(&made), "resourceVersion": "1"})).await;
    assert_eq!(answer.refusal(), (409, "Conflict", "Service a".to_owned()));
    assert!(
        answer.message().contains("the ResourceVersion in the precondition (1) does not match"),
        "{}",
        answer.message()
    );
    assert_eq!(version(&world.get(&path).await.expect(200)), version(&made));
    world.delete(&path, &json!({"uid": uid(&made), "resourceVersion": version(&made)})).await.expect(200);
    assert_eq!(world.get(&path).await.code, 404);
    let answer = world.delete(&path, &Value::Null).await;
    assert_eq!(answer.refusal(), (404, "NotFound", "services a".to_owned()));
}

pub(super) async fn delete_answers(world: &World) {
    world.service("a", json!({})).await;
    let gone = world.delete(&format!("{}/a", world.services()), &Value::Null).await.expect(200);
    assert_eq!((gone["kind"].as_str(), gone["metadata"]["name"].as_str()), (Some("Service"), Some("a")));
    let secret = world.secret("a", json!({})).await;
    let status = world.delete(&format!("{}/a", world.secrets()), &Value::Null).await.expect(200);
    assert_eq!((status["kind"].as_str(), status["status"].as_str()), (Some("Status"), Some("Success")));
    assert_eq!(text(&status["details"]["uid"]), uid(&secret));
}

pub(super) async fn finalizers(world: &World) {
    let path = format!("{}/a", world.services());
    let from = world.version(&world.services()).await;
    let service =
        json!({"metadata": {"name": "a", "finalizers": ["heliostat.dev/test"]}, "spec": {"ports": [{"port": 80}]}});
    let made = world.post(&world.services(), &service).await.expect(201);
    let marked = world.delete(&path, &Value::Null).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_ne!(version(&marked), version(&made));
    let again = world.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(version(&again), version(&marked), "twice is once");
    assert_eq!(world.post(&world.services(), &service).await.code, 409, "the name is taken still");
    let freed = world.patch(&path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert_eq!(version(&freed), version(&marked));
    assert_eq!(world.get(&path).await.code, 404);
    let mut watch = world.watch(&world.services(), &format!("resourceVersion={from}&timeoutSeconds=5")).await;
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&made)));
    assert_eq!(watch.brief().await, format!("MODIFIED a {}", version(&marked)));
    let gone = watch.event().await;
    assert_eq!(gone["type"], "DELETED");
    assert_ne!(version(&gone["object"]), version(&marked));
}

pub(super) async fn namespace_terminating(world: &World) {
    let name = format!("{}-ends", world.place);
    let home = format!("/api/v1/namespaces/{name}");
    let services = format!("{home}/services");
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.expect(201);
    let service = |name: &str, finalizers: Value| json!({"metadata": {"name": name, "finalizers": finalizers}, "spec": {"ports": [{"port": 80}]}});
    world.post(&services, &service("held", json!(["heliostat.dev/test"]))).await.expect(201);
    world.post(&services, &service("free", Value::Null)).await.expect(201);
    let ending = world.delete(&home, &Value::Null).await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let late = world.post(&services, &service("late", Value::Null)).await;
    assert_eq!(late.refusal(), (403, "Forbidden", "services late".to_owned()));
    let cause = &late.body["details"]["causes"][0];
    assert_eq!(
        (cause["reason"].as_str(), cause["field"].as_str()),
        (Some("NamespaceTerminating"), Some("metadata.namespace"))
    );
    assert_eq!(
        late.message(),
        format!(
            "services \"late\" is forbidden: unable to create new content in namespace {name} because it is being terminated"
        )
    );
    world.until("what nothing holds goes", || async { world.get(&format!("{services}/free")).await.code == 404 }).await;
    let held = world.get(&format!("{services}/held")).await.expect(200);
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(world.get(&home).await.code, 200);
    // Changes are taken in still.
    world.patch(&format!("{services}/held"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    world.until("the namespace goes", || async { world.get(&home).await.code == 404 }).await;
}

/// A reference to an owner.
fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "name": name, "uid": uid})
}

pub(super) async fn owner_collected(world: &World) {
    let made = world.service("a", json!({})).await;
    world.secret("owned", json!({"ownerReferences": [owner("a", &uid(&made))]})).await;
    world.secret("orphan", json!({"ownerReferences": [owner("a", "00000000-0000-4000-8000-00000000abcd")]})).await;
    world.secret("free", json!({})).await;
    let there = |name: &'static str| async move { world.get(&format!("{}/{name}", world.secrets())).await.code == 200 };
    world.until("what names no owner that is there goes", || async { !there("orphan").await }).await;
    assert!(there("owned").await);
    world.delete(&format!("{}/a", world.services()), &Value::Null).await.expect(200);
    world.until("what was owned goes", || async { !there("owned").await }).await;
    assert!(there("free").await);
}

pub(super) async fn one_of_two_owners(world: &World) {
    let (a, b) = (world.service("a", json!({})).await, world.service("b", json!({})).await);
    let owners = json!([owner("a", &uid(&a)), owner("b", &uid(&b))]);
    world.secret("owned", json!({"ownerReferences": owners})).await;
    let path = format!("{}/owned", world.secrets());
    world.delete(&format!("{}/a", world.services()), &Value::Null).await.expect(200);
    let left = || async { world.get(&path).await.expect(200)["metadata"]["ownerReferences"].clone() };
    world.until("the reference goes", || async { left().await == json!([owner("b", &uid(&b))]) }).await;
}
