//! What an exporter needs beside what every controller has: the objects that gateways are made of,
//! the answer to other clusters' probes, and for Heliostat's own gateways their certificates and the
//! server that tells them what to do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use futures::future::join;
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::Config;
use crate::{
    api::names::PROBE_PATH,
    apply::{
        certificates::{Certificates, ServerTls, Trouble},
        lease::Leadership,
    },
    cluster::objects::{Objects, ObjectsHealth},
    core::{
        envoy::{EnvoyConfig, XDS_SERVICE, xds_host},
        export::object::Kind,
        io::{ExportNews, Input},
    },
    metrics::Metrics,
    serve::serve_uid,
    xds::Xds,
};

/// See the file's description.
pub(super) struct Exporting {
    /// The kinds to follow.
    kinds: watch::Sender<BTreeSet<Kind>>,
    /// Tells Envoys.
    xds: Xds,
    /// The bindings with Envoys of ours.
    bindings: watch::Sender<BTreeSet<String>>,
    /// What is answered to probes.
    uid: watch::Sender<Option<String>>,
    health: ExportHealth,
    tasks: Vec<JoinHandle<()>>,
}

/// How well all that goes, for `/readyz`.
#[derive(Clone)]
pub(super) struct ExportHealth {
    objects: watch::Receiver<ObjectsHealth>,
    certificates: Trouble,
}

impl fmt::Display for ExportHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.borrow().fmt(f)?;
        match self.certificates.borrow().as_deref() {
            Some(wrong) => writeln!(f, "certificates of gateways: {wrong}"),
            None => Ok(()),
        }
    }
}

/// Where an exporter is reached.
pub(super) struct Listeners {
    /// By Heliostat's own gateways.
    pub(super) xds: TcpListener,
    /// By other clusters' probes.
    pub(super) probes: TcpListener,
}

/// Who an exporter's hands work with.
pub(super) struct Partners<'a> {
    /// This cluster.
    pub(super) client: &'a Client,
    /// Who may write.
    pub(super) leadership: &'a Leadership,
    /// Counts writes.
    pub(super) metrics: &'a Arc<Metrics>,
    /// The engine.
    pub(super) tell: &'a mpsc::Sender<Input>,
    /// Ends it all.
    pub(super) shutdown: &'a CancellationToken,
}

impl Exporting {
    /// Begins to follow what will be asked for and, where there are listeners, to serve Envoys and to answer
    /// probes, until shutdown.
    pub(super) fn begin(config: &Config, listeners: Option<Listeners>, partners: &Partners<'_>) -> Self {
        let Partners { client, leadership, metrics, tell, shutdown } = *partners;
        let (objects, read) = Objects::new(client.clone(), &config.namespace, tell.clone());
        let (kinds, wanted) = watch::channel(BTreeSet::new());
        let (certificates, tls, trouble) = Certificates::new(
            client.clone(),
            &config.namespace,
            server_names(config),
            leadership.clone(),
            Arc::clone(metrics),
        );
        let (bindings, with_envoys) = watch::channel(BTreeSet::new());
        let (uid, told) = watch::channel(None);
        let xds = Xds::new();
        let mut tasks = vec![
            tokio::spawn(objects.run(wanted, shutdown.clone())),
            tokio::spawn(certificates.run(with_envoys, shutdown.clone())),
            tokio::spawn(tell_states(xds.clone(), tell.clone(), shutdown.clone())),
        ];
        if let Some(listeners) = listeners {
            tasks.push(tokio::spawn(serve(xds.clone(), listeners.xds, tls, leadership.clone(), shutdown.clone())));
            tasks.push(tokio::spawn(serve_uid(listeners.probes, PROBE_PATH, told, shutdown.clone())));
        }
        let health = ExportHealth { objects: read, certificates: trouble };
        Self { kinds, xds, bindings, uid, health, tasks }
    }

    /// What this cluster is to answer to probes.
    pub(super) fn uid(&self, uid: &str) {
        self.uid.send_replace(Some(uid.to_owned()));
    }

    /// Follow these kinds from now on.
    pub(super) fn follow(&self, kinds: BTreeSet<Kind>) {
        self.kinds.send_replace(kinds);
    }

    /// The Envoys of a binding are to do this from now on; none: they are not let in any more.
    pub(super) fn envoys(&self, binding: &str, config: Option<EnvoyConfig>) {
        self.bindings.send_if_modified(|bindings| match &config {
            Some(_) => bindings.insert(binding.to_owned()),
            None => bindings.remove(binding),
        });
        self.xds.set(binding, config);
    }

    /// How well it goes.
    pub(super) fn health(&self) -> ExportHealth {
        self.health.clone()
    }

    /// The tasks, which end by themselves after shutdown.
    pub(super) fn into_tasks(self) -> Vec<JoinHandle<()>> {
        self.tasks
    }
}

/// All names under which a pod may reach the Service in front of the controllers.
fn server_names(config: &Config) -> Vec<String> {
    let (service, namespace) = (XDS_SERVICE.0, &config.namespace);
    vec![
        xds_host(namespace, &config.cluster_domain),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}"),
        service.to_owned(),
    ]
}

/// Serves once there is an authority, and with every certificate that comes later.
async fn serve(
    xds: Xds,
    listener: TcpListener,
    mut tls: ServerTls,
    leadership: Leadership,
    shutdown: CancellationToken,
) {
    let first =
        shutdown.run_until_cancelled(async { tls.wait_for(Option::is_some).await.ok().and_then(|tls| tls.clone()) });
    let Some(Some(first)) = first.await else { return };
    let (renew, current) = watch::channel(first);
    let renewing = async {
        while tls.changed().await.is_ok() {
            if let Some(tls) = tls.borrow_and_update().clone() {
                renew.send_replace(tls);
            }
        }
    };
    let leads = Arc::new(move || leadership.remaining().is_some());
    join(xds.serve(listener, current, leads, shutdown.clone()), shutdown.run_until_cancelled(renewing)).await;
}

async fn tell_states(xds: Xds, tell: mpsc::Sender<Input>, shutdown: CancellationToken) {
    let telling = async {
        // The engine only stops listening at shutdown.
        while tell.send(Input::Export(ExportNews::Envoy(xds.next_state().await))).await.is_ok() {}
    };
    shutdown.run_until_cancelled(telling).await;
}
