//! What stands in a namespace of the importer, whole: every mirror with its slices and everything that
//! somebody else made, so that one comparison shows what is wrong, missing or too much.

use serde_json::{Map, Value, json};

use crate::{
    fixture::{SOON, Snapshot},
    objects::{Objects, wait},
    support::{Case, merge},
};

/// Stands for the uid of the mirror in the ownerReference of its slices.
const ITS_MIRROR: &str = "the mirror's own";
/// Who makes the slices of Services that select pods; they follow those, and nobody else.
const KUBERNETES: &str = "endpointslice-controller.k8s.io";

impl Case {
    /// The mirror by way Service of an origin with a load balancer, as the design describes it.
    pub(crate) async fn mirror(&self, origin: &str) -> Value {
        let origin = self.origins().get(origin).await.unwrap();
        let link = self.links().get(&self.name).await.unwrap();
        mirror(&link, &self.name, "all", &origin)
    }

    /// Waits until exactly these stand in the case's namespace, by name of the Service.
    pub(crate) async fn lands(&self, wanted: &[&Value]) {
        self.lands_in(&self.name, wanted).await;
    }

    /// The same in another namespace.
    pub(crate) async fn lands_in(&self, namespace: &str, wanted: &[&Value]) {
        let mut wanted: Vec<Value> = wanted.iter().map(|w| (*w).clone()).collect();
        wanted.sort_by(|a, b| name(a).cmp(name(b)));
        let names: Vec<&str> = wanted.iter().map(name).collect();
        wait(&format!("{namespace}: lands {names:?}"), SOON, || async {
            let there = self.landing(namespace).await;
            if there == wanted { Ok(()) } else { Err(different(there, &wanted)) }
        })
        .await;
    }

    /// The only slice of a mirror, as it is.
    pub(crate) async fn slice_of(&self, mirror: &str) -> Value {
        let all = self.mirror_slices().all().await;
        let mut its = all.into_values().filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == mirror);
        let slice = its.next().unwrap();
        assert_eq!(its.next(), None, "{mirror} has more than one slice");
        slice
    }

    /// One Service and its slices, as they are.
    pub(crate) async fn landed_of(&self, service: &str) -> Snapshot {
        let of = |object: &Value| {
            let meta = &object["metadata"];
            meta["name"] == service || meta["labels"]["kubernetes.io/service-name"] == service
        };
        self.landed().await.into_iter().filter(|(_, object)| of(object)).collect()
    }

    /// Every Service and slice in the case's namespace of the exporter.
    pub(crate) async fn exporter(&self) -> Snapshot {
        let services = self.origins().all().await.into_iter().map(|(name, o)| (format!("Service {name}"), o));
        let slices = self.origin_slices().all().await.into_iter().map(|(name, o)| (format!("EndpointSlice {name}"), o));
        services.chain(slices).collect()
    }

    /// Makes an origin one of another type: its type is replaced, with what belongs to it.
    pub(crate) async fn turn(&self, origin: &str, spec: Value) {
        let old = self.origins().get(origin).await.unwrap();
        let mut body = json!({"metadata": old["metadata"], "spec": spec});
        body["spec"]["ports"] = old["spec"]["ports"].clone();
        self.origins().replace(origin, &body).await;
    }

    /// What stands in a namespace, by name of the Service; slices of none come last.
    pub(crate) async fn landing(&self, namespace: &str) -> Vec<Value> {
        let mut slices = Objects::slices(&self.west, namespace).all().await;
        slices.retain(|_, slice| slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] != KUBERNETES);
        let services = Objects::services(&self.west, namespace).all().await;
        let mut there: Vec<Value> = services
            .into_iter()
            .map(|(name, service)| {
                let own = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name.as_str();
                let mut its: Vec<Value> =
                    slices.values().filter(|s| own(s)).map(|s| slice_shape(s, &service)).collect();
                its.sort_by_key(Value::to_string);
                slices.retain(|_, slice| !own(slice));
                json!({"service": service_shape(&service), "slices": its})
            })
            .collect();
        there.extend(slices.into_values().map(|slice| json!({"slice": slice})));
        there
    }
}

fn name(landed: &Value) -> &str {
    landed["service"]["metadata"]["name"].as_str().unwrap_or("a slice without Service")
}

/// Only what is not the same on both sides.
fn different(there: Vec<Value>, wanted: &[Value]) -> Value {
    let surplus: Vec<&Value> = there.iter().filter(|t| !wanted.contains(t)).collect();
    let missing: Vec<&Value> = wanted.iter().filter(|w| !there.contains(w)).collect();
    json!({"not wanted": surplus, "wanted": missing})
}

