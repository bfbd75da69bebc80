//! What was measured: the raw data. It is kept as JSON, and read again to write the report.
//!
//! Times are in milliseconds and memory in KiB, unless a name says otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that was measured in one run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began.
    pub(crate) begun: jiff::Timestamp,
    /// How long all of it took, in seconds.
    pub(crate) took_s: u64,
    /// The machine, and what ran on it.
    pub(crate) machine: Machine,
    /// Load of the machine, as `uptime` says it.
    pub(crate) load_before: String,
    /// The same in the end.
    pub(crate) load_after: String,
    /// What the API server allows.
    pub(crate) limits: Limits,
    /// Cold syncs beside the bare loop.
    pub(crate) cold_syncs: Vec<ColdSync>,
    /// A restart with all mirrors in place.
    pub(crate) restart: Restart,
    /// Delays of changes, by kind and rate.
    pub(crate) propagation: Vec<Batch>,
    /// Endpoints that change all the time.
    pub(crate) churn: Churn,
    /// What mirrors take, by way.
    pub(crate) ways: Vec<WayFigures>,
}

/// What the numbers depend on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) linux: String,
    pub(crate) kubernetes: String,
    pub(crate) heliostat: String,
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_kib: u64,
    /// Resident at most since its start.
    pub(crate) peak_kib: u64,
}

/// What the importer's API server allows, whoever asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Rates of making pairs of a Service and its slice.
    pub(crate) pairs: Vec<PairRate>,
}

impl Limits {
    /// Single writes a second at the concurrency of the controller.
    pub(crate) fn writes_per_second(&self) -> f64 {
        self.pairs.iter().map(|pairs| 2.0 * pairs.per_second()).fold(0.0, f64::max)
    }
}

/// Pairs of a Service and a slice, made by so many at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PairRate {
    /// How many are made at a time.
    pub(crate) at_a_time: usize,
    /// How many were made.
    pub(crate) pairs: usize,
    /// How long all of them took.
    pub(crate) total_ms: f64,
    /// How long each write took.
    pub(crate) writes_ms: Vec<f64>,
}

impl PairRate {
    /// Pairs a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.pairs as f64 * 1e3 / self.total_ms
    }
}

/// Cold syncs of one size: the bare loop and the controller, in turns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ColdSync {
    /// Links.
    pub(crate) links: usize,
    /// Mirrors, of all links together.
    pub(crate) mirrors: usize,
    /// The turns; with none by the loop, it was too long for two.
    pub(crate) rounds: Vec<Round>,
    /// Of the controller's processor time, at rest afterwards: part of one core.
    pub(crate) at_rest: Option<f64>,
}

/// One turn.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// The bare loop.
    pub(crate) bare: Option<Run>,
    /// The controller.
    pub(crate) controller: Run,
}

/// How one cold sync went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Load of the machine before.
    pub(crate) load: String,
    /// From the start until the first write of a mirror reached the API server.
    pub(crate) to_first_write_ms: f64,
    /// From the start until the last one was answered.
    pub(crate) total_ms: f64,
    /// Writes that the API server had at work, on average from the first to the last.
    pub(crate) at_work: f64,
    /// Time on a core, of the writing process.
    pub(crate) cpu_ms: u64,
    /// Writes of mirrors and their slices.
    pub(crate) mirror_writes: usize,
    /// Other writes, until all was quiet, by resource: statuses and Events.
    pub(crate) other_writes: BTreeMap<String, usize>,
    /// Of the controller, when all was quiet.
    pub(crate) memory: Option<Memory>,
}

/// What a restart did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Restart {
    /// Mirrors that were there.
    pub(crate) mirrors: usize,
    /// A bare listing of everything that the controller reads of both clusters, in the same portions.
    pub(crate) bare_list_ms: f64,
    /// From the start of the process until everything in the importer had been listed.
    pub(crate) to_ready_ms: f64,
    /// From the start of another one until a change that was made while none ran had landed: all was in sync then.
    pub(crate) to_in_sync_ms: f64,
    /// For how long it was watched for writes, in seconds.
    pub(crate) watched_s: u64,
    /// Every write, leases left out: there must be none.
    pub(crate) writes: Vec<String>,
    /// In the end.
    pub(crate) memory: Memory,
}

/// What is changed in the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A Service gets the label.
    Export,
    /// The number of a port.
    Port,
    /// The load balancer's address.
    Endpoints,
    /// A Service loses the label.
    Unexport,
}

impl Kind {
    /// All of them, in an order in which each finds what it needs.
    pub(crate) const ALL: [Self; 4] = [Self::Unexport, Self::Export, Self::Port, Self::Endpoints];

    /// For people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Port => "port",
            Self::Endpoints => "endpoints",
            Self::Unexport => "un-export",
        }
    }
}

/// Changes of one kind at one rate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Links and mirrors that there are.
    pub(crate) links: usize,
    /// Mirrors of all links.
    pub(crate) mirrors: usize,
    /// What is changed.
    pub(crate) kind: Kind,
    /// Carried over by the smallest controller that there can be.
    pub(crate) by_hand: bool,
    /// Changes a second, begun at even times whatever became of those before.
    pub(crate) per_second: u32,
    /// Each change.
    pub(crate) changes: Vec<Delay>,
    /// `heliostat_propagation_seconds` over the batch, on average.
    pub(crate) metric_ms: Option<f64>,
    /// How many it counted.
    pub(crate) metric_count: u64,
}

/// How far a change had come when, from the beginning of the request to the exporter.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Delay {
    /// A watch of the exporter showed it.
    pub(crate) noticed_ms: f64,
    /// The first write reached the importer's API server.
    pub(crate) decided_ms: f64,
    /// The last one was answered.
    pub(crate) answered_ms: f64,
    /// Watches of the importer showed all of it.
    pub(crate) shown_ms: f64,
}

/// Endpoints that change all the time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Churn {
    /// Mirrors.
    pub(crate) mirrors: usize,
    /// Changes a second.
    pub(crate) per_second: f64,
    /// Changes that were made.
    pub(crate) changes: usize,
    /// Changes that were overtaken by a later one of the same Service before they were seen.
    pub(crate) overtaken: usize,
    /// Writes of mirrors' slices.
    pub(crate) writes: usize,
    /// From the beginning of a change until it was seen in the slice, by the second in which it began.
    pub(crate) lags_ms: Vec<(f64, f64)>,
    /// Seconds since the beginning, and what the controller was like.
    pub(crate) gauges: Vec<Gauge>,
    /// From the last change until every slice had its last value.
    pub(crate) settled_ms: f64,
    /// The controller's time on a core.
    pub(crate) cpu_ms: u64,
}

/// What the controller was like at a moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Gauge {
    /// Seconds since the beginning.
    pub(crate) at_s: f64,
    /// Mirrors that waited to be decided on.
    pub(crate) waiting: u64,
    /// Resident memory.
    pub(crate) resident_kib: u64,
}

/// What mirrors by one way take.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WayFigures {
    /// `Gateway`, `Service` or `Direct`.
    pub(crate) way: String,
    /// Endpoints of each origin.
    pub(crate) endpoints: usize,
    /// Mirrors.
    pub(crate) mirrors: usize,
    /// Resident memory without any of them.
    pub(crate) without_kib: u64,
    /// With all of them.
    pub(crate) with_kib: u64,
    /// Pods that were changed in the exporter.
    pub(crate) pod_changes: usize,
    /// Writes of mirrors and slices that followed.
    pub(crate) writes: usize,
    /// The controller's time on a core meanwhile.
    pub(crate) cpu_ms: u64,
}
