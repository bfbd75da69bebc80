//! Puts a link into place on both sides: looks first, writes second, waits third.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    rbac::v1::ClusterRole,
};
use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use super::{
    account::kinds,
    manifests::{Document, Manifests, Side, TOKEN_PLACEHOLDER, title},
    wait::{self, Outcome},
    write::{self, Step, Writer},
};
use crate::{
    api::ClusterLink,
    cli::{
        connect::Cluster,
        output::{self, Progress},
    },
};

/// After a Secret changed, the controller has picked it up within 10 s (design: promise 8), and
/// syncs the new session before the old one goes.
const PICK_UP: Duration = Duration::from_secs(15);

/// What the user asked for beside the objects.
pub(super) struct Request {
    /// Issue a new token.
    pub(super) renew: bool,
    /// How long to wait for `Ready`; zero: not at all.
    pub(super) timeout: Duration,
}

/// Makes the link, then waits until it works.
pub(super) async fn run(
    mut manifests: Manifests,
    request: &Request,
    importer: &Cluster,
    exporter: &Cluster,
) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    serves_our_kinds(importer).await?;
    let older = tokens(&manifests, exporter).await?;
    if !request.renew
        && let Some(newest) = older.last()
    {
        manifests.token_secret = newest.metadata.name.clone().unwrap_or_default();
    }
    keep_choices(&mut manifests, request, importer, exporter).await?;
    let manifests = manifests;
    let mut there = Writer::new(exporter, Side::Exporter.as_str());
    let mut here = Writer::new(importer, Side::Importer.as_str());
    look(&manifests, &there, &here, importer, exporter).await?;
    if let Err(error) = make(&manifests, &mut there, &mut here, &mut progress).await {
        here.undo(&mut progress).await;
        there.undo(&mut progress).await;
        return Err(error);
    }
    if let Err(error) = remove_surplus(&manifests, exporter, &mut progress).await {
        progress.say(&format!("exporter: rights of earlier runs may remain: {error}"));
    }
    let outcome = ready(&manifests, request, importer, &mut progress).await;
    if request.renew {
        revoke(&older, exporter, &outcome, &mut progress).await?;
    }
    let told = told(&manifests, outcome?, importer);
    drop(progress);
    output::print(&told)
}

/// The account's token Secrets, oldest first.
async fn tokens(manifests: &Manifests, exporter: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
    let resource = ApiResource::erase::<Secret>(&());
    let namespace = Some(manifests.account_namespace.as_str());
    let mut tokens = write::owned(exporter, &resource, namespace, &manifests.account).await?;
    tokens.sort_by(|a, b| {
        let age = |o: &DynamicObject| (o.metadata.creation_timestamp.clone(), o.metadata.name.clone());
        age(a).cmp(&age(b))
    });
    Ok(tokens)
}

/// What an earlier run was told and this one is not stays as it is: a repeated command gives the
/// account no right that it didn't have.
async fn keep_choices(
    manifests: &mut Manifests,
    request: &Request,
    importer: &Cluster,
    exporter: &Cluster,
) -> anyhow::Result<()> {
    let name = manifests.account.link.clone();
    if manifests.service_namespaces.is_empty() {
        let links: Api<ClusterLink> = Api::all(importer.client.clone());
        let link = links.get_opt(&name).await;
        let link = link.map_err(|e| importer.failed(&format!("read ClusterLink {name}"), e))?;
        manifests.service_namespaces = link.map(|l| l.spec.services.namespaces).unwrap_or_default();
    }
    if request.renew {
        let resource = ApiResource::erase::<ClusterRole>(&());
        let roles = write::owned(exporter, &resource, None, &manifests.account).await?;
        manifests.nodes &= roles.is_empty() || roles.iter().any(|role| reads_nodes(&role.data));
    }
    Ok(())
}

/// Whether a ClusterRole lets nodes be read.
fn reads_nodes(role: &Value) -> bool {
    let rules = role["rules"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["resources"].as_array()).flatten().any(|resource| resource == "nodes")
}

/// Looks at everything that could stop the work half-way. Writes nothing.
async fn look(
    manifests: &Manifests,
    there: &Writer<'_>,
    here: &Writer<'_>,
    importer: &Cluster,
    exporter: &Cluster,
) -> anyhow::Result<()> {
    namespace_exists(
        importer,
        &manifests.namespace,
        "Install Heliostat there first, or name the controller's namespace with --namespace.",
    )
    .await?;
    for namespace in &manifests.service_namespaces {
        namespace_exists(exporter, namespace, "Create it there first, or leave this --service-namespace out.").await?;
    }
    let mut home_exists = false;
    for document in manifests.exporter() {
        let existing = there.get(&document).await?;
        let is_home = document.resource.kind == "Namespace";
        home_exists |= is_home && existing.is_some();
        let step = exporter_step(manifests, &document, existing.as_ref(), exporter)?;
        // A binding needs its role to be there first, and what lies in a namespace the namespace.
        let can_rehearse = document.body.get("roleRef").is_none()
            && (home_exists || document.namespace() != Some(&manifests.account_namespace));
        if step == Step::Create && can_rehearse {
            there.rehearse(&document).await?;
        }
    }
    for document in manifests.importer(TOKEN_PLACEHOLDER)? {
        let existing = here.get(&document).await?;
        if importer_step(manifests, &document, existing.as_ref(), importer)? == Step::Create {
            here.rehearse(&document).await?;
        }
    }
    Ok(())
}

