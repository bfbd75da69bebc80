use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    apply::fake::{Answer, Asked, Log, server, status},
    core::{
        export::object::{LEASE, ObjectId},
        io::{At, ServicePatch},
        model::Key,
    },
};

fn writer(client: Client) -> (Writer, CancellationToken) {
    let shutdown = CancellationToken::new();
    (Writer::new(client, Leadership::always(), Arc::default(), shutdown.clone()), shutdown)
}

fn at() -> At {
    At { uid: "u1".into(), resource_version: "7".into() }
}

fn patch(id: u64) -> Write {
    let op = WriteOp::PatchService(Key::new("shop", "books-east"), at(), ServicePatch::default());
    Write { id: WriteId(id), op }
}

fn delete(id: u64) -> Write {
    Write { id: WriteId(id), op: WriteOp::DeleteSlice(Key::new("shop", "books-east-1"), at()) }
}

fn service(asked: &Asked) -> Answer {
    let metadata = json!({
        "name": "books-east", "namespace": "shop", "uid": "u1", "resourceVersion": "8",
        "labels": {"app.kubernetes.io/managed-by": "heliostat"},
    });
    (200, json!({"metadata": metadata, "spec": {"type": "ClusterIP"}, "asked": asked.method}))
}

async fn answer(writer: &mut Writer) -> (u64, Result<Written, WriteError>) {
    let Input::Written { id, result } = writer.answered().await else { panic!("not an answer") };
    (id.0, result)
}

fn count(log: &Log) -> usize {
    log.lock().unwrap().len()
}

#[tokio::test]
async fn a_write_is_answered_with_the_object_as_it_is_now() {
    let (client, log) = server(|asked| async move { service(&asked) });
    let (mut writer, _) = writer(client);
    writer.begin(patch(3));
    let (id, result) = answer(&mut writer).await;
    let Ok(Written::Service(service)) = result else { panic!("{result:?}") };
    assert_eq!((id, service.resource_version, service.ours.is_some()), (3, "8".into(), true));
    assert_eq!(log.lock().unwrap()[0].body["metadata"]["resourceVersion"], "7");
}

#[tokio::test]
async fn a_status_is_answered_with_its_version() {
    let (client, _) = server(|_| async { (200, json!({"metadata": {"resourceVersion": "9"}})) });
    let (mut writer, _) = writer(client);
    writer.begin(Write { id: WriteId(1), op: WriteOp::LinkStatus("east".into(), at(), Box::default()) });
    let (_, result) = answer(&mut writer).await;
    assert!(matches!(&result, Ok(Written::Status(version)) if version == "9"), "{result:?}");
}

#[tokio::test]
async fn an_object_is_answered_as_a_watch_tells_it() {
    let (client, _) = server(|_| async {
        let metadata = json!({"name": "x", "namespace": "a", "resourceVersion": "9", "managedFields": [{}]});
        (201, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}))
    });
    let (mut writer, _) = writer(client);
    let id = ObjectId { kind: LEASE, key: Key::new("a", "x") };
    for op in [
        WriteOp::CreateObject(id.clone(), "v1".into(), Box::default()),
        WriteOp::PatchObject(id.clone(), "v1".into(), at(), Box::default()),
    ] {
        writer.begin(Write { id: WriteId(1), op });
        let Ok(Written::Object(object)) = answer(&mut writer).await.1 else { panic!() };
        assert_eq!(*object, json!({"metadata": {"name": "x", "namespace": "a", "resourceVersion": "9"}, "spec": {}}));
    }
}

