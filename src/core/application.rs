//! What a port says it speaks: by its `appProtocol`, else by its name, as the Gateway API and the
//! meshes read it (KEP-2031; `kubernetes.io/` may stand before a standard name).

use super::model::OriginPort;

fn says(port: &OriginPort, protocols: &[&str]) -> bool {
    let says = |text: &str| {
        let text = text.to_ascii_lowercase();
        let text = text.strip_prefix("kubernetes.io/").unwrap_or(&text);
        protocols.iter().any(|p| text == *p || text.strip_prefix(p).is_some_and(|rest| rest.starts_with('-')))
    };
    match &port.app_protocol {
        Some(protocol) => says(protocol),
        None => says(&port.name),
    }
}

/// HTTP without TLS, of any version, gRPC and WebSockets included.
pub fn is_http(port: &OriginPort) -> bool {
    says(port, &["http", "http2", "h2c", "grpc", "grpc-web", "ws"])
}

/// HTTP/2 without TLS from the first byte: gRPC and h2c.
pub fn is_http2(port: &OriginPort) -> bool {
    says(port, &["http2", "h2c", "grpc"]) && !says(port, &["grpc-web"])
}

/// gRPC over HTTP/2 without TLS.
pub fn is_grpc(port: &OriginPort) -> bool {
    says(port, &["grpc"]) && !says(port, &["grpc-web"])
}

/// TLS from the first byte.
pub fn is_tls(port: &OriginPort) -> bool {
    says(port, &["https", "tls", "wss", "grpcs"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Protocol;

    fn port(name: &str, app_protocol: Option<&str>) -> OriginPort {
        let app_protocol = app_protocol.map(Into::into);
        OriginPort {
            name: name.into(),
            port: 80,
            protocol: Protocol::Tcp,
            app_protocol,
            node_port: None,
            pod_port: None,
        }
    }

    #[test]
    fn the_app_protocol_counts_and_else_the_name() {
        assert!(is_http(&port("web", Some("kubernetes.io/h2c"))) && is_http2(&port("web", Some("kubernetes.io/h2c"))));
        assert!(!is_http(&port("http", Some("tcp"))));
        assert!(is_http(&port("http-web", None)) && !is_http2(&port("http-web", None)));
        assert!(is_http2(&port("grpc", None)) && !is_http2(&port("grpc-web", None)));
        assert!(is_grpc(&port("grpc-api", None)) && !is_grpc(&port("grpc-web", None)) && !is_grpc(&port("h2c", None)));
        assert!(is_tls(&port("tls-db", None)) && !is_tls(&port("http", None)) && !is_tls(&port("db", None)));
        assert!(is_tls(&port("https", None)) && !is_http(&port("https", None)));
        assert!(!is_http(&port("httpd", None)));
    }
}
