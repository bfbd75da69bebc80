//! Both sides in bad weather: at no moment is a call answered by another Service, in the end there is what is
//! exported and nothing else, nothing foreign was touched, and then there is silence.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::sleep;

use super::{
    Scene,
    gateway::{ADDRESSES, How},
    scene,
};
use crate::{
    adversary::{STROKES, close, cut_lists, millis, strike, stroke},
    seeds::{Play, Struck, always_the_same, drawn},
    server::{Mode, Server, Verb, Wire},
    world::{Chance, Controller, oracle::written, scene::let_go, simulate},
};

/// The writes that an exporter makes; each of them meets every fault.
pub(crate) const KINDS: [(Verb, &str); 10] = [
    (Verb::Create, "leases"),
    (Verb::Patch, "leases"),
    (Verb::Delete, "leases"),
    (Verb::Create, "tcproutes"),
    (Verb::Patch, "tcproutes"),
    (Verb::Delete, "tcproutes"),
    (Verb::Create, "endpointslices"),
    (Verb::Patch, "endpointslices"),
    (Verb::Delete, "endpointslices"),
    (Verb::Patch, "gatewaybindings/status"),
];

/// What goes on around the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    ExporterCrashes,
    ImporterCrashes,
    TwoLeaders,
    ExporterCutOff,
    WatchesDrop,
    EventsLost,
    KindsReorder,
    ListsCut,
    HangingLink,
    FlappingLink,
    AddressFails,
    GatewayFails,
    GatewaySlow,
    GatewayUnwell,
}

impl Weather {
    const ALL: [Self; 14] = [
        Self::ExporterCrashes,
        Self::ImporterCrashes,
        Self::TwoLeaders,
        Self::ExporterCutOff,
        Self::WatchesDrop,
        Self::EventsLost,
        Self::KindsReorder,
        Self::ListsCut,
        Self::HangingLink,
        Self::FlappingLink,
        Self::AddressFails,
        Self::GatewayFails,
        Self::GatewaySlow,
        Self::GatewayUnwell,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::ExporterCrashes => "exporter crashes",
            Self::ImporterCrashes => "importer crashes",
            Self::TwoLeaders => "two leaders",
            Self::ExporterCutOff => "exporter cut off",
            Self::WatchesDrop => "watches drop",
            Self::EventsLost => "events lost",
            Self::KindsReorder => "kinds reorder",
            Self::ListsCut => "lists cut",
            Self::HangingLink => "hanging link",
            Self::FlappingLink => "flapping link",
            Self::AddressFails => "address fails",
            Self::GatewayFails => "gateway fails",
            Self::GatewaySlow => "gateway slow",
            Self::GatewayUnwell => "gateway unwell",
        }
    }
}

/// Where it all happens.
struct Stage {
    scene: Scene,
    leader_elect: bool,
    exporters: Mutex<Vec<Controller>>,
    importer: Mutex<Option<Controller>>,
    started: Mutex<u32>,
}

impl Stage {
    /// With as many controllers in the exporter.
    async fn new(exporters: usize) -> Self {
        let (scene, started) = (Scene::new(), Mutex::default());
        let stage = Self {
            scene,
            leader_elect: exporters > 1,
            exporters: Mutex::default(),
            importer: Mutex::default(),
            started,
        };
        for _ in 0..exporters {
            stage.start_exporter().await;
        }
        stage.start_importer();
        stage
    }

    fn name(&self) -> String {
        let mut started = self.started.lock().unwrap();
        *started += 1;
        format!("controller-{started}")
    }

