//! One probe of one address. What is sent is the same for all, and nothing that comes back is
//! shown but what has the form of a uid: a gateway can make this program say nothing.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    Request, StatusCode,
    header::{CONNECTION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    api::names::PROBE_PATH,
    cluster::text::clean,
    core::reach::{Ask, ProbeTask},
};

/// Most bytes of an answer's body that are read; a uid has 36.
const MAX_BODY: usize = 256;
/// Most bytes of an answer's head; the least that the HTTP client allows.
const MAX_HEAD: usize = 8192;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects; tests and simulations have one of their own.
pub trait Dial: Send + Sync {
    /// A connection to that very address.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// Connects by TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(to).await?) as Box<dyn Stream>) })
    }
}

/// What came of a probe. A reason is the same text whenever it is the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is as it should be.
    Good,
    /// Somebody is there, and does not answer as it should.
    Wrong(String),
    /// Nobody answers.
    Silent(String),
}

/// Asks once, and takes no longer than the task allows.
pub(super) async fn ask(dial: &dyn Dial, address: IpAddr, task: &ProbeTask) -> Answer {
    let deadline = Instant::now() + task.terms.timeout;
    let (Ask::Connection { port, .. } | Ask::ClusterUid { port, .. }) = &task.ask;
    let to = SocketAddr::new(address, *port);
    let stream = match timeout_at(deadline, dial.dial(to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Answer::Silent(format!("port {port}: {}", refused(&error))),
        Err(_) => return Answer::Silent(format!("port {port}: no connection within {:?}", task.terms.timeout)),
    };
    let Ask::ClusterUid { host, uid, .. } = &task.ask else { return Answer::Good };
    let authority = host.clone().unwrap_or_else(|| to.to_string());
    match timeout_at(deadline, fetch(stream, &authority)).await {
        Ok(Ok(found)) if found == *uid => Answer::Good,
        Ok(Ok(found)) => Answer::Wrong(format!("port {port}: {}", mistaken(&found, uid))),
        Ok(Err(why)) => Answer::Wrong(format!("port {port}: {why}")),
        Err(_) => Answer::Wrong(format!(
            "port {port}: it accepts the connection and gives no answer within {:?}; is anything behind it?",
            task.terms.timeout
        )),
    }
}

fn refused(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "the connection is refused".to_owned(),
        ErrorKind::ConnectionReset => "the connection is reset".to_owned(),
        ErrorKind::TimedOut => "no connection".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "there is no route to it".to_owned(),
        _ => clean(&error.to_string(), 200),
    }
}

/// What the probe Service behind a connection says.
async fn fetch(stream: Box<dyn Stream>, authority: &str) -> Result<String, String> {
    let request = Request::get(PROBE_PATH)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("heliostat/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the name that the gateway is asked by is no name".to_owned())?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("the gateway answers {} and does not lead to the probe Service", status.as_u16()));
    }
    match Limited::new(response.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()),
        Err(_) => Err("the answer is broken off, or is longer than a uid".to_owned()),
    }
}

fn broken(error: &hyper::Error) -> String {
    if error.is_parse() {
        "what answers does not speak HTTP/1.1".to_owned()
    } else {
        "it accepts the connection and gives no answer; is anything behind it?".to_owned()
    }
}

/// What is said of a wrong answer; only what has the form of a uid is repeated.
fn mistaken(found: &str, wanted: &str) -> String {
    let is_uid = (1..=64).contains(&found.len()) && found.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if is_uid {
        format!("another cluster is behind it, whose kube-system has uid {found} and not {wanted}")
    } else {
        "what answers is not Heliostat's probe Service".to_owned()
    }
}
