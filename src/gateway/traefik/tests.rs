use jiff::SignedDuration;

use super::*;
use crate::{
    core::{
        export::object::{KindNews, ObjectId},
        model::{Ingress, OriginType},
    },
    gateway::scene::{Scene, front, named, one, port, tcp, udp},
};

const TRAEFIK: &str = "traefik/traefik";

fn key() -> Key {
    TRAEFIK.parse().unwrap()
}

fn point(name: &str, port: u16, protocol: &str) -> Value {
    json!({"name": name, "port": port, "protocol": protocol})
}

fn points() -> Value {
    json!([
        point("h1", 20_001, "TCP"),
        point("h2", 20_002, "TCP"),
        point("u1", 20_001, "UDP"),
        point("websecure", 443, "TCP"),
        point("web", 80, "TCP"),
    ])
}

/// Service traefik/traefik, a LoadBalancer at 192.0.2.7 with all of these ports, and a ready pod.
fn scene(routing: Routing) -> Scene {
    scene_with(routing, points(), json!({}))
}

fn scene_with(routing: Routing, points: Value, export: Value) -> Scene {
    let provider =
        json!({"traefik": {"serviceRef": {"namespace": "traefik", "name": "traefik"}, "entryPoints": points}});
    let mut scene = Scene::with(routing, provider, export);
    let ports =
        [80, 443, 20_001, 20_002].map(|number| OriginPort { node_port: Some(number + 10_080), ..port("", number) });
    let dns = OriginPort { protocol: Protocol::Udp, ..ports[2].clone() };
    let mut service = front(OriginType::LoadBalancer, [&ports[..], &[dns]].concat());
    service.ingress = vec![Ingress::Ip("192.0.2.7".into())].into();
    scene.services.insert(key(), service);
    scene.ready.insert(key());
    scene
}

