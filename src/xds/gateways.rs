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
    seats: u64,
}

#[derive(Debug)]
struct Gateway {
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// By the Envoy's own name: one that comes back takes its old place, even if that connection was
    /// not seen to end.
    envoys: BTreeMap<String, Envoy>,
    told: Option<EnvoyState>,
    news: bool,
}

#[derive(Debug)]
struct Envoy {
    seat: u64,
    report: Report,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { snapshot: watch::Sender::new(None), envoys: BTreeMap::new(), told: None, news: false }
    }
}

impl Gateway {
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
            if let Some(gateway) = table.gateways.get(binding) {
                gateway.snapshot.send_replace(None);
            }
            table.drop_if_empty(binding);
            return;
        };
        let gateway = table.gateways.entry(binding.to_owned()).or_default();
        let before = gateway.snapshot.borrow().clone().unwrap_or_default();
        if gateway.snapshot.borrow().is_none() || *before.config() != config {
            gateway.snapshot.send_replace(Some(Arc::new(Snapshot::new(config, &before))));
        }
    }

    /// An Envoy came.
    pub(super) fn join(self: &Arc<Self>, binding: String, envoy: String) -> Seat {
        let mut table = self.table();
        table.seats += 1;
        let number = table.seats;
        let gateway = table.gateways.entry(binding.clone()).or_default();
        gateway.envoys.insert(envoy.clone(), Envoy { seat: number, report: Report::default() });
        gateway.news = true;
        let snapshot = gateway.snapshot.subscribe();
        drop(table);
        self.news.notify_one();
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

    /// Calls with what stands at a seat, while it stands.
    fn at<T>(&self, seat: &Seat, act: impl FnOnce(&mut Table) -> T) -> Option<T> {
        let mut table = self.table();
        let envoy = table.gateways.get(&seat.binding)?.envoys.get(&seat.envoy)?;
        (envoy.seat == seat.number).then(|| act(&mut table))
    }

    /// A thread that panicked left a table that is still whole: each change is one assignment.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_state(&mut self) -> Option<EnvoyState> {
        for (binding, gateway) in &mut self.gateways {
            if !gateway.news {
                continue;
            }
            gateway.news = false;
            let state = gateway.state(binding);
            if gateway.told.as_ref() != Some(&state) {
                gateway.told = Some(state.clone());
                return Some(state);
            }
        }
        None
    }

    fn drop_if_empty(&mut self, binding: &str) {
        let is_empty = |gateway: &Gateway| gateway.envoys.is_empty() && gateway.snapshot.borrow().is_none();
        if self.gateways.get(binding).is_some_and(is_empty) {
            self.gateways.remove(binding);
        }
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
    pub(super) fn report(&self, report: Report) {
        self.gateways.at(self, |table| {
            let Some(gateway) = table.gateways.get_mut(&self.binding) else { return };
            gateway.envoys.insert(self.envoy.clone(), Envoy { seat: self.number, report });
            gateway.news = true;
        });
        self.gateways.news.notify_one();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gateways.at(self, |table| {
            if let Some(gateway) = table.gateways.get_mut(&self.binding) {
                gateway.envoys.remove(&self.envoy);
                gateway.news = true;
            }
        });
        self.gateways.news.notify_one();
        self.gateways.table().drop_if_empty(&self.binding);
    }
}
