//! A binding's `export`, checked once, and what it selects: why does this Service go out through
//! this gateway, or not?

use std::collections::BTreeSet;

use jiff::SignedDuration;
use kube::core::Selector;

use crate::{
    api::{
        GatewayBinding, Reason,
        binding::{Export, Exposure, Routing},
        duration::parse_duration,
        names::{MANAGED_BY_LABEL, MANAGER, PROBE_LABEL},
    },
    core::{
        application,
        model::{Key, Origin, OriginPort, OriginType, Protocol},
        name,
        select::{self, Refusal},
    },
};

/// A binding's `export`, checked.
#[derive(Clone, Debug)]
pub struct CheckedExport {
    /// The binding's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// How services are told apart.
    pub routing: Routing,
    /// The spec.
    pub export: Export,
    /// `spec.export.ports.lease`.
    pub port_lease: SignedDuration,
    selector: Selector,
    namespaces: Option<BTreeSet<String>>,
}

impl CheckedExport {
    /// Checks what the schema cannot know.
    pub fn new(binding: &GatewayBinding, export: &Export) -> Result<Self, Refusal> {
        let invalid =
            |field: &str, why: String| Refusal::new(Reason::InvalidSpec, format!("spec.export.{field}: {why}"));
        let lease = parse_duration(&export.ports.lease).map_err(|e| invalid("ports.lease", e.to_string()))?;
        let all = export.services.namespaces.iter().any(|namespace| namespace == "*");
        let checked = Self {
            name: binding.metadata.name.clone().unwrap_or_default(),
            uid: binding.metadata.uid.clone().unwrap_or_default(),
            routing: binding.spec.routing,
            port_lease: SignedDuration::try_from(lease).map_err(|e| invalid("ports.lease", e.to_string()))?,
            selector: select::selector(Some(&export.services.selector), "spec.export.services.selector")?,
            namespaces: (!all).then(|| export.services.namespaces.iter().cloned().collect()),
            export: export.clone(),
        };
        if matches!(checked.routing, Routing::Host | Routing::Sni) {
            checked
                .hostnames(&Key::new("namespace", "service"), "cluster.local")
                .map_err(|e| invalid("hostnames", e))?;
        }
        Ok(checked)
    }

    /// Plaintext on a public address has been allowed.
    #[must_use]
    pub fn may_be_public(&self) -> bool {
        self.export.exposure == Exposure::Public
    }

    /// What crosses the gateway may be plaintext: only with TLS passed through, and between meshed
    /// proxies, it never is.
    #[must_use]
    pub fn may_be_plaintext(&self) -> bool {
        matches!(self.routing, Routing::Port | Routing::Host)
    }

    /// Whether the binding selects a Service; and if so, whether it may go out. The Service in the
    /// controller's own namespace that answers probes goes out through every gateway behind which it can
    /// be asked.
    #[must_use]
    pub fn selects(&self, key: &Key, service: &Origin, own_namespace: &str) -> Option<Result<(), Refusal>> {
        let answers_probes = select::is_probe(&service.labels);
        if answers_probes && key.namespace == own_namespace {
            return matches!(self.routing, Routing::Port | Routing::Host).then(|| may_go_out(key, service));
        }
        let namespace = match &self.namespaces {
            None => !name::is_kube_namespace(&key.namespace),
            Some(names) => names.contains(key.namespace.as_str()),
        };
        let judge = || if answers_probes { Err(not_ours(key, own_namespace)) } else { may_go_out(key, service) };
        (namespace && service.labels.selected_by(&self.selector)).then(judge)
    }

