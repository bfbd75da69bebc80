//! The objects of one kind that a session sees, scope by scope: collects listings until they are
//! complete, and counts what is there. Pure bookkeeping: reads and sends nothing.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use kube::runtime::watcher::Event;

use super::{
    caps::{beyond, too_large},
    weight::Weigh,
};
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
    /// Most objects, and most bytes.
    cap: (usize, usize),
    scopes: Vec<Scope<T>>,
    hasher: RandomState,
}

/// One watch: a namespace, or all of them.
struct Scope<T> {
    /// The listing that is being read.
    reading: BTreeMap<Key, T>,
    /// The first listing, complete and kept up to date until all scopes have theirs.
    first: Option<BTreeMap<Key, T>>,
    /// Bytes of the listing that is being read.
    reading_bytes: usize,
    /// Hashes of the keys that are there, with the bytes that each object takes. A tree, as it takes a
    /// third of what a table does.
    keys: BTreeMap<u64, u32>,
    /// Their sum.
    bytes: usize,
}

impl<T: Weigh> Scope<T> {
    /// What the object now takes.
    fn weigh(&mut self, hash: u64, weight: usize) {
        let before = self.keys.insert(hash, small(weight)).unwrap_or(0);
        self.bytes = self.bytes - before as usize + small(weight) as usize;
    }
}

impl<T: Weigh> Listings<T> {
    /// `what` is the kind in words; `cap` is the most objects over all scopes, and the most bytes.
    pub(super) fn new(what: &'static str, scopes: usize, cap: (usize, usize)) -> Self {
        let scope =
            || Scope { reading: BTreeMap::new(), reading_bytes: 0, first: None, keys: BTreeMap::new(), bytes: 0 };
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
                self.scopes[scope].reading_bytes = 0;
                Step::Begins
            }
            Event::InitApply(object) => {
                if let Some((key, _, Some(value))) = read(object) {
                    let scope = &mut self.scopes[scope];
                    scope.reading_bytes += value.weight();
                    let before = scope.reading.insert(key, value);
                    scope.reading_bytes -= before.map_or(0, |before| before.weight());
                }
                Step::Nothing
            }
            Event::InitDone => {
                let scope = &mut self.scopes[scope];
                // A tree that is made at once has no empty room in it; one that grew in order is half empty.
                let listed: BTreeMap<Key, T> = std::mem::take(&mut scope.reading).into_iter().collect();
                scope.keys = listed.iter().map(|(key, v)| (self.hasher.hash_one(key), small(v.weight()))).collect();
                (scope.bytes, scope.reading_bytes) = (scope.keys.values().map(|weight| *weight as usize).sum(), 0);
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
        let bytes: usize = self.scopes.iter().map(|scope| scope.bytes.max(scope.reading_bytes)).sum();
        match self.cap {
            (objects, _) if there > objects => Err(beyond(self.what, objects)),
            (_, most) if bytes > most => Err(too_large(self.what, most)),
            _ => Ok(step),
        }
    }

    fn set(&mut self, scope: usize, key: Key, value: T) -> Step<T> {
        let hash = self.hasher.hash_one(&key);
        let scope = &mut self.scopes[scope];
        scope.weigh(hash, value.weight());
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
        scope.bytes -= scope.keys.remove(&hash).unwrap_or(0) as usize;
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

/// A weight, as it is kept: an object is at most as large as an answer may be.
fn small(weight: usize) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Object = (&'static str, Option<u8>);

    const MANY: usize = 1 << 20;

    impl Weigh for u8 {
        fn weight(&self) -> usize {
            usize::from(*self)
        }
    }

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
        let mut listings = Listings::new("Services", 2, (10, MANY));
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
        let mut listings = Listings::new("Services", 1, (10, MANY));
        feed(&mut listings, 0, vec![Event::Init, Event::InitApply(("a", Some(1)))]);
        assert_eq!(feed(&mut listings, 0, list(&["b"])), Step::Complete(BTreeMap::from([(key("b"), 1)])));
    }

    #[test]
    fn what_says_nothing_of_use_any_more_is_gone() {
        let mut listings = Listings::new("slices", 1, (10, MANY));
        assert_eq!(
            feed(&mut listings, 0, vec![Event::Init, Event::InitApply(("a", None)), Event::InitDone]),
            Step::Complete(BTreeMap::new())
        );
        assert_eq!(feed(&mut listings, 0, vec![Event::Apply(("a", None))]), Step::Gone(key("a"), "uid-a".into()));
    }

    #[test]
    fn a05_more_than_the_cap_is_refused_and_room_is_given_back() {
        let mut listings = Listings::new("Services", 2, (3, MANY));
        feed(&mut listings, 0, list(&["a", "b"]));
        feed(&mut listings, 1, list(&["c"]));
        for _ in 0..10 {
            assert!(listings.take(1, Event::Apply(("c", Some(2))), read).is_ok());
        }
        let failure = listings.take(1, Event::Apply(("d", Some(1))), read).unwrap_err();
        assert!(failure.message.starts_with("the remote has more than 3 Services"), "{}", failure.message);
        assert!(listings.take(0, Event::Delete(("a", Some(1))), read).is_ok());

        let mut listings = Listings::new("Services", 1, (3, MANY));
        let refused =
            list(&["a", "b", "c", "d"]).into_iter().map(|event| listings.take(0, event, read)).find(Result::is_err);
        assert!(refused.is_some());
    }
    #[test]
    fn a05_few_objects_that_are_large_are_refused_and_room_is_given_back() {
        let mut listings = Listings::new("Services", 2, (10, 100));
        let large = |name, bytes| Event::Apply((name, Some(bytes)));
        feed(&mut listings, 0, list(&["a"]));
        feed(&mut listings, 1, list(&["b"]));
        for _ in 0..10 {
            feed(&mut listings, 0, vec![large("a", 60)]);
        }
        let failure = listings.take(1, large("b", 50), read).unwrap_err();
        assert_eq!(failure.reason, crate::api::Reason::QuotaExceeded);
        assert!(
            failure.message.starts_with("the remote's Services that this link would see take more than"),
            "{failure:?}"
        );
        feed(&mut listings, 1, vec![large("b", 40)]);
        feed(&mut listings, 0, vec![Event::Delete(("a", Some(1)))]);
        feed(&mut listings, 1, vec![large("c", 60)]);
        // A listing that is being read counts too, each object once.
        let reading = |bytes| Event::InitApply(("d", Some(bytes)));
        feed(&mut listings, 0, vec![Event::Init]);
        for _ in 0..3 {
            listings.take(0, reading(0), read).unwrap();
        }
        assert!(listings.take(0, reading(1), read).is_err());
    }
}
