//! Nodes on loopback addresses of their own, and a handler whose answers tests hold back.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use skep_base::id::{ClusterId, NodeId, RequestId};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::settings::Given;
use skep_state::command::{Op, OpOutcome};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::formation::bootstrap::BootstrapAnswer;
use crate::peers::{Directory, PeerHandler, Peers, PeersConfig, SnapshotChunks, Times};
use crate::wire::{
    AppendRequest, AppendResult, GroupId, Request, Response, SnapshotBegin, SnapshotResponse, VoteResponse,
};

pub const CLUSTER: ClusterId = ClusterId(0xc1);
pub const KEY: &str = "skep1:0101010101010101010101010101010101010101010101010101010101010101";
pub const OTHER_KEY: &str = "skep1:0202020202020202020202020202020202020202020202020202020202020202";

/// An address that no other test of this process and (mostly) no other process uses.
pub async fn listener() -> TcpListener {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id();
    let ip = Ipv4Addr::new(127, 100 + (pid >> 8) as u8 % 100, pid as u8, NEXT.fetch_add(1, SeqCst));
    TcpListener::bind((ip, 0)).await.unwrap()
}

/// Where the nodes of a test are.
#[derive(Default)]
pub struct Book(pub Mutex<HashMap<NodeId, SocketAddr>>);

impl Directory for Book {
    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.0.lock().unwrap().get(&id).copied()
    }
}

/// Answers everything, as soon as `gate` lets it.
pub struct Echo {
    pub gate: Semaphore,
    /// Proposals in hand.
    pub inside: watch::Sender<usize>,
    pub appends: AtomicUsize,
    pub snapshot_bytes: AtomicUsize,
    pub snapshot_bytes_max: usize,
    pub receptions_ended: AtomicUsize,
    /// Where a stranger's cluster goes if this node adopts it.
    pub adopts: Option<watch::Sender<Option<ClusterId>>>,
}

impl Echo {
    pub fn open() -> Self {
        Self { gate: Semaphore::new(Semaphore::MAX_PERMITS), ..Self::shut() }
    }

    pub fn shut() -> Self {
        Self {
            gate: Semaphore::new(0),
            inside: watch::Sender::new(0),
            appends: AtomicUsize::new(0),
            snapshot_bytes: AtomicUsize::new(0),
            snapshot_bytes_max: usize::MAX,
            receptions_ended: AtomicUsize::new(0),
            adopts: None,
        }
    }
}

/// An [`Echo`] as a handler: its answers outlive the call.
struct Shared(Arc<Echo>);

impl PeerHandler for Shared {
    fn adopt(&self, _from: NodeId, cluster: ClusterId) -> BoxFuture<'static, bool> {
        let adopted = self.0.adopts.as_ref().is_some_and(|to| to.send_replace(Some(cluster)).is_none());
        async move { adopted }.boxed()
    }

    fn handle(&self, _from: NodeId, _group: GroupId, request: Request) -> BoxFuture<'static, Response> {
        let echo = self.0.clone();
        async move {
            match request {
                Request::Propose { ops } => {
                    echo.inside.send_modify(|inside| *inside += 1);
                    echo.gate.acquire().await.unwrap().forget();
                    let outcome = OpOutcome::Text { version: ops.len() as u64 };
                    Response::Proposed(Ok(vec![outcome]))
                }
                Request::Vote(vote) => Response::Vote(VoteResponse::new(vote.vote, None, true)),
                Request::ReadIndex { .. } => Response::ReadIndex(Ok(7)),
                Request::Bootstrap(_) => Response::Bootstrap(BootstrapAnswer::Yes),
                _ => Response::Failed("the test did not expect this".into()),
            }
        }
        .boxed()
    }

    fn append_stream(
        &self,
        _from: NodeId,
        _group: GroupId,
        appends: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, String>> {
        let echo = self.0.clone();
        appends
            .then(move |append| {
                let echo = echo.clone();
                async move {
                    echo.appends.fetch_add(1, SeqCst);
                    echo.gate.acquire().await.unwrap().forget();
                    Ok(Ok(append.prev_log_id))
                }
            })
            .boxed()
    }

    fn receive_snapshot(
        &self,
        _from: NodeId,
        begin: SnapshotBegin,
        mut chunks: SnapshotChunks,
    ) -> BoxFuture<'static, Result<SnapshotResponse, String>> {
        let echo = self.0.clone();
        async move {
            let _gone = CountDrop(echo.clone());
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| error.to_string())?;
                let bytes = echo.snapshot_bytes.fetch_add(chunk.len(), SeqCst) + chunk.len();
                if bytes > echo.snapshot_bytes_max {
                    return Err("the disk is full".into());
                }
            }
            echo.gate.acquire().await.unwrap().forget();
            Ok(SnapshotResponse::new(begin.vote))
        }
        .boxed()
    }
}

/// Counts the ends of receptions, whole or not.
struct CountDrop(Arc<Echo>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.receptions_ended.fetch_add(1, SeqCst);
    }
}

pub struct Node {
    pub id: NodeId,
    pub keys: Keys,
    pub peers: Peers,
    pub cluster: watch::Sender<Option<ClusterId>>,
    pub echo: Arc<Echo>,
    pub address: SocketAddr,
}

pub struct Build {
    pub id: u64,
    pub cluster: Option<ClusterId>,
    pub keys: Given,
    pub echo: Echo,
    pub adopt: bool,
    pub times: Times,
}

impl Build {
    pub fn new(id: u64) -> Self {
        let (keys, times) = (ring(KEY).into(), Times::default());
        Self { id, cluster: Some(CLUSTER), keys, echo: Echo::open(), adopt: false, times }
    }

    pub async fn start(mut self, book: &Arc<Book>) -> Node {
        let id = NodeId(self.id);
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        book.0.lock().unwrap().insert(id, address);
        let cluster = watch::Sender::new(self.cluster);
        if self.adopt {
            self.echo.adopts = Some(cluster.clone());
        }
        let keys = Keys::of_node(self.keys).unwrap();
        let config = PeersConfig {
            local: id,
            cluster: cluster.subscribe(),
            listener,
            keys: keys.clone(),
            directory: book.clone(),
        };
        let peers = Peers::start_with(config, self.times);
        let echo = Arc::new(self.echo);
        peers.serve(Arc::new(Shared(echo.clone())));
        Node { id, keys, peers, cluster, echo, address }
    }
}

impl Node {
    pub fn open(&self) -> u64 {
        self.peers.counters().connections_open.get()
    }
}

pub fn ring(lines: &str) -> KeyRing {
    KeyRing::parse(lines).unwrap()
}

/// Two nodes of one cluster, 1 and 2.
pub async fn pair() -> (Node, Node) {
    let book = Arc::default();
    (Build::new(1).start(&book).await, Build::new(2).start(&book).await)
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn proposal(ops: usize) -> Request {
    let op = Op::WriteText { request: RequestId(1), text: bytes::Bytes::from_static(b"x"), time_ms: 1 };
    Request::Propose { ops: vec![op; ops] }
}

pub fn proposed(response: Response) -> u64 {
    match response {
        Response::Proposed(Ok(outcomes)) => match outcomes[..] {
            [OpOutcome::Text { version }] => version,
            _ => panic!("{outcomes:?}"),
        },
        response => panic!("{response:?}"),
    }
}

/// Waits for what no event tells, such as a counter's rise: looks after each turn of the runtime's
/// other tasks. Says what it waited for where it does not come.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::task::yield_now().await;
    }
}
