//! What the generated CustomResourceDefinitions must be, whatever the types become: the files in
//! `crds/` as generated, small, described and bounded throughout, with the same defaults as serde.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{env, fs, path::PathBuf};

use heliostat::api::{
    self,
    binding::{GatewayBindingSpec, GatewayBindingStatus},
    link::{ClusterLinkSpec, ClusterLinkStatus},
    policy::{MirrorPolicySpec, MirrorPolicyStatus},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A schema, and the path that leads to it.
type At<'a> = (String, &'a Value);

fn crds() -> Vec<CustomResourceDefinition> {
    api::crds().unwrap()
}

fn schema(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Every schema below this one, itself excluded. Only what is a field has a description of its
/// own; the flag tells it from items and values.
fn below<'a>(path: &str, schema: &'a Value, found: &mut Vec<(At<'a>, bool)>) {
    let mut enter = |path: String, schema: &'a Value, is_field: bool| {
        found.push(((path.clone(), schema), is_field));
        below(&path, schema, found);
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        enter(format!("{path}.{name}"), property, true);
    }
    if let Some(items) = schema.get("items") {
        enter(format!("{path}[]"), items, false);
    }
    if let Some(values) = schema.get("additionalProperties") {
        enter(format!("{path}{{}}"), values, false);
    }
}

/// The paths of the schemas that don't do as they should.
fn offenders(good: impl Fn(&Value, bool) -> bool) -> Vec<String> {
    let mut paths = Vec::new();
    for kind in ["ClusterLink", "MirrorPolicy", "GatewayBinding"] {
        let root = schema(kind);
        let mut found = Vec::new();
        below(kind, &root, &mut found);
        assert!(found.len() > 30, "{kind} has too few fields: {}", found.len());
        let bad = found.into_iter().filter(|((_, schema), is_field)| !good(schema, *is_field));
        paths.extend(bad.map(|((path, _), _)| path));
    }
    paths
}

#[test]
fn the_files_are_as_generated() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds");
    for crd in crds() {
        let file = directory.join(format!("{}.yaml", crd.spec.names.plural));
        let generated = api::to_yaml(&[crd]).unwrap();
        if env::var_os("UPDATE_CRDS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&file, &generated).unwrap();
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == generated,
            "{} is not what the types in src/api/ generate; run UPDATE_CRDS=1 cargo test --test crds",
            file.display(),
        );
    }
}

#[test]
fn yaml_reads_back_as_what_was_printed() {
    for crd in crds() {
        let yaml = api::to_yaml(std::slice::from_ref(&crd)).unwrap();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        let read: CustomResourceDefinition = serde_json::from_value(read).unwrap();
        assert_eq!(read, crd);
    }
    let all = api::to_yaml(&crds()).unwrap();
    let read: Vec<Value> = serde_saphyr::from_multiple(&all).unwrap();
    assert_eq!(read.len(), 3);
}

/// 256 KiB is where `kubectl apply` fails to note the last applied configuration.
#[test]
fn each_is_under_150_kib() {
    for crd in crds() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(bytes < 150 * 1024, "{} has {bytes} bytes", crd.spec.names.plural);
    }
}

#[test]
fn every_field_is_described() {
    let undescribed = offenders(|schema, is_field| {
        let text = schema["description"].as_str().unwrap_or_default();
        !is_field || (text.len() > 3 && text.ends_with('.') && !text.contains('`'))
    });
    assert_eq!(undescribed, Vec::<String>::new(), "fields without a text for kubectl explain");
}

