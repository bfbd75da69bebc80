//! The exporter's side in memory: claim, program, wait, publish, and backwards.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{NAMESPACE, binding, exporter::*, key, map};
use heliostat::{
    core::{
        envoy::{EnvoyPort, EnvoyRouting, EnvoyState},
        export::object::{self, LEASE, OWN_DEPLOYMENT, OWN_SERVICE, ObjectId, PUBLISHED_SLICE},
        io::{Change, ExportNews, Input},
        model::{Key, Origin, Readiness},
    },
    gateway,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

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
fn g05_a_restart_writes_nothing() {
    let mut cluster = Cluster::new(json!({}));
    cluster.export("films", &[("http", 80)]);
    cluster.start();
    cluster.told();
    let bindings = cluster.bindings.clone();
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert_eq!(cluster.bindings, bindings, "nor does the status change");
}

#[test]
fn g05_what_nobody_tells_after_a_restart_stays_as_it_is() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    for (_, object) in cluster.objects.iter_mut().filter(|(id, _)| id.kind == ROUTE) {
        object["status"] = json!({"programmed": "unknown"});
    }
    cluster.told();
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert!(cluster.is_ready("books"));
}

#[test]
fn g06_the_range_is_full_for_the_newcomer_only() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20001, "lease": "1h"}}));
    cluster.start();
    let before = cluster.outside_ports("books");
    cluster.export("films", &[("http", 80)]);
    cluster.settle();
    assert_eq!(cluster.outside_ports("books"), before);
    assert!(cluster.published("films").is_none());
    let status = cluster.bindings["public"].status.clone().unwrap();
    let failure = &status.failures[0];
    assert_eq!((failure.name.as_str(), failure.reason.as_str()), ("films", "PortsExhausted"));
    assert_eq!(cluster.condition("public", "Ready").0, "True");
    assert_eq!(cluster.condition("public", "Programmed").1, "PortsExhausted");
}

#[test]
fn g07_a_released_port_waits_for_twice_the_lease_then_its_claim_goes() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20001, "lease": "1h"}}));
    cluster.start();
    cluster.services.clear();
    cluster.settle();
    cluster.export("films", &[("http", 80)]);
    cluster.settle().pass(SignedDuration::from_mins(119));
    assert!(cluster.published("films").is_none(), "within twice the lease");
    cluster.pass(SignedDuration::from_mins(2)).pass(SignedDuration::from_secs(1));
    assert!(cluster.is_ready("films"));
}

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
fn g13_two_bindings_over_one_gateway_never_give_a_port_twice() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20003, "lease": "1h"}}));
    let other =
        spec(json!({"ports": {"from": 20000, "to": 20003, "lease": "1h"}, "services": {"namespaces": ["cinema"]}}));
    cluster.bindings.insert("other".into(), binding("other", other));
    cluster.services.insert(key("cinema/films"), service("films", &[("http", 80), ("grpc", 9090)]));
    cluster.slices.insert(key("cinema/films-abc"), pods("films", &["10.244.0.8"]));
    cluster.bindings.get_mut("public").unwrap().spec.export.as_mut().unwrap().services.namespaces = vec!["shop".into()];
    cluster.start();
    let all: Vec<u64> = ["books", "films"].iter().flat_map(|s| cluster.outside_ports(s).into_values()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4, "{all:?}");
}

#[test]
fn g14_lost_leases_are_claimed_again_and_nothing_moves() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let slice = cluster.published("books").unwrap().clone();
    cluster.objects.retain(|id, _| id.kind != LEASE);
    cluster.told();
    cluster.start();
    assert_eq!(cluster.published("books"), Some(&slice));
    assert_eq!(cluster.of(LEASE).len(), 2);
    assert!(cluster.told().iter().all(|line| line.starts_with("create heliostat-system/port-")));
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
        slice.endpoints[0].readiness = Readiness::all(false);
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

/// All objects, without what the API server numbers.
fn essence(cluster: &Cluster) -> Vec<(ObjectId, Value)> {
    let strip = |value: &Value| {
        let mut value = value.clone();
        for field in ["uid", "resourceVersion"] {
            value["metadata"][field] = Value::Null;
        }
        value
    };
    cluster.objects.iter().map(|(id, value)| (id.clone(), strip(value))).collect()
}

