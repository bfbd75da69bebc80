//! The xDS server held to what a real Envoy makes of it, on loopback, without a cluster.
//!
//! `HELIOSTAT_ENVOY=<path of Envoy's program> cargo test --test envoy`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod call;
mod rig;

use heliostat::core::envoy::{EnvoyPort, EnvoyProtocol};
use rig::{Controller, all_to, cluster, config, free_port};

#[tokio::test]
async fn a_port_carries_connections_to_its_cluster() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let wanted = config(
        [(EnvoyPort::Tcp(port), all_to("shop/books"))],
        [("shop/books", cluster(EnvoyProtocol::Tcp, books.address))],
    );
    let state = controller.set("public", &wanted).await;
    assert_eq!((state.binding.as_str(), state.connected), ("public", 1));
    assert!(state.refused.is_empty());
    let mut open = call::tcp(port).await.unwrap();
    assert_eq!(open.name, "books");
    assert!(open.works().await);
    let (status, _) = call::http(envoy.ready, "kubelet", "/ready").await;
    assert_eq!(status, 200);
    envoy.stop().await;
}
