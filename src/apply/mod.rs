//! Writes to this cluster: mirrors, their slices, what an exporter programs and publishes, the
//! certificates of its gateways, statuses, Events and the leader's Lease.
//!
//! Nothing here decides what is written, reads what exists to find out (but for the Lease and the
//! certificates, which are nobody else's), or ever talks to another cluster. No write is a server-side apply (that would adopt what is not ours): creates are POSTs,
//! changes are merge patches and deletes are conditional, each bound to the uid and
//! resourceVersion that were last observed.

mod call;
pub mod certificates;
pub mod events;
#[cfg(test)]
mod fake;
pub mod lease;
pub mod render;
pub mod writer;
