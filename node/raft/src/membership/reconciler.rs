//! Keeps Raft's membership as the plan wants it, and gossip told of this node's part in Raft.
//!
//! One task on every node. It watches gossip all the time, so that a new leader knows since when
//! someone has been gone; while this node leads, it takes the plan's steps one after another,
//! each on condition that neither the membership nor the leader changed meanwhile. It may be
//! dropped at any await: a membership change that it leaves joint is finished by the next leader.

pub mod facts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::impls::EmptyNode;
use openraft::metrics::RaftServerMetrics;
use openraft::storage::RaftStateMachine;
use openraft::vote::RaftLeaderId as _;
use openraft::{ChangeMembers, Precondition, ServerState};
use skep_base::id::{NodeId, RawNodeId};
use skep_members::gossip::{Gossip, RaftRole, View};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::plan::{Facts, Step, may_stop, next_step};
use super::stops::{Question, Questions};
use crate::types::{Metrics, TypeConfig};
use crate::witness::Witness;
pub use facts::membership_of;
use facts::{Tracker, raft_facts};

pub use super::plan::Settings;

/// How often the plan is asked where nothing calls for it earlier.
const TICK: Duration = Duration::from_millis(100);

/// How long one step may take; longer means that the quorum is not there.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a handover may take before the plan is asked again.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait after a step that failed: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

type Raft<SM> = openraft::Raft<TypeConfig, SM>;

/// Runs until Raft or gossip stops. `questions` are of voters that would stop.
pub async fn run<SM>(
    node_id: NodeId,
    raft: Raft<SM>,
    gossip: Gossip,
    settings: Settings,
    questions: Questions,
    witness: Witness,
) where
    SM: RaftStateMachine<TypeConfig>,
{
    tokio::join!(
        tell(&raft, &gossip),
        reconcile(node_id, &raft, gossip.view(), settings, questions, witness)
    );
}

/// Tells gossip this node's role, leader and term, at once when they change.
async fn tell<SM: RaftStateMachine<TypeConfig>>(raft: &Raft<SM>, gossip: &Gossip) {
    let mut metrics = raft.server_metrics();
    loop {
        let (role, leader, term) = part(&metrics.borrow_and_update());
        gossip.update(|record| {
            (record.raft, record.leader, record.term) = (role, leader, term);
        });
        if metrics.changed().await.is_err() {
            gossip.update(|record| (record.raft, record.leader) = (RaftRole::None, None));
            return;
        }
    }
}

/// A node's part in Raft. A leader of term 0 is none: nobody elected it.
fn part(metrics: &RaftServerMetrics<TypeConfig>) -> (RaftRole, Option<NodeId>, u64) {
    let is_member = metrics.membership_config.membership().get_node(&metrics.id).is_some();
    let term = metrics.vote.leader_id.term();
    let role = match metrics.state {
        ServerState::Leader => RaftRole::Leader,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Learner if is_member => RaftRole::Learner,
        ServerState::Learner | ServerState::Shutdown => RaftRole::None,
    };
    (role, metrics.current_leader.filter(|_| term > 0).map(NodeId), term)
}

/// Takes the plan's steps while this node leads. Ends with Raft or gossip.
pub async fn reconcile<SM: RaftStateMachine<TypeConfig>>(
    node_id: NodeId,
    raft: &Raft<SM>,
    mut view: watch::Receiver<Arc<View>>,
    settings: Settings,
    mut questions: Questions,
    witness: Witness,
) {
    let mut waiting = Vec::new();
    let mut tracker = Tracker::default();
    let mut server = raft.server_metrics();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backoff = BACKOFF.0;
    loop {
        let seen = view.borrow_and_update().clone();
        server.borrow_and_update();
        let metrics = raft.metrics().borrow_watched().clone();
        if metrics.running_state.is_err() {
            return;
        }
        let now = Instant::now();
        let facts =
            tracker.observe(node_id, &seen, raft_facts(&metrics).witnessed(&witness, now), &settings, now);
        let leads = metrics.state == ServerState::Leader;
        let facts = facts.filter(|_| leads);
        let step = facts.as_ref().and_then(|facts| next_step(facts, &settings, now));
        // What is asked while something is changed is answered after it.
        if step.is_none() {
            answer(&mut waiting, facts, &mut tracker, &settings, now);
        }
        if let Some(step) = step {
            tracing::info!(%step, "changing the membership");
            backoff = match timeout(STEP_TIMEOUT, take(raft, &metrics, &step)).await {
                Ok(Ok(())) => BACKOFF.0,
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error,
                        _ => "no quorum answered in time".into(),
                    };
                    tracing::warn!(%step, error, "the membership was not changed; trying again");
                    sleep(backoff).await;
                    (backoff * 2).min(BACKOFF.1)
                }
            };
            continue;
        }
        tokio::select! {
            _ = tick.tick() => {}
            changed = view.changed() => if changed.is_err() { return },
            changed = server.changed() => if changed.is_err() { return },
            // Nobody asks any more where the node is stopping.
            Some(question) = questions.recv() => waiting.push(question),
        }
    }
}

