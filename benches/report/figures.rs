//! The figures that follow from what was measured. They are computed and nothing else: what has no
//! data, or nothing to be compared with, is `None`.

use crate::results::{Batch, Churn, ColdSync, Delay, Kind, Memory, Results, Round, Run, WayFigures};

/// Percentiles by the nearest rank: each is a value that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None for no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        let rank = |percent| ranked(&sorted, percent, 100);
        Some(Self { p50: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that so many of so many parts of all are not above.
fn ranked(sorted: &[f64], part: usize, of: usize) -> Option<f64> {
    sorted.get((part * sorted.len()).div_ceil(of).saturating_sub(1)).copied()
}

/// Values, and how many in a hundred are at most that: some points of the distribution.
pub(crate) fn cumulative(values: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
    const STEPS: usize = 200;
    let sorted = sorted(values);
    let point = |step| Some((ranked(&sorted, step, STEPS)?, (step * 100) as f64 / STEPS as f64));
    (0..=STEPS).filter_map(point).collect()
}

/// None for no values.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, many) = values.into_iter().fold((0.0, 0.0), |(sum, many), value| (sum + value, many + 1.0));
    ratio(sum, many)
}

/// None where there is nothing to divide by.
pub(crate) fn ratio(value: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| value / by)
}

/// Cold syncs of one size.
pub(crate) struct Cold<'a> {
    pub(crate) sync: &'a ColdSync,
    /// The bare loop's quickest turn.
    pub(crate) bare: Option<&'a Run>,
    /// The controller's.
    pub(crate) controller: Option<&'a Run>,
    /// The controller's time by the loop's, round by round.
    pub(crate) by_rounds: Vec<f64>,
}

impl<'a> Cold<'a> {
    /// All sizes, from small to large.
    pub(crate) fn all(results: &'a Results) -> Vec<Self> {
        let mut all: Vec<_> = results.cold_syncs.iter().map(Self::of).collect();
        all.sort_by_key(|cold| (cold.sync.links, cold.sync.mirrors));
        all
    }

    fn of(sync: &'a ColdSync) -> Self {
        let in_round = |round: &Round| ratio(round.controller.total_ms, round.bare.as_ref()?.total_ms);
        Self {
            sync,
            bare: quickest(sync.rounds.iter().filter_map(|round| round.bare.as_ref())),
            controller: quickest(sync.rounds.iter().map(|round| &round.controller)),
            by_rounds: sync.rounds.iter().filter_map(in_round).collect(),
        }
    }

    /// The controller's best by the loop's best.
    pub(crate) fn ratio(&self) -> Option<f64> {
        ratio(self.controller?.total_ms, self.bare?.total_ms)
    }

    /// The most memory of all turns.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let of_rounds = self.sync.rounds.iter().filter_map(|round| round.controller.memory);
        of_rounds.reduce(|a, b| Memory {
            resident_kib: a.resident_kib.max(b.resident_kib),
            peak_kib: a.peak_kib.max(b.peak_kib),
        })
    }
}

fn quickest<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<&'a Run> {
    runs.min_by(|a, b| a.total_ms.total_cmp(&b.total_ms))
}

/// A part of the way of a change.
pub(crate) struct Stage {
    /// From the end of the one before until this.
    pub(crate) name: &'static str,
    /// How long it took.
    pub(crate) of: fn(&Delay) -> f64,
}

/// From the beginning of the request to the exporter until it is seen in the importer.
pub(crate) const STAGES: [Stage; 4] = [
    Stage { name: "noticed", of: |delay| delay.noticed_ms },
    Stage { name: "decided", of: |delay| delay.decided_ms - delay.noticed_ms },
    Stage { name: "answered", of: |delay| delay.answered_ms - delay.decided_ms },
    Stage { name: "shown", of: |delay| delay.shown_ms - delay.answered_ms },
];

/// Writes that follow one from the other: the slice of a new mirror names its Service's uid, and is collected when
/// that goes.
pub(crate) const fn in_sequence(kind: Kind) -> f64 {
    match kind {
        Kind::Export | Kind::Port => 2.0,
        Kind::Endpoints | Kind::Unexport => 1.0,
    }
}

fn own(batch: &Batch) -> Option<Spread> {
    let writes = in_sequence(batch.kind);
    Spread::of(batch.changes.iter().map(|delay| (delay.answered_ms - delay.noticed_ms) / writes))
}

/// Changes of one kind at one rate, beside what can be had by hand.
pub(crate) struct Propagation<'a> {
    pub(crate) batch: &'a Batch,
    /// The same by hand: of the same kind, at the same rate.
    by_hand: Option<&'a Batch>,
}

