//! Looks at the mirrors in the queue and has written what each needs: at most one write of a mirror at a
//! time, and so many of all. Takes the answers over, and tries what failed later.

use std::{collections::BTreeSet, time::Duration};

use super::{Engine, Flight};
use crate::core::{
    claim::{ClaimId, Outcome},
    io::{Output, Write, WriteError, WriteFailure, WriteId, WriteOp, Written},
    model::{Key, LocalService, LocalSlice},
    resolve::Decision,
    retry,
};

/// Most mirrors that are looked at before the next news is taken: where nothing is to be written, a hundred
/// thousand of them would keep everything else waiting for seconds.
const LOOKS: usize = 1000;

impl Engine {
    pub(in crate::core) fn dispatch(&mut self, out: &mut Vec<Output>) {
        for _ in 0..LOOKS {
            if self.flights.len() >= self.settings.writes_in_flight {
                break;
            }
            let Some(target) = self.queue.pop() else { break };
            // Looked at again when its write is answered.
            if self.busy.contains_key(&target) {
                continue;
            }
            let decision = self.view(None).decide(&target);
            self.depend(&target, &decision);
            if let Some((link, due)) = &decision.lease_due
                && let Some(link) = self.world.links.get_mut(link)
            {
                link.remote.leases_due.insert(*due);
            }
            match decision.write {
                Some(op) => self.launch(target, op, out),
                None => {
                    self.retries.remove(&target);
                    self.settle(decision.outcomes);
                    out.extend(self.propagation.settled(&target).map(Output::Propagated));
                }
            }
        }
    }

    pub(super) fn launch(&mut self, target: Key, op: WriteOp, out: &mut Vec<Output>) {
        self.next_id += 1;
        let id = WriteId(self.next_id);
        self.busy.insert(target.clone(), id);
        self.propagation.began(&target);
        self.flights.insert(id, Flight { target, op: op.clone(), overtaken: false });
        out.push(Output::Write(Write { id, op }));
    }

    pub(in crate::core) fn new_write(&mut self, op: WriteOp, out: &mut Vec<Output>) -> WriteId {
        self.next_id += 1;
        let id = WriteId(self.next_id);
        out.push(Output::Write(Write { id, op }));
        id
    }

    /// Remembers what a decision depends on.
    pub(super) fn depend(&mut self, target: &Key, decision: &Decision) {
        self.note_gateways(target, decision);
        self.host_users.set(target, &decision.hosts);
        self.node_users.set(target, &decision.nodes.iter().cloned().collect());
    }

    pub(in crate::core) fn settle(&mut self, outcomes: Vec<(ClaimId, Outcome)>) {
        for (id, outcome) in outcomes {
            if matches!(self.claims.get(&id), Some(claim) if *claim.outcome != outcome) {
                outcome.notes().iter().for_each(|note| self.warn_of(&id, Some(note)));
                self.claims.settle(&id, outcome);
                self.status.touch_policy(&id.policy);
                self.status.touch_link(&id.link);
            }
        }
    }

    pub(super) fn on_written(&mut self, id: WriteId, result: Result<Written, WriteError>) {
        let Some(flight) = self.flights.remove(&id) else {
            let now = self.now;
            if !self.exporter.as_mut().is_some_and(|exporter| exporter.written(id, &result, now)) {
                self.status_written(id, result);
            }
            return;
        };
        self.busy.remove(&flight.target);
        match result {
            Ok(written) => {
                self.retries.remove(&flight.target);
                self.propagation.answered(&flight.target, self.now);
                if !flight.overtaken {
                    self.take_over(&flight.op, written);
                    self.announce(&flight.op);
                }
                self.touch(flight.target);
            }
            Err(error) => self.write_failed(flight, &error),
        }
    }

    /// The answer to a write is news like a watch event.
    pub(super) fn take_over(&mut self, op: &WriteOp, written: Written) {
        match (op, written) {
            (WriteOp::DeleteService(key, _), Written::Deleted) => {
                if let Some(service) = self.world.services.get_mut(key) {
                    service.terminating = true;
                }
            }
            (WriteOp::DeleteSlice(key, _), Written::Deleted) => {
                if let Some(slice) = self.world.slices.get_mut(key) {
                    slice.terminating = true;
                }
            }
            (_, Written::Service(service)) => {
                if let Some(key) = op.object().cloned() {
                    self.set_service(&key, service);
                }
            }
            (_, Written::Slice(slice)) => {
                if let Some(key) = op.object().cloned() {
                    self.set_slice(&key, slice);
                }
            }
            _ => {}
        }
    }

    /// Takes a Service over unless what is known is newer.
    pub(in crate::core) fn set_service(&mut self, key: &Key, service: LocalService) -> bool {
        let newer = |known: &LocalService| {
            known.uid == service.uid && service.resource_version.is_older_than(&known.resource_version)
        };
        match self.world.services.get(key) {
            Some(known) if newer(known) || *known == service => false,
            _ => {
                self.replace_service(key, Some(service));
                true
            }
        }
    }

    /// Takes a slice over unless what is known is newer; gives the mirrors concerned.
    pub(in crate::core) fn set_slice(&mut self, key: &Key, slice: LocalSlice) -> BTreeSet<Key> {
        let newer = |known: &LocalSlice| {
            known.uid == slice.uid && slice.resource_version.is_older_than(&known.resource_version)
        };
        match self.world.slices.get(key) {
            Some(known) if newer(known) || *known == slice => BTreeSet::new(),
            _ => self.world.set_slice(key, Some(slice)),
        }
    }

    pub(super) fn write_failed(&mut self, flight: Flight, error: &WriteError) {
        let Flight { target, op, .. } = flight;
        let refusal = retry::failure(&target, &op, error);
        let claims: Vec<ClaimId> = self.claims.on(&target).cloned().collect();
        let winner = self
            .view(None)
            .decide(&target)
            .outcomes
            .into_iter()
            .find(|(_, o)| matches!(o, Outcome::Mirrored { .. }))
            .map(|(id, _)| id);
        for id in claims.into_iter().filter(|id| winner.as_ref().is_none_or(|w| w == id)) {
            let outcome = match error.kind {
                WriteFailure::AlreadyExists => Outcome::Conflicted(refusal.clone()),
                WriteFailure::Conflict | WriteFailure::NotFound => continue,
                _ => Outcome::Pending(Some(refusal.clone())),
            };
            self.settle(vec![(id, outcome)]);
        }
        self.retry_later(target, error.retry_after);
    }

    pub(super) fn retry_later(&mut self, target: Key, retry_after: Option<Duration>) {
        let now = self.now;
        self.retries.entry(target.clone()).or_default().failed(&target, now, retry_after);
    }

    /// A watch said that an object, or a whole list, is gone or new.
    pub(in crate::core) fn overtake(&mut self, key: Option<&Key>) {
        for flight in self.flights.values_mut().filter(|f| key.is_none_or(|key| f.op.object() == Some(key))) {
            flight.overtaken = true;
        }
    }
}
