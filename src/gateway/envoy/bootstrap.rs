//! The files that an Envoy pod starts with: where its controller is and how to know it, and a port
//! that says whether it is ready. Pure; everything else comes over xDS.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

/// Name of the file that Envoy is started with, by `envoy -c`.
pub const START: &str = "envoy.json";
const CERTIFICATE: &str = "certificate.json";
const AUTHORITY: &str = "authority.json";
/// Name of the controller to Envoy.
const CONTROLLER: &str = "heliostat";
/// Name of Envoy's own administration to itself.
const ADMIN: &str = "heliostat-admin";

/// What the files say.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// Name of the binding whose Envoys these are.
    pub binding: &'a str,
    /// DNS name or address of the xDS server; a name of its certificate.
    pub xds_host: &'a str,
    /// Its port.
    pub xds_port: u16,
    /// Port of Envoy's administration, on the pod's loopback only.
    pub admin_port: u16,
    /// Port on which `/ready` answers 200 once the first ports are open, and `/stats/prometheus`
    /// the metrics.
    pub ready_port: u16,
    /// Whether that port is opened on IPv6 beside IPv4.
    pub ipv6: bool,
    /// Folder in which these files are mounted.
    pub files_at: &'a str,
    /// Folder in which `tls.crt`, `tls.key` and `ca.crt` are mounted, of the certificate whose name is the
    /// binding's. They are read again whenever the mount changes.
    pub tls_at: &'a str,
}

impl Bootstrap<'_> {
    /// The files by name, as they go into a ConfigMap. Envoy is to be told its pod's name by
    /// `--service-node`: connections are counted by it.
    pub fn files(&self) -> BTreeMap<String, String> {
        let files = [(START, self.start()), (CERTIFICATE, self.certificate()), (AUTHORITY, self.authority())];
        files.into_iter().map(|(name, file)| (name.to_owned(), format!("{file:#}\n"))).collect()
    }

    fn start(&self) -> Value {
        json!({
            "node": {"cluster": self.binding, "id": self.binding},
            "admin": {"address": socket("127.0.0.1", self.admin_port)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {
                        "cluster_name": CONTROLLER,
                        "retry_policy": {"retry_back_off": {"base_interval": "0.5s", "max_interval": "5s"}},
                    }}],
                },
                "cds_config": forever(),
                "lds_config": forever(),
            },
            "static_resources": {"clusters": [self.controller(), self.admin()], "listeners": [self.readiness()]},
        })
    }

    /// HTTP/2 pings notice a controller's pod that vanished without a word.
    fn controller(&self) -> Value {
        json!({
            "name": CONTROLLER,
            "type": "STRICT_DNS",
            "connect_timeout": "5s",
            "load_assignment": endpoint(CONTROLLER, self.xds_host, self.xds_port),
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "10s", "timeout": "5s"},
                }},
            }},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": if self.has_address() { "" } else { self.xds_host },
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                    "alpn_protocols": ["h2"],
                    "tls_certificate_sds_secret_configs": [self.secret("certificate", CERTIFICATE)],
                    "validation_context_sds_secret_config": self.secret("authority", AUTHORITY),
                },
            }},
        })
    }

    /// Certificates that change while Envoy runs must come as secrets, if only from a file.
    fn secret(&self, name: &str, file: &str) -> Value {
        let path = format!("{}/{file}", self.files_at);
        json!({"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}}})
    }

    fn certificate(&self) -> Value {
        secret(
            "certificate",
            &json!({"tls_certificate": {
                "certificate_chain": {"filename": format!("{}/tls.crt", self.tls_at)},
                "private_key": {"filename": format!("{}/tls.key", self.tls_at)},
                "watched_directory": {"path": self.tls_at},
            }}),
        )
    }

    fn authority(&self) -> Value {
        let kind = if self.has_address() { "IP_ADDRESS" } else { "DNS" };
        secret(
            "authority",
            &json!({"validation_context": {
                "trusted_ca": {"filename": format!("{}/ca.crt", self.tls_at)},
                "watched_directory": {"path": self.tls_at},
                "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": self.xds_host}}],
            }}),
        )
    }

    /// Whether the server is known by its address, which TLS never asks for.
    fn has_address(&self) -> bool {
        self.xds_host.parse::<IpAddr>().is_ok()
    }

    fn admin(&self) -> Value {
        json!({
            "name": ADMIN,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": endpoint(ADMIN, "127.0.0.1", self.admin_port),
        })
    }

    /// Two pages of the administration and no other: the rest of it can stop Envoy.
    fn readiness(&self) -> Value {
        let pass = |path: &str| json!({"match": {"path": path}, "route": {"cluster": ADMIN}});
        let beside = if self.ipv6 { vec![json!({"address": socket("::", self.ready_port)})] } else { Vec::new() };
        json!({
            "name": "heliostat-ready",
            "address": socket("0.0.0.0", self.ready_port),
            "additional_addresses": beside,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "heliostat-ready",
                    "route_config": {"virtual_hosts": [{
                        "name": "all", "domains": ["*"], "routes": [pass("/ready"), pass("/stats/prometheus")],
                    }]},
                    "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }}],
                },
            }]}],
        })
    }
}

/// What is asked for until it comes: an Envoy that gave up would say that it is ready, with no port open.
fn forever() -> Value {
    json!({"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "0s"})
}

fn socket(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn endpoint(cluster: &str, host: &str, port: u16) -> Value {
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(host, port)}}]}]})
}

fn secret(name: &str, content: &Value) -> Value {
    let mut resource = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
    });
    if let (Some(resource), Some(content)) = (resource.as_object_mut(), content.as_object()) {
        resource.extend(content.clone());
    }
    json!({"resources": [resource]})
}
