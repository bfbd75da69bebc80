//! An exporter in memory: a cluster at the level of the core's inputs and outputs, and a gateway that
//! confirms what it carries when the test says so.

use std::collections::{BTreeMap, VecDeque};

use super::{NAMESPACE, binding, key, map};
use heliostat::{
    api::{
        GatewayBinding, Reason,
        binding::{Export, Routing},
    },
    core::{
        engine::{Engine, Settings},
        envoy::{EnvoyConfig, EnvoyState},
        export::{
            exporter::ExportSettings,
            object::{self, Kind, KindNews, LEASE, OWN_SERVICE, Object, ObjectId, Owner, PUBLISHED_SLICE},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, RouteId, Supply, Surroundings},
        },
        io::{Change, ExportNews, Input, Local, Output, WriteError, WriteFailure, WriteOp, Written},
        model::{
            AddressType, Family, Ingress, Key, LocalNamespace, Origin, OriginPort, OriginType, Protocol, Readiness,
            RemoteEndpoint, RemoteNode, RemoteSlice, SlicePort, SliceRole,
        },
        select::Refusal,
    },
    gateway,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

pub const ROUTE: Kind = object::kind("test.dev", "Route", "routes", &["v1"]);
pub const GATEWAY: Kind = object::kind("test.dev", "Gateway", "gateways", &["v1"]);

/// A gateway whose address and whose word on routes stand in objects.
#[derive(Debug)]
pub struct Plain;

impl Provider for Plain {
    fn kinds(&self) -> Vec<Kind> {
        vec![ROUTE, GATEWAY]
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let missing = || Refusal::new(Reason::RefNotFound, "Gateway edge/main does not exist");
        let gateway = around.objects.get(GATEWAY, &key("edge/main")).ok_or_else(missing)?;
        Ok(Gateway {
            identity: ["plain", "Gateway", "edge", "main"].map(str::to_owned),
            addresses: object::list(&gateway["addresses"]).iter().map(|a| a.as_str().unwrap().to_owned()).collect(),
            ports: Supply { protocols: [Protocol::Tcp].into(), ..Supply::default() },
            listeners: vec![80],
            unwell: None,
            tls_identity: None,
            confirms: true,
        })
    }

    fn render(&self, plan: &ExportPlan, _: &Surroundings<'_>) -> Rendered {
        let object = |(id, route): (&RouteId, &heliostat::core::export::provider::Route)| Object {
            labels: plan.labels(),
            owner: Some(Owner {
                api_version: "v1".into(),
                kind: "Service",
                name: id.service.name.to_string(),
                uid: route.service_uid.clone(),
            }),
            ..Object::with_spec(
                ROUTE,
                Key::new(id.service.namespace.clone(), format!("{}-{}", id.service.name, id.port)),
                json!({"gatewayPort": route.gateway_port, "hostnames": route.hostnames}),
            )
        };
        Rendered { objects: plan.routes.iter().map(object).collect(), ..Rendered::default() }
    }

    fn programmed(&self, _: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let name = Key::new(id.service.namespace.clone(), format!("{}-{}", id.service.name, id.port));
        match around.objects.get(ROUTE, &name) {
            Some(route) if route["status"]["programmed"] == true => Programmed::Yes,
            Some(route) if route["status"]["programmed"] == "unknown" => Programmed::Before("nobody tells".into()),
            _ => Programmed::Pending("the gateway has not confirmed it".into(), None),
        }
    }
}

pub fn plain(binding: &str, routing: Routing, export: &Export) -> Box<dyn Provider> {
    match export.provider.gateway_api {
        Some(_) => Box::new(Plain),
        None => gateway::provider(binding, routing, export),
    }
}

