//! Calls to what Envoy answers on, as a client makes them.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};

/// An open connection, and who answers on it.
pub(crate) struct Open {
    stream: BufReader<Box<dyn Stream>>,
    pub(crate) name: String,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a connection and reads who it is; an empty name when it was closed.
pub(crate) async fn tcp(port: u16) -> io::Result<Open> {
    greeted(TcpStream::connect(("127.0.0.1", port)).await?).await
}

/// Like [`tcp`], inside TLS: asks for a name, and takes only this certificate.
pub(crate) async fn tls(port: u16, name: &str, certificate: &CertificateDer<'static>) -> io::Result<Open> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    greeted(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
}

async fn greeted(stream: impl Stream + 'static) -> io::Result<Open> {
    let mut stream = BufReader::new(Box::new(stream) as Box<dyn Stream>);
    let mut name = String::new();
    stream.read_line(&mut name).await?;
    Ok(Open { stream, name: name.trim().to_owned() })
}

impl Open {
    /// Whether it still carries something to the backend and back.
    pub(crate) async fn works(&mut self) -> bool {
        let mut echoed = String::new();
        self.stream.write_all(b"ping\n").await.is_ok()
            && self.stream.read_line(&mut echoed).await.is_ok()
            && echoed == "ping\n"
    }
}

/// Sends a datagram until it is answered, as every client of UDP must.
pub(crate) async fn udp(port: u16, datagram: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = vec![0; 65_535];
    for _ in 0..60 {
        socket.send_to(datagram, ("127.0.0.1", port)).await.unwrap();
        if let Ok(Ok(count)) = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await {
            buffer.truncate(count);
            return buffer;
        }
    }
    panic!("no answer to {} bytes on {port}", datagram.len());
}

/// Status and body of the answer to a request.
pub(crate) async fn http(port: u16, host: &str, path: &str) -> (u16, String) {
    try_http(port, host, path).await.unwrap()
}

/// Like [`http`], where it is not certain that anything answers.
pub(crate) async fn try_http(port: u16, host: &str, path: &str) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body))
}

/// A connection that one request after another goes by.
pub(crate) struct HttpOpen(BufReader<TcpStream>);

impl HttpOpen {
    pub(crate) async fn to(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap()))
    }

    /// Status of the answer to a request for a host.
    pub(crate) async fn get(&mut self, host: &str) -> u16 {
        self.0.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        status
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
    }
    body
}
