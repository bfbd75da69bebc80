//! An exporter that no Kubernetes would be: a TLS server that answers a link with the objects that a
//! test wrote, byte for byte, whatever they are.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    serve::Listener,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::stream;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use crate::relay::reachable_from;

/// The answers to the two listings of a link.
#[derive(Clone, Default)]
pub(crate) struct Forgery {
    /// resourceVersion of the lists; 0: that does not matter.
    pub(crate) version: u64,
    /// JSON of each Service.
    pub(crate) services: Vec<String>,
    /// JSON of each EndpointSlice.
    pub(crate) slices: Vec<String>,
    /// What a watch of Services is answered with, again and again, as fast as it is read.
    pub(crate) flood: Option<String>,
}

/// A forged exporter; it ends when it is dropped.
pub(crate) struct Forger {
    /// The kubeconfig of a link to it.
    pub(crate) kubeconfig: String,
    /// What it answers, read by whoever answers.
    forgery: watch::Sender<Forgery>,
    task: JoinHandle<()>,
}

impl Forger {
    /// Starts it where the pods of the cluster with that API server can reach it.
    pub(crate) async fn start(cluster: SocketAddr, uid: &str, forgery: Forgery) -> Self {
        let host = reachable_from(cluster).await;
        let tcp = TcpListener::bind((host, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (tls, authority) = certificate(&host.to_string());
        let kubeconfig = json!({
            "current-context": "forged",
            "clusters": [{"name": "forged", "cluster": {
                "server": format!("https://{address}"), "certificate-authority-data": STANDARD.encode(authority),
            }}],
            "users": [{"name": "link", "user": {"token": "forged"}}],
            "contexts": [{"name": "forged", "context": {"cluster": "forged", "user": "link"}}],
        });
        let (forgery, told) = watch::channel(forgery);
        let answers = axum::Router::new().fallback(answer).with_state(Arc::new((uid.to_owned(), told)));
        let task = tokio::spawn(async move {
            axum::serve(Tls { tcp, tls }, answers).await.unwrap();
        });
        Self { kubeconfig: kubeconfig.to_string(), forgery, task }
    }

    /// Answers that from now on, and ends all watches with 410, so that they list again.
    pub(crate) fn answer(&self, forgery: Forgery) {
        self.forgery.send_replace(forgery);
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for that host, signed by an authority made for it, in PEM.
fn certificate(host: &str) -> (TlsAcceptor, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority)
}

struct Tls {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((tcp, from)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(tcp).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Listings as they were written, watches without an event until there are other ones, and an identity.
async fn answer(
    State(state): State<Arc<(String, watch::Receiver<Forgery>)>>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let (uid, told) = &*state;
    if query.is_some_and(|q| q.contains("watch=true")) {
        let mut told = told.clone();
        let flood = told.borrow_and_update().flood.clone();
        if let Some(flood) = flood.filter(|_| uri.path().ends_with("/services")) {
            return Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(flood.clone())))
                .into_response();
        }
        return Body::from_stream(stream::once(expired(told))).into_response();
    }
    let forgery = told.borrow().clone();
    let at = forgery.version.max(1);
    let list = |kind: &str, version: &str, items: &[String]| {
        let items = items.join(",");
        format!(
            r#"{{"kind":"{kind}List","apiVersion":"{version}","metadata":{{"resourceVersion":"{at}"}},"items":[{items}]}}"#
        )
    };
    let body = match uri.path() {
        "/version" => json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}).to_string(),
        "/api/v1/namespaces/kube-system" => {
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": uid}})
                .to_string()
        }
        path if path.ends_with("/services") => list("Service", "v1", &forgery.services),
        path if path.ends_with("/endpointslices") => list("EndpointSlice", "discovery.k8s.io/v1", &forgery.slices),
        _ => return axum::http::StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// What ends a watch when the answers have changed.
async fn expired(mut told: watch::Receiver<Forgery>) -> Result<String, std::io::Error> {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    let gone = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old",
    });
    Ok(format!("{}\n", json!({"type": "ERROR", "object": gone})))
}
