//! Conditions as they stand in status: in order, with transition times that move only when the
//! status does, and text that is safe to print.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{ConditionType, MAX_MESSAGE, Reason},
    core::select::Refusal,
};

/// Conditions in the order of the design; what is not said stays as it was.
pub(super) struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
}

/// Status of a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
pub(super) type Says = (Truth, Reason, String);

pub(super) fn yes(reason: Reason, message: impl Into<String>) -> Says {
    (Truth::True, reason, message.into())
}

pub(super) fn no(refusal: &Refusal) -> Says {
    (Truth::False, refusal.reason, refusal.message.clone())
}

impl<'a> Conditions<'a> {
    pub(super) fn new(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { before, generation, now, list: Vec::new() }
    }

    pub(super) fn was(&self, kind: ConditionType) -> Option<&'a Condition> {
        self.before.iter().find(|c| c.type_ == kind.as_str())
    }

    /// Says it.
    pub(super) fn say(&mut self, kind: ConditionType, (truth, reason, message): Says) {
        let was = self.was(kind).filter(|c| c.status == truth.as_str());
        let since = was.map_or_else(|| whole_seconds(self.now), |c| c.last_transition_time.0);
        self.list.push(Condition {
            type_: kind.as_str().to_owned(),
            status: truth.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: clean(&message, MAX_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: Time(since),
        });
    }

    /// Leaves it as it was; says `otherwise` if it was nothing.
    pub(super) fn keep(&mut self, kind: ConditionType, otherwise: Says) {
        match self.was(kind) {
            Some(was) => self.list.push(Condition { observed_generation: self.generation, ..was.clone() }),
            None => self.say(kind, otherwise),
        }
    }

    /// Puts `Stalled` and `Reconciling`, which are present only while True, first.
    pub(super) fn finish(mut self, stalled: Option<&Refusal>, reconciling: Option<&str>) -> Vec<Condition> {
        let rest = std::mem::take(&mut self.list);
        if let Some(refusal) = stalled {
            self.say(ConditionType::Stalled, yes(refusal.reason, refusal.message.clone()));
        }
        if let Some(message) = reconciling {
            self.say(ConditionType::Reconciling, yes(Reason::Reconciling, message));
        }
        self.list.extend(rest);
        self.list
    }
}

pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Text for status: one line, no control characters, at most `max` characters.
pub(super) fn clean(text: &str, max: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = characters.by_ref().take(max - 1).collect();
    match (characters.next(), characters.next()) {
        (Some(last), None) => out.push(last),
        (Some(_), Some(_)) => out.push('…'),
        (None, _) => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_and_cut_where_it_is_too_long() {
        assert_eq!(clean("a\nb\tc", 9), "a b c");
        for (text, cut) in [("", ""), ("abcd", "abcd"), ("abcde", "abcde"), ("abcdef", "abcd…"), ("äöüßéñ", "äöüß…")]
        {
            assert_eq!(clean(text, 5), cut);
        }
    }

    #[test]
    fn a_condition_that_is_kept_is_of_the_spec_that_is_there_now() {
        let said = |generation, before: &[Condition]| {
            let mut c = Conditions::new(before, Some(generation), Timestamp::UNIX_EPOCH);
            c.keep(ConditionType::Ready, yes(Reason::Ready, "so"));
            c.finish(None, None)
        };
        let first = said(1, &[]);
        let second = said(2, &first);
        assert_eq!((first[0].observed_generation, second[0].observed_generation), (Some(1), Some(2)));
        assert_eq!(Condition { observed_generation: Some(1), ..second[0].clone() }, first[0]);
    }
}
