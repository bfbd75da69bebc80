//! The part of docs/performance.md that is generated, and the files beside it. Nothing is written here.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    plots::Plot,
    results::Results,
    sections::{self, Grid, Section},
};

/// Between these two lines, the page is generated.
pub(crate) const BEGIN: &str = "<!-- results: begin, by make report -->\n";
/// The second.
pub(crate) const END: &str = "<!-- results: end -->\n";
/// The raw data, as it is kept.
pub(crate) const RAW: &str = "raw.json";

/// What belongs to the page: itself, the raw data, and the plots in a folder that is named as the page is.
pub(crate) fn files(page: &Path, old: &str, raw: &str) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let folder = page.with_extension("");
    let name = folder.file_name().context("the page has no name")?.to_string_lossy();
    let raw = compact(raw)?;
    // From the data as it is kept, so that it can be made again from there.
    let results: Results = serde_json::from_str(&raw).context("this is not what the benchmark has measured")?;
    let mut files = BTreeMap::new();
    for plot in Plot::ALL {
        let drawn = plot.draw(&results).with_context(|| format!("cannot draw {}", plot.file()))?;
        files.insert(folder.join(plot.file()), drawn);
    }
    files.insert(page.to_owned(), with_results(old, &markdown(&name, &results))?);
    files.insert(folder.join(RAW), raw);
    Ok(files)
}

fn with_results(page: &str, results: &str) -> anyhow::Result<String> {
    let missing = || format!("the page has no place for the results: it needs the lines\n{BEGIN}{END}");
    let (before, rest) = page.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}{results}{END}{after}"))
}

/// The raw data on one line, its times in whole microseconds: more digits say nothing.
fn compact(raw: &str) -> anyhow::Result<String> {
    let mut value: Value = serde_json::from_str(raw).context("this is no JSON")?;
    round(&mut value, false);
    Ok(serde_json::to_string(&value)? + "\n")
}

fn round(value: &mut Value, are_times: bool) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| round(field, name.ends_with("_ms"))),
        Value::Array(items) => items.iter_mut().for_each(|item| round(item, are_times)),
        Value::Number(number) if are_times && number.is_f64() => {
            if let Some(ms) = number.as_f64() {
                *value = Value::from((ms * 1e3).round() / 1e3);
            }
        }
        _ => {}
    }
}

fn markdown(folder: &str, results: &Results) -> String {
    let sections = sections::of(results);
    let mut text = String::from("\n| | measured | should be | |\n| --- | --- | --- | --- |\n");
    for target in sections.iter().flat_map(|section| &section.targets) {
        let cells = [&target.what, &target.measured, &target.should, &target.verdict()].map(|cell| escaped(cell));
        // A String takes whatever is written.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    let _ = write!(text, "\nOn {}. [Raw data]({folder}/{RAW}).\n", sections::measured_on(results));
    for section in &sections {
        chapter(folder, section, &mut text);
    }
    text.push('\n');
    text
}

fn chapter(folder: &str, section: &Section, text: &mut String) {
    let _ = write!(text, "\n### {}\n\n{}\n", section.title, section.about);
    if section.grids.iter().all(|grid| grid.rows.is_empty()) {
        text.push_str("\nNot measured.\n");
        return;
    }
    for plot in &section.plots {
        let _ = write!(text, "\n![{}]({folder}/{})\n", plot.title(), plot.file());
    }
    for grid in section.grids.iter().filter(|grid| !grid.rows.is_empty()) {
        text.push('\n');
        table(grid, text);
    }
}

fn table(grid: &Grid, text: &mut String) {
    let rule = (0..grid.header.len()).map(|column| if column < grid.words { "---" } else { "---:" }.to_owned());
    let lines = [grid.header.clone(), rule.collect()];
    for cells in lines.iter().chain(&grid.rows) {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}
