//! The behaviour catalogue, decided in memory: each test is named by the id of its row. The same
//! rows run against real clusters in `e2e/`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use heliostat::core::{
    io::{Change, Input, Local, Output, OwnKind, RemoteEvent, WriteOp},
    model::{Family, Ingress, LocalNamespace, Map, OriginType, Protocol, SliceRole},
};
use jiff::SignedDuration;
use serde_json::json;

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

#[test]
fn m01_an_exported_origin_gets_its_mirror() {
    let mut sim = Sim::with_books();
    assert_eq!(sim.names(), ["shop/books-east"]);
    let mirror = sim.mirror("shop/books-east");
    assert_eq!(
        mirror.labels,
        map(&[
            ("app.kubernetes.io/managed-by", "heliostat"),
            ("heliostat.dev/link", "east"),
            ("heliostat.dev/policy", "all"),
            ("heliostat.dev/policy-namespace", "shop"),
        ])
    );
    assert_eq!(
        mirror.annotations,
        map(&[
            ("heliostat.dev/link-uid", "uid-east"),
            ("heliostat.dev/origin", "shop/books"),
            ("heliostat.dev/origin-uid", "b1"),
            ("heliostat.dev/via", "Service"),
        ])
    );
    assert_eq!(*mirror.link_owners, [("east".into(), "uid-east".into())]);
    assert_eq!(mirror.mirrored(), None);
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"]);
    assert_eq!(sim.writes().len(), 2, "one Service and one slice");
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"));
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"));
    assert_eq!(sim.counts("shop/all"), (1, 1, 0, 0));
}

#[test]
fn m02_a_missing_namespace_is_awaited() {
    let mut sim = Sim::new();
    sim.set_link(link("east", json!({})));
    sim.set_policy(policy("heliostat-system/all", json!({})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.names(), Vec::<String>::new());
    assert_eq!(sim.failures("heliostat-system/all"), [("shop/books".to_owned(), "NamespaceMissing".to_owned())]);
    assert_eq!(sim.counts("heliostat-system/all"), (1, 0, 1, 0));
    sim.namespace("shop");
    sim.settle();
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.failures("heliostat-system/all"), []);
}

#[test]
fn m03_m04_a_mirror_goes_with_its_origin_and_comes_back() {
    let mut sim = Sim::with_books();
    sim.origin("shop/pens", origin("p1"));
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "another uid".into()));
    assert_eq!(sim.names().len(), 2, "a DELETE of another uid deletes nothing");
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
    assert_eq!(sim.names(), ["shop/pens-east"]);
    sim.origin("shop/books", origin("b2"));
    assert_eq!(sim.names(), ["shop/books-east", "shop/pens-east"]);
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/origin-uid").unwrap(), "b2");
}

#[test]
fn m05_ports_follow() {
    let mut sim = Sim::with_books();
    sim.writes();
    let mut changed = origin("b1");
    changed.ports = vec![port("web", 80), port("admin", 8081)].into();
    changed.ports.edit(|ports| ports[1].protocol = Protocol::Udp);
    sim.origin("shop/books", changed);
    let ports: Vec<String> =
        sim.mirror("shop/books-east").ports.iter().map(|p| format!("{}/{:?}", p.port.name, p.port.protocol)).collect();
    assert_eq!(ports, ["web/Tcp", "admin/Udp"]);
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 web ready", "203.0.113.5:8081 admin ready"]);
    assert!(sim.writes().iter().all(|op| matches!(op, WriteOp::PatchService(..) | WriteOp::PatchSlice(..))));
}

#[test]
fn m06_not_ready_endpoints_keep_their_addresses() {
    let mut sim = Sim::with_books();
    sim.slice("shop/books-x", pods("books", &["10.1.0.1"], false));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http not ready", "203.0.113.5:9090 grpc not ready"]);
    sim.slice("shop/books-x", pods("books", &["10.1.0.1"], true));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"]);
}

