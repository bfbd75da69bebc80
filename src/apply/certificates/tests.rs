use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::apply::fake::{Answer, Asked, server, status};

const SECRETS_PATH: &str = "/api/v1/namespaces/heliostat-system/secrets";

/// Secrets and bindings, as an API server keeps them.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<BTreeMap<String, Value>>>);

impl Cluster {
    fn with_binding(name: &str, uid: &str) -> Self {
        let cluster = Self::default();
        cluster.bind(name, uid);
        cluster
    }

    fn bind(&self, name: &str, uid: &str) {
        let path = format!("/apis/heliostat.dev/v1alpha1/gatewaybindings/{name}");
        self.put(&path, json!({"metadata": {"name": name, "uid": uid}}));
    }

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().insert(path.to_owned(), object);
    }

    fn secret(&self, name: &str) -> Option<Value> {
        self.0.lock().unwrap().get(&format!("{SECRETS_PATH}/{name}")).cloned()
    }

    fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(&format!("{SECRETS_PATH}/{name}"));
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut all = self.0.lock().unwrap();
        match asked.method.as_str() {
            "GET" => all.get(&asked.path).map_or_else(|| status(404, "NotFound"), |object| (200, object.clone())),
            "POST" => {
                let path = format!("{}/{}", asked.path, asked.body["metadata"]["name"].as_str().unwrap());
                if all.contains_key(&path) {
                    return status(409, "AlreadyExists");
                }
                let mut object = asked.body.clone();
                object["metadata"]["uid"] = json!("s");
                object["metadata"]["resourceVersion"] = json!("1");
                all.insert(path, object.clone());
                (201, object)
            }
            "PATCH" => {
                let object = all.get_mut(&asked.path).unwrap();
                for field in ["uid", "resourceVersion"] {
                    if object["metadata"][field] != asked.body["metadata"][field] {
                        return status(409, "Conflict");
                    }
                }
                for part in ["metadata", "data"] {
                    for (key, value) in asked.body[part].as_object().unwrap() {
                        object[part][key] = value.clone();
                    }
                }
                let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                (200, object.clone())
            }
            other => panic!("{other}"),
        }
    }

    fn controller(&self, leadership: Leadership) -> (Certificates, ServerTls, Trouble) {
        let cluster = self.clone();
        let (client, _) = server(move |asked| {
            let answer = cluster.answer(&asked);
            async move { answer }
        });
        let names = vec!["heliostat-xds.heliostat-system.svc".to_owned()];
        Certificates::new(client, "heliostat-system", names, leadership, Arc::default())
    }
}

