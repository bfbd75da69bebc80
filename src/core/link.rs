//! A link as the deciding side knows it: its checked spec, its remote as last completely listed, who
//! the remote is, and for how long its state has been unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Selector;

use super::{
    address,
    groups::SlicesOf,
    guard::Guard,
    model::{Key, Origin, RemoteNode, RemoteSlice, SliceRole, Text},
    reach::ProbeTerms,
    select::{self, Refusal},
};
use crate::api::{
    ClusterLink, Reason,
    condition::ConditionType,
    duration::parse_duration,
    link::{DeletionPolicy, LossAction, Probe},
    names::RECONCILE_REQUESTED_ANNOTATION,
};

/// A ClusterLink and its remote.
#[derive(Clone, Debug)]
pub struct Link {
    /// As it is.
    pub object: ClusterLink,
    /// As checked; or why it is not accepted.
    pub checked: Result<CheckedLink, Refusal>,
    /// The remote.
    pub remote: Remote,
    /// What holds mass deletions.
    pub guard: Guard,
}

/// A link's spec, checked once.
#[derive(Clone, Debug)]
pub struct CheckedLink {
    /// Namespaces whose policies may use it, with `from: Selector`.
    pub allowed: Selector,
    /// CIDRs that lift the refusal of own ranges.
    pub allow: Vec<IpNet>,
    /// CIDRs that are refused.
    pub deny: Vec<IpNet>,
    /// `onLoss.after`.
    pub loss_after: Duration,
    /// What the link sees.
    pub sees: Selector,
    /// The same as a query.
    pub query: Option<String>,
    /// `probe`; none: disabled.
    pub probe: Option<ProbeTerms>,
}

impl CheckedLink {
    /// Checks what the schema cannot know.
    pub fn new(link: &ClusterLink) -> Result<Self, Refusal> {
        let spec = &link.spec;
        let invalid = |field: &'static str| move |e: String| Refusal::new(Reason::InvalidSpec, format!("{field}: {e}"));
        if spec.services.match_all && spec.services.selector.is_some() {
            return Err(invalid("spec.services")("set only one of selector and matchAll".into()));
        }
        let seen = select::selector(Some(&spec.services.effective_selector()), "spec.services.selector")?;
        let query = (!seen.selects_all()).then(|| seen.to_string());
        Ok(Self {
            allowed: select::selector(spec.allowed_namespaces.selector.as_ref(), "spec.allowedNamespaces.selector")?,
            allow: address::parse_cidrs(&spec.addresses.allow).map_err(invalid("spec.addresses.allow"))?,
            deny: address::parse_cidrs(&spec.addresses.deny).map_err(invalid("spec.addresses.deny"))?,
            loss_after: parse_duration(&spec.on_loss.after).map_err(|e| invalid("spec.onLoss.after")(e.to_string()))?,
            sees: seen,
            query,
            probe: probe_terms(&spec.probe)?,
        })
    }
}

fn probe_terms(probe: &Probe) -> Result<Option<ProbeTerms>, Refusal> {
    let span = |field: &str, text: &str| {
        parse_duration(text).map_err(|e| Refusal::new(Reason::InvalidSpec, format!("spec.probe.{field}: {e}")))
    };
    let terms = ProbeTerms {
        period: span("period", &probe.period)?,
        timeout: span("timeout", &probe.timeout)?,
        failure_threshold: probe.failure_threshold,
    };
    Ok((!probe.disabled).then_some(terms))
}

/// A remote, as last completely listed.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Number of the session whose listing this is.
    pub session: u64,
    /// A complete listing of the right cluster was taken over in this process.
    pub listed: bool,
    /// How the connection is.
    pub connection: Connection,
    /// Since when its state has been unknown; none: it is known now.
    pub unknown_since: Option<Timestamp>,
    /// Since when the loss clock stands still (suspend, another identity).
    pub clock_stopped: Option<Timestamp>,
    /// uid of the cluster that answered last.
    pub observed_uid: Option<String>,
    /// uid pinned for this link at first contact or by its spec.
    pub pinned_uid: Option<String>,
    /// The API server dialled is this cluster's own.
    pub own_server: bool,
    /// Version of its API server.
    pub server_version: Option<String>,
    /// When the credential expires.
    pub credentials_expire_at: Option<Timestamp>,
    /// The session that is to replace the working one, once it has connected.
    pub successor: Option<Successor>,
    /// When a listing was last taken over after the state had been unknown.
    pub last_sync: Option<Timestamp>,
    /// Services.
    pub services: BTreeMap<Key, Origin>,
    /// EndpointSlices.
    pub slices: BTreeMap<Key, RemoteSlice>,
    /// Names of those slices, by the Service they speak of.
    pub slices_of: SlicesOf,
    /// Nodes, or why they cannot be read; none: not read.
    pub nodes: Option<Result<BTreeMap<String, RemoteNode>, String>>,
    /// The resync request that the listing answers.
    pub handled_reconcile: Option<String>,
    /// When port leases run out that the link does not confirm.
    pub leases_due: BTreeSet<Timestamp>,
}

