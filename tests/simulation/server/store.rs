//! The objects, their versions, what happened lately, and who watches. One version counts for all
//! kinds, as in etcd.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures::channel::mpsc::UnboundedSender;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::BoxError;

use super::{resources::Resource, selector::Selector};

/// Namespace (or nothing) and name.
pub(crate) type ObjectKey = (String, String);
pub(crate) type Objects = BTreeMap<ObjectKey, Arc<Value>>;
/// A piece of a watch's answer, or how it breaks off.
pub(crate) type Line = Result<Bytes, BoxError>;

/// Most events that are kept for watches that come later.
const HISTORY: usize = 4000;

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) version: u64,
    pub(crate) resource: &'static Resource,
    pub(crate) key: ObjectKey,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// A watch that runs.
pub(crate) struct Watching {
    pub(crate) client: String,
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: String,
    pub(crate) selector: Selector,
    /// Only what is later than this is told.
    pub(crate) from: u64,
    /// The last version that was told.
    pub(crate) told: u64,
    pub(crate) lines: UnboundedSender<Line>,
}

/// All objects at some time.
#[derive(Clone)]
pub(crate) struct Backup {
    version: u64,
    kinds: BTreeMap<&'static str, Objects>,
}

/// Everything there is.
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) kinds: BTreeMap<&'static str, Objects>,
    pub(crate) history: VecDeque<Happened>,
    /// Watches from an earlier version are turned away.
    pub(crate) oldest: u64,
    /// Listings that are being read page by page: by kind and version.
    pub(crate) pages: BTreeMap<(&'static str, u64), Objects>,
    pub(crate) watches: BTreeMap<u64, Watching>,
    pub(crate) last_watch: u64,
    pub(crate) addresses: BTreeSet<String>,
    /// Most objects of a page, whatever is asked for.
    pub(crate) longest_page: u64,
    last_uid: u64,
    name: String,
    started: Instant,
    /// Something may have lost its owner or its namespace.
    pub(crate) untidy: bool,
    /// That will be looked at.
    pub(crate) tidying: bool,
}

impl State {
    pub(crate) fn new(name: &str) -> Self {
        let mut state = Self {
            version: 1,
            kinds: BTreeMap::new(),
            history: VecDeque::new(),
            oldest: 0,
            pages: BTreeMap::new(),
            watches: BTreeMap::new(),
            last_watch: 0,
            addresses: BTreeSet::new(),
            longest_page: u64::from(u32::MAX),
            last_uid: 0,
            name: name.to_owned(),
            started: Instant::now(),
            untidy: false,
            tidying: false,
        };
        state.furnish();
        state.oldest = state.version;
        state
    }