#[test]
fn m07_allowed_labels_follow_and_others_never_appear() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"mirror": {"labels": ["team", "tier/*"], "annotations": ["note"]}})));
    sim.connect("east");
    let mut books = origin("b1");
    books.labels.extend(map(&[
        ("team", "a"),
        ("tier/x", "1"),
        ("secret", "s"),
        ("app.kubernetes.io/instance", "argo"),
    ]));
    books.annotations = map(&[("note", "n"), ("other", "o")]);
    sim.list("east", &[("shop/books", books.clone())], &[]);
    let keys = |sim: &Sim| sim.mirror("shop/books-east").labels.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert!(keys(&sim).contains(&"team".to_owned()) && keys(&sim).contains(&"tier/x".to_owned()));
    assert!(
        !keys(&sim).contains(&"secret".to_owned()) && !keys(&sim).contains(&"app.kubernetes.io/instance".to_owned())
    );
    assert_eq!(sim.mirror("shop/books-east").annotations.get("note").unwrap(), "n");
    sim.edit_service("shop/books-east", |state| {
        state.labels.insert("theirs".into(), "stays".into());
    });
    books.labels.insert("team".into(), "b".into());
    books.labels.remove("tier/x");
    sim.origin("shop/books", books);
    assert_eq!(sim.mirror("shop/books-east").labels.get("team").unwrap(), "b");
    assert!(!keys(&sim).contains(&"tier/x".to_owned()));
    sim.set_policy(policy("shop/all", json!({})));
    assert!(!keys(&sim).contains(&"team".to_owned()), "a key that is not allowed any more goes");
    assert_eq!(sim.mirror("shop/books-east").labels.get("theirs").unwrap(), "stays");
    assert!(!sim.mirror("shop/books-east").annotations.contains_key("heliostat.dev/copied-labels"));
}

#[test]
fn m08_types_change() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Service", "Direct"]})));
    sim.connect("east");
    let headless =
        |uid: &str| heliostat::core::model::Origin { kind: OriginType::Headless, ingress: vec![], ..origin(uid) };
    sim.list("east", &[("shop/books", headless("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert!(sim.mirror("shop/books-east").headless);
    assert_eq!(sim.endpoints("shop/books-east"), ["10.1.0.1:8080 http ready", "10.1.0.1:9090 grpc ready"]);
    sim.origin("shop/books", origin("b1"));
    assert!(!sim.mirror("shop/books-east").headless, "made anew, as clusterIP cannot change");
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"]);
    sim.origin("shop/books", heliostat::core::model::Origin { kind: OriginType::ExternalName, ..origin("b1") });
    assert_eq!(sim.names(), Vec::<String>::new());
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "InvalidServiceType".to_owned())]);
}

#[test]
fn m09_edits_are_repaired_and_additions_stay() {
    let mut sim = Sim::with_books();
    sim.edit_service("shop/books-east", |state| {
        state.labels.insert("heliostat.dev/link".into(), "west".into());
        state.labels.insert("theirs".into(), "stays".into());
        state.ports.edit(|ports| ports.pop());
        state.odd.edit(|odd| odd.foreign_fields.push("externalIPs".into()));
        state.service_type = "LoadBalancer".into();
    });
    let mirror = sim.mirror("shop/books-east");
    assert_eq!(mirror.labels.get("heliostat.dev/link").unwrap(), "east");
    assert_eq!(mirror.labels.get("theirs").unwrap(), "stays");
    assert_eq!((mirror.ports.len(), mirror.service_type.as_str(), mirror.foreign_fields().len()), (2, "ClusterIP", 0));
    sim.delete_service("shop/books-east");
    assert_eq!(sim.names(), ["shop/books-east"]);
    let (name, mut slice) = sim.slices.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    slice.body.endpoints.clear();
    slice.resource_version = "900".into();
    sim.slices.insert(name.clone(), slice.clone());
    sim.give(Input::Local(Local::Slice(Change::Set(name.clone(), slice.clone()))));
    assert_eq!(sim.endpoints("shop/books-east").len(), 2, "repaired");
    let added = heliostat::core::model::Key::new("shop", "added");
    let forged = heliostat::core::model::LocalSlice { uid: "forged".into(), ..slice };
    sim.slices.insert(added.clone(), forged.clone());
    sim.give(Input::Local(Local::Slice(Change::Set(added.clone(), forged))));
    assert!(!sim.slices.contains_key(&added), "a slice added under our marks goes");
    assert_eq!(sim.slices.len(), 1);
}

