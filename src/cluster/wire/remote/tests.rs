use serde_json::json;

use super::super::{OriginWire, RemoteNodeWire, RemoteSliceWire, Wire};
use super::*;
use crate::core::model::{Key, Protocol, Readiness};

fn read<T: FromWire>(object: &Value) -> Wire<T> {
    serde_json::from_str(&object.to_string()).unwrap()
}

fn service(spec: Value) -> Origin {
    read::<Origin>(&json!({"metadata": {"name": "books", "namespace": "shop", "uid": "u1"}, "spec": spec}))
        .into_model()
        .unwrap()
        .1
}

fn with_ports(ports: Value) -> Origin {
    service(json!({"ports": ports}))
}

fn why(ports: Value) -> String {
    let origin = with_ports(ports);
    assert!(origin.ports.is_empty());
    origin.malformed.clone().unwrap().into()
}

#[test]
fn m01_an_ordinary_service_is_read_whole() {
    let wire: OriginWire = read(&json!({
        "metadata": {
            "name": "books", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
            "labels": {"heliostat.dev/export": "true", "tier": "front"},
            "annotations": {"example.com/team": "a", "mirror.linkerd.io/gateway-identity": "gw", "mirror.linkerd.io/x": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "books"}, "externalTrafficPolicy": "Local",
            "externalIPs": ["203.0.113.1"], "externalName": "x", "loadBalancerIP": "203.0.113.2",
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
                {"name": "dns", "port": 80, "protocol": "UDP"},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.3"}, {"hostname": "lb.example"}, {}, 7]}},
    }));
    assert_eq!(wire.uid(), "u1");
    let (key, origin) = wire.into_model().unwrap();
    assert_eq!(key, Key::new("shop", "books"));
    let map = |entries: &[(&str, &str)]| entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let port = |name: &str, protocol, node_port, app: Option<&str>, pod_port| OriginPort {
        name: name.into(),
        port: 80,
        protocol,
        app_protocol: app.map(Into::into),
        node_port,
        pod_port: Some(pod_port),
    };
    assert_eq!(
        origin,
        Origin {
            uid: "u1".into(),
            labels: map(&[("heliostat.dev/export", "true"), ("tier", "front")]),
            ingress: vec![Ingress::Ip("203.0.113.3".into()), Ingress::Hostname("lb.example".into())].into(),
            common: OriginCommon {
                annotations: map(&[("example.com/team", "a"), ("mirror.linkerd.io/gateway-identity", "gw")]),
                kind: OriginType::LoadBalancer,
                ports: vec![
                    port("http", Protocol::Tcp, Some(30080), Some("kubernetes.io/h2c"), 8080),
                    port("dns", Protocol::Udp, None, None, 80)
                ]
                .into(),
                has_selector: true,
                local_traffic: true,
                malformed: None,
            }
            .into(),
        }
    );
}

#[test]
fn m08_each_type_is_told_apart() {
    let kind = |spec| service(spec).kind;
    assert_eq!(kind(json!({})), OriginType::ClusterIp);
    assert_eq!(kind(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"})), OriginType::ClusterIp);
    assert_eq!(kind(json!({"type": "ClusterIP", "clusterIP": "None"})), OriginType::Headless);
    assert_eq!(kind(json!({"type": "NodePort"})), OriginType::NodePort);
    assert_eq!(kind(json!({"type": "LoadBalancer"})), OriginType::LoadBalancer);
    assert_eq!(kind(json!({"type": "ExternalName"})), OriginType::ExternalName);
    assert_eq!(
        service(json!({"type": "Rocket\u{1b}"})).malformed.clone().unwrap(),
        "spec.type is \"Rocket\\u001b\", not a type of Service"
    );
}

#[test]
fn a12_bad_ports_make_the_origin_malformed_with_a_reason() {
    for bad in [json!(0), json!(65536), json!(-1), json!(1.5), json!("80"), json!(null), json!({}), json!(u64::MAX)] {
        assert!(why(json!([{"port": bad}])).starts_with("spec.ports[0].port is "), "{bad}");
    }
    assert_eq!(
        with_ports(json!([{"port": 1}, {"name": "b", "port": 65535}])).malformed.clone().unwrap(),
        "spec.ports has several entries and one of them has no name"
    );
    for name in ["A", "-a", "a b", "a\n", &"a".repeat(64)] {
        assert!(why(json!([{"name": name, "port": 1}])).contains("not a DNS label"), "{name:?}");
    }
    assert!(why(json!([{"port": 1, "protocol": "QUIC"}])).contains("not TCP, UDP or SCTP"));
    assert!(why(json!([{"port": 1, "protocol": "tcp"}])).contains("not TCP, UDP or SCTP"));
    assert!(why(json!([{"port": 1, "appProtocol": "a b"}])).contains("not a protocol name"));
    assert!(why(json!([{"port": 1, "nodePort": 70000}])).contains("nodePort of port 1"));
    assert!(why(json!([{"name": "a", "port": 1}, {"name": "a", "port": 2}])).contains("two ports of the name \"a\""));
    assert!(why(json!([{"name": "a", "port": 1}, {"name": "b", "port": 1}])).contains("1/TCP twice"));
    assert!(why(json!([7])).contains("spec.ports[0].port"));
    let many: Vec<Value> = (1..=10_000).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    assert_eq!(why(many.into()), "spec.ports has more than 1000 entries");
    assert!(why(json!([{"port": "x".repeat(300 * 1024)}])).len() < 200);
}

#[test]
fn a12_wrong_types_anywhere_are_read_without_failing() {
    for junk in [json!(null), json!(7), json!("x"), json!([]), json!({}), json!([[]]), json!(true)] {
        for object in [
            junk.clone(),
            json!({"metadata": junk, "spec": junk, "status": junk}),
            json!({
                "metadata": {"name": "a", "namespace": "b", "uid": junk, "labels": junk, "annotations": junk},
                "spec": {"type": junk, "ports": junk, "selector": junk, "clusterIP": junk},
                "status": {"loadBalancer": {"ingress": junk}, "addresses": junk, "conditions": junk},
                "addressType": junk, "ports": junk, "endpoints": junk,
            }),
            json!({
                "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": {"kubernetes.io/service-name": "s", "x": junk}},
                "spec": {"ports": [junk]}, "status": {"loadBalancer": {"ingress": [junk]}, "addresses": [junk], "conditions": [junk]},
                "addressType": "IPv4", "ports": [junk], "endpoints": [junk, {"addresses": [junk], "conditions": junk, "hostname": junk}],
            }),
        ] {
            let _: OriginWire = read(&object);
            let _: RemoteSliceWire = read(&object);
            let _: RemoteNodeWire = read(&object);
        }
    }
}

#[test]
fn a12_objects_without_a_legal_key_are_dropped() {
    for (namespace, name) in [
        (json!("shop"), json!("../../nodes")),
        (json!("a/b"), json!("x")),
        (json!(""), json!("x")),
        (json!(null), json!("x")),
        (json!("shop"), json!(7)),
    ] {
        assert!(read::<Origin>(&json!({"metadata": {"namespace": namespace, "name": name}})).into_model().is_none());
    }
    let origin = read::<Origin>(&json!({"metadata": {"namespace": "shop", "name": "books"}})).into_model().unwrap().1;
    assert_eq!(origin.malformed.clone().unwrap(), "metadata.uid is missing");
}

#[test]
fn a12_a_uid_that_is_none_makes_the_origin_malformed_and_deletes_nothing() {
    for uid in ["\u{1b}[2J", "a b", "../x", &"x".repeat(300 * 1024)] {
        let wire = read::<Origin>(&json!({"metadata": {"namespace": "shop", "name": "books", "uid": uid}}));
        assert_eq!(wire.uid(), "");
        let version = json!({"metadata": {"namespace": "shop", "name": "books", "resourceVersion": "9".repeat(1000)}});
        assert_eq!(kube::Resource::meta(&read::<Origin>(&version)).resource_version, None);
        let origin = wire.into_model().unwrap().1;
        let why = origin.malformed.clone().unwrap();
        assert!(origin.uid.is_empty() && why.ends_with(", which is no uid"), "{why}");
        assert!(why.len() < 200 && !why.contains('\u{1b}'), "{why}");
    }
}

#[test]
fn a12_one_bad_object_does_not_fail_its_page() {
    let page = json!({
        "apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "5"},
        "items": [null, 7, {"metadata": {"name": "good", "namespace": "shop", "uid": "u"}, "spec": {"ports": [{"port": 80}]}}, {"spec": []}],
    });
    let list: kube::core::ObjectList<OriginWire> = serde_json::from_value(page).unwrap();
    let read: Vec<_> = list.items.into_iter().filter_map(Wire::into_model).collect();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].0.name.as_str(), &read[0].1.malformed), ("good", &None));
}

