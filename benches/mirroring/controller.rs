//! The controller as a process of its own, optimised, with the administrator's kubeconfig and the environment
//! of the shipped Deployment.

use std::{collections::BTreeMap, fs::File, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{machine, results::Memory};

/// Longest wait for it to become ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run.
pub(crate) struct Program {
    /// Of the importer.
    pub(crate) kubeconfig: PathBuf,
    /// Where what it says goes; begun anew by each start.
    pub(crate) log: PathBuf,
}

impl Program {
    /// Starts the controller. It ends when what is given here is dropped.
    pub(crate) async fn start(&self) -> anyhow::Result<Controller> {
        let listen = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let process = Command::new(env!("CARGO_BIN_EXE_heliostat"))
            .args(["controller", "--listen", &listen.to_string(), "--kubeconfig"])
            .arg(&self.kubeconfig)
            .env_remove("RUST_LOG")
            .envs(shipped_environment()?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the controller")?;
        Ok(Controller { process, listen, log: self.log.clone() })
    }
}

/// What the shipped Deployment sets in the controller's environment.
fn shipped_environment() -> anyhow::Result<BTreeMap<String, String>> {
    let deployment: Value = serde_saphyr::from_str(include_str!("../../config/deployment.yaml"))?;
    let env = deployment.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let env = env.context("config/deployment.yaml sets no environment")?.iter();
    let text = |entry: &Value, field: &str| entry[field].as_str().map(str::to_owned);
    let variable = |entry| text(entry, "name").zip(text(entry, "value")).context("only plain values can be set here");
    env.map(variable).collect()
}

/// A running controller.
pub(crate) struct Controller {
    process: Child,
    listen: SocketAddr,
    log: PathBuf,
}

impl Controller {
    fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().with_context(|| format!("the controller has ended; see {}", self.log.display()))
    }

    /// Memory that it takes.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        machine::memory(self.pid()?)
    }

    /// Time on a core that it has taken since its start, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> anyhow::Result<u64> {
        machine::cpu_ms(&self.pid()?.to_string())
    }

    /// Waits until it says that it is ready: everything in the importer has been listed.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.get("/readyz").await.is_err() {
            ensure!(start.elapsed() < PATIENCE, "the controller does not become ready; see {}", self.log.display());
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Sum, in seconds, and count of `heliostat_propagation_seconds`.
    pub(crate) async fn propagation(&self) -> anyhow::Result<(f64, u64)> {
        let metrics = self.get("/metrics").await?;
        let [sum, count] = ["sum", "count"].map(|of| metric(&metrics, &format!("heliostat_propagation_seconds_{of} ")));
        Ok((sum?.parse()?, count?.parse()?))
    }

    /// Mirrors that wait to be decided on.
    pub(crate) async fn waiting(&self) -> anyhow::Result<u64> {
        Ok(metric(&self.get("/metrics").await?, "heliostat_engine_queue ")?.parse()?)
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.get(format!("http://{}{path}", self.listen).parse()?).await?;
        ensure!(answer.status().is_success(), "the controller answers {} to {path}", answer.status());
        Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().into())?)
    }

    /// Ends it as Kubernetes would, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid()?.to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(killed.success(), "cannot end the controller, process {pid}");
        let Ok(ended) = timeout(PATIENCE, self.process.wait()).await else {
            bail!("the controller does not end; see {}", self.log.display());
        };
        let ended = ended?;
        ensure!(ended.success(), "the controller failed ({ended}); see {}", self.log.display());
        Ok(())
    }
}

/// The value on the line that begins so.
fn metric(metrics: &str, begins: &str) -> anyhow::Result<String> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(begins));
    line.map(str::to_owned).with_context(|| format!("the controller has no metric {begins}"))
}
