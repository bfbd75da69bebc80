//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`; and on a port of its own, as that one
//! is exported, `/probe`. Read-only, for anyone who reaches the port: no secrets, no object's content,
//! bounded work, and nobody can hold a connection.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Most connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// Longest life of a connection, which carries one request.
const DEADLINE: Duration = Duration::from_secs(3);
/// Most bytes of a connection in memory: the heads of requests are longer than that nowhere.
const BUFFER: usize = 16 * 1024;
/// What a scrape is answered as.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is answered.
pub trait Probed: Send + Sync + 'static {
    /// Whether the process does its work.
    fn alive(&self) -> bool;
    /// Whether everything in this cluster has been listed, and what of it has.
    fn ready(&self) -> (bool, String);
    /// The metrics, as OpenMetrics text.
    ///
    /// # Errors
    /// When they have no text form.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
}

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, probed: Arc<dyn Probed>, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probed);
    answer_all(listener, router, shutdown).await;
}

/// Answers other clusters' probes of gateways until `shutdown`: `path` gives this cluster's uid, once it
/// is known, and nothing else is there.
pub async fn serve_uid(
    listener: TcpListener,
    path: &str,
    uid: watch::Receiver<Option<String>>,
    shutdown: CancellationToken,
) {
    answer_all(listener, Router::new().route(path, get(cluster_uid)).with_state(uid), shutdown).await;
}

async fn cluster_uid(State(uid): State<watch::Receiver<Option<String>>>) -> impl IntoResponse {
    match uid.borrow().clone() {
        Some(uid) => (StatusCode::OK, format!("{uid}\n")),
        None => (StatusCode::SERVICE_UNAVAILABLE, "this cluster's uid is not known yet\n".to_owned()),
    }
}

async fn answer_all(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = shutdown.cancelled() => return,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(answer(stream, router.clone(), permit));
            }
            Err(error) => {
                // For example too many open files; it passes when connections end.
                tracing::warn!(%error, "a connection to the probes was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn answer(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    let service = TowerToHyperService::new(router);
    let connection =
        http1::Builder::new().keep_alive(false).max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
    // Who is too slow, or goes away, gets no answer; there is nobody else to tell.
    let _ = tokio::time::timeout(DEADLINE, connection).await;
}

async fn livez(State(probed): State<Arc<dyn Probed>>) -> impl IntoResponse {
    if probed.alive() {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the deciding side stands still\n")
    }
}

async fn readyz(State(probed): State<Arc<dyn Probed>>) -> impl IntoResponse {
    let (ready, report) = probed.ready();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, report)
}

async fn metrics(State(probed): State<Arc<dyn Probed>>) -> impl IntoResponse {
    match probed.metrics() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Fixed {
        good: bool,
    }

    impl Probed for Fixed {
        fn alive(&self) -> bool {
            self.good
        }

        fn ready(&self) -> (bool, String) {
            (self.good, "services: listed\n".into())
        }

        fn metrics(&self) -> Result<String, std::fmt::Error> {
            Ok("# EOF\n".into())
        }
    }

    /// Starts a server; gives its address.
    async fn start(good: bool) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Fixed { good }), CancellationToken::new()));
        address
    }

    async fn ask(address: std::net::SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a15_probes_and_metrics_answer_and_nothing_else_does() {
        let address = start(true).await;
        for (path, body) in [("/livez", "alive\n"), ("/readyz", "services: listed\n"), ("/metrics", "# EOF\n")] {
            let answer = ask(address, "GET", path).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(body), "{answer}");
            let answer = ask(address, "POST", path).await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        }
        let answer = ask(address, "GET", "/metrics").await;
        assert!(answer.contains("application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(ask(address, "GET", "/debug").await.starts_with("HTTP/1.1 404"));
    }

    /// The controller begins anew in the same process when its API server went back, on the same ports.
    #[tokio::test]
    async fn the_port_is_free_as_soon_as_serving_has_ended_whoever_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, probed) = (CancellationToken::new(), Arc::new(Fixed { good: true }));
        let served = tokio::spawn(serve(listener, probed, end.clone()));
        let _idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(address, "GET", "/livez").await.starts_with("HTTP/1.1 200"));
        end.cancel();
        served.await.unwrap();
        TcpListener::bind(address).await.unwrap();
    }

    #[tokio::test]
    async fn the_exported_port_tells_the_uid_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, uid) = watch::channel(None);
        tokio::spawn(serve_uid(listener, "/probe", uid, CancellationToken::new()));
        assert!(ask(address, "GET", "/probe").await.starts_with("HTTP/1.1 503"));
        tell.send_replace(Some("1b9f4c0a-0000-4000-8000-0123456789ab".to_owned()));
        let answer = ask(address, "GET", "/probe").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: text/plain"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n1b9f4c0a-0000-4000-8000-0123456789ab\n"), "{answer}");
        for path in ["/", "/livez", "/readyz", "/metrics", "/probe/x"] {
            assert!(ask(address, "GET", path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        assert!(ask(address, "POST", "/probe").await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn what_is_not_well_says_so() {
        let address = start(false).await;
        for path in ["/livez", "/readyz"] {
            let answer = ask(address, "GET", path).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a15_nobody_can_hold_all_connections() {
        let address = start(true).await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let patience = DEADLINE * 3;
        let answer = tokio::time::timeout(patience, ask(address, "GET", "/livez")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
