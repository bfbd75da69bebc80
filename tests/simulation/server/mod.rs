//! A Kubernetes API server in memory, behind a `kube::Client`: for tokio's paused time. It is held
//! to a real one by the scenarios of `behaviour`, which run on both.
//!
//! Nothing in it is left to chance: the same requests at the same times give the same answers.

mod answer;
mod faults;
mod read;
mod request;
mod resources;
mod rules;
mod selector;
mod store;
mod wire;
mod write;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, service_fn};

use self::{
    answer::{Answer, injected, not_served, ok, refusal},
    read::Begun,
    request::{Asked, Target},
    store::State,
};
pub(crate) use self::{
    faults::{Fault, Wrong},
    request::Verb,
    resources::Resource,
    store::Backup,
    wire::{Mode, Wire},
};

/// How long the controller manager takes to notice.
const TIDYING: Duration = Duration::from_millis(300);
/// How often a watch is told how far it has come, and how long before its end.
const BOOKMARKS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(2));
/// How long a list waits for a version that is not there yet.
const FRESHNESS: Duration = Duration::from_secs(3);
/// A client whose credential is not known.
pub(crate) const STRANGER: &str = "stranger";

type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What all servers of a test have done, in order.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(crate) fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What can be made of the lines from that one on.
    pub(crate) fn read<T>(&self, since: usize, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        self.0.lock().unwrap()[since..].iter().filter_map(|line| read(line)).collect()
    }

    /// All of it.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The server. Clones are of the same one.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    name: String,
    started: Instant,
    state: Mutex<State>,
    faults: Mutex<faults::Faults>,
    trace: Trace,
}

enum Outcome {
    Answer(Answer),
    Watch(Begun),
}

impl Server {
    pub(crate) fn new(name: &str, trace: Trace) -> Self {
        let (state, faults) = (Mutex::new(State::new(name)), Mutex::default());
        Self(Arc::new(Inner { name: name.to_owned(), started: Instant::now(), state, faults, trace }))
    }

    /// A client of that name, over a wire.
    pub(crate) fn client(&self, who: &str, wire: &Wire) -> Client {
        let (server, who, wire) = (self.clone(), who.to_owned(), wire.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (server, who, wire) = (server.clone(), who.clone(), wire.clone());
            // What was sent arrives, even if nobody waits for the answer any more.
            let exchange = tokio::spawn(async move { server.exchange(who, wire, request).await });
            async move { exchange.await.unwrap_or_else(|broken| Err(broken.into())) }
        });
        Client::new(service, "default")
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    async fn exchange(&self, who: String, wire: Wire, request: Request<Body>) -> Result<Reply, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let asked = Asked::new(&Request::from_parts(head, ()), &body);
        wire.carry().await?;
        let wrong = self.0.faults.lock().unwrap().strike(&who, &asked);
        match wrong {
            Some(Wrong::Broken) => return Err("connection reset".into()),
            Some(Wrong::Silence) => std::future::pending::<()>().await,
            Some(Wrong::Answer(code, retry_after)) => {
                let answer = injected(code, retry_after);
                self.note(&who, &asked, code);
                wire.carry().await?;
                return Ok(reply(&answer));
            }
            Some(Wrong::BrokenAfter | Wrong::SilenceAfter) | None => {}
        }
        self.wait_for_freshness(&asked).await;
        let outcome = self.handle(&who, &asked);
        if asked.verb.writes() {
            self.0.faults.lock().unwrap().written(&asked);
            if asked.plural() != "events" && !asked.is_election() {
                wire.count_write();
            }
        }
        match wrong {
            Some(Wrong::BrokenAfter) => return Err("connection reset".into()),
            Some(Wrong::SilenceAfter) => std::future::pending::<()>().await,
            _ => {}
        }
        wire.carry().await?;
        Ok(match outcome {
            Outcome::Answer(answer) => reply(&answer),
            Outcome::Watch(begun) => self.begin(&asked, &wire, begun),
        })
    }

    /// A list of a version that is not there yet waits for it a while.
    async fn wait_for_freshness(&self, asked: &Asked) {
        let version = asked.number("resourceVersion").filter(|_| asked.verb == Verb::List);
        if version.is_some_and(|version| version > self.state().version) {
            sleep(FRESHNESS).await;
        }
    }

    fn handle(&self, who: &str, asked: &Asked) -> Outcome {
        let mut state = self.state();
        let outcome = answer(&mut state, who, asked);
        let code = if let Outcome::Answer(answer) = &outcome { answer.code } else { 200 };
        if state.untidy && !state.tidying {
            state.tidying = true;
            let server = self.clone();
            tokio::spawn(async move {
                sleep(TIDYING).await;
                let mut state = server.state();
                state.tidying = false;
                state.tidy();
            });
        }
        drop(state);
        self.note(who, asked, code);
        outcome
    }

    fn note(&self, who: &str, asked: &Asked, code: u16) {
        let at = self.0.started.elapsed().as_millis();
        // Names of Events and times of elections are of the wall clock.
        let what = match asked.plural() {
            "events" => "events".to_owned(),
            _ => format!("{} {}", asked.path, asked.query.iter().map(|(k, v)| format!("{k}={v} ")).collect::<String>()),
        };
        let told = !matches!(asked.plural(), "events" | "secrets") && !asked.is_election();
        let body = if asked.verb.writes() && told { asked.body.to_string() } else { String::new() };
        let verb = asked.verb.as_str();
        self.0.trace.note(format!("{at} {} {who} {verb} {what} {code} {body}", self.0.name));
    }

    /// Starts what a watch needs: word now and then of how far it has come, and an end.
    fn begin(&self, asked: &Asked, wire: &Wire, begun: Begun) -> Reply {
        let Begun { number, lines } = begun;
        let end = Instant::now() + Duration::from_secs(asked.number("timeoutSeconds").unwrap_or(1800));
        let bookmarks = asked.get("allowWatchBookmarks") == "true";
        let server = self.clone();
        tokio::spawn(async move {
            let mut next = Instant::now();
            while bookmarks && next < end - BOOKMARKS.1 {
                next = (next + BOOKMARKS.0).min(end - BOOKMARKS.1);
                sleep_until(next).await;
                server.state().mark(number);
            }
            sleep_until(end).await;
            server.state().watches.remove(&number);
        });
        let body = StreamBody::new(wire.stream(asked.plural(), lines).map(|line| line.map(Frame::data)));
        Response::new(BodyExt::boxed_unsync(body))
    }
}

