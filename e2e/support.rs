//! A test's own place in both clusters: namespaces, a read-only account in the exporter, a link with
//! that account's token, and a policy. All of it is named after the test.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    objects::{Objects, wait},
    rig,
};

/// The controller's namespace.
pub(crate) const HOME: &str = "heliostat-system";

/// A client of a cluster's administrator.
pub(crate) async fn client(cluster: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(rig::file(cluster, "kubeconfig")).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.proxy_url = None;
    Client::try_from(config).unwrap()
}

/// The place of one test.
pub(crate) struct Case {
    /// Name of the test's link, and of its namespace in both clusters.
    pub(crate) name: String,
    /// Administrator of the importer.
    pub(crate) west: Client,
    /// Administrator of the exporter.
    pub(crate) east: Client,
}

impl Case {
    /// The usual fixture: namespaces, a link that any namespace may use, and the policy `all`.
    pub(crate) async fn new(name: &str) -> Self {
        let case = Self::bare(name).await;
        namespace(&case.west, name).await;
        case.link(name, json!({})).await;
        case.policy("all", json!({})).await;
        // The new account's rights have to get about in the exporter first.
        case.link_says("Synced", "True", "InSync", Duration::from_secs(10)).await;
        case
    }

    /// Only a namespace in the exporter with the link's account; what an earlier run left is removed.
    pub(crate) async fn bare(name: &str) -> Self {
        let (west, east) = (client("west").await, client("east").await);
        let case = Self { name: name.to_owned(), west, east };
        case.clear().await;
        namespace(&case.east, name).await;
        account(&case.east, name).await;
        case
    }

    async fn clear(&self) {
        let of_case = |object: &Value| object["metadata"]["labels"]["case"] == *self.name;
        for collection in [Objects::links(&self.west), Objects::secrets(&self.west, HOME)] {
            let left = collection.all().await.into_iter().filter(|(_, object)| of_case(object));
            for (name, _) in left {
                collection.remove(&name).await;
            }
        }
        Objects::policies(&self.west, HOME).remove(&self.name).await;
        for cluster in [&self.west, &self.east] {
            for name in [self.name.clone(), format!("{}-b", self.name)] {
                remove_namespace(cluster, &name).await;
            }
        }
    }

    /// Links east under a name: the Secret with the kubeconfig of the test's account, and the
    /// ClusterLink, which sees the test's namespace only, with changes.
    pub(crate) async fn link(&self, name: &str, change: Value) -> Value {
        self.secret(name).await;
        self.link_object(name, change).await
    }

    /// The Secret of a link.
    pub(crate) async fn secret(&self, link: &str) {
        let kubeconfig = kubeconfig(&self.east, &self.name).await;
        let secret = json!({
            "metadata": {"name": format!("{link}-kubeconfig"), "labels": {"case": self.name}},
            "data": {"kubeconfig": STANDARD.encode(kubeconfig.to_string())},
        });
        Objects::secrets(&self.west, HOME).create(&secret).await;
    }

    /// The ClusterLink alone.
    pub(crate) async fn link_object(&self, name: &str, change: Value) -> Value {
        let mut link = json!({
            "apiVersion": "heliostat.dev/v1alpha1",
            "kind": "ClusterLink",
            "metadata": {"name": name, "labels": {"case": self.name}},
            "spec": {
                "kubeconfigSecretRef": {"name": format!("{name}-kubeconfig")},
                "services": {"namespaces": [self.name]},
                "allowedNamespaces": {"from": "All"},
            },
        });
        merge(&mut link["spec"], change);
        Objects::links(&self.west).create(&link).await
    }

    /// A policy over the test's link, in the test's namespace, with changes to its spec.
    pub(crate) async fn policy(&self, name: &str, change: Value) -> Value {
        self.policy_in(&self.name, name, change).await
    }

    /// The same in another namespace.
    pub(crate) async fn policy_in(&self, namespace: &str, name: &str, change: Value) -> Value {
        let mut policy = json!({
            "apiVersion": "heliostat.dev/v1alpha1",
            "kind": "MirrorPolicy",
            "metadata": {"name": name},
            "spec": {"links": {"names": [self.name]}},
        });
        merge(&mut policy["spec"], change);
        Objects::policies(&self.west, namespace).create(&policy).await
    }
}

