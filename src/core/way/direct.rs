//! Direct: the origin's pods, where the networks are flat.

use super::{Question, Source, Yield, carried, note_denied, pod_slices};
use crate::{
    api::Reason,
    core::{
        model::{AddressType, MirrorEndpoint, OriginType, RemoteEndpoint, RemoteSlice, SlicePort},
        select::Refusal,
    },
};

pub(super) fn offer(q: &Question<'_>) -> Result<Yield, (Refusal, Yield)> {
    let mut out = Yield::default();
    let mut sources = Vec::new();
    for (name, slice) in pod_slices(q) {
        if slice.address_type == AddressType::Fqdn {
            continue;
        }
        let endpoints = slice.endpoints.iter().filter_map(|e| endpoint(q, e, &mut out)).collect();
        sources.push(Source {
            name: vec!["direct".to_owned(), q.key.namespace.to_string(), name.to_owned()],
            ports: ports(q, slice),
            endpoints,
            trigger_time: slice.trigger_time.clone(),
            port_lease: None,
            linkerd: None,
        });
    }
    if sources.iter().all(|s| s.endpoints.is_empty()) && out.notes.is_empty() {
        let why = if q.origin.has_selector {
            "it has no pods"
        } else {
            "it selects no pods and its slices do not carry its labels"
        };
        return Err((Refusal::new(Reason::NoEndpoints, format!("{} has no endpoints: {why}", q.key)), out));
    }
    out.sources = sources;
    Ok(out)
}

/// The wanted ports under the numbers they have in this slice.
fn ports(q: &Question<'_>, slice: &RemoteSlice) -> Vec<SlicePort> {
    let number = |wanted: &crate::core::model::OriginPort| {
        slice.ports.iter().find(|p| p.name == wanted.name && p.protocol == wanted.protocol)
    };
    q.ports.iter().filter_map(|wanted| number(wanted).map(|found| carried(wanted, found.port))).collect()
}

fn endpoint(q: &Question<'_>, from: &RemoteEndpoint, out: &mut Yield) -> Option<MirrorEndpoint> {
    // Kubernetes: "consumers should only use the first" address of an endpoint.
    match q.addresses.admit(&from.address.as_ref()?.as_text()) {
        Ok(address) => {
            let hostname = from
                .hostname
                .clone()
                .filter(|h| q.origin.kind == OriginType::Headless && crate::core::name::is_label(h));
            Some(MirrorEndpoint { address, readiness: from.readiness, hostname })
        }
        Err(why) => {
            note_denied(out, why);
            None
        }
    }
}
