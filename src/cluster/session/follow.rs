//! Listing and following of Services and slices.

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{BoxStream, SelectAll, unfold},
};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Config, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Ended, FIRST_DELAY, Progress, Session, Watched,
    caps::Caps,
    identity::Identity,
    listing::{Listings, Read, Step},
};
use crate::{
    api::Reason,
    cluster::{
        backoff::{Backoff, MAX_DELAY},
        failure::{self, Failure},
        wire::{OriginWire, RemoteSliceWire},
    },
    core::{
        io::{RemoteEvent, SessionTask},
        model::{Origin, RemoteSlice},
    },
};

/// Objects of a page. A slice may be a hundred times as large as a Service.
pub(super) const PAGE: (u32, u32) = (500, 200);
/// How long the first listing may take in all.
const LISTING_DEADLINE: Duration = Duration::from_secs(600);
/// How long the first listing waits for that of the nodes.
const NODES_DEADLINE: Duration = Duration::from_secs(10);
/// How long the server is asked to keep a watch open. Short, so that a watch whose connection a
/// middlebox forgot is noticed even while heartbeats pass on another one.
const WATCH_SECONDS: u32 = 60;
/// Errors of one watch in a row that are a loss, and how far apart they may be to be in a row.
const ERRORS: u32 = 4;
const IN_A_ROW: Duration = Duration::from_secs(30);
/// A watch that has been started again without an error for that long is running.
const RECOVERED: Duration = Duration::from_secs(10);

/// An event of one of the watches, with the index of its scope.
enum News {
    Service(usize, watcher::Result<Event<OriginWire>>),
    Slice(usize, watcher::Result<Event<RemoteSliceWire>>),
}

/// How one watch has done lately.
#[derive(Clone, Copy, Default)]
struct Trouble {
    last: Option<Instant>,
    errors: u32,
}

/// What a session knows while it reads.
struct Reading<'a> {
    session: &'a Session,
    identity: &'a Identity,
    running: &'a AtomicBool,
    scopes: &'a [Watched],
    services: Listings<Origin>,
    slices: Listings<RemoteSlice>,
    /// The first complete listing has been told.
    listed: bool,
    /// Of the Services' watches, then of the slices'.
    troubles: Vec<Trouble>,
    /// When all watches count as running again.
    recovered_at: Option<Instant>,
}

impl Session {
    /// Lists, then follows, until something ends it.
    pub(super) async fn follow(
        &self,
        task: &SessionTask,
        scopes: &[Watched],
        identity: &Identity,
        running: &AtomicBool,
        mut nodes: watch::Receiver<bool>,
        backoff: &mut Backoff,
    ) -> Ended {
        let mut reading = Reading::new(self, identity, running, task, scopes);
        let mut news = self.watches(task, scopes);
        let Err(ended) = reading.run(&mut news, &mut nodes, backoff).await;
        ended
    }

    fn watches(&self, task: &SessionTask, scopes: &[Watched]) -> SelectAll<BoxStream<'static, News>> {
        let mut all = SelectAll::new();
        for (index, Watched { scope, versions }) in scopes.iter().enumerate() {
            let noting = versions.noting(&self.client);
            let (services, slices): (Api<OriginWire>, Api<RemoteSliceWire>) = match scope {
                Some(namespace) => {
                    (Api::namespaced(noting, namespace), Api::namespaced(self.client.clone(), namespace))
                }
                None => (Api::all(noting), Api::all(self.client.clone())),
            };
            all.push(paced(services, config(task, PAGE.0)).map(move |event| News::Service(index, event)).boxed());
            all.push(paced(slices, config(task, PAGE.1)).map(move |event| News::Slice(index, event)).boxed());
        }
        all
    }
}

