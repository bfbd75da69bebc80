//! What a link consists of, as objects: the read-only account in the exporter, and the Secret and
//! ClusterLink in the importer. Pure: nothing is read or written here.

use k8s_openapi::api::{
    core::v1::{Namespace, Secret, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::account::Account;
use crate::{
    api::{
        ClusterLink,
        link::NamespacesFrom,
        names::{EXPORTER_ACCOUNT_ANNOTATION, EXPORTER_CONTEXT_ANNOTATION},
    },
    cli::output,
};

/// What stands where the token will be; not a token by its form.
pub(super) const TOKEN_PLACEHOLDER: &str = "HELIOSTAT_LINK_TOKEN";
/// Key of the kubeconfig in the importer's Secret, the default of `kubeconfigSecretRef.key`.
pub(super) const SECRET_KEY: &str = "kubeconfig";
const RBAC: &str = "rbac.authorization.k8s.io";

/// The cluster that an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Side {
    /// The cluster whose services are mirrored.
    Exporter,
    /// The cluster in which the mirrors appear.
    Importer,
}

impl Side {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::Importer => "importer",
        }
    }
}

/// An object of the link.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Where it belongs.
    pub(super) side: Side,
    /// What it is for, in one line.
    pub(super) purpose: &'static str,
    /// Its kind.
    pub(super) resource: ApiResource,
    /// apiVersion, kind, metadata and the rest.
    pub(super) body: Value,
}

impl Document {
    fn new<K: kube::Resource<DynamicType = ()>>(side: Side, purpose: &'static str, mut body: Value) -> Self {
        let resource = ApiResource::erase::<K>(&());
        body["apiVersion"] = json!(resource.api_version);
        body["kind"] = json!(resource.kind);
        Self { side, purpose, resource, body }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.body["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its namespace; none where the kind is cluster-scoped.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.body["metadata"]["namespace"].as_str()
    }

    /// `Kind [namespace/]name`, for messages.
    pub(super) fn title(&self) -> String {
        title(&self.resource, self.namespace(), self.name())
    }

    /// As the API takes it.
    pub(super) fn object(&self) -> anyhow::Result<DynamicObject> {
        Ok(serde_json::from_value(self.body.clone())?)
    }
}

/// `Kind [namespace/]name`, for messages.
pub(in crate::cli) fn title(resource: &ApiResource, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", resource.kind),
        None => format!("{} {name}", resource.kind),
    }
}

/// All that decides what a link's objects look like.
#[derive(Clone, Debug)]
pub(super) struct Manifests {
    /// Whose account it is.
    pub(super) account: Account,
    /// Namespace of the account, in the exporter.
    pub(super) account_namespace: String,
    /// Name of the Secret in the exporter that holds the token.
    pub(super) token_secret: String,
    /// The account may read nodes.
    pub(super) nodes: bool,
    /// Namespaces that the account may read; none: all.
    pub(super) service_namespaces: Vec<String>,
    /// uid of the exporter's kube-system namespace.
    pub(super) exporter_uid: String,
    /// The context by which the user reaches the exporter.
    pub(super) exporter_context: Option<String>,
    /// URL of the exporter's API server, as the importer's controller reaches it.
    pub(super) server: String,
    /// The exporter's certificate authority, PEM.
    pub(super) ca: Vec<u8>,
    /// Name in the API server's certificate, where it is not the URL's host.
    pub(super) server_name: Option<String>,
    /// The controller's namespace, in the importer.
    pub(super) namespace: String,
    /// Whose policies may use the link, where the user says so.
    pub(super) allow: Option<NamespacesFrom>,
}

impl Manifests {
    /// Name of the importer's Secret.
    pub(super) fn secret_name(&self) -> String {
        format!("{}-kubeconfig", self.account.link)
    }

    /// The exporter's objects, in the order in which they can be made.
    pub(super) fn exporter(&self) -> Vec<Document> {
        let mut documents = vec![
            Document::new::<Namespace>(
                Side::Exporter,
                "Home of the account; made only if there is none of that name.",
                json!({"metadata": {"name": self.account_namespace}}),
            ),
            Document::new::<ServiceAccount>(
                Side::Exporter,
                "Who the importer is over here.",
                json!({
                    "metadata": self.meta(Some(&self.account_namespace)),
                    "automountServiceAccountToken": false,
                }),
            ),
        ];
        documents.push(self.cluster_role());
        documents.push(self.binding(None));
        for namespace in &self.service_namespaces {
            documents.push(self.role(namespace));
            documents.push(self.binding(Some(namespace)));
        }
        documents.push(self.token());
        documents
    }

    /// The importer's objects.
    pub(super) fn importer(&self, token: &str) -> anyhow::Result<Vec<Document>> {
        Ok(vec![self.secret(token)?, self.link()])
    }

