//! What Raft, gossip, the peers' network and the store know anyway, asked for at each scrape.

mod quorum;

use openraft::async_runtime::watch::WatchReceiver as _;
use std::sync::atomic::Ordering::Relaxed;

use openraft::ServerState;
use openraft_rt::Instant as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, Program};

use crate::group::OpenStore;
use crate::service::Service;
use crate::service::status::leads_quorum;
use crate::telemetry::{Metrics, Scrape};
use skep_raft::peers::Peers;
use skep_raft::types::LogId;
use skep_raft::wire::REJECT_REASONS;
use skep_state::level::Limits;
use skep_store::Raft;
use skep_store::health::{Histogram, LATENCY_BUCKETS_S};

/// Who is asked.
pub struct Asked {
    pub node_id: NodeId,
    pub raft: Raft,
    pub gossip: Gossip,
    pub peers: Peers,
    pub service: Service,
    pub store: OpenStore,
}

/// Adds the sources.
pub fn register(metrics: &Metrics, asked: Asked) {
    let Asked { node_id, raft, gossip, peers, service, store } = asked;
    metrics.add_source(move |scrape| {
        let ready = f64::from(u8::from(service.readiness().is_ok()));
        scrape.gauge("ready", "1 while /readyz answers 200", ready);
        let clocks = service.clocks();
        // Members of the version before tell no clock.
        if clocks.all_tell {
            let help = "1 while a majority of the voters' clocks agrees, or there is but one";
            scrape.gauge("clocks_agree", help, f64::from(u8::from(clocks.agreed)));
        }
        let offsets: Vec<_> =
            clocks.members.iter().map(|it| (it.id.as_str(), it.offset_ms as f64 / 1e3)).collect();
        let help = "How far a voter's clock is ahead of the agreed time";
        // Where none agree, nobody can say who is off.
        if clocks.agreed {
            scrape.gauges("clock_offset_seconds", help, "member", offsets);
            let help = "How far the newest time that was given to anything is ahead of the agreed time";
            let ahead_ms = clocks.newest_ms.saturating_sub(clocks.time_ms);
            scrape.gauge("clock_newest_ahead_seconds", help, ahead_ms as f64 / 1e3);
        }
        let help = "1 while this node votes for nobody: others saw more of its log than there is";
        scrape.gauge("raft_log_went_back", help, f64::from(u8::from(service.log_went_back())));
        let help = "1 while the state of this node is not that of most voters, or no majority has the same";
        scrape.gauge("state_differs", help, f64::from(u8::from(service.equal().differs().is_some())));
        let secrets = service.secrets().counts();
        let help = "Secrets of issuers and keys of certificates that lie open in documents that are kept; older log and backups may have more";
        scrape.gauge("gateway_secrets_open", help, secrets.open as f64);
        let help = "Secrets of issuers and keys of certificates that no cluster key opens: tokens by them are refused, and they are not shown";
        scrape.gauge("gateway_secrets_absent", help, secrets.absent as f64);
        let help = "Documents before the newest with secrets that no cluster key opens";
        scrape.gauge("gateway_secrets_past_absent", help, secrets.past_absent as f64);
        if let Some(index) = service.equal().compared() {
            let help = "The last log index after which the state of this node was compared with others'";
            scrape.gauge("state_compared_index", help, index as f64);
        }
        if let Some(silence) = service.read_silence() {
            let help = "Since a leader with a quorum last confirmed a read here";
            scrape.gauge("raft_read_silence_seconds", help, silence.as_secs_f64());
        }
    });
    let seen = gossip.clone();
    metrics.add_source(move |scrape| of_raft(scrape, node_id, &raft, &seen));
    metrics.add_source(move |scrape| of_gossip(scrape, &gossip));
    metrics.add_source(move |scrape| of_peers(scrape, &peers));
    metrics.add_source(move |scrape| of_store(scrape, &store));
}

fn index(log_id: &Option<LogId>) -> f64 {
    log_id.as_ref().map_or(0.0, |log_id| log_id.index as f64)
}

