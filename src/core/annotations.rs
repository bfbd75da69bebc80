//! The annotations of a mirror. What names its origin is different for each mirror, and what else there is
//! is alike for all of a link and a policy: the former are values beside the latter, which are held once.
//!
//! It must never show another text than the one that it was made of, however odd that is.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

use super::model::{Key, Map, One, Text, Uid};
use crate::api::names::{ORIGIN_ANNOTATION, ORIGIN_UID_ANNOTATION};

/// See the file's description.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// [`ORIGIN_ANNOTATION`], where it is a key; what else somebody made of it is among the others.
    origin: Option<Key>,
    /// [`ORIGIN_UID_ANNOTATION`]; empty where there is none. One that is empty itself is among the others.
    origin_uid: Uid,
    others: One<Map>,
}

impl Annotations {
    /// Those of a mirror of this origin, and these.
    pub fn of(origin: &Key, origin_uid: &Uid, mut others: Map) -> Self {
        let is_key = origin.is_written_as_key();
        if is_key {
            others.remove(ORIGIN_ANNOTATION);
        } else {
            others.insert(ORIGIN_ANNOTATION.into(), origin.to_string().into());
        }
        if origin_uid.is_empty() {
            others.insert(ORIGIN_UID_ANNOTATION.into(), Text::default());
        } else {
            others.remove(ORIGIN_UID_ANNOTATION);
        }
        Self { origin: is_key.then(|| origin.clone()), origin_uid: origin_uid.clone(), others: others.into() }
    }

    /// The origin, where the annotation is there and is a key.
    pub fn origin(&self) -> Option<&Key> {
        self.origin.as_ref()
    }

    /// The uid of the origin, where the annotation is there and says one.
    pub fn origin_uid(&self) -> Option<&Uid> {
        (!self.origin_uid.is_empty()).then_some(&self.origin_uid)
    }

    /// All but those that name the origin.
    pub fn others(&self) -> &Map {
        &self.others
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        let own = match key {
            ORIGIN_ANNOTATION => self.origin.as_ref().map(|origin| Cow::Owned(origin.to_string())),
            ORIGIN_UID_ANNOTATION => self.origin_uid().map(|uid| Cow::Owned(uid.to_string())),
            _ => None,
        };
        own.or_else(|| self.others.get(key).map(|value| Cow::Borrowed(value.as_str())))
    }

    /// Whether there is a key.
    pub fn contains_key(&self, key: &str) -> bool {
        key == ORIGIN_ANNOTATION && self.origin.is_some()
            || key == ORIGIN_UID_ANNOTATION && self.origin_uid().is_some()
            || self.others.contains_key(key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.origin.is_none() && self.origin_uid.is_empty() && self.others.is_empty()
    }

    /// Sets a key; gives what it was before.
    pub fn insert(&mut self, key: Text, value: Text) -> Option<Text> {
        self.edit(|all| all.insert(key, value))
    }

    /// Takes a key away; gives what it was.
    pub fn remove(&mut self, key: &str) -> Option<Text> {
        self.edit(|all| all.remove(key))
    }

    /// Takes all keys away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn edit<R>(&mut self, edit: impl FnOnce(&mut Map) -> R) -> R {
        let mut all = Map::from(&*self);
        let done = edit(&mut all);
        *self = all.into();
        done
    }
}

impl<K: Into<Text>, V: Into<Text>, const N: usize> From<[(K, V); N]> for Annotations {
    fn from(entries: [(K, V); N]) -> Self {
        Map::from(entries).into()
    }
}

impl From<Map> for Annotations {
    fn from(mut others: Map) -> Self {
        let origin = others.get(ORIGIN_ANNOTATION).and_then(|text| text.parse::<Key>().ok());
        if origin.is_some() {
            others.remove(ORIGIN_ANNOTATION);
        }
        let origin_uid: Uid = others.get(ORIGIN_UID_ANNOTATION).cloned().map(Uid::from).unwrap_or_default();
        if !origin_uid.is_empty() {
            others.remove(ORIGIN_UID_ANNOTATION);
        }
        Self { origin, origin_uid, others: others.into() }
    }
}

impl From<&Annotations> for Map {
    fn from(all: &Annotations) -> Self {
        let own = [ORIGIN_ANNOTATION, ORIGIN_UID_ANNOTATION].map(|key| all.get(key).map(|value| (key, value)));
        let others = all.others.iter().map(|(key, value)| (key.clone(), value.clone()));
        others.chain(own.into_iter().flatten().map(|(key, value)| (key.into(), (&*value).into()))).collect()
    }
}

impl PartialEq<Map> for Annotations {
    fn eq(&self, other: &Map) -> bool {
        let all = Map::from(self);
        all == *other
    }
}

impl fmt::Debug for Annotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Map::from(self).fmt(f)
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Map::from(self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 4] = [ORIGIN_ANNOTATION, ORIGIN_UID_ANNOTATION, "heliostat.dev/via", "note"];

    proptest! {
        /// The same as a map, which it stands for.
        #[test]
        fn m09_annotations_are_what_a_map_of_them_is(
            steps in prop::collection::vec((any::<bool>(), 0..KEYS.len(), "[ab]?/?[ab]?/?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), 0..20)
        ) {
            let (mut all, mut map) = (Annotations::default(), Map::new());
            for (set, key, value) in &steps {
                let key = KEYS[*key];
                if *set {
                    prop_assert_eq!(all.insert(key.into(), value.into()), map.insert(key.into(), value.into()));
                } else {
                    prop_assert_eq!(all.remove(key), map.remove(key));
                }
                for key in KEYS {
                    prop_assert_eq!(all.get(key).map(|value| Text::from(&*value)), map.get(key).cloned());
                    prop_assert_eq!(all.contains_key(key), map.contains_key(key));
                }
                let parsed = map.get(ORIGIN_ANNOTATION).and_then(|text| text.parse::<Key>().ok());
                prop_assert_eq!(all.origin(), parsed.as_ref());
                prop_assert_eq!(&Map::from(&all), &map);
                prop_assert_eq!(&all, &Annotations::from(map.clone()));
                prop_assert_eq!(all.is_empty(), map.is_empty());
                prop_assert_eq!(serde_json::to_string(&all).unwrap(), serde_json::to_string(&map).unwrap());
            }
        }

        #[test]
        fn those_of_an_origin_are_what_is_read_of_them(namespace in "[ab/]{0,2}", name in "[ab/]{0,2}", uid in "[a-f0-9-]{0,3}") {
            let origin = Key::new(namespace, name);
            let made = Annotations::of(&origin, &uid.as_str().into(), Map::from([("note", "n"), (ORIGIN_UID_ANNOTATION, "x")]));
            let texts = Map::from([("note", "n"), (ORIGIN_ANNOTATION, &origin.to_string()), (ORIGIN_UID_ANNOTATION, &uid)]);
            prop_assert_eq!(&made, &Annotations::from(texts.clone()));
            prop_assert_eq!(Map::from(&made), texts);
        }
    }

    #[test]
    fn none_is_there_only_where_there_is_none_of_any_kind() {
        assert!(Annotations::default().is_empty());
        for (key, value) in [(ORIGIN_ANNOTATION, "shop/books"), (ORIGIN_UID_ANNOTATION, "u"), ("note", "n")] {
            let all = Annotations::from([(key, value)]);
            assert!(!all.is_empty() && all == Map::from([(key, value)]) && all != Map::new(), "{key}");
        }
    }
}