#[test]
fn a10_a11_labels_and_annotations_are_legal_bounded_and_never_kubernetes_own() {
    let origin = read::<Origin>(&json!({"metadata": {
        "name": "books", "namespace": "shop", "uid": "u",
        "labels": {"ok": "v", "Bad Key": "v", "bad": "a\nb", "long": "x".repeat(64), "n": 1, "a/b/c": "v", "-a": "v"},
        "annotations": {
            "ok": "any\ntext", "big": "x".repeat(300 * 1024), "kubectl.kubernetes.io/x": "v", "service.kubernetes.io/x": "v",
            "gateway.networking.k8s.io/x": "v", "heliostat.dev/origin": "v", "bad key": "v",
        },
    }})).into_model().unwrap().1;
    assert_eq!(origin.labels.keys().collect::<Vec<_>>(), ["ok"]);
    assert_eq!(origin.annotations.clone().into_iter().collect::<Vec<_>>(), [("ok".into(), "any\ntext".into())]);
}

fn slice(labels: Value, annotations: Value, rest: Value) -> Option<RemoteSlice> {
    let mut object = rest;
    object["metadata"] =
        json!({"name": "books-abcde", "namespace": "shop", "labels": labels, "annotations": annotations});
    read::<Option<RemoteSlice>>(&object).into_model().unwrap().1
}

