use serde_json::json;

use super::*;
use crate::{
    cluster::fake::Fake,
    core::export::object::{LEASE, kind},
};

const ROUTES: Kind = kind("gateway.networking.k8s.io", "TCPRoute", "tcproutes", &["v1", "v1alpha2"]);
const V1: &str = "apis/gateway.networking.k8s.io/v1";
const V1ALPHA2: &str = "apis/gateway.networking.k8s.io/v1alpha2";
const SERVED: &[(&str, &str, bool)] = &[("tcproutes", "TCPRoute", true)];

struct Rig {
    fake: Fake,
    wanted: watch::Sender<BTreeSet<Kind>>,
    inputs: mpsc::Receiver<Input>,
    health: watch::Receiver<ObjectsHealth>,
    _shutdown: tokio_util::sync::DropGuard,
}

fn rig(fake: Fake, kinds: &[Kind]) -> Rig {
    let (out, inputs) = mpsc::channel(64);
    let shutdown = CancellationToken::new();
    let (objects, health) = Objects::new(fake.client(), "heliostat-system", out);
    let wanted = watch::Sender::new(kinds.iter().copied().collect());
    tokio::spawn(objects.run(wanted.subscribe(), shutdown.clone()));
    Rig { fake, wanted, inputs, health, _shutdown: shutdown.drop_guard() }
}

impl Rig {
    /// What is said until nothing is said for half a minute, longer than any wait.
    async fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(Some(input)) = tokio::time::timeout(Duration::from_secs(30), self.inputs.recv()).await {
            let Input::Export(ExportNews::Objects(kind, news)) = input else { panic!("{input:?}") };
            heard.push(format!("{} {}", kind.plural, brief(&news)));
        }
        heard
    }

    fn health(&self) -> String {
        self.health.borrow().to_string()
    }
}

fn brief(news: &KindNews) -> String {
    match news {
        KindNews::NotServed => "not served".to_owned(),
        KindNews::Listed(version, all) => {
            let keys: Vec<String> = all.keys().map(ToString::to_string).collect();
            format!("{version}: {}", keys.join(" ")).trim().to_owned()
        }
        KindNews::Set(key, _) => format!("set {key}"),
        KindNews::Gone(key) => format!("gone {key}"),
        KindNews::Failed(why) => format!("failed: {why}"),
        KindNews::Forgotten => "forgotten".to_owned(),
    }
}

