//! Calls from a pod of the importer through a mirror to a pod of the exporter, one after the other while
//! something else happens. Traffic goes through a node port: no gateway is needed.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    direct::pod,
    fixture::exported,
    objects::{Objects, wait},
    rig::{rig, try_rig},
    support::{Case, merge},
};

/// Pods take their time to start.
const START: Duration = Duration::from_secs(20);

/// The pod `echo` behind the exported Service `echo`, and the pod `client` that calls its mirror.
pub(crate) struct Echo {
    case: String,
    client: String,
    url: String,
}

/// Calls that are under way. They end when this is dropped.
pub(crate) struct Calls {
    case: String,
    stop: PathBuf,
    calling: JoinHandle<String>,
}

impl Echo {
    /// Makes both, and waits until a call comes through.
    pub(crate) async fn new(case: &Case) -> Self {
        Objects::pods(&case.east, &case.name).create(&pod("echo")).await;
        Objects::pods(&case.west, &case.name).create(&pod("client")).await;
        let mut echo = exported("echo", json!({"spec": {"type": "NodePort", "selector": {"app": "echo"}}}));
        merge(&mut echo["spec"], json!({"allocateLoadBalancerNodePorts": null, "loadBalancerClass": null}));
        echo["spec"]["ports"] = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
        case.origins().create(&echo).await;
        let url = format!("http://{}.{}.svc.cluster.local/hostname", case.mirrored("echo"), case.name);
        let echo = Self { case: case.name.clone(), client: format!("{}/client", case.name), url };
        wait(&format!("{}: a call comes through", case.name), START, || echo.call()).await;
        echo
    }

    /// One call.
    pub(crate) async fn call(&self) -> Result<(), String> {
        let command = ["west", &self.client, "curl", "-sS", "--fail", "--max-time", "3", &self.url];
        let answer = try_rig("pod", &command).await?;
        if answer == "echo" { Ok(()) } else { Err(answer) }
    }

    /// Calls again and again.
    pub(crate) fn calls(&self) -> Calls {
        // Calls until a file appears; prints how many there were, and how many failed.
        let calls = r#"made=0 failed=0
            until [[ -e $1 ]]; do
              [[ $(curl -sS --fail --max-time 3 "$0") == echo ]] || failed=$((failed + 1))
              made=$((made + 1))
            done
            echo "$made $failed""#;
        let stop = std::env::temp_dir().join(format!("heliostat-{}-traffic", self.case));
        let _ = std::fs::remove_file(&stop);
        let (client, url, file) = (self.client.clone(), self.url.clone(), stop.display().to_string());
        let calling =
            tokio::spawn(async move { rig("pod", &["west", &client, "bash", "-c", calls, &url, &file]).await });
        Calls { case: self.case.clone(), stop, calling }
    }
}

impl Calls {
    /// No call failed, and there were some.
    pub(crate) async fn none_failed(mut self) {
        std::fs::write(&self.stop, "").unwrap();
        let told = (&mut self.calling).await.unwrap();
        std::fs::remove_file(&self.stop).unwrap();
        let (made, failed) = told.split_once(' ').unwrap();
        println!("{}: {made} calls, {failed} failed", self.case);
        assert!(made.parse::<u32>().unwrap() > 20, "{told}");
        assert_eq!(failed, "0", "of {made} calls");
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // A test that failed meanwhile leaves nobody calling.
        if !self.calling.is_finished() {
            let _ = std::fs::write(&self.stop, "");
        }
    }
}
