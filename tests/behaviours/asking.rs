//! What the engine asks for and tells besides its writes: what sessions are to read, which hostnames are
//! to be resolved, and events. At once, once, and not again after a restart.

use heliostat::core::{
    io::{About, Change, Input, Local, Output, RemoteEvent, SessionTask, WriteFailure},
    model::{Ingress, LocalSlice, Origin, OriginType},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{common::*, says};

fn session(output: &Output) -> Option<(&str, Option<&SessionTask>)> {
    match output {
        Output::Session { link, task } => Some((link, task.as_ref())),
        _ => None,
    }
}

/// What one input asks of the sessions.
fn tasks(outputs: &[Output]) -> Vec<(&str, Option<&SessionTask>)> {
    outputs.iter().filter_map(session).collect()
}

fn set(sim: &mut Sim, link: heliostat::api::ClusterLink) -> Vec<Output> {
    let name = link.metadata.name.clone().unwrap();
    sim.engine.handle(Input::Local(Local::Link(Change::Set(name, Box::new(link)))), sim.now)
}

fn changed(generation: i64, spec: serde_json::Value) -> heliostat::api::ClusterLink {
    let mut link = link("east", spec);
    link.metadata.generation = Some(generation);
    link
}

#[test]
fn sessions_are_told_what_to_read_when_that_is_something_else() {
    let mut sim = Sim::new();
    let out = set(&mut sim, changed(1, json!({})));
    let [("east", Some(first))] = tasks(&out)[..] else { panic!("{out:?}") };
    assert_eq!((first.namespaces.clone(), first.nodes), (None, false));
    let out = set(&mut sim, changed(2, json!({"onLoss": {"after": "7m"}})));
    assert_eq!(tasks(&out), [], "nothing else is to be read");
    let out = set(&mut sim, changed(3, json!({"services": {"namespaces": ["shop"]}})));
    let [("east", Some(second))] = tasks(&out)[..] else { panic!("{out:?}") };
    assert_eq!(second.namespaces.as_deref(), Some(&["shop".to_owned()][..]));
    let mut asked = changed(3, json!({"services": {"namespaces": ["shop"]}}));
    asked.metadata.annotations = Some([("heliostat.dev/reconcile-requested-at".to_owned(), "now".to_owned())].into());
    let out = set(&mut sim, asked);
    let [("east", Some(third))] = tasks(&out)[..] else { panic!("{out:?}") };
    assert_ne!(third.resync, second.resync, "a listing is asked for");
    let out = set(&mut sim, changed(4, json!({"suspend": true})));
    assert_eq!(tasks(&out), [("east", None)]);
    let out = set(&mut sim, changed(5, json!({})));
    assert!(matches!(tasks(&out)[..], [("east", Some(_))]));
    let mut leaving = changed(5, json!({}));
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-06-01T12:00:00Z")).unwrap();
    let out = set(&mut sim, leaving);
    assert_eq!(tasks(&out), [("east", None)]);
}

#[test]
fn l09_a_request_is_handled_when_the_listing_that_it_asked_for_is_there() {
    let mut sim = Sim::with_books();
    let mut asked = sim.links["east"].clone();
    asked.metadata.annotations = Some([("heliostat.dev/reconcile-requested-at".to_owned(), "now".to_owned())].into());
    sim.set_link(asked);
    let handled = |sim: &Sim| sim.links["east"].status.as_ref().unwrap().last_handled_reconcile_at.clone();
    assert_eq!(handled(&sim), None);
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(handled(&sim).as_deref(), Some("now"));
}

#[test]
fn nodes_are_read_no_longer_than_a_mirror_needs_them() {
    let start = || {
        let mut sim = Sim::fixture();
        sim.connect("east");
        let mut books = Origin { ingress: [].into(), ..of_kind("b1", OriginType::NodePort) };
        books.ports.edit(|ports| ports.iter_mut().zip([30080, 30090]).for_each(|(p, n)| p.node_port = Some(n)));
        sim.list("east", &[("shop/books", books)], &[]);
        sim
    };
    let mut sim = start();
    let last = |sim: &Sim| {
        let task = tasks(&sim.others).into_iter().filter_map(|(_, task)| task).next_back().cloned();
        task.map(|task| (task.nodes, task.namespaces))
    };
    assert_eq!(last(&sim), Some((true, None)));
    let out = sim.engine.handle(Input::Local(Local::Link(Change::Gone("east".into()))), sim.now);
    assert_eq!(tasks(&out), [("east", None)], "nor is anything read for a link that is gone");
    let mut sim = start();
    sim.list("east", &[], &[]);
    assert_eq!(last(&sim), Some((false, None)));
}

#[test]
fn g01_hostnames_are_asked_for_with_the_news_that_brings_them_and_once() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.list("east", &[], &[]);
    let mut books = origin("b1");
    books.ingress = vec![Ingress::Hostname("lb.east.example".into())].into();
    let event = RemoteEvent::Service(key("shop/books"), Box::new(books));
    let input = || Input::Remote { link: "east".into(), session: 1, received: sim.now, event: event.clone() };
    let asked = |outputs: Vec<Output>| outputs.iter().filter(|o| matches!(o, Output::Resolve(_))).count();
    let (first, second) = (input(), input());
    assert_eq!(asked(sim.engine.handle(first, sim.now)), 1);
    assert_eq!(asked(sim.engine.handle(second, sim.now)), 0);
}

