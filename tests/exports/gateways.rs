//! Gateways and bindings that come, change and go, and gateways that confirm nothing.

use std::collections::BTreeSet;

use heliostat::{
    core::export::object::{LEASE, ObjectId, PUBLISHED_SLICE},
    gateway,
};
use jiff::SignedDuration;
use serde_json::json;

use crate::common::{binding, exporter::*, key};

#[test]
fn g10_slices_follow_the_gateways_address_and_stay_while_it_has_none() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    cluster.objects.get_mut(&ObjectId { kind: GATEWAY, key: key("edge/main") }).unwrap()["addresses"] =
        json!(["10.9.9.10"]);
    cluster.settle();
    assert_eq!(cluster.published("books").unwrap()["endpoints"][0]["addresses"], json!(["10.9.9.10"]));
    cluster.told();
    cluster.objects.get_mut(&ObjectId { kind: GATEWAY, key: key("edge/main") }).unwrap()["addresses"] = json!([]);
    cluster.settle();
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert_eq!(cluster.condition("public", "Ready").0, "False");
    assert!(cluster.is_ready("books"));
}

#[test]
fn g12_a_binding_that_goes_takes_its_routes_and_slices_along_and_leaves_claims_in_quarantine() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    cluster.bindings.clear();
    cluster.settle();
    assert!(cluster.of(ROUTE).is_empty() && cluster.of(PUBLISHED_SLICE).is_empty());
    assert_eq!(cluster.of(LEASE).len(), 2);
    assert!(cluster.of(LEASE).iter().all(|(_, lease)| lease["spec"]["renewTime"].is_string()));
    cluster.pass(SignedDuration::from_hours(2)).pass(SignedDuration::from_secs(1));
    assert!(cluster.of(LEASE).is_empty());
}

#[test]
fn g15_plaintext_on_a_public_address_is_not_programmed_unless_somebody_says_so() {
    let mut cluster = Cluster::new(json!({}));
    cluster.gateway(&["203.0.113.7"]);
    cluster.start();
    assert_eq!(cluster.condition("public", "Accepted").1, "PublicPlaintext");
    assert!(cluster.of(ROUTE).is_empty() && cluster.of(PUBLISHED_SLICE).is_empty());
    let public = spec(json!({"exposure": "Public"}));
    cluster.bindings.insert("public".into(), binding("public", public));
    cluster.bindings.get_mut("public").unwrap().metadata.generation = Some(2);
    cluster.settle();
    assert_eq!(cluster.condition("public", "Accepted").0, "True");
    assert!(cluster.is_ready("books"));
}

#[test]
fn a_gateway_that_is_deleted_carries_nothing_and_what_it_had_comes_back_with_it() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let before = cluster.outside_ports("books");
    let gateway = cluster.objects.remove(&ObjectId { kind: GATEWAY, key: key("edge/main") }).unwrap();
    cluster.settle();
    assert_eq!(cluster.condition("public", "ResolvedRefs").1, "RefNotFound");
    assert!(cluster.published("books").is_some() && !cluster.is_ready("books"));
    cluster.objects.insert(ObjectId { kind: GATEWAY, key: key("edge/main") }, gateway);
    cluster.settle();
    assert!(cluster.is_ready("books"));
    assert_eq!(cluster.outside_ports("books"), before);
}

const UNCONFIRMED: [&str; 3] = ["traefik", "emissary", "gloo"];

fn unconfirmed(make: &str) -> Cluster {
    let mut provider = json!({make: {"serviceRef": {"namespace": "edge", "name": "front"}}});
    if make == "traefik" {
        let point = |name: &str, port: u16| json!({"name": name, "port": port});
        provider[make]["entryPoints"] = json!([point("a", 20_001), point("b", 20_002), point("c", 20_003)]);
    }
    Cluster::unconfirmed(provider)
}

