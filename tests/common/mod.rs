//! An importer and its exporters in memory, at the level of the core's inputs and outputs: writes
//! are carried out on maps and echoed as a watch would, uids and resourceVersions included.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
// Each test file uses a part of it.
#![allow(dead_code)]

pub mod exporter;

use std::collections::{BTreeMap, VecDeque};

use heliostat::{
    api::{ClusterLink, GatewayBinding, MirrorPolicy},
    core::{
        engine::{Engine, Settings},
        io::{
            Change, Input, Local, MirrorService, Output, RemoteEvent, ServicePatch, WriteError, WriteFailure, WriteOp,
            Written,
        },
        model::{
            AddressType, Family, Key, List, LocalNamespace, LocalPort, LocalService, LocalSlice, Map, MirrorState,
            MirroredCondition, Origin, OriginPort, OriginType, Protocol, Published, Readiness, RemoteEndpoint,
            RemoteNode, RemoteSlice, Seldom, SlicePort, SliceRole, Text, Uid, Version,
        },
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const NAMESPACE: &str = "heliostat-system";

pub fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.into_iter().for_each(|(k, v)| merge(base.entry(k).or_insert(Value::Null), v))
        }
        (base, over) => *base = over,
    }
}

/// A link as in the catalogue's fixture, with changes to its spec.
pub fn link(name: &str, spec: Value) -> ClusterLink {
    let mut object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": {"kubeconfigSecretRef": {"name": format!("{name}-kubeconfig")}, "allowedNamespaces": {"from": "All"}},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

/// A policy over link east, with changes to its spec.
pub fn policy(text: &str, spec: Value) -> MirrorPolicy {
    let key = key(text);
    let mut object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": format!("uid-{text}"), "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"links": {"names": ["east"]}},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

pub fn binding(name: &str, spec: Value) -> GatewayBinding {
    let object = json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

pub fn port(name: &str, number: u16) -> OriginPort {
    OriginPort {
        name: name.into(),
        port: number,
        protocol: Protocol::Tcp,
        app_protocol: None,
        node_port: None,
        pod_port: None,
    }
}

/// An exported LoadBalancer Service with ports http 80 and grpc 9090 at 203.0.113.5.
pub fn origin(uid: &str) -> Origin {
    Origin {
        uid: uid.into(),
        labels: map(&[("heliostat.dev/export", "true")]),
        annotations: Map::new(),
        kind: OriginType::LoadBalancer,
        ports: vec![port("http", 80), port("grpc", 9090)].into(),
        has_selector: true,
        ingress: vec![heliostat::core::model::Ingress::Ip("203.0.113.5".into())],
        local_traffic: false,
        malformed: None,
    }
}

pub fn slice_port(name: &str, number: u16) -> SlicePort {
    SlicePort { name: name.into(), port: number, protocol: Protocol::Tcp, app_protocol: None }
}

/// The pods of a Service.
pub fn pods(service: &str, addresses: &[&str], ready: bool) -> RemoteSlice {
    let endpoint = |a: &&str| RemoteEndpoint {
        address: Some((*a).into()),
        readiness: Readiness::all(ready),
        hostname: None,
        node: Some("n1".into()),
    };
    RemoteSlice {
        role: SliceRole::Pods { service: service.into() },
        address_type: AddressType::Ip(Family::V4),
        ports: vec![slice_port("http", 8080), slice_port("grpc", 9090)].into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        trigger_time: None,
    }
}

/// A published slice of a gateway with Port routing.
pub fn published(service: &str, binding: &str, addresses: &[&str], ports: &[(&str, u16)]) -> RemoteSlice {
    let what = Published {
        service: service.into(),
        binding: binding.into(),
        contract: "v1".into(),
        routing: "Port".into(),
        hostnames: vec![],
        port_lease: Some("24h".into()),
        identity: None,
    };
    RemoteSlice {
        role: SliceRole::Published(Box::new(what)),
        ports: ports.iter().map(|(name, number)| slice_port(name, *number)).collect(),
        ..pods(service, addresses, true)
    }
}

/// An importer with an engine, and what has been written.
pub struct Sim {
    pub engine: Engine,
    pub now: Timestamp,
    pub services: BTreeMap<Key, LocalService>,
    pub slices: BTreeMap<Key, LocalSlice>,
    pub links: BTreeMap<String, ClusterLink>,
    pub policies: BTreeMap<Key, MirrorPolicy>,
    pub bindings: BTreeMap<String, GatewayBinding>,
    pub log: Vec<WriteOp>,
    pub others: Vec<Output>,
    pub families: Vec<Family>,
    pub session: u64,
    /// How long each write takes.
    pub latency: SignedDuration,
    /// How the next writes of mirrors fail.
    pub refuse: VecDeque<WriteFailure>,
    version: u64,
}

impl Sim {
    /// An engine that has just been started on what there is.
    pub fn new() -> Self {
        let mut sim = Self {
            engine: engine(),
            now: "2026-06-01T12:00:00Z".parse().unwrap(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            links: BTreeMap::new(),
            policies: BTreeMap::new(),
            bindings: BTreeMap::new(),
            log: Vec::new(),
            others: Vec::new(),
            families: vec![Family::V4],
            session: 1,
            latency: SignedDuration::ZERO,
            refuse: VecDeque::new(),
            version: 100,
        };
        sim.list_all(true);
        sim
    }

    /// The fixture: link east, policy shop/all, namespace shop.
    pub fn fixture() -> Self {
        let mut sim = Self::new();
        sim.namespace("shop");
        sim.set_link(link("east", json!({})));
        sim.set_policy(policy("shop/all", json!({})));
        sim
    }

    /// The fixture with shop/books exported, ready, and mirrored.
    pub fn with_books() -> Self {
        let mut sim = Self::fixture();
        sim.connect("east");
        sim.list("east", &[("shop/books", origin("b1"))], &[("shop/books-x", pods("books", &["10.1.0.1"], true))]);
        sim
    }

    fn list_all(&mut self, services_too: bool) {
        let services = self.services.clone();
        let slices = self.slices.clone();
        let links = self.links.iter().map(|(k, v)| (k.clone(), Box::new(v.clone()))).collect();
        let policies = self.policies.iter().map(|(k, v)| (k.clone(), Box::new(v.clone()))).collect();
        let bindings = self.bindings.iter().map(|(k, v)| (k.clone(), Box::new(v.clone()))).collect();
        let known = self.engine.world().namespaces.clone();
        for local in [
            Local::ClusterUid("west-uid".into()),
            Local::Link(Change::All(links)),
            Local::Policy(Change::All(policies)),
            Local::Binding(Change::All(bindings)),
            Local::Namespace(Change::All(known)),
            Local::Service(Change::All(services)),
            Local::Slice(Change::All(slices)),
            Local::Node(Change::All(BTreeMap::new())),
            Local::ServiceCidr(Change::All([("kubernetes".to_owned(), vec!["10.96.0.0/16".parse().unwrap()])].into())),
        ] {
            if services_too || !matches!(local, Local::Service(_) | Local::Slice(_)) {
                self.give(Input::Local(local));
            }
        }
    }

    /// The controller is killed and started again: only what is in the API remains.
    pub fn restart(&mut self) {
        self.restart_listing(true);
    }

    fn restart_listing(&mut self, services_too: bool) {
        let namespaces = self.engine.world().namespaces.clone();
        self.engine = engine();
        self.session = 1;
        self.engine.handle(Input::Local(Local::Namespace(Change::All(namespaces))), self.now);
        self.list_all(services_too);
    }

    /// The same, and the cluster's Services and slices have not been listed yet.
    pub fn restart_without_services(&mut self) {
        let (services, slices) = (std::mem::take(&mut self.services), std::mem::take(&mut self.slices));
        self.restart_listing(false);
        (self.services, self.slices) = (services, slices);
    }

    /// Gives one input, carries out what follows from it, and lets status settle.
    pub fn give(&mut self, input: Input) {
        let outputs = self.engine.handle(input, self.now);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut todo: VecDeque<Output> = outputs.into();
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Write(write) => {
                    self.log.push(write.op.clone());
                    let (result, echo) = self.execute(&write.op);
                    self.now = self.now.checked_add(self.latency).unwrap();
                    todo.extend(self.engine.handle(Input::Written { id: write.id, result }, self.now));
                    for input in echo {
                        todo.extend(self.engine.handle(input, self.now));
                    }
                }
                other => self.others.push(other),
            }
        }
    }

    /// Lets time pass, waking the engine when it asks to be woken.
    pub fn pass(&mut self, span: SignedDuration) {
        let end = self.now.checked_add(span).unwrap();
        while let Some(wake) = self.engine.next_wakeup().filter(|wake| *wake <= end) {
            self.now = wake.max(self.now);
            let outputs = self.engine.handle(Input::Tick, self.now);
            self.carry_out(outputs);
        }
        self.now = end.max(self.now);
        let outputs = self.engine.handle(Input::Tick, self.now);
        self.carry_out(outputs);
    }

    /// Lets status settle.
    pub fn settle(&mut self) {
        self.pass(SignedDuration::from_secs(5));
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    // ---- this cluster ----

    pub fn namespace(&mut self, name: &str) {
        let ns = LocalNamespace { labels: map(&[("kubernetes.io/metadata.name", name)]), terminating: false };
        self.give(Input::Local(Local::Namespace(Change::Set(name.into(), ns))));
    }

    pub fn set_link(&mut self, mut link: ClusterLink) {
        let name = link.metadata.name.clone().unwrap();
        if let Some(old) = self.links.get(&name) {
            link.metadata.generation = old.metadata.generation.map(|g| g + 1);
            link.status = old.status.clone();
        }
        link.metadata.resource_version = Some(self.next_version());
        self.links.insert(name.clone(), link.clone());
        self.give(Input::Local(Local::Link(Change::Set(name, Box::new(link)))));
        self.settle();
    }

    pub fn set_policy(&mut self, mut policy: MirrorPolicy) {
        let key = Key::new(policy.metadata.namespace.clone().unwrap(), policy.metadata.name.clone().unwrap());
        if let Some(old) = self.policies.get(&key) {
            policy.metadata.generation = old.metadata.generation.map(|g| g + 1);
            policy.status = old.status.clone();
        }
        policy.metadata.resource_version = Some(self.next_version());
        self.policies.insert(key.clone(), policy.clone());
        self.give(Input::Local(Local::Policy(Change::Set(key, Box::new(policy)))));
        self.settle();
    }

    pub fn delete_policy(&mut self, text: &str) {
        self.policies.remove(&key(text));
        self.give(Input::Local(Local::Policy(Change::Gone(key(text)))));
        self.settle();
    }

    pub fn set_binding(&mut self, binding: GatewayBinding) {
        let name = binding.metadata.name.clone().unwrap();
        self.bindings.insert(name.clone(), binding.clone());
        self.give(Input::Local(Local::Binding(Change::Set(name, Box::new(binding)))));
        self.settle();
    }

    /// Somebody else makes a Service.
    pub fn foreign_service(&mut self, text: &str) {
        let service = LocalService {
            uid: format!("foreign-{text}").into(),
            resource_version: self.next_version().into(),
            terminating: false,
            ours: None,
        };
        self.services.insert(key(text), service.clone());
        self.give(Input::Local(Local::Service(Change::Set(key(text), service))));
        self.settle();
    }

    /// Somebody edits a Service that carries our marks.
    pub fn edit_service(&mut self, text: &str, edit: impl FnOnce(&mut MirrorState)) {
        let version = self.next_version();
        let service = self.services.get_mut(&key(text)).unwrap();
        edit(service.ours.as_mut().unwrap());
        service.resource_version = version.into();
        let service = service.clone();
        self.give(Input::Local(Local::Service(Change::Set(key(text), service))));
        self.settle();
    }

    pub fn delete_service(&mut self, text: &str) {
        self.services.remove(&key(text)).unwrap();
        self.give(Input::Local(Local::Service(Change::Gone(key(text)))));
        self.settle();
    }

    // ---- the exporters ----

    pub fn remote(&mut self, link: &str, event: RemoteEvent) {
        let session = self.session;
        self.give(Input::Remote { link: link.into(), session, received: self.now, event });
        self.settle();
    }

    pub fn connect(&mut self, link: &str) {
        self.remote(link, connected(&format!("{link}-uid")));
    }

    pub fn list(&mut self, link: &str, services: &[(&str, Origin)], slices: &[(&str, RemoteSlice)]) {
        self.remote(link, listed(&format!("{link}-uid"), services, slices));
    }

    pub fn origin(&mut self, text: &str, origin: Origin) {
        self.remote("east", RemoteEvent::Service(key(text), Box::new(origin)));
    }

    pub fn slice(&mut self, text: &str, slice: RemoteSlice) {
        self.remote("east", RemoteEvent::Slice(key(text), Box::new(slice)));
    }

    pub fn lose(&mut self, link: &str) {
        let event =
            RemoteEvent::Lost { reason: heliostat::api::Reason::RemoteUnreachable, message: "no answer".into() };
        self.remote(link, event);
    }

    // ---- what came of it ----

    pub fn mirror(&self, text: &str) -> &MirrorState {
        self.services
            .get(&key(text))
            .unwrap_or_else(|| panic!("no Service {text}; there are {:?}", self.names()))
            .ours
            .as_ref()
            .unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.services.keys().map(ToString::to_string).collect()
    }

    /// `address:port name ready` of all slices of a mirror, sorted.
    pub fn endpoints(&self, text: &str) -> Vec<String> {
        let service = key(text);
        let of = |(k, s): &(&Key, &LocalSlice)| {
            k.namespace == service.namespace && s.service.as_deref() == Some(&service.name)
        };
        let mut all: Vec<String> = self
            .slices
            .iter()
            .filter(of)
            .flat_map(|(_, s)| {
                s.body.endpoints.iter().flat_map(|e| {
                    s.body.ports.iter().map(move |p| {
                        format!(
                            "{}:{} {} {}",
                            e.address,
                            p.port,
                            p.name,
                            if e.readiness.ready { "ready" } else { "not ready" }
                        )
                    })
                })
            })
            .collect();
        all.sort();
        all
    }

    pub fn link_condition(&self, name: &str, kind: &str) -> Option<(String, String)> {
        let status = self.links.get(name)?.status.as_ref()?;
        status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.reason.clone()))
    }

    pub fn policy_condition(&self, text: &str, kind: &str) -> Option<(String, String)> {
        let status = self.policies.get(&key(text))?.status.as_ref()?;
        status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.reason.clone()))
    }

    pub fn failures(&self, text: &str) -> Vec<(String, String)> {
        let status = self.policies[&key(text)].status.as_ref().unwrap();
        status.failures.iter().map(|f| (format!("{}/{}", f.namespace, f.name), f.reason.clone())).collect()
    }

    /// (matched, mirrored, skipped, conflicted)
    pub fn counts(&self, text: &str) -> (u32, u32, u32, u32) {
        let counts = self.policies[&key(text)].status.as_ref().unwrap().services.unwrap();
        (counts.matched, counts.mirrored, counts.skipped, counts.conflicted)
    }

    /// Writes of mirrors and slices since the last call; statuses are not counted.
    pub fn writes(&mut self) -> Vec<WriteOp> {
        std::mem::take(&mut self.log).into_iter().filter(|op| op.object().is_some()).collect()
    }

    // ---- carrying writes out ----

    fn execute(&mut self, op: &WriteOp) -> (Result<Written, WriteError>, Vec<Input>) {
        let version = self.next_version();
        let failed = |kind| Err(WriteError { kind, message: "refused by the test".into(), retry_after: None });
        if let (Some(_), Some(kind)) = (op.object(), self.refuse.front().copied()) {
            self.refuse.pop_front();
            return (failed(kind), vec![]);
        }
        match op {
            WriteOp::CreateService(key, wanted) => {
                if self.services.contains_key(key) {
                    return (failed(WriteFailure::AlreadyExists), vec![]);
                }
                let service = LocalService {
                    uid: format!("made-{version}").into(),
                    resource_version: version.into(),
                    terminating: false,
                    ours: Some(Box::new(created(wanted, &self.families))),
                };
                self.services.insert(key.clone(), service.clone());
                (
                    Ok(Written::Service(service.clone())),
                    vec![Input::Local(Local::Service(Change::Set(key.clone(), service)))],
                )
            }
            WriteOp::PatchService(key, at, patch) => {
                self.on_service(key, &at.uid, &at.resource_version, version, |state| patched(state, patch))
            }
            WriteOp::PatchServiceConditions(key, at, list) => {
                self.on_service(key, &at.uid, &at.resource_version, version, |state| {
                    let ours = |v: &&Value| v["type"] == "heliostat.dev/Mirrored";
                    let mirrored = list.iter().find(ours).map(|v| MirroredCondition {
                        reason: v["reason"].as_str().unwrap().into(),
                        message: v["message"].as_str().unwrap().into(),
                        since: v["lastTransitionTime"].as_str().unwrap().parse().unwrap(),
                        observed_generation: 0,
                    });
                    state.odd.edit(|odd| odd.mirrored = mirrored);
                })
            }
            WriteOp::DeleteService(key, at) => match self.services.get(key) {
                None => (failed(WriteFailure::NotFound), vec![]),
                Some(service) if service.uid != at.uid || service.resource_version != at.resource_version => {
                    (failed(WriteFailure::Conflict), vec![])
                }
                Some(_) => {
                    let gone = self.services.remove(key).unwrap();
                    let mut echo = vec![Input::Local(Local::Service(Change::Gone(key.clone())))];
                    // Kubernetes' garbage collector.
                    let orphans: Vec<Key> = self
                        .slices
                        .iter()
                        .filter(|(_, s)| s.service_owner.as_ref() == Some(&gone.uid))
                        .map(|(k, _)| k.clone())
                        .collect();
                    for slice in orphans {
                        self.slices.remove(&slice);
                        echo.push(Input::Local(Local::Slice(Change::Gone(slice))));
                    }
                    (Ok(Written::Deleted), echo)
                }
            },
            WriteOp::CreateSlice(key, wanted) | WriteOp::PatchSlice(key, _, wanted) => {
                let creating = matches!(op, WriteOp::CreateSlice(..));
                match (self.slices.get(key), creating) {
                    (Some(_), true) => return (failed(WriteFailure::AlreadyExists), vec![]),
                    (None, false) => return (failed(WriteFailure::NotFound), vec![]),
                    _ => {}
                }
                let slice = LocalSlice {
                    uid: self.slices.get(key).map_or_else(|| format!("made-{version}").into(), |s| s.uid.clone()),
                    resource_version: version.into(),
                    terminating: false,
                    service: Some(wanted.service.0.clone()),
                    service_owner: Some(wanted.service.1.clone()),
                    other_owners: false,
                    body: wanted.body.clone(),
                    alien_type: None,
                    alien_fields: false,
                };
                self.slices.insert(key.clone(), slice.clone());
                (Ok(Written::Slice(slice.clone())), vec![Input::Local(Local::Slice(Change::Set(key.clone(), slice)))])
            }
            WriteOp::DeleteSlice(key, _) => match self.slices.remove(key) {
                None => (failed(WriteFailure::NotFound), vec![]),
                Some(_) => (Ok(Written::Deleted), vec![Input::Local(Local::Slice(Change::Gone(key.clone())))]),
            },
            WriteOp::LinkStatus(name, _, status) => {
                let Some(object) = self.links.get_mut(name) else { return (failed(WriteFailure::NotFound), vec![]) };
                object.status = Some((**status).clone());
                object.metadata.resource_version = Some(version.clone());
                (
                    Ok(Written::Status(version)),
                    vec![Input::Local(Local::Link(Change::Set(name.clone(), Box::new(object.clone()))))],
                )
            }
            WriteOp::CreateObject(..) | WriteOp::PatchObject(..) | WriteOp::DeleteObject(..) => {
                panic!("an importer writes no {op:?}")
            }
            WriteOp::PolicyStatus(key, _, status) => {
                let Some(object) = self.policies.get_mut(key) else { return (failed(WriteFailure::NotFound), vec![]) };
                object.status = Some((**status).clone());
                object.metadata.resource_version = Some(version.clone());
                (
                    Ok(Written::Status(version)),
                    vec![Input::Local(Local::Policy(Change::Set(key.clone(), Box::new(object.clone()))))],
                )
            }
            WriteOp::BindingStatus(name, _, status) => {
                let Some(object) = self.bindings.get_mut(name) else { return (failed(WriteFailure::NotFound), vec![]) };
                object.status = Some((**status).clone());
                object.metadata.resource_version = Some(version.clone());
                (
                    Ok(Written::Status(version)),
                    vec![Input::Local(Local::Binding(Change::Set(name.clone(), Box::new(object.clone()))))],
                )
            }
        }
    }

    fn on_service(
        &mut self,
        key: &Key,
        uid: &Uid,
        seen: &Version,
        version: String,
        change: impl FnOnce(&mut MirrorState),
    ) -> (Result<Written, WriteError>, Vec<Input>) {
        let conflict = Err(WriteError { kind: WriteFailure::Conflict, message: "changed".into(), retry_after: None });
        let Some(service) = self.services.get_mut(key).filter(|s| s.uid == *uid && s.resource_version == *seen) else {
            return (conflict, vec![]);
        };
        change(service.ours.as_mut().unwrap());
        service.resource_version = version.into();
        let service = service.clone();
        (Ok(Written::Service(service.clone())), vec![Input::Local(Local::Service(Change::Set(key.clone(), service)))])
    }
}

