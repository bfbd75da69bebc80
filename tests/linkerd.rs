//! Routing Linkerd: a mirror's slices carry what Linkerd's destination controller reads of them (two
//! annotations, beside addresses, readiness and ports by name), and nothing else of Linkerd's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use heliostat::core::{
    io::{Change, Input, Local, Output, WriteOp},
    model::{LinkerdKeys, Map, Origin, OriginPort, OriginType, Protocol, RemoteSlice, SliceRole},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

const IDENTITY: &str = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";

fn keys(identity: &str, service: &str) -> Option<Box<LinkerdKeys>> {
    Some(Box::new(LinkerdKeys { identity: Some(identity.into()), service: Some(service.into()) }))
}

/// What is published of shop/books, with changes to it.
fn gateway(change: impl FnOnce(&mut heliostat::core::model::Published)) -> RemoteSlice {
    let mut slice = published("books", "mesh", &["203.0.113.9"], &[("http", 4143), ("grpc", 4143)]);
    let SliceRole::Published(what) = &mut slice.role else { panic!("not published") };
    (what.routing, what.port_lease, what.identity) = ("Linkerd".into(), None, Some(IDENTITY.into()));
    change(what);
    slice
}

fn udp(name: &str, number: u16) -> OriginPort {
    OriginPort { protocol: Protocol::Udp, ..port(name, number) }
}

fn import(addresses: &Value) -> Value {
    let import = json!({"linkRef": {"name": "east"}, "addresses": addresses, "port": 4143, "identity": IDENTITY});
    json!({"routing": "Linkerd", "import": import})
}

/// What the slices carry of Linkerd's, one entry a slice.
fn carried(sim: &Sim) -> Vec<Option<Box<LinkerdKeys>>> {
    sim.slices.values().map(|slice| slice.body.linkerd.clone()).collect()
}

fn via(sim: &Sim) -> &str {
    sim.mirror("shop/books-east").annotations.others().get("heliostat.dev/via").unwrap()
}

fn failures(sim: &Sim) -> Vec<(String, String)> {
    let status = sim.policies[&key("shop/all")].status.clone().unwrap();
    status.failures.into_iter().map(|f| (format!("{} {}", f.name, f.reason), f.message)).collect()
}

#[test]
fn slices_carry_what_linkerd_reads_as_long_as_it_is_the_way() {
    let mut sim = Sim::with_books();
    let by_service = sim.mirror("shop/books-east").clone();
    assert_eq!(carried(&sim), [None]);
    sim.slice("shop/books-gw", gateway(|_| {}));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:4143 grpc ready", "203.0.113.9:4143 http ready"]);
    let service = "books.shop.svc.cluster.local";
    assert_eq!(carried(&sim), [keys(IDENTITY, service)]);
    let mut as_before = sim.mirror("shop/books-east").clone();
    assert_eq!(as_before.annotations.insert("heliostat.dev/via".into(), "Service".into()).unwrap(), "Gateway/mesh");
    assert_eq!(as_before, by_service, "no key of Linkerd's on the Service");

    sim.writes();
    let other = IDENTITY.replace("gateway", "other");
    sim.slice("shop/books-gw", gateway(|what| what.identity = Some(other.as_str().into())));
    assert!(matches!(sim.writes().as_slice(), [WriteOp::PatchSlice(..)]));
    assert_eq!(carried(&sim), [keys(&other, service)]);

    sim.slice("shop/books-gw", published("books", "mesh", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]));
    assert!(matches!(sim.writes().as_slice(), [WriteOp::PatchSlice(..)]), "the same slice by another routing");
    assert_eq!((carried(&sim), via(&sim)), (vec![None], "Gateway/mesh"));
    assert_eq!(failures(&sim), []);
}

#[test]
fn m09_edits_of_linkerds_keys_are_repaired() {
    let mut sim = Sim::with_books();
    sim.slice("shop/books-gw", gateway(|_| {}));
    let right = carried(&sim);
    let partial = LinkerdKeys { identity: Some(IDENTITY.into()), service: None };
    for edit in [None, Some(Box::new(partial)), keys("evil.example", "books.shop.svc.cluster.local"), keys("", "")] {
        let (name, mut slice) = sim.slices.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
        slice.body.linkerd = edit.clone();
        sim.slices.insert(name.clone(), slice.clone());
        sim.give(Input::Local(Local::Slice(Change::Set(name, slice))));
        assert_eq!(carried(&sim), right, "{edit:?}");
    }
    sim.writes();
    sim.restart();
    sim.connect("east");
    let pods = ("shop/books-x", pods("books", &["10.1.0.1"], true));
    sim.list("east", &[("shop/books", origin("b1"))], &[pods, ("shop/books-gw", gateway(|_| {}))]);
    assert_eq!(sim.writes(), []);
    // Where another way feeds the mirror, they are somebody's and go.
    sim.remote("east", heliostat::core::io::RemoteEvent::SliceGone(key("shop/books-gw")));
    let (name, mut slice) = sim.slices.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    slice.body.linkerd = keys("evil.example", "vault.secret.svc.cluster.local");
    sim.slices.insert(name.clone(), slice.clone());
    sim.give(Input::Local(Local::Slice(Change::Set(name, slice))));
    assert_eq!((carried(&sim), via(&sim)), (vec![None], "Service"));
}

