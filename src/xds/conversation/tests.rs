#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::{collections::VecDeque, net::SocketAddr};

use proptest::prelude::*;

use super::{
    fake::{Fake, about},
    *,
};
use crate::core::envoy::{EnvoyCluster, EnvoyConfig, EnvoyHost, EnvoyProtocol};

fn cluster(protocol: EnvoyProtocol, endpoints: &[u16]) -> EnvoyCluster {
    let address = |port: &u16| SocketAddr::from(([10, 0, 0, 1], *port));
    EnvoyCluster { protocol, endpoints: endpoints.iter().map(address).collect() }
}

/// TCP ports and the clusters that they go to.
fn tcp(ports: &[(u16, &str)]) -> EnvoyConfig {
    let mut config = EnvoyConfig::default();
    for (port, name) in ports {
        config.ports.insert(EnvoyPort::Tcp(*port), EnvoyRouting::Port { cluster: (*name).to_owned() });
        config.clusters.insert((*name).to_owned(), cluster(EnvoyProtocol::Tcp, &[80]));
    }
    config
}

/// Adds a port with hosts, each with a cluster of its own name.
fn with_hosts(mut config: EnvoyConfig, port: u16, names: &[&str]) -> EnvoyConfig {
    let host = |name: &&str| ((*name).to_owned(), EnvoyHost { cluster: (*name).to_owned(), rewrite: None });
    let hosts = names.iter().map(host).collect();
    config.ports.insert(EnvoyPort::Tcp(port), EnvoyRouting::Host { hosts });
    for name in names {
        config.clusters.insert((*name).to_owned(), cluster(EnvoyProtocol::Http1, &[80]));
    }
    config
}

/// An Envoy and what stands between it and the server.
#[derive(Default)]
struct Line {
    server: Conversation,
    envoy: Fake,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    snapshot: Arc<Snapshot>,
    /// What was said, as `kind+name` and `kind-name`.
    said: Vec<String>,
}

impl Line {
    fn connected(config: EnvoyConfig) -> Self {
        let mut line = Self::default();
        line.connect();
        line.tell(config);
        line.settle();
        line
    }

    /// A new stream to a server that knows the same.
    fn connect(&mut self) {
        self.server = Conversation::default();
        self.server.tell(Arc::clone(&self.snapshot));
        self.responses.clear();
        self.requests = self.envoy.hello().into();
    }

    fn tell(&mut self, config: EnvoyConfig) {
        self.snapshot = Arc::new(Snapshot::new(config, &self.snapshot));
        self.server.tell(Arc::clone(&self.snapshot));
        self.speak();
    }

    fn speak(&mut self) {
        for response in self.server.speak() {
            let kind = Kind::parse(&response.type_url).unwrap();
            self.said.extend(response.resources.iter().map(|resource| format!("{kind:?}+{}", resource.name)));
            self.said.extend(response.removed_resources.iter().map(|name| format!("{kind:?}-{name}")));
            self.responses.push_back(response);
        }
    }

    fn hear_one(&mut self) -> bool {
        let request = self.requests.pop_front();
        let heard = request.map(|request| self.server.hear(request)).is_some();
        self.speak();
        heard
    }

    fn answer_one(&mut self) -> bool {
        let response = self.responses.pop_front();
        response.map(|response| self.requests.extend(self.envoy.hear(&response))).is_some()
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.hear_one() && !self.answer_one() {
                return;
            }
        }
        panic!("the server never stops: {:?}", self.said.last());
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Everything that is said because of a change.
    fn said_of(&mut self, config: EnvoyConfig) -> Vec<String> {
        self.said();
        self.tell(config);
        self.settle();
        self.said()
    }
}

#[test]
fn clusters_come_first_then_their_endpoints_then_ports_then_their_hosts() {
    let mut line = Line::connected(with_hosts(tcp(&[(1, "a")]), 80, &["b"]));
    let expected =
        ["Cluster+a", "Cluster+b", "Endpoints+a", "Endpoints+b", "Listener+tcp-1", "Listener+tcp-80", "Routes+tcp-80"];
    assert_eq!(line.said(), expected);
    assert_eq!(line.server.report().serving, line.snapshot.config().ports);
    assert_eq!(line.server.report().refused, BTreeMap::new());
}

#[test]
fn nothing_is_said_before_it_is_known_what_an_envoy_is_to_do() {
    let mut line = Line::connected(tcp(&[(1, "a")]));
    line.server = Conversation::default();
    line.requests = line.envoy.hello().into();
    line.said();
    line.settle();
    assert_eq!(line.said(), [""; 0]);
    assert!(line.responses.is_empty());
}

