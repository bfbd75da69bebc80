//! An API server for the tests of this folder: answers by a closure and remembers what was asked.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// A request that came in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Value,
}

/// What the server answers: a status code and a body.
pub(super) type Answer = (u16, Value);

/// Everything that came in, in order.
pub(super) type Log = Arc<Mutex<Vec<Asked>>>;

/// A client of a server that answers so.
pub(super) fn server<F, A>(answer: F) -> (Client, Log)
where
    F: Fn(Asked) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send,
{
    let log = Log::default();
    let remembered = Arc::clone(&log);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, log) = (answer.clone(), Arc::clone(&remembered));
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let path = head.uri.path().to_owned();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let asked = Asked { method: head.method.to_string(), path, body };
            log.lock().unwrap().push(asked.clone());
            let (code, body) = answer(asked).await;
            let response = Response::builder().status(code);
            Ok::<_, Infallible>(response.body(Body::from(body.to_string().into_bytes())).unwrap())
        }
    });
    (Client::new(service, "default"), log)
}

/// The body of a refusal.
pub(super) fn status(code: u16, reason: &str) -> Answer {
    (code, json!({"kind": "Status", "code": code, "reason": reason, "message": reason}))
}
