//! Host and SNI: names on listeners that the Gateway has, by HTTPRoute, GRPCRoute or TLSRoute. A
//! name that somebody else's route or listener already serves there is never taken.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    GATEWAY, GRPC_ROUTE, GatewayApi, HTTP_ROUTE, TLS_ROUTE,
    listener::{Admission, Listener, attaches, covers, listeners},
    parent_ref, status,
};
use crate::{
    api::{Reason, binding::Routing},
    core::{
        application::{is_grpc, is_http2},
        export::{
            object::{Kind, ObjectId, list},
            provider::{ExportPlan, Programmed, Rendered, Route, RouteId, Surroundings},
        },
        model::{Key, Protocol},
        select::Refusal,
    },
    gateway::object::{backend, comes_first, is_bindings, of_service, refuse, route_name},
};

/// The value of `appProtocol` by which the Gateway API knows HTTP/2 without TLS (GEP-1911).
const H2C: &str = "kubernetes.io/h2c";

/// How a route is carried.
struct Carried<'a> {
    kind: Kind,
    hostnames: Vec<&'a str>,
    /// Names of the Gateway's listeners.
    sections: BTreeSet<&'a str>,
}

impl GatewayApi {
    /// Ports of the Gateway's listeners that carry names: those that take any name first, and of
    /// these the usual one.
    pub(super) fn name_ports(&self, gateway: &Value) -> Result<Vec<u16>, Refusal> {
        let own = list(&gateway["spec"]["listeners"]).iter();
        let own = own.map(|spec| Listener { gateway: &self.gateway, set: None, spec });
        let usual = if self.routing == Routing::Sni { 443 } else { 80 };
        let mut ports: Vec<_> = own
            .filter(|listener| self.fits_routing(listener))
            .map(|l| (l.spec["hostname"].as_str().is_some_and(|h| !h.is_empty()), l.port() != usual, l.port()))
            .collect();
        ports.sort_unstable();
        let mut seen = BTreeSet::new();
        let ports: Vec<u16> = ports.into_iter().map(|(.., port)| port).filter(|port| seen.insert(*port)).collect();
        if ports.is_empty() {
            let needed = match self.routing {
                Routing::Sni => "protocol: TLS with tls: {mode: Passthrough}",
                _ => "protocol: HTTP",
            };
            let why = format!(
                "Gateway {} has no listener with {needed}, which routing: {} needs",
                self.gateway, self.routing
            );
            return Err(Refusal::new(Reason::UnsupportedValue, why));
        }
        Ok(ports)
    }

    fn fits_routing(&self, listener: &Listener<'_>) -> bool {
        match self.routing {
            Routing::Sni => listener.passes_tls_through(),
            _ => listener.protocol() == "HTTP",
        }
    }

    /// Whether a listener answers by the kind of name that is routed by, ours or not.
    fn answers(&self, listener: &Listener<'_>) -> bool {
        match self.routing {
            Routing::Sni => matches!(listener.protocol(), "TLS" | "HTTPS"),
            _ => listener.protocol() == "HTTP",
        }
    }

    /// All that should be for a plan by names.
    pub(super) fn render_names(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        let mut out = Rendered::default();
        let gateway = around.objects.get(GATEWAY, &self.gateway).unwrap_or(&Value::Null);
        let listeners = listeners(&self.gateway, gateway, around);
        for (id, route) in &plan.routes {
            match self.carried_by_name(id, route, &listeners, around) {
                Ok(Carried { kind, hostnames, sections }) => {
                    let parents: Vec<_> =
                        sections.iter().map(|section| parent_ref("Gateway", &self.gateway, section)).collect();
                    let spec = json!({"parentRefs": parents, "hostnames": hostnames, "rules": [rule(kind, id, route)]});
                    out.objects.push(of_service(plan, kind, route_name(&self.binding, id), id, route, spec));
                }
                Err(refusal) => drop(out.refused.insert(id.clone(), refusal)),
            }
        }
        out
    }

