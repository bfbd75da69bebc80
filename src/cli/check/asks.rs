//! Which questions a gateway is asked: one for each exported port or name, and some about ports and names
//! that nobody exports. Pure. Bounded, as how much is published is for others to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    answer::{Ask, Question},
    book::{Book, Verdict},
    contract::{Scene, Slice, admitted},
};
use crate::{
    api::binding::Routing,
    core::{
        model::{Address, Protocol, Published, SlicePort},
        way::hostname,
    },
};

/// Most questions in all.
const MAX_ASKS: usize = 2000;
/// Most ports of one address that nobody publishes.
const MAX_NOBODYS: usize = 32;
/// How far from a published port those are looked for.
const NEAR: [i32; 6] = [1, -1, 2, -2, 3, -3];

const TRAFFIC: &str = "exported ports are exercised";

/// The questions about slices that an importer uses; `all` are those of every binding, and `nonce` makes
/// names that nobody has.
pub(super) fn asks(
    scene: &Scene<'_>,
    used: &[&Slice],
    all: &[Slice],
    (path, nonce): (&str, &str),
    book: &mut Book,
) -> Vec<Ask> {
    let mut plan = Plan { path, nonce, ..Plan::default() };
    for slice in used {
        plan.slice(scene, slice, book);
    }
    let taken = taken(scene, all);
    let (mut asks, names) = (plan.exported, plan.names.into_values());
    let mut others: Vec<Ask> =
        plan.ports.iter().flat_map(|(address, ports)| nobodys(*address, ports, &taken, nonce)).chain(names).collect();
    let all = asks.len() + others.len();
    if all == 0 {
        book.add(TRAFFIC, "", Verdict::Warn, "there is no ready address with a port that could be asked");
    }
    if all > MAX_ASKS {
        others.truncate(MAX_ASKS / 2);
        asks.truncate(MAX_ASKS - others.len());
        let asked = asks.len() + others.len();
        book.add(TRAFFIC, "", Verdict::Warn, format!("{asked} questions are asked, {} more are not", all - asked));
    }
    asks.append(&mut others);
    asks
}

#[derive(Default)]
struct Plan<'a> {
    path: &'a str,
    nonce: &'a str,
    exported: Vec<Ask>,
    /// Ports published by routing Port, by address.
    ports: BTreeMap<IpAddr, BTreeSet<u16>>,
    /// One question for a name that nobody has, a listener.
    names: BTreeMap<(SocketAddr, &'static str), Ask>,
}

impl Plan<'_> {
    fn slice(&mut self, scene: &Scene<'_>, slice: &Slice, book: &mut Book) {
        let (Some((read, published)), Some(service)) = (slice.published(), slice.service()) else { return };
        let Some(routing) = Routing::parse(&published.routing) else { return };
        for endpoint in &read.endpoints {
            let Some(text) = endpoint.address.as_ref().map(Address::as_text) else { continue };
            if !endpoint.readiness.ready {
                book.add(TRAFFIC, &format!("{service} at {text}"), Verdict::Note, "not exercised: it is not ready");
                continue;
            }
            for address in admitted(scene, read.address_type, &text).unwrap_or_default() {
                for port in &read.ports {
                    let to = SocketAddr::new(address, port.port);
                    let subject = format!("{service} {} at {to}", described(port));
                    self.port(to, port, published, routing, &subject, book);
                }
            }
        }
    }

    fn port(
        &mut self,
        to: SocketAddr,
        port: &SlicePort,
        published: &Published,
        routing: Routing,
        subject: &str,
        book: &mut Book,
    ) {
        if port.protocol != Protocol::Tcp {
            let detail = format!("not exercised: {} tells nobody that it has arrived", port.protocol.as_str());
            return book.add(TRAFFIC, subject, Verdict::Note, detail);
        }
        let exported = |question, subject: String| Ask { to, question, exported: true, subject };
        match routing {
            Routing::Port => {
                self.ports.entry(to.ip()).or_default().insert(to.port());
                self.exported.push(exported(Question::Port, subject.to_owned()));
            }
            Routing::Linkerd => {
                let detail = "only whether it takes connections: it answers meshed clients";
                book.add(TRAFFIC, subject, Verdict::Note, detail);
                self.exported.push(exported(Question::Connection, subject.to_owned()));
            }
            Routing::Host | Routing::Sni => {
                for name in published.hostnames.iter().filter_map(|name| hostname(name)) {
                    let question = self.by_name(routing, name.clone());
                    self.exported.push(exported(question, format!("{name} of {subject}")));
                }
                self.nobody(to, routing, published);
            }
        }
    }

    fn by_name(&self, routing: Routing, name: String) -> Question {
        if routing == Routing::Sni { Question::Tls(name) } else { Question::Http(name, self.path.to_owned()) }
    }

    /// A name that nobody has: that of an export but for its first label, to find patterns too.
    fn nobody(&mut self, to: SocketAddr, routing: Routing, published: &Published) {
        let longest = published.hostnames.iter().filter_map(|name| hostname(name)).max_by_key(String::len);
        let domain = longest.as_deref().and_then(|name| name.split_once('.')).map(|(_, domain)| format!(".{domain}"));
        let name = format!("nobody-{}{}", self.nonce, domain.unwrap_or_default());
        let ask =
            Ask { to, subject: format!("{name} at {to}"), question: self.by_name(routing, name), exported: false };
        self.names.entry((to, routing.as_str())).or_insert(ask);
    }
}

fn described(port: &SlicePort) -> &str {
    if port.name.is_empty() { "port" } else { &port.name }
}

/// Ports that somebody publishes, or that are node ports of Services that are seen: whoever answers there
/// may.
fn taken(scene: &Scene<'_>, all: &[Slice]) -> BTreeSet<u16> {
    let published =
        all.iter().filter_map(Slice::published).flat_map(|(read, _)| read.ports.iter().map(|port| port.port));
    let node_ports = scene.services.values().flat_map(|origin| origin.ports.iter().filter_map(|port| port.node_port));
    published.chain(node_ports).collect()
}

/// Ports near those that are published, nearest first, which nobody publishes.
fn nobodys(address: IpAddr, ports: &BTreeSet<u16>, taken: &BTreeSet<u16>, nonce: &str) -> Vec<Ask> {
    let mut chosen: Vec<u16> = Vec::new();
    for step in NEAR {
        for port in ports {
            let near = u16::try_from(i32::from(*port) + step).ok().filter(|near| *near > 0 && !taken.contains(near));
            chosen.extend(near.filter(|near| !chosen.contains(near) && chosen.len() < MAX_NOBODYS));
        }
    }
    let ask = |port| {
        let to = SocketAddr::new(address, port);
        let question = Question::NobodysPort(format!("nobody-{nonce}"));
        Ask { to, question, exported: false, subject: to.to_string() }
    };
    chosen.into_iter().map(ask).collect()
}

#[cfg(test)]
mod tests;
