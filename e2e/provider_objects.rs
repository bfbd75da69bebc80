//! What is rendered for gateways, held to a real API server by their own CRDs: it takes each object, prunes
//! nothing of it, and would not be asked for a change of it afterwards. All by dry run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use heliostat::{
    api::binding::{Export, Routing},
    core::{
        export::{
            object::{KindNews, Object, Objects},
            provider::{ExportPlan, Route, RouteId, Surroundings},
        },
        model::{Key, Map, Origin, OriginCommon, OriginPort, OriginType, Protocol},
    },
    gateway,
};
use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, core::Status};
use serde_json::{Value, json};

use crate::{
    rig::{self, rig},
    support::client,
};

/// Traefik's IngressRoutes, of all three kinds, and its Middleware.
#[tokio::test]
async fn ingress_routes_are_what_their_schema_says() {
    let client = api_server("traefik-crds").await;
    let point = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol});
    let points =
        [point("web", 80, "TCP"), point("h1", 20_001, "TCP"), point("u1", 20_001, "UDP"), point("tls", 443, "TCP")];
    let provider = json!({"traefik": {"serviceRef": {"namespace": "edge", "name": "gateway"}, "entryPoints": points}});
    let mut seen = BTreeSet::new();
    for routing in [Routing::Port, Routing::Host, Routing::Sni] {
        seen.extend(all_are_taken(&client, routing, &provider, &[]).await);
    }
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "Middleware"]);
}

/// Emissary's TCPMapping and Mapping.
#[tokio::test]
async fn mappings_are_what_their_schema_says() {
    let client = api_server("emissary-crds").await;
    let provider = json!({"emissary": {"serviceRef": {"namespace": "edge", "name": "gateway"}}});
    let listener = json!({
        "metadata": {"namespace": "edge", "name": "web"},
        "spec": {"port": 8080, "protocol": "HTTP", "securityModel": "INSECURE"},
    });
    let mut seen = all_are_taken(&client, Routing::Port, &provider, &[]).await;
    seen.extend(all_are_taken(&client, Routing::Host, &provider, &[("Listener", listener)]).await);
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["Mapping", "TCPMapping"]);
}

/// A client of the importer, which then knows those kinds. A cluster's files lie in a folder of its name.
async fn api_server(kinds: &str) -> Client {
    let folder = rig::file("west", "");
    let cluster = folder.components().next_back().map(|name| Path::new(&name).display().to_string()).unwrap();
    rig("gateway", &[kinds, &cluster]).await;
    client("west").await
}

/// Renders routes of all sorts, asks the API server for each object, and gives their kinds.
async fn all_are_taken(
    client: &Client,
    routing: Routing,
    provider: &Value,
    there: &[(&str, Value)],
) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for (object, version) in rendered(routing, provider, there) {
        let (kind, id) = (object.id.kind, &object.id);
        let mut whole = Value::Object(object.whole());
        whole["apiVersion"] = json!(kind.api_version(&version));
        whole["kind"] = json!(kind.kind);
        let url = format!(
            "/apis/{}/namespaces/{}/{}?dryRun=All&fieldValidation=Strict",
            kind.api_version(&version),
            id.key.namespace,
            kind.plural
        );
        let stored = create(client, &url, &whole).await.unwrap_or_else(|status| panic!("{id}: {}", status.message));
        assert_eq!(object.patch(&stored), None, "{id} as it was stored: {stored}");
        // That the schema is there and does refuse.
        whole["spec"]["nonsense"] = json!(1);
        let refused = create(client, &url, &whole).await.unwrap_err();
        assert!(refused.message.contains("nonsense"), "{id}: {}", refused.message);
        kinds.insert(kind.kind.to_owned());
    }
    kinds
}

