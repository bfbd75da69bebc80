//! Whose a Service is: mirrors that somebody takes over, and times when nothing may be written.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, Snapshot, assert_untouched, differences},
    objects::{condition, same, says, wait},
    support::Case,
};

/// M23: a mirror that lost a marker or gained a selector is theirs from then on.
#[tokio::test]
async fn m23_what_somebody_took_over_is_never_written_again() {
    let case = Case::new("m23").await;
    case.policies().patch("all", json!({"spec": {"mirror": {"labels": ["team"]}}})).await;
    let takeovers = [
        ("label", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})),
        ("uid", json!({"metadata": {"annotations": {"heliostat.dev/link-uid": null}}})),
        ("selector", json!({"metadata": {"labels": {"app": "theirs"}}, "spec": {"selector": {"app": "theirs"}}})),
    ];
    for (i, name) in ["bystander", "label", "selector", "uid"].iter().enumerate() {
        case.export(name, &format!("203.0.113.{}", i + 1)).await;
        case.origins().patch(name, json!({"metadata": {"labels": {"team": "a"}}})).await;
    }
    let all = ["bystander-m23", "label-m23", "selector-m23", "uid-m23"];
    case.has_services(&all).await;
    case.leads_to("bystander-m23", &["203.0.113.1:80 http", "203.0.113.1:9090 grpc"]).await;
    wait("m23: copied labels are there", SOON, || async {
        let mirrors = case.mirrors().all().await;
        let copied: Vec<bool> = mirrors.values().map(|m| m["metadata"]["labels"]["team"] == "a").collect();
        same(copied, &vec![true; 4])
    })
    .await;
    let bystander = |all: Snapshot| -> Snapshot { all.into_iter().filter(|(k, _)| k.contains("bystander")).collect() };
    let before = bystander(case.landed().await);

    for (name, change) in &takeovers {
        let mirror = case.mirrored(name);
        case.mirrors()
            .patch(&mirror, json!({"metadata": {"labels": {"their": "own"}, "annotations": {"their": "own"}}}))
            .await;
        let taken = case.mirrors().patch(&mirror, change.clone()).await;
        let freed = wait(&format!("m23: {mirror} is let go of"), SOON, || async {
            let service = case.mirrors().get(&mirror).await.unwrap();
            let meta = &service["metadata"];
            let keys = [&meta["labels"], &meta["annotations"]].map(keys_of).concat();
            let ours = |key: &String| {
                key.starts_with("heliostat.dev/") || key == "app.kubernetes.io/managed-by" || key == "team"
            };
            let left = keys.into_iter().filter(ours).count();
            let slices = case.mirror_slices().all().await;
            let ours = slices.values().filter(|s| {
                s["metadata"]["labels"]["kubernetes.io/service-name"] == mirror.as_str()
                    && s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "heliostat.dev"
            });
            let state = (left, meta["ownerReferences"].clone(), ours.count());
            same(state, &(0, Value::Null, 0)).map(|()| service.clone())
        })
        .await;
        assert_eq!(freed["metadata"]["uid"], taken["metadata"]["uid"]);
        assert_eq!(freed["spec"], taken["spec"], "what is theirs stays");
        for place in ["labels", "annotations"] {
            assert_eq!(freed["metadata"][place]["their"], "own");
        }
        assert_eq!(condition(&freed, "heliostat.dev/Mirrored"), None);
    }
    let conflicts = [("label", "NameConflict"), ("selector", "NameConflict"), ("uid", "NameConflict")];
    let messages = case.failures(&conflicts).await;
    assert!(messages.iter().all(|m| m.contains("is not Heliostat's")), "{messages:?}");
    case.counts([4, 1, 0, 3]).await;
    assert_untouched(&before, &bystander(case.landed().await));

    // Never written again: not when the origin changes, goes, and comes back.
    let theirs = case.landed().await;
    for (name, _) in &takeovers {
        case.origins().patch(name, json!({"spec": {"ports": [{"name": "web", "port": 81, "protocol": "TCP"}]}})).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (name, _) in &takeovers {
        case.origins().delete(name).await;
    }
    case.failures(&[]).await;
    for (name, _) in &takeovers {
        case.export(name, "203.0.113.9").await;
    }
    case.failures(&conflicts).await;
    assert_untouched(&theirs, &case.landed().await);

    // Not even with the link: Kubernetes' garbage collector has no reason left.
    case.links().delete(&case.name).await;
    case.has_services(&all[1..]).await;
    let left = differences(&theirs, &case.landed().await);
    assert!(left.iter().all(|change| change.contains("bystander")), "{left:#?}");
}

