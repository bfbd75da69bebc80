//! `heliostat status`: links, policies and bindings at a glance, and whatever of them is not good.
//! Speaks from what the controller wrote; reads no exporter.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{Api, api::ListParams, core::SelectorExt as _};
use serde::Serialize;

use super::{
    Global,
    connect::Cluster,
    link,
    table::{Output, table},
};
use crate::{
    api::{ClusterLink, ConditionType, GatewayBinding, MirrorPolicy},
    core::select,
};

/// Show links, policies and bindings, and what is wrong with them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Speaks from what the controller wrote last, as kubectl get does; heliostat explain looks for itself.")]
pub(super) struct Args {
    /// Only this link, and what uses it.
    #[arg(value_parser = link::link_name)]
    link: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// What is shown.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Overview {
    links: Vec<LinkRow>,
    policies: Vec<PolicyRow>,
    bindings: Vec<BindingRow>,
    /// Conditions that are not as they should be.
    problems: Vec<Problem>,
    /// What could not be mirrored, or only in part.
    failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Serialize)]
struct LinkRow {
    name: String,
    ready: String,
    connected: String,
    seen: u32,
    mirrored: u32,
    skipped: u32,
    conflicted: u32,
    version: String,
    age: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct PolicyRow {
    name: String,
    ready: String,
    matched: u32,
    mirrored: u32,
    skipped: u32,
    conflicted: u32,
    age: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct BindingRow {
    name: String,
    ready: String,
    routing: String,
    side: &'static str,
    addresses: Vec<String>,
    age: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Problem {
    object: String,
    condition: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    object: String,
    link: String,
    service: String,
    reason: String,
    message: String,
}

/// Prints the overview.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let cluster = Cluster::open("this cluster", global.kubeconfig.as_deref(), global.context.as_deref()).await?;
    let (links, policies, bindings) = tokio::try_join!(
        list::<ClusterLink>(&cluster),
        list::<MirrorPolicy>(&cluster),
        list::<GatewayBinding>(&cluster)
    )?;
    if let Some(name) = &args.link
        && !links.iter().any(|l| l.metadata.name.as_ref() == Some(name))
    {
        return Err(link::no_such_link(name, &links, &cluster));
    }
    let overview = Reader { now: Timestamp::now(), only: args.link.as_deref() }.overview(&links, &policies, &bindings);
    args.output.print(&overview, render)
}

/// All objects of one of our kinds.
pub(super) async fn list<K>(cluster: &Cluster) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    match api.list(&ListParams::default()).await {
        Ok(listed) => Ok(listed.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(cluster.without_crds()),
        Err(e) => Err(cluster.failed(&format!("list {}", K::plural(&())), e)),
    }
}

/// Makes an overview of what is told in statuses.
struct Reader<'a> {
    now: Timestamp,
    only: Option<&'a str>,
}

impl Reader<'_> {
    fn overview(&self, links: &[ClusterLink], policies: &[MirrorPolicy], bindings: &[GatewayBinding]) -> Overview {
        let mut overview = Overview::default();
        for link in links.iter().filter(|l| self.only.is_none_or(|only| name(&l.metadata) == only)) {
            self.add_link(&mut overview, link);
        }
        for policy in policies.iter().filter(|p| self.only.is_none_or(|only| uses(p, only, links))) {
            self.add_policy(&mut overview, policy);
        }
        for binding in bindings.iter().filter(|b| self.only.is_none_or(|only| leads_to(b, only))) {
            self.add_binding(&mut overview, binding);
        }
        overview
    }

    fn add_link(&self, overview: &mut Overview, link: &ClusterLink) {
        let status = link.status.clone().unwrap_or_default();
        let counts = status.services.unwrap_or_default();
        overview.links.push(LinkRow {
            name: name(&link.metadata).to_owned(),
            ready: truth(&status.conditions, ConditionType::Ready),
            connected: truth(&status.conditions, ConditionType::Connected),
            seen: counts.seen,
            mirrored: counts.mirrored,
            skipped: counts.skipped,
            conflicted: counts.conflicted,
            version: status.server_version.unwrap_or_default(),
            age: self.age(&link.metadata),
        });
        let object = format!("ClusterLink {}", name(&link.metadata));
        add_problems(overview, &object, &link.metadata, status.observed_generation, &status.conditions);
    }

    fn add_policy(&self, overview: &mut Overview, policy: &MirrorPolicy) {
        let status = policy.status.clone().unwrap_or_default();
        let counts = status.services.unwrap_or_default();
        let key = format!("{}/{}", policy.metadata.namespace.as_deref().unwrap_or_default(), name(&policy.metadata));
        let object = format!("MirrorPolicy {key}");
        overview.policies.push(PolicyRow {
            name: key,
            ready: truth(&status.conditions, ConditionType::Ready),
            matched: counts.matched,
            mirrored: counts.mirrored,
            skipped: counts.skipped,
            conflicted: counts.conflicted,
            age: self.age(&policy.metadata),
        });
        add_problems(overview, &object, &policy.metadata, status.observed_generation, &status.conditions);
        for failure in status.failures.into_iter().filter(|f| self.only.is_none_or(|only| f.link == only)) {
            overview.failures.push(Failure {
                object: object.clone(),
                link: failure.link,
                service: format!("{}/{}", failure.namespace, failure.name),
                reason: failure.reason,
                message: failure.message,
            });
        }
    }

