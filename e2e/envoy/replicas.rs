//! Replicas that come and go, several Envoys, several bindings, and certificates that change.

use std::time::Duration;

use heliostat::core::envoy::{EnvoyConfig, EnvoyPort, EnvoyProtocol};

use crate::{
    backend::{self, Backend},
    call,
    rig::{Controller, all_to, cluster, config, eventually, free_port},
};

fn one_port(port: u16, backend: &Backend) -> EnvoyConfig {
    config([(EnvoyPort::Tcp(port), all_to("books"))], [("books", cluster(EnvoyProtocol::Tcp, backend.address))])
}

#[tokio::test]
async fn another_replica_that_says_the_same_changes_nothing() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let wanted = one_port(port, &books);
    controller.set("public", &wanted).await;
    let mut open = call::tcp(port).await.unwrap();
    let stats =
        ["listener_manager.lds", "cluster_manager.cds", "cluster.books"].map(|of| format!("{of}.update_success"));
    let mut before = Vec::new();
    for stat in &stats {
        before.push(envoy.stat(stat).await);
    }

    // The old one goes, and the new one does not know at first what there is to be.
    let controller = controller.replace().await;
    eventually("a new connection", async || envoy.stat("control_plane.connected_state").await == 1).await;
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
    let state = controller.set("public", &wanted).await;
    assert_eq!(state.connected, 1);
    assert!(open.works().await);
    for (stat, before) in stats.iter().zip(before) {
        assert_eq!(envoy.stat(stat).await, before, "{stat}");
    }

    // What changed while it was away is caught up with.
    let (new_port, controller) = (free_port(), controller.replace().await);
    controller.set("public", &one_port(new_port, &books)).await;
    assert_eq!(call::tcp(new_port).await.unwrap().name, "books");
    eventually("the old port's end", async || call::tcp(port).await.is_err()).await;
}

/// An Envoy at a replica that does not lead is told what to do, and is let go to find the leader: only what
/// that one hears acknowledged is published.
#[tokio::test]
async fn a_follower_lets_its_envoys_go_and_the_leader_keeps_them() {
    let controller = Controller::start().await;
    controller.leads(false);
    let _envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    controller.set("public", &one_port(port, &books)).await;
    let mut open = call::tcp(port).await.unwrap();
    controller.state(|state| state.connected == 0).await;
    assert!(open.works().await);

    controller.leads(true);
    controller.state(|state| state.connected == 1).await;
    // Longer than a follower keeps it.
    let gone = tokio::time::timeout(Duration::from_secs(7), controller.state(|state| state.connected == 0)).await;
    assert!(gone.is_err(), "{gone:?}");
    let again = one_port(free_port(), &books);
    assert_eq!(controller.set("public", &again).await.connected, 1);
}

#[tokio::test]
async fn an_envoy_goes_on_while_there_is_no_controller() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    controller.set("public", &one_port(port, &books)).await;
    let mut open = call::tcp(port).await.unwrap();
    drop(controller);
    eventually("the end of the stream", async || envoy.stat("control_plane.connected_state").await == 0).await;
    assert!(open.works().await);
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
    assert!(envoy.is_ready().await);
}

#[tokio::test]
async fn served_is_what_all_envoys_of_a_binding_do_and_bindings_are_apart() {
    let controller = Controller::start().await;
    let one = controller.envoy("public", "one");
    let _private = controller.envoy("private", "one");
    let (books, vault) = (backend::tcp("books").await, backend::tcp("vault").await);
    let ports = [free_port(), free_port()];
    controller.set("public", &one_port(ports[0], &books)).await;
    let state = controller.set("private", &one_port(ports[1], &vault)).await;
    assert_eq!((state.binding.as_str(), state.connected), ("private", 1));
    assert_eq!(call::tcp(ports[0]).await.unwrap().name, "books");
    assert_eq!(call::tcp(ports[1]).await.unwrap().name, "vault");

    // Envoy shares ports with Envoy, so on one machine two can do the same.
    let two = controller.envoy("public", "two");
    let state = controller.state(|state| state.binding == "public" && state.connected == 2).await;
    assert_eq!(state.serving, one_port(ports[0], &books).ports, "it counts when it does all that the other does");
    two.wait_until_ready().await;
    one.stop().await;
    controller.state(|state| state.binding == "public" && state.connected == 1).await;
    assert_eq!(call::tcp(ports[0]).await.unwrap().name, "books");
    two.stop().await;
    let state = controller.state(|state| state.binding == "public" && state.connected == 0).await;
    assert!(state.serving.is_empty());
}

#[tokio::test]
async fn an_envoy_that_hangs_counts_no_longer_and_comes_back() {
    let controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, ports) = (backend::tcp("books").await, [free_port(), free_port()]);
    controller.set("public", &one_port(ports[0], &books)).await;
    envoy.signal("STOP");
    controller.state(|state| state.connected == 0).await;
    controller.xds.set("public", Some(one_port(ports[1], &books)));
    envoy.signal("CONT");
    controller.state(|state| state.connected == 1 && state.serving == one_port(ports[1], &books).ports).await;
    assert_eq!(call::tcp(ports[1]).await.unwrap().name, "books");
}

#[tokio::test]
async fn an_envoy_with_the_certificate_of_another_binding_is_refused() {
    let controller = Controller::start().await;
    let books = backend::tcp("books").await;
    let port = free_port();
    controller.xds.set("private", Some(one_port(port, &books)));
    let envoy = controller.envoy_with("private", "thief", &controller.client("public"));
    envoy.wait_for_log("the certificate is for the gateway public").await;
    assert!(!envoy.is_ready().await);
    assert!(call::tcp(port).await.is_err());
}

#[tokio::test]
async fn certificates_change_while_everything_runs() {
    let mut controller = Controller::start().await;
    let envoy = controller.envoy("public", "one");
    let (books, port) = (backend::tcp("books").await, free_port());
    let wanted = one_port(port, &books);
    controller.set("public", &wanted).await;
    let mut open = call::tcp(port).await.unwrap();

    // A new authority signs for both sides from now on; the Envoy is told by its mounted files alone.
    let both = controller.rotate();
    envoy.remount(&controller.client("public"), &both);
    // The next stream needs them: the replica that comes trusts the new authority only.
    let controller = controller.replace().await;
    controller.set("public", &wanted).await;
    assert!(open.works().await);
    assert_eq!(call::tcp(port).await.unwrap().name, "books");
}