    fn exporters(&self) -> MutexGuard<'_, Vec<Controller>> {
        self.exporters.lock().unwrap()
    }

    fn importer(&self) -> MutexGuard<'_, Option<Controller>> {
        self.importer.lock().unwrap()
    }

    async fn start_exporter(&self) {
        let controller = self.scene.start_exporter(&self.name(), self.leader_elect).await;
        self.exporters().push(controller);
    }

    fn start_importer(&self) {
        let controller = self.scene.world.start(&self.name(), false);
        *self.importer() = Some(controller);
    }

    fn link(&self) -> Vec<Wire> {
        self.importer().iter().map(|importer| importer.links["east"].clone()).collect()
    }

    fn wires(&self) -> Vec<Wire> {
        self.exporters().iter().map(|exporter| exporter.wire.clone()).collect()
    }

    /// Everything goes as it should from now on.
    fn clear_up(&self) {
        [self.scene.exporter(), &self.scene.world.importer].into_iter().for_each(Server::heal);
        for wire in self.wires().into_iter().chain(self.link()) {
            wire.set(Mode::Open);
            wire.calm();
        }
    }

    /// For as many rounds it is like that, from now on and then.
    async fn brew(&self, weather: Weather, rounds: u64, mut chance: Chance) {
        let (exporter, gateway) = (self.scene.exporter(), &self.scene.gateway);
        exporter.weather(weather.name());
        for _ in 0..rounds {
            let server = *chance.pick(&[exporter, &self.scene.world.importer]);
            match weather {
                Weather::ExporterCrashes => self.crash_exporter(&mut chance).await,
                Weather::ImporterCrashes => self.crash_importer(&mut chance).await,
                Weather::TwoLeaders => {
                    let wire = chance.pick(&self.wires()).clone();
                    close(&[wire], Mode::Held, Duration::from_secs(5) + millis(&mut chance, 40_000)).await;
                }
                Weather::ExporterCutOff => {
                    let mode = *chance.pick(&[Mode::Held, Mode::Refused]);
                    close(&self.wires(), mode, millis(&mut chance, 30_000)).await;
                }
                Weather::WatchesDrop => server.cut_watches("", chance.below(2) == 0),
                Weather::EventsLost => {
                    server.cut_watches("", false);
                    server.compact();
                }
                Weather::KindsReorder => self.reorder(&mut chance),
                Weather::ListsCut => {
                    let resource = *chance.pick(&["leases", "tcproutes", "services", "endpointslices", "gateways"]);
                    cut_lists(exporter, &[resource], &mut chance);
                }
                Weather::HangingLink => close(&self.link(), Mode::Held, millis(&mut chance, 60_000)).await,
                Weather::FlappingLink => close(&self.link(), Mode::Refused, millis(&mut chance, 20_000)).await,
                Weather::AddressFails => self.fail(&[*chance.pick(&ADDRESSES)], &mut chance).await,
                Weather::GatewayFails => self.fail(&ADDRESSES, &mut chance).await,
                Weather::GatewaySlow => gateway.lag(millis(&mut chance, 30_000)),
                Weather::GatewayUnwell => {
                    gateway.well(false);
                    sleep(millis(&mut chance, 60_000)).await;
                    gateway.well(true);
                }
            }
            sleep(millis(&mut chance, 10_000)).await;
        }
        if weather == Weather::GatewaySlow {
            gateway.lag(millis(&mut chance, 1000));
        }
    }

    /// Kills a controller with one of its next writes, or in between, and starts another one.
    async fn crash_exporter(&self, chance: &mut Chance) {
        let controller = self.exporters().remove(0);
        controller.wire.die_after(1 + chance.below(6));
        controller.death(millis(chance, 30_000)).await;
        let another = !self.exporters().is_empty();
        self.scene.stop_exporter(controller, millis(chance, 10_000), another).await;
        sleep(millis(chance, 20_000)).await;
        self.start_exporter().await;
    }

    /// The same, and for a much shorter time than ports are kept for those who are away.
    async fn crash_importer(&self, chance: &mut Chance) {
        let Some(controller) = self.importer().take() else { return };
        controller.wire.die_after(1 + chance.below(6));
        controller.death(millis(chance, 30_000)).await;
        controller.kill().await;
        sleep(millis(chance, 5000)).await;
        self.start_importer();
    }

    fn reorder(&self, chance: &mut Chance) {
        for wire in self.wires() {
            for plural in ["services", "endpointslices", "tcproutes", "gateways", "leases", "gatewaybindings"] {
                wire.lag(plural, millis(chance, 3000));
            }
        }
        for wire in self.link() {
            ["services", "endpointslices"].iter().for_each(|plural| wire.lag(plural, millis(chance, 5000)));
        }
    }

    /// Addresses of the gateway do not answer for a while.
    async fn fail(&self, addresses: &[&str], chance: &mut Chance) {
        let how = *chance.pick(&[How::Refuses, How::Silent]);
        addresses.iter().for_each(|address| self.scene.gateway.set(address, how));
        sleep(millis(chance, 120_000)).await;
        addresses.iter().for_each(|address| self.scene.gateway.set(address, How::Answers));
    }

    async fn end(self) {
        self.scene.end();
        let exporters: Vec<_> = self.exporters().drain(..).collect();
        let importer = self.importer().take();
        for controller in exporters.into_iter().chain(importer) {
            controller.stop().await;
        }
    }
}

