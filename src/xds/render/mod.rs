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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::core::envoy::{EnvoyHost, EnvoyPort, EnvoyProtocol, EnvoyRouting};

    fn to(cluster: &str) -> EnvoyRouting {
        EnvoyRouting::Port { cluster: cluster.into() }
    }

    fn bound_to(address: &Option<Address>) -> (i32, String) {
        let Some(Kind::SocketAddress(socket)) = address.clone().unwrap().address else { return Default::default() };
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return Default::default() };
        (socket.protocol, format!("{} {port}", socket.address))
    }

    #[test]
    fn a_port_is_opened_on_ipv6_only_when_told() {
        for (port, protocol) in [(EnvoyPort::Tcp(53), Protocol::Tcp), (EnvoyPort::Udp(53), Protocol::Udp)] {
            let listener = |ipv6| listener(port, &to("dns"), ipv6).unwrap().unwrap();
            let v4 = (protocol as i32, "0.0.0.0 53".to_owned());
            assert_eq!(bound_to(&listener(false).address), v4);
            assert!(listener(false).additional_addresses.is_empty());
            assert_eq!(bound_to(&listener(true).address), v4);
            let beside: Vec<_> =
                listener(true).additional_addresses.iter().map(|beside| bound_to(&beside.address)).collect();
            assert_eq!(beside, [(protocol as i32, ":: 53".to_owned())]);
        }
    }

    #[test]
    fn names_of_one_cluster_share_a_filter_chain_so_that_others_drain_alone() {
        let names = [("b.east", "one"), ("a.east", "one"), ("c.east", "two")];
        let names = names.map(|(name, cluster)| (name.to_owned(), cluster.to_owned())).into();
        let listener = listener(EnvoyPort::Tcp(443), &EnvoyRouting::Sni { names }, false).unwrap().unwrap();
        assert!(listener.default_filter_chain.is_none(), "an unknown name goes nowhere");
        let chains: BTreeMap<_, _> = listener
            .filter_chains
            .into_iter()
            .map(|chain| (chain.name, chain.filter_chain_match.unwrap_or_default()))
            .map(|(name, matched)| (name, (matched.transport_protocol, matched.server_names)))
            .collect();
        let chain = |names: &[&str]| ("tls".to_owned(), names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(chains["one"], chain(&["a.east", "b.east"]));
        assert_eq!(chains["two"], chain(&["c.east"]));
    }

    #[test]
    fn a_port_with_hosts_is_the_same_whatever_its_hosts_are() {
        let host = EnvoyHost { cluster: "books".into(), rewrite: None };
        let one = EnvoyRouting::Host { hosts: [("books-east".to_owned(), host)].into() };
        let none = EnvoyRouting::Host { hosts: BTreeMap::new() };
        let listener = |routing| listener(EnvoyPort::Tcp(80), routing, false).unwrap();
        assert_eq!(listener(&one), listener(&none));
    }

    #[test]
    fn nothing_listens_for_no_name_and_datagrams_have_none() {
        let none = EnvoyRouting::Sni { names: BTreeMap::new() };
        assert_eq!(listener(EnvoyPort::Tcp(443), &none, false), Ok(None));
        assert!(listener(EnvoyPort::Udp(443), &none, false).is_err());
    }

    #[test]
    fn pods_are_no_part_of_a_cluster() {
        let http2 = cluster("books", EnvoyProtocol::Http2);
        assert!(http2.load_assignment.is_none());
        assert_eq!(http2.typed_extension_protocol_options.len(), 1);
        assert_eq!(cluster("books", EnvoyProtocol::Tcp).typed_extension_protocol_options.len(), 0);
        let addresses = ["10.0.0.1:80", "[fd00::1]:80"].map(|address| address.parse().unwrap());
        let endpoints = endpoints("books", &addresses.into());
        assert_eq!(endpoints.cluster_name, "books");
        assert_eq!(endpoints.endpoints[0].lb_endpoints.len(), 2);
    }
}