/// What the API server has, the engine, and a clock.
pub struct Cluster {
    pub engine: Engine,
    pub objects: BTreeMap<ObjectId, Value>,
    pub bindings: BTreeMap<String, GatewayBinding>,
    pub services: BTreeMap<Key, Origin>,
    pub slices: BTreeMap<Key, RemoteSlice>,
    pub now: Timestamp,
    pub version: u64,
    /// Every write of an object that was carried out, in order.
    pub log: Vec<String>,
    /// Routes are confirmed as soon as they are there.
    pub prompt: bool,
    /// Writes are carried out as long as this lasts; then the process dies.
    pub budget: usize,
    pub dead: bool,
    /// What Heliostat's own Envoys were told last, and whether they hear and answer.
    pub envoys: Option<EnvoyConfig>,
    pub connected: bool,
    /// The first object of this kind that is made is deleted at once, and a watch says so before the
    /// answer to its creation arrives.
    pub goes_before_answer: Option<Kind>,
    /// Answers, and what watches tell of the write, come one by one, after passes that are due.
    pub answers_late: bool,
    pub late: VecDeque<Vec<Input>>,
    /// Creations of what was there already.
    pub refused: Vec<String>,
}

pub fn spec(export: Value) -> Value {
    let mut spec = json!({"routing": "Port", "export": {
        "services": {"namespaces": ["*"]},
        "provider": {"gatewayAPI": {"gatewayRef": {"namespace": "edge", "name": "main"}}},
        "ports": {"from": 20000, "to": 20099, "lease": "1h"},
    }});
    for (field, value) in export.as_object().unwrap() {
        match field.as_str() {
            "routing" => spec["routing"] = value.clone(),
            field => spec["export"][field] = value.clone(),
        }
    }
    spec
}

pub fn service(name: &str, ports: &[(&str, u16)]) -> Origin {
    let port = |(name, port): &(&str, u16)| OriginPort {
        name: (*name).into(),
        port: *port,
        protocol: Protocol::Tcp,
        app_protocol: None,
        node_port: None,
        pod_port: None,
    };
    Origin {
        uid: format!("uid-{name}").into(),
        labels: map(&[("heliostat.dev/export", "true"), ("tier", "front")]),
        annotations: map(&[]),
        kind: OriginType::ClusterIp,
        ports: ports.iter().map(port).collect(),
        has_selector: true,
        ingress: vec![],
        local_traffic: false,
        malformed: None,
    }
}

pub fn pods(service: &str, addresses: &[&str]) -> RemoteSlice {
    let endpoint = |address: &&str| RemoteEndpoint {
        address: Some((*address).into()),
        readiness: Readiness::all(true),
        hostname: None,
        node: None,
    };
    let port = |name: &str, port| SlicePort { name: name.into(), port, protocol: Protocol::Tcp, app_protocol: None };
    RemoteSlice {
        role: SliceRole::Pods { service: service.into() },
        address_type: AddressType::Ip(Family::V4),
        ports: vec![port("http", 8080), port("grpc", 9090)].into(),
        endpoints: addresses.iter().map(endpoint).collect(),
        trigger_time: None,
    }
}

pub fn engine() -> Engine {
    Engine::new(Settings {
        namespace: NAMESPACE.into(),
        cluster_domain: "cluster.local".into(),
        cluster_cidrs: vec![],
        writes_in_flight: 8,
        export: Some(ExportSettings {
            providers: plain,
            kinds: [vec![ROUTE, GATEWAY], gateway::kinds()].concat(),
            envoy_image: "envoy".into(),
        }),
    })
}

impl Cluster {
    /// Gateway edge/main at 10.9.9.9, binding `public`, Service shop/books with ready pods.
    pub fn new(export: Value) -> Self {
        let mut cluster = Self::empty();
        cluster.bindings.insert("public".into(), binding("public", spec(export)));
        cluster.gateway(&["10.9.9.9"]);
        cluster.export("books", &[("http", 80), ("grpc", 9090)]);
        cluster
    }

    pub fn empty() -> Self {
        Self {
            engine: engine(),
            objects: BTreeMap::new(),
            bindings: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            now: "2026-06-01T00:00:00Z".parse().unwrap(),
            version: 100,
            log: vec![],
            prompt: true,
            budget: usize::MAX,
            dead: false,
            envoys: None,
            connected: true,
            goes_before_answer: None,
            answers_late: false,
            late: VecDeque::new(),
            refused: vec![],
        }
    }

    /// Binding `public` through Heliostat's own gateway, Service shop/books with ready pods.
    pub fn own(export: Value) -> Self {
        let mut cluster = Self::empty();
        let mut spec = spec(export);
        spec["export"]["provider"] = json!({"envoy": {}});
        cluster.bindings.insert("public".into(), binding("public", spec));
        cluster.export("books", &[("http", 80), ("grpc", 9090)]);
        cluster
    }

