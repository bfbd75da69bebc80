//! Maps of texts: labels and annotations.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

use kube::core::{Selector, SelectorExt};
use serde::{Serialize, Serializer};

use super::{
    Text,
    list::{List, Pooled},
    one::Alike,
};
use crate::intern::Pool;

type Entries = Arc<[(Text, Text)]>;

impl Pooled for (Text, Text) {
    fn pool() -> &'static Pool<Entries> {
        static MAPS: LazyLock<Pool<Entries>> = LazyLock::new(Pool::default);
        &MAPS
    }
}

impl Alike for Map {
    fn pool() -> &'static Pool<Arc<Self>> {
        static ONES: LazyLock<Pool<Arc<Map>>> = LazyLock::new(Pool::default);
        &ONES
    }
}

/// Labels or annotations: texts by their keys, in the order of the keys. A tree of so few entries would
/// take a node of half a kilobyte. The texts are held once; a map is only where it is asked for, as most
/// have a name in them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Map(List<(Text, Text)>);

impl Map {
    /// One without entries.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(key))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Text> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Whether it has a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Its entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Its keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Text> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Its values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Text> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Sets a key; gives what it was before.
    pub fn insert(&mut self, key: Text, value: Text) -> Option<Text> {
        let mut entries = self.0.to_vec();
        let before = match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => {
                entries.insert(at, (key, value));
                None
            }
        };
        self.0 = List::alone(entries);
        before
    }

    /// Takes a key away; gives what it was.
    pub fn remove(&mut self, key: &str) -> Option<Text> {
        let at = self.find(key).ok()?;
        let mut entries = self.0.to_vec();
        let (_, before) = entries.remove(at);
        self.0 = List::alone(entries);
        Some(before)
    }

    /// The same, and the same block as equal ones: for maps of which many are.
    pub fn shared(&self) -> Self {
        Self(self.0.shared())
    }

    /// Takes all keys away.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether a selector takes an object with these labels.
    pub fn selected_by(&self, selector: &Selector) -> bool {
        let tree = || self.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        selector.selects_all() || selector.matches(&tree())
    }
}

impl<K: Into<Text>, V: Into<Text>> Extend<(K, V)> for Map {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let before = self.iter().map(|(key, value)| (key.clone(), value.clone()));
        *self = before.chain(entries.into_iter().map(|(key, value)| (key.into(), value.into()))).collect();
    }
}

impl<K: Into<Text>, V: Into<Text>> FromIterator<(K, V)> for Map {
    /// Of equal keys the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Text, Text)> = entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(List::alone(entries))
    }
}

impl<K: Into<Text>, V: Into<Text>, const N: usize> From<[(K, V); N]> for Map {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl IntoIterator for Map {
    type Item = (Text, Text);
    type IntoIter = std::vec::IntoIter<(Text, Text)>;

    fn into_iter(self) -> Self::IntoIter {
        Vec::from(self.0.as_slice()).into_iter()
    }
}

impl From<&Map> for BTreeMap<String, String> {
    fn from(map: &Map) -> Self {
        map.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same as a tree, which it stands for.
        #[test]
        fn a_map_is_what_a_tree_is(steps in prop::collection::vec((any::<bool>(), "[a-d]{0,2}", "[x-z]?"), 0..40)) {
            let (mut map, mut tree) = (Map::new(), BTreeMap::<String, String>::new());
            for (set, key, value) in &steps {
                if *set {
                    prop_assert_eq!(map.insert(key.into(), value.into()).map(String::from), tree.insert(key.clone(), value.clone()));
                } else {
                    prop_assert_eq!(map.remove(key).map(String::from), tree.remove(key));
                }
                prop_assert_eq!(map.get(key).map(Text::as_str), tree.get(key).map(String::as_str));
                prop_assert_eq!(map.contains_key(key), tree.contains_key(key));
            }
            prop_assert_eq!(BTreeMap::from(&map), tree.clone());
            prop_assert_eq!((map.len(), map.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert_eq!(serde_json::to_string(&map).unwrap(), serde_json::to_string(&tree).unwrap());
            let at_once: Map = steps.iter().map(|(_, key, value)| (key, value)).collect();
            let tree: BTreeMap<String, String> = steps.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(BTreeMap::from(&at_once), tree);
        }
    }

    #[test]
    fn equal_maps_are_one_where_that_is_asked_for() {
        let (a, b) = (Map::from([("x", "1"), ("y", "2")]), Map::from([("y", "2"), ("x", "1")]));
        assert_eq!(a, b);
        assert_ne!(a.0.as_ptr(), b.0.as_ptr());
        let (a, b) = (a.shared(), b.shared());
        assert_eq!(a, b);
        assert_eq!(a.0.as_ptr(), b.0.as_ptr());
        assert_ne!(a, Map::from([("x", "1")]));
    }
}
