//! Traefik, by its own kinds: IngressRouteTCP and IngressRouteUDP on entry points that nobody else
//! uses (Port), IngressRoute (Host), IngressRouteTCP that passes TLS through (SNI). Never adds an
//! entry point: those are Traefik's start-up arguments.
//!
//! None of these kinds has a status, so that Traefik never confirms anything. It is taken to read
//! IngressRoutes of all namespaces and of any class. What the rules here guard against was seen on
//! Traefik 3.6.12 or stands in its sources. Not seen by them: names that Traefik serves for an Ingress,
//! by the Gateway API or by a regular expression; there [`PRIORITY`] lets the others go first.

mod rule;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    front::Front,
    object::{comes_first, is_bindings, is_heliostats, of_service, refuse, refuse_ref, route_name},
    unconfirmed::{Unconfirmed, each, served},
};
use crate::{
    api::{
        Reason,
        binding::{EntryPointProtocol, Export, PortRange, Routing, TraefikEntryPoint, TraefikProvider},
    },
    core::{
        application,
        export::{
            object::{Kind, Object, kind, list},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::{Key, OriginPort, Protocol},
        select::Refusal,
    },
};

const GROUP: &str = "traefik.io";
const INGRESS_ROUTE: Kind = kind(GROUP, "IngressRoute", "ingressroutes", &["v1alpha1"]);
const INGRESS_ROUTE_TCP: Kind = kind(GROUP, "IngressRouteTCP", "ingressroutetcps", &["v1alpha1"]);
const INGRESS_ROUTE_UDP: Kind = kind(GROUP, "IngressRouteUDP", "ingressrouteudps", &["v1alpha1"]);
const MIDDLEWARE: Kind = kind(GROUP, "Middleware", "middlewares", &["v1alpha1"]);
/// The kinds that it makes or reads.
pub(super) const KINDS: [Kind; 4] = [INGRESS_ROUTE, INGRESS_ROUTE_TCP, INGRESS_ROUTE_UDP, MIDDLEWARE];

/// The usual ports of plaintext HTTP and of TLS.
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// Priority of routes by name. Without one Traefik takes the length of the rule, so that several names of
/// ours would outdo a user's rule for one of them. This lies just above the rules that hold for
/// everything (PathPrefix(`/`) has 15, HostSNIRegexp(`.+`) 19) and below those that name a site.
const PRIORITY: u16 = 20;
/// The rule of TCP routes that take whatever comes.
const ANYTHING: &str = "HostSNI(`*`)";

/// See the file's description.
#[derive(Debug)]
pub(super) struct Traefik {
    binding: String,
    routing: Routing,
    gateway: Unconfirmed,
    entry_points: Vec<TraefikEntryPoint>,
    /// Ports that may be given to routes.
    range: PortRange,
}

/// An entry point, and the port of the Service that leads to it.
#[derive(Clone, Copy, Debug)]
struct EntryPoint<'a> {
    name: &'a str,
    protocol: Protocol,
    /// The Service's port.
    port: u16,
    /// The same as it is reached from outside.
    outside: u16,
}

/// A route of Traefik's, whoever made it.
#[derive(Clone, Copy, Debug)]
struct There<'a> {
    kind: Kind,
    key: &'a Key,
    object: &'a Value,
}

impl<'a> There<'a> {
    /// All of the cluster.
    fn all(around: &Surroundings<'a>) -> impl Iterator<Item = Self> {
        let objects = around.objects;
        let of_kind = move |kind| objects.all(kind).map(move |(key, object)| Self { kind, key, object });
        [INGRESS_ROUTE, INGRESS_ROUTE_TCP, INGRESS_ROUTE_UDP].into_iter().flat_map(of_kind)
    }

    fn is_tls(&self) -> bool {
        self.object["spec"]["tls"].is_object()
    }