#[test]
fn a10_nothing_of_linkerds_is_taken_from_the_origin() {
    let mut sim = Sim::fixture();
    let allow = json!(["mirror.linkerd.io/*", "multicluster.linkerd.io/remote-discovery"]);
    sim.set_policy(policy("shop/all", json!({"mirror": {"labels": allow, "annotations": allow}})));
    sim.connect("east");
    let theirs = map(&[
        ("mirror.linkerd.io/remote-gateway-identity", "evil.example"),
        ("mirror.linkerd.io/remote-svc-fq-name", "vault.secret.svc.cluster.local"),
        ("mirror.linkerd.io/mirrored-service", "true"),
        ("multicluster.linkerd.io/remote-discovery", "evil"),
    ]);
    let mut books = origin("b1");
    books.labels.extend(theirs.clone());
    books.annotations.extend(theirs);
    sim.list("east", &[("shop/books", books)], &[("shop/books-gw", gateway(|_| {}))]);
    let mirror = sim.mirror("shop/books-east");
    assert!(
        mirror.labels.keys().chain(Map::from(&mirror.annotations).keys()).all(|key| !key.contains("linkerd")),
        "{mirror:?}"
    );
    assert_eq!(carried(&sim), [keys(IDENTITY, "books.shop.svc.cluster.local")]);
}

#[test]
fn the_name_in_the_exporter_may_be_published() {
    let mut sim = Sim::with_books();
    for (hostnames, service) in [
        (vec!["books.shop.svc.east.example"], "books.shop.svc.east.example"),
        (vec!["books-east.shop.svc.cluster.local", "books.shop.svc.k8s"], "books.shop.svc.k8s"),
        // Of another Service, or no name: not believed.
        (
            vec!["vault.secret.svc.east.example", "books.shop.svc.a b", "books.shop.svc."],
            "books.shop.svc.cluster.local",
        ),
    ] {
        let hostnames = hostnames.into_iter().map(Into::into).collect();
        sim.slice("shop/books-gw", gateway(|what| what.hostnames = hostnames));
        assert_eq!(carried(&sim), [keys(IDENTITY, service)]);
    }
}

#[test]
fn without_a_usable_identity_it_is_no_way() {
    let mut sim = Sim::with_books();
    for identity in [None, Some(""), Some("Gateway"), Some("a b"), Some("203.0.113.9"), Some("x\ny")] {
        sim.slice("shop/books-gw", gateway(|what| what.identity = identity.map(Into::into)));
        assert_eq!((via(&sim), carried(&sim), failures(&sim)), ("Service", vec![None], vec![]), "{identity:?}");
        let unavailable = sim.engine.decision(&key("shop/books-east")).unavailable;
        let [why] = unavailable.as_slice() else { panic!("{unavailable:?}") };
        assert_eq!(why.reason.as_str(), "UnsupportedValue");
        assert!(why.message.contains("heliostat.dev/gateway-identity") && !why.message.contains('\n'), "{why:?}");
    }
}

#[test]
fn m21_linkerd_carries_tcp_only() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ports.edit(|ports| ports.push(udp("dns", 53)));
    let mut slice = gateway(|_| {});
    slice.ports.edit(|ports| {
        ports.push(heliostat::core::model::SlicePort { protocol: Protocol::Udp, ..slice_port("dns", 4143) })
    });
    let mut names = origin("n1");
    (names.kind, names.ports) = (OriginType::ClusterIp, vec![udp("dns", 53)].into());
    names.ingress = [].into();
    let mut of_names = slice.clone();
    let SliceRole::Published(what) = &mut of_names.role else { panic!("not published") };
    what.service = "names".into();
    sim.list(
        "east",
        &[("shop/books", books), ("shop/names", names)],
        &[("shop/books-gw", slice), ("shop/names-gw", of_names)],
    );
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:4143 grpc ready", "203.0.113.9:4143 http ready"]);
    assert_eq!(sim.mirror("shop/books-east").ports.len(), 3, "the Service has all wanted ports");
    assert_eq!(sim.endpoints("shop/names-east"), Vec::<String>::new());
    let reasons: Vec<String> = failures(&sim).into_iter().map(|(what, _)| what).collect();
    assert_eq!(reasons, ["books PortUnsupported", "books UnsupportedValue", "names NoRoute"]);
    assert!(failures(&sim)[2].1.contains("TCP only"), "{:?}", failures(&sim));
    assert_eq!(sim.policy_condition("shop/all", "Ready"), Some(("True".into(), "Ready".into())));
}