#[test]
fn m23_what_somebody_took_over_is_theirs() {
    for lost in ["marker", "uid", "selector"] {
        let mut sim = Sim::with_books();
        sim.edit_service("shop/books-east", |state| match lost {
            "marker" => {
                state.labels.remove("app.kubernetes.io/managed-by");
            }
            "uid" => {
                state.annotations.remove("heliostat.dev/link-uid");
            }
            _ => state.has_selector = true,
        });
        let theirs = sim.services[&key("shop/books-east")].clone();
        let state = theirs.ours.as_ref().unwrap();
        assert!(
            state.labels.keys().chain(Map::from(&state.annotations).keys()).all(|k| !k.starts_with("heliostat.dev/")),
            "{lost}"
        );
        assert_eq!((state.link_owners.len(), sim.slices.len()), (0, 0), "{lost}");
        assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NameConflict".to_owned())], "{lost}");
        sim.writes();
        sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
        sim.origin("shop/books", origin("b2"));
        assert_eq!(sim.writes(), [], "{lost}: never written again");
        assert_eq!(sim.services[&key("shop/books-east")], theirs);
    }
}

#[test]
fn m10_a_service_that_is_not_ours_is_never_touched() {
    let mut sim = Sim::fixture();
    sim.foreign_service("shop/books-east");
    let theirs = sim.services.clone();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NameConflict".to_owned())]);
    assert_eq!(sim.counts("shop/all"), (1, 0, 0, 1));
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"), "a conflict blocks no rollout");
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
    assert_eq!((sim.writes(), &sim.services), (vec![], &theirs));
    sim.origin("shop/books", origin("b2"));
    sim.delete_service("shop/books-east");
    assert!(sim.services[&key("shop/books-east")].ours.is_some(), "taken when it becomes free");
}

#[test]
fn m11_two_links_two_mirrors() {
    let mut sim = Sim::with_books();
    sim.set_link(link("north", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["east", "north"]}})));
    sim.connect("north");
    sim.list("north", &[("shop/books", origin("n1"))], &[]);
    assert_eq!(sim.names(), ["shop/books-east", "shop/books-north"]);
}

#[test]
fn m12_the_incumbent_keeps_a_contested_name_also_over_restarts() {
    for first in ["b-c", "c"] {
        let mut sim = Sim::new();
        sim.namespace("shop");
        sim.set_link(link("b-c", json!({})));
        sim.set_link(link("c", json!({})));
        sim.set_policy(policy("shop/all", json!({"links": {"names": ["b-c", "c"]}})));
        let lists = |sim: &mut Sim, name: &str| {
            let service = if name == "c" { "shop/a-b" } else { "shop/a" };
            sim.connect(name);
            sim.list(name, &[(service, origin(&format!("uid-of-{name}")))], &[]);
        };
        let second = if first == "c" { "b-c" } else { "c" };
        lists(&mut sim, first);
        lists(&mut sim, second);
        assert_eq!(sim.names(), ["shop/a-b-c"]);
        assert_eq!(sim.mirror("shop/a-b-c").labels.get("heliostat.dev/link").unwrap(), first);
        assert_eq!(sim.counts("shop/all"), (2, 1, 0, 1));
        sim.writes();
        sim.restart();
        lists(&mut sim, second);
        lists(&mut sim, first);
        assert_eq!(sim.writes(), [], "stable over restarts");
    }
}

#[test]
fn m14_the_spec_alone_decides_what_exists() {
    let mut sim = Sim::with_books();
    sim.set_policy(policy("shop/all", json!({"services": {"ports": ["9090"]}})));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:9090 grpc ready"]);
    assert_eq!(sim.mirror("shop/books-east").ports.len(), 1);
    sim.set_policy(policy("shop/all", json!({"mirror": {"name": "{link}-{service}"}})));
    assert_eq!(sim.names(), ["shop/east-books"]);
    sim.set_policy(policy("shop/all", json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}})));
    assert_eq!(sim.names(), Vec::<String>::new());
    assert_eq!(sim.counts("shop/all"), (0, 0, 0, 0));
}

#[test]
fn m15_deleting_the_policy_removes_mirrors_even_when_the_remote_is_down() {
    let mut sim = Sim::with_books();
    sim.lose("east");
    assert_eq!(sim.names().len(), 1);
    sim.delete_policy("shop/all");
    assert_eq!(sim.names(), Vec::<String>::new());
    let mut sim = Sim::with_books();
    sim.restart();
    sim.lose("east");
    assert_eq!(sim.names().len(), 1, "not seen since the restart is no reason to delete");
    sim.delete_policy("shop/all");
    assert_eq!(sim.names(), Vec::<String>::new());
}

