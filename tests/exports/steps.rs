//! In which order things are taken back, what is counted, and what nothing is concluded from.

use std::{collections::BTreeMap, net::IpAddr};

use heliostat::core::{
    export::object::{Kind, KindNews, LEASE, ObjectId, PUBLISHED_SLICE},
    io::{Change, ExportNews, Input, Output, Write, WriteError, WriteFailure, WriteOp},
    model::{Key, Origin, OriginType},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::common::{exporter::*, key, map};

/// What is written of objects after this input, when a pass is due; nothing is answered.
fn written(cluster: &mut Cluster, input: Input) -> Vec<WriteOp> {
    let mut outputs = cluster.engine.handle(input, cluster.now);
    cluster.now += SignedDuration::from_secs(5);
    outputs.extend(cluster.engine.handle(Input::Tick, cluster.now));
    let op = |output| if let Output::Write(write) = output { Some(write.op) } else { None };
    outputs.into_iter().filter_map(op).filter(|op| !matches!(op, WriteOp::BindingStatus(..))).collect()
}

fn counts(cluster: &Cluster) -> (u32, u32, u32, u32) {
    let counts = cluster.bindings["public"].status.as_ref().unwrap().services.unwrap();
    (counts.selected, counts.programmed, counts.pending, counts.failed)
}

fn set_routes(cluster: &mut Cluster, programmed: bool) {
    let routes: Vec<_> = cluster.objects.iter_mut().filter(|(id, _)| id.kind == ROUTE).collect();
    routes.into_iter().for_each(|(_, route)| route["status"]["programmed"] = json!(programmed));
    cluster.prompt = programmed;
}

#[test]
fn g04_nothing_is_taken_from_the_gateway_before_importers_are_told_nor_a_port_before_its_route_is_gone() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let mut books = cluster.services[&key("shop/books")].clone();
    books.labels = map(&[]);
    let first = written(&mut cluster, Input::Export(ExportNews::Service(Change::Set(key("shop/books"), books))));
    let [WriteOp::DeleteObject(slice, ..)] = &first[..] else { panic!("{first:?}") };
    assert_eq!(slice.kind, PUBLISHED_SLICE);
    let gone = |id: &ObjectId| Input::Export(ExportNews::Objects(id.kind, KindNews::Gone(id.key.clone())));
    let second = written(&mut cluster, gone(slice));
    let routes: Vec<ObjectId> = second
        .iter()
        .filter_map(|op| if let WriteOp::DeleteObject(id, ..) = op { Some(id.clone()) } else { None })
        .collect();
    assert!(second.len() == 2 && routes.len() == 2 && routes.iter().all(|id| id.kind == ROUTE), "{second:?}");
    assert_eq!(written(&mut cluster, gone(&routes[0])), [], "one is still there");
    let last = written(&mut cluster, gone(&routes[1]));
    assert!(last.len() == 2, "{last:?}");
    assert!(last.iter().all(|op| matches!(op, WriteOp::PatchObject(id, ..) if id.kind == LEASE)), "{last:?}");
}

#[test]
fn nothing_is_written_before_everything_has_been_listed() {
    let mut cluster = Cluster::new(json!({}));
    let all = cluster.everything();
    let own = |input: &Input| match input {
        Input::Export(ExportNews::Objects(kind, _)) => [LEASE, PUBLISHED_SLICE].contains(kind),
        Input::Export(_) => true,
        _ => false,
    };
    let awaited: Vec<usize> = (0..all.len()).filter(|at| own(&all[*at])).collect();
    assert_eq!(awaited.len(), 5, "Services, slices, nodes, Leases and what is published");
    for late in awaited {
        cluster.engine = engine();
        for (at, input) in all.iter().enumerate().filter(|(at, _)| *at != late) {
            assert_eq!(written(&mut cluster, input.clone()), [], "{at} without {late}");
        }
        assert_ne!(written(&mut cluster, all[late].clone()), [], "{late} came last");
    }
}

