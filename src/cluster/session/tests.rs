//! Sessions against a server in memory, in paused time.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    cluster::{client::Refused, fake::Fake},
    core::model::Key,
};

struct Rig {
    fake: Fake,
    task: watch::Sender<SessionTask>,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Receiver<Report>,
    running: JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn task() -> SessionTask {
    SessionTask {
        link_uid: "l".into(),
        secret: "s".into(),
        key: "k".into(),
        selector: Some("heliostat.dev/export=true".into()),
        namespaces: None,
        nodes: false,
        max_services: 1000,
        resync: None,
    }
}

fn rig_with(fake: Fake, task: SessionTask, expires: Option<Timestamp>) -> Rig {
    let client = fake.client();
    rig_of(fake, client, task, expires)
}

fn rig_of(fake: Fake, client: Client, task: SessionTask, expires: Option<Timestamp>) -> Rig {
    let (out, inputs) = mpsc::channel(64);
    let (told, reports) = mpsc::channel(64);
    let (task, tasks) = watch::channel(task);
    let session = Session {
        link: "east".into(),
        number: 7,
        client,
        credentials_expire_at: expires,
        own: OwnCluster::knowing("10.96.0.1:443".parse().unwrap()),
        clock: Clock::system(),
        task: tasks,
        out,
        reports: told,
    };
    Rig { fake, task, inputs, reports, running: tokio::spawn(session.run()) }
}

fn rig(fake: Fake) -> Rig {
    rig_with(fake, task(), None)
}

/// An exporter with two Services and a slice each.
fn exporter() -> Fake {
    let fake = Fake::new("uid-1");
    for name in ["books", "cards"] {
        fake.put("services", "shop", name, json!({"spec": {"ports": [{"port": 80}]}}));
        put_slice(&fake, name, "10.0.0.1");
    }
    fake
}

fn put_slice(fake: &Fake, service: &str, address: &str) {
    let labels = json!({"kubernetes.io/service-name": service});
    let slice = json!({"metadata": {"labels": labels}, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": [address]}]});
    fake.put("endpointslices", "shop", &format!("{service}-x"), slice);
}

impl Rig {
    /// What is said within that many seconds, in short, but for how far watches have come.
    async fn heard(&mut self, seconds: u64) -> Vec<String> {
        let mut heard = self.told(seconds).await;
        heard.retain(|said| !said.starts_with("reached"));
        heard
    }

    /// What is said within that many seconds, in short.
    async fn told(&mut self, seconds: u64) -> Vec<String> {
        let mut heard = Vec::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while let Ok(Some(input)) = tokio::time::timeout_at(end, self.inputs.recv()).await {
            let Input::Remote { link, session: 7, event, .. } = input else { panic!("{input:?}") };
            assert_eq!(link, "east");
            heard.push(brief(event));
        }
        heard
    }

    /// The same without signs of life.
    async fn news(&mut self, seconds: u64) -> Vec<String> {
        let mut heard = self.heard(seconds).await;
        heard.retain(|said| said != "alive");
        heard
    }

    fn reported(&mut self) -> Vec<Progress> {
        std::iter::from_fn(|| self.reports.try_recv().ok()).map(|report| report.progress).collect()
    }
}

fn names<'a, V: 'a>(keys: impl Iterator<Item = (&'a Key, V)>) -> String {
    keys.map(|(key, _)| key.to_string()).collect::<Vec<_>>().join(" ")
}

fn brief(event: RemoteEvent) -> String {
    match event {
        RemoteEvent::Credentials { reason, message } => format!("credentials {reason}: {message}"),
        RemoteEvent::Connected { cluster_uid, server_version, own_server, .. } => {
            format!("connected {cluster_uid} {server_version} own={own_server}")
        }
        RemoteEvent::Listed { cluster_uid, services, slices, .. } => {
            format!("listed {cluster_uid}: {} | {}", names(services.iter()), names(slices.iter()))
        }
        RemoteEvent::ServicesListed { cluster_uid, scope, services, .. } => {
            format!("services {cluster_uid} {scope:?}: {}", names(services.iter()))
        }
        RemoteEvent::SlicesListed { cluster_uid, scope, slices } => {
            format!("slices {cluster_uid} {scope:?}: {}", names(slices.iter()))
        }
        RemoteEvent::Service(key, _) => format!("service {key}"),
        RemoteEvent::ServiceGone(key, uid) => format!("gone {key} {uid}"),
        RemoteEvent::Slice(key, _) => format!("slice {key}"),
        RemoteEvent::SliceGone(key) => format!("slice gone {key}"),
        RemoteEvent::NodesListed(Ok(nodes)) => format!("nodes {}", nodes.into_keys().collect::<Vec<_>>().join(" ")),
        RemoteEvent::NodesListed(Err(why)) => format!("no nodes: {why}"),
        RemoteEvent::Node(name, _) => format!("node {name}"),
        RemoteEvent::NodeGone(name) => format!("node gone {name}"),
        RemoteEvent::Reached { scope, version } => format!("reached {scope:?} {version}"),
        RemoteEvent::Alive => "alive".into(),
        RemoteEvent::Lost { reason, .. } => format!("lost {reason}"),
    }
}

const CONNECTED: &str = "connected uid-1 v1.36.0 own=false";
const LISTED: &str = "listed uid-1: shop/books shop/cards | shop/books-x shop/cards-x";

#[tokio::test(start_paused = true)]
async fn m01_connects_lists_and_follows() {
    let mut rig = rig(exporter());
    assert_eq!(rig.heard(4).await, [CONNECTED, LISTED]);
    assert_eq!(rig.reported(), [Progress::Listed]);
    rig.fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 81}]}}));
    put_slice(&rig.fake, "books", "10.0.0.2");
    rig.fake.remove("services", "shop", "cards");
    rig.fake.remove("endpointslices", "shop", "cards-x");
    let mut heard = rig.news(4).await;
    heard.sort();
    assert_eq!(
        heard,
        ["gone shop/cards uid-of-cards", "service shop/books", "slice gone shop/cards-x", "slice shop/books-x"]
    );
    assert_eq!(rig.heard(31).await, vec!["alive"; 6]);
    let lists: Vec<String> = rig.fake.requests().into_iter().filter(|uri| uri.contains("limit=")).collect();
    assert_eq!(lists.iter().filter(|uri| !uri.ends_with("limit=1")).count(), 2);
    assert!(lists.iter().all(|uri| uri.contains("labelSelector=heliostat.dev%2Fexport%3Dtrue")), "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_many_pages_is_told_as_one() {
    let fake = Fake::new("uid-1");
    for n in 0..1234 {
        fake.put("services", "shop", &format!("s{n}"), json!({"spec": {"ports": [{"port": 80}]}}));
    }
    let mut rig = rig(fake);
    let heard = rig.heard(4).await;
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[1].split_whitespace().filter(|word| word.starts_with("shop/s")).count(), 1234);
    assert_eq!(
        rig.fake.requests().iter().filter(|uri| uri.contains("/services?") && uri.contains("limit=500")).count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn l04_deletions_missed_by_an_expired_watch_are_found_between_two_looks_at_the_uid() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.forget("services", "shop", "cards");
    let before = rig.fake.requests().len();
    rig.fake.expire("services");
    assert_eq!(rig.news(4).await, ["services uid-1 None: shop/books"]);
    let asked: Vec<String> = rig.fake.requests().split_off(before);
    let kinds: Vec<&str> = asked
        .iter()
        .map(|uri| {
            if uri.contains("limit=") {
                "list"
            } else if uri.contains("watch=") {
                "watch"
            } else {
                "uid"
            }
        })
        .collect();
    let list = kinds.iter().position(|kind| *kind == "list").unwrap();
    assert!(kinds[..list].contains(&"uid") && kinds[list..].contains(&"uid"), "{kinds:?}");

    rig.fake.forget("endpointslices", "shop", "cards-x");
    rig.fake.expire("endpointslices");
    assert_eq!(rig.news(4).await, ["slices uid-1 None: shop/books-x"]);
    assert_eq!(rig.reported(), [Progress::Listed]);
}

