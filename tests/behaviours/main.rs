//! The behaviour catalogue, decided in memory: each test is named by the id of its row. The same
//! rows run against real clusters in `e2e/`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asking;
#[path = "../common/mod.rs"]
mod common;
mod imports;
mod links;
mod mirrors;
mod names;
mod nodes;
mod policies;
mod restarts;
mod sessions;
mod statuses;
mod ways;

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}
