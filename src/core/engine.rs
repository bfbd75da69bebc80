//! The engine: takes an input, keeps the world and the claims up to date, and asks for the writes
//! that follow. It holds no object twice and queues keys only; each mirror has at most one write
//! in flight, and all together at most [`Settings::writes_in_flight`].

mod again;
mod ask;
mod tell;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{
    claim::Claims,
    depend::Dependents,
    export::exporter::{ExportSettings, Exporter},
    io::{Event, Input, Output, SessionTask, WriteId, WriteOp},
    link::Loss,
    model::{Key, Text},
    propagation::Propagation,
    queue::FairQueue,
    reach::Reach,
    resolve::{Decision, View},
    retry::Retry,
    status::StatusBook,
    world::World,
};

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
            // While mirrors are looked at and nothing is written, as after a restart, what could be told of
            // them would be half of it, and taken back a moment later.
            if self.queue.waiting() == 0 || !self.flights.is_empty() {
                self.write_status(&mut out);
            }
        }
        out.extend(self.events.drain(..).map(Output::Event));
        out
    }

    /// Takes the empty room out of what has grown by an eighth, so that it costs a few steps for each object
    /// that came. With nothing else to do it is worth more of them.
    fn tighten(&mut self) {
        let size = self.world.size() + self.claims.count();
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
}
