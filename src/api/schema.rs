//! The parts that the schemas of the three kinds are made of: kinds of strings, lists of them,
//! and the foreign types, each described and bounded.
//!
//! A rule is CEL with a message, not a `pattern`: whoever breaks it reads what to write, not a
//! regular expression. Every list, map and string has a bound, so that the API server can prove
//! the rules cheap.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// A CEL expression, and what a human is told when it is false.
pub(super) type Rule = (&'static str, &'static str);

/// A lower-case DNS-1123 label; the bound of 63 is `maxLength`.
macro_rules! dns_label {
    () => {
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    };
}

/// A duration of up to four parts; longer ones could overflow CEL's own.
macro_rules! go_duration {
    () => {
        "^([0-9]{1,5}([.][0-9]{1,9})?(ms|s|m|h)){1,4}$"
    };
}

const DNS_LABEL: Rule = (
    concat!("self.matches('^", dns_label!(), "$')"),
    "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit",
);
const NAMESPACE_OR_ALL: Rule = (
    concat!("self == '*' || self.matches('^", dns_label!(), "$')"),
    "must be the name of a namespace, or \"*\" for all but kube-*",
);
const DNS_SUBDOMAIN: Rule = (
    concat!("self.matches('^", dns_label!(), "([.]", dns_label!(), ")*$')"),
    "must be a DNS name: labels of lower-case letters, digits and '-', separated by '.'",
);
const SECRET_KEY: Rule =
    ("self.matches('^[-._a-zA-Z0-9]+$')", "must be a key of a Secret: letters, digits, '-', '_' and '.'");
const UID: Rule = (
    "self.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')",
    "must be a uid, as `kubectl get namespace kube-system -o jsonpath={.metadata.uid}` prints it",
);
const DURATION: Rule = (
    concat!("self.matches('", go_duration!(), "')"),
    "must be a duration: numbers with the units ms, s, m or h, such as 30s, 5m or 1h30m",
);
const DURATION_FROM_1S: Rule =
    (concat!("!self.matches('", go_duration!(), "') || duration(self) >= duration('1s')"), "must be at least 1s");
const DURATION_FROM_100MS: Rule =
    (concat!("!self.matches('", go_duration!(), "') || duration(self) >= duration('100ms')"), "must be at least 100ms");
const CIDR: Rule = (
    "isCIDR(self) && cidr(self) == cidr(self).masked()",
    "must be an IP range whose host bits are zero, such as 10.0.0.0/8 or fd00::/8",
);
const ADDRESS: Rule = (
    concat!(
        "isIP(self) || (self.matches('^",
        dns_label!(),
        "([.]",
        dns_label!(),
        ")*$') && !self.matches('(^|[.])[0-9]+$'))"
    ),
    "must be an IP address or a hostname in lower case",
);
const ADDRESS_ROUTABLE: Rule = (
    "!isIP(self) || ip(self).isGlobalUnicast()",
    "must be an address that other hosts can reach: not a loopback, link-local, multicast, broadcast or unspecified one",
);
const PORT_NAME_OR_NUMBER: Rule = (
    concat!(
        "self.matches('^[0-9]+$') ? self.matches('^[1-9][0-9]{0,4}$') && int(self) <= 65535 : self.matches('^",
        dns_label!(),
        "$')"
    ),
    "must be the name of a Service port, or a number from 1 to 65535 in quotes",
);
const SERVICE_KEY: Rule = (
    concat!("self.matches('^", dns_label!(), "/", dns_label!(), "$')"),
    "must be <namespace>/<name> of a Service, such as shop/books",
);
const COPIED_KEY: Rule = (
    "self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[*]|([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$')",
    "must be a key such as team or example.com/team, or example.com/* for all keys of a group",
);
const HAS_SERVICE: Rule =
    ("self.contains('{service}')", "must contain {service}, or all services would get the same name");
