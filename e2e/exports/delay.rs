//! How long it takes from the label on a Service until its gateway carries traffic, and until the
//! mirror leads there. Measured and printed for each make of gateway; docs/performance.md has what came
//! out.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Exports, START};
use crate::{
    figures::Spread,
    objects::{same, wait},
};

/// How often the label is taken away and put back.
const TIMES: usize = 20;
/// Between two questions to a gateway.
const AGAIN: Duration = Duration::from_millis(5);
/// Longest wait for an answer to one of them.
const ANSWER: Duration = Duration::from_millis(500);

impl Exports {
    /// Exports a Service again and again. By Port, as anybody may ask a port.
    pub(super) async fn delays(&self, gateway: &str) {
        self.backend("echo", true).await;
        self.answers("echo", START).await;
        let (address, port) = (self.address().await, self.outside_port("echo", "http").await.unwrap());
        let at = format!("{address}:{port}");
        let (mut carried, mut mirrored) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            self.unexport("echo").await;
            self.case.has_services(&[]).await;
            wait(&format!("{}: {at} no longer answers", self.case.name), START, || async {
                same(asked(&at).await, &None)
            })
            .await;
            let sight = self.sight().await;
            let start = Instant::now();
            self.export_again("echo").await;
            let (traffic, mirror) = tokio::join!(self.carries(&at, start), sight.ready(start));
            carried.push(traffic);
            mirrored.push(mirror);
        }
        self.goes(&address, Some(port)).await;
        println!("{gateway}: from the label until the gateway carries traffic {}", Spread::of(carried));
        println!("{gateway}: from the label until the mirror leads there {}", Spread::of(mirrored));
    }

    /// When the gateway first carried a call to the Service.
    async fn carries(&self, at: &str, start: Instant) -> Duration {
        let limit = START * 5;
        while start.elapsed() < limit {
            if asked(at).await.is_some_and(|pod| pod.starts_with("echo-")) {
                return start.elapsed();
            }
            sleep(AGAIN).await;
        }
        panic!("{}: {at} does not answer within {} s", self.case.name, limit.as_secs());
    }

    async fn sight(&self) -> Sight {
        let slices: Api<EndpointSlice> = Api::namespaced(self.case.west.clone(), &self.case.name);
        let list = slices.list(&ListParams::default()).await.unwrap();
        Sight { slices, version: list.metadata.resource_version.unwrap() }
    }
}

/// The mirror's slices, from a moment on.
struct Sight {
    slices: Api<EndpointSlice>,
    version: String,
}

impl Sight {
    /// When one of them first had a ready address.
    async fn ready(self, start: Instant) -> Duration {
        let events = self.slices.watch(&WatchParams::default(), &self.version).await.unwrap();
        let mut events = Box::pin(events);
        while let Some(event) = timeout(START * 5, events.try_next()).await.expect("no slice is ready").unwrap() {
            let (WatchEvent::Added(slice) | WatchEvent::Modified(slice)) = event else { continue };
            let ready = |e: &k8s_openapi::api::discovery::v1::Endpoint| e.conditions.as_ref().and_then(|c| c.ready);
            if slice.endpoints.iter().any(|endpoint| ready(endpoint) == Some(true)) {
                return start.elapsed();
            }
        }
        panic!("the watch of the mirror's slices ended");
    }
}

/// The pod that answers there, if any does.
async fn asked(at: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(b"GET /hostname HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.trim().to_owned())
    };
    timeout(ANSWER, ask).await.ok().flatten()
}
