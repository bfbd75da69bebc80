//! Gateway: published slices of one binding, else an `import` binding of the link.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};

use super::{Question, Source, Via, Yield, carried, endpoints, hostname, note_denied, origin_ready, resolved};
use crate::{
    api::{
        Reason,
        binding::{Import, Routing},
        duration::parse_duration,
        names::{CONTRACT_V1, GATEWAY_IDENTITY_ANNOTATION},
    },
    core::{
        application,
        model::{
            AddressType, Family, LinkerdKeys, MirrorEndpoint, OriginPort, Protocol, Published, Readiness, RemoteSlice,
            SlicePort, SliceRole, Text,
        },
        select::Refusal,
    },
};

type Offer = Result<Yield, (Refusal, Yield)>;
type PublishedSlices<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a RemoteSlice, &'a Published)>>;

/// One offer a binding, in order: the policy's, else by name; for one name published ones first.
pub(super) fn offers(q: &Question<'_>) -> Vec<(Via, Offer)> {
    let mut published: PublishedSlices<'_> = BTreeMap::new();
    for (name, slice) in q.remote.slices_of(q.key) {
        if let SliceRole::Published(what) = &slice.role {
            published.entry(&what.binding).or_default().push((name, slice, what));
        }
    }
    let imports: BTreeMap<&str, (Routing, &Import)> = q
        .bindings
        .iter()
        .filter(|(_, b)| b.metadata.deletion_timestamp.is_none())
        .filter_map(|(name, b)| b.spec.import.as_ref().map(|import| (name.as_str(), (b.spec.routing, import))))
        .filter(|(_, (_, import))| import.link_ref.name == q.link)
        .collect();
    let all: BTreeSet<&str> = published.keys().copied().chain(imports.keys().copied()).collect();
    let order: Vec<&str> = match q.policy.bindings.as_slice() {
        [] => all.into_iter().collect(),
        named => named.iter().map(String::as_str).filter(|name| all.contains(name)).collect(),
    };
    let mut offers = Vec::new();
    for binding in order {
        if let Some(slices) = published.get(binding) {
            offers.push((Via::Gateway(binding.into()), by_published(q, binding, slices)));
        }
        if let Some((routing, import)) = imports.get(binding) {
            offers.push((Via::Gateway(binding.into()), by_import(q, binding, *routing, import)));
        }
    }
    offers
}

fn by_published(q: &Question<'_>, binding: &str, slices: &[(&str, &RemoteSlice, &Published)]) -> Offer {
    let mut out = Yield::default();
    let mut refused = None;
    for (name, slice, published) in slices {
        let usable = usable(q, published).and_then(|linkerd| {
            let ports = published_ports(q, slice, linkerd.is_some());
            if linkerd.is_some() && ports.is_empty() { Err(no_tcp(q)) } else { Ok((linkerd, ports)) }
        });
        let (linkerd, ports) = match usable {
            Ok(usable) => usable,
            Err(refusal) => {
                refused = Some(refusal);
                continue;
            }
        };
        let lease = port_lease(published);
        let stale = lease.is_some_and(|lease| ran_out(lease, q.remote.unknown_since, q.now));
        out.stale |= stale;
        let mut found = Vec::new();
        for endpoint in &slice.endpoints {
            let readiness = if stale { Readiness::all(false) } else { endpoint.readiness };
            let Some(address) = &endpoint.address else { continue };
            found.extend(with_readiness(q, slice.address_type, &address.as_text(), readiness, &mut out));
        }
        let key = vec!["gateway".to_owned(), binding.to_owned(), (*name).to_owned()];
        let port_lease = lease.map(|lease| format!("{}s", lease.as_secs()).into());
        out.sources.push(Source { name: key, ports, endpoints: found, trigger_time: None, port_lease, linkerd });
    }
    match refused {
        Some(refusal) if out.sources.is_empty() => Err((refusal, out)),
        _ => Ok(out),
    }
}

fn with_readiness(
    q: &Question<'_>,
    kind: AddressType,
    address: &str,
    readiness: Readiness,
    out: &mut Yield,
) -> Vec<MirrorEndpoint> {
    let mut found = match kind {
        AddressType::Ip(_) => endpoints(q, std::iter::once(address), readiness.ready, out),
        AddressType::Fqdn => resolved(q, address, readiness.ready, out),
    };
    found.iter_mut().for_each(|e| e.readiness = readiness);
    found
}

