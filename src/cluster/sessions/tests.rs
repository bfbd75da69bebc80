//! The manager between a cluster with Secrets and exporters, all in memory, in paused time.

use std::sync::Mutex;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::{
    cluster::{credentials::Host, fake::Fake},
    core::io::RemoteEvent,
};

const TOKEN: &str = "canary-4f7a";

struct Rig {
    local: Fake,
    exporters: Arc<Mutex<BTreeMap<String, Fake>>>,
    sessions: Arc<Sessions>,
    inputs: mpsc::Receiver<Input>,
    _shutdown: tokio_util::sync::DropGuard,
}

fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}

/// A cluster, two exporters at `a.example` and `b.example`, and the link `east`.
fn rig() -> Rig {
    let local = Fake::new("own");
    local.put(
        "services",
        "default",
        "kubernetes",
        json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}}),
    );
    let exporter = |uid: &str| {
        let fake = Fake::new(uid);
        fake.put("services", "shop", "books", json!({"spec": {"ports": [{"port": 80}]}}));
        fake
    };
    let exporters =
        BTreeMap::from([("a.example".to_owned(), exporter("uid-a")), ("b.example".to_owned(), exporter("uid-b"))]);
    let exporters = Arc::new(Mutex::new(exporters));
    let reach = exporters.clone();
    let connect: Connect = Arc::new(move |credentials, _| {
        let Host::Name(name) = &credentials.server.host else { panic!() };
        Ok(reach.lock().unwrap()[name].client())
    });
    let (out, inputs) = mpsc::channel(64);
    let sessions = Arc::new(Sessions::new(local.client(), "heliostat-system", out, connect, Clock::system()));
    let shutdown = CancellationToken::new();
    let (running, token) = (sessions.clone(), shutdown.clone());
    tokio::spawn(async move { running.run(token).await });
    Rig { local, exporters, sessions, inputs, _shutdown: shutdown.drop_guard() }
}

fn task() -> SessionTask {
    SessionTask {
        link_uid: "l".into(),
        secret: "east".into(),
        key: "kubeconfig".into(),
        selector: None,
        namespaces: None,
        nodes: false,
        max_services: 100,
        resync: None,
    }
}

