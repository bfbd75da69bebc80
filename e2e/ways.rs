//! Ways into the exporter: load balancers and their names, published slices, families, and what a
//! way cannot carry.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    fixture::{SOON, assert_untouched, differences, exported, exported_cluster_ip, published},
    objects::{Objects, condition, same, says, wait},
    rig::file,
    support::{Case, merge},
};

/// M19: slices of the families that the mirror has; the other family is reported.
#[tokio::test]
async fn m19_slices_of_the_families_that_the_mirror_has() {
    let case = Case::new("m19").await;
    case.origins().create(&exported("books", json!({}))).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}, {"ip": "2001:db8::5"}])).await;
    let mirror = "books-m19";
    case.leads_to(mirror, &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    let service = case.mirrors().get(mirror).await.unwrap();
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]), "this test is about an importer with one family");
    assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack");
    let types: Vec<Value> = case.mirror_slices().all().await.into_values().map(|s| s["addressType"].clone()).collect();
    assert_eq!(types, ["IPv4"]);
    let messages = case.failures(&[("books", "UnsupportedValue")]).await;
    assert!(messages[0].contains("IPv6"), "{messages:?}");
    case.counts([1, 1, 0, 0]).await;

    let before = case.landed().await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    case.failures(&[]).await;
    assert_untouched(&before, &case.landed().await);

    case.load_balancer("books", json!([{"ip": "2001:db8::5"}])).await;
    case.leads_to(mirror, &[]).await;
    case.failures(&[("books", "NoRoute")]).await;
    wait("m19: the mirror says NoRoute", SOON, || async {
        let service = case.mirrors().get(mirror).await.unwrap();
        same(says(&service, "heliostat.dev/Mirrored"), &("False".into(), "NoRoute".into()))
    })
    .await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    case.leads_to(mirror, &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    wait("m19: the mirror is well", SOON, || async {
        let service = case.mirrors().get(mirror).await.unwrap();
        same(condition(&service, "heliostat.dev/Mirrored"), &None)
    })
    .await;
}

/// M21: a port that the way cannot carry is left out of the slices and reported; the others work.
#[tokio::test]
async fn m21_a_port_that_the_way_cannot_carry_is_left_out_and_reported() {
    let case = Case::new("m21").await;
    let mut books = exported_cluster_ip("books");
    let ports = books["spec"]["ports"].as_array_mut().unwrap();
    ports.push(json!({"name": "dns", "port": 53, "protocol": "UDP"}));
    case.origins().create(&books).await;
    case.origin_slices().create(&published("books-gw", "books", "public", "203.0.113.9")).await;
    let mirror = "books-m21";
    case.leads_to(mirror, &["203.0.113.9:20001 http", "203.0.113.9:20002 grpc"]).await;
    let messages = case.failures(&[("books", "PortUnsupported")]).await;
    assert!(messages[0].contains("dns") && messages[0].contains("53/UDP"), "{messages:?}");
    let service = case.mirrors().get(mirror).await.unwrap();
    let ports: Vec<String> = service["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{} {}/{}", p["name"].as_str().unwrap(), p["port"], p["protocol"].as_str().unwrap()))
        .collect();
    assert_eq!(ports, ["http 80/TCP", "grpc 9090/TCP", "dns 53/UDP"], "the Service has all wanted ports");
    assert_eq!(condition(&service, "heliostat.dev/Mirrored"), None);
    let policy = case.policies().get("all").await.unwrap();
    assert_eq!(says(&policy, "Ready"), ("True".into(), "Ready".into()), "a skip blocks no rollout");
    case.counts([1, 1, 0, 0]).await;
    assert_eq!(case.landed().await.len(), 2, "one Service, one slice");

    let dns = json!({"name": "dns", "port": 20053, "protocol": "UDP"});
    let mut slice = published("books-gw", "books", "public", "203.0.113.9");
    slice["ports"].as_array_mut().unwrap().push(dns);
    case.origin_slices().patch("books-gw", json!({"ports": slice["ports"]})).await;
    case.leads_to(mirror, &["203.0.113.9:20001 http", "203.0.113.9:20002 grpc", "203.0.113.9:20053 dns"]).await;
    case.failures(&[]).await;
}

