//! A restart writes nothing, and one after any write makes nothing twice.

use heliostat::core::export::object::ObjectId;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::common::exporter::*;

#[test]
fn g05_a_restart_writes_nothing() {
    let mut cluster = Cluster::new(json!({}));
    cluster.export("films", &[("http", 80)]);
    cluster.start();
    cluster.told();
    let bindings = cluster.bindings.clone();
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert_eq!(cluster.bindings, bindings, "nor does the status change");
}

#[test]
fn g05_what_nobody_tells_after_a_restart_stays_as_it_is() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    for (_, object) in cluster.objects.iter_mut().filter(|(id, _)| id.kind == ROUTE) {
        object["status"] = json!({"programmed": "unknown"});
    }
    cluster.told();
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert!(cluster.is_ready("books"));
}

/// All objects, without what the API server numbers.
fn essence(cluster: &Cluster) -> Vec<(ObjectId, Value)> {
    let strip = |value: &Value| {
        let mut value = value.clone();
        for field in ["uid", "resourceVersion"] {
            value["metadata"][field] = Value::Null;
        }
        value
    };
    cluster.objects.iter().map(|(id, value)| (id.clone(), strip(value))).collect()
}

#[test]
fn l09_killed_after_any_write_it_ends_the_same_and_makes_nothing_twice() {
    let reference = {
        let mut cluster = Cluster::new(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.start();
        cluster
    };
    // Three Leases, three routes, two slices.
    assert_eq!(reference.log.len(), 8, "{:?}", reference.log);
    for budget in 0..reference.log.len() {
        let mut cluster = Cluster::new(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.budget = budget;
        cluster.start();
        cluster.budget = usize::MAX;
        cluster.start();
        assert_eq!(essence(&cluster), essence(&reference), "after {budget} writes");
        assert_eq!(cluster.log.len(), reference.log.len(), "after {budget} writes: {:?}", cluster.log);
    }
}

#[test]
fn g05_our_own_gateway_stays_as_it_is_when_its_controller_starts_again() {
    let mut cluster = Cluster::own(json!({}));
    cluster.start();
    cluster.told();
    cluster.connected = false;
    cluster.start().pass(SignedDuration::from_mins(5));
    assert_eq!(cluster.told(), Vec::<String>::new(), "no Envoy is back yet");
    cluster.connected = true;
    let back = cluster.acknowledged();
    cluster.feed(back.into_iter().collect());
    assert_eq!(cluster.told(), Vec::<String>::new());
    assert!(cluster.is_ready("books"));
}

#[test]
fn l09_killed_after_any_write_our_own_gateway_ends_the_same_and_is_made_once() {
    let cluster = |budget: usize| {
        let mut cluster = Cluster::own(json!({}));
        cluster.export("films", &[("http", 80)]);
        cluster.budget = budget;
        cluster.start();
        cluster
    };
    let created = |cluster: &Cluster| cluster.log.iter().filter(|line| line.starts_with("create")).count();
    let reference = cluster(usize::MAX);
    // Three Leases, two slices, Deployment, ConfigMap and Service.
    assert_eq!(created(&reference), 8, "{:?}", reference.log);
    for budget in 0..reference.log.len() {
        let mut cluster = cluster(budget);
        cluster.budget = usize::MAX;
        cluster.start();
        assert_eq!(essence(&cluster), essence(&reference), "after {budget} writes");
        assert_eq!(created(&cluster), 8, "after {budget} writes: {:?}", cluster.log);
    }
}
