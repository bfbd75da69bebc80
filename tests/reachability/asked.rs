//! Which addresses are probed, and what is asked there.

use std::{collections::BTreeMap, time::Duration};

use heliostat::core::{
    io::{Input, RemoteEvent},
    model::{AddressType, OriginPort, Protocol, Readiness, RemoteSlice, SliceRole},
    reach::{Ask, ProbeTask, ProbeTerms, Verdict},
};
use serde_json::json;

use crate::{
    BOTH, ONE, PROBE, Probing, SECOND, TWO,
    common::{Sim, binding, connected, key, link, origin, policy, port, published, slice_port},
    connection, content, down, is, meanwhile, probe_pods, probe_service, probe_slice, routed, target, with_two,
};

#[test]
fn the_addresses_in_use_are_probed_and_no_others() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    assert_eq!(sim.probes(), BTreeMap::new());
    let gateway = |addresses: &[&str]| published("books", "public", addresses, &[("http", 20005), ("grpc", 20002)]);
    let other = published("books", "spare", &["198.51.100.9"], &[("http", 20001)]);
    // Nobody wants maps, and books is fed by public and not by spare, nor by its load balancer.
    let maps = published("maps", "public", &["198.51.100.7"], &[("http", 20003)]);
    sim.list(
        "east",
        &[("shop/books", origin("b1")), ("other/maps", origin("m1"))],
        &[("shop/books-gw", gateway(&[ONE])), ("shop/books-spare", other), ("other/maps-gw", maps)],
    );
    assert_eq!(sim.probes(), [(target("public", ONE), connection(20002))].into());
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?"]);
    assert_eq!(sim.reachable(), None, "nothing is said before anything is known");

    sim.slice("shop/books-gw", gateway(&[ONE, TWO]));
    let both = [(target("public", ONE), connection(20002)), (target("public", TWO), connection(20002))];
    assert_eq!(sim.probes(), both.into());
    // The lowest port of an address that any mirror uses.
    sim.origin("shop/atlas", origin("a1"));
    sim.slice("shop/atlas-gw", published("atlas", "public", &[ONE], &[("http", 20001), ("grpc", 20004)]));
    assert_eq!(sim.probes()[&target("public", ONE)], connection(20001));
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20002));
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/atlas"), "a1".into()));
    assert_eq!(sim.probes()[&target("public", ONE)], connection(20002));

    // By load balancer nothing is probed.
    sim.remote("east", RemoteEvent::SliceGone(key("shop/books-gw")));
    sim.remote("east", RemoteEvent::SliceGone(key("shop/books-spare")));
    assert_eq!(sim.endpoints("shop/books-east")[0], "203.0.113.5:80 http not ready");
    assert_eq!(sim.probes(), BTreeMap::new());
    assert_eq!((sim.gateways(), sim.reachable()), (vec![], None));
}

#[test]
fn addresses_are_probed_by_content_where_the_exporter_answers() {
    let mut sim = with_two();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    sim.slice("heliostat-system/probe-1", probe_slice("public", &[ONE], 20900));
    sim.slice("heliostat-system/probe-2", probe_slice("spare", &[TWO], 20901));
    assert_eq!(sim.probes()[&target("public", ONE)], content(20900, None));
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20001), "not through that binding");
    sim.slice("heliostat-system/probe-1", probe_slice("public", &[ONE, TWO], 20902));
    assert_eq!(sim.probes()[&target("public", TWO)], content(20902, None));

    // While nobody is there to answer, nothing follows from silence.
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    assert_eq!(sim.probes()[&target("public", TWO)], meanwhile(20001));
    sim.remote("east", RemoteEvent::SliceGone(key("heliostat-system/probe-pods")));
    assert_eq!(sim.probes()[&target("public", TWO)], meanwhile(20001));
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    assert_eq!(sim.probes()[&target("public", TWO)], content(20902, None));

    // While its route is not in place, neither.
    let mut away = probe_slice("public", &[ONE, TWO], 20902);
    away.endpoints.edit(|all| all.iter_mut().for_each(|e| e.readiness = Readiness::all(false)));
    sim.slice("heliostat-system/probe-1", away);
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20001));

    // By a name of its own with Host; by others a connection is all.
    let probe = || probe_slice("public", &[ONE, TWO], 80);
    let names = ["heliostat-probe-east", "heliostat-probe-east.heliostat-system.svc.cluster.local", "not a name"];
    sim.slice("heliostat-system/probe-1", routed(probe(), "Host", &names));
    assert_eq!(sim.probes()[&target("public", TWO)], content(80, Some(names[1])));
    for (routing, names) in [("SNI", &names[..]), ("Linkerd", &[]), ("Host", &[]), ("Host", &names[2..])] {
        sim.slice("heliostat-system/probe-1", routed(probe(), routing, names));
        assert_eq!(sim.probes()[&target("public", TWO)], connection(20001), "{routing} {names:?}");
    }
    let mut unknown = probe();
    let SliceRole::Published(what) = &mut unknown.role else { panic!() };
    what.contract = "v2".into();
    sim.slice("heliostat-system/probe-1", unknown);
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20001));
    sim.slice("heliostat-system/probe-1", probe());
    assert_eq!(sim.probes()[&target("public", TWO)], content(80, None));

    // What is expected is the cluster that the link is for.
    sim.remote("east", RemoteEvent::ServiceGone(key(PROBE), "probe".into()));
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20001));
}

