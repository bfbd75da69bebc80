//! About how much memory it takes to hold what a remote said: its texts, and the places where they
//! lie. Pure.

use std::mem::size_of;

use crate::core::model::{
    Ingress, Map, Origin, OriginPort, Published, RemoteEndpoint, RemoteSlice, SlicePort, SliceRole, Text,
};

/// What a text, or an entry of a map, takes beside its bytes.
const OVERHEAD: usize = 48;

/// Something that is held.
pub(in crate::cluster) trait Weigh {
    /// Bytes, about.
    fn weight(&self) -> usize;
}

impl Weigh for Origin {
    fn weight(&self) -> usize {
        let ingress = self.ingress.iter().map(|ingress| size_of::<Ingress>() + ingress.as_text().len());
        let ports = self.ports.iter().map(|port| {
            let OriginPort { name, app_protocol, .. } = port;
            size_of::<OriginPort>() + name.len() + optional(app_protocol)
        });
        size_of::<Self>()
            + self.uid.text_bytes()
            + map(&self.labels)
            + map(&self.annotations)
            + ingress.sum::<usize>()
            + ports.sum::<usize>()
            + optional(&self.malformed)
    }
}

impl Weigh for RemoteSlice {
    fn weight(&self) -> usize {
        let role = match &self.role {
            SliceRole::Pods { service } => service.len(),
            SliceRole::Published(published) => {
                let Published { service, binding, contract, routing, hostnames, port_lease, identity } = &**published;
                let texts = [service, binding, contract, routing].into_iter().chain(hostnames);
                size_of::<Published>()
                    + texts.map(|text| OVERHEAD + text.len()).sum::<usize>()
                    + optional(port_lease)
                    + optional(identity)
            }
        };
        let ports = self.ports.iter().map(|port| {
            let SlicePort { name, app_protocol, .. } = port;
            size_of::<SlicePort>() + name.len() + optional(app_protocol)
        });
        let endpoints = self.endpoints.iter().map(|endpoint| {
            let RemoteEndpoint { address, hostname, node, .. } = endpoint;
            size_of::<RemoteEndpoint>()
                + address.iter().map(|address| OVERHEAD + address.as_text().len()).sum::<usize>()
                + optional(hostname)
                + optional(node)
        });
        size_of::<Self>() + role + ports.sum::<usize>() + endpoints.sum::<usize>() + optional(&self.trigger_time)
    }
}

fn map(map: &Map) -> usize {
    map.iter().map(|(key, value)| 2 * OVERHEAD + key.len() + value.len()).sum()
}

fn optional(text: &Option<Text>) -> usize {
    text.as_ref().map_or(0, |text| text.len())
}
