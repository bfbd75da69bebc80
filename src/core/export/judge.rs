//! One binding under one look: what it selects, which port or listener each route gets, what the
//! gateway is told, and what is published. Like the pass, it writes nothing: it says what is next.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use super::{
    binding::CheckedExport,
    object::{self, Object, ObjectId, PUBLISHED_SLICE},
    pass::{ObjectChange, ObjectWrite, Pass, Report, Unread, View, is_made_by_us},
    port::{self, Allocation, PortClaims, Terms},
    provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId},
    publish::{self, OutsidePort, Publication, Published},
};
use crate::{
    api::{
        Reason,
        binding::{PortCounts, Routing},
        names::PUBLISHED_BINDING_LABEL,
    },
    core::{
        address,
        model::{Key, Origin, OriginPort, Protocol},
        select::{self, Refusal},
    },
};

/// How long a route that was published goes on being so while its gateway does not confirm it: a
/// gateway that works on another change must not take it away.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
/// How long the first publication of a Service waits for the last of its ports, so that it takes
/// one write.
const TOGETHER: SignedDuration = SignedDuration::from_secs(2);
/// How long a route may be waited for before its binding is no longer ready (design: section 8).
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// A selected Service and what becomes of its ports.
struct Selected<'a> {
    key: &'a Key,
    origin: &'a Origin,
    routes: Vec<(RouteId, &'a OriginPort, State)>,
    hostnames: Vec<String>,
}

impl Selected<'_> {
    /// What answers probes is nobody's export.
    fn is_counted(&self) -> bool {
        !select::is_probe(&self.origin.labels)
    }
}

/// What becomes of a route.
enum State {
    /// It has no port or listener yet that it could be carried on.
    Wanted,
    /// A port is being claimed for it.
    Claiming,
    /// It has its outside port.
    Placed(u16),
    /// It gets none, or the gateway refuses it.
    Refused(Refusal),
}

/// One binding under one look.
pub(super) struct One<'a, 'o> {
    pub(super) view: &'a View<'a>,
    pub(super) binding: &'a CheckedExport,
    pub(super) provider: &'a dyn Provider,
    pub(super) out: &'o mut Pass,
}

