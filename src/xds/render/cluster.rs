//! Where traffic goes: a cluster, and apart from it its endpoints, so that pods coming and going
//! change the endpoints only.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use envoy_types::{
    pb::envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, UpstreamConnectionOptions,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
            },
            core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, socket_address::Protocol},
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
    util::pack_any,
};

use super::{CONNECT, address, keepalive, number, same_stream, seconds};
use crate::core::envoy::EnvoyProtocol;

/// The cluster of this name, whose endpoints are asked for apart.
pub(in crate::xds) fn cluster(name: &str, protocol: EnvoyProtocol) -> Cluster {
    let http = match protocol {
        EnvoyProtocol::Tcp | EnvoyProtocol::Udp => None,
        EnvoyProtocol::Http1 => Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        EnvoyProtocol::Http2 => Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
    };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(seconds(CONNECT)),
        lb_policy: LbPolicy::LeastRequest.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(same_stream()), service_name: String::new() }),
        circuit_breakers: Some(unlimited()),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(keepalive()),
            ..UpstreamConnectionOptions::default()
        }),
        typed_extension_protocol_options: http.map(speaking).unwrap_or_default(),
        ..Cluster::default()
    }
}

fn speaking(protocol: ProtocolConfig) -> HashMap<String, envoy_types::pb::google::protobuf::Any> {
    let explicit = ExplicitHttpConfig { protocol_config: Some(protocol) };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack_any(options))])
}

/// Envoy's defaults would close the 1025th connection to a Service. A gateway that stands for a
/// Service limits no more than a Service does.
fn unlimited() -> CircuitBreakers {
    let thresholds = Thresholds {
        max_connections: Some(number(u32::MAX)),
        max_pending_requests: Some(number(u32::MAX)),
        max_requests: Some(number(u32::MAX)),
        max_retries: Some(number(u32::MAX)),
        ..Thresholds::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() }
}

/// The endpoints of the cluster of this name.
pub(in crate::xds) fn endpoints(name: &str, addresses: &BTreeSet<SocketAddr>) -> ClusterLoadAssignment {
    let endpoint = |at: &SocketAddr| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address(Protocol::Tcp, at.ip().to_string(), at.port())),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: addresses.iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}
