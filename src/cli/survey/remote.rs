//! Reads one exporter once, with the link's own Secret and through the hardened client, as the
//! controller would. Never uses the user's own rights there, so that what is told is what the
//! controller can know.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::Value;

use crate::{
    cli::connect::Cluster,
    cluster::{
        client::link_client,
        credentials::Credentials,
        dns::Lookup,
        failure::Failure,
        own::OwnCluster,
        session::{list_once, list_published},
        wire::{OriginWire, Wire},
    },
    core::{
        io::{RemoteEvent, SessionTask},
        model::{Key, Origin},
    },
};

/// An exporter that can be read.
pub(in crate::cli) struct Exporter {
    client: Client,
    expires_at: Option<jiff::Timestamp>,
    task: SessionTask,
}

impl Exporter {
    /// Opens it with the link's Secret; nothing is dialled yet.
    ///
    /// # Errors
    /// In words: the Secret can't be read, or is one that the controller would refuse.
    pub(super) async fn open(
        importer: &Cluster,
        namespace: &str,
        task: SessionTask,
        own: &OwnCluster,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, String> {
        let secrets: Api<Secret> = Api::namespaced(importer.client.clone(), namespace);
        let name = format!("Secret {namespace}/{}", task.secret);
        let secret = secrets.get(&task.secret).await;
        let secret = secret.map_err(|e| importer.failed(&format!("read {name}"), e).to_string())?;
        let data = secret.data.unwrap_or_default();
        let kubeconfig = data.get(&task.key).ok_or_else(|| format!("{name} has no key {}", task.key))?;
        let credentials = Credentials::parse(&kubeconfig.0).map_err(|e| format!("{name}: {e}"))?;
        credentials.check_expiry(jiff::Timestamp::now()).map_err(|e| format!("{name}: {e}"))?;
        let client = link_client(&credentials, own, lookup).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self { client, expires_at: credentials.expires_at, task })
    }

    /// Everything that the link sees, as news for the engine; with nodes, its nodes too.
    ///
    /// # Errors
    /// In words: the exporter can't be read, or was not the same cluster all along.
    pub(super) async fn read(&self, nodes: bool) -> Result<Vec<RemoteEvent>, String> {
        let task = SessionTask { nodes, ..self.task.clone() };
        let listing = list_once(&self.client, &task).await.map_err(|failure| failure.message)?;
        let connected = RemoteEvent::Connected {
            cluster_uid: listing.cluster_uid.clone(),
            server_version: listing.server_version,
            credentials_expire_at: self.expires_at,
            own_server: false,
        };
        let listed = RemoteEvent::Listed {
            cluster_uid: listing.cluster_uid,
            versions: BTreeMap::new(),
            services: listing.services,
            slices: listing.slices,
        };
        Ok([connected, listed].into_iter().chain(listing.nodes.map(RemoteEvent::NodesListed)).collect())
    }

    /// The slices that carry a binding's label, as they stand, whether the link's selector takes them or
    /// not; and whether those are all there are over there, as the link is not held to some namespaces.
    ///
    /// # Errors
    /// In words: the exporter can't be read.
    pub(in crate::cli) async fn published(&self) -> Result<(BTreeMap<Key, Value>, bool), String> {
        let published = list_published(&self.client, &self.task).await.map_err(|failure| failure.message)?;
        Ok((published, self.task.namespaces.is_none()))
    }

    /// A Service over there whether the link's selector takes it or not, as far as its account may
    /// look; none where there is none of that name.
    ///
    /// # Errors
    /// In words: the exporter can't be asked.
    pub(in crate::cli) async fn origin(&self, key: &Key) -> Result<Option<Origin>, String> {
        let services: Api<OriginWire> = Api::namespaced(self.client.clone(), &key.namespace);
        match services.get_opt(&key.name).await {
            Ok(found) => Ok(found.and_then(Wire::into_model).map(|(_, origin)| origin)),
            Err(e) => Err(Failure::from(&e).message),
        }
    }
}