/// What a session says of itself when it connects.
#[derive(Clone, Debug)]
pub struct Successor {
    /// Its number.
    pub session: u64,
    /// Version of the API server that answered it.
    pub server_version: String,
    /// When its credential expires.
    pub credentials_expire_at: Option<Timestamp>,
}

/// How the connection to a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Nothing heard yet in this process.
    Starting,
    /// It answers; a complete listing is on its way.
    Listing,
    /// Listed and followed.
    Synced,
    /// The credentials cannot be used.
    Credentials(Refusal),
    /// It does not answer as it should.
    Lost(Refusal),
}

/// What is to be done about mirrors of a remote whose state is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    None,
    /// It has been unknown for longer than `onLoss.after`: this.
    Act(LossAction),
}

impl Link {
    /// A link as observed for the first time in this process. What its status says of an outage
    /// goes on: "unknown since" survives restarts.
    pub fn new(object: ClusterLink, now: Timestamp) -> Self {
        let status = object.status.as_ref();
        let connected = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == ConditionType::Connected.as_str()));
        let since = connected.filter(|c| c.status == "False").map_or(now, |c| c.last_transition_time.0);
        let remote = Remote {
            session: 0,
            listed: false,
            connection: Connection::Starting,
            unknown_since: Some(since),
            clock_stopped: None,
            observed_uid: None,
            pinned_uid: status.and_then(|s| s.cluster_uid.clone()),
            own_server: false,
            server_version: status.and_then(|s| s.server_version.clone()),
            credentials_expire_at: status.and_then(|s| s.credentials_expire_at.as_ref().map(|t| t.0)),
            successor: None,
            last_sync: status.and_then(|s| s.last_sync_time.as_ref().map(|t| t.0)),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: SlicesOf::default(),
            nodes: None,
            handled_reconcile: status.and_then(|s| s.last_handled_reconcile_at.clone()),
            leases_due: BTreeSet::new(),
        };
        Self { checked: CheckedLink::new(&object), guard: Guard::new(&object), object, remote }
    }

    /// A condition of the link's status.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        let mut conditions = self.object.status.iter().flat_map(|s| &s.conditions);
        conditions.find(|c| c.type_ == kind.as_str())
    }

    /// Whether the link's status says so of a condition.
    pub fn said(&self, kind: ConditionType, status: &str) -> bool {
        self.condition(kind).is_some_and(|c| c.status == status)
    }

    /// uid of the object.
    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    /// uid that the remote must have: what the spec says, else what was pinned.
    pub fn expected_uid(&self) -> Option<&str> {
        self.object.spec.cluster_uid.as_deref().or(self.remote.pinned_uid.as_deref())
    }

    /// Another cluster answered than the one this link is for.
    pub fn identity_changed(&self) -> bool {
        matches!((&self.remote.observed_uid, self.expected_uid()), (Some(seen), Some(expected)) if seen != expected)
    }

    /// The link leads to this cluster itself.
    pub fn self_link(&self, own: Option<&str>) -> bool {
        self.remote.own_server || (own.is_some() && self.remote.observed_uid.as_deref() == own)
    }

    /// Its gateway addresses are to be probed, as far as its spec says.
    pub fn is_probed(&self) -> bool {
        self.checked.as_ref().is_ok_and(|checked| checked.probe.is_some())
    }

    /// Nothing is written for it and what exists stays.
    pub fn frozen(&self, own: Option<&str>) -> bool {
        self.object.spec.suspend
            || self.checked.is_err()
            || self.object.metadata.deletion_timestamp.is_some()
            || self.identity_changed()
            || self.self_link(own)
    }

    /// When `onLoss.action` is due, while the state is unknown and the clock runs.
    pub fn loss_due(&self) -> Option<Timestamp> {
        let checked = self.checked.as_ref().ok()?;
        match (self.remote.unknown_since, self.remote.clock_stopped) {
            (Some(since), None) => since.checked_add(jiff::SignedDuration::try_from(checked.loss_after).ok()?).ok(),
            _ => None,
        }
    }

    /// What is to be done now about its mirrors.
    pub fn loss(&self, now: Timestamp) -> Loss {
        match self.loss_due() {
            Some(due) if due <= now => Loss::Act(self.object.spec.on_loss.action),
            _ => Loss::None,
        }
    }

    /// The token that asks for a new listing.
    pub fn reconcile_requested(&self) -> Option<String> {
        self.object.metadata.annotations.as_ref()?.get(RECONCILE_REQUESTED_ANNOTATION).cloned()
    }

    /// When port leases run out that the link does not confirm.
    pub fn lease_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.remote.leases_due.iter().copied()
    }

    /// Whether a port lease has run out since this was asked last.
    pub fn lease_passed(&mut self, now: Timestamp) -> bool {
        let before = self.remote.leases_due.len();
        self.remote.leases_due.retain(|due| *due > now);
        self.remote.leases_due.len() < before
    }

    /// The state of the remote is unknown from now on, unless it was before.
    pub fn mark_unknown(&mut self, now: Timestamp) {
        if self.remote.unknown_since.is_none() {
            self.remote.unknown_since = Some(now);
            let leases = self.remote.slices.values().filter_map(|slice| match &slice.role {
                SliceRole::Published(published) => published.port_lease.as_deref(),
                SliceRole::Pods { .. } => None,
            });
            let leases: BTreeSet<&str> = leases.collect();
            let due =
                |text: &str| now.checked_add(jiff::SignedDuration::try_from(parse_duration(text).ok()?).ok()?).ok();
            self.remote.leases_due = leases.into_iter().filter_map(due).collect();
        }
    }

    /// The state of the remote is known.
    pub fn mark_known(&mut self, now: Timestamp) {
        if self.remote.unknown_since.take().is_some() {
            self.remote.last_sync = Some(now);
        }
        self.remote.clock_stopped = None;
        self.remote.leases_due.clear();
    }

    /// Stops or starts the clock of the loss: it stands still under suspend and while another
    /// cluster answers.
    pub fn set_clock(&mut self, now: Timestamp) {
        let stop = self.object.spec.suspend || self.identity_changed();
        match (stop, self.remote.clock_stopped) {
            (true, None) => self.remote.clock_stopped = Some(now),
            (false, Some(stopped)) => {
                let stood = now.duration_since(stopped);
                self.remote.unknown_since =
                    self.remote.unknown_since.map(|since| since.saturating_add(stood).unwrap_or(since));
                self.remote.clock_stopped = None;
            }
            _ => {}
        }
    }

    /// The link, as an owner of its mirrors under `deletionPolicy: Delete`.
    pub fn owner(&self, name: &str) -> Option<(Text, Text)> {
        (self.object.spec.deletion_policy == DeletionPolicy::Delete).then(|| (name.into(), self.uid().into()))
    }
}

