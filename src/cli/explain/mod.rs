//! `heliostat explain`: why is this Service mirrored, or not, and by which way? An ordered chain of
//! checks, each answered by the controller's own engine over what was just read here and in the
//! exporter; where that can't be read, by what the controller wrote last. And does a Service of
//! this cluster go out through a gateway?

mod chain;
mod export;
mod held;
mod subject;
mod told;

use std::collections::BTreeMap;

use anyhow::bail;
use serde::Serialize;

use super::{
    Global,
    connect::Cluster,
    output::{Progress, clean},
    survey::{ControllerFlags, Snapshot, Survey},
    table::{Output, table},
};
use crate::core::model::Key;
use chain::Chain;
use export::Export;

/// Tell why a Service is mirrored or not, and by which way; and of a Service of this cluster, whether it is
/// exported through a gateway.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exporters are read with the links' own Secrets; without the right to read those, or when an exporter
is down, what the controller wrote last is told instead.

  heliostat explain books-east -n shop     # a mirror
  heliostat explain shop/books             # an origin, over all links; and here, as an export")]
pub(super) struct Args {
    /// Name of a mirror or of an origin, or NAMESPACE/NAME.
    service: String,
    /// Its namespace [default: the context's].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    controller: ControllerFlags,
    #[command(flatten)]
    output: Output,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It is as it must be.
    Yes,
    /// It is what stops the mirror.
    No,
    /// Worth knowing; it stops nothing.
    Note,
    /// It could not be found out.
    Unknown,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::Note => "note",
            Self::Unknown => "?",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Check {
    check: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    detail: String,
}

/// The chain of one origin over one link, for one policy where one looks at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Case {
    link: String,
    origin: String,
    policy: Option<String>,
    mirror: Option<String>,
    mirrored: bool,
    via: Option<String>,
    checks: Vec<Check>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Report {
    service: String,
    cases: Vec<Case>,
    /// Of a Service of this cluster: what each binding with export makes of it.
    exports: Vec<Export>,
    /// Links that could not be read, and why: of these only statuses speak.
    unread: BTreeMap<String, String>,
}

/// Prints the chain.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let cluster = Cluster::open("this cluster", global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    let key = asked(&args, cluster.client.default_namespace())?;
    let mut progress = Progress::new();
    progress.wait("reading this cluster");
    let snapshot = Snapshot::read(&cluster).await?;
    let exports = match export::read(&cluster, &key).await? {
        Some(exported) => export::exports(&key, &exported, &snapshot.bindings, &args.controller.controller_namespace),
        None => Vec::new(),
    };
    if snapshot.links.is_empty() && exports.is_empty() {
        bail!(
            "there are no links in {}, so nothing is mirrored, and no binding exports {key}. Make a link with: heliostat link NAME --remote-context C --apply; or a GatewayBinding with spec.export",
            cluster.name()
        );
    }
    let survey = Survey::take(&cluster, &args.controller, snapshot, &mut progress).await;
    let mut cases = Vec::new();
    for subject in subject::of(&survey, &key) {
        progress.wait(&format!("looking at {} of link {}", subject.origin, subject.link));
        cases.extend(Chain::new(&survey, &subject).cases().await);
    }
    drop(progress);
    let report = Report { service: key.to_string(), cases, exports, unread: survey.unread };
    args.output.print(&report, render)
}

/// The Service asked about.
fn asked(args: &Args, default: &str) -> anyhow::Result<Key> {
    let (namespace, name) = match (args.service.split_once('/'), &args.namespace) {
        (Some((namespace, name)), None) => (namespace, name),
        (Some((namespace, name)), Some(flag)) if namespace == flag => (namespace, name),
        (Some((namespace, _)), Some(flag)) => {
            bail!("{} names namespace {namespace}, and -n names {flag}: leave one of them out", args.service)
        }
        (None, Some(flag)) => (flag.as_str(), args.service.as_str()),
        (None, None) => (default, args.service.as_str()),
    };
    match format!("{namespace}/{name}").parse() {
        Ok(key) => Ok(key),
        Err(error) => Err(anyhow::Error::new(error)),
    }
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    for Export { binding, published, checks } in &report.exports {
        let does = if *published { "goes" } else { "does not go" };
        text += &section(&format!("{} {does} out through binding {binding}", report.service), checks);
    }
    for case in &report.cases {
        text += &section(&headline(case), &case.checks);
    }
    let silent = report.unread.iter().filter(|(link, _)| report.cases.iter().all(|case| case.link != **link));
    for (link, why) in silent {
        text += &format!("link {link} could not be read, so nothing is known of its services: {}\n", clean(why));
    }
    text.trim_end().to_owned() + "\n"
}

