//! Every kind of answer, from servers on this machine.

use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use super::*;

/// So that a loaded machine does not make an answer of a delay.
const PATIENT: Patience = Patience { deadline: Duration::from_secs(60), keeping: Duration::from_secs(30) };
/// Where it is the silence that is waited for.
const HASTY: Patience = Patience { deadline: Duration::from_secs(60), keeping: Duration::from_millis(50) };

/// A server that does the same with every connection.
async fn server<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn hold(stream: TcpStream) {
    std::future::pending::<()>().await;
    drop(stream);
}

/// Knows one name, and says the same to all others.
async fn by_host(mut stream: TcpStream) {
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
    let known = head.starts_with("get /x http/1.1\r\n") && head.contains("host: books-east.shop\r\n");
    let answer = if known {
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi"
    } else {
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

#[tokio::test]
async fn a_listener_without_a_backend_closes_and_one_with_one_does_not() {
    let closes = server(|stream| async move { drop(stream) }).await;
    assert_eq!(ask(closes, &Question::Port, PATIENT).await, Answer::Closed);
    let holds = server(hold).await;
    assert_eq!(ask(holds, &Question::Port, HASTY).await, Answer::Kept);
    let echoes = server(echo).await;
    assert_eq!(ask(echoes, &Question::Port, HASTY).await, Answer::Kept);
    let speaks_first = server(|mut stream: TcpStream| async move { stream.write_all(b"220 hi").await.unwrap() }).await;
    assert_eq!(ask(speaks_first, &Question::Port, PATIENT).await, Answer::Kept);
    assert_eq!(ask(closes, &Question::Connection, PATIENT).await, Answer::Kept);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(ask(nobody, &Question::Port, PATIENT).await, Answer::Refused(_)));
}

#[tokio::test]
async fn a_kept_connection_to_nobodys_port_is_asked_what_it_is() {
    let nobody = Question::NobodysPort("nobody".to_owned());
    assert!(matches!(ask(server(by_host).await, &nobody, HASTY).await, Answer::Http { status: 404, .. }));
    assert_eq!(ask(server(echo).await, &nobody, HASTY).await, Answer::Kept);
    let closes = server(|stream| async move { drop(stream) }).await;
    assert_eq!(ask(closes, &nobody, PATIENT).await, Answer::Closed);
}

#[tokio::test]
async fn an_answer_by_host_has_a_status_and_a_shape() {
    let server = server(by_host).await;
    let get = |host: &str, path: &str| Question::Http(host.to_owned(), path.to_owned());
    let Answer::Http { status, shape } = ask(server, &get("books-east.shop", "/x"), PATIENT).await else { panic!() };
    assert_eq!((status, shape.as_str()), (200, "200 content-length,content-type text/plain 2"));
    let Answer::Http { status, shape } = ask(server, &get("nobody.shop", "/x"), PATIENT).await else { panic!() };
    assert_eq!((status, shape.as_str()), (404, "404 content-length  0"));
}

#[tokio::test]
async fn what_speaks_no_http_and_what_says_nothing_is_told_apart() {
    let get = Question::Http("a".to_owned(), "/".to_owned());
    let other = server(|mut stream: TcpStream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(b"220 mail\r\n\r\n").await;
    });
    assert!(matches!(ask(other.await, &get, PATIENT).await, Answer::Other(_)));
    let closes = server(|mut stream: TcpStream| async move { drop(stream.read(&mut [0; 512]).await) }).await;
    assert_eq!(ask(closes, &get, PATIENT).await, Answer::Closed);
    let short = Patience { deadline: Duration::from_millis(100), ..PATIENT };
    assert_eq!(ask(server(hold).await, &get, short).await, Answer::Silent);
}

fn tls_config() -> (Arc<rustls::ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["books-east".to_owned()]).unwrap();
    let shown = made.cert.der().to_vec();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .unwrap();
    (Arc::new(config), shown)
}

#[tokio::test]
async fn a_greeting_is_answered_by_a_certificate_an_alert_or_the_end() {
    let (config, shown) = tls_config();
    let gateway = server(move |mut stream: TcpStream| {
        let acceptor = TlsAcceptor::from(config.clone());
        async move {
            let mut hello = [0; 4096];
            let read = stream.peek(&mut hello).await.unwrap();
            let greets = |name: &[u8]| hello[..read].windows(name.len()).any(|found| found == name);
            if greets(b"books-east") {
                drop(acceptor.accept(stream).await);
            } else if greets(b"stranger") {
                // What has not been read at the end would make a reset of it.
                let _ = stream.read(&mut hello).await;
                // Alert, fatal: unrecognized_name (RFC 6066).
                stream.write_all(&[21, 3, 3, 0, 2, 2, 112]).await.unwrap();
            }
        }
    })
    .await;
    let greet = |name: &str| Question::Tls(name.to_owned());
    assert_eq!(ask(gateway, &greet("books-east"), PATIENT).await, Answer::Certificate(shown));
    assert!(matches!(ask(gateway, &greet("stranger"), PATIENT).await, Answer::Alert { unknown_name: true, .. }));
    assert_eq!(ask(gateway, &greet("nobody"), PATIENT).await, Answer::Closed);
    let plain = server(by_host).await;
    assert!(matches!(ask(plain, &greet("books-east"), PATIENT).await, Answer::Other(_)));
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_questions_however_many() {
    let (closes, holds) = (server(|stream| async move { drop(stream) }).await, server(hold).await);
    let asks: Vec<Ask> = (0..40)
        .map(|index| Ask {
            to: if index % 2 == 0 { holds } else { closes },
            question: Question::Port,
            exported: true,
            subject: index.to_string(),
        })
        .collect();
    let mut heard = Vec::new();
    let answers = ask_all(asks.clone(), HASTY, |done| heard.push(done)).await;
    assert_eq!(answers.iter().map(|(ask, _)| ask.clone()).collect::<Vec<_>>(), asks);
    assert_eq!(heard, (1..=40).collect::<Vec<_>>());
    for (index, (_, answer)) in answers.iter().enumerate() {
        assert_eq!(*answer, if index % 2 == 0 { Answer::Kept } else { Answer::Closed }, "{index}");
    }
}
