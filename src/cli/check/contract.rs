//! Does what a gateway publishes keep the contract (docs/gateways.md)? Each rule a check, over published
//! slices as they stand and the Services that they speak of. Pure; dials nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::Value;

use super::book::{Book, Verdict};
use crate::{
    api::{
        binding::Routing,
        duration::parse_duration,
        names::{
            CONTRACT_ANNOTATION, CONTRACT_V1, EXPORT_LABEL, EXPORT_VALUE, GATEWAY_IDENTITY_ANNOTATION, HEADLESS_LABEL,
            HOSTNAMES_ANNOTATION, PORT_LEASE_ANNOTATION, PUBLISHED_BINDING_LABEL, PUBLISHED_MANAGER,
            PUBLISHED_SERVICE_LABEL, ROUTING_ANNOTATION, SERVICE_NAME_LABEL, SERVICE_PROXY_NAME_LABEL,
            SLICE_MANAGED_BY_LABEL,
        },
    },
    cluster::wire::Wire,
    core::{
        address::AddressPolicy,
        model::{Address, AddressType, Key, Origin, Published, RemoteSlice, SlicePort, SliceRole},
        select::is_probe,
        way::hostname,
    },
};

const SEEN: &str = "the link sees slice and Service";
const CONSENT: &str = "the Service's owner consents";
const LABELS: &str = "labels say whose it is";
const PROXY: &str = "kube-proxy over there leaves it alone";
const OWNER: &str = "its Service owns it";
const VERSION: &str = "the contract's version is known";
const ROUTING: &str = "the routing is known";
const ADDRESSES: &str = "addresses may be used here";
const PORTS: &str = "ports are the Service's";
const LEASE: &str = "the port lease is a duration";
const NAMES: &str = "it answers to the mirror's name";
const IDENTITY: &str = "the gateway's identity is a name";
const READY: &str = "it is ready as the Service is";
const UNIQUE: &str = "a port stands for one Service";

/// What the slices are held against.
pub(super) struct Scene<'a> {
    /// The binding.
    pub(super) binding: &'a str,
    /// Services that the link sees.
    pub(super) services: &'a BTreeMap<Key, Origin>,
    /// Slices that the link sees.
    pub(super) slices: &'a BTreeMap<Key, RemoteSlice>,
    /// Which addresses may be endpoints here.
    pub(super) addresses: &'a AddressPolicy,
    /// Full names of the mirrors of an origin, as policies want them.
    pub(super) mirrors: BTreeMap<Key, BTreeSet<String>>,
    /// The name that a mirror gets unless a policy says otherwise.
    pub(super) by_default: &'a dyn Fn(&Key) -> Option<String>,
    /// What hostnames resolve to.
    pub(super) hosts: BTreeMap<String, Result<Vec<IpAddr>, String>>,
}

/// A slice that carries a binding's label.
pub(super) struct Slice {
    pub(super) key: Key,
    object: Value,
    read: Option<RemoteSlice>,
}

impl Slice {
    pub(super) fn new(key: Key, object: Value) -> Self {
        let read = Wire::<Option<RemoteSlice>>::from_value(&object).into_model().and_then(|(_, slice)| slice);
        Self { key, object, read }
    }

    /// As an importer reads it; none: it does not take it for a published slice.
    pub(super) fn published(&self) -> Option<(&RemoteSlice, &Published)> {
        let read = self.read.as_ref()?;
        match &read.role {
            SliceRole::Published(published) => Some((read, published)),
            SliceRole::Pods { .. } => None,
        }
    }

    pub(super) fn is_of(&self, binding: &str) -> bool {
        self.label(PUBLISHED_BINDING_LABEL) == Some(binding)
    }

    /// The Service that it speaks of.
    pub(super) fn service(&self) -> Option<Key> {
        Some(Key::new(self.key.namespace.clone(), self.label(PUBLISHED_SERVICE_LABEL)?))
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.object["metadata"]["deletionTimestamp"].is_string()
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["labels"][name].as_str()
    }

    fn annotation(&self, name: &str) -> &str {
        self.object["metadata"]["annotations"][name].as_str().unwrap_or_default()
    }
}

