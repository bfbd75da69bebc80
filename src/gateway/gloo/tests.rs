use super::*;
use crate::{
    core::model::{Ingress, Origin, OriginType},
    gateway::scene::{Scene, count, front, named, one, port, tcp, udp},
};

mod schema;

const PROXY: &str = "gloo-system/gateway-proxy";

fn key() -> Key {
    PROXY.parse().unwrap()
}

/// Service gloo-system/gateway-proxy, a LoadBalancer at 192.0.2.7, whose ports 80 and 443 lead to Gloo's usual
/// Gateways and 20001 and 20002 to pod ports 6001 and 6002; and a ready pod.
fn scene(routing: Routing) -> Scene {
    let provider = json!({"gloo": {"serviceRef": {"namespace": "gloo-system", "name": "gateway-proxy"}}});
    let mut scene = Scene::new(routing, provider);
    let ports = [("http", 80, 8080), ("https", 443, 8443), ("t1", 20_001, 6001), ("t2", 20_002, 6002)];
    let ports = ports.map(|(name, number, inside)| leads(port(name, number), inside));
    let mut service = front(OriginType::LoadBalancer, ports.to_vec());
    service.ingress = vec![Ingress::Ip("192.0.2.7".into())].into();
    scene.services.insert(key(), service);
    scene.ready.insert(key());
    scene.put(GATEWAY, gateway("gateway-proxy", json!({"bindPort": 8080, "httpGateway": {}})));
    scene.put(GATEWAY, gateway("gateway-proxy-ssl", json!({"bindPort": 8443, "ssl": true, "httpGateway": {}})));
    scene
}

fn leads(port: OriginPort, inside: u16) -> OriginPort {
    OriginPort { pod_port: Some(inside), node_port: Some(port.port + 10_000), ..port }
}

fn service(scene: &mut Scene) -> &mut Origin {
    scene.services.get_mut(&key()).unwrap()
}

fn object(namespace: &str, name: &str, spec: Value) -> Value {
    let meta = json!({"namespace": namespace, "name": name, "creationTimestamp": "2026-06-01T00:00:00Z"});
    json!({"metadata": meta, "spec": spec})
}

fn gateway(name: &str, mut spec: Value) -> Value {
    if spec["proxyNames"].is_null() {
        spec["proxyNames"] = json!(["gateway-proxy"]);
    }
    object("gloo-system", name, spec)
}

