//! What a policy asks for decides what there is: M14, M16, L01.

use serde_json::{Value, json};

use crate::{
    fixture::{SOON, exported},
    landing::{merged, mirror},
    objects::{Objects, condition, same, says, wait},
    support::{Case, HOME, namespace},
};

/// M14: the mirrors that follow from the spec, each time as from scratch.
#[tokio::test]
async fn m14_the_spec_alone_decides_what_exists() {
    let case = Case::bare("m14").await;
    for cluster in [&case.west, &case.east] {
        namespace(cluster, "m14-b").await;
    }
    namespace(&case.west, "m14").await;
    crate::support::read_also(&case.east, "m14", "m14-b").await;
    let link = case.link("m14", json!({"services": {"namespaces": ["m14", "m14-b"]}})).await;
    case.origins().create(&exported("books", json!({"metadata": {"labels": {"tier": "front"}}}))).await;
    case.load_balancer("books", json!([{"ip": "203.0.113.5"}])).await;
    case.export("pens", "203.0.113.6").await;
    let others = Objects::services(&case.east, "m14-b");
    others.create(&exported("books", json!({}))).await;
    let other = others.patch_status("books", json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}})).await;
    let policies = Objects::policies(&case.west, HOME);
    case.policy_in(HOME, "m14", json!({"services": {"namespaces": ["m14"]}})).await;
    let of = |origin: &Value| mirror(&link, HOME, "m14", origin);
    let (books, pens) = (case.origins().get("books").await.unwrap(), case.origins().get("pens").await.unwrap());
    let (books, pens, other) = (of(&books), of(&pens), of(&other));
    let steps = async |spec: Value, here: &[&Value], there: &[&Value]| {
        println!("m14: {spec}");
        policies.patch("m14", json!({"spec": spec})).await;
        case.lands_in("m14", here).await;
        case.lands_in("m14-b", there).await;
    };
    steps(json!({}), &[&books, &pens], &[]).await;
    steps(json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}}), &[&books], &[]).await;
    steps(json!({"services": {"selector": null, "namespaces": ["m14-b"]}}), &[], &[&other]).await;
    steps(json!({"services": {"namespaces": ["m14", "m14-b"]}}), &[&books, &pens], &[&other]).await;
    steps(json!({"services": {"namespaces": null}}), &[&books, &pens], &[&other]).await;
    steps(json!({"services": {"namespaces": ["m14"]}}), &[&books, &pens], &[]).await;
    let only = |mirror: &Value, keep: &str| {
        let mut mirror = mirror.clone();
        for place in ["/service/spec/ports", "/slices/0/ports"] {
            mirror.pointer_mut(place).unwrap().as_array_mut().unwrap().retain(|p| p["name"] == keep);
        }
        mirror
    };
    steps(json!({"services": {"ports": ["9090"]}}), &[&only(&books, "grpc"), &only(&pens, "grpc")], &[]).await;
    steps(json!({"services": {"ports": ["http"]}}), &[&only(&books, "http"), &only(&pens, "http")], &[]).await;
    steps(json!({"services": {"ports": null}}), &[&books, &pens], &[]).await;
    let renamed = |mirror: &Value, name: &str| {
        let mut mirror = merged(mirror, json!({"service": {"metadata": {"name": name}}}));
        let meta = json!({"labels": {"kubernetes.io/service-name": name}});
        let slice = mirror.pointer_mut("/slices/0/metadata").unwrap();
        crate::support::merge(slice, meta);
        slice["ownerReferences"][0]["name"] = json!(name);
        mirror
    };
    let all = [renamed(&books, "m14-books"), renamed(&pens, "m14-pens")];
    steps(json!({"mirror": {"name": "{link}-{service}"}}), &[&all[0], &all[1]], &[]).await;
    let moved = |mirror: &Value| {
        let mut mirror = merged(mirror, json!({"service": {"metadata": {"namespace": "m14-b"}}}));
        mirror["slices"][0]["metadata"]["namespace"] = json!("m14-b");
        mirror
    };
    steps(json!({"mirror": {"name": null, "namespace": "m14-b"}}), &[], &[&moved(&books), &moved(&pens)]).await;
    steps(json!({"mirror": null}), &[&books, &pens], &[]).await;
}

