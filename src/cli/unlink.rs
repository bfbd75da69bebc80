//! `heliostat unlink`: takes a link away again, and revokes its account in the exporter when that
//! can be reached. The exporter is never needed: what remains over there is told, with the
//! commands that remove it.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
    core::{ApiResource, DynamicObject, PartialObjectMeta},
};

use super::{
    Global,
    connect::Cluster,
    link::{self, Account, NAMESPACE, kinds, title, value},
    output::{self, Progress},
};
use crate::api::{
    ClusterLink,
    link::DeletionPolicy,
    names::{
        EXPORTER_ACCOUNT_ANNOTATION, EXPORTER_CONTEXT_ANNOTATION, LINK_LABEL, LINK_UID_ANNOTATION, MANAGED_BY_LABEL,
        MANAGER,
    },
};

/// Remove a link, its credentials here, and its account in the exporter.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks nothing. Mirrors follow the link's deletionPolicy. The exporter is reached by --remote-context,
else by the context that was used for linking, if that still leads there; if it can't be reached, the
link is removed all the same, and the commands that remove its account are shown.")]
pub(super) struct Args {
    /// Name of the link.
    #[arg(value_parser = link::link_name)]
    name: String,
    /// Context of the exporter [default: the one used for linking].
    #[arg(long, value_name = "NAME", help_heading = "Which cluster")]
    remote_context: Option<String>,
    /// Kubeconfig file of the exporter [default: the same as for this cluster].
    #[arg(long, value_name = "FILE", help_heading = "Which cluster")]
    remote_kubeconfig: Option<PathBuf>,
    /// Leave the account in the exporter alone.
    #[arg(long, conflicts_with_all = ["remote_context", "remote_kubeconfig"])]
    keep_account: bool,
    /// The controller's namespace in this cluster.
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    namespace: String,
}

/// What there is of a link in the importer.
struct Found {
    link: Option<ClusterLink>,
    secret: Option<DynamicObject>,
    mirrors: Vec<PartialObjectMeta<Service>>,
}

/// Removes the link.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let importer = Cluster::open("the importer", global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    let found = find(&args, &importer).await?;
    let account = Account { link: args.name.clone(), importer_uid: importer.uid().await? };
    let exporter = exporter(&args, global, &found).await;
    let exporter = match exporter {
        Some(Ok(exporter)) => Some(reach(exporter, &args, &found).await?),
        other => other,
    };
    let asked = asked(&args);
    if found.link.is_none() && found.secret.is_none() && !asked {
        let links: Api<ClusterLink> = Api::all(importer.client.clone());
        let links = links.list(&ListParams::default()).await.map(|l| l.items).unwrap_or_default();
        let error = link::no_such_link(&args.name, &links, &importer);
        bail!("{error}. To remove an account that was left in an exporter, pass --remote-context.");
    }
    let mut progress = Progress::new();
    remove_here(&args, &importer, &found, &account, &mut progress).await?;
    let revoked = match exporter {
        None => None,
        Some(Ok(exporter)) => Some(revoke(&exporter, &account, &found, &mut progress).await),
        Some(Err(error)) => Some(Err(error)),
    };
    drop(progress);
    output::print(&conclude(&account, &found, revoked, asked, args.keep_account)?)
}

/// Everything that belongs to the link here.
async fn find(args: &Args, importer: &Cluster) -> anyhow::Result<Found> {
    let name = &args.name;
    let links: Api<ClusterLink> = Api::all(importer.client.clone());
    let link = match links.get_opt(name).await {
        Ok(link) => link,
        // Without the CRD there is no link, but there may be a Secret.
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(e) => return Err(importer.failed(&format!("read ClusterLink {name}"), e)),
    };
    let secret_name =
        link.as_ref().map_or_else(|| format!("{name}-kubeconfig"), |link| link.spec.kubeconfig_secret_ref.name.clone());
    let resource = ApiResource::erase::<Secret>(&());
    let secrets: Api<DynamicObject> = Api::namespaced_with(importer.client.clone(), &args.namespace, &resource);
    let secret = secrets
        .get_opt(&secret_name)
        .await
        .map_err(|e| importer.failed(&format!("read Secret {}/{secret_name}", args.namespace), e))?;
    let mirrors = mirrors(importer, link.as_ref()).await?;
    Ok(Found { link, secret, mirrors })
}

