//! One look at everything that goes out: a pure function from what is known to the writes that are
//! next, what Envoys are to do, and what is said of each binding. The order is claim, program,
//! wait, publish; and backwards when something goes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    binding::CheckedExport,
    exporter::ExportSettings,
    judge::One,
    known::Known,
    object::{self, Kind, Object, ObjectId, PUBLISHED_SLICE},
    port::{self, LetGo, PortClaims},
    provider::{RouteId, Surroundings},
    publish,
};
use crate::{
    api::{
        GatewayBinding, Reason,
        binding::PortCounts,
        names::{MANAGED_BY_LABEL, MANAGER, PUBLISHED_BINDING_LABEL},
    },
    core::{
        envoy::EnvoyConfig,
        model::{Key, LocalNode},
        select::Refusal,
        world::Host,
    },
};

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is known of this cluster.
    pub known: &'a Known,
    /// All bindings.
    pub bindings: &'a BTreeMap<String, GatewayBinding>,
    /// Resolved hostnames.
    pub hosts: &'a BTreeMap<String, Host>,
    /// Nodes' own addresses and ranges.
    pub local_nodes: &'a BTreeMap<String, LocalNode>,
    /// Settings.
    pub settings: &'a ExportSettings,
    /// The controller's own namespace.
    pub namespace: &'a str,
    /// DNS domain of this cluster.
    pub cluster_domain: &'a str,
    /// When this process last wrote an object.
    pub written: &'a BTreeMap<ObjectId, Timestamp>,
    /// Ports that turned out to be taken, by the names of their Leases.
    pub tried: &'a BTreeSet<Key>,
    /// Since when routes have been pending: (binding, route).
    pub pending_since: &'a BTreeMap<(String, RouteId), Timestamp>,
    /// Why the last write of an object failed.
    pub failures: &'a BTreeMap<ObjectId, Refusal>,
    /// The time.
    pub now: Timestamp,
}

/// What follows.
#[derive(Debug, Default)]
pub struct Pass {
    /// Hostnames of gateways that it depends on.
    pub hosts: BTreeSet<String>,
    /// Writes, the most urgent first; each is of another object.
    pub writes: Vec<ObjectWrite>,
    /// What the Envoys of each binding are to do.
    pub envoys: BTreeMap<String, EnvoyConfig>,
    /// What is said of each binding.
    pub reports: BTreeMap<String, Report>,
    /// When something is due by time alone.
    pub wake: Option<Timestamp>,
}

/// A write of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectWrite {
    /// Which one.
    pub id: ObjectId,
    /// What is done to it.
    pub change: ObjectChange,
}

/// What is done to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectChange {
    /// It is made.
    Create(Map<String, Value>),
    /// It is changed by a merge patch.
    Patch(Map<String, Value>),
    /// It is deleted.
    Delete,
}

/// A kind of objects that is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// Which, and why, in words.
    pub what: String,
    /// It was asked for in vain, which does not pass by itself.
    pub failed: bool,
}

/// What is said of a binding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Why the spec is not accepted.
    pub refused: Option<Refusal>,
    /// Why the gateway cannot be used.
    pub unresolved: Option<Refusal>,
    /// What must be known before anything can be said.
    pub waiting: Option<Unread>,
    /// What is wrong with a gateway that can be used.
    pub unwell: Option<Refusal>,
    /// The gateway's addresses in use.
    pub addresses: Vec<String>,
    /// Selected Services.
    pub selected: usize,
    /// Of those, carried whole as far as they can be.
    pub programmed: usize,
    /// Of those, waited for.
    pub pending: usize,
    /// Of those, not carried at all.
    pub failed: usize,
    /// Routes that are waited for, and for what.
    pub waits: BTreeMap<RouteId, String>,
    /// What could not be programmed, by Service.
    pub failures: Vec<(Key, Refusal)>,
    /// Port: how the range is used.
    pub ports: Option<PortCounts>,
    /// The gateway does not confirm what it does.
    pub unconfirmed: bool,
    /// A route has been waited for so long that the binding is no longer ready.
    pub overdue: bool,
}

