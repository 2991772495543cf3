//! What nodes ask of each other, what they answer, and why they do not. Variants are only ever
//! added at the end: the codec numbers them.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::id::NodeId;
use skep_state::command::{Op, OpOutcome};

use crate::formation::bootstrap::{BootstrapAnswer, BootstrapAsk};
use crate::types::Vote;

use crate::witness::Held;

use super::{
    AppendRequest, AppendResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

/// What one node asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// A heartbeat, or any append outside a stream.
    Append(AppendRequest),
    Vote(VoteRequest),
    PreVote(VoteRequest),
    TransferLeader(TransferLeaderRequest),
    /// To the leader: put these operations into the log, and answer when they are applied.
    Propose {
        ops: Vec<Op>,
    },
    /// To the leader: up to where must a node have applied to answer a read now?
    ReadIndex {
        /// The asker's own vote: where it is the leader's, the asker is one of the quorum.
        vote: Option<Vote>,
    },
    /// A question of a node that has no cluster yet.
    Bootstrap(BootstrapAsk),
    /// To the leader, for an operator.
    Operate(Operation),
    /// From a leader that proves itself: does the peer still hold this vote?
    HoldsVote(Vote),
    /// What does the peer's clock show? Level 3.
    Clock,
    /// To the leader: as [`Request::Propose`], of what a snapshot holds, which keeps its times. Level 3.
    Restore {
        ops: Vec<Op>,
    },
    /// Does the peer reach the asker at this address, which the asker tells all? Level 3.
    Reach {
        address: SocketAddr,
    },
    /// To the leader: may the asker, a voter that leaves, stop and stay a voter? Level 3.
    MayStop,
    /// From the leader: does the peer's store take writes, or is there no room for them? Level 3.
    HasRoom,
    /// From a node that was started again: has the peer seen more of its log than this? Protocol 4.
    Resumes {
        /// The asker's, as in its hello: what the peer saw of this process itself is of no interest.
        session: u64,
        /// What it found when it was started.
        held: Option<Held>,
        /// Whether it knows already that its log went back.
        went_back: bool,
    },
    /// What hashes has the peer's state had, after which log entries? Protocol 5.
    Hashes,
    /// To the leader: workers hold the tasks of these fences. Protocol 6.
    Beat {
        worker: String,
        /// The number of its newest stream; 0 where it says none.
        stream: u64,
        fences: Vec<u64>,
        /// What it says of itself: how many tasks it does at a time, or 0, and its version, or none.
        slots: u32,
        version: String,
        /// Whether it claims nothing at present; none where it does not say.
        quiet: Option<bool>,
    },
    /// To the leader: the worker that held the tasks of these fences has let its stream of this number go, so long
    /// ago. Protocol 6.
    Gone {
        worker: String,
        stream: u64,
        ago_ms: u64,
        fences: Vec<u64>,
    },
    /// What are the bytes of these records, which the asker's disk has lost? No more than [`RECORDS_MAX`]. Protocol
    /// 6.
    Records(Vec<RecordName>),
    /// To the leader: of which workers has it heard, those after this name, at most so many? Protocol 6.
    Workers {
        after: String,
        limit: u32,
    },
    /// To the leader: a worker is to claim nothing from here on, or to go on. Protocol 6.
    Quiet {
        worker: String,
        quiet: bool,
    },
}

/// Records that are asked for at a time.
pub const RECORDS_MAX: usize = 64;

/// A record that has the same bytes on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordName {
    Message { seq: u64 },
    Claim { number: u64 },
}

/// A worker that the leader has heard of within a lease's length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardWorker {
    pub worker: String,
    pub ago_ms: u64,
    /// How many tasks it does at a time; 0 where it has not said.
    pub slots: u32,
    /// Empty where it has not said.
    pub version: String,
    /// Whether it claims nothing at present, or is asked to; none where it does not say.
    pub quiet: Option<bool>,
}

/// What an operator asks of the leader through any node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Hand leadership to `to`, or to the voter that is furthest.
    TransferLeader { to: Option<NodeId> },
    /// Take a node that does not answer out of the membership.
    ForceLeave { node: NodeId },
    /// How far is each member?
    Progress,
    /// Look how far the replicated time is ahead; and where this says what the clocks agree on by now, as who asks
    /// was shown it, set it back to that. Level 6.
    MendTime { agreed_ms: Option<u64> },
}

/// What [`Operation`]s come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationOutcome {
    /// The new leader.
    LeaderTransferred(NodeId),
    NodeLeft,
    /// Each member with the index up to which its log matches the leader's.
    Progress(Vec<(NodeId, Option<u64>)>),
    Time(TimeMend),
}

/// What a look at the replicated time came to. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeMend {
    /// The newest that was given to anything, before it was set back.
    pub newest_ms: u64,
    /// What a majority of the voters' clocks agrees on.
    pub agreed_ms: u64,
    /// Whether it is so far ahead that clocks which agree cannot have given it.
    pub is_ahead: bool,
    /// Messages whose time is later than the agreed one.
    pub messages: u64,
    /// Whether it was set back.
    pub is_mended: bool,
}

