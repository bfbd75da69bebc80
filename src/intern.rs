//! Values that are equal, held once. What many objects say alike (a namespace, the key of a label, the
//! ports of a Service) takes its room once for the whole process, and goes when nobody holds it any more.
//!
//! It changes nothing but where a value lies: no answer depends on what is held. It must never give out
//! a value that is not equal to the one it was asked for.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use arcstr::ArcStr;

/// A value that several may hold.
pub trait Shared: Clone + Eq + Hash {
    /// How many hold it.
    fn holders(&self) -> usize;
}

impl Shared for ArcStr {
    fn holders(&self) -> usize {
        Self::strong_count(self).unwrap_or(usize::MAX)
    }
}

impl<T: Eq + Hash + ?Sized> Shared for Arc<T> {
    fn holders(&self) -> usize {
        Self::strong_count(self)
    }
}

/// Least number of values beyond those that are in use before it is looked for what nobody holds.
const SLACK: usize = 1024;

/// Values of one kind.
#[derive(Debug)]
pub struct Pool<S> {
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    held: HashSet<S>,
    /// With so many it is looked for what nobody holds any more.
    full: usize,
}

impl<S: Shared> Default for Pool<S> {
    fn default() -> Self {
        Self { state: Mutex::new(State { held: HashSet::new(), full: SLACK }) }
    }
}

impl<S: Shared> Pool<S> {
    /// The one value that is equal to this; made where there is none.
    pub fn get<Q>(&self, value: &Q, make: impl FnOnce() -> S) -> S
    where
        S: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = state.held.get(value) {
            return found.clone();
        }
        if state.held.len() >= state.full {
            state.let_go();
        }
        let made = make();
        state.held.insert(made.clone());
        made
    }

    /// How many values are held, in use or not.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Shared> State<S> {
    /// Lets go what only the pool holds. As this is done when a quarter more is held than was in use
    /// before, it costs a few steps for each new value, and that quarter is all that is held in vain.
    fn let_go(&mut self) {
        // Under the lock nobody can come to hold a value that the pool alone holds.
        self.held.retain(|value| value.holders() > 1);
        self.full = self.held.len() + (self.held.len() / 4).max(SLACK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pool: &Pool<ArcStr>, of: &str) -> ArcStr {
        pool.get(of, || ArcStr::from(of))
    }

    #[test]
    fn what_is_equal_is_held_once() {
        let pool = Pool::default();
        let (a, b, c) = (text(&pool, "shop"), text(&pool, "shop"), text(&pool, "pens"));
        assert!(ArcStr::ptr_eq(&a, &b) && !ArcStr::ptr_eq(&a, &c));
        assert_eq!((a.as_str(), c.as_str(), pool.len()), ("shop", "pens", 2));
    }

    #[test]
    fn what_nobody_holds_is_let_go_and_what_somebody_holds_stays() {
        let pool = Pool::default();
        let kept: Vec<ArcStr> = (0..10).map(|i| text(&pool, &format!("kept-{i}"))).collect();
        for i in 0..100 * SLACK {
            text(&pool, &format!("passing-{i}"));
        }
        assert!(pool.len() <= 2 * SLACK + kept.len(), "{} are held", pool.len());
        for (i, text) in kept.iter().enumerate() {
            let again = pool.get(format!("kept-{i}").as_str(), || panic!("kept-{i} was let go"));
            assert!(ArcStr::ptr_eq(&again, text));
        }
    }

    #[test]
    fn lists_are_shared_too() {
        let pool: Pool<Arc<[u16]>> = Pool::default();
        let list = |of: &[u16]| pool.get(of, || of.into());
        assert!(Arc::ptr_eq(&list(&[80, 443]), &list(&[80, 443])));
        assert!(!Arc::ptr_eq(&list(&[80, 443]), &list(&[443, 80])));
    }
}
