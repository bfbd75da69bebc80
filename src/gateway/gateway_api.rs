//! Any implementation of Kubernetes' Gateway API. Never writes to the Gateway itself: its listeners
//! are its owner's.
//!
//! What the rules here guard against was seen on Envoy Gateway 1.9 and Traefik 3.6. Not used: the
//! experimental XListenerSet of releases before 1.6.

mod listener;
mod name;
mod port;
mod status;

use serde_json::{Value, json};

use crate::{
    api::{
        Reason,
        binding::{Export, GatewayApiProvider, PortRange, Routing},
    },
    core::{
        export::{
            object::{Kind, is_terminating, kind, list},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, RouteId, Supply, Surroundings},
        },
        model::Key,
        select::Refusal,
    },
};

const GROUP: &str = "gateway.networking.k8s.io";
const GATEWAY: Kind = kind(GROUP, "Gateway", "gateways", &["v1", "v1beta1"]);
const GATEWAY_CLASS: Kind = kind(GROUP, "GatewayClass", "gatewayclasses", &["v1", "v1beta1"]);
const LISTENER_SET: Kind = kind(GROUP, "ListenerSet", "listenersets", &["v1"]);
const TCP_ROUTE: Kind = kind(GROUP, "TCPRoute", "tcproutes", &["v1", "v1alpha2"]);
const UDP_ROUTE: Kind = kind(GROUP, "UDPRoute", "udproutes", &["v1", "v1alpha2"]);
const TLS_ROUTE: Kind = kind(GROUP, "TLSRoute", "tlsroutes", &["v1", "v1alpha3", "v1alpha2"]);
const HTTP_ROUTE: Kind = kind(GROUP, "HTTPRoute", "httproutes", &["v1", "v1beta1"]);
const GRPC_ROUTE: Kind = kind(GROUP, "GRPCRoute", "grpcroutes", &["v1"]);

/// The kinds that it makes or reads; the first two are only read.
pub(super) const KINDS: [Kind; 8] =
    [GATEWAY, GATEWAY_CLASS, LISTENER_SET, TCP_ROUTE, UDP_ROUTE, TLS_ROUTE, HTTP_ROUTE, GRPC_ROUTE];

/// See the file's description.
#[derive(Debug)]
pub(super) struct GatewayApi {
    binding: String,
    routing: Routing,
    gateway: Key,
    /// Ports that may be given to routes.
    range: PortRange,
    /// Namespaces that are exported.
    namespaces: Vec<String>,
}

impl GatewayApi {
    pub(super) fn new(binding: &str, routing: Routing, export: &Export, provider: &GatewayApiProvider) -> Self {
        let reference = &provider.gateway_ref;
        Self {
            binding: binding.to_owned(),
            routing,
            gateway: Key::new(reference.namespace.clone(), reference.name.clone()),
            range: export.ports.clone(),
            namespaces: export.services.namespaces.clone(),
        }
    }

    /// The Gateway, if it can be used at all.
    fn object<'a>(&self, around: &Surroundings<'a>) -> Result<&'a Value, Refusal> {
        if !around.objects.is_served(GATEWAY) {
            let why =
                format!("this cluster does not serve {GATEWAY}; install the Gateway API's CRDs and an implementation");
            return Err(Refusal::new(Reason::ProviderNotInstalled, why));
        }
        match around.objects.get(GATEWAY, &self.gateway).filter(|gateway| !is_terminating(gateway)) {
            Some(gateway) => Ok(gateway),
            None => {
                let why = format!(
                    "there is no Gateway {}; create it, or correct spec.export.provider.gatewayAPI.gatewayRef",
                    self.gateway
                );
                Err(Refusal::new(Reason::RefNotFound, why))
            }
        }
    }

    /// Who implements the Gateway's class.
    fn controller<'a>(gateway: &Value, around: &Surroundings<'a>) -> &'a str {
        let class = Key::new("", gateway["spec"]["gatewayClassName"].as_str().unwrap_or_default());
        around.objects.get(GATEWAY_CLASS, &class).and_then(|c| c["spec"]["controllerName"].as_str()).unwrap_or_default()
    }

    fn is_of_envoy_gateway(&self, gateway: &Value, around: &Surroundings<'_>) -> bool {
        Self::controller(gateway, around).starts_with("gateway.envoyproxy.io/")
    }

    /// Trouble that may pass.
    fn unwell(&self, gateway: &Value, addresses: &[String]) -> Option<Refusal> {
        let why = match status::gateway(&self.gateway, gateway) {
            Programmed::Pending(why, _) => why,
            _ if addresses.is_empty() => format!("Gateway {} has no address yet", self.gateway),
            _ => return None,
        };
        Some(Refusal::new(Reason::Pending, why))
    }
}

impl Provider for GatewayApi {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![GATEWAY, GATEWAY_CLASS, LISTENER_SET];
        kinds.extend_from_slice(match self.routing {
            Routing::Port => &[TCP_ROUTE, UDP_ROUTE],
            Routing::Sni => &[TLS_ROUTE],
            Routing::Host | Routing::Linkerd => &[HTTP_ROUTE, GRPC_ROUTE],
        });
        kinds
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let object = self.object(around)?;
        if Self::controller(object, around).starts_with("traefik.io/") {
            let why = format!(
                "Gateway {} is Traefik's, whose listeners have the ports inside its pods and not those outside; use provider: traefik",
                self.gateway
            );
            return Err(Refusal::new(Reason::UnsupportedValue, why));
        }
        let (ports, listeners) = match self.routing {
            Routing::Port => (self.supply(object, around)?, Vec::new()),
            _ => (Supply::default(), self.name_ports(object)?),
        };
        let reported = list(&object["status"]["addresses"]).iter();
        let reachable = reported.filter(|a| matches!(a["type"].as_str(), None | Some("IPAddress" | "Hostname")));
        let addresses: Vec<String> = reachable.filter_map(|a| a["value"].as_str().map(str::to_owned)).collect();
        let identity = ["gatewayAPI", "Gateway", &self.gateway.namespace, &self.gateway.name].map(str::to_owned);
        let unwell = self.unwell(object, &addresses);
        Ok(Gateway { identity, addresses, ports, listeners, unwell, confirms: true, tls_identity: None })
    }

    fn render(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        match self.routing {
            Routing::Port => self.render_ports(plan, around),
            _ => self.render_names(plan, around),
        }
    }

    fn programmed(&self, plan: &ExportPlan, route: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let Some(wanted) = plan.routes.get(route) else {
            return Programmed::Pending("it is not planned".to_owned(), None);
        };
        match (self.object(around), self.routing) {
            (Err(refusal), _) => Programmed::No(refusal),
            (Ok(gateway), Routing::Port) => self.port_programmed(gateway, route, wanted, around),
            (Ok(gateway), _) => self.name_programmed(gateway, route, wanted, around),
        }
    }
}

/// An entry of `parentRefs`.
fn parent_ref(kind: &str, key: &Key, section: &str) -> Value {
    json!({"group": GROUP, "kind": kind, "namespace": key.namespace, "name": key.name, "sectionName": section})
}

#[cfg(test)]
mod tests;
