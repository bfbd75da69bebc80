//! Objects that a gateway is made of or programmed by, as plain JSON: which kinds there are, what
//! is there of each, and the difference between what is there and what should be.
//!
//! JSON and not types: the kinds are other projects' CRDs, served in other versions in each
//! cluster, and a provider writes and reads a handful of their fields.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

use crate::core::{
    io::At,
    model::{self, Key},
};

/// A kind of object, by group and name; which of the versions is used depends on what the cluster
/// serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Kind, such as `TCPRoute`.
    pub kind: &'static str,
    /// The same as it stands in paths and rules, such as `tcproutes`.
    pub plural: &'static str,
    /// Its versions that we understand, the preferred one first.
    pub versions: &'static [&'static str],
    /// Only objects with our managed-by label are followed; for kinds of which others have many.
    pub ours_only: bool,
    /// Only objects of the controller's own namespace are followed.
    pub own_namespace: bool,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.kind),
            group => write!(f, "{}.{group}", self.kind),
        }
    }
}

/// `kind` of `group`, of which every object of the cluster is followed.
#[must_use]
pub const fn kind(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> Kind {
    Kind { group, kind, plural, versions, ours_only: false, own_namespace: false }
}

impl Kind {
    /// `apiVersion` of its objects in a version.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }
}

/// `coordination.k8s.io` Leases of the controller's namespace that carry our label: port claims.
pub const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    versions: &["v1"],
    ours_only: true,
    own_namespace: true,
};
/// Published slices. The deciding side alone makes them, never a provider.
pub const PUBLISHED_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    versions: &["v1"],
    ours_only: true,
    own_namespace: false,
};
/// Services that Heliostat made for its own gateways.
pub const OWN_SERVICE: Kind =
    Kind { group: "", kind: "Service", plural: "services", versions: &["v1"], ours_only: true, own_namespace: true };
/// Deployments of Heliostat's own gateways.
pub const OWN_DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    versions: &["v1"],
    ours_only: true,
    own_namespace: true,
};
/// ConfigMaps of Heliostat's own gateways.
pub const OWN_CONFIG_MAP: Kind = Kind {
    group: "",
    kind: "ConfigMap",
    plural: "configmaps",
    versions: &["v1"],
    ours_only: true,
    own_namespace: true,
};

/// An object's name among all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Namespace and name; cluster-scoped objects have an empty namespace.
    pub key: Key,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// An object that should be. Only what Heliostat sets: the API server's defaults and what others
