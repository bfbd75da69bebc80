//! A restart holds still until verdicts are there; a link that was made anew begins without any.

use std::collections::BTreeMap;

use heliostat::core::{
    io::{Change, Input, Local, Output},
    model::{AddressType, OriginPort, Protocol, Readiness, RemoteSlice, SlicePort},
    reach::Verdict,
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    BOTH, ONE, Probing, SECOND, TWO,
    common::{Sim, link, origin, pods, port, published, slice_port},
    down, failing, is, with_two,
};

#[test]
fn a_restart_holds_still_until_verdicts_are_there() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    let told = (sim.gateways(), sim.reachable());
    sim.restart();
    sim.statuses();
    sim.others.clear();
    let gateway = || published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway())]);
    sim.pass(SignedDuration::from_mins(5));
    assert_eq!(sim.probes().len(), 2);
    sim.probed("public", TWO, Verdict::Reachable);
    // It may take a while until the other one is seen to answer between its failures.
    sim.probed("public", ONE, failing());
    sim.probed("public", ONE, down());
    assert_eq!(sim.statuses(), 0, "neither mirrors nor statuses: {:?}", sim.log);
    assert_eq!((sim.gateways(), sim.reachable()), told);
    assert!(!sim.others.iter().any(|output| matches!(output, Output::Event(_))), "{:?}", sim.others);

    // A restart while the link is away, and one with another outcome.
    sim.restart();
    sim.statuses();
    sim.others.clear();
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(1));
    assert_eq!((sim.gateways(), sim.reachable()), told, "who cannot be read is not said to have no gateways");
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    assert_eq!(sim.probes(), BTreeMap::new());
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway())]);
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 true"]);
    sim.probed("public", TWO, Verdict::Reachable);
    is(sim.reachable(), "True", "Reachable");
}

/// It dies between two writes: the mirror shows what the link's status does not say yet.
#[test]
fn g18_what_was_withdrawn_last_stays_so_although_it_was_not_told_any_more() {
    for said in [Some(true), None] {
        let mut sim = with_two();
        let mut before = sim.links["east"].status.clone().unwrap();
        before.gateways[0].reachable = said;
        sim.probed("public", ONE, down());
        assert_eq!(sim.endpoints("shop/books-east"), SECOND);
        sim.links.get_mut("east").unwrap().status = Some(before);
        sim.restart();
        sim.connect("east");
        let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
        sim.writes();
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
        assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
        assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 true"]);
        // A first failure, before another address was seen to answer, is no reason to believe in it.
        sim.probed("public", ONE, failing());
        sim.probed("public", TWO, Verdict::Reachable);
        assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
        sim.probed("public", ONE, Verdict::Reachable);
        assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    }
}

/// What an exporter published as not ready was not withdrawn here, or is nothing that a probe could bring back.
#[test]
fn an_address_that_its_exporter_calls_ready_after_a_restart_is_so_where_no_probe_has_to_tell() {
    let ready = |slice: &mut RemoteSlice, which: &[bool]| {
        slice
            .endpoints
            .edit(|all| all.iter_mut().zip(which).for_each(|(e, ready)| e.readiness = Readiness::all(*ready)));
    };
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    let udp = |port: OriginPort| OriginPort { protocol: Protocol::Udp, ..port };
    let mut names = origin("n1");
    names.ports = vec![udp(port("dns", 53))].into();
    let mut of_names = published("names", "public", &[ONE, TWO], &[]);
    of_names.ports = vec![SlicePort { protocol: Protocol::Udp, ..slice_port("dns", 20053) }].into();
    for (name, origin, slice, before) in
        [("books", origin("b1"), gateway, [false, false]), ("names", names, of_names, [false, true])]
    {
        let mut sim = Sim::fixture();
        sim.connect("east");
        let (key, slice_key) = (format!("shop/{name}"), format!("shop/{name}-gw"));
        let mut slice = slice;
        ready(&mut slice, &before);
        sim.list("east", &[(&key, origin.clone())], &[(&slice_key, slice.clone())]);
        let shown = |sim: &Sim| sim.endpoints(&format!("{key}-east"));
        assert!(shown(&sim)[0].ends_with("not ready"), "{:?}", shown(&sim));
        sim.restart();
        sim.connect("east");
        ready(&mut slice, &[true, true]);
        sim.list("east", &[(&key, origin)], &[(&slice_key, slice)]);
        assert!(!shown(&sim).iter().any(|endpoint| endpoint.ends_with("not ready")), "{:?}", shown(&sim));
    }
}

