//! What a user writes and reads: the three custom resources, their conditions, and every label,
//! annotation and fixed name, once.
//!
//! Nothing here decides, reads or writes; it must never depend on another folder of this crate.

pub mod binding;
pub mod condition;
pub mod duration;
pub mod link;
pub mod names;
pub mod policy;

pub use binding::GatewayBinding;
pub use condition::{ConditionType, Reason};
pub use link::ClusterLink;
pub use policy::MirrorPolicy;

/// The API group of all kinds.
pub const GROUP: &str = "heliostat.dev";
/// The one version of all kinds.
pub const VERSION: &str = "v1alpha1";
