//! A slice that keeps the contract passes every check; each way to break it fails one.

use serde_json::json;

use super::*;
use crate::{
    cli::{
        check::book::{Check, worst},
        survey::tests::origin,
    },
    cluster::wire::FromWire,
};

/// A Service shop/books that is exported, and what the link sees of it: two slices of ours, and its pods.
pub(in crate::cli::check) struct World {
    pub(in crate::cli::check) services: BTreeMap<Key, Origin>,
    slices: BTreeMap<Key, RemoteSlice>,
    addresses: AddressPolicy,
    pub(in crate::cli::check) mirrors: BTreeMap<Key, BTreeSet<String>>,
}

impl World {
    pub(in crate::cli::check) fn new(slices: &[(Key, Value)]) -> Self {
        let (books, service) = origin("books", json!({}));
        let pods = json!({
            "metadata": {"name": "books-pods", "namespace": "shop", "labels": {"kubernetes.io/service-name": "books"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}],
        });
        let pods = Option::<RemoteSlice>::from_wire(&pods).unwrap();
        let seen =
            slices.iter().filter_map(|(key, object)| Some((key.clone(), Option::<RemoteSlice>::from_wire(object)?)));
        Self {
            services: BTreeMap::from([(books.clone(), service)]),
            slices: seen.chain([(Key::new("shop", "books-pods"), pods)]).collect(),
            addresses: AddressPolicy { own: ["10.96.0.0/16".parse().unwrap()].into(), ..AddressPolicy::default() },
            mirrors: BTreeMap::from([(books, BTreeSet::from(["books-east.shop.svc.cluster.local".to_owned()]))]),
        }
    }

    pub(in crate::cli::check) fn scene(&self) -> Scene<'_> {
        Scene {
            binding: "public",
            services: &self.services,
            slices: &self.slices,
            addresses: &self.addresses,
            mirrors: self.mirrors.clone(),
            by_default: &|origin| Some(format!("{}-east.{}.svc.cluster.local", origin.name, origin.namespace)),
            hosts: BTreeMap::from([("gw.example".to_owned(), Ok(vec!["203.0.113.9".parse().unwrap()]))]),
        }
    }
}

/// A published slice of shop/books that keeps the contract, by that routing.
pub(in crate::cli::check) fn slice(name: &str, routing: &str) -> (Key, Value) {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": {
                "heliostat.dev/export": "true", "heliostat.dev/service-name": "books", "heliostat.dev/binding": "public",
                "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev",
                "service.kubernetes.io/service-proxy-name": "heliostat.dev", "service.kubernetes.io/headless": "",
            },
            "annotations": {
                "heliostat.dev/contract": "v1", "heliostat.dev/routing": routing, "heliostat.dev/port-lease": "24h",
                "heliostat.dev/hostnames": "books-east,books-east.shop.svc.cluster.local",
                "heliostat.dev/gateway-identity": "gateway.linkerd.example",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "books", "uid": "uid-books"}],
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.10"], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": 20001, "protocol": "TCP"}],
    });
    (Key::new("shop", name), object)
}

fn checked(world: &World, objects: &[(Key, Value)]) -> (Vec<Check>, usize) {
    let slices: Vec<Slice> = objects.iter().map(|(key, object)| Slice::new(key.clone(), object.clone())).collect();
    let mut book = Book::default();
    let used = check(&world.scene(), &slices, &mut book).len();
    (book.finish(), used)
}

/// The checks that a changed slice fails, and what they say.
fn broken(routing: &str, change: impl FnOnce(&mut Value)) -> Vec<(&'static str, String)> {
    let (key, mut object) = slice("books-public", routing);
    change(&mut object);
    let objects = [(key, object)];
    let (checks, _) = checked(&World::new(&objects), &objects);
    checks.into_iter().filter(|c| c.verdict == Verdict::Fail).map(|c| (c.check, c.detail)).collect()
}

#[test]
fn a_slice_that_keeps_the_contract_passes_by_every_routing() {
    for routing in Routing::ALL {
        let objects = [slice("books-public", routing.as_str())];
        let (checks, used) = checked(&World::new(&objects), &objects);
        assert_eq!((worst(&checks), used), (Verdict::Ok, 1), "{checks:?}");
        let made: Vec<&str> = checks.iter().map(|c| c.check).collect();
        assert_eq!(made.contains(&LEASE), routing == Routing::Port);
        assert_eq!(made.contains(&NAMES), matches!(routing, Routing::Host | Routing::Sni));
        assert_eq!(made.contains(&IDENTITY), routing == Routing::Linkerd);
    }
}

