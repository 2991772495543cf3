//! Drives a node into a cluster: looks, asks, writes, initialises, tells.
//!
//! [`Bootstrap::run`] is the one task; it may be dropped at any point and run again. The
//! handle's other calls come from the peers' connections at any time. Each change of the
//! identity runs to its end on a blocking thread, whatever becomes of the caller, so dropping a
//! future never leaves a change half done.

mod confirm;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use skep_base::id::{ClusterId, NodeId};
use skep_members::gossip::View;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::confirm::confirms;
use super::initialise::Initialise;
use super::promise::{self, NotAdopted};
use super::{BootstrapAnswer, BootstrapAsk, Decision, No, Proposal, Sight, Wait, decide};
use crate::formation::identity::{DataFolder, Identity, IdentityError, Promise};

/// How long to wait before asking again.
const ROUND: Duration = Duration::from_millis(200);

/// How long to wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to hold on to a proposal that has some promises, before dropping it for a new check.
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(10);

/// So often nobody of the cluster that is seen says that it belongs to it, before that is said aloud.
const UNREACHED_TURNS: usize = 15;

/// No answer came.
#[derive(Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub struct AskError(pub String);

/// The way to the other nodes.
pub trait Ask: Send + Sync {
    /// Asks a node and waits for its answer; the caller bounds the time.
    fn ask(
        &self,
        member: NodeId,
        ask: BootstrapAsk,
    ) -> impl Future<Output = Result<BootstrapAnswer, AskError>> + Send;
}

/// What bootstrap is told.
#[derive(Debug, Clone, Copy)]
pub struct BootstrapConfig {
    /// How many nodes to wait for before the first election.
    pub expect: u32,
    /// Whether the node was given seeds.
    pub seeds_given: bool,
}

/// The driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("gossip stopped before the node had a cluster")]
    GossipStopped,
}

/// A cluster is not taken as this node's own.
#[derive(Debug, thiserror::Error)]
pub enum ClusterRefused {
    #[error("this node belongs to cluster {own}, not to {offered}")]
    OtherCluster { own: ClusterId, offered: ClusterId },
    #[error("this node has not promised itself to cluster {0}")]
    NotPromised(ClusterId),
    #[error(transparent)]
    Disk(#[from] IdentityError),
}

/// A node's way into a cluster; clones share it.
#[derive(Clone)]
pub struct Bootstrap {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Arc<DataFolder>,
    config: BootstrapConfig,
    view: watch::Receiver<Arc<View>>,
    cluster: watch::Sender<Option<ClusterId>>,
    waiting: watch::Sender<Option<Wait>>,
}

/// What came of one round of asking.
struct Round {
    /// The first that did not say yes, and why.
    refused: Option<(NodeId, String)>,
    /// Whether a later round may still get every yes.
    hopeful: bool,
    ballot_seen: u64,
}

impl Bootstrap {
    pub fn new(folder: Arc<DataFolder>, config: BootstrapConfig, view: watch::Receiver<Arc<View>>) -> Self {
        let cluster = watch::Sender::new(folder.identity().cluster);
        let waiting = watch::Sender::new(None);
        Self { shared: Arc::new(Shared { folder, config, view, cluster, waiting }) }
    }

    /// The node's cluster, from the moment at which it is on disk: what peers' connections are
    /// opened and accepted with.
    pub fn cluster(&self) -> watch::Receiver<Option<ClusterId>> {
        self.shared.cluster.subscribe()
    }

    /// Why the node waits, while it has no cluster.
    pub fn waiting(&self) -> watch::Receiver<Option<Wait>> {
        self.shared.waiting.subscribe()
    }

    /// Answers another node's question. What it says is on disk before.
    pub async fn answer(&self, from: NodeId, ask: BootstrapAsk) -> BootstrapAnswer {
        let (sight, expect) = (self.sight(), self.shared.config.expect);
        let answered =
            self.change(move |identity| promise::answer(identity, &sight, expect, from, &ask)).await;
        answered.unwrap_or_else(|error| {
            let reason = No::Disk(error.to_string());
            BootstrapAnswer::No { reason, ballot: self.shared.folder.identity().ballot }
        })
    }

