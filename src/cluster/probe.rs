//! Probes gateway addresses: one task an address, each in a rhythm of its own, so that a slow or dead
//! one delays no other. Says when its opinion of an address has changed, and decides nothing.
//!
//! As many failures in a row as the link says are too many; one success is enough. But failures alone do
//! not tell what has failed: the gateway, whoever is to answer behind it, or the prober's own network. So
//! it is asked who else answered between failures, within the last two periods, in which every other
//! address of the same period is asked at least once:
//!
//! - another address of the same binding: this one is unreachable, and there is a better one;
//! - anything else, or this one accepts a connection at least: it is unreachable;
//! - nothing at all: it is silent, and so may be the prober.

mod ask;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::ask::Answer;
pub use self::ask::{Dial, Stream, Tcp};
use crate::core::{
    io::Input,
    reach::{Ask, ProbeTask, Target, Verdict},
};

/// By how much a period is shorter or longer, so that probes of many links spread out.
const JITTER: f64 = 0.1;

/// Keeps the addresses of the latest list probed until `shutdown`.
pub async fn run(
    wanted: watch::Receiver<BTreeMap<Target, ProbeTask>>,
    dial: Arc<dyn Dial>,
    out: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) {
    let prober = Prober { dial, out, seen: Seen::default(), running: BTreeMap::new() };
    shutdown.run_until_cancelled(prober.keep(wanted)).await;
}

/// When something last answered.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// At all, wherever.
    any: Option<Instant>,
    /// As it should, at an address of one binding that is asked the same.
    of_group: Option<Instant>,
}

/// Addresses that stand for one another: link, binding, and whether they are asked for content.
type Group = (String, String, bool);

/// When anything answered at all, and when each group did as it should.
type Answered = (Option<Instant>, BTreeMap<Group, Instant>);

/// What all watchers have seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Answered>>);

impl Seen {
    fn signs(&self, group: &Group) -> Signs {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Signs { any: seen.0, of_group: seen.1.get(group).copied() }
    }

    fn note(&self, group: &Group, answer: &Answer, at: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(answer, Answer::Silent(_)) {
            seen.0 = Some(at);
        }
        if *answer == Answer::Good {
            seen.1.insert(group.clone(), at);
        }
    }

    fn forget_others(&self, groups: &BTreeSet<Group>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1.retain(|group, _| groups.contains(group));
    }
}

fn group_of(target: &Target, task: &ProbeTask) -> Group {
    (target.link.clone(), target.binding.clone(), matches!(task.ask, Ask::ClusterUid { .. }))
}

struct Prober {
    dial: Arc<dyn Dial>,
    out: mpsc::Sender<Input>,
    seen: Seen,
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
        self.seen.forget_others(&tasks.iter().map(|(target, task)| group_of(target, task)).collect());
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
                seen: self.seen.clone(),
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
    seen: Seen,
    target: Target,
    task: ProbeTask,
}

impl Watcher {
    async fn watch(self) {
        let mut opinion = Opinion::new(self.task.terms.failure_threshold);
        let group = group_of(&self.target, &self.task);
        sleep(self.task.terms.period.mul_f64(JITTER * fastrand::f64())).await;
        loop {
            let (began, signs) = (Instant::now(), self.seen.signs(&group));
            let answer = ask::ask(self.dial.as_ref(), self.target.address, &self.task).await;
            let ended = Instant::now();
            self.seen.note(&group, &answer, ended);
            if let Some(verdict) = opinion.take(answer, signs, ended) {
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

    /// Takes what came of a probe that ended now. `signs`: what had been seen before it began. Gives the
    /// verdict if it is another one.
    fn take(&mut self, answer: Answer, signs: Signs, now: Instant) -> Option<Verdict> {
        let failing_since = self.last.iter().flatten().next();
        let meanwhile =
            |sign: Option<Instant>| matches!((sign, failing_since), (Some(sign), Some(since)) if sign > *since);
        // What has been seen once holds until it answers.
        let (mut others_answer, mut unreachable) = (meanwhile(signs.of_group), meanwhile(signs.any));
        if let Some(Verdict::Unreachable { others_answer: before, .. }) = &self.told {
            others_answer |= before;
            unreachable = true;
        }
        let verdict = match answer {
            Answer::Good => Verdict::Reachable,
            Answer::Wrong(why) => Verdict::Unreachable { why, others_answer },
            Answer::Silent(why) if unreachable => Verdict::Unreachable { why, others_answer },
            Answer::Silent(why) => Verdict::Silent(why),
        };
        if verdict == Verdict::Reachable {
            (self.failures, self.last) = (0, [None, None]);
        } else {
            (self.failures, self.last) = (self.failures.saturating_add(1), [self.last[1], Some(now)]);
        }
        let enough = verdict == Verdict::Reachable || self.failures >= self.threshold;
        let same = self.told.as_ref().is_some_and(|told| kind(told) == kind(&verdict));
        if !enough || same {
            return None;
        }
        self.told = Some(verdict.clone());
        Some(verdict)
    }
}

/// What of a verdict is news; another reason for the same is none.
const fn kind(verdict: &Verdict) -> (u8, bool) {
    match verdict {
        Verdict::Reachable => (0, true),
        Verdict::Unreachable { others_answer, .. } => (1, *others_answer),
        Verdict::Silent(_) => (2, false),
    }
}

#[cfg(test)]
mod tests;
