//! What the statuses of links and policies say at each turn of a link's life.

use heliostat::{
    api::Reason,
    core::io::{Input, Output, RemoteEvent, Write, WriteError, WriteFailure, WriteOp, Written},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::common::*;

/// `Type=Status/Reason` of every condition, in order.
fn of_link(sim: &Sim) -> Vec<String> {
    let status = sim.links["east"].status.as_ref().unwrap();
    let one = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        assert_eq!(c.observed_generation, sim.links["east"].metadata.generation, "{c:?}");
        format!("{}={}/{}", c.type_, c.status, c.reason)
    };
    status.conditions.iter().map(one).collect()
}

fn of_policy(sim: &Sim) -> Vec<String> {
    let policy = &sim.policies[&key("shop/all")];
    let status = policy.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, policy.metadata.generation);
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn refused(reason: Reason) -> RemoteEvent {
    RemoteEvent::Credentials { reason, message: "no".into() }
}

#[test]
fn l01_a_links_conditions_until_its_first_listing() {
    let mut sim = Sim::fixture();
    let unknown = ["CredentialsValid=Unknown/Pending", "Connected=Unknown/Pending", "Synced=False/InitialSync"];
    let fresh = ["Reconciling=True/Reconciling", "Ready=False/InitialSync", "Accepted=True/Accepted"];
    // Nothing is said before anything was tried, but for a spec that no status speaks of.
    assert_eq!(of_link(&sim), [&fresh[..], &unknown[..]].concat());
    sim.remote("east", refused(Reason::CredentialsNotFound));
    let credentials = |reason: &str| [format!("CredentialsValid=False/{reason}"), format!("Connected=False/{reason}")];
    let said = of_link(&sim);
    assert_eq!(said[1..3], ["Ready=False/CredentialsNotFound", "Accepted=True/Accepted"]);
    assert_eq!((&said[3..5], &*said[5]), (&credentials("CredentialsNotFound")[..], "Synced=False/InitialSync"));
    sim.remote("east", refused(Reason::CredentialsRejected));
    let said = of_link(&sim);
    assert_eq!(
        said[..3],
        ["Stalled=True/CredentialsRejected", "Ready=False/CredentialsRejected", "Accepted=True/Accepted"]
    );
    let unauthorized = RemoteEvent::Lost { reason: Reason::Unauthorized, message: "401".into() };
    sim.remote("east", unauthorized);
    let said = of_link(&sim);
    assert_eq!(said[1], "Ready=False/InitialSync");
    assert_eq!(
        said[3..],
        ["CredentialsValid=False/Unauthorized", "Connected=False/Unauthorized", "Synced=False/InitialSync"]
    );
    sim.lose("east");
    assert_eq!(of_link(&sim)[3..5], ["CredentialsValid=True/Valid", "Connected=False/RemoteUnreachable"]);
    sim.pass(SignedDuration::from_hours(1));
    assert_eq!(of_link(&sim)[1], "Ready=False/InitialSync", "nothing is stale that was never known");
    sim.connect("east");
    sim.list("east", &[], &[]);
    let good = [
        "Ready=True/Ready",
        "Accepted=True/Accepted",
        "CredentialsValid=True/Valid",
        "Connected=True/Connected",
        "Synced=True/InSync",
    ];
    assert_eq!(of_link(&sim), good);
    sim.lose("east");
    assert_eq!(of_link(&sim)[3..], ["Connected=False/RemoteUnreachable", "Synced=False/Stale"]);
    assert_eq!(of_link(&sim)[0], "Ready=True/Ready");
}

#[test]
fn a_link_that_answers_is_connected_before_it_is_listed() {
    let mut sim = Sim::fixture();
    sim.connect("east");
    assert_eq!(
        of_link(&sim)[3..],
        ["CredentialsValid=True/Valid", "Connected=True/Connected", "Synced=False/InitialSync"]
    );
    assert_eq!(of_link(&sim)[..2], ["Reconciling=True/Reconciling", "Ready=False/InitialSync"]);
}

