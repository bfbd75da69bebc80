//! How much of a remote is held at most: bounded, whatever it says.

use crate::{api::Reason, cluster::failure::Failure, core::io::SessionTask};

/// Most nodes read; Kubernetes supports 5,000.
pub(super) const MAX_NODES: usize = 10_000;

/// Bytes that a session holds of each kind in any case, and for each Service that its link may have.
const MIN_BYTES: usize = 16 << 20;
const BYTES_PER_SERVICE: usize = 4 << 10;

/// Most objects of each kind that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    /// Services: well above the link's limit, so that the engine can choose which ones are within
    /// it (incumbents first).
    pub(super) services: usize,
    /// Slices: Kubernetes makes one a hundred endpoints and family, gateways one a binding.
    pub(super) slices: usize,
    /// Bytes of either kind. Most Services take less than one kilobyte, and most slices two.
    pub(super) bytes: usize,
}

impl Caps {
    pub(super) fn of(task: &SessionTask) -> Self {
        let services = 2 * task.max_services as usize + 1000;
        let bytes = MIN_BYTES + BYTES_PER_SERVICE * task.max_services as usize;
        Self { services, slices: 4 * services, bytes }
    }
}

/// A listing beyond a cap is not cut, because what is cut off would look deleted: it is not taken
/// at all, and nothing changes.
pub(super) fn beyond(what: &str, cap: usize) -> Failure {
    Failure::new(
        Reason::QuotaExceeded,
        format!(
            "the remote has more than {cap} {what} that this link would see; raise limits.services of the link or narrow services.selector and services.namespaces"
        ),
    )
}

/// The same where it is not their number.
pub(super) fn too_large(what: &str, bytes: usize) -> Failure {
    Failure::new(
        Reason::QuotaExceeded,
        format!(
            "the remote's {what} that this link would see take more than {} MiB of memory; raise limits.services of the link or narrow services.selector and services.namespaces",
            bytes >> 20
        ),
    )
}
