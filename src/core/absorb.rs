//! Takes news over into the world, and marks what is to be looked at again. Nothing is written
//! from here.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    claim::Claim,
    engine::Engine,
    export::exporter::Exporter,
    guard,
    io::{About, Change, Event, Local, OwnKind, RemoteEvent, Scope},
    link::{CheckedLink, Connection, Link, Successor},
    model::{Key, LocalNamespace, LocalService, LocalSlice, Origin, RemoteSlice},
    select::Refusal,
    world::{self, Policy},
};
use crate::api::{ClusterLink, ConditionType, GatewayBinding, MirrorPolicy, Reason, link::NamespacesFrom};

/// What of an object's metadata makes it another object to us; status and resourceVersion do not.
fn same_wish(a: &kube::api::ObjectMeta, b: &kube::api::ObjectMeta) -> bool {
    a.uid == b.uid
        && a.generation == b.generation
        && a.labels == b.labels
        && a.annotations == b.annotations
        && a.deletion_timestamp.is_some() == b.deletion_timestamp.is_some()
}

/// A change as single steps; a complete listing also lets go of what it lacks.
fn steps<K: Ord + Clone, V, W>(
    change: Change<K, V>,
    known: &BTreeMap<K, W>,
) -> (bool, impl Iterator<Item = (K, Option<V>)> + use<K, V, W>) {
    let (one, gone, all) = match change {
        Change::Set(key, value) => (Some((key, Some(value))), Vec::new(), None),
        Change::Gone(key) => (Some((key, None)), Vec::new(), None),
        Change::All(all) => {
            let lacking = known.keys().filter(|key| !all.contains_key(key));
            (None, lacking.cloned().collect(), Some(all))
        }
    };
    let is_all = all.is_some();
    let gone = gone.into_iter().map(|key| (key, None));
    let all = all.into_iter().flatten().map(|(key, value)| (key, Some(value)));
    (is_all, one.into_iter().chain(gone).chain(all))
}

/// A complete listing.
struct Listing {
    cluster_uid: String,
    versions: BTreeMap<Scope, String>,
    services: BTreeMap<Key, Origin>,
    slices: BTreeMap<Key, RemoteSlice>,
}

/// Leaves what a listing lacks to the guard, but for what the link does not ask for any more.
fn judge_later(
    link: &mut Link,
    scope: Scope,
    cluster: &str,
    versions: &BTreeMap<Scope, String>,
    services: &BTreeMap<Key, Origin>,
) {
    let unasked: Vec<Key> = guard::not_asked_for(link, services)
        .filter(|key| scope.as_ref().is_none_or(|namespace| *namespace == key.namespace))
        .cloned()
        .collect();
    unasked.iter().for_each(|origin| link.guard.is_gone(origin));
    services.keys().for_each(|origin| link.guard.is_there(origin));
    link.guard.listed(scope, cluster, versions);
}

impl Engine {
    pub(super) fn on_local(&mut self, local: Local) {
        match local {
            Local::Link(change) => {
                let (all, steps) = steps(change, &self.world.links);
                self.world.listed.links |= all;
                steps.into_iter().for_each(|(name, link)| self.on_link(name, link.map(|l| *l)));
            }
            Local::Policy(change) => {
                let (all, steps) = steps(change, &self.world.policies);
                self.world.listed.policies |= all;
                steps.into_iter().for_each(|(key, policy)| self.on_policy(key, policy.map(|p| *p)));
            }
            Local::Binding(change) => {
                let (all, steps) = steps(change, &self.world.bindings);
                self.world.listed.bindings |= all;
                steps.into_iter().for_each(|(name, binding)| self.on_binding(name, binding.map(|b| *b)));
            }
            Local::Namespace(change) => self.on_namespaces(change),
            Local::Service(change) => self.on_services(change),
            Local::Slice(change) => self.on_slices(change),
            Local::Node(change) => {
                self.world.listed.nodes |= matches!(change, Change::All(_));
                if !world::apply(&mut self.world.nodes, change).is_empty() {
                    self.world.know_ranges();
                    self.exporter.iter_mut().for_each(Exporter::touch);
                    self.touch_all_links();
                }
            }
            Local::ServiceCidr(change) => {
                self.world.listed.service_cidrs |= matches!(change, Change::All(_));
                if !world::apply(&mut self.world.service_cidrs, change).is_empty() {
                    self.world.know_ranges();
                    self.touch_all_links();
                }
            }
            Local::Unserved(kind) => match kind {
                OwnKind::Links => self.world.listed.links = false,
                OwnKind::Policies => self.world.listed.policies = false,
                OwnKind::Bindings => self.world.listed.bindings = false,
            },
            Local::ClusterUid(uid) => {
                if self.world.cluster_uid.as_ref() != Some(&uid) {
                    self.world.cluster_uid = Some(uid);
                    self.touch_all_links();
                }
            }
        }
    }

