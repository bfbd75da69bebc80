//! Which gateways there are, what their Envoys are to do, and what those that are connected have
//! acknowledged of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{conversation::Report, snapshot::Snapshot};
use crate::core::envoy::{EnvoyConfig, EnvoyState};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    table: Mutex<Table>,
    /// Says to who waits for states that there may be a new one.
    news: Notify,
}

#[derive(Debug, Default)]
struct Table {
    gateways: BTreeMap<String, Gateway>,
    last_seat: u64,
}

#[derive(Debug, Default)]
struct Gateway {
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// By the Envoy's own name: one that comes back takes its old place, even if that connection was
    /// not seen to end.
    envoys: BTreeMap<String, Envoy>,
    /// Connections, also of Envoys that have not said yet what they do.
    seats: usize,
    told: Option<EnvoyState>,
    news: bool,
}

#[derive(Debug)]
struct Envoy {
    seat: u64,
    report: Report,
}

impl Gateway {
    /// Whether nothing is known of it and nobody asks.
    fn is_over(&self) -> bool {
        self.seats == 0 && self.snapshot.borrow().is_none()
    }

    /// What all its Envoys do, and what some refuse.
    fn state(&self, binding: &str) -> EnvoyState {
        let mut reports = self.envoys.values().map(|envoy| &envoy.report);
        let mut serving = reports.next().map(|report| report.serving.clone()).unwrap_or_default();
        for report in reports {
            let both = serving.iter().filter_map(|(port, routing)| {
                let common = report.serving.get(port).and_then(|other| other.common(routing));
                common.map(|common| (*port, common))
            });
            serving = both.collect();
        }
        let refused = self.envoys.values().flat_map(|envoy| envoy.report.refused.clone());
        EnvoyState {
            binding: binding.to_owned(),
            connected: u32::try_from(self.envoys.len()).unwrap_or(u32::MAX),
            serving,
            refused: refused.collect(),
        }
    }
}

impl Gateways {
    pub(super) fn set(&self, binding: &str, config: Option<EnvoyConfig>) {
        let mut table = self.table();
        let Some(config) = config else {
            // Its Envoys go on with what they have: who takes the binding away takes them away.
            if let Some(gateway) = table.gateways.get_mut(binding) {
                gateway.snapshot.send_replace(None);
                gateway.news = true;
            }
            drop(table);
            self.news.notify_one();
            return;
        };
        let gateway = table.gateways.entry(binding.to_owned()).or_default();
        let before = gateway.snapshot.borrow().clone().unwrap_or_default();
        if gateway.snapshot.borrow().is_none() || *before.config() != config {
            gateway.snapshot.send_replace(Some(Arc::new(Snapshot::new(config, &before))));
        }
    }

    /// An Envoy came. It counts from its first report; until then the one that had its name does.
    pub(super) fn join(self: &Arc<Self>, binding: String, envoy: String) -> Seat {
        let mut table = self.table();
        table.last_seat += 1;
        let number = table.last_seat;
        let gateway = table.gateways.entry(binding.clone()).or_default();
        gateway.seats += 1;
        let snapshot = gateway.snapshot.subscribe();
        drop(table);
        Seat { gateways: Arc::clone(self), binding, envoy, number, snapshot }
    }

    /// The next state that differs from what was told before. Only one may wait at a time.
    pub(super) async fn next_state(&self) -> EnvoyState {
        loop {
            if let Some(state) = self.table().next_state() {
                return state;
            }
            self.news.notified().await;
        }
    }

    /// A thread that panicked left a table that is still whole: each change is one assignment.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_state(&mut self) -> Option<EnvoyState> {
        while let Some((binding, gateway)) = self.gateways.iter_mut().find(|(_, gateway)| gateway.news) {
            gateway.news = false;
            let state = gateway.state(binding);
            let is_news = gateway.told.as_ref() != Some(&state);
            gateway.told = Some(state.clone());
            if gateway.is_over() {
                self.gateways.remove(&state.binding);
            }
            if is_news {
                return Some(state);
            }
        }
        None
    }
}

