//! Create, merge patch, delete; finalizers, owners and namespaces that end.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Wrong, already_exists, invalid, modified, not_found, ok, precondition, refusal, terminating},
    read::nameless,
    request::Asked,
    resources::{Generation, Resource, merge},
    rules,
    store::{ObjectKey, State},
};

/// Metadata that is the server's, whatever a request says.
const SERVERS_OWN: [&str; 5] =
    ["creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"];

impl State {
    pub(crate) fn create(&mut self, resource: &'static Resource, namespace: &str, asked: &Asked) -> Answer {
        let mut object = asked.body.clone();
        let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else { return nameless(resource) };
        if !object["metadata"]["resourceVersion"].is_null() {
            let message = "resourceVersion should not be set on objects to be created";
            return refusal(500, "", message, Value::Null);
        }
        if resource.namespaced {
            let home = Resource::named("namespaces").unwrap();
            match self.find(home, &(String::new(), namespace.to_owned())) {
                None => return not_found(home, namespace),
                Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => {
                    return terminating(resource, &name, namespace);
                }
                Some(_) => {}
            }
        }
        let key = (namespace.to_owned(), name.clone());
        if self.find(resource, &key).is_some() {
            return already_exists(resource, &name);
        }
        if resource.status
            && let Value::Object(fields) = &mut object
        {
            fields.remove("status");
        }
        resource.fill_in(&mut object);
        if let Err(wrong) = rules::prepare(resource, &mut object, self) {
            return invalid(resource, &name, &wrong);
        }
        self.identify(resource, namespace, &mut object);
        rules::shorten(resource, &mut object);
        if resource.generation != Generation::Never {
            object["metadata"]["generation"] = json!(1);
        }
        self.untidy |= object["metadata"]["ownerReferences"].is_array();
        ok(201, self.commit(resource, key, Some(object)))
    }

