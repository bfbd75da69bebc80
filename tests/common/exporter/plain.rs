//! A gateway whose address and whose word on routes stand in objects.

use heliostat::{
    api::{
        Reason,
        binding::{Export, Routing},
    },
    core::{
        export::{
            object::{self, Kind, Object, Owner},
            provider::{ExportPlan, Gateway, Programmed, Provider, Rendered, RouteId, Supply, Surroundings},
        },
        model::{Key, Protocol},
        select::Refusal,
    },
    gateway,
};
use serde_json::json;

use crate::common::key;

pub const ROUTE: Kind = object::kind("test.dev", "Route", "routes", &["v1"]);
pub const GATEWAY: Kind = object::kind("test.dev", "Gateway", "gateways", &["v1"]);

/// A gateway whose address and whose word on routes stand in objects.
#[derive(Debug)]
pub struct Plain;

impl Provider for Plain {
    fn kinds(&self) -> Vec<Kind> {
        vec![ROUTE, GATEWAY]
    }

    fn gateway(&self, around: &Surroundings<'_>) -> Result<Gateway, Refusal> {
        let missing = || Refusal::new(Reason::RefNotFound, "Gateway edge/main does not exist");
        let gateway = around.objects.get(GATEWAY, &key("edge/main")).ok_or_else(missing)?;
        Ok(Gateway {
            identity: ["plain", "Gateway", "edge", "main"].map(str::to_owned),
            addresses: object::list(&gateway["addresses"]).iter().map(|a| a.as_str().unwrap().to_owned()).collect(),
            ports: Supply { protocols: [Protocol::Tcp].into(), ..Supply::default() },
            listeners: vec![80],
            unwell: gateway["unwell"].as_str().map(|why| Refusal::new(Reason::Pending, why)),
            tls_identity: None,
            confirms: true,
        })
    }

    fn render(&self, plan: &ExportPlan, _: &Surroundings<'_>) -> Rendered {
        let object = |(id, route): (&RouteId, &heliostat::core::export::provider::Route)| Object {
            labels: plan.labels(),
            owner: Some(Owner {
                api_version: "v1".into(),
                kind: "Service",
                name: id.service.name.to_string(),
                uid: route.service_uid.clone(),
            }),
            ..Object::with_spec(
                ROUTE,
                Key::new(id.service.namespace.clone(), format!("{}-{}", id.service.name, id.port)),
                json!({"gatewayPort": route.gateway_port, "hostnames": route.hostnames}),
            )
        };
        Rendered { objects: plan.routes.iter().map(object).collect(), ..Rendered::default() }
    }

    fn programmed(&self, _: &ExportPlan, id: &RouteId, around: &Surroundings<'_>) -> Programmed {
        let name = Key::new(id.service.namespace.clone(), format!("{}-{}", id.service.name, id.port));
        match around.objects.get(ROUTE, &name) {
            Some(route) if route["status"]["programmed"] == true => Programmed::Yes,
            Some(route) if route["status"]["programmed"] == "unknown" => Programmed::Before("nobody tells".into()),
            _ => Programmed::Pending("the gateway has not confirmed it".into(), None),
        }
    }
}

pub fn plain(binding: &str, routing: Routing, export: &Export) -> Box<dyn Provider> {
    match export.provider.gateway_api {
        Some(_) => Box::new(Plain),
        None => gateway::provider(binding, routing, export),
    }
}
