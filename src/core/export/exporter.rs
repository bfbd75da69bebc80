//! The exporter's side of the engine: takes news, has a pass when there were any, and sees that
//! each object has at most one write in flight and that failed ones wait.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    known::Known,
    object::{self, Kind, KindNews, LEASE, ObjectId, PUBLISHED_SLICE},
    pass::{ObjectChange, ObjectWrite, Pass, Report, View},
    provider::{Providers, RouteId},
};
use crate::core::{
    engine::Engine,
    envoy::EnvoyConfig,
    io::{ExportNews, Output, WriteError, WriteFailure, WriteId, WriteOp, Written},
    model::Key,
    retry::{self, Retry},
    select::Refusal,
};

/// Most unanswered writes.
const WRITES_IN_FLIGHT: usize = 32;
/// Shortest time between two passes: news that come together are looked at together.
const REST: SignedDuration = SignedDuration::from_millis(20);
/// So much more for each object that the last one wrote: a pass costs the more the more goes out, and
/// while much is written, it matters little when the outcome of each write is looked at.
const REST_PER_WRITE: SignedDuration = SignedDuration::from_millis(1);
/// Longest time between two passes.
const MAX_REST: SignedDuration = SignedDuration::from_millis(500);

/// What the exporter's side is told at start.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// Makes the provider of a binding.
    pub providers: Providers,
    /// Every kind of object that some provider makes or reads.
    pub kinds: Vec<Kind>,
    /// The image of Heliostat's own gateway.
    pub envoy_image: String,
}

/// See the file's description.
#[derive(Debug)]
pub struct Exporter {
    settings: ExportSettings,
    known: Known,
    /// The outcome of the last pass.
    reports: BTreeMap<String, Report>,
    hosts: BTreeSet<String>,
    hosts_changed: bool,
    envoys: BTreeMap<String, EnvoyConfig>,
    followed: bool,
    dirty: bool,
    rest: Timestamp,
    wake: Option<Timestamp>,
    /// Writes of the last pass that wait for their turn.
    queue: VecDeque<ObjectWrite>,
    flights: BTreeMap<WriteId, (ObjectId, ObjectChange)>,
    busy: BTreeSet<ObjectId>,
    /// Of those, objects that a watch has seen go meanwhile: the answer may be older than that.
    overtaken: BTreeSet<ObjectId>,
    retries: BTreeMap<ObjectId, Retry>,
    failures: BTreeMap<ObjectId, Refusal>,
    written: BTreeMap<ObjectId, Timestamp>,
    /// Leases that are there already although no watch has told so: their ports are others'.
    tried: BTreeSet<Key>,
    pending_since: BTreeMap<(String, RouteId), Timestamp>,
}

impl Exporter {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(settings: ExportSettings) -> Self {
        Self {
            settings,
            known: Known::default(),
            reports: BTreeMap::new(),
            hosts: BTreeSet::new(),
            hosts_changed: false,
            envoys: BTreeMap::new(),
            followed: false,
            dirty: true,
            rest: Timestamp::UNIX_EPOCH,
            wake: None,
            queue: VecDeque::new(),
            flights: BTreeMap::new(),
            busy: BTreeSet::new(),
            overtaken: BTreeSet::new(),
            retries: BTreeMap::new(),
            failures: BTreeMap::new(),
            written: BTreeMap::new(),
            tried: BTreeSet::new(),
            pending_since: BTreeMap::new(),
        }
    }

    /// Takes news.
    pub fn take(&mut self, news: ExportNews) {
        if let ExportNews::Objects(kind, news) = &news
            && *kind == LEASE
        {
            match news {
                KindNews::Listed(..) => self.tried.clear(),
                KindNews::Set(key, _) => drop(self.tried.remove(key)),
                _ => {}
            }
        }
        match &news {
            ExportNews::Objects(kind, KindNews::Gone(key)) => {
                let id = ObjectId { kind: *kind, key: key.clone() };
                if self.busy.contains(&id) {
                    self.overtaken.insert(id);
                }
            }
            ExportNews::Objects(kind, KindNews::Listed(..)) => {
                self.overtaken.extend(self.busy.iter().filter(|id| id.kind == *kind).cloned());
            }
            _ => {}
        }
        self.dirty |= self.known.take(news);
    }

    /// Bindings, hostnames or nodes changed.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// What the last pass says of a binding.
    #[must_use]
    pub fn report(&self, binding: &str) -> Option<&Report> {
        self.reports.get(binding)
    }

