//! What a mirror looks like, and how it follows its origin and its namespace.

use heliostat::{
    api::Reason,
    core::{
        diff,
        io::{Change, Input, Local, RemoteEvent, WriteOp},
        model::{LocalNamespace, LocalSlice, MirroredCondition, OriginType, Protocol},
        select::Refusal,
    },
};
use serde_json::json;

use crate::{common::*, says};

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
        |uid: &str| heliostat::core::model::Origin { ingress: [].into(), ..of_kind(uid, OriginType::Headless) };
    sim.list("east", &[("shop/books", headless("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert!(sim.mirror("shop/books-east").headless);
    assert_eq!(sim.endpoints("shop/books-east"), ["10.1.0.1:8080 http ready", "10.1.0.1:9090 grpc ready"]);
    sim.origin("shop/books", origin("b1"));
    assert!(!sim.mirror("shop/books-east").headless, "made anew, as clusterIP cannot change");
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.5:80 http ready", "203.0.113.5:9090 grpc ready"]);
    sim.origin("shop/books", of_kind("b1", OriginType::ExternalName));
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
    slice.body.endpoints.edit(Vec::clear);
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
    let origin = of_kind("b1", OriginType::ClusterIp);
    sim.list(
        "east",
        &[("shop/books", origin)],
        &[("shop/x1", slice(100, 0)), ("shop/x2", slice(100, 100)), ("shop/x3", slice(50, 200))],
    );
    assert_eq!(sim.slices.len(), 3);
    sim.writes();
    let mut changed = slice(100, 100);
    changed.endpoints.edit(|all| all[7].readiness.ready = false);
    sim.slice("shop/x2", changed);
    assert_eq!(sim.writes().len(), 1);
}

/// Promise 4: when pods changed is told with the change, and alone is none.
#[test]
fn p04_the_time_of_a_change_alone_writes_nothing() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    sim.connect("east");
    let books = of_kind("b1", OriginType::ClusterIp);
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
fn m09_a_slice_that_is_being_deleted_is_left_and_one_of_another_address_type_is_made_anew() {
    let mut sim = Sim::with_books();
    let (name, right) = sim.slices.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    let observed = |sim: &mut Sim, slice: LocalSlice| {
        sim.writes();
        sim.slices.insert(name.clone(), slice.clone());
        sim.give(Input::Local(Local::Slice(Change::Set(name.clone(), slice))));
    };
    let mut leaving = LocalSlice { terminating: true, resource_version: "900".into(), ..right.clone() };
    leaving.body.endpoints.edit(Vec::clear);
    observed(&mut sim, leaving);
    assert_eq!(sim.writes(), [], "the next one has its name when it is gone");
    sim.slices.clear();
    sim.give(Input::Local(Local::Slice(Change::Gone(name.clone()))));
    assert!(matches!(&sim.writes()[..], [WriteOp::CreateSlice(..)]));
    observed(&mut sim, LocalSlice { alien_type: Some("FQDN".into()), resource_version: "901".into(), ..right });
    let writes = sim.writes();
    assert!(matches!(&writes[..], [WriteOp::DeleteSlice(..), WriteOp::CreateSlice(..)]), "{writes:?}");
}

#[test]
fn a_mirrors_condition_follows_its_reason_and_its_message_and_keeps_its_time() {
    let sim = Sim::with_books();
    let mirror = key("shop/books-east");
    let observed = &sim.services[&mirror];
    let mut state = sim.mirror("shop/books-east").clone();
    let since = "2026-06-01T11:00:00Z".parse().unwrap();
    let there = MirroredCondition { reason: "Stale".into(), message: "a".into(), since, observed_generation: 0 };
    state.odd.edit(|odd| odd.mirrored = Some(there));
    let patch = |reason, message: &str| {
        diff::condition_patch(&mirror, observed, &state, Some(&Refusal::new(reason, message.to_owned())), sim.now)
    };
    assert_eq!(patch(Reason::Stale, "a"), None);
    for (reason, message) in [(Reason::Stale, "b"), (Reason::DeletionHeld, "a")] {
        let Some(WriteOp::PatchServiceConditions(_, _, list)) = patch(reason, message) else { panic!("{message}") };
        assert_eq!((&list[0]["reason"], &list[0]["message"]), (&json!(reason.as_str()), &json!(message)));
        assert_eq!(list[0]["lastTransitionTime"], json!("2026-06-01T11:00:00Z"));
    }
}

#[test]
fn m09_an_edited_record_of_copied_keys_takes_nobodys_key_away() {
    let mut sim = Sim::with_books();
    let theirs = "app.kubernetes.io/instance";
    sim.edit_service("shop/books-east", |state| {
        state.labels.insert(theirs.into(), "argo".into());
        state.annotations.insert("heliostat.dev/copied-labels".into(), format!("{theirs},,").into());
    });
    let mirror = sim.mirror("shop/books-east");
    assert_eq!(mirror.labels.get(theirs).unwrap(), "argo", "a key that is never copied cannot have been");
    assert!(!mirror.annotations.contains_key("heliostat.dev/copied-labels"));
}

#[test]
fn a_mirror_that_somebody_takes_over_keeps_their_mark_and_none_of_ours() {
    let mut sim = Sim::with_books();
    sim.edit_service("shop/books-east", |state| {
        state.labels.insert("app.kubernetes.io/managed-by".into(), "argocd".into());
    });
    let mirror = sim.mirror("shop/books-east");
    assert_eq!(mirror.labels, map(&[("app.kubernetes.io/managed-by", "argocd")]));
    assert!(mirror.annotations.is_empty() && mirror.link_owners.is_empty());
    assert_eq!(sim.slices.len(), 0);
    assert_eq!(sim.failures("shop/all"), [("shop/books".to_owned(), "NameConflict".to_owned())]);
}

#[test]
fn m09_what_others_have_put_on_a_mirror_stays_beside_what_is_ours() {
    let mut sim = Sim::with_books();
    let (owner, theirs) = (json!({"kind": "App", "name": "a"}), json!({"type": "Theirs", "status": "True"}));
    sim.writes();
    sim.edit_service("shop/books-east", |state| {
        state.link_owners.edit(Vec::clear);
        state.odd.edit(|odd| {
            odd.other_owners.push(owner.clone());
            odd.other_conditions.push(theirs.clone());
            odd.foreign_fields.push("externalIPs".into());
        });
    });
    let [WriteOp::PatchService(_, _, patch)] = &sim.writes()[..] else { panic!("one write") };
    let owners = patch.owners.as_ref().unwrap();
    assert!(owners.len() == 2 && owners[0] == owner && owners[1]["uid"] == "uid-east", "{owners:?}");
    assert_eq!(patch.remove_fields, ["externalIPs"]);
    let (mirror, state) = (key("shop/books-east"), sim.mirror("shop/books-east"));
    let why = Refusal::new(Reason::Stale, "a");
    let patch = diff::condition_patch(&mirror, &sim.services[&mirror], state, Some(&why), sim.now);
    let Some(WriteOp::PatchServiceConditions(_, _, list)) = patch else { panic!("it says so") };
    assert!(list.len() == 2 && list[0] == theirs && list[1]["reason"] == "Stale", "{list:?}");
}

#[test]
fn l03_slices_that_go_or_are_no_addresses_are_not_marked() {
    let sim = Sim::with_books();
    let (mirror, state) = (key("shop/books-east"), sim.mirror("shop/books-east"));
    let (name, right) = sim.slices.first_key_value().unwrap();
    let marked = |slice: &LocalSlice| {
        let all = [(name.clone(), slice)].into_iter();
        let why = Refusal::new(Reason::Stale, "a");
        let op = diff::not_ready(&mirror, &sim.services[&mirror], state, all, &why, sim.now);
        matches!(op, Some(WriteOp::PatchSlice(..)))
    };
    assert!(marked(right));
    assert!(!marked(&LocalSlice { terminating: true, ..right.clone() }));
    assert!(!marked(&LocalSlice { alien_type: Some("FQDN".into()), ..right.clone() }));
}
