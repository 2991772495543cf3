//! How long messages are kept: by their age, by their bytes.
//!
//! The leader decides, by its own settings and the agreed time, and puts its decision into the log: every
//! node drops the same messages at the same place in it. One task a node; it may be dropped at any
//! await. On every node it asks for a checkpoint where that frees segments' files.
//!
//! A clock that jumps drops nothing: by age only what the passing of time makes too old is dropped
//! ([`Pace`]), and only while a majority's clocks agree. What is found too old when a leader begins, after a
//! wait, goes in small shares: somebody can still see it and step in.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_state::command::{Op, OpOutcome};
use tokio::time::{Instant, MissedTickBehavior};

use super::proposer::Proposer;
use super::time::{Time, since_boot};
use super::{ServiceError, level, list};
use skep_store::Raft;
use skep_store::Reader;

/// How often it is looked, at most and at least.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(200);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long a decision may take to be committed.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two checkpoints that are asked for to free files.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// A leader drops nothing by age for so long after it began, or for a quarter of the age where that is less.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Time, for retention, passes at most so much faster than the monotonic clock.
const PACE_MAX: f64 = 1.1;
/// The share of all messages that one look drops by age: this, or twice what is due in the steady state.
const SHARE_MAX: f64 = 0.01;
/// So few are dropped at one look whatever their share.
const AT_ONCE_MIN: u64 = 1_000;

/// What is kept; without a bound, everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Messages older than this are dropped.
    pub age: Option<Duration>,
    /// The oldest messages are dropped while the records have more bytes than this.
    pub bytes: Option<u64>,
}

/// What the task needs.
#[derive(Clone)]
pub struct Retention {
    pub node_id: NodeId,
    pub raft: Raft,
    pub gossip: Gossip,
    pub reader: Reader,
    pub proposer: Proposer,
    pub time: Time,
    pub config: RetentionConfig,
}

impl Retention {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(self.look_interval());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checkpointed = None::<Instant>;
        let mut pace = None;
        loop {
            look.tick().await;
            if self.raft.metrics().borrow_watched().running_state.is_err() {
                return;
            }
            if let Err(error) = self.drop_what_is_too_much(&mut pace).await {
                tracing::debug!(%error, "old messages are dropped later");
            }
            let is_due = checkpointed.is_none_or(|at| at.elapsed() >= CHECKPOINT_INTERVAL);
            if is_due && self.reader.stats().retired_segments > 0 {
                checkpointed = Some(Instant::now());
                if self.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
    }

    fn look_interval(&self) -> Duration {
        let by_age = self.config.age.map_or(LOOK_INTERVAL_MAX, |age| age / 4);
        by_age.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
    }

    fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.node_id.0)
    }

    async fn drop_what_is_too_much(&self, pace: &mut Option<Pace>) -> Result<(), ServiceError> {
        if self.config == RetentionConfig::default() || !self.leads() {
            *pace = None;
            return Ok(());
        }
        let drops = Op::DropMessages { upto: 0 }.level();
        if let Err(too_old) = level::require(self.reader.level(), &self.gossip, drops, "retention") {
            tracing::warn!("old messages stay: {too_old}");
            return Ok(());
        }
        // A paused age leaves the bound on bytes as it is.
        let now_ms = match (self.time.trusted_ms(), self.config.age) {
            (Some(agreed_ms), Some(age)) => {
                let at = since_boot();
                let pace = pace.get_or_insert_with(|| Pace::begin(agreed_ms, at));
                pace.advance(agreed_ms, at);
                pace.may_drop(age, at).then_some(pace.now_ms)
            }
            (None, Some(_)) => {
                tracing::debug!("no majority of the voters' clocks agrees: nothing is dropped by age");
                None
            }
            (_, None) => None,
        };
        let share = SHARE_MAX.max(2.0 * share_due(self.look_interval(), self.config.age));
        let (reader, config) = (self.reader.clone(), self.config);
        let looking = tokio::task::spawn_blocking(move || upto(&reader, config, now_ms, share));
        let upto = match looking.await {
            Ok(upto) => upto?,
            Err(error) => return Err(ServiceError::Fatal { detail: error.to_string() }),
        };
        let first = self.reader.stats().floor;
        let mut floor = first;
        // Each command drops so many at most.
        while floor < upto {
            let op = Op::DropMessages { upto };
            match self.proposer.propose(op, Instant::now() + DROP_TIMEOUT).await? {
                OpOutcome::Dropped { upto } if upto > floor => floor = upto,
                _ => break,
            }
        }
        if floor > first {
            tracing::info!(from = first + 1, upto = floor, "old messages were dropped");
        }
        Ok(())
    }
}

/// Time as retention sees it while one leader leads.
#[derive(Debug, Clone, Copy)]
struct Pace {
    now_ms: u64,
    at: Duration,
    began: Duration,
}

impl Pace {
    /// Begins at the agreed time; `at` is by the monotonic clock.
    fn begin(agreed_ms: u64, at: Duration) -> Self {
        Self { now_ms: agreed_ms, at, began: at }
    }

    /// Follows the agreed time, but no faster than time passes.
    fn advance(&mut self, agreed_ms: u64, at: Duration) {
        let passed_ms = at.saturating_sub(self.at).as_millis() as f64 * PACE_MAX;
        self.now_ms = agreed_ms.min(self.now_ms.saturating_add(passed_ms as u64));
        self.at = at;
    }

    fn may_drop(&self, age: Duration, at: Duration) -> bool {
        at.saturating_sub(self.began) >= WAIT_MAX.min(age / 4)
    }
}

/// The share of the messages that becomes too old between two looks.
fn share_due(interval: Duration, age: Option<Duration>) -> f64 {
    age.map_or(0.0, |age| interval.as_secs_f64() / age.as_secs_f64().max(1e-3))
}

/// The last message that is too much, 0 where none is; by age where it is known what time it is.
fn upto(
    reader: &Reader,
    config: RetentionConfig,
    now_ms: Option<u64>,
    share: f64,
) -> Result<u64, ServiceError> {
    let by_age = match config.age.zip(now_ms) {
        Some((age, now_ms)) => {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let read = |after, count, bytes| reader.page(after, count, bytes);
            let old = list::last_before(&mut { read }, reader.last_seq(), now_ms.saturating_sub(age_ms))?;
            let floor = reader.stats().floor;
            let most = (reader.last_seq().saturating_sub(floor) as f64 * share) as u64;
            old.min(floor.saturating_add(most.max(AT_ONCE_MIN)))
        }
        None => 0,
    };
    let by_bytes = config.bytes.map_or(Ok(0), |bytes| reader.excess(bytes))?;
    Ok(by_age.max(by_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_jump_of_the_clock_passes_no_faster_than_time() {
        let mut pace = Pace::begin(1_000, s(0));
        pace.advance(60 * DAY_MS, s(10));
        assert_eq!(pace.now_ms, 12_000);
        pace.advance(14_000, s(20));
        assert_eq!(pace.now_ms, 14_000, "it is right again");
        pace.advance(0, s(30));
        assert_eq!(pace.now_ms, 0, "a clock that goes back drops less");
    }

    #[test]
    fn what_is_found_at_the_start_waits() {
        let pace = Pace::begin(0, s(100));
        assert!(!pace.may_drop(MONTH, s(699)));
        assert!(pace.may_drop(MONTH, s(700)));
        assert!(!pace.may_drop(s(8), s(101)));
        assert!(pace.may_drop(s(8), s(102)), "a short age waits for a quarter of it");
    }
}
