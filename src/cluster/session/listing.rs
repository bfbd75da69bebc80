//! The objects of one kind that a session sees, scope by scope: collects listings until they are
//! complete, and counts what is there. Pure bookkeeping: reads and sends nothing.

use std::{
    collections::{BTreeMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
};

use kube::runtime::watcher::Event;

use super::caps::beyond;
use crate::{cluster::failure::Failure, core::model::Key};

/// An object as read: its key, its uid, and its value if it says anything of use.
pub(super) type Read<T> = (Key, String, Option<T>);

/// What an event of a watch comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// Nothing that the engine need know.
    Nothing,
    /// A listing begins; it has not been asked for yet.
    Begins,
    /// A listing of the scope is complete.
    Complete(BTreeMap<Key, T>),
    /// An object is now this.
    Set(Key, T),
    /// An object is gone: its key and uid.
    Gone(Key, String),
}

/// All scopes of one kind.
pub(super) struct Listings<T> {
    what: &'static str,
    cap: usize,
    scopes: Vec<Scope<T>>,
    hasher: RandomState,
}

/// One watch: a namespace, or all of them.
struct Scope<T> {
    /// The listing that is being read.
    reading: BTreeMap<Key, T>,
    /// The first listing, complete and kept up to date until all scopes have theirs.
    first: Option<BTreeMap<Key, T>>,
    /// Hashes of the keys that are there, to count them.
    keys: HashSet<u64>,
}

impl<T> Listings<T> {
    /// `what` is the kind in words; `cap` is the most objects over all scopes.
    pub(super) fn new(what: &'static str, scopes: usize, cap: usize) -> Self {
        let scope = || Scope { reading: BTreeMap::new(), first: None, keys: HashSet::new() };
        Self { what, cap, scopes: std::iter::repeat_with(scope).take(scopes).collect(), hasher: RandomState::new() }
    }

