//! What is reported, in which tables, by which words. How it is set, as text or as a page, is not
//! known here.

use crate::{
    figures::{self, Cold, Propagation, STAGES, Spread},
    plots,
    results::{Limits, Restart, Results, Run},
    targets::{self, Target},
    words::{amount, bare_ms, count, counted, cpu, mib, ms, or_dash, percent, ratio_of},
};

/// A chapter of the report.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What the tables compare.
    pub(crate) about: &'static str,
    pub(crate) plots: Vec<plots::Plot>,
    pub(crate) grids: Vec<Grid>,
    pub(crate) targets: Vec<Target>,
}

/// A table.
pub(crate) struct Grid {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// So many columns are words, to the left; the others are numbers.
    pub(crate) words: usize,
}

impl Grid {
    fn new<const N: usize>(words: usize, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        let header = header.map(str::to_owned).to_vec();
        Self { header, rows: rows.into_iter().map(Vec::from).collect(), words }
    }
}

/// When, on what, and beside what else it was measured.
pub(crate) fn measured_on(results: &Results) -> String {
    let Results { begun, took_s, machine, load_before, load_after, .. } = results;
    format!(
        "{}, {} GiB, Linux {}, Kubernetes {}, Heliostat {}; {}, in {} min; load (1, 5, 15 minutes) {load_before} before, \
         {load_after} after",
        counted(machine.cores, "core"),
        machine.memory_mib >> 10,
        machine.linux,
        machine.kubernetes,
        machine.heliostat,
        begun.strftime("%Y-%m-%d %H:%M UTC"),
        took_s.div_ceil(60),
    )
}

/// All of it, in order.
pub(crate) fn of(results: &Results) -> Vec<Section> {
    let (cold, propagation) = (Cold::all(results), Propagation::all(results));
    vec![
        cold_sync(&cold),
        restart(&results.restart),
        delays(&propagation),
        own_part(&propagation),
        agreement(&propagation),
        churn(results),
        ways(results),
        memory(&cold),
        limits(&results.limits),
    ]
}

