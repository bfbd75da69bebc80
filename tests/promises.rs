//! What is promised, what is known to happen, and what may be tried, with the tests that show it:
//! docs/promises.md, by the ids in the tests' names. And every test that a document names is there.
//! `UPDATE_PROMISES=1 cargo test --test promises` writes the file anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::Path,
};

const PAGE: &str = "docs/promises.md";

/// Documents whose statements name their tests.
const DOCUMENTS: &[&str] = &["docs/security.md", "docs/failure-modes.md"];

/// Each promise of docs/architecture.md's design, with the ids of cases that are part of it, and
/// with words by which tests without an id are part of it.
const PROMISES: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "No deletion on ignorance",
        "a mirror goes only when a complete listing of the same cluster lacks its origin, its deletion was seen, its state is no longer one to be mirrored, or a spec says so; unusual deletions are held",
        &["L04", "L06", "L07", "L08"],
        &["lost_link_deletes", "deletes_nothing", "delete_nothing", "deletions_held", "guard"],
    ),
    (
        "Ownership proven",
        "before every write and delete; a user's Service survives everything",
        &["M10", "M23", "A07", "A13"],
        &["admission_holds", "objects_of_others", "held_by_a_policy"],
    ),
    (
        "Level-triggered",
        "but for who had a name first, any order, loss or repetition of events ends in the same state; what is edited is repaired",
        &["M09", "L01"],
        &["whatever_happens_the_end", "any_order"],
    ),
    (
        "Quiet",
        "when nothing changes nothing is written, also after a restart",
        &["G05"],
        &["writes_nothing", "write_nothing", "writes_no_status", "cause_no_write", "restart_leaves"],
    ),
    ("Crash-safe", "after every single write", &["L09"], &["killed_after"]),
    (
        "Isolated",
        "a dead, slow, hostile or huge link delays no other link, not start-up, not readiness",
        &["L02"],
        &["delays_no_other", "nobody_can_hold", "no_other_link", "stall", "slow_engine"],
    ),
    (
        "Bounded",
        "queues hold keys, never payloads; caps on memory, request rate, status size, events, labels; retries for ever with backoff and jitter",
        &["A04", "A05"],
        &["bounded", "at_most", "waits_grow", "in_a_storm", "only_so_many", "limits_spare"],
    ),
    (
        "Hitless rotation",
        "a changed Secret is picked up within 10 seconds, the new client is synced before the old one goes, no mirror changes",
        &["L05"],
        &["rotat", "certificates_change_while"],
    ),
    (
        "Honest",
        "Connected=False within 20 seconds of silence, True after a complete sync; the unknown since survives restarts; an outage is never Stalled",
        &["L03", "L04"],
        &["within_20_seconds", "silence", "sign_of_life", "loss_actions"],
    ),
    (
        "Unlink and uninstall",
        "never need the remote and never hang",
        &["M15"],
        &["unlink", "uninstall", "blocks_a_deletion"],
    ),
    (
        "Remote data is untrusted",
        "total functions, no panic, a reason for each object that is skipped",
        &["A06", "A08", "A09", "A10", "A11", "A12"],
        &["fuzz", "without_failing", "never_panics"],
    ),
    ("Secrets stay secret", "no token or key in logs, status, events, metrics or panics", &["A14"], &["no_secret"]),
];

