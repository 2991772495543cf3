//! What the admin routes ask of the node. `Service` and `Operator` are the answer in the program; tests
//! give a fake.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use skep_base::id::NodeId;
use skep_raft::wire::TimeMend;
use skep_state::message::Digest;

use crate::kinds::gateway::GatewayApi;
use crate::kinds::served::TaskApi;
use crate::service::operator::{Operator, OperatorError, PeerProgress};
use crate::service::{Clocks, ClusterStatus, Service};

/// The chunks of a snapshot file.
pub type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

/// The admin API's view of the node.
pub trait AdminApi: Send + Sync + 'static {
    fn node_id(&self) -> NodeId;
    fn cluster(&self) -> ClusterStatus;
    /// Whether the node should get traffic, or why not.
    fn readiness(&self) -> Result<(), String>;
    /// Whether whoever starts nodes one after another may go on to the next, or why not yet.
    fn started(&self) -> Result<(), String>;
    /// The voters' clocks.
    fn clocks(&self) -> Clocks;
    /// Who knows of tasks and of the gateway.
    type Tasks: TaskApi + GatewayApi;
    fn tasks(&self) -> Arc<Self::Tasks>;
    /// How far the time of what is written is ahead; set back where it says what the clocks agree on by now.
    fn mend_time(
        &self,
        agreed_ms: Option<u64>,
    ) -> impl Future<Output = Result<TimeMend, OperatorError>> + Send;
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
    fn clocks(&self) -> Clocks {
        self.service.clocks()
    }
    type Tasks = Service;
    fn tasks(&self) -> Arc<Service> {
        Arc::new(self.service.clone())
    }
    async fn mend_time(&self, agreed_ms: Option<u64>) -> Result<TimeMend, OperatorError> {
        self.operator.mend_time(agreed_ms).await
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
