//! The checks of this cluster: definitions, controller, pod ranges, links. Reads once; what a user may
//! not read is a warning, a cluster that cannot be reached an error.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::{
    api::apps::v1::Deployment, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Api, ResourceExt as _, api::ListParams};

use super::book::{Book, Check, Verdict};
use crate::{
    api::{ClusterLink, ConditionType, crds},
    cli::{connect::Cluster, output::Progress, survey::ControllerFlags},
    cluster::wire::{LocalNodeWire, Wire},
    core::model::LocalNode,
};

const CRDS: &str = "definitions are installed and of this version";
const CONTROLLER: &str = "the controller is ready";
const RANGES: &str = "ranges of pods are known";
const LINKS: &str = "links are ready";

/// What the controller's Deployments are found by.
const CONTROLLER_LABEL: &str = "app.kubernetes.io/name=heliostat";

/// What was read; or in words why not.
struct Facts {
    definitions: BTreeMap<String, Result<Option<CustomResourceDefinition>, String>>,
    deployments: Result<Vec<Deployment>, String>,
    nodes: Result<Vec<LocalNode>, String>,
    links: Result<Vec<ClusterLink>, String>,
}

/// Makes the checks.
///
/// # Errors
/// The cluster cannot be reached.
pub(super) async fn check(
    cluster: &Cluster,
    flags: &ControllerFlags,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Check>> {
    progress.wait("reading this cluster");
    let wanted = crds()?;
    let facts = read(cluster, flags, &wanted).await?;
    let mut book = Book::default();
    definitions(&mut book, &wanted, &facts);
    controller(&mut book, &facts.deployments, &flags.controller_namespace);
    ranges(&mut book, &facts, &flags.cluster_cidrs);
    links(&mut book, &facts.links);
    Ok(book.finish())
}

async fn read(
    cluster: &Cluster,
    flags: &ControllerFlags,
    wanted: &[CustomResourceDefinition],
) -> anyhow::Result<Facts> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut definitions = BTreeMap::new();
    for crd in wanted {
        let name = crd.name_any();
        let found = told(cluster, &format!("read CustomResourceDefinition {name}"), api.get_opt(&name).await)?;
        definitions.insert(name, found);
    }
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &flags.controller_namespace);
    let deployments = deployments.list(&ListParams::default().labels(CONTROLLER_LABEL)).await;
    let nodes: Api<LocalNodeWire> = Api::all(cluster.client.clone());
    let nodes = told(cluster, "list nodes", nodes.list(&ListParams::default()).await)?;
    let links: Api<ClusterLink> = Api::all(cluster.client.clone());
    let links = told(cluster, "list clusterlinks", links.list(&ListParams::default()).await)?;
    Ok(Facts {
        definitions,
        deployments: told(cluster, "list deployments", deployments)?.map(|list| list.items),
        nodes: nodes.map(|list| list.items.into_iter().filter_map(Wire::into_named).map(|(_, node)| node).collect()),
        links: links.map(|list| list.items),
    })
}

/// What the API server refuses is told in words; that it does not answer, or does not know the user, ends
/// it all. No listing of Kubernetes' own kinds is not found, only one of ours.
fn told<T>(cluster: &Cluster, doing: &str, answer: kube::Result<T>) -> anyhow::Result<Result<T, String>> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Err(cluster.without_crds().to_string())),
        Err(kube::Error::Api(status)) if status.code != 401 => {
            Ok(Err(cluster.failed(doing, kube::Error::Api(status)).to_string()))
        }
        Err(error) => Err(cluster.failed(doing, error)),
    }
}

fn definitions(book: &mut Book, wanted: &[CustomResourceDefinition], facts: &Facts) {
    for crd in wanted {
        let name = crd.name_any();
        match facts.definitions.get(&name) {
            Some(Ok(found)) => book.hold(CRDS, &name, definition(crd, found.as_ref())),
            Some(Err(why)) => book.add(CRDS, &name, Verdict::Warn, why),
            None => book.add(CRDS, &name, Verdict::Warn, "it was not asked for"),
        }
    }
}

