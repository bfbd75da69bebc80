//! How long to wait before the next try; tries go on for ever, with jitter and at least once a
//! minute.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Longest wait.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(60);

/// Waits that double from one failure to the next, each with up to as much again of jitter.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// The first wait is between `first` and twice that, none is longer than `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest / 2)
            .without_max_times()
            .with_jitter()
            .build();
        Self { first, longest, delays }
    }

    /// The next wait, at least what the server asked for (up to [`MAX_DELAY`]).
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let delay = self.delays.next().unwrap_or(self.longest);
        delay.max(asked.unwrap_or_default().min(MAX_DELAY))
    }

    /// It worked: begin again with short waits.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.first, self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_jitter_up_to_a_minute_and_start_again() {
        let first = Duration::from_millis(500);
        let mut backoff = Backoff::new(first, MAX_DELAY);
        let delays: Vec<Duration> = (0..50).map(|_| backoff.next(None)).collect();
        assert!(delays[0] >= first && delays[0] <= 2 * first, "{:?}", delays[0]);
        assert!(delays[20..].iter().all(|d| *d >= MAX_DELAY / 2 && *d <= MAX_DELAY));
        assert!(delays[20..].windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        backoff.reset();
        assert!(backoff.next(None) <= 2 * first);
        assert_eq!(Backoff::new(first, MAX_DELAY).next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(Backoff::new(first, MAX_DELAY).next(Some(Duration::from_secs(3600))), MAX_DELAY);
        let mut short = Backoff::new(first, Duration::from_secs(10));
        assert!((0..50).all(|_| short.next(None) <= Duration::from_secs(10)));
    }
}
