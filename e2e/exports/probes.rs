//! Probes of gateway addresses, between two real controllers and through a real gateway.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{Exports, START};
use crate::{
    audit::Mark,
    controller,
    objects::{Objects, condition, same, says, wait},
    packets::{Fate, Fault},
    relay::reachable_from,
    rig::api_server,
    support::{HOME, read_also},
};

/// Two failures, a second apart, and the time to say so.
const NOTICED: Duration = Duration::from_secs(4);

/// A second address in front of a gateway: its listeners accept, and while it is shut nothing is behind
/// them.
struct Door {
    address: IpAddr,
    open: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Door {
    async fn before(gateway: &str, ports: &[u64]) -> Self {
        let address = reachable_from(api_server("west")).await;
        let (open, state) = watch::channel(false);
        let mut tasks = Vec::new();
        for port in ports {
            let port = u16::try_from(*port).unwrap();
            let gateway = SocketAddr::new(gateway.parse().unwrap(), port);
            let listener = TcpListener::bind((address, port)).await.unwrap();
            let state = state.clone();
            tasks.push(tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    if *state.borrow() {
                        tokio::spawn(async move {
                            let mut server = TcpStream::connect(gateway).await.unwrap();
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        });
                    }
                }
            }));
        }
        Self { address, open, tasks }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Exports {
    /// A case whose link sees what answers probes, and probes every second.
    async fn probed(name: &str) -> Self {
        let exports = Self::new(name, json!({"export": {"provider": {"envoy": {}}}})).await;
        for kind in ["roles", "rolebindings"] {
            let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{HOME}/{kind}");
            Objects::at(&exports.case.east, path).remove("link").await;
        }
        read_also(&exports.case.east, name, HOME).await;
        let probe = json!({"period": "1s", "timeout": "500ms", "failureThreshold": 2});
        let spec = json!({"services": {"namespaces": [name, HOME]}, "probe": probe});
        exports.case.links().patch(name, json!({"spec": spec})).await;
        exports
    }

    /// The outside port behind which the exporter's controller answers.
    async fn probe_port(&self) -> u64 {
        let slices = Objects::slices(&self.case.east, HOME);
        wait(&format!("{}: heliostat-probe is published", self.case.name), START, || async {
            let all = slices.all().await;
            let of = |s: &&Value| {
                let labels = &s["metadata"]["labels"];
                labels["heliostat.dev/service-name"] == "heliostat-probe"
                    && labels["heliostat.dev/binding"] == *self.case.name
            };
            all.values().find(of).and_then(|s| s["ports"][0]["port"].as_u64()).ok_or(all.len())
        })
        .await
    }

    /// Waits until the link says so of its gateways: `address reachable`.
    async fn gateways(&self, reachable: (&str, &str), wanted: &[(String, bool)]) -> String {
        let mut wanted = wanted.to_vec();
        wanted.sort();
        let what = format!("{}: gateways {wanted:?}, Reachable={}", self.case.name, reachable.0);
        wait(&what, NOTICED, || async {
            let link = self.case.links().get(&self.case.name).await.unwrap();
            let gateways = link["status"]["gateways"].as_array().cloned().unwrap_or_default();
            let row = |g: &Value| Some((g["address"].as_str()?.to_owned(), g["reachable"].as_bool()?));
            let mut there: Vec<_> = gateways.iter().filter_map(row).collect();
            there.sort();
            let (status, reason) = says(&link, "Reachable");
            same((there, status.as_str(), reason.as_str()), &(wanted.clone(), reachable.0, reachable.1))
                .map_err(|there| format!("{there:?} {:?}", condition(&link, "Reachable")))?;
            Ok::<_, String>(condition(&link, "Reachable").unwrap().2)
        })
        .await
    }
}