#[test]
fn a_link_whose_spec_is_changed_while_nothing_is_known_says_of_which_spec_it_speaks() {
    let mut sim = Sim::with_books();
    sim.restart();
    sim.log.clear();
    sim.settle();
    assert_eq!(sim.log, [], "nothing is said before anything is known");
    let before = of_link(&sim);
    sim.set_link(link("east", json!({"onLoss": {"after": "7m"}})));
    assert_eq!(of_link(&sim), before, "and what was said stands");
    sim.connect("east");
    assert_eq!(of_link(&sim), before);
}

#[test]
fn a_suspended_link_says_so_and_is_as_ready_as_it_was() {
    let mut sim = Sim::with_books();
    sim.set_link(link("east", json!({"suspend": true})));
    let suspended = [
        "Ready=True/Ready",
        "Accepted=True/Suspended",
        "CredentialsValid=True/Valid",
        "Connected=Unknown/Suspended",
        "Synced=Unknown/Suspended",
    ];
    assert_eq!(of_link(&sim), suspended);
    let mut sim = Sim::fixture();
    sim.set_link(link("north", json!({})));
    sim.links.remove("east");
    let mut never = link("east", json!({"suspend": true}));
    never.metadata.uid = Some("another".into());
    sim.set_link(never);
    assert_eq!(of_link(&sim)[0], "Ready=False/Suspended", "nothing is reconciled either");
}

#[test]
fn a_link_that_stalls_says_everywhere_why() {
    let mut sim = Sim::with_books();
    sim.set_link(link("east", json!({"onLoss": {"after": "soon"}})));
    let invalid = ["Stalled=True/InvalidSpec", "Ready=False/InvalidSpec", "Accepted=False/InvalidSpec"];
    assert_eq!(of_link(&sim)[..3], invalid);
    assert_eq!(of_link(&sim)[4], "Connected=True/Connected", "it goes on being read");
    let mut sim = Sim::with_books();
    sim.session = 2;
    sim.lose("east");
    sim.remote("east", connected("other-uid"));
    let said = of_link(&sim);
    assert_eq!(
        said[..3],
        ["Stalled=True/RemoteIdentityChanged", "Ready=False/RemoteIdentityChanged", "Accepted=True/Accepted"]
    );
    assert_eq!(said[4..], ["Connected=False/RemoteIdentityChanged", "Synced=False/Stale"]);
    let mut sim = Sim::fixture();
    sim.remote("east", connected("west-uid"));
    assert_eq!(of_link(&sim)[..3], ["Stalled=True/SelfLink", "Ready=False/SelfLink", "Accepted=False/SelfLink"]);
}

#[test]
fn a_policys_conditions_follow_its_links_and_its_writes() {
    let mut sim = Sim::fixture();
    let awaited = ["Ready=False/InitialSync", "Accepted=True/Accepted", "ResolvedRefs=True/Resolved"];
    assert_eq!(of_policy(&sim)[..3], awaited);
    sim.connect("east");
    sim.refuse = vec![WriteFailure::Forbidden; 99].into();
    sim.list("east", &[("shop/books", origin("b1"))], &[]);
    let pending = [
        "Reconciling=True/Reconciling",
        "Ready=False/Reconciling",
        "Accepted=True/Accepted",
        "ResolvedRefs=True/Resolved",
        "Programmed=False/Pending",
    ];
    assert_eq!(of_policy(&sim), pending);
    let message = |sim: &Sim, kind: &str| {
        let status = sim.policies[&key("shop/all")].status.clone().unwrap();
        status.conditions.into_iter().find(|c| c.type_ == kind).unwrap().message
    };
    let why = message(&sim, "Programmed");
    assert!(why.starts_with("1 of 1 matches are not written yet: ") && why.contains("refused by the test"), "{why}");
    assert_eq!(sim.counts("shop/all"), (1, 0, 0, 0));
    sim.refuse.clear();
    sim.pass(SignedDuration::from_mins(30));
    let good =
        ["Ready=True/Ready", "Accepted=True/Accepted", "ResolvedRefs=True/Resolved", "Programmed=True/Programmed"];
    assert_eq!(of_policy(&sim), good);
    assert_eq!(message(&sim, "Ready"), "1 matched: 1 mirrored, 0 skipped, 0 conflicted");
    sim.set_policy(policy("shop/all", json!({"mirror": {"name": "{nobody}"}})));
    let invalid = [
        "Stalled=True/InvalidSpec",
        "Ready=False/InvalidSpec",
        "Accepted=False/InvalidSpec",
        "ResolvedRefs=True/Resolved",
        "Programmed=True/Programmed",
    ];
    assert_eq!(of_policy(&sim), invalid);
    assert_eq!(sim.counts("shop/all"), (1, 1, 0, 0), "what was counted stands");
    for (field, reason) in [("suspend", "Suspended"), ("preview", "Preview")] {
        let mut sim = Sim::fixture();
        sim.delete_policy("shop/all");
        sim.set_policy(policy("shop/all", json!({field: true})));
        let said = of_policy(&sim);
        assert_eq!(said[..2], [format!("Ready=False/{reason}"), format!("Accepted=True/{reason}")]);
        assert_eq!(said[3], format!("Programmed=Unknown/{reason}"));
    }
}

