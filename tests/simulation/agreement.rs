//! The server in memory does what a real one does; `e2e/api_server.rs` holds a real one to the same.

use std::sync::Mutex;

use futures::{FutureExt, future::BoxFuture};
use kube::Client;

use crate::{
    behaviour::{Behaviour, Faults, Surroundings, World},
    server::{Backup, Fault, Mode, STRANGER, Server, Trace, Wire, Wrong},
};

struct InMemory {
    server: Server,
    wire: Wire,
    backup: Mutex<Option<Backup>>,
}

impl Surroundings for InMemory {
    fn stranger(&self) -> Client {
        self.server.client(STRANGER, &Wire::default())
    }

    fn forget(&self) -> BoxFuture<'_, ()> {
        self.server.compact();
        async {}.boxed()
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }
}

impl Faults for InMemory {
    fn answer(&self, code: u16, retry_after: Option<u64>) {
        self.server.fault(Fault {
            name: "answer",
            client: String::new(),
            verbs: Vec::new(),
            resource: String::new(),
            wrong: Wrong::Answer(code, retry_after),
            skip: 0,
            times: Some(1),
        });
    }

    fn cut_watches(&self, mid_line: bool) {
        self.server.cut_watches("", mid_line);
    }

    fn hold(&self, held: bool) {
        self.wire.set(if held { Mode::Held } else { Mode::Open });
    }

    fn restore(&self) {
        self.server.restore(self.backup.lock().unwrap().as_ref().unwrap());
    }

    fn backup(&self) {
        *self.backup.lock().unwrap() = Some(self.server.backup());
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_in_memory_does_what_a_real_one_does() {
    for behaviour in Behaviour::ALL {
        println!("{behaviour:?}");
        let (server, wire) = (Server::new("memory", Trace::default()), Wire::default());
        let client = server.client("tests", &wire);
        let around = Box::new(InMemory { server, wire, backup: Mutex::default() });
        let world = World { client, place: format!("{behaviour:?}").to_lowercase(), around };
        world.settle().await;
        behaviour.play(&world).await;
    }
}

#[test]
fn everything_else_is_asked_of_a_real_server_too() {
    let only_here: Vec<&Behaviour> = Behaviour::ALL.iter().filter(|behaviour| !behaviour.is_provocable()).collect();
    use Behaviour::{Hanging, RestoredFromABackup, ServerErrors, Throttled, WatchCutInTheMiddle};
    assert_eq!(only_here, [&Throttled, &ServerErrors, &WatchCutInTheMiddle, &Hanging, &RestoredFromABackup]);
}
