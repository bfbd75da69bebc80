//! Heliostat makes the services of other clusters callable in this one, with no service mesh.

pub mod api;