/// The link's mirrors: those that carry its uid.
async fn mirrors(importer: &Cluster, link: Option<&ClusterLink>) -> anyhow::Result<Vec<PartialObjectMeta<Service>>> {
    let Some(link) = link else {
        return Ok(Vec::new());
    };
    let name = link.metadata.name.as_deref().unwrap_or_default();
    let services: Api<Service> = Api::all(importer.client.clone());
    let selector = format!("{MANAGED_BY_LABEL}={MANAGER},{LINK_LABEL}={name}");
    let listed = services
        .list_metadata(&ListParams::default().labels(&selector))
        .await
        .map_err(|e| importer.failed("list the link's mirrors", e))?;
    let uid = link.metadata.uid.as_deref();
    Ok(listed.items.into_iter().filter(|s| value(&s.metadata.annotations, LINK_UID_ANNOTATION) == uid).collect())
}

/// The exporter, if there is a way to name it; not dialled yet.
async fn exporter(args: &Args, global: &Global, found: &Found) -> Option<anyhow::Result<Cluster>> {
    if args.keep_account {
        return None;
    }
    let recorded = found.secret.as_ref().and_then(|s| value(&s.metadata.annotations, EXPORTER_CONTEXT_ANNOTATION));
    if !asked(args) && recorded.is_none() {
        return None;
    }
    let file = args.remote_kubeconfig.as_deref().or(global.kubeconfig.as_deref());
    let recorded = recorded.filter(|_| args.remote_kubeconfig.is_none());
    Some(Cluster::open("the exporter", file, args.remote_context.as_deref().or(recorded)).await)
}

/// The exporter, if it answers and is the link's. A context that the user named and that leads to
/// another cluster ends the program before anything is done; one that does not answer is no obstacle.
async fn reach(exporter: Cluster, args: &Args, found: &Found) -> anyhow::Result<anyhow::Result<Cluster>> {
    let uid = match exporter.uid().await {
        Ok(uid) => uid,
        Err(error) => return Ok(Err(error)),
    };
    let Some(expected) = expected_uid(found).filter(|expected| *expected != uid) else {
        return Ok(Ok(exporter));
    };
    let wrong =
        anyhow!("{} has uid {uid}, but link {} is to the cluster with uid {expected}", exporter.name(), args.name);
    if asked(args) {
        bail!("{wrong}. Nothing was removed; name that cluster, or leave --remote-context out.");
    }
    Ok(Err(wrong))
}

/// Whether the user named the exporter.
fn asked(args: &Args) -> bool {
    args.remote_context.is_some() || args.remote_kubeconfig.is_some()
}

/// Which cluster the link is to, as far as that is known.
fn expected_uid(found: &Found) -> Option<&str> {
    let link = found.link.as_ref()?;
    let seen = link.status.as_ref().and_then(|s| s.cluster_uid.as_deref());
    link.spec.cluster_uid.as_deref().or(seen)
}

