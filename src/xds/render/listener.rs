//! A port: one Envoy listener each, so that a change of one drains no other.
//!
//! What follows from Envoy's rules: a Port listener whose cluster changes drains; a Host listener
//! never changes, as its hosts are asked for apart; of an SNI listener whose names change, Envoy
//! drains the filter chains that changed, which are one for each cluster, and no other.

use std::collections::BTreeMap;

use envoy_types::{
    pb::{
        envoy::{
            config::{
                core::v3::{UdpSocketConfig, socket_address::Protocol},
                listener::v3::{
                    AdditionalAddress, Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
                    UdpListenerConfig, filter::ConfigType, listener_filter,
                },
            },
            extensions::filters::{
                listener::tls_inspector::v3::TlsInspector,
                network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
                udp::udp_proxy::v3::{Route, UdpProxyConfig, udp_proxy_config::RouteSpecifier},
            },
        },
        google::protobuf::{Any, UInt64Value},
        xds::{
            core::v3::TypedExtensionConfig,
            r#type::matcher::v3::{
                Matcher,
                matcher::{OnMatch, on_match::OnMatch as Then},
            },
        },
    },
    util::pack_any,
};

use super::{DATAGRAM, IDLE, TRIES, UDP_IDLE, address, host, keepalive, number, seconds};
use crate::core::envoy::{EnvoyPort, EnvoyRouting};

/// The listener of a port; none where nothing can arrive, which Envoy has no listener for.
///
/// # Errors
/// Says in words what is wrong with a routing that the port cannot have.
pub(in crate::xds) fn listener(
    port: EnvoyPort,
    routing: &EnvoyRouting,
    ipv6: bool,
) -> Result<Option<Listener>, &'static str> {
    let name = port.to_string();
    let listener = match (port, routing) {
        (EnvoyPort::Udp(_), EnvoyRouting::Port { cluster }) => udp(&name, cluster),
        (EnvoyPort::Udp(_), _) => return Err("datagrams carry neither Host nor SNI; give a UDP port to one cluster"),
        (EnvoyPort::Tcp(_), EnvoyRouting::Port { cluster }) => {
            Listener { filter_chains: vec![chain(tcp(&name, cluster))], ..Listener::default() }
        }
        (EnvoyPort::Tcp(_), EnvoyRouting::Host { .. }) => {
            let filter = filter("envoy.filters.network.http_connection_manager", pack_any(host::manager(&name)));
            Listener { filter_chains: vec![chain(filter)], ..Listener::default() }
        }
        (EnvoyPort::Tcp(_), EnvoyRouting::Sni { names }) if names.is_empty() => return Ok(None),
        (EnvoyPort::Tcp(_), EnvoyRouting::Sni { names }) => sni(&name, names),
    };
    Ok(Some(bound(listener, port, name, ipv6)))
}

fn bound(listener: Listener, port: EnvoyPort, name: String, ipv6: bool) -> Listener {
    let (protocol, keepalive) = match port {
        EnvoyPort::Tcp(_) => (Protocol::Tcp, Some(keepalive())),
        EnvoyPort::Udp(_) => (Protocol::Udp, None),
    };
    let at = |ip: &str| Some(address(protocol, ip, port.number()));
    let beside = AdditionalAddress { address: at("::"), ..AdditionalAddress::default() };
    Listener {
        name,
        address: at("0.0.0.0"),
        additional_addresses: if ipv6 { vec![beside] } else { Vec::new() },
        tcp_keepalive: keepalive,
        ..listener
    }
}

fn filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn chain(filter: Filter) -> FilterChain {
    FilterChain { filters: vec![filter], ..FilterChain::default() }
}

fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

fn tcp(name: &str, cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: Some(seconds(IDLE)),
        max_connect_attempts: Some(number(TRIES)),
        ..TcpProxy::default()
    };
    filter("envoy.filters.network.tcp_proxy", pack_any(proxy))
}

/// One filter chain for each cluster; a connection that none matches is closed.
fn sni(name: &str, names: &BTreeMap<String, String>) -> Listener {
    let mut by_cluster: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, cluster) in names {
        by_cluster.entry(cluster).or_default().push(name.clone());
    }
    let chains = by_cluster.into_iter().map(|(cluster, server_names)| FilterChain {
        name: cluster.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            server_names,
            transport_protocol: "tls".to_owned(),
            ..FilterChainMatch::default()
        }),
        ..chain(tcp(name, cluster))
    });
    let inspector = listener_filter("envoy.filters.listener.tls_inspector", pack_any(TlsInspector::default()));
    Listener { filter_chains: chains.collect(), listener_filters: vec![inspector], ..Listener::default() }
}

fn udp(name: &str, cluster: &str) -> Listener {
    let route = TypedExtensionConfig {
        name: "route".to_owned(),
        typed_config: Some(pack_any(Route { cluster: cluster.to_owned() })),
    };
    let always = OnMatch { on_match: Some(Then::Action(route)), ..OnMatch::default() };
    let proxy = UdpProxyConfig {
        stat_prefix: name.to_owned(),
        idle_timeout: Some(seconds(UDP_IDLE)),
        upstream_socket_config: Some(datagrams()),
        route_specifier: Some(RouteSpecifier::Matcher(Matcher {
            on_no_match: Some(Box::new(always)),
            ..Matcher::default()
        })),
        ..UdpProxyConfig::default()
    };
    Listener {
        listener_filters: vec![listener_filter("envoy.filters.udp_listener.udp_proxy", pack_any(proxy))],
        udp_listener_config: Some(UdpListenerConfig {
            downstream_socket_config: Some(datagrams()),
            ..UdpListenerConfig::default()
        }),
        ..Listener::default()
    }
}

const fn datagrams() -> UdpSocketConfig {
    UdpSocketConfig { max_rx_datagram_size: Some(UInt64Value { value: DATAGRAM }), prefer_gro: None }
}
