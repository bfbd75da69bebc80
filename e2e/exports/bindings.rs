//! What becomes of exports when bindings and the kinds of their gateways come and go.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Exports, START};
use crate::{
    fixture::SOON,
    objects::{Objects, condition, same, says, wait},
    rig::rig,
    support::{client, merge},
    ways::Gaps,
};

/// Kinds that come are noticed within half a minute: discovery is asked that often.
const NOTICED: Duration = Duration::from_secs(30);
const REMOVED: Duration = Duration::from_secs(60);
const KIND: &str = "tcpmappings.getambassador.io";

impl Exports {
    /// The bindings whose gateways' addresses feed a mirror, as its slices' ports tell.
    async fn fed_by(&self, service: &str, ports: &[(&str, u64)]) -> Vec<String> {
        let of_mirror =
            |s: &&Value| s["metadata"]["labels"]["kubernetes.io/service-name"] == self.case.mirrored(service);
        let slices = self.case.mirror_slices().all().await;
        let port = |s: &Value| s["ports"].as_array()?.iter().find(|p| p["name"] == "http")?["port"].as_u64();
        let fed = slices.values().filter(of_mirror).filter_map(port);
        let name =
            |port: u64| ports.iter().find(|(_, p)| *p == port).map_or(port.to_string(), |(name, _)| (*name).to_owned());
        let mut fed: Vec<String> = fed.map(name).collect();
        fed.sort();
        fed.dedup();
        fed
    }
}

/// G16: of two bindings that export one Service the preferred one feeds the mirror; when it goes, the
/// other one does, and the first again when it is back, without a moment with no address.
#[tokio::test]
async fn g16_the_preferred_of_two_bindings_goes_and_comes_back() {
    let by = |from: u16| json!({"export": {"provider": {"envoy": {}}, "ports": {"from": from, "to": from + 99}}});
    let exports = Exports::new("g16", by(20_000)).await;
    let second = "g16-second";
    exports.bindings().remove(second).await;
    let mut other = exports.bindings().get("g16").await.unwrap();
    other["metadata"] = json!({"name": second});
    merge(&mut other["spec"], by(21_000));
    exports.bindings().create(&other).await;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let port = async |binding: &str| {
        wait(&format!("g16: {binding} publishes"), START, || async {
            let slices = exports.published().all().await;
            let of = |s: &&Value| s["metadata"]["labels"]["heliostat.dev/binding"] == binding;
            let slice = slices.values().find(of).ok_or("no slice")?;
            slice["ports"][0]["port"].as_u64().ok_or("no port")
        })
        .await
    };
    let ports = [("g16", port("g16").await), (second, port(second).await)];
    let mirror = exports.case.mirrored("echo");
    let is_fed_by = async |binding: &str, promise: Duration| {
        wait(&format!("g16: the mirror is fed by {binding} alone"), promise, || async {
            same(exports.fed_by("echo", &ports).await, &vec![binding.to_owned()])
        })
        .await;
        let via =
            exports.case.mirrors().get(&mirror).await.unwrap()["metadata"]["annotations"]["heliostat.dev/via"].clone();
        assert_eq!(via, format!("Gateway/{binding}"));
    };
    is_fed_by("g16", SOON).await;
    let gaps = Gaps::watch(&exports.case, &mirror).await;

    let mut preferred = exports.bindings().get("g16").await.unwrap();
    exports.bindings().delete("g16").await;
    is_fed_by(second, SOON).await;
    exports.answers("echo", SOON).await;

    preferred["metadata"] = json!({"name": "g16"});
    preferred.as_object_mut().unwrap().remove("status");
    exports.bindings().create(&preferred).await;
    is_fed_by("g16", START).await;
    exports.answers("echo", SOON).await;
    assert_eq!(gaps.end().await, Vec::<String>::new(), "moments without a ready address");
    exports.bindings().delete(second).await;
}

