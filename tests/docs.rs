//! The documentation keeps up: every field, condition, reason, label and annotation is in it.
//! `UPDATE_DOCS=1 cargo test --test docs` writes docs/fields.md anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{collections::BTreeSet, fmt::Write as _, fs};

use heliostat::api::{ConditionType, Reason};
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The schemas of the shipped definitions, as (kind, scope, schema).
fn schemas() -> Vec<(String, String, Value)> {
    let mut found: Vec<_> = fs::read_dir("crds")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name != "kustomization.yaml"))
        .map(|path| {
            let crd: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (
                crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(),
                crd["spec"]["scope"].as_str().unwrap().to_lowercase(),
                crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
            )
        })
        .collect();
    found.sort_by_key(|(kind, ..)| kind.clone());
    found
}

/// One line for each field below a schema, depth first.
fn describe(path: &str, schema: &Value, out: &mut String) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let required: BTreeSet<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties {
        let (mut path, mut element) = (format!("{path}{name}"), field);
        if element["type"] == "array" {
            path.push_str("[]");
            element = &element["items"];
        }
        let mut notes = Vec::new();
        if required.contains(name.as_str()) {
            notes.push("required".to_owned());
        }
        if let Some(values) = element["enum"].as_array() {
            let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            notes.push(values.join(" \\| "));
        } else if let Some(kind) = element["type"].as_str().filter(|kind| *kind != "object") {
            notes.push(kind.to_owned());
        }
        if let Some(default) = field.get("default").filter(|d| !d.is_object()) {
            notes.push(format!("default `{default}`"));
        }
        let description = field["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{path} has no description");
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(out, "| `{path}` | {} | {} |", notes.join(", "), description.replace('|', "\\|").replace('<', "&lt;"))
            .unwrap();
        // The rules of a condition or a label selector are Kubernetes' own.
        if name != "conditions" && !element["properties"]["matchLabels"].is_object() {
            describe(&format!("{path}."), element, out);
        }
    }
}

fn fields() -> String {
    let mut out = String::from(
        "# Fields\n\nEvery field of `heliostat.dev/v1alpha1`, as `kubectl explain` tells it. Generated from `crds/`;\n\
         [what is not acted upon yet](../README.md#what-it-does-not-do-yet) is listed in the README.\n",
    );
    for (kind, scope, schema) in schemas() {
        let description = schema["description"].as_str().unwrap();
        write!(out, "\n## {kind}\n\n{description} Its scope: {scope}.\n").unwrap();
        for part in ["spec", "status"] {
            let title = &schema["properties"][part]["description"].as_str().unwrap();
            write!(out, "\n### {kind} {part}\n\n{title}\n\n| field | | meaning |\n| --- | --- | --- |\n").unwrap();
            describe(&format!("{part}."), &schema["properties"][part], &mut out);
        }
    }
    out
}

#[test]
fn the_list_of_fields_is_current() {
    let wanted = fields();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write("docs/fields.md", &wanted).unwrap();
    }
    assert!(read("docs/fields.md") == wanted, "docs/fields.md is old; run: make fields");
}

/// The words in backquotes that stand in the given column of the tables of a chapter.
fn column(text: &str, heading: &str, index: usize) -> BTreeSet<String> {
    let chapter = text
        .split("\n## ")
        .find(|chapter| chapter.starts_with(heading))
        .unwrap_or_else(|| panic!("no chapter {heading:?} in docs/reference.md"));
    chapter
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(index + 1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_condition_is_documented_and_no_other() {
    let documented = column(&read("docs/reference.md"), "Conditions", 0);
    let known: BTreeSet<_> = ConditionType::ALL.iter().map(|c| c.as_str().to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let documented = column(&read("docs/reference.md"), "Reasons", 0);
    let known: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str().to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_label_and_annotation_is_documented() {
    let reference = read("docs/reference.md");
    let source = read("src/api/names.rs");
    let keys: Vec<_> = source.split('"').skip(1).step_by(2).filter(|text| text.contains('/')).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(reference.contains(&format!("`{key}`")), "{key} is not in docs/reference.md");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages: Vec<_> = fs::read_dir("docs").unwrap().map(|e| e.unwrap().path()).collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(Into::into));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let linked =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{} links to {target}: {e}", page.display()));
            let anchors: Vec<_> = linked
                .lines()
                .filter(|line| line.starts_with('#'))
                .map(|line| {
                    line.trim_start_matches(['#', ' '])
                        .to_lowercase()
                        .replace(|c: char| !c.is_alphanumeric() && c != ' ' && c != '-', "")
                        .replace(' ', "-")
                })
                .collect();
            assert!(
                anchor.is_empty() || anchors.iter().any(|known| known == anchor),
                "{} links to {target}; there is {anchors:?}",
                page.display()
            );
        }
    }
}
