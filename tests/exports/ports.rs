//! Claims of ports: who gets one, and when it is free again.

use std::collections::BTreeSet;

use heliostat::core::export::object::LEASE;
use jiff::SignedDuration;
use serde_json::json;

use crate::common::{binding, exporter::*, key};

#[test]
fn g06_the_range_is_full_for_the_newcomer_only() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20001, "lease": "1h"}}));
    cluster.start();
    let before = cluster.outside_ports("books");
    cluster.export("films", &[("http", 80)]);
    cluster.settle();
    assert_eq!(cluster.outside_ports("books"), before);
    assert!(cluster.published("films").is_none());
    let status = cluster.bindings["public"].status.clone().unwrap();
    let failure = &status.failures[0];
    assert_eq!((failure.name.as_str(), failure.reason.as_str()), ("films", "PortsExhausted"));
    assert_eq!(cluster.condition("public", "Ready").0, "True");
    assert_eq!(cluster.condition("public", "Programmed").1, "PortsExhausted");
}

#[test]
fn g07_a_released_port_waits_for_twice_the_lease_then_its_claim_goes() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20001, "lease": "1h"}}));
    cluster.start();
    cluster.services.clear();
    cluster.settle();
    cluster.export("films", &[("http", 80)]);
    cluster.settle().pass(SignedDuration::from_mins(119));
    assert!(cluster.published("films").is_none(), "within twice the lease");
    cluster.pass(SignedDuration::from_mins(2)).pass(SignedDuration::from_secs(1));
    assert!(cluster.is_ready("films"));
}

#[test]
fn g13_two_bindings_over_one_gateway_never_give_a_port_twice() {
    let mut cluster = Cluster::new(json!({"ports": {"from": 20000, "to": 20003, "lease": "1h"}}));
    let other =
        spec(json!({"ports": {"from": 20000, "to": 20003, "lease": "1h"}, "services": {"namespaces": ["cinema"]}}));
    cluster.bindings.insert("other".into(), binding("other", other));
    cluster.services.insert(key("cinema/films"), service("films", &[("http", 80), ("grpc", 9090)]));
    cluster.slices.insert(key("cinema/films-abc"), pods("films", &["10.244.0.8"]));
    cluster.bindings.get_mut("public").unwrap().spec.export.as_mut().unwrap().services.namespaces = vec!["shop".into()];
    cluster.start();
    let all: Vec<u64> = ["books", "films"].iter().flat_map(|s| cluster.outside_ports(s).into_values()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4, "{all:?}");
}

#[test]
fn g14_lost_leases_are_claimed_again_and_nothing_moves() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let slice = cluster.published("books").unwrap().clone();
    cluster.objects.retain(|id, _| id.kind != LEASE);
    cluster.told();
    cluster.start();
    assert_eq!(cluster.published("books"), Some(&slice));
    assert_eq!(cluster.of(LEASE).len(), 2);
    assert!(cluster.told().iter().all(|line| line.starts_with("create heliostat-system/port-")));
}
