//! A cold sync: from the start of whoever writes, knowing nothing of the importer, until the API
//! server has answered the last write that all mirrors need. The API server's own log says when that
//! was, so that nobody has to look on meanwhile.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    audit_log::{Place, resource},
    bare,
    clusters::{Importer, NAMESPACE},
    controller::Program,
    machine::{self, Memory},
    mirrors::Mirror,
};

/// Without a request for so long, a cold sync is over. Statuses are written meanwhile, too.
const STILL: Duration = Duration::from_secs(3);

/// How a cold sync went.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// Load of the machine before.
    pub(crate) load: String,
    /// From the start until the first write of a mirror reached the API server.
    pub(crate) to_first_write_ms: f64,
    /// From the start until the last one was answered.
    pub(crate) total_ms: f64,
    /// Writes that the API server had at work, on average from the first to the last.
    pub(crate) at_work: f64,
    /// Time on a core, of the writing process.
    pub(crate) cpu_ms: u64,
    /// Writes of mirrors and their slices.
    pub(crate) mirror_writes: usize,
    /// Other writes, until all was quiet, by resource: statuses and Events.
    pub(crate) other_writes: BTreeMap<String, usize>,
    /// Of the controller, when all was quiet.
    pub(crate) memory: Option<Memory>,
}

/// The loop and the controller, one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    /// The bare loop.
    pub(crate) bare: Run,
    /// The controller.
    pub(crate) controller: Run,
}

/// A cold sync and what it left.
pub(crate) struct Done {
    /// How it went.
    pub(crate) run: Run,
    /// All mirrors.
    pub(crate) mirrors: Vec<Mirror>,
}

/// Lets the controller make the mirrors, and ends it.
pub(crate) async fn by_controller(importer: &Importer, program: &Program, many: usize) -> anyhow::Result<Done> {
    let begun = Begun::now(importer).await?;
    let controller = program.start().await?;
    importer.quiet(STILL).await?;
    let (cpu, memory) = (controller.cpu_ms()?, controller.memory()?);
    let done = begun.done(importer, many, cpu, Some(memory)).await?;
    controller.stop().await?;
    Ok(done)
}

/// Makes the same mirrors by the bare loop.
pub(crate) async fn by_loop(importer: &Importer, kubeconfig: &Path, mirrors: &[Mirror]) -> anyhow::Result<Done> {
    let begun = Begun::now(importer).await?;
    let before = machine::cpu_ms("self")?;
    bare::write(kubeconfig, mirrors).await?;
    let cpu = machine::cpu_ms("self")? - before;
    importer.quiet(STILL).await?;
    begun.done(importer, mirrors.len(), cpu, None).await
}

struct Begun {
    load: String,
    log: Place,
    start: Timestamp,
}

impl Begun {
    /// Removes what an earlier one has made, and begins.
    async fn now(importer: &Importer) -> anyhow::Result<Self> {
        importer.clear().await?;
        Ok(Self { load: machine::load()?, log: importer.end_of_log()?, start: Timestamp::now() })
    }

    async fn done(self, importer: &Importer, many: usize, cpu: u64, memory: Option<Memory>) -> anyhow::Result<Done> {
        let writes = importer.writes_since(&self.log)?;
        let (mirrors, others): (Vec<_>, Vec<_>) = writes.into_iter().partition(is_of_mirror);
        ensure!(mirrors.len() >= 2 * many, "{} writes cannot have made {many} mirrors", mirrors.len());
        let mut other_writes = BTreeMap::new();
        for other in &others {
            *other_writes.entry(resource(other)).or_default() += 1;
        }
        let (received, answered) =
            (self.times(&mirrors, "requestReceivedTimestamp")?, self.times(&mirrors, "stageTimestamp")?);
        let to_first_write_ms = received.first().copied().unwrap_or_default();
        let total_ms = answered.last().copied().unwrap_or_default();
        let work: f64 = answered.iter().sum::<f64>() - received.iter().sum::<f64>();
        let run = Run {
            load: self.load,
            to_first_write_ms,
            total_ms,
            at_work: work / (total_ms - to_first_write_ms),
            cpu_ms: cpu,
            mirror_writes: mirrors.len(),
            other_writes,
            memory,
        };
        Ok(Done { run, mirrors: importer.mirrors(many).await? })
    }

    /// A time of each write, in milliseconds since the start and in that order.
    fn times(&self, writes: &[Value], time: &str) -> anyhow::Result<Vec<f64>> {
        let after = |write: &Value| {
            let text = write[time].as_str().with_context(|| format!("no {time} in the audit log"))?;
            Ok(text.parse::<Timestamp>()?.duration_since(self.start).as_secs_f64() * 1e3)
        };
        let mut times: Vec<f64> = writes.iter().map(after).collect::<anyhow::Result<_>>()?;
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn is_of_mirror(write: &Value) -> bool {
    let resource = resource(write);
    write["objectRef"]["namespace"] == NAMESPACE && (resource == "services" || resource == "endpointslices")
}
