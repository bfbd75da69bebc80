//! The HTTP service under a link's client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT as AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::Client as Http,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Client, client::Body};
use tokio::time::{Instant, sleep_until, timeout};
use tower::{BoxError, service_fn};

use super::{
    REQUEST_DEADLINE, USER_AGENT, answer,
    connect::{Connector, Guard},
};
use crate::cluster::{credentials::Credentials, dns::Lookup};

/// Least time between two starts of one watch: a server that ends every watch at once is not
/// answered by a storm.
const WATCH_PACE: Duration = Duration::from_secs(1);
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
    #[error("a line of the watch is longer than {0} MiB")]
    LineTooLong(usize),
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
    secret: Option<String>,
    watches: Mutex<BTreeMap<String, Instant>>,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl Remote {
    pub(super) fn new(credentials: &Credentials, guard: Guard, lookup: Arc<dyn Lookup>) -> Result<Self, http::Error> {
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Connector::new(credentials, guard, lookup));
        let secret = credentials.authorization.as_ref().and_then(|value| value.to_str().ok()?.split_once(' '));
        Ok(Self {
            http,
            authority: Authority::try_from(credentials.server.authority())?,
            path: credentials.server.path.clone(),
            authorization: credentials.authorization.clone(),
            secret: secret.map(|(_, token)| token.to_owned()),
            watches: Mutex::default(),
        })
    }

    pub(super) fn into_client(self) -> Client {
        let remote = Arc::new(self);
        let service = service_fn(move |request| Arc::clone(&remote).call(request));
        Client::new(service, "default")
    }

    async fn call(self: Arc<Self>, request: Request<Body>) -> Result<Answer, BoxError> {
        if request.method() != Method::GET {
            return Err(Refused::Method(request.method().clone()).into());
        }
        let query = request.uri().query().unwrap_or_default();
        let asks = |what: &str| query.split('&').any(|pair| pair.starts_with(what));
        let (is_watch, is_list) = (asks("watch=true"), asks("limit="));
        if is_watch {
            self.pace(request.uri()).await;
        }
        let request = self.decorate(request)?;
        let answered = timeout(REQUEST_DEADLINE, self.answer(request, is_watch, is_list)).await;
        answered.unwrap_or_else(|_| Err(Refused::Deadline(REQUEST_DEADLINE.as_secs()).into()))
    }

    async fn answer(&self, request: Request<Body>, is_watch: bool, is_list: bool) -> Result<Answer, BoxError> {
        let response = self.http.request(request).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let response = answer::read_error(response, self.secret.as_deref()).await;
            return Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()));
        }
        if !status.is_success() {
            return Err(Refused::Redirect(status.as_u16()).into());
        }
        if is_watch {
            return Ok(response.map(|body| answer::Lines::new(body).boxed_unsync()));
        }
        let response = answer::read(response, is_list, answer::MAX_ANSWER).await?;
        Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
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