fn pods(rest: Value) -> Option<RemoteSlice> {
    slice(json!({"kubernetes.io/service-name": "books"}), json!({}), rest)
}

#[test]
fn a_pod_slice_is_read_whole() {
    let read = slice(
        json!({"kubernetes.io/service-name": "books", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}),
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}),
        json!({
            "addressType": "IPv6",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 8080}],
            "endpoints": [
                {"addresses": ["2001:db8::1"], "conditions": {"ready": false, "serving": true, "terminating": true}, "hostname": "pod-0", "nodeName": "n1", "targetRef": {"kind": "Pod"}, "zone": "z"},
                {"addresses": ["2001:db8::2"], "conditions": {"ready": null}},
                {"addresses": ["2001:db8::3"], "conditions": {"ready": false}},
                {"addresses": ["2001:db8::4"]},
            ],
        }),
    );
    let endpoint = |address: &str, readiness| RemoteEndpoint {
        address: Some(address.into()),
        readiness,
        hostname: None,
        node: None,
    };
    let port = |name: &str| SlicePort { name: name.into(), port: 8080, protocol: Protocol::Tcp, app_protocol: None };
    let first = RemoteEndpoint {
        hostname: Some("pod-0".into()),
        node: Some("n1".into()),
        ..endpoint("2001:db8::1", Readiness { ready: false, serving: true, terminating: true })
    };
    assert_eq!(
        read.unwrap(),
        RemoteSlice {
            role: SliceRole::Pods { service: "books".into() },
            common: RemoteSliceCommon {
                address_type: AddressType::Ip(Family::V6),
                ports: vec![port("http"), port("metrics")].into(),
            }
            .into(),
            endpoints: vec![
                first,
                endpoint("2001:db8::2", Readiness::all(true)),
                endpoint("2001:db8::3", Readiness::all(false)),
                endpoint("2001:db8::4", Readiness::all(true)),
            ]
            .into(),
            trigger_time: Some("2026-01-02T03:04:05Z".into()),
        }
    );
}

#[test]
fn g03_a_published_slice_is_told_by_its_manager() {
    let labels = json!({
        "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev", "heliostat.dev/service-name": "books",
        "heliostat.dev/binding": "public", "kubernetes.io/service-name": "forged",
    });
    let annotations = json!({
        "heliostat.dev/contract": "v1", "heliostat.dev/routing": "Port", "heliostat.dev/hostnames": "a.example, b.example,,",
        "heliostat.dev/port-lease": "24h", "heliostat.dev/gateway-identity": "id",
    });
    let read = slice(labels, annotations, json!({"addressType": "FQDN", "endpoints": [{"addresses": ["gw.example"]}], "ports": [{"name": "http", "port": 20001}]})).unwrap();
    assert_eq!(read.address_type, AddressType::Fqdn);
    assert_eq!(
        read.role,
        SliceRole::Published(
            Published {
                service: "books".into(),
                binding: "public".into(),
                contract: "v1".into(),
                routing: "Port".into(),
                hostnames: vec!["a.example".into(), "b.example".into()],
                port_lease: Some("24h".into()),
                identity: Some("id".into()),
            }
            .into()
        )
    );
    let unnamed = json!({"endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev", "kubernetes.io/service-name": "forged"});
    assert_eq!(slice(unnamed, json!({}), json!({"addressType": "IPv4"})), None);
}

