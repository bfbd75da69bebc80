//! One kind of resources on one stream: what is asked for, what the Envoy has, what it refused, and
//! the one message that it has not answered yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    core::envoy::EnvoyRouting,
    xds::snapshot::{Kind, Resource, Resources},
};

/// What one response says.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) changed: Resources,
    pub(super) removed: BTreeSet<String>,
}

impl Message {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn forget(&mut self, name: &str) {
        self.changed.remove(name);
        self.removed.remove(name);
    }

    /// The part of it that is about these names.
    fn about(&self, names: &BTreeSet<String>) -> Self {
        let changed = self.changed.iter().filter(|(name, _)| names.contains(*name));
        Self {
            changed: changed.map(|(name, resource)| (name.clone(), Arc::clone(resource))).collect(),
            removed: self.removed.intersection(names).cloned().collect(),
        }
    }
}

/// What an Envoy has under a name.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Empty: nothing.
    version: String,
    /// None while it is not known what that version says.
    resource: Option<Arc<Resource>>,
    /// Whether it is not certain that it still has that: it refused a change of it together with others,
    /// and takes what is good of such a message.
    doubtful: bool,
    /// What it has instead, perhaps.
    perhaps: Option<Arc<Resource>>,
}

impl Held {
    fn certainly(resource: Arc<Resource>) -> Self {
        Self { version: resource.version.clone(), resource: Some(resource), ..Self::default() }
    }

    const fn is_something(&self) -> bool {
        !self.version.is_empty()
    }

    /// Whether nobody knows what it says.
    pub(super) const fn is_unknown(&self) -> bool {
        self.is_something() && self.resource.is_none()
    }

    /// All that the Envoy may have.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resource.iter().chain(&self.perhaps)
    }

    /// What the Envoy does because of it in any case.
    pub(super) fn routing(&self) -> Option<EnvoyRouting> {
        let routing = self.resource.as_ref()?.routing.as_ref()?;
        if self.doubtful { routing.common(self.perhaps.as_ref()?.routing.as_ref()?) } else { Some(routing.clone()) }
    }
}

#[derive(Debug)]
struct Refusal {
    version: String,
    words: String,
    /// Whether it is to be said once more.
    again: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    asked: bool,
    told: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, Held>,
    /// Whether some of `held` is not known.
    unknown: bool,
    refused: BTreeMap<String, Refusal>,
    under_way: Option<(String, Message)>,
    /// Parts of a refused message, each to be said by itself; the last one first.
    doubtful: Vec<BTreeSet<String>>,
}

impl Subscription {
    /// Takes the answer to a message; one to another message is old, and counts for nothing.
    pub(super) fn answer(&mut self, kind: Kind, nonce: &str, refusal: Option<String>) {
        let Some((_, message)) = self.under_way.take_if(|(awaited, _)| awaited == nonce) else { return };
        match refusal {
            None => self.accept(kind, message),
            Some(words) => self.refuse(message, words),
        }
    }

    fn accept(&mut self, kind: Kind, message: Message) {
        for (name, resource) in message.changed {
            self.refused.remove(&name);
            self.held.insert(name, Held::certainly(resource));
        }
        for name in message.removed {
            self.held.remove(&name);
            if !kind.is_wildcard() {
                self.held.insert(name, Held::default());
            }
        }
    }

    fn refuse(&mut self, message: Message, words: String) {
        let names: Vec<_> = message.changed.keys().chain(&message.removed).cloned().collect();
        if let [name] = names.as_slice() {
            match message.changed.get(name) {
                Some(resource) => self.refuse_one(resource, words),
                // That something is to go cannot be said better.
                None => drop(self.held.remove(name)),
            }
            return;
        }
        for name in &names {
            let held = self.held.entry(name.clone()).or_default();
            held.doubtful = true;
            held.perhaps = message.changed.get(name).cloned();
        }
        let (one, other) = names.split_at(names.len() / 2);
        for half in [other, one] {
            self.doubtful.push(half.iter().cloned().collect());
        }
    }

    fn refuse_one(&mut self, resource: &Resource, words: String) {
        if let Some(held) = self.held.get_mut(&resource.name) {
            // Who refuses what it perhaps or supposedly had does not have it.
            if held.perhaps.take_if(|perhaps| perhaps.version == resource.version).is_some() {
                held.doubtful = false;
            }
            let has_nothing = !held.is_something() || held.version == resource.version;
            if has_nothing && held.perhaps.is_none() {
                self.held.remove(&resource.name);
            }
        }
        let refusal = Refusal { version: resource.version.clone(), words, again: false };
        self.refused.insert(resource.name.clone(), refusal);
    }

