//! Says in Envoy's own terms what a gateway is to do: pure functions from one value to one resource.
//! Never knows which Envoys there are, nor what they have already.

mod cluster;
mod host;
mod listener;

pub(super) use cluster::{cluster, endpoints};
pub(super) use host::routes;
pub(super) use listener::listener;

use envoy_types::pb::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, TcpKeepalive,
        address::Address as Kind,
        config_source::ConfigSourceSpecifier,
        socket_address::{PortSpecifier, Protocol},
    },
    google::protobuf::{Duration, UInt32Value},
};

/// How long nothing may pass in either direction before a connection, stream or request is given up.
/// Both ends send TCP keepalives, so this ends only what both have forgotten.
const IDLE: i64 = 3600;
/// How long a UDP client that is silent keeps its backend, in seconds.
const UDP_IDLE: i64 = 60;
/// How long connecting to a backend may take, in seconds.
const CONNECT: i64 = 5;
/// Backends that are tried before a connection is given up; nothing was sent to any of them.
const TRIES: u32 = 3;
/// Largest datagram that passes; Envoy's default of 1500 bytes would cut longer ones.
const DATAGRAM: u64 = 65_535;

const fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

const fn number(value: u32) -> UInt32Value {
    UInt32Value { value }
}

/// A peer that vanished is noticed after about two minutes.
const fn keepalive() -> TcpKeepalive {
    TcpKeepalive {
        keepalive_probes: Some(number(4)),
        keepalive_time: Some(number(60)),
        keepalive_interval: Some(number(15)),
    }
}

/// Where a resource finds another one: on the stream that it came by.
const fn same_stream() -> ConfigSource {
    ConfigSource {
        authorities: Vec::new(),
        initial_fetch_timeout: None,
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
    }
}

fn address(protocol: Protocol, address: impl Into<String>, port: u16) -> Address {
    let socket = SocketAddress {
        protocol: protocol.into(),
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    Address { address: Some(Kind::SocketAddress(socket)) }
}