    /// Hostnames of gateways to keep resolved.
    pub fn hosts(&self) -> impl Iterator<Item = &String> {
        self.hosts.iter()
    }

    /// Whether those are others than when this was asked last.
    pub fn hosts_changed(&mut self) -> bool {
        mem::take(&mut self.hosts_changed)
    }

    /// When something is due by time alone.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let retries = self.retries.values().map(|retry| retry.at).filter(|at| *at < Timestamp::MAX);
        self.dirty.then_some(self.rest).into_iter().chain(self.wake).chain(retries).min()
    }

    fn ready(&self) -> bool {
        let listed = |kind| matches!(self.known.objects.of(kind), object::Known::Listed { .. });
        self.known.listed() && listed(LEASE) && listed(PUBLISHED_SLICE)
    }

    /// Whether a pass is due.
    fn due(&self, now: Timestamp) -> bool {
        let timely = self.wake.is_some_and(|at| at <= now) || self.retries.values().any(|retry| retry.at <= now);
        self.ready() && (timely || self.dirty && self.rest <= now)
    }

    /// Whether an object may be written now.
    fn may_write(&self, id: &ObjectId, now: Timestamp) -> bool {
        !self.busy.contains(id) && self.retries.get(id).is_none_or(|retry| retry.at <= now)
    }

    fn launched(&mut self, id: WriteId, write: &ObjectWrite) {
        self.busy.insert(write.id.clone());
        if let Some(retry) = self.retries.get_mut(&write.id) {
            retry.tried();
        }
        self.flights.insert(id, (write.id.clone(), write.change.clone()));
    }

    /// The answer to a write, if it was one of ours.
    pub fn written(&mut self, id: WriteId, result: &Result<Written, WriteError>, now: Timestamp) -> bool {
        let Some((object, change)) = self.flights.remove(&id) else { return false };
        self.busy.remove(&object);
        let overtaken = self.overtaken.remove(&object);
        self.dirty = true;
        match result {
            Ok(answer) => {
                self.retries.remove(&object);
                self.failures.remove(&object);
                match answer {
                    Written::Object(_) if overtaken => {}
                    Written::Object(value) => {
                        self.written.insert(object.clone(), now);
                        let news = KindNews::Set(object.key.clone(), value.as_ref().clone());
                        self.known.objects.take(object.kind, news);
                    }
                    _ => {
                        self.written.remove(&object);
                        self.known.objects.take(object.kind, KindNews::Gone(object.key));
                    }
                }
            }
            Err(error) => self.failed(object, &change, error, overtaken, now),
        }
        true
    }

    fn failed(&mut self, object: ObjectId, change: &ObjectChange, error: &WriteError, overtaken: bool, now: Timestamp) {
        // The test-and-set of a port: somebody was quicker, and another port is tried at once. Until a watch
        // tells of that Lease, if it has not yet.
        let taken = error.kind == WriteFailure::AlreadyExists && object.kind == LEASE;
        if taken && matches!(change, ObjectChange::Create(_)) {
            if !overtaken && self.known.objects.get(LEASE, &object.key).is_none() {
                self.tried.insert(object.key);
            }
            return;
        }
        // What is not there any more is made anew, whatever a watch has not told yet.
        if error.kind == WriteFailure::NotFound
            && self.known.objects.take(object.kind, KindNews::Gone(object.key.clone()))
        {
            return;
        }
        self.retries.entry(object.clone()).or_default().failed(&object.key, now, error.retry_after);
        // That an object changed meanwhile is no news for a user.
        if !matches!(error.kind, WriteFailure::Conflict | WriteFailure::NotFound) {
            self.failures.insert(object.clone(), retry::refused(&object.to_string(), error));
        }
    }

    fn take_over(&mut self, pass: &mut Pass, now: Timestamp) -> BTreeSet<String> {
        self.wake = pass.wake;
        let hosts = mem::take(&mut pass.hosts);
        self.hosts_changed |= hosts != self.hosts;
        self.hosts = hosts;
        let waits = |(binding, report): (&String, &Report)| {
            report.waits.keys().map(|route| (binding.clone(), route.clone())).collect::<Vec<_>>()
        };
        let waiting: BTreeSet<(String, RouteId)> = pass.reports.iter().flat_map(waits).collect();
        self.pending_since.retain(|route, _| waiting.contains(route));
        for route in waiting {
            self.pending_since.entry(route).or_insert(now);
        }
        let reports = mem::take(&mut pass.reports);
        let all = self.reports.keys().chain(reports.keys()).cloned().collect::<BTreeSet<_>>();
        let changed = all.into_iter().filter(|name| self.reports.get(name) != reports.get(name)).collect();
        self.reports = reports;
        changed
    }
}

