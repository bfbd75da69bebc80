//! Who depends on what: mirrors on hostnames, or on the nodes of links. Told by each decision, and
//! kept in both directions, so that what a decision costs follows from what it names.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Key;

/// Names, and the mirrors that depend on them.
#[derive(Debug, Default)]
pub struct Dependents {
    users: BTreeMap<String, BTreeSet<Key>>,
    names: BTreeMap<Key, BTreeSet<String>>,
    changed: bool,
}

impl Dependents {
    /// A mirror depends on these names, and on no other.
    pub fn set(&mut self, mirror: &Key, names: &BTreeSet<String>) {
        if self.names.get(mirror).map_or(names.is_empty(), |before| before == names) {
            return;
        }
        let before = self.names.remove(mirror).unwrap_or_default();
        for name in before.difference(names) {
            if let Some(users) = self.users.get_mut(name) {
                users.remove(mirror);
                if users.is_empty() {
                    self.users.remove(name);
                    self.changed = true;
                }
            }
        }
        for name in names.difference(&before) {
            let users = self.users.entry(name.clone()).or_default();
            self.changed |= users.is_empty();
            users.insert(mirror.clone());
        }
        if !names.is_empty() {
            self.names.insert(mirror.clone(), names.clone());
        }
    }

    /// The mirrors that depend on a name.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &Key> {
        self.users.get(name).into_iter().flatten()
    }

    /// Whether any mirror depends on a name.
    pub fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Whether a name came or went since this was asked last.
    pub fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All names that a mirror depends on.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_is_kept_as_long_as_somebody_uses_it() {
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        let mut hosts = Dependents::default();
        let news = |hosts: &mut Dependents| hosts.changed().then(|| hosts.all().cloned().collect::<Vec<_>>());
        assert_eq!(news(&mut hosts), None);
        hosts.set(&a, &names(&["x", "y"]));
        hosts.set(&b, &names(&["y"]));
        assert_eq!(news(&mut hosts), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(hosts.of("y").collect::<Vec<_>>(), [&a, &b]);
        assert!(hosts.has("x") && !hosts.has("z") && hosts.of("z").next().is_none());

        hosts.set(&a, &names(&["y"]));
        assert_eq!(news(&mut hosts), Some(vec!["y".to_owned()]), "nobody uses x any more");
        hosts.set(&a, &names(&[]));
        hosts.set(&a, &names(&[]));
        assert_eq!((news(&mut hosts), hosts.of("y").collect::<Vec<_>>()), (None, vec![&b]), "b uses y still");
        hosts.set(&b, &names(&["z"]));
        assert_eq!(news(&mut hosts), Some(vec!["z".to_owned()]));
    }
}
