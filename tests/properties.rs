//! Properties of the core that no list of examples shows: whatever happens, in whatever order, the
//! end is the one that the final state asks for, nothing is written twice, and nothing foreign is
//! ever written.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::*;
use heliostat::core::{
    io::{Input, Output, RemoteEvent, WriteOp},
    model::{Key, MirrorState, Origin, OriginType, RemoteSlice, SliceBody},
    reach::{Target, Verdict},
};
use proptest::prelude::*;
use serde_json::json;

const NAMES: &[&str] = &["shop/a", "shop/b", "shop/c", "stock/a"];
const GATEWAY: [&str; 2] = ["203.0.113.9", "203.0.113.10"];

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Origin(usize, Variant),
    Gone(usize),
    Pods(usize, bool),
    Gateway(usize, bool),
    Probed(usize, usize),
    Foreign(usize),
    DeleteMirror(usize),
    EditMirror(usize),
    Policy(usize),
    Lost,
    Relist,
    Restart,
    Pass(i64),
}

/// What an origin may look like.
#[derive(Clone, Copy, Debug)]
struct Variant {
    kind: usize,
    ports: usize,
    labelled: bool,
}

fn variant() -> impl Strategy<Value = Variant> {
    (0..4usize, 0..3usize, any::<bool>()).prop_map(|(kind, ports, labelled)| Variant { kind, ports, labelled })
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), variant()).prop_map(|(n, v)| Step::Origin(n, v)),
        2 => name.clone().prop_map(Step::Gone),
        2 => (name.clone(), any::<bool>()).prop_map(|(n, r)| Step::Pods(n, r)),
        2 => (name.clone(), any::<bool>()).prop_map(|(n, g)| Step::Gateway(n, g)),
        2 => (0..GATEWAY.len(), 0..4usize).prop_map(|(a, v)| Step::Probed(a, v)),
        1 => name.clone().prop_map(Step::Foreign),
        1 => name.clone().prop_map(Step::DeleteMirror),
        1 => name.prop_map(Step::EditMirror),
        1 => (0..4usize).prop_map(Step::Policy),
        1 => Just(Step::Lost),
        1 => Just(Step::Relist),
        1 => Just(Step::Restart),
        1 => (1..400i64).prop_map(Step::Pass),
    ]
}

fn origin_of(index: usize, v: Variant) -> Origin {
    let mut origin = origin(&format!("uid-{index}"));
    origin.kind =
        [OriginType::LoadBalancer, OriginType::Headless, OriginType::ClusterIp, OriginType::ExternalName][v.kind];
    if v.kind != 0 {
        origin.ingress = [].into();
    }
    origin.ports.edit(|ports| ports.truncate(v.ports));
    if v.labelled {
        origin.labels.insert("team".into(), "a".into());
    }
    origin
}

fn policy_of(index: usize) -> heliostat::api::MirrorPolicy {
    let spec = [
        json!({}),
        json!({"mirror": {"labels": ["team"]}}),
        json!({"services": {"ports": ["http"]}, "via": ["Direct", "Service"]}),
        json!({"services": {"selector": {"matchLabels": {"team": "a"}}}}),
    ];
    policy("heliostat-system/all", spec[index].clone())
}

/// The exporter as it is.
#[derive(Default)]
struct Exporter {
    services: BTreeMap<Key, Origin>,
    slices: BTreeMap<Key, RemoteSlice>,
    policy: usize,
    foreign: Vec<String>,
    /// What is said of addresses that are probed.
    verdicts: BTreeMap<Target, Verdict>,
}

/// The addresses that are probed.
fn probed(sim: &Sim) -> Vec<Target> {
    let tasks =
        |output: &Output| if let Output::Probe(tasks) = output { Some(tasks.keys().cloned().collect()) } else { None };
    sim.others.iter().rev().find_map(tasks).unwrap_or_default()
}

/// Of [`verdict_of`].
const REACHABLE: usize = 0;
/// It does not answer, and others do.
const DOWN: usize = 1;