impl Engine {
    /// Has a pass if one is due, and asks for what follows from it.
    pub(in crate::core) fn export(&mut self, out: &mut Vec<Output>) {
        let Some(mut exporter) = self.exporter.take() else { return };
        if !exporter.followed {
            let own = [LEASE, PUBLISHED_SLICE];
            out.push(Output::Follow(exporter.settings.kinds.iter().copied().chain(own).collect()));
            exporter.followed = true;
        }
        if exporter.due(self.now) {
            self.export_pass(&mut exporter, out);
        }
        self.launch_exports(&mut exporter, out);
        self.exporter = Some(exporter);
    }

    fn export_pass(&mut self, exporter: &mut Exporter, out: &mut Vec<Output>) {
        let now = self.now;
        exporter.dirty = false;
        let view = View {
            known: &exporter.known,
            bindings: &self.world.bindings,
            hosts: &self.world.hosts,
            local_nodes: &self.world.nodes,
            settings: &exporter.settings,
            namespace: &self.settings.namespace,
            cluster_domain: &self.settings.cluster_domain,
            written: &exporter.written,
            tried: &exporter.tried,
            pending_since: &exporter.pending_since,
            failures: &exporter.failures,
            now,
        };
        let mut pass = view.pass();
        for binding in exporter.take_over(&mut pass, now) {
            self.status.touch_binding(&binding);
        }
        // Failures of objects that nothing is to be done about any more.
        let wanted: BTreeSet<&ObjectId> = pass.writes.iter().map(|write| &write.id).collect();
        exporter.retries.retain(|id, _| wanted.contains(id));
        exporter.failures.retain(|id, _| wanted.contains(id));
        let writes = i32::try_from(pass.writes.len()).unwrap_or(i32::MAX);
        let rest = REST_PER_WRITE.checked_mul(writes).map_or(MAX_REST, |more| (REST + more).min(MAX_REST));
        exporter.rest = now.saturating_add(rest).unwrap_or(now);
        // What is under way is looked at again when it is answered: decided now, it would be written twice.
        exporter.queue = pass.writes.into_iter().filter(|write| !exporter.busy.contains(&write.id)).collect();
        exporter.tell_envoys(pass.envoys, out);
    }

    /// Begins writes of the last pass, as many as may be under way.
    fn launch_exports(&mut self, exporter: &mut Exporter, out: &mut Vec<Output>) {
        while exporter.flights.len() < WRITES_IN_FLIGHT {
            let Some(write) = exporter.queue.pop_front() else { return };
            if exporter.may_write(&write.id, self.now)
                && let Some(op) = exporter.op(&write)
            {
                let id = self.new_write(op, out);
                exporter.launched(id, &write);
            }
        }
    }
}

impl Exporter {
    fn op(&self, write: &ObjectWrite) -> Option<WriteOp> {
        let ObjectWrite { id, change } = write;
        let version = self.known.objects.version(id.kind)?.to_owned();
        let at = || self.known.objects.get(id.kind, &id.key).map(object::at);
        Some(match change {
            ObjectChange::Create(whole) => WriteOp::CreateObject(id.clone(), version, Box::new(whole.clone())),
            ObjectChange::Patch(patch) => WriteOp::PatchObject(id.clone(), version, at()?, Box::new(patch.clone())),
            ObjectChange::Delete => WriteOp::DeleteObject(id.clone(), version, at()?),
        })
    }

    fn tell_envoys(&mut self, envoys: BTreeMap<String, EnvoyConfig>, out: &mut Vec<Output>) {
        for binding in self.envoys.keys().filter(|binding| !envoys.contains_key(*binding)) {
            out.push(Output::Envoys { binding: binding.clone(), config: None });
        }
        for (binding, config) in &envoys {
            if self.envoys.get(binding) != Some(config) {
                out.push(Output::Envoys { binding: binding.clone(), config: Some(config.clone()) });
            }
        }
        self.envoys = envoys;
    }
}