    fn protocol(&self) -> Protocol {
        if self.kind == INGRESS_ROUTE_UDP { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Of a binding with routing Port: its port claim speaks for it.
    fn has_claim(&self) -> bool {
        is_heliostats(self.object) && self.kind != INGRESS_ROUTE && !self.is_tls()
    }

    /// Whether it is on an entry point. Without any in its spec it is on all that Traefik was started
    /// with as default ones, which are not known here: taken to be all.
    fn is_on(&self, entry: &EntryPoint<'_>) -> bool {
        let named = list(&self.object["spec"]["entryPoints"]);
        self.protocol() == entry.protocol && (named.is_empty() || named.iter().any(|name| *name == entry.name))
    }

    /// Whether nobody else can have the entry point for a port of theirs. A route of plain HTTP that
    /// names no entry point harms none, and is not harmed where nobody meant it to be: before HTTP,
    /// Traefik asks its TCP routes. One with TLS makes it wait for a greeting that not every protocol
    /// has.
    fn occupies(&self, entry: &EntryPoint<'_>) -> bool {
        let by_default = list(&self.object["spec"]["entryPoints"]).is_empty();
        self.is_on(entry) && !(by_default && self.kind == INGRESS_ROUTE && !self.is_tls())
    }

    /// The names it answers to, lower case.
    fn names(&self) -> Vec<String> {
        let matcher = if self.kind == INGRESS_ROUTE { rule::HOST } else { rule::HOST_SNI };
        let rules = list(&self.object["spec"]["routes"]).iter().filter_map(|route| route["match"].as_str());
        rules.flat_map(|text| rule::names(text, matcher)).collect()
    }
}

impl Traefik {
    pub(super) fn new(binding: &str, routing: Routing, export: &Export, provider: &TraefikProvider) -> Self {
        Self {
            binding: binding.to_owned(),
            routing,
            gateway: Unconfirmed::new("traefik", &provider.service_ref, export),
            entry_points: provider.entry_points.clone(),
            range: export.ports.clone(),
        }
    }

    /// The kinds that it cannot do without.
    fn needed(&self) -> &'static [Kind] {
        match self.routing {
            Routing::Host => &[INGRESS_ROUTE, MIDDLEWARE],
            Routing::Port | Routing::Sni | Routing::Linkerd => &[INGRESS_ROUTE_TCP],
        }
    }

    /// The entry points of the spec that the Service leads to.
    fn entries<'a>(&'a self, front: &Front<'_>) -> Vec<EntryPoint<'a>> {
        let entry = |TraefikEntryPoint { name, port, protocol }: &'a TraefikEntryPoint| {
            let protocol = match protocol {
                EntryPointProtocol::Tcp => Protocol::Tcp,
                EntryPointProtocol::Udp => Protocol::Udp,
            };
            let leads = |(of, _): &&(&OriginPort, u16)| of.protocol == protocol && of.port == *port;
            let (_, outside) = front.ports.iter().find(leads)?;
            Some(EntryPoint { name, protocol, port: *port, outside: *outside })
        };
        self.entry_points.iter().filter_map(entry).collect()
    }

    /// Port: which outside ports may be given to routes.
    fn supply(&self, front: &Front<'_>, around: &Surroundings<'_>) -> Supply {
        let entries = self.entries(front);
        let others: Vec<There<'_>> = There::all(around).filter(|there| !there.has_claim()).collect();
        let mut taken = BTreeMap::new();
        for entry in &entries {
            if let Some(there) = others.iter().find(|there| there.occupies(entry)) {
                let who = format!("entry point {} is used by {} {}", entry.name, there.kind, there.key);
                taken.insert((entry.protocol, entry.outside), who);
            }
        }
        let pool = entries.iter().map(|entry| (entry.protocol, entry.outside)).collect();
        let kinds = [(Protocol::Tcp, INGRESS_ROUTE_TCP), (Protocol::Udp, INGRESS_ROUTE_UDP)];
        let protocols = kinds.into_iter().filter(|(_, kind)| around.objects.is_served(*kind)).map(|(p, _)| p).collect();
        let hint = self.hint(&entries, &taken);
        Supply { pool: Some(pool), taken, protocols, hint }
    }

