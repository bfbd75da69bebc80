//! The way between one client and a server: how long it takes, and what goes wrong on it. Keeps
//! the order of what it carries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, channel::mpsc::UnboundedReceiver, stream::unfold};
use tokio::{sync::Notify, time::sleep};
use tower::BoxError;

use super::store::Line;

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// Nothing; what was sent arrives later.
    Held,
    /// Nothing, and every connection breaks.
    Refused,
    /// Nothing ever again, without a word: the client was killed.
    Dead,
}

#[derive(Clone, Copy)]
struct Weather {
    mode: Mode,
    /// How often connections broke.
    breaks: u64,
    /// How often connections were forgotten: they stay open and carry nothing.
    forgotten: u64,
}

/// Clones are of the same wire.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Inner>);

struct Inner {
    weather: Mutex<Weather>,
    /// Wakes in the order of waiting; a watch channel wakes by chance.
    changed: Notify,
    tuning: Mutex<Tuning>,
}

#[derive(Default)]
struct Tuning {
    latency: Duration,
    /// How much later the events of a kind arrive.
    lag: BTreeMap<String, Duration>,
    /// After so many more writes the client is dead.
    writes_left: Option<u64>,
    writes: u64,
}

impl Default for Wire {
    fn default() -> Self {
        let weather = Mutex::new(Weather { mode: Mode::Open, breaks: 0, forgotten: 0 });
        let tuning = Tuning { latency: Duration::from_millis(1), ..Tuning::default() };
        Self(Arc::new(Inner { weather, changed: Notify::new(), tuning: Mutex::new(tuning) }))
    }
}

impl Wire {
    pub(crate) fn set(&self, mode: Mode) {
        self.change(|weather| {
            if weather.mode != Mode::Dead {
                weather.mode = mode;
            }
            weather.breaks += u64::from(mode == Mode::Refused);
        });
    }

    /// Every connection that is open now stays so and carries nothing any more.
    pub(crate) fn forget(&self) {
        self.change(|weather| weather.forgotten += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.0.weather.lock().unwrap());
        self.0.changed.notify_waiters();
    }

    fn weather(&self) -> Weather {
        *self.0.weather.lock().unwrap()
    }

    async fn wait_for(&self, is_so: impl Fn(&Weather) -> bool) -> Weather {
        loop {
            let changed = self.0.changed.notified();
            let weather = self.weather();
            if is_so(&weather) {
                return weather;
            }
            changed.await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.weather().mode == Mode::Dead
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.0.tuning.lock().unwrap().latency = latency;
    }

    /// From now on events of that kind arrive so much later.
    pub(crate) fn lag(&self, plural: &str, lag: Duration) {
        self.0.tuning.lock().unwrap().lag.insert(plural.to_owned(), lag);
    }

    /// As quick as it was.
    pub(crate) fn calm(&self) {
        let mut tuning = self.0.tuning.lock().unwrap();
        tuning.latency = Duration::from_millis(1);
        tuning.lag.clear();
        tuning.writes_left = None;
    }

    /// The client dies with the `n`-th write from now on, after it was carried out and before the answer.
    pub(crate) fn die_after(&self, n: u64) {
        self.0.tuning.lock().unwrap().writes_left = Some(n);
    }

    /// How many writes were carried out.
    pub(crate) fn writes(&self) -> u64 {
        self.0.tuning.lock().unwrap().writes
    }

    pub(super) fn count_write(&self) {
        let mut tuning = self.0.tuning.lock().unwrap();
        tuning.writes += 1;
        if let Some(left) = &mut tuning.writes_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                tuning.writes_left = None;
                drop(tuning);
                self.set(Mode::Dead);
            }
        }
    }

    /// Carries one message.
    pub(super) async fn carry(&self) -> Result<(), BoxError> {
        let latency = self.0.tuning.lock().unwrap().latency;
        sleep(latency).await;
        self.passable().await
    }

    async fn passable(&self) -> Result<(), BoxError> {
        let weather = self.wait_for(|weather| !matches!(weather.mode, Mode::Held | Mode::Dead)).await;
        if weather.mode == Mode::Refused { Err("connection refused".into()) } else { Ok(()) }
    }

    /// Carries what comes on a watch of that kind.
    pub(super) fn stream(
        &self,
        plural: &str,
        lines: UnboundedReceiver<Line>,
    ) -> impl Stream<Item = Result<Bytes, BoxError>> + use<> {
        let born = self.weather();
        let flow = Flow { wire: self.clone(), plural: plural.to_owned(), lines, born };
        unfold(Some(flow), |flow| async move { flow?.next().await })
    }
}

struct Flow {
    wire: Wire,
    plural: String,
    lines: UnboundedReceiver<Line>,
    born: Weather,
}

impl Flow {
    async fn next(mut self) -> Option<(Line, Option<Self>)> {
        let (breaks, forgotten) = (self.born.breaks, self.born.forgotten);
        let line = tokio::select! {
            biased;
            _ = self.wire.wait_for(|weather| weather.breaks > breaks) => Err("connection reset".into()),
            line = self.lines.next() => line?,
        };
        if line.is_err() {
            return Some((line, None));
        }
        let lag = self.wire.0.tuning.lock().unwrap().lag.get(&self.plural).copied().unwrap_or_default();
        sleep(lag).await;
        if self.wire.weather().forgotten > forgotten {
            std::future::pending::<()>().await;
        }
        match self.wire.carry().await {
            Ok(()) => Some((line, Some(self))),
            Err(error) => Some((Err(error), None)),
        }
    }
}
