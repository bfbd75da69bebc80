//! Values of several fields that many have alike.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::intern::Pool;

/// Something that many have alike.
pub trait Alike: Clone + Eq + Hash + 'static {
    /// Where it is held.
    fn pool() -> &'static Pool<Arc<Self>>;
}

/// A value. Equal ones are the same block of memory, and one word points to it. Who changes it changes a
/// copy of its own.
pub struct One<T>(Arc<T>);

impl<T: Alike> From<T> for One<T> {
    fn from(value: T) -> Self {
        Self(T::pool().get(&value, || Arc::new(value.clone())))
    }
}

impl<T: Alike + Default> Default for One<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> Clone for One<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for One<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for One<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: PartialEq> PartialEq for One<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl<T: Eq> Eq for One<T> {}

impl<T: Ord> Ord for One<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl<T: Ord> PartialOrd for One<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Hash> Hash for One<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for One<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Map;

    #[test]
    fn equal_values_are_one_until_one_is_changed() {
        let map = || One::from(Map::from([("one", "x")]));
        let (a, mut b) = (map(), map());
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_eq!(size_of::<One<Map>>(), size_of::<usize>());
        b.insert("one".into(), "y".into());
        assert_eq!((a.get("one").unwrap().as_str(), b.get("one").unwrap().as_str()), ("x", "y"));
        assert_ne!(a, b);
        b.insert("one".into(), "x".into());
        assert_eq!(a, b, "by what they are, and not by where they lie");
        assert!(One(Arc::new(1)) < One(Arc::new(2)));
        assert!(Arc::ptr_eq(&a.0, &map().0), "who changed a copy has not changed what others get");
    }
}
