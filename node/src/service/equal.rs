//! Whether the state of this node is that of the others.
//!
//! All members apply the same log, and so come to the same; a fault of a disk, of memory or of a program may make
//! one come to something else, which nothing else would tell. So each asks the others every few seconds for the
//! [rolling hashes](skep_state::rolling) of their states: after the same few log entries for all, and after the last
//! ones, where those meet who are about as far. They are asked over the peers' connections, which prove who
//! answers. A node that has not what most voters have says so, gets no traffic, and hands over where it leads: for
//! who joins would get its state. Where no majority can have the same, nobody can say who is wrong, and all give the
//! alarm alone; where voters are silent that could decide it, they are waited for.
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
const HASHES_MAX: usize = 512;

/// What is known of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Equal(watch::Sender<State>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// What the last comparison came to that says anything.
    verdict: Option<Verdict>,
    /// The log index of that.
    compared: Option<u64>,
    /// Whether voters have differed since, and those who are silent decide what that comes to.
    is_unsure: bool,
}

/// What members' hashes come to for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// All who told have the same.
    Same,
    /// Most voters have the same, and so has this node; these have something else.
    Most { others: BTreeSet<NodeId> },
    /// Most voters, these, have the same, and this node has something else.
    Minority { majority: BTreeSet<NodeId> },
    /// No majority has the same, whatever those have who are silent.
    Split,
    /// Voters differ, and those who are silent decide whether a majority has the same.
    Unsure,
}

/// A member's hashes, by log index.
type Hashes = BTreeMap<u64, u128>;

/// What members have said.
struct Said<'a> {
    voters: &'a BTreeSet<NodeId>,
    hashes: &'a BTreeMap<NodeId, Hashes>,
}

/// At the newest index that more than half of the voters told; an older one decides where they do not there.
fn judge(me: NodeId, voters: &BTreeSet<NodeId>, hashes: &BTreeMap<NodeId, Hashes>) -> Option<(u64, Verdict)> {
    let said = Said { voters, hashes };
    let mut unsure = None;
    for index in hashes.get(&me)?.keys().rev() {
        match said.judge_at(me, *index) {
            None => {}
            Some(Verdict::Unsure) => unsure = unsure.or(Some((*index, Verdict::Unsure))),
            // That they had the same before says nothing of now.
            Some(Verdict::Same) if unsure.is_some() => break,
            Some(verdict) => return Some((*index, verdict)),
        }
    }
    unsure
}

impl Said<'_> {
    /// None where no other member, or no more than half of the voters, told their hash after this entry.
    fn judge_at(&self, me: NodeId, index: u64) -> Option<Verdict> {
        let mut groups: BTreeMap<u128, BTreeSet<NodeId>> = BTreeMap::new();
        for (id, hashes) in self.hashes {
            if let Some(hash) = hashes.get(&index) {
                groups.entry(*hash).or_default().insert(*id);
            }
        }
        let voters_in = |ids: &BTreeSet<NodeId>| ids.intersection(self.voters).count();
        let is_majority = |count: usize| count * 2 > self.voters.len();
        let told: usize = groups.values().map(voters_in).sum();
        if groups.values().map(BTreeSet::len).sum::<usize>() < 2 || !is_majority(told) {
            return None;
        }
        let largest = groups.values().map(voters_in).max().unwrap_or(0);
        let silent = self.voters.len() - told;
        Some(match groups.into_values().find(|ids| is_majority(voters_in(ids))) {
            Some(ids) if ids.contains(&me) => match self.others(me, index) {
                others if others.is_empty() => Verdict::Same,
                others => Verdict::Most { others },
            },
            Some(ids) => Verdict::Minority { majority: ids.intersection(self.voters).copied().collect() },
            None if is_majority(largest + silent) => Verdict::Unsure,
            None => Verdict::Split,
        })
    }

    /// Who has something else than this node at the newest index up to this one that both have.
    fn others(&self, me: NodeId, upto: u64) -> BTreeSet<NodeId> {
        let Some(own) = self.hashes.get(&me) else { return BTreeSet::new() };
        let differs = |hashes: &Hashes| {
            let met = own.range(..=upto).rev().find_map(|(index, hash)| Some((hash, hashes.get(index)?)));
            met.is_some_and(|(here, there)| here != there)
        };
        self.hashes.iter().filter(|(_, hashes)| differs(hashes)).map(|(id, _)| *id).collect()
    }
}

/// To whom a leader that is wrong hands over: one of the majority that is a voter now, and the next one where the
/// last did not take over.
fn heir(
    majority: &BTreeSet<NodeId>,
    voters: &BTreeSet<NodeId>,
    last: Option<NodeId>,
    is_ready: impl Fn(&NodeId) -> bool,
) -> Option<NodeId> {
    let ready = || majority.intersection(voters).copied().filter(&is_ready);
    ready().find(|id| Some(*id) > last).or_else(|| ready().next())
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
            Some(Verdict::Same | Verdict::Most { .. } | Verdict::Unsure) | None => None,
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
            // What was equal before a difference does not mend it.
            if state.compared.is_some_and(|compared| index < compared) {
                return;
            }
            match (&state.verdict, &verdict) {
                (Some(Verdict::Minority { .. } | Verdict::Most { .. } | Verdict::Split), Verdict::Unsure)
                // Where those of the majority differ since, that this node did before is still known.
                | (Some(Verdict::Minority { .. }), Verdict::Split) => {}
                (_, Verdict::Unsure) => is_news = !std::mem::replace(&mut state.is_unsure, true),
                (known, _) => {
                    is_news = known.as_ref() != Some(&verdict);
                    *state = State { verdict: Some(verdict), compared: Some(index), is_unsure: false };
                }
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
    let mut last_heir = None;
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
        let majority = asks.equal.majority().filter(|_| now.current_leader == Some(asks.node_id.0));
        let Some(majority) = majority else { continue };
        if let Some(to) = heir(&majority, &voters, last_heir, |id| asks.is_ready(*id)) {
            last_heir = Some(to);
            match hand_over(to).await {
                Ok(()) => tracing::info!(%to, "leadership was handed over"),
                Err(error) => tracing::warn!(%to, %error, "leadership stays where the state is wrong"),
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
        Verdict::Unsure => tracing::warn!(
            index,
            "the states of voters differ; once more of them tell theirs, it shows which are wrong"
        ),
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

    fn is_ready(&self, id: NodeId) -> bool {
        self.gossip.view().borrow().live(id).is_some_and(|record| record.state == NodeState::Ready)
    }
}

#[cfg(test)]
mod tests;
