//! What is said of links, policies and bindings (design: section 8): conditions, counts and
//! failures, computed from the world and the claims, and written only when they differ.

mod binding;
mod book;
mod condition;
mod count;
mod export;
mod held;
mod link;
mod policy;
mod reach;
mod turn;

pub use self::book::StatusBook;
use self::book::{Flight, Subject};
use super::{
    engine::Engine,
    io::{At, Event, Output, WriteError, WriteFailure, WriteId, WriteOp, Written},
};

impl Engine {
    pub(super) fn write_status(&mut self, out: &mut Vec<Output>) {
        for subject in self.status.take_due(self.now) {
            let Some(op) = self.status_op(&subject) else { continue };
            let turns = self.turns(&op);
            let id = self.new_write(op.clone(), out);
            self.status.launched(id, subject, Flight { op, turns }, self.now);
        }
    }

    /// The write that brings a status up to date, if it is not.
    fn status_op(&self, subject: &Subject) -> Option<WriteOp> {
        let at = |meta: &kube::api::ObjectMeta| At {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
        };
        match subject {
            Subject::Link(name) => {
                let link = self.world.links.get(name)?;
                let status = self.link_status(name, link)?;
                (link.object.status.as_ref() != Some(&status))
                    .then(|| WriteOp::LinkStatus(name.clone(), at(&link.object.metadata), Box::new(status)))
            }
            Subject::Policy(key) => {
                let policy = self.world.policies.get(key)?;
                let status = self.policy_status(key, policy)?;
                let differs = policy.object.status.as_ref() != Some(&status);
                differs.then(|| WriteOp::PolicyStatus(key.clone(), at(&policy.object.metadata), Box::new(status)))
            }
            Subject::Binding(name) => {
                let binding = self.world.bindings.get(name)?;
                let status = self.binding_status(name, binding)?;
                (binding.status.as_ref() != Some(&status))
                    .then(|| WriteOp::BindingStatus(name.clone(), at(&binding.metadata), Box::new(status)))
            }
        }
    }

    /// What a status says for the first time, as Events.
    fn turns(&self, op: &WriteOp) -> Vec<Event> {
        let WriteOp::LinkStatus(name, at, after) = op else { return Vec::new() };
        let before = self.world.links.get(name).and_then(|link| link.object.status.clone()).unwrap_or_default();
        turn::events(name, &at.uid.to_string(), &before, after)
    }

    pub(super) fn status_written(&mut self, id: WriteId, result: Result<Written, WriteError>) {
        let Some((subject, Flight { op, turns })) = self.status.answered(id) else { return };
        match result {
            Ok(Written::Status(version)) => {
                self.take_status_over(op, &version);
                turns.into_iter().for_each(|event| self.tell(event));
            }
            Err(error) if error.kind == WriteFailure::NotFound => {}
            Ok(_) | Err(_) => self.status.again(subject, self.now),
        }
    }

    /// What was written is what is there, before a watch says so.
    fn take_status_over(&mut self, op: WriteOp, version: &str) {
        let set = |meta: &mut kube::api::ObjectMeta, at: &At| {
            let same = meta.uid.as_deref().is_some_and(|uid| at.uid == *uid)
                && meta.resource_version.as_deref().is_some_and(|version| at.resource_version == *version);
            if same {
                meta.resource_version = Some(version.to_owned());
            }
            same
        };
        match op {
            WriteOp::LinkStatus(name, at, status) => {
                if let Some(link) = self.world.links.get_mut(&name)
                    && set(&mut link.object.metadata, &at)
                {
                    link.object.status = Some(*status);
                }
            }
            WriteOp::PolicyStatus(key, at, status) => {
                if let Some(policy) = self.world.policies.get_mut(&key)
                    && set(&mut policy.object.metadata, &at)
                {
                    policy.object.status = Some(*status);
                }
            }
            WriteOp::BindingStatus(name, at, status) => {
                if let Some(binding) = self.world.bindings.get_mut(&name)
                    && set(&mut binding.metadata, &at)
                {
                    binding.status = Some(*status);
                }
            }
            _ => {}
        }
    }
}
