//! `heliostat link`: gives an importer read-only access to an exporter.
//!
//! Without `--apply` nothing is written anywhere: the objects are printed, each marked with the
//! side it belongs to. With it they are made on both sides; what isn't this link's own is never
//! touched, and a run that fails takes back what it made.
//!
//! The account lives in a namespace of its own over there (`heliostat-system`, which is also where
//! an exporter's own Heliostat would be), not in kube-system, where guests are a surprise. Its
//! token is that of a Secret of type `kubernetes.io/service-account-token`: it does not expire,
//! because a mirror must not stop working on the day that somebody is away, and it is revoked by
//! deleting that Secret. A token that must be short-lived has to be renewed by somebody: run
//! `link --renew --apply` as often as wanted.

mod account;
mod apply;
mod manifests;
mod wait;
mod write;

pub(super) use account::{Account, kinds, value};
pub(super) use manifests::title;
pub(super) use write::{delete, owned};

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};

use super::{Global, connect::Cluster, output};
use crate::{
    api::{ClusterLink, duration::parse_duration, link::NamespacesFrom},
    cluster::credentials::Credentials,
};
use manifests::{Manifests, Side, TOKEN_PLACEHOLDER};

/// The controller's namespace, and the account's, unless the user says otherwise.
pub(super) const NAMESPACE: &str = "heliostat-system";

/// Link this cluster (the importer) to another one (the exporter).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints a read-only account for the exporter, and a Secret and a ClusterLink for this cluster; with
--apply makes them. The account's token does not expire: --renew replaces it, unlink revokes it.

  heliostat link east --remote-context east
  heliostat link east --remote-context east --apply
  heliostat link east --remote-context kind-east --server https://172.18.0.3:6443 --apply")]
pub(super) struct Args {
    /// Name of the link: the suffix of its mirrors' names; a DNS label of at most 32 characters.
    #[arg(value_parser = link_name)]
    name: String,
    /// Context of the exporter.
    #[arg(long, value_name = "NAME", required_unless_present = "remote_kubeconfig", help_heading = "Which cluster")]
    remote_context: Option<String>,
    /// Kubeconfig file of the exporter [default: the same as for this cluster].
    #[arg(long, value_name = "FILE", help_heading = "Which cluster")]
    remote_kubeconfig: Option<PathBuf>,
    /// Make the objects on both sides, and wait until the link is Ready.
    #[arg(long)]
    apply: bool,
    /// URL of the exporter's API server as pods of this cluster reach it [default: the kubeconfig's].
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Issue a new token, and revoke the old one once the new one is in use.
    #[arg(long)]
    renew: bool,
    /// The controller's namespace in this cluster.
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    namespace: String,
    /// Namespace for the account in the exporter, made if it isn't there.
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    remote_namespace: String,
    /// Only this namespace of the exporter may be read (repeatable) [default: all].
    #[arg(long = "service-namespace", value_name = "NAMESPACE")]
    service_namespaces: Vec<String>,
    /// Don't let the account read nodes; services are then not reachable by node ports.
    #[arg(long)]
    no_nodes: bool,
    /// Whose MirrorPolicies may use the link: the controller's namespace or all [default: same].
    #[arg(long, value_enum, value_name = "WHOSE")]
    allow_policies: Option<Allow>,
    /// Print only the objects of one side.
    #[arg(long, value_enum, conflicts_with = "apply")]
    side: Option<Side>,
    /// How long to wait for the link to be Ready; 0s: not at all.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration, requires = "apply")]
    timeout: Duration,
}

/// Whose policies may use the link.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Allow {
    /// Those in the controller's namespace.
    Same,
    /// Those of every namespace.
    All,
}

/// Prints the link's objects, or makes them.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let (importer, exporter) = tokio::try_join!(
        Cluster::open("the importer", global.kubeconfig.as_deref(), global.context.as_deref()),
        Cluster::open(
            "the exporter",
            args.remote_kubeconfig.as_deref().or(global.kubeconfig.as_deref()),
            args.remote_context.as_deref()
        ),
    )?;
    let manifests = manifests(&args, &importer, &exporter).await?;
    if !args.apply {
        return output::print(&printed(&args, &manifests, &importer, &exporter)?);
    }
    let request = apply::Request { renew: args.renew, timeout: args.timeout };
    apply::run(manifests, &request, &importer, &exporter).await
}

