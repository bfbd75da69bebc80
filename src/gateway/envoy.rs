//! `envoy`: Heliostat's own gateway, stock Envoy pods that are driven over xDS. Renders their
//! Deployment, bootstrap and Service, and what they are to do; never the credentials by which they
//! are let in, which are kept elsewhere.

pub mod bootstrap;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    front::{ingress, of_nodes},
    object::{of_binding, refuse},
};
use crate::{
    api::{
        Reason,
        binding::{EnvoyProvider, EnvoyServiceType, Export, PortRange, Routing},
        names::{BOOTSTRAP_ANNOTATION, PUBLISHED_BINDING_LABEL},
    },
    core::{
        application,
        envoy::{
            EnvoyCluster, EnvoyConfig, EnvoyHost, EnvoyPort, EnvoyProtocol, EnvoyRouting, XDS_SERVICE,
            certificate_name, gateway_name, xds_host,
        },
        export::{
            object::{self, Kind, OWN_CONFIG_MAP, OWN_DEPLOYMENT, OWN_SERVICE, Object, ObjectId},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::{Key, Protocol},
        name,
        select::Refusal,
    },
};
use bootstrap::{Bootstrap, START};

/// The kinds it makes.
pub(super) const KINDS: [Kind; 3] = [OWN_DEPLOYMENT, OWN_SERVICE, OWN_CONFIG_MAP];

/// Envoy's administration, on the pod's loopback only.
const ADMIN_PORT: u16 = 19001;
/// `/ready` and the metrics of an Envoy.
const READY_PORT: u16 = 19003;
/// Where the outside ports of Host and SNI are.
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;
/// Ports up to here need a privilege that the pods do not have; they are opened this much higher.
const PRIVILEGED: u16 = 1023;
const RAISED: u16 = 10_000;
/// Where files are mounted in the pods.
const FILES: &str = "/etc/heliostat/envoy";
const TLS: &str = "/etc/heliostat/tls";

/// See the file's description.
#[derive(Debug)]
pub(super) struct Envoy {
    name: String,
    binding: String,
    routing: Routing,
    service_type: EnvoyServiceType,
    /// Ports that may be given to routes.
    range: PortRange,
}

impl Envoy {
    pub(super) fn new(binding: &str, routing: Routing, export: &Export, provider: &EnvoyProvider) -> Self {
        Self {
            name: gateway_name(binding),
            binding: binding.to_owned(),
            routing,
            service_type: provider.service_type,
            range: export.ports.clone(),
        }
    }

    fn key(&self, around: &Surroundings<'_>) -> Key {
        Key::new(around.namespace, self.name.clone())
    }

    fn addresses(&self, around: &Surroundings<'_>) -> Vec<String> {
        match self.service_type {
            EnvoyServiceType::LoadBalancer => around.services.get(&self.key(around)).map(ingress).unwrap_or_default(),
            EnvoyServiceType::NodePort => of_nodes(around),
        }
    }

    /// Ports that routes never get: those that its pods use themselves, and other Services' on nodes.
    fn taken(&self, around: &Surroundings<'_>) -> BTreeMap<(Protocol, u16), String> {
        let own = |port: u16| ((Protocol::Tcp, port), "Envoy's own".to_owned());
        let mut taken = BTreeMap::from([own(ADMIN_PORT), own(READY_PORT)]);
        let both = |port: u16| [(Protocol::Tcp, port), (Protocol::Udp, port)];
        if self.range.from <= PRIVILEGED {
            for raised in RAISED + 1..=RAISED + PRIVILEGED {
                let why = format!("what port {} is inside its pods", raised - RAISED);
                taken.extend(both(raised).map(|at| (at, why.clone())));
            }
        }
        if self.service_type == EnvoyServiceType::NodePort {
            let own = self.key(around);
            for (key, service) in around.services.iter().filter(|(key, _)| **key != own) {
                for port in service.ports.iter().filter_map(|port| port.node_port) {
                    taken.extend(both(port).map(|at| (at, format!("Service {key}"))));
                }
            }
        }
        taken
    }

    fn labels(&self) -> Value {
        json!({"app.kubernetes.io/name": "heliostat-gateway", PUBLISHED_BINDING_LABEL: self.binding})
    }

    fn config_map(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> (Object, String) {
        let xds_host = xds_host(around.namespace, around.cluster_domain);
        let files = Bootstrap {
            binding: &self.binding,
            xds_host: &xds_host,
            xds_port: XDS_SERVICE.1,
            admin_port: ADMIN_PORT,
            ready_port: READY_PORT,
            ipv6: has_ipv6(around),
            files_at: FILES,
            tls_at: TLS,
        }
        .files();
        let hash = name::hash(&files.values().map(String::as_str).collect::<Vec<_>>(), 16);
        let id = ObjectId { kind: OWN_CONFIG_MAP, key: self.key(around) };
        let body = Map::from_iter([("data".to_owned(), json!(files))]);
        let object = Object { id, body, ..Object::with_spec(OWN_CONFIG_MAP, self.key(around), Value::Null) };
        (of_binding(plan, object), hash)
    }

    /// Replicas are left to who runs the cluster: `kubectl scale`, or an autoscaler.
    fn deployment(&self, plan: &ExportPlan, around: &Surroundings<'_>, files: &str) -> Object {
        let mut labels = self.labels();
        for (key, value) in plan.labels() {
            labels[key.as_str()] = json!(value);
        }
        let volumes = json!([
            {"name": "files", "configMap": {"name": self.name}},
            {"name": "tls", "secret": {"secretName": certificate_name(&self.binding)}},
            {"name": "tmp", "emptyDir": {}},
        ]);
        let spread = json!({"podAffinityTerm": {
            "labelSelector": {"matchLabels": self.labels()}, "topologyKey": "kubernetes.io/hostname",
        }, "weight": 1});
        let pod = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [spread]}},
            "containers": [container(around.envoy_image)],
            "volumes": volumes,
        });
        let spec = json!({
            "selector": {"matchLabels": self.labels()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": {BOOTSTRAP_ANNOTATION: files}},
                "spec": pod,
            },
        });
        of_binding(plan, Object::with_spec(OWN_DEPLOYMENT, self.key(around), spec))
    }

    /// The Service's ports. It needs one, and is never taken away for want of routes, as it would come
    /// back with another address. So the listener's port always is there, or else the first of those
    /// that were; nothing answers at it.
    fn open(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> BTreeSet<EnvoyPort> {
        let mut ports: BTreeSet<EnvoyPort> = plan.routes.iter().map(|(id, route)| outside(id, route)).collect();
        if ports.is_empty() {
            let there = around.objects.get(OWN_SERVICE, &self.key(around)).map(|s| object::list(&s["spec"]["ports"]));
            let first = there.and_then(|ports| ports.first()?["name"].as_str()?.parse().ok());
            ports.extend(self.listener().map(EnvoyPort::Tcp).or(first));
        }
        ports
    }

    /// The outside port of Host and SNI. Nodes have neither 80 nor 443 to give.
    const fn listener(&self) -> Option<u16> {
        match (self.routing, self.service_type) {
            (Routing::Port | Routing::Linkerd, _) => None,
            (_, EnvoyServiceType::NodePort) => Some(self.range.from),
            (Routing::Host, _) => Some(HTTP_PORT),
            (Routing::Sni, _) => Some(TLS_PORT),
        }
    }

    fn service(&self, plan: &ExportPlan, ports: BTreeSet<EnvoyPort>, around: &Surroundings<'_>) -> Object {
        let port = |port: EnvoyPort| {
            let (protocol, number) = match port {
                EnvoyPort::Tcp(number) => ("TCP", number),
                EnvoyPort::Udp(number) => ("UDP", number),
            };
            let mut out = json!({
                "name": port.to_string(), "port": number, "protocol": protocol, "targetPort": inside(port).number(),
            });
            if self.service_type == EnvoyServiceType::NodePort {
                out["nodePort"] = json!(number);
            }
            out
        };
        let service_type = match self.service_type {
            EnvoyServiceType::LoadBalancer => "LoadBalancer",
            EnvoyServiceType::NodePort => "NodePort",
        };
        let spec = json!({
            "type": service_type,
            "selector": self.labels(),
            "ports": ports.into_iter().map(port).collect::<Vec<_>>(),
        });
        of_binding(plan, Object::with_spec(OWN_SERVICE, self.key(around), spec))
    }

    /// What Envoy does for one route.
    fn routing(&self, id: &RouteId, route: &Route) -> EnvoyRouting {
        let cluster = id.to_string();
        match self.routing {
            Routing::Host => {
                let host = EnvoyHost { cluster, rewrite: route.rewrite.clone() };
                EnvoyRouting::Host { hosts: route.hostnames.iter().map(|name| (name.clone(), host.clone())).collect() }
            }
            Routing::Sni => EnvoyRouting::Sni {
                names: route.hostnames.iter().map(|name| (name.clone(), cluster.clone())).collect(),
            },
            Routing::Port | Routing::Linkerd => EnvoyRouting::Port { cluster },
        }
    }

    fn config(
        &self,
        plan: &ExportPlan,
        refused: &BTreeMap<RouteId, Refusal>,
        around: &Surroundings<'_>,
    ) -> EnvoyConfig {
        let mut config = EnvoyConfig { ipv6: has_ipv6(around), ..EnvoyConfig::default() };
        for (id, route) in plan.routes.iter().filter(|(id, _)| !refused.contains_key(*id)) {
            let protocol = match (id.protocol, self.routing) {
                (Protocol::Udp, _) => EnvoyProtocol::Udp,
                (_, Routing::Host) if application::is_http2(&route.port) => EnvoyProtocol::Http2,
                (_, Routing::Host) => EnvoyProtocol::Http1,
                _ => EnvoyProtocol::Tcp,
            };
            config.clusters.insert(id.to_string(), EnvoyCluster { protocol, endpoints: route.endpoints.clone() });
            let routing = self.routing(id, route);
            match (config.ports.get_mut(&inside(outside(id, route))), routing) {
                (Some(EnvoyRouting::Host { hosts }), EnvoyRouting::Host { hosts: more }) => hosts.extend(more),
                (Some(EnvoyRouting::Sni { names }), EnvoyRouting::Sni { names: more }) => names.extend(more),
                (_, routing) => drop(config.ports.insert(inside(outside(id, route)), routing)),
            }
        }
        config
    }
}

