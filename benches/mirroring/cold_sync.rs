//! A cold sync: from the start of whoever writes, knowing nothing of the importer, until the API
//! server has answered the last write that all mirrors need. The API server's own log says when that
//! was, so that nobody has to look on meanwhile.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use heliostat::run::WRITES_IN_FLIGHT;
use jiff::Timestamp;

use crate::{
    audit_log::Place,
    bare,
    clusters::{Importer, Link},
    controller::{Controller, Program},
    machine,
    mirrors::{self, Mirror},
    results::{ColdSync, Memory, Round, Run},
};

/// Without a request for so long, a cold sync is over. Statuses are written meanwhile, too.
const STILL: Duration = Duration::from_secs(3);
/// For how long the controller's processor time is counted when all is done.
const REST: Duration = Duration::from_secs(30);

/// Lets controller and loop make the mirrors of these links in turns; leaves what was made last.
pub(crate) async fn in_turns(
    importer: &Importer,
    program: &Program,
    links: &[Link],
    many: usize,
    turns: usize,
) -> anyhow::Result<(ColdSync, Vec<Mirror>)> {
    importer.link(links, "Service").await?;
    let mut made = Vec::new();
    let mut rounds = Vec::new();
    for turn in 1..=turns {
        machine::say(&format!("{many} mirrors by {} links, turn {turn} of {turns}", links.len()));
        let (controller, mirrors) = by_controller(importer, program, many).await?;
        let bare = by_loop(importer, &mirrors).await?;
        if !made.is_empty() {
            mirrors::same(&made, &mirrors)?;
        }
        made = mirrors;
        rounds.push(Round { bare: Some(bare), controller });
    }
    Ok((ColdSync { links: links.len(), mirrors: many, rounds, at_rest: None }, made))
}

/// Lets the controller make the headless mirrors of these links once, and rest then; it goes on.
pub(crate) async fn once(
    importer: &Importer,
    program: &Program,
    links: &[Link],
    many: usize,
) -> anyhow::Result<(ColdSync, Controller)> {
    machine::say(&format!("{many} mirrors by {} links, once", links.len()));
    importer.link(links, "Direct").await?;
    let begun = Begun::now(importer).await?;
    let controller = program.start().await?;
    importer.quiet(STILL).await?;
    let run = begun.done(importer, many, controller.cpu_ms()?, Some(controller.memory()?))?;
    let before = controller.cpu_ms()?;
    tokio::time::sleep(REST).await;
    let at_rest = (controller.cpu_ms()? - before) as f64 / REST.as_secs_f64() / 1e3;
    let rounds = vec![Round { bare: None, controller: run }];
    Ok((ColdSync { links: links.len(), mirrors: many, rounds, at_rest: Some(at_rest) }, controller))
}

/// Lets the controller make the mirrors, and ends it.
async fn by_controller(importer: &Importer, program: &Program, many: usize) -> anyhow::Result<(Run, Vec<Mirror>)> {
    let begun = Begun::now(importer).await?;
    let controller = program.start().await?;
    importer.quiet(STILL).await?;
    let run = begun.done(importer, many, controller.cpu_ms()?, Some(controller.memory()?))?;
    controller.stop().await?;
    Ok((run, importer.mirrors(many).await?))
}

/// Makes the same mirrors by the bare loop, and checks that they are the same.
async fn by_loop(importer: &Importer, mirrors: &[Mirror]) -> anyhow::Result<Run> {
    let begun = Begun::now(importer).await?;
    let before = machine::cpu_ms("self")?;
    bare::write(&importer.kubeconfig, mirrors, WRITES_IN_FLIGHT).await?;
    let cpu = machine::cpu_ms("self")? - before;
    importer.quiet(STILL).await?;
    let run = begun.done(importer, mirrors.len(), cpu, None)?;
    mirrors::same(&importer.mirrors(mirrors.len()).await?, mirrors)?;
    Ok(run)
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

    fn done(self, importer: &Importer, many: usize, cpu: u64, memory: Option<Memory>) -> anyhow::Result<Run> {
        let writes = importer.writes_since(&self.log)?;
        let mut other_writes = BTreeMap::new();
        for other in writes.iter().filter(|write| !write.is_of_mirror()) {
            *other_writes.entry(other.resource.clone()).or_default() += 1;
        }
        let ms = |time: Timestamp| time.duration_since(self.start).as_secs_f64() * 1e3;
        let of_mirrors = || writes.iter().filter(|write| write.is_of_mirror());
        let mirror_writes = of_mirrors().count();
        ensure!(mirror_writes >= 2 * many, "{mirror_writes} writes cannot have made {many} mirrors");
        let to_first_write_ms = of_mirrors().map(|write| ms(write.received)).fold(f64::INFINITY, f64::min);
        let total_ms = of_mirrors().map(|write| ms(write.answered)).fold(0.0, f64::max);
        let work: f64 = of_mirrors().map(|write| ms(write.answered) - ms(write.received)).sum();
        let at_work = work / (total_ms - to_first_write_ms);
        Ok(Run {
            load: self.load,
            to_first_write_ms,
            total_ms,
            at_work,
            cpu_ms: cpu,
            mirror_writes,
            other_writes,
            memory,
        })
    }
}
