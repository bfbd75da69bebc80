//! What a binding lets out, and by which listener and which names.

use heliostat::{
    api::Reason,
    core::{
        export::binding::CheckedExport,
        model::{Origin, OriginPort, OriginType, Protocol},
        select::Refusal,
    },
};
use serde_json::{Value, json};

use crate::common::{binding, exporter::*, key, map};

fn checked(export: Value) -> Result<CheckedExport, Refusal> {
    let object = binding("public", spec(export));
    CheckedExport::new(&object, object.spec.export.as_ref().unwrap())
}

fn listener(routing: &str, ports: &[(&str, u16)], port: usize, listeners: &[u16]) -> Result<u16, String> {
    let origin = service("books", ports);
    let by = checked(json!({"routing": routing, "clusterName": "east"})).unwrap();
    let found = by.listener(&key("shop/books"), &origin, &origin.ports[port], listeners);
    found.map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::PortUnsupported);
        refusal.message
    })
}

#[test]
fn g08_a_port_gets_the_listener_of_its_number_or_alone_the_first() {
    let one = [("http", 8080), ("db", 5432)];
    let two = [("http", 8080), ("grpc", 9090)];
    assert_eq!(listener("Host", &one, 0, &[80, 443]), Ok(80), "the only one that speaks HTTP");
    assert_eq!(listener("Host", &one, 0, &[80, 8080]), Ok(8080));
    assert_eq!(listener("Host", &two, 1, &[80, 9090]), Ok(9090));
    assert!(listener("Host", &two, 0, &[80, 9090]).unwrap_err().contains("80, 9090"), "which of both would it be?");
    assert!(listener("Host", &one, 1, &[5432]).unwrap_err().contains("http or grpc"));
    assert!(listener("SNI", &one, 0, &[8080]).unwrap_err().contains("https or tls"));
    assert_eq!(listener("SNI", &[("https", 8443)], 0, &[443]), Ok(443));
    assert_eq!(listener("Linkerd", &two, 1, &[4143, 9090]), Ok(4143), "one for all");
    assert!(listener("Host", &one, 0, &[]).unwrap_err().contains("no listener"));
    // UDP neither goes out nor makes a port one of several.
    let udp = OriginPort { protocol: Protocol::Udp, ..service("x", &[("http", 8081)]).ports[0].clone() };
    let mut origin = service("books", &one);
    origin.ports.edit(|ports| ports.push(udp.clone()));
    let by = checked(json!({"routing": "Host", "clusterName": "east"})).unwrap();
    let of = |port: &OriginPort| by.listener(&key("shop/books"), &origin, port, &[80]);
    assert_eq!(of(&origin.ports[0]).ok(), Some(80));
    assert!(of(&udp).unwrap_err().message.contains("TCP only"));
}

#[test]
fn names_are_dns_names_of_at_most_253_characters() {
    let names = |template: &str, service: &str| {
        checked(json!({"routing": "Host", "hostnames": [template]}))?
            .hostnames(&key(service), "cluster.local")
            .map_err(|why| Refusal::new(Reason::InvalidSpec, why))
    };
    assert_eq!(names("{service}.Example", "shop/books").unwrap(), ["books.example"]);
    let label = "a".repeat(62);
    let long = |last: usize| format!("{label}.{label}.{label}.{}", "b".repeat(last));
    assert!(long(63).len() == 252 && names(&long(63), "shop/books").is_ok());
    let longest = format!("x.{}", &long(63)[..251]);
    assert!(longest.len() == 253 && names(&longest, "shop/books").is_ok());
    for wrong in [format!("x{longest}"), "{service}..example".to_owned(), "{nobody}".to_owned(), "a_b".to_owned()] {
        assert!(names(&wrong, "shop/books").is_err(), "{wrong}");
    }
}

#[test]
fn only_host_routing_rewrites_and_only_where_that_is_wanted() {
    let rewrites = |routing: &str, wanted: bool| {
        let by = checked(json!({"routing": routing, "clusterName": "east", "hostRewrite": wanted})).unwrap();
        by.rewrite(&key("shop/books"), "cluster.local")
    };
    assert_eq!(rewrites("Host", true).as_deref(), Some("books.shop.svc.cluster.local"));
    for (routing, wanted) in [("Host", false), ("SNI", true), ("Port", true)] {
        assert_eq!(rewrites(routing, wanted), None, "{routing} {wanted}");
    }
}

#[test]
fn m17_a06_what_is_not_to_be_exported_is_refused_whoever_labels_it() {
    let by = checked(json!({"services": {"namespaces": ["shop", "default", "kube-system"]}})).unwrap();
    let judge = |name: &str, origin: &Origin| {
        by.selects(&key(name), origin, "heliostat-system").unwrap().map_err(|refusal| refusal.reason)
    };
    let books = service("books", &[("http", 80)]);
    assert_eq!(judge("shop/books", &books), Ok(()));
    assert_eq!(judge("default/books", &books), Ok(()), "only kubernetes of default is Kubernetes' own");
    assert_eq!(judge("shop/kubernetes", &books), Ok(()));
    for name in ["default/kubernetes", "kube-system/kube-dns"] {
        assert_eq!(judge(name, &books), Err(Reason::NamespaceNotAllowed), "{name}");
    }
    let labelled = |by: &str| {
        let mut origin = books.clone();
        origin.labels.extend(map(&[("app.kubernetes.io/managed-by", by)]));
        origin
    };
    assert_eq!(judge("shop/books-west", &labelled("heliostat")), Err(Reason::InvalidServiceType));
    assert_eq!(judge("shop/books", &labelled("Helm")), Ok(()));
    let mut external = books.clone();
    external.kind = OriginType::ExternalName;
    let mut odd = books.clone();
    odd.malformed = Some("a port without a number".into());
    assert_eq!(judge("shop/books", &external), Err(Reason::InvalidServiceType));
    assert_eq!(judge("shop/books", &service("books", &[])), Err(Reason::InvalidServiceType));
    assert_eq!(judge("shop/books", &odd), Err(Reason::UnsupportedValue));
}
