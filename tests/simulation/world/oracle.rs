//! What must be so in the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{World, scene::DECOYS};
use crate::server::Server;

/// What users see of the importer, but for what differs from cluster to cluster.
pub(crate) fn picture(importer: &Server) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for plural in ["services", "endpointslices"] {
        for ((namespace, name), object) in importer.all(plural) {
            if !matches!(namespace.as_str(), "default" | "kube-system") {
                all.insert(format!("{plural} {namespace}/{name}"), strip(object));
            }
        }
    }
    for (_, link) in importer.all("clusterlinks") {
        let told = json!([conditions(&link), link["status"]["services"]]);
        all.insert(format!("link {}", link["metadata"]["name"]), told);
    }
    for ((namespace, name), policy) in importer.all("mirrorpolicies") {
        all.insert(format!("policy {namespace}/{name}"), json!([conditions(&policy), policy["status"]["services"]]));
    }
    all
}

fn conditions(object: &Value) -> Vec<String> {
    // That nothing is held any more is said only where something was.
    let over = |condition: &&Value| condition["type"] == "DeletionHeld" && condition["status"] == "False";
    let all = object["status"]["conditions"].as_array().into_iter().flatten().filter(|condition| !over(condition));
    all.map(|condition| format!("{}={}/{}", condition["type"], condition["status"], condition["reason"])).collect()
}

fn strip(mut object: Value) -> Value {
    let metadata = &mut object["metadata"];
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        metadata.as_object_mut().unwrap().remove(field);
    }
    for owner in metadata["ownerReferences"].as_array_mut().into_iter().flatten() {
        owner["uid"] = Value::Null;
    }
    for annotation in ["heliostat.dev/link-uid", "endpoints.kubernetes.io/last-change-trigger-time"] {
        if let Some(all) = metadata["annotations"].as_object_mut() {
            all.remove(annotation);
        }
    }
    if metadata["annotations"].as_object().is_some_and(serde_json::Map::is_empty) || metadata["annotations"].is_null() {
        metadata.as_object_mut().unwrap().remove("annotations");
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = Value::Null;
    }
    if object["status"].is_null() {
        object.as_object_mut().unwrap().remove("status");
    }
    object
}

/// In what two pictures differ.
pub(crate) fn differences(is: &BTreeMap<String, Value>, should: &BTreeMap<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    for key in is.keys().chain(should.keys()).collect::<BTreeSet<_>>() {
        differ(key, is.get(key).unwrap_or(&Value::Null), should.get(key).unwrap_or(&Value::Null), &mut all);
    }
    all
}

fn differ(path: &str, is: &Value, should: &Value, all: &mut Vec<String>) {
    if let (Value::Object(is), Value::Object(should)) = (is, should) {
        for name in is.keys().chain(should.keys()).collect::<BTreeSet<_>>() {
            let (is, should) = (is.get(name).unwrap_or(&Value::Null), should.get(name).unwrap_or(&Value::Null));
            differ(&format!("{path}.{name}"), is, should, all);
        }
    } else if is != should {
        all.push(format!("{path} is {is}, should be {should}"));
    }
}

/// Versions of what is somebody else's.
pub(crate) fn decoys(importer: &Server) -> Vec<(String, Value)> {
    let version = |(plural, namespace, name): (&str, &str, &str)| {
        let object = importer.read(plural, namespace, name).unwrap_or_default();
        (format!("{plural} {namespace}/{name}"), object["metadata"]["resourceVersion"].clone())
    };
    DECOYS.into_iter().map(version).collect()
}

/// What controllers write, but for Secrets and Events.
const WRITTEN: [&str; 7] =
    ["services", "endpointslices", "clusterlinks", "mirrorpolicies", "gatewaybindings", "tcproutes", "leases"];

/// A controller's write that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrote {
    /// `west`
    pub(crate) server: String,
    pub(crate) verb: String,
    /// `services`, `clusterlinks/status`
    pub(crate) kind: String,
    /// `shop/s0-east`
    pub(crate) name: String,
    pub(crate) line: String,
}

/// Everything that controllers wrote since a line of the trace, but for elections, certificates and
/// Events.
pub(crate) fn written(world: &World, since: usize) -> Vec<Wrote> {
    world.trace.read(since, wrote)
}

fn wrote(line: &str) -> Option<Wrote> {
    let mut words = line.split(' ');
    let (_at, server, who, verb, path) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let code = words.find(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()))?;
    let ours = who != "administrator" && matches!(verb, "create" | "patch" | "delete");
    let segments: Vec<&str> = path.split('/').collect();
    let plural = WRITTEN.into_iter().find(|plural| segments.contains(plural))?;
    let election = plural == "leases" && (segments.last() == Some(&"heliostat") || !line.contains('{'));
    let status = if segments.last() == Some(&"status") { "/status" } else { "" };
    (ours && !election && code.starts_with('2')).then(|| Wrote {
        server: server.to_owned(),
        verb: verb.to_owned(),
        kind: format!("{plural}{status}"),
        name: name_of(&segments, verb, line),
        line: line.to_owned(),
    })
}

/// Namespace and name: from the path, or from the body of a creation.
fn name_of(segments: &[&str], verb: &str, line: &str) -> String {
    if verb != "create" {
        return segments.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("/");
    }
    let body: Value = line.find('{').and_then(|at| serde_json::from_str(&line[at..]).ok()).unwrap_or_default();
    format!("{} {}", body["metadata"]["namespace"], body["metadata"]["name"])
}

/// How often Services were made and deleted. Slices are not counted: how many a mirror has on its
/// way from one state to another depends on what comes first.
pub(crate) fn counts(wrote: &[Wrote]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for write in wrote.iter().filter(|write| write.verb != "patch" && write.kind == "services") {
        *all.entry(write.verb.clone()).or_default() += 1;
    }
    all
}

/// What was made or deleted more than once.
pub(crate) fn twice(wrote: &[Wrote]) -> Vec<String> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for write in wrote.iter().filter(|write| write.verb != "patch") {
        *all.entry(format!("{} {} {}", write.verb, write.kind, write.name)).or_default() += 1;
    }
    all.into_iter().filter(|(_, times)| *times > 1).map(|(what, times)| format!("{what}: {times} times")).collect()
}