#[test]
fn an_envoy_that_is_to_do_nothing_is_told_so_that_it_starts() {
    let mut line = Line::default();
    line.connect();
    line.hear_one();
    line.hear_one();
    let kinds: Vec<_> = line.responses.iter().map(|response| response.type_url.as_str()).collect();
    assert_eq!(kinds, [Kind::Cluster.type_url(), Kind::Listener.type_url()]);
    line.settle();
    assert!(line.responses.is_empty(), "it is told once");
}

#[test]
fn the_first_ports_come_all_at_once() {
    let mut line = Line::default();
    line.connect();
    line.tell(tcp(&[(1, "a"), (2, "b")]));
    // Clusters, their answer, and the request for endpoints before the answer to it.
    while !line.said.iter().any(|said| said.starts_with("Endpoints")) {
        line.hear_one();
        line.answer_one();
    }
    assert!(!line.said.iter().any(|said| said.starts_with("Listener")), "{:?}", line.said);
    line.settle();
    assert_eq!(line.said()[4..], ["Listener+tcp-1", "Listener+tcp-2"]);
}

#[test]
fn a_new_stream_repeats_nothing() {
    let config = with_hosts(tcp(&[(1, "a"), (2, "b")]), 80, &["c"]);
    let mut line = Line::connected(config.clone());
    line.said();
    line.connect();
    line.settle();
    assert_eq!(line.said(), [""; 0]);
    assert_eq!(line.server.report().serving, config.ports);
    // Another replica made the same from scratch.
    line.snapshot = Arc::new(Snapshot::new(config.clone(), &Snapshot::default()));
    line.connect();
    line.settle();
    assert_eq!(line.said(), [""; 0]);
    assert_eq!(line.server.report().serving, config.ports);
}

#[test]
fn what_went_while_no_stream_was_open_is_taken_away() {
    let mut line = Line::connected(tcp(&[(1, "a"), (2, "b")]));
    line.said();
    line.snapshot = Arc::new(Snapshot::new(tcp(&[(2, "b")]), &line.snapshot));
    line.connect();
    line.settle();
    assert_eq!(line.said(), ["Listener-tcp-1", "Cluster-a"]);
}

#[test]
fn pods_that_come_and_go_change_endpoints_only() {
    let mut line = Line::connected(tcp(&[(1, "a"), (2, "b")]));
    let mut config = tcp(&[(1, "a"), (2, "b")]);
    config.clusters.insert("a".to_owned(), cluster(EnvoyProtocol::Tcp, &[80, 81]));
    assert_eq!(line.said_of(config), ["Endpoints+a"]);
}

#[test]
fn a_host_that_is_added_touches_no_port_and_unserves_no_other() {
    let mut line = Line::connected(with_hosts(tcp(&[]), 80, &["a"]));
    line.said();
    line.tell(with_hosts(tcp(&[]), 80, &["a", "b"]));
    let mut served = Vec::new();
    while line.hear_one() || line.answer_one() {
        let Some(EnvoyRouting::Host { hosts }) = line.server.report().serving.remove(&EnvoyPort::Tcp(80)) else {
            panic!("the port was gone for a moment");
        };
        assert!(hosts.contains_key("a"));
        served.push(hosts.len());
    }
    assert_eq!(served.last(), Some(&2));
    assert_eq!(line.said(), ["Cluster+b", "Endpoints+b", "Routes+tcp-80"]);
}

#[test]
fn a_port_moves_before_its_old_cluster_goes() {
    let mut line = Line::connected(tcp(&[(1, "a"), (2, "b")]));
    let said = line.said_of(tcp(&[(1, "new"), (2, "b")]));
    assert_eq!(said, ["Cluster+new", "Endpoints+new", "Listener+tcp-1", "Cluster-a"]);
}

#[test]
fn a_cluster_that_changes_gets_its_endpoints_again() {
    let mut line = Line::connected(with_hosts(tcp(&[]), 80, &["a"]));
    let mut config = with_hosts(tcp(&[]), 80, &["a"]);
    config.clusters.insert("a".to_owned(), cluster(EnvoyProtocol::Http2, &[80]));
    assert_eq!(line.said_of(config), ["Cluster+a", "Endpoints+a"]);
}

