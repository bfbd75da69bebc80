//! What is shipped to be applied (`config/`) hangs together: the one-file form is current, rights
//! are spelled out, and the admission policies speak of the same names as the program. That they
//! also work is tested on real clusters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use heliostat::{
    api::names,
    core::export::object::{LEASE, PUBLISHED_SLICE},
};
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

const EXPORTER: &str = "config/components/exporter";

/// What the exporter's component adds.
fn added() -> Vec<Value> {
    let folder = Path::new(EXPORTER);
    let component = documents(&folder.join("kustomization.yaml")).remove(0);
    strings(&component["resources"]).into_iter().flat_map(|file| documents(&folder.join(file))).collect()
}

/// What is shipped for an exporter: all of an importer's, as the component patches it, and what it
/// adds.
fn shipped_for_an_exporter() -> Vec<Value> {
    let mut all = shipped();
    let component = documents(&Path::new(EXPORTER).join("kustomization.yaml")).remove(0);
    for patch in component["patches"].as_array().unwrap() {
        let (kind, name) = (&patch["target"]["kind"], &patch["target"]["name"]);
        let target = all.iter_mut().find(|d| d["kind"] == *kind && d["metadata"]["name"] == *name).unwrap();
        let steps: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        for step in steps {
            assert_eq!(step["op"], "add", "only additions are known here");
            let path = step["path"].as_str().unwrap().strip_suffix("/-").unwrap();
            target.pointer_mut(path).unwrap().as_array_mut().unwrap().push(step["value"].clone());
        }
    }
    all.extend(added());
    all
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
fn the_one_file_forms_are_current() {
    is_current("config/install.yaml", shipped());
    is_current("config/install-exporter.yaml", shipped_for_an_exporter());
}

fn is_current(file: &str, listed: Vec<Value>) {
    // In the order of their names: kustomize has an order of its own.
    let named = |documents: Vec<Value>| -> BTreeMap<String, Value> {
        let count = documents.len();
        let named: BTreeMap<_, _> =
            documents.into_iter().map(|d| (format!("{} {}", d["kind"], d["metadata"]["name"]), d)).collect();
        assert_eq!(named.len(), count, "two documents of one name");
        named
    };
    let (one_file, listed) = (named(documents(Path::new(file))), named(listed));
    let names = |documents: &BTreeMap<String, Value>| documents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one_file), names(&listed), "{file} is old; run: make install.yaml");
    for (name, wanted) in &listed {
        assert_eq!(&one_file[name], wanted, "{name} is old in {file}; run: make install.yaml");
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
    for role in shipped_for_an_exporter() {
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

/// All rules of the controller's roles of that kind.
fn rules(documents: &[Value], kind: &str) -> Vec<Value> {
    let names = ["heliostat-importer", "heliostat-exporter"];
    let roles = of_kind(documents, kind).filter(|role| names.iter().any(|name| role["metadata"]["name"] == *name));
    roles.flat_map(|role| role["rules"].as_array().unwrap().clone()).collect()
}

fn verbs_on<'a>(rules: &'a [Value], resource: &str) -> BTreeSet<&'a str> {
    let rules = rules.iter().filter(|rule| strings(&rule["resources"]).contains(&resource));
    rules.flat_map(|rule| strings(&rule["verbs"])).collect()
}

#[test]
fn the_controller_cannot_replace_what_it_did_not_read_nor_see_secrets_elsewhere() {
    for (documents, on_secrets) in [
        (shipped(), BTreeSet::from(["get", "list", "watch"])),
        (shipped_for_an_exporter(), BTreeSet::from(["get", "list", "watch", "create", "patch"])),
    ] {
        let (cluster, own) = (rules(&documents, "ClusterRole"), rules(&documents, "Role"));
        for rule in cluster.iter().chain(&own) {
            let verbs = strings(&rule["verbs"]);
            for verb in ["update", "deletecollection", "bind", "escalate", "impersonate"] {
                assert!(!verbs.contains(&verb), "{verb} on {}", rule["resources"]);
            }
        }
        assert!(verbs_on(&cluster, "secrets").is_empty());
        assert_eq!(verbs_on(&own, "secrets"), on_secrets);
        for everywhere in ["deployments", "configmaps", "leases", "pods"] {
            assert!(verbs_on(&cluster, everywhere).is_empty(), "{everywhere}");
        }
    }
}

