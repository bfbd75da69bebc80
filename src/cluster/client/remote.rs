//! The HTTP service under a link's client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT as AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use kube::{Client, client::Body};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tower::{
    BoxError,
    limit::{RateLimit, rate::Rate},
    service_fn,
};

use super::{
    REQUEST_DEADLINE, USER_AGENT, answer,
    connect::{Connector, Guard, pool},
    lines::{Lines, Share},
    pages::{Page, Pages},
    secret::Secret,
};
use crate::cluster::{credentials::Credentials, dns::Lookup};

/// Least time between two starts of one watch: a server that ends every watch at once is not
/// answered by a storm.
const WATCH_PACE: Duration = Duration::from_secs(1);
/// Most requests of a link, and in which time: 50 a second in the end. A link with a list of a
/// hundred namespaces begins with 402.
const RATE: (u64, Duration) = (500, Duration::from_secs(10));
/// Idle connections are closed after that long.
const IDLE: Duration = Duration::from_secs(30);

/// What a link's client refuses to do or to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("clusters[0].cluster.server of the kubeconfig {0}")]
    Address(&'static str),
    #[error("the API server is this cluster's own")]
    OwnServer,
    #[error("{0}")]
    Unresolved(String),
    #[error("no complete answer within {0} s")]
    Deadline(u64),
    #[error("the answer is larger than {0} MiB")]
    TooLarge(usize),
    #[error("a line of the watch is longer than {0} MiB, or too much of the watches of this link is held")]
    LineTooLong(usize),
    #[error("a listing has more than {0} pages")]
    Pages(u32),
    #[error("the answer is packed, which was not asked for")]
    Encoded,
    #[error("the answer repeats the credential that it was asked with; nothing of it is used")]
    Echo,
    #[error("the answer is not one of a Kubernetes API server")]
    NotKubernetes,
    #[error("the server answered with status {0}, and redirects are never followed")]
    Redirect(u16),
    #[error("{0} is not allowed: a link only reads")]
    Method(Method),
}

/// An API server, the credential for it, and connections to it.
pub(super) struct Remote {
    http: Http<Connector, Body>,
    authority: Authority,
    path: String,
    authorization: Option<HeaderValue>,
    secret: Option<Secret>,
    /// When each watch was started last, by path.
    watches: Mutex<BTreeMap<String, Instant>>,
    pages: Mutex<Pages>,
    /// One page at a time is held.
    listing: Arc<Semaphore>,
    share: Arc<Share>,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What a server says to a request.
enum Asked {
    /// Yes; the body has not been read.
    Good(Response<Incoming>),
    /// No, and why, read and made harmless.
    Bad(Answer),
}

fn too_large(error: &BoxError) -> bool {
    matches!(error.downcast_ref(), Some(Refused::TooLarge(_)))
}

impl Remote {
    pub(super) fn new(credentials: &Credentials, guard: Guard, lookup: Arc<dyn Lookup>) -> Result<Self, http::Error> {
        let http = pool(IDLE).build(Connector::new(credentials, guard, lookup));
        let authorization = credentials.authorization.as_ref().and_then(|value| value.to_str().ok()?.split_once(' '));
        let secret = authorization.map(|(_, token)| Secret::new(token));
        Ok(Self {
            http,
            authority: Authority::try_from(credentials.server.authority())?,
            path: credentials.server.path.clone(),
            authorization: credentials.authorization.clone(),
            share: Share::new(secret.clone()),
            secret,
            watches: Mutex::default(),
            pages: Mutex::default(),
            listing: Arc::new(Semaphore::new(1)),
        })
    }

    pub(super) fn into_client(self) -> Client {
        let remote = Arc::new(self);
        let service = service_fn(move |request| Arc::clone(&remote).call(request));
        Client::new(RateLimit::new(service, Rate::new(RATE.0, RATE.1)), "default")
    }

