//! What the handlers ask of the node. `Service` and `Operator` are the answer in the program;
//! tests give a fake.

use std::future::Future;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skep_base::id::NodeId;
use skep_state::message::{Digest, StoredMessage};
use tokio::sync::watch;

use crate::service::list::Filter;
use crate::service::operator::{Operator, OperatorError, PeerProgress};
use crate::service::{Claim, ClusterStatus, Counted, Page, Put, Service, ServiceError, Written};
use skep_state::kinds::text::Newest;
use skep_store::{Applied, Lookup};

/// The chunks of a snapshot file.
pub type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

/// The public API's view of the node. A dropped future of a write may still take effect.
pub trait MessageApi: Send + Sync + 'static {
    fn node_id(&self) -> NodeId;
    fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Put, ServiceError>> + Send;
    fn message(&self, digest: &Digest) -> impl Future<Output = Result<Lookup, ServiceError>> + Send;
    fn page(
        &self,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> impl Future<Output = Result<Page, ServiceError>> + Send;
    fn count(&self, filter: Filter) -> impl Future<Output = Result<Counted, ServiceError>> + Send;
    /// The last message's `seq`, once everything acknowledged before is here.
    fn current(&self) -> impl Future<Output = Result<u64, ServiceError>> + Send;
    /// How far this node is; changes with all that it applies.
    fn applied(&self) -> watch::Receiver<Applied>;
    /// What this node has of the messages after `after`, in order. Asks nobody; may wait for the disk.
    fn read_here(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>, ServiceError>;
    /// Whether the node should get traffic, or why not.
    fn readiness(&self) -> Result<(), String>;
    fn cluster(&self) -> ClusterStatus;
    fn write_text(
        &self,
        text: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Written, ServiceError>> + Send;
    fn read_text(&self) -> impl Future<Output = Result<Option<Newest>, ServiceError>> + Send;
}

impl MessageApi for Service {
    fn node_id(&self) -> NodeId {
        Service::node_id(self)
    }
    fn put_message(
        &self,
        content_type: String,
        body: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Put, ServiceError>> + Send {
        Service::put_message(self, content_type, body, claim)
    }
    fn message(&self, digest: &Digest) -> impl Future<Output = Result<Lookup, ServiceError>> + Send {
        Service::message(self, digest)
    }
    fn page(
        &self,
        after: u64,
        limit: usize,
        filter: Filter,
    ) -> impl Future<Output = Result<Page, ServiceError>> + Send {
        Service::page(self, after, limit, filter)
    }
    fn count(&self, filter: Filter) -> impl Future<Output = Result<Counted, ServiceError>> + Send {
        Service::count(self, filter)
    }
    fn current(&self) -> impl Future<Output = Result<u64, ServiceError>> + Send {
        Service::current(self)
    }
    fn applied(&self) -> watch::Receiver<Applied> {
        self.reader().applied()
    }
    fn read_here(
        &self,
        after: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>, ServiceError> {
        Ok(self.reader().page(after, count_max, bytes_max)?)
    }
    fn readiness(&self) -> Result<(), String> {
        Service::readiness(self)
    }
    fn cluster(&self) -> ClusterStatus {
        Service::cluster(self)
    }
    fn write_text(
        &self,
        text: Bytes,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Written, ServiceError>> + Send {
        Service::write_text(self, text, claim)
    }
    fn read_text(&self) -> impl Future<Output = Result<Option<Newest>, ServiceError>> + Send {
        Service::read_text(self)
    }
}

/// The admin API's view of the node.
pub trait AdminApi: Send + Sync + 'static {
    fn node_id(&self) -> NodeId;
    fn cluster(&self) -> ClusterStatus;
    /// Whether the node should get traffic, or why not.
    fn readiness(&self) -> Result<(), String>;
    /// Whether whoever starts nodes one after another may go on to the next, or why not yet.
    fn started(&self) -> Result<(), String>;
    fn peers(&self) -> impl Future<Output = Vec<PeerProgress>> + Send;
    /// Answers who leads then.
    fn transfer_leader(
        &self,
        to: Option<NodeId>,
    ) -> impl Future<Output = Result<NodeId, OperatorError>> + Send;
    fn force_leave(&self, id: NodeId) -> impl Future<Output = Result<(), OperatorError>> + Send;
    /// Answers the message's `seq`.
    fn remove_message(&self, digest: Digest) -> impl Future<Output = Result<u64, OperatorError>> + Send;
    fn snapshot(&self) -> impl Future<Output = Result<Chunks, OperatorError>> + Send;
    /// Answers how many messages there were.
    fn restore(&self, chunks: Chunks) -> impl Future<Output = Result<u64, OperatorError>> + Send;
}

/// The running node, for the admin API.
#[derive(Clone)]
pub struct NodeAdmin {
    pub service: Service,
    pub operator: Operator,
}

impl AdminApi for NodeAdmin {
    fn node_id(&self) -> NodeId {
        self.service.node_id()
    }
    fn cluster(&self) -> ClusterStatus {
        self.service.cluster()
    }
    fn readiness(&self) -> Result<(), String> {
        self.service.readiness()
    }
    fn started(&self) -> Result<(), String> {
        self.service.started()
    }
    async fn peers(&self) -> Vec<PeerProgress> {
        self.operator.peers().await
    }
    async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, OperatorError> {
        self.operator.transfer_leader(to).await
    }
    async fn force_leave(&self, id: NodeId) -> Result<(), OperatorError> {
        self.operator.force_leave(id).await
    }
    async fn remove_message(&self, digest: Digest) -> Result<u64, OperatorError> {
        self.operator.remove_message(digest).await
    }
    async fn snapshot(&self) -> Result<Chunks, OperatorError> {
        Ok(self.operator.snapshot().await?.boxed())
    }
    async fn restore(&self, chunks: Chunks) -> Result<u64, OperatorError> {
        self.operator.restore(chunks).await
    }
}