impl View<'_> {
    /// Looks at everything.
    #[must_use]
    pub fn pass(&self) -> Pass {
        let claims = PortClaims::read(&self.known.objects);
        let mut pass = Pass::default();
        let mut needed: BTreeSet<Key> = BTreeSet::new();
        let mut tried = self.tried.clone();
        let mut held: BTreeSet<String> = BTreeSet::new();
        let exports = self.bindings.iter().filter_map(|(name, b)| Some((name, b, b.spec.export.as_ref()?)));
        for (name, binding, export) in exports.filter(|(_, b, _)| b.metadata.deletion_timestamp.is_none()) {
            held.insert(name.clone());
            let checked = match CheckedExport::new(binding, export) {
                Ok(checked) => checked,
                Err(refusal) => {
                    self.keep(name, &claims, &mut needed);
                    pass.reports.insert(name.clone(), Report { refused: Some(refusal), ..Report::default() });
                    continue;
                }
            };
            let provider = (self.settings.providers)(name, checked.routing, export);
            let mut one = One { view: self, binding: &checked, provider: provider.as_ref(), out: &mut pass };
            let report = one.judge(&claims, &mut needed, &mut tried);
            pass.reports.insert(name.clone(), report);
        }
        self.clear_away(&held, &mut pass);
        if pass.reports.values().all(|report| report.waiting.is_none()) {
            self.let_go(&claims, &needed, &mut pass);
        }
        pass
    }

    /// What a binding holds stays as it is.
    pub(super) fn keep(&self, binding: &str, claims: &PortClaims, needed: &mut BTreeSet<Key>) {
        needed.extend(claims.all().filter(|claim| claim.binding == binding).map(|claim| claim.lease.clone()));
    }

    /// Objects of bindings that are gone: the slices first.
    fn clear_away(&self, held: &BTreeSet<String>, pass: &mut Pass) {
        let orphans = |kind: Kind| {
            let ours = self.known.objects.all(kind).filter(move |(key, object)| is_made_by_us(kind, key, object));
            ours.filter(|(_, object)| !held.contains(object::label(object, PUBLISHED_BINDING_LABEL)))
                .map(move |(key, _)| ObjectId { kind, key: key.clone() })
        };
        let slices: Vec<ObjectId> = orphans(PUBLISHED_SLICE).collect();
        let gone: Vec<ObjectId> = if slices.is_empty() {
            self.settings.kinds.iter().flat_map(|kind| orphans(*kind)).collect()
        } else {
            slices
        };
        pass.writes.extend(gone.into_iter().filter_map(|id| self.deletion(id)));
    }

    fn let_go(&self, claims: &PortClaims, needed: &BTreeSet<Key>, pass: &mut Pass) {
        for change in port::let_go(claims, needed, self.now) {
            pass.writes.push(match change {
                LetGo::Release(id, time) => {
                    let patch = Map::from_iter([("spec".to_owned(), json!({"renewTime": time}))]);
                    ObjectWrite { id, change: ObjectChange::Patch(patch) }
                }
                LetGo::Delete(id) => ObjectWrite { id, change: ObjectChange::Delete },
            });
        }
        let next = claims.all().filter_map(port::PortClaim::free_at).filter(|at| *at > self.now).min();
        pass.wake = pass.wake.into_iter().chain(next).min();
    }

    pub(super) fn deletion(&self, id: ObjectId) -> Option<ObjectWrite> {
        let there = self.known.objects.get(id.kind, &id.key)?;
        (!object::is_terminating(there)).then_some(ObjectWrite { id, change: ObjectChange::Delete })
    }

    /// The write that makes an object what it should be, if it is not.
    pub(super) fn towards(&self, object: &Object) -> Result<Option<ObjectWrite>, Refusal> {
        let write = |change| Some(ObjectWrite { id: object.id.clone(), change });
        Ok(match self.known.objects.get(object.id.kind, &object.id.key) {
            None => write(ObjectChange::Create(object.whole())),
            Some(there) if object::is_terminating(there) => None,
            Some(there) if !is_made_by_us(object.id.kind, &object.id.key, there) => {
                let (id, why) = (&object.id, "exists and is not Heliostat's; it is left alone. Delete or rename it");
                return Err(Refusal::new(Reason::NameConflict, format!("{id} {why}")));
            }
            Some(there) => object.patch(there).and_then(|patch| write(ObjectChange::Patch(patch))),
        })
    }

    pub(super) fn surroundings<'a>(&'a self, binding: &str) -> Surroundings<'a> {
        Surroundings {
            objects: &self.known.objects,
            services: &self.known.services,
            ready: &self.known.ready,
            nodes: &self.known.nodes,
            local_nodes: self.local_nodes,
            envoys: self.known.envoys.get(binding),
            written: self.written,
            namespace: self.namespace,
            cluster_domain: self.cluster_domain,
            envoy_image: &self.settings.envoy_image,
            now: self.now,
        }
    }
}

/// Whether an object is one that we made, for whatever binding. Published slices have the labels of
/// their Service, and others may publish by the same contract: ours are known by their names.
pub(super) fn is_made_by_us(kind: Kind, key: &Key, object: &Value) -> bool {
    if kind == PUBLISHED_SLICE {
        return publish::is_ours(key, object);
    }
    !object::label(object, PUBLISHED_BINDING_LABEL).is_empty() && object::label(object, MANAGED_BY_LABEL) == MANAGER
}
