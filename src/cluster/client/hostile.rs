//! The hardened client against servers that do what no API server does.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use http::Request;
use kube::{Api, Client, api::ListParams};
use tokio::{io::AsyncWriteExt, sync::Notify, time::Instant};

use super::{
    Guard,
    tests::{Authority, Server, TOKEN, answer, authority, client, credentials, get, lenient, tls},
};
use crate::{
    api::Reason,
    cluster::{
        credentials::Host,
        failure::Failure,
        own::OwnCluster,
        wire::{OriginWire, RemoteSliceWire},
    },
};

/// A server that says this and then the same piece for ever, and how much it could say.
async fn endless(authority: &Authority, head: &'static str, piece: Vec<u8>) -> (Server, Arc<AtomicUsize>) {
    let said = Arc::new(AtomicUsize::new(0));
    let counter = said.clone();
    let piece = Arc::new(piece);
    let server = Server::run(vec![tls(authority, &["127.0.0.1"], 2099)], move |_, mut connection| {
        let (counter, piece) = (counter.clone(), piece.clone());
        Box::pin(async move {
            let _ = connection.write_all(head.as_bytes()).await;
            while connection.write_all(&piece).await.is_ok() {
                counter.fetch_add(piece.len(), Ordering::SeqCst);
            }
        })
    });
    (server.await, said)
}

async fn list<T>(client: &Client) -> Result<Vec<T>, Failure>
where
    T: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let listed = Api::<T>::all(client.clone()).list(&ListParams::default().limit(100)).await;
    listed.map(|list| list.items).map_err(|error| Failure::from(&error))
}

/// The first failure of a watch, or none if it just ends.
async fn watch(client: &Client) -> Option<Failure> {
    let request = Request::get("/api/v1/services?watch=true&resourceVersion=1").body(Vec::new()).unwrap();
    let events = match client.request_events::<OriginWire>(request).await {
        Ok(events) => events,
        Err(error) => return Some(Failure::from(&error)),
    };
    let mut events = std::pin::pin!(events);
    loop {
        match events.next().await? {
            Ok(_) => {}
            Err(error) => return Some(Failure::from(&error)),
        }
    }
}

/// How much a server may say before it is cut off: what is read, and what lies in sockets.
const SOCKETS: usize = 16 << 20;

#[tokio::test]
async fn a03_a_certificate_that_is_swapped_during_the_session_is_not_believed() {
    let (authority, stranger) = (authority(), self::authority());
    let good = || tls(&authority, &["127.0.0.1"], 2099);
    for bad in [
        tls(&stranger, &["127.0.0.1"], 2099),
        tls(&authority, &["127.0.0.9"], 2099),
        tls(&authority, &["127.0.0.1"], 2020),
    ] {
        let server = Server::run(vec![good(), bad], |_, mut connection| {
            Box::pin(async move { drop(connection.write_all(answer("200 OK", "{}").as_bytes()).await) })
        });
        let server = server.await;
        let client = lenient(&authority, &server);
        get(&client, "/version").await.unwrap();
        for _ in 0..2 {
            let failure = get(&client, "/version").await.unwrap_err();
            assert_eq!(failure.reason, Reason::TLSVerificationFailed, "{}", failure.message);
        }
        assert_eq!(server.asked().len(), 1, "no request after the handshake, so no token");
    }
}

#[tokio::test]
async fn a03_an_expired_certificate_is_not_believed() {
    let authority = authority();
    let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2020)], |_, _| Box::pin(async {})).await;
    let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
    assert_eq!(failure.reason, Reason::TLSVerificationFailed);
    assert!(failure.message.to_lowercase().contains("expired"), "{}", failure.message);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a04_a_million_headers_are_not_read() {
    let authority = authority();
    let headers = b"X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000);
    let (server, said) = endless(&authority, "HTTP/1.1 200 OK\r\n", headers).await;
    let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
    assert_eq!(failure.reason, Reason::RemoteUnreachable, "{}", failure.message);
    assert!(said.load(Ordering::SeqCst) < SOCKETS);
}