/// A Service without slices that somebody else made: as it is, unless it carries our label.
pub(crate) fn foreign(service: &Value) -> Value {
    json!({"service": service_shape(service), "slices": []})
}

/// The mirror of an origin with a load balancer that reports addresses, all ready.
pub(crate) fn mirror(link: &Value, policy_namespace: &str, policy: &str, origin: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (link_name, meta) = (text(&link["metadata"]["name"]), &origin["metadata"]);
    let name = format!("{}-{link_name}", text(&meta["name"]));
    let ports: Vec<Value> = origin["spec"]["ports"].as_array().unwrap().iter().map(port).collect();
    let mirror_ports = ports.iter().map(|port| merged(port, json!({"targetPort": port["port"]}))).collect::<Vec<_>>();
    let mut slice_ports = ports;
    slice_ports.sort_by_key(|port| text(&port["name"]));
    let ingress = origin["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    let slices: Vec<Value> = if ingress.is_empty() {
        vec![]
    } else {
        let addresses: Vec<String> = ingress.iter().map(|i| text(&i["ip"])).collect();
        vec![slice(&name, &meta["namespace"], json!(slice_ports), &addresses)]
    };
    json!({
        "service": {
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": {
                    "app.kubernetes.io/managed-by": "heliostat",
                    "heliostat.dev/link": link_name,
                    "heliostat.dev/policy": policy,
                    "heliostat.dev/policy-namespace": policy_namespace,
                },
                "annotations": {
                    "heliostat.dev/link-uid": link["metadata"]["uid"],
                    "heliostat.dev/origin": format!("{}/{}", text(&meta["namespace"]), text(&meta["name"])),
                    "heliostat.dev/origin-uid": meta["uid"],
                    "heliostat.dev/via": "Service",
                },
                "ownerReferences": [{
                    "apiVersion": "heliostat.dev/v1alpha1",
                    "kind": "ClusterLink",
                    "name": link_name,
                    "uid": link["metadata"]["uid"],
                }],
            },
            "spec": {
                "type": "ClusterIP",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "PreferDualStack",
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": mirror_ports,
            },
            "status": {"loadBalancer": {}},
        },
        "slices": slices,
    })
}

/// A slice of a mirror, its endpoints ready.
pub(crate) fn slice(mirror: &str, namespace: &Value, ports: Value, addresses: &[String]) -> Value {
    let endpoint =
        |a: &String| json!({"addresses": [a], "conditions": {"ready": true, "serving": true, "terminating": false}});
    json!({
        "metadata": {
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": mirror,
                "endpointslice.kubernetes.io/managed-by": "heliostat.dev",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": mirror, "uid": ITS_MIRROR}],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// What of an origin's port a mirror takes over.
fn port(of: &Value) -> Value {
    let fields =
        ["name", "port", "protocol", "appProtocol"].iter().filter_map(|f| Some(((*f).to_owned(), of.get(*f)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// The first with the second put over it.
pub(crate) fn merged(base: &Value, over: Value) -> Value {
    let mut base = base.clone();
    merge(&mut base, over);
    base
}

/// A mirror without what the API server gives it; what somebody else made stays whole.
fn service_shape(service: &Value) -> Value {
    let meta = &service["metadata"];
    if meta["labels"]["app.kubernetes.io/managed-by"] != "heliostat" {
        return without(service, &[]);
    }
    let mut shape = without(service, &["uid", "resourceVersion", "creationTimestamp"]);
    let spec = shape["spec"].as_object_mut().unwrap();
    spec.remove("clusterIPs");
    if spec["clusterIP"] != "None" {
        spec.remove("clusterIP");
    }
    shape
}

fn slice_shape(slice: &Value, service: &Value) -> Value {
    if slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] != "heliostat.dev" {
        return without(slice, &[]);
    }
    let mut shape = without(slice, &["name", "uid", "resourceVersion", "creationTimestamp", "generation"]);
    for owner in shape["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
        if owner["uid"] == service["metadata"]["uid"] {
            owner["uid"] = json!(ITS_MIRROR);
        }
    }
    shape
}

fn without(object: &Value, fields: &[&str]) -> Value {
    let mut object = object.clone();
    let meta = object["metadata"].as_object_mut().unwrap();
    meta.remove("managedFields");
    fields.iter().for_each(|field| drop(meta.remove(*field)));
    for field in ["kind", "apiVersion"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}
