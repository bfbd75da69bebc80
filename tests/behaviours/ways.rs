//! The ways by which a mirror gets its addresses.

use std::collections::BTreeSet;

use heliostat::core::{
    io::{Change, Input, Local, RemoteEvent, WriteOp},
    model::{Family, Ingress, LocalNode, OriginType, Protocol, SliceRole},
};
use serde_json::json;

use crate::{common::*, says};

#[test]
fn m19_families_that_the_mirror_has() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = [&*books.ingress, &[Ingress::Ip("2001:db8::5".into())]].concat().into();
    sim.list("east", &[("shop/books", books.clone())], &[]);
    assert_eq!(
        sim.endpoints("shop/books-east"),
        ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"].map(|s| s.replace("ready", "not ready"))
    );
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "UnsupportedValue".to_owned())]);
    let mut sim = Sim::fixture();
    sim.families = vec![Family::V4, Family::V6];
    sim.connect("east");
    sim.list("east", &[("shop/books", books)], &[]);
    assert_eq!((sim.slices.len(), sim.failures("shop/all")), (2, vec![]));
}

#[test]
fn m21_a_port_that_the_way_cannot_carry_is_reported() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books
        .ports
        .edit(|ports| ports.push(heliostat::core::model::OriginPort { protocol: Protocol::Udp, ..port("dns", 53) }));
    let gateway = published("books", "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", books)], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:20001 http ready", "203.0.113.9:20002 grpc ready"]);
    assert_eq!(sim.mirror("shop/books-east").ports.len(), 3, "the Service has all wanted ports");
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "PortUnsupported".to_owned())]);
    let told = &sim.policies[&key("shop/all")].status.as_ref().unwrap().failures[0].message;
    assert!(told.contains("port dns (53/UDP)"), "{told}");
}