#[test]
fn what_becomes_of_services_and_of_ports_is_counted() {
    let mut cluster = Cluster::new(json!({}));
    let refused = |name: &str| {
        let mut origin = service(name, &[("http", 80)]);
        origin.kind = OriginType::ExternalName;
        origin
    };
    for name in ["one", "two"] {
        cluster.services.insert(Key::new("shop", name), refused(name));
    }
    let probe = map(&[("heliostat.dev/export", "true"), ("heliostat.dev/probe", "true")]);
    let probe = Origin { labels: probe, ..service("heliostat-probe", &[("http", 80)]) };
    cluster.services.insert(key("heliostat-system/heliostat-probe"), probe);
    cluster.start();
    assert_eq!(counts(&cluster), (3, 1, 0, 2), "what answers probes is nobody's export");
    let ports = |cluster: &Cluster| {
        let ports = cluster.bindings["public"].status.as_ref().unwrap().ports.unwrap();
        (ports.used, ports.quarantined, ports.free)
    };
    assert_eq!(ports(&cluster), (3, 0, 97));
    cluster.services.get_mut(&key("shop/books")).unwrap().labels = map(&[]);
    cluster.settle();
    assert_eq!((counts(&cluster), ports(&cluster)), ((2, 0, 0, 2), (1, 2, 97)));
    cluster.prompt = false;
    cluster.export("films", &[("http", 80)]);
    cluster.export("plays", &[("http", 80)]);
    cluster.settle();
    assert_eq!(counts(&cluster), (4, 0, 2, 2));
}

#[test]
fn a_gateway_that_does_not_confirm_is_waited_for_a_minute_and_then_it_is_told() {
    let mut cluster = Cluster::new(json!({}));
    cluster.prompt = false;
    cluster.start();
    let ready = |cluster: &Cluster| cluster.condition("public", "Ready").0;
    assert!(cluster.published("books").is_none());
    let at_first = ready(&cluster);
    cluster.pass(SignedDuration::from_secs(55));
    assert_eq!(ready(&cluster), at_first);
    cluster.pass(SignedDuration::from_secs(6));
    assert_eq!(ready(&cluster), "False");
    assert_ne!(at_first, "False");
    set_routes(&mut cluster, true);
    cluster.settle();
    assert!(cluster.is_ready("books") && ready(&cluster) == "True");
}

#[test]
fn a_published_route_that_its_gateway_takes_back_keeps_its_addresses_but_not_ready() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let before = cluster.outside_ports("books");
    set_routes(&mut cluster, false);
    cluster.settle();
    assert!(cluster.is_ready("books"), "a gateway that works on another change takes nothing away");
    cluster.pass(SignedDuration::from_secs(11));
    assert!(!cluster.is_ready("books"));
    assert_eq!(cluster.outside_ports("books"), before);
    set_routes(&mut cluster, true);
    cluster.settle();
    assert!(cluster.is_ready("books"));
}

#[test]
fn g15_a_hostname_is_as_public_as_the_addresses_it_resolves_to() {
    let mut cluster = Cluster::new(json!({}));
    cluster.gateway(&["GW.example."]);
    cluster.start();
    let mut fresh = Cluster::new(json!({}));
    fresh.gateway(&["GW.example."]);
    let answer = |ips: &[&str]| -> Input {
        let answer = Ok(ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect());
        Input::Resolved { host: "gw.example".into(), answer, expired: false }
    };
    cluster.feed(vec![answer(&["10.9.9.9"])]);
    assert_eq!(cluster.condition("public", "Accepted").0, "True");
    assert!(cluster.is_ready("books"));
    cluster.feed(vec![answer(&["10.9.9.9", "203.0.113.7"])]);
    assert_eq!(cluster.condition("public", "Accepted").1, "PublicPlaintext");
    assert!(cluster.published("books").is_none());
    // It is asked for as long as a binding has it.
    let asked = |cluster: &mut Cluster, input: Input| {
        let mut outputs = cluster.engine.handle(input, cluster.now);
        cluster.now += SignedDuration::from_secs(5);
        outputs.extend(cluster.engine.handle(Input::Tick, cluster.now));
        let hosts = |output| match output {
            Output::Resolve(hosts) => Some(hosts.into_keys().collect::<Vec<_>>()),
            _ => None,
        };
        outputs.into_iter().filter_map(hosts).next_back()
    };
    let gateway = |addresses: &[&str]| {
        let value = json!({
            "metadata": {"name": "main", "namespace": "edge", "uid": "g", "resourceVersion": "9000"}, "addresses": addresses,
        });
        Input::Export(ExportNews::Objects(GATEWAY, KindNews::Set(key("edge/main"), value)))
    };
    assert_eq!(asked(&mut cluster, gateway(&["other.example"])), Some(vec!["other.example".to_owned()]));
    assert_eq!(asked(&mut cluster, gateway(&["other.example"])), None);
    assert_eq!(asked(&mut cluster, gateway(&["10.9.9.9"])), Some(vec![]));
}

