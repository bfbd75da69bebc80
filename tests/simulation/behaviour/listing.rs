//! Lists.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    World,
    ask::{names, text, version},
};

const LINKS: &str = "/apis/heliostat.dev/v1alpha1/clusterlinks";

pub(super) async fn in_pages(world: &World) {
    for name in ["a", "b", "c", "d"] {
        world.service(name, json!({})).await;
    }
    let path = world.services();
    let first = world.get(&format!("{path}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    // What happens between two pages is not seen in the second.
    world.delete(&format!("{path}/c"), &Value::Null).await.expect(200);
    world.service("e", json!({})).await;
    let token = text(&first["metadata"]["continue"]);
    let second = world.get(&format!("{path}?limit=1&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c"]);
    assert_eq!(version(&second), version(&first));
    let token = text(&second["metadata"]["continue"]);
    let last = world.get(&format!("{path}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["d"]);
    assert_eq!(version(&last), version(&first));
    assert_eq!(text(&last["metadata"]["continue"]), "");
    assert!(last["metadata"]["remainingItemCount"].is_null());
    let now = world.get(&format!("{path}?limit=500")).await.expect(200);
    assert_eq!(names(&now), ["a", "b", "d", "e"]);
    assert_ne!(version(&now), version(&first));
}

pub(super) async fn of_all_and_of_one(world: &World) {
    world.service("a", json!({"of": world.place})).await;
    world.service("b", json!({"of": world.place})).await;
    let one = world.get(&world.services()).await.expect(200);
    assert_eq!(names(&one), ["a", "b"]);
    let all = world.get("/api/v1/services").await.expect(200);
    assert!(names(&all).contains(&"kubernetes".to_owned()) && names(&all).contains(&"b".to_owned()));
    let query = format!("/api/v1/services?limit=1&labelSelector=of%3D{}", world.place);
    let first = world.get(&query).await.expect(200);
    assert_eq!(names(&first), ["a"]);
    assert!(first["metadata"]["remainingItemCount"].is_null(), "with a selector nobody counts");
    let rest = world.get(&format!("{query}&continue={}", text(&first["metadata"]["continue"]))).await.expect(200);
    assert_eq!(names(&rest), ["b"]);
}

pub(super) async fn label_selectors(world: &World) {
    world.service("a", json!({"tier": "front", "x": "1"})).await;
    world.service("b", json!({"tier": "back"})).await;
    world.service("c", json!({})).await;
    let cases: &[(&str, &[&str])] = &[
        ("tier%3Dfront", &["a"]),
        ("tier%3D%3Dfront", &["a"]),
        ("tier!%3Dfront", &["b", "c"]),
        ("tier", &["a", "b"]),
        ("!tier", &["c"]),
        ("tier+in+(front,back)", &["a", "b"]),
        ("tier+notin+(front)", &["b", "c"]),
        ("tier+in+(front,back),!x", &["b"]),
        ("tier%3Dfront,x%3D2", &[]),
    ];
    for (selector, expected) in cases {
        let list = world.get(&format!("{}?labelSelector={selector}", world.services())).await.expect(200);
        assert_eq!(names(&list), *expected, "{selector}");
    }
    let answer = world.get(&format!("{}?labelSelector=%3D%3D", world.services())).await;
    assert_eq!(answer.refusal(), (400, "BadRequest", "- -".to_owned()));
}

pub(super) async fn field_selectors(world: &World) {
    for (name, kind) in [("a", "example.dev/plain"), ("b", "helm.sh/release.v1")] {
        let secret = json!({"metadata": {"name": name}, "type": kind});
        world.post(&world.secrets(), &secret).await.expect(201);
    }
    for (selector, expected) in [("type!%3Dhelm.sh/release.v1", "a"), ("metadata.name%3Db", "b")] {
        let list = world.get(&format!("{}?fieldSelector={selector}", world.secrets())).await.expect(200);
        assert_eq!(names(&list), [expected], "{selector}");
    }
    let answer = world.get(&format!("{}?fieldSelector=nope%3D1", world.secrets())).await;
    assert_eq!((answer.code, answer.message()), (400, "field label not supported: nope"));
}

/// A token in the spelling of a real server: an earlier version, after a name.
fn token(version: u64, start: &str) -> String {
    STANDARD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": start}).to_string()).replace('=', "%3D")
}

pub(super) async fn expired_continue(world: &World) {
    world.around.forget().await;
    let answer = world.get(&format!("{LINKS}?limit=1&continue={}", token(2, "/a\0"))).await;
    assert_eq!(answer.refusal(), (410, "Expired", "- -".to_owned()), "{}", answer.body);
    assert!(answer.message().starts_with("The provided continue parameter is too old"), "{}", answer.message());
}

pub(super) async fn malformed_continue(world: &World) {
    let answer = world.get(&format!("{}?limit=1&continue=abc", world.services())).await;
    assert_eq!(answer.refusal(), (400, "BadRequest", "- -".to_owned()));
    assert!(answer.message().starts_with("invalid continue token"), "{}", answer.message());
}

pub(super) async fn kinds_in_lists(world: &World) {
    world.service("a", json!({})).await;
    let list = world.get(&world.services()).await.expect(200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ServiceList"), &json!("v1")));
    assert!(list["items"][0]["kind"].is_null() && list["items"][0]["apiVersion"].is_null());

    let link = json!({"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": world.place}, "spec": {"kubeconfigSecretRef": {"name": "x"}, "suspend": true}});
    world.post(LINKS, &link).await.expect(201);
    let list = world.get(LINKS).await.expect(200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ClusterLinkList"), &json!("heliostat.dev/v1alpha1")));
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["kind"] == "ClusterLink"));
    world.delete(&format!("{LINKS}/{}", world.place), &Value::Null).await.expect(200);
}

pub(super) async fn from_the_future(world: &World) {
    let now: u64 = world.version(&world.services()).await.parse().unwrap();
    let start = Instant::now();
    let answer = world.get(&format!("{}?resourceVersion={}", world.services(), now + 100_000)).await;
    assert!(start.elapsed() >= Duration::from_secs(2), "the server waits for it first");
    assert_eq!((answer.code, answer.body["reason"].as_str()), (504, Some("Timeout")));
    assert_eq!(answer.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(answer.body["details"]["retryAfterSeconds"], 1);
    assert_eq!(answer.headers["retry-after"], "1");
}

pub(super) async fn furniture(world: &World) {
    let namespace = world.get("/api/v1/namespaces/kube-system").await.expect(200);
    let uid = text(&namespace["metadata"]["uid"]);
    assert_eq!((uid.len(), namespace["status"]["phase"].as_str()), (36, Some("Active")));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "kube-system");
    let version = world.get("/version").await.expect(200);
    assert!(text(&version["gitVersion"]).starts_with("v1."));
    let service = world.get("/api/v1/namespaces/default/services/kubernetes").await.expect(200);
    assert_eq!(service["spec"]["clusterIPs"], json!([service["spec"]["clusterIP"]]));
    assert_eq!(service["spec"]["ports"][0]["port"], 443);
    let of_it = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
    let slices = world.get(of_it).await.expect(200);
    assert_eq!(slices["items"][0]["ports"][0]["port"], 6443);
    let ranges = world.get("/apis/networking.k8s.io/v1/servicecidrs").await.expect(200);
    assert_eq!(ranges["items"][0]["spec"]["cidrs"], json!(["10.96.0.0/16"]));
}
