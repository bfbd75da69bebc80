//! `heliostat plan`: what would change if these files were applied. Nothing is written; the
//! controller's own engine decides over what could be read.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;

use super::{
    Global,
    connect::Cluster,
    output::Progress,
    survey::{ControllerFlags, Snapshot, Survey, policy_key},
    table::{Output, table},
};
use crate::{
    api::Reason,
    core::{
        claim::{Claim, ClaimId, Outcome},
        guard::Held,
        io::{ServicePatch, WriteOp},
        model::Key,
        resolve::Decision,
        select::Refusal,
    },
};
use files::Object;

/// Show what applying files would create, update, delete and skip.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at ClusterLinks, MirrorPolicies and GatewayBindings in the files, beside what is in the cluster
already; suspend and preview in the files' policies are taken as off. Nothing is written. Exporters are
read with the links' own Secrets, for which the right to read those is needed here.")]
pub(super) struct Args {
    /// File with YAML or JSON documents; - is stdin (repeatable).
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of policies that name none [default: the context's].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    controller: ControllerFlags,
    #[command(flatten)]
    output: Output,
}

/// What would be done about a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Create,
    Update,
    Recreate,
    Delete,
    Release,
    /// The deletion guard would hold it.
    Keep,
    Skip,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Recreate => "recreate",
            Self::Delete => "delete",
            Self::Release => "release",
            Self::Keep => "keep",
            Self::Skip => "skip",
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Row {
    action: Action,
    mirror: String,
    link: String,
    origin: String,
    way: String,
    reason: String,
    message: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Plan {
    changes: Vec<Row>,
    /// Mirrors that stay as they are.
    unchanged: usize,
    /// Links that could not be read, and why: their services are not in this plan.
    unread: BTreeMap<String, String>,
}

/// Prints the plan.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let mut others = Vec::new();
    let objects = files::read_all(&args.files, &mut others)?;
    let mut progress = Progress::new();
    for other in &others {
        progress.say(&format!("left out: {other}; plan looks at the kinds of heliostat.dev only"));
    }
    if objects.is_empty() {
        bail!("the files contain no ClusterLink, MirrorPolicy or GatewayBinding: there is nothing to plan");
    }
    let cluster = Cluster::open("this cluster", global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    progress.wait("reading this cluster");
    let mut snapshot = Snapshot::read(&cluster).await?;
    let namespace = args.namespace.as_deref().unwrap_or(cluster.client.default_namespace()).to_owned();
    let scope = lay_over(&mut snapshot, objects, &namespace, Timestamp::now())?;
    let survey = Survey::take(&cluster, &args.controller, snapshot, &mut progress).await;
    drop(progress);
    args.output.print(&plan(survey, &scope), render)
}

/// What the files are about: skips of other policies are not their doing.
#[derive(Debug, Default)]
struct Scope {
    links: BTreeSet<String>,
    policies: BTreeSet<Key>,
    bindings: bool,
}

impl Scope {
    fn covers(&self, id: &ClaimId) -> bool {
        self.bindings || self.policies.contains(&id.policy) || self.links.contains(id.link.as_str())
    }
}

/// Puts the files' objects over those of the cluster, as applying them would.
fn lay_over(snapshot: &mut Snapshot, objects: Vec<Object>, namespace: &str, now: Timestamp) -> anyhow::Result<Scope> {
    let mut scope = Scope::default();
    for object in objects {
        match object {
            Object::Link(mut link) => {
                let name = link.metadata.name.clone().context("a ClusterLink has no name")?;
                let known = snapshot.links.get(&name);
                link.status = known.and_then(|known| known.status.clone());
                succeed(&mut link.metadata, known.map(|known| &known.metadata), now);
                scope.links.insert(name.clone());
                snapshot.links.insert(name, link);
            }
            Object::Policy(mut policy) => {
                policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
                let key = policy_key(&policy).context("a MirrorPolicy has no name")?;
                if !snapshot.namespaces.contains_key(key.namespace.as_str()) {
                    bail!(
                        "MirrorPolicy {key} could not be applied: there is no namespace {:?} here; create it first",
                        key.namespace
                    );
                }
                let known = snapshot.policies.get(&key);
                policy.status = known.and_then(|known| known.status.clone());
                (policy.spec.preview, policy.spec.suspend) = (false, false);
                succeed(&mut policy.metadata, known.map(|known| &known.metadata), now);
                scope.policies.insert(key.clone());
                snapshot.policies.insert(key, policy);
            }
            Object::Binding(mut binding) => {
                let name = binding.metadata.name.clone().context("a GatewayBinding has no name")?;
                let known = snapshot.bindings.get(&name);
                succeed(&mut binding.metadata, known.map(|known| &known.metadata), now);
                scope.bindings = true;
                snapshot.bindings.insert(name, binding);
            }
        }
    }
    Ok(scope)
}

/// What the API server gives an object: that of the one it changes, or a new one's.
fn succeed(meta: &mut ObjectMeta, known: Option<&ObjectMeta>, now: Timestamp) {
    let name = meta.name.clone().unwrap_or_default();
    let generation = known.and_then(|k| k.generation).unwrap_or(0) + 1;
    meta.generation = Some(generation);
    meta.uid = Some(known.and_then(|k| k.uid.clone()).unwrap_or_else(|| format!("planned-{name}")));
    meta.creation_timestamp = Some(known.and_then(|k| k.creation_timestamp.clone()).unwrap_or(Time(now)));
    meta.resource_version = known.and_then(|k| k.resource_version.clone());
    meta.deletion_timestamp = None;
}

fn plan(survey: Survey, scope: &Scope) -> Plan {
    let claims: Vec<(&ClaimId, &Claim)> = survey.engine.claims().iter().collect();
    let (rows, unchanged) = rows(&survey.decisions(), &claims, scope);
    let changes = refused(&survey, scope).into_iter().chain(rows).chain(kept(&survey)).collect();
    Plan { changes, unchanged, unread: survey.unread }
}

/// Mirrors whose origins the exporters do not show, and of which that is too many.
fn kept(survey: &Survey) -> Vec<Row> {
    let links = survey.engine.world().links.iter();
    let held = links.flat_map(|(name, link)| link.guard.held().iter().map(move |held| (name, held)));
    let row = |(link, (mirror, held)): (&String, (&Key, &Held))| Row {
        action: Action::Keep,
        mirror: mirror.to_string(),
        link: link.clone(),
        origin: held.origin.to_string(),
        way: String::new(),
        reason: Reason::DeletionHeld.to_string(),
        message: format!(
            "the exporter does not show the origin, nor too many others: deleted only by the token in condition DeletionHeld of ClusterLink {link}"
        ),
    };
    held.map(row).collect()
}

/// Policies and links of the files that the controller would not accept.
fn refused(survey: &Survey, scope: &Scope) -> Vec<Row> {
    let world = survey.engine.world();
    let links = scope.links.iter().filter_map(|name| {
        let refusal = world.links.get(name)?.checked.as_ref().err()?;
        Some(whole(format!("ClusterLink {name}"), refusal))
    });
    let policies = scope.policies.iter().flat_map(|key| {
        let found = world.policies.get(key);
        let object = format!("MirrorPolicy {key}");
        match found.map(|policy| &policy.checked) {
            None => Vec::new(),
            Some(Err(refusal)) => vec![whole(object, refusal)],
            Some(Ok(checked)) => {
                let links = world.links_of(checked);
                let barred = links.filter_map(|(name, link)| world.permits(name, link, &key.namespace, checked).err());
                barred.map(|refusal| whole(object.clone(), &refusal)).collect()
            }
        }
    });
    links.chain(policies).collect()
}

/// A row for an object that is not worked by at all.
fn whole(object: String, refusal: &Refusal) -> Row {
    Row {
        action: Action::Skip,
        mirror: object,
        link: String::new(),
        origin: String::new(),
        way: String::new(),
        reason: refusal.reason.to_string(),
        message: refusal.message.clone(),
    }
}

/// What would be done, sorted, and how many mirrors would stay as they are.
fn rows(decisions: &BTreeMap<Key, Decision>, claims: &[(&ClaimId, &Claim)], scope: &Scope) -> (Vec<Row>, usize) {
    let (mut rows, mut unchanged) = (Vec::new(), 0);
    for (mirror, decision) in decisions {
        match action(decision) {
            Some(action) => rows.push(change(action, mirror, decision)),
            None if winner(decision).is_some() => unchanged += 1,
            None => {}
        }
        let lost = decision.outcomes.iter().filter(|(id, _)| scope.covers(id));
        rows.extend(lost.filter_map(|(id, outcome)| skip(id, Some(mirror), outcome)));
    }
    let refused = claims.iter().filter(|(id, _)| scope.covers(id));
    rows.extend(refused.filter_map(|(id, claim)| match &*claim.outcome {
        outcome @ Outcome::Refused(_) => skip(id, claim.target.as_ref(), outcome),
        _ => None,
    }));
    rows.sort();
    (rows, unchanged)
}

/// What the next write says of the whole.
fn action(decision: &Decision) -> Option<Action> {
    Some(match decision.write.as_ref()? {
        WriteOp::CreateService(..) => Action::Create,
        WriteOp::DeleteService(..) if winner(decision).is_some() => Action::Recreate,
        WriteOp::DeleteService(..) => Action::Delete,
        _ if winner(decision).is_some() => Action::Update,
        _ => Action::Release,
    })
}

/// The claim that has, or gets, the name; by which way; and what is odd about it.
fn winner(decision: &Decision) -> Option<(&ClaimId, String, &[Refusal])> {
    decision.outcomes.iter().find_map(|(id, outcome)| match outcome {
        Outcome::Mirrored { via, notes } => {
            Some((id, via.as_ref().map(ToString::to_string).unwrap_or_default(), &**notes))
        }
        _ => None,
    })
}

fn change(action: Action, mirror: &Key, decision: &Decision) -> Row {
    let (link, origin, way, notes) = match winner(decision) {
        Some((id, way, notes)) => (id.link.to_string(), id.origin.to_string(), way, notes),
        None => (String::new(), String::new(), String::new(), &[][..]),
    };
    let (reason, message) = match notes.first() {
        Some(note) => (note.reason.to_string(), note.message.clone()),
        None => (String::new(), decision.write.as_ref().map(what_changes).unwrap_or_default()),
    };
    Row { action, mirror: mirror.to_string(), link, origin, way, reason, message }
}

/// What a write changes first, in a few words.
fn what_changes(write: &WriteOp) -> String {
    match write {
        WriteOp::CreateService(..) | WriteOp::DeleteService(..) => String::new(),
        WriteOp::PatchService(_, _, patch) => format!("changes {} of the Service", patched(patch)),
        WriteOp::PatchServiceConditions(..) => format!("changes condition {}", crate::api::names::MIRRORED_CONDITION),
        WriteOp::CreateSlice(..) | WriteOp::PatchSlice(..) | WriteOp::DeleteSlice(..) => "changes endpoints".to_owned(),
        WriteOp::CreateObject(id, ..) | WriteOp::PatchObject(id, ..) | WriteOp::DeleteObject(id, ..) => {
            format!("changes {id}")
        }
        WriteOp::LinkStatus(..) | WriteOp::PolicyStatus(..) | WriteOp::BindingStatus(..) => "changes status".to_owned(),
    }
}

fn patched(patch: &ServicePatch) -> String {
    let ServicePatch { labels, annotations, owners, ports, cluster_ip_type, prefer_dual_stack, remove_fields } = patch;
    let parts = [
        ("labels", !labels.is_empty()),
        ("annotations", !annotations.is_empty()),
        ("ownerReferences", owners.is_some()),
        ("ports", ports.is_some()),
        ("type", *cluster_ip_type),
        ("ipFamilyPolicy", *prefer_dual_stack),
        ("foreign fields", !remove_fields.is_empty()),
    ];
    let changed: Vec<&str> = parts.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
    changed.join(", ")
}

/// A claim that does not become a mirror.
fn skip(id: &ClaimId, mirror: Option<&Key>, outcome: &Outcome) -> Option<Row> {
    let (Outcome::Refused(refusal) | Outcome::Conflicted(refusal)) = outcome else {
        return match outcome {
            Outcome::Held => Some(held(id, mirror)),
            Outcome::Awaited => {
                let message =
                    "a way waits for an answer, of DNS or about the exporter's nodes; what exists stays as it is";
                Some(skipped(id, mirror, Reason::Pending, message.to_owned()))
            }
            _ => None,
        };
    };
    Some(skipped(id, mirror, refusal.reason, refusal.message.clone()))
}

fn held(id: &ClaimId, mirror: Option<&Key>) -> Row {
    let message = "the link is suspended, refused, lost or being deleted; what exists stays as it is";
    skipped(id, mirror, Reason::Suspended, message.to_owned())
}

fn skipped(id: &ClaimId, mirror: Option<&Key>, reason: Reason, message: String) -> Row {
    Row {
        action: Action::Skip,
        mirror: mirror.map(ToString::to_string).unwrap_or_default(),
        link: id.link.to_string(),
        origin: id.origin.to_string(),
        way: String::new(),
        reason: reason.to_string(),
        message,
    }
}

fn render(plan: &Plan) -> String {
    let mut text = String::new();
    if !plan.changes.is_empty() {
        text += &table(
            ["ACTION", "MIRROR", "LINK", "ORIGIN", "WAY", "REASON", "MESSAGE"],
            plan.changes.iter().map(|r| {
                let Row { action, mirror, link, origin, way, reason, message } = r;
                let action = action.as_str().to_owned();
                [action, mirror.clone(), link.clone(), origin.clone(), way.clone(), reason.clone(), message.clone()]
            }),
        );
        text.push('\n');
    }
    for (link, why) in &plan.unread {
        let why = super::output::clean(why);
        text += &format!("link {link} could not be read, so its services are not in this plan: {why}\n");
    }
    let count = |action: Action| plan.changes.iter().filter(|row| row.action == action).count();
    let skipped = count(Action::Skip);
    let mut parts = vec![
        format!("{} to create", count(Action::Create)),
        format!("{} to update", count(Action::Update) + count(Action::Recreate) + count(Action::Release)),
        format!("{} to delete", count(Action::Delete)),
        format!("{skipped} skipped"),
    ];
    parts.extend(Some(count(Action::Keep)).filter(|kept| *kept > 0).map(|kept| format!("{kept} held")));
    parts.push(format!("{} unchanged", plan.unchanged));
    text + &parts.join(", ") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::survey::tests::{link, mirror, origin, policy, snapshot, survey};

    /// What a plan for the policy with that spec would say, as `action mirror way reason`.
    fn planned(spec: Value, mirrors: &[&str], origins: Option<Vec<(&str, Value)>>) -> (Vec<String>, Plan) {
        let mut snapshot = snapshot();
        snapshot.services.extend(mirrors.iter().map(|name| mirror(name)));
        let object = Object::Policy(policy(spec));
        let scope = lay_over(&mut snapshot, vec![object], "default", Timestamp::UNIX_EPOCH).unwrap();
        let origins = origins.map(|all| all.into_iter().map(|(name, spec)| origin(name, spec)).collect());
        let plan = plan(survey(snapshot, origins), &scope);
        let row = |r: &Row| format!("{} {} {} {}", r.action.as_str(), r.mirror, r.way, r.reason).trim_end().to_owned();
        (plan.changes.iter().map(row).collect(), plan)
    }

    #[test]
    fn creations_changes_deletions_and_skips_are_told_apart() {
        let origins = vec![
            ("books", json!({})),
            ("pens", json!({})),
            ("alias", json!({"type": "ExternalName", "externalName": "example.org"})),
        ];
        let (rows, plan) = planned(json!({}), &["pens", "gone"], Some(origins));
        assert_eq!(
            rows,
            [
                "create shop/books-east Service",
                "update shop/pens-east Service",
                "delete shop/gone-east",
                "skip   InvalidServiceType",
            ]
        );
        assert!(render(&plan).ends_with("1 to create, 1 to update, 1 to delete, 1 skipped, 0 unchanged\n"));
    }

    #[test]
    fn l06_what_the_guard_would_hold_is_not_told_as_a_deletion() {
        let there = ["a", "b", "c", "d", "e", "f", "books"];
        let (rows, plan) = planned(json!({}), &there, Some(vec![("books", json!({}))]));
        let mut wanted: Vec<String> =
            there.iter().take(6).map(|name| format!("keep shop/{name}-east  DeletionHeld")).collect();
        wanted.insert(0, "update shop/books-east Service".to_owned());
        assert_eq!(rows, wanted);
        assert!(
            render(&plan).ends_with("0 to create, 1 to update, 0 to delete, 0 skipped, 6 held, 0 unchanged\n"),
            "{}",
            render(&plan)
        );
    }

    #[test]
    fn preview_and_suspend_of_a_file_are_taken_as_off() {
        for spec in [json!({"preview": true}), json!({"suspend": true})] {
            assert_eq!(planned(spec, &[], Some(vec![("books", json!({}))])).0, ["create shop/books-east Service"]);
        }
    }

    #[test]
    fn no_way_is_told_with_the_mirror() {
        let origins = vec![("books", json!({"type": "ClusterIP"}))];
        assert_eq!(planned(json!({"via": ["Gateway"]}), &[], Some(origins)).0, ["create shop/books-east  NoRoute"]);
    }

    #[test]
    fn a_link_that_could_not_be_read_deletes_nothing_and_says_so() {
        let (rows, plan) = planned(json!({}), &["books"], None);
        assert!(rows.is_empty(), "{rows:?}");
        assert!(
            render(&plan)
                .starts_with("link east could not be read, so its services are not in this plan: it is down\n")
        );
    }

    #[test]
    fn a_policy_that_is_not_accepted_or_not_admitted_is_a_row_of_its_own() {
        let (rows, _) = planned(json!({"mirror": {"namespace": "other"}}), &[], Some(vec![]));
        assert_eq!(rows, ["skip MirrorPolicy shop/all  InvalidSpec"]);
        let mut snapshot = snapshot();
        let objects = vec![
            Object::Link(link("east", json!({"allowedNamespaces": {"from": "Same"}}))),
            Object::Policy(policy(json!({}))),
        ];
        let scope = lay_over(&mut snapshot, objects, "default", Timestamp::UNIX_EPOCH).unwrap();
        let plan = plan(survey(snapshot, Some(vec![origin("books", json!({}))])), &scope);
        assert_eq!(plan.changes.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["RefNotPermitted"]);
    }

    #[test]
    fn a_policy_for_a_namespace_that_is_not_there_is_refused() {
        let mut snapshot = snapshot();
        let mut other = policy(json!({}));
        other.metadata.namespace = None;
        let error = lay_over(&mut snapshot, vec![Object::Policy(other)], "nowhere", Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("there is no namespace \"nowhere\" here"), "{error}");
    }
}
