//! What a server does wrong when it is told to, and on what that has struck.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Resource, Server, Verb,
    request::Asked,
    store::{Backup, ObjectKey},
};

/// What happens instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A refusal, with Retry-After.
    Answer(u16, Option<u64>),
    /// The connection breaks before the request is carried out.
    Broken,
    /// It breaks afterwards.
    BrokenAfter,
    /// Nothing is answered, nor carried out.
    Silence,
    /// It is carried out, and nothing is answered.
    SilenceAfter,
}

/// On which requests something goes wrong. What is empty is any.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) client: String,
    pub(crate) verbs: Vec<Verb>,
    pub(crate) resource: String,
    pub(crate) wrong: Wrong,
    /// So many requests are let through first.
    pub(crate) skip: u32,
    /// How often; none: until it is healed.
    pub(crate) times: Option<u32>,
}

/// Those that wait to strike.
#[derive(Default)]
pub(super) struct Faults {
    waiting: Vec<Fault>,
    /// In force, beside those that strike single requests.
    weather: Vec<&'static str>,
    /// By fault and by kind of write.
    struck: BTreeMap<(String, String), u64>,
}

impl Faults {
    pub(super) fn strike(&mut self, who: &str, asked: &Asked) -> Option<Wrong> {
        let resource = asked.resource();
        let concerns = |fault: &&mut Fault| {
            (fault.resource.is_empty() || !asked.is_election())
                && (fault.client.is_empty() || fault.client == who)
                && (fault.verbs.is_empty() || fault.verbs.contains(&asked.verb))
                && (fault.resource.is_empty() || fault.resource == resource)
                && fault.times != Some(0)
        };
        let hit = self.waiting.iter_mut().find(concerns)?;
        if hit.skip > 0 {
            hit.skip -= 1;
            return None;
        }
        hit.times = hit.times.map(|times| times - 1);
        let (name, wrong) = (hit.name, hit.wrong);
        if asked.verb.writes() {
            self.count(name, asked);
        }
        Some(wrong)
    }

    /// A write was carried out.
    pub(super) fn written(&mut self, asked: &Asked) {
        for name in self.weather.clone() {
            self.count(name, asked);
        }
    }

    fn count(&mut self, name: &str, asked: &Asked) {
        let kind = format!("{} {}", asked.verb.as_str(), asked.resource());
        *self.struck.entry((name.to_owned(), kind)).or_default() += 1;
    }
}

impl Server {
    pub(crate) fn fault(&self, fault: Fault) {
        self.0.faults.lock().unwrap().waiting.push(fault);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        let mut faults = self.0.faults.lock().unwrap();
        faults.waiting.clear();
        faults.weather.clear();
    }

    /// Writes from now on happen while this goes on.
    pub(crate) fn weather(&self, name: &'static str) {
        self.0.faults.lock().unwrap().weather.push(name);
    }

    pub(crate) fn struck(&self) -> BTreeMap<(String, String), u64> {
        self.0.faults.lock().unwrap().struck.clone()
    }

    /// Ends the watches of a client, or of all: at the end of a line, or in the middle of one.
    pub(crate) fn cut_watches(&self, client: &str, mid_line: bool) {
        let mut state = self.state();
        for watching in state.watches.values().filter(|watching| client.is_empty() || watching.client == client) {
            if mid_line {
                let _ = watching.lines.unbounded_send(Ok(bytes::Bytes::from_static(b"{\"type\":\"MODI")));
            }
        }
        state.watches.retain(|_, watching| !client.is_empty() && watching.client != client);
    }

    /// Tells every watch of a client the last changes once more.
    pub(crate) fn repeat(&self, client: &str, changes: usize) {
        self.state().repeat(client, changes);
    }

    /// Nothing that happened so far can be watched or paged through any more.
    pub(crate) fn compact(&self) {
        self.state().compact();
    }

    pub(crate) fn backup(&self) -> Backup {
        self.state().backup()
    }

    /// No page is longer, whatever is asked for.
    pub(crate) fn short_pages(&self, longest: u64) {
        self.state().longest_page = longest;
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.state().version
    }

    /// Others write so many times.
    pub(crate) fn age(&self, by: u64) {
        self.state().age(by);
    }

    pub(crate) fn restore(&self, backup: &Backup) {
        self.state().restore(backup);
    }

    /// What an administrator sees of an object.
    pub(crate) fn read(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key: ObjectKey = (namespace.to_owned(), name.to_owned());
        self.state().find(Resource::named(plural)?, &key).map(|object| Value::clone(object))
    }

    /// All objects of a kind, by namespace and name.
    pub(crate) fn all(&self, plural: &str) -> BTreeMap<ObjectKey, Value> {
        let state = self.state();
        let all = Resource::named(plural).and_then(|resource| state.of(resource)).into_iter().flatten();
        all.map(|(key, object)| (key.clone(), Value::clone(object))).collect()
    }

    /// How many objects of a kind there are.
    pub(crate) fn count(&self, plural: &str) -> usize {
        let state = self.state();
        Resource::named(plural).and_then(|resource| state.of(resource)).map_or(0, |all| all.len())
    }

    /// An administrator makes an object.
    pub(crate) fn make(&self, plural: &str, object: &Value) {
        let path = collection(plural, object["metadata"]["namespace"].as_str().unwrap_or_default());
        self.administrate(http::Method::POST, &path, object);
    }

    /// An administrator patches an object, or its status.
    pub(crate) fn change(&self, plural: &str, namespace: &str, name: &str, patch: &Value) {
        let path = format!("{}/{name}", collection(plural, namespace));
        self.administrate(http::Method::PATCH, &path, patch);
    }

    /// An administrator deletes an object.
    pub(crate) fn drop(&self, plural: &str, namespace: &str, name: &str) {
        let path = format!("{}/{name}", collection(plural, namespace));
        self.administrate(http::Method::DELETE, &path, &json!({}));
    }

    fn administrate(&self, method: http::Method, path: &str, body: &Value) {
        let kind = if method == http::Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind).body(()).unwrap();
        let asked = Asked::new(&request, body.to_string().as_bytes());
        let super::Outcome::Answer(answer) = self.handle("administrator", &asked) else { return };
        assert!(answer.code < 300, "{path}: {}", answer.body);
    }
}

fn collection(plural: &str, namespace: &str) -> String {
    let (plural, status) = plural.split_once('/').unwrap_or((plural, ""));
    assert!(status.is_empty(), "a subresource is named after the object");
    let resource = Resource::named(plural).unwrap();
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    match namespace {
        "" => format!("{root}/{}/{plural}", resource.api_version()),
        namespace => format!("{root}/{}/namespaces/{namespace}/{plural}", resource.api_version()),
    }
}
