//! What came of it: mirrors, conditions, counts and writes, as tests ask for them.

use heliostat::core::{
    io::WriteOp,
    model::{Key, LocalSlice, MirrorState},
};

use super::{Sim, key};

impl Sim {
    pub fn mirror(&self, text: &str) -> &MirrorState {
        self.services
            .get(&key(text))
            .unwrap_or_else(|| panic!("no Service {text}; there are {:?}", self.names()))
            .ours
            .as_ref()
            .unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.services.keys().map(ToString::to_string).collect()
    }

    /// `address:port name ready` of all slices of a mirror, sorted.
    pub fn endpoints(&self, text: &str) -> Vec<String> {
        let service = key(text);
        let of = |(k, s): &(&Key, &LocalSlice)| {
            k.namespace == service.namespace && s.service.as_deref() == Some(&service.name)
        };
        let mut all: Vec<String> = self
            .slices
            .iter()
            .filter(of)
            .flat_map(|(_, s)| {
                s.body.endpoints.iter().flat_map(|e| {
                    s.body.ports.iter().map(move |p| {
                        format!(
                            "{}:{} {} {}",
                            e.address,
                            p.port,
                            p.name,
                            if e.readiness.ready { "ready" } else { "not ready" }
                        )
                    })
                })
            })
            .collect();
        all.sort();
        all
    }

    pub fn link_condition(&self, name: &str, kind: &str) -> Option<(String, String)> {
        let status = self.links.get(name)?.status.as_ref()?;
        status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.reason.clone()))
    }

    pub fn policy_condition(&self, text: &str, kind: &str) -> Option<(String, String)> {
        let status = self.policies.get(&key(text))?.status.as_ref()?;
        status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.reason.clone()))
    }

    pub fn failures(&self, text: &str) -> Vec<(String, String)> {
        let status = self.policies[&key(text)].status.as_ref().unwrap();
        status.failures.iter().map(|f| (format!("{}/{}", f.namespace, f.name), f.reason.clone())).collect()
    }

    /// (matched, mirrored, skipped, conflicted)
    pub fn counts(&self, text: &str) -> (u32, u32, u32, u32) {
        let counts = self.policies[&key(text)].status.as_ref().unwrap().services.unwrap();
        (counts.matched, counts.mirrored, counts.skipped, counts.conflicted)
    }

    /// Writes of mirrors and slices since the last call; statuses are not counted.
    pub fn writes(&mut self) -> Vec<WriteOp> {
        std::mem::take(&mut self.log).into_iter().filter(|op| op.object().is_some()).collect()
    }
}
