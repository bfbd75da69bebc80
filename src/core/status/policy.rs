//! What is said of a policy.

use std::collections::BTreeSet;

use super::{
    condition::{Conditions, Truth, clean, no, yes},
    count::{Counted, number},
    held,
};
use crate::{
    api::{
        ConditionType, MAX_LISTED, MAX_MESSAGE, Reason,
        names::{POLICY_LABEL, POLICY_NAMESPACE_LABEL},
        policy::{MirrorPolicyStatus, PolicyFailure, PolicyServiceCounts},
    },
    core::{
        claim::{ClaimId, Outcome},
        engine::Engine,
        io::WriteOp,
        link::{Connection, Link},
        model::Key,
        select::{CheckedPolicy, LinkChoice, Refusal},
        world::{Owner, Policy, World},
    },
};

impl Engine {
    /// A policy's status; none while it is too early to say anything new.
    pub(super) fn policy_status(&self, key: &Key, policy: &Policy) -> Option<MirrorPolicyStatus> {
        let object = &policy.object;
        let before = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation;
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        let checked = match &policy.checked {
            Ok(checked) => checked,
            Err(refusal) => {
                c.say(ConditionType::Ready, no(refusal));
                c.say(ConditionType::Accepted, no(refusal));
                c.keep(
                    ConditionType::ResolvedRefs,
                    (Truth::Unknown, Reason::Pending, "the spec is not accepted".into()),
                );
                c.keep(
                    ConditionType::Programmed,
                    (
                        Truth::Unknown,
                        Reason::Pending,
                        "the spec is not accepted; existing mirrors stay as they are".into(),
                    ),
                );
                let conditions = c.finish(Some(refusal), None);
                return Some(MirrorPolicyStatus { observed_generation: generation, conditions, ..before });
            }
        };
        let links: Vec<(&str, &Link)> = self.world.links_of(checked).collect();
        let early = |link: &Link| {
            matches!(link.remote.connection, Connection::Starting | Connection::Listing) && !link.remote.listed
        };
        let frozen = |link: &Link| link.frozen(self.world.cluster_uid.as_deref());
        let told_before = before.observed_generation == generation && c.was(ConditionType::Programmed).is_some();
        if told_before && links.iter().any(|(_, link)| early(link) && !frozen(link)) {
            return None;
        }
        let tally = self.tally(key, &links, &before.failures);
        let refs = self.refs(key, checked);
        let unlisted = links.iter().find(|(_, link)| !link.remote.listed && !frozen(link)).map(|(name, _)| *name);
        self.say_policy(&mut c, key, policy, &tally, refs.as_ref().err(), unlisted);
        let pending = tally.pending > 0 && !policy.frozen();
        let conditions = c.finish(None, pending.then_some("writes of mirrors are awaited"));
        Some(MirrorPolicyStatus {
            observed_generation: generation,
            conditions,
            services: Some(tally.counts),
            failures: tally.failures,
        })
    }

    fn say_policy(
        &self,
        c: &mut Conditions<'_>,
        key: &Key,
        policy: &Policy,
        tally: &Tally,
        refs: Option<&Refusal>,
        unlisted: Option<&str>,
    ) {
        let spec = &policy.object.spec;
        let counts = tally.counts;
        let summary = format!(
            "{} matched: {} mirrored, {} skipped, {} conflicted",
            counts.matched, counts.mirrored, counts.skipped, counts.conflicted
        );
        let awaited = format!(
            "{} of {} matches are not written yet{}",
            tally.pending,
            counts.matched,
            tally.why_pending.as_ref().map(|w| format!(": {w}")).unwrap_or_default()
        );
        let (accepted, programmed) = match (spec.suspend, spec.preview) {
            (true, _) => {
                let message = "spec.suspend is set: nothing is written and everything stays as it is";
                (yes(Reason::Suspended, message), None)
            }
            (false, true) => {
                let message = "spec.preview is set: nothing is written; condition Programmed says what would be";
                (yes(Reason::Preview, message), Some((Truth::Unknown, Reason::Preview, self.preview(key))))
            }
            (false, false) if tally.pending > 0 => {
                (yes(Reason::Accepted, "the spec is accepted"), Some((Truth::False, Reason::Pending, awaited.clone())))
            }
            (false, false) => {
                (yes(Reason::Accepted, "the spec is accepted"), Some(yes(Reason::Programmed, summary.clone())))
            }
        };
        match (refs, unlisted) {
            _ if spec.suspend || spec.preview => {
                let reason = if spec.suspend { Reason::Suspended } else { Reason::Preview };
                c.keep(ConditionType::Ready, (Truth::False, reason, "nothing has been written for it yet".into()));
            }
            (Some(refusal), _) => c.say(ConditionType::Ready, no(refusal)),
            (None, Some(link)) => {
                c.keep(
                    ConditionType::Ready,
                    (
                        Truth::False,
                        Reason::InitialSync,
                        format!("the first complete listing of link {link} is awaited"),
                    ),
                );
            }
            (None, None) if tally.pending > 0 => {
                c.say(ConditionType::Ready, (Truth::False, Reason::Reconciling, awaited))
            }
            (None, None) => c.say(ConditionType::Ready, yes(Reason::Ready, summary)),
        }
        c.say(ConditionType::Accepted, accepted);
        match refs {
            Some(refusal) => c.say(ConditionType::ResolvedRefs, no(refusal)),
            None => c.say(
                ConditionType::ResolvedRefs,
                yes(Reason::Resolved, "all links that are named exist and may be used"),
            ),
        }
        match programmed {
            Some(says) => c.say(ConditionType::Programmed, says),
            None => c.keep(
                ConditionType::Programmed,
                (Truth::Unknown, Reason::Suspended, "nothing has been written for it yet".into()),
            ),
        }
    }

