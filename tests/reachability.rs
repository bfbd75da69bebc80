//! What follows from probes of gateway addresses, in memory. Cases are named after the rows of the
//! behaviour catalogue, and after the promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{Sim, binding, key, link, map, origin, pods, policy, port, published, slice_port};
use heliostat::core::{
    io::{About, Input, Output, RemoteEvent, WriteOp},
    model::{AddressType, Origin, OriginPort, Protocol, Published, Readiness, RemoteSlice, SliceRole},
    reach::{Ask, ProbeTask, ProbeTerms, Target, Verdict},
};
use jiff::SignedDuration;
use serde_json::json;

const ONE: &str = "198.51.100.1";
const TWO: &str = "198.51.100.2";
const PROBE: &str = "heliostat-system/heliostat-probe";

fn target(binding: &str, address: &str) -> Target {
    Target { link: "east".into(), binding: binding.into(), address: address.parse().unwrap() }
}

fn terms() -> ProbeTerms {
    ProbeTerms { period: Duration::from_secs(10), timeout: Duration::from_secs(2), failure_threshold: 3 }
}

fn connection(port: u16) -> ProbeTask {
    ProbeTask { ask: Ask::Connection { port, meanwhile: false }, terms: terms() }
}

/// Until somebody is there again to answer for content.
fn meanwhile(port: u16) -> ProbeTask {
    ProbeTask { ask: Ask::Connection { port, meanwhile: true }, terms: terms() }
}

fn content(port: u16, host: Option<&str>) -> ProbeTask {
    let ask = Ask::ClusterUid { port, host: host.map(str::to_owned), uid: "east-uid".into() };
    ProbeTask { ask, terms: terms() }
}

fn down() -> Verdict {
    Verdict::Unreachable { why: "port 20001: the connection is refused".into(), others_answer: true }
}

/// It does not answer, and neither do others of its binding.
fn failing() -> Verdict {
    Verdict::Unreachable { why: "port 20001: the connection is refused".into(), others_answer: false }
}

fn silent() -> Verdict {
    Verdict::Silent("port 20001: no connection within 2s".into())
}

/// The Service by which an exporter answers probes.
fn probe_service() -> Origin {
    Origin {
        labels: map(&[("heliostat.dev/export", "true"), ("heliostat.dev/probe", "true")]),
        ports: vec![port("http", 80)].into(),
        kind: heliostat::core::model::OriginType::ClusterIp,
        ingress: vec![],
        ..origin("probe")
    }
}

/// Its pods.
fn probe_pods(ready: bool) -> RemoteSlice {
    pods("heliostat-probe", &["10.1.0.9"], ready)
}

fn probe_slice(binding: &str, addresses: &[&str], port: u16) -> RemoteSlice {
    published("heliostat-probe", binding, addresses, &[("http", port)])
}

fn routed(mut slice: RemoteSlice, routing: &str, hostnames: &[&str]) -> RemoteSlice {
    let SliceRole::Published(what) = &mut slice.role else { panic!("{slice:?}") };
    let names = hostnames.iter().map(|name| (*name).into()).collect();
    **what = Published { routing: routing.into(), hostnames: names, ..(**what).clone() };
    slice
}

trait Probing {
    fn probes(&self) -> BTreeMap<Target, ProbeTask>;
    fn probed(&mut self, binding: &str, address: &str, verdict: Verdict);
    fn gateways(&self) -> Vec<String>;
    fn reachable(&self) -> Option<(String, String, String)>;
    fn statuses(&mut self) -> usize;
}

impl Probing for Sim {
    /// What the prober was last asked to do.
    fn probes(&self) -> BTreeMap<Target, ProbeTask> {
        let asked = |output: &Output| if let Output::Probe(tasks) = output { Some(tasks.clone()) } else { None };
        self.others.iter().rev().find_map(asked).unwrap_or_default()
    }

    fn probed(&mut self, binding: &str, address: &str, verdict: Verdict) {
        self.give(Input::Probed { target: target(binding, address), verdict });
        self.settle();
    }

    /// `binding address true|false|?` of the link's status.
    fn gateways(&self) -> Vec<String> {
        let gateways = &self.links["east"].status.as_ref().unwrap().gateways;
        let row = |g: &heliostat::api::link::GatewayStatus| {
            let reachable = g.reachable.map_or("?".to_owned(), |reachable| reachable.to_string());
            format!("{} {} {reachable}", g.binding, g.address)
        };
        gateways.iter().map(row).collect()
    }