fn of_raft(scrape: &mut Scrape<'_>, node_id: NodeId, raft: &Raft, gossip: &Gossip) {
    let metrics = raft.metrics().borrow_watched().clone();
    scrape.gauge("raft_term", "Raft's current term", metrics.current_term as f64);
    let roles = [
        ("leader", ServerState::Leader),
        ("follower", ServerState::Follower),
        ("candidate", ServerState::Candidate),
        ("learner", ServerState::Learner),
    ];
    let roles = roles.map(|(name, state)| (name, f64::from(u8::from(metrics.state == state))));
    scrape.gauges("raft_role", "1 for the role that this node has", "role", roles);
    scrape.gauge(
        "raft_has_leader",
        "1 while this node knows a leader",
        f64::from(u8::from(metrics.current_leader.is_some())),
    );
    scrape.gauge(
        "raft_leads",
        "1 while this node leads and a quorum answers it: it can acknowledge writes",
        f64::from(u8::from(leads_quorum(node_id, &metrics))),
    );
    scrape.gauge(
        "raft_last_log_index",
        "Highest index in this node's log",
        metrics.last_log_index.map_or(0.0, |i| i as f64),
    );
    scrape.gauge("raft_commit_index", "Highest index known to be committed", index(&metrics.local_committed));
    scrape.gauge("raft_applied_index", "Highest index applied to the store", index(&metrics.last_applied));
    scrape.gauge("raft_snapshot_index", "Highest index in the last checkpoint", index(&metrics.snapshot));
    scrape.gauge("raft_purged_index", "Highest index dropped from the log", index(&metrics.purged));
    let membership = metrics.membership_config.membership();
    let voters = membership.voter_ids().count();
    let kinds = [("voter", voters as f64), ("learner", membership.learner_ids().count() as f64)];
    scrape.gauges("raft_members", "Members of the effective membership", "kind", kinds);
    let view = gossip.view().borrow().clone();
    let lives = |id: u64| id == node_id.0 || view.live(NodeId(id)).is_some();
    if let Some(spare) = quorum::voters_to_spare(membership.get_joint_config(), lives) {
        let help = "Voters that may be lost beside those that gossip misses; below 0 there is no quorum";
        scrape.gauge("raft_voters_to_spare", help, spare as f64);
    }
    if let Some(acked) = &metrics.last_quorum_acked {
        let seconds = acked.elapsed().as_secs_f64();
        scrape.gauge("raft_quorum_ack_age_seconds", "Since a quorum last answered this leader", seconds);
    }
    if let Some(replication) = &metrics.replication {
        let last = metrics.last_log_index.unwrap_or(0);
        let lags: Vec<_> = replication
            .iter()
            .map(|(id, matched)| {
                let matched = matched.as_ref().map_or(0, |log_id| log_id.index);
                (NodeId(*id).to_string(), last.saturating_sub(matched) as f64)
            })
            .collect();
        let lags = lags.iter().map(|(id, lag)| (id.as_str(), *lag));
        scrape.gauges("raft_lag_entries", "Log entries that a member lacks, on the leader", "member", lags);
    }
}

fn of_gossip(scrape: &mut Scrape<'_>, gossip: &Gossip) {
    let view = gossip.view().borrow().clone();
    let nodes = || std::iter::once(&view.me).chain(&view.live).filter(|r| r.program == Program::Node);
    let count = |state: &str| nodes().filter(|record| record.state.as_str() == state).count() as f64;
    let dead = view.dead.iter().filter(|record| record.program == Program::Node).count() as f64;
    let states = [
        ("joining", count("joining")),
        ("ready", count("ready")),
        ("draining", count("draining")),
        ("left", count("left")),
        ("dead", dead),
    ];
    scrape.gauges("gossip_nodes", "Nodes that gossip knows, this one included", "state", states);
    let counters = gossip.counters();
    scrape.counter("gossip_datagrams_sent", "Datagrams sent", counters.sent);
    scrape.counter("gossip_datagrams_received", "Datagrams received", counters.received);
    scrape.counter("gossip_sent_bytes", "Bytes of datagrams sent", counters.sent_bytes);
    scrape.counter("gossip_received_bytes", "Bytes of datagrams received", counters.received_bytes);
    scrape.counters(
        "gossip_datagrams_dropped",
        "Datagrams that were not opened",
        "reason",
        counters.dropped.by_reason(),
    );
    scrape.counter(
        "gossip_left_out",
        "Parts of gossip messages that no member would have sent, or that were not their sender's to say",
        counters.left_out,
    );
    scrape.counter("gossip_bad_records", "Members' records that could not be read", counters.bad_records);
    scrape.counter("gossip_stalls", "Times this process was late by several rounds", counters.stalls);
    scrape.gauge("gossip_foreign_members", "Live members of another cluster", counters.foreign as f64);
    scrape.gauge("gossip_id_conflicts", "Live members with this node's id", counters.id_conflicts as f64);
}

