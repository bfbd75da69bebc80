//! The `heliostat` program.
fn main() {}