    fn touch_all_links(&mut self) {
        let links: Vec<String> = self.world.links.keys().cloned().collect();
        links.iter().for_each(|link| self.touch_link(link));
    }

    fn on_link(&mut self, name: String, object: Option<ClusterLink>) {
        let now = self.now;
        self.tasks_due = true;
        let Some(object) = object else {
            if self.world.set_link(&name, None).is_some() {
                self.reach.end_link(&name);
                self.status.forget_link(&name);
                self.reconsider_link(&name);
                self.status.touch_all(&self.world);
            }
            return;
        };
        match self.world.links.get_mut(&name) {
            Some(link) if link.uid() == object.metadata.uid.as_deref().unwrap_or_default() => {
                let same = same_wish(&link.object.metadata, &object.metadata);
                link.object = object;
                if same {
                    self.status.touch_link(&name);
                    return;
                }
                link.checked = CheckedLink::new(&link.object);
                link.set_clock(now);
                if link.object.spec.suspend {
                    link.mark_unknown(now);
                    link.set_clock(now);
                    link.remote.connection = Connection::Starting;
                }
            }
            _ => {
                let mut link = Link::new(object, now);
                self.reach.begin_link(&name, link.object.status.iter().flat_map(|status| &status.gateways));
                link.set_clock(now);
                self.world.set_link(&name, Some(link));
            }
        }
        if self.world.links.get(&name).is_some_and(|link| !link.is_probed()) {
            self.reach.forget(&name);
        }
        self.reconsider_link(&name);
        self.guard_concerned(&name);
        self.touch_link(&name);
        self.status.touch_all(&self.world);
    }

    fn on_policy(&mut self, key: Key, object: Option<MirrorPolicy>) {
        match (object, self.world.policies.get_mut(&key)) {
            (None, None) => return,
            (None, Some(_)) => {
                self.world.policies.remove(&key);
                self.status.forget_policy(&key);
            }
            (Some(object), Some(policy)) if same_wish(&policy.object.metadata, &object.metadata) => {
                policy.object = object;
                self.status.touch_policy(&key);
                return;
            }
            (Some(object), _) => {
                let policy = Policy::new(object, &self.settings.namespace);
                self.world.policies.insert(key.clone(), policy);
                self.status.touch_policy(&key);
            }
        }
        self.reconsider_all();
    }

    fn on_binding(&mut self, name: String, object: Option<GatewayBinding>) {
        let imports = |b: &GatewayBinding| b.spec.import.as_ref().map(|i| i.link_ref.name.clone());
        let before = self.world.bindings.get(&name).and_then(imports);
        let after = object.as_ref().and_then(imports);
        self.exporter.iter_mut().for_each(Exporter::touch);
        match object {
            None => {
                self.world.bindings.remove(&name);
                self.status.forget_binding(&name);
            }
            Some(object) => {
                let same = self.world.bindings.get(&name).is_some_and(|b| same_wish(&b.metadata, &object.metadata));
                self.world.bindings.insert(name.clone(), object);
                self.status.touch_binding(&name);
                if same {
                    return;
                }
            }
        }
        before.into_iter().chain(after).collect::<BTreeSet<_>>().iter().for_each(|link| self.touch_link(link));
    }