#[test]
fn g08_no_gateway_of_somebody_can_be_written() {
    let cluster = rules(&shipped_for_an_exporter(), "ClusterRole");
    let of_group = cluster.iter().filter(|rule| strings(&rule["apiGroups"]).contains(&"gateway.networking.k8s.io"));
    let of_group: Vec<Value> = of_group.cloned().collect();
    assert_eq!(verbs_on(&of_group, "gateways"), BTreeSet::from(["get", "list", "watch"]));
    assert!(verbs_on(&of_group, "listenersets").contains("create"));
    for resource in strings(&of_group[1]["resources"]) {
        assert!(!resource.contains('/'), "{resource}: a status is its gateway's to write");
    }
}

#[test]
fn every_kind_that_some_provider_needs_may_be_read() {
    let documents = shipped_for_an_exporter();
    let (cluster, own) = (rules(&documents, "ClusterRole"), rules(&documents, "Role"));
    let kinds = heliostat::gateway::kinds();
    assert!(kinds.len() > 3, "{kinds:?}");
    for kind in kinds.into_iter().chain([LEASE, PUBLISHED_SLICE]) {
        let of = if kind.own_namespace { [cluster.as_slice(), &own].concat() } else { cluster.clone() };
        let of: Vec<Value> = of.into_iter().filter(|rule| strings(&rule["apiGroups"]).contains(&kind.group)).collect();
        let verbs = verbs_on(&of, kind.plural);
        assert!(["get", "list", "watch"].iter().all(|verb| verbs.contains(verb)), "{kind}: {verbs:?}");
    }
}

