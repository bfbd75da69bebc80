//! Hostnames to addresses, always as absolute names, so that no search domain of this cluster can
//! give a name of the remote another meaning.

use std::{net::IpAddr, time::Duration};

use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use tokio::sync::OnceCell;

use super::{text::clean, wire::is_dns_subdomain};

/// How long one lookup may take, with the resolver's own retries.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest time an answer is taken for current, whatever its TTL.
pub const MAX_TTL: Duration = Duration::from_secs(300);

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
                Ok(Err(error)) => Err(format!("{host} does not resolve: {}", clean(&error.to_string(), 200))),
                Err(_) => Err(format!("{host} does not resolve: no answer within {} s", LOOKUP_DEADLINE.as_secs())),
            }
        })
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let build = || {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.positive_max_ttl = Some(MAX_TTL);
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