/// Somebody's route on these entry points.
fn theirs(kind: Kind, entry_points: &[&str], rule: &str, tls: bool) -> (Kind, Value) {
    let tls = if tls { json!({"passthrough": kind == INGRESS_ROUTE_TCP}) } else { Value::Null };
    let object = json!({
        "metadata": {"namespace": "web", "name": "site", "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {"entryPoints": entry_points, "routes": [{"match": rule, "services": [{"name": "site", "port": 80}]}], "tls": tls},
    });
    (kind, object)
}

/// The same, made by Heliostat for another binding at that time.
fn of_other_binding((kind, mut object): (Kind, Value), created: &str) -> (Kind, Value) {
    object["metadata"]["labels"] =
        json!({"app.kubernetes.io/managed-by": "heliostat", "heliostat.dev/binding": "other"});
    object["metadata"]["creationTimestamp"] = json!(created);
    (kind, object)
}

fn refusal(scene: &Scene, id: &RouteId) -> Refusal {
    let rendered = scene.render();
    assert!(rendered.objects.iter().all(|o| o.id.key.name != route_name("public", id)), "{rendered:?}");
    rendered.refused[id].clone()
}

fn is_pending(programmed: &Programmed) -> bool {
    matches!(programmed, Programmed::Pending(..))
}

#[test]
fn ports_come_from_the_entry_points_that_the_service_leads_to() {
    let mut listed = points();
    listed.as_array_mut().unwrap().push(point("h9", 20_009, "TCP"));
    let found = scene_with(Routing::Port, listed, json!({})).gateway().unwrap();
    assert_eq!(found.identity, ["traefik", "Service", "traefik", "traefik"].map(str::to_owned));
    assert_eq!(found.addresses, ["192.0.2.7"]);
    assert_eq!((found.unwell, found.confirms, found.tls_identity), (None, false, None));
    assert!(found.listeners.is_empty());
    let (supply, tcp, udp) = (found.ports, Protocol::Tcp, Protocol::Udp);
    let pool = [(tcp, 80), (tcp, 443), (tcp, 20_001), (tcp, 20_002), (udp, 20_001)];
    assert_eq!(supply.pool, Some(pool.into()), "not 20009, which the Service does not have, nor UDP 20002");
    assert_eq!((&supply.taken, &supply.protocols), (&BTreeMap::new(), &[tcp, udp].into()));
    for words in ["start-up arguments", "Service traefik/traefik", "entryPoints", "entry point h9"] {
        assert!(supply.hint.contains(words), "{}", supply.hint);
    }
}

#[test]
fn a_port_is_a_tcp_or_udp_route_that_takes_whatever_comes() {
    let mut scene = scene(Routing::Port);
    let (web, dns) = (tcp("shop/books", 53), udp("shop/books", 53));
    scene.want(&web, named(&web, 20_002, "dns-tcp", &[]));
    scene.want_port(&dns, 20_001);
    let (rendered, wrote) = scene.apply();
    assert_eq!((wrote.len(), rendered.objects.len(), rendered.refused.len()), (2, 2, 0));
    let route = one(&rendered, INGRESS_ROUTE_TCP);
    assert_eq!(route.id.key.namespace, "shop");
    assert_eq!(route.owner.as_ref().map(|o| (o.kind, o.name.as_str())), Some(("Service", "books")));
    // By name: by number Traefik would take the port of the other protocol.
    assert_eq!(
        Value::Object(route.whole())["spec"],
        json!({"entryPoints": ["h2"], "routes": [{"match": "HostSNI(`*`)", "services": [{"name": "books", "port": "dns-tcp"}]}]})
    );
    let route = one(&rendered, INGRESS_ROUTE_UDP);
    assert_eq!(
        route.body["spec"],
        json!({"entryPoints": ["u1"], "routes": [{"services": [{"name": "books", "port": 53}]}]})
    );
    assert_eq!([scene.programmed(&web), scene.programmed(&dns)], [Programmed::Yes, Programmed::Yes]);

    scene.plan.routes.remove(&dns);
    let (_, wrote) = scene.apply();
    assert_eq!(wrote.len(), 1);
    assert!(wrote[0].starts_with("-IngressRouteUDP"), "{wrote:?}");
}

#[test]
fn an_edited_route_is_repaired_and_not_programmed_until_then() {
    let mut scene = scene(Routing::Port);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    let (rendered, _) = scene.apply();
    let route = one(&rendered, INGRESS_ROUTE_TCP).id.key.clone();
    for (field, value) in [("entryPoints", json!(["h2"])), ("tls", json!({})), ("routes", json!([]))] {
        scene.change(INGRESS_ROUTE_TCP, &route, |object| object["spec"][field] = value);
        assert!(is_pending(&scene.programmed(&id)), "{field}");
        let (_, wrote) = scene.apply();
        assert_eq!(wrote.len(), 1, "{field}");
        assert_eq!(scene.programmed(&id), Programmed::Yes, "{field}");
    }
}

#[test]
fn g08_an_entry_point_that_somebody_uses_is_taken() {
    let any = "HostSNI(`*`)";
    let (t1, t2, u1) = ((Protocol::Tcp, 20_001), (Protocol::Tcp, 20_002), (Protocol::Udp, 20_001));
    let all_tcp = vec![(Protocol::Tcp, 80), (Protocol::Tcp, 443), t1, t2];
    for ((kind, object), taken) in [
        (theirs(INGRESS_ROUTE_TCP, &["h1"], any, false), vec![t1]),
        (theirs(INGRESS_ROUTE_TCP, &["h1"], "HostSNI(`a.b`)", true), vec![t1]),
        (theirs(INGRESS_ROUTE, &["h2", "h1"], "PathPrefix(`/`)", false), vec![t1, t2]),
        (theirs(INGRESS_ROUTE_UDP, &["u1"], "", false), vec![u1]),
        // Without entry points: all that Traefik was started with as default ones.
        (theirs(INGRESS_ROUTE_TCP, &[], any, false), all_tcp.clone()),
        (theirs(INGRESS_ROUTE, &[], "Host(`a.b`)", true), all_tcp),
        (theirs(INGRESS_ROUTE_UDP, &[], "", false), vec![u1]),
        // A TCP route goes before plain HTTP, so that this steals nothing.
        (theirs(INGRESS_ROUTE, &[], "Host(`a.b`)", false), vec![]),
        (theirs(INGRESS_ROUTE_TCP, &["other"], any, false), vec![]),
        // Names of entry points of the other protocol.
        (theirs(INGRESS_ROUTE_UDP, &["h1"], "", false), vec![]),
        // Other bindings: with Port the claim of the port speaks for them, else they use it.
        (of_other_binding(theirs(INGRESS_ROUTE_TCP, &["h1"], any, false), "2026-01-01T00:00:00Z"), vec![]),
        (
            of_other_binding(theirs(INGRESS_ROUTE_TCP, &["h1"], "HostSNI(`a.b`)", true), "2026-01-01T00:00:00Z"),
            vec![t1],
        ),
        (of_other_binding(theirs(INGRESS_ROUTE, &["h1"], "Host(`a.b`)", false), "2026-01-01T00:00:00Z"), vec![t1]),
    ] {
        let mut scene = scene(Routing::Port);
        scene.put(kind, object.clone());
        let supply = scene.gateway().unwrap().ports;
        assert_eq!(supply.taken.keys().copied().collect::<Vec<_>>(), taken, "{kind} {object}");
        assert!(taken.iter().all(|(protocol, port)| !supply.has(*protocol, *port)));
        assert_eq!(supply.hint.contains("web/site"), !taken.is_empty(), "{}", supply.hint);
    }
}

#[test]
fn the_routes_of_the_binding_itself_take_no_entry_point_from_it() {
    let mut scene = scene(Routing::Port);
    for (service, port) in [("shop/books", 20_001), ("shop/films", 20_002)] {
        scene.want_port(&tcp(service, 80), port);
    }
    scene.apply();
    assert_eq!(scene.gateway().unwrap().ports.taken, BTreeMap::new());
}

const BOOKS: [&str; 2] = ["books-east", "books-east.shop.svc.cluster.local"];

#[test]
fn a_host_is_a_rule_on_the_entry_point_of_port_80() {
    let mut scene = scene(Routing::Host);
    assert_eq!(scene.gateway().unwrap().listeners, [80, 20_001, 20_002], "443 is for TLS");
    let id = tcp("shop/books", 443);
    let mut wanted = named(&id, 80, "http", &BOOKS);
    wanted.rewrite = Some("books.shop.svc.cluster.local".into());
    scene.want(&id, wanted.clone());
    let (rendered, _) = scene.apply();
    let route = one(&rendered, INGRESS_ROUTE);
    let name = route.id.key.name.clone();
    assert_eq!(
        Value::Object(route.whole())["spec"],
        json!({
            "entryPoints": ["web"],
            "routes": [{
                "kind": "Rule",
                "match": "Host(`books-east`) || Host(`books-east.shop.svc.cluster.local`)",
                "priority": 20,
                "middlewares": [{"name": name}],
                // Without a scheme Traefik would speak TLS to a port 443.
                "services": [{"name": "books", "port": "http", "scheme": "http", "passHostHeader": true}],
            }],
        })
    );
    let rewrite = one(&rendered, MIDDLEWARE);
    assert_eq!((rewrite.id.key.namespace.as_str(), &rewrite.id.key.name), ("shop", &name));
    assert_eq!(
        rewrite.body["spec"],
        json!({"headers": {"customRequestHeaders": {"Host": "books.shop.svc.cluster.local"}}})
    );
    assert_eq!(rendered.objects.len(), 2);
    assert_eq!(scene.programmed(&id), Programmed::Yes);

    wanted.rewrite = None;
    scene.want(&id, wanted);
    assert!(is_pending(&scene.programmed(&id)), "the rule still names the Middleware");
    let (rendered, wrote) = scene.apply();
    assert_eq!((rendered.objects.len(), wrote.len()), (1, 2), "{wrote:?}");
    assert_eq!(one(&rendered, INGRESS_ROUTE).body["spec"]["routes"][0]["middlewares"], json!([]));
    assert_eq!(scene.programmed(&id), Programmed::Yes);
}

#[test]
fn backends_of_http_2_are_spoken_to_so() {
    let mut scene = scene(Routing::Host);
    let id = tcp("shop/books", 80);
    for (name, scheme) in [("grpc", "h2c"), ("h2c", "h2c"), ("http", "http"), ("grpc-web", "http")] {
        scene.want(&id, named(&id, 80, name, &BOOKS));
        let rendered = scene.render();
        let route = one(&rendered, INGRESS_ROUTE);
        assert_eq!(route.body["spec"]["routes"][0]["services"][0]["scheme"], scheme, "{name}");
    }
}

#[test]
fn sni_passes_tls_through_on_the_entry_point_of_port_443() {
    let mut scene = scene(Routing::Sni);
    assert_eq!(scene.gateway().unwrap().listeners, [443, 20_001, 20_002], "80 is for plaintext");
    let id = tcp("shop/vault", 8443);
    scene.want(&id, named(&id, 443, "https", &["vault-east", "vault-east.shop"]));
    let (rendered, _) = scene.apply();
    assert_eq!(rendered.objects.len(), 1);
    assert_eq!(
        one(&rendered, INGRESS_ROUTE_TCP).body["spec"],
        json!({
            "entryPoints": ["websecure"],
            "routes": [{
                "match": "HostSNI(`vault-east`) || HostSNI(`vault-east.shop`)",
                "priority": 20,
                "services": [{"name": "vault", "port": "https"}],
            }],
            "tls": {"passthrough": true},
        })
    );
    assert_eq!(scene.programmed(&id), Programmed::Yes);
}

#[test]
fn without_an_entry_point_that_can_carry_it_a_binding_is_refused() {
    for (routing, points) in [
        (Routing::Host, json!([point("websecure", 443, "TCP"), point("u1", 20_001, "UDP")])),
        (Routing::Sni, json!([point("web", 80, "TCP")])),
        (Routing::Sni, json!([point("unled", 8443, "TCP")])),
    ] {
        let refusal = scene_with(routing, points, json!({})).gateway().unwrap_err();
        assert_eq!(refusal.reason, Reason::UnsupportedValue);
        assert!(refusal.message.contains("entryPoints") && refusal.message.contains(TRAEFIK), "{}", refusal.message);
    }
    // The spec's order, where the usual one is not there.
    let points = json!([point("h2", 20_002, "TCP"), point("h1", 20_001, "TCP")]);
    assert_eq!(scene_with(Routing::Host, points, json!({})).gateway().unwrap().listeners, [20_002, 20_001]);
}

#[test]
fn g17_a_name_that_somebodys_route_answers_to_is_never_taken() {
    let id = tcp("shop/books", 80);
    let sni = "HostSNI(`Books-East`)";
    for (routing, (kind, object), conflict) in [
        (
            Routing::Host,
            theirs(INGRESS_ROUTE, &["web"], "Host(`a.b`) || (Host(`books-east`) && Path(`/`))", false),
            true,
        ),
        (Routing::Host, theirs(INGRESS_ROUTE, &[], "Host(`books-east`)", false), true),
        (Routing::Host, theirs(INGRESS_ROUTE, &["h1"], "Host(`books-east`)", false), false),
        (Routing::Host, theirs(INGRESS_ROUTE, &["web"], "Host(`books-east.shop`) || PathPrefix(`/`)", false), false),
        // Before HTTP routes Traefik asks TCP ones.
        (Routing::Host, theirs(INGRESS_ROUTE_TCP, &["web"], "HostSNI(`*`)", false), true),
        (Routing::Host, theirs(INGRESS_ROUTE_TCP, &["web"], sni, true), false),
        (Routing::Sni, theirs(INGRESS_ROUTE_TCP, &["websecure"], sni, true), true),
        (Routing::Sni, theirs(INGRESS_ROUTE_TCP, &["websecure"], "HostSNI(`*`)", true), false),
        // A route with TLS would make theirs wait for a greeting.
        (Routing::Sni, theirs(INGRESS_ROUTE_TCP, &["websecure"], "HostSNI(`*`)", false), true),
        (Routing::Sni, theirs(INGRESS_ROUTE, &["websecure"], "Host(`books-east`)", true), true),
        (Routing::Sni, theirs(INGRESS_ROUTE, &["web"], "Host(`books-east`)", true), false),
    ] {
        let mut scene = scene(routing);
        let outside = if routing == Routing::Host { 80 } else { 443 };
        scene.want(&id, named(&id, outside, "web", &BOOKS));
        scene.apply();
        // Also where theirs is the younger one.
        scene.put(kind, object.clone());
        let (rendered, wrote) = scene.apply();
        assert_eq!(rendered.refused.contains_key(&id), conflict, "{object}");
        assert_eq!(wrote.len(), usize::from(conflict), "ours goes: {object}");
        if conflict {
            let refusal = &rendered.refused[&id];
            assert_eq!(refusal.reason, Reason::NameConflict);
            assert!(refusal.message.contains("web/site"), "{}", refusal.message);
        }
        assert_eq!(scene.objects.get(kind, &"web/site".parse().unwrap()), Some(&object), "theirs is left as it is");
    }
}

#[test]
fn g17_of_two_bindings_the_older_route_keeps_the_name() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    scene.want(&id, named(&id, 80, "http", &BOOKS));
    scene.apply();
    let other = || theirs(INGRESS_ROUTE, &["web"], "Host(`books-east`)", false);
    let (kind, younger) = of_other_binding(other(), "2026-06-01T00:00:00Z");
    scene.put(kind, younger);
    assert!(scene.render().refused.is_empty());
    let (kind, older) = of_other_binding(other(), "2025-06-01T00:00:00Z");
    scene.put(kind, older);
    assert_eq!(refusal(&scene, &id).reason, Reason::NameConflict);
}

