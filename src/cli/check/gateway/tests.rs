//! From what was read to the answers, without a cluster.

use serde_json::json;

use super::*;
use crate::{
    cli::{
        check::{
            book::{Verdict, worst},
            contract::tests::{World, slice},
        },
        survey::tests::{origin, policy, snapshot, survey},
    },
    core::model::Key,
};

const ASKED: Asked<'_> = Asked { link: "east", binding: "public", path: "/" };

#[tokio::test]
async fn a_binding_that_publishes_nothing_fails_and_nobody_is_asked() {
    let mut other = slice("books-private", "Port");
    other.1["metadata"]["labels"]["heliostat.dev/binding"] = json!("private");
    let slices = [Slice::new(other.0, other.1)];
    let world = World::new(&[]);
    let checks = exercise(&world.scene(), &slices, Known::All, &ASKED, &mut Progress::new()).await;
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_eq!((checks[0].check, checks[0].verdict), (PUBLISHED, Verdict::Fail));
}

#[tokio::test]
async fn what_is_not_ready_is_held_against_the_contract_and_not_asked() {
    let mut object = slice("books-public", "Port");
    object.1["endpoints"][0]["conditions"]["ready"] = json!(false);
    let world = World::new(&[object.clone()]);
    let slices = [Slice::new(object.0, object.1)];
    let checks = exercise(&world.scene(), &slices, Known::All, &ASKED, &mut Progress::new()).await;
    assert_eq!(worst(&checks), Verdict::Warn, "{checks:?}");
    assert!(checks.iter().any(|c| c.detail == "not exercised: it is not ready"), "{checks:?}");
    assert!(!checks.iter().any(|c| c.check.contains("answers")), "{checks:?}");
}

#[test]
fn mirrors_have_the_names_that_policies_give_them() {
    let mut snapshot = snapshot();
    let renamed = policy(json!({"mirror": {"name": "far-{service}"}}));
    snapshot.policies.insert(Key::new("shop", "all"), renamed);
    let survey = survey(snapshot, Some(vec![origin("books", json!({}))]));
    let names = mirrors(survey.engine.claims(), "east", "example.org");
    let books = Key::new("shop", "books");
    assert_eq!(names, BTreeMap::from([(books.clone(), BTreeSet::from(["far-books.shop.svc.example.org".to_owned()]))]));
    assert_eq!(mirrors(survey.engine.claims(), "west", "example.org"), BTreeMap::new());
    assert_eq!(by_default("east", &books, "example.org").as_deref(), Some("books-east.shop.svc.example.org"));
}

#[tokio::test]
async fn an_exporter_that_was_not_read_is_an_error_that_says_why() {
    let read = published(&survey(snapshot(), None), "east").await.err().unwrap();
    assert_eq!(read.to_string(), "cannot read the exporter of link east: it is down");
    let suspended = published(&survey(snapshot(), Some(vec![])), "east").await.err().unwrap();
    assert!(suspended.to_string().contains("suspended"), "{suspended}");
}
