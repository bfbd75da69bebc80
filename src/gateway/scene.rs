//! What the tests of all providers share: a cluster in memory, and plans.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::object::is_bindings;
use crate::{
    api::binding::{Export, Routing},
    core::{
        envoy::EnvoyState,
        export::{
            object::{Kind, KindNews, Object, ObjectId, Objects},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, Route, RouteId, Surroundings},
        },
        model::{Key, LocalNode, Map as Labels, Origin, OriginCommon, OriginPort, OriginType, Protocol, RemoteNode},
        select::Refusal,
    },
};

pub(super) const BINDING: &str = "public";
pub(super) const NAMESPACE: &str = "heliostat-system";

/// A cluster, a binding's provider in it, and what the binding is to carry.
pub(super) struct Scene {
    pub(super) provider: Box<dyn Provider>,
    pub(super) plan: ExportPlan,
    pub(super) objects: Objects,
    pub(super) services: BTreeMap<Key, Origin>,
    pub(super) ready: BTreeSet<Key>,
    pub(super) nodes: BTreeMap<String, RemoteNode>,
    pub(super) local_nodes: BTreeMap<String, LocalNode>,
    pub(super) envoys: Option<EnvoyState>,
    pub(super) written: BTreeMap<ObjectId, Timestamp>,
    pub(super) now: Timestamp,
}

impl Scene {
    /// The provider of `spec.export.provider`, in a cluster that serves all its kinds in their
    /// preferred versions and has no object.
    pub(super) fn new(routing: Routing, provider: Value) -> Self {
        Self::with(routing, provider, json!({}))
    }

    pub(super) fn with(routing: Routing, provider: Value, export: Value) -> Self {
        let mut spec = json!({"services": {"namespaces": ["*"]}, "clusterName": "east", "provider": provider});
        for (field, value) in export.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let export: Export = serde_json::from_value(spec).unwrap();
        let provider = super::provider(BINDING, routing, &export);
        let mut objects = Objects::default();
        for kind in provider.kinds() {
            objects.take(kind, KindNews::Listed(kind.versions[0].into(), BTreeMap::new()));
        }
        let plan =
            ExportPlan { binding: BINDING.into(), binding_uid: "uid-public".into(), routing, routes: BTreeMap::new() };
        Self {
            provider,
            plan,
            objects,
            services: BTreeMap::new(),
            ready: BTreeSet::new(),
            nodes: BTreeMap::new(),
            local_nodes: BTreeMap::new(),
            envoys: None,
            written: BTreeMap::new(),
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
        }
    }

    pub(super) fn around(&self) -> Surroundings<'_> {
        Surroundings {
            objects: &self.objects,
            services: &self.services,
            ready: &self.ready,
            nodes: &self.nodes,
            local_nodes: &self.local_nodes,
            envoys: self.envoys.as_ref(),
            written: &self.written,
            namespace: NAMESPACE,
            envoy_image: "registry.example/envoy:1",
            cluster_domain: "cluster.local",
            now: self.now,
        }
    }

    pub(super) fn gateway(&self) -> Result<Gateway, Refusal> {
        self.provider.gateway(&self.around())
    }

    /// What should be; twice the same.
    pub(super) fn render(&self) -> Rendered {
        let rendered = self.provider.render(&self.plan, &self.around());
        assert_eq!(rendered, self.provider.render(&self.plan, &self.around()));
        rendered
    }

    pub(super) fn programmed(&self, route: &RouteId) -> Programmed {
        self.provider.programmed(&self.plan, route, &self.around())
    }

    /// Wants a route.
    pub(super) fn want(&mut self, id: &RouteId, route: Route) {
        self.plan.routes.insert(id.clone(), route);
    }

    /// Wants a route by a port.
    pub(super) fn want_port(&mut self, id: &RouteId, port: u16) {
        self.want(id, route(id, port));
    }

    /// There is this object now.
    pub(super) fn put(&mut self, kind: Kind, object: Value) {
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = Key::new(meta("namespace"), meta("name"));
        self.objects.take(kind, KindNews::Set(key, object));
    }

    /// The cluster does not serve the kind.
    pub(super) fn not_served(&mut self, kind: Kind) {
        self.objects.take(kind, KindNews::NotServed);
    }

    /// Changes an object that is there.
    pub(super) fn change(&mut self, kind: Kind, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut object = self.objects.get(kind, key).unwrap().clone();
        change(&mut object);
        self.objects.take(kind, KindNews::Set(key.clone(), object));
    }

    /// Does what the writing side does: creates, patches and deletes until what should be is there.
    /// Then nothing differs. Gives what was refused and, by [`name`], what was written.
    pub(super) fn apply(&mut self) -> (Rendered, Vec<String>) {
        let rendered = self.render();
        let mut wrote = Vec::new();
        for object in &rendered.objects {
            assert!(object.id.key.name.len() <= 253, "{}", object.id);
            let before = self.objects.get(object.id.kind, &object.id.key).cloned();
            let after = match &before {
                None => created(object),
                Some(there) => match object.patch(there) {
                    None => continue,
                    Some(patch) => patched(there.clone(), patch),
                },
            };
            wrote.push(name(object));
            self.objects.take(object.id.kind, KindNews::Set(object.id.key.clone(), after));
        }
        let wanted: BTreeSet<&ObjectId> = rendered.objects.iter().map(|object| &object.id).collect();
        for kind in self.provider.kinds() {
            let ours = self.objects.all(kind).filter(|(_, object)| is_bindings(object, BINDING));
            let ours = ours.map(|(key, _)| ObjectId { kind, key: key.clone() });
            let gone: Vec<ObjectId> = ours.filter(|id| !wanted.contains(id)).collect();
            for id in gone {
                wrote.push(format!("-{id}"));
                self.objects.take(kind, KindNews::Gone(id.key));
            }
        }
        for object in &rendered.objects {
            let there = self.objects.get(object.id.kind, &object.id.key).unwrap();
            assert_eq!(object.patch(there), None, "{} as it was written", object.id);
        }
        assert_eq!(self.render(), rendered, "what should be changes by being there");
        (rendered, wrote)
    }
}

