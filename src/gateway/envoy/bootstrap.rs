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
    /// The files by name, as they go into a ConfigMap. Envoy is started with
    /// `-c <files_at>/envoy.json --service-node <its pod's name> --disable-hot-restart`: its connections are
    /// counted by that name, and without the last it needs shared memory. Each of its workers
    /// (`--concurrency`) opens every port for itself. A port that is closed keeps its connections for
    /// `--drain-time-s`, by default 600.
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
            "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": statistics()}}},
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

/// What is counted: all of Envoy itself and of the stream to the controller, and for each cluster what
/// shows its traffic and its faults. With everything that Envoy can count, a port takes 85 KB of its
/// memory instead of 46.
fn statistics() -> Vec<Value> {
    const WHOLE: &[&str] = &[
        "cluster.heliostat.",
        "cluster_manager.",
        "control_plane.",
        "listener_manager.",
        "main_thread.",
        "sds.",
        "server.",
    ];
    const EACH: &[&str] = &[
        "init_fetch_timeout",
        "membership_total",
        "update_success",
        "upstream_cx_active",
        "upstream_cx_connect_fail",
        "upstream_cx_rx_bytes_total",
        "upstream_cx_total",
        "upstream_cx_tx_bytes_total",
        "upstream_rq_5xx",
        "upstream_rq_total",
    ];
    let whole = WHOLE.iter().map(|prefix| json!({"prefix": prefix}));
    whole.chain(EACH.iter().map(|name| json!({"suffix": format!(".{name}")}))).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use super::*;

    fn files(xds_host: &str, ipv6: bool) -> BTreeMap<String, Value> {
        let bootstrap = Bootstrap {
            binding: "public",
            xds_host,
            xds_port: 18000,
            admin_port: 19000,
            ready_port: 19003,
            ipv6,
            files_at: "/etc/heliostat/envoy",
            tls_at: "/etc/heliostat/tls",
        };
        let files = bootstrap.files().into_iter();
        files.map(|(name, file)| (name, serde_json::from_str(&file).unwrap())).collect()
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        let files = files("heliostat.heliostat-system.svc", false);
        let start = files[START].to_string();
        for name in files.keys().filter(|name| *name != START) {
            assert!(start.contains(&format!("\"/etc/heliostat/envoy/{name}\"")), "{name}");
        }
        assert_eq!(files.len(), 1 + start.matches("/etc/heliostat/envoy/").count());
        let secrets = format!("{}{}", files[CERTIFICATE], files[AUTHORITY]);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            assert!(secrets.contains(&format!("\"/etc/heliostat/tls/{file}\"")), "{file}");
        }
        assert_eq!(secrets.matches(r#""watched_directory":{"path":"/etc/heliostat/tls"}"#).count(), 2);
    }

    #[test]
    fn the_server_must_be_who_it_is_said_to_be() {
        let files = files("heliostat.heliostat-system.svc", false);
        let context = &files[AUTHORITY]["resources"][0]["validation_context"];
        let names = json!([{"san_type": "DNS", "matcher": {"exact": "heliostat.heliostat-system.svc"}}]);
        assert_eq!(context["match_typed_subject_alt_names"], names);
        let files = self::files("10.96.0.7", false);
        let context = &files[AUTHORITY]["resources"][0]["validation_context"];
        let names = json!([{"san_type": "IP_ADDRESS", "matcher": {"exact": "10.96.0.7"}}]);
        assert_eq!(context["match_typed_subject_alt_names"], names);
    }

    #[test]
    fn the_administration_is_on_loopback_and_two_pages_of_it_outside() {
        for ipv6 in [false, true] {
            let start = &files("heliostat", ipv6)[START];
            assert_eq!(start["admin"]["address"], socket("127.0.0.1", 19000));
            let listeners = start["static_resources"]["listeners"].as_array().unwrap();
            assert_eq!(listeners.len(), 1);
            assert_eq!(listeners[0]["additional_addresses"].as_array().unwrap().len(), usize::from(ipv6));
            let routes = start.to_string();
            assert_eq!(routes.matches(r#""match":{"#).count(), 2);
            assert!(!routes.contains("prefix_rewrite"));
        }
    }

    #[test]
    fn an_envoy_waits_for_its_ports_for_as_long_as_it_takes() {
        let start = &files("heliostat", false)[START];
        for kind in ["cds_config", "lds_config"] {
            assert_eq!(start["dynamic_resources"][kind]["initial_fetch_timeout"], "0s");
        }
    }
}