fn of_other_binding(mut object: Value, created: &str) -> Value {
    object["metadata"]["labels"] =
        json!({"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "other"});
    object["metadata"]["creationTimestamp"] = json!(created);
    object
}

#[test]
fn ports_are_those_of_the_service_on_which_no_gateway_listens() {
    let mut scene = scene(Routing::Port);
    let more = [leads(port("t3", 20_003), 6001), leads(port("admin", 20_004), 19_000)];
    service(&mut scene).ports.edit(|ports| ports.extend(more));
    service(&mut scene).ports.edit(|ports| ports.push(OriginPort { pod_port: None, ..port("named", 20_005) }));
    service(&mut scene)
        .ports
        .edit(|ports| ports.push(OriginPort { protocol: Protocol::Udp, ..leads(port("u1", 20_001), 6001) }));
    let found = scene.gateway().unwrap();
    assert_eq!(found.identity, ["gloo", "Service", "gloo-system", "gateway-proxy"].map(str::to_owned));
    assert_eq!((found.addresses, found.unwell, found.confirms), (vec!["192.0.2.7".to_owned()], None, false));
    let (supply, tcp) = (found.ports, Protocol::Tcp);
    assert_eq!(supply.protocols, [tcp].into(), "no UDP");
    let pool = [80, 443, 20_001, 20_002, 20_003, 20_004].map(|number| (tcp, number));
    assert_eq!(supply.pool, Some(pool.into()), "not 20005, of which nobody knows where it leads");
    let taken: Vec<u16> = supply.taken.keys().map(|(_, number)| *number).collect();
    assert_eq!(taken, [80, 443, 20_003, 20_004], "Gateways, the same pod port as 20001, Envoy's own");
    for words in ["Service gloo-system/gateway-proxy", "port 20005", "gloo-system/gateway-proxy listens"] {
        assert!(supply.hint.contains(words), "{}", supply.hint);
    }
}

#[test]
fn g08_a_pod_port_on_which_a_gateway_of_the_proxy_listens_is_taken() {
    let tcp_gateway =
        |proxies: Value| gateway("theirs", json!({"bindPort": 6001, "proxyNames": proxies, "tcpGateway": {}}));
    for (theirs, taken) in [
        (tcp_gateway(json!(["gateway-proxy"])), true),
        (tcp_gateway(json!(["another", "gateway-proxy"])), true),
        (tcp_gateway(json!([])), true),
        (tcp_gateway(json!(["another"])), false),
        (gateway("theirs", json!({"bindPort": 20_001, "tcpGateway": {}})), false),
        // The claim of the port speaks for it.
        (of_other_binding(tcp_gateway(json!(["gateway-proxy"])), "2026-01-01T00:00:00Z"), false),
    ] {
        let mut scene = scene(Routing::Port);
        scene.put(GATEWAY, theirs.clone());
        let supply = scene.gateway().unwrap().ports;
        assert_eq!(!supply.has(Protocol::Tcp, 20_001), taken, "{theirs}");
        assert!(supply.has(Protocol::Tcp, 20_002));
    }
}

#[test]
fn a_port_is_a_gateway_beside_gloos_own_with_one_host_and_an_upstream_beside_the_service() {
    let mut scene = scene(Routing::Port);
    let (db, dns) = (tcp("shop/db", 5432), udp("shop/db", 53));
    scene.want_port(&db, 20_002);
    scene.want_port(&dns, 20_001);
    let (rendered, _) = scene.apply();
    assert_eq!(rendered.refused.keys().collect::<Vec<_>>(), [&dns]);
    assert_eq!(rendered.refused[&dns].reason, Reason::PortUnsupported);
    assert_eq!(rendered.objects.len(), 2);
    schema::hold(&rendered);
    let upstream = one(&rendered, UPSTREAM);
    assert_eq!(upstream.id.key.namespace, "shop");
    assert_eq!(upstream.owner.as_ref().map(|o| (o.kind, o.name.as_str())), Some(("Service", "db")));
    assert_eq!(
        Value::Object(upstream.whole())["spec"],
        json!({"kube": {"serviceName": "db", "serviceNamespace": "shop", "servicePort": 5432}, "useHttp2": false})
    );
    // Gloo reads Gateways from its own namespace alone.
    let object = one(&rendered, GATEWAY);
    assert_eq!(object.id.key.namespace, "gloo-system");
    assert_eq!(object.owner.as_ref().map(|o| (o.kind, o.name.as_str())), Some(("GatewayBinding", "public")));
    let name = &object.id.key.name;
    assert_eq!(
        Value::Object(object.whole())["spec"],
        json!({
            "bindAddress": "::", "bindPort": 6002, "proxyNames": ["gateway-proxy"], "ssl": false, "useProxyProto": false,
            "tcpGateway": {"tcpHosts": [{
                "name": name,
                "destination": {"single": {"upstream": {"name": upstream.id.key.name, "namespace": "shop"}}},
            }]},
        })
    );
    assert_eq!(scene.programmed(&db), Programmed::Yes);
    // Somebody has TLS taken off what comes.
    let key = object.id.key.clone();
    scene.change(GATEWAY, &key, |o| o["spec"]["tcpGateway"]["tcpHosts"][0]["sslConfig"] = json!({"secretRef": {}}));
    assert!(matches!(scene.programmed(&db), Programmed::Pending(..)));
    assert_eq!(scene.apply().1.len(), 1);
    assert!(scene.objects.get(GATEWAY, &key).unwrap()["spec"]["tcpGateway"]["tcpHosts"][0]["sslConfig"].is_null());
    assert!(scene.gateway().unwrap().ports.has(Protocol::Tcp, 20_002), "ours takes no port from us");

    scene.plan.routes.clear();
    assert_eq!(scene.apply().1.len(), 2);
}

#[test]
fn the_proxy_is_the_one_that_the_service_says() {
    let mut scene = scene(Routing::Port);
    service(&mut scene).labels.insert("gateway-proxy-id".into(), "internal".into());
    let db = tcp("shop/db", 5432);
    scene.want_port(&db, 20_002);
    assert_eq!(one(&scene.render(), GATEWAY).body["spec"]["proxyNames"], json!(["internal"]));
    assert!(scene.gateway().unwrap().ports.has(Protocol::Tcp, 80), "the usual Gateways are another proxy's");
}

const BOOKS: [&str; 2] = ["books-east", "books-east.shop.svc.cluster.local"];

#[test]
fn a_host_is_a_virtual_service_for_its_names_with_and_without_the_port() {
    let mut scene = scene(Routing::Host);
    let id = tcp("shop/books", 80);
    let mut wanted = named(&id, 80, "http", &BOOKS);
    wanted.rewrite = Some("books.shop.svc.cluster.local".into());
    scene.want(&id, wanted.clone());
    let (rendered, _) = scene.apply();
    assert_eq!((rendered.objects.len(), count(&rendered, GATEWAY)), (2, 0));
    schema::hold(&rendered);
    let (object, upstream) = (one(&rendered, VIRTUAL_SERVICE), one(&rendered, UPSTREAM));
    assert_eq!(object.id.key.namespace, "shop");
    let domains = ["books-east", "books-east:80", BOOKS[1], "books-east.shop.svc.cluster.local:80"];
    assert_eq!(
        Value::Object(object.whole())["spec"],
        json!({"virtualHost": {"domains": domains, "routes": [{
            "matchers": [{"prefix": "/"}],
            "routeAction": {"single": {"upstream": {"name": upstream.id.key.name, "namespace": "shop"}}},
            "options": {"timeout": "0s", "hostRewrite": "books.shop.svc.cluster.local"},
        }]}})
    );
    assert_eq!(scene.programmed(&id), Programmed::Yes);

    wanted.rewrite = None;
    wanted.port.name = "grpc".into();
    scene.want(&id, wanted);
    let (rendered, wrote) = scene.apply();
    assert_eq!(wrote.len(), 2, "{wrote:?}");
    schema::hold(&rendered);
    let there = scene.objects.get(VIRTUAL_SERVICE, &one(&rendered, VIRTUAL_SERVICE).id.key).unwrap();
    assert_eq!(there["spec"]["virtualHost"]["routes"][0]["options"], json!({"timeout": "0s"}));
    assert_eq!(one(&rendered, UPSTREAM).body["spec"]["useHttp2"], true);
}

#[test]
fn no_name_stands_in_two_virtual_services_of_a_service() {
    let mut scene = scene(Routing::Host);
    for port in [80, 9090] {
        let id = tcp("shop/books", port);
        scene.want(&id, named(&id, 80, "http", &["books-east"]));
    }
    let rendered = scene.render();
    schema::hold(&rendered);
    let of_kind = rendered.objects.iter().filter(|object| object.id.kind == VIRTUAL_SERVICE);
    let domains: Vec<&Value> = of_kind.map(|object| &object.body["spec"]["virtualHost"]["domains"]).collect();
    assert_eq!(domains, [&json!(["books-east", "books-east:80"]), &json!(["books-east:9090"])]);
}

#[test]
fn names_come_in_by_gateways_of_plain_http_that_take_our_virtual_services() {
    let labels = |binding: &str| json!({"virtualServiceSelector": {"heliostat.dev/binding": binding}});
    for (http, listens) in [
        (json!({}), true),
        (labels("public"), true),
        (labels("other"), false),
        (json!({"virtualServices": [{"name": "a", "namespace": "b"}]}), false),
        (json!({"virtualServiceExpressions": {"expressions": []}}), false),
        (Value::Null, false),
    ] {
        let mut scene = scene(Routing::Host);
        assert_eq!(scene.gateway().unwrap().listeners, [80], "443 is for TLS");
        scene.put(GATEWAY, gateway("more", json!({"bindPort": 6001, "httpGateway": http, "tcpGateway": {}})));
        let wanted: &[u16] = if listens { &[80, 20_001] } else { &[80] };
        assert_eq!(scene.gateway().unwrap().listeners, wanted, "{http}");
        scene.put(GATEWAY, gateway("gateway-proxy", json!({"bindPort": 8080, "ssl": true, "httpGateway": {}})));
        match scene.gateway() {
            Ok(found) => assert_eq!(found.listeners, [20_001], "{http}"),
            Err(refusal) => {
                assert!(!listens, "{http}");
                assert_eq!(refusal.reason, Reason::UnsupportedValue);
                assert!(refusal.message.contains(PROXY), "{}", refusal.message);
            }
        }
    }
}

#[test]
fn a_namespace_of_which_the_gateway_takes_nothing_is_refused() {
    let id = tcp("shop/books", 80);
    for (namespaces, taken) in
        [(json!([]), true), (json!(["*"]), true), (json!(["shop"]), true), (json!(["web"]), false)]
    {
        let mut scene = scene(Routing::Host);
        let http = json!({"virtualServiceNamespaces": namespaces});
        scene.put(GATEWAY, gateway("gateway-proxy", json!({"bindPort": 8080, "httpGateway": http})));
        scene.want(&id, named(&id, 80, "http", &BOOKS));
        let rendered = scene.render();
        assert_eq!((rendered.refused.is_empty(), rendered.objects.is_empty()), (taken, !taken), "{namespaces}");
        if !taken {
            assert_eq!(rendered.refused[&id].reason, Reason::RefNotPermitted);
            assert!(rendered.refused[&id].message.contains("virtualServiceNamespaces"));
        }
    }
}

fn site(domains: Value) -> Value {
    object("web", "site", json!({"virtualHost": {"domains": domains, "routes": []}}))
}

#[test]
fn g17_a_name_that_somebodys_virtual_service_answers_to_is_never_taken() {
    let id = tcp("shop/books", 80);
    let mut secure = site(json!(["books-east"]));
    secure["spec"]["sslConfig"] = json!({"secretRef": {"name": "a", "namespace": "b"}});
    for (theirs, conflict) in [
        (site(json!(["site.example", "Books-East"])), true),
        (site(json!(["books-east:80"])), true),
        (site(json!(["*.cluster.local"])), true),
        (site(json!(["books-*"])), true),
        // Those for every name have none of their own, and those of TLS are elsewhere.
        (site(json!(["*"])), false),
        (site(json!(["books-east:8080", "books-west"])), false),
        (secure, false),
    ] {
        let mut scene = scene(Routing::Host);
        scene.want(&id, named(&id, 80, "http", &BOOKS));
        scene.apply();
        scene.put(VIRTUAL_SERVICE, theirs.clone());
        let (rendered, wrote) = scene.apply();
        let gone = if conflict { 2 } else { 0 };
        assert_eq!((rendered.refused.contains_key(&id), wrote.len()), (conflict, gone), "{theirs}");
        if conflict {
            assert_eq!(rendered.refused[&id].reason, Reason::NameConflict);
            assert!(rendered.refused[&id].message.contains("web/site"), "{}", rendered.refused[&id].message);
        }
        let left = scene.objects.get(VIRTUAL_SERVICE, &"web/site".parse().unwrap());
        assert_eq!(left, Some(&theirs), "theirs is left as it is");
    }
}

#[test]
fn g17_of_two_bindings_the_older_virtual_service_keeps_the_name() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    scene.apply();
    scene.put(VIRTUAL_SERVICE, of_other_binding(site(json!(["books-east"])), "2026-06-01T00:00:00Z"));
    assert!(scene.render().refused.is_empty());
    scene.put(VIRTUAL_SERVICE, of_other_binding(site(json!(["books-east"])), "2025-06-01T00:00:00Z"));
    assert_eq!(scene.render().refused[&id].reason, Reason::NameConflict);
}

#[test]
fn what_gloo_rejects_is_not_programmed_and_what_it_accepts_is_no_more_than_that() {
    let mut scene = scene(Routing::Host);
    let id = tcp("shop/books", 80);
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    let (rendered, _) = scene.apply();
    let key = one(&rendered, VIRTUAL_SERVICE).id.key.clone();
    let status = |state: Value| json!({"state": state, "reason": "domain conflict", "reportedBy": "gateway"});
    for (status, rejected) in [
        (json!({"statuses": {"gloo-system": status(json!("Rejected"))}}), true),
        (json!({"statuses": {"gloo-system": status(json!(2))}}), true),
        (status(json!(2)), true),
        (json!({"statuses": {"gloo-system": status(json!("Accepted"))}}), false),
        (status(json!(3)), false),
        (json!({}), false),
    ] {
        scene.change(VIRTUAL_SERVICE, &key, |object| object["status"] = status.clone());
        match scene.programmed(&id) {
            Programmed::No(refusal) => {
                assert!(rejected && refusal.message.contains("domain conflict"), "{status}: {}", refusal.message);
            }
            other => assert_eq!((rejected, other), (false, Programmed::Yes), "{status}"),
        }
    }
    scene.written.insert(one(&rendered, UPSTREAM).id.clone(), scene.now);
    assert!(matches!(scene.programmed(&id), Programmed::Pending(_, Some(_))));
    scene.written.clear();
    scene.ready.clear();
    assert!(matches!(scene.programmed(&id), Programmed::Pending(_, None)));
}

#[test]
fn sni_and_routes_without_names_are_refused() {
    let mut scene = scene(Routing::Sni);
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::UnsupportedValue);
    assert!(refusal.message.contains("SNI"), "{}", refusal.message);
    let id = tcp("shop/vault", 443);
    scene.want(&id, named(&id, 443, "https", &BOOKS));
    assert_eq!((scene.render().objects.len(), scene.render().refused.len()), (0, 1));
    let mut scene = self::scene(Routing::Host);
    scene.want(&id, named(&id, 80, "http", &[]));
    assert_eq!(scene.render().refused[&id].reason, Reason::NameConflict);
}

#[test]
fn g09_what_is_missing_is_said() {
    let mut scene = scene(Routing::Port);
    scene.not_served(VIRTUAL_SERVICE);
    assert!(scene.gateway().is_ok(), "with Port no VirtualService is needed");
    scene.not_served(UPSTREAM);
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::ProviderNotInstalled);
    let mut scene = self::scene(Routing::Host);
    scene.services.clear();
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::RefNotFound);
}
