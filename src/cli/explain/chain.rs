//! The chain of checks, in the order in which the engine makes them. The checks are the engine's
//! own functions and verdicts; here they are only asked one by one and put into words.

use super::{Case, Check, Verdict, held, subject::Subject, told};
use crate::{
    api::{Reason, names::PROBE_LABEL, policy::Way},
    cli::survey::Survey,
    core::{
        claim::{Claim, ClaimId, Outcome},
        io::WriteOp,
        link::{Connection, Link},
        model::{Key, Origin, OriginPort, OriginType},
        resolve::Decision,
        select::{self, CheckedPolicy, ORIGIN_CHECKS, Refusal},
        way::Via,
        world::{Policy, World},
    },
};

/// The check about the ways.
const A_WAY: &str = "a way leads to the origin";

/// Asks the checks about one origin.
pub(super) struct Chain<'a> {
    survey: &'a Survey,
    subject: &'a Subject,
    link: Option<&'a Link>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(survey: &'a Survey, subject: &'a Subject) -> Self {
        Self { survey, subject, link: survey.engine.world().links.get(&subject.link) }
    }

    fn world(&self) -> &'a World {
        self.survey.engine.world()
    }

    /// One case for each policy that wants the origin; where none does, for each that could; where
    /// there is none either, one without.
    pub(super) async fn cases(&self) -> Vec<Case> {
        let Some(link) = self.link else {
            return Vec::new();
        };
        let mut head = self.link_checks(link);
        let origin = link.remote.services.get(&self.subject.origin);
        if self.survey.unread.contains_key(&self.subject.link) {
            return told::cases(self.world(), self.subject, head);
        }
        head.push(self.seen(link, origin).await);
        let Some(origin) = origin else {
            let held = held::case(self.world(), self.subject, link, &head);
            return vec![held.unwrap_or_else(|| self.case(None, None, head))];
        };
        let claims: Vec<(&ClaimId, &Claim)> =
            self.survey.engine.claims().of_origin(&self.subject.link, &self.subject.origin).collect();
        if !claims.is_empty() {
            return claims.into_iter().map(|(id, claim)| self.claimed(id, claim, link, origin, &head)).collect();
        }
        let policies: Vec<(&Key, &Policy)> = self.policies();
        if policies.is_empty() {
            head.push(Check::no(
                "a policy names the link",
                format!(
                    "no MirrorPolicy names link {}; create one in namespace {}",
                    self.subject.link, self.subject.origin.namespace
                ),
            ));
            return vec![self.case(None, None, head)];
        }
        policies.into_iter().map(|(key, policy)| self.unclaimed(key, policy, link, origin, &head)).collect()
    }

    fn case(&self, policy: Option<&Key>, mirror: Option<&Key>, checks: Vec<Check>) -> Case {
        Case {
            link: self.subject.link.clone(),
            origin: self.subject.origin.to_string(),
            policy: policy.map(ToString::to_string),
            mirror: mirror.map(ToString::to_string),
            mirrored: false,
            via: None,
            checks,
        }
    }

    /// Policies that name the link, or whose spec is not accepted and that may mean it.
    fn policies(&self) -> Vec<(&'a Key, &'a Policy)> {
        let names = |policy: &Policy| match policy.accepted() {
            Some(checked) => self.world().links_of(checked).any(|(name, _)| name == self.subject.link),
            None => true,
        };
        self.world().policies.iter().filter(|(_, policy)| names(policy)).collect()
    }

    // ---- the link ----

    fn link_checks(&self, link: &Link) -> Vec<Check> {
        let own = self.world().cluster_uid.as_deref();
        let accepted = match &link.checked {
            Err(refusal) => Check::refused("the link's spec is accepted", refusal),
            Ok(_) if link.object.metadata.deletion_timestamp.is_some() => {
                Check::no("the link's spec is accepted", "the link is being deleted".to_owned())
            }
            Ok(_) if link.object.spec.suspend => Check::no(
                "the link's spec is accepted",
                "spec.suspend is set: the exporter is not read and everything stays as it is".to_owned(),
            ),
            Ok(_) => Check::yes("the link's spec is accepted", String::new()),
        };
        let connected = match (&link.remote.connection, self.survey.unread.get(&self.subject.link)) {
            (_, Some(why)) => {
                Check::unknown("the exporter can be read", format!("not from here, so statuses tell the rest: {why}"))
            }
            (Connection::Credentials(refusal) | Connection::Lost(refusal), None) => {
                Check::refused("the exporter can be read", refusal)
            }
            (Connection::Starting, None) => Check::unknown("the exporter can be read", "it was not asked".to_owned()),
            (Connection::Listing | Connection::Synced, None) => {
                Check::yes("the exporter can be read", link.remote.server_version.clone().unwrap_or_default())
            }
        };
        let mut checks = vec![accepted, connected];
        if link.identity_changed() {
            checks.push(Check::no(
                "it is the cluster that the link is for",
                format!(
                    "uid {} answers, and the link is for {}; nothing changes until spec.clusterUID says so",
                    link.remote.observed_uid.as_deref().unwrap_or("unknown"),
                    link.expected_uid().unwrap_or("unknown")
                ),
            ));
        }
        if link.self_link(own) {
            let detail = "the link leads to this very cluster; point its kubeconfig at another one".to_owned();
            checks.push(Check::no("it is another cluster", detail));
        }
        checks
    }

    /// Whether the link sees the origin; where not, the exporter is asked why.
    async fn seen(&self, link: &Link, origin: Option<&Origin>) -> Check {
        const CHECK: &str = "the link sees the origin";
        if let Some(origin) = origin {
            return Check::yes(CHECK, described(origin));
        }
        let key = &self.subject.origin;
        let namespaces = &link.object.spec.services.namespaces;
        if !namespaces.is_empty() && !namespaces.iter().any(|seen| key.namespace == *seen) {
            return Check::no(
                CHECK,
                format!("namespace {} is not in the link's spec.services.namespaces", key.namespace),
            );
        }
        let selector = link.checked.as_ref().ok().and_then(|checked| checked.query.clone()).unwrap_or_default();
        let Some(exporter) = self.survey.exporters.get(&self.subject.link) else {
            return Check::unknown(CHECK, "the exporter was not read".to_owned());
        };
        match exporter.origin(key).await {
            Ok(Some(_)) => Check::no(
                CHECK,
                format!(
                    "Service {key} is there, but its labels don't match the link's selector ({selector}); label it there: kubectl -n {} label service {} {}={}",
                    key.namespace,
                    key.name,
                    crate::api::names::EXPORT_LABEL,
                    crate::api::names::EXPORT_VALUE
                ),
            ),
            Ok(None) => Check::no(CHECK, format!("there is no Service {key} in the exporter")),
            Err(why) => Check::unknown(
                CHECK,
                format!("it is not among those that match {selector}, and asking for it by name failed: {why}"),
            ),
        }
    }

    // ---- the policy ----

    /// A policy that does not want the origin: up to the check that fails.
    fn unclaimed(&self, key: &Key, policy: &Policy, link: &Link, origin: &Origin, head: &[Check]) -> Case {
        let mut checks = head.to_vec();
        checks.extend(self.policy_checks(key, policy, link, origin));
        self.case(Some(key), None, checks)
    }

    fn policy_checks(&self, key: &Key, policy: &Policy, link: &Link, origin: &Origin) -> Vec<Check> {
        let checked = match &policy.checked {
            Ok(checked) => checked,
            Err(refusal) => return vec![Check::refused("the policy's spec is accepted", refusal)],
        };
        let mut checks = vec![match (policy.object.spec.suspend, policy.object.spec.preview) {
            (true, _) => {
                Check::note("the policy's spec is accepted", "spec.suspend is set: nothing is written".to_owned())
            }
            (_, true) => {
                Check::note("the policy's spec is accepted", "spec.preview is set: nothing is written".to_owned())
            }
            _ => Check::yes("the policy's spec is accepted", String::new()),
        }];
        checks.push(match self.world().permits(&self.subject.link, link, &key.namespace, checked) {
            Ok(()) => Check::yes("the link admits the policy", String::new()),
            Err(refusal) => Check::refused("the link admits the policy", &refusal),
        });
        checks.push(self.selects(checked, origin));
        checks
    }

    fn selects(&self, policy: &CheckedPolicy, origin: &Origin) -> Check {
        const CHECK: &str = "the policy selects the origin";
        let key = &self.subject.origin;
        if select::is_probe(&origin.labels) {
            return Check::no(
                CHECK,
                format!(
                    "its label {PROBE_LABEL} says that it answers probes of gateways; such a Service is never mirrored"
                ),
            );
        }
        if !policy.wants_namespace(&key.namespace) {
            let wanted = match &policy.namespaces {
                Some(names) => names.iter().cloned().collect::<Vec<_>>().join(", "),
                None => "all but kube-*".to_owned(),
            };
            return Check::no(CHECK, format!("it selects remote namespaces {wanted}; see spec.services.namespaces"));
        }
        if !origin.labels.selected_by(&policy.selector) {
            return Check::no(
                CHECK,
                format!("the origin's labels don't match spec.services.selector ({})", policy.selector),
            );
        }
        Check::yes(CHECK, String::new())
    }

    // ---- the claim ----

    /// A policy that wants the origin: the whole chain.
    fn claimed(&self, id: &ClaimId, claim: &Claim, link: &Link, origin: &Origin, head: &[Check]) -> Case {
        let mut checks = head.to_vec();
        let Some(policy) = self.world().policies.get(&id.policy) else {
            return self.case(Some(&id.policy), claim.target.as_ref(), checks);
        };
        checks.extend(self.policy_checks(&id.policy, policy, link, origin));
        if let Some(checked) = policy.accepted() {
            checks.extend(self.origin_checks(checked, origin));
            checks.extend(self.target_checks(checked));
        }
        until_refused(&mut checks);
        let mut case = self.case(Some(&id.policy), claim.target.as_ref(), checks);
        if let (Some(target), Some(checked), false) =
            (&claim.target, policy.accepted(), matches!(*claim.outcome, Outcome::Refused(_)))
        {
            self.decided(id, checked, target, &mut case);
        }
        case
    }

    fn origin_checks(&self, policy: &CheckedPolicy, origin: &Origin) -> Vec<Check> {
        let mut checks = Vec::new();
        for (name, check) in ORIGIN_CHECKS {
            checks.push(match check(policy, &self.subject.origin, origin) {
                Ok(()) => Check::yes(name, String::new()),
                Err(refusal) => Check::refused(name, &refusal),
            });
        }
        checks
    }

    fn target_checks(&self, policy: &CheckedPolicy) -> Vec<Check> {
        match policy.target(&self.subject.link, &self.subject.origin) {
            Err(refusal) => vec![Check::refused("the mirror's name is legal", &refusal)],
            Ok(target) => vec![
                Check::yes("the mirror's name is legal", target.to_string()),
                match select::namespace_open(&target, self.world()) {
                    Ok(()) => Check::yes("mirrors may go into that namespace", String::new()),
                    Err(refusal) => Check::refused("mirrors may go into that namespace", &refusal),
                },
            ],
        }
    }

    /// What the engine decides about the mirror.
    fn decided(&self, id: &ClaimId, policy: &CheckedPolicy, target: &Key, case: &mut Case) {
        let decision = self.survey.engine.decision(target);
        let outcome = decision.outcomes.iter().find(|(other, _)| other == id).map(|(_, outcome)| outcome);
        match outcome {
            Some(Outcome::Mirrored { via, notes }) => {
                case.mirrored = true;
                case.via = via.as_ref().map(ToString::to_string);
                case.checks.push(Check::yes("the name is this policy's", String::new()));
                case.checks.extend(without_gateway(policy, via.as_ref(), &decision));
                case.checks
                    .extend(decision.unavailable.iter().map(|refusal| Check::passed_over(refusal, via.is_some())));
                if let Some(via) = via {
                    case.checks.push(Check::yes(A_WAY, via.to_string()));
                }
                // That there is no way has just been said, way by way.
                let notes = notes.iter().filter(|note| via.is_some() || note.reason != Reason::NoRoute);
                case.checks.extend(
                    notes.map(|note| Check { verdict: Verdict::Note, ..Check::refused("what to know of it", note) }),
                );
                case.checks.push(self.written(target, &decision));
            }
            Some(Outcome::Conflicted(refusal)) => {
                case.checks.push(Check::refused("the name is this policy's", refusal))
            }
            Some(Outcome::Refused(refusal)) => {
                case.checks.push(Check::refused("the link's limit leaves room for it", refusal))
            }
            Some(Outcome::Held) => case.checks.push(Check::no(
                "something is written for it now",
                "link or policy are suspended, in preview, not accepted or being deleted: what exists stays as it is"
                    .to_owned(),
            )),
            Some(Outcome::Awaited) => case.checks.push(Check::unknown(
                "something is written for it now",
                "a way waits for an answer, of DNS or about the exporter's nodes: what exists stays as it is"
                    .to_owned(),
            )),
            Some(Outcome::Pending(_)) | None => case.checks.push(Check::unknown(
                "something is written for it now",
                "the mirror or its namespace is being deleted; it is looked at again when that is done".to_owned(),
            )),
        }
    }

    /// Whether the cluster is as the engine wants it.
    fn written(&self, target: &Key, decision: &Decision) -> Check {
        const CHECK: &str = "the mirror is as it should be";
        let due = match &decision.write {
            None => {
                let endpoints: Vec<bool> = self
                    .world()
                    .slices_of(target)
                    .flat_map(|(_, slice)| slice.body.endpoints.iter().map(|e| e.readiness.ready))
                    .collect();
                let ready = endpoints.iter().filter(|ready| **ready).count();
                return Check::yes(CHECK, format!("{} endpoints, {ready} of them ready", endpoints.len()));
            }
            Some(WriteOp::CreateService(..)) => "it is to be created",
            Some(WriteOp::DeleteService(..)) => "it is to be made anew",
            Some(WriteOp::PatchService(..)) => "its Service is to be changed",
            Some(_) => "its endpoints or its condition are to be changed",
        };
        Check::unknown(
            CHECK,
            format!("{due}; if that lasts, the controller is not running or cannot write: see heliostat status"),
        )
    }
}