    /// Binding `public` through a gateway that confirms nothing, behind Service edge/front, and Service
    /// shop/books with ready pods.
    pub fn unconfirmed(provider: Value) -> Self {
        let mut cluster = Self::empty();
        let mut spec = spec(json!({}));
        spec["export"]["provider"] = provider;
        cluster.bindings.insert("public".into(), binding("public", spec));
        cluster.export("books", &[("http", 80), ("grpc", 9090)]);
        let ports = [("web", 80), ("a", 20_001), ("b", 20_002), ("c", 20_003)];
        let ingress = vec![Ingress::Ip("10.9.9.8".into())];
        let mut front =
            Origin { labels: map(&[]), kind: OriginType::LoadBalancer, ingress, ..service("front", &ports) };
        front.ports.edit(|ports| ports.iter_mut().for_each(|port| port.pod_port = Some(port.port)));
        cluster.services.insert(key("edge/front"), front);
        cluster.slices.insert(key("edge/front-abc"), pods("front", &["10.244.0.9"]));
        cluster
    }

    pub fn gateway(&mut self, addresses: &[&str]) {
        let id = ObjectId { kind: GATEWAY, key: key("edge/main") };
        self.put(id, json!({"metadata": {"name": "main", "namespace": "edge"}, "addresses": addresses}));
    }

    pub fn export(&mut self, name: &str, ports: &[(&str, u16)]) {
        let name_key = Key::new("shop", name);
        self.services.insert(name_key.clone(), service(name, ports));
        self.slices.insert(Key::new("shop", format!("{name}-abc")), pods(name, &["10.244.0.7"]));
    }

