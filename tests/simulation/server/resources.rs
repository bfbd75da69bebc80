//! What the server serves: one row a resource. All that differs between kinds is in this table or
//! in `rules`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// When `metadata.generation` counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    Never,
    /// With everything but metadata and status.
    Spec,
    /// With everything but metadata, and with labels (EndpointSlices).
    SpecOrLabels,
}

/// A resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    /// There is a subresource `status`.
    pub(crate) status: bool,
    pub(crate) generation: Generation,
    /// A custom resource: strict about its group in messages, lists that spell each item's kind.
    pub(crate) custom: bool,
}

const fn core(plural: &'static str, kind: &'static str, namespaced: bool, status: bool) -> Resource {
    built_in("", plural, kind, namespaced, status, Generation::Never)
}

const fn built_in(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    status: bool,
    generation: Generation,
) -> Resource {
    Resource { group, version: "v1", plural, kind, namespaced, status, generation, custom: false }
}

/// Of the Gateway API.
const fn of_gateways(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource { group: "gateway.networking.k8s.io", version: "v1", ..ours(plural, kind, namespaced) }
}

const fn ours(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource {
        group: "heliostat.dev",
        version: "v1alpha1",
        plural,
        kind,
        namespaced,
        status: true,
        generation: Generation::Spec,
        custom: true,
    }
}

/// Everything that is served.
pub(crate) static RESOURCES: &[Resource] = &[
    core("services", "Service", true, true),
    core("namespaces", "Namespace", false, true),
    core("nodes", "Node", false, true),
    core("secrets", "Secret", true, false),
    core("configmaps", "ConfigMap", true, false),
    built_in("events.k8s.io", "events", "Event", true, false, Generation::Never),
    built_in("discovery.k8s.io", "endpointslices", "EndpointSlice", true, false, Generation::SpecOrLabels),
    built_in("coordination.k8s.io", "leases", "Lease", true, false, Generation::Never),
    built_in("networking.k8s.io", "servicecidrs", "ServiceCIDR", false, true, Generation::Never),
    ours("clusterlinks", "ClusterLink", false),
    ours("mirrorpolicies", "MirrorPolicy", true),
    ours("gatewaybindings", "GatewayBinding", false),
    of_gateways("gatewayclasses", "GatewayClass", false),
    of_gateways("gateways", "Gateway", true),
    of_gateways("tcproutes", "TCPRoute", true),
];

impl Resource {
    /// The one with that plural; every plural here is of one group only.
    pub(crate) fn named(plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.plural == plural)
    }

    pub(crate) fn at(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        Self::named(plural).filter(|found| found.group == group && found.version == version)
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As messages call it: `services`, `clusterlinks.heliostat.dev`.
    pub(crate) fn qualified(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// As messages call its kind: `Service`, `EndpointSlice.discovery.k8s.io`.
    pub(crate) fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    /// The schema of a custom resource, as shipped.
    fn schema(&self) -> Option<&'static Value> {
        static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
            let shipped = [
                include_str!("../../../crds/clusterlinks.yaml"),
                include_str!("../../../crds/mirrorpolicies.yaml"),
                include_str!("../../../crds/gatewaybindings.yaml"),
            ];
            let read = |text| {
                let crd: Value = serde_saphyr::from_str(text).unwrap();
                let plural = crd["spec"]["names"]["plural"].as_str().unwrap().to_owned();
                (plural, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
            };
            shipped.into_iter().map(read).collect()
        });
        SCHEMAS.iter().find(|(plural, _)| plural == self.plural).map(|(_, schema)| schema)
    }

    /// Fills in the defaults of a custom resource's schema.
    pub(crate) fn fill_in(&self, object: &mut Value) {
        if let Some(schema) = self.schema() {
            fill_in(schema, object);
        }
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

fn fill_in(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_in(schema, value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(&schema["items"], item)),
        _ => {}
    }
}

/// Puts a merge patch (RFC 7386) over a value.
pub(crate) fn merge(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Value::Object(fields) = base else { return };
    for (name, change) in patch {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
