//! What is printed of times that were measured.

use std::time::Duration;

/// Percentiles by the nearest rank: each is a time that was measured.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0[(percent * self.0.len()).div_ceil(100).saturating_sub(1)].as_secs_f64() * 1e3
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent));
        write!(f, "P50 {p50:.0} ms, P90 {p90:.0} ms, P99 {p99:.0} ms of {}", self.0.len())
    }
}
