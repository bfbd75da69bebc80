//! The exporter's side: which Services of this cluster go out through which gateway, by which port
//! or name, and what is published of it (design: section 4). Only computes, like all of `core`.
//!
//! A provider, one file each in `src/gateway/`, knows one make of gateway; everything else is here:
//! selection, port claims, the order claim, program, wait, publish.

pub mod binding;
pub mod exporter;
mod judge;
pub mod known;
pub mod object;
pub mod pass;
pub mod port;
pub mod provider;
pub mod publish;
