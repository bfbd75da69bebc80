//! As what a claim counts in the status of its link and its policy.

use crate::core::{
    claim::{Claim, ClaimId, Outcome},
    engine::Engine,
    world::Owner,
};

/// As what a match counts; the greater wins where several policies match one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    Neither,
    Skipped,
    Conflicted,
    Pending,
    Mirrored,
}

pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Engine {
    /// As what a claim counts.
    pub(super) fn counted(&self, id: &ClaimId, claim: &Claim) -> Counted {
        match &*claim.outcome {
            Outcome::Refused(_) => Counted::Skipped,
            Outcome::Conflicted(_) => Counted::Conflicted,
            Outcome::Mirrored { .. } => Counted::Mirrored,
            Outcome::Held | Outcome::Awaited if self.exists(id, claim) => Counted::Mirrored,
            Outcome::Held | Outcome::Awaited => Counted::Neither,
            Outcome::Pending(_) => Counted::Pending,
        }
    }

    fn exists(&self, id: &ClaimId, claim: &Claim) -> bool {
        let Some(target) = &claim.target else { return false };
        let ours = self.world.owner(target) == Owner::Ours(&id.link);
        ours && self
            .world
            .services
            .get(target)
            .and_then(|s| s.ours.as_ref())
            .is_some_and(|s| s.annotations.origin() == Some(&id.origin))
    }
}
