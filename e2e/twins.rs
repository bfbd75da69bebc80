//! Links that lead to the same cluster, and to this one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, link_says},
    objects::{Objects, condition, wait},
    relay::Relay,
    rig::{self, api_server},
    support::{Case, HOME},
};

/// M18: the same cluster linked twice works, with a message; a cluster linked to itself is refused.
#[tokio::test]
async fn m18_one_cluster_twice_and_a_cluster_to_itself() {
    let case = Case::new("m18").await;
    case.link("m18-b", json!({})).await;
    link_says(&case.links(), "m18-b", "Synced", "True", "InSync", Duration::from_secs(10)).await;
    case.policies().patch("all", json!({"spec": {"links": {"names": ["m18", "m18-b"]}}})).await;
    case.export("books", "203.0.113.5").await;
    case.has_services(&["books-m18", "books-m18-b"]).await;
    for mirror in ["books-m18", "books-m18-b"] {
        case.leads_to(mirror, &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    }
    for link in ["m18", "m18-b"] {
        let object = link_says(&case.links(), link, "Ready", "True", "Ready", SOON).await;
        wait(&format!("m18: {link} says that another link leads to the same cluster"), SOON, || async {
            let message = condition(&object, "Accepted").unwrap().2;
            if message.contains("leads to the same cluster") { Ok(()) } else { Err(message) }
        })
        .await;
    }
    case.failures(&[]).await;
    case.counts([2, 2, 0, 0]).await;

    // What this cluster exports must not come back to it.
    let mut own = crate::fixture::exported("own", json!({}));
    own["spec"]["type"] = json!("ClusterIP");
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        own["spec"].as_object_mut().unwrap().remove(field);
    }
    case.mirrors().create(&own).await;
    let direct = kubeconfig(&case).await;
    let relay = Relay::to(api_server("west")).await;
    let mut relayed = direct.clone();
    relayed["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", relay.address));
    relayed["clusters"][0]["cluster"]["tls-server-name"] = json!("kubernetes");
    // At its own address, and where nothing but its uid tells.
    for (link, kubeconfig) in [("m18-c", &direct), ("m18-b-c", &relayed)] {
        let secrets = Objects::secrets(&case.west, HOME);
        secrets
            .create(&json!({"metadata": {"name": format!("{link}-kubeconfig"), "labels": {"case": case.name}}, "stringData": {"kubeconfig": kubeconfig.to_string()}}))
            .await;
        case.link_object(link, json!({})).await;
        case.policies().patch("all", json!({"spec": {"links": {"names": ["m18", "m18-b", link]}}})).await;
        let promise = Duration::from_secs(5);
        let object = link_says(&case.links(), link, "Accepted", "False", "SelfLink", promise).await;
        for (kind, status) in [("Stalled", "True"), ("Ready", "False")] {
            let (says, reason, _) = condition(&object, kind).unwrap();
            assert_eq!((says.as_str(), reason.as_str()), (status, "SelfLink"), "{link}: {kind}");
        }
        let message = condition(&object, "Accepted").unwrap().2;
        assert!(message.contains(link) && message.contains("kubeconfig"), "{message}");
    }
    assert!(relay.connections() > 0);
    tokio::time::sleep(SOON).await;
    case.has_services(&["books-m18", "books-m18-b", "own"]).await;
}

/// A kubeconfig for the importer itself, with rights that would suffice.
async fn kubeconfig(case: &Case) -> Value {
    let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", case.name);
    Objects::at(&case.west, &*accounts).create(&json!({"metadata": {"name": "link"}})).await;
    let bindings = Objects::at(&case.west, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings");
    bindings.remove("e2e-m18").await;
    bindings
        .create(&json!({
            "metadata": {"name": "e2e-m18"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "link", "namespace": case.name}],
        }))
        .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token = Objects::at(&case.west, format!("{accounts}/link/token")).create(&request).await;
    let admin = std::fs::read_to_string(rig::file("west", "kubeconfig")).unwrap();
    let admin: Value = serde_saphyr::from_str(&admin).unwrap();
    let mut kubeconfig = case.kubeconfig().await;
    kubeconfig["clusters"][0]["cluster"] = json!({
        "server": admin["clusters"][0]["cluster"]["server"],
        "certificate-authority-data": admin["clusters"][0]["cluster"]["certificate-authority-data"],
    });
    kubeconfig["users"][0]["user"]["token"] = token["status"]["token"].clone();
    kubeconfig
}
