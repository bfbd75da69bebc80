//! Requests to an API server as the controller makes them: by its own rendering, through its client.

use anyhow::Context as _;
use heliostat::apply::render::{Rendered, Verb};
use http::Request;
use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// All that is read of the answer to a creation.
#[derive(Deserialize)]
pub(crate) struct Created {
    /// Its metadata.
    pub(crate) metadata: Metadata,
}

/// See [`Created`].
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Names the object for ever.
    pub(crate) uid: String,
}

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

/// Deletes an object.
pub(crate) async fn delete(client: &Client, object: String) -> anyhow::Result<()> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    write::<Value>(client, Verb::Delete, object, options).await.map(drop)
}

/// Deletes all objects of a collection.
pub(crate) async fn delete_all(client: &Client, collection: String) -> anyhow::Result<()> {
    delete(client, collection).await
}

async fn write<T: DeserializeOwned>(client: &Client, verb: Verb, path: String, body: Value) -> anyhow::Result<T> {
    let failed = format!("cannot {} {path}", verb.as_str());
    let rendered = Rendered { verb, resource: "", path, body };
    client.request(rendered.request()?).await.context(failed)
}

/// All objects of a collection.
pub(crate) async fn list(client: &Client, collection: &str) -> anyhow::Result<Vec<Value>> {
    list_page(client, collection.to_owned()).await.map(|(items, _)| items)
}

/// All objects of a collection, so many with each answer; gives how many there are.
pub(crate) async fn list_in_portions(client: &Client, collection: &str, portion: usize) -> anyhow::Result<usize> {
    let (mut many, mut next) = (0, String::new());
    loop {
        let page = format!("{collection}?limit={portion}{next}");
        let (items, goes_on) = list_page(client, page).await?;
        many += items.len();
        match goes_on {
            Some(token) => next = format!("&continue={token}"),
            None => return Ok(many),
        }
    }
}

/// One answer, and the token that asks for the rest.
async fn list_page(client: &Client, page: String) -> anyhow::Result<(Vec<Value>, Option<String>)> {
    let request = Request::get(&page).body(Vec::new())?;
    let mut list: Value = client.request(request).await.with_context(|| format!("cannot list {page}"))?;
    let token = list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
    match list["items"].take() {
        Value::Array(items) => Ok((items, token)),
        _ => Ok((Vec::new(), token)),
    }
}
