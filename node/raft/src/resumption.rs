//! Whether a node that was started again may vote: not before the others have said that its log is no older
//! than what they saw of it ([`crate::witness`]).
//!
//! Who asks them is the node's wiring; here is what came of it, and what the handler of votes goes by. No tasks.

use skep_base::id::NodeId;
use tokio::sync::watch;

/// What is known of the own log. Clones share it.
#[derive(Debug, Clone)]
pub struct Resumption(watch::Sender<State>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The others have not answered yet.
    Asking,
    /// This member saw more of it than there is.
    WentBack { witness: NodeId },
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
        self.0.borrow().clone()
    }

    pub fn may_vote(&self) -> bool {
        *self.0.borrow() == State::Whole
    }

    /// Returns once the node may vote.
    pub async fn wait(&self) {
        // An error is impossible: `self` is a sender.
        let _ = self.0.subscribe().wait_for(|state| *state == State::Whole).await;
    }

    /// What is lacking, for an operator.
    pub fn lack(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Whole => None,
            State::Asking => Some("the other voters have not said yet what they saw of its log".into()),
            State::WentBack { witness } => Some(format!(
                "its log went back: node {witness} saw more of it than there is (an old volume, or a copied \
                 folder?); it votes for nobody until it has all again"
            )),
        }
    }
}