impl Provider for Envoy {
    fn kinds(&self) -> Vec<Kind> {
        KINDS.to_vec()
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let ready = around.ready.contains(&self.key(around));
        let there = around.objects.get(OWN_SERVICE, &self.key(around)).is_some();
        let unwell = (there && !ready).then(|| {
            let Key { namespace, name } = self.key(around);
            Refusal::new(
                Reason::Pending,
                format!("no Envoy is ready; see: kubectl -n {namespace} describe deployment {name}"),
            )
        });
        Ok(Gateway {
            identity: ["envoy".to_owned(), "Service".to_owned(), around.namespace.to_owned(), self.name.clone()],
            addresses: self.addresses(around),
            ports: Supply {
                pool: None,
                taken: self.taken(around),
                protocols: [Protocol::Tcp, Protocol::Udp].into(),
                hint: String::new(),
            },
            listeners: self.listener().into_iter().collect(),
            unwell,
            confirms: true,
            tls_identity: None,
        })
    }

    fn render(&self, plan: &ExportPlan, around: &Surroundings<'_>) -> Rendered {
        let nameless = |(id, _): &(&RouteId, &Route)| {
            let why = "every name that the gateway could answer to for it belongs to another Service";
            ((*id).clone(), refuse(Reason::NameConflict, id, why))
        };
        let by_name = matches!(self.routing, Routing::Host | Routing::Sni);
        let refused: BTreeMap<RouteId, Refusal> = plan
            .routes
            .iter()
            .filter(|(_, route)| by_name && route.hostnames.is_empty())
            .map(|r| nameless(&r))
            .collect();
        let (config_map, files) = self.config_map(plan, around);
        let mut objects = vec![config_map, self.deployment(plan, around, &files)];
        let open = self.open(plan, around);
        if !open.is_empty() {
            objects.push(self.service(plan, open, around));
        }
        Rendered { objects, envoy: Some(self.config(plan, &refused, around)), refused }
    }

