//! A cluster that the user names by kubeconfig and context: opens it, and turns whatever goes
//! wrong into a sentence that says which cluster, what happened and what to do next.
//!
//! The kubeconfig is the user's own and trusted: plugins and files that it names are used, as
//! kubectl does. Kubeconfigs that come from a cluster never pass here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::output::clean;

/// How long a cluster may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster of the user's, ready to be talked to.
pub(super) struct Cluster {
    /// Speaks with the user's own credentials.
    pub(super) client: Client,
    /// The context in the kubeconfig; none for a pod's own account.
    pub(super) context: Option<String>,
    /// URL of its API server.
    pub(super) server: String,
    /// How its API server proves who it is.
    pub(super) trust: Trust,
    /// What it is for the user: `this cluster`, `the exporter`.
    role: &'static str,
    /// The kubeconfig's file, as the user named it.
    kubeconfig: Option<PathBuf>,
}

/// How an API server proves who it is, as the user's kubeconfig has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// Certificate authority, PEM.
    pub(super) ca: Option<Vec<u8>>,
    /// Name in its certificate, where it is not the URL's host.
    pub(super) server_name: Option<String>,
    /// The kubeconfig switches verification off.
    pub(super) insecure: bool,
}

impl Cluster {
    /// Opens a cluster: `role` is what error messages call it.
    ///
    /// Without a kubeconfig file and context, and where no kubeconfig is found, a pod's own
    /// account is taken.
    ///
    /// # Errors
    /// The kubeconfig can't be read, or has no such context. Nothing is dialled yet.
    pub(super) async fn open(
        role: &'static str,
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> anyhow::Result<Self> {
        let named = kubeconfig.is_some() || context.is_some();
        if !named
            && !has_kubeconfig()
            && let Ok(config) = Config::incluster()
        {
            return Self::build(role, None, None, config, Trust::default());
        }
        let (file, config) = read(role, kubeconfig)?;
        let context = choose_context(role, &file, &config, context)?;
        let trust =
            trust(&config, &context).with_context(|| format!("cannot use context {context:?} of {file} for {role}"))?;
        let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(config, &options)
            .await
            .with_context(|| format!("cannot use context {context:?} of {file} for {role}"))?;
        Self::build(role, Some(context), kubeconfig, config, trust)
    }

    fn build(
        role: &'static str,
        context: Option<String>,
        kubeconfig: Option<&Path>,
        mut config: Config,
        trust: Trust,
    ) -> anyhow::Result<Self> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client =
            Client::try_from(config).with_context(|| format!("cannot use the kubeconfig's credentials for {role}"))?;
        let kubeconfig = kubeconfig.map(Path::to_owned);
        Ok(Self { client, context, server, trust, role, kubeconfig })
    }

    /// The cluster in words: its role, its context and where it is.
    pub(super) fn name(&self) -> String {
        match &self.context {
            Some(context) => format!("{} (context {context:?}, {})", self.role, self.server),
            None => format!("{} ({})", self.role, self.server),
        }
    }

    /// The uid of kube-system: which cluster it really is.
    ///
    /// # Errors
    /// It is out of reach, or does not let the user read that namespace.
    pub(super) async fn uid(&self) -> anyhow::Result<String> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace =
            namespaces.get("kube-system").await.map_err(|e| self.failed("read namespace kube-system", e))?;
        namespace.metadata.uid.ok_or_else(|| anyhow!("{} has a kube-system namespace without a uid", self.name()))
    }

    /// What failed here, why, and what to do next.
    pub(super) fn failed(&self, doing: &str, error: kube::Error) -> anyhow::Error {
        explain(&self.name(), &self.server, doing, error)
    }

    /// The error for a cluster that does not serve our kinds.
    pub(super) fn without_crds(&self) -> anyhow::Error {
        anyhow!(
            "{} does not know the kinds of heliostat.dev. Install the CRDs first: heliostat crds | {} apply -f -",
            self.name(),
            self.kubectl()
        )
    }

    /// `kubectl` with the flags that lead to this cluster, for commands shown to the user.
    pub(super) fn kubectl(&self) -> String {
        let mut words = "kubectl".to_owned();
        if let Some(file) = &self.kubeconfig {
            words += &format!(" --kubeconfig {}", file.display());
        }
        if let Some(context) = &self.context {
            words += &format!(" --context {context}");
        }
        words
    }
}

/// The sentence for an error of the API.
fn explain(cluster: &str, server: &str, doing: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            let next = match status.code {
                401 => {
                    ". Its API server does not know these credentials: log in again, or take another context with --context or --kubeconfig."
                }
                403 => ". Ask for that right, or take a context that has it.",
                _ => "",
            };
            anyhow!(
                "cannot {doing} in {cluster}: {} ({}){next}",
                clean(&status.message).trim_end_matches('.'),
                status.code
            )
        }
        kube::Error::Auth(e) => anyhow!(
            "cannot log in to {cluster}: {}. Does the kubeconfig's login command work by itself?",
            clean(&root(&e))
        ),
        kube::Error::Service(e) => unreachable_server(cluster, server, &root(e.as_ref())),
        kube::Error::HyperError(e) => unreachable_server(cluster, server, &root(&e)),
        e => anyhow!("cannot {doing} in {cluster}: {}", clean(&root(&e))),
    }
}

fn unreachable_server(cluster: &str, server: &str, cause: &str) -> anyhow::Error {
    anyhow!("cannot reach {cluster}: {}. Is the cluster up, and is {server} its address?", clean(cause))
}

