//! The leader's dispatcher: who holds what, and whose lease is over. What is due at a time is proposed by
//! [`due`](crate::service::due).
//!
//! One task a node, which does nothing where the node does not lead; it may be dropped at any await.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_raft::peers::Peers;
use skep_raft::wire::{BEATS, HeardWorker, Request, Response};
use skep_state::command::Op;
use skep_state::kind::Kind as _;
use skep_state::task::{Lease, TaskOp};
use skep_store::{Raft, Reader};
use tokio::time::{Instant, MissedTickBehavior};

use super::leases::{Leases, Said};
use crate::service::ServiceError;
use crate::service::proposer::{Proposer, Times};
use crate::service::status::leads_quorum;

/// Between two looks at the leases.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A look that is later than this was kept from hearing of anybody.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How long the end of leases may take to be committed, before it is tried again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Before a leader is asked again that does not know yet that it leads.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// The leases, as all of a node share them, and the term that it leads in with them: none while it does not. What
/// was heard in one term says nothing of another: beats went to another leader between them.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<Option<(u64, Leases)>>>);

/// The term that this node leads in, as far as it can tell.
pub fn led_term(node_id: NodeId, raft: &Raft) -> Option<u64> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    leads_quorum(node_id, &metrics).then_some(metrics.current_term)
}

impl Held {
    /// A worker holds these. Answers what it is to be told; none where this node does not lead, in a term whose leases it
    /// has: then nothing came of it.
    pub fn extend(&self, said: Said<'_>, led: Option<u64>) -> Option<Option<bool>> {
        self.note(led, |leases, now| leases.extend(said, now))
    }

    /// A worker is to claim nothing, or to go on: whether it was heard of; none where this node does not lead.
    pub fn ask_quiet(&self, worker: &str, quiet: bool, led: Option<u64>) -> Option<bool> {
        self.note(led, |leases, _| leases.ask_quiet(worker, quiet))
    }

    /// The worker that held these let its stream of this number go so long ago. Answers whether this node leads.
    pub fn end(&self, worker: &str, stream: u64, ago: Duration, fences: &[u64], led: Option<u64>) -> bool {
        self.note(led, |leases, now| leases.end(worker, stream, ago, fences, now)).is_some()
    }

    /// The workers after a name that were heard of, at most so many; none where this node does not lead.
    pub fn heard(&self, after: &str, limit: u32, led: Option<u64>) -> Option<Vec<HeardWorker>> {
        self.note(led, |leases, now| leases.heard(after, limit, now))
    }

    fn note<T>(&self, led: Option<u64>, what: impl FnOnce(&mut Leases, Instant) -> T) -> Option<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, leases) = held.as_mut().filter(|(term, _)| led == Some(*term))?;
        Some(what(leases, Instant::now()))
    }

    fn let_go(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn look(&self, term: u64, current: &[Lease], missed: Option<Duration>, now: Instant) -> Vec<Lease> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|(of, _)| *of != term) {
            *held = None;
        }
        let (_, leases) = held.get_or_insert_with(|| (term, Leases::default()));
        if let Some(missed) = missed {
            leases.pause(missed);
        }
        leases.look(current, now)
    }
}

/// What the leader is told of a worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Word<'a> {
    pub worker: &'a str,
    /// The number of a stream of its: the newest, or the one that has ended; 0 where it has none.
    pub stream: u64,
    /// Of the tasks that it has.
    pub fences: &'a [u64],
    /// When that stream ended: it is gone, unless something was heard of it since.
    pub ended: Option<Instant>,
    /// How many tasks it does at a time; 0 where it does not say.
    pub slots: u32,
    /// Empty where it does not say.
    pub version: &'a str,
    /// Whether it claims nothing at present; none where it does not say.
    pub quiet: Option<bool>,
}

/// Tells the leader, from any node, what workers hold, and who of them is gone.
#[derive(Clone)]
pub struct Beats {
    pub node_id: NodeId,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub held: Held,
}

