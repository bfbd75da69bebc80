//! What must be so at every moment, whatever happens: nobody's call is answered by another Service, and
//! probes withdraw what has failed, that alone, and until it answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::gateway::{ADDRESSES, Doing, Gateway, Since, text};
use crate::server::Server;

/// How often it looks whether something has changed.
const LOOK: Duration = Duration::from_millis(50);
/// And if nothing has.
const LATEST: Duration = Duration::from_secs(5);
/// So long an address must have answered before its absence is a fault: three probes of ten seconds
/// each, and whatever keeps the importer's controller from reading and writing.
const RECOVERED: Duration = Duration::from_secs(400);
/// So long an address must have failed before its return is a fault.
const FAILED: Duration = Duration::from_secs(60);

/// See the file's description. Clones are of the same witness.
#[derive(Clone)]
pub(crate) struct Witness {
    began: Instant,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// What it remembers.
#[derive(Default)]
struct Memory {
    addresses: BTreeMap<String, Address>,
    /// By slice and address: since when it is withdrawn.
    withdrawn: BTreeMap<(String, String), Instant>,
}

/// An address of the gateway.
#[derive(Clone, Copy)]
struct Address {
    /// It answers at all.
    answers: Since<bool>,
    /// It answers probes by content.
    content: Since<bool>,
}

impl Witness {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), wrong: Arc::default() }
    }

    /// Looks on for ever.
    pub(crate) async fn watch(self, importer: Server, gateway: Gateway) {
        let (mut seen, mut last, mut memory) = ((0, 0), Instant::now(), Memory::default());
        loop {
            sleep(LOOK).await;
            let doing = gateway.doing();
            let now = (importer.version(), doing.revision);
            if now != seen || last.elapsed() >= LATEST {
                (seen, last) = (now, Instant::now());
                self.look(&importer, &doing, &mut memory);
            }
        }
    }

    /// What was wrong.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn look(&self, importer: &Server, doing: &Doing, memory: &mut Memory) {
        for (address, answers) in &doing.answers {
            let new = || Address { answers: Since::now(*answers), content: Since::now(false) };
            let known = memory.addresses.entry(address.clone()).or_insert_with(new);
            known.answers.update(*answers);
            known.content.update(*answers && doing.content);
        }
        let slices = importer.all("endpointslices");
        let mut there = Vec::new();
        for ((_, name), slice) in slices.iter().filter(|((namespace, _), _)| namespace == "shop") {
            let mirror = text(&slice["metadata"]["labels"]["kubernetes.io/service-name"]);
            let origin = format!("shop/{}", mirror.strip_suffix("-east").unwrap());
            let ready = |address: &str| {
                let all = slice["endpoints"].as_array().unwrap();
                let found = all.iter().find(|endpoint| endpoint["addresses"][0] == address);
                found.map(|endpoint| endpoint["conditions"]["ready"] == true)
            };
            if ADDRESSES.iter().any(|address| ready(address) == Some(true)) {
                self.calls(&origin, slice, doing);
            }
            let [one, two] = ADDRESSES;
            if let (Some(first), Some(second)) = (ready(one), ready(two)) {
                for (address, is, other, other_is) in [(one, first, two, second), (two, second, one, first)] {
                    let key = (name.clone(), address.to_owned());
                    self.withdrawal(&key, is, other, other_is, memory);
                    there.push(key);
                }
            }
        }
        memory.withdrawn.retain(|key, _| there.contains(key));
    }

    /// Whoever calls a mirror reaches its origin or nobody.
    fn calls(&self, origin: &str, slice: &Value, doing: &Doing) {
        for port in slice["ports"].as_array().unwrap() {
            let number = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
            if let Some(backend) = doing.table.get(&number)
                && backend.service != origin
            {
                self.tell(&format!("calls of {origin} reach {} by port {number}", backend.service));
            }
        }
    }

    /// Of two addresses one is withdrawn, or is there again.
    fn withdrawal(&self, key: &(String, String), is: bool, other: &str, other_is: bool, memory: &mut Memory) {
        let (slice, address) = key;
        let (Address { answers, content }, other) = (memory.addresses[address], memory.addresses[other]);
        if is || !other_is {
            let since = memory.withdrawn.remove(key);
            let failed = answers.for_long(&false, FAILED) && since.is_some_and(|since| since >= answers.since);
            if is && failed && other.content.for_long(&true, FAILED) {
                self.tell(&format!("{address} came back into {slice} although it does not answer"));
            }
            return;
        }
        memory.withdrawn.entry(key.clone()).or_insert_with(Instant::now);
        if content.for_long(&true, RECOVERED) {
            self.tell(&format!("{address} is withdrawn from {slice} although it answers"));
        }
    }

    fn tell(&self, what: &str) {
        let mut wrong = self.wrong.lock().unwrap();
        if !wrong.iter().any(|told| told.ends_with(what)) {
            wrong.push(format!("after {:?}: {what}", self.began.elapsed()));
        }
    }
}