#[test]
fn a_refused_port_is_told_of_once_and_disturbs_no_other() {
    let mut line = Line::connected(tcp(&[(1, "a"), (2, "b")]));
    line.envoy.refuses.insert((Kind::Listener, "tcp-1".to_owned()));
    let said = line.said_of(tcp(&[(1, "new"), (2, "new"), (3, "new")]));
    let count = |what: &str| said.iter().filter(|said| *said == what).count();
    // Once among the others, once in a half of them, once alone.
    assert!(count("Listener+tcp-1") <= 3, "{said:?}");
    assert_eq!(count("Cluster-a"), 0, "the refused port still uses it");
    assert_eq!(count("Cluster-b"), 1);
    let report = line.server.report();
    let port = |cluster: &str| EnvoyRouting::Port { cluster: cluster.to_owned() };
    let serving = [(1, port("a")), (2, port("new")), (3, port("new"))];
    assert_eq!(report.serving, serving.map(|(number, routing)| (EnvoyPort::Tcp(number), routing)).into());
    assert_eq!(report.refused, [(EnvoyPort::Tcp(1), "cannot take tcp-1".to_owned())].into());

    // It goes on to be refused: nothing is said by itself, and once when it is tried again.
    line.speak();
    assert_eq!(line.said(), [""; 0]);
    line.server.retry();
    line.speak();
    assert!(line.server.report().refused.contains_key(&EnvoyPort::Tcp(1)), "nor is it forgotten meanwhile");
    line.settle();
    assert_eq!(line.said(), ["Listener+tcp-1"]);

    line.envoy.refuses.clear();
    line.server.retry();
    line.speak();
    line.settle();
    assert_eq!(line.said(), ["Listener+tcp-1", "Cluster-a"]);
    assert_eq!(line.server.report().refused, BTreeMap::new());
}

#[test]
fn another_content_is_told_at_once_after_a_refusal() {
    let mut line = Line::connected(tcp(&[(2, "b")]));
    line.envoy.refuses.insert((Kind::Listener, "tcp-1".to_owned()));
    line.said_of(tcp(&[(1, "a"), (2, "b")]));
    assert_eq!(line.server.report().refused.len(), 1);
    line.envoy.refuses.clear();
    assert_eq!(line.said_of(tcp(&[(1, "b"), (2, "b")])), ["Cluster-a", "Listener+tcp-1"]);
    assert_eq!(line.server.report().refused, BTreeMap::new());
}

