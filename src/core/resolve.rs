//! What should become of one mirror: who may have the name, what it should look like, and the
//! next write towards it. Reads the world, changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    claim::{ClaimId, Claims, Outcome},
    copy,
    diff::{self, Desired, Marks},
    guard::Held,
    io::{MirrorService, WriteOp},
    link::{Link, Loss},
    model::{Key, LocalService, MirrorState, OriginType, Protocol, RemoteSlice, SlicePort, SliceRole, Text},
    name,
    reach::{Reach, Target},
    select::{CheckedPolicy, Refusal},
    way::{self, Question, Route, Via},
    world::{Owner, World},
};
use crate::api::{
    Reason,
    duration::parse_duration,
    link::LossAction,
    names::{LINK_UID_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL},
    policy::Way,
};

/// What the decision about a mirror reads.
pub struct View<'a> {
    /// Everything known.
    pub world: &'a World,
    /// All claims.
    pub claims: &'a Claims,
    /// Origins over a link's limit: (link, origin).
    pub over_limit: &'a BTreeSet<(Text, Key)>,
    /// Which gateway addresses answer.
    pub reach: &'a Reach,
    /// DNS domain of this cluster.
    pub cluster_domain: &'a str,
    /// Decide as if this policy were not in preview.
    pub assume: Option<&'a Key>,
    /// The time.
    pub now: Timestamp,
}

/// The decision about a mirror.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The next write, if anything is to be written.
    pub write: Option<WriteOp>,
    /// What becomes of the claims on it once nothing is to be written.
    pub outcomes: Vec<(ClaimId, Outcome)>,
    /// Hostnames that it depends on.
    pub hosts: BTreeSet<String>,
    /// The link whose nodes it depends on.
    pub nodes: Option<String>,
    /// The gateway addresses that feed it, each with its lowest TCP port there.
    pub gateways: BTreeMap<Target, Option<u16>>,
    /// Those among them that an earlier process has withdrawn from it, and of which nothing is known yet.
    pub doubted: Vec<Target>,
    /// It stays as it is before an answer that is on its way, for an origin of this link.
    pub waits: Option<String>,
    /// When a port lease runs out that only the mirror itself tells of: (link, time).
    pub lease_due: Option<(String, Timestamp)>,
    /// Why the ways that were preferred to the one taken, or all, are not available.
    pub unavailable: Vec<Refusal>,
}

/// Who has, or gets, the name.
enum Holder<'a> {
    /// This claim.
    Claim(&'a ClaimId),
    /// Whoever has it: nothing is decided about it now.
    Held,
    /// Held, and its endpoints are to be marked not ready, for this.
    NotReady(Refusal),
    /// Held; until then its gateway's ports may be used unconfirmed.
    Leased(Timestamp),
    /// Nobody.
    Nobody,
}

impl<'a> View<'a> {
    /// Decides about one mirror.
    pub fn decide(&self, key: &Key) -> Decision {
        let world = self.world;
        let observed = world.services.get(key);
        if observed.is_some_and(|s| s.terminating)
            || world.namespaces.get(key.namespace.as_str()).is_some_and(|n| n.terminating)
        {
            return Decision::default();
        }
        let state = observed.and_then(|s| s.ours.as_deref());
        match (world.owner(key), observed, state) {
            (Owner::Ours(link), Some(observed), Some(state)) => self.ours(key, link, observed, state),
            (Owner::TakenOver, Some(observed), Some(state)) => {
                let write = diff::let_go(key, observed, state, world.slices_of(key), self.now);
                Decision {
                    write,
                    outcomes: self.all_conflicted(key, &BTreeSet::new(), &foreign(key)),
                    ..Decision::default()
                }
            }
            (Owner::Nobody, ..) => match self.best(key) {
                Some(winner) => self.create(key, winner),
                None => Decision { outcomes: self.losers(key, None), ..Decision::default() },
            },
            _ => {
                Decision { outcomes: self.all_conflicted(key, &BTreeSet::new(), &foreign(key)), ..Decision::default() }
            }
        }
    }

