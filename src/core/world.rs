//! What is known: this cluster's objects, and each link's remote as last completely listed.
//! Only stores and looks up; deciding what follows is the other files' work.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    address::AddressPolicy,
    groups::{Groups, SlicesOf},
    io::Change,
    link::{CheckedLink, Link},
    model::{Key, LocalNamespace, LocalNode, LocalService, LocalSlice, MirrorState, Text},
    select::{CheckedPolicy, Refusal, Surroundings},
};
use crate::api::{
    GatewayBinding, MirrorPolicy, Reason,
    link::NamespacesFrom,
    names::{ADOPT_ANNOTATION, LINK_UID_ANNOTATION, MANAGED_BY_LABEL, MANAGER, ORIGIN_ANNOTATION},
};

/// What is known of a hostname.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The last good answer.
    pub addresses: Vec<IpAddr>,
    /// Why there is no newer one.
    pub error: Option<String>,
    /// The last good answer, be it of an earlier process, is too old to be used.
    pub expired: bool,
}

/// Everything known.
#[derive(Debug, Default)]
pub struct World {
    /// The controller's own namespace.
    pub namespace: String,
    /// `--cluster-cidrs`.
    pub cluster_cidrs: Vec<IpNet>,
    /// uid of this cluster's kube-system.
    pub cluster_uid: Option<String>,
    /// ClusterLinks.
    pub links: BTreeMap<String, Link>,
    /// MirrorPolicies.
    pub policies: BTreeMap<Key, Policy>,
    /// GatewayBindings.
    pub bindings: BTreeMap<String, GatewayBinding>,
    /// Namespaces.
    pub namespaces: BTreeMap<String, LocalNamespace>,
    /// Services.
    pub services: BTreeMap<Key, LocalService>,
    /// Those that name a link, by the uid that they name.
    mirrors: Groups<Text, Key>,
    /// Names of links by their uids: where to look first.
    link_names: BTreeMap<String, String>,
    /// EndpointSlices with our managed-by label.
    pub slices: BTreeMap<Key, LocalSlice>,
    /// Names of those slices, by the Service they belong to.
    pub slices_of: SlicesOf,
    /// Nodes.
    pub nodes: BTreeMap<String, LocalNode>,
    /// Service ranges.
    pub service_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// See [`Self::know_ranges`].
    own_ranges: Arc<[IpNet]>,
    /// Resolved hostnames.
    pub hosts: BTreeMap<String, Host>,
    /// Which kinds have been listed.
    pub listed: Listed,
}

/// Which kinds have been listed completely, and are still served. Before all are, nothing is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    /// ClusterLinks.
    pub links: bool,
    /// MirrorPolicies.
    pub policies: bool,
    /// GatewayBindings.
    pub bindings: bool,
    /// Namespaces.
    pub namespaces: bool,
    /// Services.
    pub services: bool,
    /// EndpointSlices.
    pub slices: bool,
    /// Nodes.
    pub nodes: bool,
    /// Service ranges.
    pub service_cidrs: bool,
}

impl Listed {
    /// All of them.
    pub fn all(self) -> bool {
        let Self { links, policies, bindings, namespaces, services, slices, nodes, service_cidrs } = self;
        links && policies && bindings && namespaces && services && slices && nodes && service_cidrs
    }
}

/// A MirrorPolicy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As it is.
    pub object: MirrorPolicy,
    /// As checked; or why it is not accepted.
    pub checked: Result<CheckedPolicy, Refusal>,
}

impl Policy {
    /// A policy as observed.
    pub fn new(object: MirrorPolicy, controller_namespace: &str) -> Self {
        Self { checked: CheckedPolicy::new(&object, controller_namespace), object }
    }

    /// Nothing is written for it and what exists stays: suspended, previewed, not accepted, or on
    /// its way out.
    pub fn frozen(&self) -> bool {
        self.object.spec.suspend
            || self.object.spec.preview
            || self.checked.is_err()
            || self.object.metadata.deletion_timestamp.is_some()
    }

    /// As checked, if accepted.
    pub fn accepted(&self) -> Option<&CheckedPolicy> {
        self.checked.as_ref().ok()
    }
}

/// Whose an observed Service of this cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Nobody has the name.
    Nobody,
    /// Somebody else's.
    Foreign,
    /// Was ours: it lost a marker or gained a selector.
    TakenOver,
    /// Ours, through this link.
    Ours(&'a str),
}

/// A mirror that exists.
#[derive(Clone, Debug)]
pub struct Mirror<'a> {
    /// Namespace and name.
    pub key: &'a Key,
    /// The Service.
    pub service: &'a LocalService,
    /// What is known of it as one of ours.
    pub state: &'a MirrorState,
    /// Its origin, as its marks say.
    pub origin: Key,
}