/// What a connection may read into it may keep: 400 KiB, if nobody says less.
#[tokio::test]
async fn a04_a_head_is_read_only_as_far_as_api_servers_and_what_is_before_them_need() {
    let authority = authority();
    let headers = |many: usize| "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(many);
    for (many, fits) in [(90, true), (400, false)] {
        let said = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}", headers(many));
        let server = Server::start(&authority, &["127.0.0.1"], said).await;
        let answered = get(&lenient(&authority, &server), "/version").await;
        assert_eq!(answered.is_ok(), fits, "a head of {} bytes: {answered:?}", headers(many).len());
    }
}

#[tokio::test]
async fn a04_a_body_of_gigabytes_is_not_read() {
    let authority = authority();
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 99999999999\r\n\r\n",
    ];
    for head in heads {
        let (server, said) = endless(&authority, head, vec![b' '; 1 << 16]).await;
        let failure = get(&lenient(&authority, &server), "/version").await.unwrap_err();
        assert_eq!(failure.reason, Reason::RemoteUnreachable, "{}", failure.message);
        assert!(said.load(Ordering::SeqCst) < SOCKETS, "{head}");
    }
    let (server, said) = endless(&authority, "HTTP/1.1 200 OK\r\n\r\n", vec![b' '; 1 << 16]).await;
    let failure = list::<OriginWire>(&lenient(&authority, &server)).await.unwrap_err();
    assert!(failure.message.contains("the answer is larger than 8 MiB"), "{}", failure.message);
    assert!(said.load(Ordering::SeqCst) < 3 * SOCKETS, "three pages, ever smaller");
    let (server, said) = endless(&authority, "HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 16]).await;
    let failure = watch(&lenient(&authority, &server)).await.unwrap();
    assert!(failure.message.contains("a line of the watch is longer"), "{}", failure.message);
    assert!(said.load(Ordering::SeqCst) < SOCKETS);
}

#[tokio::test]
async fn a04_headers_and_bodies_that_drip_are_given_a_minute() {
    let authority = authority();
    for head in ["HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"] {
        let begun = Arc::new(Notify::new());
        let begins = begun.clone();
        let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], move |_, mut connection| {
            let begins = begins.clone();
            Box::pin(async move {
                let _ = connection.write_all(head.as_bytes()).await;
                begins.notify_one();
                while connection.write_all(b"1").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        });
        let client = lenient(&authority, &server.await);
        let asked = tokio::spawn(async move { get(&client, "/version").await });
        begun.notified().await;
        // The handshake needs real time, what comes now does not.
        tokio::time::pause();
        let begin = Instant::now();
        let failure = asked.await.unwrap().unwrap_err();
        assert_eq!(failure.message, "no complete answer within 60 s");
        assert!(begin.elapsed() <= Duration::from_secs(61));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a04_nothing_is_ever_unpacked() {
    let authority = authority();
    // {"gitVersion":"v1.36.0"}
    let packed = STANDARD.decode("H4sIAAAAAAACA6tWSs8sCUstKs7Mz1OyUioz1DM20zNQqgUAw9VD4xgAAAA=").unwrap();
    for (encoding, why) in [
        ("gzip", "the answer is packed, which was not asked for"),
        ("identity, gzip", "the answer is packed, which was not asked for"),
        ("identity", "the answer is not one of a Kubernetes API server"),
    ] {
        let packed = packed.clone();
        let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], move |_, mut connection| {
            let mut said = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                packed.len()
            )
            .into_bytes();
            said.extend(&packed);
            Box::pin(async move { drop(connection.write_all(&said).await) })
        })
        .await;
        let client = lenient(&authority, &server);
        assert!(get(&client, "/version").await.unwrap_err().message.ends_with(why), "{encoding}");
        assert!(list::<OriginWire>(&client).await.unwrap_err().message.ends_with(why), "{encoding}");
        let watched = watch(&client).await;
        assert!(encoding == "identity" || watched.unwrap().message.ends_with(why), "{encoding}");
        assert!(server.asked().iter().all(|asked| !asked.to_ascii_lowercase().contains("gzip")));
    }
}

