//! What is published of an exported Service, and how it goes again; what others made is theirs.

use std::collections::{BTreeMap, BTreeSet};

use heliostat::core::{
    export::object::{self, LEASE, ObjectId, PUBLISHED_SLICE},
    model::{Key, Origin, Readiness},
};
use serde_json::{Value, json};

use crate::common::{NAMESPACE, exporter::*, key, map};

#[test]
fn g04_an_exported_service_is_claimed_programmed_and_then_published_as_the_contract_says() {
    let mut cluster = Cluster::new(json!({}));
    cluster.prompt = false;
    cluster.start();
    assert_eq!(cluster.of(LEASE).len(), 2);
    assert_eq!(cluster.of(ROUTE).len(), 2);
    assert!(cluster.published("books").is_none(), "nothing is published before the gateway confirms");
    assert_eq!(cluster.condition("public", "Programmed").1, "Pending");

    let routes: Vec<(ObjectId, Value)> =
        cluster.objects.iter().filter(|(id, _)| id.kind == ROUTE).map(|(id, v)| (id.clone(), v.clone())).collect();
    for (id, mut route) in routes {
        route["status"] = json!({"programmed": true});
        cluster.put(id, route);
    }
    cluster.settle();
    let slice = cluster.published("books").unwrap().clone();
    let name = slice["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("books-"), "{name}");
    let labels: BTreeMap<&str, &str> = slice["metadata"]["labels"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str().unwrap()))
        .collect();
    assert_eq!(
        labels,
        BTreeMap::from([
            ("heliostat.dev/export", "true"),
            ("tier", "front"),
            ("heliostat.dev/service-name", "books"),
            ("heliostat.dev/binding", "public"),
            ("endpointslice.kubernetes.io/managed-by", "gateway.heliostat.dev"),
            ("service.kubernetes.io/service-proxy-name", "heliostat.dev"),
            ("service.kubernetes.io/headless", ""),
        ])
    );
    assert_eq!(
        slice["metadata"]["annotations"],
        json!({"heliostat.dev/contract": "v1", "heliostat.dev/routing": "Port", "heliostat.dev/port-lease": "1h"})
    );
    assert_eq!(
        slice["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Service", "name": "books", "uid": "uid-books"}])
    );
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["endpoints"], json!([{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}]));
    let ports = cluster.outside_ports("books");
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["grpc", "http"]);
    assert!(ports.values().all(|port| (20_000..=20_099).contains(port)));
    for (lease, object) in cluster.of(LEASE) {
        assert!(lease.name.starts_with("port-"), "{lease}");
        assert!(object["spec"]["holderIdentity"].as_str().unwrap().starts_with("shop/books/"));
    }
    assert_eq!(cluster.condition("public", "Ready").0, "True");
    assert_eq!(cluster.condition("public", "Programmed").0, "True");
}

#[test]
fn g04_unexported_goes_backwards_and_comes_back_with_the_same_port() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let before = cluster.outside_ports("books");
    cluster.told();
    let books = cluster.services.remove(&key("shop/books")).unwrap();
    cluster.services.insert(key("shop/books"), Origin { labels: map(&[]), ..books.clone() });
    cluster.settle();
    assert!(cluster.published("books").is_none());
    assert!(cluster.of(ROUTE).is_empty());
    let told = cluster.told();
    let first = |what: &str| told.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{told:?}"));
    assert!(told[0].starts_with("delete shop/books-"), "the slice goes first: {told:?}");
    assert!(first("delete shop/books-80") < first("patch heliostat-system/port-"), "{told:?}");
    assert!(cluster.of(LEASE).iter().all(|(_, lease)| lease["spec"]["renewTime"].is_string()));

    cluster.services.insert(key("shop/books"), books);
    cluster.settle();
    assert_eq!(cluster.outside_ports("books"), before);
    assert!(cluster.of(LEASE).iter().all(|(_, lease)| lease["spec"]["renewTime"].is_null()));
}

#[test]
fn what_is_published_turns_not_ready_with_the_pods_and_pods_that_churn_cause_no_write() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    cluster.told();
    for round in 0..50 {
        let address = format!("10.244.0.{}", 10 + round);
        cluster.slices.insert(key("shop/books-abc"), pods("books", &[&address]));
        cluster.settle();
    }
    assert_eq!(cluster.told(), Vec::<String>::new());
    cluster.slices.insert(key("shop/books-abc"), pods("books", &[]));
    cluster.settle();
    assert!(!cluster.is_ready("books"));
    assert_eq!(cluster.published("books").unwrap()["endpoints"][0]["addresses"], json!(["10.9.9.9"]));
    cluster.slices.insert(key("shop/books-abc"), pods("books", &["10.244.0.7"]));
    cluster.settle();
    assert!(cluster.is_ready("books"));
}

#[test]
fn objects_of_others_under_our_names_are_left_alone() {
    let mut cluster = Cluster::new(json!({}));
    let id = ObjectId { kind: ROUTE, key: key("shop/books-80") };
    cluster.put(id.clone(), json!({"metadata": {"name": "books-80", "namespace": "shop"}, "spec": {"mine": 1}}));
    let theirs = cluster.objects[&id].clone();
    cluster.start();
    cluster.services.clear();
    cluster.settle();
    assert_eq!(cluster.objects[&id], theirs);
    assert!(!cluster.log.iter().any(|line| line.ends_with("shop/books-80")), "{:?}", cluster.log);
}

