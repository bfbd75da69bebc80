//! Hostnames to addresses, always as absolute names, so that no search domain of this cluster can
//! give a name of the remote another meaning.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy, net::NetError};
use tokio::{
    sync::{OnceCell, mpsc, watch},
    task::{self, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::{Backoff, MAX_DELAY},
    text::clean,
    wire::is_dns_subdomain,
};
use crate::core::io::Input;

/// How long one lookup may take, with the resolver's own retries.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest time an answer is taken for current, whatever its TTL.
const MAX_TTL: Duration = Duration::from_secs(300);
/// Shortest time between two lookups of a name, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(5);
/// How long past its TTL the last good answer is kept (design: section 4).
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// How long the nameserver's word that there is no such name is believed.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Most lookups at a time, and of names that one link has brought: an exporter with thousands of names that
/// nobody answers for delays its own.
const MAX_RUNNING: usize = 64;
const MAX_OF_A_LINK: usize = 8;

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, sorted, at least one.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
}

/// Resolves names; the tests have one of their own.
pub trait Lookup: Send + Sync {
    /// All A and AAAA records of an absolute name, given without the trailing dot.
    ///
    /// # Errors
    /// Says in words why there is no address.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>>;
}

/// Resolves by the nameservers of the system's `/etc/resolv.conf`. Its search domains are not used.
#[derive(Default)]
pub struct SystemLookup(OnceCell<TokioResolver>);

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            if !is_dns_subdomain(host) {
                return Err(format!("{:?} is not a host name", clean(host, 64)));
            }
            let resolver = self.0.get_or_try_init(|| async { resolver() }).await?;
            match tokio::time::timeout(LOOKUP_DEADLINE, resolver.lookup_ip(format!("{host}."))).await {
                Ok(Ok(found)) => answer(host, &found),
                Ok(Err(error)) => Err(format!("{host} does not resolve: {}", why(&error))),
                Err(_) => Err(format!("{host} does not resolve: no answer within {} s", LOOKUP_DEADLINE.as_secs())),
            }
        })
    }
}

fn why(error: &NetError) -> String {
    if error.is_nx_domain() {
        "there is no such name".to_owned()
    } else if error.is_no_records_found() {
        "the name has no address".to_owned()
    } else {
        clean(&error.to_string(), 200)
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let build = || {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(NEGATIVE_TTL);
        builder.build()
    };
    build().map_err(|error| {
        format!("the resolver cannot be set up from /etc/resolv.conf: {}", clean(&error.to_string(), 200))
    })
}

fn answer(host: &str, found: &hickory_resolver::lookup_ip::LookupIp) -> Result<Answer, String> {
    let mut addresses: Vec<IpAddr> = found.iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!("{host} has no address"));
    }
    let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
    Ok(Answer { addresses, ttl: ttl.min(MAX_TTL) })
}

/// Hostnames to keep resolved, and the link that each comes from; empty: this cluster itself.
pub type Hosts = BTreeMap<String, String>;

/// Keeps the hostnames of the latest list resolved until `shutdown`, by the system's nameservers.
pub async fn run(hosts: watch::Receiver<Hosts>, out: mpsc::Sender<Input>, shutdown: CancellationToken) {
    let keeper = Keeper::new(Arc::new(SystemLookup::default()), out);
    shutdown.run_until_cancelled(keeper.keep(hosts)).await;
}

/// A hostname that is kept resolved.
struct Kept {
    link: String,
    due: Instant,
    /// End of the last good answer's TTL; before there is one, the time of the first question, as
    /// an earlier process may have had one.
    good_until: Instant,
    backoff: Backoff,
    told: Option<(Result<Vec<IpAddr>, String>, bool)>,
}