fn kubeconfig(host: &str, token: &str) -> Value {
    json!({
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{host}"), "certificate-authority-data": STANDARD.encode(authority())}}],
        "users": [{"name": "c", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    })
}

impl Rig {
    fn secret(&self, data: Value) {
        self.local.put("secrets", "heliostat-system", "east", json!({"data": data}));
    }

    fn credentials(&self, host: &str, token: &str) {
        self.secret(json!({"kubeconfig": STANDARD.encode(kubeconfig(host, token).to_string())}));
    }

    fn apply(&self, task: SessionTask) {
        self.sessions.apply("east".into(), Some(task));
    }

    fn exporter(&self, host: &str) -> Fake {
        self.exporters.lock().unwrap()[host].clone()
    }

    /// What is said within that many seconds, but for signs of life.
    async fn heard(&mut self, seconds: u64) -> Vec<String> {
        let mut heard = Vec::new();
        let end = Instant::now() + Duration::from_secs(seconds);
        while let Ok(Some(input)) = timeout_at(end, self.inputs.recv()).await {
            assert!(!format!("{input:?}").contains(TOKEN), "{input:?}");
            let Input::Remote { link, session, event, .. } = input else { panic!("{input:?}") };
            assert_eq!(link, "east");
            heard.extend(brief(event).map(|said| format!("{session} {said}")));
        }
        heard
    }
}

fn brief(event: RemoteEvent) -> Option<String> {
    Some(match event {
        RemoteEvent::Alive | RemoteEvent::Reached { .. } => return None,
        RemoteEvent::Credentials { reason, message } => format!("{reason}: {message}"),
        RemoteEvent::Connected { cluster_uid, .. } => format!("connected {cluster_uid}"),
        RemoteEvent::Listed { cluster_uid, services, .. } => format!("listed {cluster_uid} {}", services.len()),
        RemoteEvent::Lost { reason, .. } => format!("lost {reason}"),
        RemoteEvent::Service(key, _) => format!("service {key}"),
        other => panic!("{other:?}"),
    })
}

#[tokio::test(start_paused = true)]
async fn l01_a_link_before_its_secret_waits_for_it_and_says_so() {
    let mut rig = rig();
    rig.apply(task());
    assert_eq!(
        rig.heard(60).await,
        ["1 CredentialsNotFound: Secret heliostat-system/east is not there; heliostat link prints it"]
    );
    rig.secret(json!({"other": STANDARD.encode("x")}));
    assert_eq!(
        rig.heard(60).await,
        [
            "2 CredentialsNotFound: Secret heliostat-system/east has nothing under key \"kubeconfig\"; put the kubeconfig there: heliostat link prints it"
        ]
    );
    rig.credentials("a.example", TOKEN);
    assert_eq!(rig.heard(2).await, ["3 connected uid-a", "3 listed uid-a 1"]);
}

#[tokio::test(start_paused = true)]
async fn l01_a_secret_before_its_link_waits_without_a_word() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    assert_eq!(rig.heard(60).await, Vec::<String>::new());
    rig.apply(task());
    assert_eq!(rig.heard(2).await, ["1 connected uid-a", "1 listed uid-a 1"]);
    rig.sessions.apply("east".into(), None);
    rig.heard(2).await;
    assert_eq!(rig.exporter("a.example").watches("services"), 0);
    rig.exporter("a.example").put("services", "shop", "new", json!({}));
    assert_eq!(rig.heard(60).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn l05_a_rotated_token_takes_over_without_a_gap() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    rig.apply(task());
    rig.heard(2).await;
    rig.exporter("b.example").identities(&["uid-a"]);
    rig.credentials("b.example", TOKEN);
    assert_eq!(rig.heard(2).await, ["2 connected uid-a", "2 listed uid-a 1"]);
    assert_eq!((rig.exporter("a.example").watches("services"), rig.exporter("b.example").watches("services")), (0, 1));
    rig.exporter("b.example").put("services", "shop", "new", json!({}));
    assert_eq!(rig.heard(60).await, ["2 service shop/new"]);
}

#[tokio::test(start_paused = true)]
async fn l05_while_a_new_session_lists_the_old_one_goes_on() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    rig.apply(task());
    rig.heard(2).await;
    rig.exporter("b.example").fault("services", 503);
    rig.credentials("b.example", TOKEN);
    let heard = rig.heard(30).await;
    assert!(heard.iter().all(|said| *said == "2 connected uid-b" || *said == "2 lost RemoteUnreachable"), "{heard:?}");
    rig.exporter("a.example").put("services", "shop", "new", json!({}));
    assert!(rig.heard(1).await.contains(&"1 service shop/new".to_owned()));
    // It does not go on for ever with what is no longer in the Secret.
    let heard = rig.heard(150).await;
    assert!(heard.contains(&"1 lost RemoteUnreachable".to_owned()), "{heard:?}");
    assert_eq!(rig.exporter("a.example").watches("services"), 0);
}

#[tokio::test(start_paused = true)]
async fn l05_a_new_token_that_is_turned_away_ends_the_old_session_too() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    rig.apply(task());
    rig.heard(2).await;
    rig.exporter("b.example").fault("namespaces", 401);
    rig.credentials("b.example", TOKEN);
    assert_eq!(rig.heard(1).await[..2], ["2 lost Unauthorized", "1 lost Unauthorized"]);
    assert_eq!(rig.exporter("a.example").watches("services"), 0);
    rig.credentials("a.example", TOKEN);
    assert_eq!(rig.heard(10).await, ["3 connected uid-a", "3 listed uid-a 1"]);
}

