//! A gateway in memory, and the network in front of it. It does what TCPRoutes say some time after they
//! say it, tells so in their status, and answers at two addresses as long as these are well.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::BoxFuture;
use heliostat::cluster::probe::{Dial, Stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep},
};

use crate::{server::Server, world::HOME};

/// Where the gateway is.
pub(crate) const ADDRESSES: [&str; 2] = ["10.9.9.1", "10.9.9.2"];
/// Its listeners.
pub(crate) const PORTS: RangeInclusive<u16> = 20_001..=20_012;
/// Where probes are answered.
pub(crate) const PROBE: &str = "heliostat-probe";
const CONTROLLER: &str = "gateways.test/memory";
/// How often it looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(50);

/// How an address behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Answers,
    Refuses,
    Silent,
}

/// Where a port leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    /// `shop/s1`
    pub(crate) service: String,
    pub(crate) port: u64,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// Clones are of the same gateway.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Inner>);

struct Inner {
    exporter: Server,
    state: Mutex<State>,
}

struct State {
    table: BTreeMap<u16, Backend>,
    lag: Duration,
    well: bool,
    addresses: BTreeMap<IpAddr, How>,
    /// How many controllers answer probes.
    answering: usize,
    /// Counts up with every change of what it does.
    revision: u64,
}

/// What it does at a moment.
pub(crate) struct Doing {
    pub(crate) revision: u64,
    pub(crate) table: BTreeMap<u16, Backend>,
    /// Addresses that answer.
    pub(crate) answers: BTreeMap<String, bool>,
    /// Probes are answered behind those.
    pub(crate) content: bool,
}

impl Gateway {
    /// One that its owner has just made: no route yet.
    pub(crate) fn new(exporter: &Server) -> Self {
        let addresses = ADDRESSES.map(|address| (address.parse().unwrap(), How::Answers)).into();
        let lag = Duration::from_millis(200);
        let state = State { table: BTreeMap::new(), lag, well: true, addresses, answering: 0, revision: 1 };
        let gateway = Self(Arc::new(Inner { exporter: exporter.clone(), state: Mutex::new(state) }));
        gateway.furnish();
        gateway
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        state.revision += 1;
        change(&mut state)
    }

    /// How long it takes from a route to what it does.
    pub(crate) fn lag(&self, lag: Duration) {
        self.change(|state| state.lag = lag);
    }

    /// Says that it carries nothing, or that it does again. It goes on with what it does.
    pub(crate) fn well(&self, well: bool) {
        self.change(|state| state.well = well);
    }

    pub(crate) fn set(&self, address: &str, how: How) {
        self.change(|state| state.addresses.insert(address.parse().unwrap(), how));
    }

    /// One controller more, or less, that answers probes.
    pub(crate) fn answered(&self, more: bool) {
        self.change(|state| if more { state.answering += 1 } else { state.answering -= 1 });
    }

    pub(crate) fn doing(&self) -> Doing {
        let state = self.state();
        let probed = state.table.values().any(|backend| backend.service == format!("{HOME}/{PROBE}"));
        let answers =
            state.addresses.iter().map(|(address, how)| (address.to_string(), *how == How::Answers)).collect();
        let content = probed && state.answering > 0;
        Doing { revision: state.revision, table: state.table.clone(), answers, content }
    }

    fn furnish(&self) {
        let exporter = &self.0.exporter;
        exporter.make("namespaces", &json!({"metadata": {"name": "edge"}}));
        let class = json!({"metadata": {"name": "memory"}, "spec": {"controllerName": CONTROLLER}});
        exporter.make("gatewayclasses", &class);
        let listener = |port| {
            let allowed = json!({"namespaces": {"from": "All"}});
            json!({"name": format!("tcp-{port}"), "port": port, "protocol": "TCP", "allowedRoutes": allowed})
        };
        let listeners: Vec<Value> = PORTS.map(listener).collect();
        let gateway = json!({
            "metadata": {"name": "main", "namespace": "edge"},
            "spec": {"gatewayClassName": "memory", "listeners": listeners},
        });
        exporter.make("gateways", &gateway);
        self.program();
    }

    /// Follows the routes for ever.
    pub(crate) async fn work(self) {
        let mut seen = (0, 0);
        loop {
            sleep(LOOK).await;
            let now = (self.0.exporter.version(), self.state().revision);
            if now == seen {
                continue;
            }
            let lag = self.state().lag;
            sleep(lag).await;
            self.program();
            seen = (self.0.exporter.version(), self.state().revision);
        }
    }