    pub fn put(&mut self, id: ObjectId, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("u{}", self.version));
        }
        if id.kind == ROUTE && self.prompt && object["status"].is_null() {
            object["status"] = json!({"programmed": true});
        }
        self.objects.insert(id, object);
    }

    /// A new process: lists everything and goes on until nothing is left to do.
    pub fn start(&mut self) -> &mut Self {
        self.engine = engine();
        self.dead = false;
        let mut inputs = vec![
            Input::Local(Local::Link(Change::All(BTreeMap::new()))),
            Input::Local(Local::Policy(Change::All(BTreeMap::new()))),
            Input::Local(Local::Service(Change::All(BTreeMap::new()))),
            Input::Local(Local::Slice(Change::All(BTreeMap::new()))),
            Input::Local(Local::Node(Change::All(BTreeMap::new()))),
            Input::Local(Local::ServiceCidr(Change::All(BTreeMap::new()))),
            Input::Local(Local::ClusterUid("uid-here".into())),
            Input::Local(Local::Namespace(Change::All(BTreeMap::<String, LocalNamespace>::new()))),
            Input::Export(ExportNews::Node(Change::All(BTreeMap::<String, RemoteNode>::new()))),
        ];
        inputs.extend(self.listings());
        self.feed(inputs);
        self
    }

    pub fn listings(&self) -> Vec<Input> {
        let bindings = self.bindings.iter().map(|(n, b)| (n.clone(), Box::new(b.clone()))).collect();
        let mut inputs = vec![
            Input::Local(Local::Binding(Change::All(bindings))),
            Input::Export(ExportNews::Service(Change::All(self.services.clone()))),
            Input::Export(ExportNews::Slice(Change::All(self.slices.clone()))),
        ];
        for kind in [vec![ROUTE, GATEWAY, LEASE, PUBLISHED_SLICE], gateway::kinds()].concat() {
            let of_kind = self.objects.iter().filter(|(id, _)| id.kind == kind);
            let all = of_kind.map(|(id, value)| (id.key.clone(), value.clone())).collect();
            inputs.push(Input::Export(ExportNews::Objects(kind, KindNews::Listed("v1".into(), all))));
        }
        inputs
    }

    /// What changed outside is told; then everything runs until nothing is left to do.
    pub fn settle(&mut self) -> &mut Self {
        let inputs = self.listings();
        self.feed(inputs);
        self
    }

    pub fn feed(&mut self, inputs: Vec<Input>) {
        let mut queue: VecDeque<Input> = inputs.into();
        for _ in 0..10_000 {
            if self.dead {
                return;
            }
            let input = match queue.pop_front() {
                Some(input) => input,
                // An answer that is late comes after what else is due.
                None if !self.late.is_empty() => {
                    if let Some(at) = self.engine.next_wakeup() {
                        self.now = self.now.max(at) + SignedDuration::from_millis(1);
                        queue.push_back(Input::Tick);
                    }
                    queue.extend(self.late.pop_front().into_iter().flatten());
                    continue;
                }
                // Time goes on while something is due within the second.
                None => match self.engine.next_wakeup() {
                    Some(at) if at <= self.now + SignedDuration::from_secs(1) => {
                        self.now = self.now.max(at) + SignedDuration::from_millis(1);
                        Input::Tick
                    }
                    _ => return,
                },
            };
            for output in self.engine.handle(input, self.now) {
                match output {
                    Output::Write(write) => {
                        let (result, news) = self.write(&write.op);
                        let answer = Input::Written { id: write.id, result };
                        let told = news.into_iter().chain([answer]);
                        if self.answers_late { self.late.push_back(told.collect()) } else { queue.extend(told) }
                    }
                    Output::Envoys { config, .. } => {
                        self.envoys = config;
                        queue.extend(self.acknowledged());
                    }
                    _ => {}
                }
            }
        }
        panic!("it never comes to rest: {:?}", self.log.iter().rev().take(10).collect::<Vec<_>>());
    }

    /// What Envoys say that do at once what they are told.
    pub fn acknowledged(&self) -> Option<Input> {
        let config = self.envoys.as_ref().filter(|_| self.connected)?;
        let binding = "public".to_owned();
        let serving = config.ports.clone();
        let state = EnvoyState { binding, connected: 1, serving, refused: BTreeMap::new() };
        Some(Input::Export(ExportNews::Envoy(state)))
    }

    /// A Service of ours has a load balancer and ready pods as soon as it is there.
    pub fn balanced(&mut self, id: &ObjectId) -> Vec<Input> {
        if id.kind != OWN_SERVICE {
            return vec![];
        }
        if !self.objects.contains_key(id) {
            self.services.remove(&id.key);
            return vec![Input::Export(ExportNews::Service(Change::Gone(id.key.clone())))];
        }
        let ours = Origin {
            kind: OriginType::LoadBalancer,
            labels: map(&[("app.kubernetes.io/managed-by", "heliostat")]),
            ingress: vec![Ingress::Ip("10.9.9.20".into())],
            ..service(&id.key.name, &[("tcp", 1)])
        };
        self.services.insert(id.key.clone(), ours.clone());
        let slice = Key::new(id.key.namespace.clone(), format!("{}-abc", id.key.name));
        self.slices.insert(slice.clone(), pods(&id.key.name, &["10.244.0.99"]));
        vec![
            Input::Export(ExportNews::Service(Change::Set(id.key.clone(), ours))),
            Input::Export(ExportNews::Slice(Change::Set(slice.clone(), self.slices[&slice].clone()))),
        ]
    }

    /// Lets time pass.
    pub fn pass(&mut self, by: SignedDuration) -> &mut Self {
        self.now += by;
        self.feed(vec![Input::Tick]);
        self
    }

    pub fn write(&mut self, op: &WriteOp) -> (Result<Written, WriteError>, Vec<Input>) {
        let failed = |kind| Err(WriteError { kind, message: "no".into(), retry_after: None });
        if let WriteOp::BindingStatus(name, _, status) = op {
            let binding = self.bindings.get_mut(name).unwrap();
            binding.status = Some((**status).clone());
            self.version += 1;
            binding.metadata.resource_version = Some(self.version.to_string());
            let news = Local::Binding(Change::Set(name.clone(), Box::new(binding.clone())));
            return (Ok(Written::Status(self.version.to_string())), vec![Input::Local(news)]);
        }
        if self.budget == 0 {
            self.dead = true;
            return (failed(WriteFailure::Transient), vec![]);
        }
        let there = op_id(op).and_then(|id| self.objects.get(id).cloned());
        let current = |at: &heliostat::core::io::At, there: &Value| {
            there["metadata"]["uid"] == json!(at.uid)
                && there["metadata"]["resourceVersion"] == json!(at.resource_version)
        };
        let (id, news) = match (op, there) {
            (WriteOp::CreateObject(id, ..), Some(_)) => {
                self.refused.push(id.key.to_string());
                return (failed(WriteFailure::AlreadyExists), vec![]);
            }
            (WriteOp::CreateObject(id, _, whole), None) => {
                self.put(id.clone(), Value::Object((**whole).clone()));
                self.log.push(format!("create {}", id.key));
                (id, None)
            }
            (WriteOp::PatchObject(id, _, at, patch), Some(mut there)) if current(at, &there) => {
                merge_patch(&mut there, patch);
                self.put(id.clone(), there);
                self.log.push(format!("patch {}", id.key));
                (id, None)
            }
            (WriteOp::DeleteObject(id, _, at), Some(there)) if current(at, &there) => {
                self.objects.remove(id);
                self.log.push(format!("delete {}", id.key));
                (id, Some(KindNews::Gone(id.key.clone())))
            }
            (_, Some(_)) => return (failed(WriteFailure::Conflict), vec![]),
            (_, None) => return (failed(WriteFailure::NotFound), vec![]),
        };
        self.budget = self.budget.saturating_sub(1);
        let object = self.objects.get(id).cloned();
        let news = news.unwrap_or_else(|| KindNews::Set(id.key.clone(), object.clone().unwrap()));
        let answer = object.map_or(Written::Deleted, |object| Written::Object(Box::new(object)));
        if self.goes_before_answer == Some(id.kind) {
            self.goes_before_answer = None;
            self.objects.remove(id);
            let gone = KindNews::Gone(id.key.clone());
            return (
                Ok(answer),
                vec![
                    Input::Export(ExportNews::Objects(id.kind, news)),
                    Input::Export(ExportNews::Objects(id.kind, gone)),
                ],
            );
        }
        let mut inputs = self.balanced(id);
        inputs.push(Input::Export(ExportNews::Objects(id.kind, news)));
        (Ok(answer), inputs)
    }

    pub fn of(&self, kind: Kind) -> Vec<(&Key, &Value)> {
        self.objects.iter().filter(|(id, _)| id.kind == kind).map(|(id, value)| (&id.key, value)).collect()
    }

    /// The one published slice of a Service.
    pub fn published(&self, service: &str) -> Option<&Value> {
        let of_service = |(_, slice): &(&Key, &Value)| object::label(slice, "heliostat.dev/service-name") == service;
        self.of(PUBLISHED_SLICE).into_iter().find(of_service).map(|(_, slice)| slice)
    }

    pub fn outside_ports(&self, service: &str) -> BTreeMap<String, u64> {
        let slice = self.published(service).expect("it is published");
        object::list(&slice["ports"])
            .iter()
            .map(|p| (p["name"].as_str().unwrap().into(), p["port"].as_u64().unwrap()))
            .collect()
    }

    pub fn is_ready(&self, service: &str) -> bool {
        self.published(service)
            .is_some_and(|s| s["endpoints"].as_array().unwrap().iter().all(|e| e["conditions"]["ready"] == true))
    }

    pub fn condition(&self, binding: &str, kind: &str) -> (String, String, String) {
        let status = self.bindings[binding].status.as_ref().expect("it has a status");
        let found = status.conditions.iter().find(|c| c.type_ == kind).expect("it has the condition");
        (found.status.clone(), found.reason.clone(), found.message.clone())
    }

    /// The log since it was last asked for.
    pub fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

pub fn op_id(op: &WriteOp) -> Option<&ObjectId> {
    match op {
        WriteOp::CreateObject(id, ..) | WriteOp::PatchObject(id, ..) | WriteOp::DeleteObject(id, ..) => Some(id),
        _ => None,
    }
}

/// RFC 7386.
pub fn merge_patch(there: &mut Value, patch: &Map<String, Value>) {
    let there = there.as_object_mut().unwrap();
    for (field, value) in patch {
        match value {
            Value::Null => drop(there.remove(field)),
            Value::Object(inner) => {
                let slot = there.entry(field.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                merge_patch(slot, inner);
            }
            other => drop(there.insert(field.clone(), other.clone())),
        }
    }
}
