//! Renders a [`WriteOp`] into the request that carries it out. Pure: the whole shape of what lands
//! in the importer can be read here.
//!
//! Never rendered: a selector, a `blockOwnerDeletion`, a finalizer, a server-side apply, or a
//! change or deletion that would hit another object, or another version of it, than was observed.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Request, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    api::{GROUP, VERSION, binding::GatewayBindingStatus, link::ClusterLinkStatus, names, policy::MirrorPolicyStatus},
    core::{
        export::object::ObjectId,
        io::{At, MirrorService, MirrorSlice, ServicePatch, WriteOp},
        model::{Key, MirrorEndpoint, SliceBody, SlicePort, Text},
    },
};

/// How a request changes the cluster; its label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// POST.
    Create,
    /// PATCH, as a merge patch (RFC 7386).
    Patch,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The verb as RBAC spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// A write, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What is done.
    pub verb: Verb,
    /// Resource and subresource that it is done to, as RBAC spells them.
    pub resource: &'static str,
    /// Path of the object, or of its collection when it is created.
    pub path: String,
    /// Body.
    pub body: Value,
}

impl Rendered {
    /// The HTTP request.
    ///
    /// # Errors
    /// When the path is no URI: an object with an illegal name.
    pub fn request(&self) -> Result<Request<Vec<u8>>, http::Error> {
        let (method, content_type) = match self.verb {
            Verb::Create => (Method::POST, "application/json"),
            Verb::Patch => (Method::PATCH, "application/merge-patch+json"),
            Verb::Delete => (Method::DELETE, "application/json"),
        };
        let manager = match self.verb {
            Verb::Delete => String::new(),
            Verb::Create | Verb::Patch => format!("?fieldManager={}", names::FIELD_MANAGER),
        };
        Request::builder()
            .method(method)
            .uri(format!("{}{manager}", self.path))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json")
            .body(self.body.to_string().into_bytes())
    }
}

/// Renders a write.
#[must_use]
pub fn render(op: &WriteOp) -> Rendered {
    match op {
        WriteOp::CreateService(key, mirror) => create(SERVICES, key, service(key, mirror)),
        WriteOp::PatchService(key, at, change) => {
            patch(SERVICES, object_path(SERVICES, key), service_patch(at, change))
        }
        WriteOp::DeleteService(key, at) => delete(SERVICES, key, at),
        WriteOp::PatchServiceConditions(key, at, conditions) => patch(
            SERVICE_STATUS,
            object_path(SERVICES, key) + "/status",
            json!({"metadata": precondition(at), "status": {"conditions": conditions}}),
        ),
        WriteOp::CreateSlice(key, mirror) => create(SLICES, key, slice(key, mirror)),
        WriteOp::PatchSlice(key, at, mirror) => patch(SLICES, object_path(SLICES, key), slice_patch(at, mirror)),
        WriteOp::DeleteSlice(key, at) => delete(SLICES, key, at),
        WriteOp::CreateObject(id, version, whole) => Rendered {
            verb: Verb::Create,
            resource: id.kind.plural,
            path: kind_path(id, version),
            body: object(id, version, whole),
        },
        WriteOp::PatchObject(id, version, at, change) => {
            patch(id.kind.plural, object_path_of(id, version), object_patch(at, change))
        }
        WriteOp::DeleteObject(id, version, at) => delete_at(id.kind.plural, object_path_of(id, version), at),
        WriteOp::LinkStatus(name, at, new) => patch(
            LINK_STATUS,
            format!("/apis/{GROUP}/{VERSION}/clusterlinks/{name}/status"),
            status::<ClusterLinkStatus>(at, new),
        ),
        WriteOp::PolicyStatus(Key { namespace, name }, at, new) => patch(
            POLICY_STATUS,
            format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/mirrorpolicies/{name}/status"),
            status::<MirrorPolicyStatus>(at, new),
        ),
        WriteOp::BindingStatus(name, at, new) => patch(
            BINDING_STATUS,
            format!("/apis/{GROUP}/{VERSION}/gatewaybindings/{name}/status"),
            status::<GatewayBindingStatus>(at, new),
        ),
    }
}

const SERVICES: &str = "services";
const SERVICE_STATUS: &str = "services/status";
const SLICES: &str = "endpointslices";
const LINK_STATUS: &str = "clusterlinks/status";
const POLICY_STATUS: &str = "mirrorpolicies/status";
const BINDING_STATUS: &str = "gatewaybindings/status";