    fn on_namespaces(&mut self, change: Change<String, LocalNamespace>) {
        self.world.listed.namespaces |= matches!(change, Change::All(_));
        let changed = world::apply(&mut self.world.namespaces, change);
        if changed.is_empty() {
            return;
        }
        let by_label = |link: &Link| link.object.spec.allowed_namespaces.from == NamespacesFrom::Selector;
        let links: Vec<String> =
            self.world.links.iter().filter(|(_, link)| by_label(link)).map(|(name, _)| name.clone()).collect();
        links.iter().for_each(|link| self.reconsider_link(link));
        if !links.is_empty() {
            self.status.touch_all(&self.world);
        }
        let concerned: BTreeSet<(String, Key)> = self
            .claims
            .iter()
            .filter(|(_, claim)| claim.target.as_ref().is_some_and(|t| changed.contains(t.namespace.as_str())))
            .map(|(id, _)| (id.link.to_string(), id.origin.clone()))
            .collect();
        concerned.iter().for_each(|(link, origin)| self.reconsider(link, origin));
    }

    fn on_services(&mut self, change: Change<Key, LocalService>) {
        let (all, steps) = steps(change, &self.world.services);
        self.world.listed.services |= all;
        if all {
            self.overtake(None);
        }
        for (key, service) in steps {
            let news = match service {
                Some(service) => self.set_service(&key, service),
                None => {
                    self.overtake(Some(&key));
                    self.replace_service(&key, None)
                }
            };
            if news {
                self.guards_concerned(&key);
                self.touch(key);
            }
        }
    }

    fn on_slices(&mut self, change: Change<Key, LocalSlice>) {
        let (all, steps) = steps(change, &self.world.slices);
        self.world.listed.slices |= all;
        if all {
            self.overtake(None);
        }
        for (key, slice) in steps {
            let concerned = match slice {
                Some(slice) => self.set_slice(&key, slice),
                None => {
                    self.overtake(Some(&key));
                    self.world.set_slice(&key, None)
                }
            };
            concerned.into_iter().for_each(|mirror| self.touch(mirror));
        }
    }

    pub(super) fn on_remote(&mut self, name: &str, session: u64, event: RemoteEvent) {
        let now = self.now;
        let Some(link) = self.world.links.get_mut(name) else { return };
        // A session that was replaced has nothing to say; one that is to replace a working one
        // speaks by its first listing.
        let replacing = session > link.remote.session && link.remote.connection == Connection::Synced;
        if session < link.remote.session || link.object.spec.suspend {
            return;
        }
        match event {
            RemoteEvent::Credentials { reason, message } => self.on_lost(name, Refusal::new(reason, message), true),
            RemoteEvent::Lost { .. } if replacing => {}
            RemoteEvent::Lost { reason, message } => self.on_lost(name, Refusal::new(reason, message), false),
            RemoteEvent::Connected { cluster_uid, server_version, credentials_expire_at, .. }
                if replacing && link.expected_uid() == Some(&cluster_uid) =>
            {
                link.remote.successor = Some(Successor { session, server_version, credentials_expire_at });
            }
            RemoteEvent::Connected { cluster_uid, server_version, credentials_expire_at, own_server } => {
                link.remote.observed_uid = Some(cluster_uid.clone());
                link.remote.server_version = Some(server_version);
                link.remote.credentials_expire_at = credentials_expire_at;
                link.remote.own_server = own_server;
                if link.remote.connection != Connection::Synced {
                    link.remote.connection = Connection::Listing;
                }
                if link.identity_changed() {
                    link.mark_unknown(now);
                }
                link.set_clock(now);
                if link.remote.pinned_uid.is_none() && !link.self_link(self.world.cluster_uid.as_deref()) {
                    link.remote.pinned_uid = Some(cluster_uid);
                }
                self.touch_link(name);
            }
            RemoteEvent::Listed { cluster_uid, versions, services, slices } => {
                let listing = Listing { cluster_uid, versions, services, slices };
                self.on_listed(name, session, listing)
            }
            // Nodes may be told before the listing; they decide nothing by themselves.
            nodes @ (RemoteEvent::NodesListed(_) | RemoteEvent::Node(..) | RemoteEvent::NodeGone(_))
                if !link.identity_changed() =>
            {
                self.on_nodes(name, nodes);
            }
            other if link.remote.listed && link.remote.session == session && !link.identity_changed() => {
                self.on_followed(name, other)
            }
            _ => {}
        }
    }

