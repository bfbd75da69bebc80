//! Through Envoy Gateway, an implementation of the Gateway API that somebody runs there already.

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Exports, START};
use crate::rig::rig;

/// Installs it once: Gateway gateways/mirror.
async fn gateway() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { drop(rig("gateway", &["envoy-gateway", "east"]).await) }).await;
}

async fn exports(routing: &str, name: &str) -> Exports {
    gateway().await;
    let mut spec: Value = json!({"routing": routing, "export": {
        "provider": {"gatewayAPI": {"gatewayRef": {"namespace": "gateways", "name": "mirror"}}},
    }});
    if routing != "Port" {
        spec["export"]["clusterName"] = json!(name);
    }
    Exports::new(name, spec).await
}

/// G04, G11, G12: by port, TCP and UDP, through ListenerSets.
#[tokio::test]
async fn g04_tcp_and_udp_by_port() {
    let exports = exports("Port", "g04gp").await;
    exports.by_port(START).await;
    let (address, port) = (exports.address().await, exports.outside_port("echo", "http").await);
    exports.goes(&address, port).await;
}

/// G04, G11, G12: by the Host of a request, on the listener that is there.
#[tokio::test]
async fn g04_http_by_host() {
    let exports = exports("Host", "g04gh").await;
    exports.grpc("grpc").await;
    exports.by_host().await;
}

/// G04, G11, G12: by the name in a TLS greeting, on the listener that is there.
#[tokio::test]
async fn g04_tls_by_sni() {
    exports("SNI", "g04gs").await.by_sni().await;
}

#[tokio::test]
async fn alone_from_the_label_to_traffic() {
    exports("Port", "delayg").await.delays("Envoy Gateway").await;
}
