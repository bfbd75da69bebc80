//! Port claims: which outside port of a gateway belongs to which port of a Service. Each is a
//! Lease in the controller's namespace whose *name* is the port: creating it is the test-and-set,
//! so that the API server itself makes a double allocation impossible (design: section 4).
//!
//! A claim that is let go keeps its holder and gets the time of that as `renewTime`; for twice the
//! port lease only the same holder may have the port again, then the Lease is deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    object::{self, LEASE, Object, ObjectId, Objects},
    provider::{self, RouteId, Supply},
};
use crate::{
    api::{Reason, binding::PortRange, names::PUBLISHED_BINDING_LABEL},
    core::{
        model::{Key, Protocol},
        name,
        select::Refusal,
    },
};

/// Who a gateway is, in the names of its claims: 8 hex digits.
#[must_use]
pub fn gateway_hash(identity: &[String; 4]) -> String {
    let fields: Vec<&str> = identity.iter().map(String::as_str).collect();
    name::hash(&fields, 8)
}

/// Who holds a port: `<namespace>/<service>/<Service port number>`.
#[must_use]
pub fn holder(route: &RouteId) -> String {
    format!("{}/{}", route.service, route.port)
}

fn lease_name(gateway: &str, protocol: Protocol, port: u16) -> String {
    format!("port-{gateway}-{}-{port}", protocol.as_str().to_ascii_lowercase())
}

/// A claim, as its Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortClaim {
    /// The Lease.
    pub lease: Key,
    /// Who holds it.
    pub holder: String,
    /// The binding it was made for.
    pub binding: String,
    /// When it was let go; none: it is held.
    pub released: Option<Timestamp>,
    /// For how long importers may use the port unconfirmed.
    pub port_lease: SignedDuration,
    /// It is being deleted.
    pub terminating: bool,
}

impl PortClaim {
    /// When another holder may have the port.
    #[must_use]
    pub fn free_at(&self) -> Option<Timestamp> {
        self.released.map(|at| at.saturating_add(self.port_lease * 2).unwrap_or(Timestamp::MAX))
    }
}

/// All claims: (8 hex digits of the gateway, protocol, port) → claim.
#[derive(Debug, Default)]
pub struct PortClaims(BTreeMap<(String, Protocol, u16), PortClaim>);

impl PortClaims {
    /// The claims that there are.
    #[must_use]
    pub fn read(objects: &Objects) -> Self {
        Self(objects.all(LEASE).filter_map(|(key, lease)| read(key, lease)).collect())
    }

    /// The claims on the ports of one gateway.
    pub fn of<'a>(&'a self, gateway: &str) -> impl Iterator<Item = (Protocol, u16, &'a PortClaim)> {
        let gateway = gateway.to_owned();
        self.0.iter().filter(move |((of, ..), _)| *of == gateway).map(|((_, protocol, port), c)| (*protocol, *port, c))
    }

    /// All claims.
    pub fn all(&self) -> impl Iterator<Item = &PortClaim> {
        self.0.values()
    }
}

fn read(key: &Key, lease: &Value) -> Option<((String, Protocol, u16), PortClaim)> {
    let mut parts = key.name.strip_prefix("port-")?.splitn(3, '-');
    let (gateway, protocol, port) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    let spec = &lease["spec"];
    let claim = PortClaim {
        lease: key.clone(),
        holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        binding: object::label(lease, PUBLISHED_BINDING_LABEL).to_owned(),
        released: spec["renewTime"].as_str().and_then(|text| text.parse().ok()),
        port_lease: SignedDuration::from_secs(spec["leaseDurationSeconds"].as_i64().unwrap_or_default()),
        terminating: object::is_terminating(lease),
    };
    Some(((gateway.to_owned(), Protocol::parse(&protocol.to_ascii_uppercase())?, port), claim))
}

/// What a binding's claims are made with.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The binding.
    pub binding: &'a str,
    /// The controller's own namespace.
    pub namespace: &'a str,
    /// 8 hex digits of the gateway.
    pub gateway: &'a str,
    /// From which ports, and for how long importers may use one unconfirmed.
    pub range: &'a PortRange,
    /// That lease, read.
    pub port_lease: SignedDuration,
    /// What the gateway has.
    pub supply: &'a Supply,
}

/// What is to be done so that a route has its port.
#[derive(Clone, Debug, PartialEq)]
pub enum Allocation {
    /// It has it.
    Has(u16),
    /// This Lease is to be written, then it has this port.
    Claim(u16, Box<Object>),
    /// It gets none.
    Refused(Refusal),
}