    /// The names that the gateway is to answer to for a Service.
    ///
    /// # Errors
    /// In words: a template with an unknown variable, or one that gives no DNS name.
    pub fn hostnames(&self, service: &Key, cluster_domain: &str) -> Result<Vec<String>, String> {
        let cluster = self.export.cluster_name.as_deref().unwrap_or_default();
        let variables =
            [("service", service.name.as_str()), ("namespace", &service.namespace), ("clusterName", cluster)];
        let templates: Vec<String> = match self.export.hostnames.as_slice() {
            [] => ["", ".{namespace}", ".{namespace}.svc", &format!(".{{namespace}}.svc.{cluster_domain}")]
                .map(|behind| format!("{{service}}-{{clusterName}}{behind}"))
                .into(),
            given => given.to_vec(),
        };
        let mut names = Vec::new();
        for template in templates {
            let name = name::fill(&template, &variables)?.to_ascii_lowercase();
            if name.len() > 253 || !name.split('.').all(name::is_label) {
                return Err(format!("{template:?} gives {name:?} for {service}, which is no DNS name"));
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// What backends see as Host instead of the mirror's name.
    #[must_use]
    pub fn rewrite(&self, service: &Key, cluster_domain: &str) -> Option<String> {
        let Key { namespace, name } = service;
        (self.routing == Routing::Host && self.export.host_rewrite)
            .then(|| format!("{name}.{namespace}.svc.{cluster_domain}"))
    }

    /// The outside port of the listener that carries a port by Host or SNI: the one of its number,
    /// or for a Service's only such port any (design: section 5). Linkerd has one for all.
    pub fn listener(
        &self,
        service: &Key,
        origin: &Origin,
        port: &OriginPort,
        listeners: &[u16],
    ) -> Result<u16, Refusal> {
        let fits: fn(&OriginPort) -> bool = match self.routing {
            Routing::Host => application::is_http,
            Routing::Sni => application::is_tls,
            Routing::Port | Routing::Linkerd => |_| true,
        };
        let of_service = format!("port {}/{} of {service}", port.port, port.protocol.as_str());
        let refused = |why: String| Err(Refusal::new(Reason::PortUnsupported, format!("{of_service}: {why}")));
        if port.protocol != Protocol::Tcp {
            return refused(format!("routing {} carries TCP only; use routing: Port", self.routing));
        }
        if !fits(port) {
            let what = if self.routing == Routing::Host { "http or grpc" } else { "https or tls" };
            return refused(format!(
                "routing {} carries it only if its appProtocol or name says {what}; set appProtocol, or use routing: Port",
                self.routing
            ));
        }
        let alone = origin.ports.iter().filter(|p| p.protocol == Protocol::Tcp && fits(p)).count() == 1;
        match listeners {
            [] => refused("the gateway has no listener for it".to_owned()),
            [first, ..] if self.routing == Routing::Linkerd => Ok(*first),
            all if all.contains(&port.port) => Ok(port.port),
            [first, ..] if alone => Ok(*first),
            all => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                refused(format!(
                    "the gateway listens on {} only, and one of several such ports needs the listener of its number",
                    all.join(", ")
                ))
            }
        }
    }
}

/// Importers believe what answers probes; so nobody else may.
fn not_ours(key: &Key, own_namespace: &str) -> Refusal {
    Refusal::new(
        Reason::NamespaceNotAllowed,
        format!(
            "{key} has the label {PROBE_LABEL}, by which only a Service in {own_namespace} goes out; take the label off"
        ),
    )
}

/// The chain of checks that a selected Service passes before it goes out.
fn may_go_out(key: &Key, service: &Origin) -> Result<(), Refusal> {
    let refuse = |reason: Reason, message: String| Err(Refusal::new(reason, message));
    if let Some(why) = &service.malformed {
        return refuse(Reason::UnsupportedValue, format!("{key} cannot be understood: {why}"));
    }
    if *key == Key::new("default", "kubernetes") || name::is_kube_namespace(&key.namespace) {
        return refuse(Reason::NamespaceNotAllowed, format!("{key} is Kubernetes' own and is never exported"));
    }
    if service.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGER) {
        return refuse(
            Reason::InvalidServiceType,
            format!("{key} was made by Heliostat; mirrors and gateways are not exported again"),
        );
    }
    if service.kind == OriginType::ExternalName {
        return refuse(Reason::InvalidServiceType, format!("{key} is of type ExternalName, which has no endpoints"));
    }
    if service.ports.is_empty() {
        return refuse(Reason::InvalidServiceType, format!("{key} has no ports"));
    }
    Ok(())
}
