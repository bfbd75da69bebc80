use jiff::SignedDuration;

use super::*;
use crate::{
    core::model::{Ingress, Origin},
    gateway::scene::{Scene, count, front, named, one, port, route, tcp, udp},
};

const EMISSARY: &str = "emissary/emissary-ingress";

fn key() -> Key {
    EMISSARY.parse().unwrap()
}

/// Service emissary/emissary-ingress, a LoadBalancer at 192.0.2.7, whose ports 80 and 443 lead to Listeners and
/// 20001 and 20002 to pod ports 6001 and 6002; and a ready pod.
fn scene(routing: Routing) -> Scene {
    let provider = json!({"emissary": {"serviceRef": {"namespace": "emissary", "name": "emissary-ingress"}}});
    let mut scene = Scene::new(routing, provider);
    let ports = [("http", 80, 8080), ("https", 443, 8443), ("t1", 20_001, 6001), ("t2", 20_002, 6002)];
    let ports = ports.map(|(name, number, inside)| leads(port(name, number), inside));
    let mut service = front(OriginType::LoadBalancer, ports.to_vec());
    service.ingress = vec![Ingress::Ip("192.0.2.7".into())].into();
    scene.services.insert(key(), service);
    scene.ready.insert(key());
    for (name, port) in [("plain", 8080), ("secure", 8443)] {
        scene.put(LISTENER, listener(name, json!({"port": port, "protocol": "HTTPS", "securityModel": "XFP"})));
    }
    scene
}

fn leads(port: OriginPort, inside: u16) -> OriginPort {
    OriginPort { pod_port: Some(inside), node_port: Some(port.port + 10_000), ..port }
}

fn service(scene: &mut Scene) -> &mut Origin {
    scene.services.get_mut(&key()).unwrap()
}

fn object(name: &str, spec: Value) -> Value {
    let meta = json!({"namespace": "web", "name": name, "creationTimestamp": "2026-06-01T00:00:00Z"});
    json!({"metadata": meta, "spec": spec})
}

fn listener(name: &str, mut spec: Value) -> Value {
    spec["hostBinding"] = json!({"namespace": {"from": "ALL"}});
    object(name, spec)
}

fn host(name: &str, hostname: &str, action: &str) -> Value {
    object(name, json!({"hostname": hostname, "requestPolicy": {"insecure": {"action": action}}}))
}

