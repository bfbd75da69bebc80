//! Events about a link, each told when a status that says it for the first time has been written: so
//! that neither a repetition nor a restart tells it again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{ConditionType, Reason, link::ClusterLinkStatus},
    core::io::{About, Event},
};

/// What a status says of what is told.
struct Said<'a>(&'a [Condition]);

impl<'a> Said<'a> {
    fn find(&self, kind: ConditionType, status: &str, reason: Reason) -> Option<&'a str> {
        let mut found =
            self.0.iter().filter(|c| c.type_ == kind.as_str() && c.status == status && c.reason == reason.as_str());
        found.next().map(|c| c.message.as_str())
    }

    fn held(&self) -> Option<&'a str> {
        self.find(ConditionType::DeletionHeld, "True", Reason::DeletionHeld)
    }

    fn stale(&self) -> Option<&'a str> {
        self.find(ConditionType::Ready, "False", Reason::Stale)
    }

    fn another(&self) -> Option<&'a str> {
        self.find(ConditionType::Stalled, "True", Reason::RemoteIdentityChanged)
    }

    fn suspended(&self) -> Option<&'a str> {
        self.find(ConditionType::Accepted, "True", Reason::Suspended)
    }

    fn accepted(&self) -> Option<&'a str> {
        self.find(ConditionType::Accepted, "True", Reason::Accepted)
    }
}

/// The Events that tell how a link's status turned.
pub(super) fn events(name: &str, uid: &str, before: &ClusterLinkStatus, after: &ClusterLinkStatus) -> Vec<Event> {
    let (was, is) = (Said(&before.conditions), Said(&after.conditions));
    let event = |warning: bool, reason: Reason, action: &'static str, note: &str| Event {
        about: About::Link(name.to_owned(), uid.to_owned()),
        warning,
        reason: reason.as_str(),
        action,
        note: note.to_owned(),
    };
    let mut told = Vec::new();
    match (was.held(), is.held()) {
        (None, Some(note)) => told.push(event(true, Reason::DeletionHeld, "Guarding", note)),
        (Some(_), None) => {
            let note = "no deletion is held any more: the origins returned, or the deletions were allowed";
            told.push(event(false, Reason::DeletionHeld, "Guarding", note));
        }
        _ => {}
    }
    if let (None, Some(note)) = (was.stale(), is.stale()) {
        told.push(event(true, Reason::Stale, "Synchronizing", note));
    }
    match (was.another(), is.another()) {
        (None, Some(note)) => told.push(event(true, Reason::RemoteIdentityChanged, "Connecting", note)),
        (Some(_), None) => {
            told.push(event(false, Reason::Accepted, "Connecting", "the cluster that answers is the link's own"));
        }
        _ => {}
    }
    match (was.suspended(), is.suspended(), is.accepted()) {
        (None, Some(note), _) => told.push(event(false, Reason::Suspended, "Suspending", note)),
        (Some(_), None, Some(_)) => {
            told.push(event(false, Reason::Accepted, "Resuming", "spec.suspend is not set any more"));
        }
        _ => {}
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> ClusterLinkStatus {
        let condition = |(kind, status, reason): &(&str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": "so", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"conditions": conditions.iter().map(condition).collect::<Vec<_>>()})).unwrap()
    }

    fn told(before: &[(&str, &str, &str)], after: &[(&str, &str, &str)]) -> Vec<String> {
        let all = events("east", "u", &status(before), &status(after));
        all.iter().map(|e| format!("{} {} {}", if e.warning { "!" } else { "-" }, e.reason, e.action)).collect()
    }

    #[test]
    fn each_turn_is_told_once() {
        let good = [("Ready", "True", "Ready"), ("Accepted", "True", "Accepted")];
        let turns = [
            (("DeletionHeld", "True", "DeletionHeld"), "! DeletionHeld Guarding", vec!["- DeletionHeld Guarding"]),
            (("Ready", "False", "Stale"), "! Stale Synchronizing", vec![]),
            (
                ("Stalled", "True", "RemoteIdentityChanged"),
                "! RemoteIdentityChanged Connecting",
                vec!["- Accepted Connecting"],
            ),
            (("Accepted", "True", "Suspended"), "- Suspended Suspending", vec!["- Accepted Resuming"]),
        ];
        for (bad, there, back) in turns {
            assert_eq!(told(&good, &[bad]), [there]);
            assert_eq!(told(&[bad], &[bad]), Vec::<String>::new(), "{bad:?} is not told again");
            assert_eq!(told(&[bad], &good), back);
        }
        let refused = [("Accepted", "False", "InvalidSpec")];
        assert_eq!(told(&[("Accepted", "True", "Suspended")], &refused), Vec::<String>::new(), "nothing is resumed");
        assert_eq!(told(&good, &good), Vec::<String>::new());
        assert_eq!(told(&[], &good), Vec::<String>::new());
    }
}