    /// What to add where no entry point is left.
    fn hint(&self, entries: &[EntryPoint<'_>], taken: &BTreeMap<(Protocol, u16), String>) -> String {
        let mut hint = format!(
            "add an entry point to Traefik's start-up arguments, its port to Service {}, and both to spec.export.provider.traefik.entryPoints",
            self.gateway.service
        );
        let led_to: BTreeSet<&str> = entries.iter().map(|entry| entry.name).collect();
        if let Some(lost) = self.entry_points.iter().find(|point| !led_to.contains(point.name.as_str())) {
            hint += &format!("; no port {} of the Service leads to entry point {}", lost.port, lost.name);
        }
        let PortRange { from, to, .. } = self.range;
        if let Some(away) = entries.iter().find(|entry| !(from..=to).contains(&entry.outside)) {
            let (outside, name) = (away.outside, away.name);
            hint += &format!("; port {outside} of entry point {name} is not within spec.export.ports");
        }
        if let Some(who) = taken.values().next() {
            hint += &format!("; {who}");
        }
        hint
    }

    /// Host, SNI: outside ports of the entry points that carry them. All TCP ones of the spec do, but
    /// for the usual one of the other; the usual one comes first, then they keep their order.
    fn listeners(&self, front: &Front<'_>) -> Result<Vec<u16>, Refusal> {
        let (usual, others) = match self.routing {
            Routing::Sni => (TLS_PORT, HTTP_PORT),
            _ => (HTTP_PORT, TLS_PORT),
        };
        let mut fit = self.entries(front);
        fit.retain(|entry| entry.protocol == Protocol::Tcp && entry.port != others);
        fit.sort_by_key(|entry| entry.port != usual);
        if fit.is_empty() {
            let why = format!(
                "spec.export.provider.traefik.entryPoints: none is of protocol TCP, carries {} and is led to by a port of Service {}; name the one that the Service's port {usual} leads to",
                self.routing, self.gateway.service
            );
            return Err(refuse_ref(why));
        }
        Ok(fit.into_iter().map(|entry| entry.outside).collect())
    }

    /// What a route is made of.
    fn objects(
        &self,
        plan: &ExportPlan,
        id: &RouteId,
        route: &Route,
        front: &Front<'_>,
    ) -> Result<Vec<Object>, Refusal> {
        let entry = self.entry(id, route, front)?;
        let name = route_name(&plan.binding, id);
        let backend = backend(id, route);
        if self.routing == Routing::Host {
            return Ok(by_host(plan, id, route, entry.name, name, backend));
        }
        if entry.protocol == Protocol::Udp {
            let spec = json!({"entryPoints": [entry.name], "routes": [{"services": [backend]}]});
            return Ok(vec![of_service(plan, INGRESS_ROUTE_UDP, name, id, route, spec)]);
        }
        let (routes, tls) = match self.routing {
            Routing::Sni => {
                let rule = rule::any_of(rule::HOST_SNI, &route.hostnames);
                (json!([{"match": rule, "priority": PRIORITY, "services": [backend]}]), json!({"passthrough": true}))
            }
            _ => (json!([{"match": ANYTHING, "services": [backend]}]), Value::Null),
        };
        let spec = json!({"entryPoints": [entry.name], "routes": routes, "tls": tls});
        Ok(vec![of_service(plan, INGRESS_ROUTE_TCP, name, id, route, spec)])
    }

    /// The entry point behind a route's outside port.
    fn entry<'a>(&'a self, id: &RouteId, route: &Route, front: &Front<'_>) -> Result<EntryPoint<'a>, Refusal> {
        let leads = |entry: &EntryPoint<'_>| entry.outside == route.gateway_port && entry.protocol == id.protocol;
        self.entries(front).into_iter().find(leads).ok_or_else(|| {
            let why = format!(
                "no entry point of spec.export.provider.traefik.entryPoints is reached by port {}/{}",
                route.gateway_port,
                id.protocol.as_str()
            );
            refuse(Reason::PortUnsupported, id, why)
        })
    }

    /// Who has the names of a route already: `names` has those of each entry point.
    fn conflict(
        &self,
        id: &RouteId,
        route: &Route,
        entry: &EntryPoint<'_>,
        taken: &Taken<'_>,
        around: &Surroundings<'_>,
    ) -> Result<(), Refusal> {
        if let Some(There { kind, key, .. }) = taken.whole {
            let why = format!("{kind} {key} takes all that comes to entry point {} without TLS", entry.name);
            return Err(refuse(Reason::NameConflict, id, why));
        }
        let name = route_name(&self.binding, id);
        let ours_kind = if self.routing == Routing::Host { INGRESS_ROUTE } else { INGRESS_ROUTE_TCP };
        let ours = around.objects.get(ours_kind, &Key::new(id.service.namespace.clone(), name));
        let ours = ours.filter(|object| is_bindings(object, &self.binding));
        for name in &route.hostnames {
            let holders = taken.names.get(name).into_iter().flatten();
            if let Some(There { kind, key, .. }) =
                holders.into_iter().find(|there| comes_first(there.object, &self.binding, ours))
            {
                let why = format!(
                    "{kind} {key} answers to {name} on entry point {} already and goes on doing so; set spec.export.hostnames to other names, or remove it",
                    entry.name
                );
                return Err(refuse(Reason::NameConflict, id, why));
            }
        }
        Ok(())
    }
}

/// What others have on an entry point.
#[derive(Debug, Default)]
struct Taken<'a> {
    /// Who gets all that is not TLS, whatever its name: Traefik asks TCP routes before HTTP ones.
    whole: Option<There<'a>>,
    /// By name, who answers to it.
    names: BTreeMap<String, Vec<There<'a>>>,
}

