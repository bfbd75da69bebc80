//! A Secret of the controller's namespace: its bytes, shown to nobody.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::{FromWire, Keep};
use crate::cluster::credentials::MAX_BYTES;

/// The data of a Secret. `Debug` shows the keys only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData(BTreeMap<String, SecretValue>);

/// A value of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// The bytes.
    Bytes(Vec<u8>),
    /// More than a kubeconfig may have; not held.
    TooLarge(usize),
}

impl SecretData {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretValue> {
        self.0.get(key)
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromWire for SecretData {
    type Kind = Secret;
    const KEEP: Keep = Keep::Fields(&[("metadata", super::remote::METADATA), ("data", Keep::All)]);

    fn from_wire(object: &Value) -> Self {
        let data = object["data"].as_object().into_iter().flatten();
        Self(data.filter_map(|(key, value)| Some((key.clone(), decode(value.as_str()?)?))).collect())
    }
}

fn decode(text: &str) -> Option<SecretValue> {
    let size = text.len() / 4 * 3;
    if size > MAX_BYTES + 3 {
        return Some(SecretValue::TooLarge(size));
    }
    STANDARD.decode(text).ok().map(SecretValue::Bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a14_data_is_decoded_and_never_printed() {
        let object = json!({"metadata": {"name": "s"}, "data": {"k": "Y2FuYXJ5", "odd": "%", "n": 7, "big": "A".repeat(1 << 20)}});
        let data = SecretData::from_wire(&object);
        assert!(data.get("k") == Some(&SecretValue::Bytes(b"canary".to_vec())));
        assert!(matches!(data.get("big"), Some(SecretValue::TooLarge(786_432))));
        assert!(data.get("odd").is_none() && data.get("n").is_none() && data.get("x").is_none());
        assert_eq!(format!("{data:?}"), r#"{"big", "k"}"#);
        for junk in [json!(null), json!([]), json!({"data": 7})] {
            assert!(SecretData::from_wire(&junk) == SecretData(BTreeMap::new()));
        }
    }
}
