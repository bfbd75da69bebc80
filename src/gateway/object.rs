//! What the objects of all providers have in common: names, owners, and how ours are known.

use serde_json::{Value, json};

use crate::{
    api::names,
    core::{
        export::{
            object::{self, Kind, Object, Owner},
            provider::{ExportPlan, Route, RouteId},
        },
        model::{Key, Protocol},
        name,
        select::Refusal,
    },
};

/// Hex digits of the hashes that keep names apart.
const HASH_DIGITS: usize = 8;

/// Name of the object that programs a route. The hash keeps apart what dashes do not:
/// (`a`, `b-c`) and (`a-b`, `c`).
pub(super) fn route_name(binding: &str, id: &RouteId) -> String {
    let (port, protocol) = (id.port.to_string(), transport(id.protocol));
    let RouteId { service: Key { namespace, name }, .. } = id;
    let hash = name::hash(&[binding, namespace, name, &port, protocol], HASH_DIGITS);
    format!("heliostat-{binding}-{name}-{port}-{protocol}-{hash}")
}

/// `tcp`, `udp` or `sctp`.
pub(super) const fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// An object beside the exported Service, which goes with it.
pub(super) fn of_service(
    plan: &ExportPlan,
    kind: Kind,
    name: String,
    id: &RouteId,
    route: &Route,
    spec: Value,
) -> Object {
    let owner = Owner {
        api_version: "v1".to_owned(),
        kind: "Service",
        name: id.service.name.to_string(),
        uid: route.service_uid.clone(),
    };
    let key = Key::new(id.service.namespace.clone(), name);
    Object { labels: plan.labels(), owner: Some(owner), ..Object::with_spec(kind, key, spec) }
}

/// An object that goes with the binding.
pub(super) fn of_binding(plan: &ExportPlan, object: Object) -> Object {
    let owner = Owner {
        api_version: "heliostat.dev/v1alpha1".to_owned(),
        kind: "GatewayBinding",
        name: plan.binding.clone(),
        uid: plan.binding_uid.clone(),
    };
    Object { labels: plan.labels(), owner: Some(owner), ..object }
}

/// Whether Heliostat made an object.
pub(super) fn is_heliostats(object: &Value) -> bool {
    object::label(object, names::MANAGED_BY_LABEL) == names::MANAGER
        && !object::label(object, names::PUBLISHED_BINDING_LABEL).is_empty()
}

/// Whether Heliostat made an object for this binding.
pub(super) fn is_bindings(object: &Value, binding: &str) -> bool {
    is_heliostats(object) && object::label(object, names::PUBLISHED_BINDING_LABEL) == binding
}

/// Whether another route comes before that of a binding for a name which both want: one of a user's
/// always does; of two bindings' the older one, so that neither gives way to the other for ever.
pub(super) fn comes_first(other: &Value, binding: &str, ours: Option<&Value>) -> bool {
    if !is_heliostats(other) {
        return true;
    }
    let age = |object: &'_ Value| object["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    let Some(ours) = ours else { return true };
    (age(other), object::label(other, names::PUBLISHED_BINDING_LABEL)) < (age(ours), binding)
}

/// A reference to one port of the exported Service, in its own namespace.
pub(super) fn backend(id: &RouteId) -> Value {
    json!({"name": id.service.name, "port": id.port})
}

/// A gateway that cannot be used as it is.
pub(super) fn refuse_ref(why: String) -> Refusal {
    Refusal::new(crate::api::Reason::UnsupportedValue, why)
}

/// A refusal with the route that it is about.
pub(super) fn refuse(reason: crate::api::Reason, id: &RouteId, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(reason, format!("{id}: {why}"))
}
