//! Who else writes: edits of mirrors (M09), and names that belong to others (M10, M12, A13).

use serde_json::{Value, json};

use crate::{
    audit::Mark,
    controller,
    fixture::{SOON, assert_untouched, differences, exported},
    landing::{foreign, merged, mirror},
    objects::{Objects, same, wait},
    support::Case,
};

/// M09: what somebody does to a mirror or its slices is undone; what they add to it stays.
#[tokio::test]
async fn m09_edits_are_repaired_and_additions_stay() {
    let case = Case::new("m09").await;
    case.export("books", "203.0.113.5").await;
    case.export("pens", "203.0.113.6").await;
    let (books, pens) = (case.mirror("books").await, case.mirror("pens").await);
    case.lands(&[&books, &pens]).await;
    let bystander = case.landed_of("pens-m09").await;
    let first = case.mirrors().get("books-m09").await.unwrap();
    let edits = [
        json!({"metadata": {"labels": {"heliostat.dev/link": "other", "heliostat.dev/policy": null}}}),
        json!({"metadata": {"annotations": {"heliostat.dev/origin-uid": "other", "heliostat.dev/via": "Direct"}}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"spec": {"ports": [{"name": "mine", "port": 1}]}}),
        json!({"spec": {"type": "NodePort"}}),
        json!({"spec": {"externalIPs": ["198.51.100.1"]}}),
        json!({"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}}),
    ];
    for edit in edits {
        println!("m09: {edit}");
        case.mirrors().patch("books-m09", edit).await;
        case.lands(&[&books, &pens]).await;
    }
    let uid = async || case.mirrors().get("books-m09").await.unwrap()["metadata"]["uid"].clone();
    assert_eq!(uid().await, first["metadata"]["uid"], "patched");
    case.mirrors().patch("books-m09", json!({"metadata": {"annotations": {"heliostat.dev/origin": "m09/pens"}}})).await;
    case.lands(&[&books, &pens]).await;
    assert_ne!(uid().await, first["metadata"]["uid"], "another origin under the same name: made anew");

    let added = json!({"metadata": {"labels": {"theirs": "stays"}, "annotations": {"theirs/note": "stays"}}});
    case.mirrors()
        .patch("books-m09", merged(&added, json!({"metadata": {"labels": {"heliostat.dev/link": "x"}}})))
        .await;
    let kept = merged(&books, json!({"service": added}));
    case.lands(&[&kept, &pens]).await;

    let name = case.slice_of("books-m09").await["metadata"]["name"].as_str().unwrap().to_owned();
    let edits = [
        json!({"endpoints": []}),
        json!({"endpoints": [{"addresses": ["198.51.100.7"]}]}),
        json!({"ports": [{"name": "http", "port": 81}]}),
        json!({"metadata": {"ownerReferences": null}}),
    ];
    for edit in edits {
        println!("m09: slice {edit}");
        case.mirror_slices().patch(&name, edit).await;
        case.lands(&[&kept, &pens]).await;
    }
    case.mirror_slices().delete(&name).await;
    case.lands(&[&kept, &pens]).await;
    let mut forged = case.slice_of("books-m09").await;
    forged["metadata"] = json!({"name": "forged", "labels": forged["metadata"]["labels"]});
    forged["endpoints"] = json!([{"addresses": ["198.51.100.7"]}]);
    case.mirror_slices().create(&forged).await;
    case.lands(&[&kept, &pens]).await;
    case.mirrors().delete("books-m09").await;
    case.lands(&[&books, &pens]).await;
    assert_untouched(&bystander, &case.landed_of("pens-m09").await);
}

/// M10: a Service that isn't ours is never touched, come what may.
#[tokio::test]
async fn m10_a_service_that_is_not_ours_is_never_touched() {
    let case = Case::new("m10").await;
    let selecting =
        json!({"metadata": {"name": "books-m10"}, "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]}});
    let mine = case.mirrors().create(&selecting).await;
    case.export("pens", "203.0.113.6").await;
    let pens = case.mirror("pens").await;
    case.lands(&[&foreign(&mine), &pens]).await;
    case.export("books", "203.0.113.5").await;
    let why = case.failures(&[("books", "NameConflict")]).await;
    assert!(why[0].contains("m10/books-m10"), "{why:?}");
    case.counts([2, 1, 0, 1]).await;
    let policy = case.policies().get("all").await.unwrap();
    assert_eq!(
        crate::objects::says(&policy, "Ready"),
        ("True".to_owned(), "Ready".to_owned()),
        "a conflict blocks no rollout"
    );
    case.lands(&[&foreign(&mine), &pens]).await;
    case.origins().delete("books").await;
    case.failures(&[]).await;
    case.lands(&[&foreign(&mine), &pens]).await;

    // The name is free: a mirror; then somebody puts a Service of their own in its place.
    case.export("books", "203.0.113.5").await;
    case.failures(&[("books", "NameConflict")]).await;
    case.mirrors().delete("books-m10").await;
    case.lands(&[&case.mirror("books").await, &pens]).await;
    case.policies().patch("all", json!({"spec": {"suspend": true}})).await;
    wait("m10: suspended", SOON, || async {
        same(crate::objects::says(&case.policies().get("all").await.unwrap(), "Accepted").1, &"Suspended".to_owned())
    })
    .await;
    case.mirrors().delete("books-m10").await;
    let mine = case.mirrors().create(&merged(&selecting, json!({"spec": {"selector": null}}))).await;
    case.policies().patch("all", json!({"spec": {"suspend": false}})).await;
    case.failures(&[("books", "NameConflict")]).await;
    case.lands(&[&foreign(&mine), &pens]).await;
    case.origins().patch("books", json!({"metadata": {"labels": {"changed": "yes"}}})).await;
    case.origins().delete("books").await;
    case.failures(&[]).await;
    case.lands(&[&foreign(&mine), &pens]).await;
}

/// A13: our marks on a tenant's own Service do nothing, and a Service in a mirror's place is theirs.
#[tokio::test]
async fn a13_a_tenants_own_marks_do_nothing() {
    let case = Case::new("a13").await;
    case.export("books", "203.0.113.5").await;
    let books = case.mirror("books").await;
    case.lands(&[&books]).await;
    let mark = Mark::now();
    let labels = books["service"]["metadata"]["labels"].clone();
    let marked = json!({"metadata": {"name": "mine", "labels": labels}, "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]}});
    let mine = case.mirrors().create(&marked).await;
    let annotations =
        json!({"heliostat.dev/link-uid": "5e1f0000-0000-4000-8000-000000000000", "heliostat.dev/origin": "a13/books"});
    let other_uid = json!({"metadata": {"name": "other", "annotations": annotations}, "spec": {"selector": null}});
    let other = case.mirrors().create(&merged(&marked, other_uid)).await;
    case.export("pens", "203.0.113.6").await;
    let pens = case.mirror("pens").await;
    case.lands(&[&books, &pens, &foreign(&mine), &foreign(&other)]).await;
    for theirs in [&mine, &other] {
        let name = theirs["metadata"]["name"].as_str().unwrap();
        assert_eq!(case.mirrors().get(name).await.as_ref(), Some(theirs));
        let writes = mark.writes_in("a13").await;
        assert!(!writes.iter().any(|write| write.contains(&format!("a13/{name} "))), "{name}: {writes:?}");
    }
}

/// M12: of two origins that want one name, the first keeps it, also over a restart.
#[tokio::test]
async fn alone_m12_the_incumbent_keeps_a_contested_name() {
    let case = Case::bare("m12").await;
    crate::support::namespace(&case.west, "m12").await;
    let b_c = case.link("b-c", json!({"services": {"selector": {"matchLabels": {"for": "b-c"}}}})).await;
    let c = case.link("c", json!({"services": {"selector": {"matchLabels": {"for": "c"}}}})).await;
    case.policy("all", json!({"links": {"names": ["b-c", "c"]}})).await;
    for (first, second) in [(("a", &b_c), ("a-b", &c)), (("a-b", &c), ("a", &b_c))] {
        let export = async |(name, link): (&str, &Value), address: &str| {
            case.origins()
                .create(&exported(name, json!({"metadata": {"labels": {"for": link["metadata"]["name"]}}})))
                .await;
            case.load_balancer(name, json!([{"ip": address}])).await
        };
        let origin = export(first, "203.0.113.5").await;
        let incumbent = mirror(first.1, "m12", "all", &origin);
        assert_eq!(incumbent["service"]["metadata"]["name"], "a-b-c");
        case.lands(&[&incumbent]).await;
        let landed = case.landed().await;
        export(second, "203.0.113.6").await;
        case.failures(&[(second.0, "NameConflict")]).await;
        case.counts([2, 1, 0, 1]).await;
        controller::stop(&case.west).await;
        let mark = Mark::now();
        controller::start(&case.west).await;
        for link in ["b-c", "c"] {
            crate::fixture::link_says(&case.links(), link, "Synced", "True", "InSync", SOON).await;
        }
        tokio::time::sleep(SOON).await;
        assert_eq!(mark.writes_in("m12").await, Vec::<String>::new(), "stable over a restart");
        assert_eq!(differences(&landed, &case.landed().await), Vec::<String>::new());
        case.failures(&[(second.0, "NameConflict")]).await;
        case.origins().delete(first.0).await;
        let origin = case.origins().get(second.0).await.unwrap();
        case.lands(&[&mirror(second.1, "m12", "all", &origin)]).await;
        case.origins().delete(second.0).await;
        case.lands(&[]).await;
    }
    let links = Objects::links(&case.west);
    links.delete("b-c").await;
    links.delete("c").await;
}