#[tokio::test(start_paused = true)]
async fn l04_a_watch_that_ends_or_breaks_off_goes_on_without_a_loss() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    for ended in [Fake::end_watches, Fake::break_watches] {
        ended(&rig.fake, "services");
        assert_eq!(rig.news(4).await, Vec::<String>::new());
        rig.fake.put("services", "shop", "books", json!({}));
        assert_eq!(rig.news(4).await, ["service shop/books"]);
        assert_eq!(rig.fake.watches("services"), 1);
    }
    assert!(rig.heard(30).await.iter().filter(|said| *said == "alive").count() >= 5);
}

#[tokio::test(start_paused = true)]
async fn l08_a_remote_whose_versions_went_back_is_listed_anew() {
    let mut rig = rig(exporter());
    rig.fake.age(1000);
    rig.heard(20).await;
    rig.fake.forget("services", "shop", "cards");
    assert_eq!(rig.news(60).await, Vec::<String>::new(), "nothing tells of it");
    rig.fake.age(-1000);
    rig.fake.end_watches("services");
    assert_eq!(rig.news(30).await, [CONNECTED, "listed uid-1: shop/books | shop/books-x shop/cards-x"]);
    assert_eq!(rig.news(60).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn l04_silence_is_a_loss_within_20_seconds_and_what_was_missed_is_found() {
    let mut rig = rig(exporter());
    // Just after a heartbeat was answered: the longest that silence can go unnoticed.
    while !matches!(rig.inputs.recv().await, Some(Input::Remote { event: RemoteEvent::Alive, .. })) {}
    rig.fake.silence(true);
    assert_eq!(rig.heard(20).await, ["lost RemoteUnreachable"]);
    assert_eq!(rig.heard(600).await.iter().filter(|said| *said != "lost RemoteUnreachable").count(), 0);
    rig.fake.forget("services", "shop", "cards");
    rig.fake.silence(false);
    assert_eq!(rig.news(90).await.last().unwrap(), "listed uid-1: shop/books | shop/books-x shop/cards-x");
    rig.reported();
    assert_eq!(rig.news(90).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn l02_a_remote_that_is_down_is_asked_for_ever_and_at_most_once_a_minute_in_the_end() {
    let fake = exporter();
    fake.fault("namespaces", 503);
    let mut rig = rig(fake);
    let heard = rig.heard(1800).await;
    assert!(
        heard.iter().all(|said| said == "lost RemoteUnreachable") && (30..64).contains(&heard.len()),
        "{}",
        heard.len()
    );
    rig.fake.repair("namespaces");
    assert_eq!(rig.news(61).await, [CONNECTED, LISTED]);
}

#[tokio::test(start_paused = true)]
async fn l07_a_listing_across_two_clusters_is_not_told() {
    let fake = exporter();
    fake.identities(&["uid-1", "uid-2"]);
    let mut rig = rig(fake);
    let heard = rig.heard(4).await;
    assert_eq!(heard[..2], [CONNECTED, "connected uid-2 v1.36.0 own=false"]);
    assert_eq!(heard[2..], [LISTED.replace("uid-1", "uid-2")]);
}

#[tokio::test(start_paused = true)]
async fn l07_another_cluster_behind_the_url_is_noticed_by_the_heartbeat() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.identities(&["uid-2"]);
    let heard = rig.news(10).await;
    assert_eq!(heard, ["connected uid-2 v1.36.0 own=false".to_owned(), LISTED.replace("uid-1", "uid-2")]);
}

#[tokio::test(start_paused = true)]
async fn l07_a_new_listing_of_another_cluster_is_not_told_as_one_of_the_old() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.identities(&["uid-1", "uid-2"]);
    rig.fake.forget("services", "shop", "cards");
    rig.fake.expire("services");
    let heard = rig.news(4).await;
    assert_eq!(heard, ["connected uid-2 v1.36.0 own=false", "listed uid-2: shop/books | shop/books-x shop/cards-x"]);
}

#[tokio::test(start_paused = true)]
async fn l06_rights_that_are_gone_are_a_loss_at_once_and_asked_for_ever() {
    for (code, reason) in [(401, "Unauthorized"), (403, "Forbidden")] {
        let mut rig = rig(exporter());
        rig.heard(4).await;
        rig.fake.fault("services", code);
        rig.fake.break_watches("services");
        let lost = format!("lost {reason}");
        assert_eq!(rig.news(2).await.first(), Some(&lost));
        let later = rig.news(600).await;
        assert!(later.len() > 10 && later.iter().all(|said| *said == lost || said == CONNECTED), "{later:?}");
        rig.reported();
        rig.fake.repair("services");
        assert_eq!(rig.news(61).await, [CONNECTED, LISTED]);
    }
}

#[tokio::test(start_paused = true)]
async fn l06_rights_on_kube_system_that_are_gone_are_a_loss_with_the_next_heartbeat() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.fault("namespaces", 403);
    assert_eq!(rig.news(6).await.first().unwrap(), "lost Forbidden");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_keeps_failing_beside_good_heartbeats_is_a_loss_within_20_seconds() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.fault("endpointslices", 500);
    rig.fake.break_watches("endpointslices");
    assert_eq!(rig.heard(20).await.first().unwrap(), "lost RemoteUnreachable");
}

#[tokio::test(start_paused = true)]
async fn throttling_is_named() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.fault("services", 429);
    rig.fake.break_watches("services");
    assert_eq!(rig.news(20).await.first().unwrap(), "lost Throttled");
}