#[test]
fn gateways_by_name_are_probed_at_each_of_their_addresses() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let by_name = |mut slice: RemoteSlice| {
        slice.address_type = AddressType::Fqdn;
        slice
    };
    let books = by_name(published("books", "public", &["gw.east.example"], &[("http", 20001), ("grpc", 20002)]));
    let probe = by_name(probe_slice("public", &["gw.east.example."], 20900));
    sim.list(
        "east",
        &[("shop/books", origin("b1")), (PROBE, probe_service())],
        &[
            ("shop/books-gw", books),
            ("heliostat-system/probe", probe),
            ("heliostat-system/probe-pods", probe_pods(true)),
        ],
    );
    assert_eq!(sim.probes(), BTreeMap::new());
    let resolves = |sim: &mut Sim, addresses: &[&str]| {
        let answer = Ok(addresses.iter().map(|a| a.parse().unwrap()).collect());
        sim.give(Input::Resolved { host: "gw.east.example".into(), answer, expired: false });
        sim.settle();
    };
    resolves(&mut sim, &[ONE, TWO]);
    let both = [(target("public", ONE), content(20900, None)), (target("public", TWO), content(20900, None))];
    assert_eq!(sim.probes(), both.clone().into());
    resolves(&mut sim, &[TWO]);
    assert_eq!(sim.probes(), both[1..].iter().cloned().collect());
}

#[test]
fn the_probe_service_is_no_origin() {
    let mut sim = Sim::fixture();
    sim.namespace("heliostat-system");
    sim.set_policy(policy("heliostat-system/all", json!({})));
    sim.connect("east");
    let gateway = probe_slice("public", &[ONE], 20900);
    // Whatever namespace it is in.
    sim.list(
        "east",
        &[("shop/books", origin("b1")), (PROBE, probe_service()), ("shop/heliostat-probe", probe_service())],
        &[("heliostat-system/probe", gateway)],
    );
    assert_eq!(sim.names(), ["shop/books-east"]);
    assert_eq!((sim.counts("heliostat-system/all"), sim.failures("heliostat-system/all")), ((1, 1, 0, 0), vec![]));
    // Another policy of lower rank wants books, too, and that is all that it matches.
    assert_eq!(sim.counts("shop/all"), (1, 0, 0, 1));
    let seen = sim.links["east"].status.as_ref().unwrap().services.unwrap().seen;
    assert_eq!(seen, 1);
    assert_eq!(sim.probes(), BTreeMap::new(), "nothing is fed through a gateway");
}

#[test]
fn an_import_bindings_addresses_are_only_connected_to() {
    let mut sim = Sim::with_books();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    sim.slice("heliostat-system/probe", probe_slice("public", &[ONE], 20900));
    sim.set_binding(binding(
        "public",
        json!({"routing": "Port", "import": {
            "linkRef": {"name": "east"}, "addresses": [{"value": ONE}, {"value": TWO}],
            "ports": [{"service": "shop/books", "port": "http", "gatewayPort": 20001}],
        }}),
    ));
    assert_eq!(sim.probes()[&target("public", TWO)], connection(20001));
    let says = |sim: &Sim| {
        let conditions = &sim.bindings["public"].status.as_ref().unwrap().conditions;
        let types: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
        let found = conditions.iter().find(|c| c.type_ == "Reachable");
        assert!(types.last() == Some(&"Reachable") || found.is_none(), "the order of the design: {types:?}");
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    assert_eq!(says(&sim), None);
    sim.probed("public", ONE, Verdict::Reachable);
    sim.probed("public", TWO, Verdict::Reachable);
    is(says(&sim), "True", "Reachable");
    sim.probed("public", ONE, down());
    assert!(is(says(&sim), "False", "Unreachable").contains(ONE));
    assert_eq!(
        sim.endpoints("shop/books-east"),
        ["198.51.100.1:20001 http not ready", "198.51.100.2:20001 http ready"]
    );
}

#[test]
fn what_is_switched_off_or_stands_still_is_not_probed() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    sim.set_link(link("east", json!({"probe": {"disabled": true}})));
    assert_eq!((sim.probes(), sim.reachable()), (BTreeMap::new(), None));
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), BOTH, "a word that comes too late");

    let spec = json!({"probe": {"period": "30s", "timeout": "500ms", "failureThreshold": 7}});
    sim.set_link(link("east", spec.clone()));
    let asked =
        ProbeTerms { period: Duration::from_secs(30), timeout: Duration::from_millis(500), failure_threshold: 7 };
    assert_eq!(
        sim.probes()[&target("public", ONE)],
        ProbeTask { ask: Ask::Connection { port: 20001, meanwhile: false }, terms: asked }
    );
    assert_eq!(
        sim.gateways(),
        ["public 198.51.100.1 ?", "public 198.51.100.2 ?"],
        "an earlier verdict is none any more"
    );

    sim.probed("public", ONE, down());
    sim.probed("public", TWO, Verdict::Reachable);
    let mut suspended = spec.clone();
    suspended["suspend"] = json!(true);
    sim.writes();
    sim.set_link(link("east", suspended));
    assert_eq!((sim.probes(), sim.reachable()), (BTreeMap::new(), None));
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);
    let mut resumed = link("east", spec);
    sim.set_link(resumed.clone());
    assert_eq!(sim.probes().len(), 2, "it goes on with what has been listed");
    resumed.metadata.deletion_timestamp = serde_json::from_value(json!("2026-06-01T12:00:00Z")).unwrap();
    sim.set_link(resumed);
    assert_eq!(sim.probes(), BTreeMap::new());
}

