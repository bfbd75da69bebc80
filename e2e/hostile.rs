//! What a hostile exporter may try. Where a real API server would refuse to store the object, a
//! forged one tells of it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, assert_untouched, differences, exported, exported_cluster_ip, pods},
    forger::{Forger, Forgery},
    objects::{Objects, condition, same, wait},
    rig::api_server,
    support::{self, Case, HOME, merge},
};

/// A06: the API's own Service, and origins in kube-system and in the controller's namespace.
#[tokio::test]
async fn a06_the_clusters_own_services_are_not_mirrored() {
    let case = Case::bare("a06").await;
    support::namespace(&case.west, "a06").await;
    let theirs = ["default", "kube-system", HOME];
    let namespaces = Objects::at(&case.east, "/api/v1/namespaces");
    if namespaces.get(HOME).await.is_none() {
        support::namespace(&case.east, HOME).await;
    }
    let in_home = Objects::services(&case.east, HOME);
    in_home.remove("metrics").await;
    in_home.create(&exported_cluster_ip("metrics")).await;
    let bindings = Objects::at(&case.east, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings");
    bindings.remove("e2e-a06").await;
    bindings
        .create(&json!({
            "metadata": {"name": "e2e-a06"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "link", "namespace": "a06"}],
        }))
        .await;
    let everything = async || {
        let mut all = std::collections::BTreeMap::new();
        for namespace in ["a06", "default", "kube-system", HOME] {
            for objects in [Objects::services(&case.west, namespace), Objects::slices(&case.west, namespace)] {
                let of_namespace =
                    |(name, object): (String, Value)| (format!("{namespace}/{name} {}", object["kind"]), object);
                all.extend(objects.all().await.into_iter().map(of_namespace));
            }
        }
        all
    };
    let before = everything().await;
    case.link("a06", json!({"services": {"matchAll": true, "namespaces": theirs}})).await;
    let spec = json!({"services": {"namespaces": theirs}});
    case.policy_in(HOME, "a06", spec).await;
    let policies = Objects::policies(&case.west, HOME);
    let reasons = |policy: &Value| -> BTreeSet<(String, String)> {
        let failures = policy["status"]["failures"].as_array().cloned().unwrap_or_default();
        let text = |f: &Value, field: &str| f[field].as_str().unwrap_or_default().to_owned();
        failures.iter().map(|f| (format!("{}/{}", text(f, "namespace"), text(f, "name")), text(f, "reason"))).collect()
    };
    // All that is there, of which the exporter's gateways come and go beside this test.
    let all_of_theirs = async || {
        let mut all = BTreeSet::new();
        for namespace in theirs {
            for (name, service) in Objects::services(&case.east, namespace).all().await {
                let labels = &service["metadata"]["labels"];
                let reason = match &labels["app.kubernetes.io/managed-by"] {
                    by if *by == "heliostat" => "InvalidServiceType",
                    _ => "NamespaceNotAllowed",
                };
                if labels["heliostat.dev/probe"].is_null() {
                    all.insert((format!("{namespace}/{name}"), reason.to_owned()));
                }
            }
        }
        all
    };
    wait("a06: all are refused, and counted", Duration::from_secs(5), || async {
        let wanted = all_of_theirs().await;
        let policy = policies.get("a06").await.unwrap();
        let counts = json!({"matched": wanted.len(), "mirrored": 0, "skipped": wanted.len(), "conflicted": 0});
        same((reasons(&policy), policy["status"]["services"].clone()), &(wanted, counts))
    })
    .await;
    let refused = reasons(&policies.get("a06").await.unwrap());
    for origin in ["default/kubernetes", "heliostat-system/metrics", "kube-system/kube-dns"] {
        assert!(refused.contains(&(origin.to_owned(), "NamespaceNotAllowed".to_owned())), "{refused:?}");
    }
    assert_eq!(differences(&before, &everything().await), Vec::<String>::new());

    // Into an allowed namespace the API's own Service does not go either.
    policies
        .patch("a06", json!({"spec": {"services": {"namespaces": ["default"]}, "mirror": {"namespace": "a06"}}}))
        .await;
    let wanted = [("default/kubernetes".to_owned(), "NamespaceNotAllowed".to_owned())].into();
    wait("a06: default/kubernetes is refused everywhere", SOON, || async {
        let policy = policies.get("a06").await.unwrap();
        let now = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        if now { same(reasons(&policy), &wanted) } else { Err(BTreeSet::new()) }
    })
    .await;
    assert_eq!(differences(&before, &everything().await), Vec::<String>::new());
    policies.delete("a06").await;
    in_home.delete("metrics").await;
}

