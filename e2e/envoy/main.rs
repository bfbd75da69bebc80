//! The xDS server held to what a real Envoy makes of it, on loopback, without a cluster.
//!
//! `HELIOSTAT_ENVOY=<path of Envoy's program> cargo test --test envoy`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod call;
mod changes;
mod replicas;
mod rig;
mod routing;
