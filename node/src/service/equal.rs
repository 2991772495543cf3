//! Whether the state of this node is that of the others.
//!
//! All members apply the same log, and so come to the same; a fault of a disk, of memory or of a program may make
//! one come to something else, which nothing else would tell. So each asks the others every few seconds for the
//! [rolling hashes](skep_state::rolling) of their states: after the same few log entries for all, and after the last,
//! which is the same for all while nothing is written. They are asked over the peers' connections, which prove who
//! answers. A node that has not what most voters have says so, gets no traffic, and hands over where it leads: for
//! who joins would get its state. Where no majority has the same, nobody can say who is wrong, and all give the
//! alarm alone.
//!
//! One task, [`run`]; it may be dropped at any await.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_raft::peers::Peers;
use skep_raft::wire::{COMPARES, Request, Response};
use skep_store::{Raft, Reader};
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two comparisons.
const INTERVAL: Duration = Duration::from_secs(2);
/// One that takes longer says nothing.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Hashes that are looked at of one member; it tells fewer.
const HASHES_MAX: usize = 64;

/// What is known of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Equal(watch::Sender<State>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// What the last comparison came to that says anything.
    verdict: Option<Verdict>,
    /// The last log index at which this node was compared.
    compared: Option<u64>,
}

/// What members' hashes after one log entry come to for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// All have the same.
    Same,
    /// Most voters have the same, and so has this node; these have something else.
    Most { others: BTreeSet<NodeId> },
    /// Most voters, these, have the same, and this node has something else.
    Minority { majority: BTreeSet<NodeId> },
    /// No majority has the same.
    Split,
}

/// A member's hashes, by log index.
type Hashes = BTreeMap<u64, u128>;

/// Compares at the newest index of those at which most voters can be; none where no other member can be at any.
fn judge(me: NodeId, voters: &BTreeSet<NodeId>, said: &BTreeMap<NodeId, Hashes>) -> Option<(u64, Verdict)> {
    let at =
        |index: u64| said.iter().filter_map(move |(id, hashes)| hashes.get(&index).map(|hash| (*id, *hash)));
    let comparable = said.get(&me)?.keys().copied().filter(|index| at(*index).count() > 1);
    let index = comparable.max_by_key(|index| {
        let voters = at(*index).filter(|(id, _)| voters.contains(id)).count();
        (voters, at(*index).count(), *index)
    })?;
    let mut groups: BTreeMap<u128, BTreeSet<NodeId>> = BTreeMap::new();
    for (id, hash) in at(index) {
        groups.entry(hash).or_default().insert(id);
    }
    if groups.len() == 1 {
        return Some((index, Verdict::Same));
    }
    let is_majority = |ids: &BTreeSet<NodeId>| ids.intersection(voters).count() * 2 > voters.len();
    let (majority, others): (Vec<_>, Vec<_>) = groups.into_values().partition(is_majority);
    let verdict = match majority.into_iter().next() {
        None => Verdict::Split,
        Some(ids) if ids.contains(&me) => Verdict::Most { others: others.into_iter().flatten().collect() },
        Some(majority) => Verdict::Minority { majority },
    };
    Some((index, verdict))
}

impl Equal {
    /// In what this node's state is not that of the others, for an operator.
    pub fn differs(&self) -> Option<String> {
        let state = self.0.borrow();
        let index = state.compared.unwrap_or(0);
        match state.verdict {
            Some(Verdict::Minority { .. }) => Some(format!(
                "the state of this node is not that of most voters: it differs at log entry {index} or before; \
                 take its folder away, and start it with an empty one"
            )),
            Some(Verdict::Split) => Some(format!(
                "the states of the voters differ at log entry {index}, and no majority has the same"
            )),
            Some(Verdict::Same | Verdict::Most { .. }) | None => None,
        }
    }

    /// Why it should get no traffic.
    pub fn lack(&self) -> Option<String> {
        let is_wrong = matches!(self.0.borrow().verdict, Some(Verdict::Minority { .. }));
        self.differs().filter(|_| is_wrong)
    }

    /// The last log index at which this node was compared with others.
    pub fn compared(&self) -> Option<u64> {
        self.0.borrow().compared
    }

    /// Takes what a comparison came to; whether that is news.
    fn note(&self, index: u64, verdict: Verdict) -> bool {
        let mut is_news = false;
        self.0.send_modify(|state| {
            // Where those of the majority are away, that they were one is still known.
            let is_known =
                matches!(state.verdict, Some(Verdict::Minority { .. })) && verdict == Verdict::Split;
            if !is_known {
                is_news = state.verdict.as_ref() != Some(&verdict);
                *state = State { verdict: Some(verdict), compared: Some(index) };
            }
        });
        is_news
    }

    fn majority(&self) -> Option<BTreeSet<NodeId>> {
        match &self.0.borrow().verdict {
            Some(Verdict::Minority { majority }) => Some(majority.clone()),
            _ => None,
        }
    }
}

/// What [`run`] needs.
pub struct Asks {
    pub node_id: NodeId,
    pub equal: Equal,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub reader: Reader,
}