/// Keeps hostnames resolved; lookups run side by side, one a name.
struct Keeper {
    lookup: Arc<dyn Lookup>,
    out: mpsc::Sender<Input>,
    kept: BTreeMap<String, Kept>,
    running: JoinSet<(String, Result<Answer, String>)>,
    /// For which link each of them is. Only counted, so that its order is nobody's.
    links: HashMap<task::Id, String>,
}

impl Keeper {
    fn new(lookup: Arc<dyn Lookup>, out: mpsc::Sender<Input>) -> Self {
        Self { lookup, out, kept: BTreeMap::new(), running: JoinSet::new(), links: HashMap::new() }
    }

    async fn keep(mut self, mut hosts: watch::Receiver<Hosts>) {
        self.set(&hosts.borrow_and_update().clone());
        loop {
            let due = self.start();
            tokio::select! {
                changed = hosts.changed() => match changed {
                    Ok(()) => self.set(&hosts.borrow_and_update().clone()),
                    Err(_) => return,
                },
                Some(done) = self.running.join_next_with_id() => match done {
                    Ok((id, (host, result))) => {
                        self.links.remove(&id);
                        self.take_in(host, result).await;
                    }
                    // It panicked: its place is free all the same, and the name is asked again when it is due.
                    Err(panicked) => drop(self.links.remove(&panicked.id())),
                },
                () = sleep_until(due) => {}
            }
        }
    }

    fn set(&mut self, hosts: &Hosts) {
        self.kept.retain(|host, _| hosts.contains_key(host));
        for (host, link) in hosts {
            let kept = self.kept.entry(host.clone()).or_insert_with(|| Kept {
                link: link.clone(),
                due: Instant::now(),
                good_until: Instant::now(),
                backoff: Backoff::new(MIN_TTL, MAX_DELAY),
                told: None,
            });
            kept.link.clone_from(link);
        }
    }

    /// Starts the lookups that are due, as far as there is room, and says when the next one is. Links with the fewest
    /// under way come first, then who has waited longest.
    fn start(&mut self) -> Instant {
        let now = Instant::now();
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for link in self.links.values() {
            *running.entry(link.clone()).or_default() += 1;
        }
        let mut due: Vec<_> = self.kept.iter_mut().filter(|(_, kept)| kept.due <= now).collect();
        due.sort_by_key(|(_, kept)| (running.get(&kept.link).copied(), kept.due));
        for (host, kept) in due {
            if self.running.len() >= MAX_RUNNING {
                break;
            }
            let of_link = running.entry(kept.link.clone()).or_default();
            if *of_link >= MAX_OF_A_LINK {
                continue;
            }
            *of_link += 1;
            kept.due = now + 2 * LOOKUP_DEADLINE;
            let (lookup, host) = (self.lookup.clone(), host.clone());
            let lookup = self.running.spawn(async move {
                let result = lookup.lookup(&host).await;
                (host, result)
            });
            self.links.insert(lookup.id(), kept.link.clone());
        }
        // Who is due and had no room has its turn when a lookup ends.
        let later = self.kept.values().map(|kept| kept.due).filter(|due| *due > now);
        later.min().unwrap_or(now + MAX_TTL)
    }

    async fn take_in(&mut self, host: String, result: Result<Answer, String>) {
        let now = Instant::now();
        let Some(kept) = self.kept.get_mut(&host) else { return };
        match &result {
            Ok(answer) => {
                kept.backoff.reset();
                kept.due = now + answer.ttl.clamp(MIN_TTL, MAX_TTL);
                kept.good_until = now + answer.ttl;
            }
            Err(_) => kept.due = now + kept.backoff.next(None),
        }
        let expired = result.is_err() && now >= kept.good_until + KEPT_FOR;
        let answer = result.map(|answer| answer.addresses);
        if kept.told.as_ref() != Some(&(answer.clone(), expired)) {
            kept.told = Some((answer.clone(), expired));
            // The engine only stops listening at shutdown.
            let _ = self.out.send(Input::Resolved { host, answer, expired }).await;
        }
    }
}

#[cfg(test)]
mod tests;
