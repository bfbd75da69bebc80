//! Has the gateway addresses in use probed, and takes over what the prober says of them (design:
//! sections 5 and 8). What is known is kept by [`super::reach`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    engine::Engine,
    io::{About, Event, Output},
    link::Link,
    model::{AddressType, Key, Protocol, RemoteSlice, SliceRole},
    reach::{Ask, Known, MAX_PROBED, ProbeTask, Reach, Target, Verdict},
    resolve::Decision,
    way,
};
use crate::api::{Reason, binding::Routing, names::CONTRACT_V1};

impl Engine {
    /// Remembers by which addresses a mirror is fed, and what it shows of them.
    pub(super) fn note_gateways(&mut self, mirror: &Key, decision: &Decision) {
        match &decision.waits {
            Some(link) => self.reach.waits(mirror, link),
            None => self.reach.feeds(mirror, &decision.gateways),
        }
        decision.doubted.iter().for_each(|target| self.reach.doubt(target));
    }

    /// Asks for probes of the addresses in use, if that is something else than before.
    pub(super) fn ask_probes(&mut self, out: &mut Vec<Output>) {
        let changed = self.reach.changed();
        let (mut news, mut freed) = (false, BTreeSet::new());
        for name in &changed {
            let tasks = self.world.links.get(name).map(|link| self.probes_of(name, link)).unwrap_or_default();
            if let Some(down) = self.reach.ask(name, tasks) {
                news = true;
                freed.extend(down.iter().flat_map(|target| self.reach.fed_by(target)).cloned());
            }
            // What an earlier process said holds until it is seen what is in use.
            let listed = self.world.links.get(name).is_some_and(|link| link.remote.listed);
            if listed && self.backlog().0 == 0 && !self.reach.is_waiting(name) {
                freed.extend(self.reach.forget_unasked(name).iter().flat_map(|t| self.reach.fed_by(t)).cloned());
            }
        }
        if news {
            out.push(Output::Probe(self.reach.asked().clone()));
        }
        self.touch_reachable(&changed);
        if !freed.is_empty() {
            freed.into_iter().for_each(|mirror| self.touch(mirror));
            self.dispatch(out);
        }
    }

    /// What of a link is to be probed: the addresses that its mirrors use. Before its exporter has been
    /// listed, and while nothing is decided for it, these are none.
    fn probes_of(&self, name: &str, link: &Link) -> BTreeMap<Target, ProbeTask> {
        let Some(terms) = link.checked.as_ref().ok().and_then(|checked| checked.probe) else {
            return BTreeMap::new();
        };
        let task = |target: &Target| Some((target.clone(), ProbeTask { ask: self.asked(link, target)?, terms }));
        self.reach.of_link(name).filter_map(task).take(MAX_PROBED).collect()
    }

    fn asked(&self, link: &Link, target: &Target) -> Option<Ask> {
        let uid = link.expected_uid()?;
        let published = |service| link.remote.slices_of(service).find_map(|(_, slice)| self.through(slice, target));
        let mut ways =
            self.reach.services(&target.link).filter_map(|service| Some((service, published(service)?))).peekable();
        let meanwhile = ways.peek().is_some();
        // While nobody is there to answer, nothing follows from silence.
        let answers = |service: &Key| {
            link.remote.services.get(service).is_some_and(|origin| link.remote.is_ready(service, origin))
        };
        match ways.find(|(service, _)| answers(service)) {
            Some((_, (port, host))) => Some(Ask::ClusterUid { port, host, uid: uid.to_owned() }),
            None => self.reach.lowest_port(target).map(|port| Ask::Connection { port, meanwhile }),
        }
    }

    /// The way to the probe Service through an address: the gateway's port, and the name by which the
    /// gateway knows it.
    fn through(&self, slice: &RemoteSlice, target: &Target) -> Option<(u16, Option<String>)> {
        let SliceRole::Published(published) = &slice.role else { return None };
        if published.binding != target.binding || published.contract != CONTRACT_V1 {
            return None;
        }
        let names = published.hostnames.iter().filter_map(|name| way::hostname(name));
        let host = match Routing::parse(&published.routing)? {
            Routing::Port => None,
            // What every gateway takes for a name: the longest is a whole one.
            Routing::Host => Some(names.max_by_key(String::len)?),
            Routing::Sni | Routing::Linkerd => return None,
        };
        let here = |text: &str| match slice.address_type {
            AddressType::Ip(_) => text == target.address.to_string(),
            AddressType::Fqdn => self.resolves_to(text, target.address),
        };
        let leads = |e: &super::model::RemoteEndpoint| {
            e.readiness.ready && e.address.as_ref().is_some_and(|address| here(&address.as_text()))
        };
        if !slice.endpoints.iter().any(leads) {
            return None;
        }
        let tcp = slice.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        tcp.min_by_key(|port| (port.name != "http", port.port)).map(|port| (port.port, host))
    }

    fn resolves_to(&self, name: &str, address: IpAddr) -> bool {
        let known = way::hostname(name).and_then(|name| self.world.hosts.get(&name));
        known.is_some_and(|host| host.addresses.contains(&address))
    }

    /// The prober's word on an address.
    pub(super) fn on_probed(&mut self, target: &Target, verdict: Verdict) {
        let withdrawn = |reach: &Reach| (reach.is_down(target), reach.is_withdrawn(target));
        let (was, was_withdrawn) = (self.reach.known(target).reachable(), withdrawn(&self.reach));
        if !self.reach.hear(target, verdict) {
            return;
        }
        if withdrawn(&self.reach) != was_withdrawn {
            let mirrors: Vec<Key> = self.reach.fed_by(target).cloned().collect();
            mirrors.into_iter().for_each(|mirror| self.touch(mirror));
        }
        let is = self.reach.known(target).reachable();
        if is != was && (is, was) != (Some(true), None) {
            self.tell_reachable(target);
        }
        // One word may show of all others whether it is the prober that is cut off.
        self.touch_reachable(&self.reach.links());
    }

    fn tell_reachable(&mut self, target: &Target) {
        let Some(link) = self.world.links.get(&target.link) else { return };
        let what = format!("gateway address {} of binding {}", target.address, target.binding);
        let (reason, note) = match self.reach.known(target) {
            Known::Said(Verdict::Unreachable { why, .. }) => (Reason::Unreachable, format!("{what}: {why}")),
            Known::Said(Verdict::Reachable) => (Reason::Reachable, format!("{what} answers again")),
            // Of what nobody knows nothing is told.
            _ => return,
        };
        let about = About::Link(target.link.clone(), link.uid().to_owned());
        let warning = reason == Reason::Unreachable;
        self.tell(Event { about, warning, reason: reason.as_str(), action: "Probing", note });
    }

    /// Looks again at what is said of these links' gateways.
    fn touch_reachable(&mut self, links: &BTreeSet<String>) {
        links.iter().for_each(|link| self.status.touch_link(link));
        for (name, binding) in &self.world.bindings {
            if binding.spec.import.as_ref().is_some_and(|import| links.contains(&import.link_ref.name)) {
                self.status.touch_binding(name);
            }
        }
    }
}
