//! What is said of mirrors that the deletion guard holds.

use super::condition::{Conditions, Truth, whole_seconds, yes};
use crate::{
    api::{ConditionType, Reason, names::ALLOW_DELETION_ANNOTATION},
    core::{engine::Engine, guard::Held, link::Link, model::Key, select::Refusal},
};

impl Engine {
    /// `DeletionHeld`, which is there only while it is True.
    pub(super) fn say_held(&self, c: &mut Conditions<'_>, name: &str, link: &Link) {
        let was = c.was(ConditionType::DeletionHeld).filter(|was| was.status == Truth::True.as_str());
        let guard = &link.guard;
        if guard.held().is_empty() {
            // What an earlier process held is judged with the first listing.
            if let (Some(was), true) = (was, !link.remote.listed || guard.is_unjudged()) {
                c.keep(ConditionType::DeletionHeld, yes(Reason::DeletionHeld, was.message.clone()));
            }
            return;
        }
        let since = was.map_or_else(|| whole_seconds(self.now), |was| was.last_transition_time.0);
        let token = guard.token(link.uid());
        let (held, of) = (guard.held().len(), self.world.mirrors_of(name).count());
        let why = match guard.went_back() {
            true => "their origins are missing from a listing that is older than what was seen before",
            false => "their origins are missing from complete listings, too many at once for spec.deletionGuard",
        };
        let message = format!(
            "{held} of {of} mirrors are held since {since} and stay as they are: {why}. Look at the exporter: is it all there, did it come from a backup, may its account still see everything? When the origins return, this ends. If they are gone for good, the token {token} lets exactly these mirrors be deleted: kubectl annotate clusterlink {name} {ALLOW_DELETION_ANNOTATION}={token} --overwrite"
        );
        c.say(ConditionType::DeletionHeld, yes(Reason::DeletionHeld, message));
    }

    /// The held mirrors of a policy: through which link, and what is held.
    pub(super) fn held_of<'a>(&'a self, policy: &'a Key) -> impl Iterator<Item = (&'a str, &'a Held)> {
        let of_link =
            |(name, link): (&'a String, &'a Link)| link.guard.held().values().map(move |held| (name.as_str(), held));
        self.world.links.iter().flat_map(of_link).filter(move |(_, held)| held.policy == *policy)
    }
}

/// What a user should know of a held mirror.
pub(super) fn note(link: &str) -> Refusal {
    Refusal::new(
        Reason::DeletionHeld,
        format!(
            "a listing of link {link} lacks the origin, and too many others; the mirror stays as it is until the origin returns or ClusterLink {link} is told to let it go, as its condition DeletionHeld says"
        ),
    )
}
