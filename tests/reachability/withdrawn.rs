//! Which addresses a verdict withdraws, which stay whatever it says, and how they come back.

use heliostat::core::{
    io::{RemoteEvent, WriteOp},
    model::{AddressType, Readiness},
    reach::Verdict,
};

use crate::{
    BOTH, ONE, PROBE, Probing, SECOND, TWO,
    common::{Sim, key, origin, published},
    connection, down, failing, is, meanwhile, probe_pods, probe_service, probe_slice, silent, target, with_two,
};

#[test]
fn g18_an_address_that_is_down_leaves_the_mirrors_that_have_another_one() {
    let mut sim = with_two();
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.writes();
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    let writes = sim.writes();
    assert!(matches!(writes.as_slice(), [WriteOp::PatchSlice(..)]), "one write, and the slice stays: {writes:?}");

    // Both down: nothing would be gained by withdrawing both.
    sim.probed("public", TWO, down());
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.probed("public", ONE, Verdict::Reachable);
    let first: Vec<String> =
        SECOND.map(|e| e.replace("100.1", "100.x").replace("100.2", "100.1").replace("100.x", "100.2")).into();
    let mut first_only = first;
    first_only.sort();
    assert_eq!(sim.endpoints("shop/books-east"), first_only);
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
    sim.writes();
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!(sim.writes(), []);
}

#[test]
fn addresses_that_fail_together_stay() {
    let mut sim = with_two();
    sim.writes();
    sim.probed("public", ONE, failing());
    assert!(is(sim.reachable(), "False", "Unreachable").contains(ONE), "that is said");
    sim.probed("public", TWO, failing());
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (BOTH.map(str::to_owned).into(), vec![]));
    let told = is(sim.reachable(), "False", "Unreachable");
    assert!(told.contains(ONE) && told.contains(TWO), "{told}");
    assert_eq!(sim.gateways(), ["public 198.51.100.1 false", "public 198.51.100.2 false"]);
    sim.restart();
    sim.statuses();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.statuses(), 0, "a restart holds still");
    sim.probed("public", ONE, failing());
    // One answers again, and then the other one is seen not to.
    sim.probed("public", TWO, Verdict::Reachable);
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (BOTH.map(str::to_owned).into(), vec![]));
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    // What is withdrawn stays so while the other one fails, also over a restart.
    sim.writes();
    sim.probed("public", TWO, failing());
    assert_eq!((sim.endpoints("shop/books-east"), sim.writes()), (SECOND.map(str::to_owned).into(), vec![]));
    sim.restart();
    sim.statuses();
    sim.connect("east");
    let gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-gw", gateway)]);
    assert_eq!(sim.statuses(), 0);
}

#[test]
fn the_only_address_of_a_port_or_a_family_stays() {
    let mut sim = Sim::fixture();
    sim.families.push(heliostat::core::model::Family::V6);
    sim.connect("east");
    let mut six = published("books", "public", &["2001:db8::1"], &[("http", 20001), ("grpc", 20002)]);
    six.address_type = AddressType::Ip(heliostat::core::model::Family::V6);
    let http = published("books", "public", &[ONE], &[("http", 20001)]);
    let both = published("books", "public", &[TWO], &[("http", 20001), ("grpc", 20002)]);
    sim.list(
        "east",
        &[("shop/books", origin("b1"))],
        &[("shop/books-6", six), ("shop/books-a", http), ("shop/books-b", both)],
    );
    let not_ready = |sim: &Sim| {
        let all = sim.endpoints("shop/books-east");
        assert_eq!(all.len(), 5, "{all:?}");
        all.into_iter().filter(|e| e.ends_with("not ready")).collect::<Vec<_>>()
    };
    sim.probed("public", TWO, down());
    assert_eq!(not_ready(&sim), Vec::<String>::new(), "nobody else has grpc in its family");
    sim.probed("public", TWO, Verdict::Reachable);
    sim.probed("public", ONE, down());
    assert_eq!(not_ready(&sim), ["198.51.100.1:20001 http not ready"]);
    sim.probed("public", "2001:db8::1", down());
    assert_eq!(not_ready(&sim), ["198.51.100.1:20001 http not ready"], "it is the only one of its family");
}