/// G18: an address that accepts connections with nothing behind it leaves the mirror that has another
/// one, and comes back when content does; so does one to which no packet gets any more.
#[tokio::test]
async fn g18_an_address_with_nothing_behind_it_leaves_the_mirror_that_has_another_one() {
    let exports = Exports::probed("g18e").await;
    let mirror = exports.case.mirrored("echo");
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let gateway = exports.address().await;
    let (http, udp) =
        (exports.outside_port("echo", "http").await.unwrap(), exports.outside_port("echo", "udp").await.unwrap());
    exports.gateways(("True", "Reachable"), &[(gateway.clone(), true)]).await;

    let door = Door::before(&gateway, &[http, exports.probe_port().await]).await;
    let second = door.address.to_string();
    let addresses = json!([{"value": gateway}, {"value": second}]);
    exports.bindings().patch("g18e", json!({"spec": {"export": {"addresses": addresses}}})).await;
    let endpoints = |ready: &str| {
        let mut all: Vec<String> = [(&gateway, ""), (&second, ready)]
            .into_iter()
            .flat_map(|(address, ready)| {
                [format!("{address}:{http} http{ready}"), format!("{address}:{udp} udp{ready}")]
            })
            .collect();
        all.sort();
        all
    };
    let feeds = async |ready: &str| {
        wait(&format!("g18e: the second address is{ready} ready"), NOTICED, || async {
            same(exports.case.endpoints(&mirror).await, &endpoints(ready))
        })
        .await;
    };
    feeds(" not ready").await;
    let told = exports.gateways(("False", "Unreachable"), &[(gateway.clone(), true), (second.clone(), false)]).await;
    assert!(told.contains(&second) && told.contains("is anything behind it?"), "{told}");
    exports.answers_each_time("echo").await;

    door.open.send_replace(true);
    feeds("").await;
    exports.gateways(("True", "Reachable"), &[(gateway.clone(), true), (second.clone(), true)]).await;
    exports.answers_each_time("echo").await;

    // A partition between everybody here and that address: calls and probes.
    let mut pods = controller::addresses(&exports.case.west).await;
    let client = Objects::pods(&exports.case.west, "g18e").get("client").await.unwrap();
    pods.push(client["status"]["podIP"].as_str().unwrap().to_owned());
    let mut faults = Vec::new();
    for port in [http, exports.probe_port().await] {
        let door = SocketAddr::new(door.address, u16::try_from(port).unwrap());
        faults.push(Fault::outside("west", &pods, door, Fate::Dropped).await);
    }
    feeds(" not ready").await;
    let told = exports.gateways(("False", "Unreachable"), &[(gateway.clone(), true), (second.clone(), false)]).await;
    println!("g18e: {told}");
    exports.answers_each_time("echo").await;
    drop(faults);
    feeds("").await;
    exports.gateways(("True", "Reachable"), &[(gateway, true), (second, true)]).await;
    exports.answers_each_time("echo").await;
}

/// An exporter's controller that is away is no gateway that is; its restart writes nothing, and so does
/// that of the importer's, which remembers what did not answer.
#[tokio::test]
async fn alone_g18_controllers_that_come_and_go_withdraw_nothing_and_write_nothing() {
    let exports = Exports::probed("g18r").await;
    let mirror = exports.case.mirrored("echo");
    exports.backend("echo", true).await;
    exports.answers("echo", START).await;
    let gateway = exports.address().await;
    let ports = [exports.outside_port("echo", "http").await.unwrap(), exports.probe_port().await];
    let door = Door::before(&gateway, &ports).await;
    let second = door.address.to_string();
    let addresses = json!([{"value": gateway}, {"value": second}]);
    exports.bindings().patch("g18r", json!({"spec": {"export": {"addresses": addresses}}})).await;
    let both = [(gateway.clone(), true), (second.clone(), false)];
    exports.gateways(("False", "Unreachable"), &both).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = exports.case.endpoints(&mirror).await;
    assert_eq!(before.iter().filter(|e| e.ends_with("not ready")).count(), 2, "{before:?}");

    // The importer's.
    let mark = Mark::of("west");
    controller::stop(&exports.case.west).await;
    controller::start(&exports.case.west).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(mark.writes_in("g18r").await, Vec::<String>::new(), "no mirror");
    let of_link =
        mark.writes().await.into_iter().filter(|write| write.contains("clusterlinks") && write.contains("g18r"));
    assert_eq!(of_link.collect::<Vec<_>>(), Vec::<String>::new(), "nor a status");
    assert_eq!(exports.case.endpoints(&mirror).await, before);

    // The exporter's: with nobody to answer, a connection is all that can be asked for.
    door.open.send_replace(true);
    exports.gateways(("True", "Reachable"), &[(gateway.clone(), true), (second.clone(), true)]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (east, west) = (Mark::of("east"), Mark::of("west"));
    controller::stop(&exports.case.east).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    exports.answers("echo", Duration::from_secs(1)).await;
    controller::start(&exports.case.east).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(west.writes_in("g18r").await, Vec::<String>::new());
    assert_eq!(east.writes().await, Vec::<String>::new(), "in the exporter");
    exports.gateways(("True", "Reachable"), &[(gateway, true), (second, true)]).await;
}