fn answer(state: &mut State, who: &str, asked: &Asked) -> Outcome {
    if who == STRANGER {
        return Outcome::Answer(injected(401, None));
    }
    if let Some(user) = &asked.impersonated {
        return Outcome::Answer(forbidden(asked, user));
    }
    let (resource, namespace, name, status) = match &asked.target {
        Target::Version => {
            return Outcome::Answer(ok(200, json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3"})));
        }
        Target::Discovery(group, version) => return Outcome::Answer(State::discovery(group, version)),
        Target::Resource { resource, namespace, name, status } => (*resource, namespace, name, *status),
        Target::NoResource => return Outcome::Answer(not_served()),
        Target::Nowhere => return Outcome::Answer(ok(404, Value::String("404 page not found\n".to_owned()))),
    };
    let key = (namespace.clone(), name.clone());
    Outcome::Answer(match asked.verb {
        Verb::Get => state.get(resource, &key),
        Verb::List => state.list(resource, namespace, asked),
        Verb::Create => state.create(resource, namespace, asked),
        Verb::Patch => state.patch(resource, &key, status, asked),
        Verb::Delete => state.delete(resource, &key, asked),
        Verb::Watch => match state.watch(who, resource, namespace, asked) {
            Ok(begun) => return Outcome::Watch(begun),
            Err(answer) => answer,
        },
    })
}

fn forbidden(asked: &Asked, user: &str) -> Answer {
    let Target::Resource { resource, namespace, name, .. } = &asked.target else { return not_served() };
    let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    let (verb, group) = (asked.verb.as_str(), resource.group);
    let message = format!(
        "{}{named} is forbidden: User \"{user}\" cannot {verb} resource \"{}\" in API group \"{group}\" {place}",
        resource.qualified(),
        asked.resource()
    );
    let mut details = json!({"kind": resource.plural});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    refusal(403, "Forbidden", &message, details)
}

fn reply(answer: &Answer) -> Reply {
    let text = match &*answer.body {
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    let mut response = Response::builder().status(answer.code);
    if let Some(seconds) = answer.body["details"]["retryAfterSeconds"].as_u64() {
        response = response.header("Retry-After", seconds);
    }
    response.body(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()).unwrap()
}
