//! Watches.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    World,
    ask::{Next, text, version},
};

const LINKS: &str = "/apis/heliostat.dev/v1alpha1/clusterlinks";

pub(super) async fn replays(world: &World) {
    let path = world.services();
    let from = world.version(&path).await;
    let made = world.service("a", json!({})).await;
    let changed = world.patch(&format!("{path}/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await.expect(200);
    let gone = world.delete(&format!("{path}/a"), &Value::Null).await.expect(200);
    assert_ne!(version(&gone), version(&changed), "a deletion has a version of its own");
    let mut watch = world.watch(&path, &format!("resourceVersion={from}&timeoutSeconds=5")).await;
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&made)));
    assert_eq!(watch.brief().await, format!("MODIFIED a {}", version(&changed)));
    let event = watch.event().await;
    assert_eq!((text(&event["type"]), version(&event["object"])), ("DELETED".to_owned(), version(&gone)));
    assert_eq!(event["object"]["metadata"]["labels"], json!({"x": "y"}), "as it was last");
    assert_eq!((&event["object"]["kind"], &event["object"]["apiVersion"]), (&json!("Service"), &json!("v1")));
    // And what comes then.
    let late = world.service("b", json!({})).await;
    assert_eq!(watch.brief().await, format!("ADDED b {}", version(&late)));
    let mut from_there = world.watch(&path, &format!("resourceVersion={}&timeoutSeconds=1", version(&changed))).await;
    assert_eq!(from_there.brief().await, format!("DELETED a {}", version(&gone)));
}

pub(super) async fn without_a_version(world: &World) {
    let made = [world.service("a", json!({})).await, world.service("b", json!({})).await];
    for query in ["timeoutSeconds=5", "resourceVersion=0&timeoutSeconds=5"] {
        let mut watch = world.watch(&world.services(), query).await;
        for (name, object) in ["a", "b"].iter().zip(&made) {
            assert_eq!(watch.brief().await, format!("ADDED {name} {}", version(object)));
        }
    }
}

pub(super) async fn too_old(world: &World) {
    world.around.forget().await;
    let mut watch = world.watch(LINKS, "resourceVersion=1&timeoutSeconds=5").await;
    let event = watch.event().await;
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(
        (status["kind"].as_str(), status["code"].as_u64(), status["reason"].as_str()),
        (Some("Status"), Some(410), Some("Expired"))
    );
    assert!(text(&status["message"]).starts_with("too old resource version: 1 ("), "{status}");
    assert_eq!(watch.next(Duration::from_secs(5)).await, Next::End(String::new()));
}

pub(super) async fn from_the_future(world: &World) {
    let now: u64 = world.version(&world.services()).await.parse().unwrap();
    let query = format!("resourceVersion={}&timeoutSeconds=5&allowWatchBookmarks=true", now + 100_000);
    let mut watch = world.watch(&world.services(), &query).await;
    world.service("a", json!({})).await;
    assert_eq!(
        watch.next(Duration::from_secs(10)).await,
        Next::End(String::new()),
        "neither an event, nor a bookmark, nor an error"
    );
}

pub(super) async fn selector_edges(world: &World) {
    let path = world.services();
    let from = world.version(&path).await;
    let mut watch = world.watch(&path, &format!("resourceVersion={from}&labelSelector=x%3Dy&timeoutSeconds=9")).await;
    let label = |value: &str| json!({"metadata": {"labels": {"x": value}}});
    let made = world.service("a", json!({"x": "y"})).await;
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&made)));
    let outside = world.patch(&format!("{path}/a"), &label("z")).await.expect(200);
    let event = watch.event().await;
    assert_eq!((text(&event["type"]), version(&event["object"])), ("DELETED".to_owned(), version(&outside)));
    assert_eq!(event["object"]["metadata"]["labels"], json!({"x": "y"}), "as it could be seen last");
    // What happens outside is not told.
    world.patch(&format!("{path}/a"), &label("w")).await.expect(200);
    let inside = world.patch(&format!("{path}/a"), &label("y")).await.expect(200);
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&inside)));
    let gone = world.delete(&format!("{path}/a"), &Value::Null).await.expect(200);
    assert_eq!(watch.brief().await, format!("DELETED a {}", version(&gone)));
}

pub(super) async fn one_namespace(world: &World) {
    let from = world.version(&world.services()).await;
    let mut here = world.watch(&world.services(), &format!("resourceVersion={from}&timeoutSeconds=2")).await;
    let mut all = world
        .watch(
            "/api/v1/services",
            &format!("resourceVersion={from}&labelSelector=of%3D{}&timeoutSeconds=5", world.place),
        )
        .await;
    let elsewhere =
        json!({"metadata": {"name": world.place, "labels": {"of": world.place}}, "spec": {"ports": [{"port": 80}]}});
    let there = "/api/v1/namespaces/default/services";
    let made = world.post(there, &elsewhere).await.expect(201);
    assert_eq!(all.brief().await, format!("ADDED {} {}", world.place, version(&made)));
    assert_eq!(here.next(Duration::from_secs(5)).await, Next::End(String::new()));
    world.delete(&format!("{there}/{}", world.place), &Value::Null).await.expect(200);
}

pub(super) async fn bookmarks(world: &World) {
    let path = world.services();
    let from = world.version(&path).await;
    let start = Instant::now();
    let query = format!("resourceVersion={from}&labelSelector=x%3Dy&timeoutSeconds=5&allowWatchBookmarks=true");
    let mut watch = world.watch(&path, &query).await;
    // Nothing that is to be told, but a later version.
    let made = world.service("a", json!({})).await;
    let Next::Event(event) = watch.next(Duration::from_secs(10)).await else { panic!("no bookmark") };
    assert!(start.elapsed() >= Duration::from_secs(1), "it comes shortly before the end");
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("Service")));
    let number = |object: &Value| version(object).parse::<u64>().unwrap();
    assert!(number(&event["object"]) >= number(&made));
    assert!(event["object"]["metadata"]["name"].is_null());
}

pub(super) async fn streaming_list(world: &World) {
    let made = world.service("a", json!({"x": "y"})).await;
    let wanted = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=5";
    let mut watch = world.watch(&world.services(), wanted).await;
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&made)));
    let Next::Event(event) = watch.next(Duration::from_secs(10)).await else { panic!("no bookmark") };
    assert_eq!(event["type"], "BOOKMARK");
    assert_eq!(event["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    let late = world.service("b", json!({})).await;
    assert_eq!(watch.brief().await, format!("ADDED b {}", version(&late)));
    let without =
        world.get(&format!("{}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true", world.services())).await;
    assert_eq!((without.code, without.body["reason"].as_str()), (422, Some("Invalid")));
}

pub(super) async fn ends_in_time(world: &World) {
    let from = world.version(&world.services()).await;
    let start = Instant::now();
    let mut watch = world.watch(&world.services(), &format!("resourceVersion={from}&timeoutSeconds=2")).await;
    assert_eq!(watch.next(Duration::from_secs(10)).await, Next::End(String::new()));
    assert!(start.elapsed() >= Duration::from_secs(1));
}