    fn ours(&self, key: &Key, link: &'a str, observed: &LocalService, state: &MirrorState) -> Decision {
        match self.holder(key, link, state) {
            Holder::Held => {
                Decision { outcomes: self.losers(key, incumbent(link, state).as_ref()), ..Decision::default() }
            }
            Holder::Leased(due) => Decision {
                outcomes: self.losers(key, incumbent(link, state).as_ref()),
                lease_due: Some((link.to_owned(), due)),
                ..Decision::default()
            },
            Holder::NotReady(why) => {
                let write = diff::not_ready(key, observed, state, self.world.slices_of(key), &why, self.now);
                Decision { write, outcomes: self.losers(key, None), ..Decision::default() }
            }
            Holder::Nobody => Decision {
                write: Some(WriteOp::DeleteService(key.clone(), diff::at(observed))),
                outcomes: self.losers(key, None),
                ..Decision::default()
            },
            Holder::Claim(winner) => {
                let Some((mut decision, desired)) = self.desired(key, winner, Some(state)) else {
                    return Decision::default();
                };
                let same_origin = state.annotations.origin() == Some(&winner.origin) && winner.link == link;
                decision.write = if !same_origin {
                    Some(WriteOp::DeleteService(key.clone(), diff::at(observed)))
                } else if desired.undecided {
                    None
                } else if state.headless != desired.service.headless {
                    Some(WriteOp::DeleteService(key.clone(), diff::at(observed)))
                } else {
                    diff::next(key, observed, state, self.world.slices_of(key), &desired, self.now)
                };
                decision
            }
        }
    }

    fn create(&self, key: &Key, winner: &ClaimId) -> Decision {
        let Some((mut decision, desired)) = self.desired(key, winner, None) else { return Decision::default() };
        decision.write = Some(WriteOp::CreateService(key.clone(), desired.service));
        decision
    }