impl World {
    /// One of which nothing is known yet.
    pub fn new(namespace: &str, cluster_cidrs: &[IpNet]) -> Self {
        let mut world =
            Self { namespace: namespace.to_owned(), cluster_cidrs: cluster_cidrs.to_vec(), ..Self::default() };
        world.know_ranges();
        world
    }

    /// How many objects of this cluster that may be many are known.
    pub fn size(&self) -> usize {
        self.services.len() + self.slices.len()
    }

    /// Takes the empty room out of the trees.
    pub fn tighten(&mut self) {
        tighten(&mut self.services);
        tighten(&mut self.slices);
        self.slices_of.tighten();
        self.mirrors.tighten();
    }

    /// Whose the Service of that name is (design: section 3, "Ours").
    pub fn owner(&self, key: &Key) -> Owner<'_> {
        let Some(service) = self.services.get(key) else { return Owner::Nobody };
        let Some(state) = &service.ours else { return Owner::Foreign };
        let label = state.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGER);
        let uid = state.annotations.others().get(LINK_UID_ANNOTATION);
        let link = uid.and_then(|uid| self.link_of_uid(uid));
        let origin = state.annotations.contains_key(ORIGIN_ANNOTATION);
        match (label, link) {
            (true, Some(link)) if !state.has_selector => Owner::Ours(link),
            (_, Some(_)) => Owner::TakenOver,
            (true, None) if uid.is_none() && origin => Owner::TakenOver,
            _ => Owner::Foreign,
        }
    }

    /// The link of that uid, or the one that may adopt the mirrors of that uid.
    fn link_of_uid(&self, uid: &str) -> Option<&str> {
        let adopts = |link: &Link| {
            link.object
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|a| a.get(ADOPT_ANNOTATION).is_some_and(|old| old == uid))
        };
        let known = self.link_names.get(uid).and_then(|name| self.links.get_key_value(name));
        let found = known.filter(|(_, link)| link.uid() == uid);
        let found = found.or_else(|| self.links.iter().find(|(_, link)| link.uid() == uid));
        found.or_else(|| self.links.iter().find(|(_, link)| adopts(link))).map(|(name, _)| name.as_str())
    }

    /// Takes a link over, or lets it go; gives what it was before.
    pub fn set_link(&mut self, name: &str, link: Option<Link>) -> Option<Link> {
        let uid = link.as_ref().map(|link| link.uid().to_owned());
        let old = match link {
            Some(link) => self.links.insert(name.to_owned(), link),
            None => self.links.remove(name),
        };
        self.link_names.retain(|_, of| of != name);
        self.link_names.extend(uid.map(|uid| (uid, name.to_owned())));
        old
    }

    /// Takes a Service over, or lets it go; gives what it was before.
    pub fn set_service(&mut self, key: &Key, service: Option<LocalService>) -> Option<LocalService> {
        let names =
            |service: &LocalService| service.ours.as_ref()?.annotations.others().get(LINK_UID_ANNOTATION).cloned();
        let after = service.as_ref().and_then(names);
        let old = match service {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(key),
        };
        let before = old.as_ref().and_then(names);
        if before != after {
            before.iter().for_each(|uid| self.mirrors.remove(uid.as_str(), key));
            after.into_iter().for_each(|uid| self.mirrors.insert(uid, key.clone()));
        }
        old
    }

    /// The Services that are ours through a link.
    pub fn ours<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Key> {
        let link = self.links.get(name);
        let uid = link.map(Link::uid);
        let adopted = link.and_then(|link| link.object.metadata.annotations.as_ref()?.get(ADOPT_ANNOTATION));
        let uids: BTreeSet<&str> = uid.into_iter().chain(adopted.map(String::as_str)).collect();
        uids.into_iter()
            .flat_map(|uid| self.mirrors.from(uid, Key::default()))
            .filter(move |key| self.owner(key) == Owner::Ours(name))
    }

    /// The mirrors of a link that exist and whose marks name an origin.
    pub fn mirrors_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Mirror<'a>> {
        self.ours(name).filter_map(move |key| {
            let service = self.services.get(key).filter(|service| !service.terminating)?;
            let state = service.ours.as_deref()?;
            let origin = state.annotations.origin()?.clone();
            Some(Mirror { key, service, state, origin })
        })
    }

    /// Our slices of a mirror.
    pub fn slices_of<'a>(&'a self, mirror: &'a Key) -> impl Iterator<Item = (Key, &'a LocalSlice)> {
        self.slices_of.of(mirror).filter_map(|name| {
            let key = Key::new(&mirror.namespace, name);
            self.slices.get(&key).map(|slice| (key, slice))
        })
    }

    /// Takes one of our slices over, or lets it go; gives the mirrors concerned.
    pub fn set_slice(&mut self, key: &Key, slice: Option<LocalSlice>) -> BTreeSet<Key> {
        let service_of = |slice: &LocalSlice| slice.service.as_ref().map(|name| Key::new(&key.namespace, name));
        let after = slice.as_ref().and_then(service_of);
        let old = match slice {
            Some(new) => self.slices.insert(key.clone(), new),
            None => self.slices.remove(key),
        };
        let before = old.as_ref().and_then(service_of);
        if before != after {
            if let Some(before) = &before {
                self.slices_of.remove(key.namespace.as_str(), &(before.name.clone(), key.name.clone()));
            }
            if let Some(after) = &after {
                self.slices_of.insert(key.namespace.clone(), (after.name.clone(), key.name.clone()));
            }
        }
        before.into_iter().chain(after).collect()
    }

    /// Which addresses a link may bring.
    pub fn address_policy(&self, link: &CheckedLink) -> AddressPolicy {
        AddressPolicy { own: Arc::clone(&self.own_ranges), allow: link.allow.clone(), deny: link.deny.clone() }
    }

    /// Nodes or Service ranges of this cluster have changed: puts together what is its own, in as few ranges as can
    /// say it. Asked of every address that is decided on.
    pub fn know_ranges(&mut self) {
        let nodes = self
            .nodes
            .values()
            .flat_map(|n| n.pod_cidrs.iter().copied().chain(n.addresses.iter().map(|a| IpNet::from(*a))));
        let services = self.service_cidrs.values().flatten().copied();
        let all: Vec<IpNet> = self.cluster_cidrs.iter().copied().chain(services).chain(nodes).collect();
        self.own_ranges = IpNet::aggregate(&all).into();
    }

    /// The links that a policy names.
    pub fn links_of<'a>(&'a self, policy: &'a CheckedPolicy) -> impl Iterator<Item = (&'a str, &'a Link)> {
        self.links.iter().map(|(name, link)| (name.as_str(), link)).filter(|(name, link)| policy.names(name, link))
    }

    /// The one answer to a tenant whose policy names a link that does not exist or does not admit
    /// it: the message must not tell which (A13).
    pub fn not_permitted(link: &str, namespace: &str) -> Refusal {
        Refusal::new(
            Reason::RefNotPermitted,
            format!(
                "spec.links: there is no ClusterLink {link} that namespace {namespace} may use; ask who runs this cluster to create it or to allow the namespace in its spec.allowedNamespaces"
            ),
        )
    }

    /// Whether a policy may use a link (`allowedNamespaces`, `namespaceSameness`).
    pub fn permits(
        &self,
        link_name: &str,
        link: &Link,
        policy_namespace: &str,
        policy: &CheckedPolicy,
    ) -> Result<(), Refusal> {
        let Ok(checked) = &link.checked else { return Ok(()) };
        let admitted = match link.object.spec.allowed_namespaces.from {
            NamespacesFrom::Same => policy.central,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                self.namespaces.get(policy_namespace).is_some_and(|ns| ns.labels.selected_by(&checked.allowed))
            }
        };
        if !admitted {
            return Err(Self::not_permitted(link_name, policy_namespace));
        }
        if policy.central || !link.object.spec.namespace_sameness {
            return Ok(());
        }
        let other = policy.namespaces.iter().flatten().find(|ns| *ns != policy_namespace);
        other.map_or(Ok(()), |other| {
            Err(Refusal::new(
                Reason::NamespaceNotAllowed,
                format!("spec.services.namespaces: {other} is not this policy's namespace {policy_namespace}, and link {link_name} has namespaceSameness; leave it out, or mirror from a policy in the controller's namespace"),
            ))
        })
    }
}

