//! How much is measured: from a smoke size of minutes to everything.

use std::{collections::BTreeSet, time::Duration};

/// Sizes of all measurements.
pub(crate) struct Plan {
    /// Pairs that the bare loop makes at each concurrency.
    pub(crate) pairs: usize,
    /// Cold syncs through one link: mirrors, and turns. The last one's mirrors are restarted with and churned.
    pub(crate) cold_syncs: &'static [(usize, usize)],
    /// A cold sync through several links that share the origins among them: links, mirrors of each, and turns of loop
    /// and controller.
    pub(crate) links_apart: (usize, usize, usize),
    /// One through links each of which sees the same headless Services: links, and mirrors of each. The controller makes
    /// all of them once: of headless Services even the API server makes a hundred thousand within minutes.
    pub(crate) links_alike: (usize, usize),
    /// Changes a second, and how many of each kind. Through `links_apart`.
    pub(crate) rates: &'static [(u32, usize)],
    /// For how long endpoints change.
    pub(crate) churn: Duration,
    /// Mirrors of each way, and endpoints of each origin.
    pub(crate) ways: &'static [(&'static str, usize, usize)],
    /// Pods that change by each way.
    pub(crate) pod_changes: usize,
}

/// How much.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Size {
    /// Minutes.
    Smoke,
    /// Half an hour.
    Half,
    /// Most of an hour.
    Full,
}

impl Plan {
    /// The plan of that size.
    pub(crate) const fn of(size: Size) -> Self {
        match size {
            Size::Smoke => Self::SMOKE,
            Size::Half => Self::HALF,
            Size::Full => Self::FULL,
        }
    }

    /// Every measurement, each so small that all take some minutes.
    const SMOKE: Self = Self {
        pairs: 1000,
        cold_syncs: &[(1000, 3)],
        links_apart: (10, 100, 1),
        links_alike: (10, 100),
        rates: &[(1, 20), (10, 100)],
        churn: Duration::from_secs(20),
        ways: &[("Service", 100, 10), ("Gateway", 100, 10), ("Direct", 100, 10)],
        pod_changes: 100,
    };

    /// Large enough to judge by, within half an hour.
    const HALF: Self = Self {
        cold_syncs: &[(100, 3), (1000, 3), (5000, 1)],
        links_apart: (50, 40, 1),
        links_alike: (100, 1000),
        rates: &[(1, 20), (10, 100), (100, 500)],
        churn: Duration::from_secs(60),
        ..Self::SMOKE
    };

    /// Everything. No more than 10,000 have cluster IPs: an API server makes such Services the slower the more there
    /// are (docs/performance.md).
    const FULL: Self = Self {
        pairs: 1000,
        cold_syncs: &[(100, 5), (1000, 5), (10_000, 1)],
        links_apart: (50, 200, 1),
        links_alike: (100, 1000),
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

    /// How many origins links may see, of the first ones.
    pub(crate) fn sizes(&self) -> BTreeSet<usize> {
        let single = self.cold_syncs.iter().map(|(mirrors, _)| *mirrors);
        let (links, each, _) = self.links_apart;
        single.chain([links * each, self.pairs]).collect()
    }

    /// Origins that have to be there.
    pub(crate) fn origins(&self) -> usize {
        self.sizes().last().copied().unwrap_or_default()
    }

    /// Headless ones that have to be there beside them.
    pub(crate) fn headless(&self) -> usize {
        self.links_alike.1
    }
}
