//! Which gateway addresses feed mirrors, how each is to be probed, and what the prober has said of
//! them. Only keeps and looks up: what follows for mirrors is said by the ways, and what is told to
//! users by the statuses.
//!
//! A verdict never chooses a way and never takes the last address of a mirror away: it only marks
//! an address not ready where another one carries the same, and has been seen to answer while this
//! one did not. An address of which nothing has been said in this process is as an earlier one left
//! it, so that a restart changes nothing before it knows better.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::model::Key;
use crate::api::{MAX_LISTED, link::GatewayStatus};

/// Most addresses of one link that are probed, the first in order: what a remote publishes decides
/// what is dialled, so it has a bound. It is that of `status.gateways`, so each one is listed.
pub const MAX_PROBED: usize = MAX_LISTED;

/// An address of a gateway that mirrors use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The link whose mirrors use it.
    pub link: String,
    /// The binding that it comes from.
    pub binding: String,
    /// The address.
    pub address: IpAddr,
}

/// How an address is to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTask {
    /// What is asked there.
    pub ask: Ask,
    /// How often, and with how much patience.
    pub terms: ProbeTerms,
}

/// `spec.probe` of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTerms {
    /// From one probe to the next.
    pub period: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many must fail in a row.
    pub failure_threshold: u32,
}

/// What is asked at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whether it accepts a connection: all that can be asked of a gateway behind which no Heliostat
    /// answers. It may accept with nothing behind it.
    Connection {
        /// The lowest TCP port in use there.
        port: u16,
        /// Content is expected there, and nobody is up to answer at present: a connection brings nothing
        /// back that was withdrawn.
        meanwhile: bool,
    },
    /// Which cluster is behind it: the probe Service answers with the cluster's uid.
    ClusterUid {
        /// The gateway's port that leads to the probe Service.
        port: u16,
        /// The name by which the gateway knows it (Host).
        host: Option<String>,
        /// The uid of the cluster that this link is for.
        uid: String,
    },
}

/// What the prober says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answers as it should.
    Reachable,
    /// It does not, as often as is too often, while the prober itself is seen to reach something.
    Unreachable {
        /// Why.
        why: String,
        /// Another address of its binding answered between its failures. Else it is not this address
        /// alone, and there is none that would be better.
        others_answer: bool,
    },
    /// There is no answer at all, as often as is too often; but neither was there one from any other
    /// address of any link meanwhile, so it may be the prober that is cut off.
    Silent(String),
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It is not probed.
    Unprobed,
    /// It is probed, and nothing has been said yet.
    Nothing,
    /// Nothing has been said yet in this process; an earlier one said whether it is reachable.
    Before(bool),
    /// The prober's word.
    Said(&'a Verdict),
}

impl Known<'_> {
    /// Whether it is reachable, as far as that is known.
    pub const fn reachable(self) -> Option<bool> {
        match self {
            Self::Before(reachable) => Some(reachable),
            Self::Said(Verdict::Reachable) => Some(true),
            Self::Said(Verdict::Unreachable { .. }) => Some(false),
            Self::Unprobed | Self::Nothing | Self::Said(Verdict::Silent(_)) => None,
        }
    }
}

/// See the file's description.
#[derive(Debug, Default)]
pub struct Reach {
    /// Mirrors, and the addresses that feed them, each with the mirror's lowest TCP port there.
    mirrors: BTreeMap<Key, Box<[Use]>>,
    /// Addresses, and the ports used there, by how many mirrors.
    ports: BTreeMap<Arc<Target>, BTreeMap<Option<u16>, usize>>,
    /// Mirrors whose addresses wait for an answer: they stay as they are. The link of each.
    waiting: BTreeMap<Key, String>,
    /// The probe Services of each link's exporter.
    services: BTreeMap<String, BTreeSet<Key>>,
    /// What the prober was last asked to do.
    asked: BTreeMap<Target, ProbeTask>,
    verdicts: BTreeMap<Target, Verdict>,
    /// Addresses of an earlier process, and whether it called them reachable, if it said so; forgotten when
    /// it is known better.
    before: BTreeMap<Target, Option<bool>>,
    /// Links of which something changed that what is asked may follow from.
    changed: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    target: Arc<Target>,
    port: Option<u16>,
}

impl Reach {
    /// A mirror was decided on: it is fed by these addresses, with its lowest TCP port there.
    pub fn feeds(&mut self, mirror: &Key, by: &BTreeMap<Target, Option<u16>>) {
        self.waiting.remove(mirror);
        let before = self.mirrors.get(mirror).map_or(&[][..], |uses| uses);
        if before.iter().map(|u| (u.target.as_ref(), &u.port)).eq(by) {
            return;
        }
        let uses: Box<[Use]> = by.iter().map(|(target, port)| self.begin(target, *port)).collect();
        let before =
            if uses.is_empty() { self.mirrors.remove(mirror) } else { self.mirrors.insert(mirror.clone(), uses) };
        before.unwrap_or_default().into_iter().for_each(|u| self.end(u));
    }

