//! How much is measured: a smoke size of minutes, or everything.

use std::{collections::BTreeSet, time::Duration};

/// Sizes of all measurements.
pub(crate) struct Plan {
    /// Pairs that the bare loop makes at each concurrency.
    pub(crate) pairs: usize,
    /// Cold syncs through one link: mirrors, and turns. The last one's mirrors are restarted with and churned.
    pub(crate) cold_syncs: &'static [(usize, usize)],
    /// Cold syncs through several links: links, mirrors of each, and turns of loop and controller: the links share all
    /// origins among them. Without turns each sees the same ones, and the controller makes them once.
    pub(crate) many_links: &'static [(usize, usize, Option<usize>)],
    /// Changes a second, and how many of each kind. Through the first of `many_links`.
    pub(crate) rates: &'static [(u32, usize)],
    /// For how long endpoints change.
    pub(crate) churn: Duration,
    /// Mirrors of each way, and endpoints of each origin.
    pub(crate) ways: &'static [(&'static str, usize, usize)],
    /// Pods that change by each way.
    pub(crate) pod_changes: usize,
}

impl Plan {
    /// Every measurement, each so small that all take some minutes.
    pub(crate) const SMOKE: Self = Self {
        pairs: 1000,
        cold_syncs: &[(1000, 3)],
        many_links: &[(10, 100, Some(1))],
        rates: &[(10, 50)],
        churn: Duration::from_secs(20),
        ways: &[("Service", 100, 10), ("Gateway", 100, 10), ("Direct", 100, 10)],
        pod_changes: 100,
    };

    /// What is published.
    pub(crate) const FULL: Self = Self {
        pairs: 1000,
        cold_syncs: &[(100, 5), (1000, 5), (10_000, 2)],
        many_links: &[(50, 200, Some(1)), (100, 1000, None)],
        rates: &[(1, 30), (10, 200), (100, 1000)],
        churn: Duration::from_secs(120),
        ways: &[
            ("Service", 1000, 10),
            ("Gateway", 1000, 10),
            ("Direct", 1000, 10),
            ("Direct", 1000, 100),
            ("Direct", 100, 1000),
        ],
        pod_changes: 1000,
    };

    /// How many origins a link may see, of the first ones.
    pub(crate) fn sizes(&self) -> BTreeSet<usize> {
        let single = self.cold_syncs.iter().map(|(mirrors, _)| *mirrors);
        let each = self.many_links.iter().map(|(_, mirrors, _)| *mirrors);
        single.chain(each).chain([self.pairs]).collect()
    }

    /// Origins that have to be there.
    pub(crate) fn origins(&self) -> usize {
        self.sizes().last().copied().unwrap_or_default()
    }
}
