//! Reads: this cluster's API server, the exporters' API servers, Secrets, DNS, and whether gateways
//! answer. Everything that is read becomes a small checked value of [`crate::core::model`] on entry.
//!
//! Nothing here writes to any cluster, and nothing here decides what is to be mirrored.

mod address;
mod backoff;
pub mod client;
pub mod credentials;
pub mod dns;
pub mod failure;
#[cfg(test)]
mod fake;
mod follow;
pub mod local;
pub mod objects;
pub mod own;
pub mod probe;
pub mod session;
pub mod sessions;
pub mod text;
pub mod version;
pub mod wire;