/// What the link will consist of; reads who the two clusters are.
async fn manifests(args: &Args, importer: &Cluster, exporter: &Cluster) -> anyhow::Result<Manifests> {
    let server = args.server.clone().unwrap_or_else(|| exporter.server.clone());
    if exporter.trust.insecure {
        bail!(
            "the kubeconfig of {} switches certificate verification off, which a link never does. Replace insecure-skip-tls-verify by certificate-authority-data.",
            exporter.name()
        );
    }
    let ca = exporter.trust.ca.clone().with_context(|| format!("the kubeconfig of {} has no certificate authority, and a link trusts no other. Add certificate-authority-data to it.", exporter.name()))?;
    let (importer_uid, exporter_uid) = tokio::try_join!(importer.uid(), exporter.uid())?;
    if importer_uid == exporter_uid {
        bail!(
            "{} and {} are the same cluster (kube-system has uid {exporter_uid}), and a cluster cannot be linked to itself. Name another with --remote-context.",
            importer.name(),
            exporter.name()
        );
    }
    let account = Account { link: args.name.clone(), importer_uid };
    let token_secret =
        if args.renew { format!("{}-{}", account.name(), jiff::Timestamp::now().as_second()) } else { account.name() };
    let mut service_namespaces = args.service_namespaces.clone();
    service_namespaces.sort();
    service_namespaces.dedup();
    let manifests = Manifests {
        account,
        account_namespace: args.remote_namespace.clone(),
        token_secret,
        nodes: !args.no_nodes,
        service_namespaces,
        exporter_uid,
        exporter_context: exporter.context.clone(),
        server_name: exporter.trust.server_name.clone().filter(|_| args.server.is_none()),
        server,
        ca,
        namespace: args.namespace.clone(),
        allow: args.allow_policies.map(|allow| match allow {
            Allow::Same => NamespacesFrom::Same,
            Allow::All => NamespacesFrom::All,
        }),
    };
    usable(&manifests, &exporter.name())?;
    Ok(manifests)
}

/// The controller must be able to use the kubeconfig: it is read as the controller reads it.
fn usable(manifests: &Manifests, exporter: &str) -> anyhow::Result<()> {
    Credentials::parse(manifests.kubeconfig(TOKEN_PLACEHOLDER)?.as_bytes()).map(drop).map_err(|error| {
        anyhow!(
            "the controller could not use a kubeconfig for {exporter} with server {}: {error}. Pass --server https://HOST:PORT, as pods of the importer reach that API server.",
            manifests.server
        )
    })
}

/// The YAML stream, under the commands that would put it into place by hand.
fn printed(args: &Args, manifests: &Manifests, importer: &Cluster, exporter: &Cluster) -> anyhow::Result<String> {
    let documents = match args.side {
        Some(Side::Exporter) => manifests.exporter(),
        Some(Side::Importer) => manifests.importer(TOKEN_PLACEHOLDER)?,
        None => [manifests.exporter(), manifests.importer(TOKEN_PLACEHOLDER)?].concat(),
    };
    let (name, token) = (&manifests.account.link, &manifests.token_secret);
    let head = format!(
        "# Link {name:?}: {} will read {}.\n\
         # Nothing has been written. The same command with --apply does all of this. By hand:\n\
         #   1. apply the documents marked exporter (--side exporter prints only those):\n\
         #      {} apply -f exporter.yaml\n\
         #   2. fill in the token and apply the documents marked importer (--side importer prints only those):\n\
         #      sed \"s/{TOKEN_PLACEHOLDER}/$({} -n {} get secret {token} -o jsonpath='{{.data.token}}' | base64 -d)/\" importer.yaml | {} apply -f -\n",
        importer.name(),
        exporter.name(),
        exporter.kubectl(),
        exporter.kubectl(),
        manifests.account_namespace,
        importer.kubectl(),
    );
    Ok(head + &manifests::render(&documents)?)
}

/// A link's name, as the ClusterLink's own schema has it.
pub(super) fn link_name(name: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(inner) || name.starts_with('-') || name.ends_with('-') {
        return Err("a link's name is a DNS label of at most 32 characters: lower-case letters, digits and, inside, '-'; for example east".to_owned());
    }
    Ok(name.to_owned())
}

/// The error for a name that no link has.
pub(super) fn no_such_link(name: &str, links: &[ClusterLink], importer: &Cluster) -> anyhow::Error {
    let known: Vec<&str> = links.iter().filter_map(|l| l.metadata.name.as_deref()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    anyhow!("there is no link {name:?} in {}; its links are: {known}", importer.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_is_a_dns_label_of_at_most_32_characters() {
        for good in ["east", "e", "1", "a-b", &"e".repeat(32)] {
            assert!(link_name(good).is_ok(), "{good}");
        }
        for bad in ["", "East", "a_b", "a.b", "-a", "a-", "é", &"e".repeat(33)] {
            assert!(link_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_controllers_own_reader_decides_which_server_will_do() {
        let certificate = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        let with = |server: &str| Manifests {
            server: server.to_owned(),
            ca: certificate.clone().into_bytes(),
            ..manifests::tests::manifests()
        };
        assert_eq!(usable(&with("https://192.0.2.1:6443"), "there").map_err(|e| e.to_string()), Ok(()));
        for server in ["https://127.0.0.1:6443", "https://localhost", "https://[::1]:6443", "http://192.0.2.1"] {
            let error = usable(&with(server), "there").unwrap_err().to_string();
            assert!(error.contains(server) && error.contains("Pass --server https://HOST:PORT"), "{error}");
        }
    }
}
