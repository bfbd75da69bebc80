//! What the controller would decide, asked of its own engine: everything is read once, here and in
//! the exporters, and given to an engine that may not write. For `explain` and `plan`.

mod local;
mod remote;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;
use ipnet::IpNet;
use jiff::Timestamp;

pub(super) use local::{Snapshot, policy_key};
pub(super) use remote::Exporter;

use super::{connect::Cluster, link::NAMESPACE, output::Progress};
use crate::{
    cluster::{
        dns::{Lookup, SystemLookup},
        own::OwnCluster,
    },
    core::{
        engine::{Engine, Settings},
        io::{Input, Output, SessionTask},
        model::Key,
        resolve::Decision,
        world::Owner,
    },
};

/// What the controller was started with, as far as it decides by it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControllerFlags {
    /// The controller's own namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE, help_heading = "As the controller was started")]
    pub(super) controller_namespace: String,
    /// The controller's --cluster-cidrs.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', help_heading = "As the controller was started")]
    pub(super) cluster_cidrs: Vec<IpNet>,
    /// The controller's --cluster-domain.
    #[arg(
        long,
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "As the controller was started"
    )]
    pub(super) cluster_domain: String,
}

/// An engine that knows everything that could be read, and those exporters that could be.
pub(super) struct Survey {
    /// Knows, decides and never writes.
    pub(super) engine: Engine,
    /// Exporters that were read.
    pub(super) exporters: BTreeMap<String, Exporter>,
    /// Why the others were not, by link.
    pub(super) unread: BTreeMap<String, String>,
}

impl Survey {
    /// Gives the snapshot to an engine, reads the exporters that it then asks for, and gives it
    /// those too.
    pub(super) async fn take(
        importer: &Cluster,
        flags: &ControllerFlags,
        snapshot: Snapshot,
        progress: &mut Progress,
    ) -> Self {
        let mut asked = Asked::new(flags);
        for local in snapshot.into_inputs() {
            asked.give(Input::Local(local));
        }
        let own = OwnCluster::default();
        // Only guards against a link to this very cluster, which the uid tells as well.
        let _ = own.refresh(&importer.client).await;
        let lookup: Arc<dyn Lookup> = Arc::new(SystemLookup::default());
        let (mut exporters, mut unread) = (BTreeMap::new(), BTreeMap::new());
        let tasks = std::mem::take(&mut asked.tasks);
        progress.wait(&format!("reading {} linked clusters", tasks.len()));
        let read = tasks.into_iter().map(|(link, task)| async {
            let opened = Exporter::open(importer, &flags.controller_namespace, task, &own, lookup.clone()).await;
            match opened {
                Ok(exporter) => (link, exporter.read(false).await.map(|events| (exporter, events))),
                Err(why) => (link, Err(why)),
            }
        });
        for (link, result) in join_all(read).await {
            match result {
                Ok((exporter, events)) => {
                    events.into_iter().for_each(|event| asked.tell(&link, event));
                    exporters.insert(link, exporter);
                }
                Err(why) => {
                    unread.insert(link, why);
                }
            }
        }
        asked.follow_up(&exporters, lookup.as_ref()).await;
        Self { engine: asked.engine, exporters, unread }
    }

    /// Every mirror that there is or that somebody wants, with what should become of it.
    pub(super) fn decisions(&self) -> BTreeMap<Key, Decision> {
        decisions(&self.engine)
    }
}

/// An engine, and what it asked for.
struct Asked {
    engine: Engine,
    now: Timestamp,
    tasks: BTreeMap<String, SessionTask>,
}

impl Asked {
    fn new(flags: &ControllerFlags) -> Self {
        let engine = Engine::new(Settings {
            namespace: flags.controller_namespace.clone(),
            cluster_domain: flags.cluster_domain.clone(),
            cluster_cidrs: flags.cluster_cidrs.clone(),
            // It decides when it is asked, and starts nothing by itself.
            writes_in_flight: 0,
            export: None,
        });
        Self { engine, now: Timestamp::now(), tasks: BTreeMap::new() }
    }

    fn give(&mut self, input: Input) {
        for output in self.engine.handle(input, self.now) {
            if let Output::Session { link, task } = output {
                match task {
                    Some(task) => self.tasks.insert(link, task),
                    None => self.tasks.remove(&link),
                };
            }
        }
    }

    fn tell(&mut self, link: &str, event: crate::core::io::RemoteEvent) {
        self.give(Input::Remote { link: link.to_owned(), session: 1, received: self.now, event });
    }

    /// Reads what decisions turned out to depend on: nodes, and addresses of hostnames. A way that
    /// falls away by that may bring another one with new questions, so this is done a few times;
    /// policies have three ways at most.
    async fn follow_up(&mut self, exporters: &BTreeMap<String, Exporter>, lookup: &dyn Lookup) {
        let (mut nodes_read, mut resolved) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..3 {
            let (mut links, mut hosts) = (BTreeSet::new(), BTreeSet::new());
            for decision in decisions(&self.engine).into_values() {
                links.extend(decision.nodes.filter(|link| !nodes_read.contains(link)));
                hosts.extend(decision.hosts.into_iter().filter(|host| !resolved.contains(host)));
            }
            if links.is_empty() && hosts.is_empty() {
                return;
            }
            for link in links {
                let events = match exporters.get(&link) {
                    Some(exporter) => exporter.read(true).await.unwrap_or_default(),
                    None => Vec::new(),
                };
                events.into_iter().for_each(|event| self.tell(&link, event));
                nodes_read.insert(link);
            }
            for host in hosts {
                let answer = lookup.lookup(&host).await.map(|answer| answer.addresses);
                self.give(Input::Resolved { host: host.clone(), answer, expired: false });
                resolved.insert(host);
            }
        }
    }
}

