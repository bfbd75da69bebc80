//! An exporter and an importer that hear of each other only while the network lets them: whatever
//! comes and goes, a mirror never sends a call to another Service than its own (design: section 4,
//! port lease).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Sim, exporter::*, key, link, map, policy};
use heliostat::{
    cluster::wire::RemoteSliceWire,
    core::{export::object::PUBLISHED_SLICE, model::Origin},
};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

const SERVICES: usize = 6;
/// Fewer ports than Services, so that they are wanted all the time.
const PORTS: [u16; 2] = [20_000, 20_002];

#[derive(Clone, Debug)]
enum Step {
    Export(usize),
    Unexport(usize),
    /// The importer hears nothing from now on.
    Part,
    /// It does again.
    Meet,
    /// The importer's controller starts anew.
    Restart,
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..SERVICES).prop_map(Step::Export),
        4 => (0..SERVICES).prop_map(Step::Unexport),
        1 => Just(Step::Part),
        1 => Just(Step::Meet),
        1 => Just(Step::Restart),
        4 => (1i64..90).prop_map(Step::Pass),
    ]
}

struct Both {
    exporter: Cluster,
    importer: Sim,
    parted: bool,
}

impl Both {
    fn new() -> Self {
        let mut exporter = Cluster::new(json!({"ports": {"from": PORTS[0], "to": PORTS[1], "lease": "1h"}}));
        exporter.services.clear();
        exporter.slices.clear();
        for i in 0..SERVICES {
            let name = format!("s{i}");
            exporter.export(&name, &[("http", 80)]);
        }
        exporter.services.values_mut().for_each(|service| service.labels.clear());
        exporter.start();
        let mut importer = Sim::new();
        importer.namespace("shop");
        importer.set_link(link("east", json!({"onLoss": {"action": "Keep", "after": "5m"}})));
        importer.set_policy(policy("shop/all", json!({"via": ["Gateway"]})));
        importer.now = exporter.now;
        let mut both = Self { exporter, importer, parted: false };
        both.hear();
        both
    }

    /// The importer lists what the exporter has.
    fn hear(&mut self) {
        if self.parted {
            return;
        }
        self.importer.connect("east");
        let exported = |service: &&Origin| !service.labels.is_empty();
        let services: Vec<(String, Origin)> = self
            .exporter
            .services
            .iter()
            .filter(|(_, service)| exported(service))
            .map(|(name, service)| (name.to_string(), service.clone()))
            .collect();
        let slices: Vec<_> = self
            .exporter
            .of(PUBLISHED_SLICE)
            .into_iter()
            .map(|(name, slice)| {
                (name.to_string(), RemoteSliceWire::from_value(slice).into_model().unwrap().1.unwrap())
            })
            .collect();
        let services: Vec<_> = services.iter().map(|(name, service)| (name.as_str(), service.clone())).collect();
        let slices: Vec<_> = slices.iter().map(|(name, slice)| (name.as_str(), slice.clone())).collect();
        self.importer.list("east", &services, &slices);
    }

    fn label(&mut self, service: usize, exported: bool) {
        let service = self.exporter.services.get_mut(&key(&format!("shop/s{service}"))).unwrap();
        service.labels = if exported { map(&[("heliostat.dev/export", "true")]) } else { map(&[]) };
        self.exporter.settle();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Export(service) => self.label(*service, true),
            Step::Unexport(service) => self.label(*service, false),
            Step::Part if !self.parted => {
                self.parted = true;
                self.importer.lose("east");
            }
            Step::Meet => self.parted = false,
            Step::Restart => {
                self.importer.restart();
                if self.parted {
                    self.importer.lose("east");
                }
            }
            Step::Part => {}
            Step::Pass(minutes) => {
                // In small steps, as both clocks run at once.
                for _ in 0..*minutes {
                    self.exporter.pass(SignedDuration::from_mins(1));
                    self.importer.pass(SignedDuration::from_mins(1));
                    self.check();
                }
            }
        }
        self.hear();
        self.check();
    }

    /// Where each port of the gateway leads now.
    fn owner(&self, port: &str) -> Option<String> {
        let routes = self.exporter.of(ROUTE);
        let found = routes.iter().find(|(_, route)| route["spec"]["gatewayPort"].as_u64() == port.parse().ok())?;
        Some(found.0.name.strip_suffix("-80").unwrap().to_owned())
    }

    fn check(&self) {
        for service in 0..SERVICES {
            let (origin, mirror) = (format!("s{service}"), format!("shop/s{service}-east"));
            for endpoint in self.importer.endpoints(&mirror) {
                if !is_ready(&endpoint) {
                    continue;
                }
                let port = endpoint.split([':', ' ']).nth(1).unwrap();
                let owner = self.owner(port);
                assert!(
                    owner.is_none() || owner.as_deref() == Some(&origin),
                    "a call to {mirror} goes to {owner:?}: {endpoint}"
                );
            }
        }
    }
}

fn is_ready(endpoint: &str) -> bool {
    endpoint.ends_with(" ready") && !endpoint.ends_with(" not ready")
}

#[test]
fn g07_a_port_changes_hands_and_no_importer_is_led_astray() {
    let mut both = Both::new();
    for service in 0..3 {
        both.take(&Step::Export(service));
    }
    let before = both.importer.endpoints("shop/s0-east");
    assert!(is_ready(&before[0]), "{before:?}");
    both.take(&Step::Part);
    both.take(&Step::Unexport(0));
    both.take(&Step::Export(5));
    both.take(&Step::Pass(59));
    assert_eq!(both.importer.endpoints("shop/s0-east"), before, "the lease holds, and nobody else has the port");
    both.take(&Step::Pass(70));
    let port = before[0].split([':', ' ']).nth(1).unwrap();
    assert_eq!(both.owner(port).as_deref(), Some("s5"), "the port has changed hands");
    assert!(!is_ready(&both.importer.endpoints("shop/s0-east")[0]));
    both.take(&Step::Meet);
    assert!(is_ready(&both.importer.endpoints("shop/s5-east")[0]));
}

#[test]
fn g07_an_importer_that_starts_while_the_exporter_is_away_lets_the_lease_run_out_too() {
    let mut both = Both::new();
    both.take(&Step::Export(0));
    both.take(&Step::Part);
    both.take(&Step::Pass(10));
    both.take(&Step::Restart);
    let writes = both.importer.log.len();
    both.take(&Step::Pass(48));
    assert!(is_ready(&both.importer.endpoints("shop/s0-east")[0]), "it was lost 58 minutes ago");
    assert_eq!(both.importer.log.len(), writes, "and nothing is written");
    both.take(&Step::Pass(3));
    let stale = both.importer.endpoints("shop/s0-east");
    assert!(!is_ready(&stale[0]), "{stale:?}");
    let condition = both.importer.mirror("shop/s0-east").mirrored().cloned().unwrap();
    assert_eq!(condition.reason, "Stale");
    both.take(&Step::Meet);
    assert!(is_ready(&both.importer.endpoints("shop/s0-east")[0]));
    assert_eq!(both.importer.mirror("shop/s0-east").mirrored(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn g07_no_importer_ever_reaches_a_service_other_than_the_one_it_mirrors(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut both = Both::new();
        for step in &steps {
            both.take(step);
        }
    }
}
