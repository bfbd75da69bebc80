//! Everything that reads bytes of a remote, given changed inputs from `tests/corpus`: it never
//! panics, what comes out is bounded and keeps its invariants, and the same input gives the same.
//!
//! A bounded run is part of the unit tests; `make soak-fuzz` sets `HELIOSTAT_FUZZ_CASES` for a long
//! one. What a run finds becomes a named test beside the code that it found wrong.

mod invariants;
mod mutate;

use std::{convert::Infallible, fmt::Debug};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::{
    Client,
    core::{ObjectList, WatchEvent},
};
use proptest::{prelude::*, sample::Index, test_runner::Config};
use serde_json::Value;
use tower::{BoxError, service_fn};

use self::mutate::{inputs, seeds};
use super::{
    answer::{MAX_LIST, MAX_OBJECT, read, read_error},
    lines::{Lines, Share},
    secret::Secret,
};
use crate::{
    cluster::{
        address,
        credentials::{Credentials, Host},
        failure::Failure,
        wire::{FromWire, OriginWire, RemoteNodeWire, RemoteSliceWire, Wire},
    },
    core::model::{Key, Origin, RemoteNode, RemoteSlice},
};

const CANARY: &str = "canary-4f7a-of-the-corpus";

fn config() -> Config {
    let cases = std::env::var("HELIOSTAT_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(128);
    Config { cases, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// What a link's client makes of an answer.
fn answered(bytes: &[u8], is_list: bool) -> Option<Vec<u8>> {
    let max = if is_list { MAX_LIST } else { MAX_OBJECT };
    let response = Response::new(Full::new(Bytes::copy_from_slice(bytes)));
    let read = run(read(response, is_list, max, Some(&Secret::new(CANARY)))).ok()?;
    Some(run(read.into_body().collect()).unwrap().to_bytes().to_vec())
}

/// What is made of an object, after its invariants have been checked.
trait Checked: FromWire + Clone + Debug {
    fn check(wire: Wire<Self>) -> String;
}

impl Checked for Origin {
    fn check(wire: Wire<Self>) -> String {
        let read: Option<(Key, Self)> = wire.into_model();
        if let Some((key, origin)) = &read {
            invariants::key(key);
            invariants::origin(origin);
        }
        format!("{read:?}")
    }
}

impl Checked for Option<RemoteSlice> {
    fn check(wire: Wire<Self>) -> String {
        let read: Option<(Key, Self)> = wire.into_model();
        if let Some((key, slice)) = &read {
            invariants::key(key);
            slice.iter().for_each(invariants::slice);
        }
        format!("{read:?}")
    }
}

impl Checked for RemoteNode {
    fn check(wire: Wire<Self>) -> String {
        let read = wire.into_named();
        read.iter().for_each(invariants::node);
        format!("{read:?}")
    }
}

fn credentials(bytes: &[u8]) -> Result<String, String> {
    match Credentials::parse(bytes) {
        Ok(credentials) => {
            let server = &credentials.server;
            assert!(server.port > 0 && (server.path.is_empty() || server.path.starts_with('/')));
            match &server.host {
                Host::Ip(host) => address::check(*host).unwrap(),
                Host::Name(name) => invariants::text(name, 253),
            }
            let shown = format!("{credentials:?}");
            assert!(!shown.contains("canary"), "{shown}");
            Ok(format!("{shown} {server:?} {:?} {:?}", credentials.server_name, credentials.expires_at))
        }
        Err(error) => {
            let (shown, said) = (format!("{error:?}"), error.to_string());
            assert!(!shown.contains("canary") && !said.contains("canary"), "{shown}");
            invariants::text(&said, 400);
            Err(said)
        }
    }
}

/// A list of one kind: what the client lets through, kube can decode.
fn list<T: Checked>(bytes: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8(answered(bytes, true)?).unwrap();
    let list: ObjectList<Wire<T>> = serde_json::from_str(&text).unwrap();
    assert!(list.items.len() <= 20_000);
    Some(list.items.into_iter().map(T::check).collect())
}

/// What comes of a watch whose bytes arrive in these pieces.
fn watch<T: Checked>(pieces: Vec<Vec<u8>>) -> Vec<String>
where
    Wire<T>: Send,
{
    let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
    let body =
        Lines::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())), Share::new(Some(Secret::new(CANARY))));
    let mut body = Some(body);
    let client = service_fn(move |_: Request<kube::client::Body>| {
        let body = body.take();
        async move { Ok::<_, Infallible>(Response::new(body.unwrap())) }
    });
    run(async {
        let request = Request::get("/api/v1/services?watch=true").body(Vec::new()).unwrap();
        let events = Client::new(client, "default").request_events::<Wire<T>>(request).await.unwrap();
        let events: Vec<_> = events.collect().await;
        events.into_iter().map(said).collect()
    })
}

