//! Holds rendered objects to the schema that was transcribed from Gloo's documentation.

use super::*;

/// Fails with everything that is wrong with an object.
pub(super) fn hold(rendered: &Rendered) {
    for object in &rendered.objects {
        let wrong = faults(object.id.kind, &object.whole()["spec"]);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", object.id);
    }
}

fn faults(kind: Kind, spec: &Value) -> Vec<String> {
    let all: Value = serde_saphyr::from_str(include_str!("../../../../tests/gloo-v1.schema.yaml")).unwrap();
    let mut wrong = Vec::new();
    check(&all["kinds"][kind.to_string()], spec, "spec", &mut wrong);
    wrong
}

fn check(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let (fits, what) = match schema["type"].as_str().unwrap_or_default() {
        "object" => (value.is_object(), "an object"),
        "array" => (value.is_array(), "a list"),
        "string" => (value.is_string(), "a string"),
        "boolean" => (value.is_boolean(), "a boolean"),
        "integer" => (value.is_u64(), "a number"),
        other => panic!("{at}: the schema says type {other:?}"),
    };
    if !fits {
        wrong.push(format!("{at}: {value} is not {what}"));
    }
    if let Some(fields) = value.as_object() {
        object(schema, fields, at, wrong);
    }
    if let Some(elements) = value.as_array() {
        at_least(schema, "minItems", elements.len(), at, wrong);
        elements.iter().for_each(|element| check(&schema["items"], element, &format!("{at}[]"), wrong));
    }
    if let Some(text) = value.as_str() {
        at_least(schema, "minLength", text.len(), at, wrong);
        if schema["pattern"].as_str().is_some_and(|pattern| !matches(pattern, text)) {
            wrong.push(format!("{at}: {text:?} is no {}", schema["pattern"]));
        }
    }
    if let Some(number) = value.as_u64() {
        let within = schema["minimum"].as_u64()..=schema["maximum"].as_u64();
        if !within.contains(&Some(number)) {
            wrong.push(format!("{at}: {number} is not within {within:?}"));
        }
    }
}

fn object(schema: &Value, fields: &Fields, at: &str, wrong: &mut Vec<String>) {
    for (name, field) in fields {
        match &schema["properties"][name] {
            Value::Null => wrong.push(format!("{at}.{name}: the documentation knows no such field")),
            schema => check(schema, field, &format!("{at}.{name}"), wrong),
        }
    }
    for name in list(&schema["required"]).iter().filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
        wrong.push(format!("{at}.{name} is missing"));
    }
    let exclusive = list(&schema["exclusive"]).iter().filter_map(Value::as_str);
    if exclusive.clone().filter(|name| fields.contains_key(*name)).count() > 1 {
        wrong.push(format!("{at}: more than one of {:?}", exclusive.collect::<Vec<_>>()));
    }
}

type Fields = serde_json::Map<String, Value>;

fn at_least(schema: &Value, field: &str, there: usize, at: &str, wrong: &mut Vec<String>) {
    if schema[field].as_u64().is_some_and(|least| (there as u64) < least) {
        wrong.push(format!("{at}: {field} is {}", schema[field]));
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "duration" => text.strip_suffix('s').is_some_and(|seconds| seconds.parse::<f64>().is_ok()),
        "host" => {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:*".contains(c);
            text.chars().all(legal) && !text.trim_matches('*').contains('*')
        }
        other => panic!("the schema says pattern {other:?}"),
    }
}

/// That the schema refuses what is wrong: each of these breaks one rule.
#[test]
fn the_schema_knows_wrong_objects() {
    let mut scene = scene(Routing::Port);
    scene.want_port(&tcp("shop/db", 5432), 20_002);
    let spec = one(&scene.render(), GATEWAY).whole()["spec"].clone();
    assert_eq!(faults(GATEWAY, &spec), Vec::<String>::new());
    for (pointer, value) in [
        ("/bindPort", json!("6002")),
        ("/bindPort", json!(0)),
        ("/bindPort", json!(70_000)),
        ("/bindAddress", json!("")),
        ("/proxyNames", json!("gateway-proxy")),
        ("/httpGateway", json!({})),
        ("/prot", json!(1)),
        ("/tcpGateway/tcpHosts", json!([])),
        ("/tcpGateway/tcpHosts/0/destination/single/upstream/name", json!(null)),
        ("/tcpGateway/tcpHosts/0/destination/single/kube", json!({"ref": {"name": "a", "namespace": "b"}, "port": 1})),
        ("/tcpGateway/tcpHosts/0/name", json!(7)),
    ] {
        let mut broken = spec.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[field] = value.clone();
        assert!(!faults(GATEWAY, &broken).is_empty(), "{pointer} {value}");
    }
    assert!(!faults(VIRTUAL_SERVICE, &json!({"virtualHost": {"domains": ["A_"], "routes": [{}]}})).is_empty());
}