#[test]
fn a_route_without_names_or_entry_point_is_refused() {
    let id = tcp("shop/books", 80);
    let mut scene = scene(Routing::Host);
    scene.want(&id, named(&id, 80, "http", &[]));
    assert_eq!(refusal(&scene, &id).reason, Reason::NameConflict);
    scene.want(&id, named(&id, 8080, "http", &BOOKS));
    assert_eq!(refusal(&scene, &id).reason, Reason::PortUnsupported);
    assert!(matches!(scene.programmed(&id), Programmed::No(_)));
}

#[test]
fn behind_node_ports_the_outside_ports_are_those() {
    let mut scene = scene(Routing::Port);
    scene.services.get_mut(&key()).unwrap().kind = OriginType::NodePort;
    let supply = scene.gateway().unwrap().ports;
    assert!(supply.has(Protocol::Tcp, 30_081) && supply.has(Protocol::Udp, 30_081));
    assert!(!supply.has(Protocol::Tcp, 20_001));
    assert!(supply.hint.contains("is not within spec.export.ports"), "{}", supply.hint);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 30_081);
    assert_eq!(one(&scene.render(), INGRESS_ROUTE_TCP).body["spec"]["entryPoints"], json!(["h1"]));
}

#[test]
fn nothing_is_programmed_before_it_had_its_time_and_a_ready_pod() {
    let mut scene = scene(Routing::Port);
    let id = tcp("shop/books", 80);
    scene.want_port(&id, 20_001);
    assert!(is_pending(&scene.programmed(&id)));
    let (rendered, _) = scene.apply();
    let object = one(&rendered, INGRESS_ROUTE_TCP).id.clone();
    let wait = SignedDuration::from_secs(3);
    // As the object says.
    let created = "2026-01-01T00:00:00Z".parse().unwrap();
    scene.now = created;
    let Programmed::Pending(_, until) = scene.programmed(&id) else { panic!() };
    assert_eq!(until, Some(created + wait));
    scene.now = created + wait;
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    // As it was written last.
    let written = created + SignedDuration::from_secs(10);
    scene.written.insert(object, written);
    scene.now = written + SignedDuration::from_secs(2);
    let Programmed::Pending(_, until) = scene.programmed(&id) else { panic!() };
    assert_eq!(until, Some(written + wait));
    scene.now = written + wait;
    assert_eq!(scene.programmed(&id), Programmed::Yes);
    // An API server whose clock is ahead does not make it wait for its time.
    let key = ObjectId { kind: INGRESS_ROUTE_TCP, key: rendered.objects[0].id.key.clone() }.key;
    scene.change(INGRESS_ROUTE_TCP, &key, |o| o["metadata"]["creationTimestamp"] = json!("2027-01-01T00:00:00Z"));
    assert_eq!(scene.programmed(&id), Programmed::Yes);

    scene.ready.clear();
    let Programmed::Pending(why, None) = scene.programmed(&id) else { panic!() };
    assert!(why.contains(TRAEFIK), "{why}");
    assert_eq!(scene.gateway().unwrap().unwell.unwrap().reason, Reason::Pending);
    scene.ready.insert(self::key());
    scene.objects.take(INGRESS_ROUTE_TCP, KindNews::Gone(key));
    assert!(is_pending(&scene.programmed(&id)));
}

#[test]
fn g09_what_is_missing_is_said() {
    let mut scene = scene(Routing::Port);
    scene.not_served(INGRESS_ROUTE_UDP);
    assert_eq!(scene.gateway().unwrap().ports.protocols, [Protocol::Tcp].into());
    scene.not_served(INGRESS_ROUTE_TCP);
    assert_eq!(scene.gateway().unwrap_err().reason, Reason::ProviderNotInstalled);
    let mut scene = self::scene(Routing::Host);
    scene.not_served(INGRESS_ROUTE);
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::ProviderNotInstalled);
    assert!(refusal.message.contains("IngressRoute.traefik.io"), "{}", refusal.message);

    let mut scene = self::scene(Routing::Sni);
    scene.services.clear();
    let refusal = scene.gateway().unwrap_err();
    assert_eq!(refusal.reason, Reason::RefNotFound);
    assert!(refusal.message.contains(TRAEFIK), "{}", refusal.message);
    let id = tcp("shop/vault", 443);
    scene.want(&id, named(&id, 443, "https", &BOOKS));
    assert_eq!(self::refusal(&scene, &id).reason, Reason::RefNotFound);
}