fn keys_of(map: &Value) -> Vec<String> {
    map.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

/// M24: preview or suspend: nothing is written, status says what would be, and off it converges.
#[tokio::test]
async fn m24_preview_and_suspend_write_nothing() {
    let case = Case::new("m24").await;
    for (field, reason) in [("preview", "Preview"), ("suspend", "Suspended")] {
        for (name, address) in [("books", "203.0.113.1"), ("pens", "203.0.113.2")] {
            case.export(name, address).await;
        }
        case.has_services(&["books-m24", "pens-m24"]).await;
        case.leads_to("pens-m24", &["203.0.113.2:80 http", "203.0.113.2:9090 grpc"]).await;
        policy_says(&case, "Ready", ("True", "Ready")).await;

        case.policies().patch("all", json!({"spec": {field: true}})).await;
        policy_says(&case, "Accepted", ("True", reason)).await;
        let before = case.landed().await;
        case.export("ink", "203.0.113.3").await;
        case.origins().delete("books").await;
        case.load_balancer("pens", json!([{"ip": "203.0.113.4"}])).await;
        case.policies().patch("all", json!({"spec": {"services": {"ports": ["http"]}}})).await;
        if field == "preview" {
            wait("m24: the preview tells what would change", SOON, || async {
                let policy = case.policies().get("all").await.unwrap();
                let says = condition(&policy, "Programmed").map(|(_, reason, message)| (reason, message));
                same(says, &Some(("Preview".into(), "would create 1, update 1, delete 1".into())))
            })
            .await;
        }
        tokio::time::sleep(SOON).await;
        assert_untouched(&before, &case.landed().await);
        policy_says(&case, "Ready", ("True", "Ready")).await;

        case.policies().patch("all", json!({"spec": {field: false}})).await;
        case.has_services(&["ink-m24", "pens-m24"]).await;
        case.leads_to("ink-m24", &["203.0.113.3:80 http"]).await;
        case.leads_to("pens-m24", &["203.0.113.4:80 http"]).await;
        policy_says(&case, "Accepted", ("True", "Accepted")).await;
        policy_says(&case, "Programmed", ("True", "Programmed")).await;

        case.policies().patch("all", json!({"spec": {"services": null}})).await;
        for name in ["ink", "pens"] {
            case.origins().delete(name).await;
        }
        case.has_services(&[]).await;
    }

    // A link that is suspended.
    case.export("books", "203.0.113.1").await;
    case.leads_to("books-m24", &["203.0.113.1:80 http", "203.0.113.1:9090 grpc"]).await;
    policy_says(&case, "Programmed", ("True", "Programmed")).await;
    let before = case.landed().await;
    case.links().patch(&case.name, json!({"spec": {"suspend": true}})).await;
    case.link_says("Connected", "Unknown", "Suspended", SOON).await;
    let link = case.links().get(&case.name).await.unwrap();
    assert_eq!(says(&link, "Ready"), ("True".into(), "Ready".into()), "as it was");
    case.origins().delete("books").await;
    case.export("pens", "203.0.113.2").await;
    tokio::time::sleep(SOON).await;
    assert_untouched(&before, &case.landed().await);
    case.links().patch(&case.name, json!({"spec": {"suspend": false}})).await;
    case.has_services(&["pens-m24"]).await;
    case.link_says("Connected", "True", "Connected", SOON).await;
}

async fn policy_says(case: &Case, kind: &str, (status, reason): (&str, &str)) {
    let wanted = (status.to_owned(), reason.to_owned());
    wait(&format!("{}: {kind}={status}/{reason}", case.name), SOON, || async {
        let policy = case.policies().get("all").await.unwrap();
        let up_to_date = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        if up_to_date { same(says(&policy, kind), &wanted) } else { Err(("another generation".into(), String::new())) }
    })
    .await;
}
