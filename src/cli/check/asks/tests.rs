//! What is asked of whom, and what is not.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::names::{HOSTNAMES_ANNOTATION, PUBLISHED_BINDING_LABEL},
    cli::check::{
        book::Check,
        contract::tests::{World, slice},
    },
    core::model::Key,
};

fn asked(world: &World, objects: &[(Key, Value)]) -> (Vec<Ask>, Vec<Check>) {
    let slices: Vec<Slice> = objects.iter().map(|(key, object)| Slice::new(key.clone(), object.clone())).collect();
    let scene = world.scene();
    let used: Vec<&Slice> = slices.iter().filter(|slice| slice.is_of("public")).collect();
    let mut book = Book::default();
    let asks = asks(&scene, &used, &slices, ("/x", "cafe"), &mut book);
    (asks, book.finish())
}

fn of(asks: &[Ask], exported: bool) -> Vec<(String, Question)> {
    let of = asks.iter().filter(|ask| ask.exported == exported);
    of.map(|ask| (ask.to.to_string(), ask.question.clone())).collect()
}

#[test]
fn by_port_each_port_is_asked_and_those_beside_it_that_nobody_publishes() {
    let mut other = slice("pens-private", "Port");
    other.1["metadata"]["labels"][PUBLISHED_BINDING_LABEL] = json!("private");
    other.1["ports"][0]["port"] = json!(20002);
    let objects = [slice("books-public", "Port"), other];
    let mut world = World::new(&objects);
    for service in world.services.values_mut() {
        service.ports.edit(|ports| ports[0].node_port = Some(20000));
    }
    let (asks, notes) = asked(&world, &objects);
    assert_eq!(of(&asks, true), [("203.0.113.10:20001".to_owned(), Question::Port)]);
    let nobodys: Vec<String> = of(&asks, false).into_iter().map(|(to, _)| to).collect();
    assert_eq!(
        nobodys,
        ["203.0.113.10:20003", "203.0.113.10:19999", "203.0.113.10:20004", "203.0.113.10:19998"],
        "20002 is another binding's, 20000 a node port"
    );
    assert_eq!(notes, []);
}

#[test]
fn ports_that_nobody_publishes_are_bounded_and_are_ports() {
    let ports: BTreeSet<u16> = (1..=100).map(|n| n * 100).chain([1, u16::MAX]).collect();
    let chosen = nobodys("203.0.113.10".parse().unwrap(), &ports, &ports, "cafe");
    assert_eq!(chosen.len(), MAX_NOBODYS);
    let edges = nobodys("203.0.113.10".parse().unwrap(), &BTreeSet::from([1, u16::MAX]), &BTreeSet::new(), "cafe");
    let edges: Vec<u16> = edges.iter().map(|ask| ask.to.port()).collect();
    assert_eq!(edges, [2, u16::MAX - 1, 3, u16::MAX - 2, 4, u16::MAX - 3]);
}

#[test]
fn by_name_each_name_is_asked_and_one_that_nobody_has() {
    for routing in ["Host", "SNI"] {
        let question = |name: &str| match routing {
            "SNI" => Question::Tls(name.to_owned()),
            _ => Question::Http(name.to_owned(), "/x".to_owned()),
        };
        let objects = [slice("books-public", routing)];
        let (asks, _) = asked(&World::new(&objects), &objects);
        let to = "203.0.113.10:20001".to_owned();
        let names = ["books-east", "books-east.shop.svc.cluster.local"];
        assert_eq!(of(&asks, true), names.map(|name| (to.clone(), question(name))));
        assert_eq!(of(&asks, false), [(to, question("nobody-cafe.shop.svc.cluster.local"))]);
    }
}

#[test]
fn what_cannot_be_exercised_is_said_and_not_asked() {
    let said = |routing: &str, change: fn(&mut Value)| {
        let mut objects = [slice("books-public", routing)];
        change(&mut objects[0].1);
        let (asks, checks) = asked(&World::new(&objects), &objects);
        (asks.len(), checks.into_iter().map(|c| (c.verdict, c.detail)).collect::<Vec<_>>())
    };
    let (asks, told) = said("Port", |o| o["ports"][0]["protocol"] = json!("UDP"));
    assert_eq!((asks, told[0].0, told[1].0), (0, Verdict::Note, Verdict::Warn));
    assert!(told[0].1.contains("not exercised: UDP"), "{told:?}");
    let (asks, told) = said("Port", |o| o["endpoints"][0]["conditions"]["ready"] = json!(false));
    assert_eq!((asks, told[0].0), (0, Verdict::Note));
    let (asks, _) = said("Port", |o| o["endpoints"][0]["addresses"] = json!(["127.0.0.1"]));
    assert_eq!(asks, 0, "an address that may not be used is never dialled");
    let (asks, told) = said("Linkerd", |_| {});
    assert_eq!((asks, told[0].0), (1, Verdict::Note));
}

#[test]
fn how_much_is_asked_is_bounded() {
    let endpoints: Vec<Value> = (0..=255)
        .flat_map(|a| (0..4).map(move |b| json!({"addresses": [format!("203.0.{b}.{a}")]})))
        .take(1000)
        .collect();
    let mut objects = [slice("books-public", "Host")];
    objects[0].1["endpoints"] = Value::Array(endpoints);
    objects[0].1["metadata"]["annotations"][HOSTNAMES_ANNOTATION] = json!("a,b,c");
    let (asks, checks) = asked(&World::new(&objects), &objects);
    assert_eq!(asks.len(), MAX_ASKS);
    assert!(checks.iter().any(|c| c.verdict == Verdict::Warn && c.detail.ends_with("2000 more are not")), "{checks:?}");
    let exported = asks.iter().filter(|ask| ask.exported).count();
    assert_eq!(exported, MAX_ASKS / 2, "the other half is about what nobody exports");
}