    /// Does what the routes say now: the oldest one of a listener has it.
    fn program(&self) {
        let exporter = &self.0.exporter;
        let mut routes: Vec<Value> = exporter.all("tcproutes").into_values().collect();
        let name =
            |route: &Value| (route["metadata"]["creationTimestamp"].to_string(), route["metadata"]["name"].to_string());
        routes.sort_by_key(name);
        let (mut table, mut attached) = (BTreeMap::new(), BTreeMap::<u16, u64>::new());
        for route in routes.iter().filter(|route| route["metadata"]["deletionTimestamp"].is_null()) {
            let backend = &route["spec"]["rules"][0]["backendRefs"][0];
            let service = format!("{}/{}", text(&route["metadata"]["namespace"]), text(&backend["name"]));
            let port = port_of(route);
            table.entry(port).or_insert(Backend { service, port: backend["port"].as_u64().unwrap() });
            *attached.entry(port).or_default() += 1;
        }
        let well = {
            let mut state = self.state();
            if state.table != table {
                state.revision += 1;
                state.table = table;
            }
            state.well
        };
        for route in &routes {
            let metadata = &route["metadata"];
            let conditions = conditions(&["Accepted", "ResolvedRefs"], well, &metadata["generation"]);
            let parent = json!({"parentRef": route["spec"]["parentRefs"][0], "controllerName": CONTROLLER, "conditions": conditions});
            let status = json!({"parents": [parent]});
            if route["status"] != status {
                let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
                exporter.change("tcproutes", namespace, &format!("{name}/status"), &json!({"status": status}));
            }
        }
        let gateway = exporter.read("gateways", "edge", "main").unwrap();
        let generation = &gateway["metadata"]["generation"];
        let listener = |port: u16| {
            let attached = attached.get(&port).copied().unwrap_or_default();
            let conditions = conditions(&["Accepted", "ResolvedRefs", "Programmed"], true, generation);
            json!({"name": format!("tcp-{port}"), "attachedRoutes": attached, "conditions": conditions})
        };
        let status = json!({
            "addresses": ADDRESSES.map(|address| json!({"type": "IPAddress", "value": address})),
            "conditions": conditions(&["Accepted", "Programmed"], true, generation),
            "listeners": PORTS.map(listener).collect::<Vec<_>>(),
        });
        if gateway["status"] != status {
            exporter.change("gateways", "edge", "main/status", &json!({"status": status}));
        }
    }

    fn uid(&self) -> String {
        let home = self.0.exporter.read("namespaces", "", "kube-system").unwrap();
        text(&home["metadata"]["uid"]).to_owned()
    }
}

fn conditions(kinds: &[&str], well: bool, generation: &Value) -> Vec<Value> {
    let (status, reason) = if well { ("True", "Programmed") } else { ("False", "Pending") };
    let condition = |kind: &&str| json!({"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": generation});
    kinds.iter().map(condition).collect()
}

/// The port of the listener that a route is on.
pub(crate) fn port_of(route: &Value) -> u16 {
    text(&route["spec"]["parentRefs"][0]["sectionName"]).strip_prefix("tcp-").unwrap().parse().unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Dial for Gateway {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            let doing = self.doing();
            let how = self.state().addresses.get(&to.ip()).copied().unwrap_or(How::Refuses);
            match how {
                How::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                How::Silent => std::future::pending().await,
                How::Answers => {}
            }
            let (mine, mut theirs) = duplex(1024);
            let backend = doing.table.get(&to.port()).filter(|backend| backend.service == format!("{HOME}/{PROBE}"));
            // Anything else accepts a connection and has nothing to say to a probe.
            if backend.is_some() && doing.content {
                let uid = self.uid();
                tokio::spawn(async move {
                    let _ = theirs.read(&mut [0; 1024]).await;
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{uid}", uid.len());
                    let _ = theirs.write_all(answer.as_bytes()).await;
                });
            }
            Ok(Box::new(mine) as Box<dyn Stream>)
        })
    }
}

/// Since when something is as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since<T> {
    pub(crate) is: T,
    pub(crate) since: Instant,
}

impl<T: PartialEq> Since<T> {
    pub(crate) fn now(is: T) -> Self {
        Self { is, since: Instant::now() }
    }

    pub(crate) fn update(&mut self, is: T) {
        if self.is != is {
            *self = Self::now(is);
        }
    }

    /// It has been so for that long.
    pub(crate) fn for_long(&self, is: &T, long: Duration) -> bool {
        self.is == *is && self.since.elapsed() >= long
    }
}