    fn programmed(&self, plan: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let Some(route) = plan.routes.get(id) else { return Programmed::Pending("it is not planned".into(), None) };
        let (port, key) = (outside(id, route), self.key(around));
        let service = around.objects.get(OWN_SERVICE, &key);
        let open =
            service.is_some_and(|s| object::list(&s["spec"]["ports"]).iter().any(|p| p["name"] == port.to_string()));
        if !open {
            return Programmed::Pending(format!("Service {key} has no port {} yet", port.number()), None);
        }
        if !around.ready.contains(&key) {
            return Programmed::Pending(format!("no Envoy behind Service {key} is ready"), None);
        }
        let Some(state) = around.envoys.filter(|state| state.connected > 0) else {
            return Programmed::Before("no Envoy is connected to this controller".into());
        };
        // What is refused of others at the same port takes nothing from what is served already.
        if state.serves(inside(port), &self.routing(id, route)) {
            return Programmed::Yes;
        }
        match state.refused.get(&inside(port)) {
            Some(words) => Programmed::No(refuse(Reason::UnsupportedValue, id, format!("Envoy refuses it: {words}"))),
            None => Programmed::Pending("Envoy has not acknowledged it yet".into(), None),
        }
    }
}

/// The port of the Service.
const fn outside(id: &RouteId, route: &Route) -> EnvoyPort {
    match id.protocol {
        Protocol::Udp => EnvoyPort::Udp(route.gateway_port),
        Protocol::Tcp | Protocol::Sctp => EnvoyPort::Tcp(route.gateway_port),
    }
}

/// The port of the pods that it leads to.
const fn inside(port: EnvoyPort) -> EnvoyPort {
    match port {
        EnvoyPort::Tcp(number) if number <= PRIVILEGED => EnvoyPort::Tcp(number + RAISED),
        EnvoyPort::Udp(number) if number <= PRIVILEGED => EnvoyPort::Udp(number + RAISED),
        other => other,
    }
}

/// Whether every node gives its pods IPv6 addresses.
fn has_ipv6(around: &Surroundings<'_>) -> bool {
    let has = |node: &crate::core::model::LocalNode| node.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6());
    !around.local_nodes.is_empty() && around.local_nodes.values().all(has)
}

fn container(image: &str) -> Value {
    json!({
        "name": "envoy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": ["-c", format!("{FILES}/{START}"), "--service-node", "$(POD_NAME)", "--concurrency", "2", "--drain-time-s", "10", "--disable-hot-restart"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "ready", "containerPort": READY_PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "ready"}, "periodSeconds": 2, "failureThreshold": 3},
        // Until everybody knows that the pod goes, new connections still arrive.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "files", "mountPath": FILES, "readOnly": true},
            {"name": "tls", "mountPath": TLS, "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

#[cfg(test)]
mod tests;
