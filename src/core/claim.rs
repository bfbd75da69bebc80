//! Claims: which policy wants which origin as which mirror, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    model::{Key, Text},
    select::{Refusal, Refused},
    way::Via,
    world,
};

/// A policy's wish for an origin; ordered by link, origin, policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// The link.
    pub link: Text,
    /// The origin.
    pub origin: Key,
    /// The policy.
    pub policy: Key,
}

/// What a policy wants of an origin that it matches, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The mirror, where it has a name.
    pub target: Option<Key>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not decided yet, or its writes are not acknowledged yet; with the last failure of a write.
    Pending(Option<Refusal>),
    /// Refused by name, namespace, type, consent or limit: no Service.
    Refused(Refusal),
    /// Somebody else has the name.
    Conflicted(Refusal),
    /// The mirror is there. What it lacks is noted.
    Mirrored {
        /// The way; none: `NoRoute`, which is noted.
        via: Option<Via>,
        /// What is missing or odd.
        notes: Box<[Refusal]>,
    },
    /// Nothing is written for it now (suspend, preview, identity), as the link or policy says.
    Held,
    /// Nothing is decided before an answer that is on its way (DNS, nodes): what there is stays, and
    /// what was said of it stands.
    Awaited,
}

impl Outcome {
    /// What a user should know about it.
    pub fn notes(&self) -> &[Refusal] {
        match self {
            Self::Pending(Some(note)) | Self::Refused(note) | Self::Conflicted(note) => std::slice::from_ref(note),
            Self::Mirrored { notes, .. } => notes,
            Self::Pending(None) | Self::Held | Self::Awaited => &[],
        }
    }
}

/// All claims, by origin and by mirror.
#[derive(Debug, Default)]
pub struct Claims {
    all: BTreeMap<Arc<ClaimId>, Claim>,
    by_target: BTreeSet<(Key, Arc<ClaimId>)>,
}

impl Claims {
    /// Sets what a policy wants of an origin, or that it wants nothing. Gives the mirrors that
    /// this concerns; an unchanged claim keeps its outcome.
    pub fn set(&mut self, id: &ClaimId, wanted: Option<Result<Key, Refused>>) -> BTreeSet<Key> {
        let old = self.all.get(id).and_then(|claim| claim.target.clone());
        let (target, outcome) = match wanted {
            None => {
                self.all.remove(id);
                self.unindex(old.as_ref(), id);
                return old.into_iter().collect();
            }
            Some(Ok(target)) => (Some(target), Outcome::Pending(None)),
            Some(Err(Refused { target, refusal })) => (target, Outcome::Refused(refusal)),
        };
        let known = self.all.get_key_value(id).map(|(known, _)| Arc::clone(known));
        let id = &known.unwrap_or_else(|| Arc::new(id.clone()));
        if old != target {
            self.unindex(old.as_ref(), id);
            if let Some(target) = &target {
                self.by_target.insert((target.clone(), Arc::clone(id)));
            }
        }
        let concerned = old.into_iter().chain(target.clone()).collect();
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        match self.all.get_mut(id) {
            Some(claim) if claim.target == target && !refused(&outcome) && !refused(&claim.outcome) => {}
            _ => {
                self.all.insert(Arc::clone(id), Claim { target, outcome });
            }
        }
        concerned
    }

    fn unindex(&mut self, target: Option<&Key>, id: &ClaimId) {
        if let Some(target) = target {
            self.by_target.remove(&(target.clone(), Arc::new(id.clone())));
        }
    }

    /// Says what became of a claim; gives whether that is news.
    pub fn settle(&mut self, id: &ClaimId, outcome: Outcome) -> bool {
        match self.all.get_mut(id) {
            Some(claim) if claim.outcome != outcome => {
                claim.outcome = outcome;
                true
            }
            _ => false,
        }
    }

    /// A claim.
    pub fn get(&self, id: &ClaimId) -> Option<&Claim> {
        self.all.get(id)
    }

    /// All claims, by link, origin and policy.
    pub fn iter(&self) -> impl Iterator<Item = (&ClaimId, &Claim)> {
        self.all.iter().map(|(id, claim)| (id.as_ref(), claim))
    }

    /// Number of claims.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes the empty room out of the trees.
    pub fn tighten(&mut self) {
        world::tighten(&mut self.all);
        world::tighten_set(&mut self.by_target);
    }

    /// Claims on a mirror that were not refused.
    pub fn on<'a>(&'a self, target: &Key) -> impl Iterator<Item = &'a ClaimId> + use<'a> {
        let nobody = Key::default();
        let first = ClaimId { link: Text::default(), origin: nobody.clone(), policy: nobody };
        let (from, target) = ((target.clone(), Arc::new(first)), target.clone());
        let all = self.by_target.range(from..).take_while(move |(of, _)| *of == target).map(|(_, id)| id.as_ref());
        let admitted =
            |id: &&ClaimId| self.all.get(*id).is_some_and(|claim| !matches!(claim.outcome, Outcome::Refused(_)));
        all.filter(admitted)
    }

    /// Claims on one origin.
    pub fn of_origin<'a>(&'a self, link: &'a str, origin: &'a Key) -> impl Iterator<Item = (&'a ClaimId, &'a Claim)> {
        let nobody = Key::default();
        let first = ClaimId { link: link.into(), origin: origin.clone(), policy: nobody };
        self.all
            .range::<ClaimId, _>((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(id, _)| id.link == link && id.origin == *origin)
            .map(|(id, claim)| (id.as_ref(), claim))
    }

    /// Claims through one link.
    pub fn of_link<'a>(&'a self, link: &'a str) -> impl Iterator<Item = (&'a ClaimId, &'a Claim)> {
        let nobody = Key::default();
        let first = ClaimId { link: link.into(), origin: nobody.clone(), policy: nobody };
        let from = self.all.range::<ClaimId, _>((Bound::Included(first), Bound::Unbounded));
        from.take_while(move |(id, _)| id.link == link).map(|(id, claim)| (id.as_ref(), claim))
    }
}