#[test]
fn each_broken_rule_fails_its_check_and_no_other() {
    let label = |name: &'static str, value: Value| {
        move |object: &mut Value| {
            object["metadata"]["labels"][name] = value;
        }
    };
    let note = |name: &'static str, value: &'static str| {
        move |object: &mut Value| {
            object["metadata"]["annotations"][name] = json!(value);
        }
    };
    let only = |routing: &str, change: &dyn Fn(&mut Value), wanted: &str| {
        let failed = broken(routing, change);
        assert_eq!(failed.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [wanted], "{failed:?}");
    };
    for name in [SERVICE_PROXY_NAME_LABEL, HEADLESS_LABEL] {
        let change = move |object: &mut Value| {
            object["metadata"]["labels"].as_object_mut().unwrap().remove(name);
        };
        only("Port", &change, PROXY);
    }
    only("Port", &|o| label(SERVICE_NAME_LABEL, json!("books"))(o), PROXY);
    only("Port", &|o| label(SLICE_MANAGED_BY_LABEL, json!("somebody"))(o), LABELS);
    only("Port", &|o| label(PUBLISHED_SERVICE_LABEL, json!(null))(o), LABELS);
    only("Port", &|o| note(CONTRACT_ANNOTATION, "v2")(o), VERSION);
    only("Port", &|o| note(ROUTING_ANNOTATION, "Magic")(o), ROUTING);
    only("Port", &|o| note(PORT_LEASE_ANNOTATION, "soon")(o), LEASE);
    only("Host", &|o| note(HOSTNAMES_ANNOTATION, "")(o), NAMES);
    only("SNI", &|o| note(HOSTNAMES_ANNOTATION, "books-west")(o), NAMES);
    only("Linkerd", &|o| note(GATEWAY_IDENTITY_ANNOTATION, "not a name")(o), IDENTITY);
    only("Port", &|o| o["metadata"]["ownerReferences"] = json!([]), OWNER);
    only("Port", &|o| o["metadata"]["ownerReferences"][0]["uid"] = json!("another"), OWNER);
    only("Port", &|o| o["ports"] = json!([]), PORTS);
    only("Port", &|o| o["ports"][0]["name"] = json!("public-http"), PORTS);
    only("Port", &|o| o["ports"][0]["protocol"] = json!("UDP"), PORTS);
    for address in ["127.0.0.1", "169.254.169.254", "10.96.0.1", "203.0.113.010"] {
        only("Port", &|o| o["endpoints"][0]["addresses"] = json!([address]), ADDRESSES);
    }
    only("Port", &|o| o["endpoints"] = json!([]), ADDRESSES);
}

#[test]
fn a_hostname_counts_by_what_it_resolves_to() {
    let fqdn = |host: &'static str| {
        move |object: &mut Value| {
            object["addressType"] = json!("FQDN");
            object["endpoints"][0]["addresses"] = json!([host]);
        }
    };
    assert_eq!(broken("Port", fqdn("gw.example")), []);
    assert!(broken("Port", fqdn("other.example"))[0].1.contains("not resolved"));
    assert!(broken("Port", fqdn("203.0.113.10"))[0].1.contains("not a hostname"));
}

#[test]
fn labels_and_consent_are_the_services() {
    let objects = [slice("books-public", "Port")];
    let failed = |world: &World| -> Vec<&str> {
        let (checks, _) = checked(world, &objects);
        checks.into_iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.check).collect()
    };
    assert_eq!(failed(&World::new(&[])), [SEEN], "the link does not see the slice");
    let mut gone = World::new(&objects);
    gone.services.clear();
    assert_eq!(failed(&gone), [SEEN], "the link does not see the Service");
    let mut silent = World::new(&objects);
    for service in silent.services.values_mut() {
        service.labels.clear();
    }
    assert_eq!(failed(&silent), [CONSENT]);
    let mut elsewhere = World::new(&[]);
    elsewhere.services.clear();
    let (checks, used) = checked(&elsewhere, &objects);
    assert_eq!((worst(&checks), used), (Verdict::Note, 0), "another link's business");
}

#[test]
fn readiness_is_the_services() {
    let mut world = World::new(&[slice("books-public", "Port")]);
    let (key, mut object) = slice("books-public", "Port");
    let ready_is = |world: &World, object: &Value| {
        let (checks, _) = checked(world, &[(key.clone(), object.clone())]);
        checks.iter().find(|c| c.check == READY).map(|c| c.verdict)
    };
    assert_eq!(ready_is(&world, &object), Some(Verdict::Ok));
    let pods = Key::new("shop", "books-pods");
    world.slices.get_mut(&pods).unwrap().endpoints.edit(|all| all[0].readiness.ready = false);
    assert_eq!(ready_is(&world, &object), Some(Verdict::Fail));
    object["endpoints"][0]["conditions"]["ready"] = json!(false);
    assert_eq!(ready_is(&world, &object), Some(Verdict::Ok));
    world.slices.get_mut(&pods).unwrap().endpoints.edit(|all| all[0].readiness.ready = true);
    assert_eq!(ready_is(&world, &object), Some(Verdict::Warn));
    world.slices.remove(&pods);
    assert_eq!(ready_is(&world, &object), None);
}

#[test]
fn a_name_without_a_policy_is_advice() {
    let mut objects = [slice("books-public", "Host")];
    let mut world = World::new(&objects);
    world.mirrors.clear();
    assert_eq!(worst(&checked(&world, &objects).0), Verdict::Ok);
    objects[0].1["metadata"]["annotations"][HOSTNAMES_ANNOTATION] = json!("books-west");
    assert_eq!(worst(&checked(&world, &objects).0), Verdict::Warn);
}

#[test]
fn a_port_for_two_services_fails_also_when_the_other_is_another_bindings() {
    let mut other = slice("pens-private", "Port");
    other.1["metadata"]["labels"][PUBLISHED_BINDING_LABEL] = json!("private");
    other.1["metadata"]["labels"][PUBLISHED_SERVICE_LABEL] = json!("pens");
    let objects = [slice("books-public", "Port"), other.clone()];
    let failed = |objects: &[(Key, Value)]| -> Vec<(&str, Option<String>)> {
        let (checks, _) = checked(&World::new(objects), objects);
        checks.into_iter().filter(|c| c.verdict == Verdict::Fail).map(|c| (c.check, c.subject)).collect()
    };
    assert_eq!(failed(&objects), [(UNIQUE, Some("203.0.113.10 20001/TCP".to_owned()))]);
    other.1["ports"][0]["port"] = json!(20002);
    assert_eq!(failed(&[objects[0].clone(), other.clone()]), []);
    other.1["ports"][0]["port"] = json!(20001);
    other.1["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(failed(&[objects[0].clone(), other]), [], "one that is on its way out counts no more");
}
