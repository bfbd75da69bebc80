//! Through Contour, a second implementation of the Gateway API; with `make test-all`. It knows TLS and
//! TCP routes in versions only that the standard channel no longer serves, so it is asked for Host alone.

use serde_json::json;
use tokio::sync::OnceCell;

use super::Exports;
use crate::rig::rig;

/// Installs it once: Gateway contour/mirror.
async fn gateway() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { drop(rig("gateway", &["contour", "east"]).await) }).await;
}

/// G04, G11, G12: by the Host of a request, on the listener that is there.
#[tokio::test]
async fn g04_http_by_host() {
    gateway().await;
    let spec = json!({"routing": "Host", "export": {
        "clusterName": "g04ch",
        "provider": {"gatewayAPI": {"gatewayRef": {"namespace": "contour", "name": "mirror"}}},
    }});
    let exports = Exports::new("g04ch", spec).await;
    exports.grpc("kubernetes.io/h2c").await;
    exports.by_host().await;
}
