//! Heliostat's own gateway: what its Envoys are told, and the objects that it consists of.

use std::collections::{BTreeMap, BTreeSet};

use heliostat::core::{
    envoy::{EnvoyPort, EnvoyRouting, EnvoyState},
    export::object::{self, OWN_DEPLOYMENT, OWN_SERVICE, ObjectId, PUBLISHED_SLICE},
    io::{Change, ExportNews, Input},
    model::Origin,
};
use serde_json::json;

use crate::common::{exporter::*, key, map};

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