    /// Status, reason and message of the link's `Reachable`.
    fn reachable(&self) -> Option<(String, String, String)> {
        let conditions = &self.links["east"].status.as_ref()?.conditions;
        let found = conditions.iter().find(|c| c.type_ == "Reachable")?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    /// How many writes there were since this was asked last, statuses included.
    fn statuses(&mut self) -> usize {
        std::mem::take(&mut self.log).len()
    }
}

fn is(found: Option<(String, String, String)>, status: &str, reason: &str) -> String {
    let (is, why, message) = found.expect("there is a condition Reachable");
    assert_eq!((is.as_str(), why.as_str()), (status, reason), "{message}");
    message
}

/// shop/books through binding public at two addresses, which answer.
fn with_two() -> Sim {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    sim.probed("public", ONE, Verdict::Reachable);
    sim.probed("public", TWO, Verdict::Reachable);
    sim
}

const BOTH: [&str; 4] = [
    "198.51.100.1:20001 http ready",
    "198.51.100.1:20002 grpc ready",
    "198.51.100.2:20001 http ready",
    "198.51.100.2:20002 grpc ready",
];
const SECOND: [&str; 4] = [
    "198.51.100.1:20001 http not ready",
    "198.51.100.1:20002 grpc not ready",
    "198.51.100.2:20001 http ready",
    "198.51.100.2:20002 grpc ready",
];

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
    away.endpoints.iter_mut().for_each(|e| e.readiness = Readiness::all(false));
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
    let by_name = |slice: RemoteSlice| RemoteSlice { address_type: AddressType::Fqdn, ..slice };
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
fn g18_an_address_that_is_down_leaves_the_mirrors_that_have_another_one() {
    let mut sim = with_two();
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.writes();
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    let writes = sim.writes();
    assert!(matches!(writes.as_slice(), [WriteOp::PatchSlice(..)]), "one write, and the slice stays: {writes:?}");

    // Both down: nothing would be gained by withdrawing both.
    sim.probed("public", TWO, down());
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.probed("public", ONE, Verdict::Reachable);
    let first: Vec<String> =
        SECOND.map(|e| e.replace("100.1", "100.x").replace("100.2", "100.1").replace("100.x", "100.2")).into();
    let mut first_only = first;
    first_only.sort();
    assert_eq!(sim.endpoints("shop/books-east"), first_only);
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.writes();
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.writes(), []);
}

#[test]
fn addresses_that_fail_together_stay() {
    let mut sim = with_two();
    sim.writes();
    sim.probed("public", ONE, failing());
    assert!(is(sim.reachable(), "False", "Unreachable").contains(ONE), "that is said");
    sim.probed("public", TWO, failing());
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (BOTH.map(str::to_owned).into(), vec![]));
    let told = is(sim.reachable(), "False", "Unreachable");
    assert!(told.contains(ONE) && told.contains(TWO), "{told}");
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 false"]);
    sim.restart();
    sim.statuses();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.statuses(), 0, "a restart holds still");
    sim.probed("public", ONE, failing());
    // One answers again, and then the other one is seen not to.
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (BOTH.map(str::to_owned).into(), vec![]));
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    // What is withdrawn stays so while the other one fails, also over a restart.
    sim.writes();
    sim.probed("public", TWO, failing());
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
    sim.restart();
    sim.statuses();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.statuses(), 0);
}

