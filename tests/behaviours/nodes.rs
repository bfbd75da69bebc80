//! Mirrors whose addresses are nodes or a load balancer's: which of them, and what is said without any.

use std::collections::BTreeSet;

use heliostat::core::{
    io::{Output, RemoteEvent},
    model::{Family, Origin, OriginType, RemoteNode},
};
use serde_json::json;

use crate::common::*;

fn with_node_ports(uid: &str, kind: OriginType) -> Origin {
    let mut origin = Origin { ingress: [].into(), ..of_kind(uid, kind) };
    origin.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
    origin
}

fn nodes(names: impl IntoIterator<Item = u8>) -> RemoteEvent {
    let one = |i: u8| (format!("n{i}"), node(&format!("172.30.1.{i}")));
    RemoteEvent::NodesListed(Ok(names.into_iter().map(one).collect()))
}

fn hosts(sim: &Sim, mirror: &str) -> BTreeSet<String> {
    sim.endpoints(mirror).iter().map(|e| e.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn g02_nodes_come_change_and_go() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let books = with_node_ports("b1", OriginType::NodePort);
    sim.list("east", &[("shop/books", books)], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    sim.remote("east", nodes([1, 2]));
    let of = |sim: &Sim| hosts(sim, "shop/books-east").into_iter().collect::<Vec<_>>();
    assert_eq!(of(&sim), ["172.30.1.1", "172.30.1.2"]);
    sim.remote("east", RemoteEvent::Node("n3".into(), node("172.30.1.3")));
    assert_eq!(of(&sim), ["172.30.1.1", "172.30.1.2", "172.30.1.3"]);
    sim.remote("east", RemoteEvent::Node("n2".into(), RemoteNode { usable: false, ..node("172.30.1.2") }));
    assert_eq!(of(&sim), ["172.30.1.1", "172.30.1.3"]);
    sim.remote("east", RemoteEvent::NodeGone("n1".into()));
    assert_eq!(of(&sim), ["172.30.1.3"]);
    let both = RemoteNode { external: vec!["203.0.113.3".into()], ..node("172.30.1.3") };
    sim.remote("east", RemoteEvent::Node("n3".into(), both));
    assert_eq!(of(&sim), ["203.0.113.3"]);
}

#[test]
fn g02_of_many_nodes_each_origin_has_others() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let all: Vec<String> = (0..4).map(|i| format!("shop/s{i}")).collect();
    let services: Vec<_> = all.iter().map(|n| (n.as_str(), with_node_ports(n, OriginType::NodePort))).collect();
    sim.list("east", &services, &[]);
    sim.remote("east", nodes(1..=40));
    let sets: BTreeSet<_> = all.iter().map(|name| hosts(&sim, &format!("{name}-east"))).collect();
    assert!(sets.len() == 4 && sets.iter().all(|hosts| hosts.len() == 16), "their load is spread: {sets:?}");
}

#[test]
fn g01_g02_a_load_balancer_without_an_address_is_awaited_and_its_node_ports_do_meanwhile() {
    let asks_nodes =
        |sim: &Sim| sim.others.iter().any(|o| matches!(o, Output::Session { task: Some(task), .. } if task.nodes));
    let start = |books: Origin| {
        let mut sim = Sim::fixture();
        sim.set_policy(policy("shop/all", json!({"via": ["Service"]})));
        sim.connect("east");
        sim.list("east", &[("shop/books", books)], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        sim.remote("east", nodes([1]));
        sim
    };
    let sim = start(with_node_ports("b1", OriginType::LoadBalancer));
    assert!(asks_nodes(&sim));
    assert_eq!(sim.endpoints("shop/books-east"), ["172.30.1.1:30080 http ready", "172.30.1.1:30090 grpc ready"]);
    for (kind, why) in [
        (OriginType::LoadBalancer, "has no load balancer address yet"),
        (OriginType::NodePort, "is neither of type LoadBalancer nor NodePort"),
    ] {
        let sim = start(Origin { ingress: [].into(), ..of_kind("b1", kind) });
        assert!(!asks_nodes(&sim));
        let told = &sim.mirror("shop/books-east").mirrored().unwrap().message;
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn m19_a_slice_has_addresses_of_its_own_family() {
    let mut sim = Sim::fixture();
    sim.families = vec![Family::V4, Family::V6];
    sim.connect("east");
    let ingress = ["203.0.113.5", "2001:db8::5"].map(|ip| heliostat::core::model::Ingress::Ip(ip.into()));
    sim.list("east", &[("shop/books", Origin { ingress: ingress.into(), ..origin("b1") })], &[]);
    assert_eq!(sim.slices.len(), 2);
    for slice in sim.slices.values() {
        assert!(slice.body.endpoints.iter().all(|e| Family::of(e.address) == slice.body.family), "{slice:?}");
    }
}

#[test]
fn limits_of_endpoints_take_as_many_as_they_say_and_spare_those_that_are_there() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.set_link(link("east", json!({"limits": {"endpointsPerService": 2}})));
    sim.connect("east");
    let books = || of_kind("b1", OriginType::ClusterIp);
    let pods = |addresses: &[&str]| pods("books", addresses, true);
    sim.list("east", &[("shop/books", books())], &[("shop/books-x", pods(&["10.1.0.2", "10.1.0.3"]))]);
    assert_eq!(sim.failures("shop/all"), [], "two are two at most");
    sim.slice("shop/books-x", pods(&["10.1.0.1", "10.1.0.2", "10.1.0.3"]));
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "QuotaExceeded".to_owned())]);
    assert_eq!(hosts(&sim, "shop/books-east").into_iter().collect::<Vec<_>>(), ["10.1.0.2", "10.1.0.3"]);
}