fn config(task: &SessionTask, page: u32) -> Config {
    let config = Config::default().page_size(page).timeout(WATCH_SECONDS);
    match &task.selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

/// A watcher that waits after an error before it is asked again.
pub(super) fn paced<W>(api: Api<W>, config: Config) -> impl Stream<Item = watcher::Result<Event<W>>> + Send
where
    W: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let start = (watcher(api, config).boxed(), Backoff::new(FIRST_DELAY, MAX_DELAY), None::<(Instant, Duration)>);
    unfold(start, |(mut events, mut backoff, error)| async move {
        if let Some((at, delay)) = error {
            sleep(delay.saturating_sub(at.elapsed())).await;
        }
        let event = events.next().await?;
        let error = match &event {
            Err(now) => {
                if error.is_some_and(|(at, _)| at.elapsed() > IN_A_ROW + MAX_DELAY) {
                    backoff.reset();
                }
                Some((Instant::now(), backoff.next(failure::retry_after(now))))
            }
            Ok(_) => error.map(|(at, _)| (at, Duration::ZERO)),
        };
        Some((event, (events, backoff, error)))
    })
}

impl<'a> Reading<'a> {
    fn new(
        session: &'a Session,
        identity: &'a Identity,
        running: &'a AtomicBool,
        task: &SessionTask,
        scopes: &'a [Watched],
    ) -> Self {
        let caps = Caps::of(task);
        Self {
            session,
            identity,
            running,
            services: Listings::new("Services", scopes.len(), caps.services),
            slices: Listings::new("EndpointSlices", scopes.len(), caps.slices),
            listed: false,
            troubles: vec![Trouble::default(); 2 * scopes.len()],
            recovered_at: None,
            scopes,
        }
    }

    async fn run(
        &mut self,
        news: &mut (impl Stream<Item = News> + Unpin),
        nodes: &mut watch::Receiver<bool>,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Ended> {
        let deadline = Instant::now() + LISTING_DEADLINE;
        loop {
            if !self.listed && self.services.all_listed() && self.slices.all_listed() {
                self.tell_first_listing(nodes).await?;
                backoff.reset();
            }
            let wake = self.recovered_at.filter(|_| self.listed).unwrap_or(deadline);
            tokio::select! {
                biased;
                () = sleep_until(wake), if !self.listed || self.recovered_at.is_some() => self.on_time()?,
                event = news.next() => match event {
                    Some(News::Service(scope, event)) => self.on_service(scope, event).await?,
                    Some(News::Slice(scope, event)) => self.on_slice(scope, event).await?,
                    None => return Err(Ended::Failed(Failure::new(Reason::RemoteUnreachable, "the watches ended"))),
                },
            }
        }
    }

    /// The uid must be that of the beginning: else what was listed is of two clusters.
    async fn same_cluster(&self) -> Result<(), Ended> {
        match Identity::uid(&self.session.client).await {
            Ok(uid) if uid == self.identity.uid => Ok(()),
            Ok(_) => Err(Ended::Replaced),
            Err(failure) => Err(Ended::Failed(failure)),
        }
    }

    async fn tell_first_listing(&mut self, nodes: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        if self.session.task.borrow().nodes {
            // Late nodes are told when they come.
            let _ = timeout(NODES_DEADLINE, nodes.wait_for(|told| *told)).await;
        }
        self.same_cluster().await?;
        let (services, slices) = (self.services.take_first(), self.slices.take_first());
        let cluster_uid = self.identity.uid.clone();
        let versions = self.scopes.iter().filter_map(|w| Some((w.scope.clone(), w.versions.tell_listing()?))).collect();
        self.session.tell(RemoteEvent::Listed { cluster_uid, versions, services, slices }).await?;
        self.listed = true;
        self.running.store(true, Ordering::Relaxed);
        self.session.report(Progress::Listed).await
    }

    async fn on_service(&mut self, scope: usize, event: watcher::Result<Event<OriginWire>>) -> Result<(), Ended> {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.on_error(scope, &error),
        };
        let versions = &self.scopes[scope].versions;
        match &event {
            Event::Apply(service) | Event::Delete(service) => versions.reach(service.resource_version()),
            // Where the watch was before is told first: it is what the listing is held against.
            Event::InitDone if self.listed => {
                self.session.tell_reached(self.scopes).await?;
                versions.complete();
            }
            Event::InitDone => versions.complete(),
            Event::Init | Event::InitApply(_) => {}
        }
        match self.services.take(scope, event, read_service).map_err(Ended::Failed)? {
            Step::Nothing => Ok(()),
            Step::Begins => self.on_begin().await,
            Step::Complete(services) if self.listed => {
                self.same_cluster().await?;
                let (cluster_uid, scope) = (self.identity.uid.clone(), self.scopes[scope].scope.clone());
                let version = versions.tell_listing();
                self.session.tell(RemoteEvent::ServicesListed { cluster_uid, scope, version, services }).await
            }
            Step::Complete(services) => {
                self.services.keep_first(scope, services);
                Ok(())
            }
            Step::Set(key, origin) => self.session.tell(RemoteEvent::Service(key, Box::new(origin))).await,
            Step::Gone(key, uid) => self.session.tell(RemoteEvent::ServiceGone(key, uid)).await,
        }
    }