/// Allocates ports for the routes of one binding: those that have one keep it, those that had one
/// get it back, and the others get one that nobody has, never one of `tried`: ports that turned
/// out to be taken since they were last seen.
#[must_use]
pub fn allocate(
    terms: &Terms<'_>,
    claims: &PortClaims,
    routes: &BTreeSet<RouteId>,
    published: &BTreeMap<RouteId, u16>,
    tried: &BTreeSet<Key>,
) -> BTreeMap<RouteId, Allocation> {
    let mut by_port: BTreeMap<(Protocol, u16), &PortClaim> = BTreeMap::new();
    let mut by_holder: BTreeMap<(Protocol, &str), Vec<(u16, &PortClaim)>> = BTreeMap::new();
    for (protocol, port, claim) in claims.of(terms.gateway) {
        by_port.insert((protocol, port), claim);
        by_holder.entry((protocol, claim.holder.as_str())).or_default().push((port, claim));
    }
    let mut given: BTreeSet<(Protocol, u16)> = BTreeSet::new();
    let mut out = BTreeMap::new();
    let mut newcomers = Vec::new();
    for route in routes {
        match former(terms, route, &by_port, &by_holder, published) {
            Some((port, allocation)) => {
                given.insert((route.protocol, port));
                out.insert(route.clone(), allocation);
            }
            None => newcomers.push(route),
        }
    }
    for route in newcomers {
        let free = |port: u16| {
            let at = (route.protocol, port);
            let lease = Key::new(terms.namespace, lease_name(terms.gateway, route.protocol, port));
            !given.contains(&at)
                && !by_port.contains_key(&at)
                && !tried.contains(&lease)
                && terms.supply.has(route.protocol, port)
        };
        let allocation = match probe(terms.range, route, free) {
            Some(port) => {
                given.insert((route.protocol, port));
                Allocation::Claim(port, Box::new(lease(terms, route, port)))
            }
            None => Allocation::Refused(exhausted(terms, route)),
        };
        out.insert(route.clone(), allocation);
    }
    out
}

/// The port that a route has, had, or was published with before the Leases were lost.
fn former(
    terms: &Terms<'_>,
    route: &RouteId,
    by_port: &BTreeMap<(Protocol, u16), &PortClaim>,
    by_holder: &BTreeMap<(Protocol, &str), Vec<(u16, &PortClaim)>>,
    published: &BTreeMap<RouteId, u16>,
) -> Option<(u16, Allocation)> {
    let holder = holder(route);
    let mine = by_holder.get(&(route.protocol, holder.as_str())).map_or(&[][..], Vec::as_slice);
    let usable = |(port, claim): &&(u16, &PortClaim)| !claim.terminating && terms.supply.has(route.protocol, *port);
    // After a crash or an answer that came too late it may hold two: what is published stays.
    let is_published = |port: u16| published.get(route) == Some(&port);
    let held = mine.iter().filter(usable).filter(|(_, c)| c.released.is_none() && c.binding == terms.binding);
    if let Some((port, _)) = held.min_by_key(|(port, _)| (!is_published(*port), *port)) {
        return Some((*port, Allocation::Has(*port)));
    }
    if let Some((port, _)) = mine.iter().filter(usable).find(|(_, c)| c.released.is_some()) {
        return Some((*port, Allocation::Claim(*port, Box::new(lease(terms, route, *port)))));
    }
    let port = *published.get(route)?;
    let free = !by_port.contains_key(&(route.protocol, port)) && terms.supply.has(route.protocol, port);
    free.then(|| (port, Allocation::Claim(port, Box::new(lease(terms, route, port)))))
}

/// From a place in the range that follows from the route, upwards and around.
fn probe(range: &PortRange, route: &RouteId, free: impl Fn(u16) -> bool) -> Option<u16> {
    let size = u32::from(range.to.saturating_sub(range.from)) + 1;
    let RouteId { service: Key { namespace, name }, port, .. } = route;
    let hash = name::hash(&[namespace, name, &port.to_string()], 8);
    let start = u32::from_str_radix(&hash, 16).unwrap_or_default() % size;
    let at = |step: u32| u16::try_from(u32::from(range.from) + (start + step) % size).unwrap_or(range.to);
    (0..size).map(at).find(|port| free(*port))
}

