//! Keeps the certificates by which the controller and its own gateways know each other, in Secrets
//! of the controller's namespace: one authority, and one certificate for each binding's Envoys. The
//! server's certificate is made anew by each replica and stored nowhere.
//!
//! Creating the authority's Secret is the test-and-set, so that two replicas that start together end
//! with one. Only the leader writes; a follower reads, and serves with what it reads. Unlike the rest
//! of this folder it reads to find out, since nobody else may see these Secrets. No key is ever
//! logged, and none leaves this file but to Kubernetes and to the server.

mod stored;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Client;
use rustls::ServerConfig;
use serde_json::{Map, Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::stored::Trust;
use super::{
    call::call,
    lease::Leadership,
    render::{Rendered, Verb},
};
use crate::{
    api::{GROUP, VERSION, names},
    core::{
        envoy::certificate_name,
        export::provider::labels,
        io::{WriteError, WriteFailure},
        model::Map as Labels,
    },
    metrics::Metrics,
    xds::pki::{self, Identity, PkiError},
};

/// The Secret with the authority.
const AUTHORITY: &str = "heliostat-xds-ca";
/// The resource, as RBAC spells it.
const SECRETS: &str = "secrets";
/// Time between two looks at all of it; also how long a Secret that somebody deleted is missing.
const PERIOD: Duration = Duration::from_secs(30);
/// The same after something went wrong, or while the leader has not made the authority yet.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The server's side of TLS, once there is an authority.
pub type ServerTls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// What cannot be done, in words; none: all is well.
pub type Trouble = watch::Receiver<Option<String>>;

/// See the file's description.
pub struct Certificates {
    client: Client,
    namespace: String,
    server_names: Vec<String>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    trouble: watch::Sender<Option<String>>,
    server: Option<Server>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What the server has now.
struct Server {
    certificate: String,
    trusted: String,
}

/// Why the certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("the Secret {namespace}/{name} cannot be {done}: {}; the rights are those of config/components/exporter", .answer.message)]
    Call { namespace: String, name: String, done: &'static str, answer: WriteError },
    #[error(
        "the Secret {namespace}/{name} is not Heliostat's, as it lacks the labels of one, and is left alone; delete it, or put these on it: {labels}"
    )]
    Foreign { namespace: String, name: String, labels: String },
    #[error("there is no Secret {namespace}/{AUTHORITY} yet; the leader makes it")]
    NoAuthority { namespace: String },
    #[error("the GatewayBinding {name} cannot be read: {}", .answer.message)]
    Binding { name: String, answer: WriteError },
    #[error("Secret {namespace}/{name}: {source}")]
    Pki { namespace: String, name: String, source: PkiError },
}

impl CertificateError {
    /// Somebody was faster; the next look tells.
    fn is_lost_race(&self) -> bool {
        let Self::Call { answer, .. } = self else { return false };
        matches!(answer.kind, WriteFailure::AlreadyExists | WriteFailure::Conflict | WriteFailure::NotFound)
    }

    /// Somebody else is at it.
    const fn is_waiting(&self) -> bool {
        matches!(self, Self::NoAuthority { .. })
    }
}

