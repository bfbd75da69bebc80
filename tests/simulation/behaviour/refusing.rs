//! Refusals, and what goes wrong.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{
    Faults, World,
    ask::{Next, ask, names, text, version},
};

pub(super) async fn not_found(world: &World) {
    let answer = world.get(&format!("{}/nobody", world.services())).await;
    assert_eq!(answer.refusal(), (404, "NotFound", "services nobody".to_owned()));
    assert_eq!(answer.message(), "services \"nobody\" not found");
    let resource = world.get(&format!("/api/v1/namespaces/{}/things", world.place)).await;
    assert_eq!(resource.refusal(), (404, "NotFound", "- -".to_owned()));
    assert_eq!(resource.message(), "the server could not find the requested resource");
    let group = world.get("/apis/nobody.example/v1/things").await;
    assert_eq!((group.code, group.body), (404, json!("404 page not found\n")));
}

pub(super) async fn unauthorized(world: &World) {
    let answer = ask(&world.around.stranger(), Method::GET, &world.services(), &[], &Value::Null).await;
    assert_eq!(answer.refusal(), (401, "Unauthorized", "- -".to_owned()));
    assert_eq!(answer.message(), "Unauthorized");
}

pub(super) async fn forbidden(world: &World) {
    let as_nobody = [("impersonate-user", "nobody")];
    let answer = ask(&world.client, Method::GET, &world.services(), &as_nobody, &Value::Null).await;
    assert_eq!(answer.refusal(), (403, "Forbidden", "services -".to_owned()));
    let place = &world.place;
    assert_eq!(
        answer.message(),
        format!(
            "services is forbidden: User \"nobody\" cannot list resource \"services\" in API group \"\" in the namespace \"{place}\""
        )
    );
    let path = "/apis/discovery.k8s.io/v1/endpointslices?watch=true";
    let answer = ask(&world.client, Method::GET, path, &as_nobody, &Value::Null).await;
    assert_eq!(
        answer.message(),
        "endpointslices.discovery.k8s.io is forbidden: User \"nobody\" cannot watch resource \"endpointslices\" in API group \"discovery.k8s.io\" at the cluster scope"
    );
}

pub(super) async fn discovery(world: &World) {
    let list = world.get("/apis/discovery.k8s.io/v1").await.expect(200);
    assert_eq!(
        (list["kind"].as_str(), list["groupVersion"].as_str()),
        (Some("APIResourceList"), Some("discovery.k8s.io/v1"))
    );
    let row = &list["resources"][0];
    assert_eq!(
        (row["name"].as_str(), row["kind"].as_str(), row["namespaced"].as_bool()),
        (Some("endpointslices"), Some("EndpointSlice"), Some(true))
    );
    let ours = world.get("/apis/heliostat.dev/v1alpha1").await.expect(200);
    let rows: Vec<String> = ours["resources"].as_array().unwrap().iter().map(|row| text(&row["name"])).collect();
    assert!(rows.contains(&"clusterlinks".to_owned()) && rows.contains(&"clusterlinks/status".to_owned()), "{rows:?}");
}

fn faults(world: &World) -> &dyn Faults {
    world.around.faults().unwrap()
}

/// As API Priority and Fairness turns requests away (in the form of every Status).
pub(super) async fn throttled(world: &World) {
    faults(world).answer(429, Some(1));
    let answer = world.get(&world.services()).await;
    assert_eq!((answer.code, answer.body["reason"].as_str()), (429, Some("TooManyRequests")));
    assert_eq!(
        (answer.headers["retry-after"].to_str().unwrap(), &answer.body["details"]["retryAfterSeconds"]),
        ("1", &json!(1))
    );
    world.get(&world.services()).await.expect(200);
}

pub(super) async fn server_errors(world: &World) {
    for (code, reason) in [(500, "InternalError"), (503, "ServiceUnavailable"), (504, "Timeout")] {
        faults(world).answer(code, None);
        let answer = world.get(&world.services()).await;
        assert_eq!((answer.code, answer.body["reason"].as_str()), (code, Some(reason)));
        assert_eq!(answer.body["kind"], "Status");
    }
}

pub(super) async fn watch_cut(world: &World) {
    let from = world.version(&world.services()).await;
    let query = format!("resourceVersion={from}&timeoutSeconds=60");
    for mid_line in [false, true] {
        let mut watch = world.watch(&world.services(), &query).await;
        faults(world).cut_watches(mid_line);
        let Next::End(rest) = watch.next(Duration::from_secs(5)).await else { panic!("the watch goes on") };
        assert_eq!(!rest.is_empty(), mid_line);
    }
    let made = world.service("a", json!({})).await;
    let mut watch = world.watch(&world.services(), &query).await;
    assert_eq!(watch.brief().await, format!("ADDED a {}", version(&made)), "nothing is lost by it");
}

pub(super) async fn hanging(world: &World) {
    let from = world.version(&world.services()).await;
    let mut watch = world.watch(&world.services(), &format!("resourceVersion={from}&timeoutSeconds=60")).await;
    faults(world).hold(true);
    let path = world.services();
    let asked = tokio::time::timeout(Duration::from_secs(20), world.service("a", json!({})));
    assert!(asked.await.is_err());
    assert_eq!(watch.next(Duration::from_secs(5)).await, Next::Nothing);
    faults(world).hold(false);
    // What was sent has arrived, though nobody waits for the answer any more.
    assert!(watch.brief().await.starts_with("ADDED a "));
    assert_eq!(names(&world.get(&path).await.expect(200)), ["a"]);
}

pub(super) async fn restored(world: &World) {
    let path = world.services();
    let old = world.service("a", json!({})).await;
    faults(world).backup();
    let lost = world.service("b", json!({})).await;
    let from = world.version(&path).await;
    let mut watch = world.watch(&path, &format!("resourceVersion={from}&timeoutSeconds=60")).await;
    faults(world).restore();
    assert_eq!(watch.next(Duration::from_secs(5)).await, Next::End(String::new()));
    let list = world.get(&path).await.expect(200);
    assert_eq!((names(&list), version(&list)), (vec!["a".to_owned()], version(&old)));
    let other = world.service("c", json!({})).await;
    assert_eq!(version(&other), version(&lost), "the version is given a second time");
    assert_eq!(world.get(&format!("{path}/b")).await.code, 404);
}