/// A07: an origin cannot take or remove a user's Service, and slices count only for the Service
/// that their label names.
#[tokio::test]
async fn a07_a_users_service_and_other_origins_slices_are_out_of_reach() {
    let case = Case::new("a07").await;
    // The names of users' own Services, by the name of the origin and by a template.
    for name in ["books-a07", "pens"] {
        let theirs = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
        case.mirrors().create(&theirs).await;
        let slice = json!({
            "metadata": {"name": format!("{name}-own"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.9.9.9"]}],
        });
        case.mirror_slices().create(&slice).await;
    }
    // Kubernetes adds slices of its own to Services with a selector.
    wait("a07: the users' Services are complete", SOON, || async { same(case.mirror_slices().all().await.len(), &4) })
        .await;
    let before = case.landed().await;
    case.export("books", "203.0.113.5").await;
    let messages = case.failures(&[("books", "NameConflict")]).await;
    assert!(messages[0].contains("a07/books-a07") && messages[0].contains("is not Heliostat's"), "{messages:?}");
    assert_untouched(&before, &case.landed().await);
    case.origins().delete("books").await;
    case.failures(&[]).await;
    case.export("pens", "203.0.113.6").await;
    case.policies().patch("all", json!({"spec": {"mirror": {"name": "{service}"}}})).await;
    case.failures(&[("pens", "NameConflict")]).await;
    case.origins().delete("pens").await;
    case.failures(&[]).await;
    let mut untouched = case.landed().await;
    untouched.retain(|key, _| !key.contains("pens-a07"));
    assert_untouched(&before, &untouched);

    // Slices under another Service's name: each counts for the Service that it names, and for no other.
    case.policies().patch("all", json!({"spec": {"via": ["Direct"], "mirror": null}})).await;
    for name in ["one", "two"] {
        case.origins().create(&exported_cluster_ip(name)).await;
    }
    case.origin_slices().create(&pods("one-a", "one", &["198.18.0.1".into()])).await;
    case.origin_slices().create(&pods("two-a", "two", &["198.18.0.2".into()])).await;
    case.origin_slices().create(&pods("one-b", "two", &["198.18.0.3".into()])).await;
    // And under the names of mirrors and of users' Services over here.
    for (i, name) in ["one-a07", "books-a07", "pens"].iter().enumerate() {
        case.origin_slices().create(&pods(&format!("forged-{i}"), name, &["198.18.0.66".into()])).await;
    }
    case.leads_to("one-a07", &["198.18.0.1:8080 http", "198.18.0.1:9090 grpc"]).await;
    let two = ["198.18.0.2:8080 http", "198.18.0.2:9090 grpc", "198.18.0.3:8080 http", "198.18.0.3:9090 grpc"];
    case.leads_to("two-a07", &two).await;
    let mut untouched = case.landed().await;
    untouched.retain(|_, object| {
        let of_mirror = |o: &Value| {
            o["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default().ends_with("-a07")
        };
        object["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "heliostat"
            && object["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] != "heliostat.dev"
            || of_mirror(object) && object["metadata"]["labels"]["kubernetes.io/service-name"] == "books-a07"
    });
    assert_untouched(&before, &untouched);
}

/// A09: fields and labels that would have a meaning here are not taken over.
#[tokio::test]
async fn a09_forged_labels_and_fields_stay_where_they_are() {
    let leftovers = support::client("east").await;
    for objects in [Objects::services(&leftovers, "a09"), Objects::slices(&leftovers, "a09")] {
        for name in objects.all().await.keys() {
            objects.patch(name, json!({"metadata": {"finalizers": null}})).await;
        }
    }
    let case = Case::new("a09").await;
    case.policies().patch("all", json!({"spec": {"via": ["Service", "Direct"], "mirror": {"labels": ["kubernetes.io/service-name", "app.kubernetes.io/managed-by", "heliostat.dev/*"], "annotations": ["heliostat.dev/*"]}}})).await;
    let mut books = exported(
        "books",
        json!({"metadata": {
            "labels": {
                "kubernetes.io/service-name": "victim",
                "heliostat.dev/link": "other",
                "heliostat.dev/policy": "other",
                "service.kubernetes.io/service-proxy-name": "nobody",
            },
            "annotations": {"heliostat.dev/link-uid": "forged", "heliostat.dev/origin": "kube-system/kube-dns"},
            "finalizers": ["example.com/never"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000000", "blockOwnerDeletion": true}],
        }}),
    );
    merge(
        &mut books,
        json!({"spec": {
            "selector": {"app": "victim"},
            "externalIPs": ["203.0.113.77"],
            "externalTrafficPolicy": "Local",
            "loadBalancerIP": "203.0.113.78",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "allocateLoadBalancerNodePorts": true,
            "sessionAffinity": "ClientIP",
            "publishNotReadyAddresses": true,
            "internalTrafficPolicy": "Local",
        }}),
    );
    // Its owner does not exist: the garbage collector would take it at once.
    books["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    case.origins().create(&books).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    case.origins().create(&exported_cluster_ip("direct")).await;
    let mut slice = pods("direct-a", "direct", &["198.18.0.1".into()]);
    merge(
        &mut slice,
        json!({"metadata": {
            "labels": {"app": "victim", "heliostat.dev/link": "other"},
            "annotations": {"example.com/forged": "yes"},
            "finalizers": ["example.com/never"],
        }}),
    );
    slice["endpoints"][0]["targetRef"] =
        json!({"kind": "Pod", "namespace": "kube-system", "name": "victim", "uid": "u"});
    slice["endpoints"][0]["nodeName"] = json!("west");
    slice["endpoints"][0]["zone"] = json!("zone");
    slice["endpoints"][0]["hints"] = json!({"forZones": [{"name": "zone"}]});
    slice["endpoints"][0]["hostname"] = json!("victim");
    case.origin_slices().create(&slice).await;
    case.leads_to("books-a09", &["203.0.113.5:80 http not ready", "203.0.113.5:9090 grpc not ready"]).await;
    case.leads_to("direct-a09", &["198.18.0.1:8080 http", "198.18.0.1:9090 grpc"]).await;

    let link = case.links().get("a09").await.unwrap();
    for (origin, via) in [("books", "Service"), ("direct", "Direct")] {
        let mirror = case.mirrored(origin);
        let service = case.mirrors().get(&mirror).await.unwrap();
        let uid = case.origins().get(origin).await.unwrap()["metadata"]["uid"].clone();
        let meta = &service["metadata"];
        assert_eq!(
            meta["labels"],
            json!({
                "app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/link": "a09",
                "heliostat.dev/policy": "all", "heliostat.dev/policy-namespace": "a09",
            })
        );
        assert_eq!(
            meta["annotations"],
            json!({
                "heliostat.dev/link-uid": link["metadata"]["uid"], "heliostat.dev/origin": format!("a09/{origin}"),
                "heliostat.dev/origin-uid": uid, "heliostat.dev/via": via,
            })
        );
        assert_eq!(meta["finalizers"], Value::Null);
        assert_eq!(
            meta["ownerReferences"],
            json!([{"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "name": "a09", "uid": link["metadata"]["uid"]}])
        );
        let ip = &service["spec"]["clusterIP"];
        assert_eq!(
            service["spec"],
            json!({
                "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "PreferDualStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80},
                    {"name": "grpc", "port": 9090, "protocol": "TCP", "targetPort": 9090},
                ],
            })
        );
        let slices: Vec<Value> = case.mirror_slices().all().await.into_values().collect();
        let of_mirror = |s: &&Value| s["metadata"]["labels"]["kubernetes.io/service-name"] == mirror.as_str();
        let slice = slices.iter().find(of_mirror).unwrap();
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"kubernetes.io/service-name": mirror, "endpointslice.kubernetes.io/managed-by": "heliostat.dev"})
        );
        assert_eq!(slice["metadata"]["annotations"], Value::Null);
        assert_eq!(slice["metadata"]["finalizers"], Value::Null);
        assert_eq!(
            slice["metadata"]["ownerReferences"],
            json!([{"apiVersion": "v1", "kind": "Service", "name": mirror, "uid": meta["uid"]}])
        );
        let (address, ready) = if origin == "books" { ("203.0.113.5", false) } else { ("198.18.0.1", true) };
        assert_eq!(
            slice["endpoints"],
            json!([{"addresses": [address], "conditions": {"ready": ready, "serving": ready, "terminating": false}}])
        );
    }
    assert_eq!(case.landed().await.len(), 4);
    for (objects, name) in [(case.origins(), "books"), (case.origin_slices(), "direct-a")] {
        objects.patch(name, json!({"metadata": {"finalizers": null}})).await;
    }
}

/// A10: keys with an effect here are never copied, whatever the allow-list says.
#[tokio::test]
async fn a10_keys_with_an_effect_are_never_copied() {
    let case = Case::new("a10").await;
    let harmful = [
        "argocd.argoproj.io/instance",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "kustomize.toolkit.fluxcd.io/name",
        "fluxcd.io/sync-checksum",
        "helm.sh/chart",
        "meta.helm.sh/release-name",
        "service.kubernetes.io/topology-mode",
        "external-dns.alpha.kubernetes.io/hostname",
        "service.beta.kubernetes.io/aws-load-balancer-type",
        "metallb.universe.tf/address-pool",
        "metallb.io/address-pool",
        "heliostat.dev/link",
        "mirror.linkerd.io/exported",
        "multicluster.linkerd.io/cluster-name",
        "service.cilium.io/global",
        "prometheus.io/scrape",
    ];
    let harmless = ["team", "example.com/tier"];
    let keys: Vec<&str> = harmful.iter().chain(&harmless).copied().collect();
    let groups: BTreeSet<String> =
        keys.iter().filter_map(|key| key.split_once('/')).map(|(group, _)| format!("{group}/*")).collect();
    // What nobody has a list for, like a scrape annotation, comes only when it is asked for by name.
    let asked = |key: &&&str| **key != "prometheus.io/scrape";
    let names = keys.iter().filter(asked).map(|key| (*key).to_owned());
    let allow: Vec<String> = names.chain(groups.into_iter().filter(|g| g != "prometheus.io/*")).collect();
    case.policies().patch("all", json!({"spec": {"mirror": {"labels": allow, "annotations": allow}}})).await;
    let values: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), json!("x"))).collect();
    let change = json!({"metadata": {"labels": values, "annotations": values}});
    case.origins().create(&exported("books", change)).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    case.leads_to("books-a10", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    let service = case.mirrors().get("books-a10").await.unwrap();
    let (labels, annotations) = (&service["metadata"]["labels"], &service["metadata"]["annotations"]);
    let link = case.links().get("a10").await.unwrap()["metadata"]["uid"].clone();
    let origin = case.origins().get("books").await.unwrap()["metadata"]["uid"].clone();
    assert_eq!(
        *labels,
        json!({
            "app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/link": "a10", "heliostat.dev/policy": "all",
            "heliostat.dev/policy-namespace": "a10", "team": "x", "example.com/tier": "x",
        })
    );
    assert_eq!(
        *annotations,
        json!({
            "heliostat.dev/link-uid": link, "heliostat.dev/origin": "a10/books", "heliostat.dev/origin-uid": origin,
            "heliostat.dev/via": "Service", "heliostat.dev/copied-labels": "example.com/tier,team",
            "heliostat.dev/copied-annotations": "example.com/tier,team", "team": "x", "example.com/tier": "x",
        })
    );
    let slices = case.mirror_slices().all().await;
    let slice = slices.values().next().unwrap();
    assert_eq!(
        (slices.len(), &slice["metadata"]["labels"], &slice["metadata"]["annotations"]),
        (
            1,
            &json!({"kubernetes.io/service-name": "books-a10", "endpointslice.kubernetes.io/managed-by": "heliostat.dev"}),
            &Value::Null
        )
    );
    case.failures(&[]).await;
}

/// A12: illegal ports, names, types and bytes: each such object is skipped with a reason, the others
/// are mirrored.
#[tokio::test]
async fn a12_objects_that_no_kubernetes_would_store() {
    let case = Case::new("a12").await;
    let with_ports = |name: &str, ports: Value| service(name, json!({"type": "LoadBalancer", "ports": ports}));
    let many: Vec<Value> = (1..=10_000).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    let odd = [
        with_ports("zero", json!([{"name": "http", "port": 0}])),
        with_ports("above", json!([{"name": "http", "port": 65536}])),
        with_ports("negative", json!([{"name": "http", "port": -1}])),
        with_ports("fraction", json!([{"name": "http", "port": 80.5}])),
        with_ports("text", json!([{"name": "http", "port": "80"}])),
        with_ports("many", json!(many)),
        with_ports("twice", json!([{"name": "http", "port": 80}, {"name": "http", "port": 81}])),
        with_ports("same", json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}])),
        with_ports("illegal", json!([{"name": "HTTP_\u{1b}[31m", "port": 80}])),
        with_ports("unnamed", json!([{"port": 80}, {"port": 81}])),
        with_ports("protocol", json!([{"name": "http", "port": 80, "protocol": "QUIC"}])),
        with_ports("null", json!([null])),
        with_ports("object", json!({"name": "http", "port": 80})),
        service("type", json!({"type": "Telepathy", "ports": [{"name": "http", "port": 80}]})),
    ];
    let names: BTreeSet<String> = odd.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let good = with_ports("books", json!([{"name": "http", "port": 80}, {"name": "grpc", "port": 9090}]));
    let mut services: Vec<String> = odd.iter().chain([&good]).map(Value::to_string).collect();
    // Duplicate keys, which no JSON value can hold.
    let pens = with_ports("pens", json!([{"name": "http", "port": 80}])).to_string();
    services.push(pens.replacen("\"port\":80", "\"port\":80,\"port\":81", 1));
    // Not objects at all, and objects without a name.
    services.extend(["null", "7", "\"text\"", "[]", "{}", r#"{"metadata":{"name":7}}"#].map(str::to_owned));
    let slices = [
        slice("ports", json!([{"name": "http", "port": 70_000}]), json!([{"addresses": ["198.18.0.1"]}])),
        slice("endpoints", json!([{"name": "http", "port": 80}]), json!({"addresses": "198.18.0.1"})),
        slice("addresses", json!(null), json!([{"addresses": [7, null, "0x7f000001"]}, null, 7])),
    ];
    let slices = slices.iter().map(Value::to_string).collect();
    let forgery = Forgery { services, slices, ..Forgery::default() };
    let forger = Forger::start(api_server("east"), "a12a12a1-2a12-4a12-8a12-a12a12a12a12", forgery).await;
    case.set_kubeconfig(&forger.kubeconfig).await;
    case.links().delete("a12").await;
    case.link_object("a12", json!({})).await;
    case.link_says("Synced", "True", "InSync", Duration::from_secs(10)).await;
    // One of its slices has an endpoint that says nothing of its readiness, which means ready.
    case.leads_to("books-a12", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;

    wait("a12: each is skipped with a reason", SOON, || async {
        let policy = case.policies().get("all").await.unwrap();
        let failures = policy["status"]["failures"].as_array().cloned().unwrap_or_default();
        let told: BTreeSet<String> = failures.iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect();
        let missing: Vec<_> = names.difference(&told).cloned().collect();
        let reasonless: Vec<_> =
            failures.iter().filter(|f| f["message"].as_str().unwrap_or_default().is_empty()).cloned().collect();
        if missing.is_empty() && reasonless.is_empty() { Ok(()) } else { Err((missing, reasonless)) }
    })
    .await;
    let policy = case.policies().get("all").await.unwrap();
    for failure in policy["status"]["failures"].as_array().unwrap() {
        let message = failure["message"].as_str().unwrap();
        assert!(!message.chars().any(char::is_control) && message.len() <= 1024, "{message:?}");
        if names.contains(failure["name"].as_str().unwrap()) {
            // What is no list is like no list.
            let reason = if failure["name"] == "object" { "PortUnsupported" } else { "UnsupportedValue" };
            assert_eq!(failure["reason"], reason, "{failure}");
        }
    }
    let services: BTreeSet<String> = case.mirrors().all().await.into_keys().collect();
    let allowed: BTreeSet<String> = ["books-a12", "pens-a12"].map(str::to_owned).into();
    assert!(services.contains("books-a12") && services.is_subset(&allowed), "{services:?}");
    let link = case.links().get("a12").await.unwrap();
    assert_eq!(condition(&link, "Ready").unwrap().0, "True", "one bad object does not fail the link");
}

/// A forged Service in the case's namespace, served by a load balancer.
fn service(name: &str, spec: Value) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "a12", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "labels": {"heliostat.dev/export": "true"},
        },
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
    })
}

/// A forged slice of `books`.
fn slice(name: &str, ports: Value, endpoints: Value) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": "a12", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "labels": {"heliostat.dev/export": "true", "kubernetes.io/service-name": "books"},
        },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}
