//! What is known: this cluster's objects, and each link's remote as last completely listed.
//! Only stores and looks up; deciding what follows is the other files' work.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use kube::core::{Selector, SelectorExt};

use super::{
    address::{self, AddressPolicy},
    io::Change,
    model::{Key, LocalNamespace, LocalNode, LocalService, LocalSlice, Origin, RemoteNode, RemoteSlice, SliceRole},
    select::{self, CheckedPolicy, Refusal, Surroundings},
};
use crate::api::{
    ClusterLink, GatewayBinding, MirrorPolicy, Reason,
    condition::ConditionType,
    duration::parse_duration,
    link::{LossAction, NamespacesFrom},
    names::{LINK_UID_ANNOTATION, MANAGED_BY_LABEL, MANAGER},
};

/// What is known of a hostname.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The last good answer.
    pub addresses: Vec<IpAddr>,
    /// Why there is no newer one.
    pub error: Option<String>,
}

/// Everything known.
#[derive(Debug, Default)]
pub struct World {
    /// The controller's own namespace.
    pub namespace: String,
    /// `--cluster-cidrs`.
    pub cluster_cidrs: Vec<IpNet>,
    /// uid of this cluster's kube-system.
    pub cluster_uid: Option<String>,
    /// ClusterLinks.
    pub links: BTreeMap<String, Link>,
    /// MirrorPolicies.
    pub policies: BTreeMap<Key, Policy>,
    /// GatewayBindings.
    pub bindings: BTreeMap<String, GatewayBinding>,
    /// Namespaces.
    pub namespaces: BTreeMap<String, LocalNamespace>,
    /// Services.
    pub services: BTreeMap<Key, LocalService>,
    /// EndpointSlices with our managed-by label.
    pub slices: BTreeMap<Key, LocalSlice>,
    /// Names of those slices, by the Service they belong to.
    pub slices_of: BTreeMap<Key, BTreeSet<String>>,
    /// Nodes.
    pub nodes: BTreeMap<String, LocalNode>,
    /// Service ranges.
    pub service_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// Resolved hostnames.
    pub hosts: BTreeMap<String, Host>,
    /// Which kinds have been listed.
    pub listed: Listed,
}

/// Which kinds have been listed completely at least once. Before all have, nothing is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    /// ClusterLinks.
    pub links: bool,
    /// MirrorPolicies.
    pub policies: bool,
    /// GatewayBindings.
    pub bindings: bool,
    /// Namespaces.
    pub namespaces: bool,
    /// Services.
    pub services: bool,
    /// EndpointSlices.
    pub slices: bool,
    /// Nodes.
    pub nodes: bool,
    /// Service ranges.
    pub service_cidrs: bool,
}

impl Listed {
    /// All of them.
    pub fn all(self) -> bool {
        let Self { links, policies, bindings, namespaces, services, slices, nodes, service_cidrs } = self;
        links && policies && bindings && namespaces && services && slices && nodes && service_cidrs
    }
}

/// A MirrorPolicy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As it is.
    pub object: MirrorPolicy,
    /// As checked; or why it is not accepted.
    pub checked: Result<CheckedPolicy, Refusal>,
}

impl Policy {
    /// A policy as observed.
    pub fn new(object: MirrorPolicy, controller_namespace: &str) -> Self {
        Self { checked: CheckedPolicy::new(&object, controller_namespace), object }
    }

    /// Nothing is written for it and what exists stays: suspended, previewed, not accepted, or on
    /// its way out.
    pub fn frozen(&self) -> bool {
        self.object.spec.suspend
            || self.object.spec.preview
            || self.checked.is_err()
            || self.object.metadata.deletion_timestamp.is_some()
    }

    /// As checked, if accepted.
    pub fn accepted(&self) -> Option<&CheckedPolicy> {
        self.checked.as_ref().ok()
    }
}

