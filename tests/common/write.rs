//! Carries writes out, as an API server would.

use std::collections::BTreeMap;

use heliostat::core::{
    io::{Change, Input, Local, MirrorService, ServicePatch, WriteError, WriteFailure, WriteOp, Written},
    model::{
        Family, Key, List, LocalPort, LocalService, LocalSlice, Map, MirrorCommon, MirrorState, MirroredCondition,
        Seldom, SlicePort, Text, Uid, Version,
    },
};
use serde_json::Value;

use super::Sim;

impl Sim {
    pub fn execute(&mut self, op: &WriteOp) -> (Result<Written, WriteError>, Vec<Input>) {
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
                        .filter(|(_, s)| s.service_owner == gone.uid)
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
                    service_owner: wanted.service.1.clone(),
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

fn local_ports(ports: &[SlicePort]) -> List<LocalPort> {
    ports.iter().map(|port| LocalPort { port: port.clone(), target_is_port: true }).collect()
}

fn created(wanted: &MirrorService, families: &[Family]) -> MirrorState {
    MirrorState {
        annotations: wanted.annotations.clone(),
        common: MirrorCommon {
            labels: wanted.labels.clone(),
            link_owners: wanted.owner.iter().cloned().collect(),
            service_type: "ClusterIP".into(),
            headless: wanted.headless,
            has_selector: false,
            families: families.to_vec().into(),
            prefers_dual_stack: true,
            ports: local_ports(&wanted.ports),
        }
        .into(),
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
