use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cluster::fake::Fake;

struct Rig {
    fake: Fake,
    inputs: mpsc::Receiver<Input>,
    health: watch::Receiver<LocalHealth>,
    _shutdown: tokio_util::sync::DropGuard,
}

fn rig(fake: Fake) -> Rig {
    rig_of(fake, false)
}

fn rig_of(fake: Fake, export: bool) -> Rig {
    let (out, inputs) = mpsc::channel(64);
    let shutdown = CancellationToken::new();
    let health = watch_all(fake.client(), export, out, shutdown.clone());
    Rig { fake, inputs, health, _shutdown: shutdown.drop_guard() }
}

impl Rig {
    /// Everything that is said until nothing is said for a while.
    async fn heard(&mut self) -> Vec<Local> {
        let mut heard = Vec::new();
        while let Ok(Some(input)) = tokio::time::timeout(Duration::from_secs(5), self.inputs.recv()).await {
            match input {
                Input::Local(local) => heard.push(local),
                other => panic!("{other:?}"),
            }
        }
        heard
    }

    /// What is said to the exporter's side, until nothing is said for a while.
    async fn export(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(Some(input)) = tokio::time::timeout(Duration::from_secs(5), self.inputs.recv()).await {
            heard.extend(match &input {
                Input::Export(ExportNews::Service(change)) => Some(format!("service {}", brief(change))),
                Input::Export(ExportNews::Slice(change)) => Some(format!("slice {}", brief(change))),
                Input::Export(ExportNews::Node(change)) => Some(format!("node {}", brief(change))),
                _ => None,
            });
        }
        heard.sort();
        heard
    }

    async fn services(&mut self) -> Vec<String> {
        let heard = self.heard().await;
        heard
            .iter()
            .filter_map(|local| if let Local::Service(change) = local { Some(brief(change)) } else { None })
            .collect()
    }
}

fn brief<K: Ord + fmt::Display, V>(change: &Change<K, V>) -> String {
    match change {
        Change::Set(key, _) => format!("set {key}"),
        Change::Gone(key) => format!("gone {key}"),
        Change::All(all) => {
            format!("all {}", all.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")).trim().to_owned()
        }
    }
}

fn link(name: &str) -> Value {
    json!({"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "metadata": {"name": name}, "spec": {"kubeconfigSecretRef": {"name": "s", "key": "k"}}})
}

#[tokio::test(start_paused = true)]
async fn l01_every_kind_is_listed_then_followed() {
    let fake = Fake::new("u");
    fake.put("namespaces", "", "kube-system", json!({"metadata": {"uid": "k1"}}));
    fake.put("clusterlinks", "", "east", link("east"));
    let mut rig = rig(fake);
    let heard = rig.heard().await;
    assert_eq!(heard.len(), 9);
    assert!(heard.iter().any(|local| matches!(local, Local::ClusterUid(uid) if uid == "k1")));
    assert!(heard.iter().any(|local| matches!(local, Local::Link(Change::All(all)) if all.contains_key("east"))));
    assert!(rig.health.borrow().is_ready(), "{:?}", rig.health.borrow().problems());
    assert!(rig.health.borrow().problems().is_empty());

    rig.fake.put("services", "shop", "books", json!({}));
    rig.fake.remove("services", "shop", "books");
    assert_eq!(rig.services().await, ["set shop/books", "gone shop/books"]);
    let slices = rig.fake.requests().into_iter().find(|uri| uri.contains("endpointslices")).unwrap();
    assert!(slices.contains("labelSelector=endpointslice.kubernetes.io%2Fmanaged-by%3Dheliostat.dev"), "{slices}");
}

#[tokio::test(start_paused = true)]
async fn l04_what_was_deleted_while_nobody_looked_is_missing_from_the_next_listing() {
    let fake = Fake::new("u");
    fake.put("services", "shop", "a", json!({}));
    fake.put("services", "shop", "b", json!({}));
    let mut rig = rig(fake);
    assert_eq!(rig.services().await, ["all shop/a shop/b"]);
    for ended in [Fake::expire, Fake::break_watches] {
        rig.fake.put("services", "shop", "b", json!({}));
        rig.services().await;
        rig.fake.forget("services", "shop", "b");
        ended(&rig.fake, "services");
        assert_eq!(rig.services().await, ["all shop/a"]);
    }
    rig.fake.end_watches("services");
    assert_eq!(rig.services().await, Vec::<String>::new());
    rig.fake.put("services", "shop", "c", json!({}));
    assert_eq!(rig.services().await, ["set shop/c"]);
}

#[tokio::test(start_paused = true)]
async fn l12_a_failing_api_server_deletes_nothing_and_is_reported() {
    let fake = Fake::new("u");
    fake.put("services", "shop", "a", json!({}));
    let mut rig = rig(fake);
    rig.heard().await;
    rig.fake.fault("services", 403);
    rig.fake.break_watches("services");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.services().await, Vec::<String>::new());
    let health = rig.health.borrow().clone();
    assert!(!health.is_ready());
    assert_eq!(health.problems(), ["services cannot be read: 403 services say 403; apply the shipped ClusterRole"]);
    rig.fake.repair("services");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.services().await, ["all shop/a"]);
    assert!(rig.health.borrow().is_ready());
}

#[tokio::test(start_paused = true)]
async fn l11_missing_crds_are_named_and_waited_for() {
    let fake = Fake::new("u");
    fake.fault("clusterlinks", 404);
    fake.fault("servicecidrs", 404);
    let mut rig = rig(fake);
    let heard = rig.heard().await;
    assert!(!heard.iter().any(|local| matches!(local, Local::Link(_))));
    assert!(heard.iter().any(|local| matches!(local, Local::ServiceCidr(Change::All(all)) if all.is_empty())));
    assert_eq!(
        rig.health.borrow().problems(),
        ["clusterlinks.heliostat.dev is not installed; run: heliostat crds | kubectl apply -f -"]
    );
    rig.fake.put("clusterlinks", "", "east", link("east"));
    rig.fake.repair("clusterlinks");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.heard().await.iter().any(|local| matches!(local, Local::Link(Change::All(_)))));
    assert!(rig.health.borrow().is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_understood_is_not_taken_for_a_deleted_one() {
    let fake = Fake::new("u");
    fake.put("clusterlinks", "", "east", link("east"));
    fake.put("clusterlinks", "", "west", json!({"spec": {"kubeconfigSecretRef": 7}}));
    let mut rig = rig(fake);
    let links = |heard: Vec<Local>| -> Vec<String> {
        heard
            .iter()
            .filter_map(|local| if let Local::Link(change) = local { Some(brief(change)) } else { None })
            .collect()
    };
    assert_eq!(links(rig.heard().await), ["set east"]);
    assert!(!rig.health.borrow().is_ready());
    let problems = rig.health.borrow().problems();
    assert!(
        problems.len() == 1 && problems[0].starts_with("clusterlinks.heliostat.dev west cannot be understood: "),
        "{problems:?}"
    );
    rig.fake.put("clusterlinks", "", "west", link("west"));
    assert_eq!(links(rig.heard().await), ["set west"]);
    rig.fake.expire("clusterlinks");
    assert_eq!(links(rig.heard().await), ["all east west"]);
    assert!(rig.health.borrow().is_ready());
}

fn slice_of(service: Option<&str>) -> Value {
    let labels = service.map_or_else(|| json!({}), |name| json!({names::SERVICE_NAME_LABEL: name}));
    json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})
}

