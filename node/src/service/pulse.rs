//! Whether this node can serve at all: a read of it was confirmed lately.
//!
//! A leader that Raft names says little. With pre-vote, a follower that is cut off keeps the term and the
//! leader that it had for ever. What tells is a round of the read index: it ends only where a leader with a
//! quorum was heard. Reads of clients make such rounds; where none come, [`run`] makes them. The rule is
//! the same for a leader, a follower and a learner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_store::Raft;
use tokio::time::Instant;

/// A node for which no leader confirmed a read for so long gets no traffic. Well above an election's
/// time-out, which a busy machine may use up.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Between two looks: a round is made where none ended in that time.
const INTERVAL: Duration = Duration::from_millis(300);

/// When a round last ended well. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulse {
    began: Instant,
    /// Milliseconds since `began`, and one; 0 before the first.
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub fn begin(now: Instant) -> Self {
        Self { began: now, last_ms: Arc::default() }
    }

    /// A round has ended well.
    pub fn beat(&self, now: Instant) {
        let ms = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX - 1);
        self.last_ms.fetch_max(ms + 1, Ordering::Relaxed);
    }

    /// Since when none has; none where there never was one.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let last = self.last_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.duration_since(self.began).saturating_sub(Duration::from_millis(last)))
    }
}

/// Sees to it that there are rounds: `round` makes one until a moment. Runs for as long as the node; may be
/// dropped at any await.
pub async fn run<R>(pulse: Pulse, raft: Raft, round: impl Fn(Instant) -> R + Send)
where
    R: Future<Output = ()> + Send,
{
    loop {
        tokio::time::sleep(INTERVAL).await;
        let recent = pulse.silence(Instant::now()).is_some_and(|silence| silence < INTERVAL);
        if recent || raft.metrics().borrow_watched().current_leader.is_none() {
            continue;
        }
        round(Instant::now() + SILENCE_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_round() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let pulse = Pulse::begin(began);
        assert_eq!(pulse.silence(at(50)), None, "before the first");
        pulse.beat(at(50));
        assert_eq!(pulse.silence(at(50)), Some(Duration::ZERO));
        assert_eq!(pulse.clone().silence(at(1750)), Some(Duration::from_millis(1700)));
        pulse.beat(at(1750));
        assert_eq!(pulse.silence(at(1751)), Some(Duration::from_millis(1)));
    }
}
