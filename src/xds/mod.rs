//! Serves what the Envoys of Heliostat's own gateways are to do: the incremental xDS protocol over
//! mutual TLS. It never decides what they are to do, and never writes to Kubernetes.
//!
//! An Envoy that is connected keeps what it has when the server goes, and while the server does not
//! know yet what it is to do: nothing is taken away on ignorance.

mod conversation;
mod gateways;
pub mod pki;
mod render;
mod serve;
mod snapshot;

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::core::envoy::{EnvoyConfig, EnvoyState};
use gateways::Gateways;
pub use serve::Leads;

/// The server. Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Xds {
    gateways: Arc<Gateways>,
}

impl Xds {
    /// A server that knows no gateway yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the Envoys of a binding are to do from now on. None: it is not known, or there is no such
    /// binding; they go on with what they have.
    pub fn set(&self, binding: &str, config: Option<EnvoyConfig>) {
        self.gateways.set(binding, config);
    }

    /// Waits for the next state of a binding that differs from what was returned before. States in
    /// between may be left out. Can be dropped while it waits without losing any; only one may wait at a
    /// time.
    pub async fn next_state(&self) -> EnvoyState {
        self.gateways.next_state().await
    }

    /// Serves on a port until `shutdown`. A new TLS configuration, from [`pki::server_config`], holds for
    /// connections that come later. While it does not lead it lets an Envoy go after a few seconds, so
    /// that each finds the leader.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: watch::Receiver<Arc<ServerConfig>>,
        leads: Leads,
        shutdown: CancellationToken,
    ) {
        serve::serve(&self.gateways, listener, tls, leads, shutdown).await;
    }
}
