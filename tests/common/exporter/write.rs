//! Carries writes out, as an API server would, and what follows from them in the cluster.

use heliostat::core::{
    export::object::{KindNews, OWN_SERVICE, ObjectId},
    io::{Change, ExportNews, Input, Local, WriteError, WriteFailure, WriteOp, Written},
    model::{Ingress, Key, Origin, OriginType},
};
use serde_json::{Map, Value, json};

use super::{Cluster, pods, service};
use crate::common::map;

impl Cluster {
    /// A Service of ours has a load balancer and ready pods as soon as it is there.
    pub fn balanced(&mut self, id: &ObjectId) -> Vec<Input> {
        if id.kind != OWN_SERVICE {
            return vec![];
        }
        if !self.objects.contains_key(id) {
            self.services.remove(&id.key);
            return vec![Input::Export(ExportNews::Service(Change::Gone(id.key.clone())))];
        }
        let mut ours = Origin {
            labels: map(&[("app.kubernetes.io/managed-by", "heliostat")]),
            ingress: vec![Ingress::Ip("10.9.9.20".into())].into(),
            ..service(&id.key.name, &[("tcp", 1)])
        };
        ours.kind = OriginType::LoadBalancer;
        self.services.insert(id.key.clone(), ours.clone());
        let slice = Key::new(id.key.namespace.clone(), format!("{}-abc", id.key.name));
        self.slices.insert(slice.clone(), pods(&id.key.name, &["10.244.0.99"]));
        vec![
            Input::Export(ExportNews::Service(Change::Set(id.key.clone(), ours))),
            Input::Export(ExportNews::Slice(Change::Set(slice.clone(), self.slices[&slice].clone()))),
        ]
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
            (WriteOp::CreateObject(id, ..), _) if self.forbidden == Some(id.kind) => {
                return (failed(WriteFailure::Forbidden), vec![]);
            }
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
