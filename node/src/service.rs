//! What the node does for its clients: writes through the log, reads that are linearizable.
//!
//! The service owns two tasks: the proposer (batches writes and carries them to the leader) and
//! the read indexer (batches confirmations that what is applied here is current). Every public
//! future here may be dropped at any await: a dropped write may still take effect.

pub mod due;
pub mod equal;
mod error;
pub mod figures;
pub mod gateway;
mod hand_over;
mod keys;
pub mod lateness;
pub mod level;
pub mod list;
mod nonces;
pub mod operator;
#[cfg(test)]
pub mod peers;
pub mod proposer;
pub mod pulse;
pub mod purges;
pub mod reached;
pub mod read_index;
pub mod resumed;
pub mod retention;
pub mod room;
pub mod schedules;
pub mod scrub;
pub mod sealing;
pub mod secrets;
pub mod shifts;
mod started;
pub mod status;
pub mod tasks;
pub mod time;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::id::{NodeId, RequestId};
use skep_members::gossip::Gossip;
use skep_raft::resumption::Resumption;
use skep_state::command::{ClaimKey, Op, OpOutcome};
use skep_state::message::{Digest, StoredMessage};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use error::ServiceError;
pub use hand_over::HandOver;
use list::Filter;
use nonces::Nonces;
use proposer::Proposer;
use read_index::ReadIndexer;
use skep_state::kinds::text::Newest;
use skep_store::Raft;
use skep_store::{Block, Lookup, Reader};
pub use status::{ClusterStatus, MemberStatus};
use tasks::dispatcher::Beats;
pub use time::Clocks;
use time::Time;

/// Bytes of message bodies after which a page of messages ends early.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same for one that is read on the thread that answers.
const PAGE_NOW_BYTES_MAX: usize = 64 * 1024;

/// Lists and counts by content type that are made at a time: each reads much of the store.
const SCANS_MAX: usize = 2;

/// What a stored message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    pub digest: Digest,
    pub seq: u64,
    /// False where the message was there already.
    pub created: bool,
    /// The same request came before, and this is what it came to then.
    pub repeated: bool,
}

/// What a written text came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many texts were written up to then.
    pub version: u64,
    /// The same request came before, and this is what it came to then.
    pub repeated: bool,
}

/// A client's word that a request is one that it may have sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub key: ClaimKey,
    /// Tells one request from another of the same key.
    pub fingerprint: u128,
}

/// Messages in order.
#[derive(Debug, Clone)]
pub struct Page {
    pub messages: Vec<StoredMessage>,
    /// The `after` of the next page; none where this one reaches the end.
    pub next: Option<u64>,
}

/// What a count came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub messages: u64,
    /// The last message's `seq`, wanted or not; 0 where there is none.
    pub last_seq: u64,
}

/// Cheap to clone: one node has one service.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    node_id: NodeId,
    request_timeout: Duration,
    idempotency_for: Duration,
    reader: Reader,
    proposer: Proposer,
    read_indexer: ReadIndexer,
    nonces: Nonces,
    scans: Semaphore,
    time: Time,
    beats: Beats,
    figures: figures::Figures,
    shifts: Arc<shifts::heard::Heard>,
    status: status::Status,
}

/// What the service is made from.
pub struct ServiceParts {
    pub node_id: NodeId,
    pub request_timeout: Duration,
    /// How long a claim is remembered.
    pub idempotency_for: Duration,
    pub raft: Raft,
    pub reader: Reader,
    pub gossip: Gossip,
    pub proposer: Proposer,
    pub read_indexer: ReadIndexer,
    pub time: Time,
    pub beats: Beats,
    pub health: tokio::sync::watch::Receiver<skep_store::StoreHealth>,
    /// Why the node waits, while it has no cluster.
    pub waiting: tokio::sync::watch::Receiver<Option<skep_raft::formation::bootstrap::Wait>>,
    pub reached: reached::Reached,
    pub resumption: Resumption,
    pub equal: equal::Equal,
    pub secrets: secrets::Secrets,
}

