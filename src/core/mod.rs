//! Decides, and only computes: no tokio, no client, no clock, no file. What should be is a pure
//! function of specs, remote objects and what exists; but for incumbency, any order, loss or
//! repetition of inputs ends in the same state.

pub mod io;
pub mod model;
