//! Gloo (Gloo Edge, Gloo Gateway 1.x), by its own kinds: a Gateway with one TCP host a route (Port), a
//! VirtualService a route (Host), and an Upstream for what either leads to. It carries no UDP, and no SNI
//! here: its Gateways share no port, so that TLS would need one of its own.
//!
//! It could not be run, nor could its CRDs be had. What is rendered was transcribed from its documentation,
//! github.com/solo-io/gloo at commit 0037423 (1.x): in docs/content/reference/api gateway.proto.sk.md,
//! http_gateway.proto.sk.md, virtual_service.proto.sk.md, proxy.proto.sk.md, route_options.proto.sk.md,
//! upstream.proto.sk.md, kubernetes.proto.sk.md and status.proto.sk.md; the guides "TCP Proxy", "HTTP2"
//! and "Kubernetes Services". tests/gloo-v1.schema.yaml has the fields in use as these say them, and each
//! rendered object is held to it.
//!
//! Its status says what was validated and not what Envoy does, and not of which generation; so only a
//! rejection is believed. It is taken to read VirtualServices and Upstreams of all namespaces.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    front::Front,
    host::{fits, hosts},
    object::{comes_first, is_bindings, is_heliostats, of_binding, of_service, refuse, refuse_ref, route_name},
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
            object::{Kind, Object, ObjectId, kind, list},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::{Key, Map, OriginPort, Protocol},
        select::Refusal,
    },
};

const GATEWAY: Kind = kind("gateway.solo.io", "Gateway", "gateways", &["v1"]);
const VIRTUAL_SERVICE: Kind = kind("gateway.solo.io", "VirtualService", "virtualservices", &["v1"]);
/// Gloo makes one of its own for each port of each Service; those are not followed.
const UPSTREAM: Kind = Kind { ours_only: true, ..kind("gloo.solo.io", "Upstream", "upstreams", &["v1"]) };
/// The kinds that it makes or reads.
pub(super) const KINDS: [Kind; 3] = [GATEWAY, VIRTUAL_SERVICE, UPSTREAM];

/// The usual ports of plaintext HTTP and of TLS.
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// What Envoy itself listens on in Gloo's pods: metrics and administration.
const OWN_PORTS: [u16; 2] = [8081, 19000];
/// Label of the Service that Gloo's chart makes: which proxy its pods are.
const PROXY_LABEL: &str = "gateway-proxy-id";
/// The proxy of Gateways that name none.
const DEFAULT_PROXY: &str = "gateway-proxy";
/// `Rejected`, as it stands in a status by name or number.
const REJECTED: (&str, u64) = ("Rejected", 2);

/// See the file's description.
#[derive(Debug)]
pub(super) struct Gloo {
    binding: String,
    routing: Routing,
    gateway: Unconfirmed,
}

impl Gloo {
    pub(super) fn new(binding: &str, routing: Routing, export: &Export, provider: &ServiceProvider) -> Self {
        let gateway = Unconfirmed::new("gloo", &provider.service_ref, export);
        Self { binding: binding.to_owned(), routing, gateway }
    }

    /// The proxy behind the Service.
    fn proxy<'a>(&'a self, front: &Front<'a>) -> &'a str {
        front.service.labels.get(PROXY_LABEL).map_or(self.gateway.service.name.as_str(), |name| name.as_str())
    }

