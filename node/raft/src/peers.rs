//! The peers' network: one mutual-TLS connection for each pair of nodes, used in both directions,
//! and one more for each snapshot on its way. Edges, which are no nodes, have [a door](edges) of their own.
//!
//! ```text
//! call, append stream -> table (which connection?) -> connection -> outbox -> TLS
//!                             dial -> hello                     session <- TLS -> handler
//! ```
//!
//! Tasks: one that listens, one for each incoming connection until its hello is done, one for each
//! dial, two for each connection, one for each request in the handler's hands. [`Peers::call`] is
//! cancel-safe: dropping it gives the call up. All tasks end with [`Peers::stop`].

mod connection;
mod counters;
mod edges;
mod framing;
mod hello;
mod listen;
mod outbox;
mod reach;
mod session;
mod shares;
mod snapshot;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use skep_base::id::{ClusterId, NodeId};
use skep_members::in_force::Keys;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::counters::{Counter, PeerCounters};
pub use self::framing::{Assembler, FramingError};
pub use self::hello::DialError;
pub use self::snapshot::SendSnapshotError;

pub(crate) use self::connection::{OpenAppends, StreamEvent};

#[cfg(test)]
use self::connection::Connection;
use self::shares::Shares;
use self::table::Table;
use crate::wire::{
    self, AppendRequest, AppendResult, GroupId, Refusal, RejectReason, Request, Response, SnapshotBegin,
    SnapshotResponse,
};

/// Most incoming connections at once, those before their hello among them.
pub const INCOMING_MAX: usize = 512;

/// Most incoming connections before their hello is done.
pub const GREETING_MAX: usize = 64;

/// Most of these from one source: a stranger there leaves the others the rest.
pub const GREETING_PER_SOURCE_MAX: usize = GREETING_MAX / 4;

/// Longest that a request may run, whatever the peer says.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// Most snapshots that this node takes at once.
const SNAPSHOTS_IN_MAX: usize = 2;

/// How long [`Peers::stop`] waits for what is in flight.
pub const STOP_DRAIN_MAX: Duration = Duration::from_secs(1);

/// Ends of connections that a slow listener may be behind.
const ENDED_MAX: usize = 64;

/// How long [`Peers::is_refused`] waits.
const PROBE_TIMEOUT: Duration = Duration::from_millis(100);

/// Between two of its probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Refusals that are remembered so as to be logged once.
const REFUSALS_LOGGED_MAX: usize = 1024;

/// Where a peer is. Asked for each dial.
pub trait Directory: Send + Sync + 'static {
    fn address_of(&self, id: NodeId) -> Option<SocketAddr>;
}

/// Chunks of a snapshot's file format.
pub type SnapshotChunks = BoxStream<'static, std::io::Result<Bytes>>;

/// What a node does with what its peers ask.
///
/// Nothing of this is called for a peer that is not of the same cluster, except
/// [`PeerHandler::adopt`] and [`PeerHandler::handle`] with a request
/// [for strangers](Request::is_for_strangers).
pub trait PeerHandler: Send + Sync + 'static {
    /// This node belongs to no cluster and a peer to this one: does it join? If so, the answer
    /// comes after the cluster's id is on disk and in [`PeersConfig::cluster`]. Several peers may
    /// bring the same news at once.
    fn adopt(&self, from: NodeId, cluster: ClusterId) -> BoxFuture<'static, bool>;

    /// Answers a request. Dropped when its time is over.
    fn handle(&self, from: NodeId, group: GroupId, request: Request) -> BoxFuture<'static, Response>;

    /// Appends in order; one answer for each, in order, until one is an error or the stream ends.
    fn append_stream(
        &self,
        from: NodeId,
        group: GroupId,
        appends: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, String>>;

    /// Takes a snapshot. Where the connection is lost, the chunks end with an error. Dropped when
    /// the sender is gone.
    fn receive_snapshot(
        &self,
        from: NodeId,
        begin: SnapshotBegin,
        chunks: SnapshotChunks,
    ) -> BoxFuture<'static, Result<SnapshotResponse, String>>;
}

/// What the peers' network needs.
pub struct PeersConfig {
    pub local: NodeId,
    /// The cluster that this node belongs to; set once.
    pub cluster: watch::Receiver<Option<ClusterId>>,
    pub listener: TcpListener,
    /// Of a node.
    pub keys: Keys,
    pub directory: Arc<dyn Directory>,
}

