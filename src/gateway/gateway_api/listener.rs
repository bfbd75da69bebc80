//! The listeners of a Gateway: its own and those of all ListenerSets, and which routes attach to
//! which.

use std::fmt;

use serde_json::Value;

use super::{GROUP, LISTENER_SET};
use crate::core::{
    export::{
        object::{Kind, list},
        provider::Surroundings,
    },
    model::{Key, Protocol},
};

/// A listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener<'a> {
    /// The Gateway.
    pub(super) gateway: &'a Key,
    /// The ListenerSet that it is of; none: it is the Gateway's own.
    pub(super) set: Option<(&'a Key, &'a Value)>,
    /// What it says.
    pub(super) spec: &'a Value,
}

impl fmt::Display for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.set {
            Some((set, _)) => write!(f, "listener {} of ListenerSet {set}", self.name()),
            None => write!(f, "listener {} of Gateway {}", self.name(), self.gateway),
        }
    }
}

/// Whether a listener takes routes of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    No,
    /// It selects namespaces by labels that are not known here; the route's status will tell.
    Unknown,
}

impl<'a> Listener<'a> {
    pub(super) fn name(&self) -> &'a str {
        self.spec["name"].as_str().unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        self.spec["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
    }

    pub(super) fn protocol(&self) -> &'a str {
        self.spec["protocol"].as_str().unwrap_or_default()
    }

    /// What a route of its name says in `parentRefs`, or another writes there.
    pub(super) fn parent(&self) -> (&'static str, &'a Key) {
        self.set.map_or(("Gateway", self.gateway), |(set, _)| ("ListenerSet", set))
    }

    pub(super) fn transport(&self) -> Protocol {
        if self.protocol() == "UDP" { Protocol::Udp } else { Protocol::Tcp }
    }

    /// The transports that nobody else can have on its port. HTTPS may mean HTTP/3 too.
    pub(super) fn transports(&self) -> Vec<Protocol> {
        match self.protocol() {
            "UDP" => vec![Protocol::Udp],
            "HTTPS" => vec![Protocol::Tcp, Protocol::Udp],
            _ => vec![Protocol::Tcp],
        }
    }

    /// TLS that it does not look into.
    pub(super) fn passes_tls_through(&self) -> bool {
        self.protocol() == "TLS" && self.spec["tls"]["mode"] == "Passthrough"
    }

    /// How closely its hostname fits a name; none: not at all.
    pub(super) fn fits(&self, name: &str) -> Option<usize> {
        match self.spec["hostname"].as_str().unwrap_or_default() {
            "" => Some(0),
            hostname => {
                covers(hostname, name).then(|| if hostname.starts_with('*') { hostname.len() } else { usize::MAX })
            }
        }
    }

    /// Whether it takes routes of a kind from a namespace.
    pub(super) fn admits(&self, kind: Kind, namespace: &str) -> Admission {
        let allowed = &self.spec["allowedRoutes"];
        let names = |k: &Value| k["kind"] == kind.kind && k["group"].as_str().unwrap_or(GROUP) == GROUP;
        let kinds = list(&allowed["kinds"]);
        if !kinds.is_empty() && !kinds.iter().any(names) {
            return Admission::No;
        }
        let namespaces = &allowed["namespaces"];
        match namespaces["from"].as_str().unwrap_or("Same") {
            "All" => Admission::Yes,
            "Same" if self.parent().1.namespace == namespace => Admission::Yes,
            "Selector" => selects(&namespaces["selector"], namespace),
            _ => Admission::No,
        }
    }
}

/// Whether a selector over namespaces selects this one, by the label that they all have.
pub(super) fn selects(selector: &Value, namespace: &str) -> Admission {
    let labels = selector["matchLabels"].as_object().map(|labels| labels.iter().collect::<Vec<_>>());
    match labels.as_deref() {
        Some([(key, name)]) if key.as_str() == NAMESPACE_LABEL && list(&selector["matchExpressions"]).is_empty() => {
            if **name == namespace {
                Admission::Yes
            } else {
                Admission::No
            }
        }
        _ => Admission::Unknown,
    }
}

/// Kubernetes' own label of every namespace: its name.
pub(super) const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Whether a hostname, which may be `*.` and a domain, stands for a name.
pub(super) fn covers(hostname: &str, name: &str) -> bool {
    let (hostname, name) = (hostname.to_ascii_lowercase(), name.to_ascii_lowercase());
    match hostname.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => hostname == name,
    }
}

/// All listeners of a Gateway: its own, then those of its ListenerSets.
pub(super) fn listeners<'a>(gateway: &'a Key, object: &'a Value, around: &Surroundings<'a>) -> Vec<Listener<'a>> {
    let own = list(&object["spec"]["listeners"]).iter().map(|spec| Listener { gateway, set: None, spec });
    let sets = around.objects.all(LISTENER_SET).filter(|(key, set)| *gateway == parent_of(key, set));
    let of_sets = sets.flat_map(|(key, set)| {
        list(&set["spec"]["listeners"]).iter().map(move |spec| Listener { gateway, set: Some((key, set)), spec })
    });
    own.chain(of_sets).collect()
}

/// The Gateway of a ListenerSet.
pub(super) fn parent_of(key: &Key, set: &Value) -> Key {
    let parent = &set["spec"]["parentRef"];
    let namespace = parent["namespace"].as_str().unwrap_or(&key.namespace);
    Key::new(namespace, parent["name"].as_str().unwrap_or_default())
}

/// Whether an entry of a route's `parentRefs` means a listener.
pub(super) fn means(parent_ref: &Value, route: &Key, listener: &Listener<'_>) -> bool {
    let (kind, parent) = listener.parent();
    let text = |field: &str| parent_ref[field].as_str();
    text("group").unwrap_or(GROUP) == GROUP
        && text("kind").unwrap_or("Gateway") == kind
        && text("namespace").unwrap_or(&route.namespace) == parent.namespace
        && text("name") == Some(&parent.name)
        && text("sectionName").is_none_or(|section| section == listener.name())
        && parent_ref["port"].as_u64().is_none_or(|port| port == u64::from(listener.port()))
}

/// Whether a route attaches to a listener, and is let to.
pub(super) fn attaches(kind: Kind, key: &Key, route: &Value, listener: &Listener<'_>) -> bool {
    list(&route["spec"]["parentRefs"]).iter().any(|parent| means(parent, key, listener))
        && listener.admits(kind, &key.namespace) != Admission::No
}
