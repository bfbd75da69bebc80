//! Get, list in pages, watch.

use std::{ops::Bound, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Wrong, bad_request, expired, invalid, not_found, ok, refusal, too_large, too_old},
    request::Asked,
    resources::{RESOURCES, Resource},
    selector::Selector,
    store::{Line, ObjectKey, Objects, State, Watching, line},
};

/// A watch that has begun.
pub(crate) struct Begun {
    pub(crate) number: u64,
    pub(crate) lines: UnboundedReceiver<Line>,
}

fn selector(asked: &Asked) -> Result<Selector, Answer> {
    Selector::parse(asked.get("labelSelector"), asked.get("fieldSelector")).map_err(|why| bad_request(&why))
}

impl State {
    pub(crate) fn discovery(group: &str, version: &str) -> Answer {
        let verbs = ["create", "delete", "get", "list", "patch", "watch"];
        let row = |resource: &Resource, name: String| json!({"name": name, "singularName": resource.kind.to_lowercase(), "kind": resource.kind, "namespaced": resource.namespaced, "verbs": verbs});
        let of_group = RESOURCES.iter().filter(|resource| (resource.group, resource.version) == (group, version));
        let rows: Vec<Value> = of_group
            .flat_map(|resource| {
                let status = resource.status.then(|| row(resource, format!("{}/status", resource.plural)));
                [Some(row(resource, resource.plural.to_owned())), status].into_iter().flatten()
            })
            .collect();
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ok(
            200,
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}),
        )
    }

    pub(crate) fn get(&self, resource: &Resource, key: &ObjectKey) -> Answer {
        match self.find(resource, key) {
            Some(object) => ok(200, Arc::clone(object)),
            None => not_found(resource, &key.1),
        }
    }

    pub(crate) fn list(&mut self, resource: &'static Resource, namespace: &str, asked: &Asked) -> Answer {
        let selector = match selector(asked) {
            Ok(selector) => selector,
            Err(answer) => return answer,
        };
        if let Some(version) = asked.number("resourceVersion").filter(|version| *version > self.version) {
            return too_large(version, self.version);
        }
        let (version, after) = match asked.get("continue") {
            "" => (self.version, None),
            token => match read_token(token) {
                Some((version, start)) => (version, Some(start)),
                None => return bad_request("invalid continue token: continue key is not valid"),
            },
        };
        let nothing = Objects::new();
        let all: &Objects = if version == self.version {
            self.of(resource).unwrap_or(&nothing)
        } else {
            match self.pages.get(&(resource.plural, version)) {
                Some(objects) => objects,
                None => return expired(),
            }
        };
        let limit = asked.number("limit").filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let limit = usize::try_from(limit.min(self.longest_page)).unwrap();
        let lower = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut matching = all
            .range::<ObjectKey, _>((lower, Bound::Unbounded))
            .filter(|((of, _), object)| (namespace.is_empty() || of == namespace) && selector.matches(object));
        let page: Vec<(&ObjectKey, &Arc<Value>)> = matching.by_ref().take(limit).collect();
        let left = matching.count();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let (1.., Some((last, _))) = (left, page.last()) {
            metadata["continue"] = json!(token(version, last, namespace));
            if selector.is_empty() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        let items: Vec<Value> = page.iter().map(|(_, object)| item(resource, object)).collect();
        if left > 0 && !self.pages.contains_key(&(resource.plural, version)) {
            let all = all.clone();
            self.pages.insert((resource.plural, version), all);
        }
        let kind = format!("{}List", resource.kind);
        ok(200, json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items}))
    }

    /// # Errors
    /// The refusal.
    pub(crate) fn watch(
        &mut self,
        client: &str,
        resource: &'static Resource,
        namespace: &str,
        asked: &Asked,
    ) -> Result<Begun, Answer> {
        let selector = selector(asked)?;
        let streaming = asked.get("sendInitialEvents") == "true";
        if streaming && asked.get("resourceVersionMatch") != "NotOlderThan" {
            return Err(no_streaming());
        }
        let (sender, lines) = unbounded();
        let send = |line: Bytes| drop(sender.unbounded_send(Ok(line)));
        let asked_from = asked.number("resourceVersion").unwrap_or(0);
        let from = if streaming || asked_from == 0 { self.version } else { asked_from };
        let watching = Watching {
            client: client.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            selector,
            from,
            told: from,
            lines: sender.clone(),
        };
        if streaming || asked_from == 0 {
            let all = self.of(resource).into_iter().flatten();
            let seen = all.filter(|((of, _), object)| {
                (namespace.is_empty() || of == namespace) && watching.selector.matches(object)
            });
            seen.for_each(|(_, object)| send(line("ADDED", object)));
            if streaming {
                send(self.bookmark(resource, true));
            }
        } else if from < self.oldest {
            send(line("ERROR", &too_old(from, self.oldest)));
            return Ok(Begun { number: 0, lines });
        } else {
            self.history.iter().filter_map(|happened| watching.tell(happened)).for_each(send);
        }
        self.last_watch += 1;
        self.watches.insert(self.last_watch, watching);
        Ok(Begun { number: self.last_watch, lines })
    }

    fn bookmark(&self, resource: &Resource, initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        line("BOOKMARK", &json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata}))
    }

    /// Tells a watch how far it has come, if that is further than it knows.
    pub(crate) fn mark(&mut self, number: u64) {
        let version = self.version;
        let Some(watching) = self.watches.get_mut(&number).filter(|watching| watching.told < version) else { return };
        watching.told = version;
        let watching = &self.watches[&number];
        let _ = watching.lines.unbounded_send(Ok(self.bookmark(watching.resource, false)));
    }

    /// Tells every watch of a client the last changes once more.
    pub(crate) fn repeat(&mut self, client: &str, changes: usize) {
        let from = self.history.len().saturating_sub(changes);
        for watching in self.watches.values().filter(|watching| watching.client == client) {
            let lines = self.history.iter().skip(from).filter_map(|happened| watching.tell(happened));
            lines.for_each(|line| drop(watching.lines.unbounded_send(Ok(line))));
        }
    }
}

fn no_streaming() -> Answer {
    let message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let text = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {message}");
    let cause = json!({"reason": "FieldValueForbidden", "message": message, "field": "resourceVersionMatch"});
    refusal(422, "Invalid", &text, json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]}))
}

/// Lists of built-in kinds do not spell the kind of each item.
fn item(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if let (false, Value::Object(fields)) = (resource.custom, &mut object) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// As a real API server spells it: which version, and after which key below the collection.
fn token(version: u64, (namespace, name): &ObjectKey, scope: &str) -> String {
    let start =
        if scope.is_empty() && !namespace.is_empty() { format!("/{namespace}/{name}\0") } else { format!("/{name}\0") };
    // The scope is needed to find the key again; a real one has it in the request only.
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": start, "scope": scope});
    STANDARD_NO_PAD.encode(token.to_string())
}

fn read_token(token: &str) -> Option<(u64, ObjectKey)> {
    let token: Value = serde_json::from_slice(&STANDARD_NO_PAD.decode(token.trim_end_matches('=')).ok()?).ok()?;
    let start = token["start"].as_str()?.trim_matches(['/', '\0']).to_owned();
    let key = match start.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (token["scope"].as_str().unwrap_or_default().to_owned(), start),
    };
    Some((token["rv"].as_u64()?, key))
}

/// A body of a POST that names no object.
pub(crate) fn nameless(resource: &Resource) -> Answer {
    invalid(resource, "", &[Wrong::new("metadata.name", "Required value: name or generateName is required")])
}
