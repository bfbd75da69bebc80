//! What this cluster's own API server is: a link must not lead there.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;

/// This cluster, as far as links must know it. Clones share what is known; nothing is known before
/// the first [`Self::refresh`].
#[derive(Clone, Debug)]
pub struct OwnCluster(watch::Sender<Known>);

/// What is known of this cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    uid: String,
    version: String,
    servers: BTreeSet<SocketAddr>,
}

impl Default for OwnCluster {
    fn default() -> Self {
        Self(watch::Sender::new(Known::default()))
    }
}

impl OwnCluster {
    /// Asks this cluster's API server who it is and where it is reached: by Service
    /// `default/kubernetes`, by its endpoints (the API servers themselves), and by the pod's
    /// environment.
    ///
    /// # Errors
    /// When the API server does not answer; what was known stays.
    pub async fn refresh(&self, client: &Client) -> kube::Result<()> {
        let namespace = get(client, "/api/v1/namespaces/kube-system").await?;
        let version = get(client, "/version").await?;
        let service = get(client, "/api/v1/namespaces/default/services/kubernetes").await?;
        let slices = get(
            client,
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes",
        )
        .await?;
        let mut servers = service_addresses(&service);
        servers.extend(list(&slices["items"]).flat_map(slice_addresses));
        servers.extend(environment());
        self.0.send_replace(Known {
            uid: text(&namespace["metadata"]["uid"]),
            version: text(&version["gitVersion"]),
            servers,
        });
        Ok(())
    }

    /// Whether this cluster's API server answers at that address.
    #[must_use]
    pub fn serves(&self, address: SocketAddr) -> bool {
        self.0.borrow().servers.contains(&address)
    }

    #[cfg(test)]
    pub(super) fn knowing(server: SocketAddr) -> Self {
        let (uid, version) = ("own-uid".to_owned(), "own-version".to_owned());
        Self(watch::Sender::new(Known { uid, version, servers: BTreeSet::from([server]) }))
    }

    /// uid of this cluster's kube-system, and the version of its API server.
    #[must_use]
    pub fn identity(&self) -> (String, String) {
        let known = self.0.borrow();
        (known.uid.clone(), known.version.clone())
    }
}

async fn get(client: &Client, path: &str) -> kube::Result<Value> {
    client.request(Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?).await
}

fn service_addresses(service: &Value) -> BTreeSet<SocketAddr> {
    let spec = &service["spec"];
    let addresses: Vec<IpAddr> = list(&spec["clusterIPs"]).chain([&spec["clusterIP"]]).filter_map(address).collect();
    product(&addresses, list(&spec["ports"]))
}

fn slice_addresses(slice: &Value) -> BTreeSet<SocketAddr> {
    let addresses: Vec<IpAddr> =
        list(&slice["endpoints"]).flat_map(|endpoint| list(&endpoint["addresses"])).filter_map(address).collect();
    product(&addresses, list(&slice["ports"]))
}

fn product<'a>(addresses: &[IpAddr], ports: impl Iterator<Item = &'a Value>) -> BTreeSet<SocketAddr> {
    let ports: Vec<u16> = ports.filter_map(|port| port["port"].as_u64()?.try_into().ok()).collect();
    addresses.iter().flat_map(|address| ports.iter().map(|port| SocketAddr::new(*address, *port))).collect()
}

fn environment() -> Option<SocketAddr> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn m18_the_api_server_is_known_by_service_and_endpoints() {
        let service = json!({"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 443}]}});
        let slice = json!({"ports": [{"port": 6443}], "endpoints": [{"addresses": ["172.30.0.2"]}, {"addresses": ["172.30.0.3"]}]});
        let texts = |set: BTreeSet<SocketAddr>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(service_addresses(&service)), ["10.96.0.1:443", "[fd00::1]:443"]);
        assert_eq!(texts(slice_addresses(&slice)), ["172.30.0.2:6443", "172.30.0.3:6443"]);
        assert!(service_addresses(&json!({"spec": {"clusterIP": "None", "ports": [{"port": 70000}, 7]}})).is_empty());
    }
}
