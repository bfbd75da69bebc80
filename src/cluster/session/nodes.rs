//! Nodes of an exporter, read only while somebody needs them (NodePort). That they cannot be read
//! is told and does not end the session: most links may not read them and need not.

use std::collections::BTreeMap;

use futures::StreamExt;
use kube::{
    Api,
    runtime::watcher::{Config, Event},
};
use tokio::{sync::watch, time::sleep};

use super::{Ended, FIRST_DELAY, Session, caps::MAX_NODES, follow::paced};
use crate::{
    cluster::{
        backoff::{Backoff, MAX_DELAY},
        failure::{self, Failure},
        wire::RemoteNodeWire,
    },
    core::{io::RemoteEvent, model::RemoteNode},
};

impl Session {
    /// Follows nodes while they are asked for. `told` turns true with the first listing, or with
    /// why there is none.
    pub(super) async fn follow_nodes(&self, told: &watch::Sender<bool>) -> Ended {
        let mut task = self.task.clone();
        loop {
            let wanted = task.wait_for(|task| task.nodes).await.map(drop);
            if wanted.is_err() {
                return Ended::Closed;
            }
            let until = async {
                let mut task = self.task.clone();
                task.wait_for(|task| !task.nodes).await.map(drop)
            };
            tokio::select! {
                biased;
                unwanted = until => if unwanted.is_err() {
                    return Ended::Closed;
                },
                ended = self.follow_wanted_nodes(told) => return ended,
            }
        }
    }

    async fn follow_wanted_nodes(&self, told: &watch::Sender<bool>) -> Ended {
        let mut backoff = Backoff::new(FIRST_DELAY, MAX_DELAY);
        let mut known = false;
        loop {
            let (failure, listed) = match self.follow_nodes_once(told, &mut backoff).await {
                Ok(ended) => ended,
                Err(closed) => return closed,
            };
            known |= listed;
            // What was listed once stays while the trouble may pass, however often it is listed in vain.
            if !known || failure.is_verdict() {
                if let Err(closed) = self.tell(RemoteEvent::NodesListed(Err(failure.message.clone()))).await {
                    return closed;
                }
                told.send_replace(true);
            }
            let delay = if failure.is_verdict() { MAX_DELAY } else { backoff.next(failure.retry_after) };
            sleep(delay).await;
        }
    }

    /// Follows until something fails; says what, and whether there had been a listing.
    async fn follow_nodes_once(
        &self,
        told: &watch::Sender<bool>,
        backoff: &mut Backoff,
    ) -> Result<(Failure, bool), Ended> {
        let mut events = Box::pin(paced(Api::<RemoteNodeWire>::all(self.client.clone()), Config::default()));
        let mut listing: BTreeMap<String, RemoteNode> = BTreeMap::new();
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listing = BTreeMap::new(),
                Ok(Event::InitApply(node)) => {
                    if let Some((name, node)) = node.into_named().filter(|_| listing.len() < MAX_NODES) {
                        listing.insert(name, node);
                    }
                }
                Ok(Event::InitDone) => {
                    backoff.reset();
                    self.tell(RemoteEvent::NodesListed(Ok(std::mem::take(&mut listing)))).await?;
                    told.send_replace(true);
                    listed = true;
                }
                Ok(Event::Apply(node)) => {
                    if let Some((name, node)) = node.into_named() {
                        self.tell(RemoteEvent::Node(name, node)).await?;
                    }
                }
                Ok(Event::Delete(node)) => {
                    if let Some((name, _)) = node.into_named() {
                        self.tell(RemoteEvent::NodeGone(name)).await?;
                    }
                }
                Err(error) if failure::is_expired(&error) => {}
                Err(error) => return Ok((Failure::from(&error), listed)),
            }
        }
        Err(Ended::Closed)
    }
}