    /// A peer, whose certificate the cluster key signed, says that it belongs to `cluster` and
    /// speaks Raft. With `Ok` this node does too, and that is on disk: Raft may be served.
    ///
    /// # Errors
    /// The node belongs to another cluster, or has not promised itself to this one.
    pub async fn offer(&self, cluster: ClusterId) -> Result<(), ClusterRefused> {
        match self.change(move |identity| promise::adopt(identity, cluster, false)).await? {
            Ok(()) => Ok(()),
            Err(NotAdopted::HasCluster(own)) => Err(ClusterRefused::OtherCluster { own, offered: cluster }),
            Err(NotAdopted::NotPromised) => Err(ClusterRefused::NotPromised(cluster)),
        }
    }

    /// Runs until the node belongs to a cluster, tells gossip by `announce`, and returns it.
    /// A node that belongs to one returns it at once, after it made up for an initialisation
    /// that a crash prevented.
    pub async fn run(
        &self,
        ask: &impl Ask,
        raft: &impl Initialise,
        announce: impl Fn(ClusterId) + Send,
    ) -> Result<ClusterId, BootstrapError> {
        let mut view = self.shared.view.clone();
        let mut cluster = self.cluster();
        let (mut ballot_seen, mut turns) = (0, 0usize);
        let mut proposed_at: Option<(ClusterId, tokio::time::Instant)> = None;
        loop {
            view.borrow_and_update();
            cluster.borrow_and_update();
            let (sight, identity) = (self.sight(), self.shared.folder.identity());
            let config = &self.shared.config;
            let mut asked = false;
            let wait = match decide(&sight, &identity, config.expect, config.seeds_given) {
                Decision::Member(own) => match self.initialise(raft, &identity).await {
                    None => {
                        announce(own);
                        self.waits(None);
                        return Ok(own);
                    }
                    wait => wait,
                },
                Decision::Adopt { cluster, .. } if !confirms(ask, &sight, cluster, turns).await => {
                    (asked, turns) = (true, turns.wrapping_add(1));
                    let long = turns >= UNREACHED_TURNS;
                    Some(if long { Wait::Unreached(cluster) } else { Wait::Unconfirmed(cluster) })
                }
                Decision::Adopt { cluster, established } => {
                    tracing::info!(%cluster, established, "joining the cluster that is seen");
                    let adopt = move |identity: &mut Identity| promise::adopt(identity, cluster, established);
                    // Refused only where the identity changed meanwhile: look again.
                    self.change(adopt).await.err().map(disk)
                }
                Decision::Alone => self.start_alone(sight).await,
                Decision::Propose(members) => {
                    asked = true;
                    let ballot = ballot_seen.max(identity.ballot).saturating_add(1);
                    let proposal = Proposal {
                        ballot,
                        proposer: identity.node,
                        cluster: ClusterId::random(),
                        members,
                        expect: config.expect,
                    };
                    self.propose(ask, sight, &identity, proposal, &mut ballot_seen).await
                }
                Decision::Continue => match identity.promise {
                    Some(own) => {
                        asked = true;
                        let now = tokio::time::Instant::now();
                        let since =
                            proposed_at.filter(|(of, _)| *of == own.cluster).unwrap_or((own.cluster, now));
                        proposed_at = Some(since);
                        let patient = now - since.1 < PROPOSAL_PATIENCE;
                        self.gather_promises(ask, own, patient, &mut ballot_seen).await
                    }
                    None => None,
                },
                Decision::Drop(cluster) => {
                    tracing::info!(%cluster, "dropping the proposal: a member of it is gone");
                    self.drop_promise(cluster).await
                }
                Decision::Wait(wait) => if let Wait::Promised { proposer, cluster } = wait {
                    self.query(ask, proposer, cluster).await
                } else {
                    None
                }
                .or(Some(wait)),
            };
            let Some(wait) = wait else { continue };
            self.waits(Some(wait));
            tokio::select! {
                () = sleep(ROUND) => {}
                // Who asked just now does not ask again at each change of the view.
                changed = view.changed(), if !asked => changed.map_err(|_| BootstrapError::GossipStopped)?,
                _ = cluster.changed() => {}
            }
            if view.has_changed().is_err() {
                return Err(BootstrapError::GossipStopped);
            }
        }
    }

