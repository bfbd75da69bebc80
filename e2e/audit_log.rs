//! The audit log of an API server: which writes it was asked for. The cases and the benchmark
//! (`benches/`) share this file.

use std::{
    fs::File,
    io::{Read, Result, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

/// A place in a log.
pub(crate) struct Place {
    path: PathBuf,
    offset: u64,
}

impl Place {
    /// The end of a log as it is now.
    pub(crate) fn end_of(path: PathBuf) -> Result<Self> {
        let offset = std::fs::metadata(&path)?.len();
        Ok(Self { path, offset })
    }

    /// What a user has written since, in the order in which it was done. A line is written when a
    /// request is over: those on their way are not there yet. The Lease of the leader is left out.
    pub(crate) fn writes_by(&self, user: &str) -> Result<Vec<Value>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        Ok(events.filter(|event| is_write(event) && event["user"]["username"] == user).collect())
    }
}

fn is_election(event: &Value) -> bool {
    event["objectRef"]["resource"] == "leases" && event["objectRef"]["name"] == "heliostat"
}

fn is_write(event: &Value) -> bool {
    let reading = ["get", "list", "watch"].iter().any(|verb| event["verb"] == *verb);
    event["stage"] == "ResponseComplete" && !reading && !is_election(event)
}

/// `endpointslices`, `services/status`: what a write was made to.
pub(crate) fn resource(write: &Value) -> String {
    let at = &write["objectRef"];
    let text = |field: &str| at[field].as_str().unwrap_or_default();
    match text("subresource") {
        "" => text("resource").to_owned(),
        sub => format!("{}/{sub}", text("resource")),
    }
}

/// A write in one line: `verb resource namespace/name code`.
pub(crate) fn line(write: &Value) -> String {
    let at = &write["objectRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (verb, resource, code) = (text(&write["verb"]), resource(write), &write["responseStatus"]["code"]);
    format!("{verb} {resource} {}/{} {code}", text(&at["namespace"]), text(&at["name"]))
}
