//! Gateways that a user describes by hand: which ports of an origin their listeners carry.

use heliostat::core::model::{Ingress, Origin, OriginPort, Protocol};
use serde_json::{Value, json};

use crate::common::*;

/// An origin with these ports that only the import binding can reach.
fn with_import(ports: &[OriginPort], routing: &str, import: Value) -> Sim {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Gateway"]})));
    let mut spec = json!({"linkRef": {"name": "east"}, "addresses": [{"value": "203.0.113.10"}]});
    import.as_object().unwrap().iter().for_each(|(field, value)| spec[field] = value.clone());
    sim.set_binding(binding("by-hand", json!({"routing": routing, "import": spec})));
    sim.connect("east");
    let mut books = origin("b1");
    books.ports = ports.to_vec().into();
    sim.list("east", &[("shop/books", books)], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    sim
}

fn endpoints(ports: &[OriginPort], routing: &str, import: Value) -> Vec<String> {
    with_import(ports, routing, import).endpoints("shop/books-east")
}

fn why(ports: &[OriginPort], routing: &str, import: Value) -> String {
    let sim = with_import(ports, routing, import);
    assert_eq!(sim.endpoints("shop/books-east"), Vec::<String>::new());
    sim.mirror("shop/books-east").mirrored().unwrap().message.to_string()
}

#[test]
fn g08_a_listener_carries_an_origins_only_port_that_speaks_so_or_the_one_of_its_number() {
    let (http, grpc, https, db) = (port("http", 80), port("grpc", 9090), port("https", 8443), port("db", 5432));
    let quic = OriginPort { protocol: Protocol::Udp, ..port("http-quic", 8080) };
    let at = |number: u16| json!({"port": number});
    let only = [http.clone(), db.clone(), quic, https.clone()];
    assert_eq!(endpoints(&only, "Host", at(8000)), ["203.0.113.10:8000 http ready"]);
    assert_eq!(endpoints(&only, "SNI", at(443)), ["203.0.113.10:443 https ready"]);
    let two = [http, grpc, db.clone()];
    assert_eq!(endpoints(&two, "Host", at(9090)), ["203.0.113.10:9090 grpc ready"], "one of several by its number");
    for (ports, routing) in [(&two[..], "Host"), (&two[..], "SNI"), (&[db][..], "Host")] {
        let why = why(ports, routing, at(443));
        assert!(why.contains(&format!("{routing} routing can carry")), "{why}");
    }
    assert!(why(&two, "Host", json!({})).contains("no spec.import.port"));
}

#[test]
fn g08_ports_by_number_are_those_of_the_origin_that_is_named() {
    let ports = [port("http", 80), port("grpc", 9090)];
    let entry =
        |service: &str, port: &str, number: u16| json!({"service": service, "port": port, "gatewayPort": number});
    let import = json!({"ports": [
        entry("shop/pens", "http", 20009), entry("shop/books", "http", 20001), entry("shop/books", "9090", 20002),
    ]});
    assert_eq!(endpoints(&ports, "Port", import), ["203.0.113.10:20001 http ready", "203.0.113.10:20002 grpc ready"]);
    let why = why(&ports, "Port", json!({"ports": [entry("shop/pens", "http", 20009)]}));
    assert!(why.contains("spec.import.ports names no wanted port of shop/books"), "{why}");
}

#[test]
fn g03_a_published_slice_that_cannot_be_used_is_in_nobodys_way() {
    let mut sim = Sim::with_books();
    let gateway = |address: &str| published("books", "public", &[address], &[("http", 20001), ("grpc", 20002)]);
    let mut newer = gateway("203.0.113.8");
    if let heliostat::core::model::SliceRole::Published(what) = &mut newer.role {
        what.contract = "v2".into();
    }
    sim.slice("shop/books-newer", newer);
    sim.slice("shop/books-gw", gateway("203.0.113.9"));
    assert_eq!(sim.endpoints("shop/books-east"), ["203.0.113.9:20001 http ready", "203.0.113.9:20002 grpc ready"]);
}

#[test]
fn addresses_that_are_denied_are_named_once_each_and_only_a_few() {
    use heliostat::core::claim::Outcome;
    let mut sim = Sim::fixture();
    sim.connect("east");
    let denied = |count: u8| (1..=count).map(|i| Ingress::Ip(format!("127.0.0.{i}").as_str().into()));
    let named = |sim: &mut Sim, ingress: Vec<Ingress>| {
        sim.list("east", &[("shop/books", Origin { ingress: ingress.into(), ..origin("b1") })], &[]);
        let claim = sim.engine.claims().iter().next().unwrap().1.clone();
        let Outcome::Mirrored { notes, .. } = &*claim.outcome else { panic!("{claim:?}") };
        let of = notes.iter().filter(|note| note.reason == heliostat::api::Reason::AddressDenied);
        of.map(|note| note.message.clone()).collect::<Vec<_>>()
    };
    let good = || Ingress::Ip("203.0.113.5".into());
    assert_eq!(named(&mut sim, vec![good()]), Vec::<String>::new());
    let twice = named(&mut sim, denied(2).chain(denied(2)).chain([good()]).collect());
    assert!(twice.len() == 2 && twice[0].contains("127.0.0.1") && twice[1].contains("127.0.0.2"), "{twice:?}");
    assert_eq!(named(&mut sim, denied(9).chain([good()]).collect()).len(), 4);
}

#[test]
fn a_binding_says_whether_its_link_is_there_and_how_many_mirrors_it_feeds() {
    let mut sim = Sim::new();
    sim.namespace("shop");
    let import = json!({"linkRef": {"name": "east"}, "addresses": [{"value": "203.0.113.10"}], "port": 443});
    let mut object = binding("by-hand", json!({"routing": "Host", "import": import}));
    object.metadata.generation = Some(7);
    sim.set_binding(object);
    let says = |sim: &Sim, kind: &str| {
        let status = sim.bindings["by-hand"].status.as_ref().unwrap();
        let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
        (found.reason.clone(), status.services.map(|counts| counts.programmed))
    };
    assert_eq!(says(&sim, "ResolvedRefs"), ("RefNotFound".to_owned(), Some(0)));
    sim.set_link(link("east", json!({})));
    assert_eq!(says(&sim, "ResolvedRefs"), ("Resolved".to_owned(), Some(0)));
    sim.set_policy(policy("shop/all", json!({})));
    sim.connect("east");
    let mut books = origin("b1");
    books.ports = vec![port("http", 80)].into();
    sim.list("east", &[("shop/books", books)], &[]);
    assert_eq!(says(&sim, "Ready"), ("Ready".to_owned(), Some(1)));
    sim.delete_policy("shop/all");
    assert_eq!(says(&sim, "Ready"), ("Ready".to_owned(), Some(0)));
    // With neither side of it, or with a side on which nobody acts here, it is not accepted.
    let mut export = binding("out", crate::common::exporter::spec(json!({})));
    export.metadata.generation = Some(3);
    sim.set_binding(export);
    let status = sim.bindings["out"].status.as_ref().unwrap();
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled" && c.message.contains("--export")));
}

#[test]
fn how_many_mirrors_a_gateway_by_hand_feeds_is_counted_also_when_one_goes() {
    let ports = [port("http", 80)];
    let mut sim = with_import(&ports, "Host", json!({"port": 8000}));
    let mut maps = origin("m1");
    maps.ports = ports.to_vec().into();
    sim.origin("shop/maps", maps);
    let count = |sim: &Sim| sim.bindings["by-hand"].status.as_ref().unwrap().services.unwrap().programmed;
    assert_eq!(count(&sim), 2);
    sim.remote("east", heliostat::core::io::RemoteEvent::ServiceGone(key("shop/maps"), "m1".into()));
    assert_eq!((sim.names(), count(&sim)), (vec!["shop/books-east".to_owned()], 1));
}