#[test]
fn m16_links_that_may_not_be_used() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    sim.set_link(link("east", json!({"allowedNamespaces": {"from": "Same"}})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    let message = |sim: &Sim| {
        let status = sim.policies[&key("shop/all")].status.clone().unwrap();
        let refs = status.conditions.into_iter().find(|c| c.type_ == "ResolvedRefs").unwrap();
        (refs.reason.clone(), refs.message.replace("nowhere", "east"))
    };
    sim.set_policy(policy("shop/all", json!({})));
    let not_admitted = message(&sim);
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["nowhere"]}})));
    assert_eq!(message(&sim), not_admitted, "a tenant is not told whether the link exists");
    assert_eq!(not_admitted.0, "RefNotPermitted");
    sim.set_link(link("east", json!({})));
    sim.set_policy(policy("shop/all", json!({"services": {"namespaces": ["vault"]}})));
    assert_eq!(sim.policy_condition("shop/all", "ResolvedRefs"), says("False", "NamespaceNotAllowed"));
    assert_eq!(sim.writes(), []);
}

#[test]
fn m17_a06_mirrors_and_the_api_are_not_mirrored() {
    let mut sim = Sim::new();
    ["shop", "default", "kube-system"].iter().for_each(|ns| sim.namespace(ns));
    sim.set_link(link("east", json!({"services": {"matchAll": true, "selector": null}})));
    sim.set_policy(policy(
        "heliostat-system/all",
        json!({"services": {"namespaces": ["default", "kube-system", "heliostat-system", "shop"]}}),
    ));
    sim.connect("east");
    let mut mirror = origin("m");
    mirror.labels.insert("app.kubernetes.io/managed-by".into(), "heliostat".into());
    sim.list(
        "east",
        &[
            ("default/kubernetes", origin("k")),
            ("kube-system/kube-dns", origin("d")),
            ("heliostat-system/metrics", origin("h")),
            ("shop/books-west", mirror),
        ],
        &[],
    );
    assert_eq!((sim.writes(), sim.counts("heliostat-system/all")), (vec![], (4, 0, 4, 0)));
}

#[test]
fn m18_one_cluster_twice_and_a_cluster_to_itself() {
    let mut sim = Sim::with_books();
    sim.set_link(link("again", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["east", "again"]}})));
    sim.remote("again", connected("east-uid"));
    sim.remote("again", listed("east-uid", &[("shop/books", origin("b1"))], &[]));
    assert_eq!(sim.names(), ["shop/books-again", "shop/books-east"]);
    let accepted = |sim: &Sim, name: &str| {
        let status = sim.links[name].status.clone().unwrap();
        status.conditions.into_iter().find(|c| c.type_ == "Accepted").unwrap().message
    };
    assert!(accepted(&sim, "again").contains("link east leads to the same cluster"));
    sim.set_link(link("self", json!({})));
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["self"]}})));
    sim.remote("self", connected("west-uid"));
    sim.remote("self", listed("west-uid", &[("shop/books", origin("b1"))], &[]));
    assert_eq!(sim.link_condition("self", "Accepted"), says("False", "SelfLink"));
    assert_eq!(sim.link_condition("self", "Stalled"), says("True", "SelfLink"));
    assert!(!sim.names().contains(&"shop/books-self".to_owned()));
}

#[test]
fn m19_families_that_the_mirror_has() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress.push(Ingress::Ip("2001:db8::5".into()));
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
fn m20_one_changed_endpoint_of_250_writes_one_slice() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.connect("east");
    let addresses = |n: usize, from: usize| -> Vec<String> {
        (from..from + n).map(|i| format!("10.1.{}.{}", i / 200, i % 200 + 1)).collect()
    };
    let slice = |n: usize, from: usize| {
        let all = addresses(n, from);
        pods("books", &all.iter().map(String::as_str).collect::<Vec<_>>(), true)
    };
    let origin = heliostat::core::model::Origin { kind: OriginType::ClusterIp, ..origin("b1") };
    sim.list(
        "east",
        &[("shop/books", origin)],
        &[("shop/x1", slice(100, 0)), ("shop/x2", slice(100, 100)), ("shop/x3", slice(50, 200))],
    );
    assert_eq!(sim.slices.len(), 3);
    sim.writes();
    let mut changed = slice(100, 100);
    changed.endpoints[7].readiness.ready = false;
    sim.slice("shop/x2", changed);
    assert_eq!(sim.writes().len(), 1);
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
}