/// G01: addresses of a load balancer, by number and by name; the last good answer is kept.
#[tokio::test]
async fn g01_a_load_balancers_address_and_name_are_followed() {
    let case = Case::new("g01").await;
    let (mirror, name) = ("books-g01", "lb.g01.test");
    set_name(name, &["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    case.export("books", "203.0.113.5").await;
    case.leads_to(mirror, &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    wait("g01: the mirror is well", SOON, || async {
        let service = case.mirrors().get(mirror).await.unwrap();
        same(condition(&service, "heliostat.dev/Mirrored"), &None)
    })
    .await;
    let service = without_status(case.mirrors().get(mirror).await.unwrap());

    case.load_balancer("books", json!([{"hostname": name}])).await;
    let endpoints = |last: &[u8]| -> Vec<String> {
        last.iter().flat_map(|n| [format!("203.0.113.{n}:80 http"), format!("203.0.113.{n}:9090 grpc")]).collect()
    };
    // The rig's TTL is 2 s, and its answers change half a second after the file.
    let ttl = Duration::from_millis(2500) + SOON;
    let resolves = async |last: &[u8]| {
        wait(&format!("g01: {name} resolves to {last:?}"), ttl, || async {
            same(case.endpoints(mirror).await, &endpoints(last))
        })
        .await;
    };
    resolves(&[1, 2, 3]).await;
    set_name(name, &["203.0.113.1", "203.0.113.3"]);
    resolves(&[1, 3]).await;
    case.failures(&[]).await;

    let before = case.landed().await;
    set_name(name, &[]);
    let reported = wait("g01: the name that stopped resolving is reported", ttl, || async {
        let policy = case.policies().get("all").await.unwrap();
        let failure = policy["status"]["failures"][0].clone();
        if failure["name"] == "books" { Ok(failure) } else { Err(policy["status"].clone()) }
    })
    .await;
    assert!(reported["message"].as_str().unwrap().contains(name), "{reported}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_untouched(&before, &case.landed().await);

    set_name(name, &["203.0.113.4"]);
    // Asked again with growing patience.
    wait("g01: the name resolves again", Duration::from_secs(10), || async {
        same(case.endpoints(mirror).await, &endpoints(&[4]))
    })
    .await;
    case.failures(&[]).await;
    assert_eq!(without_status(case.mirrors().get(mirror).await.unwrap()), service, "the Service was never written");
    set_name(name, &[]);
}

fn without_status(mut service: Value) -> Value {
    service["status"] = Value::Null;
    service
}

/// Lets the importer's cluster DNS answer so.
fn set_name(name: &str, addresses: &[&str]) {
    let hosts = file("west", "dns/hosts");
    let before = std::fs::read_to_string(&hosts).unwrap_or_default();
    let others = before.lines().filter(|line| !line.ends_with(name)).map(str::to_owned);
    let lines: Vec<String> = others.chain(addresses.iter().map(|a| format!("{a} {name}"))).collect();
    std::fs::write(hosts, lines.join("\n") + "\n").unwrap();
}

/// G03: a published slice appears, changes and goes, and the mirror never lacks an address.
#[tokio::test]
async fn g03_a_gateway_comes_changes_and_goes_without_a_gap() {
    let case = Case::new("g03").await;
    let mirror = "books-g03";
    case.export("books", "203.0.113.5").await;
    let by_service = ["203.0.113.5:80 http", "203.0.113.5:9090 grpc"];
    case.leads_to(mirror, &by_service).await;
    let first = case.landed().await;
    let gaps = Gaps::watch(&case, mirror).await;

    case.origin_slices().create(&published("books-gw", "books", "public", "203.0.113.9")).await;
    case.leads_to(mirror, &["203.0.113.9:20001 http", "203.0.113.9:20002 grpc"]).await;
    assert_eq!(via(&case, mirror).await, "Gateway/public");
    assert_eq!(case.landed().await.len(), 2, "the old way's slices are gone");

    let endpoints = json!([{"addresses": ["203.0.113.10"], "conditions": {"ready": true}}]);
    case.origin_slices().patch("books-gw", json!({"endpoints": endpoints})).await;
    case.leads_to(mirror, &["203.0.113.10:20001 http", "203.0.113.10:20002 grpc"]).await;
    let ports =
        json!([{"name": "http", "port": 21001, "protocol": "TCP"}, {"name": "grpc", "port": 21002, "protocol": "TCP"}]);
    case.origin_slices().patch("books-gw", json!({"ports": ports})).await;
    case.leads_to(mirror, &["203.0.113.10:21001 http", "203.0.113.10:21002 grpc"]).await;

    case.origin_slices().delete("books-gw").await;
    case.leads_to(mirror, &by_service).await;
    assert_eq!(via(&case, mirror).await, "Service");
    assert_eq!(gaps.end().await, Vec::<String>::new(), "moments without a ready address");

    // An unknown contract is no way.
    let mut unknown = published("books-gw", "books", "public", "203.0.113.9");
    merge(&mut unknown, json!({"metadata": {"annotations": {"heliostat.dev/contract": "v2"}}}));
    let before = case.landed().await;
    case.origin_slices().create(&unknown).await;
    tokio::time::sleep(SOON).await;
    assert_untouched(&before, &case.landed().await);
    let key = format!("Service {mirror}");
    assert_eq!(first[&key]["metadata"]["uid"], before[&key]["metadata"]["uid"], "the cluster IP was kept");
    assert_eq!(differences(&first, &before).len(), 2, "the mirror and its slice, and nothing else");
}

/// By a Linkerd gateway, published or described by hand: the slices say what Linkerd's destination
/// controller reads, as long as that is the way, and the Service says nothing of it.
#[tokio::test]
async fn linkerds_destination_controller_finds_what_it_reads() {
    let case = Case::new("mesh").await;
    let bindings = Objects::at(&case.west, "/apis/heliostat.dev/v1alpha1/gatewaybindings");
    bindings.remove("mesh").await;
    let (mirror, identity) = ("books-mesh", "gw.mc.serviceaccount.identity.linkerd.cluster.local");
    let mut books = exported_cluster_ip("books");
    books["spec"]["ports"].as_array_mut().unwrap().push(json!({"name": "dns", "port": 53, "protocol": "UDP"}));
    case.origins().create(&books).await;
    let mut slice = published("books-gw", "books", "mesh", "203.0.113.9");
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 4143, "protocol": protocol});
    slice["ports"] = json!([port("http", "TCP"), port("grpc", "TCP"), port("dns", "UDP")]);
    let annotations = json!({
        "heliostat.dev/routing": "Linkerd", "heliostat.dev/gateway-identity": identity, "heliostat.dev/port-lease": null,
    });
    merge(&mut slice, json!({"metadata": {"annotations": annotations}}));
    case.origin_slices().create(&slice).await;
    let by_gateway = ["203.0.113.9:4143 grpc", "203.0.113.9:4143 http"];
    let carries = |wanted: Value| {
        let (case, wanted) = (&case, vec![wanted]);
        async move {
            wait("mesh: the slice's annotations", SOON, || async {
                let slices = case.mirror_slices().all().await;
                same(slices.into_values().map(|s| s["metadata"]["annotations"].clone()).collect(), &wanted)
            })
            .await;
        }
    };
    let keys = json!({
        "mirror.linkerd.io/remote-gateway-identity": identity,
        "mirror.linkerd.io/remote-svc-fq-name": "books.mesh.svc.cluster.local",
    });
    case.leads_to(mirror, &by_gateway).await;
    carries(keys.clone()).await;
    let messages = case.failures(&[("books", "PortUnsupported"), ("books", "UnsupportedValue")]).await;
    assert!(
        messages.iter().any(|m| m.contains("meshed")) && messages.iter().any(|m| m.contains("53/UDP")),
        "{messages:?}"
    );
    let policy = case.policies().get("all").await.unwrap();
    assert_eq!(says(&policy, "Ready"), ("True".into(), "Ready".into()));
    let service = case.mirrors().get(mirror).await.unwrap();
    let text = service["metadata"]["labels"].to_string() + &service["metadata"]["annotations"].to_string();
    assert!(!text.contains("linkerd"), "{text}");

    // Edited, by half and whole: put right.
    let name = case.mirror_slices().all().await.into_keys().next().unwrap();
    for edit in [json!({"mirror.linkerd.io/remote-gateway-identity": "evil.example"}), Value::Null] {
        case.mirror_slices().patch(&name, json!({"metadata": {"annotations": edit}})).await;
        carries(keys.clone()).await;
    }

    // By hand. Without pods to be seen and without selector, the origin counts as ready.
    let import = json!({"linkRef": {"name": "mesh"}, "addresses": [{"value": "203.0.113.9"}], "port": 4143, "identity": identity});
    bindings
        .create(&json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding", "metadata": {"name": "mesh"},
            "spec": {"routing": "Linkerd", "import": import},
        }))
        .await;
    case.origin_slices().delete("books-gw").await;
    wait("mesh: by the binding", SOON, || async {
        same(case.mirror_slices().all().await.into_keys().any(|there| there == name), &false)
    })
    .await;
    case.leads_to(mirror, &by_gateway).await;
    carries(keys).await;
    wait("mesh: the binding is ready", SOON, || async {
        same(says(&bindings.get("mesh").await.unwrap(), "Ready"), &("True".into(), "Ready".into()))
    })
    .await;
    case.failures(&[("books", "PortUnsupported"), ("books", "UnsupportedValue")]).await;

    // By another way nothing of it is left.
    case.origin_slices().create(&published("books-gw", "books", "another", "203.0.113.10")).await;
    case.leads_to(mirror, &["203.0.113.10:20001 http", "203.0.113.10:20002 grpc"]).await;
    carries(json!({"heliostat.dev/port-lease": "86400s"})).await;
    bindings.delete("mesh").await;
}

