use std::collections::BTreeSet;

use super::*;
use crate::{
    core::{export::object::KindNews, model::Protocol},
    gateway::scene::{Scene, count, named, one, route, tcp, udp},
};

const MIRROR: &str = "gateways/mirror";

fn reference() -> Value {
    json!({"gatewayAPI": {"gatewayRef": {"namespace": "gateways", "name": "mirror"}}})
}

/// Conditions as Envoy Gateway writes them.
fn conditions(types: &[&str], generation: u64) -> Value {
    let condition = |kind: &&str| json!({"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation});
    types.iter().map(condition).collect()
}

fn gateway(listeners: Value) -> Value {
    json!({
        "metadata": {"namespace": "gateways", "name": "mirror", "generation": 1},
        "spec": {
            "gatewayClassName": "eg",
            "allowedListeners": {"namespaces": {"from": "Same"}},
            "listeners": listeners,
        },
        "status": {
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "NamedAddress", "value": "x"}],
            "conditions": conditions(&["Accepted", "Programmed"], 1),
        },
    })
}

fn listener(name: &str, port: u16, protocol: &str) -> Value {
    json!({"name": name, "port": port, "protocol": protocol, "allowedRoutes": {"namespaces": {"from": "All"}}})
}

fn web() -> Value {
    json!([listener("http", 80, "HTTP"), sni("sni", "")])
}

fn sni(name: &str, hostname: &str) -> Value {
    let mut listener = listener(name, 443, "TLS");
    listener["tls"] = json!({"mode": "Passthrough"});
    if !hostname.is_empty() {
        listener["hostname"] = json!(hostname);
    }
    listener
}

/// A Gateway of Envoy Gateway with an HTTP and a TLS listener.
fn scene(routing: Routing) -> Scene {
    let mut scene = Scene::new(routing, reference());
    class(&mut scene, "gateway.envoyproxy.io/gatewayclass-controller");
    scene.put(GATEWAY, gateway(web()));
    scene
}

fn class(scene: &mut Scene, controller: &str) {
    scene.put(GATEWAY_CLASS, json!({"metadata": {"name": "eg"}, "spec": {"controllerName": controller}}));
}

/// The implementation takes over what there is.
fn settle(scene: &mut Scene) {
    let kinds = [TCP_ROUTE, UDP_ROUTE, TLS_ROUTE, HTTP_ROUTE, GRPC_ROUTE];
    for kind in kinds {
        let routes: Vec<(Key, Value)> =
            scene.objects.all(kind).map(|(key, route)| (key.clone(), route.clone())).collect();
        for (key, route) in routes {
            let generation = route["metadata"]["generation"].as_u64().unwrap_or(1);
            let parent = |parent: &Value| json!({"parentRef": parent, "conditions": conditions(&["Accepted", "ResolvedRefs"], generation)});
            let parents: Vec<Value> = list(&route["spec"]["parentRefs"]).iter().map(parent).collect();
            scene.change(kind, &key, |route| route["status"] = json!({"parents": parents}));
        }
    }
    for kind in [GATEWAY, LISTENER_SET] {
        let parents: Vec<(Key, Value)> = scene.objects.all(kind).map(|(key, o)| (key.clone(), o.clone())).collect();
        for (key, parent) in parents {
            let generation = parent["metadata"]["generation"].as_u64().unwrap();
            let entry = |l: &Value| {
                json!({
                    "name": l["name"], "attachedRoutes": 1,
                    "conditions": conditions(&["Accepted", "ResolvedRefs", "Programmed"], generation),
                })
            };
            let entries: Vec<Value> = list(&parent["spec"]["listeners"]).iter().map(entry).collect();
            scene.change(kind, &key, |parent| {
                parent["status"]["listeners"] = json!(entries);
                parent["status"]["conditions"] = conditions(&["Accepted", "Programmed"], generation);
            });
        }
    }
}

fn set(number: usize) -> Key {
    Key::new("gateways", format!("heliostat-public-{number}"))
}

fn listeners_of(scene: &Scene, number: usize) -> Vec<String> {
    let set = scene.objects.get(LISTENER_SET, &set(number));
    let listeners = list(set.map_or(&Value::Null, |set| &set["spec"]["listeners"]));
    listeners.iter().map(|l| l["name"].as_str().unwrap().to_owned()).collect()
}

