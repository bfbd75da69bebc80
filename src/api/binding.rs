//! `GatewayBinding`: through which gateway services go out of a cluster, or into one.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{link::export_selector, schema};

/// Exactly one of export and import; which one is immutable.
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
    label("app.kubernetes.io/name", "heliostat"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the gateway can be used"),
    printcolumn(name = "Routing", type_ = "string", json_path = ".spec.routing", description = "How the gateway tells services apart"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[*].value", description = "The gateway's first address"),
    printcolumn(name = "Programmed", type_ = "string", json_path = ".status.conditions[?(@.type==\"Programmed\")].status", description = "Whether the gateway carries the routes"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "How old the object is"),
    validation = Rule::new(schema::BINDING_NAME.0).message(schema::BINDING_NAME.1),
    doc = "GatewayBinding names a gateway: with export, this cluster's own, which the controller programs for the exported Services; with import, a linked cluster's, described by hand."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "has(self.export) != has(self.__import__)",
            "exactly one of export and import is required",
        ),
        (
            "has(self.export) == has(oldSelf.export)",
            "a binding can't change between export and import: delete it and create another",
        ),
        (
            "!has(self.__import__) || self.routing != 'Port' || (self.__import__.ports.size() > 0 && !has(self.__import__.port))",
            "an import with routing: Port takes ports (which gateway port leads to which service), and no port",
        ),
        (
            "!has(self.__import__) || self.routing == 'Port' || (has(self.__import__.port) && self.__import__.ports.size() == 0)",
            "an import with routing: Host, SNI or Linkerd takes port (the gateway's one port), and no ports",
        ),
        (
            "!has(self.__import__) || (self.routing == 'Linkerd') == has(self.__import__.identity)",
            "an import's identity is required with routing: Linkerd, and allowed with no other",
        ),
        (
            "!has(self.export) || (self.routing == 'Linkerd') == has(self.export.provider.linkerd)",
            "routing: Linkerd and provider: linkerd belong together: neither works with another",
        ),
        (
            "!has(self.export) || self.routing != 'SNI' || !has(self.export.provider.emissary)",
            "Emissary can't route by SNI: use routing: Host or Port, or another provider",
        ),
        (
            "!has(self.export) || !(self.routing in ['Host', 'SNI']) || has(self.export.clusterName)",
            "an export with routing: Host or SNI needs clusterName: what importers call this cluster",
        ),
        (
            "!has(self.export) || self.routing == 'Host' || !self.export.hostRewrite",
            "hostRewrite: true works with routing: Host only",
        ),
        (
            "!has(self.export) || self.routing in ['Host', 'SNI'] || self.export.hostnames.size() == 0",
            "hostnames work with routing: Host and SNI only",
        ),
    ])))]
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
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["value"]))]
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
    #[schemars(schema_with = "schema::link_name")]
    pub cluster_name: Option<String>,

    /// Whether backends see their own name <service>.<namespace>.svc.<cluster domain> as Host
    /// instead of the mirror's; for routing: Host. Default false.
    #[serde(default)]
    pub host_rewrite: bool,

    /// The names that the gateway answers to, with the variables {service}, {namespace} and
    /// {clusterName}; for routing: Host and SNI. Default: the four DNS forms of
    /// {service}-{clusterName} (bare, with namespace, with .svc, with the cluster domain).
    #[serde(default)]
    #[schemars(schema_with = "schema::hostname_templates")]
    pub hostnames: Vec<String>,
}

/// Which Services go out through a gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExportServices {
    /// Their namespaces; "*" stands for all but kube-*.
    #[schemars(schema_with = "schema::namespaces_or_all")]
    pub namespaces: Vec<String>,

    /// Their labels. Default: heliostat.dev/export: "true".
    #[serde(default = "export_selector")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: LabelSelector,
}

/// The gateway's make; exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "[has(self.gatewayAPI), has(self.traefik), has(self.emissary), has(self.gloo), has(self.envoy), has(self.linkerd)].filter(given, given).size() == 1",
            "exactly one provider is required: gatewayAPI, traefik, emissary, gloo, envoy or linkerd",
        ),
    ])))]
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
    #[schemars(extend("minItems" = 1, "maxItems" = 64, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entry_points: Vec<TraefikEntryPoint>,
}

/// An entry point of Traefik.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TraefikEntryPoint {
    /// Its name.
    #[schemars(schema_with = "schema::entry_point_name")]
    pub name: String,

    /// The port of the Service that leads to it.
    #[schemars(schema_with = "schema::port")]
    pub port: u16,

    /// TCP (default) or UDP.
    #[serde(default)]
    pub protocol: EntryPointProtocol,
}

