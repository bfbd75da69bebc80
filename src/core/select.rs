//! Why is this origin mirrored, or not? An ordered chain of small checks; each refusal is a
//! reason and a message that go verbatim into status.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use super::{
    link::Link,
    model::{Key, LocalNamespace, Map, Origin, OriginPort, OriginType},
    name::{self, Variables},
};
use crate::api::{
    MirrorPolicy, Reason,
    names::{MANAGED_BY_LABEL, MANAGER, PROBE_LABEL, PROBE_VALUE},
    policy::{DEFAULT_NAMESPACE, LinkRefs, Way},
};

/// Why not, as it goes into status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Reason, one word.
    pub reason: Reason,
    /// What, why and what to do next.
    pub message: String,
    /// It keeps nothing from working: what to know of something that is as it was asked for. Where
    /// it holds for many, status lists it once, and no Event tells it.
    pub advice: bool,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), advice: false }
    }

    /// An advice.
    pub fn advice(reason: Reason, message: impl Into<String>) -> Self {
        Self { advice: true, ..Self::new(reason, message) }
    }
}

/// Which links a policy names.
#[derive(Clone, Debug)]
pub enum LinkChoice {
    /// These.
    Names(BTreeSet<String>),
    /// Those with such labels.
    Matching(Selector),
}

/// Whether such a Service answers probes: it is there for Heliostat alone and never mirrored.
pub fn is_probe(labels: &Map) -> bool {
    labels.get(PROBE_LABEL).is_some_and(|value| value == PROBE_VALUE)
}

/// A policy's spec, checked once.
#[derive(Clone, Debug)]
pub struct CheckedPolicy {
    /// Which links.
    pub links: LinkChoice,
    /// Which of their Services.
    pub selector: Selector,
    /// Which remote namespaces; none: all but kube-*.
    pub namespaces: Option<BTreeSet<String>>,
    /// Port names or numbers; empty: all.
    pub ports: BTreeSet<String>,
    /// Ways, in order.
    pub via: Vec<Way>,
    /// Bindings, in order; empty: all, by name.
    pub bindings: Vec<String>,
    /// Template of the mirror's name.
    pub name: String,
    /// Where the mirrors go.
    pub target: TargetNamespace,
    /// Label keys to copy.
    pub labels: Vec<String>,
    /// Annotation keys to copy.
    pub annotations: Vec<String>,
    /// In the controller's own namespace: may import into any.
    pub central: bool,
    /// When it was made: the older policy wins a name.
    pub created: Option<Timestamp>,
}

/// Where the mirrors of a policy go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetNamespace {
    /// Into the policy's own namespace.
    Own(String),
    /// By template.
    Template(String),
}

/// Turns a label selector of the API into one that matches; says what is wrong with it.
pub fn selector(of: Option<&LabelSelector>, field: &str) -> Result<Selector, Refusal> {
    match of {
        None => Ok(Selector::default()),
        Some(selector) => Selector::try_from(selector.clone())
            .map_err(|error| Refusal::new(Reason::InvalidSpec, format!("{field}: {error}; correct the selector"))),
    }
}

