//! The schemas of the three kinds, held to a real API server: what it must accept, what it must
//! refuse and with which words (`crd_rules.yaml`), what it fills in, and what it prints.
//!
//! All by dry run, but for objects that a change needs something to start from: these are named
//! `crd-rules-*`, suspended where their kind can be, refer to nothing, and are removed at the end. So a
//! controller may run in the same cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{collections::BTreeSet, time::Duration};

use heliostat::api::{
    self, ClusterLink, GatewayBinding, MAX_LISTED, MirrorPolicy,
    binding::{BindingFailure, BindingServiceCounts, GatewayAddress, GatewayBindingStatus, PortCounts},
    link::{ClusterLinkSpec, ClusterLinkStatus, GatewayStatus, LinkServiceCounts},
    policy::{MirrorPolicyStatus, PolicyFailure, PolicyServiceCounts},
};
use http::{
    Request,
    header::{ACCEPT, CONTENT_TYPE},
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, CustomResourceExt,
    api::PostParams,
    core::Status,
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Objects of one kind that differ little.
#[derive(Deserialize)]
struct Group {
    kind: String,
    base: Value,
    good: Vec<Value>,
    bad: Vec<Bad>,
}

/// What must be refused; `crd_rules.yaml` explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    #[serde(default, rename = "in")]
    paths: Vec<String>,
    with: Value,
    #[serde(default)]
    at: String,
    words: String,
}

/// A place in a kind's schema, and a message that is given there.
type Rule = (String, String, String);