impl Certificates {
    /// Will keep them in `namespace`, for a server that is known by these names, and write while
    /// `leadership` lasts. Gives the server's TLS, and what is wrong.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        server_names: Vec<String>,
        leadership: Leadership,
        metrics: Arc<Metrics>,
    ) -> (Self, ServerTls, Trouble) {
        let (tls, trouble) = (watch::Sender::new(None), watch::Sender::new(None));
        let (serve, told) = (tls.subscribe(), trouble.subscribe());
        let namespace = namespace.to_owned();
        (Self { client, namespace, server_names, leadership, metrics, tls, trouble, server: None }, serve, told)
    }

    /// Keeps certificates for the bindings of the latest set until `shutdown`.
    pub async fn run(mut self, mut wanted: watch::Receiver<BTreeSet<String>>, shutdown: CancellationToken) {
        let keep = async {
            loop {
                let leads = self.leads();
                let bindings = wanted.borrow_and_update().clone();
                let wait = self.look(&bindings).await;
                let leadership = self.leadership.clone();
                tokio::select! {
                    () = sleep(wait) => {}
                    changed = wanted.changed() => if changed.is_err() { return },
                    () = leadership.acquired(), if !leads => {}
                }
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    fn leads(&self) -> bool {
        self.leadership.remaining().is_some()
    }

    /// Puts right what is not; gives when to look again.
    async fn look(&mut self, bindings: &BTreeSet<String>) -> Duration {
        let mut errors: Vec<CertificateError> = Vec::new();
        match self.serve_and_trust().await {
            Err(error) => errors.push(error),
            Ok(trust) if self.leads() => {
                for binding in bindings {
                    errors.extend(self.keep(binding, &trust).await.err());
                }
            }
            Ok(_) => {}
        }
        let wait = if errors.is_empty() { PERIOD } else { AGAIN };
        let wrong: Vec<String> = errors.iter().filter(|e| !e.is_lost_race()).map(ToString::to_string).collect();
        let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        self.trouble.send_if_modified(|told| {
            if *told == wrong {
                return false;
            }
            match &wrong {
                Some(wrong) if errors.iter().all(CertificateError::is_waiting) => {
                    tracing::info!("the certificates of gateways: {wrong}");
                }
                Some(wrong) => tracing::warn!("the certificates of gateways: {wrong}"),
                None => tracing::info!("the certificates of gateways are in order"),
            }
            *told = wrong;
            true
        });
        wait
    }

    /// The authority; the server has what follows from it.
    async fn serve_and_trust(&mut self) -> Result<Trust, CertificateError> {
        let now = Timestamp::now();
        let trust = self.trust(now).await?;
        let pki = |source| self.pki(AUTHORITY, source);
        let good = match &self.server {
            Some(Server { certificate, trusted }) => {
                *trusted == trust.trusted
                    && trust.authority.has_issued(certificate).map_err(pki)?
                    && !pki::is_due(certificate, now).map_err(pki)?
            }
            None => false,
        };
        if !good {
            let identity: Identity = trust.authority.issue_server(&self.server_names, now).map_err(pki)?;
            let config = pki::server_config(&identity, &trust.trusted).map_err(pki)?;
            self.server = Some(Server { certificate: identity.certificate, trusted: trust.trusted.clone() });
            self.tls.send_replace(Some(Arc::new(config)));
        }
        Ok(trust)
    }

    async fn trust(&self, now: Timestamp) -> Result<Trust, CertificateError> {
        let Some(secret) = self.read(AUTHORITY).await? else {
            if !self.leads() {
                return Err(CertificateError::NoAuthority { namespace: self.namespace.clone() });
            }
            let trust = Trust::new(now).map_err(|source| self.pki(AUTHORITY, source))?;
            self.create(AUTHORITY, &authority_labels(), None, trust.data()).await?;
            tracing::info!(secret = AUTHORITY, "made the authority that gateways and controllers trust");
            return Ok(trust);
        };
        self.check_ours(AUTHORITY, &secret, &authority_labels())?;
        let trust = Trust::read(&secret).map_err(|source| self.pki(AUTHORITY, source))?;
        if !self.leads() {
            return Ok(trust);
        }
        match trust.step(now).map_err(|source| self.pki(AUTHORITY, source))? {
            Err(as_it_was) => Ok(as_it_was),
            Ok(next) => {
                self.patch(AUTHORITY, &secret, None, next.data()).await?;
                tracing::info!(secret = AUTHORITY, "renewed the authority that gateways and controllers trust");
                Ok(next)
            }
        }
    }

    /// Keeps the certificate of one binding's Envoys.
    async fn keep(&self, binding: &str, trust: &Trust) -> Result<(), CertificateError> {
        let Some(owner) = self.owner(binding).await? else { return Ok(()) };
        let (name, now) = (certificate_name(binding), Timestamp::now());
        let issue = || trust.issue(binding, now).map_err(|source| self.pki(&name, source));
        let Some(secret) = self.read(&name).await? else {
            self.create(&name, &labels(binding), Some(&owner), issue()?).await?;
            tracing::info!(binding, secret = name, "made the certificate of a gateway");
            return Ok(());
        };
        self.check_ours(&name, &secret, &labels(binding))?;
        let owners = secret["metadata"]["ownerReferences"].as_array();
        let is_owned = owners.is_some_and(|owners| owners.iter().any(|there| there["uid"] == owner["uid"]));
        if is_owned && trust.is_good(&secret, binding, now) {
            return Ok(());
        }
        self.patch(&name, &secret, Some(&owner), issue()?).await?;
        tracing::info!(binding, secret = name, "renewed the certificate of a gateway");
        Ok(())
    }

    /// The ownerReference to a binding; none when it is gone or going.
    async fn owner(&self, binding: &str) -> Result<Option<Value>, CertificateError> {
        let path = format!("/apis/{GROUP}/{VERSION}/gatewaybindings/{binding}");
        let error = |answer| CertificateError::Binding { name: binding.to_owned(), answer };
        let Some(object) = self.get(&path).await.map_err(error)? else { return Ok(None) };
        let metadata = &object["metadata"];
        let owner = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "GatewayBinding", "name": binding, "uid": metadata["uid"],
        });
        Ok((metadata["uid"].is_string() && metadata["deletionTimestamp"].is_null()).then_some(owner))
    }

    fn check_ours(&self, name: &str, secret: &Value, labels: &Labels) -> Result<(), CertificateError> {
        if labels.iter().all(|(key, value)| secret["metadata"]["labels"][key.as_str()] == **value) {
            return Ok(());
        }
        let text: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Err(CertificateError::Foreign {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            labels: text.join(", "),
        })
    }

    async fn read(&self, name: &str) -> Result<Option<Value>, CertificateError> {
        self.get(&self.path(name)).await.map_err(|answer| self.failed(name, "read", answer))
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, WriteError> {
        match call(&self.client, http::Request::get(path).body(Vec::new()), DEADLINE).await {
            Ok(body) => Ok(Some(serde_json::from_slice(&body).unwrap_or_default())),
            Err(error) if error.kind == WriteFailure::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(
        &self,
        name: &str,
        labels: &Labels,
        owner: Option<&Value>,
        data: Map<String, Value>,
    ) -> Result<(), CertificateError> {
        let mut metadata = json!({"name": name, "namespace": self.namespace, "labels": labels});
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let data: Map<String, Value> = data.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data,
        });
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        self.write(name, Rendered { verb: Verb::Create, resource: SECRETS, path, body }, "created").await
    }

    /// Changes exactly what was read.
    async fn patch(
        &self,
        name: &str,
        secret: &Value,
        owner: Option<&Value>,
        data: Map<String, Value>,
    ) -> Result<(), CertificateError> {
        let there = &secret["metadata"];
        let mut metadata = json!({"uid": there["uid"], "resourceVersion": there["resourceVersion"]});
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let body = json!({"metadata": metadata, "data": data});
        self.write(name, Rendered { verb: Verb::Patch, resource: SECRETS, path: self.path(name), body }, "changed")
            .await
    }

    async fn write(&self, name: &str, write: Rendered, done: &'static str) -> Result<(), CertificateError> {
        let left = self.leadership.remaining().unwrap_or_default();
        let sent = Instant::now();
        let answer = call(&self.client, write.request(), left.min(DEADLINE)).await;
        let counted = answer.as_ref().map(|_| ()).map_err(|error| error.kind);
        self.metrics.wrote(SECRETS, write.verb.as_str(), counted, sent.elapsed());
        answer.map(|_| ()).map_err(|answer| self.failed(name, done, answer))
    }

    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace)
    }

    fn failed(&self, name: &str, done: &'static str, answer: WriteError) -> CertificateError {
        CertificateError::Call { namespace: self.namespace.clone(), name: name.to_owned(), done, answer }
    }

    fn pki(&self, name: &str, source: PkiError) -> CertificateError {
        CertificateError::Pki { namespace: self.namespace.clone(), name: name.to_owned(), source }
    }
}

fn authority_labels() -> Labels {
    Labels::from([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGER.to_owned())])
}

#[cfg(test)]
mod tests;
