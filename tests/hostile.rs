//! What a hostile exporter may say, as JSON, and what comes of it here: read as the link reads it,
//! decided on by the engine, carried out in memory. The catalogue's ids are in the tests' names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::{NAMESPACE, Sim, key, link, policy};
use heliostat::{
    cluster::wire::{OriginWire, RemoteSliceWire},
    core::{
        io::RemoteEvent,
        model::{Map, Origin, RemoteSlice},
    },
};
use serde_json::{Value, json};

/// A Service as it comes over the wire.
fn service(namespace: &str, name: &str, over: Value) -> (String, Origin) {
    let mut object = json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"heliostat.dev/export": "true"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}], "selector": {"app": name}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
    });
    merge(&mut object, over);
    let (key, origin) = serde_json::from_str::<OriginWire>(&object.to_string()).unwrap().into_model().unwrap();
    (key.to_string(), origin)
}

/// A slice as it comes over the wire, with that many endpoints; none if it says nothing of use.
fn slice(name: &str, of: &str, addresses: Vec<String>, over: Value) -> Option<(String, RemoteSlice)> {
    let endpoints: Vec<Value> =
        addresses.iter().map(|a| json!({"addresses": [a], "conditions": {"ready": true}})).collect();
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    });
    merge(&mut object, over);
    let (key, slice) = serde_json::from_str::<RemoteSliceWire>(&object.to_string()).unwrap().into_model()?;
    Some((key.to_string(), slice?))
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            over.into_iter().for_each(|(k, v)| merge(base.entry(k).or_insert(Value::Null), v))
        }
        (base, over) => *base = over,
    }
}

fn tell(sim: &mut Sim, services: &[(String, Origin)], slices: &[(String, RemoteSlice)]) {
    let services: Vec<_> = services.iter().map(|(key, origin)| (key.as_str(), origin.clone())).collect();
    let slices: Vec<_> = slices.iter().map(|(key, slice)| (key.as_str(), slice.clone())).collect();
    sim.connect("east");
    sim.list("east", &services, &slices);
}

/// Everything that was written, and every status.
fn everything(sim: &mut Sim) -> String {
    format!("{:?} {:?} {:?}", sim.writes(), sim.policies, sim.links)
}

#[test]
fn a05_a_thousand_endpoints_in_each_of_a_hundred_slices_are_bounded_by_the_links_limit() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    let slices: Vec<_> = (0..100)
        .map(|n| {
            slice(
                &format!("s{n}"),
                "books",
                (0..1000).map(|i| format!("11.{}.{}.{}", n + 1, i / 250, i % 250 + 1)).collect(),
                json!({}),
            )
            .unwrap()
        })
        .collect();
    tell(&mut sim, &[service("shop", "books", json!({})), service("shop", "cards", json!({}))], &slices);
    assert_eq!(sim.endpoints("shop/books-east").len(), 1000, "limits.endpointsPerService");
    assert!(sim.slices.values().all(|slice| slice.body.endpoints.len() <= 100));
    let failures = sim.failures("shop/all");
    assert!(failures.contains(&("shop/books".to_owned(), "QuotaExceeded".to_owned())), "{failures:?}");
    assert!(sim.names().contains(&"shop/cards-east".to_owned()), "others are unaffected");
}

#[test]
fn a05_more_services_than_the_link_takes_leave_those_that_are_there() {
    let mut sim = Sim::fixture();
    sim.set_link(link("east", json!({"limits": {"services": 3}})));
    tell(&mut sim, &[service("shop", "zebra", json!({}))], &[]);
    assert_eq!(sim.names(), ["shop/zebra-east"]);
    let many: Vec<_> = (0..2000)
        .map(|n| service("shop", &format!("s{n:04}"), json!({})))
        .chain([service("shop", "zebra", json!({}))])
        .collect();
    tell(&mut sim, &many, &[]);
    assert_eq!(sim.names(), ["shop/s0000-east", "shop/s0001-east", "shop/zebra-east"]);
    let listed = sim.failures("shop/all");
    assert!(listed.len() <= 32 && listed.iter().all(|(_, reason)| reason == "QuotaExceeded"), "{listed:?}");
}