    fn begin(&mut self, target: &Target, port: Option<u16>) -> Use {
        let known = self.ports.get_key_value(target).map(|(known, _)| Arc::clone(known));
        let (new, lowest) = (known.is_none(), self.lowest_port(target));
        let target = known.unwrap_or_else(|| Arc::new(target.clone()));
        *self.ports.entry(Arc::clone(&target)).or_default().entry(port).or_default() += 1;
        if new || self.lowest_port(&target) != lowest {
            self.touch(&target.link);
        }
        Use { target, port }
    }

    fn end(&mut self, Use { target, port }: Use) {
        let lowest = self.lowest_port(&target);
        let Some(ports) = self.ports.get_mut(&target) else { return };
        if let Some(users) = ports.get_mut(&port) {
            *users -= 1;
            if *users == 0 {
                ports.remove(&port);
            }
        }
        let gone = ports.is_empty();
        if gone {
            self.ports.remove(&target);
        }
        if gone || self.lowest_port(&target) != lowest {
            self.touch(&target.link);
        }
    }

    /// A mirror cannot be decided on before an answer that is on its way: it stays as it is.
    pub fn waits(&mut self, mirror: &Key, link: &str) {
        self.waiting.insert(mirror.clone(), link.to_owned());
    }

    /// Whether some mirror of a link waits for an answer.
    pub fn is_waiting(&self, link: &str) -> bool {
        self.waiting.values().any(|of| of == link)
    }

    /// The mirrors that an address feeds.
    pub fn fed_by<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Key> {
        self.mirrors.iter().filter(|(_, uses)| uses.iter().any(|u| *u.target == *target)).map(|(mirror, _)| mirror)
    }

    /// The addresses that a link's mirrors use.
    pub fn of_link<'a>(&'a self, link: &'a str) -> impl Iterator<Item = &'a Target> {
        self.ports.range(Arc::new(first(link))..).map(|(target, _)| target.as_ref()).take_while(move |t| t.link == link)
    }

    /// Links whose mirrors use gateways.
    pub fn links(&self) -> BTreeSet<String> {
        self.ports.keys().map(|target| target.link.clone()).collect()
    }

    /// The lowest TCP port that mirrors use at an address.
    pub fn lowest_port(&self, target: &Target) -> Option<u16> {
        self.ports.get(target)?.keys().find_map(|port| *port)
    }

    /// A Service of an exporter is, or is not, one that answers probes.
    pub fn service(&mut self, link: &str, service: &Key, answers: bool) {
        let known = self.services.get_mut(link);
        let was =
            known.is_some_and(|services| if answers { services.contains(service) } else { services.remove(service) });
        if answers && !was {
            self.services.entry(link.to_owned()).or_default().insert(service.clone());
        }
        if answers || was {
            self.touch(link);
        }
    }

