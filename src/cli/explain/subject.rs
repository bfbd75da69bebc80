//! Which origins a user means: by the name of a mirror, of an origin, or of a mirror that could be.

use std::collections::BTreeSet;

use crate::{
    cli::survey::Survey,
    core::{model::Key, world::Owner},
};

/// An origin over a link. Whether it exists is still to be found out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) link: String,
    pub(super) origin: Key,
}

impl Subject {
    fn new(link: &str, origin: Key) -> Self {
        Self { link: link.to_owned(), origin }
    }
}

/// The origins meant: those that have, or want, this name as a mirror; those that have it
/// themselves; else those that would have it under the usual template.
pub(super) fn of(survey: &Survey, key: &Key) -> BTreeSet<Subject> {
    let world = survey.engine.world();
    let wanted = survey.engine.claims().iter().filter(|(_, claim)| claim.target.as_ref() == Some(key));
    let mut found: BTreeSet<Subject> = wanted.map(|(id, _)| Subject::new(&id.link, id.origin.clone())).collect();
    found.extend(mirrored(survey, key));
    let seen = world.links.iter().filter(|(_, link)| link.remote.services.contains_key(key));
    found.extend(seen.map(|(link, _)| Subject::new(link, key.clone())));
    if found.is_empty() {
        found.extend(world.links.keys().filter_map(|link| usual(link, key)));
    }
    if found.is_empty() {
        found.extend(world.links.keys().map(|link| Subject::new(link, key.clone())));
    }
    found
}

/// The origin that an existing mirror stands for, as its marks say.
fn mirrored(survey: &Survey, key: &Key) -> Option<Subject> {
    let world = survey.engine.world();
    let Owner::Ours(link) = world.owner(key) else {
        return None;
    };
    let state = world.services.get(key)?.ours.as_ref()?;
    let origin = state.annotations.origin()?.clone();
    Some(Subject::new(link, origin))
}

/// The origin whose mirror would have this name under the default template.
fn usual(link: &str, key: &Key) -> Option<Subject> {
    let service = key.name.strip_suffix(link)?.strip_suffix('-').filter(|name| !name.is_empty())?;
    Some(Subject::new(link, Key::new(key.namespace.clone(), service)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrors_usual_name_leads_to_its_origin() {
        let usual = |link, name| usual(link, &Key::new("shop", name)).map(|s| s.origin.to_string());
        assert_eq!(usual("east", "books-east"), Some("shop/books".to_owned()));
        assert_eq!(usual("b-c", "a-b-c"), Some("shop/a".to_owned()));
        assert_eq!(usual("east", "books"), None);
        assert_eq!(usual("east", "-east"), None);
        assert_eq!(usual("east", "northeast"), None);
    }
}