fn create(resource: &'static str, key: &Key, body: Value) -> Rendered {
    Rendered { verb: Verb::Create, resource, path: collection_path(resource, &key.namespace), body }
}

fn patch(resource: &'static str, path: String, body: Value) -> Rendered {
    Rendered { verb: Verb::Patch, resource, path, body }
}

fn delete(resource: &'static str, key: &Key, at: &At) -> Rendered {
    delete_at(resource, object_path(resource, key), at)
}

/// Deletes exactly the observed version; what it owns is collected afterwards.
fn delete_at(resource: &'static str, path: String, at: &At) -> Rendered {
    Rendered {
        verb: Verb::Delete,
        resource,
        path,
        body: json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": precondition(at),
            "propagationPolicy": "Background",
        }),
    }
}

/// Path of the objects of a kind in a namespace; without one, of a kind of cluster scope.
fn kind_path(id: &ObjectId, version: &str) -> String {
    let root = if id.kind.group.is_empty() { "/api" } else { "/apis" };
    let (api_version, plural) = (id.kind.api_version(version), id.kind.plural);
    match id.key.namespace.as_str() {
        "" => format!("{root}/{api_version}/{plural}"),
        namespace => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
    }
}

fn object_path_of(id: &ObjectId, version: &str) -> String {
    format!("{}/{}", kind_path(id, version), id.key.name)
}

fn object(id: &ObjectId, version: &str, whole: &Map<String, Value>) -> Value {
    let mut object = whole.clone();
    object.insert("apiVersion".to_owned(), json!(id.kind.api_version(version)));
    object.insert("kind".to_owned(), json!(id.kind.kind));
    Value::Object(object)
}

fn object_patch(at: &At, change: &Map<String, Value>) -> Value {
    let mut metadata = change.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.insert("uid".to_owned(), json!(at.uid));
    metadata.insert("resourceVersion".to_owned(), json!(at.resource_version));
    let mut patch = change.clone();
    patch.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(patch)
}

fn collection_path(resource: &str, namespace: &str) -> String {
    let group = if resource == SLICES { "/apis/discovery.k8s.io/v1" } else { "/api/v1" };
    format!("{group}/namespaces/{namespace}/{resource}")
}

fn object_path(resource: &str, key: &Key) -> String {
    format!("{}/{}", collection_path(resource, &key.namespace), key.name)
}

/// In a patch's metadata: the API server refuses it unless both are still so, with 409 where the version is another
/// one; another uid alone is 422.
fn precondition(at: &At) -> Value {
    json!({"uid": at.uid, "resourceVersion": at.resource_version})
}

fn service(key: &Key, mirror: &MirrorService) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "ipFamilyPolicy": "PreferDualStack",
        "ports": ports(&mirror.ports),
    });
    if mirror.headless {
        spec["clusterIP"] = json!("None");
    }
    let mut metadata = json!({
        "name": key.name,
        "namespace": key.namespace,
        "labels": mirror.labels,
        "annotations": mirror.annotations,
    });
    if let Some((name, uid)) = &mirror.owner {
        metadata["ownerReferences"] = json!([link_owner(name, uid)]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

/// The ownerReference from a mirror to its link, as an entry of [`ServicePatch::owners`] too.
#[must_use]
pub fn link_owner(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "ClusterLink",
        "name": name,
        "uid": uid,
    })
}

fn service_patch(at: &At, change: &ServicePatch) -> Value {
    // Destructured, so that a new kind of change cannot be forgotten here.
    let ServicePatch {
        labels,
        annotations,
        owners,
        ports: new_ports,
        cluster_ip_type,
        prefer_dual_stack,
        remove_fields,
    } = change;
    let mut metadata = precondition(at);
    set_keys(&mut metadata, "labels", labels);
    set_keys(&mut metadata, "annotations", annotations);
    if let Some(owners) = owners {
        metadata["ownerReferences"] = json!(owners);
    }
    let mut spec: Map<String, Value> = remove_fields.iter().map(|field| (field.to_string(), Value::Null)).collect();
    if *cluster_ip_type {
        spec.insert("type".to_owned(), json!("ClusterIP"));
    }
    if *prefer_dual_stack {
        spec.insert("ipFamilyPolicy".to_owned(), json!("PreferDualStack"));
    }
    if let Some(new_ports) = new_ports {
        spec.insert("ports".to_owned(), ports(new_ports));
    }
    if spec.is_empty() { json!({"metadata": metadata}) } else { json!({"metadata": metadata, "spec": spec}) }
}