fn lease(terms: &Terms<'_>, route: &RouteId, port: u16) -> Object {
    let key = Key::new(terms.namespace, lease_name(terms.gateway, route.protocol, port));
    let seconds = terms.port_lease.as_secs().clamp(1, i64::from(i32::MAX));
    let spec = json!({"holderIdentity": holder(route), "leaseDurationSeconds": seconds, "renewTime": null});
    Object { labels: provider::labels(terms.binding), ..Object::with_spec(LEASE, key, spec) }
}

fn exhausted(terms: &Terms<'_>, route: &RouteId) -> Refusal {
    let PortRange { from, to, .. } = terms.range;
    if !terms.supply.protocols.contains(&route.protocol) {
        return Refusal::new(
            Reason::PortUnsupported,
            format!("{route}: the gateway carries no {}", route.protocol.as_str()),
        );
    }
    let hint = match terms.supply.hint.as_str() {
        "" => "widen spec.export.ports; ports that were let go are free after twice their lease",
        hint => hint,
    };
    Refusal::new(
        Reason::PortsExhausted,
        format!("no {} port from {from} to {to} is free for {route}; {hint}", route.protocol.as_str()),
    )
}

/// The changes of claims that nobody needs any more: they are let go, and after twice their lease
/// deleted. `needed` has the Leases of all routes of all bindings.
#[must_use]
pub fn let_go(claims: &PortClaims, needed: &BTreeSet<Key>, now: Timestamp) -> Vec<LetGo> {
    let change = |claim: &PortClaim| match claim.free_at() {
        _ if claim.terminating || needed.contains(&claim.lease) => None,
        None => Some(LetGo::Release(ObjectId { kind: LEASE, key: claim.lease.clone() }, micro_time(now))),
        Some(free) if free <= now => Some(LetGo::Delete(ObjectId { kind: LEASE, key: claim.lease.clone() })),
        Some(_) => None,
    };
    claims.all().filter_map(change).collect()
}

/// A change of a claim that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// Its `renewTime` becomes this.
    Release(ObjectId, String),
    /// It is deleted.
    Delete(ObjectId),
}

