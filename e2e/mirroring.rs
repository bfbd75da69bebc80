//! Mirrors follow their origins: M01 to M08, M11.

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, assert_untouched, exported, pods},
    landing::{merged, mirror, slice},
    objects::{Objects, condition, same, says, wait},
    rig::rig,
    support::{Case, HOME, namespace},
};

/// M01: one origin, one mirror, whole; and what is said of it.
#[tokio::test]
async fn m01_an_exported_origin_gets_its_mirror() {
    let case = Case::new("m01").await;
    case.origins().create(&merged(&exported("hidden", json!({})), json!({"metadata": {"labels": null}}))).await;
    let books = case.export("books", "203.0.113.5").await;
    let there = case.exporter().await;
    case.lands(&[&case.mirror("books").await]).await;
    case.failures(&[]).await;
    let policy = wait("m01: the policy is Ready", SOON, || async {
        let policy = case.policies().get("all").await.unwrap();
        same(policy["status"]["services"].clone(), &json!({"matched": 1, "mirrored": 1, "skipped": 0, "conflicted": 0}))
            .map(|()| policy)
    })
    .await;
    assert_eq!(
        conditions(&policy),
        [("Ready", "Ready"), ("Accepted", "Accepted"), ("ResolvedRefs", "Resolved"), ("Programmed", "Programmed")]
            .map(|(kind, reason)| (kind.to_owned(), "True".to_owned(), reason.to_owned()))
    );
    let link = case.link_says("Ready", "True", "Ready", SOON).await;
    assert_eq!(
        conditions(&link),
        [
            ("Ready", "Ready"),
            ("Accepted", "Accepted"),
            ("CredentialsValid", "Valid"),
            ("Connected", "Connected"),
            ("Synced", "InSync")
        ]
        .map(|(kind, reason)| (kind.to_owned(), "True".to_owned(), reason.to_owned()))
    );
    let kube_system = Objects::at(&case.east, "/api/v1/namespaces").get("kube-system").await.unwrap();
    assert_eq!(link["status"]["clusterUID"], kube_system["metadata"]["uid"]);
    wait("m01: the link's counts", SOON, || async {
        let link = case.links().get("m01").await.unwrap();
        same(link["status"]["services"].clone(), &json!({"seen": 1, "mirrored": 1, "skipped": 0, "conflicted": 0}))
    })
    .await;
    assert_eq!(
        case.origins().get("books").await.unwrap()["metadata"]["resourceVersion"],
        books["metadata"]["resourceVersion"]
    );
    assert_untouched(&there, &case.exporter().await);
}

/// M01: a pod of one cluster calls pods of the other by the mirror's name; real pods, real proxies.
#[tokio::test]
async fn m01_a_pod_calls_the_mirror_and_pods_of_the_other_cluster_answer() {
    let case = Case::new("m01-call").await;
    let pods_there = Objects::pods(&case.east, &case.name);
    let names = ["echo-0", "echo-1"];
    for name in names {
        pods_there.create(&agnhost(name)).await;
    }
    Objects::pods(&case.west, &case.name).create(&agnhost("client")).await;
    let origin = json!({
        "metadata": {"name": "echo", "labels": {"heliostat.dev/export": "true"}},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "echo"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "udp", "port": 80, "targetPort": 8081, "protocol": "UDP"}],
        },
    });
    case.origins().create(&origin).await;
    for (cluster, name) in [(&case.west, "client"), (&case.east, names[0]), (&case.east, names[1])] {
        let pods = Objects::pods(cluster, &case.name);
        wait(&format!("m01: pod {name} is ready"), SOON * 5, || async {
            let pod = pods.get(name).await.unwrap();
            if says(&pod, "Ready").0 == "True" { Ok(()) } else { Err(pod["status"].clone()) }
        })
        .await;
    }
    let url = "http://echo-m01-call.m01-call.svc.cluster.local/hostname";
    for wanted in names {
        wait(&format!("m01: {wanted} answers to the mirror's name"), SOON * 2, || async {
            let answer = crate::rig::try_rig("pod", &["west", "m01-call/client", "curl", "-sS", "-m", "2", url]).await;
            same(answer.clone(), &Ok(wanted.to_owned())).map_err(|_| answer)
        })
        .await;
    }
    let dial = format!(
        "http://127.0.0.1:8080/dial?host=echo-{0}.{0}.svc.cluster.local&port=80&request=hostname&protocol=udp&tries=3",
        case.name
    );
    let answer = rig("pod", &["west", "m01-call/client", "curl", "-sS", "-m", "20", &dial]).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let answered = |r: &Value| names.iter().any(|name| *r == **name);
    assert!(answer["responses"].as_array().is_some_and(|all| all.iter().any(answered)), "UDP: {answer}");
}

