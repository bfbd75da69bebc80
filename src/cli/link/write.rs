//! Makes a link's objects in one cluster: creates what is missing, changes what is this link's
//! own, refuses everything else, and takes back what it made when a later step fails.

use std::time::Duration;

use anyhow::{anyhow, bail};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use super::{
    account::Account,
    manifests::{Document, title},
};
use crate::{
    api::names::FIELD_MANAGER,
    cli::{connect::Cluster, output::Progress},
};

/// How long the controller manager over there may take to put a token into its Secret.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// An object that was made in this run.
struct Created {
    api: Api<DynamicObject>,
    name: String,
    uid: Option<String>,
    title: String,
}

/// Writes to one of the two clusters and remembers what it made.
pub(super) struct Writer<'a> {
    cluster: &'a Cluster,
    side: &'static str,
    created: Vec<Created>,
}

/// What has to be done for an object.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There is none.
    Create,
    /// It is this link's, and some of it differs: the merge patch.
    Change(Value),
    /// It is as it should be.
    Keep,
}

impl<'a> Writer<'a> {
    pub(super) fn new(cluster: &'a Cluster, side: &'static str) -> Self {
        Self { cluster, side, created: Vec::new() }
    }

    /// The cluster that it writes to.
    pub(super) const fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The objects of this kind, in this namespace where one is given.
    pub(super) fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        api(self.cluster, resource, namespace)
    }

    /// The object as it is; none where it is not there.
    pub(super) async fn get(&self, document: &Document) -> anyhow::Result<Option<DynamicObject>> {
        self.api(&document.resource, document.namespace())
            .get_opt(document.name())
            .await
            .map_err(|e| self.cluster.failed(&format!("read {}", document.title()), e))
    }

    /// Asks the API server whether it would accept a creation. Nothing is written.
    pub(super) async fn rehearse(&self, document: &Document) -> anyhow::Result<()> {
        let params = PostParams { dry_run: true, ..post() };
        self.post(document, &params).await.map(drop)
    }

    /// Does what a step says.
    pub(super) async fn take(
        &mut self,
        document: &Document,
        step: Step,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let done = match step {
            Step::Create => {
                let made = self.post(document, &post()).await?;
                self.created.push(Created {
                    api: self.api(&document.resource, document.namespace()),
                    name: document.name().to_owned(),
                    uid: made.metadata.uid,
                    title: document.title(),
                });
                "created"
            }
            Step::Change(patch) => {
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                self.api(&document.resource, document.namespace())
                    .patch(document.name(), &params, &Patch::Merge(patch))
                    .await
                    .map_err(|e| self.cluster.failed(&format!("change {}", document.title()), e))?;
                "changed"
            }
            Step::Keep => "unchanged",
        };
        progress.say(&format!("{}: {done} {}", self.side, document.title()));
        Ok(())
    }

    async fn post(&self, document: &Document, params: &PostParams) -> anyhow::Result<DynamicObject> {
        self.api(&document.resource, document.namespace())
            .create(params, &document.object()?)
            .await
            .map_err(|e| self.cluster.failed(&format!("create {}", document.title()), e))
    }

    /// Removes what this run made, newest first, and tells of each; for a run that failed.
    pub(super) async fn undo(&mut self, progress: &mut Progress) {
        while let Some(made) = self.created.pop() {
            let params = with_uid(made.uid.as_deref());
            match made.api.delete(&made.name, &params).await {
                Ok(_) => progress.say(&format!("{}: removed {} again", self.side, made.title)),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(e) => {
                    let why = self.cluster.failed("remove it", e);
                    progress.say(&format!("{}: {} remains: {why}", self.side, made.title));
                }
            }
        }
    }

    /// Waits for the token that Kubernetes puts into the account's Secret.
    pub(super) async fn token(&self, document: &Document, progress: &mut Progress) -> anyhow::Result<String> {
        let deadline = tokio::time::Instant::now() + TOKEN_TIMEOUT;
        loop {
            let secret = self.get(document).await?;
            if let Some(token) = secret.as_ref().and_then(token_of) {
                return Ok(token);
            }
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "{} did not put a token into {} within {} s: is its kube-controller-manager running?",
                    self.cluster.name(),
                    document.title(),
                    TOKEN_TIMEOUT.as_secs()
                );
            }
            progress.wait(&format!("{}: waiting for the token in {}", self.side, document.title()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The objects of a kind in a cluster, in one namespace where one is given.
pub(in crate::cli) fn api(cluster: &Cluster, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, resource),
        None => Api::all_with(cluster.client.clone(), resource),
    }
}

/// The account's objects of one kind in the exporter, in one namespace or all.
pub(in crate::cli) async fn owned(
    cluster: &Cluster,
    resource: &ApiResource,
    namespace: Option<&str>,
    account: &Account,
) -> anyhow::Result<Vec<DynamicObject>> {
    let listed = api(cluster, resource, namespace)
        .list(&ListParams::default().labels(&account.selector()))
        .await
        .map_err(|e| cluster.failed(&format!("list {}", resource.plural), e))?;
    Ok(listed.items.into_iter().filter(|o| account.owns(&o.metadata)).collect())
}

