//! The hardened client against a TLS server that does as it is told.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use http::Request;
use kube::Client;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{Guard, Remote};
use crate::{
    api::Reason,
    cluster::{
        credentials::{Credentials, Host},
        dns::{Answer, Lookup},
        failure::Failure,
        own::OwnCluster,
    },
};

pub(super) const TOKEN: &str = "canary-token";

pub(super) struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

pub(super) fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: rcgen::Issuer::new(params, key) }
}

/// A TLS server that answers each request on a connection of its own, and what it was asked.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

pub(super) type Connection = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// TLS with a certificate for these names that is good until that year.
pub(super) fn tls(authority: &Authority, names: &[&str], year: i32) -> rustls::ServerConfig {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap()
}

impl Server {
    pub(super) async fn start(authority: &Authority, names: &[&str], answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::run(vec![tls(authority, names, 2099)], move |_, mut connection| {
            let answer = answer.clone();
            Box::pin(async move {
                let _ = connection.write_all(answer.as_bytes()).await;
                let _ = connection.shutdown().await;
            })
        })
        .await
    }

    /// Each connection has the next TLS, the later ones the last; `answer` is given the request.
    pub(super) async fn run(
        tls: Vec<rustls::ServerConfig>,
        answer: impl Fn(String, Connection) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = server.asked.clone();
        tokio::spawn(async move {
            let mut tls: Vec<TlsAcceptor> = tls.into_iter().map(|tls| TlsAcceptor::from(Arc::new(tls))).collect();
            tls.reverse();
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = if tls.len() > 1 { tls.pop().unwrap() } else { tls[0].clone() };
                let Ok(mut connection) = acceptor.accept(tcp).await else { continue };
                let mut head = vec![0; 8192];
                let read = connection.read(&mut head).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&head[..read]).into_owned();
                asked.lock().unwrap().push(request.clone());
                tokio::spawn(answer(request, connection));
            }
        });
        server
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

pub(super) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn credentials(authority: &Authority, host: Host, port: u16) -> Credentials {
    let kubeconfig = json!({
        "current-context": "east",
        "clusters": [{"name": "east", "cluster": {"server": "https://203.0.113.1/prefix", "certificate-authority-data": STANDARD.encode(&authority.pem)}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": "u"}}],
    });
    let mut credentials = Credentials::parse(kubeconfig.to_string().as_bytes()).unwrap();
    (credentials.server.host, credentials.server.port) = (host, port);
    credentials
}

/// Gives out one answer after the other, the last one for ever.
struct Names(Vec<IpAddr>, AtomicUsize);

impl Lookup for Names {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        let turn = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len().saturating_sub(1));
        let answer = self.0.get(turn).map(|address| Answer { addresses: vec![*address], ttl: Default::default() });
        Box::pin(async move { answer.ok_or_else(|| "no such name".to_owned()) })
    }
}

pub(super) fn client(credentials: &Credentials, guard: Guard, names: &[[u8; 4]]) -> Client {
    let names = names.iter().map(|octets| IpAddr::from(*octets)).collect();
    Remote::new(credentials, guard, Arc::new(Names(names, AtomicUsize::new(0)))).unwrap().into_client()
}

pub(super) fn lenient(authority: &Authority, server: &Server) -> Client {
    let credentials = credentials(authority, Host::Ip(server.address.ip()), server.address.port());
    client(&credentials, Guard::lenient(OwnCluster::default(), server.address.port()), &[])
}

pub(super) async fn get(client: &Client, path: &str) -> Result<Value, Failure> {
    let request = Request::get(path).body(Vec::new()).unwrap();
    client.request(request).await.map_err(|error| {
        assert!(!format!("{error:?}").contains(TOKEN));
        Failure::from(&error)
    })
}