/// What a service mirror does, case by case.
const CASES: &[(&str, &str)] = &[
    ("M01", "an exported origin with ready endpoints"),
    ("M02", "the same, its namespace missing here; then created"),
    ("M03", "the export label removed; put back"),
    ("M04", "an origin deleted"),
    ("M05", "a port renamed, renumbered, added, removed; its protocol changed"),
    ("M06", "all endpoints not ready; ready again"),
    ("M07", "a label or annotation of the allow-list added, changed, removed"),
    ("M08", "ClusterIP, headless and ExternalName, one after the other"),
    ("M09", "a mirror or its slice edited or deleted; a slice added under our marks"),
    ("M10", "a Service of the mirror's name that is not ours"),
    ("M11", "two links with the same origin name"),
    ("M12", "origins that want one name"),
    ("M13", "an origin's name of 63 characters"),
    ("M14", "selector, namespaces, ports or name template of a policy changed"),
    ("M15", "policy or link deleted; with Orphan; while the remote, or the controller, is down"),
    ("M16", "a link that does not admit the policy, or does not exist"),
    ("M17", "clusters that mirror each other"),
    ("M18", "one cluster linked twice; a cluster linked to itself"),
    ("M19", "a dual-stack origin; an importer with one family"),
    ("M20", "250 endpoints, one of which changes"),
    ("M21", "a UDP port over a way that carries TCP only"),
    ("M22", "a headless origin by Direct; by another way"),
    ("M23", "a mirror that somebody takes over"),
    ("M24", "preview or suspend switched on, then off"),
    ("G01", "an origin of type LoadBalancer, with an IP; with a hostname"),
    ("G02", "an origin of type NodePort; nodes come and go"),
    ("G03", "a published slice appears, changes, goes"),
    ("G04", "an exported Service appears at a binding, goes, comes back"),
    ("G05", "the exporter's controller restarted"),
    ("G06", "two Services hash to one port; the range is full"),
    ("G07", "a port released while the range is nearly full"),
    ("G08", "somebody else's route or listener holds the port"),
    ("G09", "the provider's CRDs are missing, older, newer, or arrive later"),
    ("G10", "the gateway's address changes"),
    ("G11", "a client asks the gateway for what is not exported"),
    ("G12", "a binding deleted"),
    ("G13", "two bindings over one gateway and one range"),
    ("G14", "the Leases lost while slices are published"),
    ("G15", "plaintext on a public address without exposure: Public"),
    ("G16", "two bindings export one Service; the preferred one goes and comes back"),
    ("G17", "a name that somebody else's route already serves"),
    ("G18", "the gateway says that all is well, and nothing comes through"),
    ("L01", "link, Secret, namespaces and policies applied in any order"),
    ("L02", "the remote down at the start; later up"),
    ("L03", "the remote down for longer than onLoss.after, with a restart in between"),
    ("L04", "a watch ended by 410, by its end, by silence"),
    ("L05", "the token rotated; the Secret malformed, emptied, deleted, put right"),
    ("L06", "rights revoked; a proxy that hides most origins from a listing"),
    ("L07", "another cluster behind the same URL; then acknowledged"),
    ("L08", "the remote restored from an old backup"),
    ("L09", "the controller killed after each single write"),
    ("L10", "two replicas; the leader frozen and thawed"),
    ("L11", "the CRDs deleted under a running controller, then put back"),
    ("L12", "this cluster's API server down, slow, or refusing"),
];

/// What a hostile or broken remote, tenant or credential may try.
const ATTACKS: &[(&str, &str)] = &[
    ("A01", "a kubeconfig that would run, open, dial or skip something, or that unfolds"),
    ("A02", "a server at a forbidden address, also by a later answer of DNS or a redirect"),
    ("A03", "TLS with another CA or name, expired, or swapped during the session"),
    ("A04", "endless lines, bodies, listings, headers and nesting; answers that unpack to more"),
    ("A05", "a million Services or events; objects of megabytes; 100,000 endpoints"),
    ("A06", "system Services as origins"),
    ("A07", "an origin whose mirror would take a user's Service; slices of another Service's name"),
    ("A08", "endpoint addresses that must not be, in any spelling"),
    ("A09", "forged labels and fields on Services and slices"),
    ("A10", "labels and annotations with an effect here"),
    ("A11", "control characters, escapes and long texts in status, logs and terminals"),
    ("A12", "illegal ports, types, names and encodings"),
    ("A13", "a tenant that names a foreign link, forges our labels, or takes a mirror's place"),
    ("A14", "a canary token in logs, status, events, metrics and panics"),
    ("A15", "probes and metrics reached by anyone"),
];

/// A test: its name, and the file it stands in.
type Test = (String, String);

/// Every test of the sources; those on real clusters stand under e2e/.
fn tests() -> BTreeSet<Test> {
    let mut found = BTreeSet::new();
    for root in ["src", "tests", "e2e"] {
        collect(Path::new(root), &mut found);
    }
    assert!(found.len() > 300, "{}", found.len());
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<Test>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let file = path.to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            found.extend(names(&text, file.starts_with("e2e")).into_iter().map(|name| (name, file.clone())));
        }
    }
}

/// Functions that are marked as tests; in e2e/ those that its list of cases calls by their names.
fn names(text: &str, cases: bool) -> Vec<String> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        let name =
            line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        match name {
            Some(name) if marked || cases && has_id(name) => names.push(name.to_owned()),
            _ => {}
        }
        let continues = line.is_empty() || line.starts_with("#[") || line.starts_with("//");
        marked = is_mark(line) || marked && continues;
    }
    names
}

fn is_mark(line: &str) -> bool {
    line == "#[test]" || line.starts_with("#[tokio::test")
}

/// The ids at the beginning of a name, behind `alone_`.
fn ids(name: &str) -> impl Iterator<Item = String> {
    let name = name.strip_prefix("alone_").unwrap_or(name);
    let is_id = |word: &&str| {
        let mut characters = word.chars();
        word.len() == 3
            && characters.next().is_some_and(|c| matches!(c, 'm' | 'g' | 'l' | 'a'))
            && characters.all(|c| c.is_ascii_digit())
    };
    name.split('_').take_while(is_id).map(str::to_uppercase).collect::<Vec<_>>().into_iter()
}

fn has_id(name: &str) -> bool {
    ids(name).next().is_some()
}

fn link((name, file): &Test) -> String {
    format!("[{name}](../{file})")
}

