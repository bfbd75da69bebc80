use std::net::IpAddr;

use super::*;
use crate::core::{
    export::object::{Kind, LEASE, OWN_SERVICE, kind},
    model::{Family, LinkerdKeys, List, Protocol, Readiness, SliceBody, SliceCommon},
};

fn key() -> Key {
    Key::new("shop", "books-east")
}

fn at() -> At {
    At { uid: "u1".into(), resource_version: "42".into() }
}

fn port(name: &str, port: u16, app_protocol: Option<&str>) -> SlicePort {
    SlicePort { name: name.into(), port, protocol: Protocol::Tcp, app_protocol: app_protocol.map(Into::into) }
}

fn mirror() -> MirrorService {
    MirrorService {
        labels: [("heliostat.dev/link".to_owned(), "east".to_owned())].into(),
        annotations: [("heliostat.dev/link-uid".to_owned(), "l1".to_owned())].into(),
        owner: Some(("east".into(), "l1".into())),
        headless: false,
        ports: vec![port("http", 80, None), port("grpc", 9090, Some("kubernetes.io/h2c"))].into(),
    }
}

fn mirror_slice() -> MirrorSlice {
    let endpoint = |address: &str, readiness, hostname: Option<&str>| MirrorEndpoint {
        address: address.parse::<IpAddr>().unwrap(),
        readiness,
        hostname: hostname.map(Into::into),
    };
    MirrorSlice {
        service: ("books-east".into(), "s1".into()),
        body: SliceBody {
            endpoints: vec![
                endpoint("2001:db8::2", Readiness::all(true), Some("pod-0")),
                endpoint("2001:db8::3", Readiness { ready: false, serving: true, terminating: true }, None),
            ]
            .into(),
            trigger_time: Some("2026-01-02T03:04:05Z".into()),
            common: SliceCommon {
                family: Family::V6,
                ports: vec![port("", 30080, None)].into(),
                port_lease: None,
                linkerd: None,
            }
            .into(),
        },
    }
}

/// Method, path with query, content type and body of a write.
fn sent(op: &WriteOp) -> (String, String, String, Value) {
    let request = render(op).request().unwrap();
    let content_type = request.headers()[header::CONTENT_TYPE].to_str().unwrap();
    (
        request.method().to_string(),
        request.uri().to_string(),
        content_type.to_owned(),
        serde_json::from_slice(request.body()).unwrap(),
    )
}

#[track_caller]
fn assert_sent(op: &WriteOp, method: &str, path: &str, content_type: &str, body: Value) {
    let expected = (method.to_owned(), path.to_owned(), content_type.to_owned(), body);
    assert_eq!(sent(op), expected);
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const SERVICES_PATH: &str = "/api/v1/namespaces/shop/services";
const SLICES_PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

#[test]
fn m01_a_mirror_is_a_plain_cluster_ip_service_without_selector() {
    assert_sent(
        &WriteOp::CreateService(key(), mirror()),
        "POST",
        &format!("{SERVICES_PATH}?fieldManager=heliostat"),
        JSON,
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "books-east",
                "namespace": "shop",
                "labels": {"heliostat.dev/link": "east"},
                "annotations": {"heliostat.dev/link-uid": "l1"},
                "ownerReferences": [
                    {"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "name": "east", "uid": "l1"},
                ],
            },
            "spec": {
                "type": "ClusterIP",
                "ipFamilyPolicy": "PreferDualStack",
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP"},
                    {"name": "grpc", "port": 9090, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
                ],
            },
        }),
    );
}

#[test]
fn m15_under_orphan_a_mirror_has_no_owner() {
    let orphan = MirrorService { owner: None, ..mirror() };
    let (.., body) = sent(&WriteOp::CreateService(key(), orphan));
    assert!(body["metadata"].get("ownerReferences").is_none());
}

#[test]
fn m22_a_headless_mirror_has_no_cluster_ip() {
    let headless = MirrorService { headless: true, ..mirror() };
    let (.., body) = sent(&WriteOp::CreateService(key(), headless));
    assert_eq!(body["spec"]["clusterIP"], "None");
    assert_eq!(body["spec"]["type"], "ClusterIP");
}

