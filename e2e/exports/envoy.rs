//! Through Heliostat's own gateway: stock Envoys.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{CARRIED, Exports, START};
use crate::{
    audit::Mark,
    controller,
    fixture::exported_cluster_ip,
    objects::{Objects, same, wait},
};

fn by(routing: &str, name: &str) -> Value {
    let mut spec = json!({"routing": routing, "export": {"provider": {"envoy": {}}}});
    if routing != "Port" {
        spec["export"]["clusterName"] = json!(name);
    }
    spec
}

/// G04, G11, G12: by port, TCP and UDP.
#[tokio::test]
async fn g04_tcp_and_udp_by_port() {
    let exports = Exports::new("g04ep", by("Port", "g04ep")).await;
    exports.by_port(CARRIED).await;
    exports.grpc("grpc").await;
    let (address, port) = (exports.address().await, exports.outside_port("echo", "http").await);
    exports.goes(&address, port).await;
}

/// G04, G11, G12: by the Host of a request.
#[tokio::test]
async fn g04_http_by_host() {
    let exports = Exports::new("g04eh", by("Host", "g04eh")).await;
    exports.grpc("grpc").await;
    exports.by_host().await;
}

/// G04, G11, G12: by the name in a TLS greeting.
#[tokio::test]
async fn g04_tls_by_sni() {
    Exports::new("g04es", by("SNI", "g04es")).await.by_sni().await;
}

/// G05: the exporter's controller dies and comes back: traffic goes on all the while, nothing is
/// written, and ports stay.
#[tokio::test]
async fn alone_g05_a_restart_of_the_exporter_writes_nothing() {
    let exports = Exports::new("g05e", by("Port", "g05e")).await;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    exports.says("Programmed", "True", "Programmed", START).await;
    let port = exports.outside_port("echo", "http").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (east, west) = (Mark::of("east"), Mark::of("west"));
    controller::stop(&exports.case.east).await;
    exports.answers("echo", Duration::from_secs(1)).await;
    controller::start(&exports.case.east).await;
    for _ in 0..15 {
        exports.answers("echo", Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(east.writes().await, Vec::<String>::new(), "in the exporter");
    assert_eq!(west.writes_in("g05e").await, Vec::<String>::new(), "in the importer");
    assert_eq!(exports.outside_port("echo", "http").await, port);
}

/// Pods that come and go behind an exported Service cause no write in the importer.
#[tokio::test]
async fn pods_that_churn_cause_no_write_in_the_importer() {
    let exports = Exports::new("churn", by("Port", "churn")).await;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    exports.says("Programmed", "True", "Programmed", START).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (east, west) = (Mark::of("east"), Mark::of("west"));
    let deployments = Objects::at(&exports.case.east, "/apis/apps/v1/namespaces/churn/deployments");
    for replicas in [4, 1, 3] {
        deployments.patch("echo", json!({"spec": {"replicas": replicas}})).await;
        wait(&format!("churn: {replicas} pods"), START, || async {
            let status = deployments.get("echo").await.unwrap()["status"].clone();
            same((status["readyReplicas"].clone(), status["replicas"].clone()), &(json!(replicas), json!(replicas)))
        })
        .await;
        exports.answers("echo", Duration::from_secs(1)).await;
    }
    assert_eq!(west.writes_in("churn").await, Vec::<String>::new());
    assert_eq!(east.writes_in("churn").await, Vec::<String>::new(), "nor is a published slice written");
}

/// An open connection survives a hundred other exports that come and go.
#[tokio::test]
async fn alone_an_open_connection_survives_a_hundred_other_exports() {
    const MANY: usize = 100;
    let exports = Exports::new("hundred", by("Port", "hundred")).await;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let (address, port) = (exports.address().await, exports.outside_port("echo", "http").await.unwrap());
    let mut connection = TcpStream::connect(format!("{address}:{port}")).await.unwrap();
    let first = ask(&mut connection).await;
    let origins = exports.case.origins();
    let each = |change: fn(Objects, String) -> futures::future::BoxFuture<'static, ()>| {
        let origins = origins.clone();
        let all = stream::iter(0..MANY).map(move |i| change(origins.clone(), format!("s{i}")));
        all.buffer_unordered(8).collect::<Vec<()>>()
    };
    let programmed = async |wanted: usize| {
        wait(&format!("hundred: {wanted} Services are carried"), START, || async {
            let binding = exports.bindings().get("hundred").await.unwrap();
            same(binding["status"]["services"]["programmed"].as_u64(), &Some(wanted as u64))
        })
        .await;
    };
    each(|origins, name| Box::pin(async move { drop(origins.create(&exported_cluster_ip(&name)).await) })).await;
    programmed(MANY + 1).await;
    assert_eq!(ask(&mut connection).await, first);
    each(|origins, name| Box::pin(async move { origins.delete(&name).await })).await;
    programmed(1).await;
    assert_eq!(ask(&mut connection).await, first, "the same connection, to the same pod");
}

/// A new export carries traffic within two seconds of its label; see delay.rs.
#[tokio::test]
async fn alone_from_the_label_to_traffic() {
    Exports::new("delaye", by("Port", "delaye")).await.delays("envoy").await;
}

/// One request over a connection that stays open: the pod that answered.
async fn ask(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET /hostname HTTP/1.1\r\nHost: echo\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    answer.lines().last().unwrap().to_owned()
}
