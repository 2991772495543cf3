//! Exactly one cluster out of nodes that start with nothing.
//!
//! What it owns: the decision what a node without a cluster does next ([`decide`]), the rules by
//! which it gives and takes back its word ([`promise`]), and the driver of both ([`driver`]).
//! `decide` and `promise` are pure; the driver is one task, and ends when the node belongs to a
//! cluster.
//!
//! # The protocol
//!
//! A node is *pristine* while its identity names no cluster. Of the pristine nodes that see each
//! other, at least `--expect` of them and with the same `--expect`, the one with the smallest id
//! proposes a cluster: a fresh random cluster id, a ballot, and the list of all of them.
//!
//! 1. **Check**: it asks each whether it would promise. Nobody remembers anything.
//! 2. **Promise**: it writes its own promise, then asks each for its promise. A member writes it
//!    to disk before it says yes, and holds one promise at a time.
//! 3. **Decide**: with every yes, and if its own promise still holds, it writes the cluster id
//!    and the list. From here on the cluster exists, and this node alone may initialise it.
//! 4. **Initialise**: Raft starts with *all* of the list as voters; then gossip tells the id.
//!
//! A pristine node *adopts* a cluster's id when it holds its promise and one of the cluster's
//! nodes speaks to it ([`Bootstrap::offer`]) or shows it in gossip, or when gossip shows the
//! cluster **established**: with a leader of term 1 or later, which needs a majority of its
//! voters. What gossip shows is not enough: one of those who are shown to belong to the cluster has to
//! say so over a peer's connection, since an edge can write gossip. Whoever adopts without being on the
//! list is made a learner by the leader's plan.
//!
//! # Why there is at most one cluster
//!
//! A word that could never be taken back would let one crash block everyone, so it can be taken
//! back; what matters is that the cluster it was given to can then never get a quorum.
//!
//! - Each node promises to rising ballots only, and keeps the highest on disk.
//! - A word to X is taken back, in favour of a proposal Y of a higher ballot, when X's proposer
//!   drops X (then X is never decided: only its proposer decides, and it does so only while its
//!   own promise is X), or when it is dead in gossip. In the latter case X may have been
//!   decided, so it goes to the *past*, and the node promises to Y only where Y's list covers so
//!   much of each past list that the rest of that list is no majority of it.
//!
//! Let X and Y both be decided, with lists that have a node in common, ballot X < ballot Y. Each
//! common node said yes to both, to X first; when it said yes to Y it had adopted neither, and
//! from then on it adopts X only if X is established. X was decided, so it was in its past, and
//! it checked that X's list less Y's is no majority of X's list. So X lacks a majority of voters
//! and is never established: it acknowledges nothing. This holds whatever gossip claims about
//! who is dead, and for any delay, loss or repetition of messages. Lists with no node in common
//! need two groups of `--expect` nodes that have never seen each other; nothing can tell these
//! from two clusters that were meant.
//!
//! # What happens when
//!
//! | event | then |
//! |---|---|
//! | the proposer dies before or during the check | nobody remembers; the next smallest proposes |
//! | it dies after some promises, before it decided | its folder comes back: it goes on with the same proposal, or drops it and says so when asked ([`BootstrapAsk::Query`]). The folder is lost: the others' words go to the past, which allows a new proposal while a majority of the list is on it |
//! | it dies after deciding, before initialising | it initialises with the same id and list when it comes back ([`crate::formation::identity::Identity::planned`]); the folder is lost: as above |
//! | it dies after initialising, before gossiping | it is a member when it comes back, and its voters hear from it by Raft |
//! | a promiser restarts | its word is on disk |
//! | two proposers with different views | the smaller id wins: the larger drops its own proposal when asked by the smaller, and retries after a refusal by the smaller's promise |
//! | a late node appears in the middle, even with a smaller id | it has nobody's promise: it waits, and adopts the cluster when that is established |
//! | the proposer lives behind a partition, the others think it dead | they may form another cluster, with a replacement for it; the first can then never get a quorum, and its proposer is refused by the others with a message that says what to do |
//! | a proposer's and a majority's folders are lost between promise and decision | who kept a promise stays with it and says so in the log; its folder must be emptied by hand. The check keeps that window to one round trip |
//!
//! `--expect 1` starts alone where there are no seeds, and never where there are: then it only
//! joins. A node of a cluster never bootstraps, whatever `--expect` says.

pub mod decide;
pub mod driver;
pub mod initialise;
pub mod promise;

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use skep_base::id::{ClusterId, NodeId};
use skep_members::gossip::{NodeState, PeerRecord, Program, View};

