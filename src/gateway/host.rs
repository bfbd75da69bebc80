//! Names in Host headers, as Envoy compares them unless it is told otherwise: with their port, and by globs
//! with a `*` at one end.

use crate::core::{
    export::provider::{ExportPlan, Route, RouteId},
    model::Protocol,
};

/// The port that callers leave out.
const HTTP_PORT: u16 = 80;

/// A name as callers write it into the Host header when they reach it at a port.
pub(super) fn usual(name: &str, port: u16) -> String {
    if port == HTTP_PORT { name.to_owned() } else { format!("{name}:{port}") }
}

/// What may stand in the Host header of a request for a route, with the port and without. Where one
/// list holds for all listeners, each belongs to one route: a name without a port to that of
/// port 80, else to the Service's first.
pub(super) fn hosts(plan: &ExportPlan, id: &RouteId, route: &Route) -> Vec<String> {
    let start = RouteId { port: 0, protocol: Protocol::Tcp, ..id.clone() };
    let of_service = plan.routes.range(start..).map(|(other, _)| other).take_while(|other| other.service == id.service);
    let mut of_service = of_service.filter(|other| other.protocol == Protocol::Tcp);
    let first = of_service.clone().find(|other| other.port == HTTP_PORT).or_else(|| of_service.next());
    let is_first = first == Some(id);
    let forms = |name: &String| [is_first.then(|| name.clone()), Some(format!("{name}:{}", id.port))];
    route.hostnames.iter().flat_map(forms).flatten().collect()
}

/// How closely a glob fits a name, both lower case: more is closer, the name itself the closest. None: not
/// at all. A `*` stands for at least one character.
pub(super) fn fits(glob: &str, name: &str) -> Option<usize> {
    let longer = |rest: &str| name.len() > rest.len();
    match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        _ if glob == name => Some(usize::MAX),
        (Some(""), _) => Some(0),
        // Before those with a `*` at the end, whatever their length.
        (Some(rest), _) => (longer(rest) && name.ends_with(rest)).then(|| rest.len() + 1000),
        (None, Some(rest)) => (longer(rest) && name.starts_with(rest)).then_some(rest.len()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::binding::Routing,
        gateway::scene::{named, tcp},
    };

    #[test]
    fn each_form_of_a_name_belongs_to_one_port_of_its_service() {
        let plan = |ports: &[u16]| {
            let id = |port: &u16| tcp("shop/books", *port);
            let routes = ports.iter().map(|port| (id(port), named(&id(port), 80, "http", &["books"]))).collect();
            ExportPlan { binding: "b".into(), binding_uid: "u".into(), routing: Routing::Host, routes }
        };
        for (ports, wanted) in [
            (&[80][..], &[&["books", "books:80"][..]][..]),
            (&[9090], &[&["books", "books:9090"]]),
            (&[22, 80, 9090], &[&["books:22"], &["books", "books:80"], &["books:9090"]]),
            (&[8080, 9090], &[&["books", "books:8080"], &["books:9090"]]),
        ] {
            let plan = plan(ports);
            let all: Vec<Vec<String>> = plan.routes.iter().map(|(id, route)| hosts(&plan, id, route)).collect();
            assert_eq!(all, wanted, "{ports:?}");
        }
        assert_eq!((usual("books", 80), usual("books", 9090)), ("books".into(), "books:9090".into()));
    }

    #[test]
    fn a_glob_fits_as_envoy_says() {
        for glob in ["*", "books*", "books.*", "*.east", "*s.east", "books.east"] {
            assert!(fits(glob, "books.east").is_some(), "{glob}");
        }
        for glob in ["", "*books.east", "books.east*", "*.west", "book", "*oo*", "films*"] {
            assert_eq!(fits(glob, "books.east"), None, "{glob}");
        }
        let ranked = ["*", "b*", "books.*", "*t", "*.east", "books.east"].map(|glob| fits(glob, "books.east"));
        assert!(ranked.is_sorted(), "{ranked:?}");
    }
}