/// Compares for as long as Raft runs. A leader whose state is not that of most voters hands over to one of them.
pub async fn run<F>(asks: Asks, hand_over: impl Fn(NodeId) -> F + Send)
where
    F: Future<Output = Result<(), String>> + Send,
{
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = asks.raft.metrics().borrow_watched().clone();
        if now.running_state.is_err() {
            return;
        }
        if asks.reader.points().is_empty() {
            continue;
        }
        let membership = now.membership_config.membership();
        let members: BTreeSet<_> = membership.nodes().map(|(id, _)| NodeId(*id)).collect();
        let voters = membership.voter_ids().map(NodeId).collect();
        let said = asks.ask(&members).await;
        if let Some((index, verdict)) = judge(asks.node_id, &voters, &said)
            && asks.equal.note(index, verdict.clone())
        {
            tell(index, &verdict);
        }
        let leads = now.current_leader == Some(asks.node_id.0);
        if let Some(heir) = asks.equal.majority().filter(|_| leads).and_then(|ids| asks.heir(&ids)) {
            match hand_over(heir).await {
                Ok(()) => tracing::info!(to = %heir, "leadership was handed over"),
                Err(error) => tracing::debug!(%error, "leadership could not be handed over"),
            }
        }
    }
}

fn tell(index: u64, verdict: &Verdict) {
    match verdict {
        Verdict::Same => tracing::debug!(index, "the members' states are equal"),
        Verdict::Most { others } => tracing::error!(
            index,
            ?others,
            "the states of other members are not that of most voters; take their folders away, and start them with \
             empty ones"
        ),
        Verdict::Minority { majority } => tracing::error!(
            index,
            ?majority,
            "the state of this node is not that of most voters; take its folder away, and start it with an empty one"
        ),
        Verdict::Split => {
            tracing::error!(index, "the states of the voters differ, and no majority has the same");
        }
    }
}

impl Asks {
    /// The hashes of those who tell them, and this node's.
    async fn ask(&self, members: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Hashes> {
        let view = self.gossip.view().borrow().clone();
        let tells = |id: &&NodeId| view.live(**id).is_some_and(|record| record.protocol.1 >= COMPARES);
        let asked = members.iter().filter(|id| **id != self.node_id).filter(tells).map(async |id| {
            let deadline = Instant::now() + ASK_TIMEOUT;
            match self.peers.call(*id, Request::Hashes, deadline).await {
                Ok(Response::Hashes(hashes)) => {
                    Some((*id, hashes.into_iter().take(HASHES_MAX).collect::<Hashes>()))
                }
                _ => None,
            }
        });
        let mut said: BTreeMap<_, _> = join_all(asked).await.into_iter().flatten().collect();
        // Only now: what the others have applied, this node may have applied meanwhile.
        let own = self.reader.points().into_iter().map(|point| (point.index, point.hash.0));
        said.insert(self.node_id, own.collect());
        said
    }

    /// One of these that is there and ready.
    fn heir(&self, ids: &BTreeSet<NodeId>) -> Option<NodeId> {
        let view = self.gossip.view().borrow().clone();
        let is_ready = |id: &NodeId| view.live(*id).is_some_and(|record| record.state == NodeState::Ready);
        ids.iter().copied().find(is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Of three voters, by what each said of each index.
    fn judged(me: u64, said: &[(u64, &[(u64, u128)])]) -> Option<(u64, Verdict)> {
        let said = said.iter().map(|(id, hashes)| (NodeId(*id), hashes.iter().copied().collect()));
        judge(NodeId(me), &ids(&[1, 2, 3]), &said.collect())
    }

    #[test]
    fn members_are_compared_at_the_newest_index_that_most_of_them_have() {
        let all = judged(1, &[(1, &[(4096, 7), (5000, 8)]), (2, &[(4096, 7), (5000, 8)]), (3, &[(4096, 7)])]);
        assert_eq!(all, Some((4096, Verdict::Same)));
        let two = judged(1, &[(1, &[(4096, 7), (5000, 8)]), (2, &[(4096, 7), (5000, 8)])]);
        assert_eq!(two, Some((5000, Verdict::Same)));
        assert_eq!(judged(1, &[(1, &[(4096, 7)]), (2, &[(5000, 8)])]), None);
        assert_eq!(judged(1, &[(1, &[(4096, 7)])]), None);
    }

    #[test]
    fn a_node_is_wrong_where_most_voters_have_something_else() {
        let said: [(u64, &[(u64, u128)]); 3] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (3, &[(9, 5)])];
        assert_eq!(judged(3, &said), Some((9, Verdict::Minority { majority: ids(&[1, 2]) })));
        assert_eq!(judged(1, &said), Some((9, Verdict::Most { others: ids(&[3]) })));
        // A learner counts for nobody, and may be wrong.
        let said: [(u64, &[(u64, u128)]); 3] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (4, &[(9, 5)])];
        assert_eq!(judged(4, &said), Some((9, Verdict::Minority { majority: ids(&[1, 2]) })));
        let said: [(u64, &[(u64, u128)]); 3] = [(1, &[(9, 7)]), (4, &[(9, 5)]), (5, &[(9, 5)])];
        assert_eq!(judged(1, &said), Some((9, Verdict::Split)));
    }

    #[test]
    fn without_a_majority_all_are_alarmed_and_stay_ready() {
        let said: [(u64, &[(u64, u128)]); 2] = [(1, &[(9, 7)]), (2, &[(9, 5)])];
        for me in [1, 2] {
            assert_eq!(judged(me, &said), Some((9, Verdict::Split)));
        }
        let equal = Equal::default();
        assert!(equal.note(9, Verdict::Split));
        assert!(equal.differs().is_some() && equal.lack().is_none());
    }

    #[test]
    fn one_that_is_wrong_stays_so_until_it_is_seen_to_have_what_the_others_have() {
        let equal = Equal::default();
        assert!(equal.note(9, Verdict::Minority { majority: ids(&[1, 2]) }));
        assert!(!equal.note(11, Verdict::Split) && equal.lack().is_some(), "one of the two is away");
        assert!(equal.note(12, Verdict::Same));
        assert_eq!((equal.differs(), equal.lack(), equal.compared()), (None, None, Some(12)));
    }
}