#[test]
fn every_list_map_string_and_number_is_bounded() {
    let unbounded = offenders(|schema, _| match schema["type"].as_str() {
        Some("array") => schema["maxItems"].is_u64() && schema["x-kubernetes-list-type"].is_string(),
        Some("string") => schema["maxLength"].is_u64() || schema["enum"].is_array(),
        Some("integer") => {
            schema["minimum"].is_number() && (schema["maximum"].is_number() || schema["format"] == "int64")
        }
        Some("object") => schema["properties"].is_object() || schema["maxProperties"].is_u64(),
        Some("boolean") => true,
        _ => false,
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

/// An unknown format draws a warning at each apply; with `nullable`, null would beat a default.
#[test]
fn nothing_is_nullable_or_of_an_unknown_format() {
    let bad = offenders(|schema, _| {
        let format = schema["format"].as_str();
        schema.get("nullable").is_none() && matches!(format, None | Some("int32" | "int64" | "date-time"))
    });
    assert_eq!(bad, Vec::<String>::new());
}

#[test]
fn every_rule_has_a_message_for_humans() {
    let mut seen = 0;
    let mut check = |schema: &Value| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 15 && !message.contains("self."), "{rule}");
            seen += 1;
        }
    };
    for kind in ["ClusterLink", "MirrorPolicy", "GatewayBinding"] {
        let root = schema(kind);
        check(&root);
        let mut found = Vec::new();
        below(kind, &root, &mut found);
        found.iter().for_each(|((_, schema), _)| check(schema));
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn names_columns_and_the_first_status_are_as_designed() {
    for (crd, short, scope, columns, wide) in [
        (0, "hlink", "Cluster", "Ready Connected Services Age", "Reason"),
        (1, "hmirror", "Namespaced", "Ready Mirrored Skipped Age", "Reason"),
        (2, "hgw", "Cluster", "Ready Routing Address Programmed Age", "Reason"),
    ] {
        let crd = &crds()[crd];
        assert_eq!(crd.spec.group, api::GROUP);
        assert_eq!(crd.spec.scope, scope);
        assert_eq!(crd.spec.names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(crd.spec.names.categories, Some(vec!["heliostat".to_owned()]));
        let version = &crd.spec.versions[0];
        assert_eq!(version.name, api::VERSION);
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        let printed = version.additional_printer_columns.as_ref().unwrap();
        let of = |priority: i32| {
            let names = printed.iter().filter(|c| c.priority.unwrap_or(0) == priority);
            names.map(|c| c.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((of(0).as_str(), of(1).as_str()), (columns, wide));
        let status = &schema(&crd.spec.names.kind)["properties"]["status"];
        assert_eq!(status["default"], json!({"observedGeneration": -1}));
    }
}

/// What the API server does: an absent field gets its schema's default, top down.
fn fill_defaults(value: &mut Value, schema: &Value) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(fields) = value.as_object_mut() else {
            return;
        };
        if let (None, Some(default)) = (fields.get(name), property.get("default")) {
            fields.insert(name.clone(), default.clone());
        }
        if let Some(field) = fields.get_mut(name) {
            fill_defaults(field, property);
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        fill_defaults(item, &schema["items"]);
    }
}

/// An object written by hand must mean the same to the program whether the API server has filled
/// it in or not, and what the API server fills in must be what the program would have written.
fn defaults_agree<T: Serialize + DeserializeOwned>(kind: &str, field: &str, written: &Value) {
    let schema = &schema(kind)["properties"][field];
    let mut filled = written.clone();
    fill_defaults(&mut filled, schema);
    let read: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), filled, "{kind} {written}");
}

#[test]
fn serde_and_the_schema_have_the_same_defaults() {
    for spec in [
        json!({"kubeconfigSecretRef": {"name": "east"}}),
        json!({
            "kubeconfigSecretRef": {"name": "east"}, "services": {}, "allowedNamespaces": {}, "onLoss": {},
            "deletionGuard": {}, "addresses": {}, "limits": {}, "probe": {},
        }),
        json!({"kubeconfigSecretRef": {"name": "east"}, "services": {"matchAll": true}, "onLoss": {"action": "Delete"}}),
    ] {
        defaults_agree::<ClusterLinkSpec>("ClusterLink", "spec", &spec);
    }
    for spec in [
        json!({"links": {"names": ["east"]}}),
        json!({"links": {"selector": {}}, "services": {}, "mirror": {"name": "{service}"}}),
    ] {
        defaults_agree::<MirrorPolicySpec>("MirrorPolicy", "spec", &spec);
    }
    let object = json!({"namespace": "gateways", "name": "public"});
    let export = |provider: Value| json!({"routing": "Port", "export": {"services": {"namespaces": ["*"]}, "provider": provider}});
    for spec in [
        json!({"routing": "SNI", "import": {"linkRef": {"name": "east"}, "addresses": [{"value": "203.0.113.10"}], "port": 443}}),
        export(json!({"gatewayAPI": {"gatewayRef": object}})),
        export(json!({"traefik": {"serviceRef": object, "entryPoints": [{"name": "h1", "port": 20001}]}})),
        export(json!({"emissary": {"serviceRef": object}})),
        export(json!({"gloo": {"serviceRef": object}})),
        export(json!({"envoy": {}})),
        export(json!({"linkerd": {"serviceRef": object}})),
        json!({"routing": "Port", "export": {"services": {"namespaces": ["*"]}, "provider": {"envoy": {}}, "ports": {"from": 100}}}),
    ] {
        defaults_agree::<GatewayBindingSpec>("GatewayBinding", "spec", &spec);
    }
}

/// A merge patch of a status must not carry nulls or invent values.
#[test]
fn an_empty_status_is_empty() {
    assert_eq!(serde_json::to_value(ClusterLinkStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(MirrorPolicyStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(GatewayBindingStatus::default()).unwrap(), json!({}));
    for kind in ["ClusterLink", "MirrorPolicy", "GatewayBinding"] {
        let mut status = json!({});
        fill_defaults(&mut status, &schema(kind)["properties"]["status"]);
        assert_eq!(status, json!({}), "{kind}");
    }
}