fn reason(programmed: &Programmed) -> Option<Reason> {
    match programmed {
        Programmed::No(refusal) => Some(refusal.reason),
        _ => None,
    }
}

fn is_pending(programmed: &Programmed) -> bool {
    matches!(programmed, Programmed::Pending(..))
}

#[test]
fn a_port_is_a_listener_of_a_set_and_one_route() {
    let mut scene = scene(Routing::Port);
    let (web, dns) = (tcp("shop/books", 80), udp("shop/books", 53));
    scene.want_port(&web, 20_001);
    scene.want_port(&dns, 20_001);
    let (rendered, _) = scene.apply();
    assert!(rendered.refused.is_empty() && rendered.envoy.is_none());
    assert_eq!(rendered.objects.len(), 3);

    let set = one(&rendered, LISTENER_SET);
    assert_eq!(set.id.key, self::set(0));
    assert_eq!(set.owner.as_ref().map(|o| (o.kind, o.uid.as_str())), Some(("GatewayBinding", "uid-public")));
    let allowed = |kind: &str| {
        json!({
            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}},
            "kinds": [{"group": "gateway.networking.k8s.io", "kind": kind}],
        })
    };
    assert_eq!(
        set.body["spec"],
        json!({
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "mirror"},
            "listeners": [
                {"name": "tcp-20001", "port": 20001, "protocol": "TCP", "allowedRoutes": allowed("TCPRoute")},
                {"name": "udp-20001", "port": 20001, "protocol": "UDP", "allowedRoutes": allowed("UDPRoute")},
            ],
        })
    );
    for (kind, section, port) in [(TCP_ROUTE, "tcp-20001", 80), (UDP_ROUTE, "udp-20001", 53)] {
        let route = one(&rendered, kind);
        assert_eq!(route.id.key.namespace, "shop");
        assert_eq!(route.owner.as_ref().map(|o| (o.kind, o.uid.as_str())), Some(("Service", "uid-shop/books")));
        assert_eq!(
            route.body["spec"],
            json!({
                "parentRefs": [{
                    "group": "gateway.networking.k8s.io", "kind": "ListenerSet", "namespace": "gateways",
                    "name": "heliostat-public-0", "sectionName": section,
                }],
                "rules": [{"backendRefs": [{"name": "books", "port": port}]}],
            })
        );
    }
    assert_eq!(scene.apply().1, Vec::<String>::new());
}

#[test]
fn names_of_routes_are_never_the_same_and_never_too_long() {
    let long = "n".repeat(63);
    let mut names = BTreeSet::new();
    for binding in ["a", "a-b", &long] {
        for service in ["c", "b-c", &long] {
            for id in [tcp(&format!("shop/{service}"), 80), udp(&format!("shop/{service}"), 80)] {
                let name = crate::gateway::object::route_name(binding, &id);
                assert!(name.len() <= 253, "{name}");
                assert!(names.insert(name.clone()), "{name}");
            }
        }
    }
}