/// Deletes an object, and only this one; whether it was still there.
pub(in crate::cli) async fn delete(
    cluster: &Cluster,
    resource: &ApiResource,
    object: &DynamicObject,
) -> anyhow::Result<bool> {
    let (meta, name) = (&object.metadata, object.metadata.name.as_deref().unwrap_or_default());
    let api = api(cluster, resource, meta.namespace.as_deref());
    match api.delete(name, &with_uid(meta.uid.as_deref())).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(e) => {
            let what = title(resource, meta.namespace.as_deref(), name);
            Err(cluster.failed(&format!("delete {what}"), e))
        }
    }
}

fn with_uid(uid: Option<&str>) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions { uid: uid.map(str::to_owned), resource_version: None })
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The token in a service account's Secret.
fn token_of(secret: &DynamicObject) -> Option<String> {
    String::from_utf8(decoded(&secret.data, "token")?).ok().filter(|t| !t.is_empty())
}

/// A value of a Secret's data.
fn decoded(secret: &Value, key: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str()?).ok()
}

/// The step for an object that only this link may own.
///
/// # Errors
/// It is somebody else's, or is being deleted.
pub(super) fn step(
    document: &Document,
    existing: Option<&DynamicObject>,
    own: impl FnOnce(&DynamicObject) -> bool,
    place: &str,
) -> anyhow::Result<Step> {
    let Some(existing) = existing else {
        return Ok(Step::Create);
    };
    if existing.metadata.deletion_timestamp.is_some() {
        return Err(being_deleted(document, place));
    }
    if !own(existing) {
        bail!(
            "{} exists in {place} and was not made for this link, so it is left alone. Rename or delete it, or give the link another name.",
            document.title()
        );
    }
    Ok(difference(document, existing)?)
}

/// The error for an object that is on its way out.
pub(super) fn being_deleted(document: &Document, place: &str) -> anyhow::Error {
    anyhow!("{} in {place} is being deleted: try again when it is gone", document.title())
}

/// What of the document is missing or different in the object.
fn difference(document: &Document, existing: &DynamicObject) -> serde_json::Result<Step> {
    let mut wanted = document.body.clone();
    stored_form(&mut wanted);
    let mut observed = serde_json::to_value(existing)?;
    stored_form(&mut observed);
    if contains(&observed, &wanted) {
        return Ok(Step::Keep);
    }
    wanted["metadata"]["uid"] = json!(existing.metadata.uid);
    Ok(Step::Change(wanted))
}

/// `stringData` as the API server keeps it: under `data`, in base64.
fn stored_form(secret: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(fields)) = secret.as_object_mut().and_then(|o| o.remove("stringData")) else {
        return;
    };
    for (key, text) in fields {
        let text = text.as_str().unwrap_or_default();
        secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

/// Whether every field of `wanted` is in `observed`; lists are compared whole.
pub(super) fn contains(observed: &Value, wanted: &Value) -> bool {
    match (observed, wanted) {
        (Value::Object(observed), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| observed.get(key).is_some_and(|o| contains(o, value)))
        }
        _ => observed == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifests::tests::manifests, *};

    fn made(document: &Document, change: impl FnOnce(&mut Value)) -> DynamicObject {
        let mut body = document.body.clone();
        body["metadata"]["uid"] = json!("u");
        body["metadata"]["labels"]["added-by"] = json!("somebody");
        stored_form(&mut body);
        change(&mut body);
        serde_json::from_value(body).unwrap()
    }

    fn step_for(document: &Document, existing: Option<&DynamicObject>) -> anyhow::Result<Step> {
        let account = manifests().account;
        step(document, existing, |o| account.labelled(&o.metadata), "there")
    }

    #[test]
    fn what_is_already_there_is_kept_and_what_others_added_does_not_matter() {
        for document in [&manifests().exporter()[1..], &manifests().importer("t").unwrap()[..1]].concat() {
            assert_eq!(step_for(&document, None).unwrap(), Step::Create);
            let existing = made(&document, |_| {});
            assert_eq!(step_for(&document, Some(&existing)).unwrap(), Step::Keep, "{}", document.title());
        }
    }

    #[test]
    fn a_changed_object_of_ours_is_patched_under_its_uid() {
        let secret = &manifests().importer("new").unwrap()[0];
        let old = made(&manifests().importer("old").unwrap()[0], |_| {});
        let Step::Change(patch) = step_for(secret, Some(&old)).unwrap() else {
            panic!("not a change");
        };
        assert_eq!(patch["metadata"]["uid"], "u");
        assert!(patch.get("stringData").is_none());
        let kubeconfig = String::from_utf8(decoded(&patch, "kubeconfig").unwrap()).unwrap();
        assert!(kubeconfig.contains("token: new"), "{kubeconfig}");
    }

    #[test]
    fn somebody_elses_object_is_refused_by_name() {
        let document = &manifests().exporter()[1];
        let foreign = made(document, |body| body["metadata"]["labels"] = json!({"app": "theirs"}));
        let error = step_for(document, Some(&foreign)).unwrap_err().to_string();
        assert!(
            error.starts_with("ServiceAccount heliostat-system/heliostat-link-east-1b9f03aa exists in there and was not made for this link"),
            "{error}"
        );
    }

    #[test]
    fn a_token_is_taken_only_when_it_is_there() {
        let secret = |data: Value| serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap();
        assert_eq!(token_of(&secret(json!({"token": "dG9r"}))), Some("tok".to_owned()));
        assert_eq!(token_of(&secret(json!({"token": ""}))), None);
        assert_eq!(token_of(&secret(json!({}))), None);
    }
}