#[tokio::test]
async fn g13_a_name_that_somebody_has_is_told_apart_from_other_conflicts() {
    for (code, reason, kind) in [
        (409, "AlreadyExists", WriteFailure::AlreadyExists),
        (409, "Conflict", WriteFailure::Conflict),
        (404, "NotFound", WriteFailure::NotFound),
    ] {
        let (client, _) = server(move |_| async move { status(code, reason) });
        let (mut writer, _) = writer(client);
        let id = ObjectId { kind: LEASE, key: Key::new("a", "x") };
        writer.begin(Write { id: WriteId(1), op: WriteOp::CreateObject(id, "v1".into(), Box::default()) });
        assert_eq!(answer(&mut writer).await.1.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn what_is_gone_already_counts_as_deleted_and_a_conflict_does_not() {
    for (reason, code, deleted) in [("NotFound", 404, true), ("Conflict", 409, false)] {
        let (client, _) = server(move |_| async move { status(code, reason) });
        let (mut writer, _) = writer(client);
        writer.begin(delete(1));
        let (_, result) = answer(&mut writer).await;
        assert_eq!(matches!(result, Ok(Written::Deleted)), deleted, "{result:?}");
    }
}

#[tokio::test]
async fn a_patch_of_what_is_gone_is_a_failure() {
    let (client, _) = server(|_| async { status(404, "NotFound") });
    let (mut writer, _) = writer(client);
    writer.begin(patch(1));
    assert_eq!(answer(&mut writer).await.1.unwrap_err().kind, WriteFailure::NotFound);
}

#[tokio::test(start_paused = true)]
async fn l12_writes_do_not_wait_for_each_other_and_none_for_ever() {
    let (client, _) = server(|asked| async move {
        if asked.method == "DELETE" {
            std::future::pending::<()>().await;
        }
        service(&asked)
    });
    let (mut writer, _) = writer(client);
    let start = Instant::now();
    writer.begin(delete(1));
    writer.begin(patch(2));
    assert_eq!(answer(&mut writer).await.0, 2);
    assert_eq!(start.elapsed(), Duration::ZERO);
    let (id, result) = answer(&mut writer).await;
    assert_eq!((id, result.unwrap_err().kind), (1, WriteFailure::Transient));
    assert_eq!(start.elapsed(), DEADLINE);
}

#[tokio::test]
async fn an_answer_that_is_no_object_is_a_failure_and_no_panic() {
    for body in [json!(null), json!([]), json!("x"), json!({"metadata": {"name": "../x"}})] {
        let (client, _) = server(move |_| {
            let body: Value = body.clone();
            async move { (200, body) }
        });
        let (mut writer, _) = writer(client);
        writer.begin(patch(1));
        assert_eq!(answer(&mut writer).await.1.unwrap_err().kind, WriteFailure::Transient);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_what_was_sent_and_sends_nothing_more() {
    let done = Arc::new(AtomicUsize::new(0));
    let finished = Arc::clone(&done);
    let (client, log) = server(move |asked| {
        let finished = Arc::clone(&finished);
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            finished.fetch_add(1, Ordering::SeqCst);
            service(&asked)
        }
    });
    let (mut writer, shutdown) = writer(client);
    writer.begin(patch(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    shutdown.cancel();
    writer.begin(patch(2));
    writer.drain(Duration::from_secs(5)).await;
    assert_eq!((done.load(Ordering::SeqCst), count(&log)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_hang_on_an_api_server_that_does() {
    let (client, _) = server(|_| std::future::pending());
    let (mut writer, _) = writer(client);
    writer.begin(patch(1));
    let start = Instant::now();
    writer.drain(Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn l10_what_was_decided_while_another_led_is_decided_again() {
    let (client, log) = server(|asked| async move { service(&asked) });
    let (until, leadership) = tokio::sync::watch::channel(None);
    let shutdown = CancellationToken::new();
    let mut writer = Writer::new(client, Leadership::until(leadership), Arc::default(), shutdown);
    writer.begin(patch(1));
    let unanswered = tokio::time::timeout(Duration::from_secs(3600), writer.answered()).await;
    assert!(unanswered.is_err() && count(&log) == 0);
    until.send_replace(Some(Instant::now() + Duration::from_secs(10)));
    assert_eq!(answer(&mut writer).await.1.unwrap_err().kind, WriteFailure::Conflict);
    assert_eq!(count(&log), 0);
    writer.begin(patch(2));
    assert!(answer(&mut writer).await.1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn l10_no_write_is_awaited_longer_than_leadership_lasts() {
    let (client, _) = server(|_| std::future::pending());
    let (_until, leadership) = tokio::sync::watch::channel(Some(Instant::now() + Duration::from_secs(4)));
    let mut writer = Writer::new(client, Leadership::until(leadership), Arc::default(), CancellationToken::new());
    let start = Instant::now();
    writer.begin(patch(1));
    assert!(answer(&mut writer).await.1.is_err());
    assert_eq!(start.elapsed(), Duration::from_secs(4));
}

#[tokio::test]
async fn writes_are_counted_by_outcome() {
    let (client, _) = server(|_| async { status(403, "Forbidden") });
    let metrics = Arc::new(Metrics::default());
    let shutdown = CancellationToken::new();
    let mut writer = Writer::new(client, Leadership::always(), Arc::clone(&metrics), shutdown);
    writer.begin(patch(1));
    assert_eq!(answer(&mut writer).await.1.unwrap_err().kind, WriteFailure::Forbidden);
    let counted = r#"heliostat_writes_total{kind="services",verb="patch",result="forbidden"} 1"#;
    let text = metrics.encode().unwrap();
    assert!(text.contains(counted), "{text}");
}