/// Why a call has no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Certainly not executed: it never left this node.
    #[error("not sent: {0}")]
    NotSent(#[from] NotSent),
    /// It may have been executed.
    #[error("sent, but not answered: {0}")]
    Unknown(#[from] Unanswered),
    /// Certainly not executed: the peer says so.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum NotSent {
    #[error("the time was over before a connection had room for it")]
    Deadline,
    #[error(transparent)]
    Unreachable(#[from] DialError),
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("{0}")]
    Encode(String),
    #[error("this node is stopping")]
    Stopping,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Unanswered {
    #[error("the time was over")]
    Deadline,
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The peer's handler failed.
    #[error("the peer failed: {0}")]
    Failed(String),
}

/// Whether a call waits while dials to the peer are held back after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Fails at once with the last failure: there may be another to ask.
    None,
    /// Waits for the next dial, within its deadline: there is no other to ask.
    Deadline,
}

/// The peers' network of one node. A cheap handle.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

/// Times that tests set otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// See [`table::COLLISION_MAX`].
    collision_max: Duration,
    /// See [`session::KEY_GONE_DRAIN`].
    key_gone_drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { collision_max: table::COLLISION_MAX, key_gone_drain: session::KEY_GONE_DRAIN }
    }
}

struct Inner {
    local: NodeId,
    session: u64,
    cluster: watch::Receiver<Option<ClusterId>>,
    keys: Keys,
    directory: Arc<dyn Directory>,
    handler: OnceLock<Arc<dyn PeerHandler>>,
    listener: Mutex<Option<TcpListener>>,
    counters: Arc<PeerCounters>,
    table: Table,
    key_gone_drain: Duration,
    /// No new calls, no new connections.
    stopping: CancellationToken,
    /// All ends.
    stopped: CancellationToken,
    tasks: TaskTracker,
    /// Where all tasks run, also those that a call from elsewhere begins.
    runtime: Handle,
    incoming: Arc<Semaphore>,
    greeting: Arc<Semaphore>,
    greeting_shares: Arc<Shares>,
    edges: Arc<Semaphore>,
    edge_farewells: Semaphore,
    snapshots_in: Arc<Semaphore>,
    outgoing: snapshot::Outgoing,
    refusals_logged: Mutex<HashSet<(NodeId, RejectReason)>>,
    ended: broadcast::Sender<NodeId>,
}

impl Peers {
    /// A network that can ask its peers. What they ask is answered from [`Peers::serve`] on.
    pub fn start(config: PeersConfig) -> Self {
        Self::start_with(config, Times::default())
    }

