//! Endpoints that change all the time, at half the rate at which the importer's API server takes writes:
//! how far behind the mirrors are, what is overtaken, what waits, and whether the last state is right.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::ensure;
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    api,
    clusters::{Exporter, Importer, Link, NAMESPACE, Write, origin},
    controller::Controller,
    machine,
    propagation::{all_done, sight::Sight},
    results::{Churn, Gauge},
};

/// How often the controller is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the last state.
const PATIENCE: Duration = Duration::from_secs(120);
/// Changes that may be under way.
const RECENT: usize = 500;
/// So that a run can be repeated exactly.
const SEED: u64 = 6;

/// A change that was made.
struct Made {
    number: usize,
    at: Timestamp,
    address: String,
}

/// Changes the addresses of origins, each time of another one that is drawn by lot.
pub(crate) async fn measure(
    importer: &Importer,
    exporter: &Exporter,
    controller: &Controller,
    mirrors: usize,
    per_second: f64,
    lasts: Duration,
) -> anyhow::Result<Churn> {
    machine::say(&format!("{per_second:.0} changes a second among {mirrors} for {} s", lasts.as_secs()));
    let slices = Sight::of_slices(&importer.client, NAMESPACE).await?;
    let log = importer.end_of_log()?;
    let cpu = controller.cpu_ms()?;
    let (begun, start) = (Timestamp::now(), Instant::now());
    let (made, gauges) = tokio::try_join!(change(exporter, mirrors, per_second, lasts), watch(controller, lasts),)?;
    let last: BTreeMap<usize, &Made> = made.iter().map(|made| (made.number, made)).collect();
    let all_made = Instant::now();
    let mirror = |number: usize| format!("{}-{}", origin(number), Link::name_of(number, 1));
    let seen =
        |made: &Made| slices.first(&mirror(made.number), made.at, |seen| seen.address.as_ref() == Some(&made.address));
    while !last.values().all(|made| seen(made).is_some()) {
        ensure!(all_made.elapsed() < PATIENCE, "the last state of all mirrors is not reached");
        sleep(Duration::from_millis(20)).await;
    }
    let settled_ms = all_made.elapsed().as_secs_f64() * 1e3;
    let cpu_ms = controller.cpu_ms()? - cpu;
    sleep(LOOK).await;
    the_last_state_is_right(importer, &last, mirror).await?;
    let ms = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * 1e3;
    let lags_ms: Vec<(f64, f64)> = made
        .iter()
        .filter_map(|made| Some(((ms(begun, made.at) / 1e3).floor(), ms(made.at, seen(made)?.at))))
        .collect();
    let writes = importer.writes_since(&log)?.iter().filter(|write| Write::is_of_mirror(write)).count();
    let (changes, overtaken) = (made.len(), made.len() - lags_ms.len());
    let per_second = changes as f64 / all_made.duration_since(start).as_secs_f64();
    Ok(Churn { mirrors, per_second, changes, overtaken, writes, lags_ms, gauges, settled_ms, cpu_ms })
}

async fn change(exporter: &Exporter, mirrors: usize, per_second: f64, lasts: Duration) -> anyhow::Result<Vec<Made>> {
    let mut lot = fastrand::Rng::with_seed(SEED);
    let mut pace = interval(Duration::from_secs_f64(1.0 / per_second));
    // What was late is made up for: the rate is what was said.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut made, mut requests) = (Vec::new(), JoinSet::new());
    let start = Instant::now();
    while start.elapsed() < lasts {
        pace.tick().await;
        // Two changes of the same Service could pass one another on their way.
        let recent: &[Made] = &made[made.len().saturating_sub(mirrors.min(RECENT) / 2)..];
        let number = loop {
            let number = lot.usize(..mirrors);
            if recent.iter().all(|made: &Made| made.number != number) {
                break number;
            }
        };
        let count = made.len();
        let address = format!("11.{}.{}.{}", 1 + (count >> 16) % 250, (count >> 8) & 255, count & 255);
        made.push(Made { number, at: Timestamp::now(), address: address.clone() });
        let exporter = exporter.clone();
        requests.spawn(async move { exporter.set_address(number, &address).await });
    }
    all_done(requests).await?;
    Ok(made)
}

async fn watch(controller: &Controller, lasts: Duration) -> anyhow::Result<Vec<Gauge>> {
    let start = Instant::now();
    let mut gauges = Vec::new();
    let mut look = interval(LOOK);
    while start.elapsed() < lasts {
        look.tick().await;
        let (waiting, resident_kib) = (controller.waiting().await?, controller.memory()?.resident_kib);
        gauges.push(Gauge { at_s: start.elapsed().as_secs_f64(), waiting, resident_kib });
    }
    Ok(gauges)
}

/// Not by what was seen on the way, but by what is there now.
async fn the_last_state_is_right(
    importer: &Importer,
    last: &BTreeMap<usize, &Made>,
    mirror: impl Fn(usize) -> String,
) -> anyhow::Result<()> {
    let slices = api::list(&importer.client, &api::slices(NAMESPACE)).await?;
    let of = |slice: &serde_json::Value| {
        let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str()?;
        Some((service.to_owned(), slice["endpoints"][0]["addresses"][0].as_str()?.to_owned()))
    };
    let there: BTreeMap<String, String> = slices.iter().filter_map(of).collect();
    for (number, made) in last {
        let address = there.get(&mirror(*number));
        ensure!(address == Some(&made.address), "{} ended at {address:?} and not at {}", mirror(*number), made.address);
    }
    Ok(())
}
