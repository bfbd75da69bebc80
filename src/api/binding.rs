//! `GatewayBinding`: through which gateway services go out of a cluster, or into one.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::link::export_selector;

/// Exactly one of `export` and `import`; which one is immutable.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "heliostat.dev",
    version = "v1alpha1",
    kind = "GatewayBinding",
    plural = "gatewaybindings",
    shortname = "hgw",
    category = "heliostat",
    status = "GatewayBindingStatus",
    derive = "PartialEq",
    doc = "GatewayBinding names a gateway: with export, this cluster's own, which the controller programs for the exported Services; with import, a linked cluster's, described by hand."
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBindingSpec {
    /// How the gateway tells services apart. Port: each service port has a port of its own on the
    /// gateway. Host: by the HTTP Host header. SNI: by the TLS server name. Linkerd: by Linkerd's
    /// own protocol, for meshed clients.
    pub routing: Routing,

    /// This cluster's own gateway: the controller programs it for the exported Services and
    /// publishes the outcome for the importers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,

    /// A linked cluster's gateway, described by hand; nothing of Heliostat needs to run over there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
}

/// How a gateway tells services apart.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Routing {
    /// Each service port has a port of its own on the gateway.
    Port,
    /// By the HTTP Host header.
    Host,
    /// By the TLS server name.
    #[serde(rename = "SNI")]
    Sni,
    /// By Linkerd's own protocol.
    Linkerd,
}

impl Routing {
    /// Every routing.
    pub const ALL: [Self; 4] = [Self::Port, Self::Host, Self::Sni, Self::Linkerd];

    /// The name as it stands in the API and in published slices.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Port => "Port",
            Self::Host => "Host",
            Self::Sni => "SNI",
            Self::Linkerd => "Linkerd",
        }
    }

    /// The routing of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// This cluster's own gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Which Services of this cluster go out through the gateway.
    pub services: ExportServices,

    /// The gateway; exactly one of its fields.
    pub provider: Provider,

    /// The gateway's addresses as seen from outside, instead of those that the provider reports.
    /// Default: what it reports.
    #[serde(default)]
    pub addresses: Vec<GatewayAddress>,

    /// The ports that may be given to services, and for how long importers may use one unconfirmed;
    /// for routing: Port.
    #[serde(default)]
    pub ports: PortRange,

    /// Private (default): refuses plaintext Port and Host routing on public addresses. Public:
    /// allows it, to be said by a human.
    #[serde(default)]
    pub exposure: Exposure,

    /// What importers call this cluster, that is the name of their ClusterLink; required for
    /// routing: Host and SNI, as it is part of the names the gateway answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,

    /// Whether backends see their own name <service>.<namespace>.svc.<cluster domain> as Host
    /// instead of the mirror's; for routing: Host. Default false.
    #[serde(default)]
    pub host_rewrite: bool,

    /// The names that the gateway answers to, with the variables {service}, {namespace} and
    /// {clusterName}; for routing: Host and SNI. Default: the four DNS forms of
    /// {service}-{clusterName} (bare, with namespace, with .svc, with the cluster domain).
    #[serde(default)]
    pub hostnames: Vec<String>,
}

/// Which Services go out through a gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExportServices {
    /// Their namespaces; "*" stands for all but kube-*.
    pub namespaces: Vec<String>,

    /// Their labels. Default: heliostat.dev/export: "true".
    #[serde(default = "export_selector")]
    pub selector: LabelSelector,
}

/// The gateway's make; exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    /// Any implementation of Kubernetes' Gateway API.
    #[serde(rename = "gatewayAPI", skip_serializing_if = "Option::is_none")]
    pub gateway_api: Option<GatewayApiProvider>,

    /// Traefik, through its own CRDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traefik: Option<TraefikProvider>,

    /// Emissary-ingress, through its own CRDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emissary: Option<ServiceProvider>,

    /// Gloo Edge, through its own CRDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gloo: Option<ServiceProvider>,

    /// Heliostat's own: stock Envoy pods that the controller drives over xDS, behind the Service
    /// heliostat-gateway-<binding>, which it creates and whose ports it owns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<EnvoyProvider>,

    /// The gateway of Linkerd's multicluster extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linkerd: Option<ServiceProvider>,
}