/// Holds the binding's slices against the contract; `all` are those of every binding. Gives those that
/// an importer uses.
pub(super) fn check<'a>(scene: &Scene<'_>, all: &'a [Slice], book: &mut Book) -> Vec<&'a Slice> {
    let mut used = Vec::new();
    for slice in all.iter().filter(|slice| slice.is_of(scene.binding) && !slice.is_terminating()) {
        let subject = format!("slice {}", slice.key);
        book.hold(LABELS, &subject, labels(slice));
        book.hold(PROXY, &subject, left_alone(slice));
        let Some((read, published)) = slice.published() else { continue };
        let Some(origin) = origin(scene, slice, &subject, book) else { continue };
        book.hold(CONSENT, &subject, consents(origin));
        book.hold(OWNER, &subject, owned(slice, origin));
        let version = slice.annotation(CONTRACT_ANNOTATION);
        let known = version == CONTRACT_V1;
        let unknown = format!(
            "annotation {CONTRACT_ANNOTATION} is {version:?}; importers leave it alone unless it is {CONTRACT_V1}"
        );
        book.hold(VERSION, &subject, if known { Ok(version.to_owned()) } else { Err(unknown) });
        let routing = Routing::parse(&published.routing);
        let unknown =
            || format!("annotation {ROUTING_ANNOTATION} is {:?}; it is one of {}", published.routing, routings());
        book.hold(ROUTING, &subject, routing.map(|known| known.to_string()).ok_or_else(unknown));
        book.hold(ADDRESSES, &subject, addresses(scene, read));
        book.hold(PORTS, &subject, ports(read, origin));
        readiness(scene, slice, read, &subject, book);
        if let (Some(routing), true) = (routing, known) {
            by_routing(scene, (slice, origin), published, routing, &subject, book);
            used.push(slice);
        }
    }
    unique(scene, all, book);
    used
}

fn routings() -> String {
    Routing::ALL.map(|routing| routing.as_str()).join(", ")
}

/// The Service that it speaks of, if the link sees it; and whether it sees both or neither.
fn origin<'a>(scene: &Scene<'a>, slice: &Slice, subject: &str, book: &mut Book) -> Option<&'a Origin> {
    let service = slice.service()?;
    let origin = scene.services.get(&service);
    match (origin, scene.slices.contains_key(&slice.key)) {
        (Some(_), true) => book.add(SEEN, subject, Verdict::Ok, service.to_string()),
        (Some(_), false) => book.add(
            SEEN,
            subject,
            Verdict::Fail,
            format!("the link sees Service {service} and not the slice: copy the Service's labels, links read by label"),
        ),
        (None, true) => book.add(
            SEEN,
            subject,
            Verdict::Fail,
            format!("the link sees the slice and no Service {service}: is it gone, or has it lost a label that the slice still has?"),
        ),
        (None, false) => book.add(
            SEEN,
            subject,
            Verdict::Note,
            format!("neither it nor Service {service}, so it is not looked into: the link reads others"),
        ),
    }
    origin
}

fn consents(origin: &Origin) -> Result<String, String> {
    if origin.labels.get(EXPORT_LABEL).is_some_and(|value| value == EXPORT_VALUE) || is_probe(&origin.labels) {
        return Ok(String::new());
    }
    Err(format!("the Service has no label {EXPORT_LABEL}: {EXPORT_VALUE}; publish only what its owner labels so"))
}

fn labels(slice: &Slice) -> Result<String, String> {
    if slice.service().is_none() {
        return Err(format!("it has no label {PUBLISHED_SERVICE_LABEL} with the Service's name"));
    }
    if slice.label(SLICE_MANAGED_BY_LABEL) != Some(PUBLISHED_MANAGER) {
        return Err(format!(
            "importers know a published slice by the label {SLICE_MANAGED_BY_LABEL}: {PUBLISHED_MANAGER}"
        ));
    }
    if slice.published().is_none() {
        return Err(
            "importers cannot read it: is addressType IPv4, IPv6 or FQDN, and are the labels' values names?".to_owned()
        );
    }
    Ok(String::new())
}

