//! The whole controller against API servers in memory, in paused time: see `CONTRIBUTING.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![recursion_limit = "256"]

mod adversary;
mod agreement;
mod behaviour;
mod calm;
mod churn;
mod exporting;
mod seeds;
mod server;
mod storm;
mod world;