    fn carried_by_name<'a>(
        &self,
        id: &RouteId,
        route: &'a Route,
        listeners: &[Listener<'a>],
        around: &Surroundings<'_>,
    ) -> Result<Carried<'a>, Refusal> {
        let kind = self.name_kind(id, route)?;
        if !around.objects.is_served(kind) {
            let why = format!("this cluster does not serve {kind}; apply its CRD");
            return Err(refuse(Reason::PortUnsupported, id, why));
        }
        let hostnames: Vec<&str> =
            route.hostnames.iter().map(String::as_str).filter(|name| is_hostname(name)).collect();
        if hostnames.is_empty() {
            let why = format!("none of its names is one for a {}: {}", kind.kind, route.hostnames.join(", "));
            return Err(refuse(Reason::UnsupportedValue, id, why));
        }
        let mut sections = BTreeSet::new();
        for name in &hostnames {
            sections.insert(self.section(id, route, kind, name, listeners)?);
        }
        let carried = Carried { kind, hostnames, sections };
        match self.rival(id, route, &carried, listeners, around) {
            Some(refusal) => Err(refusal),
            None => Ok(carried),
        }
    }

    fn name_kind(&self, id: &RouteId, route: &Route) -> Result<Kind, Refusal> {
        if id.protocol != Protocol::Tcp {
            let why = format!("routing: {} carries TCP only", self.routing);
            return Err(refuse(Reason::PortUnsupported, id, why));
        }
        let port = &route.port;
        match self.routing {
            Routing::Sni => Ok(TLS_ROUTE),
            _ if port.app_protocol.as_deref() == Some(H2C) => Ok(HTTP_ROUTE),
            _ if is_grpc(port) && route.rewrite.is_none() => Ok(GRPC_ROUTE),
            _ if is_http2(port) => {
                let why = format!(
                    "without appProtocol: {H2C} a Gateway would speak HTTP/1.1 to it, or rewrite no Host; set that on the port"
                );
                Err(refuse(Reason::PortUnsupported, id, why))
            }
            _ => Ok(HTTP_ROUTE),
        }
    }

    /// The Gateway's listener that gets what is asked for by a name: the one whose hostname fits best.
    fn section<'a>(
        &self,
        id: &RouteId,
        route: &Route,
        kind: Kind,
        name: &str,
        listeners: &[Listener<'a>],
    ) -> Result<&'a str, Refusal> {
        let at_port = listeners.iter().filter(|l| l.port() == route.gateway_port && self.answers(l));
        let best = at_port.filter_map(|l| Some((l.fits(name)?, l))).max_by_key(|(fit, l)| (*fit, l.set.is_none()));
        match best {
            None => {
                let why = format!(
                    "no listener {} of Gateway {} takes the name {name}; leave the listener's hostname out, or change spec.export.hostnames",
                    route.gateway_port, self.gateway
                );
                Err(refuse(Reason::UnsupportedValue, id, why))
            }
            Some((_, listener)) if listener.set.is_some() || !self.fits_routing(listener) => {
                Err(refuse(Reason::NameConflict, id, format!("{listener} has the name {name}")))
            }
            Some((_, listener)) if listener.admits(kind, &id.service.namespace) == Admission::No => {
                let why = format!(
                    "{listener} takes no {} from namespace {}; widen its allowedRoutes, for example {{namespaces: {{from: All}}}}",
                    kind.kind, id.service.namespace
                );
                Err(refuse(Reason::RefNotPermitted, id, why))
            }
            Some((_, listener)) => Ok(listener.name()),
        }
    }

    /// Another route of the Gateway that serves one of the names at the same port.
    fn rival(
        &self,
        id: &RouteId,
        route: &Route,
        carried: &Carried<'_>,
        listeners: &[Listener<'_>],
        around: &Surroundings<'_>,
    ) -> Option<Refusal> {
        let kinds: &[Kind] = if self.routing == Routing::Sni { &[TLS_ROUTE] } else { &[HTTP_ROUTE, GRPC_ROUTE] };
        let key = Key::new(id.service.namespace.clone(), route_name(&self.binding, id));
        let ours = around.objects.get(carried.kind, &key);
        let at_port: Vec<_> = listeners.iter().filter(|l| l.port() == route.gateway_port && self.answers(l)).collect();
        for kind in kinds {
            let others = around.objects.all(*kind).filter(|(_, other)| !is_bindings(other, &self.binding));
            for (other_key, other) in others.filter(|(_, other)| comes_first(other, &self.binding, ours)) {
                let at = at_port.iter().filter(|l| attaches(*kind, other_key, other, l));
                let served: BTreeSet<&str> = at.flat_map(|l| names(other, l)).collect();
                let taken = carried.hostnames.iter().find(|name| served.iter().any(|other| covers(other, name)));
                if let Some(name) = taken {
                    let why = format!(
                        "the name {name} is served by {} {other_key} already; rename one of them by spec.export.hostnames",
                        kind.kind
                    );
                    return Some(refuse(Reason::NameConflict, id, why));
                }
            }
        }
        None
    }

    /// Whether the gateway carries a route by its names.
    pub(super) fn name_programmed(
        &self,
        gateway: &Value,
        id: &RouteId,
        route: &Route,
        around: &Surroundings<'_>,
    ) -> Programmed {
        let listeners = listeners(&self.gateway, gateway, around);
        let Carried { kind, sections, .. } = match self.carried_by_name(id, route, &listeners, around) {
            Ok(carried) => carried,
            Err(refusal) => return Programmed::No(refusal),
        };
        let key = Key::new(id.service.namespace.clone(), route_name(&self.binding, id));
        let Some(object) = around.objects.get(kind, &key) else {
            return Programmed::Pending(format!("{} is to be written", ObjectId { kind, key }), None);
        };
        let ours = listeners.iter().filter(|l| l.set.is_none() && sections.contains(l.name()));
        let at_listeners = ours.flat_map(|l| [status::listener(l, gateway, true), status::route(&key, object, l)]);
        status::all([status::gateway(&self.gateway, gateway)].into_iter().chain(at_listeners))
    }
}

fn rule(kind: Kind, id: &RouteId, route: &Route) -> Value {
    if kind == TLS_ROUTE {
        return json!({"backendRefs": [backend(id)]});
    }
    let rewrite = route.rewrite.iter();
    let filters: Vec<Value> =
        rewrite.map(|host| json!({"type": "URLRewrite", "urlRewrite": {"hostname": host}})).collect();
    // Empty and not left out, so that one which was there goes.
    json!({"backendRefs": [backend(id)], "filters": filters})
}

/// The names that a route serves at a listener: its own, or without any the listener's.
fn names<'a>(route: &'a Value, listener: &Listener<'a>) -> Vec<&'a str> {
    let own: Vec<&str> = list(&route["spec"]["hostnames"]).iter().filter_map(Value::as_str).collect();
    match own.is_empty() {
        true => listener.spec["hostname"].as_str().into_iter().collect(),
        false => own,
    }
}

/// Whether a name fits the schema of `hostnames`, which refuses ports and trailing dots: such forms
/// of a name are found all the same, or by no implementation.
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<std::net::IpAddr>().is_err()
}