async fn via(case: &Case, mirror: &str) -> String {
    let service = case.mirrors().get(mirror).await.unwrap();
    service["metadata"]["annotations"]["heliostat.dev/via"].as_str().unwrap().to_owned()
}

/// Watches a mirror's slices for moments in which none has a ready address.
pub(crate) struct Gaps {
    found: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Gaps {
    pub(crate) async fn watch(case: &Case, mirror: &str) -> Self {
        let slices: Api<EndpointSlice> = Api::namespaced(case.west.clone(), &case.name);
        let selector = format!("kubernetes.io/service-name={mirror}");
        let start = slices.list(&kube::api::ListParams::default().labels(&selector)).await.unwrap();
        let mut ready: std::collections::BTreeMap<String, bool> = start.items.iter().map(state).collect();
        let version = start.metadata.resource_version.unwrap();
        let found = Arc::new(Mutex::new(Vec::new()));
        let noted = found.clone();
        let task = tokio::spawn(async move {
            let events = slices.watch(&WatchParams::default().labels(&selector), &version).await.unwrap();
            let mut events = Box::pin(events);
            while let Some(event) = events.try_next().await.unwrap() {
                match &event {
                    WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                        ready.extend([state(slice)]);
                    }
                    WatchEvent::Deleted(slice) => {
                        ready.remove(&state(slice).0);
                    }
                    _ => {}
                }
                if !ready.values().any(|ready| *ready) {
                    noted.lock().await.push(format!("{event:?}"));
                }
            }
        });
        Self { found, task }
    }

    pub(crate) async fn end(self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.task.abort();
        self.found.lock().await.clone()
    }
}

fn state(slice: &EndpointSlice) -> (String, bool) {
    let ready = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true) && !e.addresses.is_empty()
    };
    (slice.metadata.name.clone().unwrap_or_default(), slice.endpoints.iter().any(ready))
}
