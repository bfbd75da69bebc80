//! What is shipped to be applied (`config/`) hangs together: the one-file form is current, rights
//! are spelled out, and the admission policies speak of the same names as the program. That they
//! also work is tested on real clusters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use heliostat::api::names;
use serde_json::Value;

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// All documents that a kustomization lists. It may only list: whatever else kustomize
/// can do would make this something other than what kustomize makes of it.
fn listed(folder: &Path) -> Vec<Value> {
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let keys: BTreeSet<_> = kustomization.as_object().unwrap().keys().cloned().collect();
    let known = ["apiVersion", "kind", "resources"];
    assert!(keys.iter().all(|key| known.contains(&key.as_str())), "{keys:?}");
    strings(&kustomization["resources"])
        .into_iter()
        .map(|entry| folder.join(entry))
        .flat_map(|path| if path.is_dir() { listed(&path) } else { documents(&path) })
        .collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn shipped() -> Vec<Value> {
    listed(Path::new("config"))
}

fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

fn one<'a>(documents: &'a [Value], kind: &'a str) -> &'a Value {
    let mut found = of_kind(documents, kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

#[test]
fn the_one_file_form_is_current() {
    // In the order of their names: kustomize has an order of its own.
    let named = |documents: Vec<Value>| -> BTreeMap<String, Value> {
        let count = documents.len();
        let named: BTreeMap<_, _> =
            documents.into_iter().map(|d| (format!("{} {}", d["kind"], d["metadata"]["name"]), d)).collect();
        assert_eq!(named.len(), count, "two documents of one name");
        named
    };
    let (one_file, listed) = (named(documents(Path::new("config/install.yaml"))), named(shipped()));
    let names = |documents: &BTreeMap<String, Value>| documents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one_file), names(&listed), "config/install.yaml is old; run: make install.yaml");
    for (name, wanted) in &listed {
        assert_eq!(&one_file[name], wanted, "{name} is old in config/install.yaml; run: make install.yaml");
    }
}

#[test]
fn every_kind_has_its_definition_shipped() {
    let documents = shipped();
    let kinds: BTreeSet<_> = of_kind(&documents, "CustomResourceDefinition")
        .map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["ClusterLink", "GatewayBinding", "MirrorPolicy"]));
}

#[test]
fn rights_are_spelled_out() {
    for role in shipped() {
        let kind = role["kind"].as_str().unwrap();
        if !kind.ends_with("Role") {
            continue;
        }
        let name = role["metadata"]["name"].as_str().unwrap();
        let rules = role["rules"].as_array().unwrap();
        assert!(!rules.is_empty(), "{kind} {name} has no rules");
        for rule in rules {
            for field in ["apiGroups", "resources", "verbs"] {
                let values = strings(&rule[field]);
                assert!(!values.is_empty(), "{kind} {name}: a rule without {field}");
                assert!(!values.contains(&"*"), "{kind} {name}: a wildcard in {field}");
            }
        }
    }
}

#[test]
fn the_controller_cannot_replace_what_it_did_not_read_nor_see_secrets_elsewhere() {
    let documents = shipped();
    let importer = |kind| {
        of_kind(&documents, kind).find(|role| role["metadata"]["name"] == "heliostat-importer").unwrap()["rules"]
            .as_array()
            .unwrap()
            .clone()
    };
    let (cluster, own) = (importer("ClusterRole"), importer("Role"));
    for rule in cluster.iter().chain(&own) {
        let verbs = strings(&rule["verbs"]);
        for verb in ["update", "deletecollection", "bind", "escalate", "impersonate"] {
            assert!(!verbs.contains(&verb), "{verb} on {}", rule["resources"]);
        }
    }
    assert!(cluster.iter().all(|rule| !strings(&rule["resources"]).contains(&"secrets")));
    let secrets: Vec<_> = own
        .iter()
        .filter(|rule| strings(&rule["resources"]).contains(&"secrets"))
        .flat_map(|rule| strings(&rule["verbs"]))
        .collect();
    assert_eq!(secrets, ["get", "list", "watch"]);
}

#[test]
fn the_deployment_runs_this_version_under_the_account_that_the_policies_hold() {
    let documents = shipped();
    let (account, deployment) = (one(&documents, "ServiceAccount"), one(&documents, "Deployment"));
    let (namespace, name) =
        (account["metadata"]["namespace"].as_str().unwrap(), account["metadata"]["name"].as_str().unwrap());
    assert_eq!(one(&documents, "Namespace")["metadata"]["name"], namespace);
    assert_eq!(deployment["metadata"]["namespace"], namespace);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], name);
    assert_eq!(pod["containers"][0]["image"], format!("heliostat:{}", env!("CARGO_PKG_VERSION")));

    let username = format!("system:serviceaccount:{namespace}:{name}");
    let policies: Vec<_> = of_kind(&documents, "ValidatingAdmissionPolicy").collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        assert_eq!(spec["matchConditions"][0]["expression"], format!("request.userInfo.username == '{username}'"));
        let of_namespace = spec["validations"][0]["expression"].as_str().unwrap();
        assert!(of_namespace.contains(&format!("request.namespace != '{namespace}'")), "{of_namespace}");
        let binding = of_kind(&documents, "ValidatingAdmissionPolicyBinding")
            .find(|binding| binding["spec"]["policyName"] == policy["metadata"]["name"])
            .expect("a binding");
        assert_eq!(binding["spec"]["validationActions"], serde_json::json!(["Deny"]));
    }
}

#[test]
fn the_policies_know_a_mirror_by_the_markers_that_the_program_writes() {
    let documents = shipped();
    let text = |name| {
        of_kind(&documents, "ValidatingAdmissionPolicy")
            .find(|policy| policy["metadata"]["name"] == name)
            .unwrap()
            .to_string()
    };
    let services = text("heliostat-services");
    for marker in [
        format!("'{}'].orValue('') == '{}'", names::MANAGED_BY_LABEL, names::MANAGER),
        format!("'{}'].orValue('') != ''", names::LINK_UID_ANNOTATION),
        format!("'{}'", names::COPIED_LABELS_ANNOTATION),
        format!("'{}'", names::COPIED_ANNOTATIONS_ANNOTATION),
        format!("'{}'", names::MIRRORED_CONDITION),
    ] {
        assert!(services.contains(&marker), "{marker}");
    }
    let slices = text("heliostat-endpointslices");
    for marker in [
        format!("'{}'].orValue('') == '{}'", names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGER),
        format!("'{}'].orValue('') != ''", names::SERVICE_NAME_LABEL),
    ] {
        assert!(slices.contains(&marker), "{marker}");
    }
}
