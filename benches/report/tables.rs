//! The report as text, for a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    results::Results,
    sections::{self, Grid},
    targets::Target,
};

/// Everything, chapter by chapter, each with its targets.
pub(crate) fn text(results: &Results) -> String {
    let sections = sections::of(results);
    let mut text = format!("{}\n", sections::measured_on(results));
    for section in &sections {
        // A String takes whatever is written.
        let _ = write!(text, "\n== {} ==\n", section.title);
        for grid in section.grids.iter().filter(|grid| !grid.rows.is_empty()) {
            let _ = write!(text, "{}\n\n", table(grid));
        }
        if section.grids.iter().all(|grid| grid.rows.is_empty()) {
            text.push_str("not measured\n");
        }
        if !section.targets.is_empty() {
            let _ = writeln!(text, "{}", table(&judged(&section.targets)));
        }
    }
    let verdicts: Vec<_> = sections.iter().flat_map(|section| &section.targets).map(|target| target.met).collect();
    let many = |wanted| verdicts.iter().filter(|met| **met == wanted).count();
    let (met, not_met, missing) = (many(Some(true)), many(Some(false)), many(None));
    let _ = writeln!(text, "\n{} targets: {met} met, {not_met} NOT met, {missing} not measured", verdicts.len());
    text
}

fn judged(targets: &[Target]) -> Grid {
    let row =
        |target: &Target| vec![target.what.clone(), target.measured.clone(), target.should.clone(), target.verdict()];
    let header = ["target", "measured", "should be", ""].map(str::to_owned).to_vec();
    Grid { header, rows: targets.iter().map(row).collect(), words: 4 }
}

/// A table without borders: numbers to the right, words to the left.
fn table(grid: &Grid) -> String {
    let header = grid.header.iter().map(|name| name.to_uppercase());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(grid.rows.clone());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 3));
        if index >= grid.words {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
