//! An API server in memory, for tests: lists in pages, watches, and does wrong when told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::channel::mpsc;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

type Line = Result<Frame<Bytes>, BoxError>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The server.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>, Arc<AtomicBool>);

#[derive(Default)]
struct State {
    version: u64,
    /// By plural, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    watches: Vec<Watch>,
    /// Answers instead of the right ones, by plural, until taken away.
    faults: BTreeMap<String, (u16, Value)>,
    /// Plurals whose listings always have another page, and it takes a second.
    endless: BTreeSet<String>,
    requests: Vec<String>,
    /// What discovery tells, by path such as `apis/apps/v1`: (plural, kind, namespaced).
    served: BTreeMap<String, Vec<(&'static str, &'static str, bool)>>,
    /// uids that kube-system has from one request to the next; the last one stays.
    uids: Vec<String>,
}

struct Watch {
    plural: String,
    namespace: String,
    lines: mpsc::UnboundedSender<Line>,
}

/// The parts of a request that matter.
struct Asked {
    plural: String,
    namespace: String,
    name: Option<String>,
    watch: bool,
    limit: usize,
    from: usize,
}

impl Asked {
    fn new(request: &Request<Body>) -> Self {
        let path = request.uri().path().trim_matches('/');
        let segments: Vec<&str> = path.split('/').collect();
        let rest = match segments.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            other => other,
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural, name @ ..] => (*namespace, *plural, name.first()),
            [plural, name @ ..] => ("", *plural, name.first()),
            [] => ("", path, None),
        };
        let query: BTreeMap<&str, &str> =
            request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        Self {
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.map(|name| (*name).to_owned()),
            watch: query.get("watch") == Some(&"true"),
            limit: query.get("limit").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX),
            from: query.get("continue").and_then(|n| n.parse().ok()).unwrap_or(0),
        }
    }
}

impl Fake {
    /// A server of a cluster with that uid.
    pub(super) fn new(uid: &str) -> Self {
        let fake = Self::default();
        fake.identities(&[uid]);
        fake
    }