#[test]
fn m22_headless_by_direct_and_by_another_way() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.connect("east");
    let db = heliostat::core::model::Origin { kind: OriginType::Headless, ingress: vec![], ..origin("d1") };
    let mut slice = pods("db", &["10.1.0.1", "10.1.0.2"], true);
    slice.endpoints[0].hostname = Some("db-0".into());
    slice.endpoints[1].hostname = Some("Not_A_Label".into());
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
fn m24_preview_and_suspend_write_nothing() {
    for (field, reason) in [("preview", "Preview"), ("suspend", "Suspended")] {
        let mut sim = Sim::with_books();
        sim.set_policy(policy("shop/all", json!({field: true, "services": {"ports": ["http"]}})));
        sim.writes();
        sim.origin("shop/pens", origin("p1"));
        sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
        assert_eq!((sim.writes(), sim.names()), (vec![], vec!["shop/books-east".to_owned()]), "{field}");
        assert_eq!(sim.policy_condition("shop/all", "Accepted"), says("True", reason));
        assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"), "as it was");
        if field == "preview" {
            let status = sim.policies[&key("shop/all")].status.clone().unwrap();
            let programmed = status.conditions.iter().find(|c| c.type_ == "Programmed").unwrap();
            assert_eq!(programmed.message, "would create 1, update 0, delete 1");
        }
        sim.set_policy(policy("shop/all", json!({})));
        assert_eq!(sim.names(), ["shop/pens-east"], "{field} off: converges");
    }
}

#[test]
fn g01_load_balancer_hostnames() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example.".into())];
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
    let mut books = heliostat::core::model::Origin { kind: OriginType::NodePort, ingress: vec![], ..origin("b1") };
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

#[test]
fn a13_a_tenants_own_marks_do_nothing() {
    let mut sim = Sim::with_books();
    let state = sim.mirror("shop/books-east").clone();
    let mut forged = state.clone();
    forged.annotations.clear();
    let service = heliostat::core::model::LocalService {
        uid: "t".into(),
        resource_version: "901".into(),
        terminating: false,
        ours: Some(Box::new(forged)),
    };
    sim.services.insert(key("shop/mine"), service.clone());
    sim.writes();
    sim.give(Input::Local(Local::Service(Change::Set(key("shop/mine"), service.clone()))));
    sim.settle();
    assert_eq!((sim.writes(), &sim.services[&key("shop/mine")]), (vec![], &service));
}

#[test]
fn l01_any_order_converges() {
    let mut sim = Sim::new();
    sim.set_policy(policy("shop/all", json!({})));
    sim.namespace("shop");
    assert_eq!(sim.policy_condition("shop/all", "ResolvedRefs"), says("False", "RefNotPermitted"));
    sim.set_link(link("east", json!({})));
    let why =
        RemoteEvent::Credentials { reason: heliostat::api::Reason::CredentialsNotFound, message: "no Secret".into() };
    sim.remote("east", why);
    assert_eq!(sim.link_condition("east", "CredentialsValid"), says("False", "CredentialsNotFound"));
    assert_eq!(sim.link_condition("east", "Stalled"), None, "a Secret that is not there yet stalls nothing");
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"));
}

#[test]
fn a_lost_link_deletes_nothing() {
    let mut sim = Sim::with_books();
    sim.writes();
    sim.lose("east");
    assert_eq!(sim.link_condition("east", "Connected"), says("False", "RemoteUnreachable"));
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"), "until onLoss.after");
    assert_eq!(sim.link_condition("east", "Stalled"), None);
    sim.pass(SignedDuration::from_mins(6));
    assert_eq!(sim.link_condition("east", "Ready"), says("False", "Stale"));
    assert_eq!(
        sim.policy_condition("shop/all", "Ready"),
        says("True", "Ready"),
        "loss leaves a policy's Ready as it was"
    );
    sim.connect("east");
    assert_eq!(
        sim.link_condition("east", "Connected"),
        says("False", "RemoteUnreachable"),
        "True again after a complete listing"
    );
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert_eq!(sim.link_condition("east", "Connected"), says("True", "Connected"));
    assert_eq!(sim.writes(), [], "nothing was written all the while");
}

/// Promise 6: neither at the start nor later, whatever the other one is.
#[test]
fn p06_a_link_that_was_never_reached_delays_no_other() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    for name in ["a-dead-one", "a-silent-one", "east"] {
        sim.set_link(link(name, json!({})));
    }
    sim.set_policy(policy("shop/all", json!({"links": {"names": ["a-dead-one", "a-silent-one", "east"]}})));
    sim.lose("a-dead-one");
    assert!(sim.engine.ready());
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"));
    assert_eq!(sim.link_condition("a-dead-one", "Connected"), says("False", "RemoteUnreachable"));
    sim.restart();
    sim.lose("a-dead-one");
    sim.connect("east");
    sim.list("east", &[("shop/pens", origin("p1"))], &[]);
    assert_eq!(sim.names(), ["shop/pens-east"]);
}

