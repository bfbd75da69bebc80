//! The engine: takes an input, keeps the world and the claims up to date, and asks for the writes
//! that follow. It holds no object twice and queues keys only; each mirror has at most one write
//! in flight, and all together at most [`Settings::writes_in_flight`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{
    claim::{ClaimId, Claims, Outcome},
    depend::Dependents,
    export::exporter::{ExportSettings, Exporter},
    io::{About, Event, Input, Output, SessionTask, Write, WriteError, WriteFailure, WriteId, WriteOp, Written},
    link::Loss,
    model::{Key, LocalService, LocalSlice, Text},
    propagation::Propagation,
    queue::FairQueue,
    reach::Reach,
    resolve::{Decision, View},
    retry::{self, Retry},
    select::{self, Refusal, is_probe},
    status::StatusBook,
    world::{Owner, World},
};
use crate::api::{
    Reason,
    names::{LINK_LABEL, ORIGIN_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL, VIA_ANNOTATION},
    policy::PolicyFailure,
};

/// Most mirrors that are looked at before the next news is taken: where nothing is to be written, a hundred
/// thousand of them would keep everything else waiting for seconds.
const LOOKS: usize = 1000;

/// So few more objects are not worth the work of tightening.
const TIGHTEN_FROM: usize = 1024;

/// What the engine is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The controller's own namespace.
    pub namespace: String,
    /// DNS domain of this cluster.
    pub cluster_domain: String,
    /// Pod and other ranges of this cluster that its API does not tell.
    pub cluster_cidrs: Vec<IpNet>,
    /// Most unanswered writes of mirrors.
    pub writes_in_flight: usize,
    /// The exporter's side is turned on, with this.
    pub export: Option<ExportSettings>,
}

/// See the file's description.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) world: World,
    pub(super) claims: Claims,
    pub(super) over_limit: BTreeSet<(Text, Key)>,
    pub(super) now: Timestamp,
    pub(super) status: StatusBook,
    /// Gateway addresses, and which of them answer.
    pub(super) reach: Reach,
    /// The exporter's side, where it is turned on.
    pub(super) exporter: Option<Exporter>,
    quota_due: BTreeSet<String>,
    /// Every mirror is to be looked at.
    all_due: bool,
    /// What sessions are to do may be something else than before.
    pub(super) tasks_due: bool,
    /// Links whose guard must look at news.
    pub(super) guards_due: BTreeSet<String>,
    queue: FairQueue,
    flights: BTreeMap<WriteId, Flight>,
    busy: BTreeMap<Key, WriteId>,
    retries: BTreeMap<Key, Retry>,
    next_id: u64,
    tasks: BTreeMap<String, SessionTask>,
    host_users: Dependents,
    node_users: Dependents,
    hosts_asked: BTreeMap<String, String>,
    /// What is done about links that are lost; of others nothing is kept.
    losses: BTreeMap<String, Loss>,
    events: Vec<Event>,
    propagation: Propagation,
    /// How many objects there were when the trees that hold them were made tight.
    tight_at: usize,
}