fn of_other_binding(mut object: Value, created: &str) -> Value {
    object["metadata"]["labels"] =
        json!({"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "other"});
    object["metadata"]["creationTimestamp"] = json!(created);
    object
}

fn is_pending(programmed: &Programmed) -> bool {
    matches!(programmed, Programmed::Pending(..))
}

#[test]
fn ports_are_those_of_the_service_that_nothing_of_emissary_uses() {
    let mut scene = scene(Routing::Port);
    let more = [leads(port("t3", 20_003), 6001), leads(port("admin", 20_004), 8877)];
    service(&mut scene).ports.edit(|ports| ports.extend(more));
    service(&mut scene).ports.edit(|ports| ports.push(OriginPort { pod_port: None, ..port("named", 20_005) }));
    service(&mut scene)
        .ports
        .edit(|ports| ports.push(OriginPort { protocol: Protocol::Udp, ..leads(port("u1", 20_001), 6001) }));
    let found = scene.gateway().unwrap();
    assert_eq!(found.identity, ["emissary", "Service", "emissary", "emissary-ingress"].map(str::to_owned));
    assert_eq!((found.addresses, found.unwell, found.confirms), (vec!["192.0.2.7".to_owned()], None, false));
    let (supply, tcp) = (found.ports, Protocol::Tcp);
    assert_eq!(supply.protocols, [tcp].into(), "no UDP");
    let pool = [80, 443, 20_001, 20_002, 20_003, 20_004].map(|number| (tcp, number));
    assert_eq!(supply.pool, Some(pool.into()), "not 20005, of which nobody knows where it leads");
    let taken: Vec<u16> = supply.taken.keys().map(|(_, number)| *number).collect();
    assert_eq!(taken, [80, 443, 20_003, 20_004], "Listeners, the same pod port as 20001, Emissary's own");
    assert!(supply.has(tcp, 20_001) && supply.has(tcp, 20_002));
    for words in ["Service emissary/emissary-ingress", "port 20005", "web/plain"] {
        assert!(supply.hint.contains(words), "{}", supply.hint);
    }
}

#[test]
fn g08_a_pod_port_that_somebody_uses_is_taken() {
    let mapping = |port: u16| object("theirs", json!({"port": port, "service": "a.b:80"}));
    let ours = "2026-01-01T00:00:00Z";
    for (kind, theirs, taken) in [
        (TCP_MAPPING, mapping(6001), true),
        (TCP_MAPPING, object("theirs", json!({"port": 6001, "host": "a.b", "service": "a.b:80"})), true),
        (TCP_MAPPING, mapping(20_001), false),
        (LISTENER, listener("theirs", json!({"port": 6001, "protocol": "HTTP", "securityModel": "INSECURE"})), true),
        (LISTENER, listener("theirs", json!({"port": 6001, "protocolStack": ["TLS", "TCP"]})), true),
        // What Emissary would make of it by itself.
        (LISTENER, listener("theirs", json!({"port": 6001, "protocol": "TCP", "securityModel": "SECURE"})), false),
        // The claim of the port speaks for it.
        (TCP_MAPPING, of_other_binding(mapping(6001), ours), false),
    ] {
        let mut scene = scene(Routing::Port);
        scene.put(kind, theirs.clone());
        let supply = scene.gateway().unwrap().ports;
        assert_eq!(!supply.has(Protocol::Tcp, 20_001), taken, "{kind} {theirs}");
        assert!(supply.has(Protocol::Tcp, 20_002));
    }
}

#[test]
fn a_port_is_a_tcp_mapping_on_the_pod_port_that_the_service_leads_to() {
    let mut scene = scene(Routing::Port);
    let (db, dns) = (tcp("shop/db", 5432), udp("shop/db", 53));
    scene.want_port(&db, 20_002);
    scene.want_port(&dns, 20_001);
    let (rendered, _) = scene.apply();
    assert_eq!(rendered.refused.keys().collect::<Vec<_>>(), [&dns]);
    assert_eq!(rendered.refused[&dns].reason, Reason::PortUnsupported);
    assert_eq!(rendered.objects.len(), 1);
    let mapping = one(&rendered, TCP_MAPPING);
    assert_eq!(mapping.id.key.namespace, "shop");
    assert_eq!(mapping.owner.as_ref().map(|o| (o.kind, o.name.as_str())), Some(("Service", "db")));
    assert_eq!(
        Value::Object(mapping.whole())["spec"],
        json!({"port": 6002, "service": "db.shop.svc.cluster.local:5432"})
    );
    assert_eq!(scene.programmed(&db), Programmed::Yes);
    // Somebody has TLS taken off what comes.
    let key = mapping.id.key.clone();
    scene.change(TCP_MAPPING, &key, |mapping| mapping["spec"]["host"] = json!("a.b"));
    assert!(is_pending(&scene.programmed(&db)));
    assert_eq!(scene.apply().1.len(), 1);
    assert_eq!(scene.objects.get(TCP_MAPPING, &key).unwrap()["spec"]["host"], Value::Null);
    // Without the port of the Service nothing leads there.
    service(&mut scene).ports.edit(|ports| ports.retain(|port| port.port != 20_002));
    let (rendered, wrote) = scene.apply();
    assert_eq!((rendered.objects.len(), rendered.refused[&db].reason), (0, Reason::PortUnsupported));
    assert_eq!(wrote.len(), 1);
}

#[test]
fn the_routes_of_the_binding_itself_take_no_port_from_it() {
    let mut scene = scene(Routing::Port);
    scene.want_port(&tcp("shop/db", 5432), 20_001);
    scene.apply();
    assert!(scene.gateway().unwrap().ports.has(Protocol::Tcp, 20_001));
}

#[test]
fn a_headless_service_is_reached_at_the_port_of_its_pods() {
    let mut scene = scene(Routing::Port);
    let db = tcp("shop/db", 5432);
    scene.services.insert(db.service.clone(), front(OriginType::Headless, vec![]));
    let mut wanted = route(&db, 20_001);
    wanted.port.pod_port = Some(6432);
    scene.want(&db, wanted.clone());
    assert_eq!(one(&scene.render(), TCP_MAPPING).body["spec"]["service"], "db.shop.svc.cluster.local:6432");
    wanted.port.pod_port = None;
    scene.want(&db, wanted.clone());
    assert_eq!(scene.render().refused[&db].reason, Reason::PortUnsupported);
    scene.services.get_mut(&db.service).unwrap().kind = OriginType::ClusterIp;
    assert_eq!(one(&scene.render(), TCP_MAPPING).body["spec"]["service"], "db.shop.svc.cluster.local:5432");
}

#[test]
fn behind_node_ports_the_outside_ports_are_those() {
    let mut scene = scene(Routing::Port);
    service(&mut scene).kind = OriginType::NodePort;
    let supply = scene.gateway().unwrap().ports;
    assert!(supply.has(Protocol::Tcp, 30_001) && !supply.has(Protocol::Tcp, 20_001));
    let db = tcp("shop/db", 5432);
    scene.want_port(&db, 30_001);
    assert_eq!(one(&scene.render(), TCP_MAPPING).body["spec"]["port"], 6001);
}

const BOOKS: [&str; 2] = ["books-east", "books-east.shop.svc.cluster.local"];

#[test]
fn a_host_is_a_mapping_for_each_name_with_and_without_the_port() {
    let mut scene = scene(Routing::Host);
    let id = tcp("shop/books", 80);
    let mut wanted = named(&id, 80, "http", &BOOKS);
    wanted.rewrite = Some("books.shop.svc.cluster.local".into());
    scene.want(&id, wanted.clone());
    let (rendered, _) = scene.apply();
    assert_eq!((rendered.objects.len(), count(&rendered, MAPPING)), (4, 4), "no Host and no Listener");
    let names: Vec<&str> = rendered.objects.iter().map(|o| o.body["spec"]["hostname"].as_str().unwrap()).collect();
    let domain = "books-east.shop.svc.cluster.local";
    assert_eq!(names, ["books-east", "books-east:80", domain, "books-east.shop.svc.cluster.local:80"]);
    assert_eq!(
        Value::Object(rendered.objects[0].whole())["spec"],
        json!({
            "hostname": "books-east", "prefix": "/", "service": "books.shop.svc.cluster.local:80", "precedence": 1,
            "rewrite": "", "timeout_ms": 0, "grpc": false, "allow_upgrade": ["websocket"],
            "host_rewrite": "books.shop.svc.cluster.local",
        })
    );
    assert_eq!(scene.programmed(&id), Programmed::Yes);

    wanted.rewrite = None;
    wanted.hostnames.pop();
    wanted.port.name = "grpc".into();
    scene.want(&id, wanted);
    let (rendered, wrote) = scene.apply();
    assert_eq!(wrote.len(), 4, "two changed, two gone: {wrote:?}");
    let spec = &scene.objects.get(MAPPING, &rendered.objects[0].id.key).unwrap()["spec"];
    assert_eq!(
        (&spec["host_rewrite"], &spec["grpc"], &spec["allow_upgrade"]),
        (&Value::Null, &json!(true), &json!([]))
    );
}

#[test]
fn no_name_stands_in_two_mappings_of_a_service() {
    let mut scene = scene(Routing::Host);
    for port in [80, 9090] {
        let id = tcp("shop/books", port);
        scene.want(&id, named(&id, 80, "http", &["books-east"]));
    }
    let rendered = scene.render();
    let names: Vec<&Value> = rendered.objects.iter().map(|object| &object.body["spec"]["hostname"]).collect();
    assert_eq!(names, ["books-east", "books-east:80", "books-east:9090"]);
}

#[test]
fn names_come_in_by_ports_that_lead_to_a_listener_of_http() {
    let mut scene = scene(Routing::Host);
    assert_eq!(scene.gateway().unwrap().listeners, [80], "443 is for TLS");
    scene.put(LISTENER, listener("more", json!({"port": 6001, "protocol": "HTTP", "securityModel": "INSECURE"})));
    assert_eq!(scene.gateway().unwrap().listeners, [80, 20_001]);
    // A name as targetPort may lead to any.
    service(&mut scene).ports.edit(|ports| ports[0].pod_port = None);
    assert_eq!(scene.gateway().unwrap().listeners, [80, 20_001]);
    service(&mut scene).ports.edit(|ports| ports[0].pod_port = Some(8080));
    scene.put(LISTENER, listener("plain", json!({"port": 8080, "protocol": "HTTPS", "securityModel": "SECURE"})));
    scene.put(LISTENER, listener("more", json!({"port": 6001, "protocolStack": ["TLS", "HTTP", "UDP"]})));
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::UnsupportedValue);
    assert!(refusal.message.contains("Listener") && refusal.message.contains(EMISSARY), "{}", refusal.message);
}

#[test]
fn g17_a_name_that_somebodys_mapping_answers_to_is_never_taken() {
    let id = tcp("shop/books", 80);
    for (spec, conflict) in [
        (json!({"hostname": "Books-East", "prefix": "/x/"}), true),
        (json!({"host": "books-east", "prefix": "/"}), true),
        (json!({"headers": {":authority": "books-east"}, "prefix": "/"}), true),
        (json!({"hostname": "*.svc.cluster.local", "prefix": "/"}), true),
        (json!({"hostname": "books-east:80", "prefix": "/"}), true),
        (json!({"hostname": "books-east:8080", "prefix": "/"}), false),
        // Those for every name have none of their own, and expressions are not read.
        (json!({"hostname": "*", "prefix": "/"}), false),
        (json!({"prefix": "/"}), false),
        (json!({"host": "books-east", "host_regex": true, "prefix": "/"}), false),
        (json!({"hostname": "books-west", "prefix": "/"}), false),
    ] {
        let mut scene = scene(Routing::Host);
        scene.want(&id, named(&id, 80, "http", &BOOKS));
        scene.apply();
        let theirs = object("site", spec.clone());
        scene.put(MAPPING, theirs.clone());
        let (rendered, wrote) = scene.apply();
        assert_eq!(
            (rendered.refused.contains_key(&id), wrote.len()),
            (conflict, if conflict { 4 } else { 0 }),
            "{spec}"
        );
        if conflict {
            assert_eq!(rendered.refused[&id].reason, Reason::NameConflict);
            assert!(rendered.refused[&id].message.contains("web/site"), "{}", rendered.refused[&id].message);
        }
        assert_eq!(scene.objects.get(MAPPING, &"web/site".parse().unwrap()), Some(&theirs), "theirs is left as it is");
    }
}

#[test]
fn g17_of_two_bindings_the_older_mapping_keeps_the_name() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    scene.apply();
    let other = object("other", json!({"hostname": "books-east", "prefix": "/"}));
    scene.put(MAPPING, of_other_binding(other.clone(), "2026-06-01T00:00:00Z"));
    assert!(scene.render().refused.is_empty());
    scene.put(MAPPING, of_other_binding(other, "2025-06-01T00:00:00Z"));
    assert_eq!(scene.render().refused[&id].reason, Reason::NameConflict);
}