    /// Who holds the name of a mirror that exists and is ours, through `link`.
    fn holder(&self, key: &Key, link_name: &str, state: &MirrorState) -> Holder<'a> {
        let world = self.world;
        let Some(link) = world.links.get(link_name) else { return Holder::Held };
        if link.frozen(world.cluster_uid.as_deref()) {
            return Holder::Held;
        }
        // What a link adopts is not judged before the link has its own view of things: its policies may be
        // made at the same time.
        let adopted = state.annotations.others().get(LINK_UID_ANNOTATION).is_some_and(|uid| uid != link.uid());
        if adopted && !link.remote.listed {
            return Holder::Held;
        }
        let incumbent = incumbent(link_name, state);
        let policy = incumbent.as_ref().map(|id| &id.policy);
        if policy.is_some_and(|p| world.policies.contains_key(p) && !self.active_policy(p)) {
            return Holder::Held;
        }
        if link.guard.is_unjudged() {
            return Holder::Held;
        }
        let loss = link.loss(self.now);
        if let Some(held) = world.services.get(key).and_then(|service| link.guard.holds(key, &service.uid))
            && loss != Loss::Act(LossAction::Delete)
            && self.could_claim(link_name, link, &held.origin, key)
        {
            return match (loss, self.hold_end(key, link, held)) {
                (Loss::Act(LossAction::NotReady), _) => Holder::NotReady(stale(link)),
                (_, Some(end)) if end <= self.now => Holder::NotReady(unconfirmed(link_name)),
                (_, Some(end)) => Holder::Leased(end),
                (_, None) => Holder::Held,
            };
        }
        if !link.remote.listed && loss != Loss::Act(LossAction::Delete) {
            let origin = state.annotations.origin();
            if origin.is_some_and(|origin| self.could_claim(link_name, link, origin, key)) {
                return match (loss, link.remote.unknown_since.and_then(|since| self.lease_end(key, since))) {
                    (Loss::Act(LossAction::NotReady), _) => Holder::NotReady(stale(link)),
                    (_, Some(end)) if end <= self.now => Holder::NotReady(unconfirmed(link_name)),
                    (_, Some(end)) => Holder::Leased(end),
                    (_, None) => Holder::Held,
                };
            }
        }
        let kept = incumbent.and_then(|id| self.eligible(key).find(|other| **other == id));
        kept.or_else(|| self.best(key)).map_or(Holder::Nobody, Holder::Claim)
    }

    /// When the port lease of a mirror runs out that is held by the guard. A listing that still has a
    /// published slice of its origin confirms the port.
    fn hold_end(&self, key: &Key, link: &Link, held: &Held) -> Option<Timestamp> {
        let published = |slice: &RemoteSlice| matches!(slice.role, SliceRole::Published(_));
        let confirmed = link.remote.slices_of(&held.origin).any(|(_, slice)| published(slice));
        let since = [link.guard.since().filter(|_| !confirmed), link.remote.unknown_since].into_iter().flatten().min();
        since.and_then(|since| self.lease_end(key, since))
    }

    /// When the port lease of a mirror runs out that the link has not confirmed since. The shortest
    /// counts: a text that is no duration has been edited, and ends at once.
    fn lease_end(&self, key: &Key, since: Timestamp) -> Option<Timestamp> {
        let leases = self.world.slices_of(key).filter_map(|(_, slice)| slice.body.port_lease.as_deref());
        let end = |text: &str| {
            let lease = parse_duration(text).ok().and_then(|lease| SignedDuration::try_from(lease).ok());
            since.saturating_add(lease.unwrap_or_default()).unwrap_or(Timestamp::MAX)
        };
        leases.map(end).min()
    }

    /// Whether some policy could want that mirror of an origin that cannot be seen now: as far as
    /// specs alone tell.
    pub(super) fn could_claim(&self, link_name: &str, link: &Link, origin: &Key, target: &Key) -> bool {
        let seen = &link.object.spec.services.namespaces;
        let in_sight = seen.is_empty() || seen.iter().any(|namespace| origin.namespace == *namespace);
        in_sight
            && self.world.policies.iter().any(|(key, policy)| match &policy.checked {
                Err(_) => true,
                Ok(checked) => {
                    checked.names(link_name, link)
                        && self.world.permits(link_name, link, &key.namespace, checked).is_ok()
                        && checked.wants_namespace(&origin.namespace)
                        && checked.target(link_name, origin).is_ok_and(|t| t == *target)
                }
            })
    }

    fn active_policy(&self, policy: &Key) -> bool {
        let Some(found) = self.world.policies.get(policy) else { return false };
        !found.frozen() || (self.assume == Some(policy) && found.checked.is_ok() && !found.object.spec.suspend)
    }

    /// Claims that may have the name now.
    fn eligible(&self, key: &Key) -> impl Iterator<Item = &'a ClaimId> {
        self.claims.on(key).filter(|id| {
            let link = self.world.links.get(id.link.as_str());
            let usable = |link: &Link| {
                !link.frozen(self.world.cluster_uid.as_deref()) && link.loss(self.now) != Loss::Act(LossAction::Delete)
            };
            link.is_some_and(usable) && self.active_policy(&id.policy) && !self.over(id)
        })
    }

    fn over(&self, id: &ClaimId) -> bool {
        !self.over_limit.is_empty() && self.over_limit.contains(&(id.link.clone(), id.origin.clone()))
    }

    /// Without an incumbent: the older policy, then by link, namespace, name.
    fn best(&self, key: &Key) -> Option<&'a ClaimId> {
        let created = |id: &ClaimId| self.policy(id).and_then(|p| p.created);
        self.eligible(key).min_by(|a, b| (created(a), &a.policy, *a).cmp(&(created(b), &b.policy, *b)))
    }

    fn policy(&self, id: &ClaimId) -> Option<&'a CheckedPolicy> {
        self.world.policies.get(&id.policy).and_then(|p| p.accepted())
    }

    /// What becomes of the claims that do not have the name.
    fn losers(&self, key: &Key, winner: Option<&ClaimId>) -> Vec<(ClaimId, Outcome)> {
        let others = self.claims.on(key).filter(|id| Some(*id) != winner);
        let eligible: BTreeSet<&ClaimId> = self.eligible(key).collect();
        let outcome = |id: &ClaimId| {
            if self.over(id) {
                let limit = self.world.links.get(id.link.as_str()).map_or(0, |l| l.object.spec.limits.services);
                return Outcome::Refused(Refusal::new(
                    Reason::QuotaExceeded,
                    format!(
                        "link {} mirrors {limit} Services at most; raise its spec.limits.services or narrow what is selected",
                        id.link
                    ),
                ));
            }
            match eligible.contains(id) {
                false => Outcome::Held,
                true => Outcome::Conflicted(Refusal::new(Reason::NameConflict, taken(key, winner))),
            }
        };
        let held = winner
            .filter(|w| self.claims.get(w).is_some() && !eligible.contains(w))
            .map(|w| (w.clone(), Outcome::Held));
        others.map(|id| (id.clone(), outcome(id))).chain(held).collect()
    }

    fn all_conflicted(&self, key: &Key, except: &BTreeSet<ClaimId>, message: &str) -> Vec<(ClaimId, Outcome)> {
        let conflicted = || Outcome::Conflicted(Refusal::new(Reason::NameConflict, message));
        self.claims.on(key).filter(|id| !except.contains(id)).map(|id| (id.clone(), conflicted())).collect()
    }

    /// What the winner's mirror should look like, and what to say of it.
    fn desired(&self, key: &Key, winner: &ClaimId, state: Option<&MirrorState>) -> Option<(Decision, Desired)> {
        let world = self.world;
        let link = world.links.get(winner.link.as_str())?;
        let origin = link.remote.services.get(&winner.origin)?;
        let policy = self.policy(winner)?;
        let addresses = world.address_policy(link.checked.as_ref().ok()?);
        let endpoints = || world.slices_of(key).flat_map(|(_, slice)| &slice.body.endpoints);
        let not_ready: BTreeSet<IpAddr> = endpoints().filter(|e| !e.readiness.ready).map(|e| e.address).collect();
        let some_ready = endpoints().any(|e| e.readiness.ready);
        // What was withdrawn last may not have been told any more: that others are ready shows it.
        let is_withdrawn = |address: &IpAddr, reachable: Option<bool>| {
            not_ready.contains(address) && (reachable == Some(false) || some_ready)
        };
        let told = self.reach.told_before(&winner.link);
        let question = Question {
            link: &winner.link,
            remote: &link.remote,
            key: &winner.origin,
            origin,
            ports: policy.wanted_ports(origin),
            policy,
            cluster_domain: self.cluster_domain,
            mirror_name: format!("{}.{}.svc.{}", key.name, key.namespace, self.cluster_domain),
            families: state.map(|s| s.families.as_slice()),
            addresses: &addresses,
            max_endpoints: usize::try_from(link.object.spec.limits.endpoints_per_service).unwrap_or(usize::MAX),
            bindings: &world.bindings,
            hosts: &world.hosts,
            down: self.reach.down(&winner.link),
            withdrawn: told.filter(|((_, ip), reachable)| is_withdrawn(ip, *reachable)).map(|(at, _)| at).collect(),
            incumbents: endpoints().map(|e| e.address).collect(),
            now: self.now,
        };
        let route = way::route(&question);
        let desired = self.mirror(key, winner, link, &question, &route);
        let mut notes = route.notes.clone();
        // What is not written is not said either.
        notes.extend(if desired.undecided {
            route.unavailable.clone()
        } else {
            desired.unwell.iter().cloned().collect()
        });
        let mut outcomes = self.losers(key, Some(winner));
        outcomes.push(match route.awaits {
            true => (winner.clone(), Outcome::Awaited),
            false => (winner.clone(), Outcome::Mirrored { via: route.via.clone(), notes: notes.into() }),
        });
        let gateways = gateways(&winner.link, &route);
        let is_doubted = |target: &&Target| question.withdrawn.contains(&(target.binding.as_str(), target.address));
        let decision = Decision {
            write: None,
            outcomes,
            nodes: route.nodes.then(|| winner.link.to_string()),
            doubted: gateways.keys().filter(is_doubted).cloned().collect(),
            gateways,
            waits: desired.undecided.then(|| winner.link.to_string()),
            hosts: route.hosts,
            lease_due: None,
            unavailable: route.unavailable,
        };
        Some((decision, desired))
    }

    fn mirror(&self, key: &Key, winner: &ClaimId, link: &Link, question: &Question<'_>, route: &Route) -> Desired {
        let (policy, origin) = (question.policy, question.origin);
        let not_ready = link.loss(self.now) == Loss::Act(LossAction::NotReady);
        let slice = |(source, body): (&Vec<String>, &super::model::SliceBody)| {
            let source: Vec<&str> = source.iter().map(String::as_str).collect();
            let body = if not_ready { diff::with_nothing_ready(body) } else { body.clone() };
            (name::slice_name(&key.name, &source), body)
        };
        let unwell = match (&route.via, not_ready, route.stale) {
            (None, ..) => Some(no_route(&winner.origin, policy, &route.unavailable)),
            (Some(_), true, _) => Some(stale(link)),
            (Some(_), false, true) => Some(unconfirmed(&winner.link)),
            _ => None,
        };
        let (labels, annotations) = Marks {
            link: (&winner.link, link.uid()),
            policy: &winner.policy,
            origin: &winner.origin,
            origin_uid: &origin.uid,
            via: route.via.as_ref().map(ToString::to_string),
            labels: copy::allowed(&origin.labels, &policy.labels),
            annotations: copy::allowed(&origin.annotations, &policy.annotations),
        }
        .render();
        let headless = origin.kind == OriginType::Headless
            && match &route.via {
                Some(via) => *via == Via::Direct,
                // Not as it was: what should be must not depend on what had been.
                None => policy.via.contains(&Way::Direct),
            };
        let port = |p: &&super::model::OriginPort| SlicePort {
            name: p.name.clone(),
            port: p.port,
            protocol: p.protocol,
            app_protocol: p.app_protocol.clone(),
        };
        Desired {
            service: MirrorService {
                labels,
                annotations,
                owner: link.owner(&winner.link),
                headless,
                ports: question.ports.iter().map(port).collect(),
            },
            slices: route.slices.iter().map(slice).collect(),
            unwell,
            undecided: route.awaits || route.unresolved && !question.incumbents.is_empty(),
        }
    }
}