#[test]
fn listeners_are_never_moved_between_sets() {
    let mut scene = scene(Routing::Port);
    let ids: Vec<RouteId> = (0..130).map(|n| tcp(&format!("shop/s{n}"), 80)).collect();
    for (id, port) in ids.iter().zip(20_000..) {
        scene.want_port(id, port);
    }
    let (rendered, _) = scene.apply();
    assert_eq!(count(&rendered, LISTENER_SET), 3);
    assert_eq!([0, 1, 2].map(|n| listeners_of(&scene, n).len()), [64, 64, 2]);

    // Two of the first set go: the others stay where they are, and only that set is written.
    for id in &ids[3..5] {
        scene.plan.routes.remove(id);
    }
    let (_, wrote) = scene.apply();
    assert_eq!(wrote.iter().filter(|name| name.contains("ListenerSet")).count(), 1, "{wrote:?}");
    assert_eq!([0, 1, 2].map(|n| listeners_of(&scene, n).len()), [62, 64, 2]);

    // Newcomers take the first room, whatever their ports are.
    for (id, port) in [tcp("shop/new1", 80), tcp("shop/new2", 80), tcp("shop/new3", 80)].iter().zip(27_000..) {
        scene.want_port(id, port);
    }
    scene.apply();
    assert!(listeners_of(&scene, 0).ends_with(&["tcp-27000".into(), "tcp-27001".into()]));
    assert_eq!(listeners_of(&scene, 2), ["tcp-20128", "tcp-20129", "tcp-27002"]);

    // A set that is empty goes, and the ones behind it stay what they are.
    let second: BTreeSet<String> = listeners_of(&scene, 1).into_iter().collect();
    scene.plan.routes.retain(|_, route| !second.contains(&format!("tcp-{}", route.gateway_port)));
    let (_, wrote) = scene.apply();
    assert!(
        wrote.contains(&"-ListenerSet.gateway.networking.k8s.io gateways/heliostat-public-1".to_owned()),
        "{wrote:?}"
    );
    assert_eq!([0, 1, 2].map(|n| listeners_of(&scene, n).len()), [64, 0, 3]);
    assert_eq!(scene.apply().1, Vec::<String>::new());
}

#[test]
fn a_set_that_is_somebody_elses_or_goes_away_is_not_used() {
    let mut scene = scene(Routing::Port);
    scene.put(LISTENER_SET, json!({"metadata": {"namespace": "gateways", "name": "heliostat-public-0"}, "spec": {"parentRef": {"name": "another"}, "listeners": [{"name": "tcp-20001", "port": 7, "protocol": "TCP"}]}}));
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    let (rendered, _) = scene.apply();
    assert_eq!(one(&rendered, LISTENER_SET).id.key, set(1));
    scene.change(LISTENER_SET, &set(1), |set| set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(one(&scene.render(), LISTENER_SET).id.key, set(2));
}

#[test]
fn g08_listeners_of_others_are_never_given_out() {
    let mut scene = scene(Routing::Port);
    let theirs = |ns: &str, gateway: Value| {
        json!({
            "metadata": {"namespace": ns, "name": "theirs"},
            "spec": {"parentRef": gateway, "listeners": [listener("a", 20_005, "TCP"), listener("b", 20_006, "UDP")]},
        })
    };
    scene.put(LISTENER_SET, theirs("shop", json!({"name": "mirror", "namespace": "gateways"})));
    scene.put(LISTENER_SET, theirs("other", json!({"name": "mirror"})));
    scene.want_port(&tcp("shop/books", 80), 20_001);
    scene.apply();
    let found = scene.gateway().unwrap();
    assert_eq!(found.identity, ["gatewayAPI", "Gateway", "gateways", "mirror"].map(str::to_owned));
    assert_eq!(found.addresses, ["192.0.2.1"]);
    assert!(found.confirms && found.unwell.is_none() && found.listeners.is_empty());
    let supply = found.ports;
    assert_eq!(supply.pool, None);
    assert_eq!(supply.protocols, [Protocol::Tcp, Protocol::Udp].into());
    assert!(supply.taken[&(Protocol::Tcp, 80)].contains("listener http of Gateway gateways/mirror"));
    assert!(supply.taken[&(Protocol::Tcp, 20_005)].contains("ListenerSet shop/theirs"));
    for (protocol, port, free) in [
        (Protocol::Tcp, 443, false),
        (Protocol::Udp, 20_006, false),
        (Protocol::Udp, 20_005, true),
        (Protocol::Tcp, 20_006, true),
        // What is ours stays ours.
        (Protocol::Tcp, 20_001, true),
    ] {
        assert_eq!(supply.has(protocol, port), free, "{protocol:?} {port}");
    }
}

#[test]
fn g18_ports_inside_envoy_gateways_pods_are_never_given_out() {
    let wide = json!({"ports": {"from": 1000, "to": 30000, "lease": "24h"}});
    let mut scene = Scene::with(Routing::Port, reference(), wide);
    scene.put(GATEWAY, gateway(web()));
    class(&mut scene, "gateway.envoyproxy.io/mine");
    let supply = scene.gateway().unwrap().ports;
    for port in [10_001, 10_080, 10_443, 11_023, 19_000, 19_003, 19_010] {
        assert!(!supply.has(Protocol::Tcp, port) && !supply.has(Protocol::Udp, port), "{port}");
    }
    for port in [10_000, 11_024, 18_999, 19_011] {
        assert!(supply.has(Protocol::Tcp, port), "{port}");
    }
    class(&mut scene, "example.com/another");
    assert!(scene.gateway().unwrap().ports.has(Protocol::Tcp, 10_080));
}

#[test]
fn a_gateway_that_allows_no_sets_is_told_which_line_to_add() {
    let mut scene = scene(Routing::Port);
    for allowed in [Value::Null, json!({"namespaces": {"from": "None"}})] {
        scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| gateway["spec"]["allowedListeners"] = allowed);
        let refusal = scene.gateway().unwrap_err();
        assert_eq!(refusal.reason, Reason::RefNotPermitted);
        assert!(refusal.message.contains("spec.allowedListeners: {namespaces: {from: Same}}"), "{}", refusal.message);
        assert!(refusal.message.contains(MIRROR), "{}", refusal.message);
    }
    for allowed in ["All", "Same", "Selector"] {
        let allowed = json!({"namespaces": {"from": allowed, "selector": {"matchLabels": {"team": "a"}}}});
        scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| gateway["spec"]["allowedListeners"] = allowed);
        assert!(scene.gateway().is_ok());
    }
    // By labels that are not known here: the set tells.
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    scene.apply();
    settle(&mut scene);
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    scene.change(LISTENER_SET, &set(0), |set| {
        set["status"]["conditions"] = json!([{"type": "Accepted", "status": "False", "reason": "NotAllowed", "message": "", "observedGeneration": 1}]);
    });
    assert_eq!(reason(&scene.programmed(&id)), Some(Reason::RefNotPermitted));
}

