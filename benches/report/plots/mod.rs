//! The plots of the page: which figures are drawn, against what, and in which units.

mod chart;
mod scale;

use std::collections::BTreeSet;

use plotters::prelude::RGBColor;

use crate::{
    figures::{self, Cold, Propagation, STAGES},
    results::{Kind, Results, Run},
    targets::PEAK_KIB,
    words::{amount, count, counted},
};
use chart::{COLOURS, Frame, LIMIT, Line, Part};
use scale::Scale;

/// A plot of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plot {
    /// Time over number of mirrors.
    ColdSync,
    /// Distribution of the whole delay.
    Propagation,
    /// Where the time goes.
    Stages,
    /// Memory over number of mirrors.
    Memory,
    /// Lag and waiting mirrors over time.
    Churn,
}

impl Plot {
    /// Each of them.
    pub(crate) const ALL: [Self; 5] = [Self::ColdSync, Self::Propagation, Self::Stages, Self::Memory, Self::Churn];
    /// Changes a second of the distribution.
    const RATE: u32 = 10;

    /// Its file, beside the raw data.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::ColdSync => "cold-sync.svg",
            Self::Propagation => "propagation.svg",
            Self::Stages => "stages.svg",
            Self::Memory => "memory.svg",
            Self::Churn => "churn.svg",
        }
    }

    /// What it shows.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::ColdSync => "Cold sync, best turns",
            Self::Propagation => "Delay of a change at 10 changes/s",
            Self::Stages => "Where the time goes: P50 of each stage",
            Self::Memory => "Memory of the controller after a cold sync",
            Self::Churn => "Churn: endpoints that change all the time",
        }
    }

    /// Drawn as SVG. Where nothing was measured it says so.
    pub(crate) fn draw(self, results: &Results) -> anyhow::Result<String> {
        match self {
            Self::ColdSync => cold_sync(results),
            Self::Propagation => propagation(results),
            Self::Stages => stages(results),
            Self::Memory => memory(results),
            Self::Churn => churn(results),
        }
    }
}

fn frame(plot: Plot, x: (&'static str, Scale), y: (&'static str, Scale)) -> Frame {
    Frame { title: plot.title().to_owned(), x, y }
}

fn along<'a>(lines: &'a [Line], of: fn(&(f64, f64)) -> f64) -> impl Iterator<Item = f64> + 'a {
    lines.iter().flat_map(move |line| line.points.iter().map(of))
}

/// By number of links, which are sorted: the points, for one who draws a line through them.
fn by_links(all: &[Cold<'_>], point: impl Fn(&Cold<'_>) -> Option<f64>) -> Vec<(usize, Vec<(f64, f64)>)> {
    let mut groups: Vec<(usize, Vec<(f64, f64)>)> = Vec::new();
    for cold in all {
        let Some(value) = point(cold) else { continue };
        let at = (cold.sync.mirrors as f64, value);
        match groups.last_mut() {
            Some((links, points)) if *links == cold.sync.links => points.push(at),
            _ => groups.push((cold.sync.links, vec![at])),
        }
    }
    groups
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn cold_sync(results: &Results) -> anyhow::Result<String> {
    let all = Cold::all(results);
    let seconds = |run: Option<&Run>| run.map(|run| run.total_ms / 1e3);
    let who = [
        ("controller", false, by_links(&all, |cold| seconds(cold.controller))),
        ("bare loop", true, by_links(&all, |cold| seconds(cold.bare))),
    ];
    // A colour for each number of links, whoever it was.
    let links: BTreeSet<_> = all.iter().map(|cold| cold.sync.links).collect();
    let mut lines = Vec::new();
    for (who, dashed, groups) in who {
        for (of, points) in groups {
            let index = links.iter().position(|known| *known == of).unwrap_or_default();
            let name = format!("{who}, {}", counted(of, "link"));
            lines.push(Line { name, colour: colour(index), dashed, marked: true, points });
        }
    }
    let x = Scale::log(along(&lines, |at| at.0), amount);
    let y = Scale::log(along(&lines, |at| at.1), amount);
    let frame = frame(Plot::ColdSync, ("mirrors", x), ("time until in sync (s)", y));
    chart::lines(&[(frame, lines)])
}

/// What it is called among several: its size is said only when there are more than one.
fn named(at: &Propagation<'_>, all: &[Propagation<'_>]) -> String {
    let size = |at: &Propagation<'_>| (at.batch.links, at.batch.mirrors);
    let among = if all.iter().all(|other| size(other) == size(at)) {
        String::new()
    } else {
        format!(", {} mirrors", count(at.batch.mirrors))
    };
    format!("{}{among}", at.name())
}

