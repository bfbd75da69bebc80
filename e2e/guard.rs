//! The deletion guard: what an exporter does not show any more is not deleted in masses, nor by a
//! listing that is older than what was seen before.

use std::{ops::Range, time::Duration};

use serde_json::{Value, json};

use crate::{
    controller,
    fixture::{SOON, Snapshot, assert_untouched},
    forger::{Forger, Forgery},
    objects::{Objects, condition, same, says, wait},
    rig::api_server,
    support::Case,
};

/// A watch that ended is listed again within that time.
const RELISTED: Duration = Duration::from_secs(10);
/// A watch lives for a minute at most, and only a new one is refused.
const REVOKED: Duration = Duration::from_secs(75);
/// The longest pause between two attempts to reach a remote is 60 s.
const BACK: Duration = Duration::from_secs(65);
/// Origins that the forged exporters have.
const ALL: Range<usize> = 0..8;

/// An exporter with these origins, each served by a load balancer.
fn with(case: &Case, origins: Range<usize>, version: u64) -> Forgery {
    let service = |index: usize| {
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {
                "name": format!("s{index}"), "namespace": case.name, "uid": format!("uid-{index}"),
                "resourceVersion": "1", "labels": {"heliostat.dev/export": "true"},
            },
            "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
        })
        .to_string()
    };
    Forgery { version, services: origins.map(service).collect(), ..Forgery::default() }
}

/// A case whose link leads to a forged exporter with all origins, at that version; and what landed.
async fn forged(name: &str, uid: &str, version: u64) -> (Case, Forger, Snapshot) {
    let case = Case::new(name).await;
    let forger = Forger::start(api_server("east"), uid, with(&case, ALL, version)).await;
    case.set_kubeconfig(&forger.kubeconfig).await;
    case.links().delete(name).await;
    case.link_object(name, json!({})).await;
    case.link_says("Synced", "True", "InSync", RELISTED).await;
    case.counts([8, 8, 0, 0]).await;
    for index in ALL {
        case.leads_to(&case.mirrored(&format!("s{index}")), &["203.0.113.5:80 http"]).await;
    }
    let landed = case.landed().await;
    assert_eq!(landed.len(), 16, "a Service and a slice each");
    (case, forger, landed)
}

/// Waits until that many of that many mirrors are held; gives the message.
async fn held(case: &Case, held: usize, of: usize) -> String {
    let start = format!("{held} of {of} mirrors are held since ");
    wait(&format!("{}: {start}…", case.name), RELISTED, || async {
        let link = case.links().get(&case.name).await.unwrap();
        match condition(&link, "DeletionHeld") {
            Some((status, reason, message)) if message.starts_with(&start) => {
                assert_eq!((status.as_str(), reason.as_str()), ("True", "DeletionHeld"));
                Ok(message)
            }
            other => Err(other),
        }
    })
    .await
}

/// Waits until nothing is held.
async fn nothing_held(case: &Case) {
    wait(&format!("{}: nothing is held", case.name), RELISTED, || async {
        let link = case.links().get(&case.name).await.unwrap();
        condition(&link, "DeletionHeld").map_or(Ok(()), Err)
    })
    .await;
}

/// The token, as a user finds it.
fn token(message: &str) -> &str {
    message.split_whitespace().skip_while(|word| *word != "token").nth(1).unwrap()
}

async fn allow(case: &Case, token: &str) {
    let change = json!({"metadata": {"annotations": {"heliostat.dev/allow-deletion": token}}});
    case.links().patch(&case.name, change).await;
}

fn mirrors(case: &Case, origins: Range<usize>) -> Vec<String> {
    origins.map(|index| case.mirrored(&format!("s{index}"))).collect()
}