fn text(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

fn public() -> BTreeSet<String> {
    BTreeSet::from(["public".to_owned()])
}

#[tokio::test]
async fn a_gateway_gets_a_certificate_of_its_own_and_nothing_is_written_twice() {
    let cluster = Cluster::with_binding("public", "b1");
    let (mut certificates, mut tls, trouble) = cluster.controller(Leadership::always());
    assert!(tls.borrow().is_none());
    assert_eq!(certificates.look(&public()).await, PERIOD);
    assert!(tls.borrow().is_some());
    assert_eq!(*trouble.borrow(), None);

    let (authority, secret) =
        (cluster.secret(AUTHORITY).unwrap(), cluster.secret("heliostat-gateway-public-tls").unwrap());
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "public"})
    );
    assert_eq!(
        secret["metadata"]["ownerReferences"],
        json!([{"apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding", "name": "public", "uid": "b1"}])
    );
    assert_eq!(text(&secret, "ca.crt"), text(&authority, "tls.crt"));
    assert_eq!(pki::names(&text(&secret, "tls.crt")).unwrap(), public());
    assert!(text(&secret, "tls.key").contains("PRIVATE KEY"));

    assert_eq!(authority["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "heliostat"}));

    let before = (authority, secret);
    tls.mark_unchanged();
    assert_eq!(certificates.look(&public()).await, PERIOD);
    assert!(!tls.has_changed().unwrap(), "nor is a new certificate served");
    assert_eq!((cluster.secret(AUTHORITY).unwrap(), cluster.secret("heliostat-gateway-public-tls").unwrap()), before);
}

#[tokio::test]
async fn two_replicas_that_start_together_end_with_one_authority() {
    let cluster = Cluster::default();
    let ((mut one, one_tls, _), (mut two, two_tls, _)) =
        (cluster.controller(Leadership::always()), cluster.controller(Leadership::always()));
    // Both have seen that there is none; whoever comes second is refused, and reads the other's.
    let authority = Trust::new(Timestamp::now()).unwrap();
    one.create(AUTHORITY, &authority_labels(), None, authority.data()).await.unwrap();
    let error = two.create(AUTHORITY, &authority_labels(), None, authority.data()).await.unwrap_err();
    assert!(error.is_lost_race(), "{error}");
    let made = cluster.secret(AUTHORITY);
    for certificates in [&mut one, &mut two] {
        assert_eq!(certificates.look(&BTreeSet::new()).await, PERIOD);
    }
    assert_eq!(cluster.secret(AUTHORITY), made);
    assert!(one_tls.borrow().is_some() && two_tls.borrow().is_some());
}

#[tokio::test]
async fn a_follower_serves_with_what_it_reads_and_writes_nothing() {
    let cluster = Cluster::with_binding("public", "b1");
    let (until, leadership) = watch::channel(None);
    let (mut follower, tls, trouble) = cluster.controller(Leadership::until(leadership));
    assert_eq!(follower.look(&public()).await, AGAIN);
    assert!(cluster.secret(AUTHORITY).is_none() && tls.borrow().is_none());
    assert!(trouble.borrow().as_ref().unwrap().contains("the leader makes it"));

    let (mut leader, _, _) = cluster.controller(Leadership::always());
    leader.look(&BTreeSet::new()).await;
    assert_eq!(follower.look(&public()).await, PERIOD);
    assert!(tls.borrow().is_some());
    assert!(cluster.secret("heliostat-gateway-public-tls").is_none());
    assert_eq!(*trouble.borrow(), None);

    until.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    follower.look(&public()).await;
    assert!(cluster.secret("heliostat-gateway-public-tls").is_some());
}

#[tokio::test]
async fn what_was_lost_or_spoiled_is_made_anew() {
    let cluster = Cluster::with_binding("public", "b1");
    let (mut certificates, mut tls, _) = cluster.controller(Leadership::always());
    certificates.look(&public()).await;
    let name = "heliostat-gateway-public-tls";
    let first = cluster.secret(name).unwrap();
    cluster.remove(name);
    certificates.look(&public()).await;
    let second = cluster.secret(name).unwrap();
    assert_ne!(first["data"], second["data"]);

    // The binding was deleted and made anew.
    cluster.bind("public", "b2");
    certificates.look(&public()).await;
    assert_eq!(cluster.secret(name).unwrap()["metadata"]["ownerReferences"][0]["uid"], "b2");

    // With the authority all it has signed goes, and the server's certificate too.
    tls.borrow_and_update();
    cluster.remove(AUTHORITY);
    certificates.look(&public()).await;
    let third = cluster.secret(name).unwrap();
    assert_ne!(second["data"], third["data"]);
    assert_eq!(text(&third, "ca.crt"), text(&cluster.secret(AUTHORITY).unwrap(), "tls.crt"));
    assert!(tls.has_changed().unwrap());
}

#[tokio::test]
async fn somebody_elses_secret_is_left_alone_and_named() {
    let cluster = Cluster::with_binding("public", "b1");
    let theirs =
        json!({"metadata": {"uid": "t", "resourceVersion": "1"}, "data": {"tls.key": STANDARD.encode("PRIVATE")}});
    cluster.put(&format!("{SECRETS_PATH}/heliostat-gateway-public-tls"), theirs.clone());
    let (mut certificates, _, trouble) = cluster.controller(Leadership::always());
    assert_eq!(certificates.look(&public()).await, AGAIN);
    assert_eq!(cluster.secret("heliostat-gateway-public-tls").unwrap(), theirs);
    let said = trouble.borrow().clone().unwrap();
    assert!(said.contains("heliostat-system/heliostat-gateway-public-tls is not Heliostat's"), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
}

#[tokio::test]
async fn a14_a_spoiled_authority_is_named_without_its_content_and_not_replaced() {
    let cluster = Cluster::default();
    let data = json!({"tls.crt": STANDARD.encode("hidden"), "tls.key": STANDARD.encode("hidden")});
    let spoiled = json!({"metadata": {"uid": "t", "resourceVersion": "1", "labels": authority_labels()}, "data": data});
    cluster.put(&format!("{SECRETS_PATH}/{AUTHORITY}"), spoiled.clone());
    let (mut certificates, tls, trouble) = cluster.controller(Leadership::always());
    certificates.look(&BTreeSet::new()).await;
    assert_eq!(cluster.secret(AUTHORITY).unwrap(), spoiled);
    assert!(tls.borrow().is_none());
    let said = trouble.borrow().clone().unwrap();
    assert!(said.contains("delete the Secret that holds it") && !said.contains("hidden"), "{said}");
}

#[tokio::test]
async fn a_binding_that_is_gone_gets_none() {
    let cluster = Cluster::default();
    let (mut certificates, _, _) = cluster.controller(Leadership::always());
    assert_eq!(certificates.look(&public()).await, PERIOD);
    assert!(cluster.secret("heliostat-gateway-public-tls").is_none());
    // Nor does one that is on its way out.
    let going = json!({"metadata": {"name": "public", "uid": "b1", "deletionTimestamp": "2026-06-01T12:00:00Z"}});
    cluster.put("/apis/heliostat.dev/v1alpha1/gatewaybindings/public", going);
    assert_eq!(certificates.look(&public()).await, PERIOD);
    assert!(cluster.secret("heliostat-gateway-public-tls").is_none());
}

#[tokio::test]
async fn what_is_served_follows_the_authority() {
    let cluster = Cluster::default();
    let (mut certificates, mut tls, _) = cluster.controller(Leadership::always());
    certificates.look(&BTreeSet::new()).await;
    tls.mark_unchanged();
    cluster.remove(AUTHORITY);
    certificates.look(&BTreeSet::new()).await;
    assert!(tls.has_changed().unwrap(), "gateways trust the new one only");
}

/// The authority that there is, as an earlier process left it, and a look at it today.
async fn after_days(days: i64, leadership: Leadership) -> (Value, Value, Timestamp, Certificates) {
    let cluster = Cluster::default();
    let (mut certificates, _, trouble) = cluster.controller(leadership);
    let then = Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    certificates.create(AUTHORITY, &authority_labels(), None, Trust::new(then).unwrap().data()).await.unwrap();
    let before = cluster.secret(AUTHORITY).unwrap();
    certificates.look(&BTreeSet::new()).await;
    assert_eq!(*trouble.borrow(), None);
    (before, cluster.secret(AUTHORITY).unwrap(), then, certificates)
}

#[tokio::test]
async fn an_authority_that_is_due_is_followed_by_another_which_only_the_leader_makes() {
    let (before, after, ..) = after_days(3000, Leadership::always()).await;
    assert_eq!(text(&before, "tls.crt"), text(&after, "tls.crt"), "it signs until the next one is trusted everywhere");
    assert!(text(&after, "ca.crt").ends_with(&text(&after, "next.crt")) && !text(&after, "next.key").is_empty());
    let follows = Leadership::until(watch::channel(None).1);
    let (before, after, ..) = after_days(3000, follows).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn the_servers_certificate_is_renewed_when_it_is_due_though_the_authority_is_the_same() {
    let (_, authority, then, mut certificates) = after_days(25, Leadership::always()).await;
    let trust = Trust::read(&authority).unwrap();
    let old = trust.authority.issue_server(&["heliostat-xds".to_owned()], then).unwrap().certificate;
    certificates.server = Some(Server { certificate: old.clone(), trusted: trust.trusted });
    let mut served = certificates.tls.subscribe();
    certificates.look(&BTreeSet::new()).await;
    assert!(served.has_changed().unwrap() && certificates.server.as_ref().unwrap().certificate != old);
    served.mark_unchanged();
    certificates.look(&BTreeSet::new()).await;
    assert!(!served.has_changed().unwrap());
}

/// The whole task: the bindings of the latest set, as soon as there are others, until it is to end.
#[tokio::test(start_paused = true)]
async fn certificates_follow_the_bindings_until_the_controller_ends() {
    let cluster = Cluster::with_binding("public", "b1");
    cluster.bind("edge", "b2");
    let (certificates, mut tls, _) = cluster.controller(Leadership::always());
    let ((bindings, wanted), shutdown) = (watch::channel(public()), CancellationToken::new());
    let task = tokio::spawn(certificates.run(wanted, shutdown.clone()));
    tls.changed().await.unwrap();
    let made = async |name: &str| {
        while cluster.secret(&certificate_name(name)).is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), made("public")).await.unwrap();
    bindings.send_replace(BTreeSet::from(["edge".to_owned()]));
    tokio::time::timeout(Duration::from_secs(5), made("edge")).await.unwrap();
    cluster.remove(&certificate_name("edge"));
    tokio::time::timeout(PERIOD + Duration::from_secs(5), made("edge")).await.unwrap();
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
    let (client, log) =
        server(
            |asked| async move { if asked.method == "GET" { status(500, "InternalError") } else { (201, asked.body) } },
        );
    let names = vec!["heliostat-xds.heliostat-system.svc".to_owned()];
    let (mut certificates, tls, trouble) =
        Certificates::new(client, "heliostat-system", names, Leadership::always(), Arc::default());
    assert_eq!(certificates.look(&public()).await, AGAIN);
    assert!(tls.borrow().is_none() && trouble.borrow().is_some());
    assert!(log.lock().unwrap().iter().all(|asked| asked.method == "GET"), "nothing is made");
}

#[tokio::test]
async fn an_authority_of_somebody_else_is_left_alone_and_named() {
    let cluster = Cluster::default();
    let mut theirs = Trust::new(Timestamp::now()).unwrap().data();
    theirs.retain(|_, value| !value.is_null());
    let theirs = json!({"metadata": {"uid": "t", "resourceVersion": "1"}, "data": theirs});
    cluster.put(&format!("{SECRETS_PATH}/{AUTHORITY}"), theirs.clone());
    let (mut certificates, tls, trouble) = cluster.controller(Leadership::always());
    certificates.look(&BTreeSet::new()).await;
    assert_eq!(cluster.secret(AUTHORITY).unwrap(), theirs);
    assert!(tls.borrow().is_none());
    assert!(trouble.borrow().as_ref().unwrap().contains("is not Heliostat's"));
}