    fn add_binding(&self, overview: &mut Overview, binding: &GatewayBinding) {
        let status = binding.status.clone().unwrap_or_default();
        let object = format!("GatewayBinding {}", name(&binding.metadata));
        overview.bindings.push(BindingRow {
            name: name(&binding.metadata).to_owned(),
            ready: truth(&status.conditions, ConditionType::Ready),
            routing: binding.spec.routing.to_string(),
            side: if binding.spec.import.is_some() { "import" } else { "export" },
            addresses: status.addresses.into_iter().map(|a| a.value).collect(),
            age: self.age(&binding.metadata),
        });
        add_problems(overview, &object, &binding.metadata, status.observed_generation, &status.conditions);
        for failure in status.failures {
            overview.failures.push(Failure {
                object: object.clone(),
                link: String::new(),
                service: format!("{}/{}", failure.namespace, failure.name),
                reason: failure.reason,
                message: failure.message,
            });
        }
    }

    /// As kubectl writes ages.
    fn age(&self, meta: &ObjectMeta) -> String {
        let Some(created) = &meta.creation_timestamp else {
            return String::new();
        };
        let seconds = self.now.duration_since(created.0).as_secs().max(0);
        match seconds {
            0..120 => format!("{seconds}s"),
            120..7_200 => format!("{}m", seconds / 60),
            7_200..172_800 => format!("{}h", seconds / 3_600),
            _ => format!("{}d", seconds / 86_400),
        }
    }
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Status of a condition; nothing where it is absent.
fn truth(conditions: &[Condition], kind: ConditionType) -> String {
    conditions.iter().find(|c| c.type_ == kind.as_str()).map(|c| c.status.clone()).unwrap_or_default()
}

/// Whether a policy names a link.
fn uses(policy: &MirrorPolicy, link: &str, links: &[ClusterLink]) -> bool {
    let refs = &policy.spec.links;
    if let Some(names) = &refs.names {
        return names.iter().any(|name| name == link);
    }
    let labels = links.iter().find(|l| name(&l.metadata) == link).and_then(|l| l.metadata.labels.clone());
    let selector = refs.selector.as_ref().and_then(|s| select::selector(Some(s), "spec.links.selector").ok());
    selector.is_some_and(|s| s.matches(&labels.unwrap_or_default()))
}

/// Whether a binding describes a gateway of that link.
fn leads_to(binding: &GatewayBinding, link: &str) -> bool {
    binding.spec.import.as_ref().is_some_and(|import| import.link_ref.name == link)
}

/// Adds the conditions that are not as they should be; and says so where nobody has looked yet.
fn add_problems(
    overview: &mut Overview,
    object: &str,
    meta: &ObjectMeta,
    observed: Option<i64>,
    conditions: &[Condition],
) {
    if observed != meta.generation {
        overview.problems.push(Problem {
            object: object.to_owned(),
            condition: String::new(),
            status: String::new(),
            reason: String::new(),
            message: "the controller has not looked at the latest spec yet; is it running?".to_owned(),
        });
    }
    overview.problems.extend(conditions.iter().filter(|c| !is_good(c)).map(|c| Problem {
        object: object.to_owned(),
        condition: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
    }));
}

/// Stalled, Reconciling and DeletionHeld are there only to say that something is not good.
fn is_good(condition: &Condition) -> bool {
    let bad = [ConditionType::Stalled, ConditionType::Reconciling, ConditionType::DeletionHeld];
    let wanted = if bad.iter().any(|kind| kind.as_str() == condition.type_) { "False" } else { "True" };
    condition.status == wanted
}

/// The tables, those that are not empty.
fn render(overview: &Overview) -> String {
    if overview.links.is_empty() && overview.policies.is_empty() && overview.bindings.is_empty() {
        return "there are no links, policies or bindings; make a link with: heliostat link NAME --remote-context C --apply\n"
            .to_owned();
    }
    let count = |n: u32| n.to_string();
    let links = table(
        ["LINK", "READY", "CONNECTED", "SEEN", "MIRRORED", "SKIPPED", "CONFLICTED", "VERSION", "AGE"],
        overview.links.iter().map(|l| {
            let name = [l.name.clone(), l.ready.clone(), l.connected.clone()];
            let counts = [count(l.seen), count(l.mirrored), count(l.skipped), count(l.conflicted)];
            join(name, counts, [l.version.clone(), l.age.clone()])
        }),
    );
    let policies = table(
        ["POLICY", "READY", "MATCHED", "MIRRORED", "SKIPPED", "CONFLICTED", "AGE"],
        overview.policies.iter().map(|p| {
            let counts = [count(p.matched), count(p.mirrored), count(p.skipped), count(p.conflicted)];
            join([p.name.clone(), p.ready.clone()], counts, [p.age.clone()])
        }),
    );
    let bindings = table(
        ["BINDING", "READY", "ROUTING", "SIDE", "ADDRESSES", "AGE"],
        overview.bindings.iter().map(|b| {
            let side = b.side.to_owned();
            [b.name.clone(), b.ready.clone(), b.routing.clone(), side, b.addresses.join(","), b.age.clone()]
        }),
    );
    let problems = table(
        ["NOT GOOD", "CONDITION", "STATUS", "REASON", "MESSAGE"],
        overview
            .problems
            .iter()
            .map(|p| [p.object.clone(), p.condition.clone(), p.status.clone(), p.reason.clone(), p.message.clone()]),
    );
    let failures = table(
        ["FAILURES OF", "LINK", "SERVICE", "REASON", "MESSAGE"],
        overview
            .failures
            .iter()
            .map(|f| [f.object.clone(), f.link.clone(), f.service.clone(), f.reason.clone(), f.message.clone()]),
    );
    let filled = [
        (links, overview.links.is_empty()),
        (policies, overview.policies.is_empty()),
        (bindings, overview.bindings.is_empty()),
        (problems, overview.problems.is_empty()),
        (failures, overview.failures.is_empty()),
    ];
    let filled: Vec<String> = filled.into_iter().filter(|(_, empty)| !empty).map(|(table, _)| table).collect();
    filled.join("\n")
}

/// Cells from three groups.
fn join<const A: usize, const B: usize, const C: usize, const N: usize>(
    a: [String; A],
    b: [String; B],
    c: [String; C],
) -> [String; N] {
    let mut cells = a.into_iter().chain(b).chain(c);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn condition(kind: &str, status: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": "Because", "message": "wo\u{1b}[1mrds",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    fn link(name: &str, conditions: &[Value]) -> ClusterLink {
        serde_json::from_value(json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
            "metadata": {"name": name, "generation": 1, "labels": {"zone": name}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"kubeconfigSecretRef": {"name": "s"}},
            "status": {
                "observedGeneration": 1, "conditions": conditions, "serverVersion": "v1.36.0",
                "services": {"seen": 3, "mirrored": 2, "skipped": 1},
            },
        }))
        .unwrap()
    }