/// A ClusterLink and its remote.
#[derive(Clone, Debug)]
pub struct Link {
    /// As it is.
    pub object: ClusterLink,
    /// As checked; or why it is not accepted.
    pub checked: Result<CheckedLink, Refusal>,
    /// The remote.
    pub remote: Remote,
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
    /// What the link sees, as a query.
    pub query: Option<String>,
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
            query,
        })
    }
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
    /// When a listing was last taken over after the state had been unknown.
    pub last_sync: Option<Timestamp>,
    /// Services.
    pub services: BTreeMap<Key, Origin>,
    /// EndpointSlices.
    pub slices: BTreeMap<Key, RemoteSlice>,
    /// Names of those slices, by the Service they speak of.
    pub slices_of: BTreeMap<Key, BTreeSet<String>>,
    /// Nodes, or why they cannot be read; none: not read.
    pub nodes: Option<Result<BTreeMap<String, RemoteNode>, String>>,
    /// The resync request that the listing answers.
    pub handled_reconcile: Option<String>,
    /// When port leases run out that the link does not confirm.
    pub leases_due: BTreeSet<Timestamp>,
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
            last_sync: status.and_then(|s| s.last_sync_time.as_ref().map(|t| t.0)),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            nodes: None,
            handled_reconcile: status.and_then(|s| s.last_handled_reconcile_at.clone()),
            leases_due: BTreeSet::new(),
        };
        Self { checked: CheckedLink::new(&object), object, remote }
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
        self.object.metadata.annotations.as_ref()?.get(crate::api::names::RECONCILE_REQUESTED_ANNOTATION).cloned()
    }

    /// When port leases run out that the link does not confirm.
    pub fn lease_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.remote.leases_due.iter().copied()
    }

    /// Whether a port lease has run out since this was asked last.
    pub fn lease_passed(&mut self, now: Timestamp) -> bool {
        let later = self.remote.leases_due.split_off(&now);
        let passed = !self.remote.leases_due.is_empty();
        self.remote.leases_due = later;
        passed
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
    pub fn owner(&self, name: &str) -> Option<(String, String)> {
        (self.object.spec.deletion_policy == crate::api::link::DeletionPolicy::Delete)
            .then(|| (name.to_owned(), self.uid().to_owned()))
    }
}

impl Remote {
    /// The slices that speak of an origin.
    pub fn slices_of<'a>(&'a self, origin: &'a Key) -> impl Iterator<Item = (&'a str, &'a RemoteSlice)> {
        self.slices_of.get(origin).into_iter().flatten().filter_map(|name| {
            let key = Key::new(origin.namespace.clone(), name.clone());
            self.slices.get(&key).map(|slice| (name.as_str(), slice))
        })
    }

    /// Takes a slice over, or lets it go; gives the origins concerned.
    pub fn set_slice(&mut self, key: &Key, slice: Option<RemoteSlice>) -> BTreeSet<Key> {
        let old = match slice {
            Some(slice) => {
                self.slices_of.entry(slice_origin(key, &slice)).or_default().insert(key.name.clone());
                let origin = slice_origin(key, &slice);
                let old = self.slices.insert(key.clone(), slice);
                let mut concerned = BTreeSet::from([origin.clone()]);
                if let Some(before) = old.map(|s| slice_origin(key, &s)).filter(|before| *before != origin) {
                    self.unindex(&before, &key.name);
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
                self.unindex(&origin, &key.name);
                BTreeSet::from([origin])
            }
        }
    }

    fn unindex(&mut self, origin: &Key, slice: &str) {
        if let Some(names) = self.slices_of.get_mut(origin) {
            names.remove(slice);
            if names.is_empty() {
                self.slices_of.remove(origin);
            }
        }
    }
}

/// The Service that a remote slice speaks of.
fn slice_origin(key: &Key, slice: &RemoteSlice) -> Key {
    let service = match &slice.role {
        SliceRole::Pods { service } => service,
        SliceRole::Published(published) => &published.service,
    };
    Key::new(key.namespace.clone(), service.clone())
}

/// Whose an observed Service of this cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Nobody has the name.
    Nobody,
    /// Somebody else's.
    Foreign,
    /// Was ours: it lost a marker or gained a selector.
    TakenOver,
    /// Ours, through this link.
    Ours(&'a str),
}