#[tokio::test(start_paused = true)]
async fn g02_nodes_are_told_before_the_listing_that_needs_them_and_followed() {
    let fake = exporter();
    fake.put("nodes", "", "n1", json!({}));
    let mut rig = rig_with(fake, SessionTask { nodes: true, ..task() }, None);
    assert_eq!(rig.heard(4).await, [CONNECTED, "nodes n1", LISTED]);
    rig.fake.put("nodes", "", "n2", json!({}));
    rig.fake.remove("nodes", "", "n1");
    assert_eq!(rig.news(4).await, ["node n2", "node gone n1"]);
    rig.fake.forget("nodes", "", "n2");
    rig.fake.expire("nodes");
    assert_eq!(rig.news(4).await, ["nodes "]);
}

#[tokio::test(start_paused = true)]
async fn g02_nodes_that_cannot_be_listed_again_for_a_while_are_not_told_to_be_unknown() {
    let fake = exporter();
    fake.put("nodes", "", "n1", json!({}));
    let mut rig = rig_with(fake, SessionTask { nodes: true, ..task() }, None);
    assert_eq!(rig.heard(4).await, [CONNECTED, "nodes n1", LISTED]);
    rig.fake.fault("nodes", 500);
    rig.fake.end_watches("nodes");
    assert_eq!(rig.news(60).await, [""; 0]);
    assert!(rig.fake.requests().iter().filter(|uri| uri.contains("/nodes")).count() > 3, "it was tried");
    rig.fake.put("nodes", "", "n2", json!({}));
    rig.fake.repair("nodes");
    assert_eq!(rig.news(61).await, ["nodes n1 n2"]);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_read_only_while_they_are_needed_and_without_a_new_listing() {
    let fake = exporter();
    fake.put("nodes", "", "n1", json!({}));
    let mut rig = rig(fake);
    rig.heard(4).await;
    assert!(!rig.fake.requests().iter().any(|uri| uri.contains("nodes")));
    rig.task.send_modify(|task| task.nodes = true);
    assert_eq!(rig.news(4).await, ["nodes n1"]);
    rig.task.send_modify(|task| task.nodes = false);
    assert_eq!(rig.news(4).await, Vec::<String>::new());
    assert_eq!(rig.fake.watches("nodes"), 0);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_may_not_be_read_are_told_and_stop_nothing() {
    let fake = exporter();
    fake.fault("nodes", 403);
    let mut rig = rig_with(fake, SessionTask { nodes: true, ..task() }, None);
    let heard = rig.heard(4).await;
    assert!(heard[1].starts_with("no nodes: the API server refuses to be read (403): nodes say 403"), "{heard:?}");
    assert_eq!((heard[0].as_str(), heard[2].as_str(), heard.len()), (CONNECTED, LISTED, 3));
    rig.fake.put("nodes", "", "n1", json!({}));
    rig.fake.repair("nodes");
    assert_eq!(rig.news(61).await, ["nodes n1"]);
}

#[tokio::test(start_paused = true)]
async fn with_a_list_of_namespaces_each_has_its_own_watches() {
    let fake = exporter();
    fake.put("services", "other", "x", json!({}));
    fake.put("services", "third", "y", json!({}));
    let mut rig = rig_with(fake, SessionTask { namespaces: Some(vec!["shop".into(), "other".into()]), ..task() }, None);
    assert_eq!(
        rig.heard(4).await,
        [CONNECTED, "listed uid-1: other/x shop/books shop/cards | shop/books-x shop/cards-x"]
    );
    assert_eq!(rig.fake.watches("services"), 2);
    assert!(rig.fake.requests().iter().all(|uri| !uri.starts_with("/api/v1/services")));
    rig.fake.put("services", "third", "y", json!({"spec": {}}));
    rig.fake.forget("services", "shop", "cards");
    rig.fake.expire("services");
    let mut heard = rig.news(4).await;
    heard.sort();
    assert_eq!(heard, ["services uid-1 Some(\"other\"): other/x", "services uid-1 Some(\"shop\"): shop/books"]);
}

#[tokio::test(start_paused = true)]
async fn a_resync_lists_again_without_a_loss() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.fake.forget("services", "shop", "cards");
    rig.task.send_modify(|task| task.resync = Some("now".into()));
    assert_eq!(rig.news(4).await, [CONNECTED, "listed uid-1: shop/books | shop/books-x shop/cards-x"]);
    assert_eq!(rig.reported(), [Progress::Listed, Progress::Listed]);
}

#[tokio::test(start_paused = true)]
async fn a05_more_than_may_be_held_is_refused_and_never_half_told() {
    let fake = Fake::new("uid-1");
    for n in 0..1001 {
        fake.put("services", "shop", &format!("s{n}"), json!({}));
    }
    let mut rig = rig_with(fake, SessionTask { max_services: 0, ..task() }, None);
    assert_eq!(rig.news(4).await[..2], [CONNECTED, "lost QuotaExceeded"]);
    rig.fake.forget("services", "shop", "s7");
    let heard = rig.news(61).await;
    assert!(heard.last().unwrap().starts_with("listed uid-1: "), "{heard:?}");
    rig.fake.put("services", "shop", "one-more", json!({}));
    assert_eq!(rig.news(1).await[0], "lost QuotaExceeded");
}

#[tokio::test(start_paused = true)]
async fn a04_a_listing_that_never_ends_is_a_loss_and_says_no_sign_of_life_meanwhile() {
    for late in [false, true] {
        let fake = exporter();
        fake.endless("services", !late);
        let mut rig = rig(fake);
        let begun = rig.heard(4).await;
        if late {
            assert_eq!(begun, [CONNECTED, LISTED]);
            rig.fake.endless("services", true);
            rig.fake.expire("services");
        } else {
            assert_eq!(begun, [CONNECTED]);
        }
        rig.heard(4).await;
        assert_eq!(rig.heard(580).await, Vec::<String>::new(), "late: {late}");
        assert_eq!(rig.heard(20).await.first().unwrap(), "lost RemoteUnreachable", "late: {late}");
        rig.fake.endless("services", false);
        assert_eq!(rig.news(700).await.last().unwrap(), LISTED, "late: {late}");
    }
}

#[tokio::test(start_paused = true)]
async fn a04_tokens_and_versions_of_megabytes_end_in_a_loss() {
    let giant = "9".repeat(2 << 20);
    for metadata in [json!({"resourceVersion": giant}), json!({"resourceVersion": "1", "continue": giant})] {
        let fake = exporter();
        let page = json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": []});
        fake.answer("services", 200, page);
        let client = through(&fake);
        let mut rig = rig_of(fake, client, task(), None);
        let heard = rig.heard(100).await;
        assert_eq!(heard[0], CONNECTED);
        assert!(heard.iter().any(|said| said == "lost RemoteUnreachable"), "{heard:?}");
    }
}

/// A client that makes of a request what the real one does: a URL that may be too long for one.
fn through(fake: &Fake) -> Client {
    let inner = fake.client();
    Client::new(
        tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let inner = inner.clone();
            async move {
                let asked = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                let uri = http::Uri::builder().scheme("https").authority("east.example").path_and_query(asked);
                let sound = uri.build().map(drop);
                match sound {
                    Ok(()) => inner.send(request).await.map_err(tower::BoxError::from),
                    Err(error) => Err(error.into()),
                }
            }
        }),
        "default",
    )
}

