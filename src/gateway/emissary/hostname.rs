//! Which names of ours Emissary would answer to: those that no Mapping of somebody else answers to, and that
//! its Hosts let through without TLS.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{HOST, MAPPING};
use crate::{
    core::{
        export::provider::{ExportPlan, Surroundings},
        model::Key,
    },
    gateway::{host::fits, object::is_bindings},
};

/// Whether a request without TLS gets through to Mappings of ours with a name. While there is no Host, any does.
pub(super) fn lets_through(name: &str, plan: &ExportPlan, around: &Surroundings<'_>) -> Result<(), String> {
    if around.objects.all(HOST).next().is_none() {
        return Ok(());
    }
    let glob = |host: &Value| host["spec"]["hostname"].as_str().unwrap_or("*").to_ascii_lowercase();
    let fitting = around.objects.all(HOST).filter_map(|(key, host)| Some((fits(&glob(host), name)?, key, host)));
    let fitting: Vec<(usize, &Key, &Value)> = fitting.collect();
    // Envoy asks the Host whose name is closest, and only that.
    let closest = fitting.iter().map(|(closeness, ..)| *closeness).max();
    let add = format!(
        "make a {HOST} with hostname: {name} and requestPolicy: {{insecure: {{action: Route}}}}, or use routing: Port"
    );
    let Some(closest) = closest else { return Err(format!("no {HOST} is for {name}; {add}")) };
    let labels = plan.labels();
    for (_, key, host) in fitting.iter().filter(|(closeness, ..)| *closeness == closest) {
        let spec = &host["spec"];
        if spec["requestPolicy"]["insecure"]["action"] != "Route" {
            return Err(format!("{HOST} {key} does not route what comes for {name} without TLS; {add}"));
        }
        let selector = if spec["mappingSelector"].is_object() { &spec["mappingSelector"] } else { &spec["selector"] };
        let wanted = selector["matchLabels"].as_object().into_iter().flatten();
        if let Some((label, _)) =
            wanted.into_iter().find(|(label, value)| value.as_str() != labels.get(label).map(|value| value.as_str()))
        {
            return Err(format!("{HOST} {key} selects Mappings by label {label}, which ours do not have; {add}"));
        }
    }
    Ok(())
}

/// The Mappings that are not of this binding, by the names they answer to.
#[derive(Debug, Default)]
pub(super) struct Theirs<'a> {
    exact: BTreeMap<String, Vec<(&'a Key, &'a Value)>>,
    globs: Vec<(String, &'a Key, &'a Value)>,
}

impl<'a> Theirs<'a> {
    pub(super) fn read(binding: &str, around: &Surroundings<'a>) -> Self {
        let mut theirs = Self::default();
        for (key, object) in around.objects.all(MAPPING).filter(|(_, object)| !is_bindings(object, binding)) {
            match hostname(&object["spec"]) {
                // One for every name has none of its own.
                name if name.is_empty() || name == "*" => {}
                name if name.contains('*') => theirs.globs.push((name, key, object)),
                name => theirs.exact.entry(name).or_default().push((key, object)),
            }
        }
        theirs
    }

    pub(super) fn of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = (&'a Key, &'a Value)> + 's {
        let exact = self.exact.get(name).into_iter().flatten().copied();
        let globs = self.globs.iter().filter(move |(glob, ..)| fits(glob, name).is_some());
        exact.chain(globs.map(|(_, key, object)| (*key, *object)))
    }
}

/// What a Mapping answers to, lower case; empty: no name, or an expression.
fn hostname(spec: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_ascii_lowercase();
    let host = || if spec["host_regex"] == true { String::new() } else { text(&spec["host"]) };
    let header = || text(&spec["headers"][":authority"]);
    let names = [text(&spec["hostname"]), host(), header()];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}