#[test]
fn without_sets_only_listeners_that_are_there_are_used() {
    let mut scene = scene(Routing::Port);
    scene.not_served(LISTENER_SET);
    let mut same = listener("same", 20_003, "TCP");
    same["allowedRoutes"] = json!({"namespaces": {"from": "Same"}});
    let mut udp_only = listener("kinds", 20_004, "TCP");
    udp_only["allowedRoutes"]["kinds"] = json!([{"kind": "UDPRoute"}]);
    scene.put(
        GATEWAY,
        gateway(json!([
            listener("http", 20_000, "HTTP"),
            listener("t1", 20_001, "TCP"),
            listener("u1", 20_001, "UDP"),
            listener("t2", 20_002, "TCP"),
            same,
            udp_only,
            listener("far", 9999, "TCP"),
        ])),
    );
    scene.put(TCP_ROUTE, json!({"metadata": {"namespace": "shop", "name": "theirs"}, "spec": {"parentRefs": [{"name": "mirror", "namespace": "gateways", "sectionName": "t2"}]}}));
    let supply = scene.gateway().unwrap().ports;
    let t = |port| (Protocol::Tcp, port);
    assert_eq!(supply.pool, Some([t(20_001), t(20_002), (Protocol::Udp, 20_001)].into()));
    assert!(supply.has(Protocol::Tcp, 20_001) && !supply.has(Protocol::Tcp, 20_002), "one has a route already");
    assert!(supply.hint.contains("add listeners of protocol TCP") && supply.hint.contains("from 20000 to 27999"));

    let (id, other, away) = (tcp("shop/books", 80), tcp("shop/films", 80), tcp("shop/same", 80));
    scene.want_port(&id, 20_001);
    scene.want_port(&other, 20_002);
    scene.want_port(&away, 20_003);
    let (rendered, _) = scene.apply();
    let route = one(&rendered, TCP_ROUTE);
    assert_eq!(route.body["spec"]["parentRefs"][0]["kind"], "Gateway");
    assert_eq!(route.body["spec"]["parentRefs"][0]["sectionName"], "t1");
    assert_eq!(count(&rendered, LISTENER_SET), 0);
    assert_eq!(rendered.refused[&other].reason, Reason::NameConflict);
    assert_eq!(rendered.refused[&away].reason, Reason::RefNotPermitted);
    settle(&mut scene);
    assert_eq!(scene.programmed(&id), Programmed::Yes);
}

