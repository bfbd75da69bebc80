use serde_json::json;

use super::super::{LocalNodeWire, LocalServiceWire, LocalSliceWire, Wire};
use super::*;
use crate::core::model::{Key, Protocol, Readiness, SlicePort};

fn read<T: FromWire>(object: &Value) -> Wire<T> {
    serde_json::from_str(&object.to_string()).unwrap()
}

fn mirror_object() -> Value {
    json!({
        "metadata": {
            "name": "books-east", "namespace": "shop", "uid": "u1", "resourceVersion": "42",
            "labels": {"app.kubernetes.io/managed-by": "heliostat", "theirs": "x"},
            "annotations": {"heliostat.dev/link-uid": "l1", "heliostat.dev/origin": "shop/books"},
            "ownerReferences": [
                {"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "name": "east", "uid": "l1"},
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d1", "controller": true},
            ],
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}, {"name": "grpc", "port": 9090, "protocol": "TCP", "targetPort": "web"}],
        },
        "status": {"loadBalancer": {}, "conditions": [
            {"type": "heliostat.dev/Mirrored", "status": "False", "reason": "NoRoute", "message": "m", "lastTransitionTime": "2026-01-02T03:04:05Z"},
            {"type": "example.com/X", "status": "True"},
        ]},
    })
}

fn state(object: &Value) -> MirrorState {
    *read::<LocalService>(object).into_model().unwrap().1.ours.unwrap()
}

#[test]
fn a_mirror_is_read_whole() {
    let wire: LocalServiceWire = read(&mirror_object());
    let (key, service) = wire.into_model().unwrap();
    assert_eq!(key, Key::new("shop", "books-east"));
    assert_eq!((service.uid, service.resource_version, service.terminating), ("u1".into(), "42".into(), false));
    let map =
        |entries: &[(&str, &str)]| -> Map { entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
    let port = |name: &str, port, target_is_port| LocalPort {
        port: SlicePort { name: name.into(), port, protocol: Protocol::Tcp, app_protocol: None },
        target_is_port,
    };
    assert_eq!(
        *service.ours.unwrap(),
        MirrorState {
            annotations: map(&[("heliostat.dev/link-uid", "l1"), ("heliostat.dev/origin", "shop/books")]).into(),
            common: MirrorCommon {
                labels: map(&[("app.kubernetes.io/managed-by", "heliostat"), ("theirs", "x")]),
                link_owners: vec![("east".into(), "l1".into())].into(),
                service_type: "ClusterIP".into(),
                headless: false,
                has_selector: false,
                families: vec![Family::V4].into(),
                prefers_dual_stack: true,
                ports: vec![port("http", 80, true), port("grpc", 9090, false)].into(),
            }
            .into(),
            odd: Seldom::new(Oddities {
                other_owners: vec![
                    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d1", "controller": true})
                ],
                foreign_fields: vec![],
                mirrored: Some(MirroredCondition {
                    reason: "NoRoute".into(),
                    message: "m".into(),
                    since: "2026-01-02T03:04:05Z".parse().unwrap(),
                    observed_generation: 0,
                }),
                other_conditions: vec![json!({"type": "example.com/X", "status": "True"})],
            }),
        }
    );
}

#[test]
fn of_a_service_without_markers_only_its_identity_is_kept() {
    let mut object = mirror_object();
    object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
    object["metadata"]["annotations"] = json!({});
    object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    let service = read::<LocalService>(&object).into_model().unwrap().1;
    assert_eq!(
        service,
        LocalService { uid: "u1".into(), resource_version: "42".into(), terminating: true, ours: None }
    );
}

#[test]
fn m23_one_marker_is_enough_to_be_looked_at() {
    let mut object = mirror_object();
    object["metadata"]["labels"] = json!({});
    object["spec"]["selector"] = json!({"app": "theirs"});
    assert!(state(&object).has_selector);
    let mut object = mirror_object();
    object["metadata"]["annotations"] = json!(null);
    assert!(state(&object).annotations.is_empty());
}

#[test]
fn m09_what_somebody_set_is_named() {
    let mut object = mirror_object();
    for (field, value) in [
        ("externalIPs", json!(["203.0.113.1"])),
        ("externalTrafficPolicy", json!("Local")),
        ("internalTrafficPolicy", json!("Local")),
        ("sessionAffinity", json!("ClientIP")),
        ("publishNotReadyAddresses", json!(true)),
        ("loadBalancerSourceRanges", json!([])),
        ("externalName", json!("")),
    ] {
        object["spec"][field] = value;
    }
    object["spec"]["type"] = json!("LoadBalancer");
    let state = state(&object);
    assert_eq!(state.service_type, "LoadBalancer");
    assert_eq!(
        state.foreign_fields(),
        [
            "externalIPs",
            "externalTrafficPolicy",
            "internalTrafficPolicy",
            "publishNotReadyAddresses",
            "sessionAffinity"
        ]
    );
}

#[test]
fn a_mirrored_condition_that_is_not_false_differs_from_any_wanted_one() {
    let mut object = mirror_object();
    object["status"]["conditions"][0]["status"] = json!("True");
    assert_eq!(state(&object).mirrored().unwrap().reason, "");
}

fn slice_object() -> Value {
    json!({
        "metadata": {
            "name": "books-east-1", "namespace": "shop", "uid": "s1", "resourceVersion": "7",
            "labels": {"kubernetes.io/service-name": "books-east", "endpointslice.kubernetes.io/managed-by": "heliostat.dev", "theirs": "x"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "books-east", "uid": "u1"}],
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 30080, "protocol": "TCP"}, {"name": "grpc", "port": 30090, "protocol": "TCP", "appProtocol": "grpc"}],
        "endpoints": [
            {"addresses": ["172.30.0.3"], "conditions": {"ready": false, "serving": false, "terminating": false}},
            {"addresses": ["172.30.0.2"], "conditions": {"ready": true}, "hostname": "pod-0"},
        ],
    })
}