impl<'a> Taken<'a> {
    fn on(entry: &EntryPoint<'_>, routing: Routing, binding: &str, around: &Surroundings<'a>) -> Self {
        let mut taken = Self::default();
        let others = There::all(around).filter(|there| !is_bindings(there.object, binding) && there.is_on(entry));
        for there in others {
            let is_tcp = there.kind == INGRESS_ROUTE_TCP;
            if is_tcp && !there.is_tls() {
                taken.whole = taken.whole.or(Some(there));
            }
            // TLS names and those of plain HTTP do not meet, but HTTPS ones and TLS ones do.
            if !is_tcp || routing == Routing::Sni {
                there.names().into_iter().for_each(|name| taken.names.entry(name).or_default().push(there));
            }
        }
        taken
    }
}

/// One port of the exported Service. By name, as Traefik takes the first port of a number, of whatever
/// protocol.
fn backend(id: &RouteId, route: &Route) -> Value {
    let port = match route.port.name.as_str() {
        "" => json!(id.port),
        name => json!(name),
    };
    json!({"name": id.service.name, "port": port})
}

fn by_host(
    plan: &ExportPlan,
    id: &RouteId,
    route: &Route,
    entry: &str,
    name: String,
    mut backend: Value,
) -> Vec<Object> {
    // Otherwise Traefik speaks TLS to a port 443.
    backend["scheme"] = json!(if application::is_http2(&route.port) { "h2c" } else { "http" });
    backend["passHostHeader"] = json!(true);
    let rewrite = route.rewrite.as_ref().map(|host| {
        let spec = json!({"headers": {"customRequestHeaders": {"Host": host}}});
        of_service(plan, MIDDLEWARE, name.clone(), id, route, spec)
    });
    let middlewares: Vec<Value> = rewrite.iter().map(|object| json!({"name": object.id.key.name})).collect();
    let routes = json!([{
        "kind": "Rule",
        "match": rule::any_of(rule::HOST, &route.hostnames),
        "priority": PRIORITY,
        "middlewares": middlewares,
        "services": [backend],
    }]);
    let spec = json!({"entryPoints": [entry], "routes": routes, "tls": null});
    let route = of_service(plan, INGRESS_ROUTE, name, id, route, spec);
    rewrite.into_iter().chain([route]).collect()
}

impl Provider for Traefik {
    fn kinds(&self) -> Vec<Kind> {
        KINDS.to_vec()
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        served(self.needed(), "Traefik", around)?;
        let front = self.gateway.front(around)?;
        let (ports, listeners) = match self.routing {
            Routing::Port => (self.supply(&front, around), Vec::new()),
            _ => (Supply::default(), self.listeners(&front)?),
        };
        Ok(self.gateway.reading(front, ports, listeners))
    }

    fn render(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        let front = self.gateway.front(around);
        let mut taken: BTreeMap<&str, Taken<'_>> = BTreeMap::new();
        each(plan, |id, route| {
            let front = front.as_ref().map_err(Clone::clone)?;
            let entry = self.entry(id, route, front)?;
            if self.routing != Routing::Port {
                if route.hostnames.is_empty() {
                    let why = "every name that the gateway could answer to for it belongs to another Service";
                    return Err(refuse(Reason::NameConflict, id, why));
                }
                let on = || Taken::on(&entry, self.routing, &self.binding, around);
                self.conflict(id, route, &entry, taken.entry(entry.name).or_insert_with(on), around)?;
            }
            self.objects(plan, id, route, front)
        })
    }

    fn programmed(&self, plan: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let Some(route) = plan.routes.get(id) else { return Programmed::Pending("it is not planned".into(), None) };
        let front = match self.gateway.front(around) {
            Ok(front) => front,
            Err(refusal) => return Programmed::No(refusal),
        };
        match self.objects(plan, id, route, &front) {
            Ok(objects) => self.gateway.settled(&objects, around),
            Err(refusal) => Programmed::No(refusal),
        }
    }
}

#[cfg(test)]
mod tests;
