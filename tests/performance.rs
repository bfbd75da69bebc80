//! docs/performance.md is what its raw data gives, and what follows from raw data is computed and
//! judged as the page says. The benchmark measures itself: no time is judged here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

// A bench target without a harness runs no tests, so its modules are tested from here.
#[path = "../benches/report/figures.rs"]
mod figures;
#[path = "../benches/report/page.rs"]
mod page;
#[path = "../benches/report/plots/mod.rs"]
mod plots;
#[path = "../benches/mirroring/results.rs"]
mod results;
#[path = "../benches/report/sections.rs"]
mod sections;
#[path = "../benches/report/tables.rs"]
mod tables;
#[path = "../benches/report/targets.rs"]
mod targets;
#[path = "../benches/report/words.rs"]
mod words;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use figures::{Agreement, Cold, Propagation, Spread};
use plots::Plot;
use results::Results;
use targets::Target;

const PAGE: &str = "docs/performance.md";
const EMPTY_PAGE: &str =
    "# Before\n\n<!-- results: begin, by make report -->\nwhat was there\n<!-- results: end -->\n\n## After\n";

/// What nothing was measured of.
fn nothing() -> Value {
    json!({
        "begun": "2026-01-02T03:04:05Z",
        "took_s": 61,
        "machine": {"cores": 2, "memory_mib": 2048, "linux": "6.1", "kubernetes": "v1.36.3", "heliostat": "0.1.0"},
        "load_before": "0.10 0.20 0.30",
        "load_after": "1.10 1.20 1.30",
        "limits": {"pairs": []},
        "cold_syncs": [],
        "restart": {
            "mirrors": 0, "bare_list_ms": 0.0, "to_ready_ms": 0.0, "to_in_sync_ms": 0.0, "watched_s": 0,
            "writes": [], "memory": {"resident_kib": 0, "peak_kib": 0},
        },
        "propagation": [],
        "churn": {
            "mirrors": 0, "per_second": 0.0, "changes": 0, "overtaken": 0, "writes": 0, "lags_ms": [],
            "gauges": [], "settled_ms": 0.0, "cpu_ms": 0,
        },
        "ways": [],
    })
}

fn run(total_ms: f64, peak_kib: u64) -> Value {
    json!({
        "load": "0.1 0.1 0.1", "to_first_write_ms": 10.0, "total_ms": total_ms, "at_work": 30.5, "cpu_ms": 900,
        "mirror_writes": 2000, "other_writes": {"events": 53},
        "memory": {"resident_kib": peak_kib - 1024, "peak_kib": peak_kib},
    })
}

fn sync(links: usize, mirrors: usize, rounds: &[(Option<f64>, f64)], peak_kib: u64, at_rest: Option<f64>) -> Value {
    let round = |(bare, controller): &(Option<f64>, f64)| json!({"bare": bare.map(|ms| run(ms, 9000)), "controller": run(*controller, peak_kib)});
    let rounds: Vec<_> = rounds.iter().map(round).collect();
    json!({"links": links, "mirrors": mirrors, "rounds": rounds, "at_rest": at_rest})
}

/// A batch whose changes come this far by then: noticed, decided, answered, shown.
fn batch(kind: &str, per_second: u32, mirrors: usize, changes: &[[f64; 4]], metric_ms: Option<f64>) -> Value {
    let delay = |[noticed, decided, answered, shown]: &[f64; 4]| json!({"noticed_ms": noticed, "decided_ms": decided, "answered_ms": answered, "shown_ms": shown});
    let changes: Vec<_> = changes.iter().map(delay).collect();
    json!({
        "links": 1, "mirrors": mirrors, "kind": kind, "by_hand": false, "per_second": per_second,
        "metric_count": changes.len(), "changes": changes, "metric_ms": metric_ms,
    })
}

/// One that was carried over by hand.
fn by_hand(kind: &str, per_second: u32, mirrors: usize, changes: &[[f64; 4]]) -> Value {
    let mut batch = batch(kind, per_second, mirrors, changes, None);
    batch["by_hand"] = json!(true);
    batch
}