impl World {
    /// Whose the Service of that name is (design: section 3, "Ours").
    pub fn owner(&self, key: &Key) -> Owner<'_> {
        let Some(service) = self.services.get(key) else { return Owner::Nobody };
        let Some(state) = &service.ours else { return Owner::Foreign };
        let label = state.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGER);
        let uid = state.annotations.get(LINK_UID_ANNOTATION);
        let link = uid.and_then(|uid| self.link_of_uid(uid));
        let origin = state.annotations.contains_key(crate::api::names::ORIGIN_ANNOTATION);
        match (label, link) {
            (true, Some(link)) if !state.has_selector => Owner::Ours(link),
            (_, Some(_)) => Owner::TakenOver,
            (true, None) if uid.is_none() && origin => Owner::TakenOver,
            _ => Owner::Foreign,
        }
    }

    /// The link of that uid, or the one that may adopt the mirrors of that uid.
    fn link_of_uid(&self, uid: &str) -> Option<&str> {
        let adopts = |link: &Link| {
            link.object
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|a| a.get(crate::api::names::ADOPT_ANNOTATION).is_some_and(|old| old == uid))
        };
        let found = self.links.iter().find(|(_, link)| link.uid() == uid);
        found.or_else(|| self.links.iter().find(|(_, link)| adopts(link))).map(|(name, _)| name.as_str())
    }

    /// Our slices of a mirror.
    pub fn slices_of<'a>(&'a self, mirror: &'a Key) -> impl Iterator<Item = (Key, &'a LocalSlice)> {
        self.slices_of.get(mirror).into_iter().flatten().filter_map(|name| {
            let key = Key::new(mirror.namespace.clone(), name.clone());
            self.slices.get(&key).map(|slice| (key, slice))
        })
    }

    /// Takes one of our slices over, or lets it go; gives the mirrors concerned.
    pub fn set_slice(&mut self, key: &Key, slice: Option<LocalSlice>) -> BTreeSet<Key> {
        let service_of = |slice: &LocalSlice| slice.service.clone().map(|name| Key::new(key.namespace.clone(), name));
        let old = match &slice {
            Some(new) => self.slices.insert(key.clone(), new.clone()),
            None => self.slices.remove(key),
        };
        let before = old.as_ref().and_then(service_of);
        let after = slice.as_ref().and_then(service_of);
        if let Some(before) = &before
            && let Some(names) = self.slices_of.get_mut(before)
        {
            names.remove(&key.name);
            if names.is_empty() {
                self.slices_of.remove(before);
            }
        }
        if let Some(after) = &after {
            self.slices_of.entry(after.clone()).or_default().insert(key.name.clone());
        }
        before.into_iter().chain(after).collect()
    }

    /// Which addresses a link may bring.
    pub fn address_policy(&self, link: &CheckedLink) -> AddressPolicy {
        let nodes = self
            .nodes
            .values()
            .flat_map(|n| n.pod_cidrs.iter().copied().chain(n.addresses.iter().map(|a| IpNet::from(*a))));
        let services = self.service_cidrs.values().flatten().copied();
        AddressPolicy {
            own: self.cluster_cidrs.iter().copied().chain(services).chain(nodes).collect(),
            allow: link.allow.clone(),
            deny: link.deny.clone(),
        }
    }

    /// The links that a policy names.
    pub fn links_of<'a>(&'a self, policy: &'a CheckedPolicy) -> impl Iterator<Item = (&'a str, &'a Link)> {
        self.links.iter().map(|(name, link)| (name.as_str(), link)).filter(move |(name, link)| match &policy.links {
            select::LinkChoice::Names(names) => names.contains(*name),
            select::LinkChoice::Matching(selector) => {
                selector.matches(link.object.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
            }
        })
    }

    /// The one answer to a tenant whose policy names a link that does not exist or does not admit
    /// it: the message must not tell which (A13).
    pub fn not_permitted(link: &str, namespace: &str) -> Refusal {
        Refusal::new(
            Reason::RefNotPermitted,
            format!(
                "spec.links: there is no ClusterLink {link} that namespace {namespace} may use; ask who runs this cluster to create it or to allow the namespace in its spec.allowedNamespaces"
            ),
        )
    }

    /// Whether a policy may use a link (`allowedNamespaces`, `namespaceSameness`).
    pub fn permits(
        &self,
        link_name: &str,
        link: &Link,
        policy_namespace: &str,
        policy: &CheckedPolicy,
    ) -> Result<(), Refusal> {
        let Ok(checked) = &link.checked else { return Ok(()) };
        let admitted = match link.object.spec.allowed_namespaces.from {
            NamespacesFrom::Same => policy.central,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                self.namespaces.get(policy_namespace).is_some_and(|ns| checked.allowed.matches(&ns.labels))
            }
        };
        if !admitted {
            return Err(Self::not_permitted(link_name, policy_namespace));
        }
        if policy.central || !link.object.spec.namespace_sameness {
            return Ok(());
        }
        let other = policy.namespaces.iter().flatten().find(|ns| *ns != policy_namespace);
        other.map_or(Ok(()), |other| {
            Err(Refusal::new(
                Reason::NamespaceNotAllowed,
                format!("spec.services.namespaces: {other} is not this policy's namespace {policy_namespace}, and link {link_name} has namespaceSameness; leave it out, or mirror from a policy in the controller's namespace"),
            ))
        })
    }
}

impl Surroundings for World {
    fn namespace(&self, name: &str) -> Option<&LocalNamespace> {
        self.namespaces.get(name)
    }

    fn controller_namespace(&self) -> &str {
        &self.namespace
    }
}

/// Applies a change to a map; gives the keys whose value is now another.
pub fn apply<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, change: Change<K, V>) -> BTreeSet<K> {
    match change {
        Change::Set(key, value) => {
            if map.get(&key) == Some(&value) {
                return BTreeSet::new();
            }
            map.insert(key.clone(), value);
            BTreeSet::from([key])
        }
        Change::Gone(key) => map.remove(&key).map(|_| key).into_iter().collect(),
        Change::All(new) => {
            let mut changed: BTreeSet<K> = map.keys().filter(|key| !new.contains_key(key)).cloned().collect();
            changed.extend(new.iter().filter(|(key, value)| map.get(key) != Some(value)).map(|(key, _)| key.clone()));
            *map = new;
            changed
        }
    }
}
