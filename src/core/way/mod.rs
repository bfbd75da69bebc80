//! The ways to an origin (design: section 5): which one is available, and the slices it yields.
//! One way feeds a mirror; they are never mixed.

mod direct;
mod gateway;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use jiff::Timestamp;

use super::{
    address::AddressPolicy,
    link::Remote,
    model::{
        Family, Key, LinkerdKeys, List, MirrorEndpoint, Origin, OriginPort, Protocol, Readiness, SliceBody,
        SliceCommon, SlicePort, SliceRole, Text,
    },
    name,
    select::{CheckedPolicy, Refusal},
    world::Host,
};
use crate::api::{GatewayBinding, Reason, policy::Way};

/// Most endpoints of one slice: what Kubernetes' own controller writes by default.
const CHUNK: usize = 100;

/// The way that feeds a mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Through a gateway, by this binding.
    Gateway(Text),
    /// By the origin's load balancer or node port.
    Service,
    /// To the origin's pods.
    Direct,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(binding) => write!(f, "Gateway/{binding}"),
            Self::Service => f.write_str("Service"),
            Self::Direct => f.write_str("Direct"),
        }
    }
}

/// What the ways look at.
pub struct Question<'a> {
    /// The link's name.
    pub link: &'a str,
    /// The remote.
    pub remote: &'a Remote,
    /// The origin's name.
    pub key: &'a Key,
    /// The origin.
    pub origin: &'a Origin,
    /// The ports that the policy wants.
    pub ports: Vec<&'a OriginPort>,
    /// The policy.
    pub policy: &'a CheckedPolicy,
    /// `<name>.<namespace>.svc.<cluster domain>` of the mirror.
    pub mirror_name: String,
    /// DNS domain of this cluster.
    pub cluster_domain: &'a str,
    /// Families of the mirror Service; none: it does not exist yet.
    pub families: Option<&'a [Family]>,
    /// Which addresses may be used.
    pub addresses: &'a AddressPolicy,
    /// `limits.endpointsPerService`.
    pub max_endpoints: usize,
    /// All bindings.
    pub bindings: &'a BTreeMap<String, GatewayBinding>,
    /// Resolved hostnames.
    pub hosts: &'a BTreeMap<String, Host>,
    /// Gateway addresses of the link that do not answer, with their bindings.
    pub down: BTreeSet<(&'a str, IpAddr)>,
    /// Those that an earlier process has withdrawn, and of which nothing is known yet: they stay so.
    pub withdrawn: BTreeSet<(&'a str, IpAddr)>,
    /// Addresses in use now, which a limit spares first.
    pub incumbents: BTreeSet<IpAddr>,
    /// The time.
    pub now: Timestamp,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The way, if one is available.
    pub via: Option<Via>,
    /// The slices, by source and family: name → what it says.
    pub slices: BTreeMap<Vec<String>, SliceBody>,
    /// What the way does not carry, and what is odd about it.
    pub notes: Vec<Refusal>,
    /// Why the ways before it, or all, are not available.
    pub unavailable: Vec<Refusal>,
    /// Hostnames that it depends on.
    pub hosts: BTreeSet<String>,
    /// It depends on the remote's nodes.
    pub nodes: bool,
    /// A port lease ran out without confirmation.
    pub stale: bool,
    /// An answer is on its way without which neither this way nor one before it can be judged.
    pub awaits: bool,
    /// A hostname has not resolved since the start, or nodes cannot be read: what was written before
    /// may be the last good answer.
    pub unresolved: bool,
}

/// What one way yields.
#[derive(Debug, Default)]
struct Yield {
    sources: Vec<Source>,
    notes: Vec<Refusal>,
    hosts: BTreeSet<String>,
    nodes: bool,
    stale: bool,
    awaits: bool,
    unresolved: bool,
}

/// Addresses and ports from one source, before families and chunks.
#[derive(Debug)]
struct Source {
    name: Vec<String>,
    ports: Vec<SlicePort>,
    endpoints: Vec<MirrorEndpoint>,
    trigger_time: Option<Text>,
    port_lease: Option<Text>,
    linkerd: Option<Box<LinkerdKeys>>,
}

/// Finds the first available way.
pub fn route(q: &Question<'_>) -> Route {
    let mut route = Route::default();
    for way in &q.policy.via {
        let offers = match way {
            Way::Gateway => gateway::offers(q),
            Way::Service => vec![(Via::Service, service::offer(q))],
            Way::Direct => vec![(Via::Direct, direct::offer(q))],
        };
        for (via, offer) in offers {
            if accept(q, via, offer, &mut route) {
                return route;
            }
        }
    }
    route
}

/// Takes an offer if it yields an address for a port; notes why not otherwise.
fn accept(q: &Question<'_>, via: Via, offer: Result<Yield, (Refusal, Yield)>, route: &mut Route) -> bool {
    let (yielded, refusal) = match offer {
        Ok(yielded) => (yielded, None),
        Err((refusal, yielded)) => (yielded, Some(refusal)),
    };
    // Even a way that yields nothing now may yield something when these change.
    route.hosts.extend(yielded.hosts);
    route.nodes |= yielded.nodes;
    route.awaits |= yielded.awaits;
    route.unresolved |= yielded.unresolved;
    let mut notes = yielded.notes;
    let slices = if refusal.is_none() { slices(q, &via, yielded.sources, &mut notes) } else { BTreeMap::new() };
    if slices.is_empty() {
        let nothing = || Refusal::new(Reason::NoRoute, "it yields no address that may be used".to_owned());
        let why = refusal.or_else(|| notes.into_iter().next()).unwrap_or_else(nothing);
        route.unavailable.push(Refusal::new(why.reason, format!("{via}: {}", why.message)));
        return false;
    }
    notes.extend(uncarried(q, &via, &slices));
    if q.origin.kind == super::model::OriginType::Headless && via != Via::Direct {
        notes.push(Refusal::new(
            Reason::PerPodNamesUnavailable,
            format!("{} is headless; by {via} its mirror has a cluster IP and no names for single pods; where the networks are flat, put Direct into spec.via", q.key),
        ));
    }
    if slices.values().any(|body| body.linkerd.is_some()) {
        notes.push(meshed_only(&via));
    }
    route.via = Some(via);
    route.slices = slices;
    route.notes = notes;
    route.stale = yielded.stale;
    true
}

/// What to know of a way by a Linkerd gateway.
fn meshed_only(via: &Via) -> Refusal {
    Refusal::advice(
        Reason::UnsupportedValue,
        format!(
            "{via} leads through a Linkerd gateway, which answers only clients that are meshed by a Linkerd of the same trust anchor; others get no connection by the mirrors that it feeds. Mesh the clients (linkerd.io/inject: enabled), or let another way come first in spec.via"
        ),
    )
}

/// The wanted ports that no slice carries.
fn uncarried(q: &Question<'_>, via: &Via, slices: &BTreeMap<Vec<String>, SliceBody>) -> Option<Refusal> {
    let carried: BTreeSet<(&str, Protocol)> =
        slices.values().flat_map(|s| &s.ports).map(|p| (p.name.as_str(), p.protocol)).collect();
    let missing: Vec<String> =
        q.ports.iter().filter(|p| !carried.contains(&(p.name.as_str(), p.protocol))).map(|p| describe(p)).collect();
    (!missing.is_empty()).then(|| {
        Refusal::new(
            Reason::PortUnsupported,
            format!("{via} does not carry {}; calls to it are refused, the other ports work", missing.join(", ")),
        )
    })
}

/// A port as a user knows it.
fn describe(port: &OriginPort) -> String {
    match port.name.as_str() {
        "" => format!("port {}/{}", port.port, port.protocol.as_str()),
        name => format!("port {name} ({}/{})", port.port, port.protocol.as_str()),
    }
}

/// Filters by family and limit, sorts, splits by family and into chunks.
fn slices(
    q: &Question<'_>,
    via: &Via,
    sources: Vec<Source>,
    notes: &mut Vec<Refusal>,
) -> BTreeMap<Vec<String>, SliceBody> {
    let mut seen = BTreeSet::new();
    let mut other_family = BTreeSet::new();
    let wanted = |family: Family| q.families.is_none_or(|families| families.contains(&family));
    let mut sources: Vec<Source> = sources;
    for source in &mut sources {
        source.endpoints.sort();
        source.endpoints.dedup_by_key(|e| e.address);
        source.endpoints.retain(|endpoint| {
            let family = Family::of(endpoint.address);
            if !wanted(family) {
                other_family.insert(family);
            }
            wanted(family)
        });
        seen.extend(source.endpoints.iter().map(|e| e.address));
        source.ports.sort();
    }
    for family in other_family {
        notes.push(Refusal::new(
            Reason::UnsupportedValue,
            format!("{} addresses of {} are left out: the mirror has no {0} cluster IP, as this cluster has no such service range", family.as_str(), q.key),
        ));
    }
    if seen.len() > q.max_endpoints {
        notes.push(Refusal::new(
            Reason::QuotaExceeded,
            format!(
                "{} has {} endpoints, the link's spec.limits.endpointsPerService takes {}; raise it",
                q.key,
                seen.len(),
                q.max_endpoints
            ),
        ));
        let (kept, new): (Vec<IpAddr>, Vec<IpAddr>) = seen.into_iter().partition(|a| q.incumbents.contains(a));
        let keep: BTreeSet<IpAddr> = kept.into_iter().chain(new).take(q.max_endpoints).collect();
        sources.iter_mut().for_each(|s| s.endpoints.retain(|e| keep.contains(&e.address)));
    }
    if let Via::Gateway(binding) = via {
        gateway::withdraw(q, binding, &mut sources);
    }
    sources.into_iter().flat_map(bodies).collect()
}

/// The bodies of one source: by family and chunk.
fn bodies(source: Source) -> Vec<(Vec<String>, SliceBody)> {
    let Source { name, ports, endpoints, trigger_time, port_lease, linkerd } = source;
    if ports.is_empty() {
        return Vec::new();
    }
    let ports: List<SlicePort> = ports.into();
    let mut out = Vec::new();
    for family in [Family::V4, Family::V6] {
        let of_family: Vec<MirrorEndpoint> =
            endpoints.iter().filter(|e| Family::of(e.address) == family).cloned().collect();
        for (index, chunk) in of_family.chunks(CHUNK).enumerate() {
            let mut key = name.clone();
            key.extend([family.as_str().to_owned(), index.to_string()]);
            let common =
                SliceCommon { family, ports: ports.clone(), port_lease: port_lease.clone(), linkerd: linkerd.clone() };
            let endpoints = chunk.to_vec().into();
            let body = SliceBody { endpoints, trigger_time: trigger_time.clone(), common: common.into() };
            out.push((key, body));
        }
    }
    out
}

/// A Service port as a slice port with another number.
fn carried(port: &OriginPort, number: u16) -> SlicePort {
    SlicePort {
        name: port.name.clone(),
        port: number,
        protocol: port.protocol,
        app_protocol: port.app_protocol.clone(),
    }
}

/// Whether the origin has a ready endpoint.
fn origin_ready(q: &Question<'_>) -> bool {
    q.remote.is_ready(q.key, q.origin)
}

/// Kubernetes' own slices of the origin.
fn pod_slices<'a>(q: &'a Question<'_>) -> impl Iterator<Item = (&'a str, &'a super::model::RemoteSlice)> {
    q.remote.slices_of(q.key).filter(|(_, slice)| matches!(slice.role, SliceRole::Pods { .. }))
}