/// Events since this was asked last: reason, and whether it is about a policy.
fn events(sim: &mut Sim) -> Vec<(&'static str, bool)> {
    let told = |output| match output {
        Output::Event(event) if !matches!(event.about, About::Link(..)) => {
            Some((event.reason, matches!(event.about, About::Policy(..))))
        }
        _ => None,
    };
    std::mem::take(&mut sim.others).into_iter().filter_map(told).collect()
}

#[test]
fn a_mirror_is_announced_when_it_is_made_and_when_another_way_feeds_it() {
    let mut sim = Sim::with_books();
    let both = [("Programmed", true), ("Programmed", false)];
    assert_eq!(events(&mut sim), both, "on its policy and on itself");
    sim.edit_service("shop/books-east", |state| {
        state.labels.remove("heliostat.dev/link");
    });
    assert_eq!(events(&mut sim), [], "a repair is no news");
    sim.slice("shop/gw", published("books", "public", &["203.0.113.9"], &[("http", 20001), ("grpc", 20002)]));
    assert_eq!(events(&mut sim), both);
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.mirror("shop/books-east").annotations.get("heliostat.dev/via").unwrap(), "Service");
    assert_eq!(events(&mut sim), both);
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(events(&mut sim), []);
}

#[test]
fn what_a_policy_lacks_is_told_once_for_each_origin_over_restarts_too() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.list("east", &[], &[]);
    events(&mut sim);
    let external = |uid: &str, team: &str| {
        let mut origin = of_kind(uid, OriginType::ExternalName);
        origin.labels.insert("team".into(), team.into());
        origin
    };
    for team in ["a", "b", "c"] {
        let event = RemoteEvent::Service(key("shop/books"), Box::new(external("b1", team)));
        sim.give(Input::Remote { link: "east".into(), session: 1, received: sim.now, event });
    }
    let refused = ("InvalidServiceType", true);
    assert_eq!(events(&mut sim), [refused], "though no status says so yet");
    sim.settle();
    sim.restart();
    sim.connect("east");
    sim.list("east", &[("shop/books", external("b1", "c"))], &[]);
    assert_eq!(events(&mut sim), []);
    sim.origin("shop/pens", external("p1", "a"));
    assert_eq!(events(&mut sim), [refused], "another one is another matter");
    assert_eq!(sim.policy_condition("shop/all", "Ready"), says("True", "Ready"));
}

