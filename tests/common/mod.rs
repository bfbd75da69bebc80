//! An importer and its exporters in memory, at the level of the core's inputs and outputs: writes
//! are carried out on maps and echoed as a watch would, uids and resourceVersions included.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
// Each test file uses a part of it.
#![allow(dead_code)]

pub mod exporter;
mod objects;
mod outcome;
mod write;

use std::collections::{BTreeMap, VecDeque};

use heliostat::{
    api::{ClusterLink, GatewayBinding, MirrorPolicy},
    core::{
        engine::{Engine, Settings},
        io::{Change, Input, Local, Output, RemoteEvent, WriteFailure, WriteOp},
        model::{Family, Key, LocalNamespace, LocalService, LocalSlice, Map, MirrorState, Origin, RemoteSlice},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

pub use self::objects::*;

pub const NAMESPACE: &str = "heliostat-system";

pub fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
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
