//! What links say of it, and what they say when it is the prober that is cut off.

use heliostat::core::{
    io::{About, Input, Output, RemoteEvent},
    model::AddressType,
    reach::{Target, Verdict},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    BOTH, ONE, Probing, SECOND, TWO,
    common::{Sim, key, link, origin, policy, published},
    down, is, silent, with_two,
};

#[test]
fn the_links_condition_and_status_name_the_address() {
    let mut sim = with_two();
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 true"]);
    is(sim.reachable(), "True", "Reachable");
    let types: Vec<String> =
        sim.links["east"].status.as_ref().unwrap().conditions.iter().map(|c| c.type_.clone()).collect();
    assert_eq!(types, ["Ready", "Accepted", "CredentialsValid", "Connected", "Synced", "Reachable"]);

    sim.others.clear();
    sim.probed("public", ONE, down());
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 true"]);
    let message = is(sim.reachable(), "False", "Unreachable");
    for part in [ONE, "public", "the connection is refused"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains(TWO), "{message}");
    assert_eq!(sim.link_condition("east", "Ready").unwrap().0, "True", "it decides no other condition");
    let told: Vec<&str> = sim
        .others
        .iter()
        .filter_map(|o| match o {
            Output::Event(event) if matches!(event.about, About::Link(..)) => Some(event.reason),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["Unreachable"]);

    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 true"]);
    is(sim.reachable(), "True", "Reachable");
    sim.statuses();
    sim.pass(SignedDuration::from_hours(1));
    assert_eq!(sim.statuses(), 0, "nothing is written while nothing changes");
}

#[test]
fn when_every_probe_of_every_link_fails_it_is_the_prober_that_is_cut_off() {
    let mut sim = with_two();
    sim.set_link(link("north", json!({})));
    sim.set_policy(policy("shop/north", json!({"links": {"names": ["north"]}})));
    sim.connect("north");
    let maps = published("maps", "edge", &["192.0.2.1"], &[("http", 443), ("grpc", 8443)]);
    sim.list("north", &[("shop/maps", origin("m1"))], &[("shop/maps-gw", maps)]);
    let north = Target { link: "north".into(), binding: "edge".into(), address: "192.0.2.1".parse().unwrap() };
    let north_says = |sim: &mut Sim, verdict: Verdict| {
        sim.give(Input::Probed { target: north.clone(), verdict });
        sim.settle();
    };
    north_says(&mut sim, Verdict::Reachable);
    sim.writes();

    // One by one, in any order, each fails without a sign from any other.
    sim.probed("public", ONE, silent());
    is(sim.reachable(), "True", "Reachable");
    sim.probed("public", TWO, silent());
    north_says(&mut sim, silent());
    assert_eq!(sim.writes(), [], "nothing is withdrawn");
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    let message = is(sim.reachable(), "Unknown", "Unreachable");
    for part in [ONE, TWO, "cut off", "nothing is withdrawn"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(sim.link_condition("north", "Reachable"), Some(("Unknown".into(), "Unreachable".into())));
    assert_eq!(sim.gateways(), ["public 198.51.100.1 ?", "public 198.51.100.2 ?"]);

    // A restart while it lasts changes nothing.
    sim.restart();
    sim.statuses();
    sim.connect("east");
    sim.list(
        "east",
        &[("shop/books", origin("b1"))],
        &[("shop/books-gw", published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]))],
    );
    sim.probed("public", ONE, silent());
    assert_eq!(sim.statuses(), 0);

    // It is over: what does answer shows which do not.
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    is(sim.reachable(), "False", "Unreachable");

    // And what was known to be down stays withdrawn through the next one.
    sim.writes();
    sim.probed("public", TWO, silent());
    is(sim.reachable(), "Unknown", "Unreachable");
    assert_eq!(sim.writes(), []);
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 ?"]);
}

#[test]
fn an_address_that_fails_is_warned_of_and_that_it_answers_again_is_no_warning() {
    let mut sim = with_two();
    let told = |sim: &mut Sim| {
        let event = |output| match output {
            Output::Event(event) if event.action == "Probing" => Some((event.reason, event.warning, event.note)),
            _ => None,
        };
        std::mem::take(&mut sim.others).into_iter().filter_map(event).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut sim), [], "that an address answers is expected");
    sim.probed("public", ONE, down());
    let [("Unreachable", true, note)] = &told(&mut sim)[..] else { panic!("one warning") };
    assert!(note.contains(&format!("gateway address {ONE} of binding public: ")), "{note}");
    sim.probed("public", ONE, Verdict::Reachable);
    let [("Reachable", false, note)] = &told(&mut sim)[..] else { panic!("one event") };
    assert!(note.contains("answers again"), "{note}");
}

#[test]
fn gateways_are_listed_by_the_number_of_their_address_and_that_all_answer_is_said_plainly() {
    let mut sim = with_two();
    assert_eq!(is(sim.reachable(), "True", "Reachable"), "every gateway address in use answers");
    let addresses = ["198.51.100.10", "198.51.100.9"];
    sim.slice("shop/books-gw", published("books", "public", &addresses, &[("http", 20001), ("grpc", 20002)]));
    assert_eq!(sim.gateways(), ["public 198.51.100.9 ?", "public 198.51.100.10 ?"]);
}

#[test]
fn the_list_of_gateways_stays_in_order_whichever_of_them_does_not_answer() {
    let mut sim = with_two();
    sim.probed("public", TWO, down());
    assert_eq!(sim.gateways(), ["public 198.51.100.1 true", "public 198.51.100.2 false"]);
}

#[test]
fn where_nothing_is_probed_any_more_nothing_is_said_of_it() {
    let mut sim = with_two();
    is(sim.reachable(), "True", "Reachable");
    sim.remote("east", RemoteEvent::SliceGone(key("shop/books-gw")));
    assert_eq!((sim.gateways(), sim.reachable()), (vec![], None));
}

#[test]
fn while_an_address_is_awaited_bad_news_are_told_and_good_ones_are_not_yet() {
    let mut sim = with_two();
    sim.probed("public", ONE, down());
    assert!(is(sim.reachable(), "False", "Unreachable").contains(ONE));
    let mut maps = published("maps", "named", &["gw.east.example"], &[("http", 20001), ("grpc", 20002)]);
    maps.address_type = AddressType::Fqdn;
    sim.origin("shop/maps", origin("m1"));
    sim.slice("shop/maps-gw", maps);
    sim.probed("public", TWO, down());
    sim.probed("public", ONE, Verdict::Reachable);
    let message = is(sim.reachable(), "False", "Unreachable");
    assert!(message.contains(TWO) && !message.contains(ONE), "{message}");
    sim.probed("public", TWO, Verdict::Reachable);
    is(sim.reachable(), "False", "Unreachable");
    let answer = Ok(vec!["198.51.100.3".parse().unwrap()]);
    sim.give(Input::Resolved { host: "gw.east.example".into(), answer, expired: false });
    sim.settle();
    sim.probed("named", "198.51.100.3", Verdict::Reachable);
    is(sim.reachable(), "True", "Reachable");
}

#[test]
fn that_only_the_first_addresses_are_probed_is_said_where_they_all_answer() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let addresses: Vec<String> = (1..=40).map(|n| format!("198.51.100.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let gateway = published("books", "public", &addresses, &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    for target in sim.probes().into_keys() {
        sim.give(Input::Probed { target, verdict: Verdict::Reachable });
    }
    sim.settle();
    let message = is(sim.reachable(), "True", "Reachable");
    assert!(message.ends_with("; of them the first 32 are probed"), "{message}");
}