fn way(name: &str, writes: usize) -> Value {
    json!({
        "way": name, "endpoints": 10, "mirrors": 500, "without_kib": 20_000, "with_kib": 24_000,
        "pod_changes": 2000, "writes": writes, "cpu_ms": 3000,
    })
}

/// Something of everything, and all targets met.
fn everything() -> Value {
    let mut all = nothing();
    all["limits"] = json!({"pairs": [
        {"at_a_time": 32, "pairs": 100, "total_ms": 500.0, "writes_ms": [1.0, 2.0, 3.0]},
        {"at_a_time": 8, "pairs": 100, "total_ms": 1000.0, "writes_ms": [0.123_456_789]},
    ]});
    all["cold_syncs"] = json!([
        sync(100, 100_000, &[(None, 300_000.0)], 140 << 10, Some(0.004)),
        sync(1, 10_000, &[(Some(30_000.0), 36_000.0)], 60 << 10, Some(0.001)),
        sync(1, 1000, &[(Some(4000.0), 5000.0), (Some(5000.0), 4800.0)], 34 << 10, None),
    ]);
    all["restart"] = json!({
        "mirrors": 10_000, "bare_list_ms": 1000.0, "to_ready_ms": 900.0, "to_in_sync_ms": 3500.0, "watched_s": 10,
        "writes": [], "memory": {"resident_kib": 50_000, "peak_kib": 60_000},
    });
    let bare = [[4.0, 4.0, 10.0, 11.0], [4.0, 4.0, 12.0, 13.0]];
    let mut batches = vec![batch("Export", 1, 1000, &[[4.0, 5.0, 12.0, 13.0]], None)];
    for kind in ["Endpoints", "Export", "Port", "Unexport"] {
        batches.push(by_hand(kind, 10, 1000, &bare));
        batches.push(batch(kind, 10, 1000, &[[4.0, 5.0, 9.0, 10.5], [4.0, 5.0, 10.0, 11.5]], Some(5.0)));
    }
    all["propagation"] = Value::from(batches);
    all["churn"] = json!({
        "mirrors": 1000, "per_second": 50.0, "changes": 100, "overtaken": 20, "writes": 80,
        "lags_ms": [[0.1, 10.0], [0.7, 30.0], [1.2, 20.0]],
        "gauges": [{"at_s": 0.0, "waiting": 0, "resident_kib": 30_000}, {"at_s": 1.0, "waiting": 7, "resident_kib": 31_000}],
        "settled_ms": 40.0, "cpu_ms": 700,
    });
    all["ways"] = json!([way("Gateway", 0), way("Service", 0), way("Direct", 1900)]);
    all
}

fn read(value: &Value) -> Results {
    serde_json::from_value(value.clone()).unwrap()
}

fn targets_of(value: &Value) -> Vec<Target> {
    sections::of(&read(value)).into_iter().flat_map(|section| section.targets).collect()
}

/// The only target that is about this.
fn target(value: &Value, about: &str) -> Target {
    let mut found = targets_of(value);
    found.retain(|target| target.what.contains(about));
    assert_eq!(found.len(), 1, "{about}: {found:?}");
    found.remove(0)
}