/// A thousand endpoints in each of a hundred slices, in pages as large as they are asked for.
#[tokio::test]
async fn a05_pages_that_are_too_large_are_asked_for_in_smaller_portions() {
    let authority = authority();
    let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], |request, mut connection| {
        let number = |name: &str| {
            let rest = request.split_once(name).map_or("", |(_, rest)| rest);
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0_usize)
        };
        let (limit, from) = (number("limit="), number("continue="));
        let endpoints = r#"{"addresses":["10.1.0.1"],"conditions":{"ready":true}},"#.repeat(999);
        let padding = "x".repeat(100 << 10);
        let to = (from + limit).min(100);
        let slices: Vec<String> = (from..to).map(|n| format!(r#"{{"metadata":{{"name":"s{n}","namespace":"shop","labels":{{"kubernetes.io/service-name":"books"}},"managedFields":"{padding}"}},"addressType":"IPv4","ports":[{{"port":80}}],"endpoints":[{endpoints}{{}}]}}"#)).collect();
        let next = if to < 100 { to.to_string() } else { String::new() };
        let page = format!(r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1","continue":"{next}"}},"items":[{}]}}"#, slices.join(","));
        Box::pin(async move { drop(connection.write_all(answer("200 OK", &page).as_bytes()).await) })
    })
    .await;
    let client = lenient(&authority, &server);
    let slices: Api<RemoteSliceWire> = Api::all(client);
    let mut params = ListParams::default().limit(100);
    let mut names = Vec::new();
    loop {
        let page = slices.list(&params).await.unwrap();
        for wire in page.items {
            let (key, slice) = wire.into_model().unwrap();
            assert_eq!(slice.unwrap().endpoints.len(), 1000);
            names.push(key.name);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    let all: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    assert_eq!(names, all);
    let limits: Vec<String> = server
        .asked()
        .iter()
        .map(|asked| asked.split_once("limit=").unwrap().1.chars().take_while(char::is_ascii_digit).collect())
        .collect();
    assert_eq!(limits[..3], ["100", "12", "12"], "asked for again once, and remembered");
}

/// Each page takes 40 of the 60 seconds that it may.
#[tokio::test]
async fn a_page_that_waits_for_another_one_has_its_minute_all_the_same() {
    let authority = authority();
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], move |_, mut connection| {
        let begins = begins.clone();
        Box::pin(async move {
            begins.notify_one();
            tokio::time::sleep(Duration::from_secs(40)).await;
            let list = r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
            drop(connection.write_all(answer("200 OK", list).as_bytes()).await);
        })
    });
    let client = lenient(&authority, &server.await);
    let ask = |path: &str| {
        let (client, request) = (client.clone(), Request::get(path).body(kube::client::Body::empty()).unwrap());
        tokio::spawn(async move { client.send(request).await })
    };
    let first = ask("/api/v1/services?limit=500");
    begun.notified().await;
    let second = ask("/apis/discovery.k8s.io/v1/endpointslices?limit=100");
    // It is in the queue; handshakes need real time, what comes between them does not.
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::pause();
    let held = first.await.unwrap().unwrap();
    tokio::time::resume();
    drop(held);
    begun.notified().await;
    tokio::time::pause();
    assert!(second.await.unwrap().unwrap().status().is_success());
}

#[tokio::test(start_paused = true)]
async fn a05_requests_of_a_link_are_bounded_in_their_rate() {
    let authority = authority();
    // An address that is refused before anything is dialled: nothing waits for a network.
    let credentials = credentials(&authority, Host::Ip([127, 0, 0, 1].into()), 1);
    let client = client(&credentials, Guard::new(OwnCluster::default(), 1), &[]);
    let begin = Instant::now();
    for _ in 0..1001 {
        get(&client, "/version").await.unwrap_err();
    }
    assert!(begin.elapsed() >= Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Runs one test again in a process of its own, where it does what its environment says.
fn again(test: &str, env: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).envs(env.iter().copied());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said
}

#[tokio::test]
async fn a02_proxies_of_the_environment_are_ignored() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let env: Vec<(&str, &str)> = names.map(|name| (name, url.as_str())).into();
    again("cluster::client::tests::the_credential_goes_to_the_server_behind_its_path", &env);
    assert!(proxy.accept().is_err(), "somebody dialled the proxy");
}