#[test]
fn the_only_address_of_a_port_or_a_family_stays() {
    let mut sim = Sim::fixture();
    sim.families.push(heliostat::core::model::Family::V6);
    sim.connect("east");
    let six = RemoteSlice {
        address_type: AddressType::Ip(heliostat::core::model::Family::V6),
        ..published("books", "public", &["2001:db8::1"], &[("http", 20001), ("grpc", 20002)])
    };
    let http = published("books", "public", &[ONE], &[("http", 20001)]);
    let both = published("books", "public", &[TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list(
        "east",
        &[("shop/books", origin("b1"))],
        &[("shop/books-6", six), ("shop/books-a", http), ("shop/books-b", both)],
    );
    let not_ready = |sim: &Sim| {
        let all = sim.endpoints("shop/books-east");
        assert_eq!(all.len(), 5, "{all:?}");
        all.into_iter().filter(|e| e.ends_with("not ready")).collect::<Vec<_>>()
    };
    sim.probed("public", TWO, down());
    assert_eq!(not_ready(&sim), Vec::<String>::new(), "nobody else has grpc in its family");
    sim.probed("public", TWO, Verdict::Reachable);
    sim.probed("public", ONE, down());
    assert_eq!(not_ready(&sim), ["198.51.100.1:20001 http not ready"]);
    sim.probed("public", "2001:db8::1", down());
    assert_eq!(not_ready(&sim), ["198.51.100.1:20001 http not ready"], "it is the only one of its family");
}

#[test]
fn an_address_that_is_up_but_not_ready_is_no_other_one() {
    let mut sim = with_two();
    let mut gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    gateway.endpoints[1].readiness = Readiness::all(false);
    sim.slice("shop/books-gw", gateway);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east")[0], "198.51.100.1:20001 http ready");
}

#[test]
fn g03_g16_reachability_chooses_no_way_and_each_move_is_make_before_break() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let by = |binding: &str, address: &str, port: u16| {
        published("books", binding, &[address], &[("http", port), ("grpc", port + 1)])
    };
    let first = ("shop/books-a", by("alpha", ONE, 20001));
    let second = ("shop/books-b", by("beta", TWO, 21001));
    sim.list("east", &[("shop/books", origin("b1"))], &[first.clone(), second.clone()]);
    let alpha = ["198.51.100.1:20001 http ready", "198.51.100.1:20002 grpc ready"];
    let beta = ["198.51.100.2:21001 http ready", "198.51.100.2:21002 grpc ready"];
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    sim.probed("alpha", ONE, Verdict::Reachable);
    sim.writes();

    // The preferred one does not answer: the mirror has no other address of that binding, and stays.
    sim.probed("alpha", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    assert_eq!(sim.writes(), []);

    // It goes: new slices are there before the old ones leave, and then only one feeds it.
    let moves = |sim: &mut Sim, via: &str| {
        let kinds: Vec<&str> = sim
            .writes()
            .iter()
            .map(|op| match op {
                WriteOp::PatchService(_, _, patch) => {
                    assert_eq!(patch.annotations["heliostat.dev/via"].as_deref(), Some(via));
                    "mirror"
                }
                WriteOp::CreateSlice(..) => "make",
                WriteOp::DeleteSlice(..) => "break",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["mirror", "make", "break"]);
    };
    sim.remote("east", RemoteEvent::SliceGone(key(first.0)));
    moves(&mut sim, "Gateway/beta");
    assert_eq!(sim.endpoints("shop/books-east"), beta);
    assert_eq!(sim.probes(), [(target("beta", TWO), connection(21001))].into());

    // It comes back, and whatever was said of it is forgotten.
    sim.slice(first.0, first.1);
    moves(&mut sim, "Gateway/alpha");
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    assert_eq!(sim.probes(), [(target("alpha", ONE), connection(20001))].into());
}

#[test]
fn the_links_condition_and_status_name_the_address() {
    let mut sim = with_two();
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 true"]);
    is(sim.reachable(), "True", "Reachable");
    let types: Vec<String> =
        sim.links["east"].status.as_ref().unwrap().conditions.iter().map(|c| c.type_.clone()).collect();
    assert_eq!(types, ["Ready", "Accepted", "CredentialsValid", "Connected", "Synced", "Reachable"]);

    sim.others.clear();
    sim.probed("public", ONE, down());
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 true"]);
    let message = is(sim.reachable(), "False", "Unreachable");
    for part in [ONE, "public", "the connection is refused"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains(TWO), "{message}");
    assert_eq!(sim.link_condition("east", "Ready").unwrap().0, "True", "it decides no other condition");
    let told: Vec<&str> = sim
        .others
        .iter()
        .filter_map(|o| match o {
            Output::Event(event) if matches!(event.about, About::Link(..)) => Some(event.reason),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["Unreachable"]);

    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 true"]);
    is(sim.reachable(), "True", "Reachable");
    sim.statuses();
    sim.pass(SignedDuration::from_hours(1));
    assert_eq!(sim.statuses(), 0, "nothing is written while nothing changes");
}

#[test]
fn when_every_probe_of_every_link_fails_it_is_the_prober_that_is_cut_off() {
    let mut sim = with_two();
    sim.set_link(link("north", json!({})));
    sim.set_policy(policy("shop/north", json!({"links": {"names": ["north"]}})));
    sim.connect("north");
    let maps = published("maps", "edge", &["192.0.2.1"], &[("http", 443), ("grpc", 8443)]);
    sim.list("north", &[("shop/maps", origin("m1"))], &[("shop/maps-gw", maps)]);
    let north = Target { link: "north".into(), binding: "edge".into(), address: "192.0.2.1".parse().unwrap() };
    let north_says = |sim: &mut Sim, verdict: Verdict| {
        sim.give(Input::Probed { target: north.clone(), verdict });
        sim.settle();
    };
    north_says(&mut sim, Verdict::Reachable);
    sim.writes();

    // One by one, in any order, each fails without a sign from any other.
    sim.probed("public", ONE, silent());
    is(sim.reachable(), "True", "Reachable");
    sim.probed("public", TWO, silent());
    north_says(&mut sim, silent());
    assert_eq!(sim.writes(), [], "nothing is withdrawn");
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    let message = is(sim.reachable(), "Unknown", "Unreachable");
    for part in [ONE, TWO, "cut off", "nothing is withdrawn"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(sim.link_condition("north", "Reachable"), Some(("Unknown".into(), "Unreachable".into())));
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);

    // A restart while it lasts changes nothing.
    sim.restart();
    sim.statuses();
    sim.connect("east");
    sim.list(
        "east",
        &[("shop/books", origin("b1"))],
        &[("shop/books-gw", published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]))],
    );
    sim.probed("public", ONE, silent());
    assert_eq!(sim.statuses(), 0);

    // It is over: what does answer shows which do not.
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    is(sim.reachable(), "False", "Unreachable");

    // And what was known to be down stays withdrawn through the next one.
    sim.writes();
    sim.probed("public", TWO, silent());
    is(sim.reachable(), "Unknown", "Unreachable");
    assert_eq!(sim.writes(), []);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 ?"]);
}

#[test]
fn what_was_withdrawn_by_content_comes_back_by_content() {
    let mut sim = with_two();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    sim.slice("heliostat-system/probe-1", probe_slice("public", &[ONE, TWO], 20900));
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    sim.writes();
    // The exporter's controller is away: the address accepts connections, as it did all the while.
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    assert_eq!(sim.probes()[&target("public", ONE)], meanwhile(20001));
    sim.probed("public", ONE, Verdict::Reachable);
    sim.probed("public", TWO, Verdict::Reachable);
    // It is there again, and what it saw of others before it must see anew.
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    for again in [silent(), failing(), down()] {
        sim.probed("public", ONE, again);
        assert_eq!(sim.writes(), []);
        is(sim.reachable(), "False", "Unreachable");
    }
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);

    // The exporter runs Heliostat no more: a connection is all that there is to go by.
    sim.probed("public", ONE, down());
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    sim.remote("east", RemoteEvent::ServiceGone(key(PROBE), "probe".into()));
    assert_eq!(sim.probes()[&target("public", ONE)], connection(20001), "asked anew");
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
}

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

#[test]
fn a_restart_with_a_gateway_by_name_holds_still_too() {
    let mut sim = Sim::fixture();
    let start = |sim: &mut Sim| {
        sim.connect("east");
        let ports = [("http", 20001), ("grpc", 20002)];
        let books = RemoteSlice {
            address_type: AddressType::Fqdn,
            ..published("books", "public", &["gw.east.example"], &ports)
        };
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
    let mut suspended = spec;
    suspended["suspend"] = json!(true);
    sim.writes();
    sim.set_link(link("east", suspended));
    assert_eq!((sim.probes(), sim.reachable()), (BTreeMap::new(), None));
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);
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
    sim.list("east", &[("shop/dns", Origin { ports: vec![dns].into(), ..origin("d1") })], &[("shop/dns-gw", slice)]);
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
    sim.remote("east", common::connected("another-uid"));
    assert_eq!(sim.probes(), BTreeMap::new());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND, "what is frozen stays as it is");
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
