//! A relay between a link and its exporter, which a test can cut, make forget and open again. It passes
//! TLS through unread: the link still speaks with the real API server, and verifies it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
};

/// What happens to connections.
#[derive(Clone, Copy, Default)]
struct State {
    /// All end, new ones at once.
    cut: bool,
    /// All are kept, but nothing is passed on.
    silent: bool,
    /// Connections made before that many others have ended.
    ended: usize,
    /// Connections made before that many others are kept, but nothing is passed on.
    forgotten: usize,
}

/// A relay; it ends when it is dropped.
pub(crate) struct Relay {
    /// Where it listens: an address of this machine that pods can reach.
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    /// How many connections there have been.
    made: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    /// A relay to that server, open.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((reachable_from(server).await, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, follow) = watch::channel(State::default());
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(number, client, server, follow.clone()));
            }
        });
        Self { address, state, made, task }
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Ends all connections, and new ones at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Keeps all connections, takes new ones, and passes nothing on.
    pub(crate) fn silence(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Passes everything on again.
    pub(crate) fn open(&self) {
        self.state.send_modify(|state| (state.cut, state.silent) = (false, false));
    }

    /// Ends all connections; new ones are passed on: a watch ends by EOF.
    pub(crate) fn hang_up(&self) {
        let made = self.connections();
        self.state.send_modify(|state| state.ended = made);
    }

    /// Passes nothing on for the connections that there are, for ever, as when a firewall forgets
    /// them; new ones are passed on.
    pub(crate) fn forget(&self) {
        let made = self.connections();
        self.state.send_modify(|state| state.forgotten = made);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The address of this machine on the way to a cluster's node.
pub(crate) async fn reachable_from(server: SocketAddr) -> IpAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    probe.connect(server).await.unwrap();
    probe.local_addr().unwrap().ip()
}

async fn pass(number: usize, mut client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let copying = copy_bidirectional(&mut client, &mut server);
    tokio::pin!(copying);
    loop {
        let now = *state.borrow_and_update();
        if now.cut || number < now.ended {
            return;
        }
        let over = if now.silent || number < now.forgotten {
            state.changed().await.is_err()
        } else {
            tokio::select! {
                _ = &mut copying => true,
                changed = state.changed() => changed.is_err(),
            }
        };
        if over {
            return;
        }
    }
}
