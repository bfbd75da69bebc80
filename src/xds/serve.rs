//! The port: mutual TLS, gRPC, and one task for each Envoy's stream. Who an Envoy is, its certificate
//! says; which gateway it asks for, its first request; the two must agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use futures::stream::{self, BoxStream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{interval, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    conversation::Conversation,
    gateways::{Gateways, Seat},
    pki,
};

/// How long a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients that may be at that at once: those are not known yet.
const HANDSHAKES: usize = 64;
/// How often a connection is asked whether it still lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(10);
/// Largest request: the first one of an Envoy names all that it has, some 150 bytes for each.
const REQUEST: usize = 64 << 20;
/// How often what an Envoy refused is said to it once more.
const RETRY: Duration = Duration::from_secs(60);
/// How long a replica that does not lead keeps an Envoy: it tells it what to do, for want of somebody
/// better, and lets it try another one. Only what the leader hears acknowledged is published.
const LODGING: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, usually for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether this replica leads.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// Serves until `shutdown`. Each connection uses the TLS configuration of the moment when it comes.
pub(super) async fn serve(
    gateways: &Arc<Gateways>,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    leads: Leads,
    shutdown: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &handshakes) => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
                let connection = connection(Arc::clone(gateways), stream, acceptor, permit);
                let (leads, shutdown) = (Arc::clone(&leads), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        // Who is dropped connects again, by the Service in front of all replicas.
                        () = turned_away(leads) => tracing::debug!("an Envoy is to find the leader"),
                        () = shutdown.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of an Envoy");
                sleep(PAUSE).await;
            }
        }
    }
}

/// When a connection has lasted long enough at a replica that does not lead.
async fn turned_away(leads: Leads) {
    loop {
        sleep(LODGING).await;
        if !leads() {
            return;
        }
    }
}

async fn accept(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so there always is a permit.
    let permit = Arc::clone(handshakes).acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(
    gateways: Arc<Gateways>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    permit: Option<OwnedSemaphorePermit>,
) {
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(peer, %error, "a client of the xDS port showed no certificate of an Envoy of ours");
            return;
        }
        Err(_) => return,
    };
    drop(permit);
    let service = Service { gateways, names: Arc::new(names(&stream)) };
    let service = AggregatedDiscoveryServiceServer::new(service).max_decoding_message_size(REQUEST);
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = served.await {
        tracing::debug!(peer, %error, "a connection of an Envoy ended");
    }
}

/// The names in a client's certificate, which was verified.
fn names(stream: &TlsStream<TcpStream>) -> BTreeSet<String> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates.first().and_then(|certificate| pki::names_of(certificate).ok()).unwrap_or_default()
}

/// What one connection is served by.
struct Service {
    gateways: Arc<Gateways>,
    names: Arc<BTreeSet<String>>,
}

type Responses<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the incremental protocol is served; set api_type: DELTA_GRPC"))
    }

    async fn delta_aggregated_resources(
        &self,
        requests: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (say, mut said) = mpsc::channel(1);
        let (gateways, names) = (Arc::clone(&self.gateways), Arc::clone(&self.names));
        tokio::spawn(async move {
            let end = say.clone();
            // Both ends are watched: a client that takes no more may go on sending for a while.
            let refused = tokio::select! {
                result = talk(&gateways, &names, requests.into_inner(), say) => result.err(),
                () = end.closed() => None,
            };
            if let Some(status) = refused {
                tracing::info!(gateway = ?names, why = status.message(), "the stream of an Envoy ended");
                // Who is gone need not hear why.
                let _ = end.send(Err(status)).await;
            }
        });
        Ok(Response::new(stream::poll_fn(move |context| said.poll_recv(context)).boxed()))
    }
}

/// Talks with one Envoy until it goes.
async fn talk(
    gateways: &Arc<Gateways>,
    names: &BTreeSet<String>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    say: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let mut seat = seat(gateways, names, &first)?;
    let mut conversation = Conversation::default();
    conversation.hear(first);
    let mut refused = BTreeMap::new();
    let mut retry = interval(RETRY);
    retry.reset();
    loop {
        let snapshot = seat.snapshot.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            conversation.tell(snapshot);
        }
        for response in conversation.speak() {
            if say.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        if let Some(report) = conversation.take_report() {
            if report.refused != refused {
                refused.clone_from(&report.refused);
                tracing::warn!(?refused, "an Envoy refuses ports, or no longer the same ones");
            }
            seat.report(report);
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => conversation.hear(request),
                None => return Ok(()),
            },
            changed = seat.snapshot.changed() => if changed.is_err() {
                return Ok(());
            },
            _ = retry.tick() => conversation.retry(),
        }
    }
}

/// The place of an Envoy, if its certificate is for the gateway that it asks for.
fn seat(gateways: &Arc<Gateways>, names: &BTreeSet<String>, first: &DeltaDiscoveryRequest) -> Result<Seat, Status> {
    let node = first.node.as_ref().filter(|node| !node.cluster.is_empty() && !node.id.is_empty());
    let Some(node) = node else {
        return Err(Status::invalid_argument(
            "the first request names no node; start Envoy with --service-cluster <binding> and --service-node <pod>",
        ));
    };
    if !names.contains(&node.cluster) {
        let names = Vec::from_iter(names.iter().map(String::as_str)).join(", ");
        return Err(Status::permission_denied(format!(
            "the certificate is for the gateway {names}, but the Envoy {} asks for {}; mount the Secret of that binding",
            node.id, node.cluster
        )));
    }
    tracing::info!(binding = node.cluster, envoy = node.id, "an Envoy connected");
    Ok(gateways.join(node.cluster.clone(), node.id.clone()))
}

#[cfg(test)]
mod tests;