#[test]
fn host_routing_names_each_service_once_and_only_http_ports_are_carried() {
    let host = json!({"routing": "Host", "clusterName": "east"});
    let mut cluster = Cluster::new(host);
    cluster.export("books", &[("http", 80), ("db", 5432)]);
    cluster.services.insert(key("cinema/books"), service("books", &[("http", 80)]));
    cluster.slices.insert(key("cinema/books-abc"), pods("books", &["10.244.0.8"]));
    cluster.start();
    assert!(cluster.of(LEASE).is_empty());
    let hostnames = |namespace: &str| {
        let of = cluster.of(PUBLISHED_SLICE);
        let (_, slice) = of.iter().find(|(key, _)| key.namespace == namespace).unwrap();
        object::annotation(slice, "heliostat.dev/hostnames").to_owned()
    };
    let all = ["", ".cinema", ".cinema.svc", ".cinema.svc.cluster.local"].map(|b| format!("books-east{b}")).join(",");
    assert_eq!(hostnames("cinema"), all);
    assert_eq!(hostnames("shop"), "books-east.shop,books-east.shop.svc,books-east.shop.svc.cluster.local");
    let failures = cluster.bindings["public"].status.clone().unwrap().failures;
    let reasons: BTreeSet<&str> = failures.iter().map(|f| f.reason.as_str()).collect();
    assert_eq!(reasons, BTreeSet::from(["NameConflict", "PortUnsupported"]));
    let of = cluster.of(PUBLISHED_SLICE);
    let (_, slice) = of.iter().find(|(key, _)| key.namespace == "shop").unwrap();
    assert_eq!(slice["ports"].as_array().unwrap().len(), 1);
    assert_eq!(slice["ports"][0]["port"], 80);
}

#[test]
fn g18_what_answers_probes_goes_out_through_every_gateway_behind_which_it_can_be_asked() {
    let probe = Origin {
        labels: map(&[("heliostat.dev/export", "true"), ("heliostat.dev/probe", "true")]),
        ..service("heliostat-probe", &[("http", 80)])
    };
    for (routing, goes_out) in [("Port", true), ("Host", true), ("SNI", false), ("Linkerd", false)] {
        // Whatever the binding selects.
        let namespaces = if goes_out { "shop" } else { "*" };
        let mut cluster = Cluster::new(json!({
            "routing": routing, "clusterName": "east", "services": {"namespaces": [namespaces]},
        }));
        cluster.services.insert(Key::new(NAMESPACE, "heliostat-probe"), probe.clone());
        cluster.slices.insert(Key::new(NAMESPACE, "probe-abc"), pods("heliostat-probe", &["10.244.0.9"]));
        cluster.start();
        let slice = cluster.published("heliostat-probe");
        assert_eq!(slice.is_some(), goes_out, "{routing}");
        let counts = cluster.bindings["public"].status.as_ref().unwrap().services.unwrap();
        assert_eq!(counts.selected, 1, "it is nobody's export, and not counted: {routing}");
        let Some(slice) = slice else { continue };
        assert_eq!(object::label(slice, "heliostat.dev/probe"), "true");
        assert!(cluster.is_ready("heliostat-probe"), "{routing}");
        // It is this controller that answers, so it is not ready when it starts: no write says so.
        let slice = cluster.slices.get_mut(&Key::new(NAMESPACE, "probe-abc")).unwrap();
        slice.endpoints.edit(|all| all[0].readiness = Readiness::all(false));
        cluster.told();
        cluster.start();
        assert_eq!(cluster.told(), Vec::<String>::new(), "{routing}");
        let slice = cluster.published("heliostat-probe").unwrap();
        let hostnames = object::annotation(slice, "heliostat.dev/hostnames");
        assert_eq!(hostnames.contains("heliostat-probe-east.heliostat-system"), routing == "Host", "{hostnames}");
    }
    // Nobody else answers probes.
    let mut cluster = Cluster::new(json!({}));
    cluster.services.insert(key("shop/heliostat-probe"), probe);
    cluster.slices.insert(key("shop/probe-abc"), pods("heliostat-probe", &["10.244.0.9"]));
    cluster.start();
    assert!(cluster.published("heliostat-probe").is_none() && cluster.published("books").is_some());
    let failures = cluster.bindings["public"].status.clone().unwrap().failures;
    assert_eq!((failures.len(), failures[0].reason.as_str()), (1, "NamespaceNotAllowed"));
}

#[test]
fn slices_that_others_publish_by_the_contract_are_left_alone() {
    let mut cluster = Cluster::new(json!({}));
    let theirs = json!({
        "metadata": {"name": "books-by-hand", "namespace": "shop", "labels": {
            "heliostat.dev/service-name": "books", "heliostat.dev/binding": "by-hand",
            "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev",
        }},
        "addressType": "IPv4",
    });
    let mut same_binding = theirs.clone();
    same_binding["metadata"]["name"] = json!("books-too");
    same_binding["metadata"]["labels"]["heliostat.dev/binding"] = json!("public");
    for slice in [theirs, same_binding] {
        let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.put(ObjectId { kind: PUBLISHED_SLICE, key: Key::new("shop", name) }, slice);
    }
    cluster.start();
    cluster.bindings.clear();
    cluster.settle();
    let left: Vec<&str> = cluster.of(PUBLISHED_SLICE).into_iter().map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(left, ["books-by-hand", "books-too"]);
}
