//! Wires the controller together: clients, watches, sessions, the engine, the writer, Events,
//! leader election, probes; and stops it all in order. The only file that knows everything.
//!
//! It never decides: what is written follows from the engine alone. It ends only by `shutdown`, a
//! taken port or a client that cannot be made; rights, CRDs or an API server that are missing keep
//! it waiting, not ready, saying what is missing.

mod deciding;
mod exporting;

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use deciding::{Deciding, Hands, Pulse};
use exporting::{ExportHealth, Exporting, Listeners, Partners};
use futures::future::join_all;
use ipnet::IpNet;
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{
        events::Reporter,
        lease::{DURATION, Elector, Leadership, RENEW_WITHIN},
        writer::Writer,
    },
    clock::Clock,
    cluster::{
        client::{LocalClientError, local::UNDELIVERED, local_client},
        dns,
        local::{self, LocalHealth, LocalKind},
        probe::{self, Dial, Tcp},
        sessions::{Connect, Sessions, system_connect},
        version::own_server_set_back,
    },
    core::{
        engine::{Engine, Settings},
        export::exporter::ExportSettings,
    },
    gateway,
    metrics::Metrics,
    serve::{self, Probed},
};

/// Most unanswered writes of mirrors.
pub const WRITES_IN_FLIGHT: usize = 32;
/// News that wait for the engine; who has more waits until there is room.
const NEWS: usize = 64;
/// How long a stop waits for answers to writes that were sent.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a stop waits for anything else.
const GOODBYE: Duration = Duration::from_secs(5);

// What a leader sent last has been given up by the network before another one may lead.
const _: () = assert!(RENEW_WITHIN.as_secs() + UNDELIVERED.as_secs() <= DURATION.as_secs());

/// What an operator says on the command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kubeconfig of this cluster; none: the environment's, else the pod's account.
    pub kubeconfig: Option<PathBuf>,
    /// Context in it.
    pub context: Option<String>,
    /// The controller's own namespace.
    pub namespace: String,
    /// Where probes and metrics are answered.
    pub listen: SocketAddr,
    /// Write only while holding the Lease.
    pub leader_elect: bool,
    /// Ranges of this cluster that its API does not tell.
    pub cluster_cidrs: Vec<IpNet>,
    /// DNS domain of this cluster.
    pub cluster_domain: String,
    /// This cluster is an exporter too; none: an importer only.
    pub export: Option<Export>,
}

/// What an operator says of the exporter's side.
#[derive(Clone, Debug)]
pub struct Export {
    /// Image of Heliostat's own gateway.
    pub envoy_image: String,
    /// Where Heliostat's own gateways are told what to do.
    pub xds_listen: SocketAddr,
    /// Where other clusters' probes of gateways are answered.
    pub probe_listen: SocketAddr,
}

/// Why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no client for this cluster.
    #[error(transparent)]
    Client(#[from] LocalClientError),
    /// The port is taken, or the address is not this machine's.
    #[error(
        "cannot listen on {address} for {what}: {source}; end what uses the port, or give another address with {flag}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
}

async fn listen(address: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, what, flag, source })
}

/// What a controller meets the world by.
#[derive(Clone)]
pub struct Surroundings {
    /// This cluster.
    pub client: Client,
    /// Makes the clients of links.
    pub connect: Connect,
    /// By what gateways are probed.
    pub dial: Arc<dyn Dial>,
    /// The wall clock.
    pub clock: Clock,
}

/// Runs the controller until `shutdown`, then ends what is under way. Begins anew, as a new process
/// would, when this cluster's API server went back to an earlier state: what is known is not so any
/// more, and no watch would tell.
///
/// # Errors
/// [`RunError`], before anything was started.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let connect = system_connect();
    while !shutdown.is_cancelled() {
        let client = local_client(config.kubeconfig.as_deref(), config.context.as_deref()).await?;
        let listener = listen(config.listen, "probes and metrics", "--listen").await?;
        let listeners = match &config.export {
            Some(export) => Some(Listeners {
                xds: listen(export.xds_listen, "Heliostat's own gateways", "--xds-listen").await?,
                probes: listen(export.probe_listen, "other clusters' probes", "--probe-listen").await?,
            }),
            None => None,
        };
        let Config { listen, namespace, .. } = &config;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %listen, namespace, "starting");
        let around =
            Surroundings { client, connect: Arc::clone(&connect), dial: Arc::new(Tcp), clock: Clock::system() };
        run_once(&config, around, Some(listener), listeners, &shutdown).await;
    }
    Ok(())
}

/// The same without any socket: nobody who asks is answered, Heliostat's own gateways and other
/// clusters' probes included. For simulations.
pub async fn run_with(config: &Config, around: Surroundings, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        run_once(config, around.clone(), None, None, &shutdown).await;
    }
}

/// Until `shutdown`, or until this cluster is not what it was.
async fn run_once(
    config: &Config,
    around: Surroundings,
    listener: Option<TcpListener>,
    listeners: Option<Listeners>,
    shutdown: &CancellationToken,
) {
    let end = shutdown.child_token();
    let (client, set_back) = (around.client.clone(), end.clone());
    let looking = tokio::spawn(async move {
        if set_back.run_until_cancelled(own_server_set_back(&client)).await.is_some() {
            tracing::warn!("this cluster's API server went back to an earlier state; everything is read anew");
            set_back.cancel();
        }
    });
    run_in(config, around, listener, listeners, end).await;
    looking.abort();
}