fn definition(wanted: &CustomResourceDefinition, found: Option<&CustomResourceDefinition>) -> Result<String, String> {
    const APPLY: &str = "apply this version's: heliostat crds | kubectl apply -f -";
    let found = found.ok_or_else(|| format!("it is not there; {APPLY}"))?;
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if !conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True") {
        return Err("the API server has not established it; see its conditions by kubectl describe crd".to_owned());
    }
    for version in &wanted.spec.versions {
        let name = &version.name;
        match found.spec.versions.iter().find(|there| there.name == *name && there.served) {
            None => return Err(format!("it does not serve {name}; {APPLY}")),
            Some(there) if there.schema != version.schema => {
                return Err(format!(
                    "its schema of {name} is not that of heliostat {}; {APPLY}",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            Some(_) => {}
        }
    }
    Ok(wanted.spec.versions.iter().map(|version| version.name.as_str()).collect::<Vec<_>>().join(", "))
}

fn controller(book: &mut Book, deployments: &Result<Vec<Deployment>, String>, namespace: &str) {
    let deployments = match deployments {
        Ok(found) => found,
        Err(why) => return book.add(CONTROLLER, "", Verdict::Warn, why),
    };
    if deployments.is_empty() {
        let detail = format!(
            "there is no Deployment labelled {CONTROLLER_LABEL} in namespace {namespace}; apply config/install.yaml, or name the controller's namespace by --controller-namespace"
        );
        return book.add(CONTROLLER, "", Verdict::Fail, detail);
    }
    for deployment in deployments {
        let subject = format!("Deployment {namespace}/{}", deployment.name_any());
        book.hold(CONTROLLER, &subject, ready(deployment, namespace));
    }
}

fn ready(deployment: &Deployment, namespace: &str) -> Result<String, String> {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or(0);
    let current = status.observed_generation >= deployment.metadata.generation;
    let told = format!("{ready} of {wanted} pods ready");
    if wanted > 0 && ready >= wanted && current {
        return Ok(told);
    }
    Err(format!("{told}; see kubectl -n {namespace} describe deployment {} and its pods' logs", deployment.name_any()))
}

fn ranges(book: &mut Book, facts: &Facts, by_flag: &[IpNet]) {
    let by_flag = by_flag.iter().map(ToString::to_string).chain(started_with(&facts.deployments));
    let mut known: Vec<String> = by_flag.collect();
    match &facts.nodes {
        Ok(nodes) => known.extend(nodes.iter().flat_map(|node| &node.pod_cidrs).map(ToString::to_string)),
        Err(why) if known.is_empty() => return book.add(RANGES, "", Verdict::Warn, why),
        Err(_) => {}
    }
    if known.is_empty() {
        let detail = "no node has spec.podCIDRs and the controller was not told by --cluster-cidrs: an exporter could name addresses of pods here. Put the range that the CNI gives pods into the Deployment's arguments: --cluster-cidrs CIDR";
        return book.add(RANGES, "", Verdict::Warn, detail);
    }
    known.sort();
    known.dedup();
    let more = known.len().saturating_sub(4);
    known.truncate(4);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    book.add(RANGES, "", Verdict::Ok, known.join(", ") + &more);
}

/// The values of --cluster-cidrs in the Deployments.
fn started_with(deployments: &Result<Vec<Deployment>, String>) -> Vec<String> {
    const FLAG: &str = "--cluster-cidrs";
    let mut found = Vec::new();
    let pods = deployments.iter().flatten().filter_map(|d| d.spec.as_ref()?.template.spec.as_ref());
    for container in pods.flat_map(|pod| &pod.containers) {
        let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
        while let Some(word) = words.next() {
            let value = match word.strip_prefix(FLAG) {
                Some("") => words.next().map(String::as_str),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            found.extend(value.into_iter().flat_map(|list| list.split(',')).map(str::to_owned));
        }
    }
    found.retain(|text| text.parse::<IpNet>().is_ok());
    found
}

fn links(book: &mut Book, links: &Result<Vec<ClusterLink>, String>) {
    let links = match links {
        Ok(links) => links,
        Err(why) => return book.add(LINKS, "", Verdict::Warn, why),
    };
    if links.is_empty() {
        let detail = "there are none; make one with: heliostat link NAME --remote-context C --apply";
        return book.add(LINKS, "", Verdict::Note, detail);
    }
    for link in links {
        let name = link.name_any();
        if link.spec.suspend {
            book.add(LINKS, &name, Verdict::Note, "spec.suspend is set: everything stays as it is");
        } else {
            let held = condition(link, ConditionType::DeletionHeld).filter(|c| c.status == "True");
            match (link_ready(link), held) {
                // It works, and somebody should look.
                (Ok(_), Some(held)) => {
                    book.add(LINKS, &name, Verdict::Warn, format!("{}: {}", held.reason, held.message));
                }
                (ready, _) => book.hold(LINKS, &name, ready),
            }
        }
    }
}

fn condition(link: &ClusterLink, kind: ConditionType) -> Option<&Condition> {
    let mut conditions = link.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|c| c.type_ == kind.as_str())
}

fn link_ready(link: &ClusterLink) -> Result<String, String> {
    let status = link.status.clone().unwrap_or_default();
    if status.observed_generation != link.metadata.generation {
        return Err("the controller has not looked at the latest spec yet; is it running?".to_owned());
    }
    match condition(link, ConditionType::Ready) {
        Some(c) if c.status == "True" => Ok(status.server_version.unwrap_or_default()),
        Some(c) => Err(format!("{}: {}", c.reason, c.message)),
        None => Err("the controller has said nothing of it yet; is it running?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn established() -> CustomResourceDefinition {
        let mut crd = serde_json::to_value(&crds().unwrap()[0]).unwrap();
        crd["status"] = json!({
            "acceptedNames": {"kind": "ClusterLink", "plural": "clusterlinks"},
            "conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1alpha1"],
        });
        serde_json::from_value(crd).unwrap()
    }

    #[test]
    fn a_definition_must_be_there_established_and_of_this_version() {
        let wanted = &crds().unwrap()[0];
        let mut found = established();
        assert_eq!(definition(wanted, Some(&found)), Ok("v1alpha1".to_owned()));
        assert!(definition(wanted, None).unwrap_err().contains("heliostat crds | kubectl apply"));

        found.spec.versions[0].schema = None;
        assert!(definition(wanted, Some(&found)).unwrap_err().contains("schema of v1alpha1"));
        found.spec.versions[0].served = false;
        assert!(definition(wanted, Some(&found)).unwrap_err().contains("does not serve v1alpha1"));
        found.status = None;
        assert!(definition(wanted, Some(&found)).unwrap_err().contains("not established"));
    }

    fn deployment(args: &[&str], ready: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "heliostat", "generation": 2},
            "spec": {
                "replicas": 2, "selector": {},
                "template": {"spec": {"containers": [{"name": "heliostat", "args": args}]}},
            },
            "status": {"observedGeneration": 2, "readyReplicas": ready},
        }))
        .unwrap()
    }

    fn made(make: impl FnOnce(&mut Book)) -> (Verdict, String) {
        let mut book = Book::default();
        make(&mut book);
        let checks = book.finish();
        assert_eq!(checks.len(), 1, "{checks:?}");
        (checks[0].verdict, checks[0].detail.clone())
    }

    #[test]
    fn the_controller_is_ready_when_all_its_pods_are() {
        let of = |found| made(|book| controller(book, &found, "system"));
        assert_eq!(of(Ok(vec![deployment(&[], 2)])), (Verdict::Ok, "2 of 2 pods ready".to_owned()));
        assert_eq!(of(Ok(vec![deployment(&[], 1)])).0, Verdict::Fail);
        assert_eq!(of(Ok(vec![])).0, Verdict::Fail);
        assert_eq!(of(Err("forbidden".to_owned())), (Verdict::Warn, "forbidden".to_owned()));
        let mut rolling = deployment(&[], 2);
        rolling.metadata.generation = Some(3);
        assert_eq!(of(Ok(vec![rolling])).0, Verdict::Fail);
    }

    fn facts(nodes: Result<Vec<LocalNode>, String>, args: &[&str]) -> Facts {
        let deployments = Ok(vec![deployment(args, 2)]);
        Facts { definitions: BTreeMap::new(), deployments, nodes, links: Ok(vec![]) }
    }

    fn node(pod_cidrs: &[&str]) -> LocalNode {
        LocalNode { addresses: vec![], pod_cidrs: pod_cidrs.iter().map(|c| c.parse().unwrap()).collect() }
    }

    #[test]
    fn it_warns_when_no_range_of_pods_is_known() {
        let of = |facts: Facts, flag: &[IpNet]| made(|book| ranges(book, &facts, flag));
        let (verdict, detail) = of(facts(Ok(vec![node(&[])]), &["controller"]), &[]);
        assert!(verdict == Verdict::Warn && detail.contains("--cluster-cidrs"), "{detail}");
        let known = facts(Ok(vec![node(&["10.1.0.0/24"]), node(&["10.1.1.0/24"])]), &[]);
        assert_eq!(of(known, &[]), (Verdict::Ok, "10.1.0.0/24, 10.1.1.0/24".to_owned()));
        for args in [&["--cluster-cidrs", "10.9.0.0/16"][..], &["--cluster-cidrs=10.9.0.0/16"]] {
            assert_eq!(of(facts(Ok(vec![node(&[])]), args), &[]), (Verdict::Ok, "10.9.0.0/16".to_owned()));
        }
        assert_eq!(of(facts(Ok(vec![]), &["--cluster-cidrs-x"]), &[]).0, Verdict::Warn);
        let flag = ["10.8.0.0/16".parse().unwrap()];
        assert_eq!(of(facts(Err("forbidden".to_owned()), &[]), &flag), (Verdict::Ok, "10.8.0.0/16".to_owned()));
        assert_eq!(of(facts(Err("forbidden".to_owned()), &[]), &[]), (Verdict::Warn, "forbidden".to_owned()));
    }

    fn link(generation: i64, conditions: Value, suspend: bool) -> ClusterLink {
        serde_json::from_value(json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "ClusterLink",
            "metadata": {"name": "east", "generation": generation},
            "spec": {"kubeconfigSecretRef": {"name": "s"}, "suspend": suspend},
            "status": {"observedGeneration": 1, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_link_is_ready_when_the_controller_says_so_of_its_latest_spec() {
        let of = |found| made(|book| links(book, &Ok(vec![found]))).0;
        let ready = |status: &str| {
            json!([{
                "type": "Ready", "status": status, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }])
        };
        assert_eq!(of(link(1, ready("True"), false)), Verdict::Ok);
        assert_eq!(of(link(1, ready("False"), false)), Verdict::Fail);
        assert_eq!(of(link(2, ready("True"), false)), Verdict::Fail);
        assert_eq!(of(link(1, json!([]), false)), Verdict::Fail);
        assert_eq!(of(link(1, ready("False"), true)), Verdict::Note);
        assert_eq!(made(|book| links(book, &Ok(vec![]))).0, Verdict::Note);
        let mut held = ready("True");
        held.as_array_mut().unwrap().push(json!({
            "type": "DeletionHeld", "status": "True", "reason": "DeletionHeld", "message": "6 of 10",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }));
        assert_eq!(of(link(1, held, false)), Verdict::Warn, "works, but somebody should look");
    }
}
