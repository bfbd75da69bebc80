//! What is told by Events: of mirrors that were made, and of origins that policies cannot have. Never
//! twice, a restart in between included.

use super::Engine;
use crate::{
    api::{
        Reason,
        names::{LINK_LABEL, ORIGIN_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL, VIA_ANNOTATION},
        policy::PolicyFailure,
    },
    core::{
        claim::ClaimId,
        io::{About, Event, WriteOp},
        model::Key,
        select::Refusal,
    },
};

impl Engine {
    pub(in crate::core) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A mirror was made, or is fed by another way: said when it was written, so that a restart
    /// repeats nothing.
    pub(super) fn announce(&mut self, op: &WriteOp) {
        let key = match op {
            WriteOp::CreateService(key, _) => key,
            WriteOp::PatchService(key, _, patch) if patch.annotations.contains_key(VIA_ANNOTATION) => key,
            _ => return,
        };
        let Some(service) = self.world.services.get(key) else { return };
        let Some(state) = service.ours.as_deref() else { return };
        let label = |name: &str| state.labels.get(name).cloned().unwrap_or_default();
        let (Some(origin), Some(via)) =
            (state.annotations.get(ORIGIN_ANNOTATION), state.annotations.get(VIA_ANNOTATION))
        else {
            return;
        };
        let note = format!("{origin} of link {} is mirrored as {key} by {via}", label(LINK_LABEL));
        let about = About::Service(key.clone(), service.uid.to_string());
        let policy = Key::new(label(POLICY_NAMESPACE_LABEL), label(POLICY_LABEL));
        let reason = Reason::Programmed;
        self.tell_policy(&policy, false, reason, note.clone());
        self.tell(Event { about, warning: false, reason: reason.as_str(), action: "Mirroring", note });
    }

    /// A warning on the policy, unless the claim says so already.
    pub(super) fn warn_of(&mut self, id: &ClaimId, refusal: Option<&Refusal>) {
        let Some(refusal) = refusal.filter(|refusal| !refusal.advice) else { return };
        if self
            .claims
            .get(id)
            .is_some_and(|claim| claim.outcome.notes().iter().any(|note| note.reason == refusal.reason))
        {
            return;
        }
        // Nor does a restart repeat what an earlier process has said.
        let said = |f: &PolicyFailure| {
            f.link == id.link
                && f.namespace == id.origin.namespace
                && f.name == id.origin.name
                && f.reason == refusal.reason.as_str()
        };
        let status = self.world.policies.get(&id.policy).and_then(|policy| policy.object.status.as_ref());
        if status.is_some_and(|status| status.failures.iter().any(said)) {
            return;
        }
        let note = format!("{} of link {}: {}", id.origin, id.link, refusal.message);
        self.tell_policy(&id.policy, true, refusal.reason, note);
    }

    pub(super) fn tell_policy(&mut self, policy: &Key, warning: bool, reason: Reason, note: String) {
        if let Some(found) = self.world.policies.get(policy) {
            let about = About::Policy(policy.clone(), found.object.metadata.uid.clone().unwrap_or_default());
            self.tell(Event { about, warning, reason: reason.as_str(), action: "Mirroring", note });
        }
    }
}
