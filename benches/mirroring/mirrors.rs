//! Mirrors as the API server keeps them, and the bodies that were sent to make them.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// What the controller says of an object's metadata; the rest is the API server's.
const METADATA: [&str; 5] = ["name", "namespace", "labels", "annotations", "ownerReferences"];

/// A mirror and its slice, whole.
#[derive(Clone)]
pub(crate) struct Mirror {
    service: Value,
    slice: Value,
}

impl Mirror {
    /// Puts each Service together with its slice, in the order of their names.
    pub(crate) fn pair(services: Vec<Value>, slices: Vec<Value>) -> anyhow::Result<Vec<Self>> {
        let label = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"].clone();
        let mut slices: BTreeMap<String, Value> =
            slices.into_iter().map(|slice| (label(&slice).to_string(), slice)).collect();
        let pair = |service: Value| {
            let name = service["metadata"]["name"].to_string();
            let slice = slices.remove(&name).with_context(|| format!("the mirror {name} has no slice"))?;
            Ok(Self { service, slice })
        };
        services.into_iter().map(pair).collect()
    }

    /// The body that makes the Service.
    pub(crate) fn service_body(&self) -> Value {
        let mut spec = pick(&self.service["spec"], &["type", "ipFamilyPolicy"]);
        let ports = self.service["spec"]["ports"].as_array().into_iter().flatten();
        let port = |port| pick(port, &["name", "port", "protocol", "appProtocol"]);
        spec["ports"] = ports.map(port).collect();
        let metadata = pick(&self.service["metadata"], &METADATA);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }

    /// The body that makes the slice of the Service with that uid.
    pub(crate) fn slice_body(&self, owner: &str) -> Value {
        let mut body = pick(&self.slice, &["addressType", "ports", "endpoints"]);
        body["apiVersion"] = json!("discovery.k8s.io/v1");
        body["kind"] = json!("EndpointSlice");
        body["metadata"] = pick(&self.slice["metadata"], &METADATA);
        body["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
        body
    }

    /// Without what the API server gives each object anew: what is left tells which fields were sent,
    /// too (`managedFields`).
    fn lasting(&self) -> [String; 2] {
        let [mut service, mut slice] = [self.service.clone(), self.slice.clone()];
        for address in ["clusterIP", "clusterIPs"] {
            service["spec"][address] = Value::Null;
        }
        let owner = slice["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default().to_owned();
        for object in [&mut service, &mut slice] {
            for field in ["uid", "resourceVersion", "creationTimestamp"] {
                object["metadata"][field] = Value::Null;
            }
            for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
                entry["time"] = Value::Null;
            }
        }
        // The owner's uid is a key of managedFields, too.
        [service.to_string(), slice.to_string().replace(&owner, "uid of the Service")]
    }
}

/// Fails unless the mirrors are the same, but for what the API server gives each anew.
pub(crate) fn same(ones: &[Mirror], others: &[Mirror]) -> anyhow::Result<()> {
    if ones.len() != others.len() {
        bail!("{} mirrors cannot be compared with {}", ones.len(), others.len());
    }
    for (one, other) in ones.iter().flat_map(Mirror::lasting).zip(others.iter().flat_map(Mirror::lasting)) {
        if one != other {
            bail!("two cold syncs did not write the same, but\n{one}\nand\n{other}");
        }
    }
    Ok(())
}

fn pick(object: &Value, fields: &[&str]) -> Value {
    let there = fields.iter().filter_map(|field| Some(((*field).to_owned(), object.get(field)?.clone())));
    Value::Object(Map::from_iter(there))
}