#[test]
fn a_restart_with_a_gateway_by_name_holds_still_too() {
    let mut sim = Sim::fixture();
    let start = |sim: &mut Sim| {
        sim.connect("east");
        let ports = [("http", 20001), ("grpc", 20002)];
        let mut books = published("books", "public", &["gw.east.example"], &ports);
        books.address_type = AddressType::Fqdn;
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", books)]);
    };
    let resolve = |sim: &mut Sim| {
        let answer = Ok(vec![ONE.parse().unwrap(), TWO.parse().unwrap()]);
        sim.give(Input::Resolved { host: "gw.east.example".into(), answer, expired: false });
        sim.settle();
    };
    start(&mut sim);
    resolve(&mut sim);
    sim.probed("public", TWO, Verdict::Reachable);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    let told = (sim.gateways(), sim.reachable());
    for resolved_first in [true, false] {
        sim.restart();
        sim.statuses();
        start(&mut sim);
        if !resolved_first {
            sim.give(Input::Resolved { host: "gw.east.example".into(), answer: Err("no".into()), expired: false });
        }
        sim.pass(SignedDuration::from_mins(1));
        resolve(&mut sim);
        sim.pass(SignedDuration::from_mins(1));
        if resolved_first {
            assert_eq!(sim.log, []);
        }
        assert_eq!(sim.writes(), [], "{resolved_first}");
        assert_eq!((sim.gateways(), sim.reachable()), told);
        assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    }
}

#[test]
fn a_link_made_anew_inherits_nothing() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    let mut anew = link("east", json!({}));
    anew.metadata.uid = Some("uid-east-2".into());
    sim.links.remove("east");
    sim.set_link(anew);
    assert_eq!(sim.probes(), BTreeMap::new());
    assert_eq!((sim.gateways(), sim.reachable()), (vec![], None));
    let slices = [("shop/pods", pods("books", &["10.1.0.1"], true))];
    sim.session += 1;
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &slices);
    assert_eq!(sim.probes(), BTreeMap::new());
}

#[test]
fn a_link_made_anew_right_after_a_restart_inherits_nothing_of_an_earlier_process() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    sim.restart();
    // Kubernetes collects its mirrors.
    sim.delete_service("shop/books-east");
    sim.slices.clear();
    sim.give(Input::Local(Local::Slice(Change::All(BTreeMap::new()))));
    let mut anew = link("east", json!({}));
    anew.metadata.uid = Some("uid-east-2".into());
    sim.links.remove("east");
    sim.set_link(anew);
    sim.session += 1;
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);
}

#[test]
fn what_was_switched_off_while_nobody_ran_is_not_remembered() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    let mut off = link("east", json!({"probe": {"disabled": true}}));
    off.metadata.generation = Some(2);
    off.status = sim.links["east"].status.clone();
    sim.links.insert("east".into(), off);
    sim.restart();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);
}

#[test]
fn what_an_earlier_process_saw_down_is_named_until_it_is_known_better() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    let told = sim.reachable();
    assert!(is(told.clone(), "False", "Unreachable").contains(ONE));
    sim.restart();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    sim.probed("public", TWO, failing());
    assert_eq!(sim.reachable(), told);
}

#[test]
fn what_an_earlier_process_saw_down_and_is_not_in_use_any_more_is_forgotten() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    sim.restart();
    sim.connect("east");
    let gateway = |addresses: &[&str]| published("books", "public", addresses, &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway(&[TWO]))]);
    sim.slice("shop/books-gw", gateway(&[ONE, TWO]));
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    assert_eq!(sim.gateways()[0], "public 198.51.100.1 ?");
}
