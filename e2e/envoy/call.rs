//! Calls to what Envoy answers on, as a client makes them.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// An open connection, and who answers on it.
pub(crate) struct Open {
    stream: BufReader<TcpStream>,
    pub(crate) name: String,
}

/// Opens a connection and reads who it is.
pub(crate) async fn tcp(port: u16) -> io::Result<Open> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
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
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
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
