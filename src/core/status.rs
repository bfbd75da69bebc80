//! What is said of links, policies and bindings (design: section 8): conditions, counts and
//! failures, computed from the world and the claims, and written only when they differ.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    claim::{Claim, ClaimId, Outcome},
    engine::Engine,
    io::{At, Output, WriteError, WriteFailure, WriteId, WriteOp, Written},
    model::Key,
    select::{CheckedPolicy, LinkChoice, Refusal},
    way::Via,
    world::{Connection, Link, Loss, Owner, Policy, World},
};
use crate::api::{
    ConditionType, GatewayBinding, MAX_LISTED, MAX_MESSAGE, MAX_NAME, MAX_TEXT, Reason,
    binding::{BindingServiceCounts, GatewayBindingStatus, Routing},
    link::{ClusterLinkStatus, LinkServiceCounts},
    names::{ORIGIN_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL},
    policy::{MirrorPolicyStatus, PolicyFailure, PolicyServiceCounts},
};

/// How long a status waits for more news before it is written.
const SETTLE: SignedDuration = SignedDuration::from_millis(100);
/// Shortest time between two writes of one status.
const REST: SignedDuration = SignedDuration::from_secs(1);

/// An object that has a status of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Link(String),
    Policy(Key),
    Binding(String),
}

/// Which statuses are to be looked at, and which are being written.
#[derive(Debug, Default)]
pub struct StatusBook {
    /// When each is due; none: as soon as it has been seen.
    dirty: BTreeMap<Subject, Option<Timestamp>>,
    /// Not before.
    rest: BTreeMap<Subject, Timestamp>,
    flights: BTreeMap<WriteId, (Subject, WriteOp)>,
}

impl StatusBook {
    fn touch(&mut self, subject: Subject) {
        self.dirty.entry(subject).or_insert(None);
    }

    /// A link's status may have changed.
    pub fn touch_link(&mut self, name: &str) {
        self.touch(Subject::Link(name.to_owned()));
    }

    /// A policy's status may have changed.
    pub fn touch_policy(&mut self, key: &Key) {
        self.touch(Subject::Policy(key.clone()));
    }

    /// A binding's status may have changed.
    pub fn touch_binding(&mut self, name: &str) {
        self.touch(Subject::Binding(name.to_owned()));
    }

    /// Links came, went or changed: all statuses may have.
    pub fn touch_all(&mut self, world: &World) {
        world.links.keys().for_each(|name| self.touch_link(name));
        world.policies.keys().for_each(|key| self.touch_policy(key));
        world.bindings.keys().for_each(|name| self.touch_binding(name));
    }

    /// A link is gone.
    pub fn forget_link(&mut self, name: &str) {
        self.forget(&Subject::Link(name.to_owned()));
    }

    /// A policy is gone.
    pub fn forget_policy(&mut self, key: &Key) {
        self.forget(&Subject::Policy(key.clone()));
    }

    /// A binding is gone.
    pub fn forget_binding(&mut self, name: &str) {
        self.forget(&Subject::Binding(name.to_owned()));
    }

    fn forget(&mut self, subject: &Subject) {
        self.dirty.remove(subject);
        self.rest.remove(subject);
    }

    fn in_flight(&self, subject: &Subject) -> bool {
        self.flights.values().any(|(flying, _)| flying == subject)
    }

    /// When the next status is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.dirty.iter().filter(|(subject, _)| !self.in_flight(subject)).filter_map(|(_, due)| *due).min()
    }

    /// Gives the statuses that are due, and sets the hour of those that are not.
    fn take_due(&mut self, now: Timestamp) -> Vec<Subject> {
        self.rest.retain(|_, until| *until > now);
        let (rest, flights) = (&self.rest, &self.flights);
        let mut due = Vec::new();
        for (subject, at) in &mut self.dirty {
            let soon = || now.saturating_add(SETTLE).unwrap_or(now).max(rest.get(subject).copied().unwrap_or(now));
            let hour = *at.get_or_insert_with(soon);
            if hour <= now && !flights.values().any(|(flying, _)| flying == subject) {
                due.push(subject.clone());
            }
        }
        due.iter().for_each(|subject| {
            self.dirty.remove(subject);
        });
        due
    }
}

