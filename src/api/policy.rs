//! `MirrorPolicy`: which services of the linked clusters are mirrored, and as what.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// The default of `spec.mirror.name`.
pub const DEFAULT_NAME: &str = "{service}-{link}";
/// The default of `spec.mirror.namespace`.
pub const DEFAULT_NAMESPACE: &str = "{namespace}";

/// Which services of which links are mirrored, and as what.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "heliostat.dev",
    version = "v1alpha1",
    kind = "MirrorPolicy",
    plural = "mirrorpolicies",
    shortname = "hmirror",
    category = "heliostat",
    namespaced,
    status = "MirrorPolicyStatus",
    derive = "PartialEq",
    label("app.kubernetes.io/name", "heliostat"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether every match is decided and written"),
    printcolumn(name = "Mirrored", type_ = "integer", json_path = ".status.services.mirrored", description = "How many mirrors there are"),
    printcolumn(name = "Skipped", type_ = "integer", json_path = ".status.services.skipped", description = "How many services can't be mirrored"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "How old the object is"),
    validation = Rule::new(schema::POLICY_NAME.0).message(schema::POLICY_NAME.1),
    doc = "MirrorPolicy says which Services of the linked clusters appear in this one, and under which names. It mirrors into its own namespace only; a policy in the controller's namespace may mirror into any but kube-* and the controller's own."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("self.bindings.size() == 0 || 'Gateway' in self.via", "bindings name gateways: they need Gateway among via"),
])))]
pub struct MirrorPolicySpec {
    /// The ClusterLinks to mirror from: by name or by labels.
    pub links: LinkRefs,

    /// Which of the Services that the link sees are mirrored. Default: all of them.
    #[serde(default)]
    pub services: PolicyServices,

    /// The ways into the remote cluster, in order of preference; the first that yields an address
    /// is taken. Gateway: through a gateway, by a GatewayBinding. Service: by the origin's own load
    /// balancer or node port. Direct: to the pods themselves, which needs a flat network. Default
    /// Gateway, then Service.
    #[serde(default = "default_via")]
    #[schemars(schema_with = "schema::ways")]
    pub via: Vec<Way>,

    /// Which GatewayBindings may carry the traffic, in order of preference. Default: all, by name.
    #[serde(default)]
    #[schemars(schema_with = "schema::binding_names")]
    pub bindings: Vec<String>,

    /// Name, namespace and metadata of the mirrors.
    #[serde(default)]
    pub mirror: MirrorTemplate,

    /// Only tells in status what would change: nothing is written, existing mirrors stay as they
    /// are. Default false.
    #[serde(default)]
    pub preview: bool,

    /// Stops all writing for this policy; its mirrors stay as they are. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// ClusterLinks by name or by labels; exactly one of the two.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "has(self.names) != has(self.selector)",
            "exactly one of names and selector is required",
        ),
    ])))]
pub struct LinkRefs {
    /// The names of the ClusterLinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::link_names")]
    pub names: Option<Vec<String>>,

    /// Labels that a ClusterLink must have. Links that don't admit this policy's namespace are left
    /// out silently; matching none is not an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// What of a link is mirrored.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyServices {
    /// Labels that a remote Service must have, beyond what the link asks for. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,

    /// Remote namespaces. Default: the one named like this policy's own; for a policy in the
    /// controller's namespace, all but kube-*.
    #[schemars(schema_with = "schema::namespaces")]
    pub namespaces: Vec<String>,

    /// The ports to mirror, by name or number. Default: all.
    #[schemars(schema_with = "schema::ports")]
    pub ports: Vec<String>,
}

/// A way into the exporter.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Through a gateway, by a binding.
    Gateway,
    /// By the origin's own load balancer or node port.
    Service,
    /// To the pods themselves.
    Direct,
}

impl Way {
    /// The name as it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::Service => "Service",
            Self::Direct => "Direct",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What mirrors look like.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorTemplate {
    /// The mirror's name, with the variables {service} (required), {namespace} and {link}. Default
    /// {service}-{link}. Names over 63 characters are cut and end in a hash.
    #[schemars(schema_with = "schema::mirror_name")]
    pub name: String,

    /// The mirror's namespace, with the variables {namespace}, {service} and {link}. Default
    /// {namespace}, the origin's. Only for policies in the controller's namespace; elsewhere
    /// mirrors always go into the policy's own.
    #[schemars(schema_with = "schema::mirror_namespace")]
    pub namespace: String,

    /// Keys of labels that are copied from the origin; group/* stands for all keys of a group.
    /// Default none. Keys that would have an effect here (Kubernetes, Helm, Argo CD, Flux, load
    /// balancers, ...) are never copied.
    #[schemars(schema_with = "schema::copied_keys")]
    pub labels: Vec<String>,

    /// Keys of annotations that are copied from the origin, by the same rules as labels. Default
    /// none.
    #[schemars(schema_with = "schema::copied_keys")]
    pub annotations: Vec<String>,
}

impl Default for MirrorTemplate {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            labels: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

/// What the controller made of a policy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorPolicyStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,

    /// Ready, Accepted, ResolvedRefs and Programmed; Stalled and Reconciling only while True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// How many Services this policy matches, and what became of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<PolicyServiceCounts>,

    /// What could not be mirrored, or only in part, and why; at most 32 entries. heliostat
    /// explain tells of every single Service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = super::MAX_LISTED, "x-kubernetes-list-type" = "atomic"))]
    pub failures: Vec<PolicyFailure>,
}

/// Counts of a policy's Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyServiceCounts {
    /// Remote Services that the policy matches.
    #[schemars(schema_with = "schema::count")]
    pub matched: u32,
    /// Mirrors that exist for them, with or without a way.
    #[schemars(schema_with = "schema::count")]
    pub mirrored: u32,
    /// Services that can't be mirrored; failures say why.
    #[schemars(schema_with = "schema::count")]
    pub skipped: u32,
    /// Services whose mirror's name is somebody else's.
    #[schemars(schema_with = "schema::count")]
    pub conflicted: u32,
}

/// Something that could not be mirrored, or only in part.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyFailure {
    /// The ClusterLink.
    #[schemars(schema_with = "schema::told_name")]
    pub link: String,
    /// The origin's namespace.
    #[schemars(schema_with = "schema::told_name")]
    pub namespace: String,
    /// The origin's name.
    #[schemars(schema_with = "schema::told_name")]
    pub name: String,
    /// Why, as one word.
    #[schemars(schema_with = "schema::told_name")]
    pub reason: String,
    /// Why, in words, with what to do next.
    #[schemars(schema_with = "schema::told_message")]
    pub message: String,
}

fn default_via() -> Vec<Way> {
    vec![Way::Gateway, Way::Service]
}