#[test]
fn l09_killed_after_any_write_it_ends_the_same_and_makes_nothing_twice() {
    let reference = {
        let mut cluster = Cluster::new(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.start();
        cluster
    };
    // Three Leases, three routes, two slices.
    assert_eq!(reference.log.len(), 8, "{:?}", reference.log);
    for budget in 0..reference.log.len() {
        let mut cluster = Cluster::new(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.budget = budget;
        cluster.start();
        cluster.budget = usize::MAX;
        cluster.start();
        assert_eq!(essence(&cluster), essence(&reference), "after {budget} writes");
        assert_eq!(cluster.log.len(), reference.log.len(), "after {budget} writes: {:?}", cluster.log);
    }
}

#[test]
fn g04_our_own_gateway_carries_each_port_and_closes_it_again() {
    let mut cluster = Cluster::own(json!({}));
    cluster.start();
    let ports = cluster.outside_ports("books");
    assert!(cluster.is_ready("books"));
    assert_eq!(cluster.published("books").unwrap()["endpoints"][0]["addresses"], json!(["10.9.9.20"]));
    let config = cluster.envoys.clone().unwrap();
    let routing = EnvoyRouting::Port { cluster: "shop/books/80/TCP".into() };
    let http = u16::try_from(ports["http"]).unwrap();
    assert_eq!(config.ports[&EnvoyPort::Tcp(http)], routing);
    let backends = &config.clusters["shop/books/80/TCP"].endpoints;
    assert_eq!(backends.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.0.7:8080"]);
    let of = cluster.of(OWN_SERVICE);
    let (name, service) = of[0];
    assert_eq!(name.to_string(), "heliostat-system/heliostat-gateway-public");
    let open: BTreeSet<u64> =
        object::list(&service["spec"]["ports"]).iter().map(|p| p["port"].as_u64().unwrap()).collect();
    assert_eq!(open, ports.values().copied().collect());
    assert_eq!(cluster.condition("public", "Ready").0, "True");

    cluster.services.get_mut(&key("shop/books")).unwrap().labels.clear();
    cluster.settle();
    assert!(cluster.published("books").is_none());
    assert_eq!(cluster.envoys.clone().unwrap().ports, BTreeMap::new());
    let of = cluster.of(OWN_SERVICE);
    let parked = object::list(&of[0].1["spec"]["ports"]);
    assert_eq!(parked.len(), 1, "the Service keeps its address, and with it a port at which nothing answers");
    assert_eq!(cluster.of(OWN_DEPLOYMENT).len(), 1);
}

#[test]
fn g05_our_own_gateway_stays_as_it_is_when_its_controller_starts_again() {
    let mut cluster = Cluster::own(json!({}));
    cluster.start();
    cluster.told();
    cluster.connected = false;
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new(), "no Envoy is back yet");
    cluster.connected = true;
    let back = cluster.acknowledged();
    cluster.feed(back.into_iter().collect());
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert!(cluster.is_ready("books"));
}

#[test]
fn g11_our_own_gateway_answers_only_to_names_of_what_is_exported() {
    let mut cluster = Cluster::own(json!({"routing": "Host", "clusterName": "east", "hostRewrite": true}));
    cluster.services.insert(key("shop/secret"), Origin { labels: map(&[]), ..service("secret", &[("http", 80)]) });
    cluster.start();
    let config = cluster.envoys.clone().unwrap();
    let EnvoyRouting::Host { hosts } = &config.ports[&EnvoyPort::Tcp(10_080)] else { panic!("{config:?}") };
    let names: Vec<&String> = hosts.keys().collect();
    assert_eq!(names, ["books-east", "books-east.shop", "books-east.shop.svc", "books-east.shop.svc.cluster.local"]);
    assert_eq!(hosts["books-east"].rewrite.as_deref(), Some("books.shop.svc.cluster.local"));
    assert_eq!(cluster.outside_ports("books")["http"], 80);
}

#[test]
fn a_route_that_every_envoy_refuses_is_not_published_and_says_so() {
    let mut cluster = Cluster::own(json!({}));
    cluster.connected = false;
    cluster.start();
    let config = cluster.envoys.clone().unwrap();
    let refused = config.ports.keys().map(|port| (*port, "no such extension".to_owned())).collect();
    let state = EnvoyState { binding: "public".into(), connected: 1, serving: BTreeMap::new(), refused };
    cluster.feed(vec![Input::Export(ExportNews::Envoy(state))]);
    assert!(cluster.published("books").is_none());
    assert!(cluster.condition("public", "Programmed").2.contains("no such extension"));
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

#[test]
fn an_object_that_goes_unseen_is_made_anew() {
    let mut cluster = Cluster::own(json!({}));
    cluster.start();
    let id = ObjectId { kind: OWN_SERVICE, key: key("heliostat-system/heliostat-gateway-public") };
    cluster.objects.remove(&id).unwrap();
    cluster.export("films", &[("http", 80)]);
    let films = cluster.services[&key("shop/films")].clone();
    cluster.told();
    cluster.feed(vec![Input::Export(ExportNews::Service(Change::Set(key("shop/films"), films)))]);
    assert!(cluster.told().contains(&"create heliostat-system/heliostat-gateway-public".to_owned()));
    assert!(cluster.published("films").is_some());
}

#[test]
fn an_answer_that_a_deletion_has_overtaken_brings_nothing_back() {
    let mut cluster = Cluster::own(json!({}));
    cluster.goes_before_answer = Some(OWN_DEPLOYMENT);
    cluster.start();
    assert_eq!(cluster.of(OWN_DEPLOYMENT).len(), 1, "it was deleted once, and is there");
    let made = cluster.told().into_iter().filter(|line| line == "create heliostat-system/heliostat-gateway-public");
    assert_eq!(made.count(), 4, "Service, ConfigMap, and the Deployment twice");
}

/// More than may be under way at a time, and news all the while: what waits for its turn was decided
/// before, and may have been under way already then.
#[test]
fn nothing_is_asked_for_twice_while_answers_are_late() {
    let mut cluster = Cluster::own(json!({}));
    for i in 0..40 {
        cluster.export(&format!("s{i}"), &[("http", 80)]);
    }
    cluster.answers_late = true;
    cluster.start();
    assert_eq!(cluster.of(PUBLISHED_SLICE).len(), 41);
    assert_eq!(cluster.refused, Vec::<String>::new());
}

#[test]
fn l09_killed_after_any_write_our_own_gateway_ends_the_same_and_is_made_once() {
    let cluster = |budget: usize| {
        let mut cluster = Cluster::own(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.budget = budget;
        cluster.start();
        cluster
    };
    let created = |cluster: &Cluster| cluster.log.iter().filter(|line| line.starts_with("create")).count();
    let reference = cluster(usize::MAX);
    // Three Leases, two slices, Deployment, ConfigMap and Service.
    assert_eq!(created(&reference), 8, "{:?}", reference.log);
    for budget in 0..reference.log.len() {
        let mut cluster = cluster(budget);
        cluster.budget = usize::MAX;
        cluster.start();
        assert_eq!(essence(&cluster), essence(&reference), "after {budget} writes");
        assert_eq!(created(&cluster), 8, "after {budget} writes: {:?}", cluster.log);
    }
}
