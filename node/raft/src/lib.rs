//! Consensus: openraft, the peers' network, how a cluster is formed, and who votes in it.
//!
//! It does not know what is decided: [`types`] and [`wire`] name the commands that the log carries and
//! what they come to, and nothing here looks into them but for their size. What is on disk, and what
//! a snapshot is, comes from above by [`network::SnapshotSource`], [`serve::SnapshotAssembler`] and
//! [`compaction::LogSize`].

pub mod compaction;
pub mod failover;
pub mod formation;
pub mod leadership;
pub mod membership;
pub mod network;
pub mod peers;
pub mod resumption;
pub mod serve;
pub mod types;
pub mod wire;
pub mod witness;

use openraft::storage::RaftStateMachine;
use types::TypeConfig;

/// A node's Raft, over its state machine.
pub type Raft<SM> = openraft::Raft<TypeConfig, SM>;

/// Waits until Raft's metrics are as `reached` says; false where Raft has stopped first.
pub async fn wait_until<SM: RaftStateMachine<TypeConfig>>(
    raft: &Raft<SM>,
    mut reached: impl FnMut(&types::Metrics) -> bool,
) -> bool {
    use openraft::async_runtime::watch::WatchReceiver as _;
    let mut metrics = raft.metrics();
    loop {
        if reached(&metrics.borrow_and_update()) {
            return true;
        }
        if metrics.changed().await.is_err() {
            return false;
        }
    }
}

/// How long a node that has stopped leading may still take to answer what it was asked before.
const DEPOSED_PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// Returns once another node than `leader` leads, and `leader` had a moment more to answer. What
/// it was asked may never be answered then, its disk being full: the next leader knows what
/// became of it.
pub async fn deposed<SM: RaftStateMachine<TypeConfig>>(raft: &Raft<SM>, leader: skep_base::id::RawNodeId) {
    wait_until(raft, |metrics| metrics.current_leader.is_some_and(|now| now != leader)).await;
    tokio::time::sleep(DEPOSED_PATIENCE).await;
}

/// Between two heartbeats of a leader.
const HEARTBEAT_MS: u64 = 100;
/// A follower that heard nothing waits for the longer of these (its leader's lease), then for a
/// random time between the two, before it asks for votes.
const ELECTION_TIMEOUT_MS: (u64, u64) = (300, 600);
/// Entries in one append; the log's reader bounds their bytes.
const APPEND_ENTRIES_MAX: u64 = 4096;

/// How openraft is set up.
pub fn config() -> Result<openraft::Config, openraft::ConfigError> {
    openraft::Config {
        cluster_name: "skep".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS.0,
        election_timeout_max: ELECTION_TIMEOUT_MS.1,
        enable_pre_vote: Some(true),
        // A leader sends entries before they are on its own disk. Back after a crash in the same
        // term, it would give their indexes to other entries, which no peer could tell apart.
        enable_leader_restore: Some(false),
        // A follower whose disk lost what it had acknowledged starts over; without this, one lying
        // disk ends the leader's process, whose assertion it breaks. `network` names it in the log.
        allow_log_reversion: Some(true),
        max_payload_entries: APPEND_ENTRIES_MAX,
        // A follower that lags is sent log as long as there is log: see `compaction`.
        replication_lag_threshold: u64::MAX,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A leader that lost its quorum stops its heartbeats now and then, so that a majority
        // that cannot reach it can elect another.
        quorum_loss_probe_interval: Some(3 * ELECTION_TIMEOUT_MS.1),
        install_snapshot_timeout: 60_000,
        ..openraft::Config::default()
    }
    .validate()
}
