//! What is said of a binding; of one with `export`, in [`super::export`].

use super::{
    condition::{Conditions, Truth, no, yes},
    count::number,
};
use crate::{
    api::{
        ConditionType, GatewayBinding, Reason,
        binding::{BindingServiceCounts, GatewayBindingStatus},
        names::VIA_ANNOTATION,
    },
    core::{
        engine::Engine,
        model::{Key, LocalService},
        select::Refusal,
    },
};

/// What a binding with `export` is told where nothing acts on it.
const OFF: &str = "spec.export: this controller does not act as an exporter; start it with --export (kustomize component config/components/exporter)";

impl Engine {
    pub(super) fn binding_status(&self, name: &str, binding: &GatewayBinding) -> Option<GatewayBindingStatus> {
        let before = binding.status.clone().unwrap_or_default();
        let generation = binding.metadata.generation;
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        if binding.spec.export.is_some()
            && let Some(exporter) = &self.exporter
        {
            return self.export_status(exporter.report(name), before, binding);
        }
        let off = || Refusal::new(Reason::UnsupportedValue, OFF);
        let import = match binding.spec.import.as_ref().ok_or_else(off) {
            Ok(import) => import,
            Err(refusal) => {
                c.say(ConditionType::Ready, no(&refusal));
                c.say(ConditionType::Accepted, no(&refusal));
                c.say(
                    ConditionType::ResolvedRefs,
                    (Truth::Unknown, Reason::Pending, "the spec is not accepted".into()),
                );
                c.say(ConditionType::Programmed, (Truth::Unknown, Reason::Pending, "the spec is not accepted".into()));
                return Some(GatewayBindingStatus {
                    observed_generation: generation,
                    conditions: c.finish(Some(&refusal), None),
                    ..GatewayBindingStatus::default()
                });
            }
        };
        let link = &import.link_ref.name;
        let missing = Refusal::new(
            Reason::RefNotFound,
            format!("spec.import.linkRef.name: ClusterLink {link} does not exist; create it or correct the name"),
        );
        let found = self.world.links.contains_key(link);
        let described = "the gateway is described by hand; nothing is programmed over there";
        c.say(ConditionType::Ready, if found { yes(Reason::Ready, described) } else { no(&missing) });
        c.say(ConditionType::Accepted, yes(Reason::Accepted, "the spec is accepted"));
        c.say(
            ConditionType::ResolvedRefs,
            if found { yes(Reason::Resolved, format!("ClusterLink {link} exists")) } else { no(&missing) },
        );
        c.say(ConditionType::Programmed, yes(Reason::Programmed, described));
        if let Some(found) = self.world.links.get(link) {
            self.say_reachable(&mut c, link, found, Some(name));
        }
        let programmed = number(self.mirrors_through(name, link));
        Some(GatewayBindingStatus {
            observed_generation: generation,
            conditions: c.finish(None, None),
            addresses: import.addresses.clone(),
            services: Some(BindingServiceCounts { selected: programmed, programmed, pending: 0, failed: 0 }),
            ports: None,
            failures: Vec::new(),
        })
    }

    /// Takes a Service over, or lets it go; the status of a binding that does or did feed it may
    /// have changed. Gives whether there was one.
    pub(in crate::core) fn replace_service(&mut self, key: &Key, service: Option<LocalService>) -> bool {
        let after = service.as_ref().and_then(fed_by).map(str::to_owned);
        let old = self.world.set_service(key, service);
        let before = old.as_ref().and_then(fed_by);
        if before != after.as_deref() {
            before.into_iter().chain(after.as_deref()).for_each(|binding| self.status.touch_binding(binding));
        }
        old.is_some()
    }

    /// How many mirrors a binding feeds, by what stands on them: a new process knows that at once.
    fn mirrors_through(&self, binding: &str, link: &str) -> usize {
        let services = self.world.ours(link).filter_map(|key| self.world.services.get(key));
        services.filter(|service| fed_by(service) == Some(binding)).count()
    }
}

/// The binding through which a mirror is fed, as it says itself.
fn fed_by(service: &LocalService) -> Option<&str> {
    service.ours.as_ref()?.annotations.others().get(VIA_ANNOTATION)?.strip_prefix("Gateway/")
}
