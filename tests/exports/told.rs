//! What a binding's status says, and when nothing can be said yet.

use heliostat::core::{
    export::object::{KindNews, LEASE, ObjectId},
    io::{ExportNews, Input},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::common::{binding, exporter::*, key};

fn says(cluster: &Cluster, kind: &str) -> (String, String) {
    let (status, reason, _) = cluster.condition("public", kind);
    (status, reason)
}

fn reconciling(cluster: &Cluster) -> Option<String> {
    let status = cluster.bindings["public"].status.as_ref().unwrap();
    status.conditions.iter().find(|c| c.type_ == "Reconciling").map(|c| c.message.clone())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_binding_is_reconciling_as_long_as_its_gateway_is_waited_for_within_reason() {
    let mut cluster = Cluster::new(json!({}));
    cluster.prompt = false;
    cluster.start();
    let message = reconciling(&cluster).unwrap();
    assert!(message.starts_with("2 routes are waited for"), "{message}");
    cluster.pass(SignedDuration::from_secs(61));
    assert_eq!(reconciling(&cluster), None, "it is said to be not ready instead");
    cluster.prompt = true;
    let routes: Vec<_> = cluster.objects.iter_mut().filter(|(id, _)| id.kind == ROUTE).collect();
    routes.into_iter().for_each(|(_, route)| route["status"]["programmed"] = json!(true));
    cluster.settle();
    assert_eq!((reconciling(&cluster), says(&cluster, "Ready")), (None, is("True", "Ready")));
}

#[test]
fn a_binding_is_not_ready_for_the_reason_that_stops_it() {
    let mut cluster = Cluster::new(json!({}));
    cluster.gateway(&["203.0.113.7"]);
    cluster.start();
    assert_eq!(says(&cluster, "Ready"), is("False", "PublicPlaintext"));
    let mut cluster = Cluster::new(json!({}));
    let gateway = ObjectId { kind: GATEWAY, key: key("edge/main") };
    cluster.objects.remove(&gateway);
    cluster.start();
    assert_eq!(says(&cluster, "Ready"), is("False", "RefNotFound"));
    cluster.gateway(&[]);
    cluster.settle();
    assert_eq!(says(&cluster, "Ready"), is("False", "Pending"), "no address");
    cluster.services.clear();
    cluster.settle();
    assert_eq!(says(&cluster, "Ready"), is("True", "Ready"), "nor is any needed");
}

#[test]
fn a_gateway_that_is_not_well_is_told_and_keeps_what_it_carries() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let gateway = ObjectId { kind: GATEWAY, key: key("edge/main") };
    let set = |cluster: &mut Cluster, fields: Value| {
        let mut object = json!({"metadata": {"name": "main", "namespace": "edge"}, "addresses": ["10.9.9.9"]});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        cluster.put(gateway.clone(), object);
        cluster.settle();
    };
    set(&mut cluster, json!({"unwell": "its pods are being replaced"}));
    let (status, reason, message) = cluster.condition("public", "Programmed");
    assert_eq!((status, reason, message), ("False".into(), "Pending".into(), "its pods are being replaced".into()));
    assert_eq!(says(&cluster, "Ready"), is("True", "Ready"), "what is published is still carried");
    assert!(cluster.is_ready("books"));
    set(&mut cluster, json!({"unwell": "it has no load balancer", "addresses": []}));
    assert_eq!(cluster.condition("public", "Ready").2, "it has no load balancer");
    set(&mut cluster, json!({}));
    assert_eq!(["Programmed", "Ready"].map(|kind| says(&cluster, kind).0), ["True", "True"]);
}

/// A restart says nothing before it knows, and what a spec that nobody has judged says is not known.
#[test]
fn while_the_gateway_is_being_read_what_was_told_stands() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let told = cluster.bindings["public"].status.clone().unwrap();
    assert!(told.services.is_some() && !told.addresses.is_empty());
    let restart = |cluster: &mut Cluster| {
        cluster.told();
        cluster.now += SignedDuration::from_hours(9);
        cluster.start_without(GATEWAY);
        assert_eq!(cluster.told(), Vec::<String>::new(), "nothing is written, no port is let go");
        cluster.bindings["public"].status.clone().unwrap()
    };
    assert_eq!(restart(&mut cluster), told);
    cluster.bindings.get_mut("public").unwrap().metadata.generation = Some(2);
    let now = restart(&mut cluster);
    assert_eq!((now.observed_generation, &now.services, &now.addresses), (Some(2), &told.services, &told.addresses));
    assert_eq!(says(&cluster, "ResolvedRefs"), is("Unknown", "Pending"));
    cluster.settle();
    assert_eq!(says(&cluster, "ResolvedRefs"), is("True", "Resolved"));
    assert!(cluster.is_ready("books"));
}