/// The gateway addresses of a route, with the lowest TCP port at each.
fn gateways(link: &str, route: &Route) -> BTreeMap<Target, Option<u16>> {
    let mut found = BTreeMap::new();
    let Some(Via::Gateway(binding)) = &route.via else { return found };
    for body in route.slices.values() {
        let lowest = body.ports.iter().filter(|p| p.protocol == Protocol::Tcp).map(|p| p.port).min();
        for endpoint in &body.endpoints {
            let target = Target { link: link.to_owned(), binding: binding.to_string(), address: endpoint.address };
            let port: &mut Option<u16> = found.entry(target).or_default();
            *port = port.iter().copied().chain(lowest).min();
        }
    }
    found
}

/// The claim that an existing mirror stands for, as its marks say.
fn incumbent(link: &str, state: &MirrorState) -> Option<ClaimId> {
    let origin = state.annotations.origin()?.clone();
    let policy = Key::new(state.labels.get(POLICY_NAMESPACE_LABEL)?.clone(), state.labels.get(POLICY_LABEL)?.clone());
    debug_assert!(state.annotations.contains_key(LINK_UID_ANNOTATION));
    Some(ClaimId { link: link.into(), origin, policy: policy.into() })
}

fn foreign(key: &Key) -> String {
    format!(
        "Service {key} exists and is not Heliostat's; it is left alone. Delete or rename it, or change the policy's spec.mirror.name"
    )
}

