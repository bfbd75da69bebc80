//! Holds the arrows between the folders: what a folder may do is said by what it may name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each part of the crate may name of the others; a part may always name itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    // Where equal values lie once: no answer depends on it.
    ("intern", &[]),
    ("core", &["api", "intern"]),
    ("gateway", &["api", "core"]),
    ("clock", &[]),
    ("cluster", &["api", "core", "clock"]),
    // Its answers are read by the same functions as everything else that is read.
    ("apply", &["api", "core", "cluster::wire", "cluster::text", "metrics", "xds::pki"]),
    ("xds", &["core"]),
    // Only computes, like the deciding side.
    ("gateway", &["api", "core", "xds::bootstrap"]),
    ("metrics", &["api", "core"]),
    ("serve", &[]),
    ("run", &["api", "core", "gateway", "clock", "cluster", "apply", "xds", "metrics", "serve"]),
    ("cli", &["api", "core", "cluster", "apply", "metrics", "run"]),
];

/// What the deciding side never names: whatever acts, waits, or answers differently twice.
const IMPURE: &[&str] = &[
    "tokio",
    "kube::Client",
    "kube::Api",
    "kube::runtime",
    "kube::client",
    "hyper",
    "hickory",
    "tower",
    "std::fs",
    "std::env",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "HashMap",
    "HashSet",
    "RandomState",
];

#[test]
fn folders_name_only_what_they_may() {
    let mut wrong = Vec::new();
    for (part, path, text) in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == part) else {
            wrong.push(format!("{path}: no arrows are drawn for {part}"));
            continue;
        };
        for used in crate_paths(&text) {
            let inside = |root: &str| used == root || used.starts_with(&format!("{root}::"));
            if !inside(&part) && !allowed.iter().any(|root| inside(root)) {
                wrong.push(format!("{path}: {part} names crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_deciding_side_only_computes() {
    let mut wrong = Vec::new();
    for (_, path, text) in sources().filter(|(part, ..)| part == "core" || part == "gateway") {
        let names = all_paths(&text);
        for impure in IMPURE {
            if names.iter().any(|name| names_it(name, impure)) {
                wrong.push(format!("{path}: names {impure}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_is_left_by_super() {
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        let file = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let depth = file.split('/').count();
        let (code, tests) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
        // `super` as often as the module is deep is the crate's root.
        for (part, depth) in [(code, depth), (tests, depth + 1)] {
            if longest_climb(part) >= depth {
                wrong.push(format!("{path}: reaches the crate's root by super"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every source file of the library's parts: part, path below `src`, text without comments.
fn sources() -> impl Iterator<Item = (String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_under(&root);
    assert!(files.len() > 10, "the sources were not found");
    files.into_iter().filter_map(move |file| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let part = path.split(['/', '.']).next().unwrap().to_owned();
        let text = without_comments(&fs::read_to_string(&file).unwrap());
        (part != "lib" && part != "main").then_some((part, path, text))
    })
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let sources = files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs"));
    sources.chain(folders.iter().flat_map(|folder| files_under(folder))).collect()
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `crate::`, without the `crate::`, its groups taken apart.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let paths = all_paths(text).into_iter();
    paths.filter_map(|path| path.strip_prefix("crate::").map(str::to_owned)).collect()
}

/// Every path in the text; `a::{b, c::{d}}` gives `a::b` and `a::c::d`.
fn all_paths(text: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        rest = take_path(&rest[start..], "", &mut paths);
    }
    paths
}

/// Takes one path, with its group if it ends in one, off the front of the text.
fn take_path<'a>(text: &'a str, prefix: &str, paths: &mut BTreeSet<String>) -> &'a str {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    let rest = &text[end..];
    let Some(after) = rest.strip_prefix("::") else {
        paths.insert(path);
        return rest;
    };
    let path = format!("{path}::");
    let Some(mut group) = after.strip_prefix('{') else {
        if after.starts_with(is_word) {
            return take_path(after, &path, paths);
        }
        paths.insert(path.trim_end_matches(':').to_owned());
        return after;
    };
    loop {
        group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '*');
        if !group.starts_with(is_word) {
            return group.strip_prefix('}').unwrap_or(group);
        }
        group = take_path(group, &path, paths);
    }
}

/// Whether a path goes through a name, which may have several segments and end within one.
fn names_it(path: &str, name: &str) -> bool {
    let path = format!("::{path}");
    path.contains(&format!("::{name}"))
}

/// The longest chain of `super::`.
fn longest_climb(text: &str) -> usize {
    let chains = all_paths(text).into_iter();
    chains.map(|path| path.split("::").take_while(|part| *part == "super").count()).max().unwrap_or(0)
}

#[test]
fn the_paths_of_a_source_are_found() {
    let text = "use crate::{\n    api::{self, names}, cluster::wire::{A, B},\n};\nfn f() { crate::run::go(); super::super::x::<T>() }";
    let expected = ["api::names", "api::self", "cluster::wire::A", "cluster::wire::B", "run::go"];
    assert_eq!(crate_paths(text), expected.map(str::to_owned).into());
    assert_eq!(longest_climb(text), 2);
    assert!(all_paths("use std::time::{Duration, Instant};").iter().any(|path| names_it(path, "std::time::Instant")));
    assert!(all_paths("let x: tokio::sync::mpsc::Sender<u8>;").iter().any(|path| names_it(path, "tokio")));
    assert!(!all_paths("use std::time::Duration;").iter().any(|path| names_it(path, "std::time::Instant")));
    assert_eq!(without_comments("a // crate::run\nb"), "a \nb");
}