#[test]
fn l03_loss_actions_are_due_at_the_same_time_with_a_restart_in_between() {
    for action in ["NotReady", "Delete"] {
        let mut sim = Sim::fixture();
        sim.set_link(link("east", json!({"onLoss": {"action": action, "after": "10m"}})));
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        sim.lose("east");
        sim.pass(SignedDuration::from_mins(5));
        sim.restart();
        sim.lose("east");
        sim.pass(SignedDuration::from_secs(280));
        assert!(sim.endpoints("shop/books-east").iter().all(|e| !e.contains("not")), "{action}: not yet");
        let uid = sim.services[&key("shop/books-east")].uid.clone();
        sim.pass(SignedDuration::from_secs(20));
        match action {
            "Delete" => assert_eq!(sim.names(), Vec::<String>::new()),
            _ => {
                assert!(sim.endpoints("shop/books-east").iter().all(|e| e.contains("not ready")));
                assert_eq!(sim.mirror("shop/books-east").mirrored().unwrap().reason, "Stale");
            }
        }
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        assert!(sim.endpoints("shop/books-east").iter().all(|e| !e.contains("not")));
        assert_eq!(sim.services[&key("shop/books-east")].uid == uid, action == "NotReady", "{action}");
        assert_eq!(sim.mirror("shop/books-east").mirrored(), None);
    }
}

#[test]
fn l07_another_cluster_freezes_until_it_is_acknowledged() {
    let mut sim = Sim::with_books();
    let uid = sim.services[&key("shop/books-east")].uid.clone();
    sim.origin("shop/pens", origin("p1"));
    sim.writes();
    sim.session = 2;
    sim.lose("east");
    sim.remote("east", connected("other-uid"));
    sim.remote("east", listed("other-uid", &[("shop/books", origin("b9"))], &[]));
    assert_eq!((sim.writes(), sim.names().len()), (vec![], 2));
    assert_eq!(sim.link_condition("east", "Ready"), says("False", "RemoteIdentityChanged"));
    assert_eq!(sim.link_condition("east", "Stalled"), says("True", "RemoteIdentityChanged"));
    sim.set_link(link("east", json!({"clusterUID": "other-uid"})));
    sim.remote("east", listed("other-uid", &[("shop/books", origin("b9"))], &[]));
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.services[&key("shop/books-east")].uid, uid, "the same origin keeps its cluster IP");
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/origin-uid").unwrap(), "b9");
    assert_eq!(sim.link_condition("east", "Ready"), says("True", "Ready"));
}

/// Promise 4: when pods changed is told with the change, and alone is none.
#[test]
fn p04_the_time_of_a_change_alone_writes_nothing() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.connect("east");
    let books = heliostat::core::model::Origin { kind: OriginType::ClusterIp, ..origin("b1") };
    let at = |time: &str, addresses: &[&str]| heliostat::core::model::RemoteSlice {
        trigger_time: Some(time.into()),
        ..pods("books", addresses, true)
    };
    sim.list("east", &[("shop/books", books)], &[("shop/books-x", at("2026-06-01T12:00:00Z", &["10.1.0.1"]))]);
    sim.writes();
    sim.slice("shop/books-x", at("2026-06-01T12:00:07Z", &["10.1.0.1"]));
    assert_eq!(sim.writes(), []);
    sim.slice("shop/books-x", at("2026-06-01T12:00:09Z", &["10.1.0.1", "10.1.0.2"]));
    let [WriteOp::PatchSlice(_, _, slice)] = &sim.writes()[..] else { panic!("one write") };
    assert_eq!(slice.body.trigger_time.as_deref(), Some("2026-06-01T12:00:09Z"));
}

#[test]
fn a_restart_with_everything_in_place_writes_nothing_at_all() {
    let mut sim = Sim::with_books();
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    sim.pass(SignedDuration::from_mins(10));
    assert_eq!(sim.log, [], "not even a status");
}