    /// Takes an event of a scope's watch in.
    ///
    /// # Errors
    /// When there is more than may be held.
    pub(super) fn take<W>(
        &mut self,
        scope: usize,
        event: Event<W>,
        read: fn(W) -> Option<Read<T>>,
    ) -> Result<Step<T>, Failure> {
        let step = match event {
            Event::Init => {
                self.scopes[scope].reading = BTreeMap::new();
                Step::Begins
            }
            Event::InitApply(object) => {
                if let Some((key, _, Some(value))) = read(object) {
                    self.scopes[scope].reading.insert(key, value);
                }
                Step::Nothing
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.scopes[scope].reading);
                self.scopes[scope].keys = listed.keys().map(|key| self.hasher.hash_one(key)).collect();
                Step::Complete(listed)
            }
            Event::Apply(object) => match read(object) {
                Some((key, _, Some(value))) => self.set(scope, key, value),
                Some((key, uid, None)) => self.gone(scope, key, uid),
                None => Step::Nothing,
            },
            Event::Delete(object) => match read(object) {
                Some((key, uid, _)) => self.gone(scope, key, uid),
                None => Step::Nothing,
            },
        };
        let there: usize = self.scopes.iter().map(|scope| scope.keys.len().max(scope.reading.len())).sum();
        if there > self.cap { Err(beyond(self.what, self.cap)) } else { Ok(step) }
    }

    fn set(&mut self, scope: usize, key: Key, value: T) -> Step<T> {
        let hash = self.hasher.hash_one(&key);
        let scope = &mut self.scopes[scope];
        scope.keys.insert(hash);
        match &mut scope.first {
            Some(first) => {
                first.insert(key, value);
                Step::Nothing
            }
            None => Step::Set(key, value),
        }
    }

    fn gone(&mut self, scope: usize, key: Key, uid: String) -> Step<T> {
        let hash = self.hasher.hash_one(&key);
        let scope = &mut self.scopes[scope];
        scope.keys.remove(&hash);
        match &mut scope.first {
            Some(first) => {
                first.remove(&key);
                Step::Nothing
            }
            None => Step::Gone(key, uid),
        }
    }

    /// Keeps a scope's first listing until all have theirs.
    pub(super) fn keep_first(&mut self, scope: usize, listed: BTreeMap<Key, T>) {
        self.scopes[scope].first = Some(listed);
    }

    /// Whether every scope has been listed.
    pub(super) fn all_listed(&self) -> bool {
        self.scopes.iter().all(|scope| scope.first.is_some())
    }

    /// The first listings, as one; from now on single events are told.
    pub(super) fn take_first(&mut self) -> BTreeMap<Key, T> {
        let mut all = BTreeMap::new();
        for scope in &mut self.scopes {
            all.append(&mut scope.first.take().unwrap_or_default());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Object = (&'static str, Option<u8>);

    fn read((name, value): Object) -> Option<Read<u8>> {
        Some((Key::new("ns", name), format!("uid-{name}"), value))
    }

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    fn feed(listings: &mut Listings<u8>, scope: usize, events: Vec<Event<Object>>) -> Step<u8> {
        events.into_iter().fold(Step::Nothing, |_, event| listings.take(scope, event, read).unwrap())
    }

    fn list(names: &[&'static str]) -> Vec<Event<Object>> {
        let objects = names.iter().map(|name| Event::InitApply((*name, Some(1))));
        std::iter::once(Event::Init).chain(objects).chain([Event::InitDone]).collect()
    }

    #[test]
    fn events_before_the_first_listing_is_told_go_into_it() {
        let mut listings = Listings::new("Services", 2, 10);
        for scope in [0, 1] {
            let Step::Complete(listed) =
                feed(&mut listings, scope, list(if scope == 0 { &["a", "b"] } else { &["c"] }))
            else {
                panic!()
            };
            listings.keep_first(scope, listed);
            assert_eq!(listings.all_listed(), scope == 1);
            if scope == 0 {
                assert_eq!(
                    feed(&mut listings, 0, vec![Event::Apply(("x", Some(9))), Event::Delete(("a", Some(1)))]),
                    Step::Nothing
                );
            }
        }
        assert_eq!(listings.take_first(), BTreeMap::from([(key("b"), 1), (key("c"), 1), (key("x"), 9)]));
        assert_eq!(feed(&mut listings, 0, vec![Event::Apply(("b", Some(2)))]), Step::Set(key("b"), 2));
        assert_eq!(feed(&mut listings, 0, vec![Event::Delete(("b", Some(2)))]), Step::Gone(key("b"), "uid-b".into()));
    }

    #[test]
    fn a_second_init_begins_the_listing_anew() {
        let mut listings = Listings::new("Services", 1, 10);
        feed(&mut listings, 0, vec![Event::Init, Event::InitApply(("a", Some(1)))]);
        assert_eq!(feed(&mut listings, 0, list(&["b"])), Step::Complete(BTreeMap::from([(key("b"), 1)])));
    }

    #[test]
    fn what_says_nothing_of_use_any_more_is_gone() {
        let mut listings = Listings::new("slices", 1, 10);
        assert_eq!(
            feed(&mut listings, 0, vec![Event::Init, Event::InitApply(("a", None)), Event::InitDone]),
            Step::Complete(BTreeMap::new())
        );
        assert_eq!(feed(&mut listings, 0, vec![Event::Apply(("a", None))]), Step::Gone(key("a"), "uid-a".into()));
    }

    #[test]
    fn a05_more_than_the_cap_is_refused_and_room_is_given_back() {
        let mut listings = Listings::new("Services", 2, 3);
        feed(&mut listings, 0, list(&["a", "b"]));
        feed(&mut listings, 1, list(&["c"]));
        for _ in 0..10 {
            assert!(listings.take(1, Event::Apply(("c", Some(2))), read).is_ok());
        }
        let failure = listings.take(1, Event::Apply(("d", Some(1))), read).unwrap_err();
        assert!(failure.message.starts_with("the remote has more than 3 Services"), "{}", failure.message);
        assert!(listings.take(0, Event::Delete(("a", Some(1))), read).is_ok());

        let mut listings = Listings::new("Services", 1, 3);
        let refused =
            list(&["a", "b", "c", "d"]).into_iter().map(|event| listings.take(0, event, read)).find(Result::is_err);
        assert!(refused.is_some());
    }
}
