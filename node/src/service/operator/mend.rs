//! Setting the replicated clock back, where one that was ahead has been believed once. The leader looks and
//! acts: by the time that a majority of the voters' clocks agrees on, and by that alone.

use skep_raft::wire::{Operation, OperationError, OperationOutcome, TimeMend};
use skep_state::clock::mends::AHEAD_MS_MAX;
use skep_state::command::{Op, OpOutcome};
use skep_state::level::Level;
use tokio::time::Instant;

use super::{OPERATION_TIMEOUT, Operator, OperatorError};
use crate::service::level::require;
use crate::service::list;

/// 2026-11-01: clocks that agree on a time before this program was written are wrong together, as those of hosts
/// that keep none while they are off. What is set back to such a time is older than all others once they are right,
/// and retention drops it; so it is not.
const WRITTEN_MS: u64 = 1_793_491_200_000;

impl Operator {
    /// Looks how far the replicated time is ahead; where `agreed_ms` says what the clocks agree on by now, sets it
    /// back.
    pub async fn mend_time(&self, agreed_ms: Option<u64>) -> Result<TimeMend, OperatorError> {
        // An older leader would not know the request.
        require(self.reader.level(), &self.gossip, Level::TIME_MENDS, "how the clock is set back")
            .map_err(|error| OperatorError::Refused(error.to_string()))?;
        match self.operate(Operation::MendTime { agreed_ms }).await? {
            OperationOutcome::Time(mend) => Ok(mend),
            other => Err(OperatorError::Failed(format!("unexpected answer: {other:?}"))),
        }
    }

    /// The leader's part of it.
    pub(super) async fn mend_time_here(&self, shown_ms: Option<u64>) -> Result<TimeMend, OperationError> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let found = self.look_at_time(deadline).await?;
        let Some(shown_ms) = shown_ms else { return Ok(found) };
        may_mend(&found, shown_ms)?;
        let TimeMend { newest_ms, agreed_ms, .. } = found;
        let looked = Instant::now();
        let proposed = self.proposer.propose(Op::MendTime { time_ms: agreed_ms, newest_ms }, deadline).await;
        match proposed.map_err(|error| failed(&error))? {
            OpOutcome::TimeMended { from_ms, to_ms } => {
                tracing::warn!(from_ms, to_ms, "an operator set the time of what is written back");
                let gone_ms = u64::try_from(looked.elapsed().as_millis()).unwrap_or(u64::MAX);
                if to_ms > agreed_ms.saturating_add(gone_ms).saturating_add(AHEAD_MS_MAX) {
                    return Err(OperationError::Failed(
                        "another node came to lead meanwhile, and set it back to its own clock, which is ahead: see \
                         to that, and look again"
                            .into(),
                    ));
                }
                Ok(TimeMend { newest_ms: from_ms, agreed_ms: to_ms, is_mended: true, ..found })
            }
            OpOutcome::TimeKept => {
                // A first try of it may have taken effect, or another operator's.
                let now = self.look_at_time(deadline).await?;
                if now.is_ahead {
                    return Err(OperationError::Failed("it has changed meanwhile: look again".into()));
                }
                tracing::warn!(newest_ms, agreed_ms, "the time of what is written was set back");
                Ok(TimeMend { is_mended: true, ..found })
            }
            OpOutcome::TooManyMends => Err(OperationError::Refused(format!(
                "it was set back {} times, and cannot be again until retention has dropped what was written before \
                 the first of them, and the idempotency keys of then are forgotten",
                self.reader.time_mends()
            ))),
            other => Err(OperationError::Failed(format!("unexpected answer: {other:?}"))),
        }
    }

    /// How far the newest time is ahead of what the clocks agree on, and how many messages have a later one.
    async fn look_at_time(&self, deadline: Instant) -> Result<TimeMend, OperationError> {
        // Of a new leader's, too.
        self.read_indexer.confirm(deadline).await.map_err(|error| failed(&error))?;
        if self.reader.level() < Level::TIME_MENDS {
            return Err(OperationError::Refused(format!(
                "the members have not agreed yet to formats that know of it (level {}, and it takes {}): they do \
                 once all have been of this version for --level-after",
                self.reader.level().0,
                Level::TIME_MENDS.0
            )));
        }
        let Some(agreed_ms) = self.time.trusted_ms() else {
            return Err(OperationError::Refused(
                "no majority of the voters' clocks agrees on what time it is: set the hosts' clocks first"
                    .into(),
            ));
        };
        let newest_ms = self.reader.applied().borrow().latest.0;
        let looking = self.reader.elsewhere(move |reader| {
            let mut read = |after, count, bytes| reader.page(after, count, bytes);
            let last = reader.last_seq();
            let not_later = list::last_before(&mut read, last, agreed_ms.saturating_add(1))?;
            Ok::<_, skep_store::StoreError>(reader.count(not_later, last))
        });
        let looked_at = looking.await.map_err(|busy| failed(&busy))?;
        let messages = looked_at.map_err(|error| failed(&error))?;
        let is_ahead = newest_ms > agreed_ms.saturating_add(AHEAD_MS_MAX);
        Ok(TimeMend { newest_ms, agreed_ms, is_ahead, messages, is_mended: false })
    }
}

/// Whether what was found is to be set back, where who asks was shown that the clocks agree on `shown_ms`.
fn may_mend(found: &TimeMend, shown_ms: u64) -> Result<(), OperationError> {
    let refused = |why: &str| Err(OperationError::Refused(why.into()));
    if !found.is_ahead {
        return refused("the newest time that was given is not ahead of what the clocks agree on");
    }
    if found.agreed_ms < WRITTEN_MS {
        return refused(
            "the voters' clocks agree on a time before this version was made: they are wrong together; set the \
             hosts' clocks first",
        );
    }
    if found.agreed_ms.abs_diff(shown_ms) > AHEAD_MS_MAX {
        return refused("the voters' clocks agree on another time now than was shown: look again");
    }
    Ok(())
}

fn failed(error: &dyn std::fmt::Display) -> OperationError {
    OperationError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_set_back_only_where_it_is_ahead_and_to_one_that_was_shown_and_may_be_right() {
        let now = WRITTEN_MS + 86_400_000;
        let found = |agreed_ms, is_ahead| TimeMend {
            newest_ms: agreed_ms + 60_000,
            agreed_ms,
            is_ahead,
            messages: 3,
            is_mended: false,
        };
        let refusal = |found: TimeMend, shown_ms| match may_mend(&found, shown_ms) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(refusal(found(now, true), now), "");
        assert_eq!(refusal(found(now, true), now - AHEAD_MS_MAX), "");
        assert!(refusal(found(now, false), now).contains("not ahead"));
        for shown in [now + AHEAD_MS_MAX + 1, now - AHEAD_MS_MAX - 1, 0] {
            assert!(refusal(found(now, true), shown).contains("than was shown"), "{shown}");
        }
        for past in [WRITTEN_MS - 1, 120_000] {
            assert!(refusal(found(past, true), past).contains("wrong together"), "{past}");
        }
    }
}