#[test]
fn a_central_policy_is_told_which_link_is_missing() {
    let mut sim = Sim::new();
    sim.set_policy(policy("heliostat-system/all", json!({"links": {"names": ["nowhere"]}})));
    let status = sim.policies[&key("heliostat-system/all")].status.clone().unwrap();
    let refs = status.conditions.iter().find(|c| c.type_ == "ResolvedRefs").unwrap();
    assert_eq!(refs.reason, "RefNotFound");
    assert!(refs.message.contains("ClusterLink nowhere does not exist"), "{}", refs.message);
}

#[test]
fn a_restart_counts_mirrors_of_links_that_are_away_and_of_policies_each_its_own() {
    let mut sim = Sim::with_books();
    sim.namespace("stock");
    sim.set_policy(policy("stock/all", json!({})));
    sim.origin("stock/pens", origin("p1"));
    sim.origin("shop/pens", origin("p2"));
    assert_eq!((sim.counts("shop/all"), sim.counts("stock/all")), ((2, 2, 0, 0), (1, 1, 0, 0)));
    sim.restart();
    sim.lose("east");
    sim.pass(SignedDuration::from_mins(1));
    assert_eq!((sim.counts("shop/all"), sim.counts("stock/all")), ((2, 2, 0, 0), (1, 1, 0, 0)));
}

/// What is to be written of statuses by then.
fn due(sim: &mut Sim, input: Input, after: SignedDuration) -> Vec<Write> {
    let mut outputs = sim.engine.handle(input, sim.now);
    sim.now += after;
    outputs.extend(sim.engine.handle(Input::Tick, sim.now));
    let is_status = |op: &WriteOp| op.object().is_none();
    let writes = outputs.into_iter().filter_map(|o| if let Output::Write(write) = o { Some(write) } else { None });
    writes.filter(|write| is_status(&write.op)).collect()
}

