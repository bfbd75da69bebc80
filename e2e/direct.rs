//! Direct: many endpoints, and names of single pods.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, differences, endpoints_of, exported_cluster_ip, pods, published},
    objects::{Objects, condition, same, says, wait},
    rig::try_rig,
    support::{Case, merge},
};

/// M20: 250 endpoints are three slices, and one that changes is one write.
#[tokio::test]
async fn m20_one_changed_endpoint_of_250_writes_one_slice() {
    let case = Case::new("m20").await;
    case.policies().patch("all", json!({"spec": {"via": ["Direct"]}})).await;
    // From a range for benchmarks (RFC 2544): nobody's.
    let address = |i: usize| format!("198.18.{}.{}", i / 200, i % 200 + 1);
    let addresses = |from: usize, to: usize| (from..to).map(address).collect::<Vec<_>>();
    // One origin has one slice of 250, the other three as Kubernetes itself would make them.
    for name in ["one", "three"] {
        case.origins().create(&exported_cluster_ip(name)).await;
    }
    case.origin_slices().create(&pods("one-0", "one", &addresses(0, 250))).await;
    for (i, (from, to)) in [(0, 100), (100, 200), (200, 250)].into_iter().enumerate() {
        case.origin_slices().create(&pods(&format!("three-{i}"), "three", &addresses(from, to))).await;
    }
    let mut wanted: Vec<String> =
        (0..250).flat_map(|i| [format!("{}:8080 http", address(i)), format!("{}:9090 grpc", address(i))]).collect();
    wanted.sort();
    let sizes = |slices: &BTreeMap<String, Value>, mirror: &str| {
        let of_mirror = |s: &&Value| s["metadata"]["labels"]["kubernetes.io/service-name"] == mirror;
        let mut sizes: Vec<usize> =
            slices.values().filter(of_mirror).map(|s| s["endpoints"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    for mirror in ["one-m20", "three-m20"] {
        wait(&format!("m20: {mirror} has 250 endpoints"), SOON, || async {
            let slices = case.mirror_slices().all().await;
            same(sizes(&slices, mirror), &vec![50, 100, 100])?;
            if endpoints_of(slices.values(), mirror) == wanted { Ok(()) } else { Err(vec![]) }
        })
        .await;
    }
    case.failures(&[]).await;
    case.counts([2, 2, 0, 0]).await;
    assert_eq!(case.landed().await.len(), 8, "two Services, six slices");

    for (slice, mirror, index, changed) in [("one-0", "one-m20", 120, 120), ("three-1", "three-m20", 7, 107)] {
        let before = case.landed().await;
        let mut origin = case.origin_slices().get(slice).await.unwrap();
        origin["endpoints"][index]["conditions"]["ready"] = json!(false);
        case.origin_slices().patch(slice, json!({"endpoints": origin["endpoints"]})).await;
        let not_ready =
            [format!("{}:8080 http not ready", address(changed)), format!("{}:9090 grpc not ready", address(changed))];
        wait(&format!("m20: {mirror} has one that is not ready"), SOON, || async {
            let there: Vec<String> =
                case.endpoints(mirror).await.into_iter().filter(|e| e.ends_with("not ready")).collect();
            same(there, &not_ready.to_vec())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = case.landed().await;
        let differs = differences(&before, &after);
        assert_eq!(differs.len(), 1, "{differs:#?}");
        let (key, now) = after.iter().find(|(key, now)| before[*key] != **now).unwrap();
        assert!(key.starts_with("EndpointSlice"), "{key}");
        assert_eq!(generation(now), generation(&before[key]) + 1, "written once");
    }
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap()
}

/// M22: a headless StatefulSet has a headless mirror with a name for each pod by Direct, and a
/// mirror with a cluster IP by another way.
#[tokio::test]
async fn m22_a_headless_origin_by_direct_and_by_another_way() {
    let case = Case::new("m22").await;
    // Both clusters have one pod range; that these addresses are the other one's is known here.
    case.links().patch(&case.name, json!({"spec": {"addresses": {"allow": ["10.244.0.0/16"]}}})).await;
    case.policies().patch("all", json!({"spec": {"via": ["Direct"]}})).await;
    Objects::pods(&case.west, &case.name).create(&pod("client")).await;
    let mut db = exported_cluster_ip("db");
    merge(&mut db, json!({"spec": {"clusterIP": "None", "selector": {"app": "db"}}}));
    db["spec"]["ports"] = json!([{"name": "http", "port": 8080}]);
    case.origins().create(&db).await;
    let mut template = pod("ignored");
    template["metadata"] = json!({"labels": {"app": "db"}});
    let sets = format!("/apis/apps/v1/namespaces/{}/statefulsets", case.name);
    Objects::at(&case.east, sets)
        .create(&json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {
                "serviceName": "db", "replicas": 2, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "db"}}, "template": template,
            },
        }))
        .await;

    let mirror = "db-m22";
    // Pods take their time to start, which is nobody's promise.
    let addresses = wait("m22: two pods with names in the mirror", Duration::from_secs(30), || async {
        let slices = case.mirror_slices().all().await;
        let all: Vec<&Value> = slices.values().flat_map(|s| s["endpoints"].as_array().unwrap()).collect();
        let of = |pod: &str| {
            let found = all.iter().find(|e| e["hostname"] == pod && e["conditions"]["ready"] == true)?;
            Some(found["addresses"][0].as_str().unwrap().to_owned())
        };
        match (of("db-0"), of("db-1")) {
            (Some(zero), Some(one)) if all.len() == 2 => Ok([zero, one]),
            _ => Err(slices),
        }
    })
    .await;
    let ip = |pod: Option<Value>| pod.unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let east = Objects::pods(&case.east, &case.name);
    assert_eq!(addresses, [ip(east.get("db-0").await), ip(east.get("db-1").await)]);
    for slice in case.mirror_slices().all().await.values() {
        for endpoint in slice["endpoints"].as_array().unwrap() {
            assert_eq!((&endpoint["targetRef"], &endpoint["nodeName"]), (&Value::Null, &Value::Null));
        }
    }
    let service = case.mirrors().get(mirror).await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "None");
    case.failures(&[]).await;
    for (pod, address) in ["db-0", "db-1"].iter().zip(&addresses) {
        let name = format!("{pod}.{mirror}.{}.svc.cluster.local", case.name);
        wait(&format!("m22: {name} resolves in the importer"), Duration::from_secs(12), || async {
            let client = format!("{}/client", case.name);
            let said = try_rig("pod", &["west", &client, "getent", "ahostsv4", &name]).await?;
            if said.split_whitespace().next() == Some(address.as_str()) { Ok(()) } else { Err(said) }
        })
        .await;
    }

    let mut slice = published("db-gw", "db", "public", "203.0.113.9");
    slice["ports"] = json!([{"name": "http", "port": 20001, "protocol": "TCP"}]);
    case.origin_slices().create(&slice).await;
    case.policies().patch("all", json!({"spec": {"via": ["Gateway"]}})).await;
    case.leads_to(mirror, &["203.0.113.9:20001 http"]).await;
    let service = case.mirrors().get(mirror).await.unwrap();
    assert!(service["spec"]["clusterIP"].as_str().unwrap().starts_with("10."), "{}", service["spec"]);
    let messages = case.failures(&[("db", "PerPodNamesUnavailable")]).await;
    assert!(messages[0].contains("Direct"), "{messages:?}");
    let policy = case.policies().get("all").await.unwrap();
    assert_eq!(says(&policy, "Ready"), ("True".into(), "Ready".into()));
    // It said so if the policy came before the gateway, and is written last.
    wait("m22: the mirror says nothing of a missing way", SOON, || async {
        let service = case.mirrors().get(mirror).await.unwrap();
        same(condition(&service, "heliostat.dev/Mirrored"), &None)
    })
    .await;
}

/// A pod that answers HTTP on port 8080, and from whose network programs can be run.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "agnhost", "image": "heliostat.test/agnhost:1", "args": ["netexec"]}],
        },
    })
}