const MIRROR_NAME: Rule = (
    "self.replace('{service}', '').replace('{namespace}', '').replace('{link}', '').matches('^[-a-z0-9]*$')",
    "may hold only lower-case letters, digits, '-' and the variables {service}, {namespace} and {link}",
);
const MIRROR_NAME_ENDS: Rule = (
    "self.matches('^[a-z{]') && self.matches('[a-z0-9}]$')",
    "must begin with a letter or a variable, and end with a letter, a digit or a variable",
);
const MIRROR_NAMESPACE_ENDS: Rule = (
    "self.matches('^[a-z0-9{]') && self.matches('[a-z0-9}]$')",
    "must begin and end with a letter, a digit or a variable",
);
const HOSTNAME_TEMPLATE: Rule = (
    concat!(
        "self.replace('{service}', 's').replace('{namespace}', 'n').replace('{clusterName}', 'c').matches('^",
        dns_label!(),
        "([.]",
        dns_label!(),
        ")*$')"
    ),
    "must be a hostname in lower case, with the variables {service}, {namespace} and {clusterName}",
);
const LABEL_KEYS: Rule = (
    "self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
    "keys must be label keys, such as team or example.com/team",
);
const LABEL_VALUE: Rule = (
    "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
    "must be a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
);
const LABEL_KEY: Rule = (
    "self.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",
    "must be a label key, such as team or example.com/team",
);
const LABEL_OPERATOR: Rule = (
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    "values are required with the operators In and NotIn, and allowed with no other",
);
const UNIQUE: Rule = ("self.all(x, self.exists_one(y, x == y))", "must not hold an entry twice");

/// Of a [`super::link::Probe`].
pub(super) const PROBE_TIMEOUT: Rule = (
    concat!(
        "[self.timeout, self.period].exists(d, !d.matches('",
        go_duration!(),
        "')) || duration(self.timeout) <= duration(self.period)"
    ),
    "timeout must not be longer than period",
);
/// Of a whole ClusterLink.
pub(super) const LINK_NAME: Rule = (
    concat!("self.metadata.name.size() <= 32 && self.metadata.name.matches('^", dns_label!(), "$')"),
    "metadata.name must be a DNS label of at most 32 characters (lower-case letters, digits and '-'): it is the suffix of the mirrors' names",
);
/// Of a whole MirrorPolicy.
pub(super) const POLICY_NAME: Rule = (
    "self.metadata.name.size() <= 63",
    "metadata.name must have at most 63 characters: it becomes a label of the mirrors",
);
/// Of a whole GatewayBinding.
pub(super) const BINDING_NAME: Rule = (
    "self.metadata.name.size() <= 63",
    "metadata.name must have at most 63 characters: it becomes a label of the published slices",
);

/// `x-kubernetes-validations` of those rules.
pub(super) fn rules(rules: &[Rule]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

/// A string that is not empty: by `minLength`, else by every one of its rules.
fn string(max: u32, with: &[Rule]) -> Schema {
    if with.is_empty() {
        return json_schema!({"type": "string", "minLength": 1, "maxLength": max});
    }
    json_schema!({"type": "string", "maxLength": max, "x-kubernetes-validations": rules(with)})
}

/// A list; `kind` is its `x-kubernetes-list-type`: how two appliers' lists are merged.
fn list(max: u32, kind: &str, items: Schema) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max,
        "x-kubernetes-list-type": kind,
        "items": items,
    })
}

/// A list whose order means something; no entry twice.
fn ordered(max: u32, items: Schema) -> Schema {
    let mut schema = list(max, "atomic", items);
    schema.insert("x-kubernetes-validations".to_owned(), rules(&[UNIQUE]));
    schema
}

/// A list without order and doubles.
fn set(max: u32, items: Schema) -> Schema {
    list(max, "set", items)
}

/// Defines functions for `#[schemars(schema_with = ..)]`.
macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $($(#[$doc])* pub(super) fn $name(_: &mut SchemaGenerator) -> Schema {
            $schema
        })*
    };
}

schemas! {
    /// The name of a ClusterLink.
    link_name = string(32, &[DNS_LABEL]);
    link_names = {
        let mut names = set(128, string(32, &[DNS_LABEL]));
        names.insert("minItems".to_owned(), 1.into());
        names
    };
    /// The names of GatewayBindings, in order.
    binding_names = ordered(32, string(63, &[DNS_SUBDOMAIN]));
    namespace = string(63, &[DNS_LABEL]);
    namespaces = set(100, string(63, &[DNS_LABEL]));
    /// The names of namespaces, or `*`.
    namespaces_or_all = {
        let mut namespaces = set(100, string(63, &[NAMESPACE_OR_ALL]));
        namespaces.insert("minItems".to_owned(), 1.into());
        namespaces
    };
    /// The name of an object of any kind.
    object_name = string(253, &[DNS_SUBDOMAIN]);
    secret_key = string(253, &[SECRET_KEY]);
    uid = string(36, &[UID]);
    /// A duration of a second or more.
    seconds = string(32, &[DURATION, DURATION_FROM_1S]);
    /// A duration of a tenth of a second or more.
    tenths = string(32, &[DURATION, DURATION_FROM_100MS]);
    cidrs = set(64, string(43, &[CIDR]));
    /// The value of an address.
    address = string(253, &[ADDRESS, ADDRESS_ROUTABLE]);
    port_name_or_number = string(63, &[PORT_NAME_OR_NUMBER]);
    ports = set(64, string(63, &[PORT_NAME_OR_NUMBER]));
    service_key = string(127, &[SERVICE_KEY]);
    ways = {
        let mut ways = ordered(3, json_schema!({"type": "string", "enum": ["Gateway", "Service", "Direct"]}));
        ways.insert("minItems".to_owned(), 1.into());
        ways
    };
    mirror_name = string(128, &[HAS_SERVICE, MIRROR_NAME, MIRROR_NAME_ENDS]);
    mirror_namespace = string(128, &[MIRROR_NAME, MIRROR_NAMESPACE_ENDS]);
    /// Keys of labels or annotations to copy.
    copied_keys = set(64, string(317, &[COPIED_KEY]));
    hostname_templates = ordered(16, string(253, &[HAS_SERVICE, HOSTNAME_TEMPLATE]));
    entry_point_name = string(63, &[]);
    identity = string(253, &[DNS_SUBDOMAIN]);
}