    /// Takes names that are no longer wanted.
    pub(super) fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if self.names.remove(name) {
                self.forget(name);
                self.refused.remove(name);
            }
        }
    }

    /// Takes names that are wanted; one that was wanted before is to be said again.
    pub(super) fn subscribe(&mut self, kind: Kind, names: Vec<String>) {
        // Of what is wanted unasked, names mean nothing; after a reconnect Envoy lists what it has.
        if kind.is_wildcard() {
            return;
        }
        for name in names {
            self.forget(&name);
            self.names.insert(name);
        }
    }

    /// Takes the first request of a stream: what the Envoy has from an earlier one.
    pub(super) fn begin(&mut self, kind: Kind, versions: HashMap<String, String>) {
        if self.asked {
            return;
        }
        self.asked = true;
        self.told = !versions.is_empty();
        let wanted = |name: &str| kind.is_wildcard() || self.names.contains(name);
        let versions = versions.into_iter().filter(|(name, version)| !version.is_empty() && wanted(name));
        self.held = versions.map(|(name, version)| (name, Held { version, ..Held::default() })).collect();
        self.unknown = !self.held.is_empty();
    }

    /// Finds out what the Envoy has, where that is what it is to have, and drops refusals of what is no
    /// longer wanted.
    pub(super) fn compare(&mut self, wanted: &Resources) {
        let is_wanted = |name: &str, version: &str| wanted.get(name).is_some_and(|wanted| wanted.version == version);
        self.refused.retain(|name, refusal| is_wanted(name, &refusal.version));
        if self.unknown {
            for (name, held) in self.held.iter_mut().filter(|(_, held)| held.is_unknown()) {
                held.resource = wanted.get(name).filter(|wanted| wanted.version == held.version).cloned();
            }
            self.unknown = self.held.values().any(Held::is_unknown);
        }
    }

    /// Takes it that the Envoy will need this anew.
    pub(super) fn expect(&mut self, name: &str) {
        self.forget(name);
    }

    fn forget(&mut self, name: &str) {
        self.held.remove(name);
        if let Some((_, message)) = &mut self.under_way {
            message.forget(name);
        }
    }

    /// Lets what was refused be said once more.
    pub(super) fn retry(&mut self) {
        self.refused.values_mut().for_each(|refusal| refusal.again = true);
    }

    /// Whether the Envoy has asked, and so has said what it has.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether anything may be said now: it was asked for, and no answer is awaited.
    pub(super) const fn listens(&self) -> bool {
        self.asked && self.under_way.is_none()
    }

    /// Whether nothing was ever said, on this stream or before.
    pub(super) const fn is_new(&self) -> bool {
        !self.told
    }

    /// What the Envoy is to have and does not have, but for what it refused.
    pub(super) fn missing<'a>(&'a self, kind: Kind, wanted: &'a Resources) -> impl Iterator<Item = &'a Arc<Resource>> {
        let asked = move |name: &str| kind.is_wildcard() || self.names.contains(name);
        let refused = |resource: &Resource| {
            self.refused
                .get(&resource.name)
                .is_some_and(|refusal| refusal.version == resource.version && !refusal.again)
        };
        let wanted = wanted.values().filter(move |resource| asked(&resource.name));
        wanted.filter(move |resource| !self.has_version(&resource.name, &resource.version) && !refused(resource))
    }

    /// What the Envoy has and is not to have; and what it asked for that is not there, of which it
    /// does not know that.
    pub(super) fn superfluous<'a>(&'a self, kind: Kind, wanted: &'a Resources) -> impl Iterator<Item = &'a String> {
        let all = kind.is_wildcard();
        let held = self.held.keys().filter(move |_| all);
        let asked = self.names.iter().filter(move |name| !all && !self.held.contains_key(*name));
        held.chain(asked).filter(|name| !wanted.contains_key(*name))
    }

    /// The next message of what is to be said.
    pub(super) fn next_message(&mut self, changed: Vec<Arc<Resource>>, removed: Vec<String>) -> Message {
        let changed = changed.into_iter().map(|resource| (resource.name.clone(), resource));
        let all = Message { changed: changed.collect(), removed: removed.into_iter().collect() };
        while let Some(part) = self.doubtful.pop() {
            let part = all.about(&part);
            if !part.is_empty() {
                return part;
            }
        }
        all
    }

    /// Takes it that a message was sent.
    pub(super) fn sent(&mut self, nonce: String, message: Message) {
        self.told = true;
        self.under_way = Some((nonce, message));
    }

    /// What the Envoy has.
    pub(super) fn held(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.held.iter().map(|(name, held)| (name.as_str(), held))
    }

    /// What the Envoy does because of what it has under a name.
    pub(super) fn routing(&self, name: &str) -> Option<EnvoyRouting> {
        self.held.get(name).and_then(Held::routing)
    }

    /// Whether the Envoy has something under a name, whatever it says.
    pub(super) fn has_any(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(Held::is_something)
    }

    /// Whether the Envoy has something under a name, or perhaps has.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.is_something() || held.perhaps.is_some())
    }

    /// Whether the Envoy has this version for certain.
    pub(super) fn has_version(&self, name: &str, version: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.version == version && !held.doubtful)
    }

    /// What the Envoy was told and has not answered yet.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.under_way.iter().flat_map(|(_, message)| message.changed.values())
    }

    /// Whether it was told of this name, and has not answered yet.
    pub(super) fn is_under_way(&self, name: &str) -> bool {
        let is_about = |message: &Message| message.changed.contains_key(name) || message.removed.contains(name);
        self.under_way.as_ref().is_some_and(|(_, message)| is_about(message))
    }

    /// Why the Envoy refused what it was told last under a name.
    pub(super) fn refusal(&self, name: &str) -> Option<&str> {
        self.refused.get(name).map(|refusal| refusal.words.as_str())
    }
}