/// The chain ends with the first check that fails.
fn until_refused(checks: &mut Vec<Check>) {
    if let Some(refused) = checks.iter().position(|check| check.verdict == Verdict::No) {
        checks.truncate(refused + 1);
    }
}

/// A gateway that was preferred and of which there is none: the engine has nothing to say of it.
fn without_gateway(policy: &CheckedPolicy, via: Option<&Via>, decision: &Decision) -> Option<Check> {
    let taken = match via {
        None => None,
        Some(Via::Gateway(_)) => Some(Way::Gateway),
        Some(Via::Service) => Some(Way::Service),
        Some(Via::Direct) => Some(Way::Direct),
    };
    let preferred = policy.via.iter().take_while(|way| Some(**way) != taken).any(|way| *way == Way::Gateway);
    let told = decision.unavailable.iter().any(|refusal| refusal.message.starts_with("Gateway/"));
    (preferred && !told).then(|| Check::note(A_WAY, "Gateway: no binding carries it".to_owned()))
}

/// An origin in a few words: its type and its ports.
fn described(origin: &Origin) -> String {
    let kind = match origin.kind {
        OriginType::ClusterIp => "ClusterIP",
        OriginType::Headless => "headless",
        OriginType::NodePort => "NodePort",
        OriginType::LoadBalancer => "LoadBalancer",
        OriginType::ExternalName => "ExternalName",
    };
    let port = |p: &OriginPort| format!("{} {}/{}", p.name, p.port, p.protocol.as_str()).trim_start().to_owned();
    let ports: Vec<String> = origin.ports.iter().map(port).collect();
    if ports.is_empty() { format!("{kind}, no ports") } else { format!("{kind}, {}", ports.join(", ")) }
}