fn agnhost(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name.split('-').next().unwrap()}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "agnhost",
                "image": "heliostat.test/agnhost:1",
                "imagePullPolicy": "Never",
                "args": ["netexec"],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// M02: a namespace that is missing is awaited, and never made.
#[tokio::test]
async fn m02_a_missing_namespace_is_awaited() {
    let case = Case::bare("m02").await;
    let link = case.link("m02", json!({})).await;
    case.policy_in(HOME, "m02", json!({})).await;
    let books = case.export("books", "203.0.113.5").await;
    let policies = Objects::policies(&case.west, HOME);
    let failure = wait("m02: NamespaceMissing", SOON, || async {
        let policy = policies.get("m02").await.unwrap();
        let failure = policy["status"]["failures"][0].clone();
        same(failure["reason"].clone(), &json!("NamespaceMissing")).map(|()| failure)
    })
    .await;
    assert_eq!(failure["name"], "books");
    assert!(failure["message"].as_str().unwrap().contains("namespace m02 does not exist"), "{failure}");
    let namespaces = Objects::at(&case.west, "/api/v1/namespaces");
    assert_eq!(namespaces.get("m02").await, None, "namespaces are not created");
    let there = case.exporter().await;
    namespace(&case.west, "m02").await;
    case.lands(&[&mirror(&link, HOME, "m02", &books)]).await;
    assert_untouched(&there, &case.exporter().await);
    wait("m02: nothing is reported any more", SOON, || async {
        let status = policies.get("m02").await.unwrap()["status"].clone();
        same((status["failures"].clone(), status["services"]["mirrored"].clone()), &(Value::Null, json!(1)))
    })
    .await;
}

/// M03, M04: a mirror goes with the consent or with the origin, and comes back; others stay.
#[tokio::test]
async fn m03_m04_a_mirror_goes_with_its_origin_and_comes_back() {
    let case = Case::new("m03").await;
    case.export("books", "203.0.113.5").await;
    case.export("pens", "203.0.113.6").await;
    let (books, pens) = (case.mirror("books").await, case.mirror("pens").await);
    case.lands(&[&books, &pens]).await;
    let before = case.landed_of("pens-m03").await;
    case.origins().patch("books", json!({"metadata": {"labels": {"heliostat.dev/export": null}}})).await;
    case.lands(&[&pens]).await;
    case.origins().patch("books", json!({"metadata": {"labels": {"heliostat.dev/export": "false"}}})).await;
    case.origins().patch("books", json!({"metadata": {"labels": {"heliostat.dev/export": "true"}}})).await;
    case.lands(&[&books, &pens]).await;
    case.origins().delete("books").await;
    case.lands(&[&pens]).await;
    case.export("books", "203.0.113.7").await;
    let anew = case.mirror("books").await;
    assert_ne!(anew, books, "another uid, another address");
    case.lands(&[&anew, &pens]).await;
    assert_untouched(&before, &case.landed_of("pens-m03").await);
}