    /// The closed kubeconfig: one cluster, user and context, everything inline.
    pub(super) fn kubeconfig(&self, token: &str) -> anyhow::Result<String> {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        let mut cluster = json!({"server": self.server, "certificate-authority-data": ca});
        if let Some(name) = &self.server_name {
            cluster["tls-server-name"] = json!(name);
        }
        let (link, user) = (&self.account.link, self.account.name());
        output::yaml(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": link, "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": link, "context": {"cluster": link, "user": user}}],
            "current-context": link,
        }))
    }

    fn meta(&self, namespace: Option<&str>) -> Value {
        let mut meta = json!({
            "name": self.account.name(),
            "labels": self.account.labels(),
            "annotations": self.account.annotations(),
        });
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(namespace);
        }
        meta
    }

    fn cluster_role(&self) -> Document {
        let mut rules = Vec::new();
        if self.service_namespaces.is_empty() {
            rules.extend(service_rules());
        }
        if self.nodes {
            rules.push(read(&[""], &["nodes"]));
        }
        rules.push(json!({
            "apiGroups": [""], "resources": ["namespaces"],
            "resourceNames": ["kube-system"], "verbs": ["get"],
        }));
        let purpose = if self.nodes {
            "All that it may do: read services, and nodes for those reached by node ports (--no-nodes leaves that out)."
        } else {
            "All that it may do; services reached by node ports would need nodes as well."
        };
        let body = json!({"metadata": self.meta(None), "rules": rules});
        Document::new::<ClusterRole>(Side::Exporter, purpose, body)
    }

    fn role(&self, namespace: &str) -> Document {
        let body = json!({
            "metadata": self.meta(Some(namespace)),
            "rules": Vec::from(service_rules()),
        });
        let purpose = "What it may read in this namespace.";
        Document::new::<Role>(Side::Exporter, purpose, body)
    }

    /// Gives the account its Role in a namespace, or its ClusterRole.
    fn binding(&self, namespace: Option<&str>) -> Document {
        let name = self.account.name();
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let body = json!({
            "metadata": self.meta(namespace),
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [{
                "kind": "ServiceAccount", "name": name, "namespace": self.account_namespace,
            }],
        });
        let purpose = "Gives it those rights.";
        match namespace {
            Some(_) => Document::new::<RoleBinding>(Side::Exporter, purpose, body),
            None => Document::new::<ClusterRoleBinding>(Side::Exporter, purpose, body),
        }
    }

    fn token(&self) -> Document {
        let mut metadata = self.meta(Some(&self.account_namespace));
        metadata["name"] = json!(self.token_secret);
        metadata["annotations"]["kubernetes.io/service-account.name"] = json!(self.account.name());
        Document::new::<Secret>(
            Side::Exporter,
            "Kubernetes puts the account's token here. It does not expire; deleting this Secret revokes it.",
            json!({"metadata": metadata, "type": "kubernetes.io/service-account-token"}),
        )
    }

    fn secret(&self, token: &str) -> anyhow::Result<Document> {
        let account = format!("{}/{}", self.account_namespace, self.account.name());
        let mut annotations = json!({EXPORTER_ACCOUNT_ANNOTATION: account});
        if let Some(context) = &self.exporter_context {
            annotations[EXPORTER_CONTEXT_ANNOTATION] = json!(context);
        }
        Ok(Document::new::<Secret>(
            Side::Importer,
            "With what the controller reads the exporter.",
            json!({
                "metadata": {
                    "name": self.secret_name(),
                    "namespace": self.namespace,
                    "labels": self.account.labels(),
                    "annotations": annotations,
                },
                "type": "Opaque",
                "stringData": {SECRET_KEY: self.kubeconfig(token)?},
            }),
        ))
    }

    fn link(&self) -> Document {
        let mut spec = json!({
            "kubeconfigSecretRef": {"name": self.secret_name(), "key": SECRET_KEY},
            "clusterUID": self.exporter_uid,
        });
        if !self.service_namespaces.is_empty() {
            spec["services"] = json!({"namespaces": self.service_namespaces});
        }
        if let Some(from) = self.allow {
            spec["allowedNamespaces"] = json!({"from": from});
        }
        let body = json!({"metadata": {"name": self.account.link}, "spec": spec});
        let purpose = "The link itself. MirrorPolicies say what is mirrored over it.";
        Document::new::<ClusterLink>(Side::Importer, purpose, body)
    }
}

fn read(groups: &[&str], resources: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": ["get", "list", "watch"]})
}

fn service_rules() -> [Value; 2] {
    [read(&[""], &["services"]), read(&["discovery.k8s.io"], &["endpointslices"])]
}

