//! Does this Service of this very cluster go out through a gateway, and why (not)? By the same
//! selection as the controller's, and what bindings and published slices say.

use std::collections::BTreeMap;

use kube::{Api, api::ListParams};
use serde::Serialize;

use super::Check;
use crate::{
    api::{
        ConditionType, GatewayBinding,
        names::{PUBLISHED_BINDING_LABEL, PUBLISHED_MANAGER, PUBLISHED_SERVICE_LABEL, SLICE_MANAGED_BY_LABEL},
    },
    cli::connect::Cluster,
    cluster::wire::{OriginWire, RemoteSliceWire},
    core::{
        export::binding::CheckedExport,
        model::{Key, Origin, RemoteSlice, SliceRole},
    },
};

/// What a binding makes of the Service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Export {
    pub(super) binding: String,
    pub(super) published: bool,
    pub(super) checks: Vec<Check>,
}

/// A Service and what is published of it.
pub(super) struct Exported {
    service: Origin,
    slices: Vec<RemoteSlice>,
}

/// Reads the Service and its published slices; none if there is no such Service.
///
/// # Errors
/// This cluster cannot be read.
pub(super) async fn read(cluster: &Cluster, key: &Key) -> anyhow::Result<Option<Exported>> {
    let services: Api<OriginWire> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let found = services.get_opt(&key.name).await.map_err(|e| cluster.failed(&format!("read Service {key}"), e))?;
    let Some((_, service)) = found.and_then(OriginWire::into_model) else { return Ok(None) };
    let labels = format!("{SLICE_MANAGED_BY_LABEL}={PUBLISHED_MANAGER},{PUBLISHED_SERVICE_LABEL}={}", key.name);
    let slices: Api<RemoteSliceWire> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let listed = slices.list(&ListParams::default().labels(&labels)).await;
    let listed = listed.map_err(|e| cluster.failed("list endpointslices", e))?;
    let slices = listed.items.into_iter().filter_map(|wire| wire.into_model()?.1).collect();
    Ok(Some(Exported { service, slices }))
}

/// One answer for each binding with `export`, none that has nothing to do with it.
pub(super) fn exports(
    key: &Key,
    exported: &Exported,
    bindings: &BTreeMap<String, Box<GatewayBinding>>,
    own_namespace: &str,
) -> Vec<Export> {
    let exports = bindings.iter().filter_map(|(name, binding)| Some((name, binding, binding.spec.export.as_ref()?)));
    exports
        .map(|(name, binding, export)| {
            let mut checks = Vec::new();
            let published: Vec<&RemoteSlice> = exported.slices.iter().filter(|slice| is_of(slice, name)).collect();
            let chosen = match CheckedExport::new(binding, export) {
                Ok(checked) => choose(&mut checks, key, exported, &checked, own_namespace),
                Err(refusal) => {
                    checks.push(Check::refused("the binding is accepted", &refusal));
                    false
                }
            };
            if chosen {
                says(&mut checks, binding);
                failures(&mut checks, key, binding);
            }
            tell(&mut checks, &published);
            Export { binding: name.clone(), published: !published.is_empty(), checks }
        })
        .collect()
}

fn choose(
    checks: &mut Vec<Check>,
    key: &Key,
    exported: &Exported,
    checked: &CheckedExport,
    own_namespace: &str,
) -> bool {
    let what = "the binding selects it";
    match checked.selects(key, &exported.service, own_namespace) {
        None => {
            let labels = exported.service.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
            let detail = format!(
                "its spec.export.services does not match namespace {} with the labels {labels:?}",
                key.namespace
            );
            checks.push(Check::no(what, detail));
            false
        }
        Some(Err(refusal)) => {
            checks.push(Check::yes(what, String::new()));
            checks.push(Check::refused("it may go out", &refusal));
            false
        }
        Some(Ok(())) => {
            checks.push(Check::yes(what, String::new()));
            true
        }
    }
}

