//! Who a cluster is: the uid of its kube-system namespace, which lives as long as the cluster.

use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    api::Reason,
    cluster::{failure::Failure, own::OwnCluster, text::clean, wire::is_uid},
};

/// How long each of these small questions may take, connection included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest version that is taken over from a remote, in characters.
const MAX_VERSION: usize = 64;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: String,
    pub(super) version: String,
}

impl Identity {
    pub(super) async fn ask(client: &Client) -> Result<Self, Failure> {
        let uid = Self::uid(client).await?;
        let version = get(client, "/version").await?;
        Ok(Self { uid, version: clean(version["gitVersion"].as_str().unwrap_or("unknown"), MAX_VERSION) })
    }

    /// uid of the cluster's kube-system.
    pub(super) async fn uid(client: &Client) -> Result<String, Failure> {
        let namespace = get(client, "/api/v1/namespaces/kube-system").await?;
        match namespace["metadata"]["uid"].as_str() {
            Some(uid) if is_uid(uid) => Ok(uid.to_owned()),
            _ => Err(Failure::new(
                Reason::RemoteUnreachable,
                "the server has no kube-system namespace with a uid; it is no Kubernetes API server",
            )),
        }
    }

    /// This cluster.
    pub(super) fn own(own: &OwnCluster) -> Self {
        let (uid, version) = own.identity();
        Self { uid, version }
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, Failure> {
    let ask = async { client.request(Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?).await };
    match timeout(DEADLINE, ask).await {
        Ok(answer) => answer.map_err(|error| Failure::from(&error)),
        Err(_) => {
            let message = format!("the API server does not answer within {} s", DEADLINE.as_secs());
            Err(Failure::new(Reason::RemoteUnreachable, message))
        }
    }
}
