//! What a user writes and reads: the three custom resources, their conditions, and every label,
//! annotation and fixed name, once.
//!
//! Nothing here decides, reads or writes; it must never depend on another folder of this crate.

pub mod binding;
pub mod condition;
mod crd;
pub mod duration;
pub mod link;
pub mod names;
pub mod policy;
mod schema;

pub use binding::GatewayBinding;
pub use condition::{ConditionType, Reason};
pub use crd::{crds, to_yaml};
pub use link::ClusterLink;
pub use policy::MirrorPolicy;

/// The API group of all kinds.
pub const GROUP: &str = "heliostat.dev";
/// The one version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The most entries of a list in a status; writers cut longer ones.
pub const MAX_LISTED: usize = 32;
/// The most characters of a name, address or version in a status; writers cut longer ones.
pub const MAX_NAME: usize = 253;
/// The most characters of the message of a failure in a status; writers cut longer ones.
/// (Conditions' messages may have 32768, as everywhere in Kubernetes.)
pub const MAX_MESSAGE: usize = 2048;
/// The most characters of a text in a status that echoes what a user wrote; writers cut longer ones.
pub const MAX_TEXT: usize = 1024;
