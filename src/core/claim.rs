//! Claims: which policy wants which origin as which mirror, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use super::{
    groups::Groups,
    model::{Key, One, Text},
    select::{Refusal, Refused},
    value::Alike,
    way::Via,
    world,
};
use crate::intern::Pool;

/// A policy's wish for an origin; ordered by link, origin, policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// The link.
    pub link: Text,
    /// The origin.
    pub origin: Key,
    /// The policy.
    pub policy: One<Key>,
}

/// What a policy wants of an origin that it matches, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The mirror, where it has a name.
    pub target: Option<Key>,
    /// What became of it: of most the same.
    pub outcome: One<Outcome>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Alike for Outcome {
    fn pool() -> &'static Pool<Arc<Self>> {
        static OUTCOMES: LazyLock<Pool<Arc<Outcome>>> = LazyLock::new(Pool::default);
        &OUTCOMES
    }
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
    all: BTreeMap<ClaimId, Claim>,
    /// Of each namespace the names of mirrors, and who wants them.
    by_target: Groups<Text, (Text, ClaimId)>,
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
        if old != target {
            self.unindex(old.as_ref(), id);
            if let Some(target) = &target {
                self.by_target.insert(target.namespace.clone(), (target.name.clone(), id.clone()));
            }
        }
        let concerned = old.into_iter().chain(target.clone()).collect();
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        match self.all.get_mut(id) {
            Some(claim) if claim.target == target && !refused(&outcome) && !refused(&claim.outcome) => {}
            _ => {
                self.all.insert(id.clone(), Claim { target, outcome: outcome.into() });
            }
        }
        concerned
    }

    fn unindex(&mut self, target: Option<&Key>, id: &ClaimId) {
        if let Some(target) = target {
            self.by_target.remove(target.namespace.as_str(), &(target.name.clone(), id.clone()));
        }
    }

    /// Says what became of a claim; gives whether that is news.
    pub fn settle(&mut self, id: &ClaimId, outcome: Outcome) -> bool {
        match self.all.get_mut(id) {
            Some(claim) if *claim.outcome != outcome => {
                claim.outcome = outcome.into();
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
        self.all.iter()
    }

    /// Number of claims.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Takes the empty room out of the trees.
    pub fn tighten(&mut self) {
        world::tighten(&mut self.all);
        self.by_target.tighten();
    }

    /// Claims on a mirror that were not refused.
    pub fn on<'a>(&'a self, target: &Key) -> impl Iterator<Item = &'a ClaimId> + use<'a> {
        let first = ClaimId { link: Text::default(), origin: Key::default(), policy: One::default() };
        let name = target.name.clone();
        let from = self.by_target.from(target.namespace.as_str(), (name.clone(), first));
        let all = from.take_while(move |(of, _)| *of == name).map(|(_, id)| id);
        let admitted =
            |id: &&ClaimId| self.all.get(*id).is_some_and(|claim| !matches!(*claim.outcome, Outcome::Refused(_)));
        all.filter(admitted)
    }

    /// Claims on one origin.
    pub fn of_origin<'a>(&'a self, link: &'a str, origin: &'a Key) -> impl Iterator<Item = (&'a ClaimId, &'a Claim)> {
        let first = ClaimId { link: link.into(), origin: origin.clone(), policy: One::default() };
        self.all.range(first..).take_while(move |(id, _)| id.link == link && id.origin == *origin)
    }

    /// Claims through one link.
    pub fn of_link<'a>(&'a self, link: &'a str) -> impl Iterator<Item = (&'a ClaimId, &'a Claim)> {
        let first = ClaimId { link: link.into(), origin: Key::default(), policy: One::default() };
        self.all.range(first..).take_while(move |(id, _)| id.link == link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn a_claim_that_did_not_change_keeps_what_became_of_it() {
        let id = |policy: &str| ClaimId {
            link: "east".into(),
            origin: Key::new("shop", "books"),
            policy: Key::new("shop", policy).into(),
        };
        let (one, mut claims) = (id("one"), Claims::default());
        let target = |name: &str| Key::new("shop", name);
        assert_eq!(claims.set(&one, Some(Ok(target("a")))), [target("a")].into());
        assert!(claims.settle(&one, Outcome::Held) && !claims.settle(&one, Outcome::Held), "told once");
        claims.set(&one, Some(Ok(target("a"))));
        assert_eq!(*claims.get(&one).unwrap().outcome, Outcome::Held);
        // Another mirror, and one that is refused, are to be decided anew.
        assert_eq!(claims.set(&one, Some(Ok(target("b")))), [target("a"), target("b")].into());
        assert_eq!(*claims.get(&one).unwrap().outcome, Outcome::Pending(None));
        let refusal = Refusal::new(Reason::InvalidName, "too long");
        let refused = || Some(Err(Refused { target: Some(target("b")), refusal: refusal.clone() }));
        claims.set(&one, refused());
        assert_eq!(*claims.get(&one).unwrap().outcome, Outcome::Refused(refusal.clone()));
        assert_eq!(claims.on(&target("b")).count(), 0, "who is refused has no say");
        claims.set(&one, Some(Ok(target("b"))));
        assert_eq!(*claims.get(&one).unwrap().outcome, Outcome::Pending(None));
        claims.set(&id("two"), Some(Ok(target("b"))));
        assert_eq!((claims.count(), claims.on(&target("b")).count(), claims.on(&target("a")).count()), (2, 2, 0));
        assert_eq!(claims.set(&one, None), [target("b")].into());
        assert_eq!((claims.get(&one), claims.on(&target("b")).count()), (None, 1));
        assert!(!claims.settle(&one, Outcome::Held), "nobody's");
    }
}