#[test]
fn p04_a_status_is_written_once_though_no_watch_shows_it_and_again_only_when_it_failed() {
    let soon = SignedDuration::from_millis(200);
    let start = || {
        let mut sim = Sim::fixture();
        sim.set_binding(binding("by-hand", json!({"routing": "Port", "import": {"linkRef": {"name": "east"}, "addresses": [{"value": "203.0.113.10"}]}})));
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[]);
        // All three have news.
        let gateway = published("books", "by-hand", &["203.0.113.9"], &[("http", 20001)]);
        sim.pass(SignedDuration::from_secs(10));
        sim.engine.handle(
            Input::Remote {
                link: "east".into(),
                session: 1,
                received: sim.now,
                event: RemoteEvent::Slice(key("shop/books-gw"), Box::new(gateway)),
            },
            sim.now,
        );
        let lost = RemoteEvent::Lost { reason: Reason::RemoteUnreachable, message: "no answer".into() };
        let lost = Input::Remote { link: "east".into(), session: 1, received: sim.now, event: lost };
        let mut writes = due(&mut sim, lost, soon);
        writes.extend(due(&mut sim, Input::Tick, soon));
        (sim, writes)
    };
    let answered = |result: fn() -> Result<Written, WriteError>| {
        let (mut sim, writes) = start();
        assert!(!writes.is_empty());
        let mut more = Vec::new();
        for write in &writes {
            more.extend(due(&mut sim, Input::Written { id: write.id, result: result() }, SignedDuration::ZERO));
        }
        more.extend(due(&mut sim, Input::Tick, SignedDuration::from_secs(3)));
        more.extend(due(&mut sim, Input::Tick, SignedDuration::from_secs(3)));
        let at_once = std::mem::take(&mut more);
        // They are looked at again, by news that changes nothing that they say.
        let mut labelled = origin("b1");
        labelled.labels.insert("team".into(), "a".into());
        let lost = RemoteEvent::Lost { reason: Reason::RemoteUnreachable, message: "no answer".into() };
        for event in [RemoteEvent::Service(key("shop/books"), Box::new(labelled)), lost] {
            let input = Input::Remote { link: "east".into(), session: 1, received: sim.now, event };
            more.extend(due(&mut sim, input, soon));
            more.extend(due(&mut sim, Input::Tick, soon));
        }
        let statuses = |all: &[Write]| {
            all.iter().map(|write| format!("{:?}", std::mem::discriminant(&write.op))).collect::<Vec<_>>()
        };
        (statuses(&writes), statuses(&at_once), statuses(&more))
    };
    let (_, at_once, more) = answered(|| Ok(Written::Status("9000".into())));
    assert_eq!((at_once, more), (vec![], vec![]), "it is what is there");
    let gone = || Err(WriteError { kind: WriteFailure::NotFound, message: "no".into(), retry_after: None });
    assert_eq!(answered(gone).1, Vec::<String>::new(), "of what is gone nothing is said");
    let transient = || Err(WriteError { kind: WriteFailure::Transient, message: "no".into(), retry_after: None });
    let (first, again, _) = answered(transient);
    assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>(), again.iter().collect());
}

#[test]
fn a_link_that_has_never_been_listed_says_what_it_waits_for() {
    let ready = |sim: &Sim| {
        let conditions = &sim.links["east"].status.as_ref().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == "Ready").unwrap().message.clone()
    };
    let mut sim = Sim::fixture();
    sim.lose("east");
    assert_eq!(ready(&sim), "no complete listing yet: no answer");
    sim.connect("east");
    assert_eq!(ready(&sim), "the first complete listing of the remote is awaited");
}

#[test]
fn a_restart_says_nothing_of_a_link_before_it_was_tried_and_then_that_it_is_lost() {
    let mut sim = Sim::fixture();
    sim.remote("east", refused(Reason::CredentialsNotFound));
    let before = of_link(&sim);
    sim.restart();
    sim.settle();
    assert_eq!(of_link(&sim), before);
    let mut sim = Sim::with_books();
    sim.restart();
    sim.lose("east");
    assert_eq!(of_link(&sim)[3..], ["Connected=False/RemoteUnreachable", "Synced=False/Stale"]);
}

#[test]
fn a_policy_whose_spec_is_changed_while_nothing_is_known_says_of_which_spec_it_speaks() {
    let mut sim = Sim::with_books();
    let before = of_policy(&sim);
    sim.restart();
    sim.set_policy(policy("shop/all", json!({"services": {"ports": ["9090"]}})));
    assert_eq!(of_policy(&sim)[1..], before[1..]);
}

#[test]
fn a_link_says_which_other_one_leads_to_the_same_cluster() {
    let mut sim = Sim::with_books();
    sim.set_link(link("north", json!({})));
    let accepted = |sim: &Sim, name: &str| {
        let conditions = &sim.links[name].status.as_ref().unwrap().conditions;
        conditions.iter().find(|c| c.type_ == "Accepted").unwrap().message.clone()
    };
    sim.remote("north", connected("east-uid"));
    sim.remote("north", listed("east-uid", &[], &[]));
    assert_eq!(accepted(&sim, "north"), "the spec is accepted; note that link east leads to the same cluster");
    assert_eq!(accepted(&sim, "east"), "the spec is accepted; note that link north leads to the same cluster");
}
