//! Whether a node that was started again may vote: not before the others have said that its log is no older
//! than what they saw of it ([`crate::witness`]).
//!
//! Who asks them is the node's wiring; here is what came of it, and what a node whose log went back may still do:
//! nothing that it may have done before in another way. It takes part under a leader that is no older than the
//! last it is known to have followed, and votes in no term in which it may have voted. No tasks.

use skep_base::id::NodeId;
use tokio::sync::watch;

use crate::types::Vote;
use crate::wire::VoteRequest;
use crate::witness::Held;

/// What is known of the own log. Clones share it.
#[derive(Debug, Clone)]
pub struct Resumption(watch::Sender<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The others have not answered yet.
    Asking,
    /// This member saw the most of it, which is more than there is.
    WentBack { witness: NodeId, seen: Held },
    /// Nobody who is there misses anything.
    Whole,
}

impl Resumption {
    /// Of a node that has voted before.
    pub fn asking() -> Self {
        Self(watch::Sender::new(State::Asking))
    }

    /// Of a node that never voted: there is nothing that it could have lost.
    pub fn whole() -> Self {
        Self(watch::Sender::new(State::Whole))
    }

    pub fn set(&self, state: State) {
        self.0.send_replace(state);
    }

    pub fn state(&self) -> State {
        *self.0.borrow()
    }

    /// Whether it may stand for election.
    pub fn may_stand(&self) -> bool {
        self.state() == State::Whole
    }

    /// Whether it may give this vote. One that knows what it lacks may, in a later term, to one who has all that.
    pub fn may_grant(&self, request: &VoteRequest) -> bool {
        match self.state() {
            State::Asking => false,
            State::WentBack { seen, .. } => {
                request.vote.leader_id.term > seen.vote.leader_id.term && request.last_log_id >= seen.last
            }
            State::Whole => true,
        }
    }

    /// Whether it may take part under this vote, as a follower or as one of a quorum of readers.
    pub fn may_follow(&self, vote: &Vote) -> bool {
        match self.state() {
            State::Asking | State::Whole => true,
            State::WentBack { seen, .. } => Held { vote: *vote, last: seen.last }.covers(&seen),
        }
    }

    /// Whether it may say that it still holds this vote: others conclude from it that it holds no later one.
    pub fn may_vouch(&self, vote: &Vote) -> bool {
        self.state() != State::Asking && self.may_follow(vote)
    }

    /// Returns once the node may vote.
    pub async fn wait(&self) {
        // An error is impossible: `self` is a sender.
        let _ = self.0.subscribe().wait_for(|state| *state == State::Whole).await;
    }

    /// What is lacking, for an operator.
    pub fn lack(&self) -> Option<String> {
        match self.state() {
            State::Whole => None,
            State::Asking => Some("the other voters have not said yet what they saw of its log".into()),
            State::WentBack { witness, .. } => Some(format!(
                "its log went back: node {witness} saw more of it than there is (an old volume, or a copied \
                 folder?); it is no voter until it has all again"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;
    use crate::types::LogId;

    #[test]
    fn one_whose_log_went_back_does_nothing_that_it_may_have_done_otherwise_before() {
        let last = |term, index| Some(LogId::new(CommittedLeaderId { term }, index));
        let node = Resumption::asking();
        let late = VoteRequest::new(Vote::new(9, 1), last(7, 99));
        assert!(!node.may_stand() && !node.may_grant(&late) && !node.may_vouch(&Vote::new(9, 1)));

        let seen = Held { vote: Vote::new_committed(7, 3), last: last(7, 10) };
        node.set(State::WentBack { witness: NodeId(3), seen });
        assert!(!node.may_stand());
        for (vote, log, may) in [
            (Vote::new(8, 1), last(7, 10), true),
            (Vote::new(8, 1), last(7, 9), false),
            (Vote::new(7, 1), last(7, 10), false),
            (Vote::new(7, 3), last(7, 10), false),
        ] {
            assert_eq!(node.may_grant(&VoteRequest::new(vote, log)), may, "{vote:?} {log:?}");
        }
        for (vote, may) in [
            (Vote::new_committed(6, 1), false),
            (Vote::new_committed(7, 1), false),
            (Vote::new_committed(7, 3), true),
            (Vote::new_committed(8, 1), true),
        ] {
            assert_eq!((node.may_follow(&vote), node.may_vouch(&vote)), (may, may), "{vote:?}");
        }

        node.set(State::Whole);
        assert!(node.may_stand() && node.may_grant(&VoteRequest::new(Vote::new(1, 1), None)));
    }
}