fn verdict_of(index: usize) -> Verdict {
    let unreachable = |others_answer| Verdict::Unreachable { why: "refused".into(), others_answer };
    [Verdict::Reachable, unreachable(true), unreachable(false), Verdict::Silent("nothing".into())][index].clone()
}

fn start() -> Sim {
    let mut sim = Sim::new();
    sim.namespace("shop");
    sim.namespace("stock");
    sim.set_link(link("east", json!({})));
    sim.set_policy(policy_of(0));
    sim.connect("east");
    sim
}

fn mirror_name(index: usize) -> String {
    format!("{}-east", NAMES[index])
}

impl Exporter {
    fn relist(&self, sim: &mut Sim) {
        sim.connect("east");
        let event = RemoteEvent::Listed {
            cluster_uid: "east-uid".into(),
            versions: BTreeMap::new(),
            services: self.services.clone(),
            slices: self.slices.clone(),
        };
        sim.remote("east", event);
    }

    fn probe(&self, sim: &mut Sim, target: &Target) {
        if probed(sim).contains(target) {
            sim.give(Input::Probed { target: target.clone(), verdict: self.verdicts[target].clone() });
            sim.settle();
        }
    }

    fn play(&mut self, sim: &mut Sim, step: Step) {
        match step {
            Step::Origin(n, v) => {
                self.services.insert(key(NAMES[n]), origin_of(n, v));
                sim.remote("east", RemoteEvent::Service(key(NAMES[n]), Box::new(origin_of(n, v))));
            }
            Step::Gone(n) => {
                if let Some(gone) = self.services.remove(&key(NAMES[n])) {
                    sim.remote("east", RemoteEvent::ServiceGone(key(NAMES[n]), gone.uid.to_string()));
                }
            }
            Step::Pods(n, ready) => {
                let name = key(&format!("{}-pods", NAMES[n]));
                let slice = pods(&key(NAMES[n]).name, &["10.1.0.1", "10.1.0.2"], ready);
                self.slices.insert(name.clone(), slice.clone());
                sim.remote("east", RemoteEvent::Slice(name, Box::new(slice)));
            }
            Step::Gateway(n, there) => {
                let name = key(&format!("{}-gw", NAMES[n]));
                if there {
                    let slice = published(&key(NAMES[n]).name, "public", &GATEWAY, &[("http", 20001), ("grpc", 20002)]);
                    self.slices.insert(name.clone(), slice.clone());
                    sim.remote("east", RemoteEvent::Slice(name, Box::new(slice)));
                } else if self.slices.remove(&name).is_some() {
                    sim.remote("east", RemoteEvent::SliceGone(name));
                }
            }
            Step::Probed(address, verdict) => {
                let address = GATEWAY[address].parse().unwrap();
                let target = Target { link: "east".into(), binding: "public".into(), address };
                // What is withdrawn stays so until it answers.
                let withdrawn = self.verdicts.get(&target) == Some(&verdict_of(DOWN)) && verdict != REACHABLE;
                self.verdicts.insert(target.clone(), verdict_of(if withdrawn { DOWN } else { verdict }));
                if probed(sim).contains(&target) {
                    sim.give(Input::Probed { target, verdict: verdict_of(verdict) });
                    sim.settle();
                }
            }
            Step::Foreign(n) => {
                if !sim.services.contains_key(&key(&mirror_name(n))) {
                    self.foreign.push(mirror_name(n));
                    sim.foreign_service(&mirror_name(n));
                }
            }
            Step::DeleteMirror(n) => {
                if sim.services.get(&key(&mirror_name(n))).is_some_and(|s| s.ours.is_some()) {
                    sim.delete_service(&mirror_name(n));
                }
            }
            Step::EditMirror(n) => {
                if sim.services.get(&key(&mirror_name(n))).is_some_and(|s| s.ours.is_some()) {
                    sim.edit_service(&mirror_name(n), |state| {
                        state.ports.edit(|ports| ports.clear());
                        state.labels.insert("heliostat.dev/policy".into(), "nobody".into());
                    });
                }
            }
            Step::Policy(n) => {
                self.policy = n;
                sim.set_policy(policy_of(n));
            }
            Step::Lost => {
                sim.lose("east");
                self.relist(sim);
            }
            Step::Relist => self.relist(sim),
            Step::Restart => {
                sim.restart();
                sim.others.clear();
                self.relist(sim);
            }
            Step::Pass(seconds) => sim.pass(jiff::SignedDuration::from_secs(seconds)),
        }
        // Who is not probed any more is forgotten.
        let probed = probed(sim);
        self.verdicts.retain(|target, _| probed.contains(target));
    }
}