/// L06, by rights: an account that may read nothing any more deletes nothing.
#[tokio::test]
async fn l06_rights_that_are_revoked_delete_nothing() {
    let case = Case::new("l06-rights").await;
    case.export("books", "203.0.113.5").await;
    case.leads_to("books-l06-rights", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    let before = case.landed().await;
    let bindings = Objects::at(&case.east, "/apis/rbac.authorization.k8s.io/v1/namespaces/l06-rights/rolebindings");
    let binding = bindings.get("link").await.unwrap();
    bindings.delete("link").await;
    let link = case.link_says("Connected", "False", "Forbidden", REVOKED).await;
    assert_eq!(condition(&link, "Stalled"), None, "rights come back");
    assert_eq!(condition(&link, "DeletionHeld"), None, "nothing was listed that could be held");
    assert_untouched(&before, &case.landed().await);
    let again = json!({"metadata": {"name": "link"}, "roleRef": binding["roleRef"], "subjects": binding["subjects"]});
    bindings.create(&again).await;
    case.link_says("Connected", "True", "Connected", BACK).await;
    assert_untouched(&before, &case.landed().await);
}

/// L06, by something before the API that hides most origins: held, until they return, or the token says
/// that they are gone.
#[tokio::test]
async fn l06_a_listing_that_hides_most_origins_is_held() {
    let (case, forger, before) = forged("l06-hidden", "106106a6-2a12-4a12-8a12-a12a12a12a01", 1000).await;
    forger.answer(with(&case, 0..2, 1010));
    let message = held(&case, 6, 8).await;
    assert!(message.contains("kubectl annotate clusterlink l06-hidden heliostat.dev/allow-deletion="), "{message}");
    assert_untouched(&before, &case.landed().await);
    case.counts([8, 8, 0, 0]).await;
    let link = case.links().get(&case.name).await.unwrap();
    assert_eq!(says(&link, "Ready"), ("True".into(), "Ready".into()));
    assert_eq!(link["status"]["services"], json!({"seen": 2, "mirrored": 8, "skipped": 0, "conflicted": 0}));
    // A word that is not the token, and that of another set.
    allow(&case, "00000000").await;
    forger.answer(with(&case, 0..1, 1020));
    let seven = held(&case, 7, 8).await;
    assert_ne!(token(&message), token(&seven));
    allow(&case, token(&message)).await;
    tokio::time::sleep(SOON).await;
    assert_untouched(&before, &case.landed().await);

    // They return. The token would still be that of the first set: these very mirrors have not gone.
    allow(&case, "00000000").await;
    forger.answer(with(&case, ALL, 1030));
    nothing_held(&case).await;
    assert_untouched(&before, &case.landed().await);

    forger.answer(with(&case, 0..2, 1040));
    assert_eq!(token(&held(&case, 6, 8).await), token(&message), "the same set, the same token");
    allow(&case, token(&message)).await;
    let left = mirrors(&case, 0..2);
    case.has_services(&left.iter().map(String::as_str).collect::<Vec<_>>()).await;
    nothing_held(&case).await;
    let mut untouched = before.clone();
    untouched.retain(|key, object| {
        let service = object["metadata"]["labels"]["kubernetes.io/service-name"].as_str();
        left.iter().any(|mirror| *key == format!("Service {mirror}") || service == Some(mirror))
    });
    wait("l06: the slices are collected", SOON, || async { same(case.landed().await.len(), &4) }).await;
    assert_untouched(&untouched, &case.landed().await);
}

/// L06 over a restart: the first listing is held again, with the same token, and nothing is written.
#[tokio::test]
async fn alone_l06_what_is_held_stays_held_over_a_restart() {
    let (case, forger, before) = forged("l06-restart", "106106a6-2a12-4a12-8a12-a12a12a12a02", 1000).await;
    forger.answer(with(&case, 0..2, 1010));
    let message = held(&case, 6, 8).await;
    let link = case.links().get(&case.name).await.unwrap();
    controller::stop(&case.west).await;
    controller::start(&case.west).await;
    controller::seconds_to_ready(&case.west).await;
    tokio::time::sleep(RELISTED).await;
    let now = case.links().get(&case.name).await.unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], link["metadata"]["resourceVersion"], "not even its status: {now}");
    assert_untouched(&before, &case.landed().await);
    allow(&case, token(&message)).await;
    let left = mirrors(&case, 0..2);
    case.has_services(&left.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// L08: an exporter that was restored from an old backup, which has fewer objects and a lower
/// resourceVersion.
#[tokio::test]
async fn l08_an_older_listing_is_held_however_few_it_lacks() {
    let (case, forger, before) = forged("l08", "108108a8-2a12-4a12-8a12-a12a12a12a03", 1000).await;
    forger.answer(with(&case, 0..7, 900));
    let message = held(&case, 1, 8).await;
    assert!(message.contains("older than what was seen before"), "{message}");
    assert_untouched(&before, &case.landed().await);
    forger.answer(with(&case, ALL, 910));
    nothing_held(&case).await;
    assert_untouched(&before, &case.landed().await);
    // Newer than the last one, and fewer: as usual.
    forger.answer(with(&case, 0..7, 920));
    let left = mirrors(&case, 0..7);
    case.has_services(&left.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let events = Objects::at(&case.west, "/apis/events.k8s.io/v1/namespaces/default/events").all().await;
    let uid = case.links().get(&case.name).await.unwrap()["metadata"]["uid"].clone();
    let of_link = |event: &&Value| event["regarding"]["uid"] == uid && event["reason"] == "DeletionHeld";
    let kinds: Vec<&str> = events.values().filter(of_link).map(|event| event["type"].as_str().unwrap()).collect();
    let once = |kind: &str| kinds.iter().filter(|there| **there == kind).count() <= 1;
    assert!(once("Warning") && once("Normal"), "each is told once, unless there are too many Events: {kinds:?}");
}
