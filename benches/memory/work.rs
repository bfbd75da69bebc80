//! What is done a hundred thousand times: to read an object, to decide about a mirror, and to write one;
//! for `MANY` of them, so that what is done once counts for little. What it takes is counted by others:
//! blocks in tests/allocations.rs, instructions in benches/instructions.

use std::fmt::Debug;

use heliostat::core::{io::Input, model::Key, resolve::Decision};
use kube::core::ObjectList;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    exporter::Exporter,
    importer::{Importer, Stored},
    meter::Meter,
};

/// Objects of a page, and mirrors.
pub(crate) const MANY: usize = 300;

/// A page of a listing, as an API server sends it.
pub(crate) fn page(object: impl Fn(usize) -> Value) -> Vec<u8> {
    let items: Vec<Value> = (0..MANY).map(object).collect();
    serde_json::to_vec(&json!({"metadata": {"resourceVersion": "1"}, "items": items})).unwrap()
}

/// Reads a page.
pub(crate) fn read<W: DeserializeOwned + Clone + Debug>(page: &[u8]) -> ObjectList<W> {
    let list = serde_json::from_slice::<ObjectList<W>>(page).unwrap();
    assert_eq!(list.items.len(), MANY);
    list
}

/// What mirrors everything that these exporters have; nothing is written yet.
pub(crate) fn connected(exporters: &[Exporter]) -> Importer {
    let mut meter = Meter::new(false);
    let mut importer = Importer::new(exporters);
    importer.start(Stored::default(), &mut meter);
    exporters.iter().for_each(|exporter| importer.connect(exporter, &mut meter));
    importer
}

/// What holds mirrors of everything that these exporters have.
pub(crate) fn mirrored(exporters: &[Exporter]) -> Importer {
    let mut importer = connected(exporters);
    importer.settle(&mut Meter::new(false));
    assert_eq!(importer.created, MANY);
    importer
}

/// The names of all mirrors, those that are not there yet too.
pub(crate) fn mirrors(importer: &Importer) -> Vec<Key> {
    let targets: Vec<Key> = importer.engine.claims().iter().filter_map(|(_, claim)| claim.target.clone()).collect();
    assert_eq!(targets.len(), MANY);
    targets
}

/// Decides about these mirrors: what they should look like, and what of it is to be written.
pub(crate) fn decide(importer: &Importer, mirrors: &[Key]) -> Vec<Decision> {
    mirrors.iter().map(|mirror| importer.engine.decision(mirror)).collect()
}

/// Nothing happens, many times.
pub(crate) fn idle(importer: &mut Importer) {
    let mut meter = Meter::new(false);
    (0..MANY).for_each(|_| importer.give("tick", Input::Tick, &mut meter));
}
