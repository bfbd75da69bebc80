//! Objects of a cluster as JSON, by collection, and waiting for what they say. A request that fails
//! otherwise than the test foresees ends the test with the API server's own words.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

use http::{Method, Request, header::CONTENT_TYPE};
use kube::Client;
use serde_json::{Value, json};

/// A collection of one kind, in one namespace or of the cluster.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    path: String,
}

impl Objects {
    fn new(client: &Client, path: String) -> Self {
        Self { client: client.clone(), path }
    }

    pub(crate) fn services(client: &Client, namespace: &str) -> Self {
        Self::new(client, format!("/api/v1/namespaces/{namespace}/services"))
    }

    pub(crate) fn slices(client: &Client, namespace: &str) -> Self {
        Self::new(client, format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"))
    }

    pub(crate) fn secrets(client: &Client, namespace: &str) -> Self {
        Self::new(client, format!("/api/v1/namespaces/{namespace}/secrets"))
    }

    pub(crate) fn pods(client: &Client, namespace: &str) -> Self {
        Self::new(client, format!("/api/v1/namespaces/{namespace}/pods"))
    }

    /// Any other kind, by the path of its collection.
    pub(crate) fn at(client: &Client, path: impl Into<String>) -> Self {
        Self::new(client, path.into())
    }

    pub(crate) fn links(client: &Client) -> Self {
        Self::new(client, "/apis/heliostat.dev/v1alpha1/clusterlinks".into())
    }

    pub(crate) fn policies(client: &Client, namespace: &str) -> Self {
        Self::new(client, format!("/apis/heliostat.dev/v1alpha1/namespaces/{namespace}/mirrorpolicies"))
    }

    async fn send(&self, method: Method, below: &str, body: &Value) -> Result<Value, kube::Error> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let uri = format!("{}{below}", self.path);
        let request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, kind).body(body).unwrap();
        self.client.request(request).await
    }

    async fn expect(&self, method: Method, below: &str, body: &Value) -> Value {
        let done = self.send(method.clone(), below, body).await;
        done.unwrap_or_else(|error| panic!("{method} {}{below}: {error}", self.path))
    }

    pub(crate) async fn create(&self, body: &Value) -> Value {
        self.expect(Method::POST, "", body).await
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Value> {
        match self.send(Method::GET, &format!("/{name}"), &Value::Null).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("GET {}/{name}: {error}", self.path),
        }
    }

    /// All objects of the collection, by name.
    pub(crate) async fn all(&self) -> BTreeMap<String, Value> {
        let list = self.expect(Method::GET, "", &Value::Null).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item)).collect()
    }

    pub(crate) async fn patch(&self, name: &str, change: Value) -> Value {
        self.expect(Method::PATCH, &format!("/{name}"), &change).await
    }

    pub(crate) async fn patch_status(&self, name: &str, status: Value) -> Value {
        self.expect(Method::PATCH, &format!("/{name}/status"), &json!({"status": status})).await
    }

    /// Replaces an object: fields that the body lacks go.
    pub(crate) async fn replace(&self, name: &str, body: &Value) -> Value {
        self.expect(Method::PUT, &format!("/{name}"), body).await
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.expect(Method::DELETE, &format!("/{name}"), &Value::Null).await;
    }

    /// Deletes an object that may not be there.
    pub(crate) async fn remove(&self, name: &str) {
        match self.send(Method::DELETE, &format!("/{name}"), &Value::Null).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("DELETE {}/{name}: {error}", self.path),
        }
    }
}

/// How much longer than promised a busy machine may take.
const PATIENCE: u32 = 5;

/// Waits until the probe says `Ok`, five times as long as promised; prints how long it took, or
/// fails with what the probe said last.
pub(crate) async fn wait<T, E, F>(what: &str, promise: Duration, mut probe: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(done) => {
                println!("{what}: {} ms", start.elapsed().as_millis());
                return done;
            }
            Err(last) if start.elapsed() > promise * PATIENCE => {
                panic!("{what}: not within {} s; last seen: {last:#?}", (promise * PATIENCE).as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// `Ok` if both are the same; else what is there.
pub(crate) fn same<T: PartialEq>(there: T, wanted: &T) -> Result<(), T> {
    if there == *wanted { Ok(()) } else { Err(there) }
}

/// A condition of an object: status, reason and message.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let all = object["status"]["conditions"].as_array()?;
    let found = all.iter().find(|c| c["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Status and reason of a condition; empty texts when there is none.
pub(crate) fn says(object: &Value, kind: &str) -> (String, String) {
    condition(object, kind).map(|(status, reason, _)| (status, reason)).unwrap_or_default()
}
