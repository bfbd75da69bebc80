//! The client of this cluster: kube's layers over connections that give up what they cannot deliver.
//!
//! A write that nobody awaits any more must not arrive later: the kernel would send it again and again
//! until the network lets it through, minutes after another replica has begun to lead.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::{
    CONNECT_DEADLINE, Refused,
    connect::{pool, tuned},
};

/// What the API server's machine has not acknowledged after that long is given up, with its connection.
/// A leader stops writing that long before another one may begin; `src/run.rs` compares the two.
pub(crate) const UNDELIVERED: Duration = Duration::from_secs(5);
/// Idle connections are closed after that long, as kube's are.
const IDLE: Duration = Duration::from_secs(90);

/// The client of a configuration that was read.
pub(super) fn client(config: Config) -> Result<Client, kube::Error> {
    // Only kube knows the ways through proxies and with programs. A controller in its pod needs neither.
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let tls = config.rustls_https_connector_with_connector(tcp())?;
    let connector = tls.map_future(|connecting| {
        Box::pin(async {
            match timeout(CONNECT_DEADLINE, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(BoxError::from(Refused::Deadline(CONNECT_DEADLINE.as_secs()))),
            }
        })
    });
    let http = pool(IDLE).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

fn tcp() -> HttpConnector {
    let mut tcp = tuned(HttpConnector::new());
    // Elsewhere only `heliostat`'s other subcommands run.
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNDELIVERED));
    tcp
}
