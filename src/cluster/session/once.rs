//! Reads an exporter once, for the command line.

use std::{collections::BTreeMap, fmt::Debug};

use kube::{Api, Client, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    caps::{Caps, MAX_NODES, beyond},
    follow::PAGE,
    identity::Identity,
};
use crate::{
    api::{Reason, names::PUBLISHED_BINDING_LABEL},
    cluster::{
        failure::Failure,
        wire::{FromWire, LabelledSlice, OriginWire, RemoteNodeWire, RemoteSliceWire, Wire},
    },
    core::{
        io::SessionTask,
        model::{Key, Origin, RemoteNode, RemoteSlice},
    },
};

/// An exporter as it was at one time.
#[derive(Clone, Debug)]
pub struct Listing {
    /// uid of its kube-system namespace, the same before and after.
    pub cluster_uid: String,
    /// Version of its API server.
    pub server_version: String,
    /// All Services that the task sees.
    pub services: BTreeMap<Key, Origin>,
    /// All EndpointSlices that the task sees.
    pub slices: BTreeMap<Key, RemoteSlice>,
    /// All nodes, or why they cannot be read; none where the task does not ask for them.
    pub nodes: Option<Result<BTreeMap<String, RemoteNode>, String>>,
}

/// Lists an exporter once.
///
/// # Errors
/// When it cannot be read, when it is another cluster after than before, or when it has more than
/// is ever held.
pub async fn list_once(client: &Client, task: &SessionTask) -> Result<Listing, Failure> {
    let identity = Identity::ask(client).await?;
    let caps = Caps::of(task);
    let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
    for scope in scopes(task) {
        let of_services: Api<OriginWire> = scoped(client, scope, Api::namespaced);
        for wire in pages(&of_services, task.selector.as_deref(), PAGE.0, ("Services", caps.services)).await? {
            services.extend(wire.into_model());
        }
        let of_slices: Api<RemoteSliceWire> = scoped(client, scope, Api::namespaced);
        for wire in pages(&of_slices, task.selector.as_deref(), PAGE.1, ("EndpointSlices", caps.slices)).await? {
            slices.extend(wire.into_model().and_then(|(key, slice)| Some((key, slice?))));
        }
    }
    let nodes = match task.nodes {
        true => Some(list_nodes(client).await),
        false => None,
    };
    if Identity::uid(client).await? != identity.uid {
        return Err(Failure::new(
            Reason::RemoteIdentityChanged,
            "another cluster answered at the end than at the beginning; try again",
        ));
    }
    Ok(Listing { cluster_uid: identity.uid, server_version: identity.version, services, slices, nodes })
}

/// Lists the slices that carry a binding's label, whatever else they carry and whether the link's
/// selector takes them or not: for who checks what gateways write.
///
/// # Errors
/// When they cannot be read, or there are more than are ever held.
pub async fn list_published(client: &Client, task: &SessionTask) -> Result<BTreeMap<Key, Value>, Failure> {
    let caps = Caps::of(task);
    let mut found = BTreeMap::new();
    for scope in scopes(task) {
        let of_slices: Api<Wire<LabelledSlice>> = scoped(client, scope, Api::namespaced);
        let listed = pages(&of_slices, Some(PUBLISHED_BINDING_LABEL), PAGE.1, ("EndpointSlices", caps.slices)).await?;
        found.extend(listed.into_iter().filter_map(Wire::into_model).map(|(key, LabelledSlice(slice))| (key, slice)));
    }
    Ok(found)
}

fn scopes(task: &SessionTask) -> Vec<Option<&str>> {
    match &task.namespaces {
        Some(namespaces) => namespaces.iter().map(|namespace| Some(namespace.as_str())).collect(),
        None => vec![None],
    }
}

fn scoped<T: FromWire>(
    client: &Client,
    scope: Option<&str>,
    namespaced: fn(Client, &str) -> Api<Wire<T>>,
) -> Api<Wire<T>> {
    match scope {
        Some(namespace) => namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn list_nodes(client: &Client) -> Result<BTreeMap<String, RemoteNode>, String> {
    let nodes: Api<RemoteNodeWire> = Api::all(client.clone());
    let listed = pages(&nodes, None, PAGE.0, ("nodes", MAX_NODES)).await.map_err(|failure| failure.message)?;
    Ok(listed.into_iter().filter_map(Wire::into_named).collect())
}

async fn pages<T>(
    api: &Api<Wire<T>>,
    selector: Option<&str>,
    page: u32,
    (what, cap): (&str, usize),
) -> Result<Vec<Wire<T>>, Failure>
where
    T: FromWire + Clone + Debug,
    Wire<T>: DeserializeOwned,
{
    let mut params =
        ListParams { label_selector: selector.map(str::to_owned), limit: Some(page), ..ListParams::default() };
    let mut all = Vec::new();
    // A page of nothing with a token for another one would never end.
    for _ in 0..=cap {
        let list = api.list(&params).await.map_err(|error| Failure::from(&error))?;
        all.extend(list.items);
        if all.len() > cap {
            break;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
    Err(beyond(what, cap))
}
