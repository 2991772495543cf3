//! One Raft group of this node: consensus over the store.

/// A group's Raft.
pub type Raft = skep_raft::Raft<skep_store::StateMachine>;