#[test]
fn m22_headless_by_direct_and_by_another_way() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.connect("east");
    let db = heliostat::core::model::Origin { ingress: [].into(), ..of_kind("d1", OriginType::Headless) };
    let mut slice = pods("db", &["10.1.0.1", "10.1.0.2"], true);
    slice.endpoints.edit(|all| all[0].hostname = Some("db-0".into()));
    slice.endpoints.edit(|all| all[1].hostname = Some("Not_A_Label".into()));
    sim.list("east", &[("shop/db", db.clone())], &[("shop/db-x", slice)]);
    let hostnames: Vec<Option<heliostat::core::model::Text>> =
        sim.slices.values().flat_map(|s| s.body.endpoints.iter().map(|e| e.hostname.clone())).collect();
    assert_eq!((sim.mirror("shop/db-east").headless, hostnames), (true, vec![Some("db-0".into()), None]));
    sim.set_policy(policy("shop/all", json!({})));
    sim.slice("shop/db-gw", published("db", "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]));
    assert!(!sim.mirror("shop/db-east").headless);
    assert_eq!(sim.failures("shop/all"), [("shop/db".to_owned(), "PerPodNamesUnavailable".to_owned())]);
}

#[test]
fn g01_load_balancer_hostnames() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example.".into())].into();
    sim.list("east", &[("shop/books", books)], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert!(
        sim.others
            .iter()
            .any(|o| *o == heliostat::core::io::Output::Resolve([("lb.east.example".into(), "east".into())].into()))
    );
    let answer = |addresses: &[&str]| Ok(addresses.iter().map(|a| a.parse().unwrap()).collect());
    let resolve = |sim: &mut Sim, answer, expired| {
        sim.give(Input::Resolved { host: "lb.east.example".into(), answer, expired });
        sim.settle();
        sim.endpoints("shop/books-east").len()
    };
    assert_eq!(
        resolve(&mut sim, answer(&["203.0.113.1", "203.0.113.2", "127.0.0.1"]), false),
        4,
        "two addresses, two ports, no loopback"
    );
    assert_eq!(resolve(&mut sim, answer(&["203.0.113.1"]), false), 2);
    assert_eq!(resolve(&mut sim, Err("NXDOMAIN".into()), false), 2, "the last good answer is kept");
    assert_eq!(sim.failures("shop/all").len(), 1, "and reported");
    assert_eq!(resolve(&mut sim, Err("NXDOMAIN".into()), true), 0, "but not for ever");
}

#[test]
fn g02_node_ports() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = heliostat::core::model::Origin { ingress: [].into(), ..of_kind("b1", OriginType::NodePort) };
    books.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
    sim.list("east", &[("shop/books", books.clone())], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    let wants_nodes = sim
        .others
        .iter()
        .any(|o| matches!(o, heliostat::core::io::Output::Session { task: Some(task), .. } if task.nodes));
    assert!(wants_nodes, "nodes are watched where NodePort is used");
    let nodes = |n: usize| (0..n).map(|i| (format!("n{i}"), node(&format!("172.30.1.{}", i + 1)))).collect();
    sim.remote("east", RemoteEvent::NodesListed(Ok(nodes(2))));
    assert_eq!(sim.endpoints("shop/books-east")[0], "172.30.1.1:30080 http ready");
    assert_eq!(sim.endpoints("shop/books-east").len(), 4);
    books.local_traffic = true;
    sim.origin("shop/books", books.clone());
    assert_eq!(
        sim.endpoints("shop/books-east"),
        ["172.30.1.2:30080 http ready", "172.30.1.2:30090 grpc ready"],
        "only n1 has endpoints"
    );
    books.local_traffic = false;
    sim.origin("shop/books", books);
    sim.remote("east", RemoteEvent::NodesListed(Ok(nodes(40))));
    let before = sim.endpoints("shop/books-east");
    assert_eq!(before.len(), 32, "16 nodes, two ports");
    sim.remote("east", RemoteEvent::NodeGone("n3".into()));
    sim.remote("east", RemoteEvent::Node("n99".into(), node("172.30.1.99")));
    let after = sim.endpoints("shop/books-east");
    let moved = after.iter().filter(|e| !before.contains(e)).count() / 2;
    assert!(after.len() == 32 && moved <= 2, "{moved} moved");
}

/// An exporter that refuses connections fails its nodes first, before its link is lost.
#[test]
fn g02_nodes_that_cannot_be_read_any_more_take_no_address_away() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = heliostat::core::model::Origin { ingress: [].into(), ..of_kind("b1", OriginType::NodePort) };
    books.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
    let ready = ("shop/books-x", pods("books", &["10.1.0.1"], true));
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", books.clone())], std::slice::from_ref(&ready));
    list(&mut sim);
    sim.remote("east", RemoteEvent::NodesListed(Ok([("n1".to_owned(), node("172.30.1.1"))].into())));
    let there = sim.endpoints("shop/books-east");
    assert_eq!(there.len(), 2);
    sim.writes();
    let refused = || RemoteEvent::NodesListed(Err("connection refused".into()));
    sim.remote("east", refused());
    assert_eq!(sim.writes(), [], "what was known stays");
    assert_eq!(sim.failures("shop/all").len(), 1, "and it is told that they cannot be read");
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    sim.remote("east", refused());
    assert_eq!(sim.writes(), [], "and what an earlier process knew");
    assert_eq!(sim.endpoints("shop/books-east"), there);
    // One that never had an address has none, and says why.
    sim.origin("shop/pens", heliostat::core::model::Origin { uid: "p1".into(), ..books.clone() });
    assert_eq!(sim.endpoints("shop/pens-east"), Vec::<String>::new());
    sim.remote("east", RemoteEvent::NodesListed(Ok([("n2".to_owned(), node("172.30.1.2"))].into())));
    assert_eq!(sim.endpoints("shop/books-east")[0], "172.30.1.2:30080 http ready");
    assert_eq!(sim.failures("shop/all").len(), 0);
}

#[test]
fn g03_gateways_come_change_and_go_without_a_moment_without_address() {
    let mut sim = Sim::with_books();
    sim.writes();
    let gateway = |address: &str| published("books", "public", &[address], &[("http", 20001), ("grpc", 20002)]);
    sim.slice("shop/gw", gateway("203.0.113.9"));
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Gateway/public");
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:20001 http ready", "203.0.113.9:20002 grpc ready"]);
    let ops = sim.writes();
    let made = ops.iter().position(|op| matches!(op, WriteOp::CreateSlice(..))).unwrap();
    let gone = ops.iter().position(|op| matches!(op, WriteOp::DeleteSlice(..))).unwrap();
    assert!(made < gone, "new slices are written before old ones go");
    sim.slice("shop/gw", gateway("203.0.113.10"));
    assert_eq!(sim.endpoints("shop/books-east")[0], "203.0.113.10:20001 http ready");
    sim.remote("east", RemoteEvent::SliceGone(key("shop/gw")));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"]);
    let mut newer = gateway("203.0.113.9");
    if let SliceRole::Published(what) = &mut newer.role {
        what.contract = "v2".into();
    }
    sim.writes();
    sim.slice("shop/gw", newer);
    assert_eq!(sim.writes(), [], "an unknown contract is no way");
}