#[tokio::test(start_paused = true)]
async fn l05_withdrawn_credentials_are_not_used_and_good_ones_are_picked_up_at_once() {
    let mut rig = rig();
    rig.apply(task());
    rig.heard(1).await;
    let good = json!({"kubeconfig": STANDARD.encode(kubeconfig("a.example", TOKEN).to_string())});
    let malformed = json!({"kubeconfig": STANDARD.encode("users: canary-4f7a")});
    let giant = json!({"kubeconfig": STANDARD.encode(vec![b'x'; 1 << 20])});
    for (withdrawn, reason) in [
        (malformed, "CredentialsRejected"),
        (giant, "CredentialsRejected"),
        (json!({"kubeconfig": ""}), "CredentialsNotFound"),
        (json!({}), "CredentialsNotFound"),
        (json!(null), "CredentialsNotFound"),
    ] {
        rig.secret(good.clone());
        assert!(rig.heard(2).await[1].ends_with("listed uid-a 1"));
        rig.secret(withdrawn);
        let heard = rig.heard(60).await;
        assert!(heard.len() == 1 && heard[0].contains(reason), "{heard:?}");
        assert_eq!(rig.exporter("a.example").watches("services"), 0);
    }
    rig.secret(good);
    rig.heard(2).await;
    rig.local.remove("secrets", "heliostat-system", "east");
    let heard = rig.heard(60).await;
    assert!(
        heard.len() == 1 && heard[0].contains("CredentialsNotFound: Secret heliostat-system/east is not there"),
        "{heard:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a01_a_refusal_names_secret_key_and_field() {
    let mut rig = rig();
    let mut exec = kubeconfig("a.example", TOKEN);
    exec["users"][0]["user"] = json!({"exec": {"command": TOKEN}});
    rig.secret(json!({"kubeconfig": STANDARD.encode(exec.to_string())}));
    rig.apply(task());
    let heard = rig.heard(10).await;
    assert!(
        heard[0].starts_with(
            "1 CredentialsRejected: Secret heliostat-system/east, key \"kubeconfig\": users[0].user.exec is not allowed"
        ),
        "{heard:?}"
    );
    assert!(rig.exporter("a.example").requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_ran_out_are_not_dialled_with() {
    let mut rig = rig();
    let expired = format!("e30.{}.x", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode("{\"exp\": 1}"));
    rig.credentials("a.example", &expired);
    rig.apply(task());
    let heard = rig.heard(10).await;
    assert!(
        heard.len() == 1 && heard[0].contains("CredentialsExpired") && heard[0].contains("1970-01-01T00:00:01Z"),
        "{heard:?}"
    );
    assert!(rig.exporter("a.example").requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_secret_again_or_another_task_starts_no_other_session() {
    let mut rig = rig();
    let data = json!({"kubeconfig": STANDARD.encode(kubeconfig("a.example", TOKEN).to_string())});
    rig.secret(data.clone());
    rig.apply(task());
    rig.heard(2).await;
    rig.secret(data);
    rig.local.expire("secrets");
    rig.apply(task());
    assert_eq!(rig.heard(60).await, Vec::<String>::new());
    rig.apply(SessionTask { resync: Some("x".into()), ..task() });
    assert_eq!(rig.heard(2).await, ["1 connected uid-a", "1 listed uid-a 1"]);
}

#[tokio::test(start_paused = true)]
async fn another_link_of_the_same_name_has_nothing_of_the_old_one() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    rig.apply(task());
    rig.heard(2).await;
    rig.exporter("a.example").fault("namespaces", 503);
    rig.apply(SessionTask { link_uid: "another".into(), ..task() });
    rig.heard(2).await;
    assert_eq!(rig.exporter("a.example").watches("services"), 0);
}

#[tokio::test(start_paused = true)]
async fn secrets_that_may_not_be_read_are_said_to_every_link() {
    let mut rig = rig();
    rig.credentials("a.example", TOKEN);
    rig.local.fault("secrets", 403);
    rig.apply(task());
    let heard = rig.heard(30).await;
    assert_eq!(
        heard,
        [
            "1 CredentialsNotFound: Secrets of namespace heliostat-system cannot be read: 403 secrets say 403; apply the shipped Role"
        ]
    );
    rig.local.repair("secrets");
    assert_eq!(rig.heard(61).await, ["2 connected uid-a", "2 listed uid-a 1"]);
    // Once known, they are not forgotten because they cannot be read for a while.
    rig.local.fault("secrets", 500);
    rig.local.break_watches("secrets");
    assert_eq!(rig.heard(600).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn no_link_is_dialled_before_it_is_known_where_none_must_lead() {
    let mut rig = rig();
    rig.local.fault("version", 500);
    rig.credentials("a.example", TOKEN);
    rig.apply(task());
    assert_eq!(rig.heard(60).await, Vec::<String>::new());
    rig.local.repair("version");
    assert_eq!(rig.heard(6).await, ["1 connected uid-a", "1 listed uid-a 1"]);
    assert!(rig.sessions.context.own.serves("10.96.0.1:443".parse().unwrap()));
}