impl<'a> One<'a, '_> {
    pub(super) fn judge(
        &mut self,
        claims: &PortClaims,
        needed: &mut BTreeSet<Key>,
        tried: &mut BTreeSet<Key>,
    ) -> Report {
        let (view, name) = (self.view, self.binding.name.as_str());
        let published = publish::published(&view.known.objects, name);
        let unread =
            self.provider.kinds().into_iter().find(|kind| *view.known.objects.of(*kind) == object::Known::Unknown);
        if let Some(kind) = unread {
            view.keep(name, claims, needed);
            let unread = match view.known.objects.failure(kind) {
                Some(why) => Unread { what: format!("{kind} cannot be read: {why}"), failed: true },
                None => Unread { what: format!("{kind} is being read"), failed: false },
            };
            return Report { waiting: Some(unread), ..Report::default() };
        }
        let around = view.surroundings(name);
        let gateway = match self.provider.gateway(&around) {
            Ok(gateway) => gateway,
            Err(refusal) => {
                view.keep(name, claims, needed);
                self.withdraw_if_gone(&refusal, &published);
                return Report { unresolved: Some(refusal), ..Report::default() };
            }
        };
        let addresses = match self.binding.export.addresses.as_slice() {
            [] => gateway.addresses.clone(),
            given => given.iter().map(|address| address.value.clone()).collect(),
        };
        let exposed = self.exposed(&addresses);
        let mut report = Report {
            unwell: gateway.unwell.clone(),
            unconfirmed: !gateway.confirms,
            addresses: addresses.clone(),
            refused: exposed.clone(),
            ..Report::default()
        };
        let mut selected = self.select(&mut report);
        report.selected += selected.iter().filter(|service| service.is_counted()).count();
        if exposed.is_some() {
            view.keep(name, claims, needed);
            selected.clear();
        }
        self.place(&mut selected, &gateway, claims, needed, tried, &published, &mut report);
        let plan = self.plan(&selected);
        let rendered = self.provider.render(&plan, &around);
        for (id, _, state) in selected.iter_mut().flat_map(|s| &mut s.routes) {
            if let Some(refusal) = rendered.refused.get(id) {
                *state = State::Refused(refusal.clone());
            }
        }
        let surplus = self.write_objects(&rendered, exposed.is_some(), &mut report);
        let slices = self.publish(&selected, &plan, &gateway, &addresses, &published, &mut report);
        let retiring = self.write_slices(&slices, &addresses, &published, exposed.is_some(), &mut report);
        // Backwards when something goes: first importers are told, then the gateway, then the port.
        if retiring || !surplus.is_empty() {
            view.keep(name, claims, needed);
        }
        if !retiring {
            self.out.writes.extend(surplus.into_iter().filter_map(|id| view.deletion(id)));
        }
        if let Some(config) = rendered.envoy {
            self.out.envoys.insert(name.to_owned(), config);
        }
        report.overdue = self.overdue(&report);
        report.failures.sort_by(|(a, x), (b, y)| (a, x.reason, &x.message).cmp(&(b, y.reason, &y.message)));
        report
    }

    /// A gateway that is not there carries nothing: what was published is no longer ready.
    fn withdraw_if_gone(&mut self, refusal: &Refusal, published: &[Published]) {
        if !matches!(refusal.reason, Reason::RefNotFound | Reason::ProviderNotInstalled) {
            return;
        }
        for slice in published.iter().filter(|slice| slice.ready) {
            let Some(there) = self.view.known.objects.get(PUBLISHED_SLICE, &slice.key) else { continue };
            let mut endpoints = there["endpoints"].clone();
            for endpoint in endpoints.as_array_mut().into_iter().flatten() {
                endpoint["conditions"] = json!({"ready": false});
            }
            let patch = Map::from_iter([("endpoints".to_owned(), endpoints)]);
            let id = ObjectId { kind: PUBLISHED_SLICE, key: slice.key.clone() };
            self.out.writes.push(ObjectWrite { id, change: ObjectChange::Patch(patch) });
        }
    }

    /// Plaintext would answer on a public address, and nobody said that it may.
    fn exposed(&mut self, addresses: &[String]) -> Option<Refusal> {
        if self.binding.may_be_public() || !self.binding.may_be_plaintext() {
            return None;
        }
        let mut public = None;
        for text in addresses {
            let is_public = match text.parse::<IpAddr>() {
                Ok(ip) => !address::is_private(ip),
                Err(_) => {
                    let host = text.trim_end_matches('.').to_ascii_lowercase();
                    self.out.hosts.insert(host.clone());
                    let known = self.view.hosts.get(&host);
                    known.is_some_and(|h| !h.addresses.iter().all(|ip| address::is_private(*ip)))
                }
            };
            if is_public {
                public = Some(text);
            }
        }
        public.map(|address| {
            let routing = self.binding.routing;
            Refusal::new(Reason::PublicPlaintext, format!("routing {routing} would answer in plaintext on the public address {address}; nothing is programmed. Use routing: SNI, give the gateway a private address, or set spec.export.exposure: Public"))
        })
    }

    fn select(&self, report: &mut Report) -> Vec<Selected<'a>> {
        let mut out = Vec::new();
        for (key, origin) in &self.view.known.services {
            match self.binding.selects(key, origin, self.view.namespace) {
                None => {}
                Some(Err(refusal)) => {
                    report.selected += 1;
                    report.failed += 1;
                    report.failures.push((key.clone(), refusal));
                }
                Some(Ok(())) => {
                    let route = |port: &'a OriginPort| {
                        let id = RouteId { service: key.clone(), port: port.port, protocol: port.protocol };
                        (id, port, State::Wanted)
                    };
                    let routes = origin.ports.iter().map(route).collect();
                    out.push(Selected { key, origin, routes, hostnames: Vec::new() });
                }
            }
        }
        out
    }

    /// Gives each route its outside port: a claimed one, or the listener's.
    #[allow(clippy::too_many_arguments, reason = "what one look has found out so far")]
    fn place(
        &mut self,
        selected: &mut [Selected<'a>],
        gateway: &Gateway,
        claims: &PortClaims,
        needed: &mut BTreeSet<Key>,
        tried: &mut BTreeSet<Key>,
        published: &[Published],
        report: &mut Report,
    ) {
        if self.binding.routing != Routing::Port {
            self.name_hosts(selected, published, report);
            for service in selected.iter_mut() {
                for (_, port, state) in &mut service.routes {
                    let listener = self.binding.listener(service.key, service.origin, port, &gateway.listeners);
                    *state = listener.map_or_else(State::Refused, State::Placed);
                }
            }
            return;
        }
        let hash = port::gateway_hash(&gateway.identity);
        let terms = Terms {
            binding: &self.binding.name,
            namespace: self.view.namespace,
            gateway: &hash,
            range: &self.binding.export.ports,
            port_lease: self.binding.port_lease,
            supply: &gateway.ports,
        };
        let carried = |id: &RouteId| gateway.ports.protocols.contains(&id.protocol);
        let routes: BTreeSet<RouteId> =
            selected.iter().flat_map(|s| &s.routes).map(|(id, ..)| id.clone()).filter(carried).collect();
        let before = publish::published_ports(published, &self.view.known.services);
        let mut allocations = port::allocate(&terms, claims, &routes, &before, tried);
        for (id, port, state) in selected.iter_mut().flat_map(|s| &mut s.routes) {
            *state = match allocations.remove(id) {
                None => State::Refused(Refusal::new(
                    Reason::PortUnsupported,
                    format!(
                        "port {}/{} of {}: the gateway carries no {}",
                        port.port,
                        id.protocol.as_str(),
                        id.service,
                        id.protocol.as_str()
                    ),
                )),
                Some(Allocation::Has(number)) => State::Placed(number),
                Some(Allocation::Refused(refusal)) => State::Refused(refusal),
                Some(Allocation::Claim(number, lease)) => {
                    tried.insert(lease.id.key.clone());
                    needed.insert(lease.id.key.clone());
                    self.write(&lease, id.service.clone(), report);
                    // What is in use goes on while its lost Lease is made again.
                    if before.get(id) == Some(&number) { State::Placed(number) } else { State::Claiming }
                }
            };
        }
        let ports = |wanted: fn(&port::PortClaim) -> bool| claims.of(&hash).filter(|(.., c)| wanted(c)).count();
        let (used, quarantined) = (ports(|c| c.released.is_none()), ports(|c| c.released.is_some()));
        let size = usize::from(self.binding.export.ports.to - self.binding.export.ports.from) + 1;
        let supply = gateway.ports.pool.as_ref().map_or(size, |pool| pool.len().min(size));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let free = supply.saturating_sub(used + quarantined);
        report.ports = Some(PortCounts { used: number(used), quarantined: number(quarantined), free: number(free) });
        let numbers: BTreeSet<(Protocol, u16)> = selected
            .iter()
            .flat_map(|s| &s.routes)
            .filter_map(|(id, _, state)| match state {
                State::Placed(number) => Some((id.protocol, *number)),
                _ => None,
            })
            .collect();
        let placed = claims.of(&hash).filter(|(protocol, port, claim)| {
            claim.released.is_none() && claim.binding == self.binding.name && numbers.contains(&(*protocol, *port))
        });
        needed.extend(placed.map(|(.., claim)| claim.lease.clone()));
    }

    /// Names by which the gateway tells services apart: each has one owner. Who has one keeps it.
    fn name_hosts(&self, selected: &mut [Selected<'a>], published: &[Published], report: &mut Report) {
        let mut owner: BTreeMap<String, &Key> = BTreeMap::new();
        let there: BTreeMap<&Key, &Key> = selected.iter().map(|s| (s.key, s.key)).collect();
        for slice in published {
            if let Some(service) = there.get(&slice.service) {
                for name in &slice.hostnames {
                    owner.entry(name.clone()).or_insert(service);
                }
            }
        }
        for service in selected {
            let names = match self.binding.hostnames(service.key, self.view.cluster_domain) {
                Ok(names) => names,
                Err(why) => {
                    report.failures.push((service.key.clone(), Refusal::new(Reason::InvalidName, why)));
                    continue;
                }
            };
            for name in names {
                match *owner.entry(name.clone()).or_insert(service.key) {
                    holder if holder == service.key => service.hostnames.push(name),
                    holder => report.failures.push((
                        service.key.clone(),
                        Refusal::new(
                            Reason::NameConflict,
                            format!(
                                "the name {name} is that of {holder} already; importers reach {} by its other names",
                                service.key
                            ),
                        ),
                    )),
                }
            }
        }
    }

    fn plan(&self, selected: &[Selected<'a>]) -> ExportPlan {
        let mut routes = BTreeMap::new();
        for service in selected {
            let rewrite = self.binding.rewrite(service.key, self.view.cluster_domain);
            for (id, port, state) in &service.routes {
                let State::Placed(gateway_port) = state else { continue };
                let route = Route {
                    port: (*port).clone(),
                    service_uid: service.origin.uid.to_string(),
                    gateway_port: *gateway_port,
                    hostnames: service.hostnames.clone(),
                    rewrite: rewrite.clone(),
                    endpoints: self.view.known.endpoints(service.key, port),
                };
                routes.insert(id.clone(), route);
            }
        }
        let CheckedExport { name, uid, routing, .. } = self.binding;
        ExportPlan { binding: name.clone(), binding_uid: uid.clone(), routing: *routing, routes }
    }

    /// Writes what the gateway is programmed by; gives what is there of ours and no longer wanted.
    fn write_objects(&mut self, rendered: &Rendered, keep: bool, report: &mut Report) -> Vec<ObjectId> {
        let wanted: BTreeSet<&ObjectId> = rendered.objects.iter().map(|object| &object.id).collect();
        for object in &rendered.objects {
            self.write(object, object.id.key.clone(), report);
        }
        if keep {
            return Vec::new();
        }
        let mut surplus = Vec::new();
        for kind in &self.view.settings.kinds {
            for (key, there) in self.view.known.objects.all(*kind) {
                let id = ObjectId { kind: *kind, key: key.clone() };
                let ours = is_made_by_us(*kind, key, there)
                    && object::label(there, PUBLISHED_BINDING_LABEL) == self.binding.name;
                if ours && !wanted.contains(&id) {
                    surplus.push(id);
                }
            }
        }
        surplus
    }

    fn write(&mut self, object: &Object, about: Key, report: &mut Report) {
        match self.view.towards(object) {
            Ok(write) => self.out.writes.extend(write),
            Err(refusal) => report.failures.push((about.clone(), refusal)),
        }
        if let Some(refusal) = self.view.failures.get(&object.id) {
            report.failures.push((about, refusal.clone()));
        }
    }

    /// What should be published, and what is said of each Service.
    fn publish(
        &mut self,
        selected: &[Selected<'a>],
        plan: &ExportPlan,
        gateway: &Gateway,
        addresses: &[String],
        published: &[Published],
        report: &mut Report,
    ) -> Vec<Object> {
        let around = self.view.surroundings(&self.binding.name);
        let mut by_service: BTreeMap<&Key, Vec<&Published>> = BTreeMap::new();
        for slice in published {
            by_service.entry(&slice.service).or_default().push(slice);
        }
        let mut slices = Vec::new();
        for service in selected {
            let before = by_service.get(service.key).map_or(&[][..], Vec::as_slice);
            let (mut carried, mut kept) = (Vec::new(), Vec::new());
            let mut waits = 0;
            for (id, port, state) in &service.routes {
                let was = before.iter().find_map(|p| p.ports.get(&(port.name.to_string(), port.protocol))).copied();
                let wait = |why: String, report: &mut Report| drop(report.waits.insert(id.clone(), why));
                match state {
                    State::Wanted | State::Claiming => {
                        waits += 1;
                        wait("a port is being claimed".to_owned(), report);
                    }
                    State::Refused(refusal) => report.failures.push((service.key.clone(), refusal.clone())),
                    State::Placed(number) => {
                        let outside = OutsidePort { port, number: *number };
                        match self.provider.programmed(plan, id, &around) {
                            Programmed::Yes => carried.push(outside),
                            Programmed::Before(_) if was == Some(*number) => carried.push(outside),
                            Programmed::Pending(why, until) => {
                                waits += 1;
                                let goes_on = was == Some(*number) && self.is_recent(std::iter::once(id), GRACE);
                                wait(why, report);
                                self.wake(until);
                                if goes_on { carried.push(outside) } else { kept.push((was, outside)) }
                            }
                            Programmed::Before(why) => {
                                waits += 1;
                                wait(why, report);
                            }
                            Programmed::No(refusal) => {
                                report.failures.push((service.key.clone(), refusal));
                                kept.push((was, outside));
                            }
                        }
                    }
                }
            }
            let carries = !carried.is_empty();
            if !carries {
                // Addresses stay, not ready, so that nothing has to be made anew when it is back.
                carried.extend(kept.into_iter().filter(|(was, o)| *was == Some(o.number)).map(|(_, outside)| outside));
            }
            match (carries, waits) {
                _ if !service.is_counted() => {}
                (_, 1..) => report.pending += 1,
                (true, _) => report.programmed += 1,
                (false, _) => report.failed += 1,
            }
            let ids = service.routes.iter().map(|(id, ..)| id);
            let early = before.is_empty() && waits > 0 && self.is_recent(ids, TOGETHER);
            if carried.is_empty() || early {
                continue;
            }
            let what = Publication {
                service: service.key,
                origin: service.origin,
                ports: carried,
                hostnames: &service.hostnames,
                ready: carries && self.is_ready(service),
                identity: gateway.tls_identity.as_deref(),
            };
            slices.extend(publish::slices(self.binding, addresses, &what));
        }
        slices
    }

    /// Who answers probes is this controller itself: that it was away a moment ago is nothing to write
    /// about. Importers see that by the Service's pods.
    fn is_ready(&self, service: &Selected<'_>) -> bool {
        !service.is_counted() || self.view.known.is_ready(service.key, service.origin)
    }

    fn overdue(&mut self, report: &Report) -> bool {
        let since = |id: &RouteId| self.view.pending_since.get(&(self.binding.name.clone(), id.clone())).copied();
        let first = report.waits.keys().map(|id| since(id).unwrap_or(self.view.now)).min();
        let due = first.map(|first| first.saturating_add(PATIENCE).unwrap_or(Timestamp::MAX));
        self.wake(due);
        due.is_some_and(|due| due <= self.view.now)
    }

    /// Whether none of the routes has been waited for as long as `limit`.
    fn is_recent<'r>(&mut self, mut ids: impl Iterator<Item = &'r RouteId>, limit: SignedDuration) -> bool {
        ids.all(|id| {
            let since = self.view.pending_since.get(&(self.binding.name.clone(), id.clone())).copied();
            let until = since.unwrap_or(self.view.now).saturating_add(limit).unwrap_or(Timestamp::MAX);
            self.wake(Some(until));
            until > self.view.now
        })
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        let later = at.filter(|at| *at > self.view.now);
        self.out.wake = self.out.wake.into_iter().chain(later).min();
    }

    /// Writes the slices; says whether some are being taken back.
    fn write_slices(
        &mut self,
        slices: &[Object],
        addresses: &[String],
        published: &[Published],
        exposed: bool,
        report: &mut Report,
    ) -> bool {
        for slice in slices {
            self.write(slice, slice.id.key.clone(), report);
        }
        // A gateway that has lost its address: what was published goes on.
        if addresses.is_empty() && !exposed {
            return false;
        }
        let wanted: BTreeSet<&Key> = slices.iter().map(|slice| &slice.id.key).collect();
        let surplus: Vec<ObjectId> = published
            .iter()
            .filter(|slice| !wanted.contains(&slice.key))
            .map(|slice| ObjectId { kind: PUBLISHED_SLICE, key: slice.key.clone() })
            .collect();
        let any = !surplus.is_empty();
        self.out.writes.extend(surplus.into_iter().filter_map(|id| self.view.deletion(id)));
        any
    }
}