/// Everything that can be seen of the mirrors but for uids and versions.
fn picture(sim: &Sim) -> (BTreeMap<Key, Option<MirrorState>>, BTreeMap<Key, SliceBody>) {
    let strip = |state: &MirrorState| {
        let mut state = state.clone();
        state.odd.edit(|odd| odd.mirrored.iter_mut().for_each(|m| m.since = jiff::Timestamp::UNIX_EPOCH));
        state
    };
    let services = sim.services.iter().map(|(k, s)| (k.clone(), s.ours.as_deref().map(strip))).collect();
    (services, sim.slices.iter().map(|(k, s)| (k.clone(), s.body.clone())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_happens_the_end_is_what_the_final_state_asks_for(steps in prop::collection::vec(step(), 1..40)) {
        let mut sim = start();
        let mut exporter = Exporter::default();
        exporter.relist(&mut sim);
        for step in steps {
            exporter.play(&mut sim, step);
            for name in &exporter.foreign {
                prop_assert!(sim.services[&key(name)].ours.is_none(), "{} is not ours and stays so", name);
            }
        }
        sim.settle();
        // The prober says after a restart what it said before.
        exporter.verdicts.keys().for_each(|target| exporter.probe(&mut sim, target));
        let mut fresh = start();
        exporter.foreign.iter().for_each(|name| fresh.foreign_service(name));
        fresh.set_policy(policy_of(exporter.policy));
        exporter.relist(&mut fresh);
        exporter.verdicts.keys().for_each(|target| exporter.probe(&mut fresh, target));
        prop_assert_eq!(picture(&sim), picture(&fresh));
        // And then nothing more is written, by the one that ran or by one that starts anew.
        sim.writes();
        sim.restart();
        exporter.relist(&mut sim);
        sim.pass(jiff::SignedDuration::from_mins(30));
        prop_assert_eq!(sim.writes(), Vec::<WriteOp>::new());
    }

    #[test]
    fn every_granted_name_has_one_origin(names in prop::collection::btree_set("[a-c](-[a-c]){0,2}", 1..6), links in prop::collection::btree_set("[a-c](-[a-c]){0,1}", 1..4)) {
        let mut sim = Sim::new();
        sim.namespace("shop");
        let links: Vec<String> = links.into_iter().collect();
        for name in &links {
            sim.set_link(link(name, json!({})));
        }
        sim.set_policy(policy("shop/all", json!({"links": {"names": links}})));
        for link in &links {
            sim.connect(link);
            let services: Vec<(String, Origin)> = names.iter().map(|n| (format!("shop/{n}"), origin(&format!("{link}-{n}")))).collect();
            let services: Vec<(&str, Origin)> = services.iter().map(|(n, o)| (n.as_str(), o.clone())).collect();
            sim.list(link, &services, &[]);
        }
        let granted: BTreeMap<String, Vec<Key>> = sim.services.iter().fold(BTreeMap::new(), |mut all, (mirror, service)| {
            let state = service.ours.as_ref().unwrap();
            let origin = format!("{} {}", state.labels.get("heliostat.dev/link").unwrap(), state.annotations.get("heliostat.dev/origin").unwrap());
            all.entry(origin).or_insert_with(Vec::new).push(mirror.clone());
            all
        });
        prop_assert!(granted.values().all(|mirrors| mirrors.len() == 1));
        let (matched, mirrored, skipped, conflicted) = sim.counts("shop/all");
        prop_assert_eq!(matched as usize, names.len() * links.len());
        prop_assert_eq!((mirrored as usize, skipped, mirrored + conflicted), (granted.len(), 0, matched));
    }
}