/// A headline and the checks that lead to it.
fn section(headline: &str, checks: &[Check]) -> String {
    let rows = checks.iter().map(|c| {
        let detail = match &c.reason {
            Some(reason) if !c.detail.is_empty() => format!("{reason}: {}", c.detail),
            Some(reason) => reason.clone(),
            None => c.detail.clone(),
        };
        [c.check.clone(), c.verdict.as_str().to_owned(), detail]
    });
    format!("{}\n\n{}\n", clean(headline), table(["CHECK", "VERDICT", "DETAIL"], rows))
}

/// What it comes to, in one line.
fn headline(case: &Case) -> String {
    let Case { link, origin, policy, mirror, mirrored, via, .. } = case;
    let by = policy.as_ref().map(|p| format!(" by policy {p}")).unwrap_or_default();
    let what = format!("{origin} of link {link}");
    match (mirrored, mirror, via) {
        (true, Some(mirror), Some(via)) => format!("{what} is mirrored as {mirror}{by}, via {via}"),
        (true, Some(mirror), None) => format!("{what} is mirrored as {mirror}{by}, but no way leads to it"),
        (_, Some(mirror), _) => format!("{what} is not mirrored as {mirror}{by}"),
        _ => format!("{what} is not mirrored{by}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(service: &str, namespace: Option<&str>) -> Args {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let flag = namespace.map(|n| ["-n", n]);
        Line::parse_from(["explain", service].into_iter().chain(flag.into_iter().flatten())).args
    }

    #[test]
    fn a_service_is_named_in_either_form() {
        assert_eq!(asked(&args("books", None), "shop").unwrap(), Key::new("shop", "books"));
        assert_eq!(asked(&args("books", Some("b")), "shop").unwrap(), Key::new("b", "books"));
        assert_eq!(asked(&args("a/books", None), "shop").unwrap(), Key::new("a", "books"));
        assert!(asked(&args("a/books", Some("b")), "shop").unwrap_err().to_string().contains("leave one of them out"));
        assert!(asked(&args("a/b/c", None), "shop").is_err());
    }

    fn case(mirrored: bool, mirror: Option<&str>, via: Option<&str>) -> Case {
        Case {
            link: "east".to_owned(),
            origin: "shop/books".to_owned(),
            policy: Some("shop/all".to_owned()),
            mirror: mirror.map(str::to_owned),
            mirrored,
            via: via.map(str::to_owned),
            checks: vec![Check {
                check: "namespace open".to_owned(),
                verdict: Verdict::No,
                reason: Some("NamespaceMissing".to_owned()),
                detail: "namespace sh\u{1b}[2Jop does not exist here".to_owned(),
            }],
        }
    }

    #[test]
    fn the_headline_says_what_it_comes_to() {
        let mirror = Some("shop/books-east");
        assert_eq!(
            headline(&case(true, mirror, Some("Service"))),
            "shop/books of link east is mirrored as shop/books-east by policy shop/all, via Service"
        );
        assert!(headline(&case(true, mirror, None)).ends_with("but no way leads to it"));
        assert_eq!(headline(&case(false, None, None)), "shop/books of link east is not mirrored by policy shop/all");
    }

    #[test]
    fn the_chain_is_a_table_without_escapes() {
        let unread = BTreeMap::from([("west".to_owned(), "down\n\u{1b}[1m!".to_owned())]);
        let report =
            Report { service: "shop/books".to_owned(), cases: vec![case(false, None, None)], exports: vec![], unread };
        assert_eq!(
            render(&report),
            "\
shop/books of link east is not mirrored by policy shop/all

CHECK            VERDICT   DETAIL
namespace open   NO        NamespaceMissing: namespace shop does not exist here

link west could not be read, so nothing is known of its services: down !
"
        );
    }
}