#[test]
fn a06_neither_the_api_nor_system_services_are_mirrored_nor_anything_into_reserved_namespaces() {
    let mut sim = Sim::new();
    for namespace in ["shop", "default", "kube-system", "kube-public", NAMESPACE] {
        sim.namespace(namespace);
    }
    sim.set_link(link("east", json!({"services": {"matchAll": true, "selector": null}})));
    let system = [
        service("default", "kubernetes", json!({})),
        service("kube-system", "kube-dns", json!({})),
        service("kube-public", "x", json!({})),
        service(NAMESPACE, "heliostat-xds", json!({})),
    ];
    for (namespaces, into) in [
        (json!(["default", "kube-system", "kube-public", NAMESPACE]), "{namespace}"),
        (json!(["shop"]), "kube-system"),
        (json!(["shop"]), NAMESPACE),
    ] {
        sim.set_policy(policy(
            &format!("{NAMESPACE}/all"),
            json!({"services": {"namespaces": namespaces}, "mirror": {"namespace": into}}),
        ));
        let all: Vec<_> = system.iter().cloned().chain([service("shop", "books", json!({}))]).collect();
        tell(&mut sim, &all, &[]);
        assert_eq!(sim.names(), Vec::<String>::new(), "{namespaces} into {into}");
    }
}

#[test]
fn a07_a_users_service_survives_an_origin_of_its_name_and_that_origins_deletion() {
    let mut sim = Sim::fixture();
    sim.foreign_service("shop/books-east");
    let theirs = sim.services.clone();
    tell(&mut sim, &[service("shop", "books", json!({}))], &[]);
    // Marks of ours on the origin make it no mirror, and nobody's Service ours.
    let forged = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/link": "east"},
        "annotations": {"heliostat.dev/link-uid": "uid-east", "heliostat.dev/origin": "shop/books"},
    }});
    tell(&mut sim, &[service("shop", "books", forged)], &[]);
    sim.remote("east", RemoteEvent::ServiceGone(key("shop/books"), "uid-books".into()));
    tell(&mut sim, &[], &[]);
    assert_eq!((sim.writes(), &sim.services), (vec![], &theirs));
}

#[test]
fn a07_a_slice_feeds_only_the_service_of_its_own_namespace_that_it_names() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    let services = [service("shop", "books", json!({})), service("shop", "cards", json!({}))];
    let honest = slice("books-x", "books", vec!["10.1.0.1".into()], json!({})).unwrap();
    let elsewhere =
        slice("books-y", "books", vec!["10.66.0.1".into()], json!({"metadata": {"namespace": "evil"}})).unwrap();
    let unnamed = slice("books-z", "../books", vec!["10.66.0.2".into()], json!({}));
    assert_eq!(unnamed, None);
    tell(&mut sim, &services, &[honest, elsewhere]);
    assert_eq!(sim.endpoints("shop/books-east"), ["10.1.0.1:8080 http ready"]);
    assert_eq!(sim.endpoints("shop/cards-east"), Vec::<String>::new());
    assert!(!everything(&mut sim).contains("10.66."));
}

#[test]
fn a08_no_spelling_of_a_forbidden_address_reaches_a_slice() {
    let bad = [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "2130706433",
        "127.1",
        "10.0.0.01",
        " 10.0.0.1",
        "10.0.0.1\n",
        "10.0.0.1\u{202e}",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ];
    for via in ["Direct", "Service"] {
        for address in bad {
            let mut sim = Sim::fixture();
            sim.set_policy(policy("shop/all", json!({"via": [via]})));
            let family = if address.contains(':') { "IPv6" } else { "IPv4" };
            let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
            let slice = slice("books-x", "books", vec![address.to_owned()], json!({"addressType": family})).unwrap();
            tell(&mut sim, &[service("shop", "books", ingress)], &[slice]);
            assert_eq!(sim.names(), ["shop/books-east"]);
            assert_eq!(sim.endpoints("shop/books-east"), Vec::<String>::new(), "{address:?} by {via}");
        }
    }
}

