//! A relay between a link and its exporter, which a test can cut, make forget and open again, or which is a
//! slow line. It passes TLS through unread: the link still speaks with the real API server, and verifies it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Largest piece that a slow line carries at once, as a packet would.
const PIECE: usize = 1400;
/// Most pieces of a connection that are on their way.
const ON_THEIR_WAY: usize = 64;

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

/// A line that carries so much and no more, shared by all connections in turn; each direction has one.
#[derive(Clone)]
struct Line {
    bytes_per_second: u32,
    /// From one end to the other.
    latency: Duration,
    /// When it can take the next piece.
    free: Arc<Mutex<Instant>>,
}

impl Line {
    /// Takes its turn with a piece: when that will have left.
    fn takes(&self, bytes: usize) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_second));
        let mut free = self.free.lock().unwrap();
        *free = (*free).max(Instant::now()) + takes;
        *free
    }

    /// Carries everything from one to the other.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let (send, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THEIR_WAY);
        let leaving = async move {
            loop {
                let mut piece = vec![0; PIECE];
                let read = from.read(&mut piece).await?;
                piece.truncate(read);
                // The next one queues up when this one has left, so that nobody has the line for himself.
                let left = self.takes(read);
                sleep_until(left).await;
                if read == 0 || send.send((left + self.latency, piece)).await.is_err() {
                    return Ok(());
                }
            }
        };
        let arriving = async {
            while let Some((at, piece)) = arriving.recv().await {
                sleep_until(at).await;
                to.write_all(&piece).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(leaving, arriving).map(drop)
    }
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
        Self::by(server, None).await
    }

    /// The same by a slow line: so much in each direction, and that late.
    pub(crate) async fn slow(server: SocketAddr, bytes_per_second: u32, latency: Duration) -> Self {
        let line = || Line { bytes_per_second, latency, free: Arc::new(Mutex::new(Instant::now())) };
        Self::by(server, Some([line(), line()])).await
    }

    async fn by(server: SocketAddr, lines: Option<[Line; 2]>) -> Self {
        let listener = TcpListener::bind((reachable_from(server).await, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, follow) = watch::channel(State::default());
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(number, client, server, lines.clone(), follow.clone()));
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

async fn pass(
    number: usize,
    mut client: TcpStream,
    server: SocketAddr,
    lines: Option<[Line; 2]>,
    mut state: watch::Receiver<State>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let copying = async {
        let Some([there, back]) = lines else { return copy_bidirectional(&mut client, &mut server).await.map(drop) };
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::try_join!(there.carry(from_client, to_server), back.carry(from_server, to_client)).map(drop)
    };
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