/// Answers those who would stop. Who may counts as gone from then on, for those who ask after it.
fn answer(
    waiting: &mut Vec<Question>,
    mut facts: Option<Facts>,
    tracker: &mut Tracker,
    settings: &Settings,
    now: Instant,
) {
    for question in waiting.drain(..) {
        let may = facts.as_ref().is_some_and(|facts| may_stop(facts, settings, question.node, now));
        if let Some(facts) = facts.as_mut().filter(|_| may) {
            tracing::info!(node = %question.node, "a voter stops, and stays one");
            facts.granted.insert(question.node);
            tracker.grant(question.node, now);
        }
        question.answer(may);
    }
}

/// Takes one step, decided on by `metrics`, and waits until it shows.
async fn take<SM: RaftStateMachine<TypeConfig>>(
    raft: &Raft<SM>,
    metrics: &Metrics,
    step: &Step,
) -> Result<(), String> {
    let raw = |ids: &std::collections::BTreeSet<NodeId>| ids.iter().map(|id| id.0).collect();
    let change: ChangeMembers<RawNodeId, EmptyNode> = match step {
        Step::TransferLeader(to) => return hand_over(raft, *to).await,
        Step::ChangeVoters(voters) | Step::FinishJoint(voters) => {
            ChangeMembers::ReplaceAllVoters(raw(voters))
        }
        Step::AddLearners(ids) => {
            let nodes: BTreeMap<_, _> = ids.iter().map(|id| (id.0, EmptyNode::default())).collect();
            ChangeMembers::AddNodes(nodes)
        }
        Step::RemoveLearners(ids) => ChangeMembers::RemoveNodes(raw(ids)),
    };
    let conditions = [
        Precondition::LastMembershipLogId { last_membership_log_id: *metrics.membership_config.log_id() },
        Precondition::CommittedLeaderId { committed_leader_id: metrics.vote.leader_id.to_committed() },
    ];
    // Demoted voters stay learners: they must hear that they are no voters any more.
    let changed = raft.change_membership_if(change, true, conditions).await;
    let log_id = changed.map_err(|error| error.to_string())?.log_id;
    // The metrics follow the answer; a plan made on older ones would be refused.
    let shown = |metrics: &Metrics| *metrics.committed_membership_config.log_id() >= Some(log_id);
    wait_for(raft, shown).await
}

/// Hands leadership over. openraft takes no writes from the moment on at which it is told so,
/// until someone is elected: the one named, or after an election timeout anyone.
async fn hand_over<SM: RaftStateMachine<TypeConfig>>(raft: &Raft<SM>, to: NodeId) -> Result<(), String> {
    let own = raft.metrics().borrow_watched().id;
    raft.trigger().transfer_leader(to.0).await.map_err(|error| error.to_string())?;
    let handed_over = wait_for(raft, |metrics| metrics.current_leader.is_some_and(|leader| leader != own));
    timeout(HANDOVER_TIMEOUT, handed_over).await.map_err(|_| format!("{to} did not take over"))?
}

async fn wait_for<SM: RaftStateMachine<TypeConfig>>(
    raft: &Raft<SM>,
    mut shown: impl FnMut(&Metrics) -> bool,
) -> Result<(), String> {
    let mut metrics = raft.metrics();
    while !shown(&metrics.borrow_and_update()) {
        metrics.changed().await.map_err(|_| "Raft has stopped".to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
