//! What kinds have of their own: defaults, addresses, what may not change.

use serde_json::{Value, json};

use super::{answer::Wrong, resources::Resource, store::State};

/// Fills in what a new object lacks.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn prepare(resource: &Resource, object: &mut Value, state: &mut State) -> Result<(), Vec<Wrong>> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !name.chars().all(legal) || name.len() > 253 {
        let message = format!(
            "Invalid value: {name:?}: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
        );
        return Err(vec![Wrong::new("metadata.name", message)]);
    }
    match resource.plural {
        "services" => service(object, state),
        "endpointslices" => {
            slice(object);
            Ok(())
        }
        "namespaces" => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Fills in what a changed object lacks.
///
/// # Errors
/// What may not change.
pub(crate) fn keep(resource: &Resource, old: &Value, new: &mut Value) -> Result<(), Vec<Wrong>> {
    match resource.plural {
        "services" => {
            ports_of_service(new)?;
            // Taken away is given back.
            for field in
                ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "sessionAffinity"]
            {
                if new["spec"][field].is_null() && !old["spec"][field].is_null() {
                    new["spec"][field] = old["spec"][field].clone();
                }
            }
            if old["spec"]["clusterIP"] != new["spec"]["clusterIP"] {
                let is = json!([new["spec"]["clusterIP"]]);
                return Err(vec![Wrong::new(
                    "spec.clusterIPs[0]",
                    format!("Invalid value: {is}: may not change once set"),
                )]);
            }
            Ok(())
        }
        "endpointslices" if old["addressType"] != new["addressType"] => {
            Err(vec![Wrong::new("addressType", format!("Invalid value: {}: field is immutable", new["addressType"]))])
        }
        "endpointslices" => {
            slice(new);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Takes away what is not spelled when it is empty.
pub(crate) fn shorten(resource: &Resource, object: &mut Value) {
    for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
        drop_empty(&mut object["metadata"], field);
    }
    if resource.plural == "services" {
        drop_empty(&mut object["status"], "conditions");
        drop_empty(&mut object["status"]["loadBalancer"], "ingress");
    }
}

fn drop_empty(object: &mut Value, field: &str) {
    let is_empty = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    };
    if let Value::Object(fields) = object
        && fields.get(field).is_some_and(is_empty)
    {
        fields.remove(field);
    }
}

fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn service(object: &mut Value, state: &mut State) -> Result<(), Vec<Wrong>> {
    ports_of_service(object)?;
    let spec = &mut object["spec"];
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    if spec["type"] != "ExternalName" {
        default(spec, "internalTrafficPolicy", json!("Cluster"));
        let headless = spec["clusterIP"] == "None";
        let dual = headless && spec["selector"].is_null();
        default(spec, "ipFamilyPolicy", json!(if dual { "RequireDualStack" } else { "SingleStack" }));
        default(spec, "ipFamilies", if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) });
        if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
            let free = (2..=u16::MAX).map(|n| format!("10.96.{}.{}", n >> 8, n & 255));
            let address = free.into_iter().find(|address| !state.addresses.contains(address)).unwrap();
            spec["clusterIP"] = json!(address);
        } else if !headless && state.addresses.contains(spec["clusterIP"].as_str().unwrap()) {
            let address = spec["clusterIP"].as_str().unwrap();
            let message = format!(
                "Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
            );
            return Err(vec![Wrong::new("spec.clusterIPs", message)]);
        }
        if !headless {
            state.addresses.insert(spec["clusterIP"].as_str().unwrap().to_owned());
        }
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    object["status"] = json!({"loadBalancer": {}});
    Ok(())
}

fn ports_of_service(object: &mut Value) -> Result<(), Vec<Wrong>> {
    let mut wrong = Vec::new();
    for (index, port) in object["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let number = port["port"].clone();
        default(port, "protocol", json!("TCP"));
        default(port, "targetPort", number.clone());
        if !(1..=65535).contains(&number.as_u64().unwrap_or(0)) {
            let message = format!("Invalid value: {number}: must be between 1 and 65535, inclusive");
            wrong.push(Wrong::new(format!("spec.ports[{index}].port"), message.clone()));
            if port["targetPort"] == number {
                wrong.push(Wrong::new(format!("spec.ports[{index}].targetPort"), message));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn slice(object: &mut Value) {
    for port in object["ports"].as_array_mut().into_iter().flatten() {
        default(port, "name", json!(""));
        default(port, "protocol", json!("TCP"));
    }
    for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
        default(endpoint, "conditions", json!({}));
    }
}