/// Objects of foreign kinds, by kind and namespace.
fn routes(cluster: &Cluster) -> Vec<String> {
    let own = [LEASE, PUBLISHED_SLICE];
    let routes = cluster.objects.keys().filter(|id| !own.contains(&id.kind));
    routes.map(|id| format!("{} {}", id.kind.kind, id.key.namespace)).collect()
}

#[test]
fn g04_a_gateway_that_confirms_nothing_is_believed_three_seconds_after_it_was_told() {
    for make in UNCONFIRMED {
        let mut cluster = unconfirmed(make);
        cluster.start();
        assert!(!routes(&cluster).is_empty(), "{make}");
        assert!(cluster.published("books").is_none(), "{make}: it may not have read it yet");
        assert!(cluster.condition("public", "Programmed").2.contains("confirms nothing"), "{make}");
        cluster.pass(SignedDuration::from_secs(3));
        assert!(cluster.is_ready("books"), "{make}");
        assert_eq!(cluster.published("books").unwrap()["endpoints"][0]["addresses"], json!(["10.9.9.8"]), "{make}");
        let ports: BTreeSet<u64> = cluster.outside_ports("books").into_values().collect();
        assert!(ports.len() == 2 && ports.iter().all(|port| (20_001..=20_003).contains(port)), "{make}: {ports:?}");
        assert_eq!(cluster.condition("public", "Ready").0, "True", "{make}");
        assert!(cluster.condition("public", "Programmed").2.contains("not confirmed by the gateway"), "{make}");

        cluster.told();
        cluster.start().pass(SignedDuration::from_mins(5));
        assert_eq!(cluster.told(), Vec::<String>::new(), "{make}");

        cluster.services.get_mut(&key("shop/books")).unwrap().labels.clear();
        cluster.settle();
        assert_eq!((cluster.published("books").is_none(), routes(&cluster)), (true, vec![]), "{make}");
    }
}

#[test]
fn a_gateway_without_a_ready_pod_is_not_published_as_ready_and_its_routes_stay() {
    for make in UNCONFIRMED {
        let mut cluster = unconfirmed(make);
        cluster.start().pass(SignedDuration::from_secs(3));
        let before = routes(&cluster);
        cluster.slices.remove(&key("edge/front-abc"));
        cluster.settle().pass(SignedDuration::from_secs(20));
        assert!(!cluster.is_ready("books"), "{make}");
        assert_eq!(routes(&cluster), before, "{make}");
        cluster.slices.insert(key("edge/front-abc"), pods("front", &["10.244.0.10"]));
        cluster.settle();
        assert!(cluster.is_ready("books"), "{make}");
        cluster.services.remove(&key("edge/front"));
        cluster.settle();
        assert_eq!(cluster.condition("public", "ResolvedRefs").1, "RefNotFound", "{make}");
        assert!(!cluster.is_ready("books"), "{make}");
    }
}

#[test]
fn g08_a_route_leaves_an_entry_point_that_somebody_else_takes() {
    let mut cluster = unconfirmed("traefik");
    cluster.start().pass(SignedDuration::from_secs(3));
    let before = cluster.outside_ports("books");
    let name = ["a", "b", "c"][usize::try_from(before["http"]).unwrap() - 20_001];
    let kinds = gateway::kinds();
    let kind = *kinds.iter().find(|kind| kind.kind == "IngressRouteTCP").unwrap();
    let theirs = json!({
        "metadata": {"name": "theirs", "namespace": "web"},
        "spec": {"entryPoints": [name], "routes": [{"match": "HostSNI(`*`)", "services": [{"name": "a", "port": 1}]}]},
    });
    cluster.put(ObjectId { kind, key: key("web/theirs") }, theirs);
    cluster.settle().pass(SignedDuration::from_secs(3));
    let after = cluster.outside_ports("books");
    assert_ne!(after["http"], before["http"]);
    assert_eq!(after["grpc"], before["grpc"], "nothing else moves");
    assert!(cluster.is_ready("books"));
}