#[test]
fn where_sets_are_served_but_not_allowed_listeners_in_the_range_are_used() {
    let mut scene = scene(Routing::Port);
    scene.put(GATEWAY, gateway(json!([listener("http", 80, "HTTP"), listener("pool", 20_001, "TCP")])));
    scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| gateway["spec"]["allowedListeners"] = Value::Null);
    assert_eq!(scene.gateway().unwrap().ports.pool, Some([(Protocol::Tcp, 20_001)].into()));
}

#[test]
fn a_route_is_programmed_when_all_say_so_of_what_there_is_now() {
    let mut scene = scene(Routing::Port);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    assert!(is_pending(&scene.programmed(&id)), "before it is written");
    let (rendered, _) = scene.apply();
    assert!(is_pending(&scene.programmed(&id)), "before the gateway answers");
    settle(&mut scene);
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    let route_key = one(&rendered, TCP_ROUTE).id.key.clone();

    // Each of the conditions matters.
    let good = scene.objects.clone();
    let gateway_key: Key = MIRROR.parse().unwrap();
    let at = |kind: Kind, key: &Key, path: &str| (kind, key.clone(), path.to_owned());
    for (kind, key, path) in [
        at(GATEWAY, &gateway_key, "/status/conditions/0/status"),
        at(GATEWAY, &gateway_key, "/status/conditions/1/status"),
        at(LISTENER_SET, &set(0), "/status/conditions/0/status"),
        at(LISTENER_SET, &set(0), "/status/conditions/1/status"),
        at(LISTENER_SET, &set(0), "/status/listeners/0/conditions/0/status"),
        at(LISTENER_SET, &set(0), "/status/listeners/0/conditions/1/status"),
        at(LISTENER_SET, &set(0), "/status/listeners/0/conditions/2/status"),
        at(TCP_ROUTE, &route_key, "/status/parents/0/conditions/0/status"),
        at(TCP_ROUTE, &route_key, "/status/parents/0/conditions/1/status"),
    ] {
        scene.change(kind, &key, |object| *object.pointer_mut(&path).unwrap() = json!("False"));
        assert!(is_pending(&scene.programmed(&id)), "{kind} {path}");
        scene.objects = good.clone();
    }
    // A listener without a route accepts connections and closes them.
    scene.change(LISTENER_SET, &set(0), |set| set["status"]["listeners"][0]["attachedRoutes"] = json!(0));
    assert!(is_pending(&scene.programmed(&id)));
}

#[test]
fn g18_a_route_whose_set_is_gone_is_not_programmed_whatever_it_says() {
    let mut scene = scene(Routing::Port);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    scene.apply();
    settle(&mut scene);
    scene.objects.take(LISTENER_SET, KindNews::Gone(set(0)));
    assert!(is_pending(&scene.programmed(&id)));
}

#[test]
fn a_newcomer_in_the_set_does_not_unprogram_the_others_and_is_not_programmed_itself() {
    let mut scene = scene(Routing::Port);
    let (old, new) = (tcp("shop/books", 80), tcp("shop/films", 80));
    scene.want_port(&old, 20_001);
    scene.apply();
    settle(&mut scene);
    scene.want_port(&new, 20_002);
    scene.apply();
    assert!(matches!(scene.programmed(&old), Programmed::Before(_)));
    assert!(is_pending(&scene.programmed(&new)));
    settle(&mut scene);
    assert_eq!([scene.programmed(&old), scene.programmed(&new)], [Programmed::Yes, Programmed::Yes]);
}