#[test]
fn a_refused_cluster_is_told_for_the_ports_that_use_it() {
    let mut line = Line::connected(tcp(&[(2, "b")]));
    line.envoy.refuses.insert((Kind::Cluster, "a".to_owned()));
    line.said_of(with_hosts(tcp(&[(1, "a"), (2, "b")]), 80, &["a", "c"]));
    let report = line.server.report();
    let told = |port| report.refused.get(&EnvoyPort::Tcp(port)).map(String::as_str);
    assert_eq!([told(1), told(2), told(80)], [Some("cannot take a"), None, Some("cannot take a")]);
    let serving: Vec<_> = report.serving.keys().map(|port| port.number()).collect();
    assert_eq!(serving, [2, 80], "a port to nowhere is not served");
    let EnvoyRouting::Host { hosts } = &report.serving[&EnvoyPort::Tcp(80)] else { panic!("80 has hosts") };
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn endpoints_of_an_unknown_cluster_are_said_not_to_be_there() {
    let mut line = Line::connected(tcp(&[(1, "a")]));
    line.said();
    let names = vec!["gone".to_owned()];
    line.requests.push_back(DeltaDiscoveryRequest { resource_names_subscribe: names, ..about(Kind::Endpoints) });
    line.settle();
    assert_eq!(line.said(), ["Endpoints-gone"]);
}

#[test]
fn an_envoy_counts_when_it_has_taken_over_everything() {
    let mut line = Line::default();
    line.connect();
    line.tell(with_hosts(tcp(&[(1, "a")]), 80, &["b"]));
    let mut reports = Vec::new();
    while line.hear_one() || line.answer_one() {
        reports.extend(line.server.take_report());
    }
    let serving: Vec<_> = reports.iter().map(|report| &report.serving).collect();
    assert_eq!(serving, [&line.snapshot.config().ports], "it never served less than all");
    line.connect();
    assert_eq!(line.server.take_report(), None, "nor is it known yet what it brings");
    line.settle();
    assert_eq!(line.server.take_report().map(|report| report.serving), Some(line.snapshot.config().ports.clone()));
}

#[test]
fn an_answer_to_an_old_message_counts_for_nothing() {
    let mut line = Line::default();
    line.connect();
    line.tell(tcp(&[(1, "a")]));
    line.hear_one();
    let nonce = "0".to_owned();
    line.server.hear(DeltaDiscoveryRequest { response_nonce: nonce, ..about(Kind::Cluster) });
    assert!(line.server.speak().is_empty(), "the answer to the current one is still awaited");
    assert!(!line.server.clusters.has_any("a"));
}

#[test]
fn a_kind_that_is_not_served_is_passed_over() {
    let mut line = Line::connected(tcp(&[(1, "a")]));
    let type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned();
    line.server.hear(DeltaDiscoveryRequest { type_url, ..DeltaDiscoveryRequest::default() });
    assert!(line.server.speak().is_empty());
}

#[test]
fn a_udp_port_with_hosts_is_refused_by_the_server_itself() {
    let mut config = with_hosts(tcp(&[(1, "a")]), 80, &["b"]);
    let hosts = config.ports.remove(&EnvoyPort::Tcp(80)).unwrap();
    config.ports.insert(EnvoyPort::Udp(80), hosts);
    let line = Line::connected(config);
    let report = line.server.report();
    assert!(report.refused[&EnvoyPort::Udp(80)].starts_with("datagrams carry neither"));
    assert_eq!(report.serving.len(), 1);
}

/// What may happen to a line.
#[derive(Clone, Debug)]
enum Step {
    Hear,
    Answer,
    Tell(EnvoyConfig),
    Refuse(Kind, String),
    Allow,
    Retry,
    Reconnect,
}

fn configs() -> impl Strategy<Value = EnvoyConfig> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let ports = prop::collection::btree_map(1..5u16, name.clone(), 0..4);
    let hosts = prop::collection::btree_set(name, 0..4);
    (ports, hosts, 0..3u16, any::<bool>()).prop_map(|(ports, hosts, pods, sni)| {
        let config = tcp(&ports.into_iter().collect::<Vec<_>>());
        let mut config = with_hosts(config, 80, &hosts.into_iter().collect::<Vec<_>>());
        if sni {
            let names = config.clusters.keys().map(|name| (format!("{name}.example"), name.clone())).collect();
            config.ports.insert(EnvoyPort::Tcp(443), EnvoyRouting::Sni { names });
        }
        config.ports.retain(|_, routing| !routing.clusters().is_empty());
        for cluster in config.clusters.values_mut() {
            cluster.endpoints = (0..pods).map(|port| SocketAddr::from(([10, 0, 0, 1], port + 1))).collect();
        }
        config
    })
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let name = prop::sample::select(vec!["a", "b", "tcp-1", "tcp-2", "tcp-80", "tcp-443"]);
    prop_oneof![
        8 => Just(Step::Hear),
        8 => Just(Step::Answer),
        3 => configs().prop_map(Step::Tell),
        1 => (kind, name).prop_map(|(kind, name)| Step::Refuse(kind, name.to_owned())),
        1 => Just(Step::Allow),
        1 => Just(Step::Retry),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// In any order of changes, answers, refusals and broken streams nothing is used before it is there
    /// or taken while it is used, which the fake Envoy asserts; and in the end all is as it should be.
    #[test]
    fn whatever_happens_the_end_is_what_was_asked_for(steps in prop::collection::vec(step(), 0..120)) {
        let mut line = Line::default();
        line.connect();
        for step in steps {
            match step {
                Step::Hear => drop(line.hear_one()),
                Step::Answer => drop(line.answer_one()),
                Step::Tell(config) => line.tell(config),
                Step::Refuse(kind, name) => drop(line.envoy.refuses.insert((kind, name))),
                Step::Allow => line.envoy.refuses.clear(),
                Step::Retry => line.server.retry(),
                Step::Reconnect => line.connect(),
            }
            line.speak();
        }
        line.envoy.refuses.clear();
        line.settle();
        line.server.retry();
        line.speak();
        line.settle();
        for kind in Kind::ALL {
            let wanted: BTreeMap<_, _> = line.snapshot.all(kind).iter().map(|(name, r)| (name, &r.version)).collect();
            let has = line.envoy.has.get(&kind).into_iter().flatten().map(|(name, (version, _))| (name, version));
            prop_assert_eq!(has.collect::<BTreeMap<_, _>>(), wanted, "{:?}", kind);
        }
        let report = line.server.report();
        prop_assert_eq!(&report.serving, &line.snapshot.config().ports);
        prop_assert_eq!(report.refused, BTreeMap::new());
        line.said();
        line.connect();
        line.settle();
        prop_assert_eq!(line.said(), Vec::<String>::new());
    }
}
