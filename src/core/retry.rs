//! Writes that failed: when they are tried again, and what a user is told of them.

use std::time::Duration;

use backon::BackoffBuilder;
use jiff::{SignedDuration, Timestamp};

use super::{
    io::{WriteError, WriteFailure, WriteOp},
    model::Key,
    name,
    select::Refusal,
};
use crate::api::Reason;

/// First delay after a failed write; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest delay between two tries (design: promise 7).
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A mirror whose last write failed.
#[derive(Debug)]
pub struct Retry {
    delays: backon::ExponentialBackoff,
    attempt: u32,
    /// When it is tried again.
    pub at: Timestamp,
}

impl Default for Retry {
    fn default() -> Self {
        let delays = backon::ExponentialBuilder::default().with_min_delay(BACKOFF_MIN).with_max_delay(BACKOFF_MAX);
        Self { delays: delays.without_max_times().build(), attempt: 0, at: Timestamp::MAX }
    }
}

impl Retry {
    /// It failed, again; the API server may have asked for a delay.
    pub fn failed(&mut self, target: &Key, now: Timestamp, asked: Option<Duration>) {
        self.attempt += 1;
        let delay = self.delays.next().unwrap_or(BACKOFF_MAX);
        let delay = spread(delay, target, self.attempt).max(asked.unwrap_or_default());
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::from_secs(60));
        self.at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
    }

    /// It waits until then at most.
    pub fn no_later(&mut self, then: Timestamp) {
        if self.at != Timestamp::MAX {
            self.at = self.at.min(then);
        }
    }

    /// It is being tried again; should that fail, the next delay is longer.
    pub fn tried(&mut self) {
        self.at = Timestamp::MAX;
    }
}

/// 75–125 % of a delay, by mirror and attempt, so that retries do not come all at once.
fn spread(delay: Duration, target: &Key, attempt: u32) -> Duration {
    let hash = name::hash(&[&target.namespace, &target.name, &attempt.to_string()], 2);
    let part = u32::from_str_radix(&hash, 16).unwrap_or(128);
    delay * (192 + part / 2) / 256
}

/// What a user should know about a write that failed.
pub fn failure(target: &Key, op: &WriteOp, error: &WriteError) -> Refusal {
    refused(&op.object().map_or_else(|| target.to_string(), ToString::to_string), error)
}

/// The same, of an object by its name.
pub fn refused(what: &str, error: &WriteError) -> Refusal {
    let says = |hint: &str| error.message.contains(hint);
    let reason = match error.kind {
        WriteFailure::AlreadyExists => Reason::NameConflict,
        WriteFailure::Forbidden if says("exceeded quota") => Reason::QuotaExceeded,
        WriteFailure::Forbidden if says("being terminated") => Reason::NamespaceTerminating,
        WriteFailure::Forbidden => Reason::Forbidden,
        WriteFailure::Invalid => Reason::UnsupportedValue,
        WriteFailure::Conflict | WriteFailure::NotFound | WriteFailure::Transient => Reason::Pending,
    };
    Refusal::new(reason, format!("{what} could not be written: {}; it is tried again", error.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a write waits that fails that many times in a row.
    fn waits(count: usize, asked: Option<Duration>) -> Vec<SignedDuration> {
        let (target, now) = (Key::new("shop", "books-east"), Timestamp::UNIX_EPOCH);
        let mut retry = Retry::default();
        let wait = |_| {
            retry.tried();
            assert_eq!(retry.at, Timestamp::MAX, "not while its answer is awaited");
            retry.failed(&target, now, asked);
            retry.at.duration_since(now)
        };
        (0..count).map(wait).collect()
    }

    /// Design: promise 7.
    #[test]
    fn p07_what_fails_is_tried_again_for_ever_ever_later_and_once_a_minute_in_the_end() {
        let waits = waits(1000, None);
        let about = |wait: &SignedDuration, seconds: f64| (0.74..1.26).contains(&(wait.as_secs_f64() / seconds));
        for (wait, seconds) in waits.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]) {
            assert!(about(wait, seconds), "{wait} and not about {seconds} s");
        }
        assert!(waits[7..].iter().all(|wait| about(wait, 60.0)), "{:?}", &waits[7..20]);
        let (least, most) = (waits[7..].iter().min().unwrap(), waits[7..].iter().max().unwrap());
        assert!(*most - *least > SignedDuration::from_secs(20), "not all at once: {least} to {most}");
    }

    #[test]
    fn l12_the_delay_that_the_api_server_asks_for_is_the_least() {
        let asked = SignedDuration::from_secs(20);
        let waits = waits(10, Some(Duration::from_secs(20)));
        assert!(waits[..5].iter().all(|wait| *wait == asked), "{waits:?}");
        assert!(waits[9] > asked);
    }

    #[test]
    fn l12_a_user_is_told_why_a_write_was_refused() {
        for (kind, says, reason) in [
            (WriteFailure::AlreadyExists, "already exists", Reason::NameConflict),
            (WriteFailure::Forbidden, "exceeded quota: services", Reason::QuotaExceeded),
            (WriteFailure::Forbidden, "because it is being terminated", Reason::NamespaceTerminating),
            (WriteFailure::Forbidden, "cannot create resource", Reason::Forbidden),
            (WriteFailure::Invalid, "exceeded quota, being terminated", Reason::UnsupportedValue),
            (WriteFailure::Conflict, "modified", Reason::Pending),
            (WriteFailure::NotFound, "not found", Reason::Pending),
            (WriteFailure::Transient, "exceeded quota, being terminated", Reason::Pending),
        ] {
            let refusal = refused("shop/books-east", &WriteError { kind, message: says.into(), retry_after: None });
            assert_eq!(refusal.reason, reason, "{kind:?} {says}");
            assert_eq!(refusal.message, format!("shop/books-east could not be written: {says}; it is tried again"));
        }
    }

    #[test]
    fn two_mirrors_that_fail_together_are_not_tried_together() {
        let wait = |name: &str| {
            let mut retry = Retry::default();
            retry.failed(&Key::new("shop", name), Timestamp::UNIX_EPOCH, None);
            retry.at
        };
        let all: std::collections::BTreeSet<Timestamp> = ["a", "b", "c", "d"].into_iter().map(wait).collect();
        assert!(all.len() > 1);
    }
}