#[test]
fn a_service_without_a_selector_is_ready_until_somebody_lists_its_endpoints() {
    let mut cluster = Cluster::new(json!({}));
    cluster.slices.remove(&key("shop/books-abc"));
    cluster.start();
    assert!(!cluster.is_ready("books"), "with a selector it has no pods");
    cluster.services.get_mut(&key("shop/books")).unwrap().has_selector = false;
    cluster.settle();
    assert!(cluster.is_ready("books"));
    cluster.slices.insert(key("shop/books-abc"), pods("books", &[]));
    cluster.settle();
    assert!(!cluster.is_ready("books"));
}

#[test]
fn envoys_are_told_what_is_news_only() {
    let mut cluster = Cluster::own(json!({}));
    cluster.start();
    let told = |cluster: &mut Cluster, input: Input| {
        let mut outputs = cluster.engine.handle(input, cluster.now);
        cluster.now += SignedDuration::from_secs(5);
        outputs.extend(cluster.engine.handle(Input::Tick, cluster.now));
        outputs.into_iter().filter(|output| matches!(output, Output::Envoys { .. })).count()
    };
    let slice = |addresses: &[&str]| {
        Input::Export(ExportNews::Slice(Change::Set(key("shop/books-abc"), pods("books", addresses))))
    };
    let unlabelled = Origin { labels: map(&[]), ..service("alien", &[("http", 80)]) };
    let alien = Input::Export(ExportNews::Service(Change::Set(key("shop/alien"), unlabelled)));
    assert_eq!(told(&mut cluster, alien), 0);
    assert_eq!(told(&mut cluster, slice(&["10.244.0.8"])), 1);
}

/// The same with their ids, so that they can be answered.
fn launched(cluster: &mut Cluster, input: Input) -> Vec<Write> {
    let mut outputs = cluster.engine.handle(input, cluster.now);
    cluster.now += SignedDuration::from_millis(50);
    outputs.extend(cluster.engine.handle(Input::Tick, cluster.now));
    let of_objects = |write: &Write| !matches!(write.op, WriteOp::BindingStatus(..));
    let writes = outputs.into_iter().filter_map(|o| if let Output::Write(write) = o { Some(write) } else { None });
    writes.filter(of_objects).collect()
}

fn refused(write: &Write, kind: WriteFailure) -> Input {
    let error = WriteError { kind, message: "refused by the test".into(), retry_after: None };
    Input::Written { id: write.id, result: Err(error) }
}

fn created(write: &Write) -> Option<&ObjectId> {
    if let WriteOp::CreateObject(id, ..) = &write.op { Some(id) } else { None }
}

#[test]
fn g13_a_port_that_somebody_was_quicker_to_claim_is_left_for_another_at_once() {
    let mut cluster = Cluster::new(json!({}));
    cluster.budget = 0;
    cluster.start();
    cluster.engine = engine();
    let mut writes = Vec::new();
    for input in cluster.everything() {
        writes.extend(launched(&mut cluster, input));
    }
    let lease = writes.iter().find(|write| created(write).is_some_and(|id| id.kind == LEASE)).unwrap();
    cluster.now += SignedDuration::from_secs(5);
    let next = launched(&mut cluster, refused(lease, WriteFailure::AlreadyExists));
    let other: Vec<_> = next.iter().filter_map(created).filter(|id| id.kind == LEASE).collect();
    assert!(other.len() == 1 && Some(other[0]) != created(lease), "{next:?}");
    // Somebody's refusal is another matter: that is tried again later, and the same.
    let lease = next.iter().find(|write| created(write) == Some(other[0])).unwrap();
    assert_eq!(launched(&mut cluster, refused(lease, WriteFailure::Forbidden)), []);
    // By its own clock: nothing else is due within the second.
    cluster.now += SignedDuration::from_secs(1);
    let again = launched(&mut cluster, Input::Tick);
    assert!(again.iter().any(|write| created(write) == created(lease)), "{again:?}");
}