/// Whether this program can use what a published slice says, and what Linkerd must know of it.
fn usable(q: &Question<'_>, published: &Published) -> Result<Option<Box<LinkerdKeys>>, Refusal> {
    if published.contract != CONTRACT_V1 {
        return Err(Refusal::new(
            Reason::UnsupportedValue,
            format!(
                "the published slice speaks contract {:?}, this version of Heliostat speaks {CONTRACT_V1}; upgrade the older side",
                published.contract
            ),
        ));
    }
    match Routing::parse(&published.routing) {
        Some(Routing::Port) => Ok(None),
        Some(Routing::Host | Routing::Sni)
            if published.hostnames.iter().any(|h| h.eq_ignore_ascii_case(&q.mirror_name)) =>
        {
            Ok(None)
        }
        Some(Routing::Host | Routing::Sni) => Err(Refusal::new(
            Reason::HostnameMismatch,
            format!(
                "the gateway does not answer to {}, only to {}; add it to the exporting binding's spec.export.hostnames, or rename the mirror",
                q.mirror_name,
                if published.hostnames.is_empty() { "no name".to_owned() } else { published.hostnames.join(", ") }
            ),
        )),
        Some(Routing::Linkerd) => linkerd_keys(q, published.identity.as_deref(), &published.hostnames).map(Some),
        None => Err(Refusal::new(
            Reason::UnsupportedValue,
            format!("routing {:?} is not supported by this version", published.routing),
        )),
    }
}

/// What Linkerd must know of the gateway's addresses. The name by which the gateway knows an origin
/// ends in the exporter's cluster domain, which its API does not tell: a published slice may, else
/// it is taken to be the same as here.
fn linkerd_keys(q: &Question<'_>, identity: Option<&str>, hostnames: &[Text]) -> Result<Box<LinkerdKeys>, Refusal> {
    let is_name = |text: &str| hostname(text).is_some_and(|name| name == text);
    let Some(identity) = identity.filter(|identity| is_name(identity)) else {
        let there =
            identity.map_or("missing".to_owned(), |text| format!("{:?}", text.chars().take(64).collect::<String>()));
        return Err(Refusal::new(
            Reason::UnsupportedValue,
            format!(
                "routing Linkerd needs the gateway's TLS identity, a DNS name, but it is {there}; correct the published slice's annotation {GATEWAY_IDENTITY_ANNOTATION}, or spec.import.identity"
            ),
        ));
    };
    let service = format!("{}.{}.svc.", q.key.name, q.key.namespace);
    let published = hostnames.iter().find(|name| name.starts_with(&service) && is_name(name)).cloned();
    let service = published.unwrap_or_else(|| format!("{service}{}", q.cluster_domain).into());
    Ok(Box::new(LinkerdKeys { identity: Some(identity.into()), service: Some(service) }))
}

fn no_tcp(q: &Question<'_>) -> Refusal {
    Refusal::new(
        Reason::PortUnsupported,
        format!("the Linkerd gateway carries no wanted port of {}: it carries TCP only", q.key),
    )
}

/// For how long the ports of a published slice may be used unconfirmed (design: section 4).
fn port_lease(published: &Published) -> Option<SignedDuration> {
    let text = published.port_lease.as_deref().filter(|_| published.routing == Routing::Port.as_str())?;
    SignedDuration::try_from(parse_duration(text).ok()?).ok()
}

/// Whether a lease has run out without a confirmation by the link.
fn ran_out(lease: SignedDuration, unknown_since: Option<Timestamp>, now: Timestamp) -> bool {
    unknown_since.is_some_and(|since| now.duration_since(since) >= lease)
}

fn published_ports(q: &Question<'_>, slice: &RemoteSlice, tcp_only: bool) -> Vec<SlicePort> {
    let wanted = q.ports.iter().filter(|p| !tcp_only || p.protocol == Protocol::Tcp);
    let outside =
        |wanted: &OriginPort| slice.ports.iter().find(|p| p.name == wanted.name && p.protocol == wanted.protocol);
    wanted.filter_map(|wanted| outside(wanted).map(|found| carried(wanted, found.port))).collect()
}