#[test]
fn g08_another_route_or_listener_on_the_port_is_a_conflict() {
    let mut scene = scene(Routing::Port);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    scene.apply();
    settle(&mut scene);
    let good = scene.objects.clone();
    // Envoy Gateway counts both, says of both that they are accepted, and serves the older one.
    scene.change(LISTENER_SET, &set(0), |set| set["status"]["listeners"][0]["attachedRoutes"] = json!(2));
    assert_eq!(reason(&scene.programmed(&id)), Some(Reason::NameConflict));
    scene.objects = good.clone();
    for section in [json!("tcp-20001"), Value::Null] {
        scene.put(TCP_ROUTE, json!({"metadata": {"namespace": "shop", "name": "theirs"}, "spec": {"parentRefs": [{"kind": "ListenerSet", "name": "heliostat-public-0", "namespace": "gateways", "sectionName": section}]}}));
        let Programmed::No(refusal) = scene.programmed(&id) else { panic!() };
        assert_eq!(refusal.reason, Reason::NameConflict);
        assert!(refusal.message.contains("shop/theirs"), "{}", refusal.message);
    }
    // From a namespace that the listener takes none from it has no effect.
    scene.objects = good.clone();
    scene.put(TCP_ROUTE, json!({"metadata": {"namespace": "evil", "name": "theirs"}, "spec": {"parentRefs": [{"kind": "ListenerSet", "name": "heliostat-public-0", "namespace": "gateways"}]}}));
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    scene.objects = good;
    scene.change(LISTENER_SET, &set(0), |set| {
        let conflicted = json!({"type": "Conflicted", "status": "True", "reason": "ProtocolConflict", "message": "", "observedGeneration": 1});
        set["status"]["listeners"][0]["conditions"].as_array_mut().unwrap().push(conflicted);
    });
    assert_eq!(reason(&scene.programmed(&id)), Some(Reason::NameConflict));
}

#[test]
fn a_gateway_that_is_being_made_is_unwell_although_it_has_an_address() {
    let mut scene = scene(Routing::Port);
    scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| {
        gateway["status"]["conditions"][1] = json!({"type": "Programmed", "status": "False", "reason": "NoResources", "message": "no replicas", "observedGeneration": 1});
    });
    let found = scene.gateway().unwrap();
    assert_eq!(found.addresses, ["192.0.2.1"]);
    let unwell = found.unwell.unwrap();
    assert_eq!(unwell.reason, Reason::Pending);
    assert!(unwell.message.contains("NoResources"), "{}", unwell.message);
    // One that serves its good listeners only is not.
    scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| {
        gateway["status"]["conditions"] = json!([
            {"type": "Accepted", "status": "False", "reason": "ListenersNotValid", "message": "", "observedGeneration": 1},
            {"type": "Programmed", "status": "True", "reason": "Programmed", "message": "", "observedGeneration": 1},
        ]);
    });
    assert_eq!(scene.gateway().unwrap().unwell, None);
}

#[test]
fn g09_what_is_not_served_is_said() {
    let mut scene = scene(Routing::Port);
    scene.not_served(UDP_ROUTE);
    assert_eq!(scene.gateway().unwrap().ports.protocols, [Protocol::Tcp].into());
    let dns = udp("shop/books", 53);
    scene.want_port(&dns, 20_001);
    let rendered = scene.render();
    assert_eq!((rendered.objects.len(), rendered.refused[&dns].reason), (0, Reason::PortUnsupported));
    scene.not_served(TCP_ROUTE);
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::ProviderNotInstalled);
    scene.objects.take(TCP_ROUTE, KindNews::Listed("v1alpha2".into(), Default::default()));
    assert!(scene.gateway().is_ok());
    scene.objects.take(GATEWAY, KindNews::Gone(MIRROR.parse().unwrap()));
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::RefNotFound);
    scene.not_served(GATEWAY);
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::ProviderNotInstalled);
}

#[test]
fn traefiks_listeners_have_other_ports_outside() {
    let mut scene = scene(Routing::Port);
    class(&mut scene, "traefik.io/gateway-controller");
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::UnsupportedValue);
    assert!(refusal.message.contains("provider: traefik"), "{}", refusal.message);
}

const BOOKS: [&str; 4] = ["books-east", "books-east.shop", "books-east.shop.svc", "books-east.shop.svc.cluster.local"];

