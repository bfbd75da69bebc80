//! The audit log of an API server: which writes it was asked for. The cases and the benchmark
//! (`benches/`) share this file.

use std::{
    fs::File,
    io::{BufRead, BufReader, Result, Seek, SeekFrom},
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
    /// Of each only what `read` takes from it is kept: there may be hundreds of thousands.
    pub(crate) fn writes_by<T>(&self, user: &str, read: impl Fn(Value) -> T) -> Result<Vec<T>> {
        let mut writes = Vec::new();
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        for line in BufReader::new(file).lines() {
            // The last one may be half there.
            if let Ok(event) = serde_json::from_str(&line?)
                && is_write(&event)
                && event["user"]["username"] == user
            {
                writes.push(read(event));
            }
        }
        Ok(writes)
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