fn by_import(q: &Question<'_>, binding: &str, routing: Routing, import: &Import) -> Offer {
    let mut out = Yield::default();
    let usable = import_ports(q, routing, import).and_then(|ports| match routing {
        Routing::Linkerd => Ok((ports, Some(linkerd_keys(q, import.identity.as_deref(), &[])?))),
        Routing::Port | Routing::Host | Routing::Sni => Ok((ports, None)),
    });
    let (ports, linkerd) = match usable {
        Ok(usable) => usable,
        Err(refusal) => return Err((refusal, out)),
    };
    let ready = origin_ready(q);
    let mut found = Vec::new();
    for address in &import.addresses {
        found.extend(match address.value.parse::<IpAddr>() {
            Ok(_) => endpoints(q, std::iter::once(address.value.as_str()), ready, &mut out),
            Err(_) => resolved(q, &address.value, ready, &mut out),
        });
    }
    if import.addresses.is_empty() {
        note_denied(&mut out, "the binding has no addresses".to_owned());
    }
    out.sources.push(Source {
        name: vec!["gateway".to_owned(), binding.to_owned()],
        ports,
        endpoints: found,
        trigger_time: None,
        port_lease: None,
        linkerd,
    });
    Ok(out)
}

/// Marks addresses that do not answer not ready, as far as others carry the same: the last address of
/// a port in a family stays as it is, as nothing is gained by withdrawing it.
pub(super) fn withdraw(q: &Question<'_>, binding: &str, sources: &mut [Source]) {
    if q.down.is_empty() && q.withdrawn.is_empty() {
        return;
    }
    let is_withdrawn = |endpoint: &MirrorEndpoint| q.withdrawn.contains(&(binding, endpoint.address));
    let is_down = |endpoint: &MirrorEndpoint| q.down.contains(&(binding, endpoint.address)) || is_withdrawn(endpoint);
    let mut carried: BTreeSet<(Family, Text, Protocol)> = BTreeSet::new();
    for source in sources.iter() {
        for up in source.endpoints.iter().filter(|e| e.readiness.ready && !is_down(e)) {
            let family = Family::of(up.address);
            carried.extend(source.ports.iter().map(|port| (family, port.name.clone(), port.protocol)));
        }
    }
    for source in sources {
        let ports = &source.ports;
        for endpoint in source.endpoints.iter_mut().filter(|e| is_down(e)) {
            let family = Family::of(endpoint.address);
            let others_carry = || ports.iter().all(|p| carried.contains(&(family, p.name.clone(), p.protocol)));
            if is_withdrawn(endpoint) || others_carry() {
                endpoint.readiness = Readiness::all(false);
            }
        }
    }
}

fn import_ports(q: &Question<'_>, routing: Routing, import: &Import) -> Result<Vec<SlicePort>, Refusal> {
    let ports: Vec<SlicePort> = match (routing, import.port) {
        (Routing::Port, _) => {
            let service = q.key.to_string();
            let entry = |p: &OriginPort| {
                import.ports.iter().find(|e| e.service == service && (e.port == p.name || e.port == p.port.to_string()))
            };
            q.ports.iter().filter_map(|p| entry(p).map(|e| carried(p, e.gateway_port))).collect()
        }
        (Routing::Host, Some(port)) => on_listener(q, port, application::is_http),
        (Routing::Sni, Some(port)) => on_listener(q, port, application::is_tls),
        (Routing::Linkerd, Some(port)) => {
            q.ports.iter().filter(|p| p.protocol == Protocol::Tcp).map(|p| carried(p, port)).collect()
        }
        (Routing::Host | Routing::Sni | Routing::Linkerd, None) => {
            return Err(Refusal::new(Reason::InvalidSpec, "the binding has no spec.import.port"));
        }
    };
    if ports.is_empty() && routing == Routing::Linkerd {
        return Err(no_tcp(q));
    }
    if ports.is_empty() {
        return Err(Refusal::new(
            Reason::PortUnsupported,
            match routing {
                Routing::Port => format!(
                    "the binding's spec.import.ports names no wanted port of {}; add {{service: {}, port: ..., gatewayPort: ...}}",
                    q.key, q.key
                ),
                _ => format!(
                    "no wanted port of {} says by its appProtocol or name that {} routing can carry it on the gateway's port",
                    q.key,
                    routing.as_str()
                ),
            },
        ));
    }
    Ok(ports)
}

/// The ports that one listener carries: the one of its number, or a Service's only such port.
fn on_listener(q: &Question<'_>, listener: u16, fits: fn(&OriginPort) -> bool) -> Vec<SlicePort> {
    let fitting: Vec<&&OriginPort> = q.ports.iter().filter(|p| p.protocol == Protocol::Tcp && fits(p)).collect();
    match fitting.as_slice() {
        [only] => vec![carried(only, listener)],
        several => several.iter().filter(|p| p.port == listener).map(|p| carried(p, listener)).collect(),
    }
}
