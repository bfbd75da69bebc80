//! The deletion guard, decided in memory: what a listing lacks is not deleted in masses, nor by a
//! listing that is older than what was seen; what was deleted for sure is. Named by the ids of the
//! behaviour catalogue.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chance;
#[path = "../common/mod.rs"]
mod common;
mod held;
mod known;
mod older;
mod restarts;

use std::collections::BTreeMap;

use heliostat::core::{
    io::{About, Output, RemoteEvent},
    model::{Key, Origin},
};

use crate::common::*;

const HELD: (&str, &str) = ("True", "DeletionHeld");

fn name(index: usize) -> String {
    format!("shop/s{index:02}")
}

fn mirrors(indices: impl IntoIterator<Item = usize>) -> Vec<String> {
    indices.into_iter().map(|index| format!("{}-east", name(index))).collect()
}

fn services(indices: impl IntoIterator<Item = usize>) -> BTreeMap<Key, Origin> {
    indices.into_iter().map(|index| (key(&name(index)), origin(&format!("uid-{index}")))).collect()
}

/// A complete listing of the origins with these numbers, at that resourceVersion.
fn listing(indices: impl IntoIterator<Item = usize>, version: Option<u64>) -> RemoteEvent {
    RemoteEvent::Listed {
        cluster_uid: "east-uid".into(),
        versions: version.map(|version| (None, version.to_string())).into_iter().collect(),
        services: services(indices),
        slices: BTreeMap::new(),
    }
}

/// The fixture with that many mirrors.
fn with_mirrors(count: usize) -> Sim {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.remote("east", listing(0..count, Some(100)));
    assert_eq!(sim.names(), mirrors(0..count));
    sim.log.clear();
    sim
}

fn condition(sim: &Sim) -> Option<(String, String)> {
    sim.link_condition("east", "DeletionHeld")
}

fn message(sim: &Sim) -> String {
    let status = sim.links["east"].status.clone().unwrap();
    status.conditions.into_iter().find(|c| c.type_ == "DeletionHeld").expect("nothing is held").message
}

/// The token, as a user finds it: the word after "token".
fn token(sim: &Sim) -> String {
    let message = message(sim);
    let mut words = message.split_whitespace().skip_while(|word| *word != "token");
    words.nth(1).unwrap().to_owned()
}

fn held() -> Option<(String, String)> {
    Some((HELD.0.into(), HELD.1.into()))
}

fn annotate(sim: &mut Sim, token: &str) {
    let mut link = sim.links["east"].clone();
    link.metadata.annotations.get_or_insert_default().insert("heliostat.dev/allow-deletion".into(), token.into());
    sim.set_link(link);
}

fn counts(sim: &Sim) -> (u32, u32, u32) {
    let services = sim.links["east"].status.as_ref().unwrap().services.unwrap();
    (services.seen, services.mirrored, services.skipped)
}

/// Events about the link, by reason, since this was asked last.
fn events(sim: &mut Sim) -> Vec<&'static str> {
    let told = |output| match output {
        Output::Event(event) if matches!(event.about, About::Link(..)) => Some(event.reason),
        _ => None,
    };
    std::mem::take(&mut sim.others).into_iter().filter_map(told).collect()
}