#[test]
fn a_host_is_an_http_route_on_a_listener_that_is_there() {
    let mut scene = scene(Routing::Host);
    assert_eq!(scene.gateway().unwrap().listeners, [80]);
    let id = tcp("shop/books", 80);
    let mut hostnames = BOOKS.to_vec();
    hostnames.extend(["books-east.", "books-east:80"]);
    let mut wanted = named(&id, 80, "http", &hostnames);
    wanted.rewrite = Some("books.shop.svc.cluster.local".into());
    scene.want(&id, wanted.clone());
    let (rendered, _) = scene.apply();
    let route = one(&rendered, HTTP_ROUTE);
    assert_eq!(rendered.objects.len(), 1, "no listener of ours");
    assert_eq!(
        route.body["spec"],
        json!({
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "gateways", "name": "mirror", "sectionName": "http"}],
            "hostnames": BOOKS,
            "rules": [{
                "backendRefs": [{"name": "books", "port": 80}],
                "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "books.shop.svc.cluster.local"}}],
            }],
        })
    );
    assert!(is_pending(&scene.programmed(&id)));
    settle(&mut scene);
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    // Many routes share a listener of names.
    scene.change(GATEWAY, &MIRROR.parse().unwrap(), |gateway| {
        gateway["status"]["listeners"][0]["attachedRoutes"] = json!(7)
    });
    assert_eq!(scene.programmed(&id), Programmed::Yes);

    wanted.rewrite = None;
    scene.want(&id, wanted);
    let (rendered, wrote) = scene.apply();
    assert_eq!(wrote.len(), 1);
    assert_eq!(one(&rendered, HTTP_ROUTE).body["spec"]["rules"][0]["filters"], json!([]));
    assert!(matches!(scene.programmed(&id), Programmed::Before(_)), "until the gateway has read it");
}

#[test]
fn sni_is_a_tls_route_on_a_listener_that_passes_tls_through() {
    let mut scene = scene(Routing::Sni);
    assert_eq!(scene.gateway().unwrap().listeners, [443]);
    let id = tcp("shop/vault", 8443);
    scene.want(&id, named(&id, 443, "https", &["vault-east"]));
    let (rendered, _) = scene.apply();
    let route = one(&rendered, TLS_ROUTE);
    assert_eq!(route.body["spec"]["hostnames"], json!(["vault-east"]));
    assert_eq!(route.body["spec"]["parentRefs"][0]["sectionName"], "sni");
    assert_eq!(route.body["spec"]["rules"], json!([{"backendRefs": [{"name": "vault", "port": 8443}]}]));
    settle(&mut scene);
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    // One that ends TLS is none, and has its names for itself.
    let mut ends = listener("ends", 443, "HTTPS");
    ends["hostname"] = json!("*.example.com");
    scene.put(GATEWAY, gateway(json!([sni("sni", ""), ends])));
    let site = tcp("shop/site", 443);
    scene.want(&site, named(&site, 443, "https", &["site.example.com"]));
    let rendered = scene.render();
    assert_eq!(rendered.refused[&site].reason, Reason::NameConflict);
    assert_eq!(count(&rendered, TLS_ROUTE), 1);
    // A listener made for just this name is meant for it.
    scene.put(GATEWAY, gateway(json!([sni("sni", ""), sni("site", "site.example.com")])));
    assert!(scene.render().refused.is_empty());
}

#[test]
fn listeners_without_a_hostname_are_preferred() {
    let mut scene = scene(Routing::Host);
    let mut narrow = listener("narrow", 80, "HTTP");
    narrow["hostname"] = json!("*.example.com");
    scene.put(GATEWAY, gateway(json!([narrow, listener("alt", 8081, "HTTP"), listener("tls", 443, "HTTPS")])));
    assert_eq!(scene.gateway().unwrap().listeners, [8081, 80]);
    scene.put(GATEWAY, gateway(json!([listener("tls", 443, "HTTPS")])));
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::UnsupportedValue);
    assert!(refusal.message.contains("protocol: HTTP"), "{}", refusal.message);
}