#[test]
fn an_address_that_is_up_but_not_ready_is_no_other_one() {
    let mut sim = with_two();
    let mut gateway = published("books", "public", &[ONE, TWO], &[("http", 20001), ("grpc", 20002)]);
    gateway.endpoints.edit(|all| all[1].readiness = Readiness::all(false));
    sim.slice("shop/books-gw", gateway);
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east")[0], "198.51.100.1:20001 http ready");
}

#[test]
fn g03_g16_reachability_chooses_no_way_and_each_move_is_make_before_break() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    let by = |binding: &str, address: &str, port: u16| {
        published("books", binding, &[address], &[("http", port), ("grpc", port + 1)])
    };
    let first = ("shop/books-a", by("alpha", ONE, 20001));
    let second = ("shop/books-b", by("beta", TWO, 21001));
    sim.list("east", &[("shop/books", origin("b1"))], &[first.clone(), second.clone()]);
    let alpha = ["198.51.100.1:20001 http ready", "198.51.100.1:20002 grpc ready"];
    let beta = ["198.51.100.2:21001 http ready", "198.51.100.2:21002 grpc ready"];
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    sim.probed("alpha", ONE, Verdict::Reachable);
    sim.writes();

    // The preferred one does not answer: the mirror has no other address of that binding, and stays.
    sim.probed("alpha", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    assert_eq!(sim.writes(), []);

    // It goes: new slices are there before the old ones leave, and then only one feeds it.
    let moves = |sim: &mut Sim, via: &str| {
        let kinds: Vec<&str> = sim
            .writes()
            .iter()
            .map(|op| match op {
                WriteOp::PatchService(_, _, patch) => {
                    assert_eq!(patch.annotations["heliostat.dev/via"].as_deref(), Some(via));
                    "mirror"
                }
                WriteOp::CreateSlice(..) => "make",
                WriteOp::DeleteSlice(..) => "break",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["mirror", "make", "break"]);
    };
    sim.remote("east", RemoteEvent::SliceGone(key(first.0)));
    moves(&mut sim, "Gateway/beta");
    assert_eq!(sim.endpoints("shop/books-east"), beta);
    assert_eq!(sim.probes(), [(target("beta", TWO), connection(21001))].into());

    // It comes back, and whatever was said of it is forgotten.
    sim.slice(first.0, first.1);
    moves(&mut sim, "Gateway/alpha");
    assert_eq!(sim.endpoints("shop/books-east"), alpha);
    assert_eq!(sim.probes(), [(target("alpha", ONE), connection(20001))].into());
}

#[test]
fn what_was_withdrawn_by_content_comes_back_by_content() {
    let mut sim = with_two();
    sim.origin(PROBE, probe_service());
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    sim.slice("heliostat-system/probe-1", probe_slice("public", &[ONE, TWO], 20900));
    sim.probed("public", ONE, down());
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    sim.writes();
    // The exporter's controller is away: the address accepts connections, as it did all the while.
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    assert_eq!(sim.probes()[&target("public", ONE)], meanwhile(20001));
    sim.probed("public", ONE, Verdict::Reachable);
    sim.probed("public", TWO, Verdict::Reachable);
    // It is there again, and what it saw of others before it must see anew.
    sim.slice("heliostat-system/probe-pods", probe_pods(true));
    for again in [silent(), failing(), down()] {
        sim.probed("public", ONE, again);
        assert_eq!(sim.writes(), []);
        is(sim.reachable(), "False", "Unreachable");
    }
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);

    // The exporter runs Heliostat no more: a connection is all that there is to go by.
    sim.probed("public", ONE, down());
    sim.slice("heliostat-system/probe-pods", probe_pods(false));
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), SECOND);
    sim.remote("east", RemoteEvent::ServiceGone(key(PROBE), "probe".into()));
    assert_eq!(sim.probes()[&target("public", ONE)], connection(20001), "asked anew");
    sim.probed("public", ONE, Verdict::Reachable);
    assert_eq!(sim.endpoints("shop/books-east"), BOTH);
}
