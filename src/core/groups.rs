//! Values in groups: an index that names each group once.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    model::{Key, Text},
    world,
};

/// Groups of values, ordered; none is empty.
#[derive(Clone, Debug)]
pub struct Groups<G, T>(BTreeMap<G, BTreeSet<T>>);

impl<G, T> Default for Groups<G, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<G: Ord, T: Ord> Groups<G, T> {
    /// Puts a value into a group.
    pub fn insert(&mut self, group: G, value: T) {
        self.0.entry(group).or_default().insert(value);
    }

    /// Takes a value out of a group.
    pub fn remove<Q: Ord + ?Sized>(&mut self, group: &Q, value: &T)
    where
        G: Borrow<Q>,
    {
        if let Some(values) = self.0.get_mut(group) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(group);
            }
        }
    }

    /// The values of a group, from one on.
    pub fn from<'a, Q: Ord + ?Sized>(&'a self, group: &Q, first: T) -> impl Iterator<Item = &'a T> + use<'a, G, T, Q>
    where
        G: Borrow<Q>,
    {
        self.0.get(group).map(|values| values.range(first..)).into_iter().flatten()
    }

    /// Takes the empty room out of the trees.
    pub fn tighten(&mut self) {
        self.0.values_mut().for_each(world::tighten_set);
    }
}

impl<G: Ord, T: Ord> FromIterator<(G, T)> for Groups<G, T> {
    fn from_iter<I: IntoIterator<Item = (G, T)>>(entries: I) -> Self {
        let mut groups: BTreeMap<G, Vec<T>> = BTreeMap::new();
        for (group, value) in entries {
            groups.entry(group).or_default().push(value);
        }
        // What is made at once has no empty room in it.
        Self(groups.into_iter().map(|(group, values)| (group, values.into_iter().collect())).collect())
    }
}

/// Names of slices by the Service that they speak of: of each namespace, Service and slice.
pub type SlicesOf = Groups<Text, (Text, Text)>;

impl SlicesOf {
    /// The names of the slices of a Service.
    pub fn of<'a>(&'a self, service: &'a Key) -> impl Iterator<Item = &'a Text> {
        let first = (service.name.clone(), Text::default());
        let all = self.from(service.namespace.as_str(), first);
        all.take_while(move |(of, _)| *of == service.name).map(|(_, slice)| slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_goes_with_its_last_value_and_has_nothing_of_others() {
        let mut slices: SlicesOf = [("a", "x", "1"), ("a", "x", "2"), ("a", "y", "3"), ("b", "x", "4")]
            .map(|(n, s, k)| (n.into(), (s.into(), k.into())))
            .into_iter()
            .collect();
        let of = |slices: &SlicesOf, key: Key| slices.of(&key).map(Text::to_string).collect::<Vec<_>>();
        assert_eq!(of(&slices, Key::new("a", "x")), ["1", "2"]);
        assert_eq!(of(&slices, Key::new("b", "x")), ["4"]);
        slices.remove("a", &("x".into(), "1".into()));
        slices.remove("b", &("x".into(), "4".into()));
        slices.remove("c", &("x".into(), "4".into()));
        slices.insert("a".into(), ("w".into(), "5".into()));
        slices.tighten();
        assert_eq!((of(&slices, Key::new("a", "x")), of(&slices, Key::new("b", "x"))), (vec!["2".to_owned()], vec![]));
        assert_eq!(slices.0.len(), 1);
    }
}