    async fn on_slice(&mut self, scope: usize, event: watcher::Result<Event<RemoteSliceWire>>) -> Result<(), Ended> {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.on_error(self.scopes.len() + scope, &error),
        };
        match self.slices.take(scope, event, read_slice).map_err(Ended::Failed)? {
            Step::Nothing => Ok(()),
            Step::Begins => self.on_begin().await,
            Step::Complete(slices) if self.listed => {
                self.same_cluster().await?;
                let (cluster_uid, scope) = (self.identity.uid.clone(), self.scopes[scope].scope.clone());
                self.session.tell(RemoteEvent::SlicesListed { cluster_uid, scope, slices }).await
            }
            Step::Complete(slices) => {
                self.slices.keep_first(scope, slices);
                Ok(())
            }
            Step::Set(key, slice) => self.session.tell(RemoteEvent::Slice(key, Box::new(slice))).await,
            Step::Gone(key, _) => self.session.tell(RemoteEvent::SliceGone(key)).await,
        }
    }

    /// A listing is about to be asked for. Before the first one the uid has just been read.
    async fn on_begin(&self) -> Result<(), Ended> {
        if self.listed { self.same_cluster().await } else { Ok(()) }
    }

    /// What may pass is borne for a while: the watch goes on where it was, or lists again.
    fn on_error(&mut self, watch: usize, error: &watcher::Error) -> Result<(), Ended> {
        let failure = Failure::from(error);
        if failure.is_verdict() || !self.listed && !failure::is_expired(error) {
            return Err(Ended::Failed(failure));
        }
        let now = Instant::now();
        let trouble = &mut self.troubles[watch];
        let in_a_row = trouble.last.is_some_and(|last| now - last < IN_A_ROW);
        *trouble = Trouble { last: Some(now), errors: if in_a_row { trouble.errors + 1 } else { 1 } };
        if trouble.errors >= ERRORS {
            return Err(Ended::Failed(failure));
        }
        self.running.store(false, Ordering::Relaxed);
        self.recovered_at = Some(now + RECOVERED);
        Ok(())
    }

    fn on_time(&mut self) -> Result<(), Ended> {
        if !self.listed {
            let message = format!("the remote could not be listed within {} s", LISTING_DEADLINE.as_secs());
            return Err(Ended::Failed(Failure::new(Reason::RemoteUnreachable, message)));
        }
        self.recovered_at = None;
        self.running.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn read_service(wire: OriginWire) -> Option<Read<Origin>> {
    let uid = wire.uid().to_owned();
    wire.into_model().map(|(key, origin)| (key, uid, Some(origin)))
}

fn read_slice(wire: RemoteSliceWire) -> Option<Read<RemoteSlice>> {
    let uid = wire.uid().to_owned();
    wire.into_model().map(|(key, slice)| (key, uid, slice))
}
