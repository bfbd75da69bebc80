//! The table of mutants: read, and held against the sources, so that it cannot rot unnoticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The table, in the checkout.
const TABLE: &str = "tests/mutants/table.yaml";
/// Where the promises are, as a numbered list under their own heading.
const PROMISES: (&str, &str) = ("docs/architecture.md", "\n## Promises\n");

/// The mutants of one promise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Its number; none: of another rule than a promise.
    promise: Option<usize>,
    /// Its first words.
    says: String,
    mutants: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    breaks: String,
    file: String,
    find: String,
    put: String,
    target: String,
    tests: Vec<String>,
}

/// A change that breaks a promise.
pub(crate) struct Mutant {
    /// The promise; none: another rule.
    pub(crate) promise: Option<usize>,
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) breaks: String,
    /// Path in the checkout.
    pub(crate) file: String,
    /// Text that stands there once.
    pub(crate) find: String,
    /// What stands there instead.
    pub(crate) put: String,
    /// `lib`, or the name of a file or folder in `tests/`.
    pub(crate) target: String,
    /// Full names of tests, of which one must fail.
    pub(crate) tests: Vec<String>,
}

/// Reads the table. The mutants of these names, or all; what is wrong with any is an error.
pub(crate) fn read(repository: &Path, chosen: &BTreeSet<String>) -> Result<Vec<Mutant>> {
    let text = fs::read_to_string(repository.join(TABLE)).context(TABLE)?;
    let groups: Vec<Group> = serde_saphyr::from_str(&text).context(TABLE)?;
    let promises = promises(repository)?;
    let mut mutants: Vec<Mutant> = Vec::new();
    let mut broken = BTreeSet::new();
    for Group { promise, says, mutants: rows } in groups {
        if let Some(number) = promise {
            let there = promises.get(&number).map(String::as_str).unwrap_or_default();
            ensure!(there.starts_with(&says), "promise {number} of {} is not {says:?}, but {there:?}", PROMISES.0);
            broken.extend((!rows.is_empty()).then_some(number));
        }
        let mutant = |row: Row| {
            let Row { name, breaks, file, find, put, target, tests } = row;
            Mutant { promise, name, breaks, file, find, put, target, tests }
        };
        mutants.extend(rows.into_iter().map(mutant));
    }
    if let Some((number, says)) = promises.iter().find(|(number, _)| !broken.contains(number)) {
        bail!("no mutant in {TABLE} breaks promise {number}: {says}");
    }
    let mut names = BTreeSet::new();
    for mutant in &mutants {
        ensure!(names.insert(mutant.name.as_str()), "{TABLE} has two mutants of the name {}", mutant.name);
        check(repository, mutant).with_context(|| format!("mutant {} in {TABLE}", mutant.name))?;
    }
    if let Some(unknown) = chosen.iter().find(|name| !names.contains(name.as_str())) {
        bail!("there is no mutant {unknown} in {TABLE}");
    }
    mutants.retain(|mutant| chosen.is_empty() || chosen.contains(&mutant.name));
    Ok(mutants)
}

fn check(repository: &Path, mutant: &Mutant) -> Result<()> {
    let text = fs::read_to_string(repository.join(&mutant.file)).with_context(|| mutant.file.clone())?;
    let found = text.matches(&mutant.find).count();
    ensure!(
        found == 1,
        "{} has the text to find {found} times, and must have it once; change the table as the source was changed:\n{}",
        mutant.file,
        mutant.find
    );
    ensure!(mutant.find != mutant.put, "it changes nothing");
    ensure!(!mutant.tests.is_empty(), "no test is named that must fail");
    Ok(())
}

/// The promises by number, without Markdown's asterisks.
fn promises(repository: &Path) -> Result<BTreeMap<usize, String>> {
    let (path, heading) = PROMISES;
    let text = fs::read_to_string(repository.join(path)).context(path)?;
    let (_, list) = text.split_once(heading).with_context(|| format!("{path} has no {heading:?}"))?;
    let item = |line: &str| {
        let (number, says) = line.split_once(". ")?;
        Some((number.parse().ok()?, says.to_owned()))
    };
    let found: BTreeMap<usize, String> = list.lines().filter_map(item).collect();
    ensure!(!found.is_empty(), "{path} lists no promises");
    Ok(found)
}