impl Beats {
    /// Has the leader extend the leases of a worker's tasks; or end them, where its stream has.
    pub async fn tell(&self, word: Word<'_>, deadline: Instant) -> Result<Option<bool>, ServiceError> {
        let Word { worker, stream, fences, ended, slots, version, quiet } = word;
        loop {
            let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
            let heard = match leader {
                None => None,
                Some(id) if id == self.node_id => {
                    let led = led_term(self.node_id, &self.raft);
                    match ended {
                        None => self.held.extend(Said { worker, stream, fences, slots, version, quiet }, led),
                        Some(ended) => {
                            self.held.end(worker, stream, ended.elapsed(), fences, led).then_some(None)
                        }
                    }
                }
                Some(id) if self.reads_beats(id) => {
                    let (worker, fences) = (worker.to_owned(), fences.to_vec());
                    let request = match ended.map(|ended| ended.elapsed().as_millis()) {
                        None => Request::Beat {
                            worker,
                            stream,
                            fences,
                            slots,
                            version: version.to_owned(),
                            quiet,
                        },
                        Some(ago) => {
                            let ago_ms = ago.try_into().unwrap_or(u64::MAX);
                            Request::Gone { worker, stream, ago_ms, fences }
                        }
                    };
                    match self.peers.call(id, request, deadline).await {
                        Ok(Response::Beat(true)) => Some(None),
                        Ok(Response::Told { quiet }) => Some(Some(quiet)),
                        _ => None,
                    }
                }
                Some(_) => None,
            };
            if let Some(told) = heard {
                return Ok(told);
            }
            if Instant::now() + ASK_PAUSE >= deadline {
                return Err(ServiceError::Unavailable {
                    detail: "no leader heard of the worker in time: ask again before its leases end".into(),
                    unprocessed: true,
                });
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// The workers after a name that the leader has heard of; none where it is not known, or does not say so in time.
    pub async fn heard(&self, after: &str, limit: u32, deadline: Instant) -> Option<Vec<HeardWorker>> {
        let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId)?;
        if leader == self.node_id {
            return self.held.heard(after, limit, led_term(self.node_id, &self.raft));
        }
        if !self.reads_beats(leader) {
            return None;
        }
        let request = Request::Workers { after: after.to_owned(), limit };
        match self.peers.call(leader, request, deadline).await {
            Ok(Response::Workers(heard)) => heard,
            _ => None,
        }
    }

    /// Has a worker claim nothing, or go on. Answers whether it was heard of.
    pub async fn quiet(&self, worker: &str, quiet: bool, deadline: Instant) -> Result<bool, ServiceError> {
        let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
        let was_heard = match leader {
            Some(id) if id == self.node_id => {
                self.held.ask_quiet(worker, quiet, led_term(self.node_id, &self.raft))
            }
            Some(id) if self.reads_beats(id) => {
                let request = Request::Quiet { worker: worker.to_owned(), quiet };
                match self.peers.call(id, request, deadline).await {
                    Ok(Response::Quieted(was_heard)) => was_heard,
                    _ => None,
                }
            }
            _ => None,
        };
        was_heard.ok_or_else(|| ServiceError::Unavailable {
            detail: "no leader could be asked in time: ask again".into(),
            unprocessed: false,
        })
    }

    fn reads_beats(&self, id: NodeId) -> bool {
        let view = self.gossip.view().borrow().clone();
        view.live(id).is_some_and(|record| record.protocol.1 >= BEATS)
    }
}

/// What the task needs.
pub struct Dispatcher {
    pub node_id: NodeId,
    pub raft: Raft,
    pub reader: Reader,
    pub proposer: Proposer,
    pub held: Held,
}

impl Dispatcher {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waits_since = Instant::now();
        // What is in workers' hands, and of which revision.
        let (mut current, mut seen, applied) = (Vec::<Lease>::new(), 0, self.reader.applied());
        loop {
            look.tick().await;
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            if !leads_quorum(self.node_id, &metrics) {
                self.held.let_go();
                waits_since = Instant::now();
                continue;
            }
            let now = Instant::now();
            let waited = now.duration_since(waits_since);
            // A process that stood still, or whose thread did, has beats to read first.
            let missed = waited.checked_sub(LOOK_INTERVAL).filter(|late| *late > LATE_MAX);
            // Whoever applies is kept from it only where something of tasks has changed.
            if applied.borrow().revisions.tasks != seen {
                self.reader.tasks(|tasks| {
                    current.clear();
                    current.extend(tasks.leases());
                    seen = tasks.revision();
                });
            }
            let over = self.held.look(metrics.current_term, &current, missed, now);
            if !over.is_empty() {
                tracing::info!(leases = over.len(), "workers were not heard of: their tasks go to others");
                let op = Op::Tasks { time_ms: 0, op: TaskOp::Expire { leases: over } };
                // As this leader's word alone: another one may have heard of these workers.
                let proposed =
                    self.proposer.propose_forwarded(vec![op], Times::Leader, now + PROPOSE_TIMEOUT).await;
                if let Err(error) = proposed {
                    tracing::debug!(%error, "leases that are over are ended later");
                }
            }
            waits_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_state::task::TaskId;

    use super::super::leases::LEASE;
    use super::*;

    #[test]
    fn what_was_heard_in_one_term_says_nothing_of_another() {
        let (held, began) = (Held::default(), Instant::now());
        let current = [Lease { id: TaskId { seq: 1, nonce: 1 }, fence: 7 }];
        let said = Said { worker: "w", stream: 0, fences: &[7], slots: 0, version: "", quiet: None };
        assert_eq!(held.extend(said, Some(3)), None, "nothing is known of it yet");
        assert_eq!(held.look(3, &current, None, began), []);
        assert_eq!(held.extend(said, Some(3)), Some(None));
        for led in [None, Some(4)] {
            assert_eq!(held.extend(said, led), None, "{led:?}");
            assert_eq!(held.heard("", 9, led), None, "{led:?}");
        }
        let later = began + LEASE + LEASE;
        assert_eq!(held.look(5, &current, None, later), [], "another leader heard of it meanwhile");
        assert_eq!(held.look(5, &current, None, later + LEASE), current);
    }
}
