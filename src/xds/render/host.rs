//! Host routing: the HTTP filter of a listener, and apart from it which host goes where, so that a
//! host that is added touches no connection.

use std::collections::BTreeMap;

use envoy_types::{
    pb::{
        envoy::{
            config::{
                core::v3::Http1ProtocolOptions,
                route::v3::{
                    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
                    route::Action,
                    route_action::{ClusterSpecifier, HostRewriteSpecifier},
                    route_match::PathSpecifier,
                },
            },
            extensions::filters::{
                http::router::v3::Router,
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{CodecType, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig},
                    http_filter::ConfigType,
                },
            },
        },
        google::protobuf::BoolValue,
    },
    util::pack_any,
};

use super::{IDLE, TRIES, number, same_stream, seconds};
use crate::core::envoy::EnvoyHost;

/// The HTTP filter of the port of this name.
pub(super) fn manager(name: &str) -> HttpConnectionManager {
    let router = Router { suppress_envoy_headers: true, ..Router::default() };
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        // HTTP/1.1, or HTTP/2 as gRPC speaks it without TLS.
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(same_stream()),
            route_config_name: name.to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack_any(router))),
            ..HttpFilter::default()
        }],
        // Some clients and proxies still speak HTTP/1.0; without this they are told to upgrade.
        http_protocol_options: Some(Http1ProtocolOptions { accept_http_10: true, ..Http1ProtocolOptions::default() }),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }],
        stream_idle_timeout: Some(seconds(IDLE)),
        // The caller is who connects, whatever it writes into X-Forwarded-For.
        use_remote_address: Some(BoolValue { value: true }),
        generate_request_id: Some(BoolValue { value: false }),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        ..HttpConnectionManager::default()
    }
}

/// Which host goes where at the port of this name.
pub(in crate::xds) fn routes(name: &str, hosts: &BTreeMap<String, EnvoyHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts.iter().map(|(host, to)| virtual_host(host, to)).collect(),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

fn virtual_host(host: &str, to: &EnvoyHost) -> VirtualHost {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(to.cluster.clone())),
        host_rewrite_specifier: to.rewrite.clone().map(HostRewriteSpecifier::HostRewriteLiteral),
        // How long an answer may take is between the caller and the backend.
        timeout: Some(seconds(0)),
        // Only of what no backend has begun to handle.
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset-before-request".to_owned(),
            num_retries: Some(number(TRIES - 1)),
            ..RetryPolicy::default()
        }),
        ..RouteAction::default()
    };
    VirtualHost {
        name: host.to_owned(),
        // Envoy compares without case; a port it leaves out; the dot of an absolute name it does not.
        domains: vec![host.to_owned(), format!("{host}.")],
        routes: vec![Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(Action::Route(action)),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}
