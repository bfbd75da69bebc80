//! The whole controller between an importer's API server and three exporters', all in memory.
//!
//! Everything is decided by a seed: time is tokio's paused one, the controller's jitter comes from
//! a generator that is seeded here, and its calendar is this file's.

pub(crate) mod oracle;
pub(crate) mod scene;

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    panic,
    sync::{
        Arc, Once,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use heliostat::{
    clock::Clock,
    cluster::{
        credentials::Host,
        probe::{Dial, Stream},
        sessions::Connect,
    },
    run::{Config, Export, Surroundings, run_with},
};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::server::{Mode, Server, Trace, Wire};

/// The controller's namespace.
pub(crate) const HOME: &str = "heliostat-system";
/// The exporters, which are the links' names too.
pub(crate) const LINKS: [&str; 3] = ["east", "north", "south"];

/// Chance, from a seed.
pub(crate) struct Chance(TestRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number below that one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let index = self.below(all.len() as u64);
        &all[usize::try_from(index).unwrap()]
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            let other = usize::try_from(self.below(end as u64 + 1)).unwrap();
            all.swap(end, other);
        }
    }
}

thread_local! {
    /// Panics of this thread, in whatever task: nobody waits for most of them, so that theirs would go unnoticed.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            PANICS.set(PANICS.get() + 1);
            told(what);
        }));
    });
    PANICS.set(0);
}

/// Runs something in a runtime of its own, in paused time, with the controller's own chance seeded.
pub(crate) fn simulate<T>(seed: u64, what: impl AsyncFnOnce() -> T) -> T {
    fastrand::seed(seed);
    count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(what());
    assert_eq!(PANICS.get(), 0, "tasks that panicked");
    outcome
}

/// All clusters.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) importer: Server,
    pub(crate) exporters: BTreeMap<&'static str, Server>,
    /// By what importers probe gateways.
    pub(crate) dial: Arc<dyn Dial>,
    started: Instant,
    /// How far the calendar is ahead, in seconds.
    ahead: Arc<AtomicI64>,
}

/// Where no gateway is.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// A controller that runs.
pub(crate) struct Controller {
    /// To the importer.
    pub(crate) wire: Wire,
    /// To each exporter.
    pub(crate) links: BTreeMap<&'static str, Wire>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let trace = Trace::default();
        let server = |name: &str| Server::new(name, trace.clone());
        let exporters = LINKS.into_iter().map(|name| (name, server(name))).collect();
        let (importer, started) = (server("west"), Instant::now());
        Self { trace: trace.clone(), importer, exporters, dial: Arc::new(Nowhere), started, ahead: Arc::default() }
    }

    /// The same exporters and calendar with an importer in which nothing has been made yet.
    pub(crate) fn with_another_importer(&self) -> Self {
        Self { importer: Server::new("west", Trace::default()), ..self.clone() }
    }

    /// The calendar jumps, for the controllers and for nobody else.
    pub(crate) fn jump(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (started, ahead) = (self.started, Arc::clone(&self.ahead));
        Clock::new(move || {
            let passed = SignedDuration::try_from(started.elapsed()).unwrap();
            let start = Timestamp::from_second(1_767_225_600).unwrap();
            start + passed + SignedDuration::from_secs(ahead.load(Ordering::Relaxed))
        })
    }

    /// Starts a controller of that name in the importer.
    pub(crate) fn start(&self, name: &str, leader_elect: bool) -> Controller {
        self.start_in(&self.importer, name, leader_elect, None)
    }

    /// Starts one in an exporter, which exports.
    pub(crate) fn start_exporter(&self, link: &str, name: &str, leader_elect: bool) -> Controller {
        let nowhere = ([127, 0, 0, 1], 0).into();
        let export = Export { envoy_image: "envoy".to_owned(), xds_listen: nowhere, probe_listen: nowhere };
        self.start_in(&self.exporters[link], name, leader_elect, Some(export))
    }

    fn start_in(&self, home: &Server, name: &str, leader_elect: bool, export: Option<Export>) -> Controller {
        let (wire, shutdown) = (Wire::default(), CancellationToken::new());
        let links: BTreeMap<&'static str, Wire> = LINKS.into_iter().map(|link| (link, Wire::default())).collect();
        let config = Config {
            kubeconfig: None,
            context: None,
            namespace: HOME.to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            leader_elect,
            cluster_cidrs: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            export,
        };
        let around = Surroundings {
            client: home.client(name, &wire),
            connect: self.connect(name, links.clone()),
            dial: Arc::clone(&self.dial),
            clock: self.clock(),
        };
        let token = shutdown.clone();
        let running = tokio::spawn(async move { run_with(&config, around, token).await });
        Controller { wire, links, shutdown, running }
    }

    fn connect(&self, name: &str, links: BTreeMap<&'static str, Wire>) -> Connect {
        let (exporters, name) = (self.exporters.clone(), name.to_owned());
        Arc::new(move |credentials, _| -> Result<Client, http::Error> {
            let Host::Name(host) = &credentials.server.host else { panic!("a link leads to an address") };
            let exporter = host.strip_suffix(".example").unwrap();
            Ok(exporters[exporter].client(&name, &links[exporter]))
        })
    }
}

impl Controller {
    /// Kills it: nothing of it is heard any more from now on.
    pub(crate) async fn kill(self) {
        self.wire.set(Mode::Dead);
        self.links.values().for_each(|wire| wire.set(Mode::Dead));
        self.stop().await;
    }

    /// Ends it as a pod is ended, which takes at most its grace period.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(30), self.running).await.expect("the controller stops in time").unwrap();
    }

    /// Waits until it has died by itself.
    pub(crate) async fn death(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        while !self.wire.is_dead() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
        self.wire.is_dead()
    }
}