/// The innermost cause, which is what a user can act upon.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether there is a kubeconfig where one is looked for.
fn has_kubeconfig() -> bool {
    if std::env::var_os("KUBECONFIG").is_some_and(|v| !v.is_empty()) {
        return true;
    }
    std::env::home_dir().is_some_and(|home| home.join(".kube/config").exists())
}

/// The kubeconfig and what to call it in messages.
fn read(role: &str, file: Option<&Path>) -> anyhow::Result<(String, Kubeconfig)> {
    let (name, config) = match file {
        Some(file) => (file.display().to_string(), Kubeconfig::read_from(file)),
        None => (
            std::env::var("KUBECONFIG").ok().filter(|v| !v.is_empty()).unwrap_or_else(|| "~/.kube/config".to_owned()),
            Kubeconfig::read(),
        ),
    };
    match config {
        Ok(config) => Ok((name, config)),
        Err(KubeconfigError::ReadConfig(e, path)) => bail!(
            "cannot read the kubeconfig {} for {role}: {e}. Name another with --kubeconfig or $KUBECONFIG.",
            path.display()
        ),
        Err(e) => Err(anyhow::Error::new(e).context(format!("{name} is not a kubeconfig that can be used for {role}"))),
    }
}

/// The context asked for, else the current one; it must exist.
fn choose_context(role: &str, file: &str, config: &Kubeconfig, asked: Option<&str>) -> anyhow::Result<String> {
    let known: Vec<&str> = config.contexts.iter().map(|c| c.name.as_str()).collect();
    let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let current = config.current_context.as_deref().filter(|c| !c.is_empty());
    let Some(context) = asked.or(current) else {
        bail!("{file} has no current context for {role}: name one of its contexts ({list})");
    };
    if !known.contains(&context) {
        bail!("{file} has no context {context:?} for {role}; its contexts are: {list}");
    }
    Ok(context.to_owned())
}

/// How the context's API server proves who it is.
fn trust(config: &Kubeconfig, context: &str) -> anyhow::Result<Trust> {
    let cluster = config
        .contexts
        .iter()
        .find(|c| c.name == context)
        .and_then(|c| c.context.as_ref())
        .and_then(|c| config.clusters.iter().find(|known| known.name == c.cluster))
        .and_then(|c| c.cluster.as_ref())
        .context("its cluster is not in the file")?;
    let ca = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) if !data.is_empty() => {
            use base64::Engine as _;
            let engine = base64::engine::general_purpose::STANDARD;
            Some(engine.decode(data.trim()).context("certificate-authority-data is not base64")?)
        }
        (_, Some(file)) if !file.is_empty() => {
            Some(std::fs::read(file).with_context(|| format!("cannot read its certificate-authority {file}"))?)
        }
        _ => None,
    };
    Ok(Trust {
        ca,
        server_name: cluster.tls_server_name.clone(),
        insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters:
- {name: e, cluster: {server: 'https://192.0.2.1:6443', certificate-authority-data: Q0E=, tls-server-name: kubernetes}}
- {name: i, cluster: {server: 'https://192.0.2.2', insecure-skip-tls-verify: true}}
users: [{name: u, user: {token: t}}]
contexts:
- {name: east, context: {cluster: e, user: u}}
- {name: west, context: {cluster: i, user: u}}
- {name: lost, context: {cluster: none, user: u}}
";

    fn config() -> Kubeconfig {
        Kubeconfig::from_yaml(KUBECONFIG).unwrap()
    }

    #[test]
    fn a_wrong_context_is_answered_with_those_that_exist() {
        let choose = |asked| choose_context("the exporter", "/k", &config(), asked);
        assert_eq!(choose(Some("west")).unwrap(), "west");
        assert_eq!(
            choose(Some("north")).unwrap_err().to_string(),
            "/k has no context \"north\" for the exporter; its contexts are: east, west, lost"
        );
        assert_eq!(
            choose(None).unwrap_err().to_string(),
            "/k has no current context for the exporter: name one of its contexts (east, west, lost)"
        );
    }

    #[test]
    fn trust_is_read_from_the_kubeconfig() {
        assert_eq!(
            trust(&config(), "east").unwrap(),
            Trust { ca: Some(b"CA".to_vec()), server_name: Some("kubernetes".to_owned()), insecure: false }
        );
        assert!(trust(&config(), "west").unwrap().insecure);
        assert!(trust(&config(), "lost").is_err());
    }

    #[test]
    fn an_api_error_says_where_why_and_what_next() {
        let status = kube::core::Status::failure("secrets is\u{1b}[31m forbidden", "Forbidden").with_code(403);
        let error = explain(
            "the exporter (context \"east\", https://e)",
            "https://e",
            "create Secret a/b",
            kube::Error::Api(status.boxed()),
        );
        assert_eq!(
            error.to_string(),
            "cannot create Secret a/b in the exporter (context \"east\", https://e): secrets is forbidden (403). Ask for that right, or take a context that has it."
        );
    }

    #[tokio::test]
    async fn a_cluster_out_of_reach_says_so_with_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let text = KUBECONFIG.replace("https://192.0.2.2", "https://127.0.0.1:1");
        std::fs::write(&file, text).unwrap();
        let cluster = Cluster::open("this cluster", Some(&file), Some("west")).await.unwrap();
        let error = cluster.uid().await.unwrap_err().to_string();
        assert!(error.starts_with("cannot reach this cluster (context \"west\", https://127.0.0.1:1)"), "{error}");
        assert!(error.ends_with("Is the cluster up, and is https://127.0.0.1:1 its address?"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = Cluster::open("this cluster", Some(Path::new("/does/not/exist")), None).await.err().unwrap();
        assert!(
            error.to_string().starts_with("cannot read the kubeconfig /does/not/exist for this cluster: No such file"),
            "{error}"
        );
    }
}
