//! What came out: for people, and as raw data.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use comfy_table::{CellAlignment, Table, presets};
use heliostat::run::WRITES_IN_FLIGHT;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    changes::Change,
    cold_sync::{Round, Run},
    machine::{Machine, Memory},
    restart::Restart,
};

/// A cold sync should take at most so many times as long as the bare loop.
const RATIO: f64 = 1.5;
/// Half of all changes should be seen within so many milliseconds.
const DELAY_MS: f64 = 100.0;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// Load of the machine, as `uptime` says it.
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Exported Services.
    pub(crate) services: usize,
    /// The controller's first cold sync; it counts for nothing.
    pub(crate) warm_up: Run,
    pub(crate) rounds: Vec<Round>,
    pub(crate) restart: Restart,
    pub(crate) changes: Vec<Change>,
    pub(crate) memory_after_changes: Memory,
}

/// The results, and what follows from them.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    /// The controller's best cold sync by the bare loop's best.
    ratio: f64,
    /// The same round by round.
    ratios: Vec<f64>,
    /// The one in the middle of these.
    middle_ratio: f64,
    delays: Delays,
    results: &'a Results,
}

/// Of single changes, in milliseconds.
#[derive(Debug, Serialize)]
struct Delays {
    mirror: Spread,
    service: Spread,
    by_hand: Spread,
    by_hand_remote: Spread,
    by_hand_writes: Spread,
}

/// Percentiles by the nearest rank: each is a value that was measured.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let rank = (percent * sorted.len()).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

impl<'a> Report<'a> {
    /// What follows from the results.
    pub(crate) fn of(results: &'a Results) -> Self {
        let best = |of: fn(&Round) -> &Run| {
            results.rounds.iter().map(|round| of(round).total_ms).fold(f64::INFINITY, f64::min)
        };
        let spread = |of: fn(&Change) -> f64| Spread::of(results.changes.iter().map(of));
        let by_round = |round: &Round| round.controller.total_ms / round.bare.total_ms;
        Self {
            ratio: best(|round| &round.controller) / best(|round| &round.bare),
            ratios: results.rounds.iter().map(by_round).collect(),
            middle_ratio: Spread::of(results.rounds.iter().map(by_round)).p50,
            delays: Delays {
                mirror: spread(|change| change.mirror),
                service: spread(|change| change.service),
                by_hand: spread(|change| change.by_hand),
                by_hand_remote: spread(|change| change.by_hand_remote),
                by_hand_writes: spread(|change| change.by_hand_writes),
            },
            results,
        }
    }

    /// Fails for what no machine is to blame for.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        let writes = &self.results.restart.writes;
        ensure!(writes.is_empty(), "after a restart nothing had to be written, and this was:\n{}", writes.join("\n"));
        Ok(())
    }

    fn cold_syncs(&self) -> String {
        let header = [
            "COLD SYNC",
            "FIRST WRITE",
            "LAST ANSWER",
            "AT WORK",
            "CPU",
            "MEMORY",
            "LOAD BEFORE",
            "WRITES",
            "OTHER WRITES",
        ];
        let row = |who: String, run: &Run| {
            let others: Vec<String> = run.other_writes.iter().map(|(of, many)| format!("{many} {of}")).collect();
            let memory = run.memory.map(|memory| mib(memory.resident_kib));
            [
                who,
                ms(run.to_first_write_ms),
                ms(run.total_ms),
                format!("{:.1}", run.at_work),
                format!("{} ms", run.cpu_ms),
                memory.unwrap_or_default(),
                run.load.clone(),
                run.mirror_writes.to_string(),
                others.join(", "),
            ]
        };
        let mut rows = vec![row("warm-up".to_owned(), &self.results.warm_up)];
        for (round, number) in self.results.rounds.iter().zip(1..) {
            rows.push(row(format!("{number} bare loop"), &round.bare));
            rows.push(row(format!("{number} controller"), &round.controller));
        }
        table(header, rows)
    }

    fn changes(&self) -> String {
        let Delays { mirror, service, by_hand, by_hand_remote, by_hand_writes } = self.delays;
        let row =
            |what: &str, Spread { p50, p90, p99, max }: Spread| [what.to_owned(), ms(p50), ms(p90), ms(p99), ms(max)];
        table(
            ["A PORT CHANGES", "P50", "P90", "P99", "MAX"],
            vec![
                row("seen in the mirror, Service and slice", mirror),
                row("… in its Service", service),
                row("the same by hand", by_hand),
                row("… exporter's watch", by_hand_remote),
                row("… two writes", by_hand_writes),
            ],
        )
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Results { machine, load_before, load_after, services, restart, memory_after_changes, .. } = self.results;
        writeln!(f, "\n{machine}")?;
        writeln!(f, "load (1, 5, 15 minutes) {load_before} before, {load_after} after")?;
        writeln!(f, "\n{services} Services, {WRITES_IN_FLIGHT} writes at a time\n{}", self.cold_syncs())?;
        let ratios: Vec<String> = self.ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        writeln!(
            f,
            "\nthe controller's best takes {:.2} times as long as the bare loop's best (at most {RATIO}: {}); \
            by rounds {}, in the middle {:.2}",
            self.ratio,
            met(self.ratio <= RATIO),
            ratios.join(", "),
            self.middle_ratio,
        )?;
        writeln!(
            f,
            "\na restart with all mirrors in place: {} writes within {} s (none: {}); ready after {}",
            restart.writes.len(),
            restart.watched_s,
            met(restart.writes.is_empty()),
            ms(restart.to_ready_ms),
        )?;
        writeln!(f, "\n{}", self.changes())?;
        writeln!(
            f,
            "\nhalf of {} changes seen within {DELAY_MS} ms: {}",
            self.results.changes.len(),
            met(self.delays.mirror.p50 <= DELAY_MS)
        )?;
        let Memory { resident_kib, peak_kib } = restart.memory;
        writeln!(
            f,
            "\nmemory of the controller after the restart {} (at most {}), after the changes {} (at most {})",
            mib(resident_kib),
            mib(peak_kib),
            mib(memory_after_changes.resident_kib),
            mib(memory_after_changes.peak_kib),
        )
    }
}

/// Keeps the raw data in a file of its own.
pub(crate) fn keep(folder: &Path, report: &Report<'_>) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("mirroring-{}.json", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    let json = serde_json::to_string_pretty(report)?;
    fs::write(&file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

const fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT met" }
}

fn ms(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib >> 10, (kib & 1023) * 10 / 1024)
}

/// A table without borders: numbers to the right, what is first to the left.
fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for (column, number) in table.column_iter_mut().zip(0..) {
        column.set_padding((0, 3));
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