#[test]
fn a_linkerd_gateway_may_be_described_by_hand() {
    let mut sim = Sim::fixture();
    sim.set_binding(binding("mesh", import(&json!([{"value": "203.0.113.9"}]))));
    sim.connect("east");
    let mut books = Origin { ingress: [].into(), ..of_kind("b1", OriginType::ClusterIp) };
    books.ports.edit(|ports| ports.push(udp("dns", 53)));
    let list = |sim: &mut Sim, ready| {
        sim.list("east", &[("shop/books", books.clone())], &[("shop/books-x", pods("books", &["10.1.0.1"], ready))]);
    };
    list(&mut sim, true);
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:4143 grpc ready", "203.0.113.9:4143 http ready"]);
    assert_eq!(carried(&sim), [keys(IDENTITY, "books.shop.svc.cluster.local")]);
    let reasons: Vec<String> = failures(&sim).into_iter().map(|(what, _)| what).collect();
    assert_eq!(reasons, ["books PortUnsupported", "books UnsupportedValue"]);
    let status = sim.bindings["mesh"].status.clone().unwrap();
    let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Ready"));
    list(&mut sim, false);
    assert_eq!(sim.endpoints("shop/books-east")[0], "203.0.113.9:4143 grpc not ready", "as the origin is");
    assert_eq!(carried(&sim), [keys(IDENTITY, "books.shop.svc.cluster.local")]);
}

#[test]
fn each_link_has_a_warning_of_its_own_and_another_trouble_of_it_hides_none() {
    let mut sim = Sim::fixture();
    sim.set_link(link("north", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["east", "north"]}})));
    let atlas = Origin { ingress: [].into(), ..of_kind("a1", OriginType::ClusterIp) };
    for name in ["east", "north"] {
        sim.connect(name);
        // The trouble comes first.
        sim.list(
            name,
            &[("shop/atlas", atlas.clone()), ("shop/books", origin("b1"))],
            &[("shop/books-gw", gateway(|_| {}))],
        );
    }
    let status = sim.policies[&key("shop/all")].status.clone().unwrap();
    let told: Vec<_> = status.failures.iter().map(|f| format!("{} {} {}", f.link, f.name, f.reason)).collect();
    assert_eq!(
        told,
        ["east atlas NoRoute", "east books UnsupportedValue", "north atlas NoRoute", "north books UnsupportedValue"]
    );
}

#[test]
fn unmeshed_clients_are_warned_about_once_for_each_gateway() {
    let mut sim = Sim::fixture();
    sim.set_binding(binding("mesh", import(&json!([{"value": "gw.east.example"}]))));
    sim.connect("east");
    let names: Vec<String> = (0..40).map(|i| format!("shop/s{i:02}")).collect();
    let mut origins: Vec<(&str, Origin)> = names.iter().map(|name| (name.as_str(), origin(name))).collect();
    // A real trouble, at the end.
    origins[39].1.ports.edit(|ports| ports.push(udp("dns", 53)));
    sim.list("east", &origins, &[]);
    sim.give(Input::Resolved {
        host: "gw.east.example".into(),
        answer: Ok(vec!["203.0.113.9".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    let told = failures(&sim);
    let reasons: Vec<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(reasons, ["s00 UnsupportedValue", "s39 PortUnsupported"]);
    assert!(told[0].1.contains("meshed") && told[0].1.contains("Gateway/mesh"), "{told:?}");
    assert_eq!(sim.counts("shop/all"), (40, 40, 0, 0));
    assert_eq!(sim.policy_condition("shop/all", "Ready"), Some(("True".into(), "Ready".into())));
    let warnings = |sim: &Sim| {
        let warned = |output: &&Output| matches!(output, Output::Event(event) if event.warning);
        sim.others.iter().filter(warned).count()
    };
    assert_eq!(warnings(&sim), 1, "of the port; what is as it was asked for is no news");

    sim.log.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &origins, &[]);
    sim.pass(SignedDuration::from_secs(30));
    assert_eq!(sim.log, [], "nor does a restart change the warning, before the name has been asked");
    sim.give(Input::Resolved {
        host: "gw.east.example".into(),
        answer: Ok(vec!["203.0.113.9".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    assert_eq!((sim.log.as_slice(), warnings(&sim)), ([].as_slice(), 1), "and after");
}