    /// The Services of an exporter that answer probes.
    pub fn services<'a>(&'a self, link: &str) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.services.get(link).into_iter().flatten()
    }

    /// What is asked of a link may have to change.
    pub fn touch(&mut self, link: &str) {
        if !self.changed.contains(link) {
            self.changed.insert(link.to_owned());
        }
    }

    /// The links of which that may be so since this was asked last.
    pub fn changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// What is to be done for a link from now on. If that is something else than before, gives those
    /// that may have been withdrawn and of which nothing is known any more, as they are not to be looked at.
    pub fn ask(&mut self, link: &str, tasks: BTreeMap<Target, ProbeTask>) -> Option<Vec<Target>> {
        if of_link(&self.asked, link).eq(&tasks) {
            return None;
        }
        let old = of_link(&self.asked, link).map(|(target, _)| target);
        let gone: Vec<Target> = old.filter(|target| !tasks.contains_key(*target)).cloned().collect();
        let down = gone.iter().filter(|t| self.is_withdrawn(t)).cloned().collect();
        for target in &gone {
            self.asked.remove(target);
            self.verdicts.remove(target);
            self.before.remove(target);
        }
        self.asked.extend(tasks);
        Some(down)
    }

    /// All that is to be done.
    pub fn asked(&self) -> &BTreeMap<Target, ProbeTask> {
        &self.asked
    }

    /// The prober's word; false if it comes too late, or says nothing new.
    ///
    /// What is withdrawn stays so until it answers: that others were not seen to answer this time does
    /// not make it a better address. And where content is expected, by content: it may accept connections
    /// with nothing behind it.
    pub fn hear(&mut self, target: &Target, verdict: Verdict) -> bool {
        let Some(task) = self.asked.get(target) else { return false };
        let (was_down, meanwhile) = (self.is_down(target), matches!(task.ask, Ask::Connection { meanwhile: true, .. }));
        let verdict = match verdict {
            Verdict::Reachable if meanwhile && self.is_withdrawn(target) => return false,
            Verdict::Unreachable { why, .. } | Verdict::Silent(why) if was_down => {
                Verdict::Unreachable { why, others_answer: true }
            }
            other => other,
        };
        if self.verdicts.get(target) == Some(&verdict) {
            return false;
        }
        if verdict == Verdict::Reachable || is_worse(&verdict) {
            self.before.remove(target);
        }
        self.verdicts.insert(target.clone(), verdict);
        true
    }

    /// A link is new to this process; what an earlier one said of its addresses holds for now.
    pub fn begin_link<'a>(&mut self, link: &str, told: impl Iterator<Item = &'a GatewayStatus>) {
        self.end_link(link);
        for gateway in told {
            if let Ok(address) = gateway.address.parse() {
                let target = Target { link: link.to_owned(), binding: gateway.binding.clone(), address };
                self.before.insert(target, gateway.reachable);
            }
        }
    }

    /// A link is gone.
    pub fn end_link(&mut self, link: &str) {
        self.services.remove(link);
        self.forget(link);
        self.touch(link);
    }

    /// Forgets what an earlier process said of a link's addresses.
    pub fn forget(&mut self, link: &str) {
        self.before.retain(|target, _| target.link != link);
    }

    /// Forgets what an earlier process said of addresses of a link that are not probed; gives those that
    /// were withdrawn.
    pub fn forget_unasked(&mut self, link: &str) -> Vec<Target> {
        let asked = &self.asked;
        let unasked = |target: &Target, _: &mut Option<bool>| target.link == link && !asked.contains_key(target);
        let forgotten = self.before.extract_if(.., unasked);
        forgotten.filter(|(_, reachable)| *reachable == Some(false)).map(|(target, _)| target).collect()
    }

    /// What is known of an address.
    pub fn known(&self, target: &Target) -> Known<'_> {
        match (self.verdicts.get(target), self.before.get(target)) {
            (Some(verdict), _) => Known::Said(verdict),
            (None, Some(Some(reachable))) => Known::Before(*reachable),
            (None, _) if self.asked.contains_key(target) => Known::Nothing,
            (None, _) => Known::Unprobed,
        }
    }

    /// Whether mirrors that have another address may be without this one.
    pub fn is_withdrawn(&self, target: &Target) -> bool {
        self.is_down(target) || self.before.get(target) == Some(&Some(false))
    }

    /// Whether an address is not to be used where there is another one, as far as has been said.
    pub fn is_down(&self, target: &Target) -> bool {
        self.verdicts.get(target).is_some_and(is_worse)
    }

    /// All such addresses of a link, with their bindings.
    pub fn down<'a>(&'a self, link: &'a str) -> BTreeSet<(&'a str, IpAddr)> {
        of_link(&self.verdicts, link).filter(|(_, verdict)| is_worse(verdict)).map(|(target, _)| at(target)).collect()
    }

    /// The addresses of a link that have neither answered in this process nor been seen to fail while others
    /// do, and whether an earlier one called them reachable, if it said so.
    pub fn told_before<'a>(&'a self, link: &'a str) -> impl Iterator<Item = ((&'a str, IpAddr), Option<bool>)> {
        of_link(&self.before, link).map(|(target, reachable)| (at(target), *reachable))
    }

    /// An earlier process withdrew an address, whatever it could still say of it.
    pub fn doubt(&mut self, target: &Target) {
        if let Some(reachable) = self.before.get_mut(target).filter(|reachable| **reachable != Some(false)) {
            *reachable = Some(false);
            self.touch(&target.link);
        }
    }

    /// Nothing answers anywhere: it is the prober that is cut off, or all is down at once.
    pub fn is_cut_off(&self) -> bool {
        let reachable = |target| self.verdicts.get(target).is_none_or(|verdict| *verdict == Verdict::Reachable);
        self.verdicts.values().any(|verdict| matches!(verdict, Verdict::Silent(_))) && !self.asked.keys().any(reachable)
    }
}

fn at(target: &Target) -> (&str, IpAddr) {
    (target.binding.as_str(), target.address)
}

/// There is a better address.
const fn is_worse(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unreachable { others_answer: true, .. })
}

/// What a map says of a link's addresses.
fn of_link<'a, V>(
    map: &'a BTreeMap<Target, V>,
    link: &'a str,
) -> impl Iterator<Item = (&'a Target, &'a V)> + use<'a, V> {
    map.range(first(link)..).take_while(move |(target, _)| target.link == link)
}

/// Comes before all addresses of a link.
fn first(link: &str) -> Target {
    Target { link: link.to_owned(), binding: String::new(), address: IpAddr::from([0, 0, 0, 0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g18_an_address_concerns_the_mirrors_that_it_feeds() {
        let target = |last: u8| Target { link: "east".into(), binding: "b".into(), address: [192, 0, 2, last].into() };
        let mut reach = Reach::default();
        let mirrors = [("books", &[1][..]), ("films", &[1, 2]), ("pens", &[2])];
        for (name, by) in mirrors {
            reach.feeds(&Key::new("shop", name), &by.iter().map(|last| (target(*last), Some(80))).collect());
        }
        let fed = |last| reach.fed_by(&target(last)).map(|mirror| mirror.name.to_string()).collect::<Vec<_>>();
        assert_eq!([fed(1), fed(2), fed(3)], [vec!["books", "films"], vec!["films", "pens"], vec![]]);
    }
}
