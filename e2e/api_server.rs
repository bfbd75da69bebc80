//! What the tests in memory believe of an API server, asserted of a real one: the scenarios of
//! `tests/simulation/behaviour`, on a cluster of nothing but etcd, API server and controller manager.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::{
    behaviour::{Behaviour, Faults, Surroundings, World},
    rig::rig,
};

/// Its name; no other test has anything to do with it.
const CLUSTER: &str = "bare";

struct Real {
    stranger: Client,
}

async fn client_of(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.proxy_url = None;
    config.default_retry = false;
    config.read_timeout = Some(Duration::from_secs(60));
    Client::try_from(config).unwrap()
}

impl Surroundings for Real {
    fn stranger(&self) -> Client {
        self.stranger.clone()
    }

    /// etcd forgets; an API server keeps what came after its start or a kind's, which is not asked for.
    fn forget(&self) -> BoxFuture<'_, ()> {
        async {
            let status = etcd("maintenance/status", "{}").await;
            let revision = status["header"]["revision"].as_str().unwrap().to_owned();
            etcd("kv/compaction", &format!("{{\"revision\": \"{revision}\"}}")).await;
        }
        .boxed()
    }

    fn faults(&self) -> Option<&dyn Faults> {
        None
    }
}

async fn etcd(call: &str, body: &str) -> Value {
    let url = format!("http://127.0.0.1:2379/v3/{call}");
    let said = rig("enter", &[CLUSTER, "curl", "-sS", "--noproxy", "*", "--max-time", "10", "-d", body, &url]).await;
    serde_json::from_str(&said).unwrap()
}

async fn play_all() {
    let said = rig("up", &["--api-only", CLUSTER]).await;
    // The last line: `bare: up at ADDRESS, kubeconfig FILE (4 s)`.
    let kubeconfig = said.rsplit_once(", kubeconfig ").unwrap().1.split(' ').next().unwrap();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    rig("kubectl", &[CLUSTER, "apply", "-k", crds]).await;
    rig("kubectl", &[CLUSTER, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;

    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut unknown = kubeconfig.clone();
    unknown.auth_infos[0].auth_info = Some(AuthInfo { token: Some("nobody".to_owned().into()), ..AuthInfo::default() });
    let (client, stranger) = (client_of(kubeconfig).await, client_of(unknown).await);
    let mut wrong = Vec::new();
    for behaviour in Behaviour::ALL.iter().filter(|behaviour| behaviour.is_provocable()) {
        println!("{behaviour:?}");
        let around = Box::new(Real { stranger: stranger.clone() });
        let world = World { client: client.clone(), place: format!("{behaviour:?}").to_lowercase(), around };
        let played = async {
            world.settle().await;
            behaviour.play(&world).await;
        };
        if std::panic::AssertUnwindSafe(played).catch_unwind().await.is_err() {
            wrong.push(*behaviour);
        }
    }
    assert_eq!(wrong, [], "a real API server does otherwise");
}

#[tokio::test]
async fn alone_a_real_api_server_does_what_the_one_in_memory_does() {
    let played = std::panic::AssertUnwindSafe(play_all()).catch_unwind().await;
    rig("down", &[CLUSTER]).await;
    if let Err(failed) = played {
        std::panic::resume_unwind(failed);
    }
}