/// The protocol of an entry point.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    #[schemars(schema_with = "schema::namespace")]
    pub namespace: String,
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// An address of a gateway.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    /// An IP address or a hostname.
    #[schemars(schema_with = "schema::address")]
    pub value: String,
}

/// The ports that may be given to services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        (
            "self.from <= self.to",
            "from must not be greater than to; left out, from is 20000 and to is 27999",
        ),
    ])))]
pub struct PortRange {
    /// The first port. Default 20000.
    #[schemars(schema_with = "schema::port")]
    pub from: u16,

    /// The last port. Default 27999.
    #[schemars(schema_with = "schema::port")]
    pub to: u16,

    /// For how long importers may use a port that they could not confirm, as a Go duration. A
    /// released port is given to no other service before twice that time. Default 24h.
    #[schemars(schema_with = "schema::seconds")]
    pub lease: String,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { from: 20_000, to: 27_999, lease: "24h".to_owned() }
    }
}

/// Whether plaintext may answer on a public address.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    #[schemars(extend("minItems" = 1, "maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["value"]))]
    pub addresses: Vec<GatewayAddress>,

    /// The gateway's one port; for routing: Host, SNI and Linkerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port")]
    pub port: Option<u16>,

    /// Which port of the gateway leads to which service; for routing: Port.
    #[serde(default)]
    #[schemars(extend("maxItems" = 256, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["service", "port"], "x-kubernetes-validations" = schema::rules(&[("self.all(p, self.all(q, p.gatewayPort != q.gatewayPort || p.service == q.service))", "a gatewayPort can lead to one service only")])))]
    pub ports: Vec<ImportPort>,

    /// The TLS identity of the gateway; for routing: Linkerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identity")]
    pub identity: Option<String>,
}

/// A ClusterLink by name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct LinkRef {
    /// Its name.
    #[schemars(schema_with = "schema::link_name")]
    pub name: String,
}

/// One port of a gateway described by hand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ImportPort {
    /// The remote Service, as <namespace>/<name>.
    #[schemars(schema_with = "schema::service_key")]
    pub service: String,

    /// The Service's port, by name or number.
    #[schemars(schema_with = "schema::port_name_or_number")]
    pub port: String,

    /// The gateway's port that leads to it.
    #[schemars(schema_with = "schema::port")]
    pub gateway_port: u16,
}

/// What the controller made of a binding.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBindingStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,

    /// Ready, Accepted, ResolvedRefs and Programmed; Reachable while the addresses are probed;
    /// Stalled and Reconciling only while True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The gateway's addresses in use: the spec's, else those that the provider reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::told_addresses")]
    pub addresses: Vec<GatewayAddress>,

    /// How many Services go out through the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<BindingServiceCounts>,

    /// How the port range is used; for routing: Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortCounts>,

    /// What could not be programmed, and why; at most 32 entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = super::MAX_LISTED, "x-kubernetes-list-type" = "atomic"))]
    pub failures: Vec<BindingFailure>,
}

/// Counts of a binding's Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingServiceCounts {
    /// Services that the binding selects.
    #[schemars(schema_with = "schema::count")]
    pub selected: u32,
    /// Services that the gateway carries.
    #[schemars(schema_with = "schema::count")]
    pub programmed: u32,
    /// Services that wait for the gateway.
    #[schemars(schema_with = "schema::count")]
    pub pending: u32,
    /// Services that can't be carried; failures say why.
    #[schemars(schema_with = "schema::count")]
    pub failed: u32,
}

/// Counts of a binding's ports.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PortCounts {
    /// Ports given to a service.
    #[schemars(schema_with = "schema::count")]
    pub used: u32,
    /// Released ports that may not be given away yet.
    #[schemars(schema_with = "schema::count")]
    pub quarantined: u32,
    /// Ports that can be given away.
    #[schemars(schema_with = "schema::count")]
    pub free: u32,
}

/// Something that could not be programmed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingFailure {
    /// The Service's namespace.
    #[schemars(schema_with = "schema::told_name")]
    pub namespace: String,
    /// The Service's name.
    #[schemars(schema_with = "schema::told_name")]
    pub name: String,
    /// Why, as one word.
    #[schemars(schema_with = "schema::told_name")]
    pub reason: String,
    /// Why, in words, with what to do next.
    #[schemars(schema_with = "schema::told_message")]
    pub message: String,
}
