//! The importer: the engine, and an API server that keeps nothing and answers each write at once.

use std::collections::{BTreeMap, VecDeque};

use heliostat::{
    apply::render::render,
    cluster::wire::{LocalServiceWire, LocalSliceWire},
    core::{
        engine::{Engine, Settings},
        io::{Change, Input, Local, Output, RemoteEvent, Write, WriteOp, Written},
        model::{Key, LocalNamespace, LocalService, LocalSlice, Map, Origin, RemoteSlice},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    exporter::{Exporter, NAMESPACES, uid},
    meter::Meter,
};

/// What is stored in the importer.
#[derive(Default)]
pub(crate) struct Stored {
    services: BTreeMap<Key, LocalService>,
    slices: BTreeMap<Key, LocalSlice>,
}

/// See the file's description.
pub(crate) struct Importer {
    pub(crate) engine: Engine,
    /// Services that were made.
    pub(crate) created: usize,
    links: Vec<String>,
    now: Timestamp,
    version: usize,
    writes: VecDeque<Write>,
}

/// What earlier processes have made: by one link after the other, as that gives the same.
pub(crate) fn stored(exporters: &[Exporter], meter: &mut Meter) -> Stored {
    let mut stored = Stored::default();
    for exporter in exporters {
        let mut earlier = Meter::new(false);
        let mut importer = Importer::new(std::slice::from_ref(exporter));
        importer.start(Stored::default(), &mut earlier);
        importer.connect(exporter, &mut earlier);
        importer.settle(&mut earlier);
        let (services, slices) = (&importer.engine.world().services, &importer.engine.world().slices);
        meter.step("0 local services, decoded", || stored.services.extend(services.clone()));
        meter.step("0 local slices, decoded", || stored.slices.extend(slices.clone()));
    }
    stored
}

impl Importer {
    pub(crate) fn new(exporters: &[Exporter]) -> Self {
        let settings = Settings {
            namespace: "heliostat-system".into(),
            cluster_domain: "cluster.local".into(),
            cluster_cidrs: Vec::new(),
            writes_in_flight: 32,
            export: None,
        };
        Self {
            engine: Engine::new(settings),
            created: 0,
            links: exporters.iter().map(|exporter| exporter.name.clone()).collect(),
            now: "2026-06-01T12:00:00Z".parse().unwrap(),
            version: 1_000_000,
            writes: VecDeque::new(),
        }
    }

    /// Lists everything that is here.
    pub(crate) fn start(&mut self, stored: Stored, meter: &mut Meter) {
        let links = self.links.iter().map(|name| (name.clone(), Box::new(serde_json::from_value(link(name)).unwrap())));
        let policies = [(Key::new("heliostat-system", "all"), Box::new(serde_json::from_value(policy()).unwrap()))];
        let open = LocalNamespace { labels: Map::new(), terminating: false };
        let namespaces = (0..NAMESPACES).map(|index| (format!("team-{index}"), open.clone()));
        let range = vec!["10.96.0.0/16".parse().unwrap()];
        for (what, local) in [
            ("1 this cluster", Local::ClusterUid(uid(9, 0, 0))),
            ("1 this cluster", Local::Link(Change::All(links.collect()))),
            ("1 this cluster", Local::Policy(Change::All(policies.into()))),
            ("1 this cluster", Local::Binding(Change::All(BTreeMap::new()))),
            ("1 this cluster", Local::Namespace(Change::All(namespaces.collect()))),
            ("1 this cluster", Local::Node(Change::All(BTreeMap::new()))),
            ("1 this cluster", Local::ServiceCidr(Change::All([("kubernetes".to_owned(), range)].into()))),
            ("2 local services, listed", Local::Service(Change::All(stored.services))),
            ("3 local slices, listed", Local::Slice(Change::All(stored.slices))),
        ] {
            self.give(what, local.into(), meter);
        }
    }

    /// A session connects to its exporter, and lists it.
    pub(crate) fn connect(&mut self, exporter: &Exporter, meter: &mut Meter) {
        let services = meter.step("4 remote services, decoded", || exporter.services());
        let slices = meter.step("5 remote slices, decoded", || exporter.slices());
        self.list(exporter, services, slices, meter);
    }

    /// The same with what it has read already.
    pub(crate) fn list(
        &mut self,
        exporter: &Exporter,
        services: BTreeMap<Key, Origin>,
        slices: BTreeMap<Key, RemoteSlice>,
        meter: &mut Meter,
    ) {
        let connected = RemoteEvent::Connected {
            cluster_uid: exporter.uid.clone(),
            server_version: "v1.36.0".into(),
            credentials_expire_at: None,
            own_server: false,
        };
        self.give_remote("6 a link answers", exporter, connected, meter);
        let listed =
            RemoteEvent::Listed { cluster_uid: exporter.uid.clone(), versions: BTreeMap::new(), services, slices };
        self.give_remote("7 a link listed", exporter, listed, meter);
    }

    pub(crate) fn give_remote(
        &mut self,
        what: &'static str,
        exporter: &Exporter,
        event: RemoteEvent,
        meter: &mut Meter,
    ) {
        let input = Input::Remote { link: exporter.name.clone(), session: 1, received: self.now, event };
        self.give(what, input, meter);
    }

    /// Gives an input to the engine, and keeps what is to be written.
    pub(crate) fn give(&mut self, what: &'static str, input: Input, meter: &mut Meter) {
        let now = self.now;
        let outputs = meter.step(what, || self.engine.handle(input, now));
        self.writes.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Write(write) => Some(write),
            _ => None,
        }));
    }

    /// Answers writes until there are none any more, and statuses have had their time.
    pub(crate) fn settle(&mut self, meter: &mut Meter) {
        self.answer(meter);
        for _ in 0..20 {
            self.now = self.now.checked_add(SignedDuration::from_millis(200)).unwrap();
            self.give("9 a tick, statuses due", Input::Tick, meter);
            self.answer(meter);
        }
    }

    fn answer(&mut self, meter: &mut Meter) {
        while let Some(Write { id, op }) = self.writes.pop_front() {
            self.version += 1;
            let body = render(&op).body;
            match op {
                WriteOp::CreateService(..) => {
                    self.created += 1;
                    let text = self.service(body).to_string();
                    let read = || serde_json::from_str::<LocalServiceWire>(&text).unwrap().into_model().unwrap();
                    let result = Ok(Written::Service(read().1));
                    self.give("8 a Service was made", Input::Written { id, result }, meter);
                    let (key, service) = read();
                    self.give("8 a Service, as watched", Local::Service(Change::Set(key, service)).into(), meter);
                }
                WriteOp::CreateSlice(..) => {
                    let text = self.slice(body).to_string();
                    let read = || serde_json::from_str::<LocalSliceWire>(&text).unwrap().into_model().unwrap();
                    let result = Ok(Written::Slice(read().1));
                    self.give("8 a slice was made", Input::Written { id, result }, meter);
                    let (key, slice) = read();
                    self.give("8 a slice, as watched", Local::Slice(Change::Set(key, slice)).into(), meter);
                }
                WriteOp::PatchService(key, ..) => self.patched(&key, id, &body, meter),
                WriteOp::PatchSlice(key, _, wanted) => {
                    let mut slice = self.engine.world().slices[&key].clone();
                    (slice.body, slice.resource_version) = (wanted.body, self.version.to_string().into());
                    self.give("8 a slice was patched", Input::Written { id, result: Ok(Written::Slice(slice)) }, meter);
                }
                WriteOp::LinkStatus(..) | WriteOp::PolicyStatus(..) => {
                    let result = Ok(Written::Status(self.version.to_string()));
                    self.give("8 a status was written", Input::Written { id, result }, meter);
                }
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    /// Only what the bench changes: the ports.
    fn patched(&mut self, key: &Key, id: heliostat::core::io::WriteId, body: &Value, meter: &mut Meter) {
        let mut service = self.engine.world().services[key].clone();
        let ports = body["spec"]["ports"].clone();
        let object = json!({"metadata": {"name": key.name, "namespace": key.namespace, "labels": {"app.kubernetes.io/managed-by": "heliostat"}}, "spec": {"ports": ports}});
        let read = serde_json::from_value::<LocalServiceWire>(object).unwrap().into_model().unwrap().1;
        service.ours.as_mut().unwrap().ports = read.ours.unwrap().ports.clone();
        service.resource_version = self.version.to_string().into();
        let result = Ok(Written::Service(service));
        self.give("8 a Service was patched", Input::Written { id, result }, meter);
    }

    fn service(&self, mut object: Value) -> Value {
        let meta = &mut object["metadata"];
        meta["uid"] = json!(uid(5, 0, self.version));
        meta["resourceVersion"] = json!(self.version.to_string());
        meta["creationTimestamp"] = json!("2026-06-01T12:00:00Z");
        let spec = &mut object["spec"];
        if spec["clusterIP"] != "None" {
            spec["clusterIP"] = json!("10.96.3.9");
        }
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
        spec["ipFamilies"] = json!(["IPv4"]);
        spec["sessionAffinity"] = json!("None");
        spec["internalTrafficPolicy"] = json!("Cluster");
        for port in spec["ports"].as_array_mut().unwrap() {
            port["targetPort"] = port["port"].clone();
        }
        object["status"] = json!({"loadBalancer": {}});
        object
    }

    fn slice(&self, mut object: Value) -> Value {
        let meta = &mut object["metadata"];
        meta["uid"] = json!(uid(6, 0, self.version));
        meta["resourceVersion"] = json!(self.version.to_string());
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!("2026-06-01T12:00:00Z");
        object
    }

    /// What the maps of the world take, by what a copy of each takes. Texts that are shared are not in it.
    pub(crate) fn parts(&self, meter: &mut Meter, mirrors: usize) {
        if !meter.counts() {
            return;
        }
        let world = self.engine.world();
        let row = |what: &str, (bytes, blocks): (i64, i64)| {
            println!("{what:34} {:>12.1} {:>12.2}", bytes as f64 / mirrors as f64, blocks as f64 / mirrors as f64);
        };
        println!("{:34} {:>12} {:>12}", "a copy of", "bytes/mirror", "blocks/mirror");
        row("local services", meter.weigh(|| world.services.clone()));
        row("local slices", meter.weigh(|| world.slices.clone()));
        row("index of local slices", meter.weigh(|| world.slices_of.clone()));
        let remotes = || world.links.values().map(|link| &link.remote);
        row("remote services", meter.weigh(|| remotes().map(|r| r.services.clone()).collect::<Vec<_>>()));
        row("remote slices", meter.weigh(|| remotes().map(|r| r.slices.clone()).collect::<Vec<_>>()));
        row("index of remote slices", meter.weigh(|| remotes().map(|r| r.slices_of.clone()).collect::<Vec<_>>()));
        let claims = || self.engine.claims().iter().map(|(id, claim)| (id.clone(), claim.clone()));
        row("claims", meter.weigh(|| claims().collect::<BTreeMap<_, _>>()));
        println!();
    }
}

fn link(name: &str) -> Value {
    json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
        "metadata": {"name": name, "uid": format!("0a1b2c3d-0001-4a6b-9c3d-{:0>12}", name.trim_start_matches("cluster-")), "generation": 1, "resourceVersion": "1"},
        "spec": {"kubeconfigSecretRef": {"name": format!("{name}-kubeconfig")}, "allowedNamespaces": {"from": "Same"}},
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
        "metadata": {"name": "all", "namespace": "heliostat-system", "uid": "0a1b2c3d-0002-4a6b-9c3d-000000000000", "generation": 1, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"links": {"selector": {}}, "via": ["Gateway", "Service", "Direct"]},
    })
}
