//! What should come out, and whether it did. It only judges figures; nothing fails for them.

use crate::{
    figures::{self, Cold, Propagation, Spread},
    results::{Kind, Restart, Results, WayFigures},
    words::{amount, count, counted, mib, ms, or_dash, percent, times},
};

/// A cold sync by the bare loop.
pub(crate) const COLD_SYNC: f64 = 1.3;
/// Sizes for which it is promised.
const COLD_SYNC_MIRRORS: [usize; 2] = [1_000, 10_000];
/// A restart by a bare listing, and what a start may take besides.
const RESTART: (f64, f64) = (1.5, 2e3);
/// The rate at which Heliostat's own part is judged.
pub(crate) const OWN_RATE: u32 = 10;
/// Own part by a bare write: of the P50s and of the P99s.
pub(crate) const OWN_RATIOS: (f64, f64) = (2.0, 3.0);
/// Own part for itself, on an idle machine: P50 and P99 in milliseconds.
const OWN_MS: (f64, f64) = (20.0, 250.0);
/// P50 of an export, in milliseconds, and the rate.
const EXPORT: (f64, u32) = (14.0, 1);
/// How far metric and observer may be apart: a share, and milliseconds.
const AGREEMENT: (f64, f64) = (0.1, 2.0);
/// Links and mirrors with which memory and rest are judged.
const LARGE: (usize, usize) = (100, 100_000);
/// Memory with these at most.
pub(crate) const PEAK_KIB: u64 = 150 << 10;
/// Part of a core that rest must stay below.
const AT_REST: f64 = 0.01;
/// Ways whose mirrors don't depend on pods.
const WAYS_WITHOUT_PODS: [&str; 2] = ["Gateway", "Service"];

/// One target, and what was measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) should: String,
    /// None when it was not measured.
    pub(crate) met: Option<bool>,
}

impl Target {
    fn new(what: impl Into<String>, should: impl Into<String>, measured: Option<(String, bool)>) -> Self {
        let met = measured.as_ref().map(|(_, met)| *met);
        Self { what: what.into(), measured: or_dash(measured, |(measured, _)| measured), should: should.into(), met }
    }

    /// For people.
    pub(crate) fn verdict(&self) -> String {
        or_dash(self.met, |met| if met { "met" } else { "NOT met" }.to_owned())
    }
}

/// By size: every one that was measured beside the loop, and a place for one that was not.
pub(crate) fn cold_syncs(all: &[Cold<'_>]) -> Vec<Target> {
    let judge = |mirrors: usize, cold: Option<&Cold<'_>>| {
        let links = cold.map(|cold| cold.sync.links).filter(|links| *links != 1);
        let over = links.map(|links| format!(" over {}", counted(links, "link"))).unwrap_or_default();
        let measured = cold.and_then(|cold| {
            let (ratio, controller, bare) = (cold.ratio()?, cold.controller?, cold.bare?);
            let text = format!("{} ({} beside {})", times(ratio), ms(controller.total_ms), ms(bare.total_ms));
            Some((text, ratio <= COLD_SYNC))
        });
        let what = format!("cold sync of {} mirrors{over}, beside a bare loop", count(mirrors));
        Target::new(what, format!("at most {COLD_SYNC} times"), measured)
    };
    let of_size = |mirrors: usize| {
        let of_size = all.iter().filter(move |cold| cold.sync.mirrors == mirrors && cold.bare.is_some());
        let judged: Vec<_> = of_size.map(|cold| judge(mirrors, Some(cold))).collect();
        if judged.is_empty() { vec![judge(mirrors, None)] } else { judged }
    };
    COLD_SYNC_MIRRORS.into_iter().flat_map(of_size).collect()
}

/// That it writes nothing, and takes hardly longer than to list everything.
pub(crate) fn restart(restart: &Restart) -> Vec<Target> {
    let there = restart.mirrors > 0;
    let limit = RESTART.0 * restart.bare_list_ms + RESTART.1;
    let list = if there { format!(" ({})", ms(restart.bare_list_ms)) } else { String::new() };
    vec![
        Target::new(
            format!("writes after a restart with {} in place", counted(restart.mirrors, "mirror")),
            "none",
            there.then(|| (count(restart.writes.len()), restart.writes.is_empty())),
        ),
        Target::new(
            "… until all is in sync",
            format!("at most {} times a bare listing{list}, and {} s", RESTART.0, amount(RESTART.1 / 1e3)),
            there.then(|| (ms(restart.to_in_sync_ms), restart.to_in_sync_ms <= limit)),
        ),
    ]
}

