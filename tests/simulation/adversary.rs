//! What goes wrong while the controller works: each kind of weather for a while, over and over.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    server::{Fault, Mode, Server, Verb, Wire, Wrong},
    world::{Chance, Controller, LINKS, World},
};

/// The writes that a run makes; each of them meets every fault.
pub(crate) const KINDS: [(Verb, &str); 9] = [
    (Verb::Create, "services"),
    (Verb::Create, "endpointslices"),
    (Verb::Patch, "services"),
    (Verb::Patch, "services/status"),
    (Verb::Patch, "endpointslices"),
    (Verb::Patch, "clusterlinks/status"),
    (Verb::Patch, "mirrorpolicies/status"),
    (Verb::Delete, "services"),
    (Verb::Delete, "endpointslices"),
];

/// What may happen to a write.
pub(crate) const STROKES: [(&str, Wrong); 12] = [
    ("401", Wrong::Answer(401, None)),
    ("403", Wrong::Answer(403, None)),
    ("409", Wrong::Answer(409, None)),
    ("422", Wrong::Answer(422, None)),
    ("429", Wrong::Answer(429, Some(3))),
    ("500", Wrong::Answer(500, None)),
    ("503", Wrong::Answer(503, Some(1))),
    ("504", Wrong::Answer(504, None)),
    ("broken before", Wrong::Broken),
    ("broken after", Wrong::BrokenAfter),
    ("silence before", Wrong::Silence),
    ("silence after", Wrong::SilenceAfter),
];

/// The fault that single writes of a seed meet.
pub(crate) fn stroke(seed: u64) -> (&'static str, Wrong) {
    STROKES[usize::try_from(seed % STROKES.len() as u64).unwrap()]
}

/// What goes on around the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Crashes,
    WatchesDrop,
    EventsLost,
    EventsRepeat,
    KindsReorder,
    ListsCut,
    OlderServer,
    SlowLinks,
    HangingLinks,
    FlappingLinks,
    HalfOpenLinks,
    RightsRevoked,
    RightsNarrowed,
    ClockJumps,
    TwoLeaders,
    OwnServerAway,
    OwnServerOlder,
}

impl Weather {
    pub(crate) const ALL: [Self; 17] = [
        Self::Crashes,
        Self::WatchesDrop,
        Self::EventsLost,
        Self::EventsRepeat,
        Self::KindsReorder,
        Self::ListsCut,
        Self::OlderServer,
        Self::SlowLinks,
        Self::HangingLinks,
        Self::FlappingLinks,
        Self::HalfOpenLinks,
        Self::RightsRevoked,
        Self::RightsNarrowed,
        Self::ClockJumps,
        Self::TwoLeaders,
        Self::OwnServerAway,
        Self::OwnServerOlder,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Crashes => "crashes",
            Self::WatchesDrop => "watches drop",
            Self::EventsLost => "events lost",
            Self::EventsRepeat => "events repeat",
            Self::KindsReorder => "kinds reorder",
            Self::ListsCut => "lists cut",
            Self::OlderServer => "older server",
            Self::SlowLinks => "slow links",
            Self::HangingLinks => "hanging links",
            Self::FlappingLinks => "flapping links",
            Self::HalfOpenLinks => "half-open links",
            Self::RightsRevoked => "rights revoked",
            Self::RightsNarrowed => "rights narrowed",
            Self::ClockJumps => "clock jumps",
            Self::TwoLeaders => "two leaders",
            Self::OwnServerAway => "own server away",
            Self::OwnServerOlder => "own server older",
        }
    }
}

/// Where it all happens.
pub(crate) struct Stage {
    pub(crate) world: World,
    leader_elect: bool,
    controllers: Mutex<Vec<Controller>>,
    started: Mutex<u32>,
}

impl Stage {
    /// With as many controllers, which elect a leader if there are several.
    pub(crate) fn new(world: World, controllers: usize) -> Self {
        let leader_elect = controllers > 1;
        let stage = Self { world, leader_elect, controllers: Mutex::default(), started: Mutex::default() };
        (0..controllers).for_each(|_| stage.start());
        stage
    }

