//! `linkerd`: the gateway of Linkerd's multicluster extension, for meshed clients. Nothing is
//! written: that gateway leads to every Service of its cluster by itself, exported or not, and what
//! importers need is its address, port and TLS identity.
//!
//! Port and identity are where `linkerd multicluster link` finds them (its `extractGatewayPort`, and
//! the chart's `gateway.yaml`). Linkerd's proxy could not be run; this is by its sources.

use super::{
    front::{self, Front},
    object::{refuse, refuse_ref},
};
use crate::{
    api::{
        Reason,
        binding::{Export, ServiceProvider},
        names::LINKERD_GATEWAY_IDENTITY_ANNOTATION,
    },
    core::{
        export::{
            object::Kind,
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, RouteId, Supply, Surroundings},
        },
        model::{Key, Protocol},
        name,
        select::Refusal,
    },
};

/// Name of the gateway's port.
const PORT: &str = "mc-gateway";

/// See the file's description.
#[derive(Debug)]
pub(super) struct Linkerd {
    service: Key,
    addressed: bool,
}

impl Linkerd {
    pub(super) fn new(export: &Export, provider: &ServiceProvider) -> Self {
        Self { service: front::key(&provider.service_ref), addressed: !export.addresses.is_empty() }
    }
}

impl Provider for Linkerd {
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let key = &self.service;
        let Front { addresses, ports, unwell, service } = Front::read(key, self.addressed, around)?;
        let Some((_, port)) = ports.iter().find(|(port, _)| port.name == PORT && port.protocol == Protocol::Tcp) else {
            let why = "is that the gateway of `linkerd multicluster install`?";
            return Err(refuse_ref(format!("Service {key} has no port {PORT} that is reached from outside; {why}")));
        };
        let identity =
            service.annotations.get(LINKERD_GATEWAY_IDENTITY_ANNOTATION).map_or("", |identity| identity.as_str());
        if identity.len() > 253 || !identity.split('.').all(name::is_label) {
            return Err(refuse_ref(format!(
                "Service {key} does not say its identity: annotation {LINKERD_GATEWAY_IDENTITY_ANNOTATION} is {identity:?}; it is for example linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local"
            )));
        }
        Ok(Gateway {
            identity: ["linkerd", "Service", &key.namespace, &key.name].map(str::to_owned),
            addresses,
            ports: Supply::default(),
            listeners: vec![*port],
            unwell,
            // Nothing is programmed, so nothing is left unconfirmed.
            confirms: true,
            tls_identity: Some(identity.to_owned()),
        })
    }

    fn render(&self, plan: &ExportPlan, _: &Surroundings<'_>) -> Rendered {
        let other = plan.routes.keys().filter(|id| id.protocol != Protocol::Tcp);
        let why = "Linkerd carries TCP only";
        let refused = other.map(|id| (id.clone(), refuse(Reason::PortUnsupported, id, why))).collect();
        Rendered { refused, ..Rendered::default() }
    }

    fn programmed(&self, _: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        if id.protocol != Protocol::Tcp {
            return Programmed::No(refuse(Reason::PortUnsupported, id, "Linkerd carries TCP only"));
        }
        match around.ready.contains(&self.service) {
            true => Programmed::Yes,
            false => Programmed::Pending(format!("no pod behind Service {} is ready", self.service), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::binding::Routing,
        core::model::{Ingress, OriginPort, OriginType, RemoteNode},
        gateway::scene::{Scene, front, port, tcp, udp},
    };

    const IDENTITY: &str = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";

    fn key() -> Key {
        Key::new("linkerd-multicluster", "linkerd-gateway")
    }

    fn scene_with(export: serde_json::Value, kind: OriginType) -> Scene {
        let reference =
            json!({"linkerd": {"serviceRef": {"namespace": "linkerd-multicluster", "name": "linkerd-gateway"}}});
        let mut scene = Scene::with(Routing::Linkerd, reference, export);
        let node = |p: OriginPort, node_port| OriginPort { node_port: Some(node_port), ..p };
        let mut service = front(kind, vec![node(port("mc-gateway", 4143), 30143), node(port("mc-probe", 4191), 30191)]);
        service.annotations.insert(LINKERD_GATEWAY_IDENTITY_ANNOTATION.into(), IDENTITY.into());
        service.ingress = vec![Ingress::Ip("192.0.2.7".into())].into();
        scene.services.insert(key(), service);
        scene.ready.insert(key());
        scene
    }

    fn scene() -> Scene {
        scene_with(json!({}), OriginType::LoadBalancer)
    }

    #[test]
    fn the_gateways_port_and_identity_are_published_and_nothing_is_written() {
        let mut scene = scene();
        let found = scene.gateway().unwrap();
        assert_eq!(
            found.identity,
            ["linkerd", "Service", "linkerd-multicluster", "linkerd-gateway"].map(str::to_owned)
        );
        assert_eq!((found.addresses, found.listeners), (vec!["192.0.2.7".to_owned()], vec![4143]));
        assert_eq!(found.tls_identity.as_deref(), Some(IDENTITY));
        assert!(found.confirms && found.unwell.is_none());
        let (web, dns) = (tcp("shop/books", 80), udp("shop/books", 53));
        scene.want_port(&web, 4143);
        scene.want_port(&dns, 4143);
        let (rendered, wrote) = scene.apply();
        assert!(rendered.objects.is_empty() && rendered.envoy.is_none() && wrote.is_empty());
        assert_eq!(rendered.refused.keys().collect::<Vec<_>>(), [&dns]);
        assert_eq!(rendered.refused[&dns].reason, Reason::PortUnsupported);
        assert_eq!(scene.programmed(&web), Programmed::Yes);
        scene.ready.clear();
        assert!(matches!(scene.programmed(&web), Programmed::Pending(..)));
        assert_eq!(scene.gateway().unwrap().unwell.unwrap().reason, Reason::Pending);
    }

    #[test]
    fn behind_node_ports_the_port_is_the_nodes() {
        let mut scene = scene_with(json!({}), OriginType::NodePort);
        let node = |usable, external: &[&str]| RemoteNode {
            usable,
            external: external.iter().map(|a| (*a).into()).collect(),
            internal: vec!["10.0.0.1".into()],
        };
        scene.nodes.extend([
            ("a".to_owned(), node(true, &["192.0.2.8"])),
            ("b".to_owned(), node(true, &[])),
            ("c".to_owned(), node(false, &["192.0.2.9"])),
        ]);
        let found = scene.gateway().unwrap();
        assert_eq!(
            (found.addresses, found.listeners),
            (vec!["192.0.2.8".to_owned(), "10.0.0.1".to_owned()], vec![30143])
        );
        scene.services.get_mut(&key()).unwrap().local_traffic = true;
        let found = scene.gateway().unwrap();
        assert!(found.addresses.is_empty());
        assert!(found.unwell.unwrap().message.contains("externalTrafficPolicy: Local"));
    }

    #[test]
    fn a_service_that_is_not_reached_needs_addresses_from_the_binding() {
        let unwell = scene_with(json!({}), OriginType::ClusterIp).gateway().unwrap().unwell.unwrap();
        assert!(unwell.message.contains("spec.export.addresses"), "{}", unwell.message);
        let given = json!({"addresses": [{"value": "gw.east.example"}]});
        let found = scene_with(given, OriginType::ClusterIp).gateway().unwrap();
        assert_eq!((found.unwell, found.listeners), (None, vec![4143]));
        assert_eq!(
            scene_with(json!({}), OriginType::ExternalName).gateway().unwrap_err().reason,
            Reason::UnsupportedValue
        );
    }

    #[test]
    fn what_is_no_gateway_of_linkerd_is_refused() {
        let mut scene = scene();
        scene.services.get_mut(&key()).unwrap().annotations.clear();
        let refusal = scene.gateway().unwrap_err();
        assert_eq!(refusal.reason, Reason::UnsupportedValue);
        assert!(refusal.message.contains(LINKERD_GATEWAY_IDENTITY_ANNOTATION), "{}", refusal.message);
        scene.services.get_mut(&key()).unwrap().ports.edit(|ports| ports.remove(0));
        assert!(scene.gateway().unwrap_err().message.contains("mc-gateway"));
        scene.services.clear();
        assert_eq!(scene.gateway().unwrap_err().reason, Reason::RefNotFound);
    }

    #[test]
    fn linkerd_goes_with_its_own_routing_only() {
        let reference = json!({"linkerd": {"serviceRef": {"namespace": "a", "name": "b"}}});
        for routing in [Routing::Port, Routing::Host, Routing::Sni] {
            assert_eq!(Scene::new(routing, reference.clone()).gateway().unwrap_err().reason, Reason::UnsupportedValue);
        }
        let other = json!({"envoy": {}});
        assert_eq!(Scene::new(Routing::Linkerd, other).gateway().unwrap_err().reason, Reason::UnsupportedValue);
    }
}