    fn on_lost(&mut self, name: &str, why: Refusal, credentials: bool) {
        let now = self.now;
        let Some(link) = self.world.links.get_mut(name) else { return };
        let connection = if credentials { Connection::Credentials(why.clone()) } else { Connection::Lost(why.clone()) };
        let news = std::mem::discriminant(&link.remote.connection) != std::mem::discriminant(&connection);
        link.remote.connection = connection;
        link.mark_unknown(now);
        self.status.touch_link(name);
        let said_before = link.said(ConditionType::Connected, "False");
        let about = About::Link(name.to_owned(), link.uid().to_owned());
        if news && !said_before {
            self.tell(Event {
                about,
                warning: true,
                reason: why.reason.as_str(),
                action: "Connecting",
                note: why.message,
            });
        }
        if news {
            self.status.touch_all(&self.world);
        }
    }

    fn on_listed(&mut self, name: &str, session: u64, listing: Listing) {
        let Listing { cluster_uid, versions, services, slices } = listing;
        let (now, own) = (self.now, self.world.cluster_uid.clone());
        let Some(link) = self.world.links.get_mut(name) else { return };
        link.remote.observed_uid = Some(cluster_uid.clone());
        if link.identity_changed() || link.self_link(own.as_deref()) {
            link.mark_unknown(now);
            link.set_clock(now);
            self.touch_link(name);
            return;
        }
        judge_later(link, None, &cluster_uid, &versions, &services);
        let remote = &mut link.remote;
        remote.pinned_uid = Some(cluster_uid);
        remote.session = session;
        if let Some(it) = remote.successor.take_if(|it| it.session == session) {
            remote.server_version = Some(it.server_version);
            remote.credentials_expire_at = it.credentials_expire_at;
        }
        let mut origins: BTreeSet<Key> = remote.services.keys().cloned().collect();
        origins.extend(services.keys().cloned());
        remote.set_all(services, slices);
        let was_known = remote.unknown_since.is_none();
        remote.listed = true;
        remote.connection = Connection::Synced;
        link.mark_known(now);
        link.remote.handled_reconcile = link.reconcile_requested();
        let about = About::Link(name.to_owned(), link.uid().to_owned());
        let said_before = link.said(ConditionType::Synced, "True");
        origins.iter().for_each(|origin| self.reconsider(name, origin));
        self.guard_concerned(name);
        self.touch_link(name);
        if !was_known && !said_before {
            let note = format!("a complete listing was taken over: {} Services seen", origins.len());
            self.tell(Event { about, warning: false, reason: Reason::InSync.as_str(), action: "Synchronizing", note });
        }
        if !was_known {
            self.status.touch_all(&self.world);
        }
    }

