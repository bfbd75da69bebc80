//! Follows the objects of one kind in this cluster: a complete listing, then each change, for
//! ever. A failure is told and tried again; it never counts as a deletion.

use std::{collections::BTreeMap, fmt::Debug, future::Future, pin::pin, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use super::{backoff::Backoff, failure};
use crate::core::io::Change;

/// First wait after a failure.
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Longest wait: short, as this cluster is near, and a CRD or a right that comes late is seen soon.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// What is told of a kind.
#[derive(Debug)]
pub(super) enum News<K: Ord, V> {
    /// Objects are now as said.
    Change(Change<K, V>),
    /// An object cannot be understood; what was known of it stays. None: it can again, or is gone.
    Unreadable(K, Option<String>),
    /// The kind cannot be read at present.
    Failed(watcher::Error),
}

/// Takes news in; waits while there is no room for more.
pub(super) trait Audience<K: Ord, V>: Send {
    /// Takes one piece of news in.
    fn hear(&mut self, news: News<K, V>) -> impl Future<Output = ()> + Send;
}

/// How an object is read: nothing (no legal key), or its key and value, or why it has none.
pub(super) type Read<W, K, V> = fn(W) -> Option<(K, Result<V, String>)>;

/// Follows until it is dropped.
pub(super) async fn follow<W, K, V>(
    api: Api<W>,
    config: watcher::Config,
    read: Read<W, K, V>,
    mut audience: impl Audience<K, V>,
) where
    W: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K: Ord + Clone + Send,
    V: Send,
{
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    loop {
        let error = follow_once(api.clone(), config.clone(), read, &mut audience, &mut backoff).await;
        let asked = failure::retry_after(&error);
        audience.hear(News::Failed(error)).await;
        tokio::time::sleep(backoff.next(asked)).await;
    }
}

/// Follows until something goes wrong, and says what; `backoff` begins anew with each listing.
pub(super) async fn follow_once<W, K, V>(
    api: Api<W>,
    config: watcher::Config,
    read: Read<W, K, V>,
    audience: &mut impl Audience<K, V>,
    backoff: &mut Backoff,
) -> watcher::Error
where
    W: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K: Ord + Clone + Send,
    V: Send,
{
    let mut events = pin!(watcher(api, config));
    let mut listing = Listing::default();
    loop {
        match events.next().await {
            None => return watcher::Error::NoResourceVersion,
            Some(Ok(Event::Init)) => listing = Listing::default(),
            Some(Ok(Event::InitApply(object))) => listing.add(read(object)),
            Some(Ok(Event::InitDone)) => {
                backoff.reset();
                std::mem::take(&mut listing).tell(audience).await;
            }
            Some(Ok(Event::Apply(object))) => tell_one(read(object), audience).await,
            Some(Ok(Event::Delete(object))) => {
                if let Some((key, _)) = read(object) {
                    audience.hear(News::Unreadable(key.clone(), None)).await;
                    audience.hear(News::Change(Change::Gone(key))).await;
                }
            }
            // The watcher lists again by itself, and what is missing then is gone.
            Some(Err(error)) if failure::is_expired(&error) => {}
            Some(Err(error)) => return error,
        }
    }
}

async fn tell_one<K: Ord + Clone, V>(read: Option<(K, Result<V, String>)>, audience: &mut impl Audience<K, V>) {
    let Some((key, value)) = read else { return };
    match value {
        Ok(value) => {
            audience.hear(News::Unreadable(key.clone(), None)).await;
            audience.hear(News::Change(Change::Set(key, value))).await;
        }
        Err(why) => audience.hear(News::Unreadable(key, Some(why))).await,
    }
}

/// A listing that is being read.
struct Listing<K, V> {
    good: BTreeMap<K, V>,
    bad: BTreeMap<K, String>,
}

impl<K, V> Default for Listing<K, V> {
    fn default() -> Self {
        Self { good: BTreeMap::new(), bad: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V> Listing<K, V> {
    fn add(&mut self, read: Option<(K, Result<V, String>)>) {
        match read {
            Some((key, Ok(value))) => drop(self.good.insert(key, value)),
            Some((key, Err(why))) => drop(self.bad.insert(key, why)),
            None => {}
        }
    }

    /// A listing in which something cannot be understood is not complete: nothing is gone by it.
    async fn tell(self, audience: &mut impl Audience<K, V>) {
        if self.bad.is_empty() {
            return audience.hear(News::Change(Change::All(self.good))).await;
        }
        for (key, value) in self.good {
            audience.hear(News::Change(Change::Set(key, value))).await;
        }
        for (key, why) in self.bad {
            audience.hear(News::Unreadable(key, Some(why))).await;
        }
    }
}