fn cold_sync(all: &[Cold<'_>]) -> Section {
    let total = |run: Option<&Run>| or_dash(run, |run| ms(run.total_ms));
    let compared = all.iter().map(|cold| {
        [
            count(cold.sync.links),
            count(cold.sync.mirrors),
            total(cold.bare),
            total(cold.controller),
            or_dash(cold.ratio(), ratio_of),
            or_dash(Some(&cold.by_rounds).filter(|rounds| !rounds.is_empty()), |rounds| {
                rounds.iter().copied().map(ratio_of).collect::<Vec<_>>().join(", ")
            }),
            or_dash(Spread::of(cold.by_rounds.iter().copied()), |spread| ratio_of(spread.p50)),
        ]
    });
    let ratio = format!("ratio (at most {})", targets::COLD_SYNC);
    Section {
        title: "Cold sync",
        about: "From the start of a process that knows nothing until the last write of a mirror is answered; the best \
                turn of each, and the ratios of the turns.",
        plots: vec![plots::Plot::ColdSync],
        grids: vec![
            Grid::new(
                0,
                ["links", "mirrors", "bare loop", "controller", &ratio, "by rounds", "in the middle"],
                compared,
            ),
            best_turns(all),
        ],
        targets: targets::cold_syncs(all),
    }
}

fn best_turns(all: &[Cold<'_>]) -> Grid {
    let header = [
        "best turn of",
        "links",
        "mirrors",
        "first write",
        "last answer",
        "writes",
        "at work",
        "CPU",
        "other writes",
        "load before",
    ];
    let rows = all.iter().flat_map(|cold| {
        let both = [("bare loop", cold.bare), ("controller", cold.controller)];
        both.into_iter().filter_map(|(who, run)| Some(run_row(cold, who, run?)))
    });
    Grid::new(1, header, rows)
}

fn run_row(cold: &Cold<'_>, who: &str, run: &Run) -> [String; 10] {
    let others: Vec<_> = run.other_writes.iter().map(|(of, many)| format!("{} {of}", count(*many))).collect();
    [
        who.to_owned(),
        count(cold.sync.links),
        count(cold.sync.mirrors),
        ms(run.to_first_write_ms),
        ms(run.total_ms),
        count(run.mirror_writes),
        format!("{:.1}", run.at_work),
        cpu(run.cpu_ms),
        or_dash(Some(others).filter(|others| !others.is_empty()), |others| others.join(", ")),
        run.load.clone(),
    ]
}

fn restart(restart: &Restart) -> Section {
    let row = [
        count(restart.mirrors),
        ms(restart.bare_list_ms),
        ms(restart.to_ready_ms),
        ms(restart.to_in_sync_ms),
        format!("{} within {} s", count(restart.writes.len()), restart.watched_s),
        mib(restart.memory.resident_kib),
        mib(restart.memory.peak_kib),
    ];
    let header = ["mirrors in place", "bare listing", "ready", "in sync", "writes", "memory", "at most"];
    // What was written says more than how often.
    let writes = restart.writes.iter().take(20).map(|write| [write.clone()]);
    let mut grids = vec![Grid::new(0, header, (restart.mirrors > 0).then_some(row))];
    if !restart.writes.is_empty() {
        grids.push(Grid::new(1, ["written, though nothing had changed"], writes));
    }
    Section {
        title: "Restart",
        about: "With all mirrors in place, beside a bare listing of everything that the controller reads.",
        plots: Vec::new(),
        grids,
        targets: targets::restart(restart),
    }
}

/// Which batch it is.
fn batch(at: &Propagation<'_>) -> [String; 3] {
    let among = format!("{}, {}", counted(at.batch.mirrors, "mirror"), counted(at.batch.links, "link"));
    [at.name(), format!("{}/s", at.batch.per_second), among]
}

fn delays(all: &[Propagation<'_>]) -> Section {
    let spread = |spread: Option<Spread>| {
        or_dash(spread, |Spread { p50, p90, p99, max }| [p50, p90, p99, max].map(bare_ms).join(" / "))
    };
    let whole = all.iter().map(|at| {
        let [kind, rate, among] = batch(at);
        let of = |of: fn(Spread) -> f64| or_dash(at.whole(), |whole| ms(of(whole)));
        let percentiles = [of(|whole| whole.p50), of(|whole| whole.p90), of(|whole| whole.p99), of(|whole| whole.max)];
        let [p50, p90, p99, max] = percentiles;
        [kind, rate, among, count(at.batch.changes.len()), p50, p90, p99, max]
    });
    let stages = all.iter().map(|at| {
        let [kind, rate, among] = batch(at);
        let [noticed, decided, answered, shown] = STAGES.each_ref().map(|stage| spread(at.stage(stage)));
        [kind, rate, among, noticed, decided, answered, shown]
    });
    Section {
        title: "Delay of a change",
        about: "From the beginning of the request to the exporter until watches of the importer have shown all of it. \
                The second table is of its stages, P50 / P90 / P99 / max in milliseconds: until a watch of the exporter \
                has noticed it, from there until the first write has reached the importer (decided), until the last one \
                is answered, until all is shown.",
        plots: vec![plots::Plot::Propagation, plots::Plot::Stages],
        grids: vec![
            Grid::new(3, ["change", "rate", "among", "changes", "P50", "P90", "P99", "max"], whole),
            Grid::new(3, ["change", "rate", "among", "noticed", "decided", "answered", "shown"], stages),
        ],
        targets: targets::export(all),
    }
}

fn own_part(all: &[Propagation<'_>]) -> Section {
    let rows = all.iter().filter(|at| !at.batch.by_hand).map(|at| {
        let writes = figures::in_sequence(at.batch.kind);
        let [kind, rate, among] = batch(at);
        let both = |spread: Option<Spread>| {
            or_dash(spread, |spread| format!("{} / {}", bare_ms(spread.p50), bare_ms(spread.p99)))
        };
        let ratios = at.own_ratios();
        [
            kind,
            rate,
            among,
            format!("{writes:.0}"),
            both(at.own()),
            both(at.bare_write()),
            or_dash(ratios, |ratios| ratio_of(ratios.0)),
            or_dash(ratios, |ratios| ratio_of(ratios.1)),
        ]
    });
    let ratios = [("P50", targets::OWN_RATIOS.0), ("P99", targets::OWN_RATIOS.1)]
        .map(|(of, limit)| format!("ratio of {of} (at {}/s at most {limit})", targets::OWN_RATE));
    Section {
        title: "Heliostat's own part",
        about: "From noticed until answered, for each write that has to wait for the one before, beside a bare write: \
                the same by hand at the same rate; P50 / P99 in milliseconds.",
        plots: Vec::new(),
        grids: vec![Grid::new(
            3,
            ["change", "rate", "among", "writes in sequence", "own, a write", "bare write", &ratios[0], &ratios[1]],
            rows,
        )],
        targets: targets::own_part(all),
    }
}

fn agreement(all: &[Propagation<'_>]) -> Section {
    let rows = all.iter().filter(|at| !at.batch.by_hand).map(|at| {
        let [kind, rate, among] = batch(at);
        let found = at.agreement();
        [
            kind,
            rate,
            among,
            or_dash(found, |found| ms(found.observer_ms)),
            or_dash(at.batch.metric_ms, ms),
            or_dash(found, |found| ms(found.apart_ms())),
            or_dash(found, |found| ms(targets::allowed_apart_ms(&found))),
            format!("{} of {}", at.batch.metric_count, count(at.batch.changes.len())),
        ]
    });
    Section {
        title: "The metric beside the observer",
        about: "`heliostat_propagation_seconds` on average, beside what was seen from outside from noticed until shown, \
                less what a bare watch of the importer takes: by hand, from answered until shown.",
        plots: Vec::new(),
        grids: vec![Grid::new(
            3,
            ["change", "rate", "among", "observer", "metric", "apart", "at most", "counted"],
            rows,
        )],
        targets: targets::agreement(all),
    }
}

fn churn(results: &Results) -> Section {
    let churn = &results.churn;
    let (changes, lags) = (churn.changes as f64, figures::lags(churn));
    let row = [
        count(churn.mirrors),
        format!("{}/s", amount(churn.per_second)),
        count(churn.changes),
        or_dash(lags, |lags| ms(lags.p50)),
        or_dash(lags, |lags| ms(lags.p99)),
        or_dash(figures::ratio(churn.overtaken as f64, changes), |share| {
            format!("{} ({})", count(churn.overtaken), percent(share))
        }),
        or_dash(figures::ratio(churn.writes as f64, changes), ratio_of),
        or_dash(churn.gauges.iter().map(|gauge| gauge.waiting).max(), |most| amount(most as f64)),
        ms(churn.settled_ms),
        cpu(churn.cpu_ms),
        or_dash(churn.gauges.iter().map(|gauge| gauge.resident_kib).max(), mib),
    ];
    Section {
        title: "Churn",
        about: "Endpoints that change all the time. A change is overtaken when a later one of the same Service is seen \
                instead; settled: from the last change until every slice had its last value.",
        plots: vec![plots::Plot::Churn],
        grids: vec![Grid::new(
            0,
            [
                "mirrors",
                "rate",
                "changes",
                "lag P50",
                "lag P99",
                "overtaken",
                "writes a change",
                "most waiting",
                "settled",
                "CPU",
                "memory at most",
            ],
            (churn.changes > 0).then_some(row),
        )],
        targets: Vec::new(),
    }
}

fn ways(results: &Results) -> Section {
    let rows = results.ways.iter().map(|way| {
        [
            format!("`{}`", way.way),
            count(way.endpoints),
            count(way.mirrors),
            or_dash(figures::kib_per_thousand(way), |kib| format!("{} KiB", amount(kib))),
            count(way.pod_changes),
            or_dash(figures::writes_per_thousand(way), amount),
            or_dash(figures::cpu_s_per_thousand(way), |seconds| format!("{seconds:.2} s")),
        ]
    });
    Section {
        title: "Ways",
        about: "What mirrors by each way take, and what follows when pods of their origins change.",
        plots: Vec::new(),
        grids: vec![Grid::new(
            1,
            [
                "way",
                "endpoints of each",
                "mirrors",
                "memory for 1,000 mirrors",
                "pods changed",
                "writes for 1,000 of them",
                "CPU for 1,000 of them",
            ],
            rows,
        )],
        targets: targets::ways(results),
    }
}

fn memory(all: &[Cold<'_>]) -> Section {
    let rows = all.iter().map(|cold| {
        let memory = cold.memory();
        [
            count(cold.sync.links),
            count(cold.sync.mirrors),
            or_dash(memory, |memory| mib(memory.resident_kib)),
            or_dash(memory, |memory| mib(memory.peak_kib)),
            or_dash(cold.sync.at_rest, percent),
        ]
    });
    Section {
        title: "Memory, and CPU at rest",
        about: "Of the controller, after cold syncs of so many mirrors; at rest in parts of one core.",
        plots: vec![plots::Plot::Memory],
        grids: vec![Grid::new(0, ["links", "mirrors", "resident", "at most", "CPU at rest"], rows)],
        targets: targets::large(all),
    }
}

fn limits(limits: &Limits) -> Section {
    let rows = limits.pairs.iter().map(|pairs| {
        let writes = Spread::of(pairs.writes_ms.iter().copied());
        [
            count(pairs.at_a_time),
            count(pairs.pairs),
            format!("{}/s", amount(pairs.per_second().round())),
            or_dash(writes, |writes| ms(writes.p50)),
            or_dash(writes, |writes| ms(writes.p99)),
        ]
    });
    let most = [format!("{} writes/s", amount(limits.writes_per_second().round()))];
    Section {
        title: "What the API server allows",
        about: "Pairs of a Service and its slice, made by so many at a time, whoever asks.",
        plots: Vec::new(),
        grids: vec![
            Grid::new(0, ["at a time", "pairs", "rate", "a write P50", "P99"], rows),
            Grid::new(0, ["at most"], (!limits.pairs.is_empty()).then_some(most)),
        ],
        targets: Vec::new(),
    }
}
