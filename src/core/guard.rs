//! The deletion guard of a link (design: promise 1): which mirrors that a listing would delete are
//! held, until when, and by which token a human lets them go. Judges absence only: a DELETE that was
//! seen, an origin in a state that is not to be mirrored, a spec and `onLoss` delete without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{
    engine::Engine,
    io::Scope,
    link::Link,
    model::{Key, Map, Origin, Uid},
    name,
    world::{Mirror, Owner},
};
use crate::api::{
    ConditionType,
    link::DeletionGuard,
    names::{ALLOW_DELETION_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL},
};

/// Deletions within this time count together (design: `deletionGuard`).
pub const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Origins that are known to be gone: that many are kept without asking whether their mirrors went too.
const GONE: usize = 1000;
/// Hex digits of a token: as of the other hashes that stand in names (design: section 4).
const TOKEN_DIGITS: usize = 8;

/// What is known of the deletions by absence of one link. It lives as long as the process.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Mirrors that are held.
    held: BTreeMap<Key, Held>,
    /// Since when some are.
    since: Option<Timestamp>,
    /// Some are because the listing's resourceVersion went back.
    went_back: bool,
    /// Origins whose absence is knowledge, as long as their mirrors are there.
    gone: BTreeSet<Key>,
    /// How many of them there were when the mirrors were looked through last.
    looked_through: usize,
    /// What was let pass within the window, oldest first.
    passed: VecDeque<Passed>,
    /// The cluster whose versions these are.
    cluster: Option<String>,
    /// The newest resourceVersion that was seen of each scope, where it is a number.
    versions: BTreeMap<Scope, u128>,
    /// Scopes whose listing has not been judged, and whether its resourceVersion went back.
    unjudged: BTreeMap<Scope, bool>,
}

/// A mirror that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// uid of the mirror.
    pub uid: Uid,
    /// Its origin.
    pub origin: Key,
    /// uid of its origin.
    pub origin_uid: Uid,
    /// The policy that it is of.
    pub policy: Key,
}

/// Deletions that a listing asked for and that were let pass.
#[derive(Clone, Debug)]
struct Passed {
    at: Timestamp,
    deleted: usize,
    /// Mirrors that there were before.
    of: usize,
}

impl Guard {
    /// A guard that has seen nothing. What the link's status says of the time goes on.
    pub fn new(link: &crate::api::ClusterLink) -> Self {
        let conditions = link.status.iter().flat_map(|status| &status.conditions);
        let mut held = conditions.filter(|c| c.type_ == ConditionType::DeletionHeld.as_str() && c.status == "True");
        Self { since: held.next().map(|c| c.last_transition_time.0), ..Self::default() }
    }

    /// The mirrors that are held.
    pub fn held(&self) -> &BTreeMap<Key, Held> {
        &self.held
    }

    /// Whether that mirror is held, and not another one of its name.
    pub fn holds(&self, mirror: &Key, uid: &Uid) -> Option<&Held> {
        self.held.get(mirror).filter(|held| held.uid == *uid)
    }

    /// Since when mirrors are held.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Some are held because a listing's resourceVersion went back.
    pub fn went_back(&self) -> bool {
        self.went_back
    }

    /// A listing has not been judged: nothing may be concluded from it.
    pub fn is_unjudged(&self) -> bool {
        !self.unjudged.is_empty()
    }

    /// It has to look at news of its link.
    fn is_busy(&self) -> bool {
        !self.held.is_empty() || self.is_unjudged()
    }

    /// The token that lets the held mirrors go: of exactly these, for a mirror that is made anew has
    /// another uid.
    pub fn token(&self, link_uid: &str) -> String {
        let of = |(mirror, held): (&Key, &Held)| {
            [mirror.namespace.to_string(), mirror.name.to_string(), held.uid.to_string()]
        };
        let fields: Vec<String> = std::iter::once(link_uid.to_owned()).chain(self.held.iter().flat_map(of)).collect();
        name::hash(&fields.iter().map(String::as_str).collect::<Vec<_>>(), TOKEN_DIGITS)
    }

    /// A watch has come to that resourceVersion.
    pub fn reached(&mut self, scope: Scope, version: &str) {
        if let Ok(version) = version.parse::<u128>() {
            let newest = self.versions.entry(scope).or_default();
            *newest = version.max(*newest);
        }
    }

    /// A listing of a scope was taken over, which may consist of several that were made at these
    /// versions. Of another cluster, older versions say nothing.
    pub fn listed(&mut self, scope: Scope, cluster: &str, versions: &BTreeMap<Scope, String>) {
        if self.cluster.as_deref() != Some(cluster) {
            self.cluster = Some(cluster.to_owned());
            self.versions.clear();
        }
        let mut went_back = false;
        for (of, version) in versions {
            let version = version.parse::<u128>().ok();
            let newest = self.versions.remove(of);
            went_back |= matches!((version, newest), (Some(version), Some(newest)) if version < newest);
            self.versions.extend(version.map(|version| (of.clone(), version)));
        }
        *self.unjudged.entry(scope).or_default() |= went_back;
    }