fn slice(object: &Value) -> LocalSlice {
    let wire: LocalSliceWire = read(object);
    wire.into_model().unwrap().1
}

#[test]
fn a_slice_of_ours_is_read_whole_and_sorted() {
    let port = |name: &str, port, app: Option<&str>| SlicePort {
        name: name.into(),
        port,
        protocol: Protocol::Tcp,
        app_protocol: app.map(Into::into),
    };
    assert_eq!(
        slice(&slice_object()),
        LocalSlice {
            uid: "s1".into(),
            resource_version: "7".into(),
            terminating: false,
            service: Some("books-east".into()),
            service_owner: "u1".into(),
            other_owners: false,
            body: SliceBody {
                endpoints: vec![
                    MirrorEndpoint {
                        address: "172.30.0.2".parse().unwrap(),
                        readiness: Readiness::all(true),
                        hostname: Some("pod-0".into())
                    },
                    MirrorEndpoint {
                        address: "172.30.0.3".parse().unwrap(),
                        readiness: Readiness::all(false),
                        hostname: None
                    },
                ]
                .into(),
                trigger_time: Some("2026-01-02T03:04:05Z".into()),
                common: SliceCommon {
                    family: Family::V4,
                    ports: vec![port("grpc", 30090, Some("grpc")), port("http", 30080, None)].into(),
                    port_lease: None,
                    linkerd: None,
                }
                .into(),
            },
            alien_type: None,
            alien_fields: false,
        }
    );
}

#[test]
fn m09_the_port_lease_on_a_slice_is_read_as_it_is() {
    for text in ["3600s", "", "for ever"] {
        let mut object = slice_object();
        object["metadata"]["annotations"] = json!({"heliostat.dev/port-lease": text});
        assert_eq!(slice(&object).body.port_lease.as_deref(), Some(text), "an edit must differ");
    }
}