    async fn initialise(&self, raft: &impl Initialise, identity: &Identity) -> Option<Wait> {
        let members = identity.planned.as_ref()?;
        if let Err(error) = raft.initialise(members).await {
            return Some(Wait::Raft(error));
        }
        // From here on Raft's log tells that it is initialised, on disk. Should that log ever be lost,
        // nothing may make this node initialise the cluster a second time.
        self.change(|identity| identity.planned = None).await.err().map(disk)
    }

    async fn start_alone(&self, sight: Sight) -> Option<Wait> {
        let cluster = ClusterId::random();
        let started = self
            .change(move |identity| {
                let proposal = Proposal {
                    ballot: identity.ballot.saturating_add(1),
                    proposer: identity.node,
                    cluster,
                    members: vec![identity.node],
                    expect: 1,
                };
                let node = identity.node;
                promise::grant(identity, &sight, &proposal).map_err(|reason| refused(node, reason))?;
                promise::decide(identity, cluster);
                Ok(())
            })
            .await;
        match started {
            Ok(Ok(())) => {
                tracing::info!(%cluster, "starting a cluster alone");
                None
            }
            Ok(Err(wait)) => Some(wait),
            Err(error) => Some(disk(error)),
        }
    }

    /// Checks, and where all agree, gives the node's own promise.
    async fn propose(
        &self,
        ask: &impl Ask,
        sight: Sight,
        identity: &Identity,
        proposal: Proposal,
        ballot_seen: &mut u64,
    ) -> Option<Wait> {
        if let Err(reason) = promise::grant(&mut identity.clone(), &sight, &proposal) {
            return Some(refused(identity.node, reason));
        }
        let round = self.ask_all(ask, &proposal, BootstrapAsk::Check).await;
        *ballot_seen = round.ballot_seen.max(*ballot_seen);
        if let Some((by, reason)) = round.refused {
            return Some(refused(by, reason));
        }
        tracing::info!(cluster = %proposal.cluster, members = proposal.members.len(), "proposing a cluster");
        let node = identity.node;
        let granted = self.change(move |identity| promise::grant(identity, &sight, &proposal)).await;
        match granted {
            Ok(granted) => granted.err().map(|reason| refused(node, reason)),
            Err(error) => Some(disk(error)),
        }
    }

    /// Asks every member of the node's own proposal for its promise, and decides when all gave it.
    async fn gather_promises(
        &self,
        ask: &impl Ask,
        own: Promise,
        patient: bool,
        ballot_seen: &mut u64,
    ) -> Option<Wait> {
        let cluster = own.cluster;
        let proposal = Proposal {
            ballot: own.ballot,
            proposer: own.proposer,
            cluster,
            members: own.members,
            expect: self.shared.config.expect,
        };
        let round = self.ask_all(ask, &proposal, BootstrapAsk::Promise).await;
        *ballot_seen = round.ballot_seen.max(*ballot_seen);
        match round.refused {
            None => match self.change(move |identity| promise::decide(identity, cluster)).await {
                Ok(decided) => {
                    if decided {
                        tracing::info!(%cluster, "all promised: starting the cluster");
                    }
                    None
                }
                Err(error) => Some(disk(error)),
            },
            Some((by, reason)) if round.hopeful && patient => Some(refused(by, reason)),
            Some((by, reason)) => {
                tracing::info!(%cluster, %by, reason, "dropping the proposal");
                self.drop_promise(cluster).await.or_else(|| Some(refused(by, reason)))
            }
        }
    }

