//! `ClusterLink`: which remote cluster, what of it may be seen, and what happens when it is lost.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    names::{EXPORT_LABEL, EXPORT_VALUE},
    schema,
};

/// The selector in force where none is written: Services that consent to their export.
#[must_use]
pub fn export_selector() -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(EXPORT_LABEL.to_owned(), EXPORT_VALUE.to_owned())])),
        match_expressions: None,
    }
}

/// Which remote cluster, with which credentials, and how careful to be with it.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "heliostat.dev",
    version = "v1alpha1",
    kind = "ClusterLink",
    plural = "clusterlinks",
    shortname = "hlink",
    category = "heliostat",
    status = "ClusterLinkStatus",
    derive = "PartialEq",
    label("app.kubernetes.io/name", "heliostat"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the remote's state is known"),
    printcolumn(name = "Connected", type_ = "string", json_path = ".status.conditions[?(@.type==\"Connected\")].status", description = "Whether the remote answers"),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.services.mirrored", description = "How many mirrors there are"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "How old the object is"),
    validation = Rule::new(schema::LINK_NAME.0).message(schema::LINK_NAME.1),
    doc = "ClusterLink links this cluster (the importer) to another one (the exporter): what is read there, and who may use it here. Its name is the suffix of the mirrors' names."
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLinkSpec {
    /// The Secret with the kubeconfig of the remote cluster, in the controller's own namespace.
    pub kubeconfig_secret_ref: SecretKeyRef,

    /// What the link may see of the remote cluster at all; policies only narrow it.
    #[serde(default)]
    pub services: LinkServices,

    /// Whose MirrorPolicies may use this link.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// Whether a policy outside the controller's namespace sees only the remote namespace of its
    /// own name. Default true: namespaces of one name are taken to have the same owner in both
    /// clusters.
    #[serde(default = "yes")]
    pub namespace_sameness: bool,

    /// The uid of the remote cluster's kube-system namespace. heliostat link writes it; if
    /// absent, the one found at first contact is pinned in status. While another cluster answers,
    /// everything is frozen (RemoteIdentityChanged); changing this value is the only way to
    /// acknowledge a rebuilt cluster.
    #[serde(default, rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub cluster_uid: Option<String>,

    /// What happens when the state of the remote cluster has been unknown for long.
    #[serde(default)]
    pub on_loss: OnLoss,

    /// Holds back mass deletions: resyncs that within 10 minutes would delete more of the link's
    /// mirrors than both numbers are held until the origins return, or until the annotation
    /// heliostat.dev/allow-deletion carries the token shown in the condition DeletionHeld. A listing
    /// whose resourceVersion went back, as after a restore from a backup, deletes nothing at all.
    #[serde(default)]
    pub deletion_guard: DeletionGuard,

    /// What becomes of the mirrors when this link is deleted. Delete (default): mirrors carry an
    /// ownerReference to the link, so that Kubernetes removes them even with the controller down.
    /// Orphan: they stay as they are.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Which addresses told by the remote cluster are accepted. Loopback, link-local, multicast
    /// and cloud metadata addresses never are.
    #[serde(default)]
    pub addresses: AddressRules,

    /// Bounds on what is taken over from the remote cluster.
    #[serde(default)]
    pub limits: Limits,

    /// How the gateway addresses in use are probed: where the exporter runs Heliostat, by asking through
    /// the gateway which cluster is behind it; else by opening a TCP connection. An address that does
    /// not answer is marked not ready in mirrors that have another one.
    #[serde(default)]
    pub probe: Probe,

    /// Stops all reading and writing for this link; its mirrors stay as they are. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// A key of a Secret.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// The key in it that holds the kubeconfig. Default kubeconfig.
    #[serde(default = "default_secret_key")]
    #[schemars(schema_with = "schema::secret_key")]
    pub key: String,
}

/// What a link may see.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "!(self.matchAll && has(self.selector))",
            "selector and matchAll: true exclude each other: leave one of them out",
        ),
    ])))]
pub struct LinkServices {
    /// Labels that a remote Service must have. Default: heliostat.dev/export: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,

    /// Every Service, whether its owner labelled it for export or not; instead of a selector.
    /// Default false.
    #[serde(default)]
    pub match_all: bool,

    /// The remote namespaces to watch. Default: all, with one watch over the whole cluster. With a
    /// list there is one watch for each, so that a Role in each suffices over there.
    #[serde(default)]
    #[schemars(schema_with = "schema::namespaces")]
    pub namespaces: Vec<String>,
}

impl LinkServices {
    /// The selector in force: the written one, the empty one under `matchAll`, else
    /// [`export_selector`].
    #[must_use]
    pub fn effective_selector(&self) -> LabelSelector {
        match &self.selector {
            Some(selector) => selector.clone(),
            None if self.match_all => LabelSelector::default(),
            None => export_selector(),
        }
    }
}

/// Whose MirrorPolicies may use a link.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "(self.from == 'Selector') == has(self.selector)",
            "selector is required with from: Selector, and allowed with no other value",
        ),
    ])))]
pub struct AllowedNamespaces {
    /// Same (default): only policies in the controller's own namespace. All: policies of every
    /// namespace. Selector: policies in the namespaces that the selector picks.
    #[serde(default)]
    pub from: NamespacesFrom,

    /// Labels that a namespace must have; with from: Selector, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are meant.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamespacesFrom {
    /// The controller's own namespace only.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces that the selector picks.
    Selector,
}