fn served() -> Fake {
    let fake = Fake::new("u");
    fake.serve(V1, SERVED);
    fake.put("tcproutes", "shop", "a", json!({"spec": {"rules": []}}));
    fake
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_listed_then_followed() {
    let mut rig = rig(served(), &[ROUTES]);
    assert_eq!(rig.heard().await, ["tcproutes v1: shop/a"]);
    rig.fake.put("tcproutes", "shop", "b", json!({}));
    rig.fake.remove("tcproutes", "shop", "a");
    assert_eq!(rig.heard().await, ["tcproutes set shop/b", "tcproutes gone shop/a"]);
    assert_eq!(rig.health(), "TCPRoute.gateway.networking.k8s.io: followed, v1\n");
    assert!(!rig.fake.requests().iter().any(|uri| uri.contains("labelSelector")), "all of them");
}

#[tokio::test(start_paused = true)]
async fn an_object_comes_whole_but_without_managed_fields() {
    let fake = served();
    fake.put(
        "tcproutes",
        "shop",
        "a",
        json!({"metadata": {"managedFields": [{}], "generation": 2}, "status": {"x": 1}}),
    );
    let mut rig = rig(fake, &[ROUTES]);
    let Some(Input::Export(ExportNews::Objects(_, KindNews::Listed(_, all)))) = rig.inputs.recv().await else {
        panic!()
    };
    let object = &all[&Key::new("shop", "a")];
    assert_eq!((&object["metadata"]["generation"], &object["status"]["x"]), (&json!(2), &json!(1)));
    assert!(object["metadata"].get("managedFields").is_none());
}

#[tokio::test(start_paused = true)]
async fn g09_a_kind_that_is_not_served_is_said_so_and_noticed_when_it_comes() {
    let mut rig = rig(Fake::new("u"), &[ROUTES]);
    assert_eq!(rig.heard().await, ["tcproutes not served"]);
    assert_eq!(rig.health(), "TCPRoute.gateway.networking.k8s.io: not served by this cluster\n");
    rig.fake.serve(V1, &[("httproutes", "HTTPRoute", true)]);
    assert!(rig.heard().await.is_empty(), "the group alone is not the kind");
    rig.fake.put("tcproutes", "shop", "a", json!({}));
    rig.fake.serve(V1, SERVED);
    let came = Instant::now();
    let Some(Input::Export(ExportNews::Objects(_, news))) = rig.inputs.recv().await else { panic!() };
    assert_eq!(brief(&news), "v1: shop/a");
    assert!(came.elapsed() <= LONGEST_DELAY, "paused time: {:?}", came.elapsed());
}

#[tokio::test(start_paused = true)]
async fn kinds_of_one_group_that_are_not_served_are_asked_for_together() {
    let group = "gateway.networking.k8s.io";
    let kinds = [("A", "as"), ("B", "bs"), ("C", "cs")].map(|(name, plural)| kind(group, name, plural, &["v1"]));
    let mut rig = rig(Fake::new("u"), &kinds);
    assert_eq!(rig.heard().await.len(), 3);
    let before = rig.fake.requests().len();
    sleep(100 * LOOK).await;
    let asked = rig.fake.requests().len() - before;
    assert!((90..=101).contains(&asked), "{asked} questions");
}

#[tokio::test(start_paused = true)]
async fn the_first_version_that_is_served_is_used_and_a_better_one_when_it_comes() {
    let fake = served();
    fake.serve(V1, &[]);
    fake.serve(V1ALPHA2, SERVED);
    let mut rig = rig(fake, &[ROUTES]);
    assert_eq!(rig.heard().await, ["tcproutes v1alpha2: shop/a"]);
    rig.fake.serve(V1, SERVED);
    sleep(2 * RECHECK).await;
    assert_eq!(rig.heard().await, ["tcproutes v1: shop/a"]);
    sleep(2 * RECHECK).await;
    assert!(rig.heard().await.is_empty());
    assert_eq!(rig.fake.watches("tcproutes"), 1);
}

#[tokio::test(start_paused = true)]
async fn l12_failures_delete_nothing_and_are_told_when_they_last() {
    let mut rig = rig(served(), &[ROUTES]);
    rig.heard().await;
    // Once: nothing that a user must know.
    rig.fake.break_watches("tcproutes");
    assert_eq!(rig.heard().await, ["tcproutes v1: shop/a"]);
    for code in [403, 500] {
        for failing in ["tcproutes", V1] {
            rig.fake.fault(failing, code);
            rig.fake.break_watches("tcproutes");
            let heard = rig.heard().await;
            assert_eq!(heard.len(), 1, "{heard:?}");
            let told = format!("tcproutes failed: TCPRoute.gateway.networking.k8s.io cannot be read: {code} ");
            assert!(heard[0].starts_with(&told), "{heard:?}");
            assert_eq!(heard[0].contains("apply config/components/exporter"), code == 403, "{heard:?}");
            assert!(rig.health().contains(&format!("cannot be read: {code}")), "{}", rig.health());
            sleep(Duration::from_secs(600)).await;
            assert!(rig.heard().await.is_empty());
            rig.fake.repair(failing);
            assert_eq!(rig.heard().await, ["tcproutes v1: shop/a"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_goes_only_when_discovery_says_so() {
    let mut rig = rig(served(), &[ROUTES]);
    rig.heard().await;
    rig.fake.fault("tcproutes", 404);
    rig.fake.break_watches("tcproutes");
    let heard = rig.heard().await;
    assert!(heard.len() == 1 && heard[0].contains("cannot be read: 404"), "{heard:?}");
    rig.fake.serve(V1, &[]);
    assert_eq!(rig.heard().await, ["tcproutes not served"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_a_failure() {
    let mut rig = rig(served(), &[ROUTES]);
    rig.heard().await;
    rig.fake.silence(true);
    rig.fake.break_watches("tcproutes");
    let heard = rig.heard().await;
    assert!(heard.len() == 1 && heard[0].contains("cannot be read"), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn only_ours_are_asked_for_where_others_have_many() {
    let fake = Fake::new("u");
    fake.serve("apis/coordination.k8s.io/v1", &[("leases", "Lease", true)]);
    fake.serve("apis/discovery.k8s.io/v1", &[("endpointslices", "EndpointSlice", true)]);
    let mut rig = rig(fake, &[LEASE, PUBLISHED_SLICE]);
    rig.heard().await;
    let listed = |plural: &str| {
        let requests = rig.fake.requests().into_iter();
        requests.filter(|uri| uri.contains(plural)).collect::<Vec<_>>()
    };
    let (leases, slices) = (listed("leases"), listed("endpointslices"));
    assert!(leases.len() > 1 && slices.len() > 1, "{leases:?} {slices:?}");
    for uri in leases {
        assert!(uri.starts_with("/apis/coordination.k8s.io/v1/namespaces/heliostat-system/leases?"), "{uri}");
        assert!(uri.contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dheliostat"), "{uri}");
    }
    for uri in slices {
        assert!(uri.starts_with("/apis/discovery.k8s.io/v1/endpointslices?"), "{uri}");
        assert!(
            uri.contains("labelSelector=endpointslice.kubernetes.io%2Fmanaged-by%3Dgateway.heliostat.dev"),
            "{uri}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_come_and_go_as_they_are_asked_for() {
    let fake = served();
    fake.serve("apis/coordination.k8s.io/v1", &[("leases", "Lease", true)]);
    let mut rig = rig(fake, &[]);
    assert!(rig.heard().await.is_empty());
    assert!(rig.fake.requests().is_empty());
    rig.wanted.send_replace([ROUTES].into());
    assert_eq!(rig.heard().await, ["tcproutes v1: shop/a"]);
    rig.wanted.send_replace([ROUTES, LEASE].into());
    assert_eq!(rig.heard().await, ["leases v1:"]);
    rig.wanted.send_replace([LEASE].into());
    assert_eq!(rig.heard().await, ["tcproutes forgotten"]);
    rig.fake.put("tcproutes", "shop", "b", json!({}));
    assert!(rig.heard().await.is_empty());
    assert_eq!((rig.fake.watches("tcproutes"), rig.fake.watches("leases")), (0, 1));
    assert!(!rig.health().contains("TCPRoute"), "{}", rig.health());
    rig.wanted.send_replace([LEASE, ROUTES].into());
    assert_eq!(rig.heard().await, ["tcproutes v1: shop/a shop/b"]);
}
