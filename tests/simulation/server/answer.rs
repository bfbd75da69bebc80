//! Answers: objects, and refusals in the words of a real API server.

use std::sync::Arc;

use serde_json::{Value, json};

use super::resources::Resource;

/// A status code and a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Shared with the store, where it is an object.
    pub(crate) body: Arc<Value>,
}

pub(crate) fn ok(code: u16, body: impl Into<Arc<Value>>) -> Answer {
    Answer { code, body: body.into() }
}

/// A refusal.
pub(crate) fn refusal(code: u16, reason: &str, message: &str, details: Value) -> Answer {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if !details.is_null() {
        body["details"] = details;
    }
    ok(code, body)
}

fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind});
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

fn of(resource: &Resource, name: &str) -> Value {
    details(name, resource.group, resource.plural)
}

pub(crate) fn bad_request(message: &str) -> Answer {
    refusal(400, "BadRequest", message, Value::Null)
}

pub(crate) fn not_found(resource: &Resource, name: &str) -> Answer {
    let message = format!("{} \"{name}\" not found", resource.qualified());
    refusal(404, "NotFound", &message, of(resource, name))
}

/// No such resource in a group that is there.
pub(crate) fn not_served() -> Answer {
    refusal(404, "NotFound", "the server could not find the requested resource", json!({}))
}

pub(crate) fn already_exists(resource: &Resource, name: &str) -> Answer {
    let message = format!("{} \"{name}\" already exists", resource.qualified());
    refusal(409, "AlreadyExists", &message, of(resource, name))
}

pub(crate) fn modified(resource: &Resource, name: &str) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to the latest version and try again",
        resource.qualified()
    );
    refusal(409, "Conflict", &message, of(resource, name))
}

/// A precondition of a deletion does not hold.
pub(crate) fn precondition(resource: &Resource, name: &str, what: &str, wanted: &str, is: &str) -> Answer {
    let hint = if what == "UID" { "have been deleted and then recreated" } else { "have been modified" };
    let kind = resource.qualified_kind();
    let message = format!(
        "Operation cannot be fulfilled on {kind} \"{name}\": the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might {hint}"
    );
    refusal(409, "Conflict", &message, details(name, resource.group, resource.kind))
}

/// What is wrong with one field.
pub(crate) struct Wrong {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Wrong {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

pub(crate) fn invalid(resource: &Resource, name: &str, wrong: &[Wrong]) -> Answer {
    let said: Vec<String> = wrong.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.message)).collect();
    let said = if let [one] = said.as_slice() { one.clone() } else { format!("[{}]", said.join(", ")) };
    let causes: Vec<Value> = wrong
        .iter()
        .map(|wrong| json!({"reason": "FieldValueInvalid", "message": wrong.message, "field": wrong.field}))
        .collect();
    let mut details = details(name, resource.group, resource.kind);
    details["causes"] = json!(causes);
    let message = format!("{} \"{name}\" is invalid: {said}", resource.qualified_kind());
    refusal(422, "Invalid", &message, details)
}

pub(crate) fn terminating(resource: &Resource, name: &str, namespace: &str) -> Answer {
    let mut details = of(resource, name);
    details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    let message = format!(
        "{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        resource.qualified()
    );
    refusal(403, "Forbidden", &message, details)
}

/// A page or an exact version that is not kept any more.
pub(crate) fn expired() -> Answer {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
    refusal(410, "Expired", message, Value::Null)
}

/// A watch from a version that is not kept any more, as an event.
pub(crate) fn too_old(asked: u64, oldest: u64) -> Arc<Value> {
    let message = format!("too old resource version: {asked} ({oldest})");
    refusal(410, "Expired", &message, Value::Null).body
}

pub(crate) fn too_large(asked: u64, current: u64) -> Answer {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    refusal(504, "Timeout", &message, json!({"causes": [cause], "retryAfterSeconds": 1}))
}

/// An answer that no request deserves but some get.
pub(crate) fn injected(code: u16, retry_after: Option<u64>) -> Answer {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden: exceeded quota: all, requested: count=1, used: count=1, limited: count=1"),
        409 => ("Conflict", "Operation cannot be fulfilled: the object has been modified"),
        422 => ("Invalid", "is invalid: denied by policy"),
        429 => ("TooManyRequests", "The server has received too many requests and has asked us to try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "Timeout: request did not complete within the requested timeout"),
        _ => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    };
    let details = match retry_after {
        Some(seconds) => json!({"retryAfterSeconds": seconds}),
        None => Value::Null,
    };
    refusal(code, reason, message, details)
}
