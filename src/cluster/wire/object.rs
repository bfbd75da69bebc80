//! Objects of kinds that are not looked into here, as plain JSON: whole, but for what no reader
//! needs and what makes equal objects differ.

use std::borrow::Cow;

use kube::{
    api::ObjectMeta,
    core::{ApiResource, DynamicResourceScope},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::metadata;
use crate::core::model::Key;

/// kubectl's copy of what was applied last: as large as the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of any kind of this cluster.
#[derive(Clone, Debug)]
pub struct ObjectWire {
    metadata: ObjectMeta,
    object: Value,
}

impl ObjectWire {
    /// Its key, with an empty namespace where it has none, and the object. None without a legal
    /// name, which no API server gives out.
    #[must_use]
    pub fn into_keyed(self) -> Option<(Key, Value)> {
        let key = Key::new(self.metadata.namespace.unwrap_or_default(), self.metadata.name?);
        Some((key, self.object))
    }
}

impl<'de> Deserialize<'de> for ObjectWire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        prune(&mut object);
        Ok(Self { metadata: metadata(&object), object })
    }
}

/// `apiVersion` and `kind` go too: listings of built-in kinds lack them, watches do not.
fn prune(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("apiVersion");
    fields.remove("kind");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

impl kube::Resource for ObjectWire {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(object: Value) -> Option<(Key, Value)> {
        serde_json::from_value::<ObjectWire>(object).unwrap().into_keyed()
    }

    #[test]
    fn an_object_is_the_same_whether_it_was_listed_watched_or_answered() {
        let lean = json!({"metadata": {"name": "a", "namespace": "shop", "generation": 3}, "spec": {"x": [1]}});
        let mut whole = lean.clone();
        whole["apiVersion"] = json!("v1");
        whole["kind"] = json!("Service");
        whole["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        whole["metadata"]["annotations"] = json!({LAST_APPLIED: "{}"});
        assert_eq!(read(whole.clone()), Some((Key::new("shop", "a"), lean.clone())));
        assert_eq!(read(lean.clone()), Some((Key::new("shop", "a"), lean)));
        whole["metadata"]["annotations"]["theirs"] = json!("x");
        assert_eq!(read(whole).unwrap().1["metadata"]["annotations"], json!({"theirs": "x"}));
    }

    #[test]
    fn long_lists_stay_whole() {
        let ports: Vec<u16> = (20_000..28_000).collect();
        let object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"ports": ports}});
        assert_eq!(read(object.clone()).unwrap().1, object);
    }

    #[test]
    fn objects_of_cluster_scope_have_no_namespace_and_nonsense_has_no_key() {
        assert_eq!(read(json!({"metadata": {"name": "public"}})).unwrap().0, Key::new("", "public"));
        for nonsense in
            [json!(null), json!([]), json!({}), json!({"metadata": 7}), json!({"metadata": {"name": "../x"}})]
        {
            assert_eq!(read(nonsense), None);
        }
    }
}