    pub(crate) fn patch(
        &mut self,
        resource: &'static Resource,
        key: &ObjectKey,
        status: bool,
        asked: &Asked,
    ) -> Answer {
        if asked.content_type != "application/merge-patch+json" {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: application/merge-patch+json, not {}",
                asked.content_type
            );
            return refusal(415, "UnsupportedMediaType", &message, Value::Null);
        }
        let Some(old) = self.find(resource, key).cloned() else { return not_found(resource, &key.1) };
        let mut new = Value::clone(&old);
        merge(&mut new, &asked.body);
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return modified(resource, &key.1);
        }
        if status && resource.custom {
            // Only the status of a custom resource can be changed this way; the rest is not even looked at.
            let changed = new["status"].take();
            new = Value::clone(&old);
            new["status"] = changed;
        } else if new["metadata"]["uid"] != old["metadata"]["uid"] {
            let is = new["metadata"]["uid"].to_string();
            return invalid(
                resource,
                &key.1,
                &[Wrong::new("metadata.uid", format!("Invalid value: {is}: field is immutable"))],
            );
        }
        for field in SERVERS_OWN {
            copy(&old["metadata"], &mut new["metadata"], field);
        }
        match (status, resource.status) {
            (true, _) if !resource.custom => copy(&old, &mut new, "spec"),
            (false, true) => copy(&old, &mut new, "status"),
            _ => {}
        }
        resource.fill_in(&mut new);
        if let Err(wrong) = rules::keep(resource, &old, &mut new) {
            return invalid(resource, &key.1, &wrong);
        }
        rules::shorten(resource, &mut new);
        if new == *old {
            return ok(200, new);
        }
        if counts_up(resource, &old, &new) {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = json!(generation);
        }
        self.untidy |= new["metadata"]["ownerReferences"].is_array();
        if !new["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&new) {
            // The last finalizer is gone: the answer is the object as it would have been.
            self.forget(resource, key.clone());
            return ok(200, new);
        }
        ok(200, self.commit(resource, key.clone(), Some(new)))
    }

    pub(crate) fn delete(&mut self, resource: &'static Resource, key: &ObjectKey, asked: &Asked) -> Answer {
        let Some(old) = self.find(resource, key).cloned() else { return not_found(resource, &key.1) };
        let wanted = &asked.body["preconditions"];
        for (what, field) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
            let is = old["metadata"][field].as_str().unwrap();
            if let Some(wanted) = wanted[field].as_str().filter(|wanted| *wanted != is) {
                return precondition(resource, &key.1, what, wanted, is);
            }
        }
        let gone = self.remove(resource, key);
        let whole = matches!(resource.plural, "services" | "namespaces" | "nodes") || has_finalizers(&gone);
        if whole {
            return ok(200, gone);
        }
        let mut details = json!({"name": key.1, "kind": resource.plural, "uid": gone["metadata"]["uid"]});
        if !resource.group.is_empty() {
            details["group"] = json!(resource.group);
        }
        ok(200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}))
    }

    /// Removes an object, or marks it as to be removed when something holds it.
    pub(crate) fn remove(&mut self, resource: &'static Resource, key: &ObjectKey) -> Arc<Value> {
        let old = self.find(resource, key).cloned().unwrap();
        let is_namespace = resource.plural == "namespaces";
        if !has_finalizers(&old) && !is_namespace {
            return self.forget(resource, key.clone());
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return old;
        }
        let mut ending = Value::clone(&old);
        ending["metadata"]["deletionTimestamp"] = json!(self.now());
        if is_namespace {
            ending["status"]["phase"] = json!("Terminating");
            self.untidy = true;
        } else {
            ending["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        self.commit(resource, key.clone(), Some(ending))
    }

    fn forget(&mut self, resource: &'static Resource, key: ObjectKey) -> Arc<Value> {
        let gone = self.commit(resource, key, None);
        for address in gone["spec"]["clusterIPs"].as_array().into_iter().flatten() {
            self.addresses.remove(address.as_str().unwrap_or_default());
        }
        gone
    }

    /// What the controller manager does: empties namespaces that end, and removes what has lost its owners.
    pub(crate) fn tidy(&mut self) {
        while std::mem::take(&mut self.untidy) {
            self.end_namespaces();
            self.collect();
        }
    }

    fn end_namespaces(&mut self) {
        let home = Resource::named("namespaces").unwrap();
        let ending = |object: &&Arc<Value>| !object["metadata"]["deletionTimestamp"].is_null();
        let names: Vec<String> = self
            .of(home)
            .into_iter()
            .flat_map(|all| all.values())
            .filter(ending)
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        for namespace in names {
            let mut empty = true;
            for (resource, key) in self.all() {
                if key.0 == namespace {
                    self.remove(resource, &key);
                    empty &= self.find(resource, &key).is_none();
                }
            }
            if empty {
                self.forget(home, (String::new(), namespace));
            }
        }
    }

    fn all(&self) -> Vec<(&'static Resource, ObjectKey)> {
        let of = |(plural, objects): (&&'static str, &super::store::Objects)| {
            let resource = Resource::named(plural).unwrap();
            objects.keys().map(|key| (resource, key.clone())).collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(of).collect()
    }

    fn collect(&mut self) {
        let alive: BTreeSet<String> = self
            .kinds
            .values()
            .flat_map(|objects| objects.values())
            .map(|object| object["metadata"]["uid"].as_str().unwrap().to_owned())
            .collect();
        for (resource, key) in self.all() {
            let Some(object) = self.find(resource, &key).cloned() else { continue };
            let Some(owners) = object["metadata"]["ownerReferences"].as_array().filter(|owners| !owners.is_empty())
            else {
                continue;
            };
            let left: Vec<Value> = owners
                .iter()
                .filter(|owner| alive.contains(owner["uid"].as_str().unwrap_or_default()))
                .cloned()
                .collect();
            if left.is_empty() {
                self.remove(resource, &key);
            } else if left.len() < owners.len() {
                let mut kept = Value::clone(&object);
                kept["metadata"]["ownerReferences"] = json!(left);
                self.commit(resource, key, Some(kept));
            }
        }
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    let Value::Object(fields) = to else { return };
    match from.get(field) {
        Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

fn counts_up(resource: &Resource, old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut rest: Map<String, Value> = object.as_object().cloned().unwrap_or_default();
        rest.remove("metadata");
        rest.remove("status");
        rest
    };
    let spec = rest(old) != rest(new);
    let labels = old["metadata"]["labels"] != new["metadata"]["labels"];
    match resource.generation {
        Generation::Never => false,
        Generation::Spec => spec,
        Generation::SpecOrLabels => spec || labels,
    }
}