/// Conditions in the order of the design; what is not said stays as it was.
struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
}

/// Status of a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
type Says = (Truth, Reason, String);

fn yes(reason: Reason, message: impl Into<String>) -> Says {
    (Truth::True, reason, message.into())
}

fn no(refusal: &Refusal) -> Says {
    (Truth::False, refusal.reason, refusal.message.clone())
}

impl<'a> Conditions<'a> {
    fn new(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { before, generation, now, list: Vec::new() }
    }

    fn was(&self, kind: ConditionType) -> Option<&'a Condition> {
        self.before.iter().find(|c| c.type_ == kind.as_str())
    }

    /// Says it.
    fn say(&mut self, kind: ConditionType, (truth, reason, message): Says) {
        let was = self.was(kind).filter(|c| c.status == truth.as_str());
        let since = was.map_or_else(|| whole_seconds(self.now), |c| c.last_transition_time.0);
        self.list.push(Condition {
            type_: kind.as_str().to_owned(),
            status: truth.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: clean(&message, MAX_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: Time(since),
        });
    }

    /// Leaves it as it was; says `otherwise` if it was nothing.
    fn keep(&mut self, kind: ConditionType, otherwise: Says) {
        match self.was(kind) {
            Some(was) => self.list.push(Condition { observed_generation: self.generation, ..was.clone() }),
            None => self.say(kind, otherwise),
        }
    }

    /// Puts `Stalled` and `Reconciling`, which are present only while True, first.
    fn finish(mut self, stalled: Option<&Refusal>, reconciling: Option<&str>) -> Vec<Condition> {
        let rest = std::mem::take(&mut self.list);
        if let Some(refusal) = stalled {
            self.say(ConditionType::Stalled, yes(refusal.reason, refusal.message.clone()));
        }
        if let Some(message) = reconciling {
            self.say(ConditionType::Reconciling, yes(Reason::Reconciling, message));
        }
        self.list.extend(rest);
        self.list
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Text for status: one line, no control characters, at most `max` characters.
fn clean(text: &str, max: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = characters.by_ref().take(max - 1).collect();
    match (characters.next(), characters.next()) {
        (Some(last), None) => out.push(last),
        (Some(_), Some(_)) => out.push('…'),
        (None, _) => {}
    }
    out
}

impl Engine {
    pub(super) fn write_status(&mut self, out: &mut Vec<Output>) {
        for subject in self.status.take_due(self.now) {
            let Some(op) = self.status_op(&subject) else { continue };
            let id = self.new_write(op.clone(), out);
            let until = self.now.saturating_add(REST).unwrap_or(self.now);
            self.status.rest.insert(subject.clone(), until);
            self.status.flights.insert(id, (subject, op));
        }
    }

    /// The write that brings a status up to date, if it is not.
    fn status_op(&self, subject: &Subject) -> Option<WriteOp> {
        let at = |meta: &kube::api::ObjectMeta| At {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        };
        match subject {
            Subject::Link(name) => {
                let link = self.world.links.get(name)?;
                let status = self.link_status(name, link)?;
                (link.object.status.as_ref() != Some(&status))
                    .then(|| WriteOp::LinkStatus(name.clone(), at(&link.object.metadata), Box::new(status)))
            }
            Subject::Policy(key) => {
                let policy = self.world.policies.get(key)?;
                let status = self.policy_status(key, policy)?;
                let differs = policy.object.status.as_ref() != Some(&status);
                differs.then(|| WriteOp::PolicyStatus(key.clone(), at(&policy.object.metadata), Box::new(status)))
            }
            Subject::Binding(name) => {
                let binding = self.world.bindings.get(name)?;
                let status = self.binding_status(name, binding);
                (binding.status.as_ref() != Some(&status))
                    .then(|| WriteOp::BindingStatus(name.clone(), at(&binding.metadata), Box::new(status)))
            }
        }
    }

    pub(super) fn status_written(&mut self, id: WriteId, result: Result<Written, WriteError>) {
        let Some((subject, op)) = self.status.flights.remove(&id) else { return };
        match result {
            Ok(Written::Status(version)) => self.take_status_over(op, &version),
            Err(error) if error.kind == WriteFailure::NotFound => {}
            Ok(_) | Err(_) => {
                self.status.rest.insert(subject.clone(), self.now.saturating_add(REST * 2).unwrap_or(self.now));
                self.status.touch(subject);
            }
        }
    }

    /// What was written is what is there, before a watch says so.
    fn take_status_over(&mut self, op: WriteOp, version: &str) {
        let set = |meta: &mut kube::api::ObjectMeta, at: &At| {
            let same =
                meta.uid.as_deref() == Some(&at.uid) && meta.resource_version.as_deref() == Some(&at.resource_version);
            if same {
                meta.resource_version = Some(version.to_owned());
            }
            same
        };
        match op {
            WriteOp::LinkStatus(name, at, status) => {
                if let Some(link) = self.world.links.get_mut(&name)
                    && set(&mut link.object.metadata, &at)
                {
                    link.object.status = Some(*status);
                }
            }
            WriteOp::PolicyStatus(key, at, status) => {
                if let Some(policy) = self.world.policies.get_mut(&key)
                    && set(&mut policy.object.metadata, &at)
                {
                    policy.object.status = Some(*status);
                }
            }
            WriteOp::BindingStatus(name, at, status) => {
                if let Some(binding) = self.world.bindings.get_mut(&name)
                    && set(&mut binding.metadata, &at)
                {
                    binding.status = Some(*status);
                }
            }
            _ => {}
        }
    }

    // ---- links ----

    /// A link's status; none while it is too early to say anything new.
    fn link_status(&self, name: &str, link: &Link) -> Option<ClusterLinkStatus> {
        let before = link.object.status.clone().unwrap_or_default();
        let generation = link.object.metadata.generation;
        let own = self.world.cluster_uid.as_deref();
        let remote = &link.remote;
        let suspended = link.object.spec.suspend;
        let starting = remote.connection == Connection::Starting && !suspended && link.checked.is_ok();
        let was_synced =
            before.conditions.iter().any(|c| c.type_ == ConditionType::Synced.as_str() && c.status == "True");
        if link.object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        if (starting || remote.connection == Connection::Listing && !remote.listed && !link.frozen(own))
            && was_synced
            && before.observed_generation == generation
        {
            return None;
        }
        let stalled = self.link_stalled(name, link);
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        self.say_link_ready(&mut c, link, stalled.as_ref());
        match (&link.checked, &stalled) {
            (Err(refusal), _) => c.say(ConditionType::Accepted, no(refusal)),
            (_, Some(refusal)) if refusal.reason == Reason::SelfLink => c.say(ConditionType::Accepted, no(refusal)),
            _ if suspended => c.say(
                ConditionType::Accepted,
                yes(Reason::Suspended, "spec.suspend is set: the remote is not read and everything stays as it is"),
            ),
            _ => c.say(ConditionType::Accepted, yes(Reason::Accepted, self.accepted_message(name, link))),
        }
        say_link_connection(&mut c, link, stalled.as_ref());
        let reconciling = (!suspended && stalled.is_none() && !remote.listed && before.last_sync_time.is_none())
            .then_some("the first complete listing of the remote is awaited");
        let conditions = c.finish(stalled.as_ref(), reconciling);
        Some(ClusterLinkStatus {
            observed_generation: generation,
            conditions,
            cluster_uid: remote.pinned_uid.as_deref().map(|uid| clean(uid, MAX_NAME)),
            server_version: remote.server_version.as_deref().map(|version| clean(version, MAX_NAME)),
            credentials_expire_at: remote.credentials_expire_at.map(|t| Time(whole_seconds(t))),
            services: if remote.listed { Some(self.link_counts(name, link)) } else { before.services },
            gateways: Vec::new(),
            // It moves only when Synced turns True, so not by a restart in between.
            last_sync_time: if was_synced {
                before.last_sync_time
            } else {
                remote.last_sync.map(|t| Time(whole_seconds(t)))
            },
            last_handled_reconcile_at: remote.handled_reconcile.as_deref().map(|token| clean(token, MAX_TEXT)),
        })
    }

    /// What a human must change in this very link, if anything.
    fn link_stalled(&self, name: &str, link: &Link) -> Option<Refusal> {
        if let Err(refusal) = &link.checked {
            return Some(refusal.clone());
        }
        if link.self_link(self.world.cluster_uid.as_deref()) {
            let message = format!(
                "link {name} leads to this cluster itself; point the kubeconfig in Secret {} at another cluster",
                link.object.spec.kubeconfig_secret_ref.name
            );
            return Some(Refusal::new(Reason::SelfLink, message));
        }
        if link.identity_changed() {
            let seen = link.remote.observed_uid.as_deref().unwrap_or_default();
            let expected = link.expected_uid().unwrap_or_default();
            return Some(Refusal::new(
                Reason::RemoteIdentityChanged,
                format!(
                    "another cluster answers: its kube-system has uid {seen}, not {expected}; nothing is changed until it is the old one again, or you set spec.clusterUID to {seen} to accept the new one"
                ),
            ));
        }
        match &link.remote.connection {
            Connection::Credentials(refusal) if refusal.reason == Reason::CredentialsRejected => Some(refusal.clone()),
            _ => None,
        }
    }

    fn say_link_ready(&self, c: &mut Conditions<'_>, link: &Link, stalled: Option<&Refusal>) {
        let remote = &link.remote;
        let not_yet = |why: String| (Truth::False, Reason::InitialSync, why);
        match (stalled, &remote.connection) {
            (Some(refusal), _) => c.say(ConditionType::Ready, no(refusal)),
            (None, _) if link.object.spec.suspend => {
                c.keep(
                    ConditionType::Ready,
                    (Truth::False, Reason::Suspended, "spec.suspend was set before the first listing".into()),
                );
            }
            (None, Connection::Credentials(refusal)) => c.say(ConditionType::Ready, no(refusal)),
            (None, Connection::Synced) => {
                c.say(ConditionType::Ready, yes(Reason::Ready, "the remote's state is known and applied"))
            }
            (None, _) if matches!(link.loss(self.now), Loss::Act(_)) && remote.last_sync.is_some() => {
                let since = remote.unknown_since.map(|t| whole_seconds(t).to_string()).unwrap_or_default();
                let action = link.object.spec.on_loss.action;
                let message = format!(
                    "the remote's state has been unknown since {since}, longer than spec.onLoss.after ({}); action {action:?} is in force",
                    link.object.spec.on_loss.after
                );
                c.say(ConditionType::Ready, (Truth::False, Reason::Stale, message));
            }
            (None, Connection::Lost(refusal)) if remote.last_sync.is_none() => {
                c.say(ConditionType::Ready, not_yet(format!("no complete listing yet: {}", refusal.message)))
            }
            (None, _) if remote.last_sync.is_none() => {
                c.say(ConditionType::Ready, not_yet("the first complete listing of the remote is awaited".into()))
            }
            (None, _) => c.keep(ConditionType::Ready, not_yet("a complete listing of the remote is awaited".into())),
        }
    }

    fn accepted_message(&self, name: &str, link: &Link) -> String {
        let uid = link.remote.observed_uid.as_deref();
        let twin = self
            .world
            .links
            .iter()
            .find(|(other, l)| *other != name && uid.is_some() && l.remote.observed_uid.as_deref() == uid);
        match twin {
            Some((other, _)) => format!("the spec is accepted; note that link {other} leads to the same cluster"),
            None => "the spec is accepted".into(),
        }
    }

    fn link_counts(&self, name: &str, link: &Link) -> LinkServiceCounts {
        let mut best: BTreeMap<&Key, Counted> = BTreeMap::new();
        for (id, claim) in self.claims.of_link(name) {
            let counted = self.counted(id, claim);
            let entry = best.entry(&id.origin).or_insert(counted);
            *entry = (*entry).max(counted);
        }
        let count = |wanted: Counted| number(best.values().filter(|c| **c == wanted).count());
        LinkServiceCounts {
            seen: number(link.remote.services.len()),
            mirrored: count(Counted::Mirrored),
            skipped: count(Counted::Skipped),
            conflicted: count(Counted::Conflicted),
        }
    }

    /// As what a claim counts.
    fn counted(&self, id: &ClaimId, claim: &Claim) -> Counted {
        match &claim.outcome {
            Outcome::Refused(_) => Counted::Skipped,
            Outcome::Conflicted(_) => Counted::Conflicted,
            Outcome::Mirrored { .. } => Counted::Mirrored,
            Outcome::Held if self.exists(id, claim) => Counted::Mirrored,
            Outcome::Held => Counted::Neither,
            Outcome::Pending(_) => Counted::Pending,
        }
    }

    fn exists(&self, id: &ClaimId, claim: &Claim) -> bool {
        let Some(target) = &claim.target else { return false };
        let origin = id.origin.to_string();
        let ours = self.world.owner(target) == Owner::Ours(&id.link);
        ours && self
            .world
            .services
            .get(target)
            .and_then(|s| s.ours.as_ref())
            .is_some_and(|s| s.annotations.get(ORIGIN_ANNOTATION) == Some(&origin))
    }

    // ---- policies ----

    /// A policy's status; none while it is too early to say anything new.
    fn policy_status(&self, key: &Key, policy: &Policy) -> Option<MirrorPolicyStatus> {
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
        let tally = self.tally(key, &links);
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
            self.claims.iter().filter(|(id, _)| id.policy == *key).filter_map(|(_, claim)| claim.target.clone());
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

    fn tally(&self, key: &Key, links: &[(&str, &Link)]) -> Tally {
        let mut tally = Tally::default();
        for (id, claim) in self.claims.iter().filter(|(id, _)| id.policy == *key) {
            tally.counts.matched += 1;
            match self.counted(id, claim) {
                Counted::Mirrored => tally.counts.mirrored += 1,
                Counted::Skipped => tally.counts.skipped += 1,
                Counted::Conflicted => tally.counts.conflicted += 1,
                Counted::Pending => tally.pending += 1,
                Counted::Neither => {}
            }
            if let Outcome::Pending(Some(why)) = &claim.outcome {
                tally.why_pending.get_or_insert_with(|| why.message.clone());
            }
            for note in claim.outcome.notes() {
                if tally.failures.len() < MAX_LISTED {
                    tally.failures.push(failure(id, note));
                }
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

    // ---- bindings ----

    fn binding_status(&self, name: &str, binding: &GatewayBinding) -> GatewayBindingStatus {
        let before = binding.status.clone().unwrap_or_default();
        let generation = binding.metadata.generation;
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        let unsupported = |what: &str| {
            Refusal::new(Reason::UnsupportedValue, format!("{what} is not supported by this version of Heliostat"))
        };
        let import = match (&binding.spec.import, binding.spec.routing) {
            (None, _) => Err(unsupported("spec.export")),
            (Some(_), Routing::Linkerd) => Err(unsupported("spec.routing: Linkerd")),
            (Some(import), _) => Ok(import),
        };
        let import = match import {
            Ok(import) => import,
            Err(refusal) => {
                c.say(ConditionType::Ready, no(&refusal));
                c.say(ConditionType::Accepted, no(&refusal));
                c.say(
                    ConditionType::ResolvedRefs,
                    (Truth::Unknown, Reason::Pending, "the spec is not accepted".into()),
                );
                c.say(ConditionType::Programmed, (Truth::Unknown, Reason::Pending, "the spec is not accepted".into()));
                return GatewayBindingStatus {
                    observed_generation: generation,
                    conditions: c.finish(Some(&refusal), None),
                    ..GatewayBindingStatus::default()
                };
            }
        };
        let link = &import.link_ref.name;
        let missing = Refusal::new(
            Reason::RefNotFound,
            format!("spec.import.linkRef.name: ClusterLink {link} does not exist; create it or correct the name"),
        );
        let found = self.world.links.contains_key(link);
        let described = "the gateway is described by hand; nothing is programmed over there";
        c.say(ConditionType::Ready, if found { yes(Reason::Ready, described) } else { no(&missing) });
        c.say(ConditionType::Accepted, yes(Reason::Accepted, "the spec is accepted"));
        c.say(
            ConditionType::ResolvedRefs,
            if found { yes(Reason::Resolved, format!("ClusterLink {link} exists")) } else { no(&missing) },
        );
        c.say(ConditionType::Programmed, yes(Reason::Programmed, described));
        let via = Via::Gateway(name.to_owned());
        let through = |(_, claim): &(&ClaimId, &Claim)| matches!(&claim.outcome, Outcome::Mirrored { via: Some(v), .. } if *v == via);
        let programmed = number(self.claims.of_link(link).filter(through).count());
        GatewayBindingStatus {
            observed_generation: generation,
            conditions: c.finish(None, None),
            addresses: import.addresses.clone(),
            services: Some(BindingServiceCounts { selected: programmed, programmed, pending: 0, failed: 0 }),
            ports: None,
            failures: Vec::new(),
        }
    }
}

/// As what a match counts; the greater wins where several policies match one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Neither,
    Skipped,
    Conflicted,
    Pending,
    Mirrored,
}

/// A policy's matches, counted.
#[derive(Debug, Default)]
struct Tally {
    counts: PolicyServiceCounts,
    pending: u32,
    why_pending: Option<String>,
    failures: Vec<PolicyFailure>,
}

fn failure(id: &ClaimId, note: &Refusal) -> PolicyFailure {
    PolicyFailure {
        link: id.link.clone(),
        namespace: id.origin.namespace.clone(),
        name: id.origin.name.clone(),
        reason: note.reason.as_str().to_owned(),
        message: clean(&note.message, MAX_MESSAGE),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn say_link_connection(c: &mut Conditions<'_>, link: &Link, stalled: Option<&Refusal>) {
    let remote = &link.remote;
    let pending = |what: &str| (Truth::Unknown, Reason::Pending, format!("{what} has not been tried yet"));
    match &remote.connection {
        Connection::Credentials(refusal) => c.say(ConditionType::CredentialsValid, no(refusal)),
        Connection::Lost(refusal) if refusal.reason == Reason::Unauthorized => {
            c.say(ConditionType::CredentialsValid, no(refusal))
        }
        Connection::Starting => c.keep(ConditionType::CredentialsValid, pending("the credential")),
        _ => c.say(ConditionType::CredentialsValid, yes(Reason::Valid, "the kubeconfig is accepted")),
    }
    let lost_before = c.was(ConditionType::Connected).is_some_and(|was| was.status == "False");
    let stale = |why: &str| (Truth::False, Reason::Stale, format!("the last listing is not followed any more: {why}"));
    let (connected, synced) = match (&remote.connection, stalled) {
        _ if link.object.spec.suspend => {
            let message = "spec.suspend is set: the remote is not read";
            (
                Some((Truth::Unknown, Reason::Suspended, message.into())),
                Some((Truth::Unknown, Reason::Suspended, message.into())),
            )
        }
        (_, Some(refusal)) if refusal.reason != Reason::InvalidSpec => {
            (Some(no(refusal)), Some(stale(&refusal.message)))
        }
        (Connection::Starting, _) => (None, None),
        (Connection::Listing, _) if lost_before => (None, None),
        (Connection::Listing, _) => {
            let message = "the first complete listing of the remote is awaited";
            (
                Some(yes(Reason::Connected, "the remote answers")),
                Some((Truth::False, Reason::InitialSync, message.into())),
            )
        }
        (Connection::Synced, _) => (
            Some(yes(Reason::Connected, "the remote answers")),
            Some(yes(Reason::InSync, "a complete listing has been taken over and is followed")),
        ),
        (Connection::Credentials(refusal) | Connection::Lost(refusal), _) if remote.last_sync.is_none() => (
            Some(no(refusal)),
            Some((Truth::False, Reason::InitialSync, "there has been no complete listing yet".into())),
        ),
        (Connection::Credentials(refusal) | Connection::Lost(refusal), _) => {
            (Some(no(refusal)), Some(stale(&refusal.message)))
        }
    };
    match connected {
        Some(says) => c.say(ConditionType::Connected, says),
        None => c.keep(ConditionType::Connected, pending("the connection")),
    }
    match synced {
        Some(says) => c.say(ConditionType::Synced, says),
        None => c.keep(
            ConditionType::Synced,
            (Truth::False, Reason::InitialSync, "there has been no complete listing yet".into()),
        ),
    }
}