#[tokio::test]
async fn the_credential_goes_to_the_server_behind_its_path() {
    let authority = authority();
    let server = Server::start(&authority, &["127.0.0.1"], answer("200 OK", r#"{"gitVersion": "v1.36.0"}"#)).await;
    let said = get(&lenient(&authority, &server), "/version?x=1").await.unwrap();
    assert_eq!(said["gitVersion"], "v1.36.0");
    let asked = server.asked().remove(0).to_ascii_lowercase();
    assert!(asked.starts_with("get /prefix/version?x=1 http/1.1\r\n"), "{asked}");
    for header in ["authorization: bearer canary-token", "user-agent: heliostat/", "accept: application/json"] {
        assert!(asked.contains(header), "{asked}");
    }
    assert!(!asked.contains("accept-encoding"), "{asked}");
}

#[tokio::test]
async fn a03_another_authority_or_name_is_not_believed() {
    let (authority, stranger) = (authority(), self::authority());
    for (signer, names) in [(&stranger, ["127.0.0.1"]), (&authority, ["127.0.0.9"])] {
        let server = Server::start(signer, &names, answer("200 OK", "{}")).await;
        let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
        assert_eq!(failure.reason, Reason::TLSVerificationFailed, "{}", failure.message);
        assert!(server.asked().is_empty());
    }
}

#[tokio::test]
async fn a02_redirects_are_not_followed() {
    let authority = authority();
    let target = Server::start(&authority, &["127.0.0.1"], answer("200 OK", "{}")).await;
    let redirect = format!("HTTP/1.1 307 X\r\nLocation: https://{}/\r\nContent-Length: 0\r\n\r\n", target.address);
    let server = Server::start(&authority, &["127.0.0.1"], redirect).await;
    let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
    assert_eq!(failure.message, "the server answered with status 307, and redirects are never followed");
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn a14_a_server_that_echoes_the_token_does_not_spread_it() {
    let authority = authority();
    let body =
        json!({"kind": "Status", "message": format!("bad token {TOKEN}"), "reason": "Unauthorized", "code": 401});
    let server = Server::start(&authority, &["127.0.0.1"], answer("401 Unauthorized", &body.to_string())).await;
    let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unauthorized);
    assert!(failure.message.contains("bad token [redacted]"), "{}", failure.message);
}

#[tokio::test]
async fn throttling_says_how_long_to_wait() {
    let authority = authority();
    let slow = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Server::start(&authority, &["127.0.0.1"], slow).await;
    let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
    assert_eq!((failure.reason, failure.retry_after.map(|d| d.as_secs())), (Reason::Throttled, Some(3)));
}

#[tokio::test]
async fn a_link_only_reads() {
    let authority = authority();
    let server = Server::start(&authority, &["127.0.0.1"], answer("200 OK", "{}")).await;
    let client = lenient(&authority, &server);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let request = Request::builder().method(method).uri("/x").body(Vec::new()).unwrap();
        let error = client.request::<Value>(request).await.unwrap_err();
        assert_eq!(Failure::from(&error).message, format!("{method} is not allowed: a link only reads"));
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a02_addresses_are_checked_at_every_connect_after_resolution() {
    let authority = authority();
    let server = Server::start(&authority, &["east.example"], answer("200 OK", "{}")).await;
    let credentials = credentials(&authority, Host::Name("east.example".into()), server.address.port());
    let mut guard = Guard::new(OwnCluster::default(), server.address.port());
    guard.allowed = |address| if address == IpAddr::from([127, 0, 0, 1]) { Ok(()) } else { Err("leads astray") };
    let client = client(&credentials, guard, &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    get(&client, "/version").await.unwrap();
    let failure = get(&client, "/version").await.unwrap_err();
    assert_eq!(failure.reason, Reason::CredentialsRejected);
    assert_eq!(failure.message, "clusters[0].cluster.server of the kubeconfig leads astray");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a02_names_and_addresses_that_lead_to_forbidden_ones_are_not_dialled() {
    let authority = authority();
    let server = Server::start(&authority, &["127.0.0.1", "east.example"], answer("200 OK", "{}")).await;
    let port = server.address.port();
    for (host, names) in [
        (Host::Ip(server.address.ip()), &[][..]),
        (Host::Name("east.example".into()), &[[127, 0, 0, 1]][..]),
        (Host::Name("east.example".into()), &[[169, 254, 169, 254]][..]),
    ] {
        let client = client(&credentials(&authority, host, port), Guard::new(OwnCluster::default(), port), names);
        assert_eq!(get(&client, "/version").await.unwrap_err().reason, Reason::CredentialsRejected);
    }
    let unknown = client(
        &credentials(&authority, Host::Name("east.example".into()), port),
        Guard::new(OwnCluster::default(), port),
        &[],
    );
    assert_eq!(get(&unknown, "/version").await.unwrap_err(), Failure::new(Reason::RemoteUnreachable, "no such name"));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn m18_this_clusters_own_server_is_not_dialled() {
    let authority = authority();
    let server = Server::start(&authority, &["127.0.0.1"], answer("200 OK", "{}")).await;
    let own = OwnCluster::knowing(server.address);
    let credentials = credentials(&authority, Host::Ip(server.address.ip()), server.address.port());
    let to_self = client(&credentials, Guard::lenient(own.clone(), server.address.port()), &[]);
    assert_eq!(get(&to_self, "/version").await.unwrap_err().reason, Reason::SelfLink);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn nobody_there_is_said_in_words() {
    let authority = authority();
    let credentials = credentials(&authority, Host::Ip([127, 0, 0, 1].into()), 1);
    let failure =
        get(&client(&credentials, Guard::lenient(OwnCluster::default(), 1), &[]), "/version").await.unwrap_err();
    assert_eq!(failure.reason, Reason::RemoteUnreachable);
    assert!(failure.message.contains("refused"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_started_in_a_storm() {
    let authority = authority();
    let credentials = credentials(&authority, Host::Ip([203, 0, 113, 1].into()), 1);
    let guard = Guard::lenient(OwnCluster::default(), 1);
    let remote = Remote::new(&credentials, guard, Arc::new(Names(Vec::new(), AtomicUsize::new(0)))).unwrap();
    let start = tokio::time::Instant::now();
    for _ in 0..5 {
        remote.pace(&"/api/v1/services?watch=true".parse().unwrap()).await;
        remote.pace(&"/api/v1/nodes?watch=true".parse().unwrap()).await;
    }
    assert_eq!(start.elapsed(), std::time::Duration::from_secs(4));
}