/// A Gateway of the Gateway API.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApiProvider {
    /// The Gateway. It is never written to: listeners come through ListenerSets, which it must
    /// allow, or are those that it has.
    pub gateway_ref: ObjectRef,
}

/// A Traefik installation.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TraefikProvider {
    /// The Service in front of Traefik's pods; its addresses and ports are used as they are.
    pub service_ref: ObjectRef,

    /// Traefik's entry points, as in its static configuration, which the API doesn't show.
    pub entry_points: Vec<TraefikEntryPoint>,
}

/// An entry point of Traefik.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TraefikEntryPoint {
    /// Its name.
    pub name: String,

    /// The port of the Service that leads to it.
    pub port: u16,

    /// TCP (default) or UDP.
    #[serde(default)]
    pub protocol: EntryPointProtocol,
}

/// The protocol of an entry point.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum EntryPointProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A gateway behind a Service that somebody else owns.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProvider {
    /// The Service in front of the gateway's pods; its addresses and ports are used as they are.
    pub service_ref: ObjectRef,
}

/// Heliostat's own gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyProvider {
    /// The type of the Service that is created. LoadBalancer (default); NodePort: the ports must
    /// lie within the cluster's node-port range.
    pub service_type: EnvoyServiceType,
}

/// The type of the Service in front of Heliostat's own gateway.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum EnvoyServiceType {
    /// A load balancer in front of it.
    #[default]
    LoadBalancer,
    /// A port on every node.
    NodePort,
}

/// A namespaced object.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An address of a gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    /// An IP address or a hostname.
    pub value: String,
}

/// The ports that may be given to services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PortRange {
    /// The first port. Default 20000.
    pub from: u16,

    /// The last port. Default 27999.
    pub to: u16,

    /// For how long importers may use a port that they could not confirm, as a Go duration. A
    /// released port is given to no other service before twice that time. Default 24h.
    pub lease: String,
}

impl Default for PortRange {
    fn default() -> Self {
        Self {
            from: 20_000,
            to: 27_999,
            lease: "24h".to_owned(),
        }
    }
}

/// Whether plaintext may answer on a public address.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum Exposure {
    /// It may not.
    #[default]
    Private,
    /// It may.
    Public,
}

/// A linked cluster's gateway, described by hand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The ClusterLink whose services are behind this gateway.
    pub link_ref: LinkRef,

    /// The gateway's addresses.
    pub addresses: Vec<GatewayAddress>,

    /// The gateway's one port; for routing: Host, SNI and Linkerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,

    /// Which port of the gateway leads to which service; for routing: Port.
    #[serde(default)]
    pub ports: Vec<ImportPort>,

    /// The TLS identity of the gateway; for routing: Linkerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// A ClusterLink by name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct LinkRef {
    /// Its name.
    pub name: String,
}

/// One port of a gateway described by hand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ImportPort {
    /// The remote Service, as <namespace>/<name>.
    pub service: String,

    /// The Service's port, by name or number.
    pub port: String,

    /// The gateway's port that leads to it.
    pub gateway_port: u16,
}

/// What the controller made of a binding.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBindingStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Accepted, ResolvedRefs and Programmed; Reachable while the addresses are probed;
    /// Stalled and Reconciling only while True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,

    /// The gateway's addresses in use: the spec's, else those that the provider reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayAddress>,

    /// How many Services go out through the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<BindingServiceCounts>,

    /// How the port range is used; for routing: Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortCounts>,

    /// What could not be programmed, and why; at most 32 entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<BindingFailure>,
}

/// Counts of a binding's Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingServiceCounts {
    /// Services that the binding selects.
    pub selected: u32,
    /// Services that the gateway carries.
    pub programmed: u32,
    /// Services that wait for the gateway.
    pub pending: u32,
    /// Services that can't be carried; failures say why.
    pub failed: u32,
}

/// Counts of a binding's ports.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PortCounts {
    /// Ports given to a service.
    pub used: u32,
    /// Released ports that may not be given away yet.
    pub quarantined: u32,
    /// Ports that can be given away.
    pub free: u32,
}

/// Something that could not be programmed.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingFailure {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// Why, as one word.
    pub reason: String,
    /// Why, in words, with what to do next.
    pub message: String,
}
