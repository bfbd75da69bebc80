//! What follows from probes of gateway addresses, in memory. Cases are named after the rows of the
//! behaviour catalogue, and after the promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod asked;
#[path = "../common/mod.rs"]
mod common;
mod restarts;
mod told;
mod withdrawn;

use std::{collections::BTreeMap, time::Duration};

use heliostat::core::{
    io::{Input, Output},
    model::{Origin, Published, RemoteSlice, SliceRole},
    reach::{Ask, ProbeTask, ProbeTerms, Target, Verdict},
};

use crate::common::{Sim, map, origin, pods, port, published};

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
    let mut probe = origin("probe");
    probe.labels = map(&[("heliostat.dev/export", "true"), ("heliostat.dev/probe", "true")]);
    probe.ports = vec![port("http", 80)].into();
    probe.kind = heliostat::core::model::OriginType::ClusterIp;
    probe.ingress = [].into();
    probe
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