    pub(crate) fn controllers(&self) -> MutexGuard<'_, Vec<Controller>> {
        self.controllers.lock().unwrap()
    }

    fn start(&self) {
        let mut started = self.started.lock().unwrap();
        *started += 1;
        let controller = self.world.start(&format!("controller-{started}"), self.leader_elect);
        self.controllers().push(controller);
    }

    fn take(&self) -> Option<Controller> {
        let mut all = self.controllers();
        (!all.is_empty()).then(|| all.remove(0))
    }

    fn wires_to(&self, link: &str) -> Vec<Wire> {
        self.controllers().iter().map(|controller| controller.links[link].clone()).collect()
    }

    fn wires(&self) -> Vec<Wire> {
        self.controllers().iter().map(|controller| controller.wire.clone()).collect()
    }

    fn servers(&self) -> Vec<&Server> {
        std::iter::once(&self.world.importer).chain(self.world.exporters.values()).collect()
    }

    /// Everything goes as it should from now on.
    pub(crate) fn clear_up(&self) {
        self.servers().into_iter().for_each(Server::heal);
        for controller in self.controllers().iter() {
            for wire in controller.links.values().chain([&controller.wire]) {
                wire.set(Mode::Open);
                wire.calm();
            }
        }
    }

    /// For as many rounds it is like that, from now on and then.
    pub(crate) async fn brew(&self, weather: Weather, rounds: u64, mut chance: Chance) {
        self.world.importer.weather(weather.name());
        for _ in 0..rounds {
            let link = *chance.pick(&LINKS);
            let exporter = &self.world.exporters[link];
            let server = (*chance.pick(&self.servers())).clone();
            match weather {
                Weather::Crashes => self.crash(&mut chance).await,
                Weather::WatchesDrop => server.cut_watches("", chance.below(2) == 0),
                Weather::EventsLost => {
                    server.cut_watches("", false);
                    server.compact();
                }
                Weather::EventsRepeat => {
                    let changes = usize::try_from(chance.below(20)).unwrap();
                    let started = *self.started.lock().unwrap();
                    server.repeat(&format!("controller-{started}"), changes);
                }
                Weather::KindsReorder => self.reorder(&mut chance),
                Weather::ListsCut => cut_lists(&server, &["services", "endpointslices"], &mut chance),
                Weather::OlderServer => set_back(exporter, &mut chance).await,
                Weather::OwnServerOlder => set_back(&self.world.importer, &mut chance).await,
                Weather::SlowLinks => {
                    self.wires_to(link).iter().for_each(|wire| wire.latency(millis(&mut chance, 6000)))
                }
                Weather::HangingLinks => close(&self.wires_to(link), Mode::Held, millis(&mut chance, 200_000)).await,
                Weather::FlappingLinks => close(&self.wires_to(link), Mode::Refused, millis(&mut chance, 20_000)).await,
                Weather::HalfOpenLinks => self.wires_to(link).iter().for_each(Wire::forget),
                Weather::RightsRevoked => revoke(exporter, "", &mut chance).await,
                Weather::RightsNarrowed => {
                    let resource = *chance.pick(&["services", "endpointslices", "namespaces"]);
                    revoke(exporter, resource, &mut chance).await;
                }
                Weather::ClockJumps => self.world.jump(i64::try_from(chance.below(7200)).unwrap() - 3600),
                Weather::TwoLeaders => self.freeze(&mut chance).await,
                Weather::OwnServerAway => {
                    let mode = *chance.pick(&[Mode::Held, Mode::Refused]);
                    close(&self.wires(), mode, millis(&mut chance, 30_000)).await;
                }
            }
            sleep(millis(&mut chance, 10_000)).await;
        }
        if weather == Weather::SlowLinks {
            // They stay slow, as far as a heartbeat still passes there and back in its 5 s: a link that is slower for good
            // is lost, as it should be, and what is waited for with it would never come.
            let bearable = millis(&mut chance, 2000);
            LINKS.iter().flat_map(|link| self.wires_to(link)).for_each(|wire| wire.latency(bearable));
        }
    }

    /// Kills a controller with one of its next writes, or in between, and starts another one.
    async fn crash(&self, chance: &mut Chance) {
        let Some(controller) = self.take() else { return };
        controller.wire.die_after(1 + chance.below(6));
        controller.death(millis(chance, 30_000)).await;
        controller.kill().await;
        sleep(millis(chance, 20_000)).await;
        self.start();
    }

    fn reorder(&self, chance: &mut Chance) {
        for wire in self.wires() {
            for plural in ["services", "endpointslices", "clusterlinks", "mirrorpolicies", "namespaces"] {
                wire.lag(plural, millis(chance, 3000));
            }
        }
        for link in LINKS {
            for wire in self.wires_to(link) {
                ["services", "endpointslices"].iter().for_each(|plural| wire.lag(plural, millis(chance, 5000)));
            }
        }
    }

    /// One of the controllers stands still for longer than its leadership lasts, and then goes on:
    /// what it had sent arrives then.
    async fn freeze(&self, chance: &mut Chance) {
        let wires: Vec<Wire> = {
            let all = self.controllers();
            let Some(controller) = all.get(usize::try_from(chance.below(2)).unwrap()) else { return };
            controller.links.values().chain([&controller.wire]).cloned().collect()
        };
        close(&wires, Mode::Held, Duration::from_secs(5) + millis(chance, 40_000)).await;
    }
}

