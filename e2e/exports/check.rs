//! `heliostat check --link --gateway`, from a pod of the importer, against real gateways.

use serde_json::{Value, json};

use super::{Exports, START};
use crate::{
    fixture::{exported_cluster_ip, published},
    objects::wait,
    rig::{file, try_rig},
    support::{Case, merge},
};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_heliostat");

impl Exports {
    /// The gateway does what the contract says: each exported port or name answers, others do not. Nobody
    /// publishes for a moment what another binding's Services have, so the checks are made until all hold.
    pub(super) async fn keeps_the_contract(&self) {
        let name = &self.case.name;
        wait(&format!("{name}: heliostat check finds nothing wrong"), START, || async {
            let (_, checks) = checked(&self.case, &format!("{name}/client"), name).await?;
            let bad = bad(&checks);
            if bad.is_empty() { Ok(()) } else { Err(bad) }
        })
        .await;
    }
}

/// The verdict and the checks, made in a pod's network.
async fn checked(case: &Case, pod: &str, binding: &str) -> Result<(String, Vec<Value>), String> {
    let kubeconfig = file("west", "kubeconfig").display().to_string();
    let flags = ["check", "--link", &case.name, "--gateway", binding, "--path", "/hostname", "-o", "json"];
    let command = [&["west", pod, PROGRAM, "--kubeconfig", &kubeconfig][..], &flags].concat();
    // A failed check is exit code 1, and the report is printed all the same.
    let shell = ["west", pod, "bash", "-c", r#""$@"; [[ $? -le 1 ]]"#, "check"];
    let said = try_rig("pod", &[&shell[..], &command[2..]].concat()).await?;
    let report: Value = serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))?;
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    Ok((report["verdict"].as_str().unwrap_or_default().to_owned(), checks))
}

/// What was not looked at, such as UDP, is noted, and Traefik has a certificate of its own for names that it
/// does not know: neither is bad.
fn bad(checks: &[Value]) -> String {
    let is_own =
        |check: &Value| check["detail"].as_str().is_some_and(|why| why.contains("of none of the exported Services"));
    let bad = checks.iter().filter(|check| match check["verdict"].as_str() {
        Some("ok" | "note") => false,
        Some("warn") => !is_own(check),
        _ => true,
    });
    bad.map(|check| format!("{} {}: {}", check["check"], check["subject"], check["detail"]))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Somebody else's gateway: what it publishes in error is found, and named.
#[tokio::test]
async fn a_gateway_that_does_not_answer_for_what_it_publishes_fails_the_check() {
    let exports = Exports::new("checks", json!({"export": {"provider": {"envoy": {}}}})).await;
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let address = exports.address().await;
    let port = exports.outside_port("echo", "http").await.unwrap();
    let case = &exports.case;
    let books = case.origins().create(&exported_cluster_ip("books")).await;

    // By hand, as if another gateway had written it: one port is another Service's, the other nobody's.
    let mut theirs = published("books-theirs", "books", "theirs", &address);
    let owner = json!([{"apiVersion": "v1", "kind": "Service", "name": "books", "uid": books["metadata"]["uid"]}]);
    let ports =
        json!([{"name": "http", "port": port, "protocol": "TCP"}, {"name": "grpc", "port": 9, "protocol": "TCP"}]);
    merge(&mut theirs, json!({"metadata": {"ownerReferences": owner}, "ports": ports}));
    case.origin_slices().create(&theirs).await;
    let (verdict, checks) = checked(case, "checks/client", "theirs").await.unwrap();
    assert_eq!(verdict, "fail");
    let mut failed: Vec<String> = checks
        .iter()
        .filter(|check| check["verdict"] == "fail")
        .map(|check| format!("{}: {}", check["check"].as_str().unwrap(), check["subject"].as_str().unwrap()))
        .collect();
    failed.sort();
    let wanted = [
        format!("a port stands for one Service: {address} {port}/TCP"),
        format!("an exported port answers: checks/books grpc at {address}:9"),
    ];
    assert_eq!(failed, wanted, "{}", bad(&checks));

    // A gateway that nobody has.
    let (verdict, checks) = checked(case, "checks/client", "nobodys").await.unwrap();
    assert_eq!(verdict, "fail");
    assert!(bad(&checks).contains("no EndpointSlice"), "{checks:?}");
}