#[test]
fn a08_a_hundred_thousand_denied_addresses_neither_stall_the_engine_nor_fill_the_status() {
    let mut sim = Sim::fixture();
    sim.set_policy(policy("shop/all", json!({"via": ["Direct"]})));
    let slices: Vec<_> = (0..100)
        .map(|n| {
            let addresses = (0..1000).map(|i| format!("127.{n}.{}.{}", i / 250, i % 250 + 1)).collect();
            slice(&format!("s{n}"), "books", addresses, json!({})).unwrap()
        })
        .collect();
    tell(&mut sim, &[service("shop", "books", json!({})), service("shop", "zoo", json!({}))], &slices);
    assert_eq!(sim.endpoints("shop/books-east"), Vec::<String>::new());
    let failures = sim.failures("shop/all");
    let of = |name: &str| failures.iter().filter(|(key, _)| key == name).count();
    assert!((1..=5).contains(&of("shop/books")) && of("shop/zoo") == 1, "{failures:?}");
}

#[test]
fn a09_fields_that_steer_traffic_or_deletion_are_not_taken_over() {
    let mut sim = Sim::fixture();
    let evil = json!({
        "metadata": {
            "finalizers": ["evil.example/x"], "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "evil", "uid": "e"}],
            "deletionGracePeriodSeconds": 66, "generateName": "evil",
        },
        "spec": {
            "externalIPs": ["203.0.113.66"], "loadBalancerIP": "203.0.113.66", "externalName": "evil.example",
            "loadBalancerSourceRanges": ["203.0.113.66/32"], "loadBalancerClass": "evil", "healthCheckNodePort": 31666,
            "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80, "nodePort": 31666, "targetPort": "evil"}],
            "selector": {"app": "evil"}, "publishNotReadyAddresses": true,
        },
    });
    let forged = json!({
        "metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "heliostat.dev", "service.kubernetes.io/headless": ""}},
        "endpoints": [{"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "name": "evil"}, "nodeName": "evil", "zone": "evil", "hints": {"forZones": [{"name": "evil"}]}}],
    });
    sim.set_policy(policy("shop/all", json!({"via": ["Direct", "Service"]})));
    let slice = slice("books-x", "books", vec![], forged).unwrap();
    tell(&mut sim, &[service("shop", "books", evil)], &[slice]);
    assert_eq!(sim.endpoints("shop/books-east"), ["10.1.0.1:8080 http ready"]);
    let written = format!("{:?}", sim.writes());
    for word in ["evil", "203.0.113.66", "31666", "ClientIP"] {
        assert!(!written.contains(word), "{word} in {written}");
    }
}

#[test]
fn a10_a11_a_policy_that_allows_every_key_takes_over_none_with_an_effect() {
    let mut sim = Sim::fixture();
    let groups = [
        "argocd.argoproj.io",
        "app.kubernetes.io",
        "kustomize.toolkit.fluxcd.io",
        "fluxcd.io",
        "helm.sh",
        "meta.helm.sh",
        "kubectl.kubernetes.io",
        "gateway.networking.k8s.io",
        "service.kubernetes.io",
        "heliostat.dev",
        "mirror.linkerd.io",
        "multicluster.linkerd.io",
        "service.cilium.io",
        "external-dns.alpha.kubernetes.io",
        "service.beta.kubernetes.io",
    ];
    let allow: Vec<String> =
        groups.iter().map(|group| format!("{group}/*")).chain(["example.com/*".to_owned()]).collect();
    let key = |group: &str| match group {
        "app.kubernetes.io" => "app.kubernetes.io/managed-by".to_owned(),
        other => format!("{other}/evil"),
    };
    let values: serde_json::Map<String, Value> = groups.iter().map(|group| (key(group), json!("evil"))).collect();
    let mut labels = values.clone();
    labels.extend([("heliostat.dev/export".to_owned(), json!("true")), ("example.com/team".to_owned(), json!("a"))]);
    labels.insert("app.kubernetes.io/managed-by".into(), json!("evil"));
    let mut annotations = values;
    annotations.insert("example.com/note".into(), json!("x".repeat(300 << 10)));
    sim.set_policy(policy("shop/all", json!({"mirror": {"labels": allow, "annotations": allow}})));
    let metadata = json!({"metadata": {"labels": labels, "annotations": annotations}});
    tell(&mut sim, &[service("shop", "books", metadata)], &[]);
    let mirror = sim.mirror("shop/books-east");
    assert_eq!(mirror.labels.get("example.com/team").map(|team| team.as_str()), Some("a"));
    let annotations = Map::from(&mirror.annotations);
    let held: Vec<_> = mirror.labels.iter().chain(annotations.iter()).collect();
    assert!(!held.iter().any(|(_, value)| value.contains("evil") || value.len() > 4096), "{held:?}");
}

#[test]
fn a11_what_a_remote_says_stands_in_no_status_with_control_characters_and_at_no_length() {
    let mut sim = Sim::fixture();
    let evil = format!("\u{1b}[2J\u{202e}\n{}", "x".repeat(300 << 10));
    let odd = [
        json!({"spec": {"type": evil}}),
        json!({"spec": {"ports": [{"name": evil, "port": 80}]}}),
        json!({"spec": {"ports": [{"name": "a", "port": evil}]}}),
        json!({"spec": {"ports": [{"name": "a", "port": 1, "protocol": evil}]}}),
        json!({"spec": {"ports": [{"name": "a", "port": 1, "appProtocol": evil}]}}),
        json!({"metadata": {"uid": evil}}),
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "\u{1b}[2J"}, {"hostname": "\u{1b}]0;x\u{7}"}]}}}),
    ];
    let services: Vec<_> =
        odd.into_iter().enumerate().map(|(n, over)| service("shop", &format!("s{n}"), over)).collect();
    let published = slice(
        "p",
        "s6",
        vec!["203.0.113.9".into()],
        json!({"metadata": {
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev", "heliostat.dev/service-name": "s6", "heliostat.dev/binding": "public",
            },
            "annotations": {"heliostat.dev/contract": evil, "heliostat.dev/routing": evil, "heliostat.dev/hostnames": evil},
        }}),
    );
    tell(&mut sim, &services, &[published.unwrap()]);
    sim.remote("east", RemoteEvent::Lost { reason: heliostat::api::Reason::RemoteUnreachable, message: evil.clone() });
    let statuses: Vec<Value> = sim
        .policies
        .values()
        .map(|policy| json!(policy.status))
        .chain(sim.links.values().map(|link| json!(link.status)))
        .collect();
    let mut texts = Vec::new();
    statuses.iter().for_each(|status| collect(status, &mut texts));
    assert!(texts.iter().any(|text| text.contains("not a type of Service")), "{texts:?}");
    for text in texts {
        assert!(text.chars().count() <= 2048 && !text.chars().any(char::is_control), "{text:?}");
    }
    assert_eq!(sim.counts("shop/all").0, 7, "each is counted");
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

