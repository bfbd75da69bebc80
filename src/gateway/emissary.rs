//! Emissary-ingress, by its own kinds: TCPMapping (Port) and Mapping (Host). It carries no UDP, and
//! passes no TLS through. Never makes a Host: while there is none, Emissary answers to every name, and the
//! first one would take that from its users. Nor a Listener, which is where its owner wants names.
//!
//! None of these kinds has a status that tells anything. It is taken to be of `ambassador_id` "default"
//! and to read all namespaces. It could not be run; this is by the sources and the schema of 3.10.0.
//! Not seen: names that it serves for an Ingress or by `host_regex`.

mod hostname;

use serde_json::{Value, json};

use hostname::{Theirs, lets_through};

use super::{
    front::Front,
    host::{hosts, usual},
    object::{comes_first, is_bindings, is_heliostats, of_service, refuse, refuse_ref, route_name},
    opening::{openings, supply},
    unconfirmed::{Unconfirmed, each, served},
};
use crate::{
    api::{
        Reason,
        binding::{Export, Routing, ServiceProvider},
    },
    core::{
        application,
        export::{
            object::{Kind, Object, kind, list},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::{Key, OriginPort, OriginType, Protocol},
        name,
        select::Refusal,
    },
};

const GROUP: &str = "getambassador.io";
const VERSIONS: &[&str] = &["v3alpha1"];
const TCP_MAPPING: Kind = kind(GROUP, "TCPMapping", "tcpmappings", VERSIONS);
const MAPPING: Kind = kind(GROUP, "Mapping", "mappings", VERSIONS);
const HOST: Kind = kind(GROUP, "Host", "hosts", VERSIONS);
const LISTENER: Kind = kind(GROUP, "Listener", "listeners", VERSIONS);
/// The kinds that it makes or reads.
pub(super) const KINDS: [Kind; 4] = [TCP_MAPPING, MAPPING, HOST, LISTENER];

/// The usual ports of plaintext HTTP and of TLS.
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// What Emissary itself listens on in its pods: administration, readiness, snapshots, diagnostics.
const OWN_PORTS: [u16; 6] = [8001, 8003, 8004, 8005, 8006, 8877];
/// Before the Mappings that hold for every name, which go by the length of their prefix otherwise.
const PRECEDENCE: u8 = 1;
/// Hex digits of the hashes that keep the Mappings of a route apart.
const HASH_DIGITS: usize = 8;

/// See the file's description.
#[derive(Debug)]
pub(super) struct Emissary {
    binding: String,
    routing: Routing,
    gateway: Unconfirmed,
}

impl Emissary {
    pub(super) fn new(binding: &str, routing: Routing, export: &Export, provider: &ServiceProvider) -> Self {
        let gateway = Unconfirmed::new("emissary", &provider.service_ref, export);
        Self { binding: binding.to_owned(), routing, gateway }
    }

    /// Host: outside ports that lead to a Listener of HTTP. The usual one comes first.
    fn listeners(&self, front: &Front<'_>, around: &Surroundings<'_>) -> Result<Vec<u16>, Refusal> {
        let http: Vec<u64> = around
            .objects
            .all(LISTENER)
            .filter(|(_, listener)| takes_plain_http(listener))
            .filter_map(|(_, listener)| listener["spec"]["port"].as_u64())
            .collect();
        let fits = |port: &OriginPort| {
            let leads = port.pod_port.map_or(!http.is_empty(), |inside| http.contains(&u64::from(inside)));
            port.protocol == Protocol::Tcp && port.port != TLS_PORT && leads
        };
        let mut fit: Vec<&(&OriginPort, u16)> = front.ports.iter().filter(|(port, _)| fits(port)).collect();
        fit.sort_by_key(|(port, _)| port.port != HTTP_PORT);
        if fit.is_empty() {
            return Err(refuse_ref(format!(
                "no port of Service {} leads to a {LISTENER} that takes HTTP; make one, for example with port: 8080, protocol: HTTP and securityModel: INSECURE behind the Service's port {HTTP_PORT}",
                self.gateway.service
            )));
        }
        Ok(fit.into_iter().map(|(_, outside)| *outside).collect())
    }

    /// What a route is made of.
    fn objects(
        &self,
        plan: &ExportPlan,
        id: &RouteId,
        route: &Route,
        around: &Surroundings<'_>,
    ) -> Result<Vec<Object>, Refusal> {
        if id.protocol != Protocol::Tcp {
            return Err(refuse(Reason::PortUnsupported, id, "Emissary carries TCP only"));
        }
        let front = self.gateway.front(around)?;
        let service = upstream(id, route, around)?;
        match self.routing {
            Routing::Port => {
                let Some(at) = openings(&front).find(|opening| opening.outside == route.gateway_port) else {
                    let why = format!(
                        "Service {} has no TCP port {} with a number as its targetPort",
                        self.gateway.service, route.gateway_port
                    );
                    return Err(refuse(Reason::PortUnsupported, id, why));
                };
                // Whoever adds a host has the TLS of all that comes taken off.
                let spec = json!({"port": at.inside, "service": service, "host": null, "address": null, "tls": null});
                Ok(vec![of_service(plan, TCP_MAPPING, route_name(&plan.binding, id), id, route, spec)])
            }
            Routing::Host => {
                let mapping = |host: String| {
                    let spec = mapping(&host, &service, route);
                    of_service(plan, MAPPING, mapping_name(&plan.binding, id, &host), id, route, spec)
                };
                Ok(hosts(plan, id, route).into_iter().map(mapping).collect())
            }
            Routing::Sni | Routing::Linkerd => Err(self.unsupported()),
        }
    }

    fn unsupported(&self) -> Refusal {
        let why = format!(
            "Emissary does not pass TLS through, so that it cannot carry routing: {}; use routing: Port or Host, or another provider",
            self.routing
        );
        refuse_ref(why)
    }

    /// Whether a route may have its names.
    fn check(
        &self,
        id: &RouteId,
        route: &Route,
        plan: &ExportPlan,
        around: &Surroundings<'_>,
        theirs: &Theirs<'_>,
    ) -> Result<(), Refusal> {
        if route.hostnames.is_empty() {
            let why = "every name that the gateway could answer to for it belongs to another Service";
            return Err(refuse(Reason::NameConflict, id, why));
        }
        for host in hosts(plan, id, route) {
            let key = Key::new(id.service.namespace.clone(), mapping_name(&self.binding, id, &host));
            let ours = around.objects.get(MAPPING, &key).filter(|object| is_bindings(object, &self.binding));
            let mut holders = theirs.of(&host).filter(|(_, object)| comes_first(object, &self.binding, ours));
            if let Some((holder, _)) = holders.next() {
                let why = format!(
                    "{MAPPING} {holder} answers to {host} already and goes on doing so; set spec.export.hostnames to other names, or remove it"
                );
                return Err(refuse(Reason::NameConflict, id, why));
            }
        }
        for name in &route.hostnames {
            let name = usual(name, id.port);
            lets_through(&name, plan, around).map_err(|why| refuse(Reason::UnsupportedValue, id, why))?;
        }
        Ok(())
    }
}

/// Who uses a port of the pods, in words; ports of TCPMappings of ours are kept apart by their claims.
/// Emissary splits what comes between two TCPMappings of one port, and asks them before its Hosts.
fn used(inside: u16, around: &Surroundings<'_>) -> Option<String> {
    if OWN_PORTS.contains(&inside) {
        return Some("Emissary itself listens there".to_owned());
    }
    let is_on = |object: &Value| object["spec"]["port"].as_u64() == Some(u64::from(inside));
    let mut mappings = around.objects.all(TCP_MAPPING).filter(|(_, object)| is_on(object) && !is_heliostats(object));
    let mut listeners = around.objects.all(LISTENER).filter(|(_, object)| is_on(object) && !is_plain_tcp(object));
    let (kind, (key, _)) =
        mappings.next().map(|found| (TCP_MAPPING, found)).or_else(|| Some((LISTENER, listeners.next()?)))?;
    Some(format!("{kind} {key} uses it"))
}

/// The layers of a Listener's protocol.
fn layers(listener: &Value) -> Vec<&str> {
    let spec = &listener["spec"];
    let stack = list(&spec["protocolStack"]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
    match (stack.as_slice(), spec["protocol"].as_str().unwrap_or_default()) {
        ([], "HTTP" | "HTTPPROXY") => vec!["HTTP", "TCP"],
        ([], "HTTPS" | "HTTPSPROXY") => vec!["TLS", "HTTP", "TCP"],
        ([], protocol) => vec![protocol],
        (stack, _) => stack.to_vec(),
    }
}

/// Also one of HTTPS takes requests without TLS, unless it is told that all are secure.
fn takes_plain_http(listener: &Value) -> bool {
    let layers = layers(listener);
    layers.contains(&"HTTP") && !layers.contains(&"UDP") && listener["spec"]["securityModel"] != "SECURE"
}

fn is_plain_tcp(listener: &Value) -> bool {
    layers(listener) == ["TCP"]
}

/// Where Emissary reaches one port of the exported Service, through cluster DNS. That has the pods themselves for a
/// headless Service.
fn upstream(id: &RouteId, route: &Route, around: &Surroundings<'_>) -> Result<String, Refusal> {
    let is_headless = around.services.get(&id.service).is_some_and(|service| service.kind == OriginType::Headless);
    let port = match (is_headless, route.port.pod_port) {
        (false, _) => id.port,
        (true, Some(port)) => port,
        (true, None) => {
            let why =
                "Emissary reaches the pods of a headless Service by number, and its targetPort is a name; use a number";
            return Err(refuse(Reason::PortUnsupported, id, why));
        }
    };
    let Key { namespace, name } = &id.service;
    Ok(format!("{name}.{namespace}.svc.{}:{port}", around.cluster_domain))
}

/// One for each name, as a Mapping takes one, or a slow expression.
fn mapping_name(binding: &str, id: &RouteId, host: &str) -> String {
    format!("{}-{}", route_name(binding, id), name::hash(&[host], HASH_DIGITS))
}

fn mapping(host: &str, service: &str, route: &Route) -> Value {
    let is_http2 = application::is_http2(&route.port);
    json!({
        "hostname": host,
        "prefix": "/",
        "service": service,
        "precedence": PRECEDENCE,
        // Otherwise every path is written anew, and a request is given up after 3 s.
        "rewrite": "",
        "timeout_ms": 0,
        "grpc": is_http2,
        "allow_upgrade": if is_http2 { json!([]) } else { json!(["websocket"]) },
        "host_rewrite": route.rewrite,
        "host": null,
    })
}

impl Provider for Emissary {
    fn kinds(&self) -> Vec<Kind> {
        KINDS.to_vec()
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let (needed, by_name) = match self.routing {
            Routing::Port => (&[TCP_MAPPING, LISTENER][..], false),
            Routing::Host => (&[MAPPING, HOST, LISTENER][..], true),
            Routing::Sni | Routing::Linkerd => return Err(self.unsupported()),
        };
        served(needed, "Emissary-ingress", around)?;
        let front = self.gateway.front(around)?;
        let (ports, listeners) = match by_name {
            true => (Supply::default(), self.listeners(&front, around)?),
            false => (supply(&self.gateway.service, &front, |inside| used(inside, around)), Vec::new()),
        };
        Ok(self.gateway.reading(front, ports, listeners))
    }

    fn render(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        let theirs = Theirs::read(&self.binding, around);
        each(plan, |id, route| {
            if self.routing == Routing::Host {
                self.check(id, route, plan, around, &theirs)?;
            }
            self.objects(plan, id, route, around)
        })
    }

    fn programmed(&self, plan: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let Some(route) = plan.routes.get(id) else { return Programmed::Pending("it is not planned".into(), None) };
        match self.objects(plan, id, route, around) {
            Ok(objects) => self.gateway.settled(&objects, around),
            Err(refusal) => Programmed::No(refusal),
        }
    }
}

#[cfg(test)]
mod tests;
