//! How long a change in a remote takes to land here, as the core measures it: from its receipt to
//! the answer to the last write that follows from it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::*;
use heliostat::core::{
    io::{Change, Input, Local, Output, RemoteEvent, WriteFailure},
    model::RemoteSlice,
};
use jiff::SignedDuration;

/// How long the importer takes to answer a write.
const ANSWER: SignedDuration = SignedDuration::from_millis(7);

fn start() -> Sim {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.list("east", &[], &[]);
    sim.latency = ANSWER;
    sim.writes();
    sim
}

/// What has been measured since this was asked last.
fn measured(sim: &mut Sim) -> Vec<Duration> {
    let measures = |output| if let Output::Propagated(took) = output { Some(took) } else { None };
    std::mem::take(&mut sim.others).into_iter().filter_map(measures).collect()
}

fn books(ready: bool) -> RemoteEvent {
    let slice: RemoteSlice = pods("books", &["10.1.0.1"], ready);
    RemoteEvent::Slice(key("shop/books-x"), Box::new(slice))
}

fn export() -> RemoteEvent {
    RemoteEvent::Service(key("shop/books"), Box::new(origin("b1")))
}

#[test]
fn a_change_is_measured_once_from_its_receipt_to_the_last_answer() {
    let mut sim = start();
    let waited = SignedDuration::from_millis(3);
    let received = sim.now.checked_sub(waited).unwrap();
    sim.give(Input::Remote { link: "east".into(), session: 1, received, event: export() });
    assert_eq!(sim.writes().len(), 2, "a Service and a slice");
    assert_eq!(measured(&mut sim), [Duration::from_millis(3 + 2 * 7)]);
    sim.settle();
    assert!(!sim.log.is_empty(), "statuses follow");
    assert_eq!(measured(&mut sim), Vec::<Duration>::new(), "which are not counted");

    sim.remote("east", books(true));
    assert_eq!((sim.writes().len(), measured(&mut sim)), (1, vec![Duration::from_millis(7)]), "its endpoints");
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "b1".into()));
    assert_eq!((sim.writes().len(), measured(&mut sim)), (1, vec![Duration::from_millis(7)]), "its deletion");
}

#[test]
fn what_writes_nothing_is_not_measured() {
    let mut sim = start();
    sim.remote("east", export());
    sim.remote("east", books(true));
    sim.writes();
    measured(&mut sim);

    sim.remote("east", export());
    let mut labelled = origin("b1");
    labelled.labels.insert("team".into(), "a".into());
    sim.origin("shop/books", labelled);
    sim.slice("shop/books-x", pods("books", &["10.1.0.2", "10.1.0.3"], true));
    sim.remote("east", RemoteEvent::Alive);
    assert_eq!((sim.writes(), measured(&mut sim)), (vec![], vec![]));

    // Nor is what somebody here has done.
    sim.delete_service("shop/books-east");
    assert_eq!((sim.writes().len(), measured(&mut sim)), (2, vec![]), "made again");
    let (name, mut slice) = sim.slices.iter().next().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    slice.body.endpoints.edit(Vec::clear);
    sim.give(Input::Local(Local::Slice(Change::Set(name, slice))));
    assert_eq!((sim.writes().len(), measured(&mut sim)), (1, vec![]));
}

#[test]
fn a_write_that_fails_counts_until_it_succeeds() {
    let mut sim = start();
    sim.refuse = [WriteFailure::Transient, WriteFailure::Transient].into();
    let received = sim.now;
    sim.give(Input::Remote { link: "east".into(), session: 1, received, event: export() });
    assert_eq!((sim.writes().len(), measured(&mut sim)), (1, vec![]), "refused");
    while sim.services.is_empty() {
        sim.pass(SignedDuration::from_millis(1));
    }
    assert_eq!(sim.writes().len(), 3, "refused again, then the Service and the slice");
    let since = Duration::try_from(sim.now.duration_since(received)).unwrap();
    let [took] = measured(&mut sim)[..] else { panic!("measured once") };
    assert!(took <= since && took + Duration::from_millis(1) >= since, "{took:?} of {since:?}");
}

#[test]
fn listings_are_not_measured() {
    let mut sim = Sim::fixture();
    sim.latency = ANSWER;
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    assert_eq!((sim.writes().len(), measured(&mut sim)), (2, vec![]), "a cold sync");
    let services = [(key("shop/books"), origin("b1")), (key("shop/pens"), origin("p1"))].into();
    sim.remote(
        "east",
        RemoteEvent::ServicesListed { cluster_uid: "east-uid".into(), scope: None, version: None, services },
    );
    assert_eq!((sim.writes().len(), measured(&mut sim)), (2, vec![]), "a watch that began anew");
    sim.lose("east");
    sim.connect("east");
    sim.list("east", &[], &[]);
    assert_eq!((sim.writes().len(), measured(&mut sim)), (2, vec![]), "what was missed meanwhile");
}