#[test]
fn a_name_or_namespace_that_no_listener_takes_is_refused() {
    let mut scene = scene(Routing::Host);
    let mut narrow = listener("narrow", 80, "HTTP");
    narrow["hostname"] = json!("*.example.com");
    scene.put(GATEWAY, gateway(json!([narrow])));
    let id = tcp("shop/books", 80);
    scene.want(&id, named(&id, 80, "http", &["books.example.com", "books-east"]));
    let rendered = scene.render();
    assert_eq!((rendered.objects.len(), rendered.refused[&id].reason), (0, Reason::UnsupportedValue));
    assert!(rendered.refused[&id].message.contains("books-east"));
    scene.want(&id, named(&id, 80, "http", &["books.example.com"]));
    assert!(scene.render().refused.is_empty());
    scene.change(GATEWAY, &MIRROR.parse().unwrap(), |g| g["spec"]["listeners"][0]["allowedRoutes"] = Value::Null);
    assert_eq!(scene.render().refused[&id].reason, Reason::RefNotPermitted);
    scene.want(&id, named(&id, 80, "http", &["books-east:80"]));
    assert_eq!(scene.render().refused[&id].reason, Reason::UnsupportedValue);
}

fn site(name: &str, hostnames: &[&str]) -> Value {
    json!({
        "metadata": {"namespace": "web", "name": name, "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {"parentRefs": [{"name": "mirror", "namespace": "gateways"}], "hostnames": hostnames},
    })
}

#[test]
fn g17_a_name_that_a_users_route_serves_is_never_taken() {
    let id = tcp("shop/books", 80);
    for (kind, hostnames) in [(HTTP_ROUTE, ["books-east"]), (GRPC_ROUTE, ["books-east"]), (HTTP_ROUTE, ["*.shop"])] {
        let mut scene = scene(Routing::Host);
        scene.want(&id, named(&id, 80, "http", &BOOKS));
        scene.apply();
        settle(&mut scene);
        // Also where theirs is the younger one.
        scene.put(kind, site("site", &hostnames));
        let Programmed::No(refusal) = scene.programmed(&id) else { panic!() };
        assert_eq!(refusal.reason, Reason::NameConflict);
        assert!(refusal.message.contains("web/site"), "{}", refusal.message);
        let (rendered, _) = scene.apply();
        assert_eq!(rendered.refused[&id].reason, Reason::NameConflict);
        assert!(rendered.objects.is_empty());
        assert_eq!(scene.objects.all(kind).count(), 1, "theirs is left as it is");
    }
    // None of these serves one of the names.
    for mut other in [site("all", &[]), site("site", &["films-east"]), site("away", &["books-east"])] {
        let mut scene = scene(Routing::Host);
        if other["metadata"]["name"] == "away" {
            other["spec"]["parentRefs"][0]["name"] = json!("another");
        }
        scene.put(HTTP_ROUTE, other);
        scene.want(&id, named(&id, 80, "http", &BOOKS));
        assert!(scene.render().refused.is_empty());
    }
}

#[test]
fn g17_of_two_bindings_the_older_route_keeps_the_name() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    let mut other = site("other", &["books-east"]);
    other["metadata"]["labels"] =
        json!({"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "other"});
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    scene.apply();
    scene.put(HTTP_ROUTE, other.clone());
    assert!(scene.render().refused.is_empty(), "ours is older");
    other["metadata"]["creationTimestamp"] = json!("2025-06-01T00:00:00Z");
    scene.put(HTTP_ROUTE, other);
    assert_eq!(scene.render().refused[&id].reason, Reason::NameConflict);
}

#[test]
fn what_backends_speak_decides_the_kind() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    let mut wanted = named(&id, 80, "grpc", &["books-east"]);
    scene.want(&id, wanted.clone());
    one(&scene.render(), GRPC_ROUTE);
    wanted.rewrite = Some("books".into());
    scene.want(&id, wanted.clone());
    assert_eq!(scene.render().refused[&id].reason, Reason::PortUnsupported, "a GRPCRoute rewrites no Host");
    wanted.port.app_protocol = Some("kubernetes.io/h2c".into());
    scene.want(&id, wanted);
    one(&scene.render(), HTTP_ROUTE);
    for (name, carried) in [("http", true), ("grpc-web", true), ("h2c", false)] {
        scene.want(&id, named(&id, 80, name, &["books-east"]));
        assert_eq!(scene.render().refused.is_empty(), carried, "{name}");
    }
    let dns = udp("shop/books", 53);
    let mut wanted = route(&dns, 80);
    wanted.hostnames = vec!["books-east".into()];
    scene.want(&dns, wanted);
    assert_eq!(scene.render().refused[&dns].reason, Reason::PortUnsupported);
}
