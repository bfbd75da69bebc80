//! What is said of gateway addresses: `Reachable` of links and of bindings with `import`, and
//! `status.gateways`.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Conditions, Says, Truth, clean, yes};
use crate::{
    api::{ConditionType, MAX_LISTED, MAX_NAME, Reason, link::GatewayStatus},
    core::{
        engine::Engine,
        link::Link,
        reach::{Known, MAX_PROBED, Target, Verdict},
    },
};

impl Engine {
    /// The gateway addresses in use, each with what is known of it.
    fn gateways<'a>(&'a self, link: &'a str, binding: Option<&'a str>) -> BTreeMap<&'a Target, Known<'a>> {
        let of_binding = self.reach.of_link(link).filter(|target| binding.is_none_or(|name| target.binding == name));
        of_binding.map(|target| (target, self.reach.known(target))).collect()
    }

    /// Not all addresses in use are known yet: what was said of the others stands.
    fn gateways_are_awaited(&self, name: &str, link: &Link) -> bool {
        !link.remote.listed || self.reach.is_waiting(name)
    }

    /// Says `Reachable` of a link, or of one binding in front of it; says nothing where nothing is probed.
    pub(super) fn say_reachable(&self, c: &mut Conditions<'_>, name: &str, link: &Link, binding: Option<&str>) {
        if !is_probing(link) {
            return;
        }
        let known = self.gateways(name, binding);
        let probed: BTreeMap<&Target, Known<'_>> = known
            .iter()
            .filter(|(_, known)| **known != Known::Unprobed)
            .map(|(target, known)| (*target, *known))
            .collect();
        let was = c.was(ConditionType::Reachable).map(|was| was.status.clone());
        let says = if probed.is_empty() {
            None
        } else if self.reach.is_cut_off() {
            Some(cut_off(&probed))
        } else {
            verdict(&probed, known.len() - probed.len())
        };
        let awaited = self.gateways_are_awaited(name, link);
        let better = |says: &Says| says.0 == Truth::True && was.as_deref() != Some("True");
        match (says, was.is_some()) {
            (Some(says), true) if awaited && better(&says) => c.keep(ConditionType::Reachable, says),
            (Some(says), _) => c.say(ConditionType::Reachable, says),
            // An earlier process knew.
            (None, true) if awaited || !probed.is_empty() => {
                c.keep(ConditionType::Reachable, (Truth::Unknown, Reason::Pending, "it has not been probed yet".into()))
            }
            (None, _) => {}
        }
    }

    /// `status.gateways`: those that do not answer come first into it, should there be too many.
    pub(super) fn gateway_list(&self, name: &str, link: &Link, before: &[GatewayStatus]) -> Vec<GatewayStatus> {
        let row = |(target, known): (&Target, Known<'_>)| GatewayStatus {
            binding: clean(&target.binding, MAX_NAME),
            address: target.address.to_string(),
            reachable: known.reachable(),
        };
        let mut rows: Vec<GatewayStatus> = self.gateways(name, None).into_iter().map(row).collect();
        if self.gateways_are_awaited(name, link) || link.object.spec.suspend {
            let named: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.binding, &*row.address)).collect();
            let other = |row: &&GatewayStatus| !named.contains(&(&*row.binding, &*row.address));
            let others: Vec<GatewayStatus> = before.iter().filter(other).cloned().collect();
            rows.extend(others);
        }
        if !is_probing(link) {
            rows.iter_mut().for_each(|row| row.reachable = None);
        }
        rows.sort_by_cached_key(|row| (row.reachable != Some(false), order(row)));
        rows.truncate(MAX_LISTED);
        rows.sort_by_cached_key(order);
        rows
    }
}

fn is_probing(link: &Link) -> bool {
    link.is_probed() && !link.object.spec.suspend
}

/// By binding, and addresses by their number.
fn order(row: &GatewayStatus) -> (String, Option<std::net::IpAddr>, String) {
    (row.binding.clone(), row.address.parse().ok(), row.address.clone())
}

/// None while nothing can be said that would not have to be taken back a moment later.
fn verdict(probed: &BTreeMap<&Target, Known<'_>>, unprobed: usize) -> Option<Says> {
    let mut down = Vec::new();
    for (target, known) in probed {
        match known {
            Known::Said(Verdict::Unreachable { why, .. }) => down.push(named(target, why)),
            Known::Before(false) => return None,
            _ => {}
        }
    }
    if !down.is_empty() {
        let message = format!(
            "{}; mirrors that have another address use that; look at the gateway and at the network to it",
            down.join("; ")
        );
        return Some((Truth::False, Reason::Unreachable, message));
    }
    let open = |known: &Known<'_>| !matches!(known, Known::Said(Verdict::Reachable));
    if probed.values().any(open) {
        return None;
    }
    let bound = if unprobed > 0 { format!("; of them the first {MAX_PROBED} are probed") } else { String::new() };
    Some(yes(Reason::Reachable, format!("every gateway address in use answers{bound}")))
}

fn cut_off(probed: &BTreeMap<&Target, Known<'_>>) -> Says {
    let why = |(target, known): (&&Target, &Known<'_>)| match known {
        Known::Said(Verdict::Silent(why) | Verdict::Unreachable { why, .. }) => Some(named(target, why)),
        _ => None,
    };
    let whys: Vec<String> = probed.iter().filter_map(why).collect();
    let message = format!(
        "no gateway address of any link answers, so it may be this controller that is cut off, and nothing is withdrawn: {}; look at the controller's network, then at the gateways",
        whys.join("; ")
    );
    (Truth::Unknown, Reason::Unreachable, message)
}

fn named(target: &Target, why: &str) -> String {
    format!("gateway address {} of binding {}: {why}", target.address, target.binding)
}