#[test]
fn host_routing_needs_the_mirrors_name() {
    let mut sim = Sim::with_books();
    let gateway = |names: &[&str]| {
        let mut slice = published("books", "public", &["203.0.113.9"], &[("http", 80)]);
        if let SliceRole::Published(what) = &mut slice.role {
            what.routing = "Host".into();
            what.hostnames = names.iter().map(|n| (*n).into()).collect();
        }
        slice
    };
    sim.slice("shop/gw", gateway(&["books-elsewhere"]));
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Service");
    sim.slice("shop/gw", gateway(&["books-east", "books-east.shop.svc.cluster.local"]));
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Gateway/public");
}

#[test]
fn import_bindings_describe_a_gateway_by_hand() {
    let mut sim = Sim::with_books();
    let ports = json!([{"service": "shop/books", "port": "http", "gatewayPort": 20001}, {"service": "shop/books", "port": "9090", "gatewayPort": 20002}]);
    sim.set_binding(binding("by-hand", json!({"routing": "Port", "import": {"linkRef": {"name": "east"}, "addresses": [{"value": "203.0.113.10"}], "ports": ports}})));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.10:20001 http ready", "203.0.113.10:20002 grpc ready"]);
    let ready = |sim: &Sim, name: &str| {
        let status = sim.bindings[name].status.clone().unwrap();
        status.conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| (c.status, c.reason))
    };
    assert_eq!(ready(&sim, "by-hand"), says("True", "Ready"));
    let export = json!({"routing": "Port", "export": {"services": {"namespaces": ["*"]}, "provider": {"envoy": {}}}});
    sim.set_binding(binding("exporting", export));
    assert_eq!(ready(&sim, "exporting"), says("False", "UnsupportedValue"));
}

#[test]
fn a08_denied_addresses_leave_the_mirror_without_a_route() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = ["10.96.0.1", "127.0.0.1", "169.254.169.254"].map(|ip| Ingress::Ip(ip.into())).into();
    sim.list("east", &[("shop/books", books)], &[]);
    assert_eq!((sim.endpoints("shop/books-east"), sim.counts("shop/all")), (vec![], (1, 1, 0, 0)));
    assert_eq!(sim.mirror("shop/books-east").mirrored().unwrap().reason, "NoRoute");
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NoRoute".to_owned())]);
}

/// What is this cluster's own changes with its nodes and Service ranges, and mirrors with it.
#[test]
fn a08_ranges_that_become_this_clusters_own_are_refused_from_then_on() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = ["172.30.9.1", "10.77.0.9", "10.88.0.9"].map(|ip| Ingress::Ip(ip.into())).into();
    sim.list("east", &[("shop/books", books)], &[]);
    let addresses = |sim: &Sim| {
        let all = sim.endpoints("shop/books-east").into_iter();
        all.map(|e| e.split(':').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let known = |all: &[&str]| all.iter().map(|a| (*a).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(addresses(&sim), known(&["172.30.9.1", "10.77.0.9", "10.88.0.9"]));
    let node =
        LocalNode { addresses: vec!["172.30.9.1".parse().unwrap()], pod_cidrs: vec!["10.77.0.0/24".parse().unwrap()] };
    sim.give(Input::Local(Local::Node(Change::Set("n1".to_owned(), node))));
    sim.settle();
    assert_eq!(addresses(&sim), known(&["10.88.0.9"]), "a node that joins, and its pods");
    let range = vec!["10.88.0.0/16".parse().unwrap()];
    sim.give(Input::Local(Local::ServiceCidr(Change::Set("more".to_owned(), range))));
    sim.settle();
    assert_eq!(addresses(&sim), known(&[]), "another Service range");
    sim.give(Input::Local(Local::Node(Change::Gone("n1".to_owned()))));
    sim.settle();
    assert_eq!(addresses(&sim), known(&["172.30.9.1", "10.77.0.9"]), "a node that has left");
}

#[test]
fn no_route_names_the_ways_and_a_binding_only_where_one_could_help() {
    for (via, says, helps) in [("Service", "among Service", false), ("Gateway", "among Gateway", true)] {
        let mut sim = Sim::fixture();
        sim.set_policy(policy("shop/all", json!({"via": [via]})));
        sim.connect("east");
        let books = heliostat::core::model::Origin { ingress: [].into(), ..origin("b1") };
        sim.list("east", &[("shop/books", books)], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        let told = sim.mirror("shop/books-east").mirrored().unwrap();
        assert_eq!(told.reason, "NoRoute");
        assert!(told.message.contains("no way to shop/books") && told.message.contains(says), "{}", told.message);
        assert_eq!(told.message.contains("no binding carries it"), helps, "{}", told.message);
    }
}