    /// What every cluster has.
    fn furnish(&mut self) {
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            self.place(
                "namespaces",
                "",
                namespace,
                json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
            );
        }
        self.addresses.insert("10.96.0.1".to_owned());
        let port = json!({"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443});
        let spec = json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"], "ports": [port]});
        self.place("services", "default", "kubernetes", json!({"spec": spec, "status": {"loadBalancer": {}}}));
        let slice = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "protocol": "TCP", "port": 6443}],
            "endpoints": [{"addresses": ["172.31.0.2"], "conditions": {"ready": true}}],
        });
        self.place("endpointslices", "default", "kubernetes", slice);
        self.place("servicecidrs", "", "kubernetes", json!({"spec": {"cidrs": ["10.96.0.0/16"]}}));
    }

    fn place(&mut self, plural: &str, namespace: &str, name: &str, mut object: Value) {
        let resource = Resource::named(plural).unwrap();
        object["metadata"]["name"] = json!(name);
        self.identify(resource, namespace, &mut object);
        self.commit(resource, (namespace.to_owned(), name.to_owned()), Some(object));
    }

    /// What an object gets at its creation.
    pub(crate) fn identify(&mut self, resource: &Resource, namespace: &str, object: &mut Value) {
        self.last_uid += 1;
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let sum: u32 = self.name.bytes().fold(17, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let uid = format!("{sum:08x}-0000-4000-8000-{:012x}", self.last_uid);
        let now = self.now();
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(now);
        if resource.namespaced {
            metadata["namespace"] = json!(namespace);
        }
        if resource.plural == "namespaces" {
            let name = metadata["name"].clone();
            metadata["labels"]["kubernetes.io/metadata.name"] = name;
        }
    }

    /// The server's own time, in whole seconds.
    pub(crate) fn now(&self) -> String {
        let start = jiff::Timestamp::from_second(1_767_225_600).unwrap();
        let passed = i64::try_from(self.started.elapsed().as_secs()).unwrap();
        (start + jiff::SignedDuration::from_secs(passed)).to_string()
    }

    pub(crate) fn of(&self, resource: &Resource) -> Option<&Objects> {
        self.kinds.get(resource.plural)
    }

    pub(crate) fn find(&self, resource: &Resource, key: &ObjectKey) -> Option<&Arc<Value>> {
        self.of(resource)?.get(key)
    }

    /// Stores or removes an object, with a new version, and tells who watches.
    pub(crate) fn commit(&mut self, resource: &'static Resource, key: ObjectKey, after: Option<Value>) -> Arc<Value> {
        self.version += 1;
        let version = self.version.to_string();
        let objects = self.kinds.entry(resource.plural).or_default();
        let before = objects.get(&key).cloned();
        let after = after.map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(version);
            Arc::new(object)
        });
        match &after {
            Some(object) => drop(objects.insert(key.clone(), Arc::clone(object))),
            None => {
                objects.remove(&key);
                self.untidy = true;
            }
        }
        let last = after.clone().unwrap_or_else(|| {
            let mut object = Value::clone(before.as_ref().unwrap());
            object["metadata"]["resourceVersion"] = json!(version);
            Arc::new(object)
        });
        let happened = Happened { version: self.version, resource, key, before, after };
        self.watches.retain(|_, watching| {
            let Some(line) = watching.tell(&happened) else { return true };
            watching.told = happened.version;
            watching.lines.unbounded_send(Ok(line)).is_ok()
        });
        self.history.push_back(happened);
        if self.history.len() > HISTORY
            && let Some(forgotten) = self.history.pop_front()
        {
            self.oldest = forgotten.version;
        }
        last
    }

    /// Nothing that happened so far is known any more, and listings that were begun end.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.pages.clear();
        self.oldest = self.version;
    }

    /// What does not concern us is written too: a version counts for all kinds.
    pub(crate) fn age(&mut self, by: u64) {
        self.version += by;
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup { version: self.version, kinds: self.kinds.clone() }
    }

    /// As it was then, versions included; every watch breaks off.
    pub(crate) fn restore(&mut self, backup: &Backup) {
        self.watches.clear();
        self.version = backup.version;
        self.kinds = backup.kinds.clone();
        self.compact();
        // Owners may have been gone already while what they owned was not.
        self.untidy = true;
    }
}

impl Watching {
    /// What this watch is told of a change.
    pub(crate) fn tell(&self, happened: &Happened) -> Option<Bytes> {
        let concerned = self.resource == happened.resource
            && (self.namespace.is_empty() || self.namespace == happened.key.0)
            && happened.version > self.from;
        if !concerned {
            return None;
        }
        let seen =
            |object: &Option<Arc<Value>>| object.as_ref().filter(|object| self.selector.matches(object)).cloned();
        let (kind, object) = match (seen(&happened.before), seen(&happened.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            // What it was when it could be seen last, in the version in which it no longer can.
            (Some(before), None) => {
                let mut object = Value::clone(&before);
                object["metadata"]["resourceVersion"] = json!(happened.version.to_string());
                ("DELETED", Arc::new(object))
            }
        };
        Some(line(kind, &object))
    }
}

pub(crate) fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"object\":{object},\"type\":\"{kind}\"}}\n"))
}