/// M05: ports follow, and the mirror stays the same object.
#[tokio::test]
async fn m05_ports_follow() {
    let case = Case::new("m05").await;
    case.export("books", "203.0.113.5").await;
    case.lands(&[&case.mirror("books").await]).await;
    let uid = case.mirrors().get("books-m05").await.unwrap()["metadata"]["uid"].clone();
    let (http, grpc) = (json!({"name": "http", "port": 80}), json!({"name": "grpc", "port": 9090}));
    let steps = [
        ("renamed under the same number", json!([{"name": "web", "port": 80}, grpc])),
        ("renumbered", json!([{"name": "web", "port": 8080}, grpc])),
        ("added", json!([http, grpc, {"name": "admin", "port": 8081, "appProtocol": "kubernetes.io/h2c"}])),
        ("removed", json!([http])),
        ("another protocol", json!([{"name": "http", "port": 80, "protocol": "UDP"}])),
        ("both protocols", json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}])),
    ];
    for (what, ports) in steps {
        println!("m05: {what}");
        case.origins().patch("books", json!({"spec": {"ports": ports}})).await;
        case.lands(&[&case.mirror("books").await]).await;
    }
    assert_eq!(case.mirrors().get("books-m05").await.unwrap()["metadata"]["uid"], uid);
}

/// M06: an origin without ready endpoints keeps its addresses, not ready.
#[tokio::test]
async fn m06_not_ready_endpoints_keep_their_addresses() {
    let case = Case::new("m06").await;
    let there = case.origin_slices();
    there.create(&pods("books-x", "books", &["10.1.0.1".into(), "10.1.0.2".into()])).await;
    case.export("books", "203.0.113.5").await;
    let ready = case.mirror("books").await;
    case.lands(&[&ready]).await;
    let service = case.mirrors().get("books-m06").await;
    let endpoints = |one: bool, other: bool| {
        json!({"endpoints": [
            {"addresses": ["10.1.0.1"], "conditions": {"ready": one}},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": other}},
        ]})
    };
    there.patch("books-x", endpoints(false, false)).await;
    let mut not_ready = ready.clone();
    not_ready["slices"][0]["endpoints"][0]["conditions"] =
        json!({"ready": false, "serving": false, "terminating": false});
    case.lands(&[&not_ready]).await;
    there.patch("books-x", endpoints(false, true)).await;
    case.lands(&[&ready]).await;
    assert_eq!(case.mirrors().get("books-m06").await, service, "the Service was not written");
}

/// M07: keys on the allow-list follow; others never appear, and those that others added stay.
#[tokio::test]
async fn m07_allowed_labels_follow_and_others_never_appear() {
    let case = Case::bare("m07").await;
    namespace(&case.west, "m07").await;
    case.link("m07", json!({})).await;
    let keys = json!({"mirror": {"labels": ["team", "tier/*"], "annotations": ["note"]}});
    case.policy("all", keys).await;
    let labels = json!({"team": "a", "tier/x": "1", "hidden": "h", "app.kubernetes.io/instance": "argo"});
    let meta = json!({"metadata": {"labels": labels, "annotations": {"note": "n", "other": "o"}}});
    case.origins().create(&exported("books", meta)).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    let plain = case.mirror("books").await;
    let with = |labels: Value, annotations: Value| {
        merged(&plain, json!({"service": {"metadata": {"labels": labels, "annotations": annotations}}}))
    };
    let copied = |labels: &str| json!({"note": "n", "heliostat.dev/copied-labels": labels, "heliostat.dev/copied-annotations": "note"});
    case.lands(&[&with(json!({"team": "a", "tier/x": "1"}), copied("team,tier/x"))]).await;
    case.mirrors()
        .patch("books-m07", json!({"metadata": {"labels": {"theirs": "stays"}, "annotations": {"theirs": "stays"}}}))
        .await;
    let theirs = |mirror: &Value| {
        merged(
            mirror,
            json!({"service": {"metadata": {"labels": {"theirs": "stays"}, "annotations": {"theirs": "stays"}}}}),
        )
    };
    let change = json!({"metadata": {"labels": {"team": "b", "tier/x": null, "tier/y": "2", "hidden": "i"}, "annotations": {"other": "p"}}});
    case.origins().patch("books", change).await;
    case.lands(&[&theirs(&with(json!({"team": "b", "tier/y": "2"}), copied("team,tier/y")))]).await;
    case.policies().patch("all", json!({"spec": {"mirror": {"annotations": null}}})).await;
    let labels_only = json!({"heliostat.dev/copied-labels": "team,tier/y"});
    case.lands(&[&theirs(&with(json!({"team": "b", "tier/y": "2"}), labels_only))]).await;
    case.policies().patch("all", json!({"spec": {"mirror": {"labels": null}}})).await;
    case.lands(&[&theirs(&plain)]).await;
}