#[tokio::test(start_paused = true)]
async fn an_exporter_is_followed_as_an_importer_would_see_it() {
    let fake = Fake::new("u");
    fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 80}]}}));
    fake.put("endpointslices", "shop", "books-1", slice_of(Some("books")));
    fake.put("endpointslices", "shop", "nobodys", slice_of(None));
    fake.put("nodes", "", "n1", json!({}));
    let mut rig = rig_of(fake, true);
    assert_eq!(rig.export().await, ["node all n1", "service all shop/books", "slice all shop/books-1"]);
    assert!(rig.health.borrow().is_ready(), "{:?}", rig.health.borrow().problems());
    assert_eq!(rig.health.borrow().kinds().count(), 11);
    let pods =
        |uri: &String| uri.contains("endpointslices") && uri.contains("labelSelector=kubernetes.io%2Fservice-name&");
    assert!(rig.fake.requests().iter().any(pods), "{:?}", rig.fake.requests());

    rig.fake.put("endpointslices", "shop", "books-1", slice_of(None));
    rig.fake.remove("nodes", "", "n1");
    assert_eq!(rig.export().await, ["node gone n1", "slice gone shop/books-1"]);

    // l12
    rig.fake.fault("nodes", 403);
    rig.fake.break_watches("nodes");
    assert!(rig.export().await.is_empty());
    let problems = rig.health.borrow().problems();
    assert!(problems.iter().any(|p| p.starts_with("nodes (to export) cannot be read: 403")), "{problems:?}");
    assert!(!rig.health.borrow().is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_importer_alone_follows_nothing_of_an_exporter() {
    let fake = Fake::new("u");
    fake.put("services", "shop", "books", json!({}));
    let mut rig = rig(fake);
    assert!(rig.export().await.is_empty());
    assert_eq!(
        (rig.fake.watches("services"), rig.fake.watches("endpointslices"), rig.fake.watches("nodes")),
        (1, 1, 1)
    );
    assert!(rig.health.borrow().is_ready());
    assert_eq!(rig.health.borrow().kinds().count(), 8);
}
