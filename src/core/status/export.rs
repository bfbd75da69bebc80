//! What is said of a binding with `export`, from the report of the last pass.

use super::{
    condition::{Conditions, Says, Truth, clean, no, yes},
    count::number,
};
use crate::{
    api::{
        ConditionType, GatewayBinding, MAX_LISTED, MAX_MESSAGE, MAX_NAME, Reason,
        binding::{BindingFailure, BindingServiceCounts, GatewayAddress, GatewayBindingStatus},
    },
    core::{engine::Engine, export::pass::Report},
};

/// Most addresses that a status lists; the schema's limit.
const MAX_ADDRESSES: usize = 16;

impl Engine {
    /// None while nothing can be said that would not have to be taken back a moment later.
    pub(super) fn export_status(
        &self,
        report: Option<&Report>,
        before: GatewayBindingStatus,
        binding: &GatewayBinding,
    ) -> Option<GatewayBindingStatus> {
        let report = report?;
        let generation = binding.metadata.generation;
        let told_before = before.observed_generation == generation && !before.conditions.is_empty();
        if told_before && report.waiting.as_ref().is_some_and(|unread| !unread.failed) {
            return None;
        }
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        say(&mut c, report);
        let stalled = report.refused.as_ref().filter(|refusal| refusal.reason == Reason::InvalidSpec);
        let awaited = wait(report);
        let conditions = c.finish(stalled, awaited.as_deref());
        if report.waiting.is_some() || report.unresolved.is_some() {
            // What is not known now is not said to be nothing.
            return Some(GatewayBindingStatus { observed_generation: generation, conditions, ..before });
        }
        let address = |value: &String| GatewayAddress { value: clean(value, MAX_NAME) };
        let failure = |(service, refusal): &(crate::core::model::Key, crate::core::select::Refusal)| BindingFailure {
            namespace: clean(&service.namespace, MAX_NAME),
            name: clean(&service.name, MAX_NAME),
            reason: refusal.reason.as_str().to_owned(),
            message: clean(&refusal.message, MAX_MESSAGE),
        };
        Some(GatewayBindingStatus {
            observed_generation: generation,
            conditions,
            addresses: report.addresses.iter().take(MAX_ADDRESSES).map(address).collect(),
            services: Some(BindingServiceCounts {
                selected: number(report.selected),
                programmed: number(report.programmed),
                pending: number(report.pending),
                failed: number(report.failed),
            }),
            ports: report.ports,
            failures: report.failures.iter().take(MAX_LISTED).map(failure).collect(),
        })
    }
}

fn say(c: &mut Conditions<'_>, report: &Report) {
    let accepted = match &report.refused {
        Some(refusal) => no(refusal),
        None => yes(Reason::Accepted, "the spec is accepted"),
    };
    let resolved = match (&report.waiting, &report.unresolved) {
        (Some(unread), _) => (Truth::Unknown, Reason::Pending, unread.what.clone()),
        (None, Some(refusal)) => no(refusal),
        (None, None) => yes(Reason::Resolved, "the gateway is there"),
    };
    let programmed = programmed(report);
    let ready = if accepted.0 == Truth::True && resolved.0 == Truth::True {
        ready(report)
    } else {
        first(&accepted, &resolved)
    };
    c.say(ConditionType::Ready, ready);
    c.say(ConditionType::Accepted, accepted);
    c.say(ConditionType::ResolvedRefs, resolved);
    c.say(ConditionType::Programmed, programmed);
}

/// The first of two that is not True.
fn first(one: &Says, two: &Says) -> Says {
    let (_, reason, message) = if one.0 == Truth::True { two } else { one };
    (Truth::False, *reason, message.clone())
}

/// Accepted and resolved; the address is known, and nothing has been waited for too long.
fn ready(report: &Report) -> Says {
    let unwell = |message: &str| match &report.unwell {
        Some(refusal) => no(refusal),
        None => (Truth::False, Reason::Pending, message.to_owned()),
    };
    if report.overdue {
        return (Truth::False, Reason::Pending, waits(report, "have been waited for more than a minute"));
    }
    if report.addresses.is_empty() && report.selected > 0 {
        return unwell("the gateway has no address yet; wait for it, or set spec.export.addresses");
    }
    yes(Reason::Ready, summary(report))
}

fn programmed(report: &Report) -> Says {
    if let Some(refusal) = report.refused.as_ref().or(report.unresolved.as_ref()) {
        return (Truth::False, refusal.reason, refusal.message.clone());
    }
    if let Some(unread) = &report.waiting {
        return (Truth::Unknown, Reason::Pending, unread.what.clone());
    }
    if report.pending > 0 {
        return (Truth::False, Reason::Pending, waits(report, "are waited for"));
    }
    match (report.failed, report.failures.first(), &report.unwell) {
        (1.., Some((_, refusal)), _) => {
            (Truth::False, refusal.reason, format!("{}; the first: {}", summary(report), refusal.message))
        }
        (_, _, Some(refusal)) => no(refusal),
        _ => yes(Reason::Programmed, summary(report)),
    }
}

fn summary(report: &Report) -> String {
    let Report { selected, programmed, pending, failed, .. } = report;
    let unconfirmed = if report.unconfirmed { "; not confirmed by the gateway" } else { "" };
    format!("{selected} Services selected: {programmed} programmed, {pending} pending, {failed} failed{unconfirmed}")
}

fn waits(report: &Report, what: &str) -> String {
    let first = report.waits.iter().next().map(|(route, why)| format!("; {route}: {why}")).unwrap_or_default();
    format!("{} routes {what}{first}", report.waits.len())
}

fn wait(report: &Report) -> Option<String> {
    let pending = (report.pending > 0 && !report.overdue).then(|| waits(report, "are waited for"));
    report.waiting.as_ref().map(|unread| unread.what.clone()).or(pending)
}