/// Half of the exports.
pub(crate) fn export(all: &[Propagation<'_>]) -> Vec<Target> {
    let (limit, rate) = EXPORT;
    let judge = |at: Option<&Propagation<'_>>| {
        let among = at.map(|at| format!(" among {} mirrors", count(at.batch.mirrors))).unwrap_or_default();
        let p50 = at.and_then(Propagation::whole).map(|whole| whole.p50);
        Target::new(
            format!("an export, until seen in the importer, at {rate} change/s{among}: P50"),
            format!("below {} ms", amount(limit)),
            p50.map(|p50| (ms(p50), p50 < limit)),
        )
    };
    let exports =
        all.iter().filter(|at| !at.batch.by_hand && at.batch.kind == Kind::Export && at.batch.per_second == rate);
    let judged: Vec<_> = exports.map(|at| judge(Some(at))).collect();
    if judged.is_empty() { vec![judge(None)] } else { judged }
}

/// Heliostat's own part of a write: the worst of all kinds.
pub(crate) fn own_part(all: &[Propagation<'_>]) -> Vec<Target> {
    let worst = |what: &str, of: &dyn Fn(&Propagation<'_>) -> Option<f64>, limit: f64, say: fn(f64) -> String, unit| {
        let at_rate = all.iter().filter(|at| !at.batch.by_hand && at.batch.per_second == OWN_RATE);
        let values = at_rate.filter_map(|at| Some((of(at)?, at.name())));
        let worst = values.max_by(|a, b| a.0.total_cmp(&b.0));
        Target::new(
            format!("own part of a write at {OWN_RATE} changes/s, {what}"),
            format!("at most {} {unit}", amount(limit)),
            worst.map(|(value, kind)| (format!("{} ({kind})", say(value)), value <= limit)),
        )
    };
    let own = |of: fn(Spread) -> f64| move |at: &Propagation<'_>| at.own().map(of);
    let idle = "ms, on an idle machine";
    vec![
        worst("P50 beside a bare write's", &|at| at.own_ratios().map(|ratios| ratios.0), OWN_RATIOS.0, times, "times"),
        worst("P99 beside a bare write's", &|at| at.own_ratios().map(|ratios| ratios.1), OWN_RATIOS.1, times, "times"),
        worst("P50", &own(|own| own.p50), OWN_MS.0, ms, idle),
        worst("P99", &own(|own| own.p99), OWN_MS.1, ms, idle),
    ]
}

/// How far the metric may be from what the observer saw.
pub(crate) fn allowed_apart_ms(agreement: &figures::Agreement) -> f64 {
    AGREEMENT.0 * agreement.observer_ms.abs() + AGREEMENT.1
}

/// The metric beside the observer: the worst of all batches.
pub(crate) fn agreement(all: &[Propagation<'_>]) -> Vec<Target> {
    let beyond = |at: &Propagation<'_>| at.agreement().map(|found| found.apart_ms() - allowed_apart_ms(&found));
    let worst = all.iter().filter_map(|at| Some((beyond(at)?, at))).max_by(|a, b| a.0.total_cmp(&b.0)).and_then(
        |(beyond, at)| {
            let found = at.agreement()?;
            let (metric, seen) = (ms(found.metric_ms), ms(found.observer_ms));
            Some((format!("{metric} beside {seen} ({}, {}/s)", at.name(), at.batch.per_second), beyond <= 0.0))
        },
    );
    vec![Target::new(
        "`heliostat_propagation_seconds` beside an observer, on average",
        format!("within {} % and {} ms", amount(AGREEMENT.0 * 100.0), amount(AGREEMENT.1)),
        worst,
    )]
}

/// Ways that know nothing of pods.
pub(crate) fn ways(results: &Results) -> Vec<Target> {
    let judge = |name: &str| {
        let of_way: Vec<&WayFigures> = results.ways.iter().filter(|way| way.way == name).collect();
        let most = of_way.into_iter().filter_map(figures::writes_per_thousand).max_by(f64::total_cmp);
        Target::new(
            format!("writes for 1,000 changed pods, way `{name}`"),
            "none",
            most.map(|writes| (amount(writes), writes == 0.0)),
        )
    };
    WAYS_WITHOUT_PODS.into_iter().map(judge).collect()
}

/// Memory, and rest, of a large importer.
pub(crate) fn large(all: &[Cold<'_>]) -> Vec<Target> {
    let cold = all.iter().find(|cold| (cold.sync.links, cold.sync.mirrors) == LARGE);
    let size = format!("{} mirrors over {} links", count(LARGE.1), count(LARGE.0));
    let peak = cold.and_then(Cold::memory).map(|memory| memory.peak_kib);
    let at_rest = cold.and_then(|cold| cold.sync.at_rest);
    vec![
        Target::new(
            format!("memory with {size}, at most since the start"),
            format!("at most {} MiB", PEAK_KIB >> 10),
            peak.map(|peak| (mib(peak), peak <= PEAK_KIB)),
        ),
        Target::new(
            format!("CPU at rest with {size}"),
            format!("below {} % of a core", amount(AT_REST * 100.0)),
            at_rest.map(|part| (percent(part), part < AT_REST)),
        ),
    ]
}