fn of_peers(scrape: &mut Scrape<'_>, peers: &Peers) {
    let counters = peers.counters();
    scrape.counter("peer_frames_received", "Frames received from peers", counters.frames_in.get());
    scrape.counter("peer_frames_sent", "Frames sent to peers", counters.frames_out.get());
    scrape.counter("peer_received_bytes", "Bytes of frames received", counters.bytes_in.get());
    scrape.counter("peer_sent_bytes", "Bytes of frames sent", counters.bytes_out.get());
    scrape.gauge("peer_connections", "Open connections with peers", counters.connections_open.get() as f64);
    scrape.counter("peer_reconnects", "Connections opened anew", counters.reconnects.get());
    scrape.counter(
        "peer_dial_failures",
        "Connections that could not be opened",
        counters.dial_failures.get(),
    );
    scrape.counter(
        "peer_tls_failures",
        "Handshakes that failed: another cluster key",
        counters.tls_failures.get(),
    );
    scrape.counter("peer_decode_errors", "Frames that were none", counters.decode_errors.get());
    let rejected = REJECT_REASONS.map(|reason| (reason.label(), counters.rejected(reason)));
    scrape.counters("peer_rejected", "Connections refused, by reason", "reason", rejected);
    scrape.gauge("peer_calls_in_flight", "Calls under way to peers", counters.calls_in_flight.get() as f64);
    scrape.gauge("peer_serving", "Peers' calls under way here", counters.serving.get() as f64);
    scrape.counter("peer_overloaded", "Peers' calls refused as overload", counters.overloaded.get());
    scrape.gauge("peer_queued_bytes", "Bytes that wait to be sent", counters.queued_bytes.get() as f64);
    scrape.counter("peer_snapshots_sent", "Snapshots sent", counters.snapshots_sent.get());
    scrape.counter("peer_snapshots_received", "Snapshots received", counters.snapshots_received.get());
}

