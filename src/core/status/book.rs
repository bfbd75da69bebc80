//! When statuses are looked at and written: soon after news, not too often, one write at a time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::core::{
    io::{Event, WriteId, WriteOp},
    model::Key,
    world::World,
};

/// How long a status waits for more news before it is written.
const SETTLE: SignedDuration = SignedDuration::from_millis(100);
/// Shortest time between two writes of one status.
const REST: SignedDuration = SignedDuration::from_secs(1);

/// An object that has a status of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Link(String),
    Policy(Key),
    Binding(String),
}

/// Which statuses are to be looked at, and which are being written.
#[derive(Debug, Default)]
pub struct StatusBook {
    /// When each is due; none: as soon as it has been seen.
    dirty: BTreeMap<Subject, Option<Timestamp>>,
    /// Not before.
    rest: BTreeMap<Subject, Timestamp>,
    flights: BTreeMap<WriteId, (Subject, Flight)>,
}

/// A status that is being written.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) op: WriteOp,
    /// What is told when it has been written.
    pub(super) turns: Vec<Event>,
}

impl StatusBook {
    fn touch(&mut self, subject: Subject) {
        self.dirty.entry(subject).or_insert(None);
    }

    /// A link's status may have changed.
    pub fn touch_link(&mut self, name: &str) {
        self.touch(Subject::Link(name.to_owned()));
    }

    /// A policy's status may have changed.
    pub fn touch_policy(&mut self, key: &Key) {
        self.touch(Subject::Policy(key.clone()));
    }

    /// A binding's status may have changed.
    pub fn touch_binding(&mut self, name: &str) {
        self.touch(Subject::Binding(name.to_owned()));
    }

    /// Links came, went or changed: all statuses may have.
    pub fn touch_all(&mut self, world: &World) {
        world.links.keys().for_each(|name| self.touch_link(name));
        world.policies.keys().for_each(|key| self.touch_policy(key));
        world.bindings.keys().for_each(|name| self.touch_binding(name));
    }

    /// A link is gone.
    pub fn forget_link(&mut self, name: &str) {
        self.forget(&Subject::Link(name.to_owned()));
    }

    /// A policy is gone.
    pub fn forget_policy(&mut self, key: &Key) {
        self.forget(&Subject::Policy(key.clone()));
    }

    /// A binding is gone.
    pub fn forget_binding(&mut self, name: &str) {
        self.forget(&Subject::Binding(name.to_owned()));
    }

    fn forget(&mut self, subject: &Subject) {
        self.dirty.remove(subject);
        self.rest.remove(subject);
    }

    fn in_flight(&self, subject: &Subject) -> bool {
        self.flights.values().any(|(flying, _)| flying == subject)
    }

    /// What waits, waits until then at most.
    pub fn no_later(&mut self, then: Timestamp) {
        let hours = self.dirty.values_mut().flatten().chain(self.rest.values_mut());
        hours.for_each(|hour| *hour = (*hour).min(then));
    }

    /// When the next status is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.dirty.iter().filter(|(subject, _)| !self.in_flight(subject)).filter_map(|(_, due)| *due).min()
    }

    /// A status is being written.
    pub(super) fn launched(&mut self, id: WriteId, subject: Subject, flight: Flight, now: Timestamp) {
        self.rest.insert(subject.clone(), now.saturating_add(REST).unwrap_or(now));
        self.flights.insert(id, (subject, flight));
    }

    /// What was written, now that it is answered.
    pub(super) fn answered(&mut self, id: WriteId) -> Option<(Subject, Flight)> {
        self.flights.remove(&id)
    }

    /// It could not be written: once more, a little later.
    pub(super) fn again(&mut self, subject: Subject, now: Timestamp) {
        self.rest.insert(subject.clone(), now.saturating_add(REST * 2).unwrap_or(now));
        self.touch(subject);
    }

    /// Gives the statuses that are due, and sets the hour of those that are not.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Subject> {
        self.rest.retain(|_, until| *until > now);
        let (rest, flights) = (&self.rest, &self.flights);
        let mut due = Vec::new();
        for (subject, at) in &mut self.dirty {
            let soon = || now.saturating_add(SETTLE).unwrap_or(now).max(rest.get(subject).copied().unwrap_or(now));
            let hour = *at.get_or_insert_with(soon);
            if hour <= now && !flights.values().any(|(flying, _)| flying == subject) {
                due.push(subject.clone());
            }
        }
        due.iter().for_each(|subject| {
            self.dirty.remove(subject);
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{io::At, model::Uid};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn east() -> Vec<Subject> {
        vec![Subject::Link("east".into())]
    }

    fn launch(book: &mut StatusBook, id: u64, now: Timestamp) {
        let nothing = At { uid: Uid::default(), resource_version: Default::default() };
        let flight = Flight { op: WriteOp::DeleteService(Key::default(), nothing), turns: Vec::new() };
        book.launched(WriteId(id), Subject::Link("east".into()), flight, now);
    }

    #[test]
    fn a_status_is_written_soon_not_too_often_and_one_write_at_a_time() {
        let mut book = StatusBook::default();
        book.touch_link("east");
        assert_eq!((book.take_due(at(0)), book.next_due()), (vec![], Some(at(100))), "more may come");
        book.touch_link("east");
        assert_eq!((book.take_due(at(99)), book.take_due(at(100)), book.next_due()), (vec![], east(), None));
        launch(&mut book, 1, at(100));
        book.touch_link("east");
        book.touch_link("west");
        assert_eq!((book.take_due(at(150)), book.next_due()), (vec![], Some(at(250))), "west's");
        assert_eq!(book.take_due(at(250)), [Subject::Link("west".into())]);
        assert_eq!((book.take_due(at(5000)), book.next_due()), (vec![], None), "while it is being written");
        assert!(book.answered(WriteId(1)).is_some() && book.answered(WriteId(1)).is_none());
        assert_eq!(book.next_due(), Some(at(1100)), "a second after the last");
        assert_eq!(book.take_due(at(5000)), east());
        launch(&mut book, 2, at(5000));
        book.answered(WriteId(2));
        // One that failed is tried again, a little later still.
        book.again(Subject::Link("east".into()), at(5100));
        assert_eq!((book.take_due(at(5100)), book.next_due()), (vec![], Some(at(7100))));
        // A clock that was set back delays nothing.
        book.no_later(at(200));
        assert_eq!(book.next_due(), Some(at(200)));
        assert_eq!(book.take_due(at(200)), east());
        book.touch_link("east");
        assert_eq!((book.take_due(at(210)), book.next_due()), (vec![], Some(at(310))), "nor the next one");
    }

    #[test]
    fn of_what_is_gone_nothing_is_due_and_what_comes_by_its_name_does_not_rest() {
        let mut book = StatusBook::default();
        let key = Key::new("shop", "all");
        for round in 0..2 {
            book.touch_link("east");
            book.touch_policy(&key);
            book.touch_binding("public");
            assert_eq!((book.take_due(at(0)), book.next_due()), (vec![], Some(at(100))), "{round}");
            launch(&mut book, round, at(0));
            book.answered(WriteId(round));
            book.forget_link("east");
            book.forget_policy(&key);
            book.forget_binding("public");
            assert_eq!(book.next_due(), None);
        }
    }
}