impl Surroundings for World {
    fn namespace(&self, name: &str) -> Option<&LocalNamespace> {
        self.namespaces.get(name)
    }

    fn controller_namespace(&self) -> &str {
        &self.namespace
    }
}

/// Builds a tree anew: one that grew in the order of its keys, as by a listing, is half empty, and one
/// that is made at once is full. Appending makes it at once, and from leaf to leaf: collecting would
/// put a copy of everything beside it for a while.
pub fn tighten<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    let mut last = map.pop_last().into_iter().collect();
    map.append(&mut last);
}

/// The same for a set.
pub fn tighten_set<T: Ord>(set: &mut BTreeSet<T>) {
    let mut last = set.pop_last().into_iter().collect();
    set.append(&mut last);
}

/// Applies a change to a map; gives the keys whose value is now another.
pub fn apply<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, change: Change<K, V>) -> BTreeSet<K> {
    match change {
        Change::Set(key, value) => {
            if map.get(&key) == Some(&value) {
                return BTreeSet::new();
            }
            map.insert(key.clone(), value);
            BTreeSet::from([key])
        }
        Change::Gone(key) => map.remove(&key).map(|_| key).into_iter().collect(),
        Change::All(new) => {
            let mut changed: BTreeSet<K> = map.keys().filter(|key| !new.contains_key(key)).cloned().collect();
            changed.extend(new.iter().filter(|(key, value)| map.get(key) != Some(value)).map(|(key, _)| key.clone()));
            *map = new;
            changed
        }
    }
}