/// Keys to set and, as null, keys to take away; all others stay as they are.
fn set_keys(metadata: &mut Value, field: &str, keys: &BTreeMap<Text, Option<Text>>) {
    if !keys.is_empty() {
        metadata[field] = json!(keys);
    }
}

fn slice(key: &Key, mirror: &MirrorSlice) -> Value {
    let mut metadata = slice_metadata(mirror);
    metadata.insert("name".to_owned(), json!(key.name));
    metadata.insert("namespace".to_owned(), json!(key.namespace));
    let annotations: Map<String, Value> =
        slice_annotations(&mirror.body).into_iter().filter(|(_, value)| !value.is_null()).collect();
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": mirror.body.family.as_str(),
        "ports": ports(&mirror.body.ports),
        "endpoints": endpoints(&mirror.body.endpoints),
    })
}

/// `addressType` is immutable and therefore left out.
fn slice_patch(at: &At, mirror: &MirrorSlice) -> Value {
    let mut metadata = slice_metadata(mirror);
    metadata.insert("uid".to_owned(), json!(at.uid));
    metadata.insert("resourceVersion".to_owned(), json!(at.resource_version));
    metadata.insert("annotations".to_owned(), slice_annotations(&mirror.body).into());
    json!({
        "metadata": metadata,
        "ports": ports(&mirror.body.ports),
        "endpoints": endpoints(&mirror.body.endpoints),
    })
}

/// All annotations that a slice may have of us; null: it has none.
fn slice_annotations(body: &SliceBody) -> Map<String, Value> {
    let linkerd = body.linkerd.as_deref();
    let annotations = [
        (names::TRIGGER_TIME_ANNOTATION, body.trigger_time.as_ref()),
        (names::PORT_LEASE_ANNOTATION, body.port_lease.as_ref()),
        (names::LINKERD_IDENTITY_ANNOTATION, linkerd.and_then(|keys| keys.identity.as_ref())),
        (names::LINKERD_SERVICE_ANNOTATION, linkerd.and_then(|keys| keys.service.as_ref())),
    ];
    annotations.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// What ties a slice to its mirror.
fn slice_metadata(mirror: &MirrorSlice) -> Map<String, Value> {
    let (name, uid) = &mirror.service;
    let labels = json!({
        names::SERVICE_NAME_LABEL: name,
        names::SLICE_MANAGED_BY_LABEL: names::SLICE_MANAGER,
    });
    let owner = json!({"apiVersion": "v1", "kind": "Service", "name": name, "uid": uid});
    Map::from_iter([("labels".to_owned(), labels), ("ownerReferences".to_owned(), json!([owner]))])
}

/// Ports of a Service and of a slice are spelled alike.
fn ports(ports: &[SlicePort]) -> Value {
    let port = |port: &SlicePort| {
        let mut out = json!({"port": port.port, "protocol": port.protocol.as_str()});
        if !port.name.is_empty() {
            out["name"] = json!(port.name);
        }
        if let Some(app_protocol) = &port.app_protocol {
            out["appProtocol"] = json!(app_protocol);
        }
        out
    };
    ports.iter().map(port).collect()
}

fn endpoints(endpoints: &[MirrorEndpoint]) -> Value {
    let endpoint = |endpoint: &MirrorEndpoint| {
        let readiness = endpoint.readiness;
        let mut out = json!({
            "addresses": [endpoint.address],
            "conditions": {
                "ready": readiness.ready,
                "serving": readiness.serving,
                "terminating": readiness.terminating,
            },
        });
        if let Some(hostname) = &endpoint.hostname {
            out["hostname"] = json!(hostname);
        }
        out
    };
    endpoints.iter().map(endpoint).collect()
}

/// A whole status as a merge patch: a field that the new one lacks must be taken away by name.
fn status<S: Serialize + JsonSchema>(at: &At, new: &S) -> Value {
    let mut status: Map<String, Value> = fields_of::<S>().into_iter().map(|field| (field, Value::Null)).collect();
    if let Value::Object(set) = json!(new) {
        status.extend(set);
    }
    json!({"metadata": precondition(at), "status": status})
}

/// The fields of a status, from its schema: the same source as the CRD's, so none is forgotten.
fn fields_of<S: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(S);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