    fn policy(name: &str, links: Value) -> MirrorPolicy {
        serde_json::from_value(json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
            "metadata": {"name": name, "namespace": "shop", "generation": 2},
            "spec": {"links": links},
            "status": {"observedGeneration": 1, "failures": [
                {"link": "east", "namespace": "shop", "name": "books", "reason": "NoRoute", "message": "no way"},
                {"link": "west", "namespace": "shop", "name": "pens", "reason": "NoRoute", "message": "no way"},
            ]},
        }))
        .unwrap()
    }

    fn overview(only: Option<&str>) -> Overview {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let good = [condition("Ready", "True"), condition("Connected", "True")];
        let bad = [condition("Stalled", "True"), condition("Ready", "False"), condition("DeletionHeld", "True")];
        let links = [link("east", &good), link("west", &bad)];
        let policies = [
            policy("all", json!({"names": ["east"]})),
            policy("zones", json!({"selector": {"matchLabels": {"zone": "west"}}})),
        ];
        Reader { now, only }.overview(&links, &policies, &[])
    }

    #[test]
    fn what_is_not_good_is_listed_and_what_is_good_is_not() {
        let problems: Vec<String> =
            overview(None).problems.iter().map(|p| format!("{} {}={}", p.object, p.condition, p.status)).collect();
        assert_eq!(
            problems,
            [
                "ClusterLink west Stalled=True",
                "ClusterLink west Ready=False",
                "ClusterLink west DeletionHeld=True",
                "MirrorPolicy shop/all =",
                "MirrorPolicy shop/zones =",
            ]
        );
    }

    #[test]
    fn one_link_shows_what_uses_it_and_only_its_failures() {
        let west = overview(Some("west"));
        assert_eq!(west.links.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["west"]);
        assert_eq!(west.policies.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["shop/zones"]);
        assert_eq!(west.failures.iter().map(|f| f.service.as_str()).collect::<Vec<_>>(), ["shop/pens"]);
    }

    #[test]
    fn the_tables_read_well_and_carry_no_escapes() {
        let text = render(&overview(Some("east")));
        assert_eq!(
            text,
            "\
LINK   READY   CONNECTED   SEEN   MIRRORED   SKIPPED   CONFLICTED   VERSION   AGE
east   True    True        3      2          1         0            v1.36.0   60m

POLICY     READY   MATCHED   MIRRORED   SKIPPED   CONFLICTED   AGE
shop/all   -       0         0          0         0            -

NOT GOOD                CONDITION   STATUS   REASON   MESSAGE
MirrorPolicy shop/all   -           -        -        the controller has not looked at the latest spec yet; is it running?

FAILURES OF             LINK   SERVICE      REASON    MESSAGE
MirrorPolicy shop/all   east   shop/books   NoRoute   no way
"
        );
        assert!(!render(&overview(None)).contains('\u{1b}'));
        assert!(render(&Overview::default()).contains("heliostat link NAME"));
    }
}
