//! Quiet: a restart and two idle minutes with a thousand mirrors, as the API server counts writes.

use std::time::Duration;

use futures::{StreamExt, stream};
use heliostat::api::{ClusterLink, MirrorPolicy};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{audit::Mark, controller, fixture::exported, objects::wait, support::Case};

/// Origins of the test.
const MANY: usize = 1000;

/// Restarted with everything in place, the controller writes nothing; nor in two quiet minutes; and it
/// is awake all the while.
#[tokio::test]
async fn alone_a_restart_and_two_quiet_minutes_write_nothing() {
    let case = Case::new("quiet").await;
    alone_in(&case).await;
    let all = stream::iter(0..MANY).map(|i| {
        let case = &case;
        async move {
            let name = format!("s{i}");
            case.origins().create(&exported(&name, json!({}))).await;
            case.load_balancer(&name, json!([{"ip": "203.0.113.5"}])).await;
        }
    });
    all.buffer_unordered(16).collect::<Vec<()>>().await;
    wait("quiet: 1,000 mirrors with their slices", Duration::from_secs(60), || async {
        let there = (case.mirrors().all().await.len(), case.mirror_slices().all().await.len());
        if there == (MANY, MANY) { Ok(()) } else { Err(there) }
    })
    .await;
    settled().await;

    controller::stop(&case.west).await;
    let mark = Mark::now();
    controller::start(&case.west).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(mark.writes().await, Vec::<String>::new(), "a restart and two quiet minutes");

    // Complete before it is exported: what it takes is then one Service and one slice, and no more.
    case.origins().create(&exported("newcomer", json!({"metadata": {"labels": null}}))).await;
    case.load_balancer("newcomer", json!([{"ip": "203.0.113.6"}])).await;
    case.origins().patch("newcomer", json!({"metadata": {"labels": {"heliostat.dev/export": "true"}}})).await;
    case.leads_to("newcomer-quiet", &["203.0.113.6:80 http", "203.0.113.6:9090 grpc"]).await;
    let mirrors: Vec<String> = mark
        .writes_in("quiet")
        .await
        .into_iter()
        .filter(|w| !w.contains("mirrorpolicies") && !w.contains(" events "))
        .collect();
    let made = ["create services quiet/newcomer-quiet 201", "create endpointslices quiet/newcomer-quiet-"];
    assert!(mirrors.len() == 2 && mirrors.iter().zip(made).all(|(w, made)| w.starts_with(made)), "{mirrors:?}");
}

/// Removes the links and policies that other tests have left: some of their remotes are gone for
/// good, and a link that is told so again and again is not quiet.
async fn alone_in(case: &Case) {
    let (links, policies): (Api<ClusterLink>, Api<MirrorPolicy>) =
        (Api::all(case.west.clone()), Api::all(case.west.clone()));
    let now = DeleteParams::default();
    for policy in policies.list(&ListParams::default()).await.unwrap() {
        let namespace = policy.namespace().unwrap();
        if namespace != "quiet" {
            let of_namespace: Api<MirrorPolicy> = Api::namespaced(case.west.clone(), &namespace);
            of_namespace.delete(&policy.name_any(), &now).await.unwrap();
        }
    }
    for link in links.list(&ListParams::default()).await.unwrap().iter().filter(|link| link.name_any() != "quiet") {
        links.delete(&link.name_any(), &now).await.unwrap();
    }
}

/// Waits until the controller has written nothing for five seconds.
async fn settled() {
    wait("quiet: the controller has nothing to do", Duration::from_secs(20), || async {
        let mark = Mark::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let writes = mark.writes().await;
        if writes.is_empty() { Ok(()) } else { Err(writes) }
    })
    .await;
}