/// What a seed stands for.
fn weathers(seed: u64, chance: &mut Chance) -> Vec<Weather> {
    // An importer that is away and cannot see when it is back knows of no port that changed hands.
    let blind = [Weather::ImporterCrashes, Weather::HangingLink];
    let mut all = drawn(&Weather::ALL, seed, chance);
    let first = all.iter().find(|weather| blind.contains(weather)).copied();
    all.retain(|weather| !blind.contains(weather) || Some(*weather) == first);
    all
}

fn described(seed: u64) -> String {
    format!("seed {seed}: {:?}, {}", weathers(seed, &mut Chance::new(seed)), stroke(seed).0)
}

/// Plays a seed; gives what has struck what, and everything that was asked of the servers.
fn play(seed: u64) -> (Struck, Vec<String>) {
    simulate(seed, async || {
        let mut chance = Chance::new(seed);
        let weathers = weathers(seed, &mut chance);
        let stage = Stage::new(if weathers.contains(&Weather::TwoLeaders) { 2 } else { 1 }).await;
        let (world, exporter) = (&stage.scene.world, stage.scene.exporter());
        let theirs = scene::theirs(exporter);
        strike(exporter, &KINDS, stroke(seed));
        let brewing =
            join_all(weathers.iter().map(|weather| stage.brew(*weather, 8, Chance::new(chance.below(u64::MAX)))));
        let script = scene::script(&mut chance, 24);
        let acting = async {
            for (change, service) in script {
                sleep(millis(&mut chance, 30_000)).await;
                scene::change(exporter, change, service);
            }
        };
        tokio::join!(brewing, acting);
        stage.clear_up();
        for _ in 0..3 {
            sleep(Duration::from_secs(200)).await;
            let_go(&world.importer);
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(stage.scene.wrong(), Vec::<String>::new());
        assert_eq!(scene::theirs(exporter), theirs, "something foreign was touched");
        let since = world.trace.len();
        sleep(Duration::from_secs(3600)).await;
        let late: Vec<String> = written(world, since).into_iter().map(|write| write.line).collect();
        assert_eq!(late, Vec::<String>::new(), "it does not come to rest");
        let (struck, trace) = (exporter.struck(), world.trace.take());
        stage.end().await;
        (struck, trace)
    })
}

const AGAIN: &str = "cargo test --profile simulation --test simulation storm_g07 -- --nocapture";

#[test]
fn storm_g07_whatever_happens_no_call_is_answered_by_another_service() {
    let weathers = Weather::ALL.iter().map(|weather| weather.name());
    let play = Play {
        play: |seed| play(seed).0,
        described,
        again: AGAIN,
        faults: weathers.chain(STROKES.iter().map(|stroke| stroke.0)).collect(),
        kinds: &KINDS,
        covering: 100,
        few: 4,
        share: 8,
    };
    play.run();
}

#[test]
fn a_seed_always_plays_the_same() {
    // With crashes of the exporter; with two leaders; with a gateway that fails.
    always_the_same([0, 2, 11], |seed| play(seed).1);
}
