//! What an exporter needs beside what every controller has: the objects that gateways are made of.

use std::collections::BTreeSet;

use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::objects::{Objects, ObjectsHealth},
    core::{export::object::Kind, io::Input},
};

/// See the file's description.
pub(super) struct Exporting {
    /// The kinds to follow.
    kinds: watch::Sender<BTreeSet<Kind>>,
    /// How well they can be read.
    health: watch::Receiver<ObjectsHealth>,
    following: JoinHandle<()>,
}

impl Exporting {
    /// Begins to follow what will be asked for, until `shutdown`.
    pub(super) fn begin(
        client: &Client,
        namespace: &str,
        tell: &mpsc::Sender<Input>,
        shutdown: &CancellationToken,
    ) -> Self {
        let (objects, health) = Objects::new(client.clone(), namespace, tell.clone());
        let (kinds, wanted) = watch::channel(BTreeSet::new());
        let following = tokio::spawn(objects.run(wanted, shutdown.clone()));
        Self { kinds, health, following }
    }

    /// Follow these kinds from now on.
    pub(super) fn follow(&self, kinds: &BTreeSet<Kind>) {
        self.kinds.send_if_modified(|wanted| {
            let new = wanted != kinds;
            wanted.clone_from(kinds);
            new
        });
    }

    /// How well the kinds can be read.
    pub(super) fn health(&self) -> watch::Receiver<ObjectsHealth> {
        self.health.clone()
    }

    /// The tasks that end by themselves after `shutdown`.
    pub(super) fn into_tasks(self) -> impl Iterator<Item = JoinHandle<()>> {
        [self.following].into_iter()
    }
}