#[test]
fn where_there_are_hosts_the_closest_one_must_route_what_comes_without_tls() {
    let id = tcp("shop/books", 80);
    let selecting = |labels: Value| {
        let mut host = host("a", "books-east", "Route");
        host["spec"]["mappingSelector"] = json!({"matchLabels": labels});
        host
    };
    for (hosts, carried) in [
        (vec![], true),
        (vec![host("a", "site.example", "Route")], false),
        (vec![host("a", "*", "Route")], true),
        (vec![object("a", json!({}))], false),
        (vec![host("a", "*", "Redirect")], false),
        (vec![host("a", "*", "Redirect"), host("b", "books-east", "Route")], true),
        (vec![host("a", "*", "Route"), host("b", "books-east", "Reject")], false),
        (vec![host("a", "books-*", "Reject"), host("b", "*-east", "Route")], true),
        (vec![selecting(json!({"heliostat.dev/binding": "public"}))], true),
        (vec![selecting(json!({"heliostat.dev/binding": "other"}))], false),
    ] {
        let mut scene = scene(Routing::Host);
        for host in &hosts {
            scene.put(HOST, host.clone());
        }
        scene.want(&id, named(&id, 80, "http", &["books-east"]));
        let rendered = scene.render();
        assert_eq!(rendered.refused.is_empty(), carried, "{hosts:?}");
        if !carried {
            assert_eq!((rendered.objects.len(), rendered.refused[&id].reason), (0, Reason::UnsupportedValue));
            assert!(
                rendered.refused[&id].message.contains("hostname: books-east"),
                "{}",
                rendered.refused[&id].message
            );
        }
    }
}

