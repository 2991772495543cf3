//! How long messages are kept: by their age, by their bytes.
//!
//! The leader decides, by its own settings and clock, and puts its decision into the log: every
//! node drops the same messages at the same place in it. One task a node; it may be dropped at any
//! await. On every node it asks for a checkpoint where that frees segments' files.

use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_state::command::{Op, OpOutcome};
use tokio::time::{Instant, MissedTickBehavior};

use super::proposer::Proposer;
use super::{ServiceError, level, list, now_ms};
use skep_store::Raft;
use skep_store::Reader;

/// How often it is looked, at most and at least.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(200);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long a decision may take to be committed.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two checkpoints that are asked for to free files.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

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
    pub config: RetentionConfig,
}

impl Retention {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let mut look = tokio::time::interval(self.look_interval());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checkpointed = None::<Instant>;
        loop {
            look.tick().await;
            if self.raft.metrics().borrow_watched().running_state.is_err() {
                return;
            }
            if let Err(error) = self.drop_what_is_too_much().await {
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

    async fn drop_what_is_too_much(&self) -> Result<(), ServiceError> {
        if self.config == RetentionConfig::default() || !self.leads() {
            return Ok(());
        }
        if let Err(too_old) = level::require(&self.gossip, Op::DropMessages { upto: 0 }.level(), "retention")
        {
            tracing::warn!("old messages stay: {too_old}");
            return Ok(());
        }
        let (reader, config) = (self.reader.clone(), self.config);
        let looking = tokio::task::spawn_blocking(move || upto(&reader, config, now_ms()));
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

/// The last message that is too much, 0 where none is.
fn upto(reader: &Reader, config: RetentionConfig, now_ms: u64) -> Result<u64, ServiceError> {
    let by_age = match config.age {
        Some(age) => {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let read = |after, count, bytes| reader.page(after, count, bytes);
            list::last_before(&mut { read }, reader.last_seq(), now_ms.saturating_sub(age_ms))?
        }
        None => 0,
    };
    let by_bytes = config.bytes.map_or(Ok(0), |bytes| reader.excess(bytes))?;
    Ok(by_age.max(by_bytes))
}
