//! Node ports of the exporter's nodes. Nodes are everybody's, so the test runs alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, exported, pods},
    objects::{Objects, same, wait},
    rig::api_server,
    support::Case,
};

/// The nodes that the test makes up: ready, with an address, and with room for no pod.
struct Nodes(Objects);

impl Nodes {
    async fn of(case: &Case) -> Self {
        let nodes = Self(Objects::at(&case.east, "/api/v1/nodes"));
        nodes.clear().await;
        nodes
    }

    async fn clear(&self) {
        for name in self.0.all().await.keys().filter(|name| name.starts_with("g02-")) {
            self.0.remove(name).await;
        }
    }

    async fn add(&self, number: u8, addresses: Value) {
        let node = json!({
            "metadata": {"name": format!("g02-{number}")},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "made up by a test"}],
            },
        });
        self.0.create(&node).await;
    }

    async fn add_internal(&self, number: u8) {
        self.add(number, json!([{"type": "InternalIP", "address": address(number)}])).await;
    }
}

fn address(number: u8) -> String {
    format!("203.0.113.{number}")
}

/// G02: node ports follow drained, added and removed nodes, and the traffic policy; at most 16
/// addresses, of which few move.
#[tokio::test]
async fn alone_g02_node_ports_follow_the_nodes() {
    let case = Case::new("g02").await;
    let nodes = Nodes::of(&case).await;
    let spec = json!({"spec": {"type": "NodePort", "allocateLoadBalancerNodePorts": null, "loadBalancerClass": null}});
    let origin = case.origins().create(&exported("books", spec)).await;
    let port = |i: usize| origin["spec"]["ports"][i]["nodePort"].as_u64().unwrap();
    let (http, grpc) = (port(0), port(1));
    let mirror = "books-g02";
    let east = api_server("east").ip().to_string();
    let leads_to = async |addresses: &[&str]| {
        let mut wanted: Vec<String> =
            addresses.iter().flat_map(|a| [format!("{a}:{http} http"), format!("{a}:{grpc} grpc")]).collect();
        wanted.sort();
        case.leads_to(mirror, &wanted.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    leads_to(&[&east]).await;
    case.failures(&[]).await;

    nodes.add_internal(1).await;
    leads_to(&[&east, "203.0.113.1"]).await;
    nodes
        .add(
            2,
            json!([{"type": "InternalIP", "address": "192.168.7.2"}, {"type": "ExternalIP", "address": "203.0.113.2"}]),
        )
        .await;
    leads_to(&[&east, "203.0.113.1", "203.0.113.2"]).await;
    nodes.0.patch("g02-1", json!({"spec": {"unschedulable": true}})).await;
    leads_to(&[&east, "203.0.113.2"]).await;
    nodes.0.patch("g02-1", json!({"spec": {"unschedulable": null}})).await;
    leads_to(&[&east, "203.0.113.1", "203.0.113.2"]).await;

    let mut slice = pods("books-pods", "books", &["10.244.0.77".to_owned()]);
    slice["endpoints"][0]["nodeName"] = json!("g02-2");
    case.origin_slices().create(&slice).await;
    case.origins().patch("books", json!({"spec": {"externalTrafficPolicy": "Local"}})).await;
    leads_to(&["203.0.113.2"]).await;
    case.origins().patch("books", json!({"spec": {"externalTrafficPolicy": "Cluster"}})).await;
    leads_to(&[&east, "203.0.113.1", "203.0.113.2"]).await;
    nodes.0.delete("g02-2").await;
    leads_to(&[&east, "203.0.113.1"]).await;

    for number in 3..=41 {
        nodes.add_internal(number).await;
    }
    let addresses = async || -> BTreeSet<String> {
        let endpoints = case.endpoints(mirror).await;
        endpoints.iter().filter_map(|e| e.strip_suffix(&format!(":{http} http")).map(str::to_owned)).collect()
    };
    // All forty are known once the choice has been the same for a while: 16 of them, by their hash.
    let chosen = wait("g02: 16 of 41 nodes", SOON, async || {
        let before = addresses().await;
        tokio::time::sleep(SOON).await;
        let after = addresses().await;
        if before == after && after.len() == 16 { Ok(after) } else { Err((before, after)) }
    })
    .await;
    assert_eq!(case.endpoints(mirror).await.len(), 32, "16 nodes, two ports");
    let gone = chosen.iter().find(|a| **a != east && **a != address(1)).unwrap();
    let number: u8 = gone.rsplit('.').next().unwrap().parse().unwrap();
    nodes.0.delete(&format!("g02-{number}")).await;
    let after = wait("g02: one node of the 16 went", SOON, async || {
        let now = addresses().await;
        if now.contains(gone) || now.len() != 16 { Err(now) } else { Ok(now) }
    })
    .await;
    assert_eq!(after.difference(&chosen).count(), 1, "one address moved");
    nodes.add_internal(200).await;
    tokio::time::sleep(SOON).await;
    let with_new = addresses().await;
    assert!(with_new.len() == 16 && with_new.difference(&after).count() <= 1, "{after:?} to {with_new:?}");

    nodes.clear().await;
    leads_to(&[&east]).await;
    wait("g02: one slice is left", SOON, async || same(case.mirror_slices().all().await.len(), &1)).await;
}
