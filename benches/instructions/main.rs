//! How many instructions it takes where it is done a hundred thousand times: to read an object, to decide about a
//! mirror and to compare it, to write it, and all of it in a cold start. Counted by callgrind, so that they
//! are nearly the same on every machine; never times. `make instructions`
//!
//! Each is done once, for `MANY` objects. What was counted is in [`counted`]; a tenth more fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "the benchmark of memory uses the rest")]
#[path = "../memory/exporter.rs"]
mod exporter;
#[allow(dead_code, reason = "the benchmark of memory uses the rest")]
#[path = "../memory/importer.rs"]
mod importer;
#[allow(dead_code, reason = "the benchmark of memory uses the rest")]
#[path = "../memory/meter.rs"]
mod meter;
#[allow(dead_code, reason = "tests/allocations.rs uses the rest")]
#[path = "../memory/work.rs"]
mod work;

use std::collections::BTreeMap;

use exporter::Exporter;
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main as benchmarks,
};
use heliostat::{
    apply::render::render,
    cluster::wire::{LocalServiceWire, LocalSliceWire, OriginWire, RemoteSliceWire},
    core::{
        io::WriteOp,
        model::{Key, Origin, RemoteSlice},
        resolve::Decision,
    },
};
use http::Request;
use importer::{Importer, Stored};
use kube::core::ObjectList;
use meter::Meter;
use work::MANY;

/// Instructions for each object or mirror, as they were when the line was changed last. Who needs more on purpose,
/// or makes it less, writes the new number down: what is printed, by `MANY`.
mod counted {
    pub(crate) const READ_SERVICE_OF_A_LINK: u64 = 118_900;
    pub(crate) const READ_SERVICE_OF_THIS_CLUSTER: u64 = 79_300;
    pub(crate) const READ_SLICE_OF_A_LINK: u64 = 120_300;
    pub(crate) const READ_SLICE_OF_THIS_CLUSTER: u64 = 102_400;
    pub(crate) const PLAN_A_NEW_MIRROR: u64 = 55_800;
    pub(crate) const COMPARE_IN_SYNC: u64 = 69_700;
    pub(crate) const COMPARE_CHANGED: u64 = 66_800;
    pub(crate) const WRITE_A_SERVICE: u64 = 117_700;
    pub(crate) const COLD_START: u64 = 855_900;
    pub(crate) const NOTHING_HAPPENED: u64 = 1_790;
}

/// Fails with a tenth more than so many instructions for each. Caches are not simulated.
fn most(each: u64) -> LibraryBenchmarkConfig {
    let limit = each * MANY as u64 * 11 / 10;
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::with_args(["--cache-sim=no"]).hard_limits([(EventKind::Ir, limit)]));
    config
}

fn services() -> Vec<u8> {
    let exporter = Exporter::new(0, MANY);
    work::page(|index| exporter.service(index))
}

fn slices() -> Vec<u8> {
    let exporter = Exporter::new(0, MANY);
    work::page(|index| exporter.slice(index))
}

#[library_benchmark(config = most(counted::READ_SERVICE_OF_A_LINK), setup = services)]
#[bench::all()]
fn read_service_of_a_link(page: Vec<u8>) -> ObjectList<OriginWire> {
    work::read(&page)
}

#[library_benchmark(config = most(counted::READ_SERVICE_OF_THIS_CLUSTER), setup = services)]
#[bench::all()]
fn read_service_of_this_cluster(page: Vec<u8>) -> ObjectList<LocalServiceWire> {
    work::read(&page)
}

#[library_benchmark(config = most(counted::READ_SLICE_OF_A_LINK), setup = slices)]
#[bench::all()]
fn read_slice_of_a_link(page: Vec<u8>) -> ObjectList<RemoteSliceWire> {
    work::read(&page)
}

#[library_benchmark(config = most(counted::READ_SLICE_OF_THIS_CLUSTER), setup = slices)]
#[bench::all()]
fn read_slice_of_this_cluster(page: Vec<u8>) -> ObjectList<LocalSliceWire> {
    work::read(&page)
}

/// What is to be decided about, and what must come of it, for it to be measured.
type Question = (Importer, Vec<Key>);