/// Every good object is accepted and nothing of it pruned; every bad one is refused for the one
/// reason that it was made for; and there is a bad one for every rule of the CRDs.
pub(crate) async fn each_rule_accepts_and_refuses(client: Client) {
    install(&client).await;
    let groups: Vec<Group> = serde_saphyr::from_str(include_str!("crd_rules.yaml")).unwrap();
    let mut refused = BTreeSet::new();
    let mut wrong = Vec::new();
    for group in &groups {
        for good in &group.good {
            let object = merged(&group.base, good);
            match create(&client, &group.kind, &object).await {
                Err(status) => wrong.push(format!("{} refused: {}\n  {object}", group.kind, status.message)),
                Ok(stored) if !holds(&stored, &object) => wrong.push(format!("pruned: {object}\n  to {stored}")),
                Ok(_) => {}
            }
        }
        for bad in &group.bad {
            for path in paths(bad) {
                let object = merged(&group.base, &nested(&path, &bad.with));
                let field = format!("{path}{}", bad.at);
                match create(&client, &group.kind, &object).await {
                    Ok(_) => wrong.push(format!("{} accepted, though {field} {}: {object}", group.kind, bad.words)),
                    Err(status) => match causes(&status).as_slice() {
                        [(at, message)] if *at == field && message.contains(&bad.words) => {
                            refused.insert((group.kind.clone(), at.clone(), message.clone()));
                        }
                        others => wrong.push(format!("not as foreseen ({field}: {}): {others:?}", bad.words)),
                    },
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
    let untested: Vec<Rule> = rules().into_iter().filter(|rule| !tested(rule, &refused)).collect();
    // The one rule about changes has a test of its own.
    let change = untested.iter().filter(|(_, _, message)| message.starts_with("a binding can't change")).count();
    assert_eq!(untested.len(), change, "rules without a bad object in crd_rules.yaml: {untested:#?}");
}

/// A binding stays what it is, export or import; all else of it may change.
pub(crate) async fn a_binding_does_not_change_sides(client: Client) {
    install(&client).await;
    let spec = json!({"routing": "SNI", "import": import()});
    let export = json!({"services": {"namespaces": ["*"]}, "provider": {"envoy": {}}, "clusterName": "west"});
    let to_export = json!({"spec": {"import": null, "export": export}});
    let within = json!({"spec": {"routing": "Host", "import": {"addresses": [{"value": "192.0.2.1"}]}}});
    let one = begin(&client, "GatewayBinding", "crd-rules-sides", spec).await;
    let refused = request(&client, "PATCH", &format!("{one}?dryRun=All"), &to_export).await;
    let accepted = request(&client, "PATCH", &format!("{one}?dryRun=All"), &within).await;
    request(&client, "DELETE", &one, &Value::Null).await.unwrap();
    let causes = causes(&refused.unwrap_err());
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert!(causes[0].1.contains("can't change between export and import: delete it and create another"), "{causes:?}");
    assert_eq!(accepted.unwrap()["spec"]["import"]["addresses"], json!([{"value": "192.0.2.1"}]));
}

/// A new object says that no generation of it was observed yet; `null` means the default; and
/// what is filled in is what the program itself takes for absent.
pub(crate) async fn a_new_object_has_defaults_and_an_unobserved_status(client: Client) {
    install(&client).await;
    let spec = json!({"kubeconfigSecretRef": {"name": "crd-rules"}});
    let mut nulled = spec.clone();
    nulled["onLoss"] = json!({"action": null});
    let created = create(&client, "ClusterLink", &json!({"metadata": {"name": "crd-rules"}, "spec": nulled})).await;
    let created = created.unwrap();
    assert_eq!(created["status"], json!({"observedGeneration": -1}));
    let defaults: ClusterLinkSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(created["spec"], serde_json::to_value(defaults).unwrap());
}

/// The fullest status that the program may write is taken whole, and the columns show it.
pub(crate) async fn a_full_status_is_kept_and_shown(client: Client) {
    install(&client).await;
    let link = json!({"kubeconfigSecretRef": {"name": "crd-rules"}, "suspend": true});
    let cells = shown(&client, "ClusterLink", link, full_link_status()).await;
    assert_eq!(cells, [json!("True"), json!("True"), json!(7), json!("Ready")]);
    let policy = json!({"links": {"names": ["crd-rules"]}, "suspend": true});
    let cells = shown(&client, "MirrorPolicy", policy, full_policy_status()).await;
    assert_eq!(cells, [json!("True"), json!(1), json!(2), json!("Ready")]);
    let binding = json!({"routing": "SNI", "import": import()});
    let cells = shown(&client, "GatewayBinding", binding, full_binding_status()).await;
    assert_eq!(cells, [json!("True"), json!("SNI"), json!("203.0.113.1"), json!("True"), json!("Ready")]);
}

/// An import by a gateway of TLS names, for a link that doesn't exist.
fn import() -> Value {
    json!({"linkRef": {"name": "crd-rules"}, "addresses": [{"value": "203.0.113.10"}], "port": 443})
}

fn full_link_status() -> ClusterLinkStatus {
    let gateway =
        |n: usize| GatewayStatus { binding: "b".repeat(63), address: format!("10.0.0.{n}"), reachable: Some(true) };
    let time = Time(Timestamp::UNIX_EPOCH);
    ClusterLinkStatus {
        observed_generation: Some(1),
        conditions: conditions(&[
            "Ready",
            "Accepted",
            "CredentialsValid",
            "Connected",
            "Synced",
            "Reachable",
            "DeletionHeld",
        ]),
        cluster_uid: Some("1b9f0c52-7f0e-4d0e-9c39-0123456789ab".to_owned()),
        server_version: Some("v".repeat(api::MAX_NAME)),
        credentials_expire_at: Some(time.clone()),
        services: Some(LinkServiceCounts { seen: 9, mirrored: 7, skipped: 1, conflicted: 1 }),
        gateways: (0..MAX_LISTED).map(gateway).collect(),
        last_sync_time: Some(time),
        last_handled_reconcile_at: Some("x".repeat(api::MAX_TEXT)),
    }
}

fn full_policy_status() -> MirrorPolicyStatus {
    let failure = PolicyFailure {
        link: "l".repeat(32),
        namespace: "n".repeat(63),
        name: "m".repeat(api::MAX_NAME),
        reason: "PerPodNamesUnavailable".to_owned(),
        message: "\u{e9}".repeat(api::MAX_MESSAGE),
    };
    MirrorPolicyStatus {
        observed_generation: Some(1),
        conditions: conditions(&["Stalled", "Reconciling", "Ready", "Accepted", "ResolvedRefs", "Programmed"]),
        services: Some(PolicyServiceCounts { matched: 3, mirrored: 1, skipped: 2, conflicted: 0 }),
        failures: vec![failure; MAX_LISTED],
    }
}

fn full_binding_status() -> GatewayBindingStatus {
    let failure = BindingFailure {
        namespace: "n".repeat(63),
        name: "m".repeat(api::MAX_NAME),
        reason: "PortsExhausted".to_owned(),
        message: "\u{e9}".repeat(api::MAX_MESSAGE),
    };
    GatewayBindingStatus {
        observed_generation: Some(1),
        conditions: conditions(&["Ready", "Accepted", "ResolvedRefs", "Programmed", "Reachable"]),
        addresses: vec![
            GatewayAddress { value: "203.0.113.1".to_owned() },
            GatewayAddress { value: "Gw.example".to_owned() },
        ],
        services: Some(BindingServiceCounts { selected: 4, programmed: 2, pending: 1, failed: 1 }),
        ports: Some(PortCounts { used: 2, quarantined: 1, free: 7997 }),
        failures: vec![failure; MAX_LISTED],
    }
}

fn conditions(types: &[&str]) -> Vec<Condition> {
    let condition = |name: &&str| Condition {
        type_: (*name).to_owned(),
        status: "True".to_owned(),
        reason: (*name).to_owned(),
        message: "\u{e9}".repeat(32_768 / types.len()),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    types.iter().map(condition).collect()
}

/// Writes that status to an object, checks that all of it is kept, and returns the cells that
/// `kubectl get -o wide` prints between NAME and AGE.
async fn shown(client: &Client, kind: &str, spec: Value, status: impl Serialize) -> Vec<Value> {
    let status = json!({"status": status});
    let one = begin(client, kind, "crd-rules-status", spec).await;
    let patch = format!("{one}/status?dryRun=All&fieldValidation=Strict");
    let kept = request(client, "PATCH", &patch, &status).await;
    let table = request_as(client, TABLE, "PATCH", &patch, &status).await;
    request(client, "DELETE", &one, &Value::Null).await.unwrap();
    let kept = kept.unwrap();
    assert!(holds(&kept, &status), "{kept}");
    let table = table.unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    cells[1..cells.len() - 1].to_vec()
}

/// Creates an object for a change to start from, and returns its URL; without what an earlier run
/// may have left.
async fn begin(client: &Client, kind: &str, name: &str, spec: Value) -> String {
    let one = format!("{}/{name}", url(kind));
    match request(client, "DELETE", &one, &Value::Null).await {
        Err(status) if !status.is_not_found() => panic!("{one}: {status}"),
        _ => {}
    }
    let object = json!({"metadata": {"name": name}, "spec": spec});
    request(client, "POST", &url(kind), &typed(kind, &object)).await.unwrap();
    one
}

/// Makes the three kinds known, where they aren't yet, and waits until they are served.
async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crds().unwrap() {
        let name = crd.metadata.name.clone().unwrap();
        match api.create(&PostParams::default(), &crd).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => panic!("{name}: {error}"),
        }
        let established = await_condition(api.clone(), &name, is_crd_established());
        tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    }
}

/// What the API server makes of an object, without storing it; unknown fields are refused.
async fn create(client: &Client, kind: &str, object: &Value) -> Result<Value, Status> {
    let url = format!("{}?dryRun=All&fieldValidation=Strict", url(kind));
    request(client, "POST", &url, &typed(kind, object)).await
}

async fn request(client: &Client, method: &str, url: &str, body: &Value) -> Result<Value, Status> {
    request_as(client, "application/json", method, url, body).await
}

/// What kubectl asks for, to print.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn request_as(client: &Client, accept: &str, method: &str, url: &str, body: &Value) -> Result<Value, Status> {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let request = Request::builder().method(method).uri(url).header(ACCEPT, accept).header(CONTENT_TYPE, content);
    match client.request(request.body(body).unwrap()).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{method} {url}: {error}"),
    }
}

fn url(kind: &str) -> String {
    let scope = if kind == "MirrorPolicy" { "namespaces/default/" } else { "" };
    let plural = match kind {
        "ClusterLink" => ClusterLink::api_resource().plural,
        "MirrorPolicy" => MirrorPolicy::api_resource().plural,
        _ => GatewayBinding::api_resource().plural,
    };
    format!("/apis/{}/{}/{scope}{plural}", api::GROUP, api::VERSION)
}

fn typed(kind: &str, object: &Value) -> Value {
    merged(object, &json!({"apiVersion": format!("{}/{}", api::GROUP, api::VERSION), "kind": kind}))
}

/// Field and message of each thing that is wrong; not the remark that it could be more.
fn causes(status: &Status) -> Vec<(String, String)> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| !cause.message.contains("some validation rules were not checked"))
        .map(|cause| (cause.field.clone(), cause.message.clone()))
        .collect()
}