/// A new process up to its first writes, which are claims of ports.
fn claiming(cluster: &mut Cluster) -> Vec<Write> {
    let inputs = cluster.everything();
    let writes: Vec<Write> = inputs.into_iter().flat_map(|input| launched(cluster, input)).collect();
    assert!(!writes.is_empty() && writes.iter().filter_map(created).all(|id| id.kind == LEASE), "{writes:?}");
    writes
}

/// Nothing that is of any concern.
fn listed(kind: Kind) -> Input {
    let other = (key("heliostat-system/other"), json!({"metadata": {"uid": "o", "resourceVersion": "9"}}));
    Input::Export(ExportNews::Objects(kind, KindNews::Listed("v1".into(), BTreeMap::from([other]))))
}

#[test]
fn g13_a_port_that_was_taken_is_asked_for_again_only_when_a_listing_of_claims_shows_it_free() {
    for (kind, is_free) in [(ROUTE, false), (LEASE, true)] {
        let mut cluster = Cluster::new(json!({}));
        let writes = claiming(&mut cluster);
        launched(&mut cluster, refused(&writes[0], WriteFailure::AlreadyExists));
        let next = launched(&mut cluster, listed(kind));
        assert_eq!(next.iter().any(|write| created(write) == created(&writes[0])), is_free, "{kind}: {next:?}");
    }
}

/// Without a listing: what a watch tells is enough, whether it tells before the answer or after.
#[test]
fn g13_a_port_that_was_taken_is_free_again_when_its_claim_is_seen_to_go() {
    for answered_first in [true, false] {
        let mut cluster = Cluster::new(json!({}));
        let first = claiming(&mut cluster).remove(0);
        let id = created(&first).unwrap().clone();
        let mut other = json!({"metadata": {"uid": "o", "resourceVersion": "9"}});
        other["metadata"]["name"] = json!(id.key.name);
        let told = |news| Input::Export(ExportNews::Objects(LEASE, news));
        let answer = refused(&first, WriteFailure::AlreadyExists);
        let set = told(KindNews::Set(id.key.clone(), other));
        let mut writes = Vec::new();
        for input in if answered_first { [answer, set] } else { [set, answer] } {
            writes.extend(launched(&mut cluster, input));
        }
        assert!(!writes.iter().any(|write| created(write) == Some(&id)), "{writes:?}");
        // Nobody's claim is let go.
        let patch = writes.iter().find(|write| matches!(&write.op, WriteOp::PatchObject(of, ..) if *of == id)).unwrap();
        let next = launched(&mut cluster, refused(patch, WriteFailure::NotFound));
        assert!(next.iter().any(|write| created(write) == Some(&id)), "{answered_first}: {next:?}");
    }
    // It comes and goes before the answer.
    let mut cluster = Cluster::new(json!({}));
    let first = claiming(&mut cluster).remove(0);
    let id = created(&first).unwrap().clone();
    launched(&mut cluster, Input::Export(ExportNews::Objects(LEASE, KindNews::Gone(id.key.clone()))));
    let next = launched(&mut cluster, refused(&first, WriteFailure::AlreadyExists));
    assert!(next.iter().any(|write| created(write) == Some(&id)), "{next:?}");
}

/// The object is made, deleted by somebody, not listed, and only then is its creation answered.
#[test]
fn an_answer_that_a_listing_has_overtaken_brings_nothing_back() {
    for (kind, is_overtaken) in [(ROUTE, false), (LEASE, true)] {
        let mut cluster = Cluster::new(json!({}));
        let mut writes = claiming(&mut cluster);
        launched(&mut cluster, listed(kind));
        let last = writes.pop().unwrap();
        let mut next = Vec::new();
        for write in writes.into_iter().chain([last.clone()]) {
            let result = cluster.write(&write.op).0;
            next = launched(&mut cluster, Input::Written { id: write.id, result });
        }
        assert_eq!(next.iter().any(|write| created(write) == created(&last)), is_overtaken, "{kind}: {next:?}");
    }
}