/// A write that has not been answered.
#[derive(Debug)]
struct Flight {
    target: Key,
    op: WriteOp,
    /// A watch said that the object, or the whole list, changed meanwhile by deletion: the answer
    /// may be older than what is known.
    overtaken: bool,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(mut settings: Settings) -> Self {
        let exporter = settings.export.take().map(Exporter::new);
        let world = World::new(&settings.namespace, &settings.cluster_cidrs);
        Self {
            settings,
            world,
            claims: Claims::default(),
            over_limit: BTreeSet::new(),
            now: Timestamp::UNIX_EPOCH,
            status: StatusBook::default(),
            reach: Reach::default(),
            exporter,
            quota_due: BTreeSet::new(),
            all_due: false,
            tasks_due: true,
            guards_due: BTreeSet::new(),
            queue: FairQueue::default(),
            flights: BTreeMap::new(),
            busy: BTreeMap::new(),
            retries: BTreeMap::new(),
            next_id: 0,
            tasks: BTreeMap::new(),
            host_users: Dependents::default(),
            node_users: Dependents::default(),
            hosts_asked: BTreeMap::new(),
            losses: BTreeMap::new(),
            events: Vec::new(),
            propagation: Propagation::default(),
            tight_at: 0,
        }
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Output> {
        if now < self.now {
            self.set_back(now);
        }
        self.now = now;
        match input {
            Input::Local(local) => self.on_local(local),
            Input::Remote { link, session, received, event } => {
                self.propagation.hear(event.is_change().then_some(received));
                self.on_remote(&link, session, event);
                self.propagation.hear(None);
            }
            Input::Written { id, result } => self.on_written(id, result),
            Input::Resolved { host, answer, expired } => self.on_resolved(&host, answer, expired),
            Input::Probed { target, verdict } => self.on_probed(&target, verdict),
            Input::Export(news) => {
                if let Some(exporter) = &mut self.exporter {
                    exporter.take(news);
                }
            }
            Input::Tick => {}
        }
        if std::mem::take(&mut self.all_due) {
            self.touch_ours();
        }
        self.tighten();
        self.advance();
        let mut out = Vec::new();
        if self.ready() {
            self.settle_guards();
            self.settle_limits();
            self.dispatch(&mut out);
            self.export(&mut out);
            self.ask_sessions(&mut out);
            self.ask_hosts(&mut out);
            self.ask_probes(&mut out);
            self.write_status(&mut out);
        }
        out.extend(self.events.drain(..).map(Output::Event));
        out
    }

    /// Takes the empty room out of what has grown by an eighth, so that it costs a few steps for each object
    /// that came. With nothing else to do it is worth more of them.
    fn tighten(&mut self) {
        let size = self.world.size() + self.claims.len();
        let idle = self.queue.waiting() == 0 && self.flights.is_empty();
        let slack = size / if idle { 64 } else { 8 };
        if size > self.tight_at + slack.max(TIGHTEN_FROM) {
            self.world.tighten();
            self.claims.tighten();
            self.tight_at = size;
        }
    }

    /// The clock was set back: what waits to be tried again must not wait until it has caught up.
    fn set_back(&mut self, now: Timestamp) {
        self.retries.values_mut().for_each(|retry| retry.no_later(now));
        self.status.no_later(now);
    }

    /// When something is due by time alone.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let retries = self.retries.values().map(|r| r.at);
        let losses = self.world.links.values().filter_map(|l| l.loss_due()).filter(|due| *due > self.now);
        let leases = self.world.links.values().flat_map(|l| l.lease_deadlines()).filter(|due| *due > self.now);
        let exporter = self.exporter.as_ref().and_then(Exporter::next_wakeup);
        let more = self.ready() && self.queue.waiting() > 0 && self.flights.len() < self.settings.writes_in_flight;
        retries
            .chain(losses)
            .chain(leases)
            .chain(self.status.next_due())
            .chain(exporter)
            .chain(more.then_some(self.now))
            .min()
    }

    /// Everything that must be known before anything is decided has been listed.
    pub fn ready(&self) -> bool {
        self.world.listed.all() && self.world.cluster_uid.is_some()
    }

    /// Mirrors that wait to be looked at, and writes that have not been answered.
    pub fn backlog(&self) -> (usize, usize) {
        (self.queue.waiting(), self.flights.len())
    }

    /// Everything known; for `explain`, `plan` and metrics.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// All claims and what became of them; for `explain`, `plan` and metrics.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What should become of a mirror, and of the claims on it, by what is known now; for `explain`
    /// and `plan`.
    pub fn decision(&self, mirror: &Key) -> Decision {
        self.view(None).decide(mirror)
    }