fn decisions(engine: &Engine) -> BTreeMap<Key, Decision> {
    let world = engine.world();
    let wanted = engine.claims().iter().filter_map(|(_, claim)| claim.target.clone());
    let ours =
        world.services.keys().filter(|key| matches!(world.owner(key), Owner::Ours(_) | Owner::TakenOver)).cloned();
    let all: BTreeSet<Key> = wanted.chain(ours).collect();
    all.into_iter().map(|key| (key.clone(), engine.decision(&key))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        cluster::wire::{FromWire as _, Wire},
        core::{
            io::RemoteEvent,
            model::{LocalNamespace, Map, Origin, RemoteSlice},
        },
    };

    /// A link of that name for every namespace's policies.
    pub(in crate::cli) fn link(name: &str, spec: Value) -> Box<crate::api::ClusterLink> {
        let mut object = json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "1"},
            "spec": {"kubeconfigSecretRef": {"name": "s"}, "allowedNamespaces": {"from": "All"}},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    /// A policy `shop/all` over link east.
    pub(in crate::cli) fn policy(spec: Value) -> Box<crate::api::MirrorPolicy> {
        let mut object = json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
            "metadata": {"name": "all", "namespace": "shop", "uid": "uid-all", "generation": 1, "resourceVersion": "1"},
            "spec": {"links": {"names": ["east"]}},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    /// An exported load-balanced Service in namespace shop, with changes to its spec.
    pub(in crate::cli) fn origin(name: &str, spec: Value) -> (Key, Origin) {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"heliostat.dev/export": "true"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        (Key::new("shop", name), Origin::from_wire(&object))
    }

    /// The mirror of `shop/<origin>` over link east by policy `shop/all`, as written earlier.
    pub(in crate::cli) fn mirror(origin: &str) -> (Key, crate::core::model::LocalService) {
        let object = json!({
            "metadata": {
                "name": format!("{origin}-east"), "namespace": "shop", "uid": format!("mirror-{origin}"), "resourceVersion": "1",
                "labels": {
                    "app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/link": "east",
                    "heliostat.dev/policy": "all", "heliostat.dev/policy-namespace": "shop",
                },
                "annotations": {"heliostat.dev/link-uid": "uid-east", "heliostat.dev/origin": format!("shop/{origin}")},
            },
            "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.2", "ipFamilies": ["IPv4"], "ports": []},
        });
        Wire::from_value(&object).into_model().unwrap()
    }

    /// A cluster with namespace shop, link east and policy `shop/all`.
    pub(in crate::cli) fn snapshot() -> Snapshot {
        let shop = LocalNamespace { labels: Map::new(), terminating: false };
        Snapshot {
            uid: "own".to_owned(),
            links: BTreeMap::from([("east".to_owned(), link("east", json!({})))]),
            policies: BTreeMap::from([(Key::new("shop", "all"), policy(json!({})))]),
            namespaces: BTreeMap::from([("shop".to_owned(), shop)]),
            ..Snapshot::default()
        }
    }

    /// A survey without any cluster: link east has these origins; none: it could not be read.
    pub(in crate::cli) fn survey(snapshot: Snapshot, origins: Option<Vec<(Key, Origin)>>) -> Survey {
        let mut asked = Asked::new(&ControllerFlags {
            controller_namespace: NAMESPACE.to_owned(),
            cluster_cidrs: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
        });
        snapshot.into_inputs().into_iter().for_each(|local| asked.give(Input::Local(local)));
        let mut unread = BTreeMap::new();
        match origins {
            None => {
                unread.insert("east".to_owned(), "it is down".to_owned());
            }
            Some(origins) => {
                let cluster_uid = "far".to_owned();
                let slices: BTreeMap<Key, RemoteSlice> = BTreeMap::new();
                let services = origins.into_iter().collect();
                asked.tell("east", RemoteEvent::Listed { cluster_uid, versions: BTreeMap::new(), services, slices });
            }
        }
        Survey { engine: asked.engine, exporters: BTreeMap::new(), unread }
    }

    #[test]
    fn what_is_wanted_and_what_is_there_is_decided() {
        let mut snapshot = snapshot();
        snapshot.services.extend([mirror("books"), mirror("gone")]);
        let survey = survey(snapshot, Some(vec![origin("books", json!({})), origin("pens", json!({}))]));
        let decided: Vec<String> = survey.decisions().keys().map(ToString::to_string).collect();
        assert_eq!(decided, ["shop/books-east", "shop/gone-east", "shop/pens-east"]);
    }
}