#[test]
fn percentiles_are_values_that_were_measured() {
    let spread = Spread::of((1..=200).rev().map(f64::from)).unwrap();
    assert_eq!(spread, Spread { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
    assert_eq!(Spread::of([1.0, 2.0, 4.0]).unwrap(), Spread { p50: 2.0, p90: 4.0, p99: 4.0, max: 4.0 });
    assert_eq!(Spread::of([7.0]).unwrap(), Spread { p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 });
    assert_eq!(Spread::of([]), None);
    assert_eq!(figures::mean([]), None);
    let distribution = figures::cumulative((1..=1000).map(f64::from));
    assert_eq!((distribution.first(), distribution.last()), (Some(&(1.0, 0.0)), Some(&(1000.0, 100.0))));
    assert_eq!(distribution[100], (500.0, 50.0));
}

#[test]
fn a_cold_sync_is_compared_best_by_best_and_by_rounds() {
    let results = read(&everything());
    let all = Cold::all(&results);
    let sizes: Vec<_> = all.iter().map(|cold| cold.sync.mirrors).collect();
    assert_eq!(sizes, [1000, 10_000, 100_000]);
    // 4,800 ms of the second round beside 4,000 ms of the first.
    assert_eq!(all[0].ratio(), Some(1.2));
    assert_eq!(all[0].by_rounds, [1.25, 0.96]);
    assert_eq!(all[2].ratio(), None, "there was no bare loop");
    assert!(all[2].by_rounds.is_empty());
}

#[test]
fn the_own_part_is_of_each_write_in_sequence_beside_the_same_by_hand() {
    let results = read(&everything());
    let all = Propagation::all(&results);
    let names: Vec<_> = all.iter().map(|at| (at.batch.per_second, at.name())).collect();
    let pairs = ["un-export", "export", "port", "endpoints"]
        .map(|kind| [(10, kind.to_owned()), (10, format!("{kind} by hand"))]);
    assert_eq!(names, [vec![(1, "export".to_owned())], pairs.concat()].concat());
    let [first, un_export, bare_un_export, export, _, _, _, endpoints, _] = &all[..] else { panic!("{names:?}") };
    assert_eq!(export.own().map(|own| (own.p50, own.p99)), Some((2.5, 3.0)), "two writes");
    assert_eq!(un_export.own().map(|own| (own.p50, own.p99)), Some((5.0, 6.0)), "one write");
    assert_eq!(endpoints.own().map(|own| (own.p50, own.p99)), Some((5.0, 6.0)), "one write");
    assert_eq!(export.bare_write().map(|bare| (bare.p50, bare.p99)), Some((3.0, 4.0)));
    assert_eq!(un_export.bare_write().map(|bare| (bare.p50, bare.p99)), Some((6.0, 8.0)), "one by hand, too");
    assert_eq!(export.own_ratios(), Some((2.5 / 3.0, 0.75)));
    assert_eq!(
        (bare_un_export.own_ratios(), bare_un_export.agreement()),
        (None, None),
        "it is what the other is compared with"
    );
    assert_eq!(first.bare_write(), None, "nothing was done by hand at that rate");
    assert_eq!((first.own_ratios(), first.agreement()), (None, None));
}

#[test]
fn by_hand_counts_what_is_of_the_same_kind_at_the_same_rate_among_as_many_mirrors() {
    let mut all = nothing();
    let bare = [[0.0, 0.0, 6.0, 7.0]];
    let mut found = |other: Value| {
        all["propagation"] = json!([batch("Port", 10, 500, &[[0.0, 1.0, 8.0, 9.0]], None), other]);
        let results = read(&all);
        let found = Propagation::all(&results);
        found.iter().find(|at| at.name() == "port").unwrap().bare_write().map(|bare| bare.p50)
    };
    assert_eq!(found(by_hand("Port", 10, 500, &bare)), Some(3.0));
    assert_eq!(found(by_hand("Endpoints", 10, 500, &bare)), None);
    assert_eq!(found(by_hand("Port", 1, 500, &bare)), None);
    assert_eq!(found(by_hand("Port", 10, 100, &bare)), None);
}

#[test]
fn the_metric_is_compared_without_what_a_watch_takes() {
    let results = read(&everything());
    let all = Propagation::all(&results);
    let port = all.iter().find(|at| at.name() == "port").unwrap();
    // Shown 6.5 and 7.5 ms after noticed; a bare watch takes 1 ms.
    let found = port.agreement().unwrap();
    assert_eq!(found, Agreement { observer_ms: 6.0, metric_ms: 5.0 });
    assert_eq!((found.apart_ms(), targets::allowed_apart_ms(&found)), (1.0, 2.6));
}

#[test]
fn everything_in_its_limits_meets_every_target() {
    let targets = targets_of(&everything());
    assert_eq!(targets.len(), 14, "{targets:?}");
    assert!(targets.iter().all(|target| target.met == Some(true)), "{targets:?}");
    assert!(tables::text(&read(&everything())).contains("14 targets: 14 met, 0 NOT met, 0 not measured"));
}

#[test]
fn what_is_beyond_its_limit_is_not_met_and_nothing_else() {
    let breaks: [(&str, &str, Value); 12] = [
        ("cold sync of 1,000 ", "/cold_syncs/2/rounds/0/bare/total_ms", json!(3600.0)),
        ("cold sync of 10,000 ", "/cold_syncs/1/rounds/0/controller/total_ms", json!(39_001.0)),
        ("writes after a restart", "/restart/writes", json!(["update services/a"])),
        ("until all is in sync", "/restart/to_in_sync_ms", json!(3501.0)),
        ("an export, ", "/propagation/0/changes/0/shown_ms", json!(14.0)),
        ("P50 beside", "/propagation/1/changes/0/noticed_ms", json!(8.0)),
        ("P99 beside", "/propagation/2/changes/1/answered_ms", json!(29.0)),
        ("on average", "/propagation/4/metric_ms", json!(9.0)),
        ("at most since", "/cold_syncs/0/rounds/0/controller/memory/peak_kib", json!((150 << 10) + 1)),
        ("at rest", "/cold_syncs/0/at_rest", json!(0.01)),
        ("`Gateway`", "/ways/0/writes", json!(1)),
        ("`Service`", "/ways/1/writes", json!(1)),
    ];
    for (about, place, value) in breaks {
        let mut all = everything();
        *all.pointer_mut(place).unwrap() = value;
        assert_eq!(target(&all, about).verdict(), "NOT met", "{about}");
        let not_met: Vec<_> = targets_of(&all).into_iter().filter(|target| target.met != Some(true)).collect();
        assert_eq!(not_met.len(), 1, "{about}: {not_met:?}");
    }
}

#[test]
fn the_limits_themselves_are_met() {
    let mut all = everything();
    *all.pointer_mut("/cold_syncs/1/rounds/0/controller/total_ms").unwrap() = json!(39_000.0);
    *all.pointer_mut("/cold_syncs/0/rounds/0/controller/memory/peak_kib").unwrap() = json!(150 << 10);
    for about in ["cold sync of 10,000 ", "at most since", "until all is in sync"] {
        assert_eq!(target(&all, about).verdict(), "met", "{about}");
    }
}

#[test]
fn the_own_part_is_judged_for_itself_too() {
    let mut all = everything();
    // As slow by hand, so that no ratio is beyond.
    all["propagation"] = json!([
        batch("Endpoints", 10, 1000, &[[0.0, 1.0, 20.1, 21.0], [0.0, 1.0, 250.1, 251.0]], None),
        by_hand("Endpoints", 10, 1000, &[[0.0, 0.0, 20.1, 21.1], [0.0, 0.0, 250.1, 251.1]]),
    ]);
    let ends = ["P50 beside a bare write's", "P99 beside a bare write's", "changes/s, P50", "changes/s, P99"];
    let verdicts = ends.map(|end| {
        let found = targets_of(&all).into_iter().find(|target| target.what.ends_with(end)).unwrap();
        (found.measured, found.met)
    });
    let wanted = [("1.00 times", true), ("1.00 times", true), ("20.1 ms", false), ("250 ms", false)];
    assert_eq!(verdicts, wanted.map(|(measured, met)| (format!("{measured} (endpoints)"), Some(met))));
}

#[test]
fn what_was_not_measured_is_a_dash_and_no_verdict() {
    let targets = targets_of(&nothing());
    assert_eq!(targets.len(), 14, "{targets:?}");
    for target in targets {
        assert_eq!((target.measured.as_str(), target.verdict().as_str()), ("-", "-"), "{}", target.what);
    }
    let text = tables::text(&read(&nothing()));
    assert!(text.contains("0 met, 0 NOT met, 14 not measured"), "{text}");
    for plot in Plot::ALL {
        assert!(plot.draw(&read(&nothing())).unwrap().contains("not measured"), "{plot:?}");
    }
    // Batches without a change, a way without a pod: as if they were not there.
    let mut all = nothing();
    all["propagation"] = json!([batch("Port", 10, 5, &[], None), by_hand("Port", 10, 5, &[])]);
    all["cold_syncs"] = json!([sync(1, 1000, &[], 1024, None)]);
    all["ways"] = json!([way("Gateway", 0)]);
    *all.pointer_mut("/ways/0/pod_changes").unwrap() = json!(0);
    assert!(targets_of(&all).iter().all(|target| target.met.is_none()));
    assert!(page::files(Path::new(PAGE), EMPTY_PAGE, &all.to_string()).is_ok());
    assert!(!tables::text(&read(&all)).contains("NaN"));
}

#[test]
fn the_page_and_its_plots_are_made_from_the_raw_data_as_it_is_kept() {
    let page = Path::new(PAGE);
    let files = page::files(page, EMPTY_PAGE, &everything().to_string()).unwrap();
    let names: BTreeSet<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    let plots = Plot::ALL.map(|plot| format!("docs/performance/{}", plot.file()));
    let wanted: BTreeSet<_> = plots.iter().map(String::as_str).chain([PAGE, "docs/performance/raw.json"]).collect();
    assert_eq!(names, wanted);
    let (text, raw) = (&files[page], &files[Path::new("docs/performance/raw.json")]);
    assert!(
        text.starts_with("# Before\n\n") && text.ends_with("\n\n## After\n") && !text.contains("what was there"),
        "{text}"
    );
    for plot in Plot::ALL {
        assert_eq!(text.matches(&format!("(performance/{})", plot.file())).count(), 1, "{plot:?}");
    }
    assert!(raw.contains("0.123]") && !raw.contains("0.1234"), "{raw}");
    assert_eq!(raw.lines().count(), 1);
    assert_eq!(page::files(page, text, raw).unwrap(), files, "made again, nothing changes");
    assert!(page::files(page, "# No place for it\n", raw).is_err());
    assert!(page::files(page, EMPTY_PAGE, "{}").is_err());
}

#[test]
fn plots_name_their_units_and_need_no_font() {
    let results = read(&everything());
    let units = ["(s)", "(ms)", "(ms)", "(MiB)", "(ms)"];
    for (plot, unit) in Plot::ALL.into_iter().zip(units) {
        let svg = plot.draw(&results).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{plot:?}");
        assert!(svg.contains(plot.title()) && svg.contains(unit), "{plot:?}");
        assert!(svg.contains("fill=\"#FFFFFF\""), "{plot:?} has no background");
        assert!(!svg.contains("not measured") && !svg.contains("NaN"), "{plot:?}");
        assert!(!svg.contains("@font-face") && !svg.contains("<image"), "{plot:?}");
    }
    let memory = Plot::Memory.draw(&results).unwrap();
    for line in ["limit, 150 MiB", "resident, 1 link", "resident, 100 links"] {
        assert!(memory.contains(line), "{line}");
    }
}

#[test]
fn the_page_of_performance_is_current() {
    let page = Path::new(PAGE);
    let text = fs::read_to_string(page).unwrap();
    let raw = Path::new("docs/performance").join(page::RAW);
    let Ok(raw) = fs::read_to_string(raw) else {
        assert!(text.contains(&format!("{}{}", page::BEGIN, page::END)), "{PAGE} has results, but no raw data");
        assert!(!Path::new("docs/performance").exists(), "there are plots, but no raw data");
        return;
    };
    let wanted = page::files(page, &text, &raw).unwrap();
    for (path, wanted) in &wanted {
        let found = fs::read_to_string(path).unwrap_or_default();
        assert!(found == *wanted, "{} is old; run: make report RAW=docs/performance/raw.json", path.display());
    }
    for entry in fs::read_dir("docs/performance").unwrap() {
        let path = entry.unwrap().path();
        assert!(wanted.contains_key(&path), "{} is no part of the page any more", path.display());
    }
}