#[test]
fn what_a_remote_publishes_makes_only_so_many_probes() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let addresses: Vec<String> = (1..=200).map(|n| format!("198.51.100.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let gateway = published("books", "public", &addresses, &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.probes().len(), 32);
    assert_eq!(sim.gateways().len(), 32);
    for target in sim.probes().into_keys() {
        let verdict = if target.address.to_string() == ONE { down() } else { Verdict::Reachable };
        sim.give(Input::Probed { target, verdict });
    }
    sim.settle();
    assert!(is(sim.reachable(), "False", "Unreachable").contains(ONE));
    assert_eq!(sim.gateways()[0], "public 198.51.100.1 false");
    let ready =
        sim.endpoints("shop/books-east").iter().filter(|e| e.ends_with(" ready") && !e.ends_with("not ready")).count();
    assert_eq!(ready, 2 * 199);
}

#[test]
fn addresses_of_udp_alone_and_denied_ones_are_not_probed() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let dns = OriginPort { protocol: Protocol::Udp, ..port("dns", 53) };
    let mut slice = published("dns", "public", &[ONE, "10.96.0.7"], &[]);
    slice.ports =
        vec![heliostat::core::model::SlicePort { protocol: Protocol::Udp, ..slice_port("dns", 20053) }].into();
    let mut service = origin("d1");
    service.ports = vec![dns].into();
    sim.list("east", &[("shop/dns", service)], &[("shop/dns-gw", slice)]);
    assert_eq!(sim.endpoints("shop/dns-east"), ["198.51.100.1:20053 dns ready"]);
    assert_eq!(sim.probes(), BTreeMap::new());
    assert_eq!((sim.gateways(), sim.reachable()), (vec!["public 198.51.100.1 ?".to_owned()], None));
    // Where the probe Service is behind the same address, that one tells.
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    sim.slice("heliostat-system/probe", probe_slice("public", &[ONE, "10.96.0.7"], 20900));
    assert_eq!(sim.probes(), [(target("public", ONE), content(20900, None))].into());
}

#[test]
fn a_lost_link_goes_on_being_probed_and_another_cluster_is_not() {
    let mut sim = with_two();
    sim.lose("east");
    assert_eq!(sim.probes().len(), 2);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    is(sim.reachable(), "False", "Unreachable");
    sim.remote("east", connected("another-uid"));
    assert_eq!(sim.probes(), BTreeMap::new());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND, "what is frozen stays as it is");
}

#[test]
fn content_is_asked_for_at_the_port_called_http_and_only_where_the_gateways_name_leads() {
    let mut sim = with_two();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    let ports = [("admin", 20800), ("http", 20900)];
    sim.slice("heliostat-system/probe-1", published("heliostat-probe", "public", &[ONE], &ports));
    assert_eq!(sim.probes()[&target("public", ONE)], content(20900, None));
    let mut by_name = probe_slice("public", &["gw.east.example"], 20900);
    by_name.address_type = AddressType::Fqdn;
    sim.slice("heliostat-system/probe-1", by_name);
    assert_eq!(sim.probes()[&target("public", ONE)], connection(20001), "nobody knows where that name leads");
}

#[test]
fn an_address_that_was_never_withdrawn_is_reachable_by_a_connection_while_nobody_answers() {
    let mut sim = with_two();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    let three = "198.51.100.3";
    sim.slice("heliostat-system/probe-1", probe_slice("public", &[ONE, TWO, three], 20900));
    let ports = [("http", 20001), ("grpc", 20002)];
    sim.slice("shop/books-gw", published("books", "public", &[ONE, TWO, three], &ports));
    assert_eq!(sim.probes()[&target("public", three)], meanwhile(20001));
    sim.probed("public", three, Verdict::Reachable);
    assert_eq!(sim.gateways()[2], "public 198.51.100.3 true");
}
