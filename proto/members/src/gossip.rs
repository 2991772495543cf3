//! Gossip membership: who is there, and what each says of itself.
//!
//! Chitchat (Scuttlebutt reconciliation, phi-accrual failure detection) over sealed UDP
//! datagrams. The library gossips on its interval alone; the driver adds what must be fast: a
//! burst with each seed and each newly known member, and a push to all on a change of one's own.
//!
//! Tasks: the library's server, the receiver (`transport`), the driver (`driver`), the
//! resolution of seeds (`crate::seeds`). All end with [`Gossip::stop`], or when the last handle
//! is dropped. Who can write here holds the cluster key or the edge key; what came reaches the library
//! once it was read and judged (`wire`, `admission`), and of nodes, nodes believe what is proved (`proofs`).

pub mod admission;
pub mod aside;
mod counters;
mod driver;
pub mod envelope;
mod fallen;
mod forms;
mod proofs;
pub mod record;
mod stand;
mod transport;
mod view;
pub mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_base::id::NodeId;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::in_force::Keys;
use crate::seeds::Seed;
use aside::Said;
pub use counters::{Dropped, GossipCounters};
pub use record::{NodeState, PeerRecord, Program, RaftRole};
pub use stand::{GatewayAt, GatewayRevision};
pub use view::View;

/// Between two rounds of gossip. At 150 ms the last of 20 members sees a death after 1.7 s in the
/// median (2.1 s at 200 ms), and each sends some 60 datagrams and 10 KB a second.
pub const INTERVAL: Duration = Duration::from_millis(150);

/// How long the dead are shown.
pub const DEAD_NODE_GRACE: Duration = Duration::from_secs(600);

/// How long what gossips remembers them, each run for itself, and tells others of them for half of it: all
/// that it remembers has to fit into a datagram.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// This late for its own round, a process has stalled, and does not trust its view.
pub const STALL: Duration = Duration::from_millis(600);

/// What gossip is started with.
#[derive(Debug)]
pub struct GossipConfig {
    /// Bound already, to the peer address.
    pub socket: std::net::UdpSocket,
    /// Where to look for others first.
    pub seeds: Vec<Seed>,
    pub keys: Keys,
    /// Those of whom it is known that they are nodes, before they have proved it: the members of the cluster as
    /// the node's folder has them. Of them nothing is believed that an edge says.
    pub nodes: Vec<NodeId>,
    /// The first record; `peer` is the address that the others are told.
    pub record: PeerRecord,
}

/// Gossip cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    #[error("the gossip socket: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the peer address {0} is none that others could reach")]
    Address(SocketAddr),
    #[error("the gossip cannot start: {0}")]
    Start(String),
}

/// A handle on the gossip; clones share it.
#[derive(Clone)]
pub struct Gossip {
    shared: Arc<Shared>,
    view: watch::Receiver<Arc<View>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    speaker: transport::Speaker,
    heard: Arc<Mutex<Option<mpsc::Receiver<Said>>>>,
    _stop: Arc<DropGuard>,
}

/// What the handles and the driver share.
struct Shared {
    record: Mutex<PeerRecord>,
    record_changed: Notify,
    demands_proofs: AtomicBool,
    leave: CancellationToken,
    stop: CancellationToken,
    counters: Arc<counters::Counters>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, PeerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gossip {
    /// Starts the gossip's tasks on the current runtime.
    pub async fn start(config: GossipConfig) -> Result<Self, GossipError> {
        let peer = config.record.peer;
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(GossipError::Address(peer));
        }
        config.socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(config.socket)?;
        let shared = Arc::new(Shared {
            record: Mutex::new(config.record.clone()),
            record_changed: Notify::new(),
            demands_proofs: AtomicBool::new(false),
            leave: CancellationToken::new(),
            stop: CancellationToken::new(),
            counters: Arc::default(),
        });
        let (sender, view) = watch::channel(Arc::new(View::alone(config.record, Instant::now())));
        let (asides, heard) = aside::channel();
        let (driver, speaker) = driver::Driver::start(
            shared.clone(),
            socket,
            config.keys,
            config.seeds,
            config.nodes,
            (sender, asides),
        )
        .await?;
        let stop = Arc::new(shared.stop.clone().drop_guard());
        let task = Arc::new(Mutex::new(Some(tokio::spawn(driver.run()))));
        let heard = Arc::new(Mutex::new(Some(heard)));
        Ok(Self { shared, view, task, speaker, heard, _stop: stop })
    }

    /// Says something to the one who gossips there, sealed as gossip is, beside it: at most
    /// [`aside::ASIDE_BYTES_MAX`]. It may be lost.
    pub async fn say(&self, to: SocketAddr, said: &[u8]) {
        self.speaker.say(to, said).await;
    }

    /// What others say beside gossip, from now on: for the first who asks, and nobody after.
    pub fn hear(&self) -> Option<mpsc::Receiver<Said>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The view, now and at each change: changes of records as they come in, of liveness at
    /// each round.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Changes this process's own record and tells all known peers at once. What makes the
    /// identity (id, program, peer address, generation) stays as it was. `change` must not call
    /// this handle.
    pub fn update(&self, change: impl FnOnce(&mut PeerRecord)) {
        let mut record = self.shared.record();
        let mut changed = record.clone();
        change(&mut changed);
        let PeerRecord { id, program, peer, generation, .. } = *record;
        changed = PeerRecord { id, program, peer, generation, ..changed };
        if *record != changed {
            *record = changed;
            self.shared.record_changed.notify_one();
        }
    }

    /// From now on, no node is seen that does not prove what it says: whoever has the edge key could say it.
    /// For once there is no member any more that cannot.
    pub fn demand_proofs(&self) {
        if !self.shared.demands_proofs.swap(true, Relaxed) {
            self.shared.record_changed.notify_one();
        }
    }

    /// What happened so far, for the metrics.
    pub fn counters(&self) -> GossipCounters {
        self.shared.counters.read()
    }

    /// Says `left` to everyone, waits a round, stops. Cancel-safe: a leave that was begun goes on.
    pub async fn leave(&self) {
        self.update(|record| record.state = NodeState::Left);
        self.shared.leave.cancel();
        self.join().await;
    }

    /// Stops without a word: the others see a death. Cancel-safe, as [`Gossip::leave`].
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.join().await;
    }

    /// Waits for the driver; of two callers at once, the later one may return first.
    async fn join(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}
