//! In which version, and whether at all, this cluster serves a kind: asked of discovery, shared by
//! all who follow, so that many kinds of one group cost one question.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::{Client, runtime::watcher};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::core::export::object::Kind;

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// For how long an answer is good for others who ask the same.
const FRESH: Duration = Duration::from_secs(1);

/// How a kind is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Index in [`Kind::versions`].
    pub(super) preference: usize,
    pub(super) version: &'static str,
    pub(super) namespaced: bool,
}

/// See the file's description. Clones share what was answered.
#[derive(Clone)]
pub(super) struct Discovery {
    client: Client,
    /// One question at a time: they are short and seldom, and whoever waits finds the answer.
    answers: Arc<Mutex<Answers>>,
}

/// By group and version: when it was answered, and what.
type Answers = BTreeMap<(&'static str, &'static str), (Instant, Resources)>;

/// The kinds of a group's version; of one that is not served, none.
type Resources = Arc<[Resource]>;

struct Resource {
    plural: String,
    kind: String,
    namespaced: bool,
}

impl Discovery {
    pub(super) fn new(client: Client) -> Self {
        Self { client, answers: Arc::default() }
    }

    /// The first of the versions that we understand which the cluster serves.
    pub(super) async fn served(&self, kind: Kind) -> Result<Option<Served>, watcher::Error> {
        for (preference, version) in kind.versions.iter().copied().enumerate() {
            // Waiting for who asks just now counts too: else a silent server costs each in turn.
            let answer = timeout(DEADLINE, self.resources(kind.group, version)).await;
            let answer = answer.unwrap_or_else(|late| Err(kube::Error::Service(late.into())));
            let resources = answer.map_err(watcher::Error::InitialListFailed)?;
            let found = resources.iter().find(|found| found.plural == kind.plural && found.kind == kind.kind);
            if let Some(Resource { namespaced, .. }) = found {
                return Ok(Some(Served { preference, version, namespaced: *namespaced }));
            }
        }
        Ok(None)
    }

    async fn resources(&self, group: &'static str, version: &'static str) -> kube::Result<Resources> {
        let mut answers = self.answers.lock().await;
        if let Some((at, resources)) = answers.get(&(group, version))
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(resources));
        }
        let resources: Resources = self.ask(group, version).await?.into();
        answers.insert((group, version), (Instant::now(), Arc::clone(&resources)));
        Ok(resources)
    }

    async fn ask(&self, group: &str, version: &str) -> kube::Result<Vec<Resource>> {
        let answer = match group {
            "" => self.client.list_core_api_resources(version).await,
            group => self.client.list_api_group_resources(&format!("{group}/{version}")).await,
        };
        match answer {
            Ok(list) => Ok(list.resources.into_iter().map(Resource::from).collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl From<APIResource> for Resource {
    fn from(told: APIResource) -> Self {
        Self { plural: told.name, kind: told.kind, namespaced: told.namespaced }
    }
}