fn said<T: Checked>(event: kube::Result<WatchEvent<Wire<T>>>) -> String {
    match event {
        Ok(WatchEvent::Added(wire)) => format!("added {}", T::check(wire)),
        Ok(WatchEvent::Modified(wire)) => format!("modified {}", T::check(wire)),
        Ok(WatchEvent::Deleted(wire)) => format!("deleted {}", T::check(wire)),
        Ok(WatchEvent::Bookmark(_)) => "bookmark".to_owned(),
        Ok(WatchEvent::Error(status)) => failed(&kube::Error::Api(status)),
        Err(error) => failed(&error),
    }
}

fn failed(error: &kube::Error) -> String {
    let failure = Failure::from(error);
    invariants::text(&failure.message, 601);
    assert!(!failure.message.contains(CANARY), "{}", failure.message);
    format!("failed {}", failure.reason)
}

fn pieces(bytes: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a01_a14_fuzz_kubeconfigs(input in inputs("kubeconfig")) {
        prop_assert_eq!(credentials(&input.0), credentials(&input.0));
    }

    #[test]
    fn a04_a12_fuzz_lists(input in inputs("list")) {
        let first = list::<Origin>(&input.0);
        prop_assert_eq!(first, list::<Origin>(&input.0));
        prop_assert_eq!(list::<Option<RemoteSlice>>(&input.0), list::<Option<RemoteSlice>>(&input.0));
        prop_assert_eq!(list::<RemoteNode>(&input.0), list::<RemoteNode>(&input.0));
    }

    #[test]
    fn a09_a12_fuzz_objects(input in inputs("object")) {
        if let Some(bytes) = answered(&input.0, false) {
            // kube decodes single objects by serde_json too.
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&value, &serde_json::from_slice::<Value>(&input.0).unwrap());
            let origin: OriginWire = serde_json::from_slice(&bytes).unwrap();
            let again = Origin::check(serde_json::from_slice::<OriginWire>(&bytes).unwrap());
            prop_assert_eq!(Origin::check(origin), again);
            <Option<RemoteSlice>>::check(serde_json::from_slice::<RemoteSliceWire>(&bytes).unwrap());
            RemoteNode::check(serde_json::from_slice::<RemoteNodeWire>(&bytes).unwrap());
        }
    }

    #[test]
    fn a04_a12_fuzz_watches(input in inputs("watch"), cuts in prop::collection::vec(any::<Index>(), 0..8)) {
        let whole = watch::<Origin>(vec![input.0.clone()]);
        let cut = watch::<Origin>(pieces(&input.0, &cuts));
        // Where a line is too long or repeats the token, how far it got before depends on the pieces.
        if !whole.iter().chain(&cut).any(|said| said.starts_with("failed")) {
            prop_assert_eq!(whole, cut);
        }
        watch::<Option<RemoteSlice>>(pieces(&input.0, &cuts));
        watch::<RemoteNode>(vec![input.0]);
    }

    #[test]
    fn a11_a14_fuzz_error_answers(input in inputs("error"), code in 400..600_u16) {
        let mut response = Response::new(Full::new(Bytes::from(input.0)));
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        let read = run(read_error(response, Some(&Secret::new(CANARY))));
        prop_assert_eq!(read.status().as_u16(), code);
        let body = run(read.into_body().collect()).unwrap().to_bytes();
        let status: kube::core::Status = serde_json::from_slice(&body).unwrap();
        invariants::text(&status.message, 301);
        invariants::text(&status.reason, 301);
        prop_assert!(!String::from_utf8_lossy(&body).contains(CANARY));
    }
}

/// A corpus of inputs that are all refused would try nothing.
#[test]
fn the_corpus_is_understood() {
    for (name, seed) in seeds("kubeconfig") {
        assert_eq!(credentials(&seed).is_err(), name.starts_with("refused-"), "{name}");
    }
    for (name, seed) in seeds("list") {
        assert!(list::<Origin>(&seed).is_some(), "{name}");
    }
    for (name, seed) in seeds("object") {
        assert!(answered(&seed, false).is_some(), "{name}");
    }
    for (name, seed) in seeds("watch") {
        let failures = watch::<Origin>(vec![seed]).iter().filter(|said| said.starts_with("failed")).count();
        assert_eq!(failures, usize::from(name == "expired.jsonl"), "{name}");
    }
    assert!(seeds("error").len() > 1);
}
