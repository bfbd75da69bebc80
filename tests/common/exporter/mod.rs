//! An exporter in memory: a cluster at the level of the core's inputs and outputs, and a gateway that
//! confirms what it carries when the test says so.

mod objects;
mod plain;
mod write;

use std::collections::{BTreeMap, VecDeque};

use heliostat::{
    api::GatewayBinding,
    core::{
        engine::{Engine, Settings},
        envoy::{EnvoyConfig, EnvoyState},
        export::{
            exporter::ExportSettings,
            object::{self, Kind, KindNews, LEASE, ObjectId, PUBLISHED_SLICE},
        },
        io::{Change, ExportNews, Input, Local, Output},
        model::{Ingress, Key, LocalNamespace, Origin, OriginType, RemoteNode, RemoteSlice},
    },
    gateway,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{NAMESPACE, binding, key, map};

pub use self::{objects::*, plain::*};

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
    /// Objects of this kind may not be made.
    pub forbidden: Option<Kind>,
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
            forbidden: None,
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
        let ingress = vec![Ingress::Ip("10.9.9.8".into())].into();
        let mut front = Origin { labels: map(&[]), ingress, ..service("front", &ports) };
        front.kind = OriginType::LoadBalancer;
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
        self.start_but(None)
    }

    /// The same, and objects of one kind have not been listed.
    pub fn start_without(&mut self, kind: Kind) -> &mut Self {
        self.start_but(Some(kind))
    }

    fn start_but(&mut self, unread: Option<Kind>) -> &mut Self {
        self.engine = engine();
        self.dead = false;
        let is_read = |input: &Input| match input {
            Input::Export(ExportNews::Objects(kind, _)) => Some(*kind) != unread,
            _ => true,
        };
        self.feed(self.everything().into_iter().filter(is_read).collect());
        self
    }

    /// What a new process lists.
    pub fn everything(&self) -> Vec<Input> {
        let first = [
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
        first.into_iter().chain(self.listings()).collect()
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

    /// Lets time pass.
    pub fn pass(&mut self, by: SignedDuration) -> &mut Self {
        self.now += by;
        self.feed(vec![Input::Tick]);
        self
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
