//! Requests to an API server as the controller makes them: by its own rendering, through its client.

use anyhow::Context as _;
use heliostat::apply::render::{Rendered, Verb};
use http::Request;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Where a namespace's objects of a kind are.
pub(crate) fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

/// The same for EndpointSlices.
pub(crate) fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// Creates an object in a collection.
pub(crate) async fn create<T: DeserializeOwned>(client: &Client, collection: &str, body: Value) -> anyhow::Result<T> {
    write(client, Verb::Create, collection.to_owned(), body).await
}

/// Changes an object by a merge patch.
pub(crate) async fn patch(client: &Client, object: String, body: Value) -> anyhow::Result<Value> {
    write(client, Verb::Patch, object, body).await
}

/// Deletes all objects of a collection.
pub(crate) async fn delete_all(client: &Client, collection: String) -> anyhow::Result<()> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    write::<Value>(client, Verb::Delete, collection, options).await.map(drop)
}

async fn write<T: DeserializeOwned>(client: &Client, verb: Verb, path: String, body: Value) -> anyhow::Result<T> {
    let failed = format!("cannot {} {path}", verb.as_str());
    let rendered = Rendered { verb, resource: "", path, body };
    client.request(rendered.request()?).await.context(failed)
}

/// All objects of a collection.
pub(crate) async fn list(client: &Client, collection: &str) -> anyhow::Result<Vec<Value>> {
    let request = Request::get(collection).body(Vec::new())?;
    let mut list: Value = client.request(request).await.with_context(|| format!("cannot list {collection}"))?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}