fn left_alone(slice: &Slice) -> Result<String, String> {
    if slice.label(SERVICE_NAME_LABEL).is_some() {
        return Err(format!(
            "it has a label {SERVICE_NAME_LABEL}, so its addresses become the Service's own over there"
        ));
    }
    match [SERVICE_PROXY_NAME_LABEL, HEADLESS_LABEL].into_iter().find(|label| slice.label(label).is_none()) {
        Some(missing) => Err(format!("it has no label {missing}")),
        None => Ok(String::new()),
    }
}

fn owned(slice: &Slice, origin: &Origin) -> Result<String, String> {
    let name = slice.label(PUBLISHED_SERVICE_LABEL).unwrap_or_default();
    let owners = slice.object["metadata"]["ownerReferences"].as_array();
    let is_it = |owner: &&Value| {
        owner["apiVersion"] == "v1"
            && owner["kind"] == "Service"
            && owner["name"] == name
            && owner["uid"].as_str().is_some_and(|uid| origin.uid == *uid)
    };
    match owners.into_iter().flatten().find(is_it) {
        Some(_) => Ok(String::new()),
        None => Err(format!(
            "metadata.ownerReferences has no Service {name} of uid {}, so it stays when the Service goes",
            origin.uid
        )),
    }
}

fn addresses(scene: &Scene<'_>, slice: &RemoteSlice) -> Result<String, String> {
    let mut good = Vec::new();
    for endpoint in &slice.endpoints {
        let Some(text) = endpoint.address.as_ref().map(Address::as_text) else { continue };
        good.extend(admitted(scene, slice.address_type, &text)?.into_iter().map(|address| address.to_string()));
    }
    if good.is_empty() { Err("it names no address".to_owned()) } else { Ok(good.join(", ")) }
}

/// The addresses that a text of an endpoint stands for.
pub(super) fn admitted(scene: &Scene<'_>, kind: AddressType, text: &str) -> Result<Vec<IpAddr>, String> {
    if let AddressType::Ip(_) = kind {
        return scene.addresses.admit(text).map(|address| vec![address]);
    }
    let host = hostname(text).ok_or_else(|| format!("{text:?} is not a hostname"))?;
    let found = scene.hosts.get(&host).cloned().unwrap_or_else(|| Err(format!("{host} was not resolved")))?;
    found.into_iter().map(|address| scene.addresses.check(address).map(|()| address)).collect()
}