#[test]
fn a_restart_leaves_mirrors_by_hostname_and_by_nodes_as_they_are() {
    let ready = ("shop/books-x", pods("books", &["10.1.0.1"], true));
    let resolved = |answer: Result<&str, &str>, expired| Input::Resolved {
        host: "lb.east.example".into(),
        answer: answer.map(|a| vec![a.parse().unwrap()]).map_err(Into::into),
        expired,
    };
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example".into())];
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", books.clone())], std::slice::from_ref(&ready));
    list(&mut sim);
    assert_eq!(sim.mirror("shop/books-east").mirrored(), None, "not unwell while the first answer is awaited");
    sim.give(resolved(Ok("203.0.113.1"), false));
    sim.settle();
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    assert_eq!(sim.log, [], "nothing before the first answer");
    sim.give(resolved(Err("no answer"), false));
    sim.settle();
    assert_eq!((sim.writes(), sim.failures("shop/all").len()), (vec![], 1), "the last good answer is what is there");
    sim.give(resolved(Ok("203.0.113.1"), false));
    sim.settle();
    assert_eq!((sim.writes(), sim.failures("shop/all").len()), (vec![], 0));
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    sim.give(resolved(Err("no answer"), true));
    sim.settle();
    assert_eq!(sim.endpoints("shop/books-east"), Vec::<String>::new(), "but not for ever");

    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = heliostat::core::model::Origin { kind: OriginType::NodePort, ingress: vec![], ..origin("b1") };
    books.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
    let nodes = || RemoteEvent::NodesListed(Ok([("n1".to_owned(), node("172.30.1.1"))].into()));
    sim.list("east", &[("shop/books", books.clone())], std::slice::from_ref(&ready));
    sim.remote("east", nodes());
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", books)], &[ready]);
    sim.remote("east", nodes());
    assert_eq!(sim.log, []);
}