/// As Leases write times: with exactly six digits of a second.
fn micro_time(time: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::export::object::KindNews;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn range(from: u16, to: u16) -> PortRange {
        PortRange { from, to, lease: "1h".into() }
    }

    fn route(service: &str) -> RouteId {
        RouteId { service: Key::new("shop", service), port: 80, protocol: Protocol::Tcp }
    }

    fn supply() -> Supply {
        Supply { protocols: [Protocol::Tcp].into(), ..Supply::default() }
    }

    struct Cluster {
        objects: Objects,
        supply: Supply,
        range: PortRange,
    }

    impl Cluster {
        fn new(range: PortRange) -> Self {
            let mut objects = Objects::default();
            objects.take(LEASE, KindNews::Listed("v1".into(), BTreeMap::new()));
            Self { objects, supply: supply(), range }
        }

        fn terms<'a>(&'a self, binding: &'a str) -> Terms<'a> {
            Terms {
                binding,
                namespace: "heliostat-system",
                gateway: "0a1b2c3d",
                range: &self.range,
                port_lease: HOUR,
                supply: &self.supply,
            }
        }

        fn allocate(&self, binding: &str, routes: &[&str], published: &[(&str, u16)]) -> BTreeMap<RouteId, Allocation> {
            let routes = routes.iter().map(|r| route(r)).collect();
            let published = published.iter().map(|(r, port)| (route(r), *port)).collect();
            allocate(&self.terms(binding), &PortClaims::read(&self.objects), &routes, &published, &BTreeSet::new())
        }

        /// Writes what was asked for; false where a Lease of that name is held: the API server's 409.
        fn write(&mut self, allocations: &BTreeMap<RouteId, Allocation>) -> bool {
            let mut all = true;
            for allocation in allocations.values() {
                let Allocation::Claim(_, object) = allocation else { continue };
                let held = self.objects.get(LEASE, &object.id.key).is_some_and(|l| l["spec"]["renewTime"].is_null());
                all &= !held;
                if !held {
                    let body = Value::Object(object.whole());
                    self.objects.take(LEASE, KindNews::Set(object.id.key.clone(), body));
                }
            }
            all
        }

        fn port(&self, binding: &str, service: &str) -> Option<u16> {
            match self.allocate(binding, &[service], &[]).remove(&route(service)) {
                Some(Allocation::Has(port)) => Some(port),
                _ => None,
            }
        }

        fn release_all(&mut self, now: Timestamp) {
            for change in let_go(&PortClaims::read(&self.objects), &BTreeSet::new(), now) {
                match change {
                    LetGo::Release(id, at) => {
                        let mut lease = self.objects.get(LEASE, &id.key).unwrap().clone();
                        lease["spec"]["renewTime"] = json!(at);
                        self.objects.take(LEASE, KindNews::Set(id.key, lease));
                    }
                    LetGo::Delete(id) => drop(self.objects.take(LEASE, KindNews::Gone(id.key))),
                }
            }
        }
    }

    #[test]
    fn g06_different_services_get_different_ports_and_a_full_range_refuses_the_newcomer_only() {
        let mut cluster = Cluster::new(range(20_000, 20_001));
        let first = cluster.allocate("public", &["a", "b"], &[]);
        assert!(cluster.write(&first));
        let (a, b) = (cluster.port("public", "a").unwrap(), cluster.port("public", "b").unwrap());
        assert_ne!(a, b);
        let all = cluster.allocate("public", &["a", "b", "c"], &[]);
        assert_eq!((&all[&route("a")], &all[&route("b")]), (&Allocation::Has(a), &Allocation::Has(b)));
        let Allocation::Refused(refusal) = &all[&route("c")] else { panic!("{all:?}") };
        assert_eq!(refusal.reason, Reason::PortsExhausted);
        assert!(refusal.message.contains("shop/c/80/TCP"), "{}", refusal.message);
    }

    #[test]
    fn g07_a_released_port_is_nobody_elses_for_twice_the_lease() {
        let mut cluster = Cluster::new(range(20_000, 20_000));
        let first = cluster.allocate("public", &["a"], &[]);
        cluster.write(&first);
        let start = Timestamp::UNIX_EPOCH;
        cluster.release_all(start);
        let later = |by: SignedDuration| start.checked_add(by).unwrap();
        for now in [later(HOUR), later(HOUR * 2 - SignedDuration::from_secs(1))] {
            cluster.release_all(now);
            let Allocation::Refused(_) = &cluster.allocate("public", &["b"], &[])[&route("b")] else { panic!() };
        }
        // g04: its former holder has it back at once.
        assert!(matches!(cluster.allocate("public", &["a"], &[])[&route("a")], Allocation::Claim(20_000, _)));
        cluster.release_all(later(HOUR * 2));
        assert!(matches!(cluster.allocate("public", &["b"], &[])[&route("b")], Allocation::Claim(20_000, _)));
    }

    #[test]
    fn g14_lost_leases_are_claimed_again_as_they_were_published() {
        let cluster = Cluster::new(range(20_000, 27_999));
        let all = cluster.allocate("public", &["a", "b"], &[("a", 20_123), ("b", 20_124)]);
        assert!(matches!(all[&route("a")], Allocation::Claim(20_123, _)));
        assert!(matches!(all[&route("b")], Allocation::Claim(20_124, _)));
    }

    #[test]
    fn g14_of_two_ports_that_a_route_holds_the_published_one_stays() {
        let mut cluster = Cluster::new(range(20_000, 20_009));
        for port in [20_003, 20_007] {
            let lease = lease(&cluster.terms("public"), &route("a"), port);
            cluster.objects.take(LEASE, KindNews::Set(lease.id.key.clone(), Value::Object(lease.whole())));
        }
        let published = [("a", 20_007)];
        assert_eq!(cluster.allocate("public", &["a"], &published)[&route("a")], Allocation::Has(20_007));
        assert_eq!(cluster.allocate("public", &["a"], &[])[&route("a")], Allocation::Has(20_003));
    }

    #[test]
    fn g13_two_bindings_of_one_gateway_never_share_a_port() {
        let mut cluster = Cluster::new(range(20_000, 20_003));
        let first = cluster.allocate("one", &["a", "b"], &[]);
        cluster.write(&first);
        let second = cluster.allocate("two", &["a", "b"], &[]);
        assert!(cluster.write(&second));
        let ports: BTreeSet<u16> =
            ["one", "two"].iter().flat_map(|b| ["a", "b"].map(|s| cluster.port(b, s).unwrap())).collect();
        assert_eq!(ports.len(), 4);
    }

    #[test]
    fn g08_ports_of_somebody_else_are_not_given_out() {
        let mut cluster = Cluster::new(range(20_000, 20_001));
        cluster.supply.taken.insert((Protocol::Tcp, 20_000), "listener web".into());
        assert!(matches!(cluster.allocate("b", &["a"], &[])[&route("a")], Allocation::Claim(20_001, _)));
        cluster.supply.pool = Some(BTreeSet::new());
        assert!(matches!(cluster.allocate("b", &["a"], &[])[&route("a")], Allocation::Refused(_)));
    }

    #[test]
    fn a_protocol_that_the_gateway_does_not_carry_is_said_so() {
        let mut cluster = Cluster::new(range(20_000, 20_001));
        cluster.supply.pool = Some(BTreeSet::new());
        let udp = RouteId { protocol: Protocol::Udp, ..route("a") };
        let all = allocate(
            &cluster.terms("b"),
            &PortClaims::default(),
            &[udp.clone()].into(),
            &BTreeMap::new(),
            &BTreeSet::new(),
        );
        let Allocation::Refused(refusal) = &all[&udp] else { panic!() };
        assert_eq!(refusal.reason, Reason::PortUnsupported);
    }

    mod two_writers {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            /// Two controllers that both believe to lead, each with a view as old as it may be: the
            /// API server's test-and-set alone keeps every port with one holder.
            #[test]
            fn g13_no_port_has_two_holders(steps in proptest::collection::vec((any::<bool>(), 0usize..6, any::<bool>()), 1..60)) {
                let mut server: BTreeMap<Key, Value> = BTreeMap::new();
                let mut views = [Cluster::new(range(20_000, 20_007)), Cluster::new(range(20_000, 20_007))];
                let mut tried = [BTreeSet::new(), BTreeSet::new()];
                let mut had: BTreeMap<String, Key> = BTreeMap::new();
                for (who, service, refresh) in steps {
                    let who = usize::from(who);
                    if refresh {
                        views[who].objects.take(LEASE, KindNews::Listed("v1".into(), server.clone()));
                        tried[who].clear();
                    }
                    let wanted = route(&format!("s{service}"));
                    let claims = PortClaims::read(&views[who].objects);
                    let all = allocate(&views[who].terms("public"), &claims, &[wanted.clone()].into(), &BTreeMap::new(), &tried[who]);
                    let Some(Allocation::Claim(_, lease)) = all.get(&wanted) else { continue };
                    let body = Value::Object(lease.whole());
                    match server.entry(lease.id.key.clone()) {
                        std::collections::btree_map::Entry::Vacant(free) => {
                            free.insert(body.clone());
                            had.entry(holder(&wanted)).or_insert(lease.id.key.clone());
                            views[who].objects.take(LEASE, KindNews::Set(lease.id.key.clone(), body));
                        }
                        std::collections::btree_map::Entry::Occupied(_) => { tried[who].insert(lease.id.key.clone()); }
                    }
                }
                // Each Lease has the holder it was made with: nothing was taken over.
                for (holder, lease) in had {
                    prop_assert_eq!(server[&lease]["spec"]["holderIdentity"].as_str(), Some(holder.as_str()));
                }
            }
        }
    }

    #[test]
    fn g13_each_gateway_has_claims_of_its_own() {
        let hash = |of: [&str; 4]| gateway_hash(&of.map(str::to_owned));
        let main = hash(["plain", "Gateway", "edge", "main"]);
        assert!(main.len() == 8 && main.bytes().all(|b| b.is_ascii_hexdigit()), "{main}");
        assert_eq!(main, hash(["plain", "Gateway", "edge", "main"]));
        for other in [
            ["own", "Gateway", "edge", "main"],
            ["plain", "Gateway", "edge", "other"],
            ["plain", "Gateway", "edgem", "ain"],
        ] {
            assert_ne!(main, hash(other));
        }
    }

    #[test]
    fn g06_the_last_free_port_is_found_wherever_it_is() {
        for free in 20_000..=20_006 {
            assert_eq!(probe(&range(20_000, 20_006), &route("books"), |port| port == free), Some(free));
        }
        assert_eq!(probe(&range(20_000, 20_006), &route("books"), |_| false), None);
        let first = |service: &str| probe(&range(20_000, 29_999), &route(service), |_| true).unwrap();
        let all: BTreeSet<u16> = ["a", "b", "c", "d", "e"].map(first).into();
        assert!(all.len() > 1, "services begin in different places, so that claims seldom collide: {all:?}");
    }

    #[test]
    fn g14_a_published_port_whose_lost_lease_somebody_else_has_by_now_is_not_claimed_again() {
        let mut cluster = Cluster::new(range(20_000, 20_001));
        let theirs = cluster.allocate("other", &["films"], &[("films", 20_000)]);
        assert!(cluster.write(&theirs));
        let mine = cluster.allocate("public", &["books"], &[("books", 20_000)]);
        assert!(matches!(mine[&route("books")], Allocation::Claim(20_001, _)), "{mine:?}");
    }
}