/// Answers and watches tell of the same object, in any order.
#[test]
fn older_news_of_an_object_does_not_replace_newer() {
    let mut sim = Sim::with_books();
    let service = sim.services.first_key_value().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    let slice = sim.slices.first_key_value().map(|(k, s)| (k.clone(), s.clone())).unwrap();
    sim.writes();
    let mut older = service.1.clone();
    older.resource_version = "1".into();
    older.ours.as_mut().unwrap().ports.edit(Vec::clear);
    sim.give(Input::Local(Local::Service(Change::Set(service.0.clone(), older.clone()))));
    let mut older_slice = LocalSlice { resource_version: "1".into(), ..slice.1.clone() };
    older_slice.body.endpoints.edit(Vec::clear);
    sim.give(Input::Local(Local::Slice(Change::Set(slice.0.clone(), older_slice.clone()))));
    assert_eq!((sim.writes(), sim.engine.world().services.get(&service.0)), (vec![], Some(&service.1)));
    assert_eq!(sim.engine.world().slices.get(&slice.0), Some(&slice.1));
    // Of another object of that name every version is news.
    (older.uid, older_slice.uid) = ("another".into(), "another".into());
    sim.engine.handle(Input::Local(Local::Service(Change::Set(service.0.clone(), older.clone()))), sim.now);
    sim.engine.handle(Input::Local(Local::Slice(Change::Set(slice.0.clone(), older_slice.clone()))), sim.now);
    assert_eq!(sim.engine.world().services.get(&service.0), Some(&older));
    assert_eq!(sim.engine.world().slices.get(&slice.0), Some(&older_slice));
}

#[test]
fn a_clock_that_is_set_back_delays_no_retry() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    sim.refuse = vec![WriteFailure::Forbidden; 6].into();
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    assert_eq!(sim.names(), Vec::<String>::new());
    sim.now -= SignedDuration::from_hours(24);
    sim.settle();
    sim.pass(SignedDuration::from_mins(30));
    assert_eq!(sim.names(), ["shop/books-east"]);
}

#[test]
fn the_backlog_is_what_waits_and_what_has_not_been_answered() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    assert_eq!(sim.engine.backlog(), (0, 0));
    let all: Vec<String> = (0..20).map(|i| format!("shop/s{i}")).collect();
    let services: Vec<_> = all.iter().map(|name| (name.as_str(), origin(name))).collect();
    let event = listed("east-uid", &services, &[]);
    sim.engine.handle(Input::Remote { link: "east".into(), session: 1, received: sim.now, event }, sim.now);
    assert_eq!(sim.engine.backlog(), (12, 8));
}

/// An answer to a write may come after a watch has said that the object is gone again.
#[test]
fn an_answer_that_a_deletion_has_overtaken_brings_no_mirror_back() {
    for whole_list in [false, true] {
        let mut sim = Sim::fixture();
        sim.connect("east");
        let event = listed("east-uid", &[("shop/books", origin("b1"))], &[]);
        let input = Input::Remote { link: "east".into(), session: 1, received: sim.now, event };
        let outputs = sim.engine.handle(input, sim.now);
        let write = outputs.into_iter().find_map(|o| if let Output::Write(write) = o { Some(write) } else { None });
        let write = write.unwrap();
        let (result, _) = sim.execute(&write.op);
        let mirror = key("shop/books-east");
        let gone = if whole_list { Change::All([].into()) } else { Change::Gone(mirror.clone()) };
        sim.engine.handle(Input::Local(Local::Service(gone)), sim.now);
        sim.engine.handle(Input::Written { id: write.id, result }, sim.now);
        assert!(!sim.engine.world().services.contains_key(&mirror), "{whole_list}");
    }
}

#[test]
fn a_write_that_fails_is_told_by_what_it_means() {
    let refused = |kind: WriteFailure| {
        let mut sim = Sim::fixture();
        sim.connect("east");
        sim.refuse = vec![kind; 99].into();
        sim.list("east", &[("shop/books", origin("b1"))], &[]);
        let status = sim.policies[&key("shop/all")].status.clone().unwrap();
        let programmed = status.conditions.into_iter().find(|c| c.type_ == "Programmed").unwrap();
        (sim.failures("shop/all"), programmed.message.contains("refused by the test"))
    };
    let taken = vec![("shop/books".to_owned(), "NameConflict".to_owned())];
    assert_eq!(refused(WriteFailure::AlreadyExists), (taken, false), "somebody has the name");
    for routine in [WriteFailure::Conflict, WriteFailure::NotFound] {
        assert_eq!(refused(routine), (vec![], false), "that the cluster has moved on is nobody's news");
    }
    let (failures, told) = refused(WriteFailure::Forbidden);
    assert!(failures.len() == 1 && told, "{failures:?}");
}