#[tokio::test(start_paused = true)]
async fn a12_a_watch_of_nonsense_is_a_loss_and_deletes_nothing() {
    for nonsense in [
        "nonsense\n".to_owned(),
        "{\"type\":\"ADDED\"}\n".to_owned(),
        "{\"type\":\"EXPLODED\",\"object\":{}}\n".to_owned(),
        format!("{{\"type\":\"MODIFIED\",\"object\":{}{}}}\n", "[".repeat(100_000), "]".repeat(100_000)),
        "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"\\ud800\"}}}\n".to_owned(),
        "{\"type\":\"DELETED\",\"object\":null}\n{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"books\"}}}\n".to_owned(),
    ] {
        let mut rig = rig(exporter());
        rig.heard(4).await;
        rig.fake.say("services", nonsense.clone());
        let heard = rig.news(120).await;
        assert!(!heard.iter().any(|said| said.starts_with("gone")), "{nonsense:.80}: {heard:?}");
        assert_eq!(rig.fake.watches("services"), 1, "it watches again");
        rig.fake.put("services", "shop", "new", json!({}));
        let heard = rig.news(120).await;
        assert!(heard.iter().any(|said| said.contains("shop/new")), "{nonsense:.80}: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_run_out_are_not_sent() {
    let mut rig = rig_with(exporter(), task(), Some(Timestamp::UNIX_EPOCH));
    let heard = rig.heard(100).await;
    assert!(
        heard.len() > 1
            && heard
                .iter()
                .all(|said| said.starts_with("credentials CredentialsExpired: the credential ran out at 1970-01-01")),
        "{heard:?}"
    );
    assert!(rig.fake.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_engine_holds_a_session_back_and_loses_nothing() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    for n in 0..500 {
        rig.fake.put("services", "shop", &format!("s{n}"), json!({}));
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.inputs.len(), 64);
    let heard = rig.news(4).await;
    assert_eq!(heard.iter().filter(|said| said.starts_with("service shop/s")).count(), 500);
    assert!(!heard.iter().any(|said| said.starts_with("lost")));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_engine() {
    let mut rig = rig(exporter());
    rig.heard(4).await;
    rig.inputs.close();
    while rig.inputs.recv().await.is_some() {}
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(rig.running.is_finished());
}

#[tokio::test]
async fn a_remote_can_be_listed_once() {
    let fake = exporter();
    fake.put("nodes", "", "n1", json!({}));
    let listing = list_once(&fake.client(), &SessionTask { nodes: true, ..task() }).await.unwrap();
    assert_eq!((listing.cluster_uid.as_str(), listing.server_version.as_str()), ("uid-1", "v1.36.0"));
    assert_eq!(names(listing.services.iter()), "shop/books shop/cards");
    assert_eq!(names(listing.slices.iter()), "shop/books-x shop/cards-x");
    assert!(listing.nodes.unwrap().unwrap().contains_key("n1"));

    fake.fault("nodes", 403);
    let listing =
        list_once(&fake.client(), &SessionTask { nodes: true, namespaces: Some(vec!["none".into()]), ..task() })
            .await
            .unwrap();
    assert!(listing.services.is_empty() && listing.nodes.unwrap().is_err());
    fake.identities(&["uid-1", "uid-2"]);
    assert_eq!(list_once(&fake.client(), &task()).await.unwrap_err().reason, Reason::RemoteIdentityChanged);
    fake.fault("services", 401);
    assert_eq!(list_once(&fake.client(), &task()).await.unwrap_err().reason, Reason::Unauthorized);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_refuses_to_dial_is_told_apart_from_one_that_cannot() {
    for (refused, said) in [
        (Refused::OwnServer, "connected own-uid own-version own=true"),
        (
            Refused::Address("leads astray"),
            "credentials CredentialsRejected: clusters[0].cluster.server of the kubeconfig leads astray",
        ),
        (Refused::NotKubernetes, "lost RemoteUnreachable"),
    ] {
        let refused = std::sync::Arc::new(std::sync::Mutex::new(vec![refused]));
        let client = Client::new(
            tower::service_fn(move |_| {
                let refused = refused.lock().unwrap().pop();
                async move {
                    match refused {
                        Some(refused) => Err::<http::Response<kube::client::Body>, tower::BoxError>(refused.into()),
                        None => std::future::pending().await,
                    }
                }
            }),
            "default",
        );
        let mut rig = rig_of(exporter(), client, task(), None);
        assert_eq!(rig.heard(1).await, [said]);
    }
}

/// The versions at which Services were listed, and those that watches came to, in order.
async fn versions(rig: &mut Rig, seconds: u64) -> Vec<String> {
    let mut found = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while let Ok(Some(input)) = tokio::time::timeout_at(end, rig.inputs.recv()).await {
        let Input::Remote { event, .. } = input else { panic!("{input:?}") };
        match event {
            RemoteEvent::Listed { versions, .. } => found.push(format!("listed {versions:?}")),
            RemoteEvent::ServicesListed { version, .. } => found.push(format!("services {version:?}")),
            RemoteEvent::Reached { scope, version } => found.push(format!("reached {scope:?} {version}")),
            _ => {}
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn l08_the_versions_of_listings_events_and_bookmarks_are_told() {
    let mut rig = rig(exporter());
    assert_eq!(versions(&mut rig, 4).await, [r#"listed {None: "4"}"#]);
    rig.fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 81}]}}));
    assert_eq!(versions(&mut rig, 6).await, ["reached None 5"], "by an event, with the next sign of life");
    rig.fake.bookmark("services", 9);
    rig.fake.end_watches("services");
    assert_eq!(versions(&mut rig, 6).await, ["reached None 9"], "by a bookmark, as the watch goes on from there");
    rig.fake.forget("services", "shop", "cards");
    rig.fake.bookmark("services", 40);
    rig.fake.expire("services");
    let told = versions(&mut rig, 4).await;
    assert_eq!(told, [r#"services Some("6")"#], "a listing that is older says so");
    rig.fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 82}]}}));
    rig.fake.expire("services");
    assert_eq!(
        versions(&mut rig, 4).await,
        ["reached None 7", r#"services Some("7")"#],
        "what the watch came to is told before the listing that is held against it"
    );
}

#[tokio::test(start_paused = true)]
async fn l08_what_was_reached_is_told_before_a_session_begins_anew() {
    let namespaces = Some(vec!["shop".to_owned(), "stock".to_owned()]);
    let mut rig = rig_with(exporter(), SessionTask { namespaces, ..task() }, None);
    assert_eq!(versions(&mut rig, 4).await, [r#"listed {Some("shop"): "4", Some("stock"): "4"}"#]);
    rig.fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 81}]}}));
    tokio::time::sleep(Duration::from_millis(10)).await;
    rig.task.send_modify(|task| task.resync = Some("again".into()));
    let told = versions(&mut rig, 4).await;
    assert_eq!(told, [r#"reached Some("shop") 5"#, r#"listed {Some("shop"): "5", Some("stock"): "5"}"#]);
}