/// G09: a binding whose gateway's kinds are missing says so, recovers when they come, says so again
/// when they go; and nothing else is disturbed.
#[tokio::test]
async fn g09_kinds_that_come_late_and_go_are_noticed() {
    let crds = Objects::at(&client("east").await, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    // One is enough to be missed. The API server itself takes its time over a kind that goes.
    let go = async || {
        crds.remove(KIND).await;
        wait("g09: the kind is gone", REMOVED, || async { same(crds.get(KIND).await, &None) }).await;
    };
    go().await;
    let provider = json!({"emissary": {"serviceRef": {"namespace": "g09", "name": "front"}}});
    let exports = Exports::new("g09", json!({"export": {"provider": provider}})).await;
    exports.front().await;
    exports.backend("echo", true).await;
    let message = exports.resolved("False", "ProviderNotInstalled").await;
    assert!(message.contains("getambassador.io"), "{message}");
    assert_eq!(exports.outside_port("echo", "http").await, None);

    exports.recovers().await;
    go().await;
    exports.resolved("False", "ProviderNotInstalled").await;
    wait("g09: what was published is not ready", SOON, || async {
        same(exports.is_ready().await, &Some(json!(false)))
    })
    .await;
    exports.recovers().await;
    wait("g09: what was published is ready", START, || async { same(exports.is_ready().await, &Some(json!(true))) })
        .await;
}

impl Exports {
    /// A Service like that of a gateway, whose address is nobody's.
    async fn front(&self) {
        let fronts = Objects::services(&self.case.east, &self.case.name);
        let ports = json!([{"name": "p", "port": 20_001}]);
        fronts.create(&json!({"metadata": {"name": "front"}, "spec": {"type": "LoadBalancer", "ports": ports}})).await;
        fronts.patch_status("front", json!({"loadBalancer": {"ingress": [{"ip": "10.99.0.80"}]}})).await;
        let slice = json!({
            "metadata": {"name": "front-0", "labels": {"kubernetes.io/service-name": "front"}},
            "addressType": "IPv4", "ports": [{"name": "p", "port": 20_001}],
            "endpoints": [{"addresses": ["198.18.0.1"], "conditions": {"ready": true}}],
        });
        self.case.origin_slices().create(&slice).await;
    }

    /// Installs the kinds; then the port is programmed and published as if they had been there always.
    async fn recovers(&self) {
        rig("gateway", &["emissary-crds", "east"]).await;
        self.resolved("True", "Resolved").await;
        let mappings = Objects::at(&self.case.east, "/apis/getambassador.io/v3alpha1/namespaces/g09/tcpmappings");
        wait("g09: a TCPMapping and a published port", START, || async {
            match (mappings.all().await.len(), self.outside_port("echo", "http").await) {
                (1, Some(20_001)) => Ok(()),
                there => Err(there),
            }
        })
        .await;
        let programmed = self.says("Programmed", "True", "Programmed", START).await;
        let message = condition(&programmed, "Programmed").unwrap().2;
        assert!(message.contains("not confirmed by the gateway"), "{message}");
    }

    /// Whether what is published is ready.
    async fn is_ready(&self) -> Option<Value> {
        let slices = self.published().all().await;
        let ours = slices.values().find(|s| s["metadata"]["labels"]["heliostat.dev/binding"] == *self.case.name)?;
        Some(ours["endpoints"][0]["conditions"]["ready"].clone())
    }

    /// Waits until the binding's `ResolvedRefs` says so; its message.
    async fn resolved(&self, status: &str, reason: &str) -> String {
        let wanted = (status.to_owned(), reason.to_owned());
        wait(&format!("{}: ResolvedRefs={status}/{reason}", self.case.name), NOTICED, || async {
            let binding = self.bindings().get(&self.case.name).await.unwrap();
            let there = condition(&binding, "ResolvedRefs");
            same(says(&binding, "ResolvedRefs"), &wanted).map_err(|_| there.clone())?;
            Ok::<_, Option<(String, String, String)>>(there.unwrap().2)
        })
        .await
    }
}