/// M16, A13: links that a policy may not use, and namespaces that it may not see.
#[tokio::test]
async fn m16_a13_links_that_may_not_be_used() {
    let case = Case::bare("m16").await;
    namespace(&case.west, "m16").await;
    case.link("m16", json!({"allowedNamespaces": {"from": "Same"}})).await;
    case.export("books", "203.0.113.5").await;
    case.link_says("Synced", "True", "InSync", SOON).await;
    case.policy("all", json!({})).await;
    case.policy("nowhere", json!({"links": {"names": ["nowhere"]}})).await;
    let refused = async |policy: &str, reason: &str| {
        wait(&format!("m16: policy {policy}: {reason}"), SOON, || async {
            let object = case.policies().get(policy).await.unwrap();
            let refs = condition(&object, "ResolvedRefs").unwrap_or_default();
            let ready = says(&object, "Ready");
            let there = (refs.0.clone(), refs.1.clone(), ready);
            let wanted = ("False".to_owned(), reason.to_owned(), ("False".to_owned(), reason.to_owned()));
            same(there, &wanted).map(|()| refs.2)
        })
        .await
    };
    let (not_admitted, missing) =
        (refused("all", "RefNotPermitted").await, refused("nowhere", "RefNotPermitted").await);
    assert_eq!(missing.replace("nowhere", "m16"), not_admitted, "a tenant is not told whether the link exists");
    let statuses = |policy: Value| (policy["status"]["services"].clone(), policy["status"]["failures"].clone());
    let (one, two) = (case.policies().get("all").await.unwrap(), case.policies().get("nowhere").await.unwrap());
    assert_eq!(statuses(one), statuses(two), "nor by counts");
    case.lands(&[]).await;

    case.links().patch("m16", json!({"spec": {"allowedNamespaces": {"from": "All"}}})).await;
    case.policies().delete("nowhere").await;
    case.lands(&[&case.mirror("books").await]).await;
    case.policies().patch("all", json!({"spec": {"services": {"namespaces": ["vault"]}}})).await;
    refused("all", "NamespaceNotAllowed").await;
    case.links()
        .patch(
            "m16",
            json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"may": "yes"}}}}}),
        )
        .await;
    case.policies().patch("all", json!({"spec": {"services": {"namespaces": null}}})).await;
    refused("all", "RefNotPermitted").await;
    case.lands(&[]).await;
    Objects::at(&case.west, "/api/v1/namespaces").patch("m16", json!({"metadata": {"labels": {"may": "yes"}}})).await;
    case.lands(&[&case.mirror("books").await]).await;
}

/// L01: link, Secret, namespaces and policies in any order end in the same.
#[tokio::test]
async fn l01_any_order_converges() {
    for (i, order) in ["lspo", "posl", "oslp", "plos"].iter().enumerate() {
        let case = Case::bare(&format!("l01-{i}")).await;
        namespace(&case.west, &case.name).await;
        for step in order.chars() {
            match step {
                'l' => drop(case.link_object(&case.name, json!({})).await),
                's' => case.secret(&case.name).await,
                'p' => drop(case.policy("all", json!({})).await),
                _ => drop(case.export("books", "203.0.113.5").await),
            }
            if step == 'l' && !order[..order.find('l').unwrap()].contains('s') {
                case.link_says("CredentialsValid", "False", "CredentialsNotFound", SOON).await;
                let link = case.links().get(&case.name).await.unwrap();
                assert_eq!(condition(&link, "Stalled"), None, "a Secret that is not there yet stalls nothing");
            }
            tokio::time::sleep(SOON / 4).await;
        }
        // A changed Secret is picked up within 10 s.
        case.link_says("Ready", "True", "Ready", SOON * 5).await;
        case.lands(&[&case.mirror("books").await]).await;
        wait(&format!("{order}: the policy is Ready"), SOON, || async {
            let policy = case.policies().get("all").await.unwrap();
            same(says(&policy, "Ready"), &("True".to_owned(), "Ready".to_owned())).map_err(|_| policy["status"].clone())
        })
        .await;
    }
}
