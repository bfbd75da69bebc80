//! `heliostat controller`: the operator itself.

use std::net::SocketAddr;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Global, logging};
use crate::run;

/// Run the controller: mirror what the ClusterLinks and MirrorPolicies of this cluster ask for.
#[derive(Debug, clap::Args)]
#[command(after_help = "RUST_LOG sets the log filter, for example RUST_LOG=heliostat=debug.")]
pub(super) struct Args {
    /// The controller's own namespace: Secrets of links are read there only.
    #[arg(long, value_name = "NAME", default_value = "heliostat-system", value_parser = dns_label)]
    namespace: String,
    /// Address for probes and metrics.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Write only while holding the Lease `heliostat`; needed with more than one replica.
    #[arg(long)]
    leader_elect: bool,
    /// Ranges of this cluster that its API does not tell, such as those its CNI gives to pods; no
    /// mirror gets an address in them.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    cluster_cidrs: Vec<IpNet>,
    /// DNS domain of this cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = dns_domain)]
    cluster_domain: String,
    /// Be an exporter too: program the gateways of GatewayBindings with `spec.export` and publish
    /// what goes out through them. Needs the rights of config/components/exporter.
    #[arg(long)]
    export: bool,
    /// Image of Heliostat's own gateway (`provider.envoy`).
    #[arg(long, value_name = "IMAGE", default_value = "envoyproxy/envoy:v1.39.0", requires = "export")]
    envoy_image: String,
    /// Address at which Heliostat's own gateways are told what to do (xDS, mutual TLS).
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:18000", requires = "export")]
    xds_listen: SocketAddr,
    /// Address at which importers' probes of gateways are answered: with this cluster's uid, and
    /// nothing else. It is exported through the gateways by the Service heliostat-probe.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8081", requires = "export")]
    probe_listen: SocketAddr,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(super) async fn run(args: Args, global: Global) -> anyhow::Result<()> {
    logging::json();
    logging::end_on_panic();
    let shutdown = CancellationToken::new();
    let signals = Signals::new().context("cannot wait for signals")?;
    tokio::spawn(signals.stop(shutdown.clone()));
    let config = run::Config {
        kubeconfig: global.kubeconfig,
        context: global.context,
        namespace: args.namespace,
        listen: args.listen,
        leader_elect: args.leader_elect,
        cluster_cidrs: args.cluster_cidrs,
        cluster_domain: args.cluster_domain,
        export: args.export.then_some(run::Export {
            envoy_image: args.envoy_image,
            xds_listen: args.xds_listen,
            probe_listen: args.probe_listen,
        }),
    };
    Ok(run::run(config, shutdown).await?)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    async fn stop(mut self, shutdown: CancellationToken) {
        let signal = self.next().await;
        tracing::info!(signal, "stopping");
        shutdown.cancel();
        let signal = self.next().await;
        tracing::warn!(signal, "stopping at once");
        std::process::exit(1);
    }
}

/// RFC 1123.
fn dns_label(text: &str) -> Result<String, String> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || edges || !text.chars().all(ok) {
        return Err("not a DNS label: at most 63 of a-z, 0-9 and -, with no - at either end".to_owned());
    }
    Ok(text.to_owned())
}

fn dns_domain(text: &str) -> Result<String, String> {
    if text.len() > 253 || text.split('.').any(|label| dns_label(label).is_err()) {
        return Err("not a DNS domain such as cluster.local: labels of a-z, 0-9 and -, joined by dots".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from([&["controller"], args].concat()).map(|cli| cli.args)
    }

    #[test]
    fn without_flags_it_has_its_defaults() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.namespace, "heliostat-system");
        assert_eq!(args.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(args.cluster_domain, "cluster.local");
        assert!(!args.leader_elect && args.cluster_cidrs.is_empty());
        assert!(!args.export);
    }

    #[test]
    fn an_exporter_has_its_defaults_and_an_importer_has_no_flags_of_one() {
        let args = parse(&["--export"]).unwrap();
        assert_eq!(args.envoy_image, "envoyproxy/envoy:v1.39.0");
        assert_eq!(args.xds_listen.to_string(), "0.0.0.0:18000");
        assert_eq!(args.probe_listen.to_string(), "0.0.0.0:8081");
        for flag in ["--envoy-image=x", "--xds-listen=127.0.0.1:1", "--probe-listen=127.0.0.1:1"] {
            assert!(parse(&[flag]).unwrap_err().to_string().contains("--export"), "{flag}");
            assert!(parse(&["--export", flag]).is_ok());
        }
    }

    #[test]
    fn ranges_may_be_a_list_or_several_flags() {
        let args = parse(&["--cluster-cidrs", "10.244.0.0/16,fd00::/64", "--cluster-cidrs=10.0.0.0/8"]).unwrap();
        let ranges: Vec<String> = args.cluster_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.244.0.0/16", "fd00::/64", "10.0.0.0/8"]);
    }

    #[test]
    fn bad_flags_are_refused_with_what_is_wrong() {
        for (args, says) in [
            (["--namespace", "Shop"], "not a DNS label"),
            (["--cluster-domain", "cluster..local"], "not a DNS domain"),
            (["--listen", "8080"], "invalid socket address"),
            (["--cluster-cidrs", "10.0.0.0"], "invalid"),
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
