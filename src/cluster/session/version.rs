//! The resourceVersions that the watch of one scope has come to. kube's `watcher` tells neither that of a
//! listing nor those of bookmarks, so they are read from what it is answered and from where it asks
//! to go on. Only notes; concludes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use kube::{Client, client::Body, core::ObjectList};
use serde::de::IgnoredAny;
use tower::service_fn;

/// What is noted of one watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    /// Of the last listing.
    listed: Option<String>,
    /// The last one seen, of a listing, an event or a bookmark.
    reached: Option<String>,
    /// What the engine was told last; nothing before its first listing.
    told: Option<Option<String>>,
}

impl Versions {
    /// A client that asks through `client` and notes what it sees. For one watch only.
    pub(super) fn noting(&self, client: &Client) -> Client {
        let (versions, inner) = (self.clone(), client.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (versions, client) = (versions.clone(), inner.clone());
            async move { versions.ask(&client, request).await }
        });
        Client::new(service, client.default_namespace())
    }

    async fn ask(&self, client: &Client, request: Request<Body>) -> kube::Result<Response<Body>> {
        let query = request.uri().query().unwrap_or_default();
        let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let watch = of("watch") == Some("true");
        if let (true, Some(from)) = (watch, of("resourceVersion")) {
            self.reach(Some(from));
        }
        let response = client.send(request).await?;
        if watch || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let bytes = body.collect_bytes().await?;
        let list = serde_json::from_slice::<ObjectList<IgnoredAny>>(&bytes).ok();
        self.noted().listed = list.and_then(|list| list.metadata.resource_version);
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch has come to this.
    pub(super) fn reach(&self, version: Option<&str>) {
        if let Some(version) = version {
            self.noted().reached = Some(version.to_owned());
        }
    }

    /// A listing is complete; from here on the watch goes on.
    pub(super) fn complete(&self) {
        let mut noted = self.noted();
        noted.reached = noted.listed.clone();
    }

    /// That of the last listing, which is told now.
    pub(super) fn tell_listing(&self) -> Option<String> {
        let mut noted = self.noted();
        noted.told = Some(noted.listed.clone());
        noted.listed.clone()
    }

    /// What the watch has come to since it was told last.
    pub(super) fn tell_news(&self) -> Option<String> {
        let mut noted = self.noted();
        let news = noted.told.is_some() && noted.told.as_ref() != Some(&noted.reached);
        if news {
            noted.told = Some(noted.reached.clone());
        }
        noted.reached.clone().filter(|_| news)
    }
}
