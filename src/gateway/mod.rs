//! Providers: what each make of gateway is told, and how what it says is read; one file a make. They
//! only compute, like `core`: which Services go out, by which port and when that is published is
//! decided there.

mod emissary;
mod envoy;
mod front;
mod gateway_api;
mod gloo;
mod host;
mod linkerd;
mod object;
mod opening;
#[cfg(test)]
mod scene;
mod traefik;
mod unconfirmed;

pub use envoy::bootstrap;

use crate::{
    api::{
        Reason,
        binding::{self, Export, Routing},
    },
    core::{
        export::{
            object::Kind,
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, RouteId, Surroundings},
        },
        select::Refusal,
    },
};

/// The provider of a binding.
#[must_use]
pub fn provider(binding: &str, routing: Routing, export: &Export) -> Box<dyn Provider> {
    let binding::Provider { gateway_api, traefik, emissary, gloo, envoy, linkerd } = &export.provider;
    if routing == Routing::Linkerd {
        return match linkerd {
            Some(provider) => Box::new(linkerd::Linkerd::new(export, provider)),
            None => Box::new(Nothing),
        };
    }
    if let Some(provider) = gateway_api {
        return Box::new(gateway_api::GatewayApi::new(binding, routing, export, provider));
    }
    if let Some(provider) = traefik {
        return Box::new(traefik::Traefik::new(binding, routing, export, provider));
    }
    if let Some(provider) = emissary {
        return Box::new(emissary::Emissary::new(binding, routing, export, provider));
    }
    if let Some(provider) = gloo {
        return Box::new(gloo::Gloo::new(binding, routing, export, provider));
    }
    if let Some(provider) = envoy {
        return Box::new(envoy::Envoy::new(binding, routing, export, provider));
    }
    Box::new(Nothing)
}

/// Every kind of object that some provider makes or reads.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    [&envoy::KINDS[..], &gateway_api::KINDS, &traefik::KINDS, &emissary::KINDS, &gloo::KINDS].concat()
}

/// In the place of a provider that this version does not know, or not with this routing: the schema
/// lets none through.
#[derive(Debug)]
struct Nothing;

impl Nothing {
    fn refusal() -> Refusal {
        let why = "spec.export.provider names no provider that this version knows for spec.routing; \
                   name exactly one of gatewayAPI, traefik, emissary, gloo, envoy and linkerd";
        Refusal::new(Reason::UnsupportedValue, why)
    }
}

impl Provider for Nothing {
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    fn gateway(&self, _: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        Err(Self::refusal())
    }

    fn render(&self, plan: &ExportPlan, _: &Surroundings<'_>) -> Rendered {
        let refused = plan.routes.keys().map(|route| (route.clone(), Self::refusal())).collect();
        Rendered { refused, ..Rendered::default() }
    }

    fn programmed(&self, _: &ExportPlan, _: &RouteId, _: &Surroundings<'_>) -> Programmed {
        Programmed::No(Self::refusal())
    }
}
