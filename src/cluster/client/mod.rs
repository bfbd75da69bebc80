//! The clients: a hardened one for a link, and an ordinary one for this cluster.
//!
//! A link's client never writes, never follows a redirect, never uses a proxy, never reads a file
//! and never runs a program. Its server's address is checked at every connect after resolution,
//! and what was checked is what is dialled. Each call has a deadline and each answer a size.
//! The credential goes to that server only and is cut out of its error answers.

mod answer;
mod connect;
mod lines;
pub(crate) mod local;
mod pages;
mod remote;
mod secret;
mod shape;

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

pub(super) use self::remote::Refused;
use self::{connect::Guard, remote::Remote};
use super::{credentials::Credentials, dns::Lookup, own::OwnCluster};

/// How long a connection may take, TLS included.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a call may take that is no watch: connection, request and the whole answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// What every request says of us.
const USER_AGENT: &str = concat!("heliostat/", env!("CARGO_PKG_VERSION"));

/// The client of a link. It dials nothing yet.
///
/// # Errors
/// When the server's parts make no URL, which a parsed kubeconfig rules out.
pub fn link_client(
    credentials: &Credentials,
    own: &OwnCluster,
    lookup: Arc<dyn Lookup>,
) -> Result<Client, http::Error> {
    let guard = Guard::new(own.clone(), credentials.server.port);
    Ok(Remote::new(credentials, guard, lookup)?.into_client())
}

/// Why there is no client for this cluster.
#[derive(Debug, thiserror::Error)]
pub enum LocalClientError {
    /// The kubeconfig or the context in it cannot be used.
    #[error("kubeconfig {file}: {source}; see --kubeconfig and --context, and kubectl config get-contexts")]
    Kubeconfig {
        /// Which file.
        file: String,
        /// Why.
        source: KubeconfigError,
    },
    /// There is neither a kubeconfig nor the environment of a pod.
    #[error("no cluster to talk to: {0}; give --kubeconfig FILE, or set KUBECONFIG")]
    Nowhere(#[source] kube::config::InferConfigError),
    /// The configuration makes no client.
    #[error("the kubeconfig makes no client: {0}")]
    Client(#[source] kube::Error),
}

/// A client for this cluster, from the operator's own kubeconfig (trusted: it may run plugins) or
/// the pod's account.
///
/// # Errors
/// Says which file or context cannot be used.
pub async fn local_client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, LocalClientError> {
    let mut config = local_config(kubeconfig, context).await?;
    config.connect_timeout = Some(CONNECT_DEADLINE);
    config.default_retry = false;
    local::client(config).map_err(LocalClientError::Client)
}

async fn local_config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, LocalClientError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let (file, read) = match (kubeconfig, context) {
        (None, None) => return Config::infer().await.map_err(LocalClientError::Nowhere),
        (Some(path), _) => (path.display().to_string(), Kubeconfig::read_from(path)),
        (None, Some(_)) => ("of the environment".to_owned(), Kubeconfig::read()),
    };
    let config = match read {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(error),
    };
    config.map_err(|source| LocalClientError::Kubeconfig { file, source })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
