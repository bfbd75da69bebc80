//! The behaviour catalogue, decided in memory: each test is named by the id of its row. The same
//! rows run against real clusters in `e2e/`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod links;
mod mirrors;
mod names;
mod policies;
mod restarts;
mod ways;

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}
