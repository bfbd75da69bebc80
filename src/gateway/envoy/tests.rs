use std::net::IpAddr;

use super::*;
use crate::{
    core::{
        envoy::EnvoyState,
        model::{Ingress, LocalNode, OriginPort, OriginType, RemoteNode},
    },
    gateway::scene::{NAMESPACE, Scene, front, named, one, port, tcp, udp},
};

const NAME: &str = "heliostat-gateway-public";

fn own() -> Key {
    Key::new(NAMESPACE, NAME)
}

/// One whose range is all ports.
fn wide(routing: Routing, service_type: &str) -> Scene {
    let range = json!({"ports": {"from": 1, "to": 65535, "lease": "24h"}});
    Scene::with(routing, json!({"envoy": {"serviceType": service_type}}), range)
}

/// Its Service is there, with a ready pod, and an address.
fn stand(scene: &mut Scene) {
    let mut service = front(OriginType::LoadBalancer, Vec::new());
    service.ingress = vec![Ingress::Ip("192.0.2.1".into()), Ingress::Hostname("lb.example".into())].into();
    scene.services.insert(own(), service);
    scene.ready.insert(own());
}

/// All Envoys do all that they are to do.
fn acknowledge(scene: &mut Scene) {
    let serving = scene.render().envoy.unwrap().ports;
    scene.envoys = Some(EnvoyState { binding: "public".into(), connected: 2, serving, refused: BTreeMap::new() });
}

fn ports(object: &Object) -> Vec<(&str, u64, u64, Option<u64>)> {
    let number = |port: &Value, field: &str| port[field].as_u64();
    let all = object::list(&object.body["spec"]["ports"]).iter();
    all.map(|p| {
        (
            p["name"].as_str().unwrap(),
            number(p, "port").unwrap(),
            number(p, "targetPort").unwrap(),
            number(p, "nodePort"),
        )
    })
    .collect()
}

