//! What is to be known: what each session is to read, and which hostnames are to be kept resolved.

use std::collections::BTreeMap;

use super::Engine;
use crate::core::{
    export::exporter::Exporter,
    io::{Output, SessionTask},
    model::Key,
};

impl Engine {
    pub(super) fn ask_sessions(&mut self, out: &mut Vec<Output>) {
        if !(std::mem::take(&mut self.tasks_due) | self.node_users.changed()) {
            return;
        }
        let mut wanted: BTreeMap<String, SessionTask> = BTreeMap::new();
        for (name, link) in &self.world.links {
            let Ok(checked) = &link.checked else { continue };
            if link.object.spec.suspend || link.object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let spec = &link.object.spec;
            let requested = link.reconcile_requested().unwrap_or_default();
            let task = SessionTask {
                link_uid: link.uid().to_owned(),
                secret: spec.kubeconfig_secret_ref.name.clone(),
                key: spec.kubeconfig_secret_ref.key.clone(),
                selector: checked.query.clone(),
                namespaces: (!spec.services.namespaces.is_empty()).then(|| spec.services.namespaces.clone()),
                nodes: self.node_users.has(name),
                max_services: spec.limits.services,
                // Another expected identity is answered by another listing.
                resync: Some(format!("{requested}/{}", spec.cluster_uid.as_deref().unwrap_or_default())),
            };
            wanted.insert(name.clone(), task);
        }
        for link in self.tasks.keys().filter(|link| !wanted.contains_key(*link)) {
            out.push(Output::Session { link: link.clone(), task: None });
        }
        for (link, task) in &wanted {
            if self.tasks.get(link) != Some(task) {
                out.push(Output::Session { link: link.clone(), task: Some(task.clone()) });
            }
        }
        self.tasks = wanted;
    }

    pub(super) fn ask_hosts(&mut self, out: &mut Vec<Output>) {
        let exporters_too = self.exporter.as_mut().is_some_and(Exporter::hosts_changed);
        if !(self.host_users.changed() || exporters_too) {
            return;
        }
        let exporters = self.exporter.iter().flat_map(Exporter::hosts).map(|host| (host.clone(), String::new()));
        let link = |host: &String| self.host_users.of(host).next().map(|user| self.lane(user)).unwrap_or_default();
        let links = self.host_users.all().map(|host| (host.clone(), link(host).into()));
        let wanted: BTreeMap<String, String> = exporters.chain(links).collect();
        if wanted != self.hosts_asked {
            self.world.hosts.retain(|host, _| wanted.contains_key(host));
            out.push(Output::Resolve(wanted.clone()));
            self.hosts_asked = wanted;
        }
    }

    pub(super) fn on_resolved(&mut self, host: &str, answer: Result<Vec<std::net::IpAddr>, String>, expired: bool) {
        let known = self.world.hosts.entry(host.to_owned()).or_default();
        match answer {
            Ok(mut addresses) => {
                addresses.sort();
                known.addresses = addresses;
                known.error = None;
                known.expired = false;
            }
            Err(error) => {
                known.error = Some(error);
                known.expired = expired;
                if expired {
                    known.addresses.clear();
                }
            }
        }
        self.exporter.iter_mut().for_each(Exporter::touch);
        self.reach.links().iter().for_each(|link| self.reach.touch(link));
        let users: Vec<Key> = self.host_users.of(host).cloned().collect();
        users.into_iter().for_each(|key| self.touch(key));
    }
}