    /// News of a remote that is followed.
    fn on_followed(&mut self, name: &str, event: RemoteEvent) {
        let Some(link) = self.world.links.get_mut(name) else { return };
        let expected = link.expected_uid().map(str::to_owned);
        let right = |uid: &String| expected.as_ref() == Some(uid);
        let in_scope = |scope: &Option<String>, key: &Key| scope.as_ref().is_none_or(|ns| *ns == key.namespace);
        match event {
            RemoteEvent::Reached { scope, version } => link.guard.reached(scope, &version),
            RemoteEvent::Service(key, origin) if link.remote.services.get(&key) != Some(&*origin) => {
                link.guard.is_there(&key);
                link.remote.services.insert(key.clone(), *origin);
                self.reconsider(name, &key);
                self.touch_origin(name, &key);
            }
            RemoteEvent::ServiceGone(key, uid) => self.on_service_gone(name, &key, &uid),
            RemoteEvent::Slice(key, slice) if link.remote.slices.get(&key) != Some(&*slice) => {
                let concerned = link.remote.set_slice(&key, Some(*slice));
                concerned.iter().for_each(|origin| self.touch_origin(name, origin));
            }
            RemoteEvent::SliceGone(key) => {
                let concerned = link.remote.set_slice(&key, None);
                concerned.iter().for_each(|origin| self.touch_origin(name, origin));
            }
            RemoteEvent::ServicesListed { cluster_uid, scope, version, services } if right(&cluster_uid) => {
                let versions = version.into_iter().map(|version| (scope.clone(), version)).collect();
                judge_later(link, scope.clone(), &cluster_uid, &versions, &services);
                let remote = &mut link.remote;
                let mut concerned: BTreeSet<Key> =
                    remote.services.keys().filter(|key| in_scope(&scope, key)).cloned().collect();
                concerned.extend(services.keys().cloned());
                remote.services.retain(|key, _| !in_scope(&scope, key));
                remote.services.extend(services);
                for origin in &concerned {
                    self.reconsider(name, origin);
                    self.touch_origin(name, origin);
                }
                self.guard_concerned(name);
            }
            RemoteEvent::SlicesListed { cluster_uid, scope, slices } if right(&cluster_uid) => {
                let remote = &mut link.remote;
                let old: Vec<Key> = remote.slices.keys().filter(|key| in_scope(&scope, key)).cloned().collect();
                let mut concerned = BTreeSet::new();
                for key in old.iter().filter(|key| !slices.contains_key(*key)) {
                    concerned.extend(remote.set_slice(key, None));
                }
                for (key, slice) in slices {
                    if remote.slices.get(&key) != Some(&slice) {
                        concerned.extend(remote.set_slice(&key, Some(slice)));
                    }
                }
                concerned.iter().for_each(|origin| self.touch_origin(name, origin));
            }
            _ => {}
        }
    }

    /// A Service was deleted, or does not match the link's selector any more, on a healthy watch.
    fn on_service_gone(&mut self, name: &str, key: &Key, uid: &str) {
        let mirrored = |claim: &Claim| {
            claim.target.as_ref().is_some_and(|target| self.world.owner(target) == world::Owner::Ours(name))
        };
        // Until this cluster is known there may be a mirror of it.
        let mirrored = !self.ready() || self.claims.of_origin(name, key).any(|(_, claim)| mirrored(claim));
        let Some(link) = self.world.links.get_mut(name) else { return };
        let known = link.remote.services.get(key).is_some_and(|origin| origin.uid == *uid);
        let held = !link.remote.services.contains_key(key) && link.guard.awaits_deletion(key, uid);
        if !known && !held {
            return;
        }
        link.remote.services.remove(key);
        if mirrored || held {
            link.guard.is_gone(key);
        }
        self.look_through_gone(name);
        self.reconsider(name, key);
    }

    /// News of a remote's nodes.
    fn on_nodes(&mut self, name: &str, event: RemoteEvent) {
        let Some(link) = self.world.links.get_mut(name) else { return };
        let remote = &mut link.remote;
        match event {
            RemoteEvent::NodesListed(nodes) if remote.nodes.as_ref() != Some(&nodes) => {
                remote.nodes = Some(nodes);
                self.touch_node_users(name);
            }
            RemoteEvent::Node(node, state) => {
                if let Some(Ok(nodes)) = &mut remote.nodes
                    && nodes.get(&node) != Some(&state)
                {
                    nodes.insert(node, state);
                    self.touch_node_users(name);
                }
            }
            RemoteEvent::NodeGone(node) => {
                if let Some(Ok(nodes)) = &mut remote.nodes
                    && nodes.remove(&node).is_some()
                {
                    self.touch_node_users(name);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