#[test]
fn its_pods_may_do_nothing_but_carry() {
    let mut scene = wide(Routing::Port, "LoadBalancer");
    let (rendered, _) = scene.apply();
    for object in &rendered.objects {
        assert_eq!(object.id.key, own());
        assert_eq!(object.owner.as_ref().map(|o| (o.kind, o.uid.as_str())), Some(("GatewayBinding", "uid-public")));
        assert_eq!(object.labels.get("app.kubernetes.io/managed-by").unwrap(), "heliostat");
    }
    let deployment = &one(&rendered, OWN_DEPLOYMENT).body["spec"];
    assert!(deployment.get("replicas").is_none(), "that is left to who runs the cluster");
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert!(pod.get("hostNetwork").is_none());
    let envoy = &pod["containers"][0];
    assert_eq!(envoy["image"], "registry.example/envoy:1");
    assert_eq!(
        envoy["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    assert!(envoy["readinessProbe"].is_object() && envoy["resources"]["requests"].is_object());
    assert_eq!(pod["volumes"][1], json!({"name": "tls", "secret": {"secretName": "heliostat-gateway-public-tls"}}));
    // Every pod that is selected has the labels, and those of another binding have others.
    let selector = deployment["selector"]["matchLabels"].as_object().unwrap();
    let labels = deployment["template"]["metadata"]["labels"].as_object().unwrap();
    assert!(selector.iter().all(|label| labels.get(label.0) == Some(label.1)));
    assert_eq!(selector["heliostat.dev/binding"], "public");
}

#[test]
fn its_pods_find_the_controller_and_start_anew_when_that_moves() {
    let scene = wide(Routing::Port, "LoadBalancer");
    let hash =
        |rendered: &Rendered| one(rendered, OWN_DEPLOYMENT).body["spec"]["template"]["metadata"]["annotations"].clone();
    let rendered = scene.render();
    let files = &one(&rendered, OWN_CONFIG_MAP).body["data"];
    let start: Value = serde_json::from_str(files[START].as_str().unwrap()).unwrap();
    assert_eq!(start["node"]["cluster"], "public");
    let controller = &start["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(
        controller["endpoint"]["address"]["socket_address"],
        json!({"address": "heliostat-xds.heliostat-system.svc.cluster.local", "port_value": 18000})
    );
    let around = Surroundings { cluster_domain: "example.org", ..scene.around() };
    assert_ne!(hash(&scene.provider.render(&scene.plan, &around)), hash(&rendered));
}

#[test]
fn it_is_quiet_over_what_the_api_server_and_others_add() {
    let mut scene = wide(Routing::Port, "LoadBalancer");
    scene.want_port(&tcp("shop/books", 80), 20_001);
    scene.apply();
    scene.change(OWN_SERVICE, &own(), |service| {
        service["spec"]["clusterIP"] = json!("10.96.0.9");
        service["spec"]["ports"][0]["nodePort"] = json!(31_234);
        service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    });
    scene.change(OWN_DEPLOYMENT, &own(), |deployment| {
        deployment["spec"]["replicas"] = json!(3);
        deployment["spec"]["template"]["spec"]["dnsPolicy"] = json!("ClusterFirst");
        deployment["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/x");
        deployment["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    });
    assert_eq!(scene.apply().1, Vec::<String>::new());
}

#[test]
fn each_claimed_port_is_one_of_its_service_and_of_its_envoys() {
    let mut scene = wide(Routing::Port, "LoadBalancer");
    let (web, dns, low) = (tcp("shop/books", 80), udp("shop/books", 53), tcp("shop/vault", 443));
    scene.want_port(&web, 20_001);
    scene.want_port(&dns, 20_001);
    scene.want_port(&low, 443);
    let (rendered, _) = scene.apply();
    let service = one(&rendered, OWN_SERVICE);
    assert_eq!(service.body["spec"]["type"], "LoadBalancer");
    assert_eq!(
        ports(service),
        [("tcp-443", 443, 10_443, None), ("tcp-20001", 20_001, 20_001, None), ("udp-20001", 20_001, 20_001, None)]
    );
    let config = rendered.envoy.unwrap();
    let to = |id: &RouteId| EnvoyRouting::Port { cluster: id.to_string() };
    let wanted =
        [(EnvoyPort::Tcp(20_001), to(&web)), (EnvoyPort::Udp(20_001), to(&dns)), (EnvoyPort::Tcp(10_443), to(&low))];
    assert_eq!(config.ports, wanted.into());
    let cluster = |protocol| EnvoyCluster { protocol, endpoints: ["10.1.0.7:8080".parse().unwrap()].into() };
    let wanted = [
        (web.to_string(), cluster(EnvoyProtocol::Tcp)),
        (dns.to_string(), cluster(EnvoyProtocol::Udp)),
        (low.to_string(), cluster(EnvoyProtocol::Tcp)),
    ];
    assert_eq!(config.clusters, wanted.into());
}

#[test]
fn g18_ports_that_its_pods_use_themselves_are_never_given_out() {
    let taken = |scene: &Scene| scene.gateway().unwrap().ports;
    let supply = taken(&wide(Routing::Port, "LoadBalancer"));
    for port in [ADMIN_PORT, READY_PORT] {
        assert!(!supply.has(Protocol::Tcp, port) && supply.has(Protocol::Udp, port), "{port}");
    }
    // Where ports up to 1023 may be given out, those that they become inside may not.
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for port in [10_001, 10_080, 10_443, 11_023] {
            assert!(!supply.has(protocol, port), "{port}");
        }
        assert!(supply.has(protocol, 10_000) && supply.has(protocol, 11_024) && supply.has(protocol, 443));
    }
    let high = json!({"ports": {"from": 1024, "to": 65535, "lease": "24h"}});
    let supply = taken(&Scene::with(Routing::Port, json!({"envoy": {}}), high));
    assert!(supply.has(Protocol::Tcp, 10_080), "nothing below 1024 is given out");
    assert_eq!(supply.protocols, [Protocol::Tcp, Protocol::Udp].into());
}

#[test]
fn behind_node_ports_each_is_asked_for_by_its_number() {
    let mut scene = wide(Routing::Port, "NodePort");
    scene.want_port(&tcp("shop/books", 80), 30_001);
    let rendered = scene.render();
    let service = one(&rendered, OWN_SERVICE);
    assert_eq!(service.body["spec"]["type"], "NodePort");
    assert_eq!(ports(service), [("tcp-30001", 30_001, 30_001, Some(30_001))]);
    let node = |usable, external: &[&str]| RemoteNode {
        usable,
        external: external.iter().map(|a| (*a).into()).collect(),
        internal: vec!["10.0.0.1".into()],
    };
    scene.nodes.extend([
        ("a".into(), node(true, &["192.0.2.8"])),
        ("b".into(), node(false, &["192.0.2.9"])),
        ("c".into(), node(true, &[])),
    ]);
    assert_eq!(scene.gateway().unwrap().addresses, ["192.0.2.8", "10.0.0.1"]);
    // Node ports of other Services are refused by the API server, with all the others of the Service.
    let at = |node_port| OriginPort { node_port: Some(node_port), ..port("web", 80) };
    scene.services.insert(Key::new("web", "site"), front(OriginType::NodePort, vec![at(30_005)]));
    scene.services.insert(own(), front(OriginType::NodePort, vec![at(30_001)]));
    let supply = scene.gateway().unwrap().ports;
    assert!(!supply.has(Protocol::Tcp, 30_005) && !supply.has(Protocol::Udp, 30_005));
    assert!(supply.taken[&(Protocol::Tcp, 30_005)].contains("web/site"));
    assert!(supply.has(Protocol::Tcp, 30_001), "its own");
}

#[test]
fn behind_node_ports_names_are_answered_at_the_first_port_of_the_range() {
    let range = json!({"ports": {"from": 30_100, "to": 30_200, "lease": "24h"}});
    let node_port = Scene::with(Routing::Host, json!({"envoy": {"serviceType": "NodePort"}}), range.clone());
    assert_eq!(node_port.gateway().unwrap().listeners, [30_100]);
    let balanced = Scene::with(Routing::Host, json!({"envoy": {}}), range);
    assert_eq!(balanced.gateway().unwrap().listeners, [80]);
}

#[test]
fn routes_by_name_share_a_port() {
    let mut scene = wide(Routing::Host, "LoadBalancer");
    let (books, films) = (tcp("shop/books", 80), tcp("shop/films", 80));
    let mut rewritten = named(&books, 80, "http", &["books-east"]);
    rewritten.rewrite = Some("books.shop.svc.cluster.local".into());
    scene.want(&books, rewritten);
    scene.want(&films, named(&films, 80, "grpc", &["films-east", "films.example"]));
    let nameless = tcp("shop/nameless", 80);
    scene.want(&nameless, named(&nameless, 80, "http", &[]));
    let (rendered, _) = scene.apply();
    assert_eq!(ports(one(&rendered, OWN_SERVICE)), [("tcp-80", 80, 10_080, None)]);
    assert_eq!(rendered.refused.keys().collect::<Vec<_>>(), [&nameless]);
    let config = rendered.envoy.unwrap();
    let host = |id: &RouteId, rewrite: Option<&str>| EnvoyHost {
        cluster: id.to_string(),
        rewrite: rewrite.map(str::to_owned),
    };
    let hosts = BTreeMap::from([
        ("books-east".to_owned(), host(&books, Some("books.shop.svc.cluster.local"))),
        ("films-east".to_owned(), host(&films, None)),
        ("films.example".to_owned(), host(&films, None)),
    ]);
    assert_eq!(config.ports, [(EnvoyPort::Tcp(10_080), EnvoyRouting::Host { hosts })].into());
    assert_eq!(config.clusters[&books.to_string()].protocol, EnvoyProtocol::Http1);
    assert_eq!(config.clusters[&films.to_string()].protocol, EnvoyProtocol::Http2);
    assert!(!config.clusters.contains_key(&nameless.to_string()));

    let mut scene = wide(Routing::Sni, "LoadBalancer");
    assert_eq!(scene.gateway().unwrap().listeners, [443]);
    scene.want(&books, named(&books, 443, "https", &["books-east"]));
    let config = scene.render().envoy.unwrap();
    let names = BTreeMap::from([("books-east".to_owned(), books.to_string())]);
    assert_eq!(config.ports, [(EnvoyPort::Tcp(10_443), EnvoyRouting::Sni { names })].into());
    assert_eq!(config.clusters[&books.to_string()].protocol, EnvoyProtocol::Tcp);
}

#[test]
fn a_route_is_programmed_when_its_port_is_open_and_every_envoy_serves_it() {
    let mut scene = wide(Routing::Host, "LoadBalancer");
    let (books, films) = (tcp("shop/books", 80), tcp("shop/films", 80));
    scene.want(&books, named(&books, 80, "http", &["books-east"]));
    let pending = |scene: &Scene, id: &RouteId| matches!(scene.programmed(id), Programmed::Pending(..));
    acknowledge(&mut scene);
    assert!(pending(&scene, &books), "without its Service");
    scene.apply();
    assert!(pending(&scene, &books), "without a pod");
    stand(&mut scene);
    assert_eq!(scene.programmed(&books), Programmed::Yes);
    assert_eq!(scene.gateway().unwrap().addresses, ["192.0.2.1", "lb.example"]);
    assert_eq!(scene.gateway().unwrap().unwell, None);

    // Another one on the same port is waited for, and takes nothing from the first: not even if refused.
    scene.want(&films, named(&films, 80, "http", &["films-east"]));
    scene.apply();
    assert_eq!(scene.programmed(&books), Programmed::Yes);
    assert!(pending(&scene, &films));
    let refused = [(EnvoyPort::Tcp(10_080), "bad domain".to_owned())].into();
    scene.envoys.as_mut().unwrap().refused = refused;
    assert_eq!(scene.programmed(&books), Programmed::Yes);
    let Programmed::No(refusal) = scene.programmed(&films) else { panic!() };
    assert!(refusal.message.contains("bad domain"), "{}", refusal.message);

    // That no Envoy is connected to this controller says nothing of what they do.
    scene.envoys.as_mut().unwrap().connected = 0;
    assert!(matches!(scene.programmed(&books), Programmed::Before(_)));
    scene.envoys = None;
    assert!(matches!(scene.programmed(&books), Programmed::Before(_)));
    scene.ready.clear();
    assert!(pending(&scene, &books));
    assert_eq!(scene.gateway().unwrap().unwell.unwrap().reason, Reason::Pending);
}

#[test]
fn ipv6_is_opened_where_every_node_gives_it_to_its_pods() {
    let mut scene = wide(Routing::Port, "LoadBalancer");
    let node = |cidrs: &[&str]| LocalNode {
        addresses: vec![IpAddr::from([10, 0, 0, 1])],
        pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
    };
    assert!(!scene.render().envoy.unwrap().ipv6);
    scene.local_nodes.insert("a".into(), node(&["10.1.0.0/24", "fd00::/64"]));
    assert!(scene.render().envoy.unwrap().ipv6);
    scene.local_nodes.insert("b".into(), node(&["10.1.1.0/24"]));
    assert!(!scene.render().envoy.unwrap().ipv6);
}