    /// An origin is there.
    pub fn is_there(&mut self, origin: &Key) {
        self.gone.remove(origin);
    }

    /// That an origin is not there is known, or asked for by a spec.
    pub fn is_gone(&mut self, origin: &Key) {
        self.gone.insert(origin.clone());
    }

    /// Many more origins are known to be gone than when that was looked through last.
    fn is_full(&self) -> bool {
        self.gone.len() > GONE.max(2 * self.looked_through)
    }

    /// A DELETE tells of an origin with that uid; gives whether its mirror is held.
    pub fn awaits_deletion(&self, origin: &Key, uid: &str) -> bool {
        self.held.values().any(|held| held.origin == *origin && held.origin_uid == *uid)
    }

    /// Whether a listing that has not been judged covers a namespace; and went back.
    fn covers(&self, namespace: &str) -> Option<bool> {
        let of = [self.unjudged.get(&None), self.unjudged.get(&Some(namespace.to_owned()))];
        of.into_iter().flatten().copied().reduce(|a, b| a || b)
    }

    /// Whether that many deletions more are too many, now, of that many mirrors: alone, or with those
    /// from any moment of the window on.
    fn crosses(&self, more: usize, of: usize, limits: &DeletionGuard) -> bool {
        let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let (percent, count) = (number(limits.max_percent), number(limits.min_count));
        if percent >= 100 {
            return false;
        }
        let too_many =
            |deleted: usize, of: usize| deleted > count && deleted.saturating_mul(100) > of.saturating_mul(percent);
        let mut deleted = more;
        let earlier = self.passed.iter().rev().any(|passed| {
            deleted += passed.deleted;
            too_many(deleted, passed.of)
        });
        earlier || too_many(more, of)
    }

    fn pass(&mut self, now: Timestamp, deleted: usize, of: usize) {
        if deleted > 0 {
            self.passed.push_back(Passed { at: now, deleted, of });
        }
    }

    fn forget_before(&mut self, start: Timestamp) {
        while self.passed.front().is_some_and(|passed| passed.at <= start) {
            self.passed.pop_front();
        }
    }
}

/// A mirror whose origin a listing lacks.
struct Absent {
    mirror: Key,
    held: Held,
    went_back: bool,
}

impl Engine {
    /// The links of which mirrors are held, and how many.
    pub fn deletions_held(&self) -> impl Iterator<Item = (&str, usize)> {
        let held = self.world.links.iter().map(|(name, link)| (name.as_str(), link.guard.held.len()));
        held.filter(|(_, held)| *held > 0)
    }

    /// Something happened to a link or its origins that its guard must look at.
    pub(super) fn guard_concerned(&mut self, link: &str) {
        if self.world.links.get(link).is_some_and(|link| link.guard.is_busy()) {
            self.guards_due.insert(link.to_owned());
        }
    }

    /// A Service of this cluster changed.
    pub(super) fn guards_concerned(&mut self, mirror: &Key) {
        let holds = self.world.links.iter().filter(|(_, link)| link.guard.held.contains_key(mirror));
        self.guards_due.extend(holds.map(|(name, _)| name.clone()));
    }

    /// Before anything is decided: judges what was listed, and lets go what is not to be held any
    /// more. Only when this cluster is known: a mirror that is not known cannot be held.
    pub(super) fn settle_guards(&mut self) {
        for name in std::mem::take(&mut self.guards_due) {
            // What has returned does not count against what is judged now.
            self.release(&name);
            self.judge(&name);
            self.release(&name);
        }
    }

    /// Forgets of which origins the mirrors are gone too, from time to time.
    pub(super) fn look_through_gone(&mut self, name: &str) {
        let Some(link) = self.world.links.get(name).filter(|link| link.guard.is_full()) else { return };
        let origins = self.world.mirrors_of(name).map(|mirror| mirror.origin);
        let gone: BTreeSet<Key> = origins.filter(|origin| link.guard.gone.contains(origin)).collect();
        if let Some(link) = self.world.links.get_mut(name) {
            link.guard.looked_through = gone.len();
            link.guard.gone = gone;
        }
    }