    pub(super) fn client(&self) -> Client {
        let fake = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                if fake.1.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let asked = Asked::new(&request);
                let endless = fake.state().endless.contains(&asked.plural) && !asked.watch;
                if endless {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    // Of no other age than what was listed before.
                    let version = fake.state().version.to_string();
                    let metadata = json!({"resourceVersion": version, "continue": "0"});
                    let page = json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": []});
                    return Ok(json_answer(200, &page));
                }
                Ok::<_, BoxError>(fake.respond(&asked, request.uri().to_string()))
            }
        });
        Client::new(service, "default")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// kube-system's uid: one after the other, the last one for ever.
    pub(super) fn identities(&self, uids: &[&str]) {
        self.state().uids = uids.iter().map(|uid| (*uid).to_owned()).collect();
    }

    /// From now on nothing is answered and nothing comes on the watches: a half-open connection.
    pub(super) fn silence(&self, silent: bool) {
        self.1.store(silent, Ordering::SeqCst);
    }

    /// Every request for a plural is answered with that status.
    pub(super) fn fault(&self, plural: &str, code: u16) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": format!("{plural} say {code}"), "reason": "X"});
        self.state().faults.insert(plural.to_owned(), (code, status));
    }

    /// Every request for a plural is answered with this.
    pub(super) fn answer(&self, plural: &str, code: u16, body: Value) {
        self.state().faults.insert(plural.to_owned(), (code, body));
    }

    /// Whether every page of a plural's listing is empty and has another one after it.
    pub(super) fn endless(&self, plural: &str, endless: bool) {
        let mut state = self.state();
        if endless {
            state.endless.insert(plural.to_owned())
        } else {
            state.endless.remove(plural)
        };
    }

    /// Says that on all watches of a plural, whatever it is.
    pub(super) fn say(&self, plural: &str, text: String) {
        for watch in self.state().watches.iter().filter(|watch| watch.plural == plural) {
            let _ = watch.lines.unbounded_send(Ok(Frame::data(Bytes::from(text.clone()))));
        }
    }

    pub(super) fn repair(&self, plural: &str) {
        self.state().faults.remove(plural);
    }

    /// Discovery tells of these from now on: (plural, kind, namespaced) at a path such as
    /// `apis/apps/v1`; nothing at all: 404.
    pub(super) fn serve(&self, path: &str, resources: &[(&'static str, &'static str, bool)]) {
        match resources {
            [] => drop(self.state().served.remove(path)),
            _ => drop(self.state().served.insert(path.to_owned(), resources.to_vec())),
        }
    }

    /// Sets an object and tells the watches.
    pub(super) fn put(&self, plural: &str, namespace: &str, name: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        }
        let all = state.objects.entry(plural.to_owned()).or_default();
        let kind = if all.insert((namespace.to_owned(), name.to_owned()), object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.tell(plural, namespace, kind, &object);
    }

    /// Removes an object and tells the watches.
    pub(super) fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let object = self.forget(plural, namespace, name);
        self.state().tell(plural, namespace, "DELETED", &object);
    }

    /// The version becomes another one by so much, as by the writes of others or by an old backup.
    pub(super) fn age(&self, by: i64) {
        let mut state = self.state();
        state.version = state.version.checked_add_signed(by).unwrap();
    }

    /// Removes an object and tells nobody, as when a watch misses it.
    pub(super) fn forget(&self, plural: &str, namespace: &str, name: &str) -> Value {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let key = (namespace.to_owned(), name.to_owned());
        let mut object = state.objects.get_mut(plural).and_then(|all| all.remove(&key)).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object
    }

    /// Tells the watches of a plural that they are up to a version.
    pub(super) fn bookmark(&self, plural: &str, version: u64) {
        let object =
            json!({"kind": "Service", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}});
        self.state().tell(plural, "", "BOOKMARK", &object);
    }

    /// Ends the watches of a plural with 410 Gone.
    pub(super) fn expire(&self, plural: &str) {
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
        let mut state = self.state();
        state.tell(plural, "", "ERROR", &gone);
        state.watches.retain(|watch| watch.plural != plural);
    }

    /// Ends the watches of a plural as a server does when their time is over.
    pub(super) fn end_watches(&self, plural: &str) {
        self.state().watches.retain(|watch| watch.plural != plural);
    }

    /// Breaks the watches of a plural off in the middle.
    pub(super) fn break_watches(&self, plural: &str) {
        let mut state = self.state();
        for watch in state.watches.iter().filter(|watch| watch.plural == plural) {
            let _ = watch.lines.unbounded_send(Err("connection reset".into()));
        }
        state.watches.retain(|watch| watch.plural != plural);
    }

    pub(super) fn watches(&self, plural: &str) -> usize {
        self.state().watches.iter().filter(|watch| watch.plural == plural && !watch.lines.is_closed()).count()
    }

    /// The requests so far, path and query.
    pub(super) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn respond(&self, asked: &Asked, uri: String) -> Answer {
        let mut state = self.state();
        state.requests.push(uri);
        if let Some((code, status)) = state.faults.get(&asked.plural) {
            return json_answer(*code, status);
        }
        match (asked.plural.as_str(), asked.name.as_deref()) {
            (path, _) if path.contains('/') => state.discovery(path),
            ("version", _) => json_answer(200, &json!({"gitVersion": "v1.36.0"})),
            ("namespaces", Some("kube-system")) => {
                let uid = if state.uids.len() > 1 { state.uids.remove(0) } else { state.uids[0].clone() };
                json_answer(200, &json!({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}}))
            }
            (plural, Some(name)) => {
                let key = (asked.namespace.clone(), name.to_owned());
                match state.objects.get(plural).and_then(|all| all.get(&key)) {
                    Some(object) => json_answer(200, object),
                    None => json_answer(
                        404,
                        &json!({"kind": "Status", "code": 404, "message": "not found", "reason": "NotFound"}),
                    ),
                }
            }
            _ if asked.watch => state.watch(asked),
            _ => json_answer(200, &state.list(asked)),
        }
    }
}

impl State {
    fn tell(&mut self, plural: &str, namespace: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let concerned = |watch: &&Watch| {
            watch.plural == plural
                && (watch.namespace.is_empty() || namespace.is_empty() || watch.namespace == namespace)
        };
        for watch in self.watches.iter().filter(concerned) {
            let _ = watch.lines.unbounded_send(Ok(Frame::data(Bytes::from(line.clone()))));
        }
    }

    fn discovery(&self, path: &str) -> Answer {
        let Some(resources) = self.served.get(path) else {
            return json_answer(
                404,
                &json!({"kind": "Status", "code": 404, "message": "not found", "reason": "NotFound"}),
            );
        };
        let resource = |(plural, kind, namespaced): &(&str, &str, bool)| json!({"name": plural, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["list", "watch"]});
        let resources: Vec<Value> = resources.iter().map(resource).collect();
        json_answer(200, &json!({"kind": "APIResourceList", "groupVersion": path, "resources": resources}))
    }

    fn watch(&mut self, asked: &Asked) -> Answer {
        let (lines, body) = mpsc::unbounded();
        self.watches.push(Watch { plural: asked.plural.clone(), namespace: asked.namespace.clone(), lines });
        Response::new(StreamBody::new(body).boxed_unsync())
    }

    fn list(&self, asked: &Asked) -> Value {
        let all: Vec<&Value> = self
            .objects
            .get(&asked.plural)
            .into_iter()
            .flatten()
            .filter(|((namespace, _), _)| asked.namespace.is_empty() || *namespace == asked.namespace)
            .map(|(_, object)| object)
            .collect();
        let page: Vec<&Value> = all.iter().skip(asked.from).take(asked.limit).copied().collect();
        let next = asked.from + page.len();
        let token = if next < all.len() { json!(next.to_string()) } else { json!("") };
        json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": {"resourceVersion": self.version.max(1).to_string(), "continue": token},
            "items": page,
        })
    }
}

fn json_answer(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}