    /// Gateways of the proxy, whoever made them, that listen on a port of its pods.
    fn listening<'a>(
        proxy: &'a str,
        inside: u16,
        around: &Surroundings<'a>,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        let is_there = move |gateway: &Value| gateway["spec"]["bindPort"].as_u64() == Some(u64::from(inside));
        around.objects.all(GATEWAY).filter(move |(_, gateway)| is_there(gateway) && is_of(gateway, proxy))
    }

    /// Port: which outside ports may be given to routes. Ports of Gateways of ours are kept apart by their
    /// claims; two Gateways of a proxy on one port are an error to Gloo.
    fn supply(&self, front: &Front<'_>, around: &Surroundings<'_>) -> Supply {
        let proxy = self.proxy(front);
        supply(&self.gateway.service, front, |inside| {
            if OWN_PORTS.contains(&inside) {
                return Some("Envoy itself listens there".to_owned());
            }
            let mut theirs = Self::listening(proxy, inside, around).filter(|(_, gateway)| !is_heliostats(gateway));
            theirs.next().map(|(key, _)| format!("{GATEWAY} {key} listens there"))
        })
    }

    /// Host: outside ports that lead to a Gateway of HTTP which takes VirtualServices of ours. The usual one
    /// comes first.
    fn listeners(&self, front: &Front<'_>, around: &Surroundings<'_>) -> Result<Vec<u16>, Refusal> {
        let proxy = self.proxy(front);
        let labels = crate::core::export::provider::labels(&self.binding);
        let takes = |inside| Self::listening(proxy, inside, around).any(|(_, gateway)| selects(gateway, &labels));
        let any = || around.objects.all(GATEWAY).any(|(_, g)| is_of(g, proxy) && selects(g, &labels));
        let fits = |port: &OriginPort| {
            port.protocol == Protocol::Tcp && port.port != TLS_PORT && port.pod_port.map_or_else(any, takes)
        };
        let mut fit: Vec<&(&OriginPort, u16)> = front.ports.iter().filter(|(port, _)| fits(port)).collect();
        fit.sort_by_key(|(port, _)| port.port != HTTP_PORT);
        if fit.is_empty() {
            return Err(refuse_ref(format!(
                "no port of Service {} leads to a {GATEWAY} of proxy {proxy} that has httpGateway, is without ssl and takes any VirtualService",
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
            return Err(refuse(Reason::PortUnsupported, id, "Gloo carries TCP only"));
        }
        let front = self.gateway.front(around)?;
        let upstream = upstream(plan, id, route);
        let reference = json!({"name": upstream.id.key.name, "namespace": upstream.id.key.namespace});
        let object = match self.routing {
            Routing::Port => self.tcp_gateway(plan, id, route, &front, &reference)?,
            Routing::Host => virtual_service(plan, id, route, &reference),
            Routing::Sni | Routing::Linkerd => return Err(self.unsupported()),
        };
        Ok(vec![upstream, object])
    }

    /// Beside the gateway's Service, as Gloo reads Gateways from there alone; so it goes with the binding.
    fn tcp_gateway(
        &self,
        plan: &ExportPlan,
        id: &RouteId,
        route: &Route,
        front: &Front<'_>,
        upstream: &Value,
    ) -> Result<Object, Refusal> {
        let service = &self.gateway.service;
        let Some(at) = openings(front).find(|opening| opening.outside == route.gateway_port) else {
            let why =
                format!("Service {service} has no TCP port {} with a number as its targetPort", route.gateway_port);
            return Err(refuse(Reason::PortUnsupported, id, why));
        };
        let name = route_name(&plan.binding, id);
        let host = json!({"name": name, "destination": {"single": {"upstream": upstream}}, "sslConfig": null});
        let spec = json!({
            "bindAddress": "::",
            "bindPort": at.inside,
            "proxyNames": [self.proxy(front)],
            "ssl": false,
            "useProxyProto": false,
            "tcpGateway": {"tcpHosts": [host]},
            "httpGateway": null,
            "hybridGateway": null,
        });
        let key = Key::new(service.namespace.clone(), name);
        Ok(of_binding(plan, Object::with_spec(GATEWAY, key, spec)))
    }

    fn unsupported(&self) -> Refusal {
        let why =
            format!("Heliostat programs Gloo by routing: Port and Host, not by {}; use one of these", self.routing);
        refuse_ref(why)
    }

    /// Whether a route may have its names, and is taken by the gateway that it comes to.
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
        let namespace = &id.service.namespace;
        let key = Key::new(namespace.clone(), route_name(&self.binding, id));
        let ours = around.objects.get(VIRTUAL_SERVICE, &key).filter(|object| is_bindings(object, &self.binding));
        for host in hosts(plan, id, route) {
            let mut holders = theirs.of(&host).filter(|(_, object)| comes_first(object, &self.binding, ours));
            if let Some((holder, _)) = holders.next() {
                let why = format!(
                    "{VIRTUAL_SERVICE} {holder} answers to {host} already and goes on doing so, as Gloo rejects both where two do; set spec.export.hostnames to other names, or remove it"
                );
                return Err(refuse(Reason::NameConflict, id, why));
            }
        }
        let front = self.gateway.front(around)?;
        let Some(at) = openings(&front).find(|opening| opening.outside == route.gateway_port) else { return Ok(()) };
        let labels = plan.labels();
        let mut gateways = Self::listening(self.proxy(&front), at.inside, around);
        if gateways.any(|(_, gateway)| selects(gateway, &labels) && reads(gateway, namespace)) {
            return Ok(());
        }
        let why = format!(
            "no {GATEWAY} on pod port {} takes VirtualServices of namespace {namespace}; add it to spec.httpGateway.virtualServiceNamespaces",
            at.inside
        );
        Err(refuse(Reason::RefNotPermitted, id, why))
    }
}

/// Whether a Gateway is of a proxy.
fn is_of(gateway: &Value, proxy: &str) -> bool {
    match list(&gateway["spec"]["proxyNames"]) {
        [] => proxy == DEFAULT_PROXY,
        names => names.iter().any(|name| *name == proxy),
    }
}

/// Whether a Gateway of plain HTTP takes VirtualServices with these labels. Of its ways to choose, the first
/// that is there counts; expressions are not read.
fn selects(gateway: &Value, labels: &Map) -> bool {
    let spec = &gateway["spec"];
    let http = &spec["httpGateway"];
    if !http.is_object() || spec["ssl"] == true || http["virtualServiceExpressions"].is_object() {
        return false;
    }
    match http["virtualServiceSelector"].as_object().filter(|selector| !selector.is_empty()) {
        Some(selector) => {
            selector.iter().all(|(key, value)| value.as_str() == labels.get(key).map(|value| value.as_str()))
        }
        None => list(&http["virtualServices"]).is_empty(),
    }
}

/// Whether a Gateway takes VirtualServices of a namespace.
fn reads(gateway: &Value, namespace: &str) -> bool {
    let namespaces = list(&gateway["spec"]["httpGateway"]["virtualServiceNamespaces"]);
    namespaces.is_empty() || namespaces.iter().any(|name| name == "*" || *name == namespace)
}

/// One port of the exported Service. Not named directly, as Gloo may be told not to look at Services, and
/// as only here it is said that a port speaks HTTP/2.
fn upstream(plan: &ExportPlan, id: &RouteId, route: &Route) -> Object {
    let Key { namespace, name } = &id.service;
    let kube = json!({"serviceName": name, "serviceNamespace": namespace, "servicePort": id.port});
    let is_http2 = plan.routing == Routing::Host && application::is_http2(&route.port);
    let spec = json!({"kube": kube, "useHttp2": is_http2, "sslConfig": null});
    of_service(plan, UPSTREAM, route_name(&plan.binding, id), id, route, spec)
}

fn virtual_service(plan: &ExportPlan, id: &RouteId, route: &Route, upstream: &Value) -> Object {
    // Otherwise a request is given up after 15 s.
    let options = json!({"timeout": "0s", "hostRewrite": route.rewrite});
    let to =
        json!({"matchers": [{"prefix": "/"}], "routeAction": {"single": {"upstream": upstream}}, "options": options});
    let spec = json!({"virtualHost": {"domains": hosts(plan, id, route), "routes": [to]}, "sslConfig": null});
    of_service(plan, VIRTUAL_SERVICE, route_name(&plan.binding, id), id, route, spec)
}

/// Why Gloo rejects an object, if it says so. A status is of one Gloo, or of several by their namespaces.
fn rejected(object: &Value) -> Option<String> {
    let status = &object["status"];
    let several = status["statuses"].as_object().into_iter().flatten().map(|(_, status)| status);
    let (name, number) = REJECTED;
    let mut all = several.chain([status]);
    let found = all.find(|status| status["state"] == name || status["state"].as_u64() == Some(number))?;
    Some(found["reason"].as_str().unwrap_or_default().to_owned())
}

/// VirtualServices of plain HTTP that are not of this binding, by the names they answer to.
#[derive(Debug, Default)]
struct Theirs<'a> {
    exact: BTreeMap<String, Vec<(&'a Key, &'a Value)>>,
    globs: Vec<(String, &'a Key, &'a Value)>,
}

