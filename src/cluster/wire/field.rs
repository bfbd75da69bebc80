//! Reading single fields of untrusted JSON: what is missing or of a wrong type counts as absent,
//! what is present and illegal is refused with a reason for a user.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::text::clean;
use crate::core::model::{Map, Protocol, Readiness, SlicePort};

/// Most ports taken of one object. More than this is no use as a mirror.
pub(super) const MAX_PORTS: usize = 1000;
/// Largest label or annotation value that is kept, in bytes. Labels have at most 63 by the rules
/// of Kubernetes; annotations beyond this are left out.
const MAX_VALUE: usize = 4096;

/// A list; empty when it is none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that is not empty.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|s| !s.is_empty())
}

/// Whether an object has an entry.
pub(super) fn has_entries(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
}

/// A value as a user may see it: on one line and short.
pub(super) fn show(value: &Value) -> String {
    clean(&value.to_string(), 64)
}

/// A text of at most `max` characters as it is, if it can do no harm wherever it is shown; any
/// other in quotes, cut and harmless, so that it stays one that nothing understands.
pub(super) fn harmless(text: &str, max: usize) -> String {
    if clean(text, max) == text { text.to_owned() } else { show(&Value::from(text)) }
}

/// A uid: those of Kubernetes are UUIDs, anything of that alphabet is taken.
pub(in crate::cluster) fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Entries of a map of texts whose key and value Kubernetes allows in a label.
pub(super) fn labels(value: &Value) -> Map {
    entries(value, |k, v| is_qualified_name(k) && is_label_value(v))
}

/// Entries of a map of texts, as annotations; oversized values are left out.
pub(super) fn annotations(value: &Value, wanted: impl Fn(&str) -> bool) -> Map {
    entries(value, |k, v| wanted(k) && is_qualified_name(k) && v.len() <= MAX_VALUE)
}

fn entries(value: &Value, fits: impl Fn(&str, &str) -> bool) -> Map {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| v.as_str().map(|v| (k, v))).filter(|(k, v)| fits(k, v)).collect()
}

/// DNS-1123 label (RFC 1123): at most 63 of `a-z`, `0-9` and `-`, not `-` at the ends.
pub(super) fn is_dns_label(s: &str) -> bool {
    s.len() <= 63 && is_dns_part(s)
}

/// DNS-1123 subdomain as Kubernetes means it: at most 253, its parts of any length (slices are
/// named `<service>-<suffix>`, which may be longer than a label).
pub(in crate::cluster) fn is_dns_subdomain(s: &str) -> bool {
    s.len() <= 253 && s.split('.').all(is_dns_part)
}

fn is_dns_part(s: &str) -> bool {
    !s.is_empty()
        && !s.starts_with('-')
        && !s.ends_with('-')
        && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// A key of a label or annotation: `[prefix/]name`.
pub(super) fn is_qualified_name(s: &str) -> bool {
    match s.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name_part(name),
        None => is_name_part(s),
    }
}

fn is_label_value(s: &str) -> bool {
    s.is_empty() || is_name_part(s)
}

/// At most 63 of letters, digits, `-`, `_` and `.`, alphanumeric at the ends.
fn is_name_part(s: &str) -> bool {
    let bytes = s.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    s.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A port number, 1–65535.
pub(super) fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
}

/// A port of a Service or slice; `at` says where it stands, for the message.
pub(super) fn port(value: &Value, at: &str) -> Result<SlicePort, String> {
    let refuse = |field: &str, rule: &str| Err(format!("{at}.{field} is {}, {rule}", show(&value[field])));
    let name = match &value["name"] {
        Value::Null => "",
        Value::String(name) if name.is_empty() || is_dns_label(name) => name,
        _ => return refuse("name", "not a DNS label"),
    };
    let Some(port) = port_number(&value["port"]) else {
        return refuse("port", "not a port number (1-65535)");
    };
    let protocol = match &value["protocol"] {
        Value::Null => Protocol::Tcp,
        other => match other.as_str().and_then(Protocol::parse) {
            Some(protocol) => protocol,
            None => return refuse("protocol", "not TCP, UDP or SCTP"),
        },
    };
    let app_protocol = match &value["appProtocol"] {
        Value::Null => None,
        Value::String(app) if is_qualified_name(app) => Some(app.into()),
        _ => return refuse("appProtocol", "not a protocol name"),
    };
    Ok(SlicePort { name: name.into(), port, protocol, app_protocol })
}

/// All ports of a list, refused where one is illegal, where there are too many, or where two
/// have the same name.
pub(super) fn ports(value: &Value, at: &str) -> Result<Vec<SlicePort>, String> {
    let list = list(value);
    if list.len() > MAX_PORTS {
        return Err(format!("{at} has more than {MAX_PORTS} entries"));
    }
    let mut ports: Vec<SlicePort> = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        ports.push(port(value, &format!("{at}[{i}]"))?);
    }
    match twice(ports.iter().map(|p| p.name.as_str())) {
        Some(name) => Err(format!("{at} has two ports of the name {name:?}")),
        None => Ok(ports),
    }
}

/// Something that occurs twice, if anything does.
pub(super) fn twice<T: Ord>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().find_map(|item| seen.replace(item))
}

/// The conditions of an endpoint. Unset `ready` counts as true and unset `serving` as `ready`
/// (EndpointConditions of the API reference).
pub(super) fn readiness(conditions: &Value) -> Readiness {
    let ready = conditions["ready"].as_bool().unwrap_or(true);
    Readiness {
        ready,
        serving: conditions["serving"].as_bool().unwrap_or(ready),
        terminating: conditions["terminating"].as_bool().unwrap_or(false),
    }
}