    pub(super) fn view<'a>(&'a self, assume: Option<&'a Key>) -> View<'a> {
        View {
            world: &self.world,
            claims: &self.claims,
            over_limit: &self.over_limit,
            reach: &self.reach,
            cluster_domain: &self.settings.cluster_domain,
            assume,
            now: self.now,
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    // ---- what is to be looked at again ----

    /// Puts a mirror in the queue, in the lane of the link that it belongs to.
    pub(super) fn touch(&mut self, target: Key) {
        let lane = self.lane(&target);
        self.retries.remove(&target);
        self.propagation.touched(&target);
        self.queue.push(&lane, target);
    }

    /// The link that a mirror belongs to, or that wants it first.
    fn lane(&self, target: &Key) -> Text {
        match self.world.owner(target) {
            Owner::Ours(link) => link.into(),
            _ => self.claims.on(target).next().map(|id| id.link.clone()).unwrap_or_default(),
        }
    }

    /// Decides anew which policies want an origin.
    pub(super) fn reconsider(&mut self, link_name: &str, origin: &Key) {
        let stale: Vec<ClaimId> = self.claims.of_origin(link_name, origin).map(|(id, _)| id.clone()).collect();
        let mut wanted: BTreeMap<ClaimId, Result<Key, select::Refused>> = BTreeMap::new();
        let origins = self.world.links.get(link_name).map(|link| &link.remote.services);
        let answers_probes = origins.and_then(|all| all.get(origin)).is_some_and(|found| is_probe(&found.labels));
        self.reach.service(link_name, origin, answers_probes);
        if let Some(link) = self.world.links.get(link_name)
            && let Some(found) = link.remote.services.get(origin)
        {
            for (policy_key, policy) in &self.world.policies {
                let Some(checked) = policy.accepted() else { continue };
                if checked.names(link_name, link)
                    && checked.matches(origin, &found.labels)
                    && self.world.permits(link_name, link, &policy_key.namespace, checked).is_ok()
                {
                    let id =
                        ClaimId { link: link_name.into(), origin: origin.clone(), policy: policy_key.clone().into() };
                    wanted.insert(id, select::admit(checked, link_name, origin, found, &self.world));
                }
            }
        }
        let mut touched = BTreeSet::new();
        for id in stale.into_iter().filter(|id| !wanted.contains_key(id)) {
            self.status.touch_policy(&id.policy);
            touched.extend(self.claims.set(&id, None));
        }
        for (id, claim) in wanted {
            self.status.touch_policy(&id.policy);
            self.warn_of(&id, claim.as_ref().err().map(|r| &r.refusal));
            touched.extend(self.claims.set(&id, Some(claim)));
        }
        self.quota_due.insert(link_name.to_owned());
        self.guard_concerned(link_name);
        self.status.touch_link(link_name);
        touched.into_iter().for_each(|target| self.touch(target));
    }

    pub(super) fn reconsider_link(&mut self, link: &str) {
        let known = self
            .world
            .links
            .get(link)
            .map(|l| l.remote.services.keys().cloned().collect::<BTreeSet<_>>())
            .unwrap_or_default();
        let claimed: BTreeSet<Key> = self.claims.of_link(link).map(|(id, _)| id.origin.clone()).collect();
        known.union(&claimed).for_each(|origin| self.reconsider(link, origin));
        self.guard_concerned(link);
        self.all_due = true;
    }

    pub(super) fn reconsider_all(&mut self) {
        let links: BTreeSet<String> =
            self.world.links.keys().cloned().chain(self.claims.iter().map(|(id, _)| id.link.to_string())).collect();
        links.iter().for_each(|link| self.reconsider_link(link));
    }

    /// Looks at every mirror that exists: a spec changed, or several in one listing.
    fn touch_ours(&mut self) {
        let ours: Vec<Key> =
            self.world.services.iter().filter(|(_, s)| s.ours.is_some()).map(|(key, _)| key.clone()).collect();
        ours.into_iter().for_each(|key| self.touch(key));
    }

    /// Looks at every mirror of a link: its readiness, addresses or clock changed.
    pub(super) fn touch_link(&mut self, link: &str) {
        let claimed: Vec<Key> = self.claims.of_link(link).filter_map(|(_, claim)| claim.target.clone()).collect();
        let ours = self.world.ours(link).cloned();
        let all: BTreeSet<Key> = claimed.into_iter().chain(ours).collect();
        all.into_iter().for_each(|key| self.touch(key));
        self.status.touch_link(link);
        self.reach.touch(link);
    }

    pub(super) fn touch_origin(&mut self, link: &str, origin: &Key) {
        if self.reach.services(link).any(|service| service == origin) {
            self.reach.touch(link);
        }
        let targets: Vec<Key> =
            self.claims.of_origin(link, origin).filter_map(|(_, claim)| claim.target.clone()).collect();
        targets.into_iter().for_each(|key| self.touch(key));
    }

    pub(super) fn touch_node_users(&mut self, link: &str) {
        let users: Vec<Key> = self.node_users.of(link).cloned().collect();
        users.into_iter().for_each(|key| self.touch(key));
    }

    fn on_resolved(&mut self, host: &str, answer: Result<Vec<std::net::IpAddr>, String>, expired: bool) {
        let known = self.world.hosts.entry(host.to_owned()).or_default();
        match answer {
            Ok(mut addresses) => {
                addresses.sort();
                known.addresses = addresses;
                known.error = None;
                known.expired = false;
            }
            Err(error) => {
                known.error = Some(error);
                known.expired = expired;
                if expired {
                    known.addresses.clear();
                }
            }
        }
        self.exporter.iter_mut().for_each(Exporter::touch);
        self.reach.links().iter().for_each(|link| self.reach.touch(link));
        let users: Vec<Key> = self.host_users.of(host).cloned().collect();
        users.into_iter().for_each(|key| self.touch(key));
    }

    /// A watch said that an object, or a whole list, is gone or new.
    pub(super) fn overtake(&mut self, key: Option<&Key>) {
        for flight in self.flights.values_mut().filter(|f| key.is_none_or(|key| f.op.object() == Some(key))) {
            flight.overtaken = true;
        }
    }

    // ---- time ----

    fn advance(&mut self) {
        let now = self.now;
        let due: Vec<Key> = self.retries.iter().filter(|(_, r)| r.at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            // Kept, so that the next failure waits longer; out of reach until then.
            if let Some(retry) = self.retries.get_mut(&key) {
                retry.tried();
            }
            let lane = self.claims.on(&key).next().map(|id| id.link.clone()).unwrap_or_default();
            self.queue.push(&lane, key);
        }
        let mut changed = Vec::new();
        for (name, link) in &mut self.world.links {
            let loss = link.loss(now);
            let lost = self.losses.get(name).copied().unwrap_or(Loss::None) != loss;
            if lost && loss == Loss::None {
                self.losses.remove(name);
            } else if lost {
                self.losses.insert(name.clone(), loss);
            }
            if link.lease_passed(now) || lost {
                changed.push(name.clone());
            }
        }
        self.losses.retain(|name, _| self.world.links.contains_key(name));
        changed.iter().for_each(|link| self.touch_link(link));
    }

    // ---- limits ----

    /// Decides anew which origins of a link are over its limit: incumbents first, then by name.
    fn settle_limits(&mut self) {
        for link_name in std::mem::take(&mut self.quota_due) {
            let Some(link) = self.world.links.get(&link_name) else { continue };
            let limit = usize::try_from(link.object.spec.limits.services).unwrap_or(usize::MAX);
            let before: BTreeSet<Key> =
                self.over_limit.iter().filter(|(l, _)| *l == link_name).map(|(_, origin)| origin.clone()).collect();
            if before.is_empty() && link.remote.services.len() <= limit {
                continue;
            }
            let wanted: BTreeMap<&Key, bool> = self
                .claims
                .of_link(&link_name)
                .filter_map(|(id, claim)| claim.target.as_ref().map(|t| (&id.origin, t)))
                .fold(BTreeMap::new(), |mut all, (origin, target)| {
                    *all.entry(origin).or_default() |= self.world.owner(target) == Owner::Ours(&link_name);
                    all
                });
            let mut ranked: Vec<(bool, &Key)> = wanted.into_iter().map(|(origin, exists)| (!exists, origin)).collect();
            ranked.sort();
            let over: BTreeSet<Key> = ranked.into_iter().skip(limit).map(|(_, origin)| origin.clone()).collect();
            self.over_limit.retain(|(l, _)| *l != link_name);
            self.over_limit.extend(over.iter().map(|origin| (Text::from(&link_name), origin.clone())));
            before.symmetric_difference(&over).for_each(|origin| self.touch_origin(&link_name, origin));
        }
    }

    // ---- deciding and writing ----

    pub(super) fn dispatch(&mut self, out: &mut Vec<Output>) {
        for _ in 0..LOOKS {
            if self.flights.len() >= self.settings.writes_in_flight {
                break;
            }
            let Some(target) = self.queue.pop() else { break };
            // Looked at again when its write is answered.
            if self.busy.contains_key(&target) {
                continue;
            }
            let decision = self.view(None).decide(&target);
            self.depend(&target, &decision);
            if let Some((link, due)) = &decision.lease_due
                && let Some(link) = self.world.links.get_mut(link)
            {
                link.remote.leases_due.insert(*due);
            }
            match decision.write {
                Some(op) => self.launch(target, op, out),
                None => {
                    self.retries.remove(&target);
                    self.settle(decision.outcomes);
                    out.extend(self.propagation.settled(&target).map(Output::Propagated));
                }
            }
        }
    }

    fn launch(&mut self, target: Key, op: WriteOp, out: &mut Vec<Output>) {
        self.next_id += 1;
        let id = WriteId(self.next_id);
        self.busy.insert(target.clone(), id);
        self.propagation.began(&target);
        self.flights.insert(id, Flight { target, op: op.clone(), overtaken: false });
        out.push(Output::Write(Write { id, op }));
    }

    pub(super) fn new_write(&mut self, op: WriteOp, out: &mut Vec<Output>) -> WriteId {
        self.next_id += 1;
        let id = WriteId(self.next_id);
        out.push(Output::Write(Write { id, op }));
        id
    }

    /// Remembers what a decision depends on.
    fn depend(&mut self, target: &Key, decision: &Decision) {
        self.note_gateways(target, decision);
        self.host_users.set(target, &decision.hosts);
        self.node_users.set(target, &decision.nodes.iter().cloned().collect());
    }

    pub(super) fn settle(&mut self, outcomes: Vec<(ClaimId, Outcome)>) {
        for (id, outcome) in outcomes {
            if matches!(self.claims.get(&id), Some(claim) if *claim.outcome != outcome) {
                outcome.notes().iter().for_each(|note| self.warn_of(&id, Some(note)));
                self.claims.settle(&id, outcome);
                self.status.touch_policy(&id.policy);
                self.status.touch_link(&id.link);
            }
        }
    }

    fn on_written(&mut self, id: WriteId, result: Result<Written, WriteError>) {
        let Some(flight) = self.flights.remove(&id) else {
            let now = self.now;
            if !self.exporter.as_mut().is_some_and(|exporter| exporter.written(id, &result, now)) {
                self.status_written(id, result);
            }
            return;
        };
        self.busy.remove(&flight.target);
        match result {
            Ok(written) => {
                self.retries.remove(&flight.target);
                self.propagation.answered(&flight.target, self.now);
                if !flight.overtaken {
                    self.take_over(&flight.op, written);
                    self.announce(&flight.op);
                }
                self.touch(flight.target);
            }
            Err(error) => self.write_failed(flight, &error),
        }
    }

    /// The answer to a write is news like a watch event.
    fn take_over(&mut self, op: &WriteOp, written: Written) {
        match (op, written) {
            (WriteOp::DeleteService(key, _), Written::Deleted) => {
                if let Some(service) = self.world.services.get_mut(key) {
                    service.terminating = true;
                }
            }
            (WriteOp::DeleteSlice(key, _), Written::Deleted) => {
                if let Some(slice) = self.world.slices.get_mut(key) {
                    slice.terminating = true;
                }
            }
            (_, Written::Service(service)) => {
                if let Some(key) = op.object().cloned() {
                    self.set_service(&key, service);
                }
            }
            (_, Written::Slice(slice)) => {
                if let Some(key) = op.object().cloned() {
                    self.set_slice(&key, slice);
                }
            }
            _ => {}
        }
    }

    /// Takes a Service over unless what is known is newer.
    pub(super) fn set_service(&mut self, key: &Key, service: LocalService) -> bool {
        let newer = |known: &LocalService| {
            known.uid == service.uid && service.resource_version.is_older_than(&known.resource_version)
        };
        match self.world.services.get(key) {
            Some(known) if newer(known) || *known == service => false,
            _ => {
                self.replace_service(key, Some(service));
                true
            }
        }
    }

    /// Takes a slice over unless what is known is newer; gives the mirrors concerned.
    pub(super) fn set_slice(&mut self, key: &Key, slice: LocalSlice) -> BTreeSet<Key> {
        let newer = |known: &LocalSlice| {
            known.uid == slice.uid && slice.resource_version.is_older_than(&known.resource_version)
        };
        match self.world.slices.get(key) {
            Some(known) if newer(known) || *known == slice => BTreeSet::new(),
            _ => self.world.set_slice(key, Some(slice)),
        }
    }

    fn write_failed(&mut self, flight: Flight, error: &WriteError) {
        let Flight { target, op, .. } = flight;
        let refusal = retry::failure(&target, &op, error);
        let claims: Vec<ClaimId> = self.claims.on(&target).cloned().collect();
        let winner = self
            .view(None)
            .decide(&target)
            .outcomes
            .into_iter()
            .find(|(_, o)| matches!(o, Outcome::Mirrored { .. }))
            .map(|(id, _)| id);
        for id in claims.into_iter().filter(|id| winner.as_ref().is_none_or(|w| w == id)) {
            let outcome = match error.kind {
                WriteFailure::AlreadyExists => Outcome::Conflicted(refusal.clone()),
                WriteFailure::Conflict | WriteFailure::NotFound => continue,
                _ => Outcome::Pending(Some(refusal.clone())),
            };
            self.settle(vec![(id, outcome)]);
        }
        self.retry_later(target, error.retry_after);
    }

    fn retry_later(&mut self, target: Key, retry_after: Option<Duration>) {
        let now = self.now;
        self.retries.entry(target.clone()).or_default().failed(&target, now, retry_after);
    }

    // ---- sessions and hostnames ----

    fn ask_sessions(&mut self, out: &mut Vec<Output>) {
        if !(std::mem::take(&mut self.tasks_due) | self.node_users.changed()) {
            return;
        }
        let mut wanted: BTreeMap<String, SessionTask> = BTreeMap::new();
        for (name, link) in &self.world.links {
            let Ok(checked) = &link.checked else { continue };
            if link.object.spec.suspend || link.object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let spec = &link.object.spec;
            let requested = link.reconcile_requested().unwrap_or_default();
            let task = SessionTask {
                link_uid: link.uid().to_owned(),
                secret: spec.kubeconfig_secret_ref.name.clone(),
                key: spec.kubeconfig_secret_ref.key.clone(),
                selector: checked.query.clone(),
                namespaces: (!spec.services.namespaces.is_empty()).then(|| spec.services.namespaces.clone()),
                nodes: self.node_users.has(name),
                max_services: spec.limits.services,
                // Another expected identity is answered by another listing.
                resync: Some(format!("{requested}/{}", spec.cluster_uid.as_deref().unwrap_or_default())),
            };
            wanted.insert(name.clone(), task);
        }
        for link in self.tasks.keys().filter(|link| !wanted.contains_key(*link)) {
            out.push(Output::Session { link: link.clone(), task: None });
        }
        for (link, task) in &wanted {
            if self.tasks.get(link) != Some(task) {
                out.push(Output::Session { link: link.clone(), task: Some(task.clone()) });
            }
        }
        self.tasks = wanted;
    }

    fn ask_hosts(&mut self, out: &mut Vec<Output>) {
        let exporters_too = self.exporter.as_mut().is_some_and(Exporter::hosts_changed);
        if !(self.host_users.changed() || exporters_too) {
            return;
        }
        let exporters = self.exporter.iter().flat_map(Exporter::hosts).map(|host| (host.clone(), String::new()));
        let link = |host: &String| self.host_users.of(host).next().map(|user| self.lane(user)).unwrap_or_default();
        let links = self.host_users.all().map(|host| (host.clone(), link(host).into()));
        let wanted: BTreeMap<String, String> = exporters.chain(links).collect();
        if wanted != self.hosts_asked {
            self.world.hosts.retain(|host, _| wanted.contains_key(host));
            out.push(Output::Resolve(wanted.clone()));
            self.hosts_asked = wanted;
        }
    }

    // ---- telling ----

    /// A mirror was made, or is fed by another way: said when it was written, so that a restart
    /// repeats nothing.
    fn announce(&mut self, op: &WriteOp) {
        let key = match op {
            WriteOp::CreateService(key, _) => key,
            WriteOp::PatchService(key, _, patch) if patch.annotations.contains_key(VIA_ANNOTATION) => key,
            _ => return,
        };
        let Some(service) = self.world.services.get(key) else { return };
        let Some(state) = service.ours.as_deref() else { return };
        let label = |name: &str| state.labels.get(name).cloned().unwrap_or_default();
        let (Some(origin), Some(via)) =
            (state.annotations.get(ORIGIN_ANNOTATION), state.annotations.get(VIA_ANNOTATION))
        else {
            return;
        };
        let note = format!("{origin} of link {} is mirrored as {key} by {via}", label(LINK_LABEL));
        let about = About::Service(key.clone(), service.uid.to_string());
        let policy = Key::new(label(POLICY_NAMESPACE_LABEL), label(POLICY_LABEL));
        let reason = Reason::Programmed;
        self.tell_policy(&policy, false, reason, note.clone());
        self.tell(Event { about, warning: false, reason: reason.as_str(), action: "Mirroring", note });
    }

    /// A warning on the policy, unless the claim says so already.
    fn warn_of(&mut self, id: &ClaimId, refusal: Option<&Refusal>) {
        let Some(refusal) = refusal.filter(|refusal| !refusal.advice) else { return };
        if self
            .claims
            .get(id)
            .is_some_and(|claim| claim.outcome.notes().iter().any(|note| note.reason == refusal.reason))
        {
            return;
        }
        // Nor does a restart repeat what an earlier process has said.
        let said = |f: &PolicyFailure| {
            f.link == id.link
                && f.namespace == id.origin.namespace
                && f.name == id.origin.name
                && f.reason == refusal.reason.as_str()
        };
        let status = self.world.policies.get(&id.policy).and_then(|policy| policy.object.status.as_ref());
        if status.is_some_and(|status| status.failures.iter().any(said)) {
            return;
        }
        let note = format!("{} of link {}: {}", id.origin, id.link, refusal.message);
        self.tell_policy(&id.policy, true, refusal.reason, note);
    }

    fn tell_policy(&mut self, policy: &Key, warning: bool, reason: Reason, note: String) {
        if let Some(found) = self.world.policies.get(policy) {
            let about = About::Policy(policy.clone(), found.object.metadata.uid.clone().unwrap_or_default());
            self.tell(Event { about, warning, reason: reason.as_str(), action: "Mirroring", note });
        }
    }
}

impl WriteOp {
    /// The Service or slice that a write is about.
    pub fn object(&self) -> Option<&Key> {
        match self {
            Self::CreateService(key, _)
            | Self::PatchService(key, ..)
            | Self::DeleteService(key, _)
            | Self::PatchServiceConditions(key, ..)
            | Self::CreateSlice(key, _)
            | Self::PatchSlice(key, ..)
            | Self::DeleteSlice(key, _) => Some(key),
            Self::CreateObject(id, ..) | Self::PatchObject(id, ..) | Self::DeleteObject(id, ..) => Some(&id.key),
            Self::LinkStatus(..) | Self::PolicyStatus(..) | Self::BindingStatus(..) => None,
        }
    }
}
