//! What statuses say of an origin, where the exporter can't be read.

use super::{Case, Check, Verdict, subject::Subject};
use crate::{
    api::{
        names::{POLICY_LABEL, POLICY_NAMESPACE_LABEL, VIA_ANNOTATION},
        policy::PolicyFailure,
    },
    core::{
        model::{Key, MirrorState},
        world::{Owner, World},
    },
};

/// One case for each mirror that there is of the origin and each policy that reports it.
pub(super) fn cases(world: &World, subject: &Subject, head: Vec<Check>) -> Vec<Case> {
    let mut cases: Vec<Case> =
        mirrors(world, subject).map(|(key, state)| mirrored(subject, key, state, &head)).collect();
    for (key, policy) in &world.policies {
        let key = key.to_string();
        let failures = policy.object.status.iter().flat_map(|status| &status.failures);
        for failure in failures.filter(|failure| speaks_of(failure, subject)) {
            let told = Check {
                check: "the controller mirrors it".to_owned(),
                verdict: Verdict::Note,
                reason: Some(failure.reason.clone()),
                detail: failure.message.clone(),
            };
            match cases.iter_mut().find(|case| case.policy.as_ref() == Some(&key)) {
                Some(case) => case.checks.push(told),
                None => {
                    let told = Check { verdict: Verdict::No, ..told };
                    cases.push(case(subject, Some(key.clone()), head.iter().cloned().chain([told]).collect()));
                }
            }
        }
    }
    if cases.is_empty() {
        let detail = "no mirror of it exists, and no policy's status speaks of it".to_owned();
        let checks = head.into_iter().chain([Check::unknown("the controller mirrors it", detail)]).collect();
        cases.push(case(subject, None, checks));
    }
    cases
}

fn case(subject: &Subject, policy: Option<String>, checks: Vec<Check>) -> Case {
    Case {
        link: subject.link.clone(),
        origin: subject.origin.to_string(),
        policy,
        mirror: None,
        mirrored: false,
        via: None,
        checks,
    }
}

fn mirrored(subject: &Subject, key: &Key, state: &MirrorState, head: &[Check]) -> Case {
    let label = |name: &str| state.labels.get(name).cloned().unwrap_or_default();
    let policy = format!("{}/{}", label(POLICY_NAMESPACE_LABEL), label(POLICY_LABEL));
    let mut checks = head.to_vec();
    checks.push(Check::yes("a mirror of it exists", key.to_string()));
    if let Some(condition) = state.mirrored() {
        checks.push(Check {
            check: "the mirror is well".to_owned(),
            verdict: Verdict::No,
            reason: Some(condition.reason.to_string()),
            detail: condition.message.to_string(),
        });
    }
    Case {
        mirror: Some(key.to_string()),
        mirrored: true,
        via: state.annotations.others().get(VIA_ANNOTATION).map(ToString::to_string),
        ..case(subject, Some(policy), checks)
    }
}

fn mirrors<'a>(world: &'a World, subject: &'a Subject) -> impl Iterator<Item = (&'a Key, &'a MirrorState)> {
    world.services.iter().filter_map(move |(key, service)| {
        let state = service.ours.as_deref()?;
        let same = state.annotations.origin() == Some(&subject.origin);
        (same && world.owner(key) == Owner::Ours(&subject.link)).then_some((key, state))
    })
}

fn speaks_of(failure: &PolicyFailure, subject: &Subject) -> bool {
    failure.link == subject.link && failure.namespace == subject.origin.namespace && failure.name == subject.origin.name
}
