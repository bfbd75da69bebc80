//! Tells users by Kubernetes Events (`kubectl describe`), within a budget: the same Event again
//! within [`SERIES`] becomes a count, an object gets at most [`PER_OBJECT`] new ones in a burst,
//! and all objects together at most [`IN_ALL`]. What is over is dropped and counted: Events are
//! for people; the truth is in status.
//!
//! Never waits for the API server longer than a moment, and never holds up anything else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    call::call,
    lease::Leadership,
    render::{Rendered, Verb},
};
use crate::{
    api::{GROUP, VERSION},
    core::io::{About, Event, WriteError, WriteFailure},
    metrics::Metrics,
};

/// An Event that repeats within this time is the same one, counted (as client-go takes it).
const SERIES: Duration = Duration::from_secs(6 * 60);
/// How often a count is sent.
const RECOUNT: Duration = Duration::from_secs(60);
/// New Events about one object: this many in a burst, then one every [`PER_OBJECT_EVERY`] (as
/// client-go takes it).
const PER_OBJECT: u32 = 25;
const PER_OBJECT_EVERY: Duration = Duration::from_secs(300);
/// New Events in all: this many in a burst, then one every [`IN_ALL_EVERY`].
const IN_ALL: u32 = 50;
const IN_ALL_EVERY: Duration = Duration::from_secs(1);
/// Most objects remembered; the one that was quiet for longest is forgotten first.
const OBJECTS: usize = 1000;
/// Most Events that wait to be sent.
const WAITING: usize = 256;
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest note that Kubernetes takes, in bytes.
const NOTE: usize = 1024;

/// Where Events are handed in.
#[derive(Clone, Debug)]
pub struct Reporter {
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
}

impl Reporter {
    /// A reporter, and the task that sends what it is given.
    #[must_use]
    pub fn new(client: Client, leadership: Leadership, metrics: Arc<Metrics>, instance: String) -> (Self, Sender) {
        let (events, waiting) = mpsc::channel(WAITING);
        let sender = Sender {
            client,
            leadership,
            metrics: Arc::clone(&metrics),
            instance,
            waiting,
            recent: Recent::new(Instant::now()),
        };
        (Self { events, metrics }, sender)
    }

    /// Hands an Event in; it is dropped when too many wait.
    pub fn report(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.metrics.event_dropped();
        }
    }
}

/// Sends Events.
pub struct Sender {
    client: Client,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    instance: String,
    waiting: mpsc::Receiver<Event>,
    recent: Recent,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends what is handed in until `shutdown`; nothing while another replica leads.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                event = self.waiting.recv() => event,
            };
            let Some(event) = event else { return };
            if self.leadership.remaining().is_none() {
                continue;
            }
            if let Err(error) = self.send(&event).await {
                tracing::debug!(error.message, event.note, "an Event was not sent");
            }
        }
    }

    async fn send(&mut self, event: &Event) -> Result<(), WriteError> {
        let now = Timestamp::now();
        let rendered = match self.recent.weigh(event, Instant::now()) {
            Verdict::New => {
                let name = event_name(&event.about, now);
                self.recent.named(event, &name);
                first(event, &name, &self.instance, now)
            }
            Verdict::Again { name, count } => again(&event.about, &name, count, now),
            Verdict::Counted => return Ok(()),
            Verdict::OverBudget => {
                self.metrics.event_dropped();
                return Ok(());
            }
        };
        let sent = call(&self.client, rendered.request(), DEADLINE).await;
        if let (Err(error), Verb::Patch) = (&sent, rendered.verb)
            && error.kind == WriteFailure::NotFound
        {
            self.recent.forget(event);
        }
        sent.map(|_| ())
    }
}

/// What becomes of an Event.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It is told.
    New,
    /// It was told under this name; now so many times.
    Again { name: String, count: u32 },
    /// The same as one before; its count is sent later.
    Counted,
    /// Too many.
    OverBudget,
}

/// What was told recently.
#[derive(Debug)]
struct Recent {
    budget: Budget,
    objects: BTreeMap<About, Told>,
}

/// What was told of one object.
#[derive(Debug)]
struct Told {
    budget: Budget,
    /// No more than the budget gives within [`SERIES`].
    series: Vec<Series>,
    last: Instant,
}

/// An Event that may repeat.
#[derive(Debug)]
struct Series {
    event: Event,
    name: String,
    count: u32,
    last: Instant,
    sent: Instant,
}

impl Recent {
    const fn new(now: Instant) -> Self {
        Self { budget: Budget::new(IN_ALL, IN_ALL_EVERY, now), objects: BTreeMap::new() }
    }