/// Nothing gets through as it should for a while.
pub(crate) async fn close(wires: &[Wire], mode: Mode, how_long: Duration) {
    wires.iter().for_each(|wire| wire.set(mode));
    sleep(how_long).await;
    wires.iter().for_each(|wire| wire.set(Mode::Open));
}

pub(crate) fn millis(chance: &mut Chance, below: u64) -> Duration {
    Duration::from_millis(chance.below(below))
}

/// A server comes back with a backup.
async fn set_back(server: &Server, chance: &mut Chance) {
    let backup = server.backup();
    server.age(100_000);
    sleep(Duration::from_secs(20) + millis(chance, 15_000)).await;
    server.restore(&backup);
}

/// The next lists of these kinds break off at one page or another, and one must be made.
pub(crate) fn cut_lists(server: &Server, resources: &[&str], chance: &mut Chance) {
    server.short_pages(1 + chance.below(5));
    for resource in resources {
        let wrong =
            *chance.pick(&[Wrong::Answer(410, None), Wrong::Answer(500, None), Wrong::Broken, Wrong::BrokenAfter]);
        let (skip, times) = (small(chance, 8), Some(1 + small(chance, 3)));
        let (client, verbs, resource) = (String::new(), vec![Verb::List], (*resource).to_owned());
        server.fault(Fault { name: "lists cut", client, verbs, resource, wrong, skip, times });
    }
    server.cut_watches("", false);
    server.compact();
}

fn small(chance: &mut Chance, below: u64) -> u32 {
    u32::try_from(chance.below(below)).unwrap()
}

/// Nothing, or nothing of a kind, may be read for a while.
async fn revoke(exporter: &Server, resource: &str, chance: &mut Chance) {
    let code = *chance.pick(&[401, 403]);
    let wrong = Wrong::Answer(code, None);
    exporter.fault(Fault {
        name: "rights",
        client: String::new(),
        verbs: Vec::new(),
        resource: resource.to_owned(),
        wrong,
        skip: 0,
        times: None,
    });
    exporter.cut_watches("", false);
    sleep(millis(chance, 200_000)).await;
    exporter.heal();
}

/// Every kind of write meets that fault, twice.
pub(crate) fn strike(server: &Server, kinds: &[(Verb, &str)], (name, wrong): (&'static str, Wrong)) {
    for (verb, resource) in kinds {
        server.fault(Fault {
            name,
            client: String::new(),
            verbs: vec![*verb],
            resource: (*resource).to_owned(),
            wrong,
            skip: 0,
            times: Some(2),
        });
    }
}
