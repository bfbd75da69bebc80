//! Five hundred ports at once through Heliostat's own gateway, beside a bare loop that makes the same
//! objects: claims and published slices. Printed, and not judged: docs/performance.md has what came out.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use heliostat::run::WRITES_IN_FLIGHT;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Exports, START};
use crate::{
    audit::CONTROLLER,
    audit_log::{Place, resource},
    fixture::exported_cluster_ip,
    objects::{Objects, same, wait},
    rig,
    support::{HOME, namespace, remove_namespace},
};

const MANY: usize = 500;
/// The controller and the loop take turns.
const ROUNDS: usize = 3;
/// Longest wait for all of them; not a promise.
const CARRIED: Duration = Duration::from_secs(30);

/// All are claimed, acknowledged by Envoy and published; then nothing more is written.
#[tokio::test]
async fn alone_five_hundred_ports_are_programmed_and_published() {
    let name = "many";
    let exports = Exports::new(name, json!({"export": {"provider": {"envoy": {}}}})).await;
    let east = &exports.case.east;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let crowd = format!("{name}-b");
    namespace(east, &crowd).await;
    let origins = Objects::services(east, &crowd);
    let slices = Objects::slices(east, &crowd);
    let all = stream::iter(0..MANY).map(|i| {
        let (origins, slices) = (origins.clone(), slices.clone());
        async move {
            let name = format!("s{i:03}");
            let mut service = exported_cluster_ip(&name);
            service["spec"]["ports"] = json!([{"name": "http", "port": 80}]);
            origins.create(&service).await;
            slices.create(&endpoints(&name)).await;
        }
    });
    all.buffer_unordered(16).collect::<Vec<()>>().await;

    exports.forget_claims().await;
    let (mut by_controller, mut by_loop) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let log = Place::end_of(rig::file("east", "audit.log")).unwrap();
        let start = Timestamp::now();
        exports.bindings().patch(name, over(&[name, &crowd])).await;
        exports.has_programmed(MANY + 1).await;
        wait("many: all are published", CARRIED, || async { same(exports.published_in(&crowd).await.len(), &MANY) })
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ours = |write: Value| is_of_export(&write, &crowd).then_some(write);
        let writes: Vec<Value> = log.writes_by(CONTROLLER, ours).unwrap().into_iter().flatten().collect();
        by_controller.push(last_answer(&writes).duration_since(start).as_secs_f64());
        assert_eq!(of(&writes, "leases"), MANY, "claims");
        assert_eq!(of(&writes, "endpointslices"), MANY, "published slices");
        let bodies = bodies(&exports, &crowd).await;
        assert_eq!(bodies.len(), MANY);
        exports.bindings().patch(name, over(&[name])).await;
        exports.has_programmed(1).await;
        by_loop.push(bare(&exports, bodies).await.as_secs_f64());
        exports.forget_claims().await;
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (ours, bare) = (best(&by_controller), best(&by_loop));
    println!(
        "{MANY} ports programmed and published: {:.2} times as long as the bare writes ({ours:.2} s, {bare:.2} s; all {by_controller:.2?} {by_loop:.2?})",
        ours / bare
    );
    // The port it had is kept all the while.
    exports.answers("echo", START).await;
}

impl Exports {
    async fn has_programmed(&self, wanted: usize) {
        wait(&format!("{}: {wanted} Services are carried", self.case.name), CARRIED, || async {
            let binding = self.bindings().get(&self.case.name).await.unwrap();
            let services = &binding["status"]["services"];
            let there = (services["selected"].as_u64(), services["programmed"].as_u64());
            same(there, &(Some(wanted as u64), Some(wanted as u64)))
        })
        .await;
    }

    /// The slices that the binding publishes in a namespace.
    async fn published_in(&self, namespace: &str) -> Vec<Value> {
        let slices = Objects::slices(&self.case.east, namespace).all().await.into_values();
        slices.filter(|slice| slice["metadata"]["labels"]["heliostat.dev/binding"] == *self.case.name).collect()
    }

    fn claims(&self) -> Objects {
        Objects::at(&self.case.east, format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"))
    }

    /// Removes the claims that were let go, so that they have to be made anew.
    async fn forget_claims(&self) {
        let claims = self.claims();
        let let_go = |(_, claim): &(String, Value)| {
            claim["metadata"]["labels"]["heliostat.dev/binding"] == *self.case.name
                && !claim["spec"]["renewTime"].is_null()
        };
        for (name, _) in claims.all().await.into_iter().filter(let_go) {
            claims.remove(&name).await;
        }
    }
}

fn over(namespaces: &[&str]) -> Value {
    json!({"spec": {"export": {"services": {"namespaces": namespaces}}}})
}

/// A pod's endpoint that is nobody's: whether it answers is not asked here.
fn endpoints(service: &str) -> Value {
    json!({
        "metadata": {"name": format!("{service}-0"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["198.18.0.1"], "conditions": {"ready": true}}],
    })
}

fn is_of_export(write: &Value, crowd: &str) -> bool {
    let namespace = &write["objectRef"]["namespace"];
    let kind = resource(write);
    (kind == "leases" && namespace == HOME) || (kind == "endpointslices" && namespace == crowd)
}

fn of(writes: &[Value], kind: &str) -> usize {
    writes.iter().filter(|write| resource(write) == kind && write["verb"] == "create").count()
}

fn last_answer(writes: &[Value]) -> Timestamp {
    let answered = |write: &Value| write["stageTimestamp"].as_str().unwrap().parse::<Timestamp>().unwrap();
    writes.iter().map(answered).max().unwrap()
}

/// Claim and published slice of each Service, as they would be made again.
async fn bodies(exports: &Exports, crowd: &str) -> Vec<(Value, Value)> {
    let claims = exports.claims().all().await;
    let slices = exports.published_in(crowd).await;
    let pair = |slice: &Value| {
        let service = slice["metadata"]["labels"]["heliostat.dev/service-name"].as_str().unwrap();
        let holder = format!("{crowd}/{service}/80");
        let claim = claims.values().find(|claim| claim["spec"]["holderIdentity"] == holder).unwrap();
        (bare_of(claim), bare_of(slice))
    };
    slices.iter().map(pair).collect()
}

/// Without what the API server adds, and without the owner, which is in another namespace here.
fn bare_of(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    object
}

/// The same writes and nothing else: as many at a time, each slice after its claim.
async fn bare(exports: &Exports, bodies: Vec<(Value, Value)>) -> Duration {
    let east = &exports.case.east;
    let place = format!("{}-c", exports.case.name);
    remove_namespace(east, &place).await;
    namespace(east, &place).await;
    let claims = Objects::at(east, format!("/apis/coordination.k8s.io/v1/namespaces/{place}/leases"));
    let slices = Objects::slices(east, &place);
    let start = Instant::now();
    let all = stream::iter(bodies).map(|(claim, slice)| {
        let (claims, slices) = (claims.clone(), slices.clone());
        tokio::spawn(async move {
            claims.create(&claim).await;
            slices.create(&slice).await;
        })
    });
    all.buffer_unordered(WRITES_IN_FLIGHT).map(Result::unwrap).collect::<Vec<()>>().await;
    let took = start.elapsed();
    remove_namespace(east, &place).await;
    took
}
