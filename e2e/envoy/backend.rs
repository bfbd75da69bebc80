//! Backends on loopback that say their own name, so that a test sees which one answered.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

/// Something that answers until it is dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Says its name in a line, then echoes.
pub(crate) async fn tcp(name: &'static str) -> Backend {
    listening(move |stream| greet(stream, name)).await
}

/// Like [`tcp`], inside TLS; also the certificate that it shows.
pub(crate) async fn tls(name: &'static str) -> (Backend, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = made.cert.der().clone();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let backend = listening(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                greet(stream, name).await;
            }
        }
    });
    (backend.await, certificate)
}

/// Answers each request with its name and the Host that it saw.
pub(crate) async fn http(name: &'static str) -> Backend {
    listening(move |mut stream| async move {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            seen.extend_from_slice(&buffer[..count]);
            if !seen.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut seen)).unwrap();
            let host =
                text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
            let body = format!("{name} {}", host.unwrap_or_default());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Answers each request that comes by HTTP/2 without TLS, and no other, with its name.
pub(crate) async fn http2(name: &'static str) -> Backend {
    listening(move |stream| async move {
        let answer =
            service_fn(move |_: Request<Incoming>| async move { Ok::<_, Infallible>(Response::new(name.to_owned())) });
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
    })
    .await
}

/// Accepts each request to change the protocol, then says its name and echoes.
pub(crate) async fn websocket(name: &'static str) -> Backend {
    listening(move |mut stream| async move {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        greet(stream, name).await;
    })
    .await
}

/// Answers each datagram with its name and the datagram.
pub(crate) async fn udp(name: &'static str) -> Backend {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (count, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let answer = [name.as_bytes(), b" ", &buffer[..count]].concat();
            socket.send_to(&answer, peer).await.unwrap();
        }
    });
    Backend { address, task: task.abort_handle() }
}

async fn greet(stream: impl AsyncRead + AsyncWrite, name: &str) {
    let (mut read, mut write) = split(stream);
    if write.write_all(format!("{name}\n").as_bytes()).await.is_ok() {
        let _ = copy(&mut read, &mut write).await;
    }
}

async fn listening<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    Backend { address, task: task.abort_handle() }
}