    /// Whether all links that a policy names exist and admit it. A tenant is not told which.
    fn refs(&self, key: &Key, checked: &CheckedPolicy) -> Result<(), Refusal> {
        let LinkChoice::Names(names) = &checked.links else { return Ok(()) };
        for name in names {
            match self.world.links.get(name) {
                Some(link) => self.world.permits(name, link, &key.namespace, checked)?,
                None if checked.central => {
                    return Err(Refusal::new(
                        Reason::RefNotFound,
                        format!("spec.links.names: ClusterLink {name} does not exist; create it or correct the name"),
                    ));
                }
                None => return Err(World::not_permitted(name, &key.namespace)),
            }
        }
        Ok(())
    }

    /// What a policy in preview would change.
    fn preview(&self, key: &Key) -> String {
        let claimed =
            self.claims.iter().filter(|(id, _)| *id.policy == *key).filter_map(|(_, claim)| claim.target.clone());
        let targets: BTreeSet<Key> = claimed.chain(self.mirrors_of(key).map(|(target, _)| target.clone())).collect();
        let (mut create, mut update, mut delete) = (0, 0, 0);
        for target in &targets {
            match self.view(Some(key)).decide(target).write {
                Some(WriteOp::CreateService(..)) => create += 1,
                Some(WriteOp::DeleteService(..)) => delete += 1,
                Some(_) => update += 1,
                None => {}
            }
        }
        format!("would create {create}, update {update}, delete {delete}")
    }

    /// Mirrors that carry a policy's labels: with the link that they came through.
    fn mirrors_of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a Key, &'a str)> {
        self.world.services.iter().filter_map(move |(target, service)| {
            let labels = &service.ours.as_ref()?.labels;
            let of_policy = labels.get(POLICY_LABEL) == Some(&key.name)
                && labels.get(POLICY_NAMESPACE_LABEL) == Some(&key.namespace);
            match self.world.owner(target) {
                Owner::Ours(link) if of_policy => Some((target, link)),
                _ => None,
            }
        })
    }

    /// Counts a policy's matches. `said` is what its status lists of them.
    fn tally(&self, key: &Key, links: &[(&str, &Link)], said: &[PolicyFailure]) -> Tally {
        let mut tally = Tally::default();
        for (id, claim) in self.claims.iter().filter(|(id, _)| *id.policy == *key) {
            tally.counts.matched += 1;
            match self.counted(id, claim) {
                Counted::Mirrored => tally.counts.mirrored += 1,
                Counted::Skipped => tally.counts.skipped += 1,
                Counted::Conflicted => tally.counts.conflicted += 1,
                Counted::Pending => tally.pending += 1,
                Counted::Neither => {}
            }
            if let Outcome::Pending(Some(why)) = &*claim.outcome {
                tally.why_pending.get_or_insert_with(|| why.message.clone());
            }
            let stands = said.iter().filter(|f| *claim.outcome == Outcome::Awaited && is_about(f, id)).cloned();
            let listed = |note: &Refusal| tally.failures.iter().any(|f| f.link == id.link && f.message == note.message);
            let notes: Vec<&Refusal> =
                claim.outcome.notes().iter().filter(|note| !(note.advice && listed(note))).collect();
            let failures = notes.into_iter().map(|note| failure(id, note)).chain(stands);
            tally.failures.extend(failures.take(MAX_LISTED.saturating_sub(tally.failures.len())));
        }
        for (link, held) in self.held_of(key) {
            tally.counts.matched += 1;
            tally.counts.mirrored += 1;
            if tally.failures.len() < MAX_LISTED {
                let id = ClaimId { link: link.into(), origin: held.origin.clone(), policy: key.clone().into() };
                tally.failures.push(failure(&id, &held::note(link)));
            }
        }
        // Mirrors of remotes that have not been listed in this process are still there.
        let unlisted: BTreeSet<&str> =
            links.iter().filter(|(_, link)| !link.remote.listed).map(|(name, _)| *name).collect();
        if !unlisted.is_empty() {
            let kept = number(self.mirrors_of(key).filter(|(_, link)| unlisted.contains(link)).count());
            tally.counts.matched += kept;
            tally.counts.mirrored += kept;
        }
        tally
    }
}

/// A policy's matches, counted.
#[derive(Debug, Default)]
struct Tally {
    counts: PolicyServiceCounts,
    pending: u32,
    why_pending: Option<String>,
    failures: Vec<PolicyFailure>,
}

fn is_about(failure: &PolicyFailure, id: &ClaimId) -> bool {
    failure.link == id.link && failure.namespace == id.origin.namespace && failure.name == id.origin.name
}

fn failure(id: &ClaimId, note: &Refusal) -> PolicyFailure {
    PolicyFailure {
        link: id.link.to_string(),
        namespace: id.origin.namespace.to_string(),
        name: id.origin.name.to_string(),
        reason: note.reason.as_str().to_owned(),
        message: clean(&note.message, MAX_MESSAGE),
    }
}
