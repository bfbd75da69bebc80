//! Lists.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use crate::intern::Pool;

/// Something of which many lists are equal.
pub trait Pooled: Clone + Eq + Hash + 'static {
    /// Where lists of it are held.
    fn pool() -> &'static Pool<Arc<[Self]>>;
}

/// A list. Equal ones are the same block of memory, but for those that were made alone; an empty one takes none.
#[derive(Clone)]
pub struct List<T>(Option<Arc<[T]>>);

impl<T> List<T> {
    /// What is in it.
    pub fn as_slice(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> List<T> {
    /// A list of which no other is likely to be equal: a block of its own, which nobody looks up.
    pub fn alone(items: Vec<T>) -> Self {
        Self((!items.is_empty()).then(|| items.into()))
    }
}

impl<T: Pooled> List<T> {
    /// The same, and the same block as equal ones.
    pub fn shared(&self) -> Self {
        self.0.as_ref().map_or_else(Self::default, |items| Self(Some(T::pool().get(&**items, || Arc::clone(items)))))
    }

    /// The list with this done to it.
    pub fn edit<R>(&mut self, edit: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut items = self.as_slice().to_vec();
        let done = edit(&mut items);
        *self = items.into();
        done
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Pooled> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        if items.is_empty() {
            return Self::default();
        }
        Self(Some(T::pool().get(items.as_slice(), || items.as_slice().into())))
    }
}

impl<T: Pooled> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<T>>().into()
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

impl<T: Eq> Eq for List<T> {}

impl<T: PartialEq> PartialEq<Vec<T>> for List<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Hash> Hash for List<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Family;

    #[test]
    fn a_list_equals_what_holds_the_same() {
        let (one, two) = (vec![Family::V4], vec![Family::V4, Family::V6]);
        assert!(List::from(one.clone()) == one && List::from(one.clone()) != two);
        assert_eq!(List::alone(two.clone()).shared(), List::from(two));
    }
}