/// The documents as one YAML stream, each under a comment that says where it belongs.
pub(super) fn render(documents: &[Document]) -> anyhow::Result<String> {
    let mut stream = String::new();
    for document in documents {
        stream +=
            &format!("---\n# {}: {}\n{}", document.side.as_str(), document.purpose, output::yaml(&document.body)?);
    }
    Ok(stream)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::link) fn manifests() -> Manifests {
        Manifests {
            account: Account {
                link: "east".to_owned(),
                importer_uid: "1b9f03aa-7c1e-4d11-9a53-0123456789ab".to_owned(),
            },
            account_namespace: "heliostat-system".to_owned(),
            token_secret: "heliostat-link-east-1b9f03aa".to_owned(),
            nodes: true,
            service_namespaces: Vec::new(),
            exporter_uid: "e-uid".to_owned(),
            exporter_context: Some("east".to_owned()),
            server: "https://192.0.2.1:6443".to_owned(),
            ca: b"CA".to_vec(),
            server_name: None,
            namespace: "heliostat-system".to_owned(),
            allow: None,
        }
    }

    /// Every (verb, resource) that the exporter's objects allow, with the object that does.
    fn rights(documents: &[Document]) -> Vec<String> {
        let mut rights = Vec::new();
        for document in documents {
            let place = document.namespace().unwrap_or("*");
            for rule in document.body["rules"].as_array().into_iter().flatten() {
                let words = |key: &str| {
                    let list = rule[key].as_array().cloned().unwrap_or_default();
                    list.iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(",")
                };
                rights.push(
                    format!("{place}: {} {} {}", words("verbs"), words("resources"), words("resourceNames"))
                        .trim_end()
                        .to_owned(),
                );
            }
        }
        rights
    }

    #[test]
    fn the_account_may_read_what_the_design_says_and_nothing_else() {
        assert_eq!(
            rights(&manifests().exporter()),
            [
                "*: get,list,watch services",
                "*: get,list,watch endpointslices",
                "*: get,list,watch nodes",
                "*: get namespaces kube-system",
            ]
        );
    }

    #[test]
    fn without_nodes_and_with_namespaces_it_may_read_less() {
        let narrow = Manifests { nodes: false, service_namespaces: vec!["shop".to_owned()], ..manifests() };
        assert_eq!(
            rights(&narrow.exporter()),
            ["*: get namespaces kube-system", "shop: get,list,watch services", "shop: get,list,watch endpointslices",]
        );
        let link = &narrow.importer("t").unwrap()[1].body;
        assert_eq!(link["spec"]["services"], json!({"namespaces": ["shop"]}));
    }

    #[test]
    fn every_binding_gives_the_account_the_role_beside_it() {
        let narrow = Manifests { service_namespaces: vec!["shop".to_owned()], ..manifests() };
        let documents = narrow.exporter();
        let bindings: Vec<_> = documents.iter().filter(|d| d.body.get("roleRef").is_some()).collect();
        assert_eq!(bindings.len(), 2);
        for binding in bindings {
            let role = &binding.body["roleRef"];
            assert!(documents.iter().any(|d| d.resource.kind == role["kind"]
                && d.name() == role["name"]
                && d.namespace() == binding.namespace()));
            assert_eq!(
                binding.body["subjects"],
                json!([{"kind": "ServiceAccount", "name": "heliostat-link-east-1b9f03aa", "namespace": "heliostat-system"}])
            );
        }
    }

    #[test]
    fn the_kubeconfig_has_one_of_each_and_names_no_file() {
        let text = Manifests { server_name: Some("k".to_owned()), ..manifests() }.kubeconfig("tok").unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "east",
                "clusters": [{"name": "east", "cluster": {
                    "server": "https://192.0.2.1:6443",
                    "certificate-authority-data": "Q0E=",
                    "tls-server-name": "k",
                }}],
                "users": [{"name": "heliostat-link-east-1b9f03aa", "user": {"token": "tok"}}],
                "contexts": [{"name": "east", "context": {"cluster": "east", "user": "heliostat-link-east-1b9f03aa"}}],
            })
        );
    }

    #[test]
    fn the_stream_is_yaml_and_says_where_each_document_belongs() {
        let all = [manifests().exporter(), manifests().importer(TOKEN_PLACEHOLDER).unwrap()].concat();
        let text = render(&all).unwrap();
        let parsed: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let bodies: Vec<Value> = all.iter().map(|d| d.body.clone()).collect();
        assert_eq!(parsed, bodies);
        let sides: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# ")?.split(':').next()).collect();
        assert_eq!(sides, ["exporter"; 5].into_iter().chain(["importer"; 2]).collect::<Vec<_>>());
        assert_eq!(text.matches(TOKEN_PLACEHOLDER).count(), 1);
    }

    #[test]
    fn the_link_pins_the_exporter_and_reads_the_secret_beside_it() {
        let documents = Manifests { allow: Some(NamespacesFrom::All), ..manifests() }.importer("t").unwrap();
        let (secret, link) = (&documents[0], &documents[1]);
        assert_eq!(secret.title(), "Secret heliostat-system/east-kubeconfig");
        assert_eq!(link.title(), "ClusterLink east");
        assert_eq!(
            link.body["spec"],
            json!({
                "kubeconfigSecretRef": {"name": "east-kubeconfig", "key": "kubeconfig"},
                "clusterUID": "e-uid",
                "allowedNamespaces": {"from": "All"},
            })
        );
    }
}