/// What happens when the remote's state has been unknown for long.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct OnLoss {
    /// Keep (default): mirrors stay as they are. NotReady: their endpoints are marked not ready.
    /// Delete: mirrors are deleted, whatever the deletion guard says.
    pub action: LossAction,

    /// How long the remote's state must have been unknown, as a Go duration (30s, 5m, 1h30m).
    /// Default 5m. The clock stands still while the link is suspended.
    #[schemars(schema_with = "schema::seconds")]
    pub after: String,
}

impl Default for OnLoss {
    fn default() -> Self {
        Self { action: LossAction::default(), after: "5m".to_owned() }
    }
}

/// What is done to the mirrors of a lost link.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossAction {
    /// They stay as they are.
    #[default]
    Keep,
    /// Their endpoints are marked not ready.
    NotReady,
    /// They are deleted.
    Delete,
}

/// How many deletions in one go are too many.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionGuard {
    /// Deletions up to this percentage of the link's mirrors pass. Default 30; with 100 any number
    /// passes, but for what a listing lacks whose resourceVersion went back.
    #[schemars(schema_with = "schema::int::<0, 100>")]
    pub max_percent: u32,

    /// Deletions up to this number pass, whatever the percentage. Default 5.
    #[schemars(schema_with = "schema::int::<0, 100_000>")]
    pub min_count: u32,
}

impl Default for DeletionGuard {
    fn default() -> Self {
        Self { max_percent: 30, min_count: 5 }
    }
}

/// What becomes of the mirrors when their link is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeletionPolicy {
    /// Kubernetes deletes them.
    #[default]
    Delete,
    /// They stay, unmanaged.
    Orphan,
}

/// Which addresses are accepted from a remote.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressRules {
    /// Ranges (CIDR) within this cluster's own pod, service and node ranges that are accepted
    /// nevertheless. It lifts that refusal only; other addresses need no entry here. Default none.
    #[schemars(schema_with = "schema::cidrs")]
    pub allow: Vec<String>,

    /// Ranges (CIDR) that are never accepted, whatever allow says. Default none.
    #[schemars(schema_with = "schema::cidrs")]
    pub deny: Vec<String>,
}

/// Bounds on what is taken over from a remote.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// The most Services that are mirrored over this link; those beyond are skipped with
    /// QuotaExceeded, the ones already mirrored coming first. Default 10000.
    #[schemars(schema_with = "schema::int::<1, 100_000>")]
    pub services: u32,

    /// The most endpoints that a mirror takes over from its origin. Default 1000.
    #[schemars(schema_with = "schema::int::<1, 10_000>")]
    pub endpoints_per_service: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { services: 10_000, endpoints_per_service: 1_000 }
    }
}

/// How gateway addresses are probed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::PROBE_TIMEOUT])))]
pub struct Probe {
    /// Time from one probe of an address to the next, give or take a tenth, as a Go duration.
    /// Default 10s.
    #[schemars(schema_with = "schema::seconds")]
    pub period: String,

    /// How long a probe waits for an answer, as a Go duration. Default 2s.
    #[schemars(schema_with = "schema::tenths")]
    pub timeout: String,

    /// After how many failed probes in a row an address counts as unreachable; one success is enough
    /// to be reachable. Default 3.
    #[schemars(schema_with = "schema::int::<1, 100>")]
    pub failure_threshold: u32,

    /// Switches probing off. Default false.
    pub disabled: bool,
}

impl Default for Probe {
    fn default() -> Self {
        Self { period: "10s".to_owned(), timeout: "2s".to_owned(), failure_threshold: 3, disabled: false }
    }
}

/// What the controller knows of a link.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterLinkStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,

    /// Ready, Accepted, CredentialsValid, Connected and Synced; Reachable while gateway addresses
    /// are probed; DeletionHeld while deletions are held back; Stalled and Reconciling only while
    /// True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The uid of the remote cluster's kube-system namespace, as found.
    #[serde(rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::told_name")]
    pub cluster_uid: Option<String>,

    /// The version that the remote API server tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::told_name")]
    pub server_version: Option<String>,

    /// When the client certificate or token in the kubeconfig runs out, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub credentials_expire_at: Option<Time>,

    /// How many Services there are over this link, over all policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<LinkServiceCounts>,

    /// The gateway addresses in use, at most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = super::MAX_LISTED, "x-kubernetes-list-type" = "atomic"))]
    pub gateways: Vec<GatewayStatus>,

    /// When the link last came into sync; it moves only when Synced turns True.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_sync_time: Option<Time>,

    /// The value of the annotation heliostat.dev/reconcile-requested-at that was last acted upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::told_text")]
    pub last_handled_reconcile_at: Option<String>,
}

/// Counts of a link's Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkServiceCounts {
    /// Remote Services that the link sees.
    #[schemars(schema_with = "schema::count")]
    pub seen: u32,
    /// Mirrors that exist for them.
    #[schemars(schema_with = "schema::count")]
    pub mirrored: u32,
    /// Services that a policy matches but that can't be mirrored; the policies' failures say why.
    #[schemars(schema_with = "schema::count")]
    pub skipped: u32,
    /// Services whose mirror's name is somebody else's.
    #[schemars(schema_with = "schema::count")]
    pub conflicted: u32,
}

/// A gateway address in use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayStatus {
    /// The GatewayBinding that it comes from.
    #[schemars(schema_with = "schema::told_name")]
    pub binding: String,
    /// The IP address or hostname.
    #[schemars(schema_with = "schema::told_name")]
    pub address: String,
    /// Whether the last probes came through; absent before the first, while probing is off, and while
    /// nothing answers anywhere, so that it may be the controller that is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
}

fn yes() -> bool {
    true
}

fn default_secret_key() -> String {
    "kubeconfig".to_owned()
}
