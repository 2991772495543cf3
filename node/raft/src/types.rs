//! The types that openraft is instantiated with, named once.

use openraft::impls::EmptyNode;
use skep_base::id::RawNodeId;
use skep_state::command::{Command, CommandOutcome};

openraft::declare_raft_types!(
    /// Node ids without addresses: where a node is, gossip knows.
    pub TypeConfig:
        D = Command,
        R = CommandOutcome,
        NodeId = RawNodeId,
        Node = EmptyNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, RawNodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