#[test]
fn a_patch_changes_only_what_is_asked_for_and_only_the_observed_version() {
    let labels = [("a".into(), Some("1".into())), ("b".into(), None)];
    let change = ServicePatch { labels: labels.into(), ..ServicePatch::default() };
    assert_sent(
        &WriteOp::PatchService(key(), at(), change),
        "PATCH",
        &format!("{SERVICES_PATH}/books-east?fieldManager=heliostat"),
        MERGE,
        json!({"metadata": {"uid": "u1", "resourceVersion": "42", "labels": {"a": "1", "b": null}}}),
    );
}

#[test]
fn a_patch_can_put_everything_right() {
    let change = ServicePatch {
        labels: BTreeMap::new(),
        annotations: [("heliostat.dev/via".into(), Some("Direct".into()))].into(),
        owners: Some(vec![link_owner("east", "l1")]),
        ports: Some(vec![port("http", 81, None)].into()),
        cluster_ip_type: true,
        prefer_dual_stack: true,
        remove_fields: vec!["externalIPs".into()],
    };
    let (.., body) = sent(&WriteOp::PatchService(key(), at(), change));
    assert_eq!(
        body,
        json!({
            "metadata": {
                "uid": "u1",
                "resourceVersion": "42",
                "annotations": {"heliostat.dev/via": "Direct"},
                "ownerReferences": [
                    {"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "name": "east", "uid": "l1"},
                ],
            },
            "spec": {
                "type": "ClusterIP",
                "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"name": "http", "port": 81, "protocol": "TCP"}],
                "externalIPs": null,
            },
        })
    );
}

#[test]
fn a_deletion_hits_only_the_observed_version() {
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u1", "resourceVersion": "42"},
        "propagationPolicy": "Background",
    });
    assert_sent(
        &WriteOp::DeleteService(key(), at()),
        "DELETE",
        &format!("{SERVICES_PATH}/books-east"),
        JSON,
        options.clone(),
    );
    assert_sent(
        &WriteOp::DeleteSlice(Key::new("shop", "books-east-1a"), at()),
        "DELETE",
        &format!("{SLICES_PATH}/books-east-1a"),
        JSON,
        options,
    );
}

#[test]
fn conditions_of_a_mirror_go_whole_through_the_status_subresource() {
    assert_sent(
        &WriteOp::PatchServiceConditions(key(), at(), vec![json!({"type": "example.com/X"})]),
        "PATCH",
        &format!("{SERVICES_PATH}/books-east/status?fieldManager=heliostat"),
        MERGE,
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "42"},
            "status": {"conditions": [{"type": "example.com/X"}]},
        }),
    );
}

#[test]
fn m01_a_slice_belongs_to_its_mirror() {
    assert_sent(
        &WriteOp::CreateSlice(Key::new("shop", "books-east-1a"), mirror_slice()),
        "POST",
        &format!("{SLICES_PATH}?fieldManager=heliostat"),
        JSON,
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "books-east-1a",
                "namespace": "shop",
                "labels": {
                    "kubernetes.io/service-name": "books-east",
                    "endpointslice.kubernetes.io/managed-by": "heliostat.dev",
                },
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "books-east", "uid": "s1"}],
            },
            "addressType": "IPv6",
            "ports": [{"port": 30080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": ["2001:db8::2"],
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "hostname": "pod-0",
                },
                {
                    "addresses": ["2001:db8::3"],
                    "conditions": {"ready": false, "serving": true, "terminating": true},
                },
            ],
        }),
    );
}

#[test]
fn a_slice_is_changed_whole_but_for_its_immutable_address_type() {
    let mut mirror = mirror_slice();
    mirror.body.trigger_time = None;
    mirror.body.endpoints = List::default();
    assert_sent(
        &WriteOp::PatchSlice(Key::new("shop", "books-east-1a"), at(), mirror),
        "PATCH",
        &format!("{SLICES_PATH}/books-east-1a?fieldManager=heliostat"),
        MERGE,
        json!({
            "metadata": {
                "uid": "u1",
                "resourceVersion": "42",
                "labels": {
                    "kubernetes.io/service-name": "books-east",
                    "endpointslice.kubernetes.io/managed-by": "heliostat.dev",
                },
                "annotations": {
                    "endpoints.kubernetes.io/last-change-trigger-time": null,
                    "heliostat.dev/port-lease": null,
                    "mirror.linkerd.io/remote-gateway-identity": null,
                    "mirror.linkerd.io/remote-svc-fq-name": null,
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "books-east", "uid": "s1"}],
            },
            "ports": [{"port": 30080, "protocol": "TCP"}],
            "endpoints": [],
        }),
    );
}