/// add are no difference. A `null` stands for a field that must not be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which one.
    pub id: ObjectId,
    /// Labels.
    pub labels: model::Map,
    /// Annotations.
    pub annotations: model::Map,
    /// Whether other labels than these are taken off.
    pub only_these_labels: bool,
    /// The owner, in the same namespace or cluster-scoped: with it the object goes.
    pub owner: Option<Owner>,
    /// All fields beside `apiVersion`, `kind` and `metadata`: mostly `spec`.
    pub body: Map<String, Value>,
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apiVersion`.
    pub api_version: String,
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// uid.
    pub uid: String,
}

impl Object {
    /// An object with a `spec`.
    #[must_use]
    pub fn with_spec(kind: Kind, key: Key, spec: Value) -> Self {
        let body = Map::from_iter([("spec".to_owned(), spec)]);
        Self {
            id: ObjectId { kind, key },
            labels: model::Map::new(),
            annotations: model::Map::new(),
            only_these_labels: false,
            owner: None,
            body,
        }
    }

    /// The object whole, as it is created; `apiVersion` and `kind` are put in by who knows the version.
    #[must_use]
    pub fn whole(&self) -> Map<String, Value> {
        let mut body: Map<String, Value> = without_nulls(&self.body);
        body.insert("metadata".to_owned(), self.metadata(true));
        body
    }

    fn metadata(&self, with_name: bool) -> Value {
        let mut meta = Map::new();
        if with_name {
            meta.insert("name".to_owned(), json!(self.id.key.name));
            if !self.id.key.namespace.is_empty() {
                meta.insert("namespace".to_owned(), json!(self.id.key.namespace));
            }
        }
        meta.insert("labels".to_owned(), json!(self.labels));
        if !self.annotations.is_empty() {
            meta.insert("annotations".to_owned(), json!(self.annotations));
        }
        if let Some(Owner { api_version, kind, name, uid }) = &self.owner {
            let owner = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid});
            meta.insert("ownerReferences".to_owned(), json!([owner]));
        }
        Value::Object(meta)
    }

    /// The merge patch (RFC 7386) that brings an observed object up to date; none if it is.
    #[must_use]
    pub fn patch(&self, observed: &Value) -> Option<Map<String, Value>> {
        let mut wanted = self.body.clone();
        let mut metadata = self.metadata(false);
        if self.only_these_labels
            && let Value::Object(there) = &observed["metadata"]["labels"]
        {
            let surplus = there.keys().filter(|key| !self.labels.contains_key(key));
            surplus.for_each(|key| metadata["labels"][key] = Value::Null);
        }
        wanted.insert("metadata".to_owned(), metadata);
        difference(&wanted, observed.as_object()?)
    }
}

fn without_nulls(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), cleaned(v))).collect()
}

/// The value without fields that are `null`, in lists too.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_nulls(map)),
        Value::Array(list) => list.iter().map(cleaned).collect(),
        other => other.clone(),
    }
}

/// The part of `wanted` that `there` lacks, as a merge patch; lists go whole.
fn difference(wanted: &Map<String, Value>, there: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut patch = Map::new();
    for (field, wanted) in wanted {
        match (wanted, there.get(field)) {
            (Value::Null, None | Some(Value::Null)) => {}
            (Value::Object(wanted), Some(Value::Object(there))) => {
                if let Some(inner) = difference(wanted, there) {
                    patch.insert(field.clone(), Value::Object(inner));
                }
            }
            (wanted, Some(there)) if says(there, wanted) => {}
            (wanted, None) if is_empty(wanted) => {}
            // Whole lists have no fields to take away.
            (Value::Array(_), _) => drop(patch.insert(field.clone(), cleaned(wanted))),
            (wanted, _) => drop(patch.insert(field.clone(), wanted.clone())),
        }
    }
    (!patch.is_empty()).then_some(patch)
}

/// API servers leave empty lists and maps out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether a value says at least what is wanted: defaults that were added to elements are no
/// difference, another number or order of elements is.
fn says(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted.iter().all(|(field, wanted)| match there.get(field) {
            Some(there) => says(there, wanted),
            None => wanted.is_null() || is_empty(wanted),
        }),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| says(there, wanted))
        }
        (there, wanted) => there == wanted,
    }
}

/// What is known of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known {
    /// Not listed yet.
    #[default]
    Unknown,
    /// The cluster does not serve it.
    NotServed,
    /// Listed and followed.
    Listed {
        /// The version it is read and written in, of [`Kind::versions`].
        version: String,
        /// All of them.
        objects: BTreeMap<Key, Value>,
    },
}

/// News of a kind that is followed.
#[derive(Clone, Debug, PartialEq)]
pub enum KindNews {
    /// The cluster does not serve it, or no longer.
    NotServed,
    /// A complete listing, in this version.
    Listed(String, BTreeMap<Key, Value>),
    /// An object is now this.
    Set(Key, Value),
    /// An object is gone.
    Gone(Key),
    /// It cannot be read at present, and why, in words; what was known of it stays.
    Failed(String),
    /// It is not followed any more: nothing is known of it.
    Forgotten,
}

/// All objects of the kinds that are followed.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    known: BTreeMap<Kind, Known>,
    failures: BTreeMap<Kind, String>,
}

impl Objects {
    /// What is known of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Known {
        self.known.get(&kind).unwrap_or(&Known::Unknown)
    }

    /// Why a kind cannot be read at present, in words; what is known of it may be old.
    #[must_use]
    pub fn failure(&self, kind: Kind) -> Option<&str> {
        self.failures.get(&kind).map(String::as_str)
    }

    /// The objects of a kind; none while it is not known.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Value)> {
        let listed = match self.of(kind) {
            Known::Listed { objects, .. } => Some(objects.iter()),
            Known::Unknown | Known::NotServed => None,
        };
        listed.into_iter().flatten()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Value> {
        match self.of(kind) {
            Known::Listed { objects, .. } => objects.get(key),
            Known::Unknown | Known::NotServed => None,
        }
    }

    /// The version in which a kind is served, once that is known.
    #[must_use]
    pub fn version(&self, kind: Kind) -> Option<&str> {
        match self.of(kind) {
            Known::Listed { version, .. } => Some(version),
            Known::Unknown | Known::NotServed => None,
        }
    }

    /// Whether the cluster is known to serve the kind.
    #[must_use]
    pub fn is_served(&self, kind: Kind) -> bool {
        self.version(kind).is_some()
    }

    /// Takes news over; says whether they were any.
    pub fn take(&mut self, kind: Kind, news: KindNews) -> bool {
        let news = match news {
            KindNews::Failed(why) => return self.failures.insert(kind, why.clone()).as_ref() != Some(&why),
            KindNews::Forgotten => {
                self.failures.remove(&kind);
                return self.known.remove(&kind).is_some_and(|known| known != Known::Unknown);
            }
            news => news,
        };
        let answers = matches!(news, KindNews::NotServed | KindNews::Listed(..));
        let repaired = answers && self.failures.remove(&kind).is_some();
        let known = self.known.entry(kind).or_default();
        let changed = match (news, known) {
            (KindNews::NotServed, known) => {
                let news = *known != Known::NotServed;
                *known = Known::NotServed;
                news
            }
            (KindNews::Listed(version, objects), known) => {
                let new = Known::Listed { version, objects };
                let news = *known != new;
                *known = new;
                news
            }
            (KindNews::Set(key, value), Known::Listed { objects, .. }) => match objects.get(&key) {
                Some(there) if is_older(&value, there) || *there == value => false,
                _ => {
                    objects.insert(key, value);
                    true
                }
            },
            (KindNews::Gone(key), Known::Listed { objects, .. }) => objects.remove(&key).is_some(),
            _ => false,
        };
        changed || repaired
    }
}

/// The same object in an older version than is known: an answer to a write that a watch overtook.
fn is_older(value: &Value, known: &Value) -> bool {
    let version = |v: &Value| v["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u128>().ok());
    value["metadata"]["uid"] == known["metadata"]["uid"]
        && matches!((version(value), version(known)), (Some(a), Some(b)) if a < b)
}

/// uid and resourceVersion of an observed object.
#[must_use]
pub fn at(object: &Value) -> At {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    At { uid: text("uid").into(), resource_version: text("resourceVersion").into() }
}

/// Whether it is being deleted.
#[must_use]
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The value of a label; empty without it.
#[must_use]
pub fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["labels"][name].as_str().unwrap_or_default()
}

/// The value of an annotation; empty without it.
#[must_use]
pub fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

/// The elements of a list; none of anything else.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A condition in a list of conditions: its status (`True`, `False`, `Unknown`), reason and message.
/// One that speaks of an older generation than `generation` is none.
#[must_use]
pub fn condition<'a>(conditions: &'a Value, kind: &str, generation: &Value) -> Option<(&'a str, &'a str, &'a str)> {
    let found = list(conditions).iter().find(|c| c["type"] == kind)?;
    let observed = &found["observedGeneration"];
    if observed.is_u64() && generation.is_u64() && observed.as_u64() < generation.as_u64() {
        return None;
    }
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: Kind = kind("gateway.networking.k8s.io", "TCPRoute", "tcproutes", &["v1", "v1alpha2"]);

    fn route(backend: &str) -> Object {
        let spec =
            json!({"parentRefs": [{"name": "set"}], "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]});
        Object { labels: model::Map::from([("a", "b")]), ..Object::with_spec(ROUTE, Key::new("shop", "books"), spec) }
    }

    fn observed() -> Value {
        json!({
            "metadata": {"name": "books", "labels": {"a": "b", "theirs": "x"}},
            "spec": {
                "parentRefs": [{"group": "gateway.networking.k8s.io", "name": "set"}],
                "rules": [{"backendRefs": [{"kind": "Service", "name": "books", "port": 80, "weight": 1}]}],
            },
        })
    }

    #[test]
    fn defaults_and_labels_of_others_are_no_difference() {
        assert_eq!(route("books").patch(&observed()), None);
    }

    #[test]
    fn m09_what_differs_is_patched_and_lists_go_whole() {
        let patch = Value::Object(route("films").patch(&observed()).unwrap());
        assert_eq!(patch, json!({"spec": {"rules": [{"backendRefs": [{"name": "films", "port": 80}]}]}}));
        let mut more = observed();
        more["spec"]["parentRefs"] = json!([{"name": "set"}, {"name": "another"}]);
        let patch = Value::Object(route("books").patch(&more).unwrap());
        assert_eq!(patch, json!({"spec": {"parentRefs": [{"name": "set"}]}}));
    }

    #[test]
    fn a_null_takes_a_field_away_and_is_never_created() {
        let mut wanted = route("books");
        wanted.body["spec"]["gone"] = Value::Null;
        assert_eq!(wanted.patch(&observed()), None);
        let mut there = observed();
        there["spec"]["gone"] = json!(1);
        assert_eq!(Value::Object(wanted.patch(&there).unwrap()), json!({"spec": {"gone": null}}));
        assert!(wanted.whole()["spec"].get("gone").is_none());
    }

    #[test]
    fn a_null_in_a_list_takes_a_field_away_and_is_never_written() {
        let mut wanted = route("books");
        wanted.body["spec"]["rules"][0]["filters"] = Value::Null;
        assert_eq!(wanted.patch(&observed()), None);
        assert!(wanted.whole()["spec"]["rules"][0].get("filters").is_none());
        let mut there = observed();
        there["spec"]["rules"][0]["filters"] = json!([{"type": "Theirs"}]);
        let patch = Value::Object(wanted.patch(&there).unwrap());
        assert_eq!(patch, json!({"spec": {"rules": [{"backendRefs": [{"name": "books", "port": 80}]}]}}));
    }

    #[test]
    fn an_older_answer_does_not_replace_newer_news() {
        let object =
            |version: &str, body: u8| json!({"metadata": {"uid": "1", "resourceVersion": version}, "body": body});
        let key = Key::new("a", "b");
        let mut objects = Objects::default();
        assert!(!objects.take(ROUTE, KindNews::Set(key.clone(), object("9", 0))), "before the listing");
        assert!(objects.take(ROUTE, KindNews::Listed("v1".into(), BTreeMap::from([(key.clone(), object("10", 1))]))));
        assert!(!objects.take(ROUTE, KindNews::Set(key.clone(), object("9", 0))));
        assert!(objects.take(ROUTE, KindNews::Set(key.clone(), object("11", 2))));
        assert_eq!(objects.get(ROUTE, &key).unwrap()["body"], 2);
        assert!(objects.take(ROUTE, KindNews::NotServed));
        assert_eq!(objects.get(ROUTE, &key), None);
    }

    #[test]
    fn a_failure_takes_nothing_away_and_ends_with_the_next_answer() {
        let key = Key::new("a", "b");
        let listed = || KindNews::Listed("v1".into(), BTreeMap::from([(key.clone(), json!({}))]));
        let mut objects = Objects::default();
        assert!(objects.take(ROUTE, KindNews::Failed("403".into())));
        assert!(!objects.take(ROUTE, KindNews::Failed("403".into())));
        assert_eq!((objects.failure(ROUTE), objects.of(ROUTE)), (Some("403"), &Known::Unknown));
        assert!(objects.take(ROUTE, listed()));
        assert_eq!(objects.failure(ROUTE), None);
        objects.take(ROUTE, KindNews::Failed("500".into()));
        assert!(objects.get(ROUTE, &key).is_some());
        assert!(objects.take(ROUTE, listed()), "the failure is over");
        assert!(!objects.take(ROUTE, listed()));
        assert!(objects.take(ROUTE, KindNews::Forgotten));
        assert_eq!(objects.of(ROUTE), &Known::Unknown);
        assert!(!objects.take(ROUTE, KindNews::Forgotten));
    }

    #[test]
    fn a_condition_of_an_older_generation_is_none() {
        let conditions =
            json!([{"type": "Programmed", "status": "True", "reason": "r", "message": "m", "observedGeneration": 1}]);
        assert_eq!(condition(&conditions, "Programmed", &json!(1)), Some(("True", "r", "m")));
        assert_eq!(condition(&conditions, "Programmed", &json!(2)), None);
        assert_eq!(condition(&conditions, "Accepted", &json!(1)), None);
    }

    #[test]
    fn lists_and_maps_that_an_api_server_leaves_out_when_they_are_empty_are_no_difference() {
        let patch = |wanted: Value, there: Value| {
            let object = Object::with_spec(ROUTE, Key::new("shop", "books"), json!({"field": wanted}));
            object.patch(&json!({"metadata": {"labels": {}}, "spec": there}))
        };
        for empty in [json!([]), json!({})] {
            assert_eq!(patch(empty.clone(), json!({})), None);
            assert!(patch(empty, json!({"field": [1]})).is_some(), "but what is there goes");
        }
        for value in [json!([1]), json!({"a": 1}), json!(""), json!(0), json!(false)] {
            assert!(patch(value.clone(), json!({})).is_some(), "{value}");
        }
    }

    #[test]
    fn an_object_of_no_namespace_has_none_and_one_without_annotations_too() {
        let whole = |key: Key| Object::with_spec(ROUTE, key, json!({})).whole()["metadata"].clone();
        assert_eq!(whole(Key::new("", "all")), json!({"name": "all", "labels": {}}));
        assert_eq!(whole(Key::new("shop", "books")), json!({"name": "books", "namespace": "shop", "labels": {}}));
        let mut noted = Object::with_spec(ROUTE, Key::new("", "all"), json!({}));
        noted.annotations = model::Map::from([("a", "b")]);
        assert_eq!(noted.whole()["metadata"]["annotations"], json!({"a": "b"}));
    }
}
