//! A controller's xDS server and real Envoys, all on loopback.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{SocketAddr, TcpListener as Probe},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use heliostat::{
    core::envoy::{EnvoyCluster, EnvoyConfig, EnvoyPort, EnvoyProtocol, EnvoyRouting, EnvoyState},
    gateway::bootstrap::{Bootstrap, START},
    xds::{
        Xds,
        pki::{self, Authority, Identity},
    },
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::call;

/// How long anything may take before a test gives it up. No test measures time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that nothing uses; below those that the kernel gives out by itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if Probe::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A server with certificates of its own, as one replica of a controller has it.
pub(crate) struct Controller {
    pub(crate) xds: Xds,
    pub(crate) address: SocketAddr,
    authority: Arc<Authority>,
    tls: watch::Sender<Arc<tokio_rustls::rustls::ServerConfig>>,
    leads: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Controller {
    pub(crate) async fn start() -> Self {
        Self::replica(Arc::new(Authority::new(Timestamp::now()).unwrap()), "127.0.0.1:0").await
    }

    async fn replica(authority: Arc<Authority>, address: &str) -> Self {
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        let address = listener.local_addr().unwrap();
        let identity = authority.issue_server(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let config = pki::server_config(&identity, &authority.identity().certificate).unwrap();
        let (tls, current) = watch::channel(Arc::new(config));
        let (xds, stop) = (Xds::new(), CancellationToken::new());
        let (served, stopped) = (xds.clone(), stop.clone());
        let leads = Arc::new(AtomicBool::new(true));
        let leading = Arc::clone(&leads);
        let leading = Arc::new(move || leading.load(Ordering::Relaxed));
        tokio::spawn(async move { served.serve(listener, current, leading, stopped).await });
        Self { xds, address, authority, tls, leads, stop }
    }

    /// Whether it leads, from now on.
    pub(crate) fn leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    /// Another one takes its place, under the same address.
    pub(crate) async fn replace(self) -> Self {
        let (authority, address) = (Arc::clone(&self.authority), self.address.to_string());
        drop(self);
        Self::replica(authority, &address).await
    }

    /// From now on its certificate, and what it trusts, is of another authority beside the old one.
    pub(crate) fn rotate(&mut self) -> String {
        let new = Authority::new(Timestamp::now()).unwrap();
        let both = format!("{}{}", self.authority.identity().certificate, new.identity().certificate);
        let identity = new.issue_server(&["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        self.tls.send_replace(Arc::new(pki::server_config(&identity, &both).unwrap()));
        self.authority = Arc::new(new);
        both
    }

    pub(crate) fn client(&self, binding: &str) -> Identity {
        self.authority.issue_client(binding, Timestamp::now()).unwrap()
    }

    /// An Envoy of a binding.
    pub(crate) fn envoy(&self, binding: &str, node: &str) -> Envoy {
        self.envoy_with(binding, node, &self.client(binding))
    }

    /// An Envoy that asks for a binding with this certificate.
    pub(crate) fn envoy_with(&self, binding: &str, node: &str, identity: &Identity) -> Envoy {
        Envoy::start(binding, node, self.address, identity, &self.authority.identity().certificate)
    }

    /// Waits for a state in which this holds.
    pub(crate) async fn state(&self, holds: impl Fn(&EnvoyState) -> bool) -> EnvoyState {
        let mut last = None;
        let waited = timeout(PATIENCE, async {
            loop {
                let state = self.xds.next_state().await;
                if holds(&state) {
                    return state;
                }
                last = Some(state);
            }
        })
        .await;
        waited.unwrap_or_else(|_| panic!("waited for another state than {last:#?}"))
    }

    /// Says what Envoys are to do, and waits until all that are connected do it.
    pub(crate) async fn set(&self, binding: &str, config: &EnvoyConfig) -> EnvoyState {
        self.xds.set(binding, Some(config.clone()));
        self.state(|state| state.connected > 0 && state.serving == config.ports).await
    }
}

/// A running Envoy.
pub(crate) struct Envoy {
    child: Child,
    folder: TempDir,
    admin: u16,
    pub(crate) ready: u16,
}

impl Envoy {
    fn start(binding: &str, node: &str, xds: SocketAddr, identity: &Identity, authority: &str) -> Self {
        let program = env::var_os("HELIOSTAT_ENVOY").expect("HELIOSTAT_ENVOY is to be the path of Envoy's program");
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        let (admin, ready) = (free_port(), free_port());
        let bootstrap = Bootstrap {
            binding,
            xds_host: &xds.ip().to_string(),
            xds_port: xds.port(),
            admin_port: admin,
            ready_port: ready,
            ipv6: false,
            files_at: at,
            tls_at: &format!("{at}/tls"),
        };
        for (name, file) in bootstrap.files() {
            fs::write(folder.path().join(name), file).unwrap();
        }
        mount(&folder.path().join("tls"), identity, authority);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["-c", &format!("{at}/{START}"), "--service-node", node, "--disable-hot-restart"])
            .args(["--concurrency", "1", "--log-level", "info"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, folder, admin, ready }
    }

    /// Replaces its certificate as the kubelet does.
    pub(crate) fn remount(&self, identity: &Identity, authority: &str) {
        mount(&self.folder.path().join("tls"), identity, authority);
    }

    /// What it has logged; it quotes gRPC messages as they came, percent-encoded.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap().replace("%20", " ")
    }

    /// A counter or gauge; 0 where Envoy has none of that name, or does not answer yet.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let stats = call::try_http(self.admin, "envoy", &format!("/stats?filter=^{name}$")).await;
        let value = stats.ok().and_then(|(_, body)| body.trim().rsplit(' ').next()?.parse().ok());
        value.unwrap_or(0)
    }

    /// Everything that it asked for came: it never went on because it had waited long enough.
    pub(crate) async fn never_gave_up_waiting(&self) {
        let (_, stats) = call::http(self.admin, "envoy", "/stats?filter=init_fetch_timeout").await;
        let gave_up: Vec<_> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
        assert!(!stats.is_empty() && gave_up.is_empty(), "{gave_up:?}");
    }

    /// Whether the kubelet would call it ready; it does not wait long for the answer either.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = timeout(Duration::from_secs(1), call::try_http(self.ready, "kubelet", "/ready")).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|(status, _)| status == 200))
    }

    pub(crate) async fn wait_until_ready(&self) {
        eventually("readiness", async || self.is_ready().await).await;
    }

    pub(crate) async fn wait_for_log(&self, text: &str) {
        let waited = timeout(PATIENCE, async {
            while !self.log().contains(text) {
                sleep(Duration::from_millis(50)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited for {text:?} in\n{}", self.log()));
    }

    pub(crate) fn signal(&self, signal: &str) {
        let process = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &process]).status().unwrap().success());
    }

    pub(crate) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A Secret's folder: files behind a link that is swapped as a whole.
fn mount(folder: &Path, identity: &Identity, authority: &str) {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let version = format!("..{}", COUNT.fetch_add(1, Ordering::Relaxed));
    fs::create_dir_all(folder.join(&version)).unwrap();
    let files = [("tls.crt", &*identity.certificate), ("tls.key", &*identity.key), ("ca.crt", authority)];
    for (name, text) in files {
        fs::write(folder.join(&version).join(name), text).unwrap();
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    let new = folder.join("..data_tmp");
    std::os::unix::fs::symlink(&version, &new).unwrap();
    fs::rename(new, folder.join("..data")).unwrap();
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited for {what}"));
}

/// A cluster of one backend.
pub(crate) fn cluster(protocol: EnvoyProtocol, endpoint: SocketAddr) -> EnvoyCluster {
    EnvoyCluster { protocol, endpoints: [endpoint].into() }
}

/// A configuration of ports and clusters.
pub(crate) fn config<const P: usize, const C: usize>(
    ports: [(EnvoyPort, EnvoyRouting); P],
    clusters: [(&str, EnvoyCluster); C],
) -> EnvoyConfig {
    let clusters = clusters.into_iter().map(|(name, cluster)| (name.to_owned(), cluster));
    EnvoyConfig { ports: BTreeMap::from(ports), clusters: clusters.collect(), ipv6: false }
}

/// Everything goes to one cluster.
pub(crate) fn all_to(cluster: &str) -> EnvoyRouting {
    EnvoyRouting::Port { cluster: cluster.to_owned() }
}
