//! The one act of formation that Raft does itself: to begin with a list of voters.

use openraft::impls::EmptyNode;
use openraft::storage::RaftStateMachine;
use skep_base::id::NodeId;

use crate::types::TypeConfig;

/// The part of Raft that bootstrap needs.
pub trait Initialise: Send + Sync {
    /// Starts Raft with these voters; does nothing where it has a log or a vote already. On return the log
    /// that says so is on disk.
    fn initialise(&self, members: &[NodeId]) -> impl Future<Output = Result<(), String>> + Send;
}

/// A node's Raft, and what waits for its log to be on disk: openraft answers before it is.
pub struct Initialiser<SM: RaftStateMachine<TypeConfig>, F> {
    pub raft: openraft::Raft<TypeConfig, SM>,
    pub flush: F,
}

impl<SM, F, W> Initialise for Initialiser<SM, F>
where
    SM: RaftStateMachine<TypeConfig>,
    F: Fn() -> W + Send + Sync,
    W: Future<Output = std::io::Result<()>> + Send,
{
    async fn initialise(&self, members: &[NodeId]) -> Result<(), String> {
        if !self.raft.is_initialized().await.map_err(|error| error.to_string())? {
            let nodes: std::collections::BTreeMap<_, _> =
                members.iter().map(|id| (id.0, EmptyNode::default())).collect();
            self.raft.initialize(nodes).await.map_err(|error| error.to_string())?;
        }
        (self.flush)().await.map_err(|error| error.to_string())
    }
}