fn question(importer: Importer, expected: fn(Option<&WriteOp>) -> bool) -> Question {
    let mirrors = work::mirrors(&importer);
    let decisions = work::decide(&importer, &mirrors);
    assert!(decisions.iter().all(|decision| expected(decision.write.as_ref())), "{:?}", decisions[0]);
    (importer, mirrors)
}

fn new() -> Question {
    question(work::connected(&[Exporter::new(1, MANY)]), |write| matches!(write, Some(WriteOp::CreateService(..))))
}

fn in_sync() -> Question {
    question(work::mirrored(&[Exporter::new(1, MANY)]), |write| write.is_none())
}

fn changed() -> Question {
    let exporter = Exporter::new(1, MANY);
    let mut importer = work::mirrored(std::slice::from_ref(&exporter));
    let mut meter = Meter::new(false);
    (0..MANY).for_each(|index| importer.give_remote("a change", &exporter, exporter.change(index), &mut meter));
    question(importer, |write| matches!(write, Some(WriteOp::PatchService(..))))
}

#[library_benchmark(config = most(counted::PLAN_A_NEW_MIRROR), setup = new)]
#[bench::all()]
fn plan_a_new_mirror(question: Question) -> (Question, Vec<Decision>) {
    let decisions = work::decide(&question.0, &question.1);
    (question, decisions)
}

#[library_benchmark(config = most(counted::COMPARE_IN_SYNC), setup = in_sync)]
#[bench::all()]
fn plan_and_compare_in_sync(question: Question) -> (Question, Vec<Decision>) {
    let decisions = work::decide(&question.0, &question.1);
    (question, decisions)
}

#[library_benchmark(config = most(counted::COMPARE_CHANGED), setup = changed)]
#[bench::all()]
fn plan_and_compare_changed(question: Question) -> (Question, Vec<Decision>) {
    let decisions = work::decide(&question.0, &question.1);
    (question, decisions)
}

fn writes() -> Vec<WriteOp> {
    let (importer, mirrors) = new();
    work::decide(&importer, &mirrors).into_iter().map(|decision| decision.write.unwrap()).collect()
}

#[library_benchmark(config = most(counted::WRITE_A_SERVICE), setup = writes)]
#[bench::all()]
fn write_a_service(writes: Vec<WriteOp>) -> (Vec<Request<Vec<u8>>>, Vec<WriteOp>) {
    (writes.iter().map(|op| render(op).request().unwrap()).collect(), writes)
}

/// What a session has listed.
type Listed = (Exporter, BTreeMap<Key, Origin>, BTreeMap<Key, RemoteSlice>);

fn listed() -> Listed {
    let exporter = Exporter::new(1, MANY);
    let (services, slices) = (exporter.services(), exporter.slices());
    (exporter, services, slices)
}

// From the listing of a link until each mirror's Service and slice are written, answered, and told by the watch. The
// answers are made here, which is part of it.
#[library_benchmark(config = most(counted::COLD_START), setup = listed)]
#[bench::all()]
fn cold_start(listed: Listed) -> (Importer, Exporter) {
    let (exporter, services, slices) = listed;
    let mut meter = Meter::new(false);
    let mut importer = Importer::new(std::slice::from_ref(&exporter));
    importer.start(Stored::default(), &mut meter);
    importer.list(&exporter, services, slices, &mut meter);
    importer.settle(&mut meter);
    assert_eq!(importer.created, MANY);
    (importer, exporter)
}

#[library_benchmark(config = most(counted::NOTHING_HAPPENED), setup = in_sync)]
#[bench::all()]
fn nothing_happened(question: Question) -> Importer {
    let (mut importer, _) = question;
    work::idle(&mut importer);
    importer
}

library_benchmark_group!(
    name = each,
    benchmarks = [
        read_service_of_a_link,
        read_service_of_this_cluster,
        read_slice_of_a_link,
        read_slice_of_this_cluster,
        plan_a_new_mirror,
        plan_and_compare_in_sync,
        plan_and_compare_changed,
        write_a_service,
        cold_start,
        nothing_happened,
    ]
);

benchmarks!(library_benchmark_groups = each);
