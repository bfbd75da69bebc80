//! Port routing: each claimed port is a listener of its own, with one TCPRoute or UDPRoute.
//!
//! Listeners come through ListenerSets of ours beside the Gateway, which is never written to; where
//! the cluster serves none, or the Gateway allows none, only TCP and UDP listeners that it has are
//! used. A listener keeps its set as long as it is wanted: a move would close its port for a while.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    GATEWAY, GROUP, GatewayApi, LISTENER_SET, TCP_ROUTE, UDP_ROUTE,
    listener::{Admission, Listener, NAMESPACE_LABEL, attaches, listeners, selects},
    status,
};
use crate::{
    api::Reason,
    core::{
        export::{
            object::{Kind, Object, ObjectId, is_terminating, list},
            provider::{ExportPlan, Programmed, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::{Key, Protocol},
        select::Refusal,
    },
    gateway::object::{backend, is_bindings, of_binding, of_service, refuse, route_name, transport},
};

/// Most listeners of a ListenerSet (`maxItems` of its schema).
const MAX_LISTENERS: usize = 64;
/// More of them than all TCP and UDP ports together can fill.
const MAX_SETS: usize = 2 * 65_536 / MAX_LISTENERS;

type Port = (u16, Protocol);

/// Where listeners come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// ListenerSets of ours.
    Sets,
    /// The Gateway's own.
    Gateway,
}

const fn route_kind(protocol: Protocol) -> Option<Kind> {
    match protocol {
        Protocol::Tcp => Some(TCP_ROUTE),
        Protocol::Udp => Some(UDP_ROUTE),
        Protocol::Sctp => None,
    }
}

fn listener_name((port, protocol): Port) -> String {
    format!("{}-{port}", transport(protocol))
}

impl GatewayApi {
    /// What to write into a Gateway that does not allow ListenerSets.
    pub(super) fn allow(&self) -> String {
        format!(
            "Gateway {} does not allow listeners from ListenerSets; write into it: spec.allowedListeners: {{namespaces: {{from: Same}}}}",
            self.gateway
        )
    }

    /// Where listeners come from.
    ///
    /// # Errors
    /// `RefNotPermitted`: from nowhere.
    pub(super) fn source(&self, gateway: &Value, around: &Surroundings<'_>) -> Result<Source, Refusal> {
        if !around.objects.is_served(LISTENER_SET) {
            return Ok(Source::Gateway);
        }
        let namespaces = &gateway["spec"]["allowedListeners"]["namespaces"];
        let allowed = match namespaces["from"].as_str().unwrap_or("None") {
            "All" | "Same" => true,
            // Where the labels of the namespace matter, the set's status will tell.
            "Selector" => selects(&namespaces["selector"], &self.gateway.namespace) != Admission::No,
            _ => false,
        };
        if allowed {
            return Ok(Source::Sets);
        }
        match self.own_ports(gateway).is_empty() {
            true => Err(Refusal::new(Reason::RefNotPermitted, self.allow())),
            false => Ok(Source::Gateway),
        }
    }

    /// The Gateway's TCP and UDP listeners within the range, by port.
    fn own_ports<'a>(&'a self, gateway: &'a Value) -> BTreeMap<Port, Listener<'a>> {
        let own = list(&gateway["spec"]["listeners"]).iter();
        let own = own.map(|spec| Listener { gateway: &self.gateway, set: None, spec });
        let usable = own.filter(|l| matches!(l.protocol(), "TCP" | "UDP") && self.in_range(l.port()));
        usable.map(|listener| ((listener.port(), listener.transport()), listener)).collect()
    }

    fn in_range(&self, port: u16) -> bool {
        (self.range.from..=self.range.to).contains(&port)
    }

    /// Which ports may be given to routes.
    pub(super) fn supply(&self, object: &Value, around: &Surroundings<'_>) -> Result<Supply, Refusal> {
        let served = |protocol: &Protocol| route_kind(*protocol).is_some_and(|kind| around.objects.is_served(kind));
        let protocols: BTreeSet<Protocol> = [Protocol::Tcp, Protocol::Udp].into_iter().filter(served).collect();
        if protocols.is_empty() {
            let why = "this cluster serves neither TCPRoute nor UDPRoute; apply their CRDs (Gateway API 1.6, or the experimental channel of earlier releases)";
            return Err(Refusal::new(Reason::ProviderNotInstalled, why));
        }
        let mut supply = Supply { protocols, ..Supply::default() };
        let source = self.source(object, around)?;
        for listener in listeners(&self.gateway, object, around) {
            match listener.set {
                Some((_, set)) if is_bindings(set, &self.binding) => {}
                None if source == Source::Gateway && matches!(listener.protocol(), "TCP" | "UDP") => {}
                _ => {
                    for protocol in listener.transports() {
                        supply.taken.insert((protocol, listener.port()), listener.to_string());
                    }
                }
            }
        }
        if source == Source::Gateway {
            self.pool(object, around, &mut supply);
        }
        if self.is_of_envoy_gateway(object, around) {
            for port in ENVOY_GATEWAYS_OWN.into_iter().flatten().filter(|port| self.in_range(*port)) {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    supply.taken.insert((protocol, port), "Envoy Gateway uses it inside its pods".to_owned());
                }
            }
        }
        Ok(supply)
    }

    /// Only listeners that are there, that take routes of an exported namespace and have none yet.
    fn pool(&self, object: &Value, around: &Surroundings<'_>, supply: &mut Supply) {
        let mut pool = BTreeSet::new();
        for ((port, protocol), listener) in self.own_ports(object) {
            let Some(kind) = route_kind(protocol) else { continue };
            // For all of them (`*`) one that takes a single namespace is left out.
            if !self.namespaces.iter().any(|ns| listener.admits(kind, ns) != Admission::No) {
                continue;
            }
            pool.insert((protocol, port));
            if let Some(other) = self.foreign(kind, &listener, around) {
                supply.taken.insert((protocol, port), format!("{} {other}", kind.kind));
            }
        }
        supply.pool = Some(pool);
        supply.hint = format!(
            "add listeners of protocol TCP (or UDP) from {} to {} to Gateway {}, with allowedRoutes: {{namespaces: {{from: All}}}}; where the cluster serves ListenerSets, spec.allowedListeners: {{namespaces: {{from: Same}}}} is enough",
            self.range.from, self.range.to, self.gateway
        );
    }

    /// A route that is not of this binding, on a listener.
    fn foreign<'a>(&self, kind: Kind, listener: &Listener<'_>, around: &Surroundings<'a>) -> Option<&'a Key> {
        let mut routes = around.objects.all(kind);
        routes
            .find(|(key, route)| !is_bindings(route, &self.binding) && attaches(kind, key, route, listener))
            .map(|(key, _)| key)
    }

    /// The ListenerSet of each port: the one that it is in, else the first with room.
    fn places(&self, wanted: &BTreeSet<Port>, around: &Surroundings<'_>) -> BTreeMap<Port, Key> {
        let name = |n: usize| Key::new(self.gateway.namespace.clone(), format!("heliostat-{}-{n}", self.binding));
        let mut sets: Vec<Vec<Port>> = Vec::new();
        let mut places = BTreeMap::new();
        let ours = |key: &Key| {
            let there = around.objects.get(LISTENER_SET, key);
            there.is_none_or(|set| is_bindings(set, &self.binding) && !is_terminating(set))
        };
        let names: BTreeMap<String, Port> = wanted.iter().map(|port| (listener_name(*port), *port)).collect();
        let all = around.objects.all(LISTENER_SET).filter(|(_, set)| is_bindings(set, &self.binding));
        let last = all.filter_map(|(key, _)| self.number(key)).max();
        for n in 0..last.map_or(0, |last| last + 1) {
            let there = around.objects.get(LISTENER_SET, &name(n)).filter(|_| ours(&name(n)));
            let there = list(there.map_or(&Value::Null, |set| &set["spec"]["listeners"]));
            let kept = there.iter().filter_map(|l| names.get(l["name"].as_str()?)).copied();
            let kept: Vec<Port> = kept.filter(|port| !places.contains_key(port)).take(MAX_LISTENERS).collect();
            places.extend(kept.iter().map(|port| (*port, name(n))));
            sets.push(kept);
        }
        for port in wanted {
            if places.contains_key(port) {
                continue;
            }
            let room = |n: &usize| sets.get(*n).is_none_or(|set| set.len() < MAX_LISTENERS) && ours(&name(*n));
            let n = (0..).find(room).unwrap_or_default();
            sets.resize(sets.len().max(n + 1), Vec::new());
            sets[n].push(*port);
            places.insert(*port, name(n));
        }
        places
    }

    /// The number of one of our ListenerSets, by its name.
    fn number(&self, key: &Key) -> Option<usize> {
        let number = key.name.strip_prefix(&format!("heliostat-{}-", self.binding))?;
        let number = number.parse().ok().filter(|n| *n < MAX_SETS)?;
        (key.namespace == self.gateway.namespace).then_some(number)
    }

    fn listener_spec(port: Port, kind: Kind, namespace: &str) -> Value {
        json!({
            "name": listener_name(port), "port": port.0, "protocol": port.1.as_str(),
            "allowedRoutes": {
                "namespaces": {"from": "Selector", "selector": {"matchLabels": {NAMESPACE_LABEL: namespace}}},
                "kinds": [{"group": GROUP, "kind": kind.kind}],
            },
        })
    }

    /// All that should be for a plan by ports.
    pub(super) fn render_ports(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        let mut out = Rendered::default();
        let object = around.objects.get(GATEWAY, &self.gateway).unwrap_or(&Value::Null);
        let source = self.source(object, around).unwrap_or(Source::Sets);
        let mut wanted: BTreeMap<Port, (Kind, &RouteId, &Route)> = BTreeMap::new();
        for (id, route) in &plan.routes {
            match self.carried(id, route, object, source, around) {
                Ok(kind) => drop(wanted.insert((route.gateway_port, id.protocol), (kind, id, route))),
                Err(refusal) => drop(out.refused.insert(id.clone(), refusal)),
            }
        }
        let places = match source {
            Source::Sets => self.places(&wanted.keys().copied().collect(), around),
            Source::Gateway => BTreeMap::new(),
        };
        let own = self.own_ports(object);
        let mut sets: BTreeMap<&Key, Vec<Value>> = BTreeMap::new();
        for (port, (kind, id, route)) in wanted {
            let (parent, key, section) = match (places.get(&port), own.get(&port)) {
                (Some(set), _) => {
                    sets.entry(set).or_default().push(Self::listener_spec(port, kind, &id.service.namespace));
                    ("ListenerSet", set, listener_name(port))
                }
                (None, Some(listener)) => ("Gateway", &self.gateway, listener.name().to_owned()),
                (None, None) => continue,
            };
            let spec = json!({
                "parentRefs": [super::parent_ref(parent, key, &section)],
                "rules": [{"backendRefs": [backend(id)]}],
            });
            out.objects.push(of_service(plan, kind, route_name(&self.binding, id), id, route, spec));
        }
        for (key, listeners) in sets {
            let parent = json!({"group": GROUP, "kind": "Gateway", "name": self.gateway.name});
            let spec = json!({"parentRef": parent, "listeners": listeners});
            out.objects.push(of_binding(plan, Object::with_spec(LISTENER_SET, key.clone(), spec)));
        }
        out
    }

    /// The kind of route by which a route is carried, if it can be.
    fn carried(
        &self,
        id: &RouteId,
        route: &Route,
        object: &Value,
        source: Source,
        around: &Surroundings<'_>,
    ) -> Result<Kind, Refusal> {
        let Some(kind) = route_kind(id.protocol) else {
            return Err(refuse(Reason::PortUnsupported, id, "the Gateway API carries TCP and UDP only"));
        };
        if !around.objects.is_served(kind) {
            let why = format!("this cluster does not serve {kind}; apply its CRD");
            return Err(refuse(Reason::PortUnsupported, id, why));
        }
        if source == Source::Sets {
            return Ok(kind);
        }
        let port = (route.gateway_port, id.protocol);
        let Some(listener) = self.own_ports(object).get(&port).copied() else {
            let why = format!("Gateway {} has no {} listener {}", self.gateway, id.protocol.as_str(), port.0);
            return Err(refuse(Reason::PortsExhausted, id, why));
        };
        if listener.admits(kind, &id.service.namespace) == Admission::No {
            let why = format!(
                "{listener} takes no {} from namespace {}; widen its allowedRoutes",
                kind.kind, id.service.namespace
            );
            return Err(refuse(Reason::RefNotPermitted, id, why));
        }
        match self.foreign(kind, &listener, around) {
            Some(other) => {
                let why = format!("{} {other} is on {listener} already, which carries one route only", kind.kind);
                Err(refuse(Reason::NameConflict, id, why))
            }
            None => Ok(kind),
        }
    }

    /// Whether the gateway carries a route by its port.
    pub(super) fn port_programmed(
        &self,
        gateway: &Value,
        id: &RouteId,
        route: &Route,
        around: &Surroundings<'_>,
    ) -> Programmed {
        let Some(kind) = route_kind(id.protocol) else {
            return Programmed::Pending("nothing carries it".to_owned(), None);
        };
        let port = (route.gateway_port, id.protocol);
        let all = listeners(&self.gateway, gateway, around);
        let ours = |l: &&Listener<'_>| match l.set {
            Some((_, set)) => {
                is_bindings(set, &self.binding) && !is_terminating(set) && l.name() == listener_name(port)
            }
            None => matches!(l.protocol(), "TCP" | "UDP") && (l.port(), l.transport()) == port,
        };
        let key = Key::new(id.service.namespace.clone(), route_name(&self.binding, id));
        let Some(object) = around.objects.get(kind, &key) else {
            return Programmed::Pending(format!("{} is to be written", ObjectId { kind, key }), None);
        };
        let Some(listener) = all.iter().filter(ours).find(|l| attaches(kind, &key, object, l)) else {
            return Programmed::Pending(format!("the listener of port {} is to be written", port.0), None);
        };
        if let Some(other) = self.foreign(kind, listener, around) {
            let why = format!("{} {other} is on {listener} too, which carries one route only; delete it", kind.kind);
            return Programmed::No(refuse(Reason::NameConflict, id, why));
        }
        let set = listener.set.map(|(key, set)| status::listener_set(key, set, &self.allow()));
        let parent = listener.set.map_or(gateway, |(_, set)| set);
        status::all(
            [status::gateway(&self.gateway, gateway)]
                .into_iter()
                .chain(set)
                .chain([status::listener(listener, parent, false), status::route(&key, object, listener)]),
        )
    }
}

/// Ports that Envoy Gateway uses inside its pods: those of listeners below 1024 are shifted by
/// 10000, so that a listener 10080 would silently take over what arrives at 80; and its Envoys' own
/// (admin, metrics, readiness and shutdown).
const ENVOY_GATEWAYS_OWN: [std::ops::RangeInclusive<u16>; 2] = [10_001..=11_023, 19_000..=19_010];