/// M08: the right mirror for each type; made anew where a field cannot change.
#[tokio::test]
async fn m08_types_change() {
    let case = Case::new("m08").await;
    case.policies().patch("all", json!({"spec": {"via": ["Service", "Direct"]}})).await;
    case.origin_slices().create(&pods("books-x", "books", &["203.0.113.21".into()])).await;
    case.export("pens", "203.0.113.6").await;
    let pens = case.mirror("pens").await;
    case.export("books", "203.0.113.5").await;
    let by_service = case.mirror("books").await;
    case.lands(&[&by_service, &pens]).await;
    let bystander = case.landed_of("pens-m08").await;
    let uid = || async { case.mirrors().get("books-m08").await.unwrap()["metadata"]["uid"].clone() };
    let first = uid().await;

    case.turn("books", json!({"type": "ExternalName", "externalName": "books.example"})).await;
    case.lands(&[&pens]).await;
    let why = case.failures(&[("books", "InvalidServiceType")]).await;
    assert!(why[0].contains("ExternalName"), "{why:?}");

    case.turn("books", json!({"type": "ClusterIP", "clusterIP": "None"})).await;
    let mut headless = merged(
        &by_service,
        json!({"service": {
            "metadata": {"annotations": {"heliostat.dev/via": "Direct"}},
            // Without a selector, the API server gives a headless Service both families.
            "spec": {"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"]},
        }}),
    );
    let ports =
        json!([{"name": "grpc", "port": 9090, "protocol": "TCP"}, {"name": "http", "port": 8080, "protocol": "TCP"}]);
    headless["slices"] = json!([slice("books-m08", &json!("m08"), ports, &["203.0.113.21".into()])]);
    case.lands(&[&headless, &pens]).await;
    case.failures(&[]).await;
    let second = uid().await;
    assert_ne!(first, second);

    // Headless to ClusterIP with the mirror in place, by an origin that was made anew meanwhile.
    case.origins().delete("books").await;
    case.export("books", "203.0.113.5").await;
    case.lands(&[&case.mirror("books").await, &pens]).await;
    assert_ne!(uid().await, second, "clusterIP cannot change: made anew");
    assert_untouched(&bystander, &case.landed_of("pens-m08").await);
}

/// M11: two links with the same origin give two mirrors.
#[tokio::test]
async fn m11_two_links_two_mirrors() {
    let case = Case::new("m11").await;
    let other = case.link("m11-b", json!({})).await;
    case.policies().patch("all", json!({"spec": {"links": {"names": ["m11", "m11-b"]}}})).await;
    let books = case.export("books", "203.0.113.5").await;
    case.lands(&[&case.mirror("books").await, &mirror(&other, "m11", "all", &books)]).await;
    case.counts([2, 2, 0, 0]).await;
    case.origins().delete("books").await;
    case.lands(&[]).await;
}

/// Types, statuses and reasons of an object's conditions in their order; each has a message and is
/// of this generation.
fn conditions(object: &Value) -> Vec<(String, String, String)> {
    let generation = &object["metadata"]["generation"];
    assert_eq!(&object["status"]["observedGeneration"], generation);
    let all = object["status"]["conditions"].as_array().unwrap();
    let each = |c: &Value| {
        assert_eq!(&c["observedGeneration"], generation, "{c}");
        let kind = c["type"].as_str().unwrap().to_owned();
        let (status, reason, message) = condition(object, &kind).unwrap();
        assert!(!message.is_empty(), "{c}");
        (kind, status, reason)
    };
    all.iter().map(each).collect()
}