/// Rights that were taken while no controller ran do not come back by themselves.
#[test]
fn a_gateway_that_cannot_be_read_after_a_restart_is_told_and_keeps_what_it_carries() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let told = cluster.bindings["public"].status.clone().unwrap();
    cluster.told();
    cluster.start_without(GATEWAY);
    let forbidden = KindNews::Failed("403 gateways is forbidden".into());
    cluster.feed(vec![Input::Export(ExportNews::Objects(GATEWAY, forbidden))]);
    cluster.pass(SignedDuration::from_hours(9));
    assert_eq!(cluster.told(), Vec::<String>::new(), "nothing is written, no port is let go");
    let (status, _, message) = cluster.condition("public", "ResolvedRefs");
    assert_eq!(status, "Unknown");
    assert!(message.ends_with("cannot be read: 403 gateways is forbidden"), "{message}");
    assert_eq!(says(&cluster, "Ready"), is("False", "Pending"));
    let now = cluster.bindings["public"].status.clone().unwrap();
    assert_eq!((now.services, now.addresses), (told.services, told.addresses.clone()));
    cluster.settle();
    let now = cluster.bindings["public"].status.clone().unwrap();
    assert_eq!((says(&cluster, "Ready"), now.services), (is("True", "Ready"), told.services));
    assert!(cluster.is_ready("books"));
}

#[test]
fn what_the_api_server_refuses_to_make_is_a_failure_of_its_service_until_it_is_made() {
    for kind in [LEASE, ROUTE] {
        let mut cluster = Cluster::new(json!({}));
        cluster.forbidden = Some(kind);
        cluster.start();
        let status = cluster.bindings["public"].status.clone().unwrap();
        let failures: Vec<_> = status.failures.iter().map(|f| (f.name.as_str(), f.reason.as_str())).collect();
        let told = |(name, reason): &(&str, &str)| name.starts_with("books") && *reason == "Forbidden";
        assert!(!failures.is_empty() && failures.iter().all(told), "{kind}: {failures:?}");
        cluster.forbidden = None;
        cluster.pass(SignedDuration::from_mins(5));
        assert!(cluster.is_ready("books"), "{kind}");
        assert_eq!(cluster.bindings["public"].status.as_ref().unwrap().failures.len(), 0, "{kind}");
    }
}

#[test]
fn a_spec_that_cannot_be_understood_stalls_and_takes_nothing_back() {
    let mut cluster = Cluster::new(json!({}));
    cluster.start();
    let before = cluster.outside_ports("books");
    let mut odd = binding("public", spec(json!({"ports": {"from": 20000, "to": 20099, "lease": "soon"}})));
    odd.metadata.generation = Some(2);
    odd.status = cluster.bindings["public"].status.clone();
    cluster.bindings.insert("public".into(), odd);
    cluster.told();
    cluster.settle().pass(SignedDuration::from_hours(9));
    assert_eq!((cluster.told(), cluster.outside_ports("books")), (vec![], before));
    assert_eq!(says(&cluster, "Stalled"), is("True", "InvalidSpec"));
    assert_eq!(says(&cluster, "Ready"), is("False", "InvalidSpec"));
    assert_eq!(cluster.bindings["public"].status.as_ref().unwrap().observed_generation, Some(2));
}
