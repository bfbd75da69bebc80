//! The CustomResourceDefinitions of the three kinds, and how they are printed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{ClusterLink, GatewayBinding, MirrorPolicy, schema};

/// Why the definitions could not be made; a defect of the program, not of its input.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A derived schema isn't one that Kubernetes knows.
    #[error("the schema of a kind is not a Kubernetes schema ({0}); please report this")]
    Schema(#[from] serde_json::Error),
    /// A definition has no YAML form.
    #[error("a CustomResourceDefinition can't be printed as YAML ({0}); please report this")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// The definitions of ClusterLink, MirrorPolicy and GatewayBinding, ready to be applied.
///
/// # Errors
/// [`CrdError::Schema`].
pub fn crds() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    [ClusterLink::crd(), MirrorPolicy::crd(), GatewayBinding::crd()].into_iter().map(finish).collect()
}

/// What the derive can't say: see [`schema::finish`]; and a status that says, before the
/// controller has seen the object, that it speaks of no generation yet, so that `kubectl wait`
/// and kstatus wait instead of taking a new object for a finished one.
fn finish(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(crd)?;
    if let Some(Value::Array(versions)) = crd.pointer_mut("/spec/versions") {
        for version in versions {
            if let Some(root) = version.pointer_mut("/schema/openAPIV3Schema") {
                schema::finish(root);
                if let Some(Value::Object(status)) = root.pointer_mut("/properties/status") {
                    status.insert("default".to_owned(), json!({"observedGeneration": -1}));
                }
            }
        }
    }
    Ok(serde_json::from_value(crd)?)
}

/// YAML documents, one a definition, as `kubectl apply -f -` takes them.
///
/// # Errors
/// [`CrdError`].
pub fn to_yaml(crds: &[CustomResourceDefinition]) -> Result<String, CrdError> {
    let mut yaml = String::new();
    for crd in crds {
        let mut crd = serde_json::to_value(crd)?;
        whole_numbers(&mut crd);
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(yaml)
}

/// Prints `maximum: 100` instead of `100.0`: the typed schema holds bounds as floats.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15);
            if let (true, Some(whole)) = (number.is_f64(), whole) {
                *value = json!(whole as i64);
            }
        }
        _ => {}
    }
}
