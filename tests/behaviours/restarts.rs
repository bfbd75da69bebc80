//! A restart with everything in place writes nothing, not even a status.

use std::collections::BTreeMap;

use heliostat::core::{
    io::{Input, Output, RemoteEvent},
    model::{Ingress, OriginType},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::common::*;

#[test]
fn a_restart_with_everything_in_place_writes_nothing_at_all() {
    let mut sim = Sim::with_books();
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
    sim.pass(SignedDuration::from_mins(10));
    assert_eq!(sim.log, [], "not even a status");
}

#[test]
fn a_restart_leaves_mirrors_by_hostname_and_by_nodes_as_they_are() {
    let ready = ("shop/books-x", pods("books", &["10.1.0.1"], true));
    let resolved = |answer: Result<&str, &str>, expired| Input::Resolved {
        host: "lb.east.example".into(),
        answer: answer.map(|a| vec![a.parse().unwrap()]).map_err(Into::into),
        expired,
    };
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example".into())].into();
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", books.clone())], std::slice::from_ref(&ready));
    list(&mut sim);
    assert_eq!(sim.mirror("shop/books-east").mirrored(), None, "not unwell while the first answer is awaited");
    sim.give(resolved(Ok("203.0.113.1"), false));
    sim.settle();
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    assert_eq!(sim.log, [], "nothing before the first answer");
    sim.give(resolved(Err("no answer"), false));
    sim.settle();
    assert_eq!((sim.writes(), sim.failures("shop/all").len()), (vec![], 1), "the last good answer is what is there");
    sim.give(resolved(Ok("203.0.113.1"), false));
    sim.settle();
    assert_eq!((sim.writes(), sim.failures("shop/all").len()), (vec![], 0));
    sim.restart();
    sim.connect("east");
    list(&mut sim);
    sim.give(resolved(Err("no answer"), true));
    sim.settle();
    assert_eq!(sim.endpoints("shop/books-east"), Vec::<String>::new(), "but not for ever");

    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = heliostat::core::model::Origin { ingress: [].into(), ..of_kind("b1", OriginType::NodePort) };
    books.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
    let nodes = || RemoteEvent::NodesListed(Ok([("n1".to_owned(), node("172.30.1.1"))].into()));
    sim.list("east", &[("shop/books", books.clone())], std::slice::from_ref(&ready));
    sim.remote("east", nodes());
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
    sim.log.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", books)], &[ready]);
    sim.remote("east", nodes());
    assert_eq!(sim.log, []);
}

#[test]
fn a_restart_while_a_hostname_is_asked_writes_no_status() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example".into())].into();
    let origins = [("shop/books", books), ("shop/pens", origin("p1"))];
    sim.list("east", &origins, &[]);
    let nowhere = |sim: &mut Sim| {
        let answer = Err("there is no such name".into());
        sim.give(Input::Resolved { host: "lb.east.example".into(), answer, expired: false });
        sim.settle();
    };
    nowhere(&mut sim);
    let failures = [("shop/books".to_owned(), "NoRoute".to_owned())];
    assert_eq!((sim.failures("shop/all"), sim.counts("shop/all")), (failures.to_vec(), (2, 2, 0, 0)));

    sim.log.clear();
    sim.others.clear();
    sim.restart();
    sim.connect("east");
    sim.list("east", &origins, &[]);
    sim.pass(SignedDuration::from_secs(30));
    assert_eq!(sim.log, [], "not even a status, before the first answer");
    nowhere(&mut sim);
    assert_eq!(sim.log, [], "nor after it");
    let told = sim.others.iter().filter(|output| matches!(output, heliostat::core::io::Output::Event(_)));
    assert_eq!(told.count(), 0);
    // What the answer changes is said.
    sim.give(Input::Resolved {
        host: "lb.east.example".into(),
        answer: Ok(vec!["203.0.113.1".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    assert_eq!((sim.failures("shop/all"), sim.counts("shop/all")), (vec![], (2, 2, 0, 0)));
    assert_eq!(sim.endpoints("shop/books-east").len(), 2);
}

#[test]
fn a_restart_writes_no_status_of_a_binding() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let import = json!({
        "linkRef": {"name": "east"}, "addresses": [{"value": "gw.east.example"}],
        "ports": [{"service": "shop/books", "port": "http", "gatewayPort": 20001}],
    });
    sim.set_binding(binding("gw", json!({"routing": "Port", "import": import})));
    let list = |sim: &mut Sim| sim.list("east", &[("shop/books", origin("b1")), ("shop/pens", origin("p1"))], &[]);
    let fed = |sim: &Sim| sim.bindings["gw"].status.as_ref().unwrap().services.unwrap().programmed;
    list(&mut sim);
    assert_eq!(fed(&sim), 0, "not by the way that it is to have");
    sim.give(Input::Resolved {
        host: "gw.east.example".into(),
        answer: Ok(vec!["203.0.113.9".parse().unwrap()]),
        expired: false,
    });
    sim.settle();
    list(&mut sim);
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Gateway/gw");
    assert_eq!(fed(&sim), 1, "it follows");
    sim.log.clear();
    sim.restart();
    sim.settle();
    sim.connect("east");
    list(&mut sim);
    sim.pass(SignedDuration::from_mins(10));
    assert_eq!(sim.log, []);
}

#[test]
fn p04_a_restart_with_more_mirrors_than_are_looked_at_at_once_writes_no_status() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let names: Vec<String> = (0..2500).map(|n| format!("shop/s{n}")).collect();
    let services: Vec<_> = names.iter().map(|name| (name.as_str(), origin(&format!("uid-{name}")))).collect();
    sim.list("east", &services, &[]);
    sim.settle();
    let told = sim.policies[&key("shop/all")].status.clone();
    assert_eq!(told.as_ref().and_then(|status| status.services).map(|counts| counts.mirrored), Some(2500));

    sim.restart();
    sim.connect("east");
    sim.log.clear();
    let event = RemoteEvent::Listed {
        cluster_uid: "east-uid".into(),
        versions: BTreeMap::new(),
        services: services.iter().map(|(name, origin)| (key(name), origin.clone())).collect(),
        slices: BTreeMap::new(),
    };
    let listed = Input::Remote { link: "east".into(), session: sim.session, received: sim.now, event };
    let mut outputs = sim.engine.handle(listed, sim.now);
    assert_eq!(sim.engine.backlog(), (1500, 0));
    // Each look takes its time, longer than a status waits for more news.
    while sim.engine.backlog().0 > 0 {
        sim.now += SignedDuration::from_secs(2);
        outputs.extend(sim.engine.handle(Input::Tick, sim.now));
    }
    assert!(outputs.iter().all(|output| !matches!(output, Output::Write(_))), "{outputs:?}");
    sim.pass(SignedDuration::from_mins(10));
    assert_eq!(sim.log, []);
}