#[test]
fn a_restart_while_a_hostname_is_asked_writes_no_status() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example".into())];
    let origins = [("shop/books", books), ("shop/pens", origin("p1"))];
    sim.list("east", &origins, &[]);
    let nowhere = |sim: &mut Sim| {
        let answer = Err("there is no such name".into());
        sim.give(Input::Resolved { host: "lb.east.example".into(), answer, expired: false });
        sim.settle();
    };
    nowhere(&mut sim);
    let failures = [("shop/books".to_owned(), "NoRoute".to_owned())];
    assert_eq!((sim.failures("shop/all"), sim.counts("shop/all")), (failures.to_vec(), (2, 2, 0, 0)));

    sim.log.clear();
    sim.others.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &origins, &[]);
    sim.pass(SignedDuration::from_secs(30));
    assert_eq!(sim.log, [], "not even a status, before the first answer");
    nowhere(&mut sim);
    assert_eq!(sim.log, [], "nor after it");
    let told = sim.others.iter().filter(|output| matches!(output, heliostat::core::io::Output::Event(_)));
    assert_eq!(told.count(), 0);
    // What the answer changes is said.
    sim.give(Input::Resolved {
        host: "lb.east.example".into(),
        answer: Ok(vec!["203.0.113.1".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    assert_eq!((sim.failures("shop/all"), sim.counts("shop/all")), (vec![], (2, 2, 0, 0)));
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
}

#[test]
fn a_restart_writes_no_status_of_a_binding() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let import = json!({
        "linkRef": {"name": "east"}, "addresses": [{"value": "gw.east.example"}],
        "ports": [{"service": "shop/books", "port": "http", "gatewayPort": 20001}],
    });
    sim.set_binding(binding("gw", json!({"routing": "Port", "import": import})));
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", origin("b1")), ("shop/pens", origin("p1"))], &[]);
    let fed = |sim: &Sim| sim.bindings["gw"].status.as_ref().unwrap().services.unwrap().programmed;
    list(&mut sim);
    assert_eq!(fed(&sim), 0, "not by the way that it is to have");
    sim.give(Input::Resolved {
        host: "gw.east.example".into(),
        answer: Ok(vec!["203.0.113.9".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    list(&mut sim);
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Gateway/gw");
    assert_eq!(fed(&sim), 1, "it follows");
    sim.log.clear();
    sim.restart();
    sim.settle();
    sim.connect("east");
    list(&mut sim);
    sim.pass(SignedDuration::from_mins(10));
    assert_eq!(sim.log, []);
}

#[test]
fn a_terminating_namespace_is_left_alone() {
    let mut sim = Sim::with_books();
    sim.writes();
    let terminating = LocalNamespace { labels: map(&[]), terminating: true };
    sim.give(Input::Local(Local::Namespace(Change::Set("shop".into(), terminating))));
    sim.settle();
    assert_eq!(sim.writes(), []);
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NamespaceTerminating".to_owned())]);
}

#[test]
fn limits_spare_incumbents() {
    let mut sim = Sim::fixture();
    sim.set_link(link("east", json!({"limits": {"services": 1}})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    sim.origin("shop/a-newcomer", origin("a1"));
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!(sim.failures("shop/all"), [("shop/a-newcomer".to_owned(), "QuotaExceeded".to_owned())]);
    assert_eq!(sim.counts("shop/all"), (2, 1, 1, 0));
    sim.set_link(link("east", json!({"limits": {"services": 2}})));
    assert_eq!(sim.names(), ["shop/a-newcomer-east", "shop/books-east"]);
}

/// While a CRD is gone, what was known of its objects may be old: nothing follows from it.
#[test]
fn l11_nothing_is_decided_while_a_kind_of_ours_is_not_served() {
    let mut sim = Sim::with_books();
    sim.log.clear();
    sim.give(Input::Local(Local::Unserved(OwnKind::Policies)));
    sim.give(Input::Local(Local::Policy(Change::Gone(key("shop/all")))));
    sim.origin("shop/pens", origin("p1"));
    assert_eq!(sim.writes(), []);
    assert_eq!(sim.names(), ["shop/books-east"]);
    let all = sim.policies.iter().map(|(key, policy)| (key.clone(), Box::new(policy.clone()))).collect();
    sim.give(Input::Local(Local::Policy(Change::All(all))));
    sim.settle();
    assert_eq!(sim.names(), ["shop/books-east", "shop/pens-east"]);
    assert!(!sim.log.iter().any(|op| matches!(op, WriteOp::DeleteService(..))), "{:?}", sim.log);
}

/// A link that was made anew adopts what the old one left, in whatever order links and policies come.
#[test]
fn l11_what_a_link_adopts_waits_for_its_first_listing() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    sim.set_link(link("east", json!({"deletionPolicy": "Orphan"})));
    sim.set_policy(policy("shop/all", json!({})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    let uid = sim.services[&key("shop/books-east")].uid.clone();
    sim.links.remove("east");
    sim.give(Input::Local(Local::Link(Change::Gone("east".into()))));
    sim.delete_policy("shop/all");
    sim.log.clear();

    let mut again = link("east", json!({}));
    again.metadata.uid = Some("uid-again".into());
    again.metadata.annotations = Some((&map(&[("heliostat.dev/adopt", "uid-east")])).into());
    sim.set_link(again);
    assert_eq!(sim.services[&key("shop/books-east")].uid, uid, "its policy may be on its way");
    sim.set_policy(policy("shop/all", json!({})));
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    let mirror = &sim.services[&key("shop/books-east")];
    assert_eq!(mirror.uid, uid, "adopted");
    assert_eq!(mirror.ours.as_ref().unwrap().annotations.get("heliostat.dev/link-uid").unwrap(), "uid-again");
    assert!(!sim.log.iter().any(|op| matches!(op, WriteOp::DeleteService(..))), "{:?}", sim.log);
}

#[test]
fn p06_many_mirrors_of_which_nothing_is_to_be_written_keep_no_other_news_waiting() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let names: Vec<String> = (0..1500).map(|n| format!("shop/s{n}")).collect();
    let services: Vec<_> = names.iter().map(|name| (name.as_str(), origin(&format!("uid-{name}")))).collect();
    sim.list("east", &services, &[]);
    assert_eq!((sim.services.len(), sim.engine.backlog()), (1500, (0, 0)));
    sim.writes();

    let ranges = Change::Set("more".to_owned(), vec!["10.200.0.0/16".parse().unwrap()]);
    let outputs = sim.engine.handle(Input::Local(Local::ServiceCidr(ranges)), sim.now);
    assert!(outputs.iter().all(|output| !matches!(output, Output::Write(_))), "{outputs:?}");
    assert_eq!(sim.engine.backlog(), (500, 0), "the rest is not looked at before other news had its turn");
    assert_eq!(sim.engine.next_wakeup(), Some(sim.now), "and no later");
    sim.give(Input::Tick);
    assert_eq!((sim.engine.backlog(), sim.writes()), ((0, 0), vec![]));
    assert!(sim.engine.next_wakeup().is_none_or(|wakeup| wakeup > sim.now));
}
