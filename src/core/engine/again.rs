//! What is to be looked at again: mirrors, the origins of a link and what policies want of them, and which
//! of them a link's limit leaves out. Puts mirrors in the queue, and decides nothing about them.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::core::{
    claim::ClaimId,
    model::{Key, Text},
    select::{self, is_probe},
    world::Owner,
};

impl Engine {
    /// Puts a mirror in the queue, in the lane of the link that it belongs to.
    pub(in crate::core) fn touch(&mut self, target: Key) {
        let lane = self.lane(&target);
        self.retries.remove(&target);
        self.propagation.touched(&target);
        self.queue.push(&lane, target);
    }

    /// The link that a mirror belongs to, or that wants it first.
    pub(super) fn lane(&self, target: &Key) -> Text {
        match self.world.owner(target) {
            Owner::Ours(link) => link.into(),
            _ => self.claims.on(target).next().map(|id| id.link.clone()).unwrap_or_default(),
        }
    }

    /// Decides anew which policies want an origin.
    pub(in crate::core) fn reconsider(&mut self, link_name: &str, origin: &Key) {
        let stale: Vec<ClaimId> = self.claims.of_origin(link_name, origin).map(|(id, _)| id.clone()).collect();
        let mut wanted: BTreeMap<ClaimId, Result<Key, select::Refused>> = BTreeMap::new();
        let origins = self.world.links.get(link_name).map(|link| &link.remote.services);
        let answers_probes = origins.and_then(|all| all.get(origin)).is_some_and(|found| is_probe(&found.labels));
        self.reach.service(link_name, origin, answers_probes);
        if let Some(link) = self.world.links.get(link_name)
            && let Some(found) = link.remote.services.get(origin)
        {
            for (policy_key, policy) in &self.world.policies {
                let Some(checked) = policy.accepted() else { continue };
                if checked.names(link_name, link)
                    && checked.matches(origin, &found.labels)
                    && self.world.permits(link_name, link, &policy_key.namespace, checked).is_ok()
                {
                    let id =
                        ClaimId { link: link_name.into(), origin: origin.clone(), policy: policy_key.clone().into() };
                    wanted.insert(id, select::admit(checked, link_name, origin, found, &self.world));
                }
            }
        }
        let mut touched = BTreeSet::new();
        for id in stale.into_iter().filter(|id| !wanted.contains_key(id)) {
            self.status.touch_policy(&id.policy);
            touched.extend(self.claims.set(&id, None));
        }
        for (id, claim) in wanted {
            self.status.touch_policy(&id.policy);
            self.warn_of(&id, claim.as_ref().err().map(|r| &r.refusal));
            touched.extend(self.claims.set(&id, Some(claim)));
        }
        self.quota_due.insert(link_name.to_owned());
        self.guard_concerned(link_name);
        self.status.touch_link(link_name);
        touched.into_iter().for_each(|target| self.touch(target));
    }

    pub(in crate::core) fn reconsider_link(&mut self, link: &str) {
        let known = self
            .world
            .links
            .get(link)
            .map(|l| l.remote.services.keys().cloned().collect::<BTreeSet<_>>())
            .unwrap_or_default();
        let claimed: BTreeSet<Key> = self.claims.of_link(link).map(|(id, _)| id.origin.clone()).collect();
        known.union(&claimed).for_each(|origin| self.reconsider(link, origin));
        self.guard_concerned(link);
        self.all_due = true;
    }

    pub(in crate::core) fn reconsider_all(&mut self) {
        let links: BTreeSet<String> =
            self.world.links.keys().cloned().chain(self.claims.iter().map(|(id, _)| id.link.to_string())).collect();
        links.iter().for_each(|link| self.reconsider_link(link));
    }

    /// Looks at every mirror that exists: a spec changed, or several in one listing.
    pub(super) fn touch_ours(&mut self) {
        let ours: Vec<Key> =
            self.world.services.iter().filter(|(_, s)| s.ours.is_some()).map(|(key, _)| key.clone()).collect();
        ours.into_iter().for_each(|key| self.touch(key));
    }

    /// Looks at every mirror of a link: its readiness, addresses or clock changed.
    pub(in crate::core) fn touch_link(&mut self, link: &str) {
        let claimed: Vec<Key> = self.claims.of_link(link).filter_map(|(_, claim)| claim.target.clone()).collect();
        let ours = self.world.ours(link).cloned();
        let all: BTreeSet<Key> = claimed.into_iter().chain(ours).collect();
        all.into_iter().for_each(|key| self.touch(key));
        self.status.touch_link(link);
        self.reach.touch(link);
    }

    pub(in crate::core) fn touch_origin(&mut self, link: &str, origin: &Key) {
        if self.reach.services(link).any(|service| service == origin) {
            self.reach.touch(link);
        }
        let targets: Vec<Key> =
            self.claims.of_origin(link, origin).filter_map(|(_, claim)| claim.target.clone()).collect();
        targets.into_iter().for_each(|key| self.touch(key));
    }

    pub(in crate::core) fn touch_node_users(&mut self, link: &str) {
        let users: Vec<Key> = self.node_users.of(link).cloned().collect();
        users.into_iter().for_each(|key| self.touch(key));
    }

    /// Decides anew which origins of a link are over its limit: incumbents first, then by name.
    pub(super) fn settle_limits(&mut self) {
        for link_name in std::mem::take(&mut self.quota_due) {
            let Some(link) = self.world.links.get(&link_name) else { continue };
            let limit = usize::try_from(link.object.spec.limits.services).unwrap_or(usize::MAX);
            let before: BTreeSet<Key> =
                self.over_limit.iter().filter(|(l, _)| *l == link_name).map(|(_, origin)| origin.clone()).collect();
            if before.is_empty() && link.remote.services.len() <= limit {
                continue;
            }
            let wanted: BTreeMap<&Key, bool> = self
                .claims
                .of_link(&link_name)
                .filter_map(|(id, claim)| claim.target.as_ref().map(|t| (&id.origin, t)))
                .fold(BTreeMap::new(), |mut all, (origin, target)| {
                    *all.entry(origin).or_default() |= self.world.owner(target) == Owner::Ours(&link_name);
                    all
                });
            let mut ranked: Vec<(bool, &Key)> = wanted.into_iter().map(|(origin, exists)| (!exists, origin)).collect();
            ranked.sort();
            let over: BTreeSet<Key> = ranked.into_iter().skip(limit).map(|(_, origin)| origin.clone()).collect();
            self.over_limit.retain(|(l, _)| *l != link_name);
            self.over_limit.extend(over.iter().map(|origin| (Text::from(&link_name), origin.clone())));
            before.symmetric_difference(&over).for_each(|origin| self.touch_origin(&link_name, origin));
        }
    }
}
