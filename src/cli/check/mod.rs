//! `heliostat check`: named checks, each with a verdict. Without flags of this cluster: is what
//! Heliostat needs there, and well? With `--link` and `--gateway` of a gateway, whoever wrote it: does it
//! keep the contract (docs/gateways.md), and does it answer for what is exported and for nothing else?
//! Changes nothing, here or there; what it sends to a gateway is a greeting or a GET.

mod answer;
mod asks;
mod book;
mod cluster;
mod contract;
mod gateway;
mod judge;
mod traffic;

use std::process::ExitCode;

use serde::Serialize;

use super::{
    Global,
    connect::Cluster,
    link,
    output::{Progress, clean},
    survey::ControllerFlags,
    table::{Output, table},
};
use book::{Check, Verdict, worst};

/// Check this cluster's Heliostat; or exercise a gateway of a linked cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: no check failed; 1: one did; 2: it could not be found out, as a cluster is out of reach.

With --link and --gateway the exporter is read with the link's own Secret, and traffic goes from this
machine to the gateway: every exported port must answer, one that is not exported must not. Run it in
a pod to see what pods see.

  heliostat check
  heliostat check --link east --gateway public")]
pub(super) struct Args {
    /// Exercise a gateway of this link's exporter.
    #[arg(long, value_name = "LINK", value_parser = link::link_name, requires = "gateway")]
    link: Option<String>,
    /// The gateway: the GatewayBinding that its published slices name.
    #[arg(long, value_name = "BINDING", value_parser = clap::builder::NonEmptyStringValueParser::new(), requires = "link")]
    gateway: Option<String>,
    /// What is asked for where services are told apart by Host.
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = path, requires = "gateway")]
    path: String,
    #[command(flatten)]
    controller: ControllerFlags,
    #[command(flatten)]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// What was checked, and from where.
    of: String,
    /// The worst verdict.
    verdict: Verdict,
    checks: Vec<Check>,
}

/// Checks, prints what was found, and gives the exit code.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::open("this cluster", global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    let mut progress = Progress::new();
    let (of, checks) = match (&args.link, &args.gateway) {
        (Some(link), Some(binding)) => {
            let asked = gateway::Asked { link, binding, path: &args.path };
            let checks = gateway::check(&cluster, &args.controller, &asked, &mut progress).await?;
            (format!("gateway {binding} of link {link}, from this machine"), checks)
        }
        _ => (cluster.name(), cluster::check(&cluster, &args.controller, &mut progress).await?),
    };
    drop(progress);
    let report = Report { of, verdict: worst(&checks), checks };
    args.output.print(&report, render)?;
    Ok(exit_code(report.verdict))
}

fn exit_code(verdict: Verdict) -> ExitCode {
    ExitCode::from(u8::from(verdict == Verdict::Fail))
}

fn render(report: &Report) -> String {
    let rows = report.checks.iter().map(|c| {
        [c.check.to_owned(), c.verdict.as_str().to_owned(), c.subject.clone().unwrap_or_default(), c.detail.clone()]
    });
    let count = |verdict| report.checks.iter().filter(|c| c.verdict == verdict).count();
    let sum = match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => "all is well".to_owned(),
        (0, warnings) => format!("nothing failed, {warnings} to look at"),
        (failed, _) => format!("{failed} failed"),
    };
    format!("{}: {sum}\n\n{}", clean(&report.of), table(["CHECK", "VERDICT", "OF", "DETAIL"], rows))
}

/// What a request line can carry.
fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    if fits { Ok(text.to_owned()) } else { Err("not the path of a URL, such as /healthz".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(["check"].iter().chain(words)).map(|line| line.args)
    }

    #[test]
    fn link_and_gateway_go_together() {
        assert!(parse(&[]).is_ok_and(|args| args.link.is_none() && args.gateway.is_none()));
        let args = parse(&["--link", "east", "--gateway", "public"]).unwrap();
        assert_eq!((args.link.as_deref(), args.gateway.as_deref(), &*args.path), (Some("east"), Some("public"), "/"));
        for wrong in [
            &["--link", "east"][..],
            &["--gateway", "public"],
            &["--path", "/x"],
            &["--link", "East", "--gateway", "public"],
            &["--link", "east", "--gateway", ""],
            &["--link", "east", "--gateway", "public", "--path", "x y"],
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    fn report(verdicts: &[Verdict]) -> Report {
        let check = |verdict: &Verdict| Check {
            check: "labels",
            subject: Some("shop/bo\u{1b}[2Joks".to_owned()),
            verdict: *verdict,
            detail: String::new(),
        };
        let checks: Vec<Check> = verdicts.iter().map(check).collect();
        Report { of: "gateway public".to_owned(), verdict: worst(&checks), checks }
    }

    #[test]
    fn only_a_failed_check_is_exit_code_1() {
        let code = |verdicts: &[Verdict]| format!("{:?}", exit_code(report(verdicts).verdict));
        let (well, failed) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&[]), well);
        assert_eq!(code(&[Verdict::Ok, Verdict::Note, Verdict::Warn]), well);
        assert_eq!(code(&[Verdict::Ok, Verdict::Fail, Verdict::Warn]), failed);
    }

    #[test]
    fn the_report_is_a_table_without_escapes() {
        assert_eq!(
            render(&report(&[Verdict::Fail, Verdict::Ok])),
            "\
gateway public: 1 failed

CHECK    VERDICT   OF           DETAIL
labels   FAIL      shop/books   -
labels   ok        shop/books   -
"
        );
        assert!(render(&report(&[Verdict::Ok, Verdict::Note])).starts_with("gateway public: all is well\n"));
        assert!(render(&report(&[Verdict::Warn])).starts_with("gateway public: nothing failed, 1 to look at\n"));
    }
}