/// Removes the link and its Secret in the importer, and tells what becomes of the mirrors.
async fn remove_here(
    args: &Args,
    importer: &Cluster,
    found: &Found,
    account: &Account,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    if let Some(link) = &found.link {
        let links: Api<ClusterLink> = Api::all(importer.client.clone());
        match links.delete(&args.name, &DeleteParams::background()).await {
            Ok(_) => progress.say(&format!("importer: deleted ClusterLink {}", args.name)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(e) => return Err(importer.failed(&format!("delete ClusterLink {}", args.name), e)),
        }
        progress.say(&format!("importer: {}", fate(link, &found.mirrors)));
    }
    if let Some(secret) = &found.secret {
        let resource = ApiResource::erase::<Secret>(&());
        let meta = &secret.metadata;
        let title = title(&resource, meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default());
        if account.labelled(meta) {
            link::delete(importer, &resource, secret).await?;
            progress.say(&format!("importer: deleted {title}"));
        } else {
            progress.say(&format!("importer: left {title} alone, which heliostat link did not make"));
        }
    }
    Ok(())
}

/// What happens to the mirrors, in words.
fn fate(link: &ClusterLink, mirrors: &[PartialObjectMeta<Service>]) -> String {
    let uid = link.metadata.uid.as_deref().unwrap_or_default();
    let goes = |s: &&PartialObjectMeta<Service>| s.metadata.owner_references.iter().flatten().any(|o| o.uid == uid);
    let going = mirrors.iter().filter(goes).count();
    let staying = mirrors.len() - going;
    let name = link.metadata.name.as_deref().unwrap_or_default();
    let stay = format!(
        "{} as before; remove with: kubectl delete services -A -l {LINK_LABEL}={name}",
        if staying == 1 { "1 mirror stays".to_owned() } else { format!("{staying} mirrors stay") }
    );
    let go = if going == 1 { "1 mirror".to_owned() } else { format!("{going} mirrors") };
    match (going, staying) {
        (0, 0) => "it had no mirrors".to_owned(),
        (_, 0) => format!("Kubernetes deletes {go} of it now"),
        (0, _) if link.spec.deletion_policy == DeletionPolicy::Orphan => format!("deletionPolicy is Orphan: {stay}"),
        (0, _) => stay,
        (_, _) => format!("Kubernetes deletes {go} of it now; {stay}"),
    }
}

/// Removes the account in the exporter; how many objects went.
async fn revoke(
    exporter: &Cluster,
    account: &Account,
    found: &Found,
    progress: &mut Progress,
) -> anyhow::Result<usize> {
    progress.wait(&format!("exporter: looking for the account in {}", exporter.name()));
    let mut removed = 0;
    let mut failures = Vec::new();
    let homes = homes(exporter, account, found).await?;
    for resource in kinds() {
        let namespaces: Vec<Option<&str>> = match resource.kind.as_str() {
            "Secret" | "ServiceAccount" => homes.iter().map(|h| Some(h.as_str())).collect(),
            _ => vec![None],
        };
        for namespace in namespaces {
            for object in link::owned(exporter, &resource, namespace, account).await? {
                let meta = &object.metadata;
                let title = title(&resource, meta.namespace.as_deref(), meta.name.as_deref().unwrap_or_default());
                match link::delete(exporter, &resource, &object).await {
                    Ok(_) => {
                        removed += 1;
                        progress.say(&format!("exporter: deleted {title}"));
                    }
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
    }
    if failures.is_empty() { Ok(removed) } else { Err(anyhow!(failures.join("; "))) }
}

/// The namespaces of the account: where a ServiceAccount of ours is, and where the importer's
/// Secret says that it was.
async fn homes(exporter: &Cluster, account: &Account, found: &Found) -> anyhow::Result<Vec<String>> {
    let resource = ApiResource::erase::<ServiceAccount>(&());
    let accounts = link::owned(exporter, &resource, None, account).await?;
    let mut homes: Vec<String> = accounts.into_iter().filter_map(|a| a.metadata.namespace).collect();
    homes.extend(recorded_account(found).map(|(namespace, _)| namespace.to_owned()));
    homes.sort();
    homes.dedup();
    Ok(homes)
}

/// Namespace and name of the account, as the importer's Secret has them.
fn recorded_account(found: &Found) -> Option<(&str, &str)> {
    let annotations = &found.secret.as_ref()?.metadata.annotations;
    value(annotations, EXPORTER_ACCOUNT_ANNOTATION)?.split_once('/')
}

/// The last words. An account that the user asked to revoke and that remains is a failure.
fn conclude(
    account: &Account,
    found: &Found,
    revoked: Option<anyhow::Result<usize>>,
    asked: bool,
    keep: bool,
) -> anyhow::Result<String> {
    let name = &account.link;
    Ok(match revoked {
        Some(Ok(0)) => format!("link {name} is gone; there was no account of it in the exporter\n"),
        Some(Ok(_)) => format!("link {name} is gone, and its account in the exporter is revoked\n"),
        Some(Err(error)) if asked => {
            let by_hand = by_hand(account, found);
            return Err(error.context(format!(
                "link {name} is gone here, but its account in the exporter was not removed. To remove it there:\n{by_hand}"
            )));
        }
        Some(Err(error)) => format!(
            "link {name} is gone here. Its account in the exporter remains: {error}\nTo remove it there:\n{}\n",
            by_hand(account, found)
        ),
        None if keep => format!("link {name} is gone here; its account in the exporter stays\n"),
        None => format!(
            "link {name} is gone here. If heliostat link made it, its account in the exporter remains. To remove it there:\n{}\n",
            by_hand(account, found)
        ),
    })
}

/// The commands that remove the account, for somebody who can reach the exporter.
fn by_hand(account: &Account, found: &Found) -> String {
    let (namespace, name) = recorded_account(found).map_or_else(
        || (NAMESPACE.to_owned(), account.name()),
        |(namespace, name)| (namespace.to_owned(), name.to_owned()),
    );
    format!(
        "  kubectl delete clusterrolebinding,clusterrole {name}\n  kubectl delete role,rolebinding -A --field-selector metadata.name={name}\n  kubectl -n {namespace} delete serviceaccount {name}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn link(policy: &str) -> ClusterLink {
        serde_json::from_value(json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
            "metadata": {"name": "east", "uid": "u"},
            "spec": {"kubeconfigSecretRef": {"name": "s"}, "deletionPolicy": policy},
        }))
        .unwrap()
    }

    fn mirror(owner: Option<&str>) -> PartialObjectMeta<Service> {
        let owners: Vec<Value> = owner
            .into_iter()
            .map(|uid| json!({"apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink", "name": "east", "uid": uid}))
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "m", "ownerReferences": owners}})).unwrap()
    }

    #[test]
    fn the_user_is_told_what_becomes_of_the_mirrors() {
        assert_eq!(fate(&link("Delete"), &[]), "it had no mirrors");
        assert_eq!(
            fate(&link("Delete"), &[mirror(Some("u")), mirror(Some("u"))]),
            "Kubernetes deletes 2 mirrors of it now"
        );
        let stays = "1 mirror stays as before; remove with: kubectl delete services -A -l heliostat.dev/link=east";
        assert_eq!(fate(&link("Orphan"), &[mirror(None)]), format!("deletionPolicy is Orphan: {stays}"));
        assert_eq!(
            fate(&link("Delete"), &[mirror(Some("u")), mirror(Some("another"))]),
            format!("Kubernetes deletes 1 mirror of it now; {stays}")
        );
    }

    #[test]
    fn an_account_that_was_to_be_revoked_and_remains_is_a_failure() {
        let account = Account { link: "east".to_owned(), importer_uid: "1b9f03aa".to_owned() };
        let found = Found { link: None, secret: None, mirrors: Vec::new() };
        let error = conclude(&account, &found, Some(Err(anyhow!("down"))), true, false).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("kubectl -n heliostat-system delete serviceaccount heliostat-link-east-1b9f03aa"),
            "{error}"
        );
        assert_eq!(error.root_cause().to_string(), "down");
        assert!(conclude(&account, &found, Some(Err(anyhow!("down"))), false, false).is_ok());
    }
}