fn engine() -> Engine {
    Engine::new(Settings {
        namespace: NAMESPACE.into(),
        cluster_domain: "cluster.local".into(),
        cluster_cidrs: vec![],
        writes_in_flight: 8,
        export: None,
    })
}

pub fn connected(uid: &str) -> RemoteEvent {
    RemoteEvent::Connected {
        cluster_uid: uid.into(),
        server_version: "v1.36.3".into(),
        credentials_expire_at: None,
        own_server: false,
    }
}

pub fn listed(uid: &str, services: &[(&str, Origin)], slices: &[(&str, RemoteSlice)]) -> RemoteEvent {
    RemoteEvent::Listed {
        cluster_uid: uid.into(),
        versions: BTreeMap::new(),
        services: services.iter().map(|(k, v)| (key(k), v.clone())).collect(),
        slices: slices.iter().map(|(k, v)| (key(k), v.clone())).collect(),
    }
}

pub fn node(address: &str) -> RemoteNode {
    RemoteNode { usable: true, external: vec![], internal: vec![address.into()] }
}

fn local_ports(ports: &[SlicePort]) -> List<LocalPort> {
    ports.iter().map(|port| LocalPort { port: port.clone(), target_is_port: true }).collect()
}

fn created(wanted: &MirrorService, families: &[Family]) -> MirrorState {
    MirrorState {
        labels: wanted.labels.clone(),
        annotations: wanted.annotations.clone(),
        link_owners: wanted.owner.iter().cloned().collect(),
        service_type: "ClusterIP".into(),
        headless: wanted.headless,
        has_selector: false,
        families: families.to_vec().into(),
        prefers_dual_stack: true,
        ports: local_ports(&wanted.ports),
        odd: Seldom::default(),
    }
}

fn patched(state: &mut MirrorState, patch: &ServicePatch) {
    let apply = |map: &mut Map, patch: &BTreeMap<Text, Option<Text>>| {
        for (key, value) in patch {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
    };
    apply(&mut state.labels, &patch.labels);
    let mut annotations = Map::from(&state.annotations);
    apply(&mut annotations, &patch.annotations);
    state.annotations = annotations.into();
    if let Some(owners) = &patch.owners {
        let text = |v: &Value, field: &str| Text::from(v[field].as_str().unwrap());
        let (links, others) = owners.iter().cloned().partition::<Vec<Value>, _>(|v| v["kind"] == "ClusterLink");
        state.link_owners = links.iter().map(|v| (text(v, "name"), text(v, "uid"))).collect();
        state.odd.edit(|odd| odd.other_owners = others);
    }
    if let Some(ports) = &patch.ports {
        state.ports = local_ports(ports);
    }
    if patch.cluster_ip_type {
        state.service_type = "ClusterIP".into();
    }
    state.prefers_dual_stack |= patch.prefer_dual_stack;
    state.odd.edit(|odd| odd.foreign_fields.retain(|f| !patch.remove_fields.contains(f)));
}
