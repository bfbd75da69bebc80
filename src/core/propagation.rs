//! How long a change in a remote takes to land here: from its receipt to the answer to the last
//! write that follows from it. Keeps keys and times only; never decides.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::model::Key;

/// Mirrors that a change in a remote has reached, until they are as they should be.
#[derive(Debug, Default)]
pub struct Propagation {
    /// When the change that is being taken in was received; none: something else is.
    hearing: Option<Timestamp>,
    under_way: BTreeMap<Key, UnderWay>,
}

/// A mirror that follows a change.
#[derive(Debug)]
struct UnderWay {
    /// When the first change that it has not yet followed was received.
    since: Timestamp,
    /// A write has begun since. One that was under way by then does not follow from the change.
    written: bool,
    /// When a write was last answered.
    answered: Option<Timestamp>,
}

impl Propagation {
    /// What is touched from now on is touched by a change received then; none: by something else.
    pub fn hear(&mut self, received: Option<Timestamp>) {
        self.hearing = received;
    }

    /// A mirror is to be looked at again.
    pub fn touched(&mut self, mirror: &Key) {
        if let Some(since) = self.hearing {
            let first = UnderWay { since, written: false, answered: None };
            self.under_way.entry(mirror.clone()).or_insert(first);
        }
    }

    /// A write of a mirror, or of a slice of it, begins.
    pub fn began(&mut self, mirror: &Key) {
        if let Some(under_way) = self.under_way.get_mut(mirror) {
            under_way.written = true;
        }
    }

    /// A write of a mirror, or of a slice of it, succeeded.
    pub fn answered(&mut self, mirror: &Key, now: Timestamp) {
        if let Some(under_way) = self.under_way.get_mut(mirror).filter(|under_way| under_way.written) {
            under_way.answered = Some(now);
        }
    }

    /// Nothing more is to be written of a mirror. Gives how long that took, if anything was.
    pub fn settled(&mut self, mirror: &Key) -> Option<Duration> {
        let UnderWay { since, answered, .. } = self.under_way.remove(mirror)?;
        // A clock that was set back in between has measured nothing.
        Duration::try_from(answered?.duration_since(since)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn only_writes_that_follow_from_a_change_count() {
        let (mut propagation, mirror) = (Propagation::default(), Key::new("shop", "books-east"));
        propagation.touched(&mirror);
        propagation.began(&mirror);
        propagation.hear(Some(at(10)));
        propagation.touched(&mirror);
        propagation.hear(None);
        propagation.answered(&mirror, at(20));
        assert_eq!(propagation.settled(&mirror), None, "the write had begun before the change came");
        propagation.began(&mirror);
        propagation.answered(&mirror, at(30));
        assert_eq!(propagation.settled(&mirror), None, "and is not remembered afterwards");
    }

    #[test]
    fn it_counts_from_the_first_change_to_the_last_answer() {
        let (mut propagation, mirror) = (Propagation::default(), Key::new("shop", "books-east"));
        for (received, answered) in [(10, 20), (25, 30)] {
            propagation.hear(Some(at(received)));
            propagation.touched(&mirror);
            propagation.began(&mirror);
            propagation.answered(&mirror, at(answered));
        }
        assert_eq!(propagation.settled(&Key::new("shop", "pens-east")), None);
        assert_eq!(propagation.settled(&mirror), Some(Duration::from_millis(20)));
        assert_eq!(propagation.settled(&mirror), None, "once");
    }

    #[test]
    fn a_clock_that_was_set_back_measures_nothing() {
        let (mut propagation, mirror) = (Propagation::default(), Key::new("shop", "books-east"));
        propagation.hear(Some(at(10)));
        propagation.touched(&mirror);
        propagation.began(&mirror);
        propagation.answered(&mirror, at(9));
        assert_eq!(propagation.settled(&mirror), None);
    }
}