#[test]
fn where_there_are_hosts_one_must_be_for_the_name_as_callers_write_it() {
    let id = tcp("shop/books", 9090);
    let mut scene = scene(Routing::Host);
    scene.want(&id, named(&id, 80, "grpc", &["books-east"]));
    scene.put(HOST, host("a", "books-east", "Route"));
    let refusal = &scene.render().refused[&id];
    assert!(refusal.message.contains("hostname: books-east:9090"), "{}", refusal.message);
    scene.put(HOST, host("b", "books-east:9090", "Route"));
    assert!(scene.render().refused.is_empty());
}

#[test]
fn sni_is_refused_and_so_is_a_route_without_names() {
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
fn nothing_is_programmed_before_all_of_it_had_its_time_and_a_ready_pod() {
    let mut scene = scene(Routing::Host);
    let id = tcp("shop/books", 80);
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    let (rendered, _) = scene.apply();
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    scene.written.insert(rendered.objects[1].id.clone(), scene.now);
    let Programmed::Pending(_, Some(until)) = scene.programmed(&id) else { panic!() };
    assert_eq!(until, scene.now + SignedDuration::from_secs(3));
    scene.now = until;
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    scene.ready.clear();
    assert!(is_pending(&scene.programmed(&id)));
    assert_eq!(scene.gateway().unwrap().unwell.unwrap().reason, Reason::Pending);
}

#[test]
fn g09_what_is_missing_is_said() {
    let mut scene = scene(Routing::Port);
    scene.not_served(MAPPING);
    assert!(scene.gateway().is_ok(), "with Port no Mapping is needed");
    scene.not_served(TCP_MAPPING);
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::ProviderNotInstalled);
    assert!(refusal.message.contains("v3alpha1"), "{}", refusal.message);
    let mut scene = self::scene(Routing::Host);
    scene.services.clear();
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::RefNotFound);
}