impl Service {
    pub fn new(parts: ServiceParts) -> Self {
        let figures = figures::Figures::new(parts.gossip.clone());
        let status = status::Status {
            node_id: parts.node_id,
            raft: parts.raft,
            gossip: parts.gossip,
            health: parts.health,
            waiting: parts.waiting,
            pulse: parts.read_indexer.pulse().clone(),
            reached: parts.reached,
            resumption: parts.resumption,
            equal: parts.equal,
            started: started::Started::new(),
            secrets: parts.secrets,
        };
        Self(Arc::new(Inner {
            node_id: parts.node_id,
            request_timeout: parts.request_timeout,
            idempotency_for: parts.idempotency_for,
            reader: parts.reader,
            proposer: parts.proposer,
            read_indexer: parts.read_indexer,
            nonces: Nonces::new(),
            scans: Semaphore::new(SCANS_MAX),
            time: parts.time,
            beats: parts.beats,
            figures,
            shifts: Arc::default(),
            status,
        }))
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.0.node_id
    }

    /// What this node's store holds.
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.request_timeout
    }

    /// Stores a message; when this returns, a quorum has it on disk and it is applied.
    pub async fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> Result<Put, ServiceError> {
        let digest = Digest::of(&body);
        // A copy: the log's cache must not keep a connection's whole read buffer alive.
        let body = Bytes::copy_from_slice(&body);
        let op = Op::PutMessage {
            digest,
            content_type,
            body,
            time_ms: self.0.time.now_ms(),
            nonce: self.0.nonces.next(),
        };
        match self.propose(op, claim).await? {
            (OpOutcome::Message { seq, created }, repeated) => Ok(Put { digest, seq, created, repeated }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The message of this digest. One that is here is answered at once, since it cannot change;
    /// that there is none is confirmed with the leader first.
    pub async fn message(&self, digest: &Digest) -> Result<Lookup, ServiceError> {
        let look_up = || self.look_up(digest);
        let deadline = self.deadline();
        if let found @ Lookup::Here(_) = scrub::read_mended(&self.0.reader, deadline, look_up).await? {
            return Ok(found);
        }
        self.0.read_indexer.confirm(deadline).await?;
        scrub::read_mended(&self.0.reader, deadline, look_up).await
    }

    /// What is in memory is answered at once; what may have to come from the disk waits for its turn.
    async fn look_up(&self, digest: &Digest) -> Result<Lookup, ServiceError> {
        if let Some(found) = self.0.reader.look_up_now(digest)? {
            return Ok(found);
        }
        let digest = *digest;
        self.read(move |reader| Ok(reader.look_up(&digest)?)).await
    }

    /// A turn to look through the store; few do at a time.
    async fn scan(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ServiceError> {
        match tokio::time::timeout_at(self.deadline(), self.0.scans.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ServiceError::Overloaded {
                detail: "too many lists and counts by type are wanted".into(),
            }),
        }
    }

    /// At most `limit` of the wanted messages whose `seq` is above `after`, in order.
    pub async fn page(
        &self,
        last: u64,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> Result<Page, ServiceError> {
        let read = || self.read_page(last, after, limit, filter.clone());
        scrub::read_mended(&self.0.reader, self.deadline(), read).await
    }

    async fn read_page(
        &self,
        last: u64,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> Result<Page, ServiceError> {
        let _turn = match filter.content_type {
            Some(_) => Some(self.scan().await?),
            None => None,
        };
        if filter == Filter::default() {
            // What is in memory waits for nobody's cold reads, and is little enough to hold nobody up. No error
            // is: it is not all there.
            let read = |after, count, bytes| {
                let page = self.0.reader.page_now(after, count, bytes);
                page.map_err(|error| Some(error.into()))?.ok_or(None::<ServiceError>)
            };
            let block = |_| Ok(Block::default());
            match list::page(read, block, last, after, limit, PAGE_NOW_BYTES_MAX, &filter) {
                Err(Some(error)) => return Err(error),
                Ok(page) if page.next.is_none() || page.messages.len() == limit => return Ok(page),
                // There is more to it.
                Ok(_) | Err(None) => {}
            }
        }
        self.read(move |reader| {
            let read = |after, count, bytes| reader.page(after, count, bytes);
            let block = |after| reader.block_after(after, false);
            Ok(list::page(read, block, last, after, limit, PAGE_BYTES_MAX, &filter)?)
        })
        .await
    }

    /// How many messages are wanted, and the last message's `seq`.
    pub async fn count(&self, filter: Filter) -> Result<Counted, ServiceError> {
        let deadline = self.deadline();
        let last_seq = self.current().await?;
        if filter == Filter::default() {
            return Ok(Counted { messages: self.0.reader.count(0, last_seq), last_seq });
        }
        let _turn = match filter.content_type {
            Some(_) => Some(self.scan().await?),
            None => None,
        };
        // Dropped with this future where the client leaves: the reading ends at its next look.
        let client = Arc::new(());
        let left = Arc::downgrade(&client);
        let counted = self
            .read(move |reader| {
                let read = |after, count, bytes| Ok(reader.page(after, count, bytes)?);
                let go_on = || match Instant::now() < deadline && left.strong_count() > 0 {
                    true => Ok(()),
                    false => Err(ServiceError::Unavailable {
                        detail: "there are too many messages to count by type within the deadline".into(),
                        unprocessed: false,
                    }),
                };
                let between = |from, upto| reader.count(from, upto);
                let block = |after| Ok(reader.block_after(after, true)?);
                let messages = list::count(read, block, between, last_seq, &filter, go_on)?;
                Ok(Counted { messages, last_seq })
            })
            .await;
        drop(client);
        counted
    }

    /// The `seq` of the last message, once everything acknowledged before the call is here.
    pub async fn current(&self) -> Result<u64, ServiceError> {
        self.0.read_indexer.confirm(self.deadline()).await?;
        Ok(self.0.reader.last_seq())
    }

    /// Reads what may have to come from the disk: not on the runtime's thread.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        match tokio::time::timeout_at(self.deadline(), self.0.reader.elsewhere(work)).await {
            Ok(read) => read?,
            Err(_) => Err(ServiceError::Unavailable {
                detail: "the disk did not give what was asked for within the request's deadline".into(),
                unprocessed: true,
            }),
        }
    }

    /// Makes `text` the newest text.
    pub async fn write_text(&self, text: Bytes, claim: Option<Claim>) -> Result<Written, ServiceError> {
        let text = Bytes::copy_from_slice(&text);
        let op = Op::WriteText { request: RequestId::random(), text, time_ms: self.0.time.now_ms() };
        match self.propose(op, claim).await? {
            (OpOutcome::Text { version }, repeated) => Ok(Written { version, repeated }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The newest text.
    pub async fn read_text(&self) -> Result<Option<Newest>, ServiceError> {
        self.0.read_indexer.confirm(self.deadline()).await?;
        Ok(self.0.reader.newest_text())
    }

    /// The cluster as this node sees it.
    pub fn cluster(&self) -> ClusterStatus {
        self.0.status.cluster()
    }

    /// The voters' clocks as this node knows them.
    pub fn clocks(&self) -> Clocks {
        self.0.time.clocks()
    }

    /// Since a leader with a quorum last confirmed a read here; none where it never did.
    pub fn read_silence(&self) -> Option<Duration> {
        self.0.read_indexer.pulse().silence(Instant::now())
    }

    /// Whether the state here is that of the others.
    pub fn equal(&self) -> &equal::Equal {
        &self.0.status.equal
    }

    /// Whether others saw more of this node's log than there is.
    pub fn log_went_back(&self) -> bool {
        self.0.status.log_went_back()
    }

    /// Whether this node should get traffic, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        self.0.status.readiness()
    }

    /// Whether whoever starts nodes one after another may go on to the next, or why not yet.
    pub fn started(&self) -> Result<(), String> {
        self.0.status.started()
    }
}

fn unexpected(outcome: &OpOutcome) -> ServiceError {
    ServiceError::Fatal { detail: format!("the store answered another operation: {outcome:?}") }
}