impl CheckedPolicy {
    /// Checks what the schema cannot know.
    pub fn new(policy: &MirrorPolicy, controller_namespace: &str) -> Result<Self, Refusal> {
        let own = policy.metadata.namespace.clone().unwrap_or_default();
        let central = own == controller_namespace;
        let spec = &policy.spec;
        let invalid = |message: String| Refusal::new(Reason::InvalidSpec, message);
        let links = match &spec.links {
            LinkRefs { names: Some(names), selector: None } => LinkChoice::Names(names.iter().cloned().collect()),
            LinkRefs { names: None, selector: Some(of) } => {
                LinkChoice::Matching(selector(Some(of), "spec.links.selector")?)
            }
            _ => return Err(invalid("spec.links: set exactly one of names and selector".into())),
        };
        name::check_template(&spec.mirror.name, true).map_err(|e| invalid(format!("spec.mirror.name: {e}")))?;
        name::check_template(&spec.mirror.namespace, false)
            .map_err(|e| invalid(format!("spec.mirror.namespace: {e}")))?;
        let target = match (central, spec.mirror.namespace.as_str()) {
            (true, template) => TargetNamespace::Template(template.to_owned()),
            (false, DEFAULT_NAMESPACE) => TargetNamespace::Own(own.clone()),
            (false, text) if text == own => TargetNamespace::Own(own.clone()),
            (false, other) => {
                return Err(invalid(format!(
                    "spec.mirror.namespace: {other:?} is only allowed in the controller's namespace {controller_namespace}; a policy in {own} mirrors into {own}, so leave the field out"
                )));
            }
        };
        let namespaces = match (spec.services.namespaces.as_slice(), central) {
            ([], true) => None,
            ([], false) => Some(BTreeSet::from([own])),
            (list, _) => Some(list.iter().cloned().collect()),
        };
        Ok(Self {
            links,
            selector: selector(spec.services.selector.as_ref(), "spec.services.selector")?,
            namespaces,
            ports: spec.services.ports.iter().cloned().collect(),
            via: spec.via.clone(),
            bindings: spec.bindings.clone(),
            name: spec.mirror.name.clone(),
            target,
            labels: spec.mirror.labels.clone(),
            annotations: spec.mirror.annotations.clone(),
            central,
            created: policy.metadata.creation_timestamp.as_ref().map(|t| t.0),
        })
    }

    /// Whether the policy names that link.
    pub fn names(&self, name: &str, link: &Link) -> bool {
        match &self.links {
            LinkChoice::Names(names) => names.contains(name),
            LinkChoice::Matching(selector) => {
                selector.matches(link.object.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
            }
        }
    }

    /// Whether the policy selects origins of that remote namespace.
    pub fn wants_namespace(&self, namespace: &str) -> bool {
        match &self.namespaces {
            Some(names) => names.contains(namespace),
            None => !name::is_kube_namespace(namespace),
        }
    }

    /// Whether the policy selects that origin at all. What it does not select is not counted.
    pub fn matches(&self, key: &Key, labels: &Map) -> bool {
        !is_probe(labels) && self.wants_namespace(&key.namespace) && labels.selected_by(&self.selector)
    }

    /// The ports that the policy wants of an origin.
    pub fn wanted_ports<'a>(&self, origin: &'a Origin) -> Vec<&'a OriginPort> {
        let wanted = |p: &&OriginPort| {
            self.ports.is_empty() || self.ports.contains(p.name.as_str()) || self.ports.contains(&p.port.to_string())
        };
        origin.ports.iter().filter(wanted).collect()
    }

    /// Namespace and name of the mirror.
    pub fn target(&self, link: &str, origin: &Key) -> Result<Key, Refusal> {
        let variables = Variables { link, origin };
        let invalid = |message| Refusal::new(Reason::InvalidName, message);
        let name = variables.mirror_name(&self.name).map_err(invalid)?;
        let namespace = match &self.target {
            TargetNamespace::Own(namespace) => namespace.into(),
            TargetNamespace::Template(template) => variables.mirror_namespace(template).map_err(invalid)?.into(),
        };
        Ok(Key { namespace, name: name.into() })
    }
}

/// What the chain may look at besides policy and origin.
pub trait Surroundings {
    /// A namespace of this cluster.
    fn namespace(&self, name: &str) -> Option<&LocalNamespace>;
    /// The controller's own namespace.
    fn controller_namespace(&self) -> &str;
}

