//! Ten links, of which one is dead, one hangs, one floods and one is hostile: how long a change takes that
//! comes by a good one, with and without the bad ones. Printed, and not judged: a busy machine says anything.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    controller,
    figures::Spread,
    fixture::{SOON, link_says},
    forger::{Forger, Forgery},
    objects::Objects,
    relay::{Relay, reachable_from},
    rig::api_server,
    support::{Case, HOME},
};

/// Changes of a port, one at a time.
const CHANGES: u16 = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for one to be seen.
const PATIENCE: Duration = Duration::from_secs(30);
const GOOD: [&str; 5] = ["iso-1", "iso-2", "iso-3", "iso-4", "iso-5"];
/// Until it is said of a bad link that it is one.
const NOTICED: Duration = Duration::from_secs(20);

/// Promise 6: a bad link delays no other one, and takes no more memory than its budget.
#[tokio::test]
async fn alone_bad_links_delay_no_good_one() {
    let case = Case::new("iso").await;
    for name in GOOD {
        case.link(name, json!({})).await;
        link_says(&case.links(), name, "Synced", "True", "InSync", NOTICED).await;
    }
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-iso", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    let alone = changes(&case, 20_000).await;
    let memory_before = controller::resident_kib(&case.west).await;

    let west = api_server("west");
    let hanging = Relay::to(api_server("east")).await;
    hanging.silence();
    let event = json!({"type": "MODIFIED", "object": flood_service()}).to_string() + "\n";
    let flooding = Forgery { flood: Some(event.repeat(100)), ..Forgery::default() };
    let flooding = Forger::start(west, "0f100d00-0000-4000-8000-000000000001", flooding).await;
    let hostile = Forgery { flood: Some("x".repeat(1 << 16)), ..Forgery::default() };
    let hostile = Forger::start(west, "0f100d00-0000-4000-8000-000000000002", hostile).await;
    let good = case.kubeconfig().await;
    let at = |server: String| {
        let mut kubeconfig = good.clone();
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
        kubeconfig.to_string()
    };
    // The discard port: nobody listens there.
    let dead = at(format!("https://{}:9", reachable_from(west).await));
    let hanging_too = at(format!("https://{}", hanging.address));
    let bad = [
        ("iso-dead", dead, "RemoteUnreachable"),
        ("iso-hanging", hanging_too, "RemoteUnreachable"),
        ("iso-flooding", flooding.kubeconfig.clone(), ""),
        ("iso-hostile", hostile.kubeconfig.clone(), ""),
    ];
    for (name, kubeconfig, reason) in &bad {
        link(&case, name, kubeconfig).await;
        if !reason.is_empty() {
            link_says(&case.links(), name, "Connected", "False", reason, NOTICED).await;
        }
    }
    let beside = changes(&case, 21_000).await;
    let memory = controller::resident_kib(&case.west).await;
    for name in GOOD {
        link_says(&case.links(), name, "Connected", "True", "Connected", SOON).await;
    }
    println!("iso: changes alone: {alone}");
    println!("iso: changes beside bad links: {beside}");
    println!("iso: P99 beside bad links by P99 alone: {:.2}", beside.percentile(99) / alone.percentile(99));
    println!(
        "iso: resident memory of the leader {} MiB before, {} MiB beside bad links",
        memory_before / 1024,
        memory / 1024
    );
    // The limit of the shipped manifests.
    assert!(memory < 256 * 1024, "{memory} KiB");
    for (name, ..) in bad {
        case.links().delete(name).await;
    }
}

/// A Service that changes all the time would have a mirror, if a policy asked for it.
fn flood_service() -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": "flood", "namespace": "iso", "uid": "f100d", "resourceVersion": "7",
            "labels": {"heliostat.dev/export": "true"},
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    })
}

async fn link(case: &Case, name: &str, kubeconfig: &str) {
    let secret = json!({
        "metadata": {"name": format!("{name}-kubeconfig"), "labels": {"case": case.name}},
        "data": {"kubeconfig": STANDARD.encode(kubeconfig)},
    });
    Objects::secrets(&case.west, HOME).create(&secret).await;
    case.link_object(name, json!({})).await;
}

/// The delays: from the beginning of the request to the exporter until the mirror's Service shows the
/// new port.
async fn changes(case: &Case, first: u16) -> Spread {
    let services: Api<Service> = Api::namespaced(case.west.clone(), &case.name);
    let list = services.list(&ListParams::default()).await.unwrap();
    let events = services.watch(&WatchParams::default(), &list.metadata.resource_version.unwrap()).await.unwrap();
    let mut events = Box::pin(events);
    let mut times = Vec::new();
    for port in first..first + CHANGES {
        sleep(PAUSE).await;
        let start = Instant::now();
        let ports = json!([{"name": "http", "port": port}, {"name": "grpc", "port": 9090}]);
        case.origins().patch("books", json!({"spec": {"ports": ports}})).await;
        loop {
            let event = timeout(PATIENCE, events.try_next()).await.expect("a change is not seen").unwrap().unwrap();
            let WatchEvent::Modified(service) = event else { continue };
            let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
            if ports.iter().any(|there| there.port == i32::from(port)) {
                break;
            }
        }
        times.push(start.elapsed());
    }
    Spread::of(times)
}
