//! What a change leaves alone.

use std::{collections::BTreeMap, time::Duration};

use heliostat::core::envoy::{EnvoyConfig, EnvoyHost, EnvoyPort, EnvoyProtocol, EnvoyRouting};

use crate::{
    backend, call,
    rig::{Controller, all_to, cluster, config, eventually, free_port},
};

#[tokio::test]
async fn an_open_connection_survives_a_hundred_other_ports_coming_and_going() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let alone =
        config([(EnvoyPort::Tcp(port), all_to("books"))], [("books", cluster(EnvoyProtocol::Tcp, books.address))]);
    controller.set("public", &alone).await;
    let mut open = call::tcp(port).await.unwrap();

    let mut many = alone.clone();
    let others: Vec<_> = (0..100).map(|_| free_port()).collect();
    for other in &others {
        let name = format!("other-{other}");
        many.ports.insert(EnvoyPort::Tcp(*other), all_to(&name));
        many.clusters.insert(name, cluster(EnvoyProtocol::Tcp, books.address));
    }
    for _ in 0..3 {
        controller.set("public", &many).await;
        envoy.never_gave_up_waiting().await;
        assert_eq!(call::tcp(others[50]).await.unwrap().name, "books");
        assert!(open.works().await);
        controller.set("public", &alone).await;
        assert!(open.works().await);
    }
    assert_eq!(envoy.stat("listener_manager.listener_added").await, 301 + 1, "with the readiness listener");
    assert_eq!(envoy.stat("listener_manager.listener_removed").await, 300);
    assert_eq!(envoy.stat("listener_manager.listener_modified").await, 0);
    assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, 0);
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
}

#[tokio::test]
async fn of_hasty_changes_the_last_one_holds() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let wanted = |number: usize| {
        let name = format!("books-{number}");
        let mut wanted = config([(EnvoyPort::Tcp(port), all_to(&name))], []);
        wanted.clusters.insert(name, cluster(EnvoyProtocol::Tcp, books.address));
        wanted
    };
    controller.set("public", &wanted(0)).await;
    for number in 0..300 {
        controller.xds.set("public", Some(wanted(number % 7)));
        tokio::time::sleep(Duration::from_millis(number as u64 % 5)).await;
    }
    let state = controller.set("public", &wanted(7)).await;
    assert_eq!(state.refused, BTreeMap::new());
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
    // Those of the way there are gone again.
    eventually("one cluster", async || envoy.stat("cluster_manager.active_clusters").await == 3).await;
    assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, 0);
    envoy.never_gave_up_waiting().await;
}

#[tokio::test]
async fn a_port_that_moves_to_another_cluster_disturbs_no_other() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (old, new) = (backend::tcp("old").await, backend::tcp("new").await);
    let (moving, staying) = (free_port(), free_port());
    let wanted = |to: &str| {
        config(
            [(EnvoyPort::Tcp(moving), all_to(to)), (EnvoyPort::Tcp(staying), all_to("old"))],
            [("old", cluster(EnvoyProtocol::Tcp, old.address)), ("new", cluster(EnvoyProtocol::Tcp, new.address))],
        )
    };
    controller.set("public", &wanted("old")).await;
    let mut open = call::tcp(staying).await.unwrap();
    assert_eq!(call::tcp(moving).await.unwrap().name, "old");
    controller.set("public", &wanted("new")).await;
    eventually("the port's move", async || call::tcp(moving).await.unwrap().name == "new").await;
    assert!(open.works().await);
    envoy.never_gave_up_waiting().await;
}

#[tokio::test]
async fn hosts_that_come_and_go_leave_their_port_as_it_is() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::http("books").await, free_port());
    let wanted = |names: &[&str]| {
        let host = EnvoyHost { cluster: "books".to_owned(), rewrite: None };
        let hosts: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), host.clone())).collect();
        config(
            [(EnvoyPort::Tcp(port), EnvoyRouting::Host { hosts })],
            [("books", cluster(EnvoyProtocol::Http1, books.address))],
        )
    };
    controller.set("public", &wanted(&["a"])).await;
    let mut open = call::HttpOpen::to(port).await;
    assert_eq!(open.get("a").await, 200);
    assert_eq!(open.get("b").await, 404);
    controller.set("public", &wanted(&["a", "b"])).await;
    assert_eq!(open.get("b").await, 200, "on the connection that was open before");
    controller.set("public", &wanted(&["b"])).await;
    assert_eq!(open.get("a").await, 404);
    assert_eq!(open.get("b").await, 200);
    controller.set("public", &wanted(&[])).await;
    assert_eq!(open.get("b").await, 404);
    assert_eq!(envoy.stat("listener_manager.listener_modified").await, 0);
}

#[tokio::test]
async fn tls_names_that_come_and_go_leave_connections_to_other_names_open() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let ((books, certificate), (vault, _)) = (backend::tls("books").await, backend::tls("vault").await);
    let port = free_port();
    let wanted = |names: &[&str]| {
        let names = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
        config(
            [(EnvoyPort::Tcp(port), EnvoyRouting::Sni { names })],
            [
                ("books", cluster(EnvoyProtocol::Tcp, books.address)),
                ("vault", cluster(EnvoyProtocol::Tcp, vault.address)),
            ],
        )
    };
    controller.set("public", &wanted(&["books"])).await;
    let mut open = call::tls(port, "books", &certificate).await.unwrap();
    for _ in 0..3 {
        controller.set("public", &wanted(&["books", "vault"])).await;
        assert!(open.works().await);
        controller.set("public", &wanted(&["books"])).await;
        assert!(open.works().await);
    }
    assert_eq!(envoy.stat("listener_manager.listener_in_place_updated").await, 6);
    assert_eq!(envoy.stat("listener_manager.total_listeners_draining").await, 0, "nothing of it drains as a whole");
}

#[tokio::test]
async fn a_refused_port_is_told_with_envoys_own_words_and_the_others_work() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let books = backend::tcp("books").await;
    let ports = [free_port(), free_port(), free_port()];
    // The middle one is somebody else's.
    let taken = std::net::TcpListener::bind(("0.0.0.0", ports[1])).unwrap();
    let all = ports.map(|port| (EnvoyPort::Tcp(port), all_to("books"))).into();
    let mut wanted = EnvoyConfig { ports: all, ..EnvoyConfig::default() };
    wanted.clusters.insert("books".to_owned(), cluster(EnvoyProtocol::Tcp, books.address));
    controller.xds.set("public", Some(wanted.clone()));
    let state = controller.state(|state| !state.refused.is_empty() && state.serving.len() == 2).await;
    assert_eq!(state.refused.keys().collect::<Vec<_>>(), [&EnvoyPort::Tcp(ports[1])]);
    let words = &state.refused[&EnvoyPort::Tcp(ports[1])];
    assert!(words.contains("Address already in use"), "{words}");
    for port in [ports[0], ports[2]] {
        assert_eq!(call::tcp(port).await.unwrap().name, "books");
    }
    let refusals = envoy.stat("listener_manager.lds.update_rejected").await;
    assert!(refusals <= 3, "it was told {refusals} times");
    // It is not told again by itself at once, but when it is to be something else.
    drop(taken);
    wanted.clusters.insert("new".to_owned(), cluster(EnvoyProtocol::Tcp, books.address));
    wanted.ports.insert(EnvoyPort::Tcp(ports[1]), all_to("new"));
    assert_eq!(controller.set("public", &wanted).await.refused, BTreeMap::new());
    assert_eq!(call::tcp(ports[1]).await.unwrap().name, "books");
    assert_eq!(envoy.stat("listener_manager.lds.update_rejected").await, refusals);
}
