//! Decides, and only computes: no tokio, no client, no clock, no file. What should be is a pure
//! function of specs, remote objects and what exists; but for incumbency, any order, loss or
//! repetition of inputs ends in the same state.

mod absorb;
pub mod address;
pub mod annotations;
pub mod application;
pub mod claim;
pub mod copy;
pub mod depend;
pub mod diff;
pub mod engine;
pub mod envoy;
pub mod export;
pub mod groups;
pub mod guard;
pub mod io;
pub mod link;
pub mod model;
pub mod name;
mod probing;
pub mod propagation;
pub mod queue;
pub mod reach;
pub mod resolve;
pub mod retry;
pub mod select;
pub mod status;
pub mod value;
pub mod way;
pub mod world;