    fn judge(&mut self, name: &str) {
        let now = self.now;
        let Some(link) = self.world.links.get(name).filter(|link| link.guard.is_unjudged()) else { return };
        let (gone, there): (Vec<Mirror<'_>>, Vec<Mirror<'_>>) =
            self.world.mirrors_of(name).partition(|mirror| link.guard.gone.contains(&mirror.origin));
        let gone: BTreeSet<Key> = gone.into_iter().map(|mirror| mirror.origin).collect();
        let of = there.len();
        let absent = self.absent(name, link, there);
        let limits = link.object.spec.deletion_guard.clone();
        let Some(link) = self.world.links.get_mut(name) else { return };
        let guard = &mut link.guard;
        guard.looked_through = gone.len();
        guard.gone = gone;
        guard.unjudged.clear();
        guard.forget_before(now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN));
        let crossing = guard.crosses(absent.len() + guard.held.len(), of, &limits);
        let touched: Vec<Key> = absent.iter().map(|absent| absent.mirror.clone()).collect();
        let (held, passed): (Vec<Absent>, Vec<Absent>) = absent.into_iter().partition(|a| crossing || a.went_back);
        guard.pass(now, passed.len(), of);
        guard.gone.extend(passed.into_iter().map(|passed| passed.held.origin));
        let news: Vec<Key> = held.iter().map(|held| held.held.policy.clone()).collect();
        for absent in held {
            guard.since.get_or_insert(now);
            guard.went_back |= absent.went_back && !crossing;
            guard.held.insert(absent.mirror, absent.held);
        }
        touched.into_iter().for_each(|mirror| self.touch(mirror));
        self.tell_of_hold(name, news);
    }

    /// Of mirrors that are there, those that the unjudged listings would delete, and that are not held yet.
    fn absent(&self, name: &str, link: &Link, there: Vec<Mirror<'_>>) -> Vec<Absent> {
        let view = self.view(None);
        let mirrors = there.into_iter().filter(|mirror| {
            !link.remote.services.contains_key(&mirror.origin)
                && link.guard.holds(mirror.key, &mirror.service.uid).is_none()
                && view.could_claim(name, link, &mirror.origin, mirror.key)
        });
        let absent = |mirror: Mirror<'_>| {
            let text = |map: &Map, key: &str| map.get(key).cloned().unwrap_or_default();
            let (labels, annotations) = (&mirror.state.labels, &mirror.state.annotations);
            Some(Absent {
                went_back: link.guard.covers(&mirror.origin.namespace)?,
                mirror: mirror.key.clone(),
                held: Held {
                    uid: mirror.service.uid.clone(),
                    origin: mirror.origin,
                    origin_uid: annotations.origin_uid().cloned().unwrap_or_default(),
                    policy: Key::new(text(labels, POLICY_NAMESPACE_LABEL), text(labels, POLICY_LABEL)),
                },
            })
        };
        mirrors.filter_map(absent).collect()
    }

    /// Lets go what is there again, gone for sure or not wanted by a spec any more; and all of it by
    /// its token.
    fn release(&mut self, name: &str) {
        let Some(link) = self.world.links.get(name) else { return };
        let view = self.view(None);
        let there = |mirror: &Key, held: &Held| {
            let service = self.world.services.get(mirror);
            service.is_some_and(|s| s.uid == held.uid && !s.terminating)
                && matches!(self.world.owner(mirror), Owner::Ours(of) if of == name)
        };
        let is_held = |(mirror, held): &(&Key, &Held)| {
            there(mirror, held)
                && !link.remote.services.contains_key(&held.origin)
                && !link.guard.gone.contains(&held.origin)
                && view.could_claim(name, link, &held.origin, mirror)
        };
        let mut released: Vec<Key> =
            link.guard.held.iter().filter(|entry| !is_held(entry)).map(|(mirror, _)| mirror.clone()).collect();
        let mut policies: Vec<Key> = Vec::new();
        let annotations = link.object.metadata.annotations.as_ref();
        let allowed = annotations.and_then(|all| all.get(ALLOW_DELETION_ANNOTATION)).cloned();
        let uid = link.uid().to_owned();
        let Some(link) = self.world.links.get_mut(name) else { return };
        let guard = &mut link.guard;
        for mirror in &released {
            policies.extend(guard.held.remove(mirror).map(|held| held.policy));
        }
        if !guard.held.is_empty() && allowed == Some(guard.token(&uid)) {
            for (mirror, held) in std::mem::take(&mut guard.held) {
                guard.gone.insert(held.origin);
                policies.push(held.policy);
                released.push(mirror);
            }
        }
        // Since when an earlier process held some is forgotten only when the first listing was judged.
        if guard.held.is_empty() && (!released.is_empty() || !guard.is_unjudged()) {
            (guard.since, guard.went_back) = (None, false);
        }
        released.into_iter().for_each(|mirror| self.touch(mirror));
        self.tell_of_hold(name, policies);
    }

    fn tell_of_hold(&mut self, link: &str, policies: Vec<Key>) {
        self.status.touch_link(link);
        policies
            .iter()
            .filter(|key| self.world.policies.contains_key(key))
            .for_each(|key| self.status.touch_policy(key));
    }
}

/// Origins that a listing lacks because the link does not ask for them any more: their labels, as
/// they were, are not what its selector takes.
pub fn not_asked_for<'a>(link: &'a Link, listed: &'a BTreeMap<Key, Origin>) -> impl Iterator<Item = &'a Key> {
    let lacking = link.remote.services.iter().filter(|(key, _)| !listed.contains_key(key));
    lacking
        .filter(|(_, origin)| link.checked.as_ref().is_ok_and(|checked| !origin.labels.selected_by(&checked.sees)))
        .map(|(key, _)| key)
}

#[cfg(test)]
mod tests;
