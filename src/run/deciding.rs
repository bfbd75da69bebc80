//! The task around the engine: takes news one by one, lets the engine decide, hands on what is to
//! be done. Nothing it awaits depends on what it hands on, so it cannot be blocked by that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::exporting::Exporting;
use crate::{
    apply::{events::Reporter, writer::Writer},
    clock::Clock,
    cluster::{dns, sessions::Sessions},
    core::{
        engine::Engine,
        io::{Input, Local, Output},
        reach::{ProbeTask, Target},
    },
    metrics::Metrics,
};

/// The engine is asked at least this often; also bounds how late a wall clock that was set is
/// noticed.
const TICK: Duration = Duration::from_secs(20);
/// What is overdue is looked at again no sooner than this, should the engine not clear it.
const PAUSE: Duration = Duration::from_millis(5);
/// Without a sign of life for this long, the engine stands still.
const STILL: Duration = Duration::from_secs(90);

/// See the file's description.
pub(super) struct Deciding {
    /// Decides.
    pub(super) engine: Engine,
    /// News from watches, sessions and DNS.
    pub(super) news: mpsc::Receiver<Input>,
    /// Who does what is decided.
    pub(super) hands: Hands,
    /// Counts news.
    pub(super) metrics: Arc<Metrics>,
    /// How many mirrors of which links were held when that was shown last.
    pub(super) held: BTreeMap<String, usize>,
    /// Shows that the engine lives.
    pub(super) pulse: Arc<Pulse>,
    /// What time it is for the engine.
    pub(super) clock: Clock,
}

/// Those who do what is decided; each takes an order without making anybody wait.
pub(super) struct Hands {
    /// Writes; its answers are news.
    pub(super) writer: Writer,
    /// Read the exporters.
    pub(super) sessions: Arc<Sessions>,
    /// The hostnames to keep resolved.
    pub(super) hosts: watch::Sender<dns::Hosts>,
    /// The gateway addresses to keep probed.
    pub(super) targets: watch::Sender<BTreeMap<Target, ProbeTask>>,
    /// Does what an exporter needs beside them; none in a controller that only imports.
    pub(super) exporting: Option<Exporting>,
    /// Tells users.
    pub(super) reporter: Reporter,
    /// Counts what has landed.
    pub(super) metrics: Arc<Metrics>,
}

impl Hands {
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Write(write) => self.writer.begin(write),
            Output::Session { link, task } => self.sessions.apply(link, task),
            Output::Resolve(hosts) => drop(self.hosts.send_replace(hosts)),
            Output::Probe(targets) => drop(self.targets.send_replace(targets)),
            Output::Event(event) => self.reporter.report(event),
            Output::Follow(kinds) => {
                if let Some(exporting) = &self.exporting {
                    exporting.follow(kinds);
                }
            }
            Output::Envoys { binding, config } => {
                if let Some(exporting) = &self.exporting {
                    exporting.envoys(&binding, config);
                }
            }
            Output::Propagated(took) => self.metrics.propagated(took),
        }
    }
}

impl Deciding {
    /// Runs until `shutdown`; gives those back who may still be at work.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Hands {
        loop {
            let due = self.due_in();
            let input = tokio::select! {
                // No chance: the same events give the same writes. Answers first, as there are few.
                biased;
                () = shutdown.cancelled() => return self.hands,
                answer = self.hands.writer.answered() => answer,
                Some(news) = self.news.recv() => news,
                () = tokio::time::sleep(due) => Input::Tick,
            };
            self.metrics.told(&input);
            if let (Input::Local(Local::ClusterUid(uid)), Some(exporting)) = (&input, &self.hands.exporting) {
                exporting.uid(uid);
            }
            for output in self.engine.handle(input, self.clock.now()) {
                self.hands.carry_out(output);
            }
            let (waiting, _) = self.engine.backlog();
            self.metrics.queued(waiting);
            self.show_held();
            self.pulse.beat();
        }
    }

    /// Shows how many mirrors are held, of links of which some are or just were.
    fn show_held(&mut self) {
        let held: BTreeMap<String, usize> =
            self.engine.deletions_held().map(|(link, held)| (link.to_owned(), held)).collect();
        for link in self.held.keys().filter(|link| !held.contains_key(*link)) {
            if self.engine.world().links.contains_key(link) {
                self.metrics.deletions_held(link, 0);
            }
        }
        held.iter().for_each(|(link, held)| self.metrics.deletions_held(link, *held));
        self.held = held;
    }

    /// How long until something is due by time alone.
    fn due_in(&self) -> Duration {
        let due = self.engine.next_wakeup();
        let left = due.map(|due| self.clock.now().duration_until(due));
        left.map_or(TICK, |left| Duration::try_from(left).unwrap_or_default().clamp(PAUSE, TICK))
    }
}

/// When the engine last took news.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    fn beat(&self) {
        self.last.store(self.start.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Whether the engine took news lately.
    pub(super) fn beats(&self) -> bool {
        let last = Duration::from_secs(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last) < STILL
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heart_that_stands_still_is_noticed() {
        let pulse = Pulse::default();
        assert!(pulse.beats());
        sleep(STILL).await;
        assert!(!pulse.beats());
        pulse.beat();
        sleep(STILL - Duration::from_secs(2)).await;
        assert!(pulse.beats());
    }
}