/// `<kind> <namespace>/<name>`
pub(super) fn name(object: &Object) -> String {
    object.id.to_string()
}

fn created(object: &Object) -> Value {
    let mut whole = Value::Object(object.whole());
    whole["metadata"]["generation"] = json!(1);
    whole["metadata"]["uid"] = json!(format!("uid-{}", object.id));
    whole["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    whole
}

fn patched(mut there: Value, patch: Map<String, Value>) -> Value {
    merge(&mut there, Value::Object(patch));
    let generation = there["metadata"]["generation"].as_u64().unwrap_or_default();
    there["metadata"]["generation"] = json!(generation + 1);
    there
}

/// RFC 7386.
fn merge(base: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !base.is_object() {
                *base = json!({});
            }
            for (field, value) in fields {
                match value {
                    Value::Null => drop(base.as_object_mut().unwrap().remove(&field)),
                    value => merge(base.as_object_mut().unwrap().entry(field).or_insert(Value::Null), value),
                }
            }
        }
        value => *base = value,
    }
}

pub(super) fn tcp(service: &str, port: u16) -> RouteId {
    RouteId { service: service.parse().unwrap(), port, protocol: Protocol::Tcp }
}

pub(super) fn udp(service: &str, port: u16) -> RouteId {
    RouteId { protocol: Protocol::Udp, ..tcp(service, port) }
}

pub(super) fn route(id: &RouteId, gateway_port: u16) -> Route {
    Route {
        port: OriginPort { protocol: id.protocol, ..port("", id.port) },
        service_uid: format!("uid-{}", id.service),
        gateway_port,
        hostnames: Vec::new(),
        rewrite: None,
        endpoints: BTreeSet::from(["10.1.0.7:8080".parse().unwrap()]),
    }
}

/// A route by names, over a port of such a name.
pub(super) fn named(id: &RouteId, gateway_port: u16, port_name: &str, hostnames: &[&str]) -> Route {
    let hostnames = hostnames.iter().map(|name| (*name).to_owned()).collect();
    Route { port: port(port_name, id.port), hostnames, ..route(id, gateway_port) }
}

pub(super) fn port(name: &str, number: u16) -> OriginPort {
    OriginPort {
        name: name.into(),
        port: number,
        protocol: Protocol::Tcp,
        app_protocol: None,
        node_port: None,
        pod_port: Some(number),
    }
}

/// A Service in front of a gateway.
pub(super) fn front(kind: OriginType, ports: Vec<OriginPort>) -> Origin {
    Origin {
        uid: "uid-front".into(),
        labels: Labels::new(),
        ingress: [].into(),
        common: OriginCommon {
            annotations: Labels::new(),
            kind,
            ports: ports.into(),
            has_selector: true,
            local_traffic: false,
            malformed: None,
        }
        .into(),
    }
}

/// The one object of a kind.
pub(super) fn one(rendered: &Rendered, kind: Kind) -> &Object {
    let found: Vec<&Object> = rendered.objects.iter().filter(|object| object.id.kind == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {rendered:?}");
    found[0]
}

/// How many objects of a kind there are.
pub(super) fn count(rendered: &Rendered, kind: Kind) -> usize {
    rendered.objects.iter().filter(|object| object.id.kind == kind).count()
}