fn says(checks: &mut Vec<Check>, binding: &GatewayBinding) {
    let status = binding.status.as_ref();
    for (kind, what) in
        [(ConditionType::Accepted, "the binding is accepted"), (ConditionType::ResolvedRefs, "the gateway can be used")]
    {
        let found = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == kind.as_str()));
        checks.push(match found {
            Some(c) if c.status == "True" => Check::yes(what, String::new()),
            Some(c) => Check { reason: Some(c.reason.clone()), ..Check::no(what, c.message.clone()) },
            None => {
                Check::unknown(what, "the controller has not looked at it yet; is it started with --export?".into())
            }
        });
    }
}

fn failures(checks: &mut Vec<Check>, key: &Key, binding: &GatewayBinding) {
    let all = binding.status.iter().flat_map(|status| &status.failures);
    for failure in all.filter(|f| f.namespace == key.namespace && f.name == key.name) {
        let reason = Some(failure.reason.clone());
        checks.push(Check { reason, ..Check::note("the gateway carries all of it", failure.message.clone()) });
    }
}

fn tell(checks: &mut Vec<Check>, published: &[&RemoteSlice]) {
    let what = "it is published";
    if published.is_empty() {
        checks.push(Check::no(what, format!("no slice labelled {PUBLISHED_BINDING_LABEL} says so")));
    }
    for slice in published {
        let addresses: Vec<_> =
            slice.endpoints.iter().filter_map(|e| e.address.as_ref()).map(|address| address.as_text()).collect();
        let port =
            |port: &crate::core::model::SlicePort| format!("{} {}/{}", port.name, port.port, port.protocol.as_str());
        let ports: Vec<String> = slice.ports.iter().map(port).collect();
        let ready = slice.endpoints.iter().any(|e| e.readiness.ready);
        let ready = if ready { "ready" } else { "not ready" };
        checks.push(Check::yes(what, format!("at {}: {}; {ready}", addresses.join(", "), ports.join(", "))));
    }
}

fn is_of(slice: &RemoteSlice, binding: &str) -> bool {
    matches!(&slice.role, SliceRole::Published(published) if published.binding == binding)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::{explain::Verdict, survey::tests::origin};

    const NAMESPACE: &str = "heliostat-system";

    fn binding(status: serde_json::Value) -> BTreeMap<String, Box<GatewayBinding>> {
        let object = json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding", "metadata": {"name": "public", "uid": "u"},
            "spec": {"routing": "Port", "export": {"services": {"namespaces": ["shop"]}, "provider": {"envoy": {}}}},
            "status": status,
        });
        BTreeMap::from([("public".to_owned(), Box::new(serde_json::from_value(object).unwrap()))])
    }

    #[test]
    fn it_says_by_which_gateway_a_service_goes_out_and_what_is_left_out() {
        let (key, service) = origin("books", json!({}));
        let slice: RemoteSliceWire = serde_json::from_value(json!({
            "metadata": {
                "name": "s", "namespace": "shop",
                "labels": {"endpointslice.kubernetes.io/managed-by": "gateway.heliostat.dev", "heliostat.dev/service-name": "books", "heliostat.dev/binding": "public"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": 20001, "protocol": "TCP"}],
        }))
        .unwrap();
        let exported = Exported { service, slices: vec![slice.into_model().unwrap().1.unwrap()] };
        let status = json!({
            "conditions": [],
            "failures": [{"namespace": "shop", "name": "books", "reason": "PortUnsupported", "message": "no UDP"}],
        });
        let told = exports(&key, &exported, &binding(status), NAMESPACE);
        assert!(told[0].published);
        let of = |what: &str| told[0].checks.iter().find(|c| c.check == what).unwrap();
        assert_eq!(of("it is published").detail, "at 10.9.9.9: http 20001/TCP; ready");
        assert_eq!(of("the gateway carries all of it").reason.as_deref(), Some("PortUnsupported"));
        assert_eq!(of("the gateway can be used").verdict, Verdict::Unknown);
    }

    #[test]
    fn without_consent_it_says_what_is_missing() {
        let (key, mut service) = origin("books", json!({}));
        service.labels.clear();
        let told = exports(&key, &Exported { service, slices: vec![] }, &binding(json!({})), NAMESPACE);
        assert!(!told[0].published);
        assert_eq!(told[0].checks[0].verdict, Verdict::No);
        assert!(told[0].checks[0].detail.contains("spec.export.services"), "{:?}", told[0].checks);
    }
}