fn of_store(scrape: &mut Scrape<'_>, store: &OpenStore) {
    let OpenStore { reader, metrics: store, log, health, .. } = store;
    let (free, size) = (store.disk_free_bytes.load(Relaxed), store.disk_size_bytes.load(Relaxed));
    if size > 0 {
        scrape.gauge("store_disk_free_bytes", "Free space where the data folder is", free as f64);
        scrape.gauge("store_disk_size_bytes", "Size of the file system of the data folder", size as f64);
    }
    let full = f64::from(u8::from(health.borrow().full.is_some()));
    scrape.gauge("store_full", "1 while writes wait for room on the disk", full);
    let elsewhere = store.reads_elsewhere.load(Relaxed);
    scrape.counter("store_reads_elsewhere", "Reads on threads that may wait for the disk", elsewhere);
    let checked = store.segments_checked.load(Relaxed);
    scrape.counter("store_segments_checked", "Segments of messages that were read again", checked);
    let rotten = store.segments_rotten.load(Relaxed) as f64;
    scrape.gauge("store_rotten_segments", "Segments of messages that are not as they were written", rotten);
    let (mended, records) = (store.segments_mended.load(Relaxed), store.records_mended.load(Relaxed));
    scrape.counter("store_segments_mended", "Segments of which lost records were put back", mended);
    scrape.counter("store_records_mended", "Lost records that other nodes gave for it", records);
    let (stats, level) = (reader.stats(), reader.level());
    let limits = Limits::of(level);
    scrape.gauge(
        "store_level",
        "The level of formats and bounds that the cluster has agreed to",
        level.0.into(),
    );
    scrape.gauge("store_messages", "Messages in the store", stats.messages as f64);
    scrape.gauge("store_message_bytes", "Size of the messages' segments", stats.message_bytes as f64);
    scrape.gauge("store_message_segments", "Segments of messages", stats.message_segments as f64);
    let waiting = stats.reads_waiting as f64;
    scrape.gauge("store_reads_waiting", "Reads that wait for one of those threads", waiting);
    let unwritten = stats.unwritten_bytes as f64;
    scrape.gauge(
        "store_unwritten_bytes",
        "Messages that are read from memory until they are written",
        unwritten,
    );
    scrape.gauge("store_dropped_upto", "Messages up to this seq are dropped", stats.floor as f64);
    scrape.gauge("store_removed_singly", "Messages removed one by one", stats.removed_singly as f64);
    scrape.gauge("store_removed_singly_max", "Most of those", limits.removed_singly_max as f64);
    scrape.gauge("store_claims", "Idempotency keys that are remembered", stats.claims as f64);
    scrape.gauge("store_claims_max", "Most of those", limits.claims_max as f64);
    scrape.gauge("store_claim_bytes", "Size of the keys' files", stats.claim_bytes as f64);
    scrape.gauge("store_claim_index_bytes", "What the keys take in memory", stats.claim_index_bytes as f64);
    let payloads = stats.payload_bytes as f64;
    scrape.gauge("store_payload_bytes", "Size of the files of tasks' payloads and results", payloads);
    let live = stats.payload_live_bytes as f64;
    scrape.gauge("store_payload_live_bytes", "What tasks need of these files", live);
    scrape.gauge("store_payload_files", "Files of tasks' payloads and results", stats.payload_files as f64);
    let moved = store.payload_bytes_moved.load(Relaxed);
    scrape.counter("store_payload_moved_bytes", "Bytes of tasks that were moved to other files", moved);
    let lost = store.payloads_lost.load(Relaxed);
    scrape.counter("store_payloads_lost", "Reads of tasks' bytes that the disk did not have", lost);
    let log = log.stats();
    scrape.gauge("store_log_entries", "Entries in the Raft log", log.entries as f64);
    scrape.gauge("store_log_bytes", "Size of the entries in the Raft log", log.entry_bytes as f64);
    scrape.gauge("store_log_cache_bytes", "Bytes of entries in memory", log.cached_bytes as f64);
    scrape.gauge("store_log_pending_bytes", "Bytes that wait for the disk", log.pending_bytes as f64);
    scrape.counter("store_log_batches", "Group commits of the Raft log", store.log_batches.load(Relaxed));
    scrape.counter("store_log_written_bytes", "Bytes written to the Raft log", store.log_bytes.load(Relaxed));
    scrape.counter("store_operations_applied", "Operations applied", store.ops_applied.load(Relaxed));
    scrape.counter("store_checkpoints", "Checkpoints made", store.checkpoints.load(Relaxed));
    histogram(
        scrape,
        "store_log_fsync_duration_seconds",
        "Time of one group commit's fdatasync",
        &store.log_sync,
    );
    histogram(scrape, "store_apply_duration_seconds", "Time to apply one batch of entries", &store.apply);
    histogram(scrape, "store_checkpoint_duration_seconds", "Time of one checkpoint", &store.checkpoint);
}

fn histogram(scrape: &mut Scrape<'_>, name: &str, help: &str, histogram: &Histogram) {
    let counts = histogram.counts();
    let bounds = LATENCY_BUCKETS_S.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(counts).collect();
    scrape.histogram(name, help, histogram.sum_s(), counts.iter().sum(), &buckets);
}
