//! What an implementation of the Gateway API says of Gateways, listeners and routes.
//!
//! Conditions alone are no health: a listener without a route accepts connections and closes them,
//! and a route whose ListenerSet is gone keeps saying that it is accepted. So a route is programmed
//! when all of them say so, of what there is now.

use serde_json::Value;

use super::listener::{Listener, means};
use crate::{
    api::Reason,
    core::{
        export::{
            object::{condition, list},
            provider::Programmed,
        },
        model::Key,
        select::Refusal,
    },
};

/// A condition must be True. One that speaks of an older generation is believed of that.
fn require(conditions: &Value, kind: &str, generation: &Value, what: &str) -> Programmed {
    if let Some((status, reason, message)) = condition(conditions, kind, generation) {
        return match status {
            "True" => Programmed::Yes,
            _ => Programmed::Pending(format!("{what} says {kind}={status}, {reason}: {message}"), None),
        };
    }
    match condition(conditions, kind, &Value::Null) {
        Some(("True", ..)) => Programmed::Before(format!("{what} has changed and not said {kind} since")),
        _ => Programmed::Pending(format!("{what} has not said {kind} yet"), None),
    }
}

/// The first that is neither Yes nor Before, else the first Before, else Yes.
pub(super) fn all(checks: impl IntoIterator<Item = Programmed>) -> Programmed {
    let mut before = None;
    for check in checks {
        match check {
            Programmed::Yes => {}
            Programmed::Before(why) => drop(before.get_or_insert(why)),
            other => return other,
        }
    }
    before.map_or(Programmed::Yes, Programmed::Before)
}

/// The Gateway as a whole. One that is not accepted for the sake of a bad listener serves the others.
pub(super) fn gateway(key: &Key, object: &Value) -> Programmed {
    let (conditions, generation) = (&object["status"]["conditions"], &object["metadata"]["generation"]);
    let what = format!("Gateway {key}");
    let accepted = match condition(conditions, "Accepted", generation) {
        Some((_, "ListenersNotValid", _)) => Programmed::Yes,
        _ => require(conditions, "Accepted", generation, &what),
    };
    all([accepted, require(conditions, "Programmed", generation, &what)])
}

/// A ListenerSet as a whole.
pub(super) fn listener_set(key: &Key, set: &Value, allow: &str) -> Programmed {
    let (conditions, generation) = (&set["status"]["conditions"], &set["metadata"]["generation"]);
    if let Some(("False", "NotAllowed", _)) = condition(conditions, "Accepted", generation) {
        return Programmed::No(Refusal::new(Reason::RefNotPermitted, allow));
    }
    let what = format!("ListenerSet {key}");
    all(["Accepted", "Programmed"].map(|kind| require(conditions, kind, generation, &what)))
}

/// A listener, and that one route is attached to it: our own, if no other that is to be seen.
/// `shared` says that more may be.
pub(super) fn listener(listener: &Listener<'_>, parent: &Value, shared: bool) -> Programmed {
    let entry = list(&parent["status"]["listeners"]).iter().find(|entry| entry["name"] == listener.name());
    let Some(entry) = entry else {
        return Programmed::Pending(format!("{listener} has no status yet"), None);
    };
    let (conditions, generation) = (&entry["conditions"], &parent["metadata"]["generation"]);
    if let Some(("True", reason, message)) = condition(conditions, "Conflicted", &Value::Null) {
        let why = format!("port {} is somebody else's: {listener} says {reason}: {message}", listener.port());
        return Programmed::No(Refusal::new(Reason::NameConflict, why));
    }
    let what = listener.to_string();
    let conditions =
        ["Accepted", "ResolvedRefs", "Programmed"].map(|kind| require(conditions, kind, generation, &what));
    let attached = match entry["attachedRoutes"].as_u64().unwrap_or_default() {
        0 => Programmed::Pending(format!("no route is attached to {listener} yet"), None),
        n if n > 1 && !shared => Programmed::No(Refusal::new(
            Reason::NameConflict,
            format!("{n} routes are attached to {listener}, of which the oldest gets all traffic; delete the others"),
        )),
        _ => Programmed::Yes,
    };
    all(conditions.into_iter().chain([attached]))
}

/// A route, at one listener.
pub(super) fn route(key: &Key, object: &Value, at: &Listener<'_>) -> Programmed {
    let parents = list(&object["status"]["parents"]).iter();
    let Some(parent) = parents.into_iter().find(|parent| means(&parent["parentRef"], key, at)) else {
        return Programmed::Pending(format!("the gateway has not answered to route {key} yet"), None);
    };
    let (conditions, generation) = (&parent["conditions"], &object["metadata"]["generation"]);
    if let Some(("False", "NotAllowedByListeners", message)) = condition(conditions, "Accepted", generation) {
        let why = format!("{at} takes no routes from namespace {}: {message}", key.namespace);
        return Programmed::No(Refusal::new(Reason::RefNotPermitted, why));
    }
    let what = format!("route {key}");
    all(["Accepted", "ResolvedRefs"].map(|kind| require(conditions, kind, generation, &what)))
}