fn taken(key: &Key, winner: Option<&ClaimId>) -> String {
    match winner {
        Some(winner) => format!(
            "the name {key} is taken by the mirror of {} of link {} (policy {}); change the policy's spec.mirror.name",
            winner.origin, winner.link, *winner.policy
        ),
        None => format!("the name {key} is taken by another mirror; change the policy's spec.mirror.name"),
    }
}

fn stale(link: &Link) -> Refusal {
    let name = link.object.metadata.name.as_deref().unwrap_or_default();
    Refusal::new(
        Reason::Stale,
        format!(
            "the state of link {name} has been unknown for longer than its spec.onLoss.after ({}); the endpoints are not ready until it is back",
            link.object.spec.on_loss.after
        ),
    )
}

fn unconfirmed(link: &str) -> Refusal {
    Refusal::new(
        Reason::Stale,
        format!(
            "link {link} has not confirmed the gateway's port for as long as its lease; the endpoints are not ready until it does"
        ),
    )
}

fn no_route(origin: &Key, policy: &CheckedPolicy, unavailable: &[Refusal]) -> Refusal {
    let ways: Vec<&str> = policy.via.iter().map(|w| w.as_str()).collect();
    let whys: Vec<&str> = unavailable.iter().map(|r| r.message.as_str()).collect();
    let mut message = format!("no way to {origin} among {}", ways.join(", "));
    if !whys.is_empty() {
        message = format!("{message}: {}", whys.join("; "));
    }
    if policy.via.contains(&Way::Gateway) && !unavailable.iter().any(|r| r.message.starts_with("Gateway/")) {
        message.push_str("; Gateway: no binding carries it");
    }
    Refusal::new(Reason::NoRoute, message)
}
