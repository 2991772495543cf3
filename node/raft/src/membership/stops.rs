//! Leave to stop: what a voter that stops in order asks the leader, so that it may stay a voter.
//!
//! The leaver does not judge for itself: of two that leave at the same moment each would count on the other.
//! The leader answers between two steps of its plan ([`crate::membership::plan::may_stop`]), one question
//! after another, and whoever may stop counts as gone from then on.

use skep_base::id::NodeId;
use tokio::sync::{mpsc, oneshot};

/// The first protocol in which nodes ask for leave to stop.
pub const STOPS: u16 = 3;

/// Questions that wait at a leader; one more is answered with no, and comes again.
const WAITING_MAX: usize = 64;

/// One voter's question.
pub struct Question {
    pub node: NodeId,
    answer: oneshot::Sender<bool>,
}

/// The reconciler's end.
pub type Questions = mpsc::Receiver<Question>;

/// Where questions are asked. Clones share it.
#[derive(Clone)]
pub struct Stops(mpsc::Sender<Question>);

pub fn channel() -> (Stops, Questions) {
    let (sender, questions) = mpsc::channel(WAITING_MAX);
    (Stops(sender), questions)
}

impl Stops {
    /// Whether a voter may stop and stay one. False also where this node does not lead.
    pub async fn may_stop(&self, node: NodeId) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { node, answer }).is_ok() && answered.await.unwrap_or(false)
    }
}

impl Question {
    pub(super) fn answer(self, may: bool) {
        // Who asked may be gone: it counts as gone for a moment, and that is all.
        let _ = self.answer.send(may);
    }
}