impl<'a> Propagation<'a> {
    /// All batches, by size, rate and kind; each is followed by its companion by hand.
    pub(crate) fn all(results: &'a Results) -> Vec<Self> {
        let mut all: Vec<_> = results.propagation.iter().map(|batch| Self::of(batch, results)).collect();
        let place = |kind| Kind::ALL.iter().position(|known| *known == kind);
        all.sort_by_key(|Self { batch, .. }| {
            (batch.links, batch.mirrors, batch.per_second, place(batch.kind), batch.by_hand)
        });
        all
    }

    fn of(batch: &'a Batch, results: &'a Results) -> Self {
        let of = |batch: &Batch| (batch.kind, batch.per_second, batch.links, batch.mirrors);
        let by_hand = results.propagation.iter().find(|other| other.by_hand && of(other) == of(batch));
        Self { batch, by_hand: by_hand.filter(|_| !batch.by_hand) }
    }

    /// What was changed, and whether it was carried over by hand.
    pub(crate) fn name(&self) -> String {
        let by_hand = if self.batch.by_hand { " by hand" } else { "" };
        format!("{}{by_hand}", self.batch.kind.as_str())
    }

    /// The whole way.
    pub(crate) fn whole(&self) -> Option<Spread> {
        Spread::of(self.batch.changes.iter().map(|delay| delay.shown_ms))
    }

    /// One stage of it.
    pub(crate) fn stage(&self, stage: &Stage) -> Option<Spread> {
        Spread::of(self.batch.changes.iter().map(stage.of))
    }

    /// From noticed until answered, for each of the writes that follow one another.
    pub(crate) fn own(&self) -> Option<Spread> {
        own(self.batch)
    }

    /// The same by hand: a bare write.
    pub(crate) fn bare_write(&self) -> Option<Spread> {
        own(self.by_hand?)
    }

    /// Own part by the bare write: of the P50s, and of the P99s.
    pub(crate) fn own_ratios(&self) -> Option<(f64, f64)> {
        let (own, bare) = (self.own()?, self.bare_write()?);
        Some((ratio(own.p50, bare.p50)?, ratio(own.p99, bare.p99)?))
    }

    /// Whether the controller's own metric says what was seen from outside.
    pub(crate) fn agreement(&self) -> Option<Agreement> {
        let watch = mean(self.by_hand?.changes.iter().map(|delay| delay.shown_ms - delay.answered_ms))?;
        let seen = mean(self.batch.changes.iter().map(|delay| delay.shown_ms - delay.noticed_ms))?;
        Some(Agreement { observer_ms: seen - watch, metric_ms: self.batch.metric_ms? })
    }
}

/// What `heliostat_propagation_seconds` says beside the observer, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Agreement {
    /// From noticed until shown, less what a bare watch of the importer takes.
    pub(crate) observer_ms: f64,
    /// The metric.
    pub(crate) metric_ms: f64,
}

impl Agreement {
    /// How far they are apart.
    pub(crate) fn apart_ms(&self) -> f64 {
        (self.observer_ms - self.metric_ms).abs()
    }
}

/// Lags of the changes that began in the same second.
pub(crate) fn lags_by_second(churn: &Churn) -> Vec<(f64, Spread)> {
    let mut by_second = std::collections::BTreeMap::<i64, Vec<f64>>::new();
    for (second, lag) in &churn.lags_ms {
        by_second.entry(second.floor() as i64).or_default().push(*lag);
    }
    by_second.into_iter().filter_map(|(second, lags)| Some((second as f64, Spread::of(lags)?))).collect()
}

/// All lags together.
pub(crate) fn lags(churn: &Churn) -> Option<Spread> {
    Spread::of(churn.lags_ms.iter().map(|(_, lag)| *lag))
}

/// Memory of so many mirrors by that way, in KiB.
pub(crate) fn kib_per_thousand(way: &WayFigures) -> Option<f64> {
    ratio((way.with_kib as f64 - way.without_kib as f64) * 1e3, way.mirrors as f64)
}

/// Writes that a thousand changed pods bring.
pub(crate) fn writes_per_thousand(way: &WayFigures) -> Option<f64> {
    ratio(way.writes as f64 * 1e3, way.pod_changes as f64)
}

/// Seconds on a core that a thousand changed pods take: as many as milliseconds for one.
pub(crate) fn cpu_s_per_thousand(way: &WayFigures) -> Option<f64> {
    ratio(way.cpu_ms as f64, way.pod_changes as f64)
}