    async fn call(self: Arc<Self>, request: Request<Body>) -> Result<Answer, BoxError> {
        if request.method() != Method::GET {
            return Err(Refused::Method(request.method().clone()).into());
        }
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default();
        let page = self.pages().turn(&uri)?;
        let answered = if query.split('&').any(|pair| pair == "watch=true") {
            self.pace(&uri).await;
            timeout(REQUEST_DEADLINE, self.watch(self.decorate(request)?)).await
        } else if let Some(page) = page {
            // Waiting for its turn is not the server's time: the pages before it may come by a slow line.
            let turn = self.listing.clone().acquire_owned().await?;
            let listed = timeout(REQUEST_DEADLINE, self.list(request, page.clone(), turn)).await;
            if listed.is_err() {
                self.pages().was_late(page);
            }
            listed
        } else {
            timeout(REQUEST_DEADLINE, self.object(self.decorate(request)?)).await
        };
        answered.unwrap_or_else(|_| Err(Refused::Deadline(REQUEST_DEADLINE.as_secs()).into()))
    }

    async fn watch(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        Ok(match self.ask(request).await? {
            Asked::Good(response) => response.map(|body| Lines::new(body, self.share.clone()).boxed_unsync()),
            Asked::Bad(answer) => answer,
        })
    }

    /// A page that is too large is asked for again in smaller portions: no object is so large that
    /// it keeps the others from being read.
    async fn list(
        &self,
        request: Request<Body>,
        mut page: Page,
        turn: OwnedSemaphorePermit,
    ) -> Result<Answer, BoxError> {
        let (parts, _) = request.into_parts();
        loop {
            let mut request = Request::from_parts(parts.clone(), Body::empty());
            *request.uri_mut() = page.uri()?;
            let response = match self.ask(self.decorate(request)?).await? {
                Asked::Good(response) => response,
                Asked::Bad(answer) => return Ok(answer),
            };
            match answer::read(response, true, answer::MAX_LIST, self.secret.as_ref()).await {
                Err(error) if too_large(&error) && page.shrink() => self.pages().remember(&page),
                Err(error) => return Err(error),
                // The next page comes when whoever asked has taken this one.
                Ok(response) => {
                    return Ok(response.map(|body| {
                        body.map_frame(move |frame| {
                            let _until_then = &turn;
                            frame
                        })
                        .map_err(|never| match never {})
                        .boxed_unsync()
                    }));
                }
            }
        }
    }

    async fn object(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        let response = match self.ask(request).await? {
            Asked::Good(response) => response,
            Asked::Bad(answer) => return Ok(answer),
        };
        let response = answer::read(response, false, answer::MAX_OBJECT, self.secret.as_ref()).await?;
        Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
    }

    /// What is not a success is read already.
    async fn ask(&self, request: Request<Body>) -> Result<Asked, BoxError> {
        let response = self.http.request(request).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let response = answer::read_error(response, self.secret.as_ref()).await;
            return Ok(Asked::Bad(response.map(|body| body.map_err(|never| match never {}).boxed_unsync())));
        }
        if !status.is_success() {
            return Err(Refused::Redirect(status.as_u16()).into());
        }
        answer::refuse_encoded(response.headers())?;
        Ok(Asked::Good(response))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Server, credential and name; the path is kept behind the server's own.
    fn decorate(&self, mut request: Request<Body>) -> Result<Request<Body>, http::Error> {
        let asked = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(self.authority.clone());
        *request.uri_mut() = uri.path_and_query(format!("{}{asked}", self.path)).build()?;
        let headers = request.headers_mut();
        headers.insert(AGENT, HeaderValue::from_static(USER_AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// Waits until [`WATCH_PACE`] has passed since this watch was started last.
    pub(super) async fn pace(&self, uri: &Uri) {
        let start = {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let last = watches.insert(uri.path().to_owned(), now);
            let start = last.map_or(now, |last| now.max(last + WATCH_PACE));
            watches.insert(uri.path().to_owned(), start);
            start
        };
        sleep_until(start).await;
    }
}
