//! Each routing, and what it does with what it does not know.

use std::collections::BTreeMap;

use heliostat::core::envoy::{EnvoyHost, EnvoyPort, EnvoyProtocol, EnvoyRouting};

use crate::{
    backend, call,
    rig::{Controller, all_to, cluster, config, eventually, free_port},
};

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
    envoy.stop().await;
}

#[tokio::test]
async fn an_envoy_is_ready_once_its_ports_are_open_and_shows_nothing_else() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    eventually("a stream", async || envoy.stat("control_plane.connected_state").await == 1).await;
    assert!(!envoy.is_ready().await, "it has no ports yet");
    let (books, port) = (backend::tcp("books").await, free_port());
    let wanted =
        config([(EnvoyPort::Tcp(port), all_to("books"))], [("books", cluster(EnvoyProtocol::Tcp, books.address))]);
    controller.set("public", &wanted).await;
    envoy.wait_until_ready().await;
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
    let (status, metrics) = call::http(envoy.ready, "prometheus", "/stats/prometheus").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("envoy_server_live"));
    for path in ["/", "/quitquitquit", "/config_dump", "/ready/../config_dump"] {
        assert_eq!(call::http(envoy.ready, "kubelet", path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn datagrams_pass_up_to_their_largest_size() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (dns, port) = (backend::udp("dns").await, free_port());
    let tcp = backend::tcp("dns").await;
    // One number is both, as DNS needs it.
    let wanted = config(
        [(EnvoyPort::Udp(port), all_to("udp")), (EnvoyPort::Tcp(port), all_to("tcp"))],
        [("udp", cluster(EnvoyProtocol::Udp, dns.address)), ("tcp", cluster(EnvoyProtocol::Tcp, tcp.address))],
    );
    controller.set("public", &wanted).await;
    assert_eq!(call::udp(port, b"question").await, b"dns question");
    for size in [1_400, 4_096, 9_000, 60_000] {
        assert_eq!(call::udp(port, &vec![7; size]).await.len(), size + 4);
    }
    assert_eq!(call::tcp(port).await.unwrap().name, "dns");
    envoy.stop().await;
}

fn host(cluster: &str, rewrite: Option<&str>) -> EnvoyHost {
    EnvoyHost { cluster: cluster.to_owned(), rewrite: rewrite.map(str::to_owned) }
}

#[tokio::test]
async fn a_host_is_found_in_each_way_to_write_it_and_no_other_is() {
    let controller = Controller::start().await;
    let _envoy = controller.envoy("public", "one");
    let (books, vault, port) = (backend::http("books").await, backend::http("vault").await, free_port());
    let hosts = BTreeMap::from([
        ("books-east".to_owned(), host("books", None)),
        ("books-east.shop.svc".to_owned(), host("books", None)),
        ("vault-east".to_owned(), host("vault", Some("vault.shop.svc.cluster.local"))),
        ("gone-east".to_owned(), host("gone", None)),
    ]);
    let mut wanted = config(
        [(EnvoyPort::Tcp(port), EnvoyRouting::Host { hosts })],
        [
            ("books", cluster(EnvoyProtocol::Http1, books.address)),
            ("vault", cluster(EnvoyProtocol::Http1, vault.address)),
            ("gone", cluster(EnvoyProtocol::Http1, vault.address)),
        ],
    );
    wanted.clusters.get_mut("gone").unwrap().endpoints.clear();
    controller.set("public", &wanted).await;
    for written in
        ["books-east", "BOOKS-East", "books-east:80", "books-east.", "books-east.:8080", "books-east.shop.svc."]
    {
        let seen = format!("books {}", written.to_lowercase());
        assert_eq!(call::http(port, written, "/").await, (200, seen), "{written}");
    }
    assert_eq!(call::http(port, "vault-east", "/").await, (200, "vault vault.shop.svc.cluster.local".to_owned()));
    for unknown in ["books-west", "east", "", "books-east.example", "xbooks-east"] {
        assert_eq!(call::http(port, unknown, "/").await.0, 404, "{unknown}");
    }
    assert_eq!(call::http(port, "gone-east", "/").await.0, 503);
}

#[tokio::test]
async fn a_tls_name_is_passed_through_to_who_has_it_and_no_other_is() {
    let controller = Controller::start().await;
    let _envoy = controller.envoy("public", "one");
    let ((books, books_certificate), (vault, vault_certificate)) =
        (backend::tls("books-east").await, backend::tls("vault-east").await);
    let port = free_port();
    let names = [("books-east", "books"), ("vault-east", "vault")].map(|(name, to)| (name.to_owned(), to.to_owned()));
    let wanted = config(
        [(EnvoyPort::Tcp(port), EnvoyRouting::Sni { names: names.into() })],
        [("books", cluster(EnvoyProtocol::Tcp, books.address)), ("vault", cluster(EnvoyProtocol::Tcp, vault.address))],
    );
    controller.set("public", &wanted).await;
    // The client trusts the backend's own certificate: nobody in between ends TLS.
    assert_eq!(call::tls(port, "books-east", &books_certificate).await.unwrap().name, "books-east");
    assert_eq!(call::tls(port, "vault-east", &vault_certificate).await.unwrap().name, "vault-east");
    assert!(call::tls(port, "other-east", &books_certificate).await.is_err());
    let plain = call::tcp(port).await.map(|open| open.name);
    assert!(plain.as_ref().map_or(true, String::is_empty), "no TLS, no backend: {plain:?}");
}

#[tokio::test]
async fn a_port_without_endpoints_closes_and_works_when_they_come() {
    let controller = Controller::start().await;
    let _envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let full =
        config([(EnvoyPort::Tcp(port), all_to("books"))], [("books", cluster(EnvoyProtocol::Tcp, books.address))]);
    let mut empty = full.clone();
    empty.clusters.get_mut("books").unwrap().endpoints.clear();
    controller.set("public", &empty).await;
    let unanswered = call::tcp(port).await.map(|open| open.name);
    assert!(unanswered.as_ref().map_or(true, String::is_empty), "{unanswered:?}");
    // Endpoints are in no state: that they came shows in the traffic only.
    controller.xds.set("public", Some(full));
    eventually("an answer", async || call::tcp(port).await.is_ok_and(|open| open.name == "books")).await;
}