/// Addresses that may be used, all with one readiness; what is refused is noted.
fn endpoints<'a>(
    q: &Question<'_>,
    texts: impl Iterator<Item = &'a str>,
    ready: bool,
    out: &mut Yield,
) -> Vec<MirrorEndpoint> {
    let mut found = Vec::new();
    for text in texts {
        match q.addresses.admit(text) {
            Ok(address) => found.push(MirrorEndpoint { address, readiness: Readiness::all(ready), hostname: None }),
            Err(why) => note_denied(out, why),
        }
    }
    found
}

/// Most denied addresses that are named for one mirror: who has a hundred thousand of them has the
/// first few explained, and leaves room for others.
const MAX_DENIED: usize = 4;

fn note_denied(out: &mut Yield, why: String) {
    let mut denied = out.notes.iter().filter(|note| note.reason == Reason::AddressDenied);
    if denied.clone().count() < MAX_DENIED && denied.all(|note| note.message != why) {
        out.notes.push(Refusal::new(Reason::AddressDenied, why));
    }
}

/// The addresses of a hostname, as last resolved.
fn resolved(q: &Question<'_>, host: &str, ready: bool, out: &mut Yield) -> Vec<MirrorEndpoint> {
    let Some(host) = hostname(host) else {
        note_denied(out, format!("{:?} is not a hostname", host.chars().take(64).collect::<String>()));
        return Vec::new();
    };
    out.hosts.insert(host.clone());
    let Some(known) = q.hosts.get(&host) else {
        out.awaits = true;
        out.notes.push(Refusal::new(Reason::Pending, format!("hostname {host} is being resolved")));
        return Vec::new();
    };
    if let Some(error) = &known.error {
        out.unresolved |= known.addresses.is_empty() && !known.expired;
        out.notes.push(Refusal::new(
            Reason::NoRoute,
            format!("hostname {host} does not resolve: {error}; the last good answer is kept for an hour past its TTL"),
        ));
    }
    let texts: Vec<String> = known.addresses.iter().map(ToString::to_string).collect();
    endpoints(q, texts.iter().map(String::as_str), ready, out)
}

/// A DNS name, lower case, without the dot at its end; none if it is not one.
pub fn hostname(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels_fine = name.split('.').all(|label| name::is_label(&label.replace('_', "x")));
    (name.len() <= 253 && labels_fine && name.parse::<IpAddr>().is_err()).then_some(name)
}