#[test]
fn a09_slices_that_say_nothing_of_use_are_dropped_or_empty() {
    assert_eq!(slice(json!({}), json!({}), json!({"addressType": "IPv4"})), None);
    assert_eq!(slice(json!({"kubernetes.io/service-name": "../x"}), json!({}), json!({"addressType": "IPv4"})), None);
    assert_eq!(pods(json!({"addressType": "Carrier"})), None);
    assert_eq!(pods(json!({})), None);

    let bad_port = pods(json!({"addressType": "IPv4", "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 0}], "endpoints": [{"addresses": ["10.0.0.1"]}]})).unwrap();
    assert!(bad_port.ports.is_empty());

    let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
    let too_many = pods(json!({"addressType": "IPv4", "ports": [{"port": 1}], "endpoints": many})).unwrap();
    assert!(too_many.ports.is_empty() && too_many.endpoints.is_empty());

    let odd = slice(
        json!({"kubernetes.io/service-name": "books"}),
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "yesterday"}),
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["x".repeat(254), "10.0.0.1"], "hostname": "Bad Name", "nodeName": "a/b"}]}),
    )
    .unwrap();
    assert_eq!(odd.trigger_time, None);
    let endpoint = &odd.endpoints[0];
    assert_eq!((&endpoint.address, &endpoint.hostname, &endpoint.node), (&Some("10.0.0.1".into()), &None, &None));
}

#[test]
fn g02_a_node_is_usable_when_ready_and_schedulable() {
    let node = |spec: Value, ready: &str| {
        let object = json!({"metadata": {"name": "n1"}, "spec": spec, "status": {
            "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}],
            "addresses": [{"type": "InternalIP", "address": "172.30.0.2"}, {"type": "ExternalIP", "address": "203.0.113.1"}, {"type": "Hostname", "address": "n1"}],
        }});
        read::<RemoteNode>(&object).into_named().unwrap().1
    };
    let good = node(json!({}), "True");
    assert_eq!(
        good,
        RemoteNode { usable: true, external: vec!["203.0.113.1".into()], internal: vec!["172.30.0.2".into()] }
    );
    assert!(!node(json!({}), "Unknown").usable);
    assert!(!node(json!({"unschedulable": true}), "True").usable);
    assert!(node(json!({"unschedulable": false}), "True").usable);
}

#[test]
fn a11_what_gateways_and_load_balancers_say_is_harmless_and_still_no_address() {
    let evil = "10.0.0.1\u{1b}[2J\u{202e}\n";
    let labels = json!({
        "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev", "heliostat.dev/service-name": "books",
        "heliostat.dev/binding": "public",
    });
    let long = "v".repeat(300 * 1024);
    let annotations = json!({
        "heliostat.dev/contract": "v1\n", "heliostat.dev/routing": long, "heliostat.dev/hostnames": format!("{evil},\u{7}"),
        "heliostat.dev/port-lease": evil, "heliostat.dev/gateway-identity": evil,
    });
    let read =
        slice(labels, annotations, json!({"addressType": "IPv4", "endpoints": [{"addresses": [evil]}]})).unwrap();
    let SliceRole::Published(published) = read.role else { panic!() };
    let Published { contract, routing, hostnames, port_lease, identity, .. } = (*published).clone();
    assert_ne!(contract, "v1");
    let mut texts = vec![
        contract,
        routing,
        port_lease.unwrap(),
        identity.unwrap(),
        read.endpoints[0].address.as_ref().unwrap().as_text().as_ref().into(),
    ];
    texts.extend(hostnames);
    let object = json!({"metadata": {"name": "a", "namespace": "b", "uid": "u"}, "status": {"loadBalancer": {"ingress": [{"ip": evil}, {"hostname": evil}]}}});
    for ingress in &self::read::<Origin>(&object).into_model().unwrap().1.ingress {
        texts.push(ingress.as_text().as_ref().into());
    }
    for text in texts {
        assert!(text.len() <= MAX_HOST && !text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.parse::<std::net::IpAddr>().is_err());
    }
}

#[test]
fn a05_of_an_object_of_many_megabytes_little_is_held() {
    let labels: serde_json::Map<String, Value> = (0..100_000).map(|n| (format!("l{n}"), json!("v"))).collect();
    let origin = read::<Origin>(&json!({
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": labels, "annotations": {"a": "x".repeat(1 << 20)}},
        "spec": {"selector": labels, "ports": [{"port": 80}]},
    }));
    let origin = origin.into_model().unwrap().1;
    assert!(origin.labels.len() <= 1001 && origin.annotations.is_empty());
    let endpoint = json!({"addresses": vec!["10.0.0.1"; 100], "hostname": "x".repeat(63), "nodeName": "n", "targetRef": {"kind": "Pod"}});
    let slice =
        pods(json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": vec![endpoint; 1000]})).unwrap();
    assert_eq!(slice.endpoints.len(), 1000);
    assert!(slice.endpoints.iter().all(|endpoint| endpoint.address.is_some()));
}
