//! What this node has seen other members hold: the votes that they gave it, and how far they said that their
//! logs are on their disks.
//!
//! A member that is started on an old volume or on a copy of its folder from before holds less. By itself it
//! cannot know: it would give the vote of a term a second time, and count for entries that it does not have
//! any more. So a node that starts asks the others what they saw of it before it votes
//! ([`crate::resumption`]), and the leader makes no voter of one whose log went back until it has all again.
//!
//! Kept in memory: a witness that is started anew has seen nothing. No tasks, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::vote::RaftLeaderId as _;
use serde::{Deserialize, Serialize};
use skep_base::id::NodeId;

use crate::leadership::same_leader;
use crate::types::{LogId, Vote};

/// Members that are remembered; many more than a cluster has.
const MEMBERS_MAX: usize = 4096;
/// For how long the leader tries to take the vote from one whose log went back.
pub const MARK_TIME: Duration = Duration::from_secs(60);

/// What a member has on its disk, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub vote: Vote,
    /// The last entry of its log that it had under this vote; none where no entry is known.
    pub last: Option<LogId>,
}

impl Held {
    /// Whether a member with this can have held `before`, and lost nothing.
    ///
    /// Under a later term a leader may have replaced the log's end by less.
    pub fn covers(&self, before: &Held) -> bool {
        let (term, term_before) = (self.vote.leader_id.term(), before.vote.leader_id.term());
        match term.cmp(&term_before) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => same_leader(&self.vote, &before.vote) && self.last >= before.last,
        }
    }

    /// The other where this can have become it.
    fn or_later(self, other: Held) -> Held {
        if other.covers(&self) { other } else { self }
    }
}

/// What a member that tells what it has comes to; a member may have nothing at all.
pub fn covers(held: Option<&Held>, before: Option<&Held>) -> bool {
    match (held, before) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(held), Some(before)) => held.covers(before),
    }
}

/// What was seen. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    held: BTreeMap<NodeId, Sight>,
    /// Those whose logs went back, and when that was found.
    gone_back: BTreeMap<NodeId, Instant>,
}

/// What one member was seen with.
#[derive(Debug, Clone, Copy, Default)]
struct Sight {
    /// The most, while earlier processes of it ran, or as far as it is not known which.
    before: Option<Held>,
    /// The last process that was seen, by its session, and the most while that ran.
    now: Option<(u64, Held)>,
}

impl Sight {
    fn add(&mut self, session: Option<u64>, held: Held) {
        match (session, &mut self.now) {
            (None, _) => self.before = most(self.before, Some(held)),
            (Some(session), Some((same, now))) if session == *same => *now = now.or_later(held),
            (Some(session), now) => {
                let earlier = now.replace((session, held)).map(|(_, held)| held);
                self.before = most(self.before, earlier);
            }
        }
    }

    /// The most before a process began.
    fn before(&self, session: u64) -> Option<Held> {
        let earlier = self.now.filter(|(of, _)| *of != session).map(|(_, held)| held);
        most(self.before, earlier)
    }
}

/// The greater of two; of two that exclude each other, the first.
pub fn most(a: Option<Held>, b: Option<Held>) -> Option<Held> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.or_later(b)),
        (a, b) => a.or(b),
    }
}

impl Witness {
    /// A member said that its log is on its disk up to there, or gave its vote. `session` names its process,
    /// as in its hello; where it is not known, what is seen counts as that of an earlier one.
    pub fn saw(&self, node: NodeId, session: Option<u64>, held: Held) {
        let mut seen = self.seen();
        if seen.held.len() < MEMBERS_MAX || seen.held.contains_key(&node) {
            seen.held.entry(node).or_default().add(session, held);
        }
    }

    /// The most that a member was seen with before its process of this session began.
    pub fn before(&self, node: NodeId, session: u64) -> Option<Held> {
        self.seen().held.get(&node).and_then(|sight| sight.before(session))
    }

    /// A member lacks what it had.
    pub fn went_back(&self, node: NodeId) {
        let mut seen = self.seen();
        if seen.gone_back.len() < MEMBERS_MAX {
            seen.gone_back.insert(node, Instant::now());
        }
    }

    /// The voters whose logs went back. Those that are voters no more have lost their say, and are forgotten; so is
    /// one that could not be spared for [`MARK_TIME`]: it has long had all again.
    pub fn gone_back(&self, is_voter: impl Fn(NodeId) -> bool, now: Instant) -> BTreeSet<NodeId> {
        let mut seen = self.seen();
        if !seen.gone_back.is_empty() {
            let is_recent = |since: Instant| now.saturating_duration_since(since) < MARK_TIME;
            seen.gone_back.retain(|node, since| is_voter(*node) && is_recent(*since));
        }
        seen.gone_back.keys().copied().collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each change is one step: a panic elsewhere left none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;

    fn held(term: u64, leader: u64, last: Option<(u64, u64)>) -> Held {
        let last = last.map(|(term, index)| LogId::new(CommittedLeaderId { term }, index));
        Held { vote: Vote::new(term, leader), last }
    }

    #[test]
    fn less_than_before_is_not_covered() {
        let before = held(7, 1, Some((7, 1000)));
        for lacking in [
            held(7, 1, Some((7, 999))),
            held(7, 1, None),
            held(6, 1, Some((6, 2000))),
            // The vote of that term was given to another.
            held(7, 2, Some((7, 1000))),
        ] {
            assert!(!lacking.covers(&before), "{lacking:?}");
        }
        for enough in [before, held(7, 1, Some((7, 1001))), held(8, 2, Some((6, 900)))] {
            assert!(enough.covers(&before), "{enough:?}");
        }
        assert!(!covers(None, Some(&before)), "an empty log");
        assert!(covers(None, None) && covers(Some(&before), None));
    }

    #[test]
    fn an_answer_that_was_overtaken_takes_nothing_back() {
        let witness = Witness::default();
        let most = held(7, 1, Some((7, 10)));
        for held in [held(7, 1, None), most, held(7, 1, Some((7, 9))), held(6, 3, Some((6, 99)))] {
            witness.saw(NodeId(2), Some(1), held);
        }
        assert_eq!(witness.before(NodeId(2), 2), Some(most));
        assert_eq!(witness.before(NodeId(3), 2), None);
    }

    #[test]
    fn what_a_process_did_itself_is_not_held_against_it() {
        let witness = Witness::default();
        let (first, second) = (held(7, 1, Some((7, 10))), held(8, 3, Some((8, 20))));
        witness.saw(NodeId(2), Some(1), first);
        assert_eq!(witness.before(NodeId(2), 1), None);
        witness.saw(NodeId(2), Some(2), second);
        assert_eq!(witness.before(NodeId(2), 2), Some(first));
        assert_eq!(witness.before(NodeId(2), 3), Some(second));
        // A vote of which it is not known who gave it.
        let vote = held(9, 1, None);
        witness.saw(NodeId(2), None, vote);
        assert_eq!(witness.before(NodeId(2), 2), Some(vote));
    }

    #[test]
    fn who_went_back_is_remembered_as_long_as_it_votes_and_not_for_ever() {
        let witness = Witness::default();
        let now = Instant::now();
        witness.went_back(NodeId(2));
        assert_eq!(witness.gone_back(|_| true, now), BTreeSet::from([NodeId(2)]));
        assert_eq!(witness.gone_back(|node| node != NodeId(2), now), BTreeSet::new());
        assert_eq!(witness.gone_back(|_| true, now), BTreeSet::new());
        witness.went_back(NodeId(2));
        assert_eq!(witness.gone_back(|_| true, now + MARK_TIME * 2), BTreeSet::new());
    }
}