async fn namespace_exists(cluster: &Cluster, name: &str, next: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let found = namespaces.get_opt(name).await.map_err(|e| cluster.failed(&format!("read namespace {name}"), e))?;
    match found {
        None => bail!("there is no namespace {name:?} in {}. {next}", cluster.name()),
        Some(found) if found.metadata.deletion_timestamp.is_some() => {
            bail!("namespace {name:?} in {} is being deleted. {next}", cluster.name())
        }
        Some(_) => Ok(()),
    }
}

/// The CRDs must be there first.
async fn serves_our_kinds(importer: &Cluster) -> anyhow::Result<()> {
    let groups = importer.client.list_api_groups().await;
    let groups = groups.map_err(|e| importer.failed("list the API groups", e))?;
    if groups.groups.iter().any(|g| g.name == crate::api::GROUP) {
        return Ok(());
    }
    Err(importer.without_crds())
}

/// What to do for an object of the exporter.
fn exporter_step(
    manifests: &Manifests,
    document: &Document,
    existing: Option<&DynamicObject>,
    exporter: &Cluster,
) -> anyhow::Result<Step> {
    let place = exporter.name();
    if document.resource.kind == "Namespace" {
        return match existing {
            None => Ok(Step::Create),
            Some(home) if home.metadata.deletion_timestamp.is_some() => Err(write::being_deleted(document, &place)),
            Some(_) => Ok(Step::Keep),
        };
    }
    write::step(document, existing, |o| manifests.account.owns(&o.metadata), &place)
}

/// What to do for an object of the importer.
fn importer_step(
    manifests: &Manifests,
    document: &Document,
    existing: Option<&DynamicObject>,
    importer: &Cluster,
) -> anyhow::Result<Step> {
    let place = importer.name();
    match existing {
        Some(link) if document.resource.kind == "ClusterLink" => link_step(document, link, &place),
        _ => write::step(document, existing, |o| manifests.account.labelled(&o.metadata), &place),
    }
}

/// A ClusterLink belongs to the user, who may have edited it since: it is only completed, and
/// never turned to another Secret or another cluster.
fn link_step(document: &Document, existing: &DynamicObject, place: &str) -> anyhow::Result<Step> {
    if existing.metadata.deletion_timestamp.is_some() {
        return Err(write::being_deleted(document, place));
    }
    let (wanted, found) = (&document.body["spec"], &existing.data["spec"]);
    if !write::contains(&found["kubeconfigSecretRef"], &wanted["kubeconfigSecretRef"]) {
        bail!(
            "{} in {place} reads its credentials from {}, not from {}. Unlink it first, or give this link another name.",
            document.title(),
            found["kubeconfigSecretRef"],
            wanted["kubeconfigSecretRef"],
        );
    }
    let pinned = found["clusterUID"].as_str().unwrap_or_default();
    let answered = wanted["clusterUID"].as_str().unwrap_or_default();
    if !pinned.is_empty() && pinned != answered {
        bail!(
            "{} in {place} is for the cluster with uid {pinned}, but {answered} answers. If that cluster was rebuilt, say so by setting spec.clusterUID to {answered}; otherwise check --remote-context.",
            document.title()
        );
    }
    if write::contains(found, wanted) {
        return Ok(Step::Keep);
    }
    let uid = &existing.metadata.uid;
    Ok(Step::Change(json!({"metadata": {"uid": uid}, "spec": wanted})))
}

/// Writes both sides; the exporter first, as the importer's Secret needs its token.
async fn make(
    manifests: &Manifests,
    there: &mut Writer<'_>,
    here: &mut Writer<'_>,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let documents = manifests.exporter();
    for document in &documents {
        let existing = there.get(document).await?;
        let step = exporter_step(manifests, document, existing.as_ref(), there.cluster())?;
        there.take(document, step, progress).await?;
    }
    let secret = documents.last().context("the exporter's documents are empty")?;
    let token = there.token(secret, progress).await?;
    for document in manifests.importer(&token)? {
        let existing = here.get(&document).await?;
        let step = importer_step(manifests, &document, existing.as_ref(), here.cluster())?;
        here.take(&document, step, progress).await?;
    }
    Ok(())
}