/// What Linkerd's destination controller reads of a slice whose endpoints have no targetRef, by its
/// source: linkerd2 at 15aa61a3, controller/api/destination/watcher/port_publisher.go.
#[test]
fn a_slice_by_a_linkerd_gateway_says_whose_identity_and_which_service() {
    let mut mirror = mirror_slice();
    mirror.body.trigger_time = None;
    let keys = LinkerdKeys {
        identity: Some("gw.mc.serviceaccount.identity.linkerd.cluster.local".into()),
        service: Some("books.shop.svc.cluster.local".into()),
    };
    mirror.body.linkerd = Some(Box::new(keys));
    let annotations = json!({
        "mirror.linkerd.io/remote-gateway-identity": "gw.mc.serviceaccount.identity.linkerd.cluster.local",
        "mirror.linkerd.io/remote-svc-fq-name": "books.shop.svc.cluster.local",
    });
    let key = || Key::new("shop", "books-east-1a");
    let created = sent(&WriteOp::CreateSlice(key(), mirror.clone())).3;
    assert_eq!(created["metadata"]["annotations"], annotations);
    let endpoints = created["endpoints"].as_array().unwrap();
    assert!(endpoints.iter().all(|endpoint| endpoint.get("targetRef").is_none()), "{endpoints:?}");
    let mut patched = sent(&WriteOp::PatchSlice(key(), at(), mirror)).3["metadata"]["annotations"].take();
    for absent in ["endpoints.kubernetes.io/last-change-trigger-time", "heliostat.dev/port-lease"] {
        assert_eq!(patched.as_object_mut().unwrap().remove(absent), Some(Value::Null));
    }
    assert_eq!(patched, annotations);
}

#[test]
fn a_slice_by_ports_of_a_gateway_says_for_how_long_they_may_be_used_unconfirmed() {
    let mut mirror = mirror_slice();
    mirror.body.trigger_time = None;
    mirror.body.port_lease = Some("3600s".into());
    let key = || Key::new("shop", "books-east-1a");
    let created = sent(&WriteOp::CreateSlice(key(), mirror.clone())).3;
    assert_eq!(created["metadata"]["annotations"], json!({"heliostat.dev/port-lease": "3600s"}));
    let patched = sent(&WriteOp::PatchSlice(key(), at(), mirror)).3;
    assert_eq!(patched["metadata"]["annotations"]["heliostat.dev/port-lease"], "3600s");
}

#[test]
fn a_status_replaces_the_former_one_whole() {
    let new = ClusterLinkStatus {
        observed_generation: Some(3),
        server_version: Some("v1.33.1".into()),
        ..ClusterLinkStatus::default()
    };
    assert_sent(
        &WriteOp::LinkStatus("east".into(), at(), Box::new(new)),
        "PATCH",
        "/apis/heliostat.dev/v1alpha1/clusterlinks/east/status?fieldManager=heliostat",
        MERGE,
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "42"},
            "status": {
                "observedGeneration": 3,
                "serverVersion": "v1.33.1",
                "conditions": null,
                "clusterUID": null,
                "credentialsExpireAt": null,
                "services": null,
                "gateways": null,
                "lastSyncTime": null,
                "lastHandledReconcileAt": null,
            },
        }),
    );
}

#[test]
fn each_kind_has_its_own_status_path() {
    let policy = WriteOp::PolicyStatus(Key::new("shop", "all"), at(), Box::default());
    let binding = WriteOp::BindingStatus("public".into(), at(), Box::default());
    assert_eq!(render(&policy).path, "/apis/heliostat.dev/v1alpha1/namespaces/shop/mirrorpolicies/all/status");
    assert_eq!(render(&binding).path, "/apis/heliostat.dev/v1alpha1/gatewaybindings/public/status");
}

