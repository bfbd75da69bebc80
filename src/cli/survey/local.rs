//! Reads this cluster once, whole: everything that the engine decides by.

use std::collections::BTreeMap;

use kube::{Api, Resource, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    api::{ClusterLink, GatewayBinding, MirrorPolicy, names},
    cli::{connect::Cluster, status},
    cluster::wire::{LocalNamespaceWire, LocalNodeWire, LocalServiceWire, LocalSliceWire, ServiceRangesWire, Wire},
    core::{
        io::{Change, Local},
        model::{Key, LocalNamespace, LocalNode, LocalService, LocalSlice},
    },
};

/// This cluster, as it was when it was read.
#[derive(Debug, Default)]
pub(in crate::cli) struct Snapshot {
    pub(in crate::cli) uid: String,
    pub(in crate::cli) links: BTreeMap<String, Box<ClusterLink>>,
    pub(in crate::cli) policies: BTreeMap<Key, Box<MirrorPolicy>>,
    pub(in crate::cli) bindings: BTreeMap<String, Box<GatewayBinding>>,
    pub(in crate::cli) namespaces: BTreeMap<String, LocalNamespace>,
    pub(in crate::cli) services: BTreeMap<Key, LocalService>,
    pub(in crate::cli) slices: BTreeMap<Key, LocalSlice>,
    pub(in crate::cli) nodes: BTreeMap<String, LocalNode>,
    pub(in crate::cli) service_cidrs: BTreeMap<String, Vec<ipnet::IpNet>>,
}

impl Snapshot {
    /// Reads it.
    ///
    /// # Errors
    /// A kind can't be read: without it the engine's answer would be another.
    pub(in crate::cli) async fn read(cluster: &Cluster) -> anyhow::Result<Self> {
        let ours = ListParams::default().labels(&format!("{}={}", names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGER));
        let all = ListParams::default();
        let (links, policies, bindings) = tokio::try_join!(
            status::list::<ClusterLink>(cluster),
            status::list::<MirrorPolicy>(cluster),
            status::list::<GatewayBinding>(cluster),
        )?;
        let (uid, namespaces, services, slices, nodes, ranges) = tokio::try_join!(
            cluster.uid(),
            list::<LocalNamespaceWire>(cluster, &all),
            list::<LocalServiceWire>(cluster, &all),
            list::<LocalSliceWire>(cluster, &ours),
            list::<LocalNodeWire>(cluster, &all),
            list::<ServiceRangesWire>(cluster, &all),
        )?;
        Ok(Self {
            uid,
            links: links.into_iter().filter_map(|o| Some((o.metadata.name.clone()?, Box::new(o)))).collect(),
            policies: policies.into_iter().filter_map(|o| Some((policy_key(&o)?, Box::new(o)))).collect(),
            bindings: bindings.into_iter().filter_map(|o| Some((o.metadata.name.clone()?, Box::new(o)))).collect(),
            namespaces: named(namespaces).map(|(name, found)| (name, found.namespace)).collect(),
            services: services.into_iter().filter_map(Wire::into_model).collect(),
            slices: slices.into_iter().filter_map(Wire::into_model).collect(),
            nodes: named(nodes).collect(),
            service_cidrs: named(ranges).map(|(name, ranges)| (name, ranges.0)).collect(),
        })
    }

    /// As complete listings for the engine.
    pub(super) fn into_inputs(self) -> [Local; 9] {
        let Self { uid, links, policies, bindings, namespaces, services, slices, nodes, service_cidrs } = self;
        [
            Local::ClusterUid(uid),
            Local::Namespace(Change::All(namespaces)),
            Local::Node(Change::All(nodes)),
            Local::ServiceCidr(Change::All(service_cidrs)),
            Local::Service(Change::All(services)),
            Local::Slice(Change::All(slices)),
            Local::Binding(Change::All(bindings)),
            Local::Link(Change::All(links)),
            Local::Policy(Change::All(policies)),
        ]
    }
}

/// Namespace and name of a policy.
pub(in crate::cli) fn policy_key(policy: &MirrorPolicy) -> Option<Key> {
    Some(Key::new(policy.metadata.namespace.clone()?, policy.metadata.name.clone()?))
}

fn named<T>(wires: Vec<Wire<T>>) -> impl Iterator<Item = (String, T)> {
    wires.into_iter().filter_map(Wire::into_named)
}

async fn list<K>(cluster: &Cluster, params: &ListParams) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    match api.list(params).await {
        Ok(listed) => Ok(listed.items),
        Err(e) => Err(cluster.failed(&format!("list {}", K::plural(&())), e)),
    }
}
