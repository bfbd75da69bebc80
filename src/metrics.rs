//! Everything that is measured, in one registry; `docs/metrics.md` lists it for users.
//!
//! Labels never grow with what a remote or a tenant writes: they are fixed words, or names of
//! links that exist. Nothing measured carries an object's content.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    api::{ConditionType, Reason, link::ClusterLinkStatus},
    core::io::{Change, ExportNews, Input, Local, WriteFailure},
};

/// Bounds of the histograms of writes, in seconds: from a quick answer to the deadline.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds of the histogram of propagation, in seconds. Half within 0.02 and all but a hundredth
/// within 0.25 is what the controller is built for; the last ones are for writes that failed a while.
const PROPAGATION: [f64; 14] = [0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLink {
    link: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWrite {
    kind: &'static str,
    verb: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfInput {
    kind: &'static str,
}

/// The metrics of a controller. Fields are counted where things happen; [`Metrics::encode`] is
/// what a scrape reads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connected: Family<OfLink, Gauge>,
    synced: Family<OfLink, Gauge>,
    mirrors: Family<OfLink, Gauge>,
    held: Family<OfLink, Gauge>,
    stale: Family<OfLink, Gauge>,
    identity_changed: Family<OfLink, Gauge>,
    suspended: Family<OfLink, Gauge>,
    gateways: Family<OfLink, Gauge>,
    gateways_unreachable: Family<OfLink, Gauge>,
    writes: Family<OfWrite, Counter>,
    write_seconds: Histogram,
    propagation: Histogram,
    inputs: Family<OfInput, Counter>,
    queue: Gauge,
    leader: Gauge,
    events_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            connected: Family::default(),
            synced: Family::default(),
            mirrors: Family::default(),
            held: Family::default(),
            stale: Family::default(),
            identity_changed: Family::default(),
            suspended: Family::default(),
            gateways: Family::default(),
            gateways_unreachable: Family::default(),
            writes: Family::default(),
            write_seconds: Histogram::new(SECONDS),
            propagation: Histogram::new(PROPAGATION),
            inputs: Family::default(),
            queue: Gauge::default(),
            leader: Gauge::default(),
            events_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let start = Gauge::<f64, AtomicU64>::default();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        start.set(since_epoch.unwrap_or_default().as_secs_f64());
        let text = "When the process started, in seconds since 1970";
        registry.register_with_unit("process_start_time", text, Unit::Seconds, start);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("heliostat_build", "Which build this is", build);

        registry.register(
            "heliostat_link_connected",
            "Whether the link's condition Connected is True",
            self.connected.clone(),
        );
        registry.register("heliostat_link_synced", "Whether the link's condition Synced is True", self.synced.clone());
        registry.register(
            "heliostat_link_stale",
            "Whether the link's condition Ready is False with reason Stale",
            self.stale.clone(),
        );
        registry.register(
            "heliostat_link_identity_changed",
            "Whether another cluster answers than the link is for",
            self.identity_changed.clone(),
        );
        registry.register("heliostat_link_suspended", "Whether the link is suspended", self.suspended.clone());
        registry.register("heliostat_mirrors", "Mirrors of the link, as its status counts them", self.mirrors.clone());
        registry.register(
            "heliostat_deletions_held",
            "Of those, how many the deletion guard keeps from being deleted",
            self.held.clone(),
        );
        registry.register(
            "heliostat_gateway_addresses",
            "Gateway addresses in use, as the link's status lists them",
            self.gateways.clone(),
        );
        registry.register(
            "heliostat_gateway_addresses_unreachable",
            "Of those, how many do not answer probes",
            self.gateways_unreachable.clone(),
        );
        registry.register(
            "heliostat_writes",
            "Writes to this cluster that were answered or given up",
            self.writes.clone(),
        );
        registry.register_with_unit(
            "heliostat_write",
            "Time from sending a write to its answer",
            Unit::Seconds,
            self.write_seconds.clone(),
        );
        registry.register_with_unit(
            "heliostat_propagation",
            "Time from receiving a change in a remote to the answer to the last write that follows from it",
            Unit::Seconds,
            self.propagation.clone(),
        );
        registry.register("heliostat_engine_inputs", "What the engine was told", self.inputs.clone());
        registry.register("heliostat_engine_queue", "Mirrors that wait to be decided on", self.queue.clone());
        registry.register(
            "heliostat_leader",
            "Whether this replica writes; always 1 without --leader-elect",
            self.leader.clone(),
        );
        registry.register(
            "heliostat_events_dropped",
            "Kubernetes Events not sent, to keep their rate bounded",
            self.events_dropped.clone(),
        );
    }

    /// Counts an answered write.
    pub fn wrote(&self, kind: &'static str, verb: &'static str, result: Result<(), WriteFailure>, took: Duration) {
        let result = match result {
            Ok(()) => "ok",
            Err(failure) => failure_name(failure),
        };
        self.writes.get_or_create(&OfWrite { kind, verb, result }).inc();
        self.write_seconds.observe(took.as_secs_f64());
    }

    /// Counts a change in a remote that has landed.
    pub fn propagated(&self, took: Duration) {
        self.propagation.observe(took.as_secs_f64());
    }

    /// Counts an input; what it says of links is shown.
    pub fn told(&self, input: &Input) {
        let kind = input_name(input);
        self.inputs.get_or_create(&OfInput { kind }).inc();
        let Input::Local(Local::Link(change)) = input else {
            return;
        };
        match change {
            Change::Set(name, link) => self.link(name, link.status.as_ref()),
            Change::Gone(name) => self.link_gone(name),
            Change::All(links) => {
                self.of_links().into_iter().for_each(Family::clear);
                for (name, link) in links {
                    self.link(name, link.status.as_ref());
                }
            }
        }
    }

    fn link(&self, name: &str, status: Option<&ClusterLinkStatus>) {
        let says = |wanted: ConditionType, truth: &str, reason: Option<Reason>| {
            let mut conditions = status.iter().flat_map(|status| &status.conditions);
            let because = |c: &str| reason.is_none_or(|reason| reason.as_str() == c);
            conditions.any(|c| c.type_ == wanted.as_str() && c.status == truth && because(&c.reason))
        };
        let is_true = |wanted: ConditionType| says(wanted, "True", None);
        let counts = status.and_then(|status| status.services);
        let label = OfLink { link: name.to_owned() };
        let connected = is_true(ConditionType::Connected);
        self.connected.get_or_create(&label).set(connected.into());
        let synced = is_true(ConditionType::Synced);
        self.synced.get_or_create(&label).set(synced.into());
        let stale = says(ConditionType::Ready, "False", Some(Reason::Stale));
        self.stale.get_or_create(&label).set(stale.into());
        let another = says(ConditionType::Stalled, "True", Some(Reason::RemoteIdentityChanged));
        self.identity_changed.get_or_create(&label).set(another.into());
        let suspended = says(ConditionType::Accepted, "True", Some(Reason::Suspended));
        self.suspended.get_or_create(&label).set(suspended.into());
        // Its value comes from elsewhere.
        drop(self.held.get_or_create(&label));
        let mirrored = counts.map_or(0, |counts| counts.mirrored);
        self.mirrors.get_or_create(&label).set(mirrored.into());
        let gateways = status.map_or(&[][..], |status| &status.gateways);
        let unreachable = gateways.iter().filter(|gateway| gateway.reachable == Some(false)).count();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.gateways.get_or_create(&label).set(number(gateways.len()));
        self.gateways_unreachable.get_or_create(&label).set(number(unreachable));
    }

    /// All that is shown of each link.
    const fn of_links(&self) -> [&Family<OfLink, Gauge>; 9] {
        [
            &self.connected,
            &self.synced,
            &self.stale,
            &self.identity_changed,
            &self.suspended,
            &self.mirrors,
            &self.held,
            &self.gateways,
            &self.gateways_unreachable,
        ]
    }

    fn link_gone(&self, name: &str) {
        let label = OfLink { link: name.to_owned() };
        for family in self.of_links() {
            family.remove(&label);
        }
    }

    /// Shows how many mirrors of a link that exists are held.
    pub fn deletions_held(&self, link: &str, held: usize) {
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        self.held.get_or_create(&OfLink { link: link.to_owned() }).set(held);
    }

    /// Shows how many mirrors wait to be decided on.
    pub fn queued(&self, keys: usize) {
        self.queue.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// Shows whether this replica writes.
    pub fn leading(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Counts an Event that is not sent.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text; nothing registered here fails at that.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

const fn failure_name(failure: WriteFailure) -> &'static str {
    match failure {
        WriteFailure::AlreadyExists => "already_exists",
        WriteFailure::Conflict => "conflict",
        WriteFailure::NotFound => "not_found",
        WriteFailure::Forbidden => "forbidden",
        WriteFailure::Invalid => "invalid",
        WriteFailure::Transient => "transient",
    }
}

const fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Local(Local::Link(_)) => "link",
        Input::Local(Local::Policy(_)) => "policy",
        Input::Local(Local::Binding(_)) => "binding",
        Input::Local(Local::Namespace(_)) => "namespace",
        Input::Local(Local::Service(_)) => "service",
        Input::Local(Local::Slice(_)) => "slice",
        Input::Local(Local::Node(_)) => "node",
        Input::Local(Local::ServiceCidr(_)) => "service_cidr",
        Input::Local(Local::ClusterUid(_)) => "cluster_uid",
        Input::Local(Local::Unserved(_)) => "unserved",
        Input::Remote { .. } => "remote",
        Input::Written { .. } => "written",
        Input::Resolved { .. } => "resolved",
        Input::Probed { .. } => "probed",
        Input::Export(ExportNews::Service(_)) => "export_service",
        Input::Export(ExportNews::Slice(_)) => "export_slice",
        Input::Export(ExportNews::Node(_)) => "export_node",
        Input::Export(ExportNews::Objects(..)) => "export_object",
        Input::Export(ExportNews::Envoy(_)) => "envoy",
        Input::Tick => "tick",
    }
}

#[cfg(test)]
mod tests;
