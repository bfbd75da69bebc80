//! Asks a gateway over the network, from this machine: one connection a question, each with a deadline. Says
//! what came, and judges nothing. No server certificate is ever accepted here, so nothing is ever sent
//! through TLS.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{
    HeaderMap, Request,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::answer::{Answer, Ask, Question};

/// Most connections at a time.
const AT_A_TIME: usize = 16;
/// Most bytes of an answer's head; the least that the HTTP client allows.
const MAX_HEAD: usize = 8192;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For an answer, from the first packet on.
    pub(super) deadline: Duration,
    /// For a connection that was taken to be closed again.
    pub(super) keeping: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(3), keeping: Duration::from_secs(1) }
    }
}

/// Asks everything; `done` hears how much has been answered. The answers are in the questions' order.
pub(super) async fn ask_all(asks: Vec<Ask>, patience: Patience, mut done: impl FnMut(usize)) -> Vec<(Ask, Answer)> {
    let asked = asks.into_iter().enumerate().map(|(index, asked)| async move {
        let answer = ask(asked.to, &asked.question, patience).await;
        (index, (asked, answer))
    });
    let mut running = stream::iter(asked).buffer_unordered(AT_A_TIME);
    let mut answers = BTreeMap::new();
    while let Some((index, answered)) = running.next().await {
        answers.insert(index, answered);
        done(answers.len());
    }
    answers.into_values().collect()
}

/// Asks one question.
pub(super) async fn ask(to: SocketAddr, question: &Question, patience: Patience) -> Answer {
    let talk = async {
        match TcpStream::connect(to).await {
            Ok(stream) => talk(stream, question, patience).await,
            Err(error) => not_connected(&error),
        }
    };
    timeout(patience.deadline, talk).await.unwrap_or(Answer::Silent)
}

fn not_connected(error: &io::Error) -> Answer {
    match error.kind() {
        ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => Answer::NoRoute,
        ErrorKind::ConnectionRefused => Answer::Refused("the connection is refused".to_owned()),
        ErrorKind::ConnectionReset => Answer::Refused("the connection is reset".to_owned()),
        ErrorKind::HostUnreachable => Answer::Refused("the host is unreachable".to_owned()),
        ErrorKind::TimedOut => Answer::Silent,
        _ => Answer::Refused(error.to_string()),
    }
}

async fn talk(mut stream: TcpStream, question: &Question, patience: Patience) -> Answer {
    match question {
        Question::Connection => Answer::Kept,
        Question::Port => kept(&mut stream, patience).await,
        Question::NobodysPort(host) => match kept(&mut stream, patience).await {
            Answer::Kept => match get(stream, host, "/").await {
                answer @ (Answer::Http { .. } | Answer::Closed) => answer,
                _ => Answer::Kept,
            },
            other => other,
        },
        Question::Http(host, path) => get(stream, host, path).await,
        Question::Tls(host) => greet(stream, host).await,
    }
}

/// Whether a connection stays; a first byte is a sign of that too.
async fn kept(stream: &mut TcpStream, patience: Patience) -> Answer {
    match timeout(patience.keeping, stream.read(&mut [0; 1])).await {
        Ok(Ok(0) | Err(_)) => Answer::Closed,
        Ok(Ok(_)) | Err(_) => Answer::Kept,
    }
}

async fn get(stream: TcpStream, host: &str, path: &str) -> Answer {
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("heliostat/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Answer::Other(error.to_string()),
    };
    let (mut sender, connection) =
        match http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await {
            Ok(pair) => pair,
            Err(error) => return broken(&error),
        };
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    match sender.send_request(request).await {
        Ok(response) => {
            let status = response.status().as_u16();
            Answer::Http { status, shape: shape(status, response.headers()) }
        }
        Err(error) => broken(&error),
    }
}

fn broken(error: &hyper::Error) -> Answer {
    if error.is_parse() { Answer::Other("no HTTP/1.1".to_owned()) } else { Answer::Closed }
}

fn shape(status: u16, headers: &HeaderMap) -> String {
    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let value = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    format!("{status} {} {} {}", names.join(","), value(CONTENT_TYPE), value(CONTENT_LENGTH))
}

async fn greet(stream: TcpStream, host: &str) -> Answer {
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Answer::Other("this name cannot stand in a TLS greeting".to_owned());
    };
    let witness = Arc::new(Witness::default());
    let provider = Arc::new(ring::default_provider());
    let config = match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(versions) => {
            let verifier = Arc::<Witness>::clone(&witness);
            versions.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Err(error) => return Answer::Other(error.to_string()),
    };
    match (TlsConnector::from(Arc::new(config)).connect(name, stream).await, witness.0.get()) {
        (_, Some(certificate)) => Answer::Certificate(certificate.clone()),
        (Ok(_), None) => Answer::Other("a TLS session without a certificate".to_owned()),
        (Err(error), None) => not_greeted(&error),
    }
}

fn not_greeted(error: &io::Error) -> Answer {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Answer::Alert {
            unknown_name: *alert == AlertDescription::UnrecognisedName,
            name: alert.as_str().unwrap_or("unknown").to_owned(),
        },
        Some(other) => Answer::Other(other.to_string()),
        None => Answer::Closed,
    }
}

/// Refuses every certificate, and remembers which one it was: that one comes at all is the answer.
#[derive(Debug, Default)]
struct Witness(OnceLock<Vec<u8>>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let _ = self.0.set(end_entity.to_vec());
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