pub use decide::{Decision, Wait, decide};
pub use driver::{Ask, AskError, Bootstrap, BootstrapConfig, BootstrapError, ClusterRefused};
pub use initialise::{Initialise, Initialiser};

/// Most members that a cluster is formed of; more may join it.
pub const MEMBERS_MAX: usize = 128;

/// How long the live nodes must have been the same before one of them proposes.
pub const SETTLE: Duration = Duration::from_millis(300);

/// A cluster to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub ballot: u64,
    pub proposer: NodeId,
    pub cluster: ClusterId,
    /// The first voters, sorted, the proposer first.
    pub members: Vec<NodeId>,
    /// The proposer's `--expect`.
    pub expect: u32,
}

/// What a proposer asks, and what is asked of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapAsk {
    /// Would you promise?
    Check(Proposal),
    /// Promise.
    Promise(Proposal),
    /// To a proposer: do you still propose this cluster?
    Query { cluster: ClusterId },
}

/// The answer to a [`BootstrapAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapAnswer {
    /// It would promise, or it has promised, and that is on disk; or it still proposes.
    Yes,
    No {
        reason: No,
        /// The highest ballot that it ever promised to.
        ballot: u64,
    },
    /// It belongs to a cluster already.
    HasCluster(ClusterId),
}

/// Why a node does not promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum No {
    #[error("the proposal is malformed")]
    Malformed,
    #[error("it expects {0} nodes")]
    Expects(u32),
    #[error("it sees {0}, whose id is smaller")]
    SeesSmaller(NodeId),
    #[error("it sees a node of cluster {0}")]
    SeesCluster(ClusterId),
    #[error("it has promised to a proposal of the same or a higher ballot")]
    BallotTooLow,
    #[error("it has promised to {0}")]
    PromisedTo(NodeId),
    #[error("it has promised to {proposer}, who is gone, and cluster {cluster} may exist without it")]
    Fenced { proposer: NodeId, cluster: ClusterId },
    #[error("it no longer proposes that cluster")]
    Dropped,
    #[error("its disk failed: {0}")]
    Disk(String),
}

/// What gossip shows of the others, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// False where absence proves nothing at the moment.
    pub trusted: bool,
    /// For how long the live nodes have been the same.
    pub settled_for: Duration,
    /// The live nodes but this one, sorted by id; balancers and those that left are not there.
    pub others: Vec<Other>,
}

/// A live node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    pub id: NodeId,
    pub cluster: Option<ClusterId>,
    /// Whether it starts and belongs to no cluster.
    pub pristine: bool,
    pub expect: u32,
    /// Whether it knows a leader that a quorum elected. Term 0 is the initialisation itself.
    pub has_leader: bool,
}

impl Sight {
    /// What the view shows at `now`.
    pub fn of(view: &View, now: Instant) -> Self {
        let there = |record: &&PeerRecord| {
            record.program == Program::Node && record.state != NodeState::Left && record.id != view.me.id
        };
        Self {
            trusted: view.trusted,
            settled_for: view.settled_for(now),
            others: view.live.iter().filter(there).map(Other::of).collect(),
        }
    }

    /// Whether that node is there.
    pub fn shows(&self, id: NodeId) -> bool {
        self.others.iter().any(|other| other.id == id)
    }

    /// Whether the cluster has had a leader, which a majority of its voters elected.
    pub fn shows_established(&self, cluster: ClusterId) -> bool {
        self.others.iter().any(|other| other.cluster == Some(cluster) && other.has_leader)
    }
}

impl Other {
    fn of(record: &PeerRecord) -> Self {
        Self {
            id: record.id,
            cluster: record.cluster,
            pristine: record.cluster.is_none() && record.state == NodeState::Joining,
            expect: record.expect,
            has_leader: record.leader.is_some() && record.term > 0,
        }
    }
}

/// All that a node sees belong to another cluster than its own: its data folder, or its seeds,
/// are not what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnlyStrangers {
    pub own: ClusterId,
    pub other: ClusterId,
}

impl fmt::Display for OnlyStrangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OnlyStrangers { own, other } = self;
        write!(
            f,
            "the data folder belongs to cluster {own}, but the nodes at the seeds to cluster {other}, which \
             refuses this node; give it the right seeds, or an empty data folder"
        )
    }
}

/// Whether the view shows only strangers.
pub fn only_strangers(view: &View) -> Option<OnlyStrangers> {
    let own = view.me.cluster?;
    let mut clusters =
        view.live.iter().filter(|record| record.program == Program::Node).filter_map(|record| record.cluster);
    let first = clusters.next()?;
    (first != own && clusters.all(|cluster| cluster != own)).then_some(OnlyStrangers { own, other: first })
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {} of {} nodes by {}", self.cluster, self.members.len(), self.proposer)
    }
}