/// Makes a namespace.
pub(crate) async fn namespace(cluster: &Client, name: &str) -> Value {
    Objects::at(cluster, "/api/v1/namespaces").create(&json!({"metadata": {"name": name}})).await
}

/// Removes a namespace that may not be there, and waits until it has gone.
pub(crate) async fn remove_namespace(cluster: &Client, name: &str) {
    let namespaces = Objects::at(cluster, "/api/v1/namespaces");
    if namespaces.get(name).await.is_none() {
        return;
    }
    namespaces.remove(name).await;
    wait(&format!("namespace {name} has gone"), Duration::from_secs(12), || async {
        namespaces.get(name).await.map_or(Ok(()), |left| Err(left["status"].clone()))
    })
    .await;
}

/// The account of a link, with the rights that the design gives it and no others: services and
/// slices of one namespace, nodes, and the namespace kube-system.
pub(crate) async fn account(east: &Client, namespace: &str) {
    let at = |path: &str| Objects::at(east, format!("/apis/rbac.authorization.k8s.io/v1/{path}"));
    let name = format!("heliostat-link-{namespace}");
    let subject = json!([{"kind": "ServiceAccount", "name": "link", "namespace": namespace}]);
    let role = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let accounts = Objects::at(east, format!("/api/v1/namespaces/{namespace}/serviceaccounts"));
    accounts.create(&json!({"metadata": {"name": "link"}})).await;
    let roles = at(&format!("namespaces/{namespace}/roles"));
    roles.create(&json!({"metadata": {"name": "link"}, "rules": may_read()})).await;
    let bindings = at(&format!("namespaces/{namespace}/rolebindings"));
    let binding = json!({"metadata": {"name": "link"}, "roleRef": role("Role", "link"), "subjects": subject});
    bindings.create(&binding).await;
    let identity =
        json!({"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]});
    at("clusterroles").remove(&name).await;
    at("clusterroles").create(&json!({"metadata": {"name": name}, "rules": [identity, read("", "nodes")]})).await;
    at("clusterrolebindings").remove(&name).await;
    let binding = json!({"metadata": {"name": name}, "roleRef": role("ClusterRole", &name), "subjects": subject});
    at("clusterrolebindings").create(&binding).await;
}

/// Lets the account of one namespace read another too.
pub(crate) async fn read_also(east: &Client, namespace: &str, other: &str) {
    let at = |path: &str| Objects::at(east, format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{other}/{path}"));
    at("roles").create(&json!({"metadata": {"name": "link"}, "rules": may_read()})).await;
    let subject = json!([{"kind": "ServiceAccount", "name": "link", "namespace": namespace}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "link"});
    at("rolebindings").create(&json!({"metadata": {"name": "link"}, "roleRef": role, "subjects": subject})).await;
}

/// The rules of a Role with which a link sees a namespace.
fn may_read() -> Value {
    json!([read("", "services"), read("discovery.k8s.io", "endpointslices")])
}

fn read(group: &str, resource: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": ["get", "list", "watch"]})
}

/// A kubeconfig for east with a new token of the test's account.
pub(crate) async fn kubeconfig(east: &Client, namespace: &str) -> Value {
    kubeconfig_for("east", east, namespace).await
}

/// The same for a cluster in which the test has an account.
pub(crate) async fn kubeconfig_for(cluster: &str, client: &Client, namespace: &str) -> Value {
    let tokens = Objects::at(client, format!("/api/v1/namespaces/{namespace}/serviceaccounts/link/token"));
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}});
    let token = tokens.create(&request).await["status"]["token"].as_str().unwrap().to_owned();
    let admin: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(rig::file(cluster, "kubeconfig")).unwrap()).unwrap();
    let cluster = &admin["clusters"][0]["cluster"];
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "east",
        "clusters": [{"name": "east", "cluster": {
            "server": cluster["server"],
            "certificate-authority-data": cluster["certificate-authority-data"],
        }}],
        "users": [{"name": "link", "user": {"token": token}}],
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": "link"}}],
    })
}

/// Puts the second over the first, as a merge patch does.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match value {
                    Value::Null => drop(base.remove(&key)),
                    value => merge(base.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (base, over) => *base = over,
    }
}