#[test]
fn m09_linkerds_keys_on_a_slice_are_read_as_they_are() {
    let (identity, service) = ("mirror.linkerd.io/remote-gateway-identity", "mirror.linkerd.io/remote-svc-fq-name");
    for (annotations, wanted) in [
        (json!({identity: "gw", service: "books"}), (Some("gw"), Some("books"))),
        (json!({identity: "gw"}), (Some("gw"), None)),
        (json!({service: ""}), (None, Some(""))),
    ] {
        let mut object = slice_object();
        object["metadata"]["annotations"] = annotations;
        let keys = slice(&object).body.linkerd.clone().unwrap();
        assert_eq!((keys.identity.as_deref(), keys.service.as_deref()), wanted);
    }
}

#[test]
fn m09_edits_to_a_slice_are_noticed() {
    for (path, value) in [
        ("/endpoints/0/targetRef", json!({"kind": "Pod"})),
        ("/endpoints/0/nodeName", json!("n1")),
        ("/endpoints/0/zone", json!("z")),
        ("/endpoints/0/hints", json!({})),
        ("/endpoints/0/addresses", json!(["172.30.0.2", "172.30.0.4"])),
        ("/endpoints/0/addresses", json!(["gw.example"])),
        ("/ports/0/port", json!(null)),
        ("/metadata/labels/service.kubernetes.io~1service-proxy-name", json!("x")),
        ("/metadata/labels/service.kubernetes.io~1headless", json!("")),
    ] {
        let mut object = slice_object();
        let (parent, name) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[name.replace("~1", "/")] = value;
        assert!(slice(&object).alien_fields, "{path}");
    }
    let mut object = slice_object();
    object["addressType"] = json!("FQDN");
    assert_eq!(slice(&object).alien_type.as_deref(), Some("FQDN"));
}

#[test]
fn wrong_types_anywhere_are_read_without_failing() {
    for junk in [json!(null), json!(7), json!("x"), json!([]), json!({}), json!([{}]), json!(true)] {
        let object = json!({
            "metadata": {"name": "a", "labels": {"app.kubernetes.io/managed-by": "heliostat", "x": junk}, "ownerReferences": junk},
            "spec": {"ports": junk, "ipFamilies": junk, "cidrs": junk, "podCIDRs": junk}, "status": {"conditions": junk, "addresses": junk},
            "ports": junk, "endpoints": junk, "addressType": junk,
        });
        for object in [&object, &junk] {
            let _: LocalServiceWire = read(object);
            let _: LocalSliceWire = read(object);
            let _: LocalNodeWire = read(object);
            read::<ClusterNamespace>(object);
            read::<ServiceRanges>(object);
        }
    }
}

#[test]
fn a08_ranges_of_this_cluster_are_collected() {
    let node = |spec: Value| {
        let addresses = json!([{"type": "InternalIP", "address": "172.30.0.2"}, {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "fd00::2"}]);
        read::<LocalNode>(&json!({"metadata": {"name": "n1"}, "spec": spec, "status": {"addresses": addresses}}))
            .into_named()
            .unwrap()
            .1
    };
    let dual = node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]}));
    assert_eq!(dual.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/24", "fd01::/64"]);
    assert_eq!(dual.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["172.30.0.2", "fd00::2"]);
    assert_eq!(node(json!({"podCIDR": "10.1.0.0/24"})).pod_cidrs.len(), 1);

    let ranges =
        read::<ServiceRanges>(&json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.0.0.0/16", "bad"]}}));
    assert_eq!(ranges.into_named().unwrap().1, ServiceRanges(vec!["10.0.0.0/16".parse().unwrap()]));
}

#[test]
fn a_namespace_keeps_labels_and_uid() {
    let object = json!({"metadata": {"name": "kube-system", "uid": "k1", "labels": {"a": "b"}, "deletionTimestamp": "2026-01-02T03:04:05Z"}});
    let (name, read) = read::<ClusterNamespace>(&object).into_named().unwrap();
    assert_eq!((name.as_str(), read.uid.as_str(), read.namespace.terminating), ("kube-system", "k1", true));
    assert_eq!(read.namespace.labels.get("a").map(|label| label.as_str()), Some("b"));
}