fn propagation(results: &Results) -> anyhow::Result<String> {
    let mut all = Propagation::all(results);
    all.retain(|at| at.batch.per_second == Plot::RATE && !at.batch.changes.is_empty());
    let line = |at: &Propagation<'_>| Line {
        name: named(at, &all),
        colour: colour(Kind::ALL.iter().position(|kind| *kind == at.batch.kind).unwrap_or_default()),
        dashed: at.batch.by_hand,
        marked: false,
        points: figures::cumulative(at.batch.changes.iter().map(|delay| delay.shown_ms)),
    };
    let lines: Vec<_> = all.iter().map(line).collect();
    let x = Scale::log(along(&lines, |at| at.0), amount);
    let y = Scale::linear([100.0], amount);
    let x_label = "from the request to the exporter until seen in the importer (ms)";
    let frame = frame(Plot::Propagation, (x_label, x), ("changes seen by then (%)", y));
    chart::lines(&[(frame, lines)])
}

fn stages(results: &Results) -> anyhow::Result<String> {
    let mut all = Propagation::all(results);
    all.retain(|at| !at.batch.changes.is_empty());
    let parts: Vec<Part> = STAGES
        .iter()
        .enumerate()
        .map(|(index, stage)| Part {
            name: stage.name,
            colour: colour(index),
            // A watch of the benchmark's may be behind the controller's: there is no bar of less than nothing.
            lengths: all.iter().map(|at| at.stage(stage).map_or(0.0, |spread| spread.p50.max(0.0))).collect(),
        })
        .collect();
    let totals = (0..all.len()).map(|bar| parts.iter().filter_map(|part| part.lengths.get(bar)).sum());
    let x = Scale::linear(totals, amount);
    let names = all.iter().map(|at| format!("{}, {}/s", named(at, &all), at.batch.per_second));
    let y = Scale::names(names);
    let frame = frame(Plot::Stages, ("time (ms)", x), ("", y));
    chart::bars(&frame, all.len(), &parts)
}

fn memory(results: &Results) -> anyhow::Result<String> {
    const MIB: f64 = 1024.0;
    let all = Cold::all(results);
    let resident = by_links(&all, |cold| Some(cold.memory()?.resident_kib as f64 / MIB));
    let peak = by_links(&all, |cold| Some(cold.memory()?.peak_kib as f64 / MIB));
    let mut lines = Vec::new();
    for (what, dashed, groups) in [("resident", false, resident), ("at most", true, peak)] {
        for (index, (links, points)) in groups.into_iter().enumerate() {
            let name = format!("{what}, {}", counted(links, "link"));
            lines.push(Line { name, colour: colour(index), dashed, marked: true, points });
        }
    }
    let limit = PEAK_KIB as f64 / MIB;
    let x = Scale::log(along(&lines, |at| at.0), amount);
    let y = Scale::linear(along(&lines, |at| at.1).chain([limit]), amount);
    if !lines.is_empty() {
        let ends = along(&lines, |at| at.0).fold((f64::INFINITY, 0.0_f64), |(a, b), at| (a.min(at), b.max(at)));
        let name = format!("limit, {limit:.0} MiB");
        let points = vec![(ends.0, limit), (ends.1, limit)];
        lines.push(Line { name, colour: LIMIT, dashed: false, marked: false, points });
    }
    let frame = frame(Plot::Memory, ("mirrors", x), ("memory (MiB)", y));
    chart::lines(&[(frame, lines)])
}

fn churn(results: &Results) -> anyhow::Result<String> {
    let by_second = figures::lags_by_second(&results.churn);
    let line = |name: &str, index, points| Line {
        name: name.to_owned(),
        colour: colour(index),
        dashed: false,
        marked: false,
        points,
    };
    let lags = vec![
        line("P50 of the second", 0, by_second.iter().map(|(at, lags)| (*at, lags.p50)).collect()),
        line("greatest of the second", 1, by_second.iter().map(|(at, lags)| (*at, lags.max)).collect()),
    ];
    let gauges = results.churn.gauges.iter().map(|gauge| (gauge.at_s, gauge.waiting as f64));
    let waiting = vec![line("mirrors that wait", 2, gauges.collect())];
    let seconds = Scale::linear(along(&lags, |at| at.0).chain(along(&waiting, |at| at.0)), amount);
    let lag = Scale::log(along(&lags, |at| at.1), amount);
    let queue = Scale::linear(along(&waiting, |at| at.1), amount);
    let x = "seconds since the beginning";
    let mut below = frame(Plot::Churn, (x, seconds.clone()), ("mirrors that wait", queue));
    below.title = "Mirrors that wait to be decided on".to_owned();
    let above = frame(Plot::Churn, (x, seconds), ("lag of a change (ms)", lag));
    chart::lines(&[(above, lags), (below, waiting)])
}
