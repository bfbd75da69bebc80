//! The delay of changes, from the beginning of the request that changes an origin until somebody else,
//! who watches the importer, sees all of it in the mirror.
//!
//! Changes begin at even times, whatever became of those before. Where a change was when is told by
//! watches of the benchmark's own in both clusters and by the importer's audit log; by nothing of the
//! controller's but the metric that is compared.

pub(crate) mod by_hand;
pub(crate) mod sight;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::{
    clusters::{BY_HAND, Exporter, Importer, Link, NAMESPACE, Write, origin},
    controller::Controller,
    machine,
    results::{Batch, Delay, Kind},
};
use sight::{Seen, Sight};

/// Longest wait for a change to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two batches, so that nobody is still busy with the last one; a status follows changes within seconds.
const PAUSE: Duration = Duration::from_secs(5);
/// The ports that are changed to begin here.
const FIRST_PORT: u16 = 10_000;

/// Changes so many origins a second, and so many in all, of each kind: such as are carried over by hand, and then such
/// as the controller mirrors.
pub(crate) async fn measure(
    importer: &Importer,
    exporter: &Exporter,
    controller: &Controller,
    (links, mirrors): (usize, usize),
    (per_second, many): (u32, usize),
) -> anyhow::Result<Vec<Batch>> {
    by_hand::furnish(importer, exporter, many).await?;
    let by_hand = Observer::open(importer, exporter.by_hand(), BY_HAND, None).await?;
    let observer = Observer::open(importer, exporter.clone(), NAMESPACE, Some(links)).await?;
    let mut batches = Vec::new();
    for kind in Kind::ALL {
        machine::say(&format!("{many} changes of kind {}, {per_second} a second", kind.as_str()));
        let carrier = by_hand::Carrier::start(importer, exporter, kind).await?;
        let changes = by_hand.batch(importer, kind, per_second, many).await?;
        drop(carrier);
        let batch = |by_hand, changes| Batch {
            links,
            mirrors,
            kind,
            by_hand,
            per_second,
            changes,
            metric_ms: None,
            metric_count: 0,
        };
        batches.push(batch(true, changes));

        let (sum, count) = controller.propagation().await?;
        let changes = observer.batch(importer, kind, per_second, many).await?;
        let (sum_after, count_after) = controller.propagation().await?;
        let metric_count = count_after - count;
        let metric_ms = (metric_count > 0).then(|| (sum_after - sum) * 1e3 / metric_count as f64);
        batches.push(Batch { metric_ms, metric_count, ..batch(false, changes) });
    }
    Ok(batches)
}

/// Who changes origins in a namespace, and watches what becomes of it.
struct Observer {
    exporter: Exporter,
    namespace: &'static str,
    /// Those that the controller mirrors through so many; none: by hand, where a mirror has its origin's name.
    links: Option<usize>,
    origins: Sight,
    mirrors: Sight,
    slices: Sight,
}

/// A change that was made.
struct Made {
    origin: String,
    mirror: String,
    at: Timestamp,
    port: u16,
    address: String,
}

impl Observer {
    async fn open(
        importer: &Importer,
        exporter: Exporter,
        namespace: &'static str,
        links: Option<usize>,
    ) -> anyhow::Result<Self> {
        let origins = Sight::of_services(&exporter.client, namespace).await?;
        let mirrors = Sight::of_services(&importer.client, namespace).await?;
        let slices = Sight::of_slices(&importer.client, namespace).await?;
        Ok(Self { exporter, namespace, links, origins, mirrors, slices })
    }

    /// Makes so many changes of one kind, and waits until all are seen.
    async fn batch(&self, importer: &Importer, kind: Kind, per_second: u32, many: usize) -> anyhow::Result<Vec<Delay>> {
        sleep(PAUSE).await;
        [&self.origins, &self.mirrors, &self.slices].into_iter().for_each(Sight::forget);
        let log = importer.end_of_log()?;
        let made = self.change(kind, per_second, many).await?;
        let start = Instant::now();
        while !made.iter().all(|change| self.shown(kind, change).is_some()) {
            ensure!(start.elapsed() < PATIENCE, "a change of kind {} was not seen in time", kind.as_str());
            sleep(Duration::from_millis(50)).await;
        }
        // The log's lines come when a request is over: a deletion may be shown seconds before it is answered.
        let delays = loop {
            sleep(Duration::from_secs(1)).await;
            let mut writes = BTreeMap::<String, Vec<Write>>::new();
            for write in importer.writes_since(&log)?.into_iter().filter(|write| write.is_in(self.namespace)) {
                writes.entry(write.name.clone()).or_default().push(write);
            }
            let delays: anyhow::Result<Vec<Delay>> =
                made.iter().map(|change| self.delay(kind, change, &writes)).collect();
            match delays {
                Err(_) if start.elapsed() < PATIENCE => {}
                delays => break delays?,
            }
        };
        if kind == Kind::Unexport {
            importer.collect(self.namespace).await?;
        }
        Ok(delays)
    }

