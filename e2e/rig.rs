//! The rig's commands, and the files of its clusters.

use std::{net::SocketAddr, path::PathBuf};

use tokio::process::Command;

/// Runs a command of the rig; fails with what it said when it fails.
pub(crate) async fn rig(command: &str, arguments: &[&str]) -> String {
    try_rig(command, arguments).await.unwrap_or_else(|said| panic!("e2e/rig/{command} {arguments:?}: {said}"))
}

/// Runs a command of the rig: what it printed, or what it said when it failed.
pub(crate) async fn try_rig(command: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(program(command)).args(arguments).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// Runs a command of the rig at once, for what has to be undone even when a test has failed; says on the
/// test's output when that does not work.
pub(crate) fn rig_now(command: &str, arguments: &[&str]) {
    let done = std::process::Command::new(program(command)).args(arguments).output();
    match done {
        Ok(done) if done.status.success() => {}
        failed => println!("e2e/rig/{command} {arguments:?}: {failed:?}"),
    }
}

fn program(command: &str) -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/rig/").to_owned() + command
}

/// A file of a cluster: they lie beside its kubeconfig.
pub(crate) fn file(cluster: &str, path: &str) -> PathBuf {
    let variable = format!("HELIOSTAT_{}_KUBECONFIG", cluster.to_uppercase());
    let kubeconfig = std::env::var(&variable).unwrap_or_else(|_| panic!("{variable} is not set; run make e2e"));
    PathBuf::from(kubeconfig).parent().unwrap().join(path)
}

/// Where a cluster's API server listens.
pub(crate) fn api_server(cluster: &str) -> SocketAddr {
    let kubeconfig = std::fs::read_to_string(file(cluster, "kubeconfig")).unwrap();
    let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://")).unwrap();
    line.parse().unwrap()
}