    async fn ask_all(
        &self,
        ask: &impl Ask,
        proposal: &Proposal,
        form: fn(Proposal) -> BootstrapAsk,
    ) -> Round {
        let others = proposal.members.iter().filter(|id| **id != proposal.proposer);
        let answers = join_all(others.map(|id| async move {
            let answer = timeout(ANSWER_TIMEOUT, ask.ask(*id, form(proposal.clone()))).await;
            (*id, answer.unwrap_or_else(|_| Err(AskError("too late".into()))))
        }));
        let mut round = Round { refused: None, hopeful: true, ballot_seen: 0 };
        for (by, answer) in answers.await {
            let (hopeful, reason) = match answer {
                Ok(BootstrapAnswer::Yes) => continue,
                Ok(BootstrapAnswer::HasCluster(cluster)) => {
                    (false, format!("it belongs to cluster {cluster}"))
                }
                Ok(BootstrapAnswer::No { reason, ballot }) => {
                    round.ballot_seen = round.ballot_seen.max(ballot);
                    // Of two proposers the one with the larger id drops its proposal.
                    let passes = match &reason {
                        No::PromisedTo(other) => *other > proposal.proposer,
                        No::Disk(_) => true,
                        _ => false,
                    };
                    (passes, reason.to_string())
                }
                Err(error) => (true, error.to_string()),
            };
            round.hopeful &= hopeful;
            round.refused.get_or_insert((by, reason));
        }
        round
    }

    /// Asks the proposer whether it still proposes what this node promised itself to.
    async fn query(&self, ask: &impl Ask, proposer: NodeId, cluster: ClusterId) -> Option<Wait> {
        let answer = timeout(ANSWER_TIMEOUT, ask.ask(proposer, BootstrapAsk::Query { cluster })).await;
        let dropped = match answer {
            Ok(Ok(BootstrapAnswer::No { reason: No::Dropped, .. })) => true,
            // Then it never decided this one, and never will.
            Ok(Ok(BootstrapAnswer::HasCluster(other))) => other != cluster,
            _ => false,
        };
        if dropped { self.drop_promise(cluster).await } else { None }
    }

    async fn drop_promise(&self, cluster: ClusterId) -> Option<Wait> {
        let dropped = self.change(move |identity| promise::drop_promise(identity, cluster)).await;
        dropped.err().map(disk)
    }

    fn sight(&self) -> Sight {
        Sight::of(&self.shared.view.borrow(), Instant::now())
    }

    /// Notes why the node waits, and logs it where that is news.
    fn waits(&self, wait: Option<Wait>) {
        self.shared.waiting.send_if_modified(|held| {
            let news = *held != wait;
            match &wait {
                Some(wait) if news && wait.is_trouble() => tracing::warn!("no cluster yet: {wait}"),
                Some(wait) if news => tracing::info!("no cluster yet: {wait}"),
                _ => {}
            }
            if news {
                *held = wait;
            }
            news
        });
    }

    /// Changes the identity on a blocking thread, and publishes the cluster when it is on disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Identity) -> T + Send + 'static,
    ) -> Result<T, IdentityError> {
        let shared = self.shared.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let outcome = shared.folder.change(change)?;
            let cluster = shared.folder.identity().cluster;
            shared.cluster.send_if_modified(|held| std::mem::replace(held, cluster) != cluster);
            Ok(outcome)
        });
        match changed.await {
            Ok(changed) => changed,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being dropped, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }
}

fn refused(by: NodeId, reason: impl Display) -> Wait {
    Wait::Refused { by, reason: reason.to_string() }
}

fn disk(error: IdentityError) -> Wait {
    Wait::Disk(error.to_string())
}

#[cfg(test)]
mod tests;
