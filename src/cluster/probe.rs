//! Probes gateway addresses: one task an address, each in a rhythm of its own, so that a slow or dead
//! one delays no other. Says when its opinion of an address has changed, and decides nothing.
//!
//! As many failures in a row as the link says are too many; one success is enough. But where there is
//! no answer at all, that alone does not tell a dead gateway from a prober that is cut off. So such an
//! address is only called unreachable when something else answered between failures: within the last two
//! periods, in which every other address of the same period is asked at least once.

mod ask;

use std::{
    collections::BTreeMap,
    mem::discriminant,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::ask::{Answer, Dial, Tcp};
use crate::core::{
    io::Input,
    reach::{ProbeTask, Target, Verdict},
};

/// By how much a period is shorter or longer, so that probes of many links spread out.
const JITTER: f64 = 0.1;

/// Keeps the addresses of the latest list probed until `shutdown`.
pub async fn run(
    wanted: watch::Receiver<BTreeMap<Target, ProbeTask>>,
    out: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) {
    let prober = Prober { dial: Arc::new(Tcp), out, signs: Signs::default(), running: BTreeMap::new() };
    shutdown.run_until_cancelled(prober.keep(wanted)).await;
}

/// When anything last answered at all, wherever.
#[derive(Clone, Default)]
struct Signs(Arc<Mutex<Option<Instant>>>);

impl Signs {
    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

struct Prober {
    dial: Arc<dyn Dial>,
    out: mpsc::Sender<Input>,
    signs: Signs,
    /// Dropped, a task ends.
    running: BTreeMap<Target, (ProbeTask, AbortOnDropHandle<()>)>,
}

impl Prober {
    async fn keep(mut self, mut wanted: watch::Receiver<BTreeMap<Target, ProbeTask>>) {
        loop {
            let tasks = wanted.borrow_and_update().clone();
            self.set(tasks);
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    fn set(&mut self, mut tasks: BTreeMap<Target, ProbeTask>) {
        self.running.retain(|target, (task, _)| match tasks.remove(target) {
            Some(wanted) if wanted == *task => true,
            Some(wanted) => {
                tasks.insert(target.clone(), wanted);
                false
            }
            None => false,
        });
        for (target, task) in tasks {
            let watcher = Watcher {
                dial: Arc::clone(&self.dial),
                out: self.out.clone(),
                signs: self.signs.clone(),
                target: target.clone(),
                task: task.clone(),
            };
            self.running.insert(target, (task, AbortOnDropHandle::new(tokio::spawn(watcher.watch()))));
        }
    }
}

/// Looks after one address.
struct Watcher {
    dial: Arc<dyn Dial>,
    out: mpsc::Sender<Input>,
    signs: Signs,
    target: Target,
    task: ProbeTask,
}

impl Watcher {
    async fn watch(self) {
        let mut opinion = Opinion::new(self.task.terms.failure_threshold);
        sleep(self.task.terms.period.mul_f64(JITTER * fastrand::f64())).await;
        loop {
            let (began, sign) = (Instant::now(), self.signs.last());
            let answer = ask::ask(self.dial.as_ref(), self.target.address, &self.task).await;
            let ended = Instant::now();
            if !matches!(answer, Answer::Silent(_)) {
                self.signs.give(ended);
            }
            if let Some(verdict) = opinion.take(answer, sign, ended) {
                let target = self.target.clone();
                // The engine only stops listening at shutdown.
                let _ = self.out.send(Input::Probed { target, verdict }).await;
            }
            sleep_until(began + around(self.task.terms.period)).await;
        }
    }
}

fn around(period: Duration) -> Duration {
    period.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// What is thought of one address.
struct Opinion {
    threshold: u32,
    failures: u32,
    /// When the last two of them ended, the older one first.
    last: [Option<Instant>; 2],
    told: Option<Verdict>,
}

impl Opinion {
    const fn new(threshold: u32) -> Self {
        Self { threshold, failures: 0, last: [None, None], told: None }
    }

    /// Takes what came of a probe that ended now. `sign`: when, before it began, anything answered
    /// last. Gives the verdict if it is another one.
    fn take(&mut self, answer: Answer, sign: Option<Instant>, now: Instant) -> Option<Verdict> {
        let was_unreachable = matches!(self.told, Some(Verdict::Unreachable(_)));
        let failing_since = self.last.iter().flatten().next();
        let others_answer = matches!((sign, failing_since), (Some(sign), Some(since)) if sign > *since);
        let verdict = match answer {
            Answer::Good => Verdict::Reachable,
            Answer::Wrong(why) => Verdict::Unreachable(why),
            Answer::Silent(why) if was_unreachable || others_answer => Verdict::Unreachable(why),
            Answer::Silent(why) => Verdict::Silent(why),
        };
        if verdict == Verdict::Reachable {
            (self.failures, self.last) = (0, [None, None]);
        } else {
            (self.failures, self.last) = (self.failures.saturating_add(1), [self.last[1], Some(now)]);
        }
        let enough = verdict == Verdict::Reachable || self.failures >= self.threshold;
        let same = self.told.as_ref().is_some_and(|told| discriminant(told) == discriminant(&verdict));
        if !enough || same {
            return None;
        }
        self.told = Some(verdict.clone());
        Some(verdict)
    }
}

#[cfg(test)]
mod tests;