/// An Envoy's place, for as long as it is connected.
#[derive(Debug)]
pub(super) struct Seat {
    gateways: Arc<Gateways>,
    binding: String,
    envoy: String,
    number: u64,
    /// What it is to do.
    pub(super) snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl Seat {
    /// What the Envoy does now.
    pub(super) fn report(&self, report: Report) {
        let mut table = self.gateways.table();
        let Some(gateway) = table.gateways.get_mut(&self.binding) else { return };
        // Who came later under the same name is the one that lives.
        if gateway.envoys.get(&self.envoy).is_none_or(|envoy| envoy.seat <= self.number) {
            gateway.envoys.insert(self.envoy.clone(), Envoy { seat: self.number, report });
            gateway.news = true;
            self.gateways.news.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.gateways.table();
        let Some(gateway) = table.gateways.get_mut(&self.binding) else { return };
        if gateway.envoys.get(&self.envoy).is_some_and(|envoy| envoy.seat == self.number) {
            gateway.envoys.remove(&self.envoy);
        }
        gateway.seats -= 1;
        gateway.news = true;
        self.gateways.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use futures::FutureExt;

    use super::*;
    use crate::core::envoy::{EnvoyPort, EnvoyRouting};

    fn serving(ports: &[u16]) -> Report {
        let routing = |port: &u16| (EnvoyPort::Tcp(*port), EnvoyRouting::Port { cluster: "a".into() });
        Report { serving: ports.iter().map(routing).collect(), refused: BTreeMap::new() }
    }

    fn told(gateways: &Gateways) -> Option<(u32, Vec<u16>)> {
        let state = gateways.next_state().now_or_never()?;
        Some((state.connected, state.serving.keys().map(|port| port.number()).collect()))
    }

    #[test]
    fn served_is_what_every_envoy_does() {
        let gateways = Arc::new(Gateways::default());
        let one = gateways.join("public".into(), "one".into());
        let two = gateways.join("public".into(), "two".into());
        assert_eq!(told(&gateways), None, "none has said what it does");
        one.report(serving(&[1, 2]));
        assert_eq!(told(&gateways), Some((1, vec![1, 2])));
        two.report(serving(&[2, 3]));
        assert_eq!(told(&gateways), Some((2, vec![2])));
        drop(one);
        assert_eq!(told(&gateways), Some((1, vec![2, 3])));
        two.report(serving(&[2, 3]));
        assert_eq!(told(&gateways), None, "nothing is told twice");
        drop(two);
        assert_eq!(told(&gateways), Some((0, vec![])));
    }

    #[test]
    fn a_refusal_by_one_envoy_is_told() {
        let gateways = Arc::new(Gateways::default());
        let one = gateways.join("public".into(), "one".into());
        let two = gateways.join("public".into(), "two".into());
        one.report(serving(&[1]));
        two.report(Report { refused: [(EnvoyPort::Tcp(1), "in use".into())].into(), ..Report::default() });
        let state = gateways.next_state().now_or_never().unwrap();
        assert_eq!(state.refused, [(EnvoyPort::Tcp(1), "in use".into())].into());
        assert!(!state.serves(EnvoyPort::Tcp(1), &EnvoyRouting::Port { cluster: "a".into() }));
    }

    #[test]
    fn an_envoy_that_comes_back_takes_its_own_place() {
        let gateways = Arc::new(Gateways::default());
        let old = gateways.join("public".into(), "one".into());
        old.report(serving(&[1]));
        let new = gateways.join("public".into(), "one".into());
        assert_eq!(told(&gateways), Some((1, vec![1])), "until it says something, the old one counts");
        new.report(serving(&[2]));
        assert_eq!(told(&gateways), Some((1, vec![2])));
        old.report(serving(&[3]));
        drop(old);
        assert_eq!(told(&gateways), None, "a connection that was given up changes nothing");
    }

    #[test]
    fn bindings_do_not_mix_and_nothing_stays_of_one_that_is_gone() {
        let gateways = Arc::new(Gateways::default());
        let public = gateways.join("public".into(), "one".into());
        let private = gateways.join("private".into(), "one".into());
        gateways.set("public", Some(EnvoyConfig::default()));
        assert!(public.snapshot.borrow().is_some());
        assert!(private.snapshot.borrow().is_none());
        public.report(serving(&[1]));
        private.report(serving(&[2]));
        let states = [gateways.next_state().now_or_never().unwrap(), gateways.next_state().now_or_never().unwrap()];
        let ports = states.map(|state| (state.binding, state.serving.into_keys().collect::<Vec<_>>()));
        assert_eq!(ports, [("private".into(), vec![EnvoyPort::Tcp(2)]), ("public".into(), vec![EnvoyPort::Tcp(1)])]);
        drop(private);
        gateways.set("public", None);
        drop(public);
        while told(&gateways).is_some() {}
        assert!(gateways.table().gateways.is_empty());
    }

    #[test]
    fn a_configuration_that_is_the_same_wakes_nobody() {
        let gateways = Arc::new(Gateways::default());
        let mut seat = gateways.join("public".into(), "one".into());
        gateways.set("public", Some(EnvoyConfig::default()));
        assert!(seat.snapshot.has_changed().unwrap());
        seat.snapshot.mark_unchanged();
        gateways.set("public", Some(EnvoyConfig::default()));
        assert!(!seat.snapshot.has_changed().unwrap());
    }
}
