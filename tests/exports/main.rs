//! The exporter's side in memory: claim, program, wait, publish, and backwards.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bindings;
#[path = "../common/mod.rs"]
mod common;
mod gateways;
mod own;
mod ports;
mod publishing;
mod restarts;
mod steps;
mod told;