#[test]
fn every_kind_that_is_written_is_held_by_a_policy() {
    let documents = shipped_for_an_exporter();
    // What may be written of these is one subresource, or Events.
    let free = ["clusterlinks/status", "mirrorpolicies/status", "gatewaybindings/status", "events"];
    let held: Vec<&Value> = of_kind(&documents, "ValidatingAdmissionPolicy")
        .flat_map(|policy| policy["spec"]["matchConstraints"]["resourceRules"].as_array().unwrap())
        .collect();
    let is_held = |group: &str, resource: &str| {
        held.iter().any(|rule| {
            let resources = strings(&rule["resources"]);
            strings(&rule["apiGroups"]).contains(&group) && (resources.contains(&"*") || resources.contains(&resource))
        })
    };
    for rule in rules(&documents, "ClusterRole").iter().chain(&rules(&documents, "Role")) {
        if strings(&rule["verbs"]).iter().all(|verb| ["get", "list", "watch"].contains(verb)) {
            continue;
        }
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]).into_iter().filter(|resource| !free.contains(resource)) {
                assert!(is_held(group, resource), "{group}/{resource}");
            }
        }
    }
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
    let documents = shipped_for_an_exporter();
    let policies: Vec<_> = of_kind(&documents, "ValidatingAdmissionPolicy").collect();
    assert_eq!(policies.len(), 5);
    for policy in policies {
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        assert_eq!(spec["matchConditions"][0]["expression"], format!("request.userInfo.username == '{username}'"));
        let of_namespace = spec["validations"][0]["expression"].as_str().unwrap();
        assert!(of_namespace.contains("request.namespace"), "{of_namespace}");
        let others = policy.to_string().replace(&username, "").replace(&format!("'{namespace}'"), "");
        assert!(!others.contains("heliostat-system"), "another spelling of the namespace");
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

#[test]
fn the_exporters_policies_know_its_objects_by_the_marks_that_the_program_writes() {
    let documents = shipped_for_an_exporter();
    let text = |name| {
        of_kind(&documents, "ValidatingAdmissionPolicy")
            .find(|policy| policy["metadata"]["name"] == name)
            .unwrap()
            .to_string()
    };
    let published = format!("'{}'].orValue('') == '{}'", names::SLICE_MANAGED_BY_LABEL, names::PUBLISHED_MANAGER);
    let slices = text("heliostat-published-slices");
    for marker in [
        published.clone(),
        format!("'{}'].orValue('') != ''", names::PUBLISHED_SERVICE_LABEL),
        format!("'{}'].orValue('') != ''", names::PUBLISHED_BINDING_LABEL),
        format!("'{}'].orValue('') == '{}'", names::SERVICE_PROXY_NAME_LABEL, names::SERVICE_PROXY_NAME),
        format!("'{}' in variables.labels", names::HEADLESS_LABEL),
        format!("!('{}' in variables.labels)", names::SERVICE_NAME_LABEL),
    ] {
        assert!(slices.contains(&marker), "{marker}");
    }
    for policy in ["heliostat-gateways", "heliostat-routes"] {
        for marker in [
            format!("'{}'].orValue('') == '{}'", names::MANAGED_BY_LABEL, names::MANAGER),
            format!("'{}'].orValue('') != ''", names::PUBLISHED_BINDING_LABEL),
        ] {
            assert!(text(policy).contains(&marker), "{policy}: {marker}");
        }
    }
    // Each request about a slice is one of the two policies' business.
    let condition = |name| {
        let policy = of_kind(&documents, "ValidatingAdmissionPolicy").find(|p| p["metadata"]["name"] == name).unwrap();
        policy["spec"]["matchConditions"][1]["expression"].as_str().unwrap().to_owned()
    };
    let (theirs, ours) = (condition("heliostat-endpointslices"), condition("heliostat-published-slices"));
    assert_eq!(theirs.replace(char::is_whitespace, ""), format!("!({ours})").replace(char::is_whitespace, ""));
    assert!(ours.contains(&published));
}

#[test]
fn an_exporter_is_turned_on_by_its_component_alone() {
    let args = |documents: &[Value]| {
        let container = &one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        strings(&container["args"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!args(&shipped()).contains(&"--export".to_owned()));
    let documents = shipped_for_an_exporter();
    assert!(args(&documents).contains(&"--export".to_owned()));
    let xds = of_kind(&documents, "Service").find(|s| s["metadata"]["name"] == "heliostat-xds").unwrap();
    let port = &xds["spec"]["ports"][0];
    let container = &one(&documents, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let open = container["ports"].as_array().unwrap().iter().find(|p| p["name"] == port["targetPort"]).unwrap();
    assert_eq!((&port["port"], &open["containerPort"]), (&serde_json::json!(18_000), &serde_json::json!(18_000)));
}

#[test]
fn probes_are_answered_on_a_port_that_answers_nothing_else() {
    let documents = shipped_for_an_exporter();
    let probes =
        of_kind(&documents, "Service").find(|service| service["metadata"]["name"] == "heliostat-probe").unwrap();
    let labels = &probes["metadata"]["labels"];
    assert_eq!(labels[names::PROBE_LABEL], names::PROBE_VALUE);
    assert_eq!(labels[names::EXPORT_LABEL], names::EXPORT_VALUE, "links see it by that");
    assert!(labels[names::MANAGED_BY_LABEL].is_null(), "what Heliostat made is not exported");
    let target = &probes["spec"]["ports"][0]["targetPort"];
    let ports = one(&documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
    let port =
        |name: &Value| ports.iter().find(|port| port["name"] == *name).unwrap()["containerPort"].as_u64().unwrap();
    // The default of --probe-listen.
    assert_eq!(port(target), 8081);
    assert_ne!(port(&"http".into()), port(target), "metrics are not exported");
    assert!(of_kind(&shipped(), "Service").all(|service| service["metadata"]["labels"][names::EXPORT_LABEL].is_null()));
}