const LOGGING: &str = "HELIOSTAT_TEST_LOGS_EVERYTHING";

/// Everything that goes wrong, with a log of all that anybody says at any level.
#[tokio::test]
async fn a14_nothing_that_is_logged_at_any_level_holds_the_credential() {
    if std::env::var_os(LOGGING).is_none() {
        let said = again(
            "cluster::client::hostile::a14_nothing_that_is_logged_at_any_level_holds_the_credential",
            &[(LOGGING, "1")],
        );
        assert!(said.contains("TRACE") && said.contains("hyper_util"), "nothing was logged: {said:.500}");
        assert!(!said.contains(TOKEN), "{}", &said[said.find(TOKEN).unwrap().saturating_sub(500)..]);
        return;
    }
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::stderr).init();
    let authority = authority();
    let echo = format!(r#"{{"kind":"Status","message":"Bearer {TOKEN}","reason":"{TOKEN}","code":401}}"#);
    for said in [
        answer("200 OK", r#"{"kind":"List","metadata":{},"items":[]}"#),
        answer("200 OK", &format!(r#"{{"items":[],"metadata":{{"continue":"{TOKEN}"}}}}"#)),
        answer("200 OK", &format!("{{\"type\":\"ERROR\",\"object\":{echo}}}\n")),
        answer("200 OK", &format!("{{\"type\":\"{TOKEN}\"}}\n")),
        answer("200 OK", &format!("<html>{TOKEN}")),
        answer("401 Unauthorized", &echo),
        answer("403 Forbidden", TOKEN),
        answer("500 Oops", &format!("<html>{TOKEN}")),
        format!("HTTP/1.1 302 Found\r\nLocation: https://{TOKEN}/\r\nContent-Length: 0\r\n\r\n"),
        "nonsense".to_owned(),
    ] {
        let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], move |_, mut connection| {
            let said = said.clone();
            Box::pin(async move { drop(connection.write_all(said.as_bytes()).await) })
        })
        .await;
        let client = lenient(&authority, &server);
        for failure in
            [get(&client, "/version").await.err(), list::<OriginWire>(&client).await.err(), watch(&client).await]
        {
            assert!(!format!("{failure:?}").contains(TOKEN));
            tracing::info!(?failure, "asked");
        }
    }
    let stranger = self::authority();
    let server = Server::run(vec![tls(&stranger, &["127.0.0.1"], 2099)], |_, _| Box::pin(async {})).await;
    get(&lenient(&authority, &server), "/version").await.unwrap_err();
}

#[tokio::test]
async fn connections_send_at_once_and_are_asked_whether_they_live() {
    let authority = authority();
    let server = Server::run(vec![tls(&authority, &["127.0.0.1"], 2099)], |_, mut connection| {
        Box::pin(async move {
            drop(connection.write_all(answer("200 OK", "{}").as_bytes()).await);
            tokio::time::sleep(Duration::from_secs(60)).await;
        })
    })
    .await;
    let port = server.address.port();
    let credentials = credentials(&authority, Host::Ip(server.address.ip()), port);
    let names = Arc::new(super::super::dns::SystemLookup::default());
    let mut connector =
        super::connect::Connector::new(&credentials, Guard::lenient(OwnCluster::default(), port), names);
    let uri = format!("https://127.0.0.1:{port}").parse().unwrap();
    let hyper_rustls::MaybeHttpsStream::Https(stream) = tower::Service::call(&mut connector, uri).await.unwrap() else {
        panic!("not encrypted");
    };
    let tcp = stream.inner().get_ref().0.inner().inner();
    assert!(tcp.nodelay().unwrap());
    // The kernel's table of sockets says 01 while something is not acknowledged yet, and then 02 if
    // a keepalive timer runs (proc(5), tcp).
    let ours = format!(":{:04X}", tcp.local_addr().unwrap().port());
    let timer = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row[1].ends_with(&ours)).unwrap()[5][..2].to_owned()
    };
    while timer() == "01" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(timer(), "02");
}
