//! An exporter's controller, a gateway that it programs, and an importer that mirrors through that gateway
//! and probes it: all real but the API servers and the gateway.

mod calm;
mod gateway;
mod scene;
mod storm;
mod witness;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{task::JoinHandle, time::sleep};

use self::{
    gateway::{ADDRESSES, Backend, Gateway, text},
    witness::Witness,
};
use crate::{
    server::Server,
    world::{Controller, HOME, World, oracle::Wrote},
};

/// Both clusters, with what runs beside the controllers.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    pub(crate) witness: Witness,
    tasks: Vec<JoinHandle<()>>,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let gateway = Gateway::new(&world.exporters["east"]);
        world.dial = Arc::new(gateway.clone());
        scene::furnish_exporter(&world.exporters["east"]);
        scene::furnish_importer(&world.importer);
        let witness = Witness::new();
        let tasks = vec![
            tokio::spawn(gateway.clone().work()),
            tokio::spawn(witness.clone().watch(world.importer.clone(), gateway.clone())),
        ];
        Self { world, gateway, witness, tasks }
    }

    fn exporter(&self) -> &Server {
        &self.world.exporters["east"]
    }

    /// A controller of the exporter, whose pod is ready a while later.
    async fn start_exporter(&self, name: &str, leader_elect: bool) -> Controller {
        let controller = self.world.start_exporter("east", name, leader_elect);
        sleep(Duration::from_secs(1)).await;
        self.gateway.answered(true);
        scene::answer_probes(self.exporter(), true);
        controller
    }

    /// It is gone, which Kubernetes sees a while later, unless there is another one.
    async fn stop_exporter(&self, controller: Controller, noticed_after: Duration, another: bool) {
        self.gateway.answered(false);
        controller.kill().await;
        sleep(noticed_after).await;
        if !another {
            scene::answer_probes(self.exporter(), false);
        }
    }

    /// Nobody looks on any more.
    fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// What is wrong with what there is now: everything that is exported is carried and mirrored, and nothing else.
    fn wrong(&self) -> Vec<String> {
        let exported = exported(self.exporter());
        let table = self.gateway.doing().table;
        let mut wrong = self.witness.wrong();
        let mut compare = |what: &str, is: &BTreeSet<String>, should: &BTreeSet<String>| {
            wrong.extend(is.difference(should).map(|entry| format!("{what}: {entry} is too much")));
            wrong.extend(should.difference(is).map(|entry| format!("{what}: {entry} is missing")));
        };
        let carried = table.values().map(Backend::to_string).collect();
        let backends = exported.iter().flat_map(Exported::backends).chain(["shop/theirs:80".to_owned()]);
        compare("the gateway carries", &carried, &backends.collect());
        let claims = self.exporter().all("leases").into_keys().filter(|(_, name)| name != "heliostat").count();
        compare("claims of ports", &[claims.to_string()].into(), &[(table.len() - 1).to_string()].into());
        compare("published", &self.published(), &exported.iter().map(|exported| exported.service.clone()).collect());
        let mirrored = exported.iter().filter(|exported| !exported.service.starts_with(HOME));
        compare("mirrored", &self.mirrored(), &mirrored.flat_map(Exported::mirrored).collect());
        let binding = self.exporter().read("gatewaybindings", "", "edge").unwrap();
        compare(
            "of the binding",
            &not_true(&binding, &["Ready", "Accepted", "ResolvedRefs", "Programmed"]),
            &[].into(),
        );
        let link = self.world.importer.read("clusterlinks", "", "east").unwrap();
        compare("of the link", &not_true(&link, &["Ready", "Connected", "Synced", "Reachable"]), &[].into());
        wrong
    }

    /// The Services that are published.
    fn published(&self) -> BTreeSet<String> {
        let service = |((namespace, _), slice): ((String, String), Value)| {
            let service = text(&slice["metadata"]["labels"]["heliostat.dev/service-name"]);
            (!service.is_empty()).then(|| format!("{namespace}/{service}"))
        };
        self.exporter().all("endpointslices").into_iter().filter_map(service).collect()
    }

    /// `shop/s1-east http 10.9.9.1 ready shop/s1:80`: whom a call reaches comes from the gateway.
    fn mirrored(&self) -> BTreeSet<String> {
        let table = self.gateway.doing().table;
        let mut all = BTreeSet::new();
        for ((namespace, _), slice) in self.world.importer.all("endpointslices") {
            if namespace != "shop" {
                continue;
            }
            let mirror = text(&slice["metadata"]["labels"]["kubernetes.io/service-name"]);
            for port in slice["ports"].as_array().unwrap() {
                let backend = table.get(&u16::try_from(port["port"].as_u64().unwrap()).unwrap());
                let backend = backend.map(Backend::to_string).unwrap_or_default();
                for endpoint in slice["endpoints"].as_array().unwrap() {
                    let (name, address) = (text(&port["name"]), text(&endpoint["addresses"][0]));
                    let ready = &endpoint["conditions"]["ready"];
                    all.insert(format!("{namespace}/{mirror} {name} {address} {ready} {backend}"));
                }
            }
        }
        all
    }
}

/// An exported Service.
struct Exported {
    /// `shop/s1`
    service: String,
    /// By name.
    ports: Vec<(String, u64)>,
    /// It has a ready pod.
    ready: bool,
}

impl Exported {
    fn backends(&self) -> Vec<String> {
        self.ports.iter().map(|(_, port)| format!("{}:{port}", self.service)).collect()
    }

    fn mirrored(&self) -> Vec<String> {
        let Self { service, ports, ready } = self;
        let port = |(name, number): &(String, u64)| {
            ADDRESSES.map(|address| format!("{service}-east {name} {address} {ready} {service}:{number}"))
        };
        ports.iter().flat_map(port).collect()
    }
}

fn exported(exporter: &Server) -> Vec<Exported> {
    let read = |((namespace, name), service): ((String, String), Value)| {
        let port = |port: &Value| (text(&port["name"]).to_owned(), port["port"].as_u64().unwrap());
        let pods = exporter.read("endpointslices", &namespace, &format!("{name}-pods"))?;
        let consents = service["metadata"]["labels"]["heliostat.dev/export"] == "true";
        consents.then(|| Exported {
            service: format!("{namespace}/{name}"),
            ports: service["spec"]["ports"].as_array().unwrap().iter().map(port).collect(),
            ready: pods["endpoints"][0]["conditions"]["ready"] == true,
        })
    };
    exporter.all("services").into_iter().filter_map(read).collect()
}

/// The conditions that should be `True` and are not, with what they say.
fn not_true(object: &Value, kinds: &[&str]) -> BTreeSet<String> {
    let told = object["status"]["conditions"].as_array().unwrap();
    let found = |kind: &&str| told.iter().find(|condition| condition["type"] == *kind).unwrap_or(&Value::Null);
    let not = kinds.iter().filter(|kind| found(kind)["status"] != "True");
    not.map(|kind| format!("{kind}={} {}", found(kind)["status"], found(kind)["message"])).collect()
}

/// What controllers wrote, a line each, without what is said of conditions.
fn objects(wrote: Vec<Wrote>) -> Vec<Wrote> {
    wrote.into_iter().filter(|write| !write.kind.ends_with("/status")).collect()
}