/// Answers to [`Request`]s.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// Not executed.
    Refused(Refusal),
    /// Executed, perhaps; it went wrong.
    Failed(String),
    Append(AppendResponse),
    /// To [`Request::Vote`] and [`Request::PreVote`].
    Vote(VoteResponse),
    TransferLeader(TransferLeaderResponse),
    /// To [`Request::Propose`] and [`Request::Restore`]: one outcome for each operation, in their order.
    Proposed(Result<Vec<OpOutcome>, ProposeError>),
    /// The log index.
    ReadIndex(Result<u64, ReadIndexError>),
    Bootstrap(BootstrapAnswer),
    Operated(Result<OperationOutcome, OperationError>),
    HoldsVote(bool),
    /// By the peer's own clock, right or wrong.
    Clock {
        /// Milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// To [`Request::Reach`]; or why not.
    Reached(Result<(), String>),
    MayStop(bool),
    HasRoom(bool),
    /// To [`Request::Resumes`]: the most that the peer saw.
    Seen(Option<Held>),
    /// Log indexes, each with the hash of the state after that entry.
    Hashes(Vec<(u64, u128)>),
    /// To [`Request::Beat`] and [`Request::Gone`]: whether the peer leads, and has noted it.
    Beat(bool),
    /// To [`Request::Records`], of the first of them, in their order; none for one that the peer does not have either.
    Records(Vec<Option<Bytes>>),
    /// To [`Request::Workers`], by their names; none where the peer does not lead.
    Workers(Option<Vec<HeardWorker>>),
    /// To [`Request::Beat`] as well: it is noted, and the worker is to be told this: to claim nothing, or to go on.
    Told {
        quiet: bool,
    },
    /// To [`Request::Quiet`]: whether the worker was heard of; none where the peer does not lead.
    Quieted(Option<bool>),
}

/// Why a request was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// As many requests as the peer takes are in its hands.
    #[error("the peer has as many requests as it takes")]
    Overloaded,
    /// The two do not belong to the same cluster (yet), and the request is for members.
    #[error("the peer does not take part in this cluster")]
    NotInCluster,
    #[error("the peer is starting or stopping")]
    NotReady,
    /// A request or a group that the peer does not know.
    #[error("the peer does not know such a request")]
    NotSupported,
    /// Who asks has the edge key alone. No member is ever told so. Protocol 6.
    #[error("this is not for who has the edge key alone")]
    NotForEdges,
}

/// Why [`Request::Propose`] gave no outcomes. All but `Unknown` mean that nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProposeError {
    #[error("the node is not the leader")]
    NotLeader { leader: Option<NodeId> },
    #[error("the leader has as many proposals as it takes")]
    Overloaded,
    #[error("the leader's disk is full")]
    Full,
    /// It may have been executed, or may yet be.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// Why [`Request::ReadIndex`] gave no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReadIndexError {
    #[error("the node is not the leader")]
    NotLeader { leader: Option<NodeId> },
    /// The leader could not assure itself of its leadership in time.
    #[error("no quorum answered: {0}")]
    Unavailable(String),
}

/// Why an [`Operation`] was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperationError {
    #[error("the node is not the leader")]
    NotLeader { leader: Option<NodeId> },
    /// It would do harm, or makes no sense now.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
}

impl Request {
    /// Whether a node may ask it that is not (yet) of the same cluster.
    pub fn is_for_strangers(&self) -> bool {
        matches!(self, Request::Bootstrap(_))
    }

    /// Whether who has the edge key alone may ask it: what tells something, changes nothing, and has no
    /// part in what a quorum says.
    pub fn is_for_edges(&self) -> bool {
        matches!(self, Request::ReadIndex { vote: None } | Request::Clock)
    }

    /// Whether it goes ahead of bulk, and is not bounded like clients' requests: elections and
    /// leases hang on these.
    pub fn is_urgent(&self) -> bool {
        match self {
            Request::Append(append) => append.entries.is_empty(),
            Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_) => true,
            Request::ReadIndex { .. } | Request::HoldsVote(_) | Request::Bootstrap(_) => true,
            // One that waits would tell of another moment.
            Request::Clock => true,
            Request::MayStop | Request::HasRoom | Request::Resumes { .. } => true,
            Request::Hashes => true,
            // Leases of workers hang on it.
            Request::Beat { .. } | Request::Gone { .. } => true,
            Request::Propose { .. } | Request::Restore { .. } | Request::Operate(_) => false,
            Request::Workers { .. } | Request::Quiet { .. } => false,
            // It takes as long as a dial, or a read of the disk.
            Request::Reach { .. } | Request::Records(_) => false,
        }
    }

    /// Whether consensus itself asks it: such requests have their own, wider bound.
    pub fn is_consensus(&self) -> bool {
        matches!(
            self,
            Request::Append(_) | Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_)
        )
    }
}