    fn weigh(&mut self, event: &Event, now: Instant) -> Verdict {
        if !self.objects.contains_key(&event.about) {
            self.make_room();
        }
        let told = self.objects.entry(event.about.clone()).or_insert_with(|| Told::new(now));
        told.last = now;
        told.series.retain(|series| now.duration_since(series.last) < SERIES);
        if let Some(series) = told.series.iter_mut().find(|series| series.event == *event) {
            return series.again(now);
        }
        if !(told.budget.take(now) && self.budget.take(now)) {
            return Verdict::OverBudget;
        }
        told.series.push(Series { event: event.clone(), name: String::new(), count: 1, last: now, sent: now });
        Verdict::New
    }

    /// Under which name an Event was told.
    fn named(&mut self, event: &Event, name: &str) {
        let told = self.objects.get_mut(&event.about);
        let mut series = told.into_iter().flat_map(|told| &mut told.series);
        if let Some(series) = series.find(|series| series.event == *event) {
            name.clone_into(&mut series.name);
        }
    }

    /// The Event is not there any more; the next of its kind is a new one.
    fn forget(&mut self, event: &Event) {
        if let Some(told) = self.objects.get_mut(&event.about) {
            told.series.retain(|series| series.event != *event);
        }
    }

    fn make_room(&mut self) {
        if self.objects.len() < OBJECTS {
            return;
        }
        let quiet = self.objects.iter().min_by_key(|(_, told)| told.last);
        if let Some(about) = quiet.map(|(about, _)| about.clone()) {
            self.objects.remove(&about);
        }
    }
}

impl Told {
    const fn new(now: Instant) -> Self {
        Self { budget: Budget::new(PER_OBJECT, PER_OBJECT_EVERY, now), series: Vec::new(), last: now }
    }
}

impl Series {
    fn again(&mut self, now: Instant) -> Verdict {
        self.count = self.count.saturating_add(1);
        self.last = now;
        if now.duration_since(self.sent) < RECOUNT {
            return Verdict::Counted;
        }
        self.sent = now;
        Verdict::Again { name: self.name.clone(), count: self.count }
    }
}

/// So many at once, then one every so often.
#[derive(Debug)]
struct Budget {
    burst: u32,
    every: Duration,
    left: u32,
    refilled: Instant,
}

impl Budget {
    const fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self { burst, every, left: burst, refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < self.burst && now.duration_since(self.refilled) >= self.every {
            self.left += 1;
            self.refilled += self.every;
        }
        if self.left == self.burst {
            self.refilled = now;
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

/// Kind and API version of an object, its namespace, name and uid.
fn regarding(about: &About) -> Value {
    let ours = format!("{GROUP}/{VERSION}");
    let (version, kind, namespace, name, uid) = match about {
        About::Link(name, uid) => (ours.as_str(), "ClusterLink", None, name.as_str(), uid),
        About::Binding(name, uid) => (ours.as_str(), "GatewayBinding", None, name.as_str(), uid),
        About::Policy(key, uid) => (ours.as_str(), "MirrorPolicy", Some(&key.namespace), key.name.as_str(), uid),
        About::Service(key, uid) => ("v1", "Service", Some(&key.namespace), key.name.as_str(), uid),
    };
    let mut out = json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid});
    if let Some(namespace) = namespace {
        out["namespace"] = json!(namespace);
    }
    out
}

/// Where Events about an object are: in its namespace, else in `default`, as Kubernetes asks.
fn path(about: &About) -> String {
    let namespace = match about {
        About::Link(..) | About::Binding(..) => "default",
        About::Policy(key, _) | About::Service(key, _) => &key.namespace,
    };
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

/// A name that no other Event has, by the object and the time (as client-go makes it).
fn event_name(about: &About, now: Timestamp) -> String {
    let name = match about {
        About::Link(name, _) | About::Binding(name, _) => name.as_str(),
        About::Policy(key, _) | About::Service(key, _) => key.name.as_str(),
    };
    format!("{name}.{:x}", now.as_nanosecond())
}

fn first(event: &Event, name: &str, instance: &str, now: Timestamp) -> Rendered {
    Rendered {
        verb: Verb::Create,
        resource: "events",
        path: path(&event.about),
        body: json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name},
            "eventTime": MicroTime(now),
            "reportingController": "heliostat.dev/controller",
            "reportingInstance": instance,
            "regarding": regarding(&event.about),
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "action": event.action,
            "note": cut(&event.note, NOTE),
        }),
    }
}

fn again(about: &About, name: &str, count: u32, now: Timestamp) -> Rendered {
    Rendered {
        verb: Verb::Patch,
        resource: "events",
        path: format!("{}/{name}", path(about)),
        body: json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}}),
    }
}

/// The text, cut at a character so that it has at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests;