impl Check {
    fn new(check: &str, verdict: Verdict, detail: String) -> Self {
        Self { check: check.to_owned(), verdict, reason: None, detail }
    }

    pub(super) fn yes(check: &str, detail: String) -> Self {
        Self::new(check, Verdict::Yes, detail)
    }

    pub(super) fn no(check: &str, detail: String) -> Self {
        Self::new(check, Verdict::No, detail)
    }

    pub(super) fn note(check: &str, detail: String) -> Self {
        Self::new(check, Verdict::Note, detail)
    }

    pub(super) fn unknown(check: &str, detail: String) -> Self {
        Self::new(check, Verdict::Unknown, detail)
    }

    pub(super) fn refused(check: &str, refusal: &Refusal) -> Self {
        let reason = Some(refusal.reason.to_string());
        Self { reason, ..Self::no(check, refusal.message.clone()) }
    }

    /// A way that was preferred and is not available.
    fn passed_over(refusal: &Refusal, another: bool) -> Self {
        let verdict = if another { Verdict::Note } else { Verdict::No };
        Self { verdict, ..Self::refused(A_WAY, refusal) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::{
        explain::subject,
        survey::{
            Snapshot,
            tests::{link, mirror, origin, policy, snapshot, survey},
        },
    };

    async fn cases(snapshot: Snapshot, origins: Option<Vec<(Key, Origin)>>, asked: &str) -> Vec<Case> {
        let survey = survey(snapshot, origins);
        let mut cases = Vec::new();
        for subject in subject::of(&survey, &asked.parse().unwrap()) {
            cases.extend(Chain::new(&survey, &subject).cases().await);
        }
        cases
    }

    fn with_policy(spec: Value) -> Snapshot {
        let mut snapshot = snapshot();
        snapshot.policies.values_mut().for_each(|p| *p = policy(spec.clone()));
        snapshot
    }

    /// The last check of the only case: where the chain ended.
    fn end(cases: &[Case]) -> (&str, Verdict, Option<&str>) {
        let [case] = cases else { panic!("{cases:?}") };
        let last = case.checks.last().unwrap();
        (last.check.as_str(), last.verdict, last.reason.as_deref())
    }

    #[tokio::test]
    async fn a_good_origin_passes_every_check_and_names_its_way() {
        let cases = cases(snapshot(), Some(vec![origin("books", json!({}))]), "shop/books").await;
        let [case] = cases.as_slice() else { panic!("{cases:?}") };
        assert!(case.mirrored && case.checks.iter().all(|c| c.verdict != Verdict::No), "{case:?}");
        assert_eq!((case.mirror.as_deref(), case.via.as_deref()), (Some("shop/books-east"), Some("Service")));
        let gateway = case.checks.iter().find(|c| c.check == A_WAY).unwrap();
        assert_eq!((gateway.verdict, gateway.detail.as_str()), (Verdict::Note, "Gateway: no binding carries it"));
        let last = case.checks.last().unwrap();
        assert!(last.detail.starts_with("it is to be created"), "{last:?}");
    }

    #[tokio::test]
    async fn a_mirrors_name_leads_to_the_same_chain() {
        let books = || Some(vec![origin("books", json!({}))]);
        let by_mirror = cases(snapshot(), books(), "shop/books-east").await;
        assert_eq!(by_mirror.len(), 1);
        assert_eq!(by_mirror, cases(snapshot(), books(), "shop/books").await);
    }

    #[tokio::test]
    async fn the_chain_ends_where_it_fails() {
        let books = || Some(vec![origin("books", json!({}))]);
        for (snapshot, origins, expected) in [
            (
                with_policy(json!({"suspend": false, "mirror": {"namespace": "x"}})),
                books(),
                ("the policy's spec is accepted", Some("InvalidSpec")),
            ),
            (
                with_policy(json!({"services": {"selector": {"matchLabels": {"tier": "front"}}}})),
                books(),
                ("the policy selects the origin", None),
            ),
            (
                with_policy(json!({"services": {"ports": ["grpc"]}})),
                books(),
                ("the origin has a port that the policy wants", Some("PortUnsupported")),
            ),
            (with_policy(json!({"via": ["Gateway"]})), books(), ("the mirror is as it should be", None)),
            (
                snapshot(),
                Some(vec![origin("books", json!({"type": "ExternalName"}))]),
                ("the origin's type can be mirrored", Some("InvalidServiceType")),
            ),
        ] {
            let cases = cases(snapshot, origins, "shop/books").await;
            let (check, _, reason) = end(&cases);
            assert_eq!((check, reason), expected);
        }
    }

    #[tokio::test]
    async fn a_link_that_admits_nobody_is_named_and_one_without_policies_too() {
        let mut closed = snapshot();
        closed.links.insert("east".to_owned(), link("east", json!({"allowedNamespaces": {"from": "Same"}})));
        let found = cases(closed, Some(vec![origin("books", json!({}))]), "shop/books").await;
        let [case] = found.as_slice() else { panic!("{found:?}") };
        let refused: Vec<_> =
            case.checks.iter().filter(|c| c.verdict == Verdict::No).map(|c| c.check.as_str()).collect();
        assert_eq!(refused, ["the link admits the policy"]);
        let mut empty = snapshot();
        empty.policies.clear();
        let found = cases(empty, Some(vec![origin("books", json!({}))]), "shop/books").await;
        assert_eq!(end(&found), ("a policy names the link", Verdict::No, None));
    }

    #[tokio::test]
    async fn l06_a_mirror_that_is_held_is_told_as_one_that_stays() {
        let mut known = snapshot();
        known.services.extend([mirror("books"), mirror("pens")]);
        let pens = || Some(vec![origin("pens", json!({}))]);
        assert_eq!(
            end(&cases(known, pens(), "shop/books-east").await),
            ("the link sees the origin", Verdict::Unknown, None)
        );
        // Too many by themselves; and because the controller says so.
        let mut many = snapshot();
        many.services.extend(["a", "b", "c", "d", "e", "books"].map(mirror));
        let mut said = snapshot();
        said.services.extend([mirror("books"), mirror("pens")]);
        let status = json!({"conditions": [{
            "type": "DeletionHeld", "status": "True", "reason": "DeletionHeld", "message": "the token 1a2b3c4d",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        said.links.get_mut("east").unwrap().status = serde_json::from_value(status).unwrap();
        for (known, detail) in [(many, "too many others"), (said, "the token 1a2b3c4d")] {
            let found = cases(known, pens(), "shop/books-east").await;
            assert_eq!(end(&found), ("its mirror stays nevertheless", Verdict::Note, Some("DeletionHeld")));
            assert!(found[0].checks.last().unwrap().detail.contains(detail), "{found:?}");
            assert_eq!((found[0].mirrored, found[0].mirror.as_deref()), (true, Some("shop/books-east")));
        }
    }

    #[tokio::test]
    async fn an_exporter_that_cannot_be_read_is_told_from_statuses() {
        let mut known = snapshot();
        known.services.extend([mirror("books")]);
        let policy = known.policies.values_mut().next().unwrap();
        policy.status = serde_json::from_value(json!({"failures": [
            {"link": "east", "namespace": "shop", "name": "pens", "reason": "NoRoute", "message": "no way"},
        ]}))
        .unwrap();
        let found = cases(known, None, "shop/books-east").await;
        let [case] = found.as_slice() else { panic!("{found:?}") };
        assert!(
            case.mirrored
                && case.checks.iter().any(|c| c.verdict == Verdict::Unknown && c.detail.ends_with("it is down")),
            "{case:?}"
        );
        let mut known = snapshot();
        let policy = known.policies.values_mut().next().unwrap();
        policy.status = serde_json::from_value(json!({"failures": [
            {"link": "east", "namespace": "shop", "name": "pens", "reason": "NoRoute", "message": "no way"},
        ]}))
        .unwrap();
        let found = cases(known, None, "shop/pens").await;
        assert_eq!(end(&found), ("the controller mirrors it", Verdict::No, Some("NoRoute")));
    }
}