    /// Each Service is changed once.
    async fn change(&self, kind: Kind, per_second: u32, many: usize) -> anyhow::Result<Vec<Made>> {
        let mut pace = interval(Duration::from_secs(1) / per_second);
        let mut requests = JoinSet::new();
        let mut made = Vec::new();
        for number in 0..many {
            pace.tick().await;
            let link = self.links.map(|links| format!("-{}", Link::name_of(number, links))).unwrap_or_default();
            let change = Made {
                origin: origin(number),
                mirror: format!("{}{link}", origin(number)),
                at: Timestamp::now(),
                port: FIRST_PORT + u16::try_from(number)? + u16::try_from(per_second)? * 100,
                address: unique_address(per_second, number),
            };
            let (exporter, port, address) = (self.exporter.clone(), change.port, change.address.clone());
            made.push(change);
            requests.spawn(async move {
                match kind {
                    Kind::Export => exporter.set_exported(number, true).await,
                    Kind::Unexport => exporter.set_exported(number, false).await,
                    Kind::Port => exporter.set_port(number, port).await,
                    Kind::Endpoints => exporter.set_address(number, &address).await,
                }
            });
        }
        all_done(requests).await?;
        Ok(made)
    }

    /// What watches of the importer showed of the whole change: the Service, and the slice.
    fn shown(&self, kind: Kind, change: &Made) -> Option<Vec<Seen>> {
        let Made { mirror, at, port, address, .. } = change;
        let service = |like: &dyn Fn(&Seen) -> bool| self.mirrors.first(mirror, *at, like);
        let slice = |like: &dyn Fn(&Seen) -> bool| self.slices.first(mirror, *at, like);
        Some(match kind {
            Kind::Export => vec![service(&|seen| !seen.gone)?, slice(&|seen| seen.address.is_some() && !seen.gone)?],
            Kind::Port => vec![service(&|seen| seen.port == Some(*port))?, slice(&|seen| seen.port == Some(*port))?],
            Kind::Endpoints => vec![slice(&|seen| seen.address.as_ref() == Some(address))?],
            // Its slices are the garbage collector's, and there is none here.
            Kind::Unexport => vec![service(&|seen| seen.gone)?],
        })
    }

    fn delay(&self, kind: Kind, change: &Made, writes: &BTreeMap<String, Vec<Write>>) -> anyhow::Result<Delay> {
        let Made { origin, mirror, at, port, address } = change;
        let noticed = self.origins.first(origin, *at, |seen| match kind {
            Kind::Export => seen.exported,
            Kind::Unexport => !seen.exported,
            Kind::Port => seen.port == Some(*port),
            Kind::Endpoints => seen.address.as_ref() == Some(address),
        });
        let (Some(noticed), Some(shown)) = (noticed, self.shown(kind, change)) else {
            bail!("{mirror} was seen, and its origin was not");
        };
        ensure!(shown.iter().all(|seen| writes.contains_key(&seen.name)), "nobody has written all of {mirror}");
        let names = shown.iter().map(|seen| &seen.name);
        let writes: Vec<&Write> = names.flat_map(|name| writes.get(name).into_iter().flatten()).collect();
        let ms = |time: Timestamp| time.duration_since(*at).as_secs_f64() * 1e3;
        let first = |times: &mut dyn Iterator<Item = Timestamp>| times.map(ms).fold(f64::INFINITY, f64::min);
        let last = |times: &mut dyn Iterator<Item = Timestamp>| times.map(ms).fold(f64::NEG_INFINITY, f64::max);
        Ok(Delay {
            noticed_ms: ms(noticed.at),
            decided_ms: first(&mut writes.iter().map(|write| write.received)),
            answered_ms: last(&mut writes.iter().map(|write| write.answered)),
            shown_ms: last(&mut shown.iter().map(|seen| seen.at)),
        })
    }
}

/// Waits for requests that go on beside one another; the first that failed is an error.
pub(crate) async fn all_done(mut requests: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(done) = requests.join_next().await {
        done??;
    }
    Ok(())
}

/// An address that no other change sets.
pub(crate) fn unique_address(batch: u32, number: usize) -> String {
    format!("11.{}.{}.{}", batch % 256, number / 256 % 256, number % 256)
}