/// What a provider makes of a Service's ports, HTTP with and without a rewritten Host, gRPC and TLS; with the
/// version that it is written in.
fn rendered(routing: Routing, provider: &Value, there: &[(&str, Value)]) -> Vec<(Object, String)> {
    let export: Export = serde_json::from_value(
        json!({"services": {"namespaces": ["*"]}, "clusterName": "east", "hostRewrite": routing == Routing::Host, "provider": provider}),
    )
    .unwrap();
    let provider = gateway::provider("public", routing, &export);
    let mut objects = Objects::default();
    for kind in provider.kinds() {
        let of_kind = there.iter().filter(|(name, _)| *name == kind.kind);
        let of_kind = of_kind.map(|(_, object)| (Key::new("edge", "web"), object.clone())).collect();
        objects.take(kind, KindNews::Listed(kind.versions[0].into(), of_kind));
    }
    let gateway = Key::new("edge", "gateway");
    let around = Surroundings {
        objects: &objects,
        services: &BTreeMap::from([(gateway.clone(), front())]),
        ready: &BTreeSet::from([gateway]),
        nodes: &BTreeMap::new(),
        local_nodes: &BTreeMap::new(),
        envoys: None,
        written: &BTreeMap::new(),
        namespace: "heliostat-system",
        cluster_domain: "cluster.local",
        envoy_image: "",
        now: Timestamp::UNIX_EPOCH,
    };
    let usable = provider.gateway(&around).unwrap();
    let outside = usable.listeners.first().copied().unwrap_or(20_001);
    let mut protocols: Vec<Protocol> = usable.ports.protocols.into_iter().collect();
    if routing != Routing::Port {
        protocols = vec![Protocol::Tcp];
    }
    let mut plan = ExportPlan { binding: "public".into(), binding_uid: "u".into(), routing, routes: BTreeMap::new() };
    for protocol in protocols {
        for (name, rewrite) in [("http", true), ("grpc", false), ("", false)] {
            let service = Key::new("default", format!("books{name}"));
            let id = RouteId { service, port: 80, protocol };
            let route = Route {
                port: port(name, 80, protocol),
                service_uid: "8a7e1c7a-0000-4000-8000-000000000000".into(),
                gateway_port: outside,
                hostnames: vec![format!("books{name}-east"), format!("books{name}-east.default.svc.cluster.local")],
                rewrite: rewrite.then(|| "books.default.svc.cluster.local".to_owned()),
                endpoints: BTreeSet::new(),
            };
            plan.routes.insert(id, route);
        }
    }
    let rendered = provider.render(&plan, &around);
    assert!(rendered.refused.is_empty(), "{:?}", rendered.refused);
    let with_version = |object: Object| {
        let version = objects.version(object.id.kind).unwrap().to_owned();
        (object, version)
    };
    rendered.objects.into_iter().map(with_version).collect()
}

/// The Service of a gateway.
fn front() -> Origin {
    let tcp = [(80, 8080), (443, 8443), (20_001, 6001)];
    let tcp = tcp.map(|(number, pod)| OriginPort { pod_port: Some(pod), ..port("", number, Protocol::Tcp) });
    Origin {
        uid: "u".into(),
        labels: Map::new(),
        ingress: [].into(),
        common: OriginCommon {
            annotations: Map::new(),
            kind: OriginType::LoadBalancer,
            ports: [&tcp[..], &[port("", 20_001, Protocol::Udp)]].concat().into(),
            has_selector: true,
            local_traffic: false,
            malformed: None,
        }
        .into(),
    }
}

fn port(name: &str, number: u16, protocol: Protocol) -> OriginPort {
    OriginPort {
        name: name.into(),
        port: number,
        protocol,
        app_protocol: None,
        node_port: None,
        pod_port: Some(number),
    }
}

async fn create(client: &Client, url: &str, object: &Value) -> Result<Value, Status> {
    let request = Request::builder().method("POST").uri(url).header(CONTENT_TYPE, "application/json");
    match client.request(request.body(object.to_string().into_bytes()).unwrap()).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("POST {url}: {error}"),
    }
}
