//! Endpoints of thousands of Services that change a thousand times a second, more than a real API server
//! takes: how far mirrors are behind, what is overtaken, and that the last state is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    calm,
    seeds::from_environment,
    server::{Mode, Server},
    world::{Chance, Controller, World, simulate},
};

/// How much is played.
#[derive(Clone, Copy)]
struct Size {
    origins: usize,
    /// Changes without anything wrong.
    calm: usize,
    /// Changes while nothing can be written.
    held: usize,
}

/// Within seconds, even unoptimised.
const SMALL: Size = Size { origins: 500, calm: 2000, held: 1500 };
/// Beside thousands of seeds; with the scene's own as many origins as a link may have.
const LARGE: Size = Size { origins: 9992, calm: 20_000, held: 5000 };
/// Between two changes.
const PACE: Duration = Duration::from_millis(1);
/// What each message takes. A watch carries one after the other, so it must be less than the pace.
const LATENCY: Duration = Duration::from_micros(200);
/// From a change until its write has arrived: the event, the request, and those that are before it.
const PROMPT: Duration = Duration::from_millis(20);

struct Churn {
    size: Size,
    world: World,
    controller: Controller,
    chance: Chance,
    begun: Instant,
    /// Changes so far: which origin, and when. Each has an address of its own.
    made: Vec<(usize, Duration)>,
}

/// A write of a slice: the change that it carries, and when it arrived.
type Landed = Vec<(usize, Duration)>;

impl Churn {
    async fn begin(size: Size) -> Self {
        let world = calm::world();
        for number in 0..size.origins {
            export(&world.exporters["east"], number);
        }
        let begun = Instant::now();
        let controller = world.start("one", false);
        controller.wire.latency(LATENCY);
        controller.links["east"].latency(LATENCY);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.importer.count("endpointslices"), calm::MIRRORS + size.origins);
        Self { size, world, controller, chance: Chance::new(6), begun, made: Vec::new() }
    }

    /// Changes so many addresses of origins that are drawn by lot.
    async fn change(&mut self, many: usize) -> Range<usize> {
        let first = self.made.len();
        let start = Instant::now();
        for change in first..first + many {
            let number = usize::try_from(self.chance.below(self.size.origins as u64)).unwrap();
            balance(&self.world.exporters["east"], number, &address(change));
            self.made.push((number, self.begun.elapsed()));
            sleep_until(start + PACE * u32::try_from(change - first + 1).unwrap()).await;
        }
        first..first + many
    }

    /// What arrived of these changes, in order.
    fn landed(&self, changes: &Range<usize>) -> Landed {
        let numbers: BTreeMap<String, usize> = changes.clone().map(|change| (address(change), change)).collect();
        let read = |line: &str| {
            let (head, body) = line.split_once(" 200 ")?;
            let mut words = head.split(' ');
            let at = Duration::from_millis(words.next()?.parse().ok()?);
            let is_patch =
                words.next() == Some("west") && words.nth(1) == Some("patch") && head.contains("endpointslices/c");
            let address = body.split('"').find(|word| word.starts_with("11."))?;
            is_patch.then(|| Some((*numbers.get(address)?, at)))?
        };
        self.world.trace.read(0, read)
    }

    fn the_last_state_is_right(&self) {
        let last: BTreeMap<usize, usize> =
            self.made.iter().enumerate().map(|(change, (number, _))| (*number, change)).collect();
        let all = self.world.importer.all("endpointslices");
        let service = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"].to_string();
        let slices: BTreeMap<String, &Value> = all.values().map(|slice| (service(slice), slice)).collect();
        for (number, change) in last {
            let slice = slices[&format!("\"c{number}-east\"")];
            assert_eq!(slice["endpoints"][0]["addresses"], json!([address(change)]), "c{number}");
        }
    }
}

fn address(change: usize) -> String {
    format!("11.{}.{}.{}", change >> 16, (change >> 8) & 255, change & 255)
}

fn export(exporter: &Server, number: usize) {
    let service = json!({
        "metadata": {"name": format!("c{number}"), "namespace": "shop", "labels": {"heliostat.dev/export": "true"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]},
    });
    exporter.make("services", &service);
    balance(exporter, number, "203.0.113.5");
}

fn balance(exporter: &Server, number: usize, address: &str) {
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    exporter.change("services", "shop", &format!("c{number}/status"), &status);
}

/// Each change is one write at once; while nothing can be written what waits is overtaken, so that there is
/// never more to write than one slice for each mirror.
#[test]
fn a_thousand_changes_a_second_are_followed_and_what_waits_is_overtaken() {
    simulate(0, async || {
        let size = if from_environment("HELIOSTAT_SEEDS").is_some() { LARGE } else { SMALL };
        let mut churn = Churn::begin(size).await;
        let calm = churn.change(size.calm).await;
        sleep(PROMPT).await;
        let landed = churn.landed(&calm);
        let mut changes: Vec<usize> = landed.iter().map(|(change, _)| *change).collect();
        changes.sort_unstable();
        assert_eq!(changes, calm.clone().collect::<Vec<_>>(), "each is written once");
        let lags = landed.iter().map(|(change, at)| at.saturating_sub(churn.made[*change].1));
        let most = lags.max().unwrap();
        println!("{} changes, 1,000 a second, of {} Services: at most {most:?} behind", size.calm, size.origins);
        assert!(most <= PROMPT, "{most:?}");

        // The importer is not to be reached for a while.
        churn.controller.wire.set(Mode::Held);
        let held = churn.change(size.held).await;
        churn.controller.wire.set(Mode::Open);
        sleep(Duration::from_secs(1)).await;
        let landed = churn.landed(&held);
        let concerned = held.clone().map(|change| churn.made[change].0).collect::<BTreeSet<_>>().len();
        println!(
            "{} changes of {concerned} Services while nothing could be written: {} writes",
            size.held,
            landed.len()
        );
        let in_flight = heliostat::run::WRITES_IN_FLIGHT;
        assert!((concerned..=concerned + in_flight).contains(&landed.len()), "{} writes", landed.len());
        churn.the_last_state_is_right();

        let after = churn.change(1000).await;
        sleep(PROMPT).await;
        assert_eq!(churn.landed(&after).len(), 1000, "as before");
        churn.the_last_state_is_right();
        churn.controller.stop().await;
    });
}
