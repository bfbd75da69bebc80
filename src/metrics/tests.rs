use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::api::ClusterLink;

fn link(name: &str, connected: &str, mirrored: u32) -> ClusterLink {
    serde_json::from_value(json!({
        "apiVersion": "heliostat.dev/v1alpha1",
        "kind": "ClusterLink",
        "metadata": {"name": name},
        "spec": {"kubeconfigSecretRef": {"name": "s"}},
        "status": {
            "conditions": [{
                "type": "Connected", "status": connected, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
            "services": {"mirrored": mirrored},
            "gateways": [
                {"binding": "public", "address": "203.0.113.9", "reachable": connected == "True"},
                {"binding": "public", "address": "203.0.113.10", "reachable": true},
                {"binding": "public", "address": "203.0.113.11"},
            ],
        },
    }))
    .unwrap()
}

fn set(name: &str, connected: &str, mirrored: u32) -> Input {
    let link = Box::new(link(name, connected, mirrored));
    Input::Local(Local::Link(Change::Set(name.to_owned(), link)))
}

/// Whether a scrape has exactly this line.
fn has(metrics: &Metrics, line: &str) -> bool {
    metrics.encode().unwrap().lines().any(|l| l == line)
}

#[test]
fn a_link_is_shown_as_its_status_says() {
    let metrics = Metrics::default();
    metrics.told(&set("east", "True", 7));
    assert!(has(&metrics, r#"heliostat_link_connected{link="east"} 1"#));
    assert!(has(&metrics, r#"heliostat_link_synced{link="east"} 0"#));
    assert!(has(&metrics, r#"heliostat_mirrors{link="east"} 7"#));
    assert!(has(&metrics, r#"heliostat_gateway_addresses{link="east"} 3"#));
    assert!(has(&metrics, r#"heliostat_gateway_addresses_unreachable{link="east"} 0"#));
    metrics.told(&set("east", "False", 7));
    assert!(has(&metrics, r#"heliostat_gateway_addresses_unreachable{link="east"} 1"#));
    assert!(has(&metrics, r#"heliostat_link_connected{link="east"} 0"#));
    assert!(has(&metrics, r#"heliostat_engine_inputs_total{kind="link"} 2"#));
}

#[test]
fn what_is_not_well_with_a_link_is_shown() {
    let metrics = Metrics::default();
    let mut object = link("east", "True", 7);
    let flags = ["stale", "identity_changed", "suspended"];
    let said =
        [("Ready", "False", "Stale"), ("Stalled", "True", "RemoteIdentityChanged"), ("Accepted", "True", "Suspended")];
    for (flag, (kind, status, reason)) in flags.iter().zip(said) {
        let conditions = &mut object.status.as_mut().unwrap().conditions;
        conditions[0].type_ = kind.into();
        conditions[0].status = status.into();
        conditions[0].reason = reason.into();
        metrics.told(&Input::Local(Local::Link(Change::Set("east".into(), Box::new(object.clone())))));
        for other in flags {
            let line = format!("heliostat_link_{other}{{link=\"east\"}} {}", i32::from(other == *flag));
            assert!(has(&metrics, &line), "{line}");
        }
    }
    assert!(has(&metrics, r#"heliostat_deletions_held{link="east"} 0"#));
    metrics.deletions_held("east", 6);
    metrics.told(&set("east", "True", 7));
    assert!(has(&metrics, r#"heliostat_deletions_held{link="east"} 6"#), "a status does not set it back");
}

#[test]
fn a_link_that_goes_takes_its_labels_with_it() {
    let metrics = Metrics::default();
    metrics.told(&set("east", "True", 7));
    metrics.told(&set("north", "True", 7));
    metrics.told(&Input::Local(Local::Link(Change::Gone("east".to_owned()))));
    let text = metrics.encode().unwrap();
    assert!(!text.contains("east") && text.contains("north"), "{text}");
    let west = BTreeMap::from([("west".to_owned(), Box::new(link("west", "True", 1)))]);
    metrics.told(&Input::Local(Local::Link(Change::All(west))));
    let text = metrics.encode().unwrap();
    assert!(!text.contains("north") && text.contains("west"), "{text}");
}

#[test]
fn writes_are_counted_by_kind_verb_and_result() {
    let metrics = Metrics::default();
    let took = Duration::from_millis(7);
    metrics.wrote("services", "create", Ok(()), took);
    metrics.wrote("services", "create", Err(WriteFailure::AlreadyExists), took);
    for line in [
        r#"heliostat_writes_total{kind="services",verb="create",result="ok"} 1"#,
        r#"heliostat_writes_total{kind="services",verb="create",result="already_exists"} 1"#,
        r#"heliostat_write_seconds_bucket{le="0.005"} 0"#,
        r#"heliostat_write_seconds_bucket{le="0.01"} 2"#,
        "heliostat_write_seconds_count 2",
    ] {
        assert!(has(&metrics, line), "{line}\n{}", metrics.encode().unwrap());
    }
}

#[test]
fn propagation_can_be_read_at_the_bounds_that_are_promised() {
    let metrics = Metrics::default();
    metrics.propagated(Duration::from_millis(20));
    metrics.propagated(Duration::from_millis(250));
    metrics.propagated(Duration::from_secs(3600));
    for line in [
        r#"heliostat_propagation_seconds_bucket{le="0.01"} 0"#,
        r#"heliostat_propagation_seconds_bucket{le="0.02"} 1"#,
        r#"heliostat_propagation_seconds_bucket{le="0.25"} 2"#,
        r#"heliostat_propagation_seconds_bucket{le="600.0"} 2"#,
        "heliostat_propagation_seconds_count 3",
    ] {
        assert!(has(&metrics, line), "{line}\n{}", metrics.encode().unwrap());
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let described = include_str!("../../docs/metrics.md");
    let metrics = Metrics::default();
    metrics.told(&set("east", "True", 7));
    metrics.wrote("services", "create", Ok(()), Duration::ZERO);
    let text = metrics.encode().unwrap();
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documented: Vec<&str> = described
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_info"))
        .collect();
    assert_eq!(families, documented);
}
