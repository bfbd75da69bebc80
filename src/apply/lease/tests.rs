use std::sync::{Arc, Mutex};

use super::*;
use crate::apply::fake::{Answer, Asked, Log, server, status};

/// The Lease in the API server; none: it is not there. `down`: nobody gets an answer.
#[derive(Default)]
struct Store {
    lease: Option<Value>,
    down: bool,
}

type Shared = Arc<Mutex<Store>>;

fn answer(store: &mut Store, asked: &Asked) -> Answer {
    if store.down {
        return status(503, "ServiceUnavailable");
    }
    match (asked.method.as_str(), &mut store.lease) {
        ("GET", Some(lease)) => (200, lease.clone()),
        ("POST", Some(_)) => status(409, "AlreadyExists"),
        ("POST", slot) => {
            let mut lease = asked.body.clone();
            lease["metadata"]["uid"] = json!("u1");
            lease["metadata"]["resourceVersion"] = json!("1");
            *slot = Some(lease.clone());
            (201, lease)
        }
        ("PATCH", Some(lease)) => {
            let version = &lease["metadata"]["resourceVersion"];
            if asked.body["metadata"]["resourceVersion"] != *version {
                return status(409, "Conflict");
            }
            let next: u32 = version.as_str().unwrap().parse::<u32>().unwrap() + 1;
            lease["metadata"]["resourceVersion"] = json!(next.to_string());
            for (field, value) in asked.body["spec"].as_object().unwrap() {
                lease["spec"][field] = value.clone();
            }
            (200, lease.clone())
        }
        _ => status(404, "NotFound"),
    }
}

fn api() -> (Client, Log, Shared) {
    let store = Shared::default();
    let shared = Arc::clone(&store);
    let (client, log) = server(move |asked| {
        let shared = Arc::clone(&shared);
        async move { answer(&mut shared.lock().unwrap(), &asked) }
    });
    (client, log, store)
}

/// A replica that takes part in the election.
fn replica(client: &Client, host: &str) -> (Leadership, CancellationToken) {
    let (mut elector, leadership) = Elector::new(client.clone(), "heliostat-system", host);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        elector.run(&stop).await;
        elector.release().await;
    });
    (leadership, shutdown)
}

fn leads(leadership: &Leadership) -> bool {
    leadership.remaining().is_some()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_makes_the_lease_and_keeps_it() {
    let (client, log, store) = api();
    let (first, _stop) = replica(&client, "a");
    first.acquired().await;
    let (second, _stop) = replica(&client, "b");
    for _ in 0..60 {
        seconds(1).await;
        assert!(leads(&first) && !leads(&second));
    }
    let lease = store.lock().unwrap().lease.clone().unwrap();
    assert_eq!(lease["metadata"]["name"], "heliostat");
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("a_"));
    let paths: Vec<String> = log.lock().unwrap().iter().map(|asked| asked.path.clone()).collect();
    let collection = "/apis/coordination.k8s.io/v1/namespaces/heliostat-system/leases";
    assert!(paths.iter().all(|path| path == collection || *path == format!("{collection}/heliostat")), "{paths:?}");
}

#[tokio::test(start_paused = true)]
async fn l10_a_standby_takes_over_only_when_the_lease_has_run_out() {
    let (client, _, store) = api();
    let (standby, _stop) = {
        // Somebody who never renews: their clock reads far in the future, which must not matter.
        let spec = json!({
            "holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 4,
            "renewTime": "2099-01-01T00:00:00.000000Z",
        });
        store.lock().unwrap().lease = Some(json!({"metadata": {"uid": "u1", "resourceVersion": "1"}, "spec": spec}));
        replica(&client, "b")
    };
    seconds(14).await;
    assert!(!leads(&standby));
    seconds(4).await;
    assert!(leads(&standby));
    assert_eq!(store.lock().unwrap().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 5);
}

#[tokio::test(start_paused = true)]
async fn l10_a_leader_cut_off_stops_before_another_may_start() {
    let (client, _, store) = api();
    let (leader, _stop) = replica(&client, "a");
    leader.acquired().await;
    store.lock().unwrap().down = true;
    seconds(7).await;
    assert!(leads(&leader));
    seconds(4).await;
    assert!(!leads(&leader));
    // It may go on when nobody took over.
    store.lock().unwrap().down = false;
    seconds(3).await;
    assert!(leads(&leader));
}

#[tokio::test(start_paused = true)]
async fn l10_a_leader_frozen_and_thawed_does_not_write_and_learns_who_leads() {
    let (client, _, store) = api();
    let (mut frozen, leadership) = Elector::new(client.clone(), "heliostat-system", "a");
    frozen.round().await.unwrap();
    assert!(leads(&leadership));
    let (other, _stop) = replica(&client, "b");
    seconds(20).await;
    assert!(leads(&other));
    assert!(!leads(&leadership), "before it has looked at anything");
    frozen.round().await.unwrap();
    assert!(!leads(&leadership) && leads(&other));
    let holder = store.lock().unwrap().lease.as_ref().unwrap()["spec"]["holderIdentity"].clone();
    assert!(holder.as_str().unwrap().starts_with("b_"));
}

#[tokio::test(start_paused = true)]
async fn l10_a_lease_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
    let (client, log, store) = api();
    let (mut elector, leadership) = Elector::new(client, "heliostat-system", "a");
    store.lock().unwrap().down = true;
    assert!(elector.round().await.is_err());
    assert!(log.lock().unwrap().iter().all(|asked| asked.method == "GET"), "nothing is made");
    store.lock().unwrap().down = false;
    elector.round().await.unwrap();
    assert!(leads(&leadership));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_gives_the_lease_away_at_once() {
    let (client, _, _) = api();
    let (first, stop) = replica(&client, "a");
    first.acquired().await;
    let (second, _stop) = replica(&client, "b");
    seconds(4).await;
    stop.cancel();
    seconds(3).await;
    assert!(!leads(&first) && leads(&second));
}

#[tokio::test(start_paused = true)]
async fn two_replicas_that_see_a_free_lease_do_not_both_lead() {
    let (client, _, _) = api();
    let (mut a, a_leads) = Elector::new(client.clone(), "n", "a");
    let (mut b, b_leads) = Elector::new(client, "n", "a");
    let (one, two) = tokio::join!(a.round(), b.round());
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert!(leads(&a_leads) != leads(&b_leads));
}

#[tokio::test(start_paused = true)]
async fn without_rights_nobody_leads_and_nothing_fails() {
    let (client, _) = server(|_| async { status(403, "Forbidden") });
    let (leadership, _stop) = replica(&client, "a");
    seconds(60).await;
    assert!(!leads(&leadership));
}

#[test]
fn a_lone_controller_always_may_write() {
    assert_eq!(Leadership::always().remaining(), Some(Duration::MAX));
}