/// Removes rights that an earlier run gave and this one doesn't: Roles of namespaces that are no
/// longer read.
async fn remove_surplus(manifests: &Manifests, exporter: &Cluster, progress: &mut Progress) -> anyhow::Result<()> {
    let wanted: Vec<String> = manifests.exporter().iter().map(Document::title).collect();
    for resource in kinds().iter().filter(|r| r.kind == "Role" || r.kind == "RoleBinding") {
        for object in write::owned(exporter, resource, None, &manifests.account).await? {
            let meta = &object.metadata;
            let title = title(resource, meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default());
            if !wanted.contains(&title) && write::delete(exporter, resource, &object).await? {
                progress.say(&format!("exporter: removed {title}, which is no longer needed"));
            }
        }
    }
    Ok(())
}

/// Waits for the link; after a renewal, first until the controller has the new token.
async fn ready(
    manifests: &Manifests,
    request: &Request,
    importer: &Cluster,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let name = &manifests.account.link;
    if request.timeout.is_zero() {
        return Ok(Outcome::NotAwaited);
    }
    if request.renew && is_seen(importer, name).await? {
        progress
            .wait(&format!("link {name}: waiting {} s for the controller to take up the new token", PICK_UP.as_secs()));
        tokio::time::sleep(PICK_UP).await;
    }
    wait::until_ready(importer, name, request.timeout, progress).await
}

/// Whether a controller has ever looked at the link.
async fn is_seen(importer: &Cluster, name: &str) -> anyhow::Result<bool> {
    let links: Api<ClusterLink> = Api::all(importer.client.clone());
    let link = links.get(name).await.map_err(|e| importer.failed(&format!("read ClusterLink {name}"), e))?;
    Ok(link.status.and_then(|s| s.observed_generation).is_some_and(|g| g >= 0))
}

/// Removes the tokens that a renewal replaced, unless the link does not work with the new one.
async fn revoke(
    older: &[DynamicObject],
    exporter: &Cluster,
    outcome: &anyhow::Result<Outcome>,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let resource = ApiResource::erase::<Secret>(&());
    for secret in older {
        let meta = &secret.metadata;
        let title = title(&resource, meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default());
        if matches!(outcome, Ok(Outcome::Ready(_) | Outcome::NoController)) {
            write::delete(exporter, &resource, secret).await?;
            progress.say(&format!("exporter: revoked the old token ({title})"));
        } else {
            progress.say(&format!("exporter: the old token is still valid; revoke it by deleting {title}"));
        }
    }
    Ok(())
}

/// The last words: what is there now, and what comes next.
fn told(manifests: &Manifests, outcome: Outcome, importer: &Cluster) -> String {
    let (name, namespace) = (&manifests.account.link, &manifests.namespace);
    match outcome {
        Outcome::Ready(seen) => format!("link {name} is Ready: {seen}\n"),
        Outcome::NotAwaited => format!("link {name} is made; see: heliostat status {name}\n"),
        Outcome::NoController => format!(
            "link {name} is made, but no controller has taken it up: is one running in {}? See: {} -n {namespace} get deployment heliostat\n",
            importer.name(),
            importer.kubectl()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifests::tests::manifests, *};

    fn link_document() -> Document {
        manifests().importer("t").unwrap().remove(1)
    }

    fn existing(spec: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "east", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_link_that_its_user_edited_stays_as_it_is() {
        let spec = json!({
            "kubeconfigSecretRef": {"name": "east-kubeconfig", "key": "kubeconfig"},
            "clusterUID": "e-uid", "suspend": true, "onLoss": {"action": "Delete"},
        });
        assert_eq!(link_step(&link_document(), &existing(spec), "here").unwrap(), Step::Keep);
    }

    #[test]
    fn a_renewal_sees_whether_nodes_were_allowed() {
        let role = |nodes| {
            let documents = Manifests { nodes, ..manifests() }.exporter();
            documents.into_iter().find(|d| d.resource.kind == "ClusterRole").unwrap().body
        };
        assert!(reads_nodes(&role(true)));
        assert!(!reads_nodes(&role(false)));
    }

    #[test]
    fn an_unpinned_link_is_pinned_and_nothing_else() {
        let secret = json!({"name": "east-kubeconfig", "key": "kubeconfig"});
        let step = link_step(&link_document(), &existing(json!({"kubeconfigSecretRef": secret})), "here").unwrap();
        assert_eq!(
            step,
            Step::Change(
                json!({"metadata": {"uid": "u"}, "spec": {"kubeconfigSecretRef": secret, "clusterUID": "e-uid"}})
            )
        );
    }

    #[test]
    fn a_link_is_never_turned_to_another_secret_or_cluster() {
        let other = existing(json!({"kubeconfigSecretRef": {"name": "mine", "key": "kubeconfig"}}));
        let error = link_step(&link_document(), &other, "here").unwrap_err().to_string();
        assert!(error.contains("Unlink it first"), "{error}");
        let rebuilt = existing(json!({
            "kubeconfigSecretRef": {"name": "east-kubeconfig", "key": "kubeconfig"}, "clusterUID": "old",
        }));
        let error = link_step(&link_document(), &rebuilt, "here").unwrap_err().to_string();
        assert!(error.contains("setting spec.clusterUID to e-uid"), "{error}");
    }
}