    fn start_with(config: PeersConfig, times: Times) -> Self {
        let inner = Inner {
            local: config.local,
            session: NodeId::random().0,
            cluster: config.cluster,
            keys: config.keys,
            directory: config.directory,
            handler: OnceLock::new(),
            listener: Mutex::new(Some(config.listener)),
            counters: Arc::default(),
            table: Table::new(config.local, times.collision_max),
            key_gone_drain: times.key_gone_drain,
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            incoming: Arc::new(Semaphore::new(INCOMING_MAX)),
            greeting: Arc::new(Semaphore::new(GREETING_MAX)),
            greeting_shares: Shares::new(GREETING_PER_SOURCE_MAX),
            edges: Arc::new(Semaphore::new(edges::EDGES_MAX)),
            edge_farewells: Semaphore::new(edges::FAREWELLS_MAX),
            snapshots_in: Arc::new(Semaphore::new(SNAPSHOTS_IN_MAX)),
            outgoing: snapshot::Outgoing::default(),
            refusals_logged: Mutex::default(),
            ended: broadcast::Sender::new(ENDED_MAX),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Accepts connections and gives what peers ask to `handler`. Only the first call counts.
    pub fn serve(&self, handler: Arc<dyn PeerHandler>) {
        let _ = self.inner.handler.set(handler);
        let listener = self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            self.inner.spawn(listen::run(self.inner.clone(), listener));
        }
    }

    pub fn counters(&self) -> Arc<PeerCounters> {
        self.inner.counters.clone()
    }

    /// Tells each time that a connection for calls has ended, with whom.
    pub fn ended(&self) -> broadcast::Receiver<NodeId> {
        self.inner.ended.subscribe()
    }

    /// Whether a peer's address refuses connections: its host is there, its process is not.
    /// Looked at again for a moment: a process that is being killed loses its sockets one by one.
    pub async fn is_refused(&self, peer: NodeId) -> bool {
        let Some(address) = self.inner.directory.address_of(peer) else { return false };
        let refused = async {
            loop {
                match TcpStream::connect(address).await {
                    Err(error) => return error.kind() == std::io::ErrorKind::ConnectionRefused,
                    Ok(_) => tokio::time::sleep(PROBE_INTERVAL).await,
                }
            }
        };
        tokio::time::timeout(PROBE_TIMEOUT, refused).await.unwrap_or(false)
    }

    /// Whether a peer is reached at an address, by TCP, TLS and hello. It may be another than gossip's.
    pub async fn reach(&self, peer: NodeId, address: SocketAddr) -> Result<(), DialError> {
        self.inner.dial_at(peer, address, wire::ConnectionKind::Probe).await.map(drop)
    }

    pub fn local(&self) -> NodeId {
        self.inner.local
    }

    /// Asks a peer. Fails at once where it is known not to be reachable.
    pub async fn call(&self, to: NodeId, request: Request, deadline: Instant) -> Result<Response, CallError> {
        self.call_with(to, wire::GROUP, request, deadline, Patience::None).await
    }

    /// Asks a peer, on behalf of a group, with the patience given.
    pub async fn call_with(
        &self,
        to: NodeId,
        group: GroupId,
        request: Request,
        deadline: Instant,
        patience: Patience,
    ) -> Result<Response, CallError> {
        let bytes = size_estimate(&request);
        loop {
            let connection = self.inner.connection(to, deadline, patience).await?;
            if let Some(call) = connection.begin_call(request.is_urgent(), bytes, deadline).await? {
                return call.ask(group, request, deadline).await;
            }
        }
    }

    /// The newest protocol that a peer and this node both speak, by the hello of the connection that they have:
    /// who said that had the cluster key. None where there is none: it may come back as another version.
    pub fn protocol_of(&self, peer: NodeId) -> Option<u16> {
        self.inner.table.protocol_of(peer)
    }

    /// Lets the next call dial at once: there is news of the peer.
    pub fn reset_backoff(&self, peer: NodeId) {
        self.inner.table.slot(peer).send_if_modified(|slot| {
            slot.failures = 0;
            slot.backoff.take().is_some()
        });
    }

    /// Opens a stream of appends to a peer.
    pub(crate) async fn open_appends(
        &self,
        to: NodeId,
        group: GroupId,
        deadline: Instant,
    ) -> Result<OpenAppends, NotSent> {
        loop {
            let connection = self.inner.connection(to, deadline, Patience::None).await?;
            if let Some(stream) = connection.open_appends(group) {
                return Ok(stream);
            }
        }
    }

    /// What names this process to the peers: random for each start.
    pub fn session(&self) -> u64 {
        self.inner.session
    }

    /// Sends a snapshot on a connection of its own. `stall_max` is how long neither side may get
    /// on. Dropping the future ends the transfer at both ends.
    pub async fn send_snapshot(
        &self,
        to: NodeId,
        begin: SnapshotBegin,
        chunks: SnapshotChunks,
        stall_max: Duration,
    ) -> Result<SnapshotResponse, SendSnapshotError> {
        snapshot::send(&self.inner, to, begin, chunks, stall_max).await
    }

    /// The index after which the receivers of snapshots still need this node's log, if any do.
    pub fn log_needed_after(&self) -> Option<u64> {
        self.inner.outgoing.log_needed_after()
    }

    /// The connection for calls to a peer.
    #[cfg(test)]
    fn connection_to(&self, peer: NodeId) -> Option<Arc<Connection>> {
        self.inner.table.slot(peer).borrow().current.clone()
    }

    /// Loses the connection to a peer as a broken network would.
    #[cfg(test)]
    pub(crate) fn lose_connection(&self, peer: NodeId) {
        if let Some(connection) = self.connection_to(peer) {
            connection.close("cut off");
        }
    }

    /// Stops: nothing new, then what is in flight ends within [`STOP_DRAIN_MAX`], then all does.
    pub async fn stop(&self) {
        self.inner.stopping.cancel();
        self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.inner.tasks.close();
        for connection in self.inner.table.connections() {
            connection.retire();
        }
        let _ = tokio::time::timeout(STOP_DRAIN_MAX, self.inner.tasks.wait()).await;
        self.inner.stopped.cancel();
        self.inner.tasks.wait().await;
        for connection in self.inner.table.connections() {
            connection.close("this node stops");
        }
    }
}

impl Inner {
    /// Runs a task that ends at the latest when the network has stopped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        let task = async move {
            tokio::select! {
                () = task => {}
                () = stopped.cancelled() => {}
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn handler(&self) -> Option<&Arc<dyn PeerHandler>> {
        self.handler.get()
    }
}

/// About how many bytes a request takes in a frame: what bounds the bytes in flight.
fn size_estimate(request: &Request) -> usize {
    match request {
        Request::Propose { ops } | Request::Restore { ops } => ops.iter().map(|op| op.size_estimate()).sum(),
        _ => 256,
    }
}