impl<'a> Theirs<'a> {
    fn read(binding: &str, around: &Surroundings<'a>) -> Self {
        let mut theirs = Self::default();
        let plain = |object: &Value| !object["spec"]["sslConfig"].is_object() && !is_bindings(object, binding);
        for (key, object) in around.objects.all(VIRTUAL_SERVICE).filter(|(_, object)| plain(object)) {
            let domains = list(&object["spec"]["virtualHost"]["domains"]).iter().filter_map(Value::as_str);
            for domain in domains.map(str::to_ascii_lowercase) {
                match domain.as_str() {
                    // Those for every name have none of their own.
                    "*" => {}
                    glob if glob.contains('*') => theirs.globs.push((domain, key, object)),
                    _ => theirs.exact.entry(domain).or_default().push((key, object)),
                }
            }
        }
        theirs
    }

    fn of<'s>(&'s self, host: &'s str) -> impl Iterator<Item = (&'a Key, &'a Value)> + 's {
        let exact = self.exact.get(host).into_iter().flatten().copied();
        let globs = self.globs.iter().filter(move |(glob, ..)| fits(glob, host).is_some());
        exact.chain(globs.map(|(_, key, object)| (*key, *object)))
    }
}

impl Provider for Gloo {
    fn kinds(&self) -> Vec<Kind> {
        KINDS.to_vec()
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let (needed, by_name) = match self.routing {
            Routing::Port => (&[GATEWAY, UPSTREAM][..], false),
            Routing::Host => (&[GATEWAY, VIRTUAL_SERVICE, UPSTREAM][..], true),
            Routing::Sni | Routing::Linkerd => return Err(self.unsupported()),
        };
        served(needed, "Gloo", around)?;
        let front = self.gateway.front(around)?;
        let (ports, listeners) = match by_name {
            true => (Supply::default(), self.listeners(&front, around)?),
            false => (self.supply(&front, around), Vec::new()),
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
        let objects = match self.objects(plan, id, route, around) {
            Ok(objects) => objects,
            Err(refusal) => return Programmed::No(refusal),
        };
        for Object { id: ObjectId { kind, key }, .. } in &objects {
            if let Some(why) = around.objects.get(*kind, key).and_then(rejected) {
                return Programmed::No(refuse(
                    Reason::UnsupportedValue,
                    id,
                    format!("Gloo rejects {kind} {key}: {why}"),
                ));
            }
        }
        self.gateway.settled(&objects, around)
    }
}

#[cfg(test)]
mod tests;