#[test]
fn a12_one_bad_object_is_skipped_with_a_reason_and_the_others_are_mirrored() {
    let mut sim = Sim::fixture();
    let many: Vec<Value> = (1..=10_000).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    let bad = [
        json!({"ports": [{"port": 0}]}),
        json!({"ports": [{"port": 65536}]}),
        json!({"ports": [{"port": -1}]}),
        json!({"ports": many}),
        json!({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
        json!({"ports": [{"port": 1, "protocol": "QUIC"}]}),
        json!({"ports": "none"}),
        json!({"ports": null}),
        json!({"type": 7}),
    ];
    let mut services: Vec<_> = bad
        .into_iter()
        .enumerate()
        .map(|(n, spec)| service("shop", &format!("bad{n}"), json!({"spec": spec})))
        .collect();
    services.push(service("shop", "good", json!({})));
    let skipped = services.len() as u32 - 1;
    tell(&mut sim, &services, &[]);
    assert_eq!(sim.names(), ["shop/good-east"]);
    assert_eq!(sim.counts("shop/all"), (skipped + 1, 1, skipped, 0));
    assert_eq!(sim.failures("shop/all").len(), skipped as usize);
}

#[test]
fn a13_a_tenant_that_puts_a_service_of_its_own_in_a_mirrors_place_keeps_it() {
    let mut sim = Sim::with_books();
    sim.services.remove(&key("shop/books-east"));
    sim.foreign_service("shop/books-east");
    let theirs = sim.services[&key("shop/books-east")].clone();
    sim.writes();
    tell(&mut sim, &[service("shop", "books", json!({}))], &[]);
    tell(&mut sim, &[], &[]);
    sim.delete_policy("shop/all");
    assert_eq!(sim.services.get(&key("shop/books-east")), Some(&theirs));
    let touched = sim
        .writes()
        .iter()
        .any(|write| format!("{write:?}").contains("Service(") && format!("{write:?}").contains("books-east"));
    assert!(!touched);
}