#[test]
fn g15_what_is_encrypted_may_be_on_a_public_address() {
    let mut cluster = Cluster::new(json!({"routing": "SNI", "clusterName": "east"}));
    cluster.gateway(&["203.0.113.7"]);
    cluster.start();
    assert_eq!(cluster.condition("public", "Accepted").0, "True");
}

#[test]
fn pods_that_come_and_go_are_followed_by_their_own_news() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let slice = |addresses: &[&str]| {
        Input::Export(ExportNews::Slice(Change::Set(key("shop/books-abc"), pods("books", addresses))))
    };
    cluster.feed(vec![slice(&[])]);
    assert!(!cluster.is_ready("books"));
    cluster.feed(vec![slice(&["10.244.0.7"])]);
    assert!(cluster.is_ready("books"));
    assert_eq!(written(&mut cluster, slice(&["10.244.0.7"])), []);
}

/// By both labels, and not while it is being deleted.
#[test]
fn only_routes_of_ours_that_are_not_on_their_way_out_are_written() {
    let (ours, binding) = (("app.kubernetes.io/managed-by", "heliostat"), ("heliostat.dev/binding", "public"));
    for (labels, is_theirs) in [(vec![ours], true), (vec![binding], true), (vec![ours, binding], false)] {
        let mut cluster = Cluster::new(json!({}));
        let id = ObjectId { kind: ROUTE, key: key("shop/books-80") };
        let labels: serde_json::Map<_, _> = labels.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        cluster.put(id.clone(), json!({"metadata": {"name": "books-80", "namespace": "shop", "labels": labels}, "spec": {"gatewayPort": 1}}));
        let before = cluster.objects[&id].clone();
        cluster.start();
        let failures = cluster.bindings["public"].status.clone().unwrap().failures;
        assert_eq!(
            failures.iter().any(|failure| failure.reason == "NameConflict"),
            is_theirs,
            "{labels:?}: {failures:?}"
        );
        assert_eq!(cluster.objects[&id] == before, is_theirs, "{labels:?}");
        let mut going = before;
        going["metadata"]["deletionTimestamp"] = json!("2026-06-01T00:00:00Z");
        cluster.objects.insert(id.clone(), going.clone());
        cluster.start();
        assert_eq!(cluster.objects[&id], going, "{labels:?}");
    }
}

#[test]
fn a_service_whose_port_is_being_claimed_is_pending() {
    let mut cluster = Cluster::new(json!({}));
    let mut last = None;
    let everything = cluster.everything();
    for input in everything.into_iter().chain(std::iter::repeat_n(Input::Tick, 3)) {
        for output in cluster.engine.handle(input, cluster.now) {
            if let Output::Write(Write { op: WriteOp::BindingStatus(_, _, status), .. }) = output {
                last = status.services;
            }
        }
        cluster.now += SignedDuration::from_secs(1);
    }
    let last = last.unwrap();
    assert_eq!((last.selected, last.programmed, last.pending, last.failed), (1, 0, 1, 0));
}

#[test]
fn what_is_to_be_followed_is_said_once_and_only_so_many_writes_are_under_way() {
    let mut cluster = Cluster::new(json!({}));
    (0..40).for_each(|n| cluster.export(&format!("s{n:02}"), &[("http", 80)]));
    let (mut followed, mut writes) = (Vec::new(), 0);
    let everything = cluster.everything();
    for input in everything.into_iter().chain([Input::Tick]) {
        for output in cluster.engine.handle(input, cluster.now) {
            match output {
                Output::Follow(kinds) => followed.push(kinds.into_iter().collect::<Vec<_>>()),
                Output::Write(Write { op: WriteOp::CreateObject(..), .. }) => writes += 1,
                _ => {}
            }
        }
        cluster.now += SignedDuration::from_secs(1);
    }
    assert_eq!((followed.len(), writes), (1, 32));
    assert!([LEASE, PUBLISHED_SLICE, ROUTE].iter().all(|kind| followed[0].contains(kind)), "{followed:?}");
}