#[test]
fn a09_no_write_ever_blocks_a_deletion_or_selects_pods() {
    let everything = [
        WriteOp::CreateService(key(), mirror()),
        WriteOp::CreateSlice(key(), mirror_slice()),
        WriteOp::PatchSlice(key(), at(), mirror_slice()),
    ];
    for op in &everything {
        let text = render(op).body.to_string();
        for never in ["blockOwnerDeletion", "finalizers", "selector", "nodePort"] {
            assert!(!text.contains(never), "{never} in {text}");
        }
    }
}

const ROUTE: Kind = kind("gateway.networking.k8s.io", "TCPRoute", "tcproutes", &["v1", "v1alpha2"]);

fn id(kind: Kind) -> ObjectId {
    ObjectId { kind, key: Key::new("heliostat-system", "x") }
}

fn fields(value: Value) -> Box<Map<String, Value>> {
    Box::new(value.as_object().unwrap().clone())
}

#[test]
fn an_object_is_made_in_the_version_that_is_served() {
    let whole = || fields(json!({"metadata": {"name": "x", "namespace": "heliostat-system"}, "spec": {"a": 1}}));
    let body = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "heliostat-system"}, "spec": {"a": 1}});
    for (kind, version, path, api_version) in [
        (OWN_SERVICE, "v1", "/api/v1/namespaces/heliostat-system/services", "v1"),
        (LEASE, "v1", "/apis/coordination.k8s.io/v1/namespaces/heliostat-system/leases", "coordination.k8s.io/v1"),
        (
            ROUTE,
            "v1alpha2",
            "/apis/gateway.networking.k8s.io/v1alpha2/namespaces/heliostat-system/tcproutes",
            "gateway.networking.k8s.io/v1alpha2",
        ),
    ] {
        let op = WriteOp::CreateObject(id(kind), version.into(), whole());
        assert_sent(&op, "POST", &format!("{path}?fieldManager=heliostat"), JSON, body(api_version, kind.kind));
    }
}

#[test]
fn a_change_or_deletion_of_an_object_hits_only_the_observed_version() {
    let path = "/apis/gateway.networking.k8s.io/v1/namespaces/heliostat-system/tcproutes/x";
    let change = fields(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"gone": null}}));
    assert_sent(
        &WriteOp::PatchObject(id(ROUTE), "v1".into(), at(), change),
        "PATCH",
        &format!("{path}?fieldManager=heliostat"),
        MERGE,
        json!({"metadata": {"uid": "u1", "resourceVersion": "42", "labels": {"a": "b"}}, "spec": {"gone": null}}),
    );
    let bare = WriteOp::PatchObject(id(LEASE), "v1".into(), at(), fields(json!({"spec": {"renewTime": "t"}})));
    assert_eq!(sent(&bare).3["metadata"], json!({"uid": "u1", "resourceVersion": "42"}));
    assert_sent(
        &WriteOp::DeleteObject(id(ROUTE), "v1".into(), at()),
        "DELETE",
        path,
        JSON,
        json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": "u1", "resourceVersion": "42"},
            "propagationPolicy": "Background",
        }),
    );
}

#[test]
fn an_object_of_cluster_scope_has_no_namespace_in_its_path() {
    let id = ObjectId { kind: kind("example.com", "Thing", "things", &["v1"]), key: Key::new("", "x") };
    let paths = [
        render(&WriteOp::CreateObject(id.clone(), "v1".into(), fields(json!({})))).path,
        render(&WriteOp::DeleteObject(id, "v1".into(), at())).path,
    ];
    assert_eq!(paths, ["/apis/example.com/v1/things", "/apis/example.com/v1/things/x"]);
}

#[test]
fn a_write_of_an_object_is_counted_by_its_kind_alone() {
    let ops = [
        WriteOp::CreateObject(id(ROUTE), "v1".into(), fields(json!({}))),
        WriteOp::PatchObject(id(ROUTE), "v1alpha2".into(), at(), fields(json!({}))),
        WriteOp::DeleteObject(id(ROUTE), "v1".into(), at()),
    ];
    assert!(ops.iter().all(|op| render(op).resource == "tcproutes"));
}