fn list<'a>(tests: impl Iterator<Item = &'a Test>) -> String {
    let links: Vec<String> = tests.map(link).collect();
    if links.is_empty() { "none".to_owned() } else { links.join("<br>") }
}

fn table(title: &str, rows: &[(&str, &str)], of: &BTreeMap<String, Vec<Test>>, out: &mut String) {
    write!(out, "\n## {title}\n\n| id | | in memory | on real clusters |\n| --- | --- | --- | --- |\n").unwrap();
    for (id, what) in rows {
        let tests = of.get(*id).map_or(&[][..], Vec::as_slice);
        let (real, memory): (Vec<&Test>, Vec<&Test>) = tests.iter().partition(|(_, file)| file.starts_with("e2e"));
        writeln!(out, "| {id} | {what} | {} | {} |", list(memory.into_iter()), list(real.into_iter())).unwrap();
    }
}

fn page() -> String {
    let tests = tests();
    let mut of: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    for test in &tests {
        for id in ids(&test.0) {
            of.entry(id).or_default().push(test.clone());
        }
    }
    let mut out = String::from(
        "# Promises\n\nWhat is promised, and the tests that show it, found by the names of the tests: generated, and a test fails when\n\
         this page is old (`make promises`). `make test` ends by holding it to what the tests have printed: each that is named here has\n\
         passed. *none* means what it says. That a test is listed says that it is about that promise or case, not that it\n\
         tries all of it.\n\n\
         | | promise | cases | further tests |\n| --- | --- | --- | --- |\n",
    );
    for (number, (name, what, cases, words)) in PROMISES.iter().enumerate() {
        let further = tests.iter().filter(|(name, _)| {
            words.iter().any(|word| name.contains(word)) && !ids(name).any(|id| cases.contains(&id.as_str()))
        });
        let counted: Vec<String> =
            cases.iter().map(|id| format!("{id} ({})", of.get(*id).map_or(0, Vec::len))).collect();
        writeln!(out, "| {} | **{name}**: {what} | {} | {} |", number + 1, counted.join(", "), list(further)).unwrap();
    }
    out.push_str("\nThe numbers behind the cases are those of the tests that carry their ids, below.\n");
    table("Cases", CASES, &of, &mut out);
    table("Attacks", ATTACKS, &of, &mut out);
    out
}

#[test]
fn the_page_of_promises_is_current() {
    let wanted = page();
    if env::var_os("UPDATE_PROMISES").is_some() {
        fs::write(PAGE, &wanted).unwrap();
    }
    assert!(fs::read_to_string(PAGE).unwrap_or_default() == wanted, "{PAGE} is old; run: make promises");
}

#[test]
fn every_id_in_a_tests_name_is_known() {
    let known: BTreeSet<&str> = CASES.iter().chain(ATTACKS).map(|(id, _)| *id).collect();
    assert_eq!(known.len(), CASES.len() + ATTACKS.len());
    for (name, file) in tests() {
        for id in ids(&name) {
            assert!(known.contains(id.as_str()), "{id} of {name} in {file} is in no catalogue");
        }
    }
    for (_, _, cases, _) in PROMISES {
        assert!(cases.iter().all(|id| known.contains(id)), "{cases:?}");
    }
}

/// Every attack is tried by something.
#[test]
fn no_attack_is_without_a_test() {
    let tried: BTreeSet<String> = tests().iter().flat_map(|(name, _)| ids(name)).collect();
    let missing: Vec<&str> = ATTACKS.iter().map(|(id, _)| *id).filter(|id| !tried.contains(*id)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_test_that_a_document_names_is_there() {
    for document in DOCUMENTS {
        let text = fs::read_to_string(document).unwrap();
        let mut named = 0;
        for part in text.split(".rs)").filter_map(|part| part.rsplit_once('[')).map(|(_, link)| link) {
            let Some((name, file)) = part.split_once("](../") else { continue };
            let source =
                fs::read_to_string(format!("{file}.rs")).unwrap_or_else(|e| panic!("{document}: {file}.rs: {e}"));
            let there = source.contains(&format!("fn {name}("));
            assert!(there, "{document} names {name}, which is not in {file}.rs");
            named += 1;
        }
        assert!(named > 20, "{document} names {named} tests");
        assert!(!text.contains(" @"), "{document} has a name that was not resolved");
    }
}

/// A statement without a test is none: each row of a table that has the column names one.
#[test]
fn every_statement_of_those_documents_has_a_test() {
    for document in DOCUMENTS {
        let text = fs::read_to_string(document).unwrap();
        let mut shown = false;
        for line in text.lines() {
            match line {
                _ if !line.starts_with('|') => shown = false,
                _ if line.contains("| shown by |") => shown = true,
                _ if shown && !line.starts_with("| ---") => {
                    let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
                    assert!(last.contains(".rs)"), "{document}: {line:.120}");
                }
                _ => {}
            }
        }
    }
}
