//! What gateways behind a Service that confirm nothing have in common: who they are, and when they
//! are taken to carry what they were told.

use jiff::{SignedDuration, Timestamp};

use super::front::{self, Front};
use crate::{
    api::{
        Reason,
        binding::{Export, ObjectRef},
    },
    core::{
        export::{
            object::{Kind, Object},
            provider::{ExportPlan, Gateway, Programmed, Rendered, Route, RouteId, Supply, Surroundings},
        },
        model::Key,
        select::Refusal,
    },
};

/// From a write until the gateway is taken to have read it (design: section 4). Traefik 3.6 was
/// measured to need 1.2 to 2.2 s.
const SETTLE: SignedDuration = SignedDuration::from_secs(3);

/// See the file's description.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    /// The field of `spec.export.provider`.
    provider: &'static str,
    /// The Service in front of it.
    pub(super) service: Key,
    /// `spec.export.addresses` says where it answers.
    addressed: bool,
}

impl Unconfirmed {
    pub(super) fn new(provider: &'static str, reference: &ObjectRef, export: &Export) -> Self {
        Self { provider, service: front::key(reference), addressed: !export.addresses.is_empty() }
    }

    /// Who it is.
    pub(super) fn identity(&self) -> [String; 4] {
        [self.provider, "Service", &self.service.namespace, &self.service.name].map(str::to_owned)
    }

    /// The Service in front of it, if that can be used at all.
    pub(super) fn front<'a>(&self, around: &Surroundings<'a>) -> Result<Front<'a>, Refusal> {
        Front::read(&self.service, self.addressed, around)
    }

    /// The gateway as it is.
    pub(super) fn reading(&self, front: Front<'_>, ports: Supply, listeners: Vec<u16>) -> Gateway {
        Gateway {
            identity: self.identity(),
            addresses: front.addresses,
            ports,
            listeners,
            unwell: front.unwell,
            confirms: false,
            tls_identity: None,
        }
    }

    /// Whether it is taken to carry what these objects say: they are there as they should be, one of
    /// its pods is ready, and it has had its time.
    pub(super) fn settled(&self, wanted: &[Object], around: &Surroundings<'_>) -> Programmed {
        let mut until = Timestamp::UNIX_EPOCH;
        for object in wanted {
            let id = &object.id;
            let Some(there) = around.objects.get(id.kind, &id.key) else {
                return Programmed::Pending(format!("{id} is not there yet"), None);
            };
            if object.patch(there).is_some() {
                return Programmed::Pending(format!("{id} is not yet as it should be"), None);
            }
            let created = there["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
            // The API server's clock may be ahead of this one.
            let created = created.filter(|at: &Timestamp| *at <= around.now);
            let last = created.into_iter().chain(around.written.get(id).copied()).max();
            let due = last.map(|at| at.saturating_add(SETTLE).unwrap_or(Timestamp::MAX));
            until = until.max(due.unwrap_or(Timestamp::UNIX_EPOCH));
        }
        if !around.ready.contains(&self.service) {
            return Programmed::Pending(format!("no pod behind Service {} is ready", self.service), None);
        }
        if until > around.now {
            let why = format!("the gateway confirms nothing and has {} s to take it up", SETTLE.as_secs());
            return Programmed::Pending(why, Some(until));
        }
        Programmed::Yes
    }
}

/// The objects of each route; one that has none is refused, and has no part in the rest.
pub(super) fn each(
    plan: &ExportPlan,
    mut objects: impl FnMut(&RouteId, &Route) -> Result<Vec<Object>, Refusal>,
) -> Rendered {
    let mut rendered = Rendered::default();
    for (id, route) in &plan.routes {
        match objects(id, route) {
            Ok(objects) => rendered.objects.extend(objects),
            Err(refusal) => drop(rendered.refused.insert(id.clone(), refusal)),
        }
    }
    rendered
}

/// Refuses a cluster that lacks one of the kinds.
pub(super) fn served(kinds: &[Kind], make: &str, around: &Surroundings<'_>) -> Result<(), Refusal> {
    let Some(kind) = kinds.iter().find(|kind| !around.objects.is_served(**kind)) else { return Ok(()) };
    let versions = kind.versions.join(" or ");
    let why = format!(
        "this cluster does not serve {kind} in version {versions}; install {make} and its CRDs, or use another provider"
    );
    Err(Refusal::new(Reason::ProviderNotInstalled, why))
}
