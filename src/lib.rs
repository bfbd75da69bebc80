//! Heliostat makes the services of other clusters callable in this one, with no service mesh.
//!
//! The folder says what its code may do: `api` is what a user writes, `core` decides and only
//! computes, and so does `gateway`, which knows the makes of gateways; `cluster` reads, `apply`
//! writes, `xds` serves Envoys, `cli` talks to a user; `run` wires them together.

pub mod api;
pub mod apply;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod core;
pub mod gateway;
pub mod intern;
pub mod metrics;
pub mod run;
pub mod serve;
pub mod xds;