/// What the controller writes is bounded, but by no rule.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $max:expr;)*) => {
        $($(#[$doc])* pub(super) fn $name(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "maxLength": $max})
        })*
    };
}

statuses! {
    /// A name told by this or another cluster.
    told_name = super::MAX_NAME;
    /// A text told by another cluster or by a user.
    told_text = super::MAX_TEXT;
    /// A message of a failure.
    told_message = super::MAX_MESSAGE;
}

/// A whole number within bounds.
pub(super) fn int<const MIN: u32, const MAX: u32>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": MIN, "maximum": MAX})
}

/// A count, as far as `int32` reaches.
pub(super) fn count(generator: &mut SchemaGenerator) -> Schema {
    int::<0, 0x7fff_ffff>(generator)
}

/// A port number.
pub(super) fn port(generator: &mut SchemaGenerator) -> Schema {
    int::<1, 65535>(generator)
}

/// `status.observedGeneration`.
pub(super) fn observed_generation(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": -1})
}

/// A point in time.
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// Addresses as a provider reports them.
pub(super) fn told_addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": super::MAX_LISTED,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": {
                    "description": "An IP address or a hostname.",
                    "type": "string", "maxLength": super::MAX_NAME,
                },
            },
        },
    })
}

/// Conditions as `metav1.Condition` defines them, keyed by type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What the condition is about.",
                    "type": "string", "minLength": 1, "maxLength": 316,
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, as one word, for programs.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                },
                "message": {
                    "description": "Why, in words: object, field, value and what to do next.",
                    "type": "string", "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "The generation of the spec that the condition speaks of.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When status last changed.",
                    "type": "string", "format": "date-time", "maxLength": 64,
                },
            },
        },
    })
}

/// A selector of labels, replaced as a whole by an applier.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that an object must have, each with this value.",
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {
                    "type": "string", "maxLength": 63, "x-kubernetes-validations": rules(&[LABEL_VALUE]),
                },
                "x-kubernetes-validations": rules(&[LABEL_KEYS]),
            },
            "matchExpressions": {
                "description": "Conditions on labels; an object must meet all of them.",
                "type": "array",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": rules(&[LABEL_OPERATOR]),
                    "properties": {
                        "key": {
                            "description": "The label's key.",
                            "type": "string", "minLength": 1, "maxLength": 317,
                            "x-kubernetes-validations": rules(&[LABEL_KEY]),
                        },
                        "operator": {
                            "description": "In or NotIn: the label's value is, or is not, among values. Exists or DoesNotExist: the label is there, or is not, whatever its value.",
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values for In and NotIn.",
                            "type": "array",
                            "maxItems": 32,
                            "x-kubernetes-list-type": "atomic",
                            "items": {
                                "type": "string", "maxLength": 63, "x-kubernetes-validations": rules(&[LABEL_VALUE]),
                            },
                        },
                    },
                },
            },
        },
    })
}

/// Makes a derived schema one that the API server takes as it is meant: `null` means absent (so
/// that defaults apply), integers have formats that Kubernetes knows, and texts are unwrapped.
pub(super) fn finish(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            finish_fields(fields);
            fields.values_mut().for_each(finish);
        }
        Value::Array(items) => items.iter_mut().for_each(finish),
        _ => {}
    }
}

fn finish_fields(fields: &mut Map<String, Value>) {
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        fields.remove("nullable");
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        let paragraphs: Vec<String> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}
