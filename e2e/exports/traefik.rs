//! Through Traefik, by its own kinds; with `make test-all`.

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{Exports, START};
use crate::rig::rig;

/// Its few entry points are for one test at a time.
static ENTRY_POINTS: Mutex<()> = Mutex::const_new(());

async fn exports(routing: &str, name: &str) -> (Exports, MutexGuard<'static, ()>) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { drop(rig("gateway", &["traefik", "east"]).await) }).await;
    let turn = ENTRY_POINTS.lock().await;
    let tcp = (1..=8).map(|n| json!({"name": format!("h{n}"), "port": 20000 + n}));
    let udp = (1..=4).map(|n| json!({"name": format!("u{n}"), "port": 20000 + n, "protocol": "UDP"}));
    let others = [json!({"name": "web", "port": 80}), json!({"name": "websecure", "port": 443})];
    let entry_points: Vec<Value> = tcp.chain(udp).chain(others).collect();
    let mut spec = json!({"routing": routing, "export": {
        "ports": {"from": 20001, "to": 20008, "lease": "1s"},
        "provider": {"traefik": {"serviceRef": {"namespace": "traefik", "name": "traefik"}, "entryPoints": entry_points}},
    }});
    if routing != "Port" {
        spec["export"]["clusterName"] = json!(name);
    }
    (Exports::new(name, spec).await, turn)
}

/// G04, G11, G12: by port, TCP and UDP, on entry points that are there.
#[tokio::test]
async fn g04_tcp_and_udp_by_port() {
    let (exports, _turn) = exports("Port", "g04tp").await;
    exports.by_port(START).await;
    let (address, port) = (exports.address().await, exports.outside_port("echo", "http").await);
    exports.goes(&address, port).await;
}

/// G04, G11, G12: by the Host of a request.
#[tokio::test]
async fn g04_http_by_host() {
    let (exports, _turn) = exports("Host", "g04th").await;
    exports.grpc("grpc").await;
    exports.by_host().await;
}

/// G04, G11, G12: by the name in a TLS greeting.
#[tokio::test]
async fn g04_tls_by_sni() {
    let (exports, _turn) = exports("SNI", "g04ts").await;
    exports.by_sni().await;
}

#[tokio::test]
async fn alone_from_the_label_to_traffic() {
    let (exports, _turn) = exports("Port", "delayt").await;
    exports.delays("Traefik").await;
}