async fn run_in(
    config: &Config,
    around: Surroundings,
    listener: Option<TcpListener>,
    listeners: Option<Listeners>,
    shutdown: CancellationToken,
) {
    let Surroundings { client, connect, dial, clock } = around;
    let metrics = Arc::new(Metrics::default());
    let pulse = Arc::new(Pulse::default());
    // Ends later than `shutdown`: what answers to writes under way need.
    let end = CancellationToken::new();
    let (leadership, election) = take_part(config, &client, &end);

    // Read: this cluster, the links, hostnames, and whether gateways answer.
    let (tell, news) = mpsc::channel(NEWS);
    let health = local::watch_all(client.clone(), config.export.is_some(), tell.clone(), shutdown.clone());
    let (hosts, wanted_hosts) = watch::channel(dns::Hosts::new());
    let names = tokio::spawn(dns::run(wanted_hosts, tell.clone(), shutdown.clone()));
    let (targets, wanted_targets) = watch::channel(BTreeMap::new());
    let prober = tokio::spawn(probe::run(wanted_targets, dial, tell.clone(), shutdown.clone()));
    let partners =
        Partners { client: &client, leadership: &leadership, metrics: &metrics, tell: &tell, shutdown: &shutdown };
    let exporting = config.export.as_ref().map(|_| Exporting::begin(config, listeners, &partners));
    let sessions = Arc::new(Sessions::new(client.clone(), config.namespace.as_str(), tell, connect, clock.clone()));
    let links = tokio::spawn(follow_links(Arc::clone(&sessions), shutdown.clone()));

    // Answer.
    let probes = Probes {
        health,
        exporting: exporting.as_ref().map(Exporting::health),
        leadership: leadership.clone(),
        metrics: Arc::clone(&metrics),
        pulse: Arc::clone(&pulse),
    };
    let served = listener.map(|listener| tokio::spawn(serve::serve(listener, Arc::new(probes), end.clone())));

    // Decide and write.
    let (reporter, sender) = Reporter::new(client.clone(), leadership.clone(), Arc::clone(&metrics), host());
    let events = tokio::spawn(sender.run(shutdown.clone()));
    let writer = Writer::new(client, leadership, Arc::clone(&metrics), shutdown.clone());
    let hands = Hands { writer, sessions, hosts, targets, exporting, reporter, metrics: Arc::clone(&metrics) };
    let engine = Engine::new(settings(config));
    let deciding = Deciding { engine, news, hands, metrics, held: BTreeMap::new(), pulse, clock };
    let Hands { writer, exporting, .. } = deciding.run(&shutdown).await;

    writer.drain(DRAIN).await;
    end.cancel();
    let tasks = [Some(names), Some(prober), Some(links), Some(events), served, election].into_iter().flatten();
    let exporters = exporting.map(Exporting::into_tasks).into_iter().flatten();
    if timeout(GOODBYE, join_all(tasks.chain(exporters))).await.is_err() {
        tracing::warn!("stopped without waiting any longer for an answer");
    }
    tracing::info!("stopped");
}

fn settings(config: &Config) -> Settings {
    Settings {
        namespace: config.namespace.clone(),
        cluster_domain: config.cluster_domain.clone(),
        cluster_cidrs: config.cluster_cidrs.clone(),
        writes_in_flight: WRITES_IN_FLIGHT,
        export: config.export.as_ref().map(|export| ExportSettings {
            providers: gateway::provider,
            kinds: gateway::kinds(),
            envoy_image: export.envoy_image.clone(),
        }),
    }
}

async fn follow_links(sessions: Arc<Sessions>, shutdown: CancellationToken) {
    sessions.run(shutdown).await;
}

/// Takes part in leader election until `end`, if that was asked for.
fn take_part(config: &Config, client: &Client, end: &CancellationToken) -> (Leadership, Option<JoinHandle<()>>) {
    if !config.leader_elect {
        return (Leadership::always(), None);
    }
    let (mut elector, leadership) = Elector::new(client.clone(), &config.namespace, &host());
    let end = end.clone();
    let election = tokio::spawn(async move {
        elector.run(&end).await;
        elector.release().await;
    });
    (leadership, Some(election))
}

/// Who this replica is to users: the pod's name.
fn host() -> String {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "heliostat".to_owned())
}

/// What the probes tell.
struct Probes {
    health: watch::Receiver<LocalHealth>,
    /// Of an exporter.
    exporting: Option<ExportHealth>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
}

impl Probed for Probes {
    fn alive(&self) -> bool {
        self.pulse.beats()
    }

    fn ready(&self) -> (bool, String) {
        let health = self.health.borrow();
        let state = |kind: LocalKind| match health.problems_of(kind).as_slice() {
            [] => format!("{kind}: followed\n"),
            problems => problems.iter().map(|problem| format!("{problem}\n")).collect(),
        };
        let mut told: String = health.kinds().map(state).collect();
        if let Some(exporting) = &self.exporting {
            told.push_str(&exporting.to_string());
        }
        (health.is_ready(), told)
    }

    fn metrics(&self) -> Result<String, std::fmt::Error> {
        self.metrics.leading(self.leadership.remaining().is_some());
        self.metrics.encode()
    }
}