/// A check of the chain: its name for `explain`, and what it looks at.
type Check = (&'static str, fn(&CheckedPolicy, &Key, &Origin) -> Result<(), Refusal>);

/// Checks of the origin itself, in order.
pub const ORIGIN_CHECKS: &[Check] = &[
    ("the origin can be understood", understood),
    ("the origin is not the API server's own Service", not_the_api),
    ("the origin is not itself a mirror", not_a_mirror),
    ("the origin's type can be mirrored", type_supported),
    ("the origin has a port that the policy wants", has_wanted_ports),
];

fn understood(_: &CheckedPolicy, key: &Key, origin: &Origin) -> Result<(), Refusal> {
    match &origin.malformed {
        None => Ok(()),
        Some(why) => Err(Refusal::new(
            Reason::UnsupportedValue,
            format!("{key} cannot be understood: {why}; correct the Service in the exporter"),
        )),
    }
}

fn not_the_api(_: &CheckedPolicy, key: &Key, _: &Origin) -> Result<(), Refusal> {
    if key.namespace == "default" && key.name == "kubernetes" {
        return Err(Refusal::new(
            Reason::NamespaceNotAllowed,
            "default/kubernetes is a cluster's own API and never mirrored; narrow spec.services.selector",
        ));
    }
    Ok(())
}

fn not_a_mirror(_: &CheckedPolicy, key: &Key, origin: &Origin) -> Result<(), Refusal> {
    if origin.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGER) {
        return Err(Refusal::new(
            Reason::InvalidServiceType,
            format!("{key} is itself a mirror, and mirrors are not mirrored; link to its own cluster instead"),
        ));
    }
    Ok(())
}

fn type_supported(_: &CheckedPolicy, key: &Key, origin: &Origin) -> Result<(), Refusal> {
    if origin.kind == OriginType::ExternalName {
        return Err(Refusal::new(
            Reason::InvalidServiceType,
            format!("{key} is of type ExternalName, which has no endpoints to mirror; export the Service it points to"),
        ));
    }
    Ok(())
}

fn has_wanted_ports(policy: &CheckedPolicy, key: &Key, origin: &Origin) -> Result<(), Refusal> {
    if policy.wanted_ports(origin).is_empty() {
        let what = if origin.ports.is_empty() {
            "has no ports"
        } else {
            "has none of the ports in the policy's spec.services.ports"
        };
        return Err(Refusal::new(Reason::PortUnsupported, format!("{key} {what}; a mirror needs at least one")));
    }
    Ok(())
}

/// The mirror that a policy asks for from an origin that it matches; or why there is none.
pub fn admit(
    policy: &CheckedPolicy,
    link: &str,
    key: &Key,
    origin: &Origin,
    around: &dyn Surroundings,
) -> Result<Key, Refused> {
    for (_, check) in ORIGIN_CHECKS {
        check(policy, key, origin).map_err(|refusal| Refused { target: None, refusal })?;
    }
    let target = policy.target(link, key).map_err(|refusal| Refused { target: None, refusal })?;
    match namespace_open(&target, around) {
        Ok(()) => Ok(target),
        Err(refusal) => Err(Refused { target: Some(target), refusal }),
    }
}

/// A refusal, and the mirror that it would have been, where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The mirror.
    pub target: Option<Key>,
    /// Why not.
    pub refusal: Refusal,
}

/// Whether mirrors may be made in the target's namespace.
pub fn namespace_open(target: &Key, around: &dyn Surroundings) -> Result<(), Refusal> {
    let namespace = &target.namespace;
    if name::is_kube_namespace(namespace) || namespace == around.controller_namespace() {
        return Err(Refusal::new(
            Reason::NamespaceNotAllowed,
            format!(
                "mirrors may not go into {namespace}; choose another namespace by the policy's spec.mirror.namespace or spec.services.namespaces"
            ),
        ));
    }
    match around.namespace(namespace) {
        None => Err(Refusal::new(
            Reason::NamespaceMissing,
            format!("namespace {namespace} does not exist here; create it, the mirror {target} follows"),
        )),
        Some(LocalNamespace { terminating: true, .. }) => Err(Refusal::new(
            Reason::NamespaceTerminating,
            format!("namespace {namespace} is being deleted here; the mirror {target} follows when it is made anew"),
        )),
        Some(_) => Ok(()),
    }
}