/// Every rule of the CRDs: kind, place (list entries and map values as `[]`) and message.
fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for crd in api::crds().unwrap() {
        let kind = crd.spec.names.kind.clone();
        let crd = serde_json::to_value(crd).unwrap();
        collect(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &kind, "", &mut rules);
    }
    rules
}

fn collect(schema: &Value, kind: &str, path: &str, rules: &mut Vec<Rule>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap();
        let place = if path.is_empty() { "<nil>" } else { path.trim_start_matches('.') };
        rules.push((kind.to_owned(), place.to_owned(), message.to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect(property, kind, &format!("{path}.{name}"), rules);
    }
    for entries in ["items", "additionalProperties"].into_iter().filter_map(|entries| schema.get(entries)) {
        collect(entries, kind, &format!("{path}[]"), rules);
    }
}

fn tested((kind, place, message): &Rule, refused: &BTreeSet<Rule>) -> bool {
    refused.iter().any(|(k, at, words)| k == kind && without_indices(at) == *place && words.contains(message.as_str()))
}

fn without_indices(field: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        let keep = !inside || *c == ']';
        inside = (inside || *c == '[') && *c != ']';
        keep
    };
    field.chars().filter(keep).collect()
}

/// The paths a case stands for; none means the root.
fn paths(bad: &Bad) -> Vec<String> {
    if bad.paths.is_empty() { vec![String::new()] } else { bad.paths.clone() }
}

/// `{a: {b: value}}` for the path `a.b`.
fn nested(path: &str, value: &Value) -> Value {
    let names = path.rsplit('.').filter(|name| !name.is_empty());
    names.fold(value.clone(), |value, name| json!({name: value}))
}

/// A JSON merge patch (RFC 7386), but that an empty object replaces an absent one.
fn merged(base: &Value, patch: &Value) -> Value {
    let (Value::Object(base), Value::Object(patch)) = (base, patch) else { return patch.clone() };
    let mut result = base.clone();
    for (name, value) in patch {
        match (value, result.get(name)) {
            (Value::Null, _) => drop(result.remove(name)),
            (value, Some(old)) => drop(result.insert(name.clone(), merged(old, value))),
            (value, None) => drop(result.insert(name.clone(), merged(&json!({}), value))),
        }
    }
    Value::Object(result)
}

/// Whether all of `part` is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|whole| holds(whole, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}
