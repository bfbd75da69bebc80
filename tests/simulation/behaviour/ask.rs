//! Raw requests: status codes, headers and watch lines as they are, which a typed client hides.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::Surroundings;

/// A server, a place in it for one scenario, and what can be done to it.
pub(crate) struct World {
    pub(crate) client: Client,
    /// Namespace of the scenario, and the name of what has no namespace.
    pub(crate) place: String,
    pub(crate) around: Box<dyn Surroundings>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body, of an answer with that code.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    /// Code, reason, and what the details name.
    pub(crate) fn refusal(&self) -> (u16, &str, String) {
        let details = &self.body["details"];
        let text = |field: &str| details[field].as_str().unwrap_or("-").to_owned();
        (self.code, self.body["reason"].as_str().unwrap_or("-"), format!("{} {}", text("kind"), text("name")))
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Sends a request with a client.
pub(crate) async fn ask(client: &Client, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = client.send(request.body(Body::from(body)).unwrap()).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Answer { code: head.status.as_u16(), headers: head.headers, body }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

impl World {
    /// Makes the scenario's namespace anew, if there is none yet.
    pub(crate) async fn settle(&self) {
        let namespace = json!({"metadata": {"name": self.place}});
        let made = self.post("/api/v1/namespaces", &namespace).await;
        assert!(matches!(made.code, 201 | 409), "{}", made.body);
        // Admission learns of a new namespace a moment later.
        self.until("the namespace takes objects in", || async {
            let probe = json!({"metadata": {"name": "probe"}});
            let made = self.post(&self.secrets(), &probe).await;
            let _ = self.delete(&format!("{}/probe", self.secrets()), &Value::Null).await;
            made.code == 201
        })
        .await;
    }

    pub(crate) fn services(&self) -> String {
        format!("/api/v1/namespaces/{}/services", self.place)
    }

    pub(crate) fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.place)
    }

    pub(crate) fn slices(&self) -> String {
        format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", self.place)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        ask(&self.client, Method::GET, path, &[], &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        ask(&self.client, Method::POST, path, &[JSON], body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        ask(&self.client, Method::PATCH, path, &[MERGE], body).await
    }

    pub(crate) async fn delete(&self, path: &str, preconditions: &Value) -> Answer {
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, "propagationPolicy": "Background"});
        ask(&self.client, Method::DELETE, path, &[JSON], &body).await
    }

    /// Makes a Service.
    pub(crate) async fn service(&self, name: &str, labels: Value) -> Value {
        let service = json!({"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}});
        self.post(&self.services(), &service).await.expect(201)
    }

    /// Makes a Secret with more metadata.
    pub(crate) async fn secret(&self, name: &str, metadata: Value) -> Value {
        let mut secret = json!({"metadata": {"name": name}});
        for (field, value) in metadata.as_object().unwrap() {
            secret["metadata"][field] = value.clone();
        }
        self.post(&self.secrets(), &secret).await.expect(201)
    }

    /// The version that a collection is at.
    pub(crate) async fn version(&self, path: &str) -> String {
        let list = self.get(path).await.expect(200);
        text(&list["metadata"]["resourceVersion"])
    }

    /// Waits until something is so, in vain at most a minute.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, is_so: impl Fn() -> F) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so().await {
            assert!(Instant::now() < end, "in vain: {what}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Begins to watch.
    pub(crate) async fn watch(&self, path: &str, query: &str) -> Watch {
        let request = Request::get(format!("{path}?watch=true&{query}"));
        // Real API servers compress otherwise.
        let request = request.header("accept-encoding", "identity").body(Body::empty()).unwrap();
        let (head, body) = self.client.send(request).await.unwrap().into_parts();
        assert_eq!(head.status.as_u16(), 200);
        Watch {
            chunks: body.into_data_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()).map_err(drop)).boxed(),
            rest: Vec::new(),
        }
    }
}

/// A watch that runs.
pub(crate) struct Watch {
    chunks: BoxStream<'static, Result<Vec<u8>, ()>>,
    rest: Vec<u8>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// A line.
    Event(Value),
    /// The end, with what was left of a line.
    End(String),
    /// The connection broke.
    Broken,
    /// Nothing for as long as was waited.
    Nothing,
}

impl Watch {
    /// What comes within that time.
    pub(crate) async fn next(&mut self, within: Duration) -> Next {
        let end = Instant::now() + within;
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Next::Event(serde_json::from_slice(&line).unwrap());
            }
            match timeout(end.saturating_duration_since(Instant::now()), self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.rest.extend(chunk),
                Ok(Some(Err(()))) => return Next::Broken,
                Ok(None) => return Next::End(String::from_utf8_lossy(&self.rest).into_owned()),
                Err(_) => return Next::Nothing,
            }
        }
    }

    /// The next event, without bookmarks.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            match self.next(Duration::from_secs(10)).await {
                Next::Event(event) if event["type"] == "BOOKMARK" => {}
                Next::Event(event) => return event,
                other => panic!("an event was expected: {other:?}"),
            }
        }
    }

    /// The next event in short: type, name, version.
    pub(crate) async fn brief(&mut self) -> String {
        let event = self.event().await;
        let metadata = &event["object"]["metadata"];
        format!("{} {} {}", text(&event["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"]))
    }
}

/// A text, or nothing.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The names in a list, in order.
pub(crate) fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| text(&item["metadata"]["name"])).collect()
}

/// The version of an object.
pub(crate) fn version(object: &Value) -> String {
    text(&object["metadata"]["resourceVersion"])
}
