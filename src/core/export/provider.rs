//! What the deciding side asks of a provider, and what it tells one. A provider is pure: it reads
//! objects that were observed and says which ones should be; it never writes, waits or remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use jiff::Timestamp;

use super::object::{Kind, Object, ObjectId, Objects};
use crate::{
    api::{
        binding::{Export, Routing},
        names,
    },
    core::{
        envoy::{EnvoyConfig, EnvoyState},
        model::{Key, LocalNode, Map, Origin, OriginPort, Protocol, RemoteNode},
        select::Refusal,
    },
};

/// A port of an exported Service; within a binding the name of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// The Service.
    pub service: Key,
    /// Its port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.port, self.protocol.as_str())
    }
}

/// A route that the gateway is to carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The Service's port.
    pub port: OriginPort,
    /// uid of the Service, for ownerReferences.
    pub service_uid: String,
    /// The *outside* port of the gateway: claimed for it (Port), or that of the listener that
    /// carries it (Host, SNI).
    pub gateway_port: u16,
    /// Host, SNI: the names the gateway is to answer to for it, lower case, not one of which
    /// another route has.
    pub hostnames: Vec<String>,
    /// Host with `hostRewrite`: what backends see instead.
    pub rewrite: Option<String>,
    /// Ready pods and the ports to reach them at: for gateways that go to pods by themselves.
    pub endpoints: BTreeSet<SocketAddr>,
}

/// Everything one gateway is to carry for one binding.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportPlan {
    /// The binding's name.
    pub binding: String,
    /// The binding's uid.
    pub binding_uid: String,
    /// How services are told apart.
    pub routing: Routing,
    /// The routes, of all Services.
    pub routes: BTreeMap<RouteId, Route>,
}

impl ExportPlan {
    /// Labels of every object that is made for the binding: the marks of ownership.
    #[must_use]
    pub fn labels(&self) -> Map {
        labels(&self.binding)
    }
}

/// Labels of every object that is made for a binding.
#[must_use]
pub fn labels(binding: &str) -> Map {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Map::from([pair(names::MANAGED_BY_LABEL, names::MANAGER), pair(names::PUBLISHED_BINDING_LABEL, binding)])
}

/// What is known, for a provider to read.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The objects of the kinds that it follows, and of those that Heliostat made.
    pub objects: &'a Objects,
    /// All Services of the cluster.
    pub services: &'a BTreeMap<Key, Origin>,
    /// Services that have a ready endpoint.
    pub ready: &'a BTreeSet<Key>,
    /// Nodes, as places where node ports answer.
    pub nodes: &'a BTreeMap<String, RemoteNode>,
    /// Nodes' own addresses and pod ranges.
    pub local_nodes: &'a BTreeMap<String, LocalNode>,
    /// What Heliostat's own Envoys of this binding say; none: nothing yet.
    pub envoys: Option<&'a EnvoyState>,
    /// When this process last wrote an object, for gateways that confirm nothing.
    pub written: &'a BTreeMap<ObjectId, Timestamp>,
    /// The controller's own namespace.
    pub namespace: &'a str,
    /// DNS domain of this cluster.
    pub cluster_domain: &'a str,
    /// The image of Heliostat's own gateway.
    pub envoy_image: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// A gateway as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Who it is: provider, kind, namespace, name. Bindings of one gateway share its ports.
    pub identity: [String; 4],
    /// Its addresses as it reports them, IPs or hostnames; none yet: empty.
    pub addresses: Vec<String>,
    /// Port: which outside ports may be given to routes.
    pub ports: Supply,
    /// Host, SNI: outside ports of the listeners that carry such routes, the preferred one first.
    pub listeners: Vec<u16>,
    /// Why it has no address, or is not programmed, in words; existing exports go on.
    pub unwell: Option<Refusal>,
    /// It tells whether a route is programmed; otherwise the status says so.
    pub confirms: bool,
    /// Linkerd: its TLS identity, which importers are told.
    pub tls_identity: Option<String>,
}

/// Which outside ports of a gateway may be given to routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Supply {
    /// Only these; none: all.
    pub pool: Option<BTreeSet<(Protocol, u16)>>,
    /// Never these: somebody else's.
    pub taken: BTreeMap<(Protocol, u16), String>,
    /// Protocols it carries at all.
    pub protocols: BTreeSet<Protocol>,
    /// What to add where the pool has no port left, in words.
    pub hint: String,
}

impl Supply {
    /// Whether a port may be given to a route.
    #[must_use]
    pub fn has(&self, protocol: Protocol, port: u16) -> bool {
        self.pool.as_ref().is_none_or(|pool| pool.contains(&(protocol, port)))
            && !self.taken.contains_key(&(protocol, port))
    }
}

/// What should be for a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// The objects.
    pub objects: Vec<Object>,
    /// What Heliostat's own Envoys are to do.
    pub envoy: Option<EnvoyConfig>,
    /// Routes that the gateway cannot carry, and why; they have no part in the rest.
    pub refused: BTreeMap<RouteId, Refusal>,
}

/// Whether the gateway carries a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// It does.
    Yes,
    /// It did; since then an object changed that the route may share with others, such as a set of
    /// listeners that got one more, or the gateway's words are not heard at the moment. In words, what
    /// is waited for. What is published stays as it is; nothing is published anew.
    Before(String),
    /// Not yet; in words, what is waited for. Until then, if that is known.
    Pending(String, Option<Timestamp>),
    /// It refuses to.
    No(Refusal),
}

/// A make of gateway: one file each in `src/gateway/`.
pub trait Provider: fmt::Debug + Send {
    /// The kinds that it reads or makes. Those it can do without are listed too: nothing else is
    /// asked before it is known of each whether it is served, and what there is of it.
    fn kinds(&self) -> Vec<Kind>;

    /// The gateway as it is.
    ///
    /// # Errors
    /// `ProviderNotInstalled`, `RefNotFound`, `RefNotPermitted`, `UnsupportedValue`: it cannot be
    /// used at all, and nothing new is programmed. Trouble that will pass is [`Gateway::unwell`].
    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal>;

    /// All that should be for a plan: the same plan and surroundings give the same objects. What
    /// is there and has its place keeps it.
    fn render(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered;

    /// Whether the gateway carries a route, whose objects are as [`Provider::render`] wants them.
    fn programmed(&self, plan: &ExportPlan, route: &RouteId, around: &Surroundings<'_>) -> Programmed;
}

/// Makes the provider of a binding.
pub type Providers = fn(binding: &str, routing: Routing, export: &Export) -> Box<dyn Provider>;