impl Remote {
    /// The slices that speak of an origin.
    pub fn slices_of<'a>(&'a self, origin: &'a Key) -> impl Iterator<Item = (&'a str, &'a RemoteSlice)> {
        self.slices_of.of(origin).filter_map(|name| {
            let key = Key::new(&origin.namespace, name);
            self.slices.get(&key).map(|slice| (name.as_str(), slice))
        })
    }

    /// Whether an origin has a ready endpoint; a selectorless one whose slices the link does not see
    /// counts as ready.
    pub fn is_ready(&self, key: &Key, origin: &Origin) -> bool {
        let is_pods = |slice: &&RemoteSlice| matches!(slice.role, SliceRole::Pods { .. });
        let mut pods = self.slices_of(key).map(|(_, slice)| slice).filter(is_pods).peekable();
        if pods.peek().is_none() {
            return !origin.has_selector;
        }
        pods.any(|slice| slice.endpoints.iter().any(|e| e.readiness.ready))
    }

    /// Takes a slice over, or lets it go; gives the origins concerned.
    pub fn set_slice(&mut self, key: &Key, slice: Option<RemoteSlice>) -> BTreeSet<Key> {
        let old = match slice {
            Some(slice) => {
                let origin = slice_origin(key, &slice);
                self.slices_of.insert(key.namespace.clone(), (origin.name.clone(), key.name.clone()));
                let old = self.slices.insert(key.clone(), slice);
                let mut concerned = BTreeSet::from([origin.clone()]);
                if let Some(before) = old.map(|s| slice_origin(key, &s)).filter(|before| *before != origin) {
                    self.slices_of.remove(key.namespace.as_str(), &(before.name.clone(), key.name.clone()));
                    concerned.insert(before);
                }
                return concerned;
            }
            None => self.slices.remove(key),
        };
        match old {
            None => BTreeSet::new(),
            Some(slice) => {
                let origin = slice_origin(key, &slice);
                self.slices_of.remove(key.namespace.as_str(), &(origin.name.clone(), key.name.clone()));
                BTreeSet::from([origin])
            }
        }
    }

    /// Takes a complete listing over. What is made at once has no empty room in it.
    pub fn set_all(&mut self, services: BTreeMap<Key, Origin>, slices: BTreeMap<Key, RemoteSlice>) {
        let names = |(key, slice): (&Key, &RemoteSlice)| {
            (key.namespace.clone(), (slice_origin(key, slice).name, key.name.clone()))
        };
        self.slices_of = slices.iter().map(names).collect();
        self.services = services;
        self.slices = slices;
    }
}

/// The Service that a remote slice speaks of.
fn slice_origin(key: &Key, slice: &RemoteSlice) -> Key {
    let service = match &slice.role {
        SliceRole::Pods { service } => service,
        SliceRole::Published(published) => &published.service,
    };
    Key::new(&key.namespace, service)
}
