//! What was heard of the configuration last, and which histories were left for another: whether a state is one to go
//! over to. Pure: a function of what was heard, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::id::ClusterId;

use super::State;

/// Histories that were left, and are remembered.
const LEFT_MAX: usize = 8;
/// How long one is: a node that lags behind a restore tells it for a moment yet. Not for ever: it may have been the
/// other that was of yesterday.
const LEFT_FOR: Duration = Duration::from_secs(30);

/// What a state is to who has heard others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is what is known.
    Same,
    /// One to go over to, and known from now on.
    Onward,
    /// An older one, or none where there is one.
    Back,
}

#[derive(Debug)]
struct Left {
    cluster: Option<ClusterId>,
    lineage: u128,
    at: Instant,
}

/// What is known, and what was.
#[derive(Debug, Default)]
pub struct History {
    known: Option<Arc<State>>,
    left: VecDeque<Left>,
}

impl History {
    pub fn of(known: Option<Arc<State>>) -> Self {
        Self { known, left: VecDeque::new() }
    }

    /// Takes a state for what is known, unless it is one to go back to.
    pub fn hear(&mut self, told: &Arc<State>, now: Instant) -> Step {
        let step = self.step(told, now);
        match (step, &self.known) {
            (Step::Back, _) => return step,
            (Step::Same, Some(known)) if known.cluster == told.cluster => return step,
            (_, Some(known)) if known.cluster == told.cluster => {
                let (cluster, lineage) = (known.cluster, known.position.lineage);
                if lineage != 0 && lineage != told.position.lineage {
                    if self.left.len() == LEFT_MAX {
                        self.left.pop_front();
                    }
                    self.left.push_back(Left { cluster, lineage, at: now });
                }
            }
            _ => {}
        }
        self.known = Some(told.clone());
        step
    }

    /// Another history is followed at once, but for one that was left a moment ago; within one nobody goes back. That
    /// there is nothing is no news to who has something: a node that lags says so, too; of another cluster it is
    /// believed.
    fn step(&self, told: &State, now: Instant) -> Step {
        let Some(known) = &self.known else { return Step::Onward };
        if known.says_as(told) {
            return Step::Same;
        }
        let (before, after) = (known.position, told.position);
        let was_left = |it: &Left| {
            let is_it = it.cluster == told.cluster && it.lineage == after.lineage;
            is_it && now.saturating_duration_since(it.at) < LEFT_FOR
        };
        let is_onward = if after.revision == 0 && before.revision > 0 {
            known.cluster.is_some() && told.cluster.is_some() && known.cluster != told.cluster
        } else if after.lineage != before.lineage {
            !self.left.iter().any(was_left)
        } else {
            // What is told of the same revision may be another where nodes open secrets that they could not, or no more.
            after.revision > before.revision || known.cluster == told.cluster && after == before
        };
        if is_onward { Step::Onward } else { Step::Back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::following::Position;

    fn state(cluster: u128, lineage: u128, revision: u64) -> Arc<State> {
        let position = Position { lineage, revision };
        Arc::new(State { cluster: Some(ClusterId(cluster)), position, document: None })
    }

    #[test]
    fn another_history_is_followed_at_once_and_within_one_nobody_goes_back() {
        let now = Instant::now();
        for (known, told, expected) in [
            ((1, 7, 3), (1, 7, 4), Step::Onward),
            ((1, 7, 3), (1, 7, 3), Step::Same),
            ((1, 7, 3), (1, 7, 2), Step::Back),
            ((1, 7, 3), (1, 8, 1), Step::Onward),
            ((1, 7, 3), (2, 8, 1), Step::Onward),
            ((1, 0, 0), (1, 7, 1), Step::Onward),
            // A node that lags, or has not agreed with the others yet.
            ((1, 7, 3), (1, 0, 0), Step::Back),
            ((1, 7, 3), (1, 7, 0), Step::Back),
            // Another cluster, which has nothing; and one that has nothing either.
            ((1, 7, 3), (2, 0, 0), Step::Onward),
            ((1, 0, 0), (2, 0, 0), Step::Same),
        ] {
            let [known, told] =
                [known, told].map(|(cluster, lineage, revision)| state(cluster, lineage, revision));
            let mut history = History::of(Some(known.clone()));
            assert_eq!(history.hear(&told, now), expected, "{known:?} {told:?}");
            let after = if expected == Step::Back { &known } else { &told };
            assert_eq!(history.known.as_ref(), Some(after), "{known:?} {told:?}");
        }
        assert_eq!(History::default().hear(&state(1, 0, 0), now), Step::Onward);
    }

    #[test]
    fn what_is_told_otherwise_of_the_same_revision_is_followed() {
        let with = |document: &str, revision| {
            let State { cluster, position, .. } = (*state(1, 7, revision)).clone();
            Arc::new(State { cluster, position, document: Some(document.to_owned()) })
        };
        let (mut history, now) = (History::of(Some(with("{}", 3))), Instant::now());
        assert_eq!(history.hear(&with("{}", 3), now), Step::Same);
        let anew = with("{\"routes\":{}}", 3);
        assert_eq!(history.hear(&anew, now), Step::Onward);
        assert_eq!(history.known.as_ref(), Some(&anew));
        assert_eq!(history.hear(&with("{}", 2), now), Step::Back);
    }

    #[test]
    fn a_history_that_was_left_does_not_come_back_at_once() {
        let (mut history, now) = (History::of(Some(state(1, 7, 3))), Instant::now());
        assert_eq!(history.hear(&state(1, 8, 1), now), Step::Onward);
        assert_eq!(history.hear(&state(1, 9, 1), now), Step::Onward);
        for lineage in [7, 8] {
            assert_eq!(history.hear(&state(1, lineage, 9), now), Step::Back, "{lineage}");
        }
        assert_eq!(history.hear(&state(1, 8, 9), now + LEFT_FOR), Step::Onward, "it is told for long");
        // From one cluster to another and back.
        let mut history = History::of(Some(state(1, 7, 3)));
        assert_eq!(history.hear(&state(2, 8, 1), now), Step::Onward);
        assert_eq!(history.hear(&state(1, 7, 3), now), Step::Onward);
        // No more of them than that.
        for lineage in 8..100 {
            assert_eq!(history.hear(&state(1, lineage, 1), now), Step::Onward);
        }
        assert_eq!(history.left.len(), LEFT_MAX);
        assert_eq!(history.hear(&state(1, 98, 1), now), Step::Back, "the newest are remembered");
    }
}
