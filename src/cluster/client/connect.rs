//! Connections to an exporter: resolve, check, dial what was checked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Builder, Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::{CONNECT_DEADLINE, Refused};
use crate::cluster::{address, credentials::Credentials, dns::Lookup, own::OwnCluster};

/// A dead peer is noticed by TCP itself after about 25 s: 10 s of silence and three probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);
/// Most bytes that a connection reads at once, and longest head of an answer; those of API servers take
/// less than 2 KiB. Without it each connection that has carried a listing keeps a buffer of up to 400 KiB.
const MAX_READ: usize = 16 << 10;

/// Which addresses may be dialled.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) allowed: fn(IpAddr) -> Result<(), &'static str>,
    own: OwnCluster,
    port: u16,
}

impl Guard {
    pub(super) fn new(own: OwnCluster, port: u16) -> Self {
        Self { allowed: address::check, own, port }
    }

    fn check(&self, address: IpAddr) -> Result<(), Refused> {
        (self.allowed)(address).map_err(Refused::Address)?;
        if self.own.serves(SocketAddr::new(address.to_canonical(), self.port)) {
            return Err(Refused::OwnServer);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn lenient(own: OwnCluster, port: u16) -> Self {
        Self { allowed: |_| Ok(()), own, port }
    }
}

/// A connection.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Resolves a name and gives out its addresses only if all of them may be dialled.
#[derive(Clone)]
struct CheckedLookup {
    guard: Guard,
    lookup: Arc<dyn Lookup>,
}

impl Service<Name> for CheckedLookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { guard, lookup } = self.clone();
        Box::pin(async move {
            let answer = lookup.lookup(name.as_str()).await.map_err(Refused::Unresolved)?;
            answer.addresses.iter().try_for_each(|address| guard.check(*address))?;
            // The connector puts in the port of the URL.
            let addresses: Vec<SocketAddr> = answer.addresses.iter().map(|a| SocketAddr::new(*a, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

type Tls = HttpsConnector<HttpConnector<CheckedLookup>>;

/// Connections that send at once and are asked whether they live.
pub(super) fn tuned<R>(mut tcp: HttpConnector<R>) -> HttpConnector<R> {
    let (time, interval, retries) = KEEPALIVE;
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
    tcp.set_keepalive(Some(time));
    tcp.set_keepalive_interval(Some(interval));
    tcp.set_keepalive_retries(Some(retries));
    tcp
}

/// Keeps connections, and closes those that nobody has used for so long.
pub(super) fn pool(idle: Duration) -> Builder {
    let mut pool = Client::builder(TokioExecutor::new());
    pool.pool_timer(TokioTimer::new()).pool_idle_timeout(idle).http1_max_buf_size(MAX_READ);
    pool
}

/// Connects within [`CONNECT_DEADLINE`].
#[derive(Clone)]
pub(super) struct Connector {
    guard: Guard,
    tls: Tls,
}

impl Connector {
    pub(super) fn new(credentials: &Credentials, guard: Guard, lookup: Arc<dyn Lookup>) -> Self {
        let tcp = tuned(HttpConnector::new_with_resolver(CheckedLookup { guard: guard.clone(), lookup }));
        let tls = HttpsConnectorBuilder::new().with_tls_config((*credentials.tls).clone()).https_only();
        let tls = match &credentials.server_name {
            Some(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => tls,
        };
        Self { guard, tls: tls.enable_http1().wrap_connector(tcp) }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tls.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // An IP address in a URL is not resolved, so the resolver does not get to see it.
        let literal = uri.host().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse().ok());
        if let Some(Err(refused)) = literal.map(|address| self.guard.check(address)) {
            return Box::pin(async move { Err(refused.into()) });
        }
        let connecting = self.tls.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_DEADLINE, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(Refused::Deadline(CONNECT_DEADLINE.as_secs()).into()),
            }
        })
    }
}
