//! A mirror whose origin the exporter does not show, and that the deletion guard keeps all the same.

use super::{Case, Check, subject::Subject};
use crate::{
    api::{
        ConditionType, Reason,
        names::{POLICY_LABEL, POLICY_NAMESPACE_LABEL, VIA_ANNOTATION},
    },
    core::{link::Link, world::World},
};

/// The case of such a mirror, where there is one. The controller knows best: what it wrote comes first.
pub(super) fn case(world: &World, subject: &Subject, link: &Link, checks: &[Check]) -> Option<Case> {
    let said = link.condition(ConditionType::DeletionHeld).filter(|c| c.status == "True");
    let mut mirrors = world.mirrors_of(&subject.link);
    let mirror = mirrors.find(|mirror| mirror.origin == subject.origin)?;
    let detail = match (said, link.guard.holds(mirror.key, &mirror.service.uid)) {
        (Some(condition), _) => condition.message.clone(),
        (None, Some(_)) => {
            "the exporter does not show too many others either, so the controller holds their deletion".to_owned()
        }
        (None, None) => return None,
    };
    let reason = Some(Reason::DeletionHeld.to_string());
    let held = Check { reason, ..Check::note("its mirror stays nevertheless", detail) };
    let label = |name: &str| mirror.state.labels.get(name).cloned().unwrap_or_default();
    Some(Case {
        link: subject.link.clone(),
        origin: subject.origin.to_string(),
        policy: Some(format!("{}/{}", label(POLICY_NAMESPACE_LABEL), label(POLICY_LABEL))),
        mirror: Some(mirror.key.to_string()),
        mirrored: true,
        via: mirror.state.annotations.others().get(VIA_ANNOTATION).map(ToString::to_string),
        checks: checks.iter().cloned().chain([held]).collect(),
    })
}