fn ports(slice: &RemoteSlice, origin: &Origin) -> Result<String, String> {
    if slice.ports.is_empty() {
        return Err("it has no ports, or one that is none".to_owned());
    }
    let foreign =
        |port: &&SlicePort| !origin.ports.iter().any(|own| own.name == port.name && own.protocol == port.protocol);
    match slice.ports.iter().find(foreign) {
        Some(port) => Err(format!(
            "the Service has no port named {:?} of protocol {}; names and protocols are the Service's, numbers the gateway's",
            port.name,
            port.protocol.as_str()
        )),
        None => Ok(slice.ports.iter().map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ")),
    }
}

/// Only where the link sees pods of the Service can that be told.
fn readiness(scene: &Scene<'_>, slice: &Slice, read: &RemoteSlice, subject: &str, book: &mut Book) {
    let service = slice.service();
    let of_pods = |key: &Key, pods: &RemoteSlice| matches!(&pods.role, SliceRole::Pods { service: name } if service == Some(Key::new(key.namespace.clone(), name.clone())));
    let pods: Vec<&RemoteSlice> =
        scene.slices.iter().filter(|(key, pods)| of_pods(key, pods)).map(|(_, pods)| pods).collect();
    if pods.is_empty() {
        return;
    }
    let any = |slice: &RemoteSlice| slice.endpoints.iter().any(|endpoint| endpoint.readiness.ready);
    match (any(read), pods.into_iter().any(any)) {
        (true, false) => {
            book.add(READY, subject, Verdict::Fail, "it says ready, and the Service has no ready endpoint");
        }
        (false, true) => book.add(
            READY,
            subject,
            Verdict::Warn,
            "it says not ready, and the Service has a ready endpoint; is the route on its way?",
        ),
        (true, true) => book.add(READY, subject, Verdict::Ok, "ready"),
        (false, false) => book.add(READY, subject, Verdict::Ok, "neither is ready"),
    }
}

fn by_routing(
    scene: &Scene<'_>,
    (slice, origin): (&Slice, &Origin),
    published: &Published,
    routing: Routing,
    subject: &str,
    book: &mut Book,
) {
    match routing {
        Routing::Port => book.hold(LEASE, subject, lease(published)),
        Routing::Host | Routing::Sni if is_probe(&origin.labels) => {}
        Routing::Host | Routing::Sni => named(scene, slice, published, subject, book),
        Routing::Linkerd => {
            let identity = published.identity.as_deref().unwrap_or_default();
            let is_name = hostname(identity).is_some_and(|name| name == identity);
            let wrong =
                format!("annotation {GATEWAY_IDENTITY_ANNOTATION} is {identity:?}, not the gateway's TLS identity");
            book.hold(IDENTITY, subject, if is_name { Ok(identity.to_owned()) } else { Err(wrong) });
        }
    }
}

fn lease(published: &Published) -> Result<String, String> {
    let text = published.port_lease.as_deref().unwrap_or_default();
    match parse_duration(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(format!("annotation {PORT_LEASE_ANNOTATION}: {why}")),
    }
}

fn named(scene: &Scene<'_>, slice: &Slice, published: &Published, subject: &str, book: &mut Book) {
    if published.hostnames.is_empty() {
        let detail = format!("annotation {HOSTNAMES_ANNOTATION} has no names");
        return book.add(NAMES, subject, Verdict::Fail, detail);
    }
    let service = slice.service();
    let wanted = service.as_ref().and_then(|service| scene.mirrors.get(service));
    let answers = |name: &str| published.hostnames.iter().any(|there| there.eq_ignore_ascii_case(name));
    for name in wanted.into_iter().flatten() {
        let missing = format!(
            "it does not answer to {name}, only to {}; let it, or rename the mirror",
            published.hostnames.join(", ")
        );
        book.hold(NAMES, subject, if answers(name) { Ok(name.clone()) } else { Err(missing) });
    }
    if wanted.is_some() {
        return;
    }
    match service.as_ref().and_then(scene.by_default) {
        Some(name) if answers(&name) => book.add(NAMES, subject, Verdict::Ok, name),
        Some(name) => {
            let detail =
                format!("no policy mirrors the Service; by default its mirror is {name}, to which it does not answer");
            book.add(NAMES, subject, Verdict::Warn, detail);
        }
        None => {}
    }
}

/// By Port, a number of an address belongs to one Service: among all bindings, as what was published first
/// leads the callers of the second astray.
fn unique(scene: &Scene<'_>, all: &[Slice], book: &mut Book) {
    let mut users: BTreeMap<(String, u16, &str), (BTreeSet<Key>, bool)> = BTreeMap::new();
    for slice in all.iter().filter(|slice| !slice.is_terminating()) {
        let Some((read, published)) = slice.published() else { continue };
        if Routing::parse(&published.routing) != Some(Routing::Port) {
            continue;
        }
        for address in read.endpoints.iter().filter_map(|endpoint| endpoint.address.as_ref()) {
            for port in &read.ports {
                let user =
                    users.entry((address.as_text().into_owned(), port.port, port.protocol.as_str())).or_default();
                user.0.extend(slice.service());
                user.1 |= slice.is_of(scene.binding);
            }
        }
    }
    for ((address, port, protocol), (services, _)) in users.into_iter().filter(|(_, (_, ours))| *ours) {
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        let several = || format!("it is published for {}; callers of one reach another", names.join(" and "));
        let answer = if names.len() == 1 { Ok(names.concat()) } else { Err(several()) };
        book.hold(UNIQUE, &format!("{address} {port}/{protocol}"), answer);
    }
}

#[cfg(test)]
pub(super) mod tests;
