//! The state that is applied to, and the files that it lies in.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::EntryPayload;
use skep_raft::types::{Entry, LogId, StoredMembership};
use skep_state::Kinds;
use skep_state::command::CommandOutcome;
use skep_state::gateway::Revision;
use skep_state::level::Level;

use crate::applied::Applied;
use crate::behind::Behind;
use crate::claims::{self, ClaimFiles};
use crate::config::StoreConfig;
use crate::core::Core;
use crate::error::StoreError;
use crate::health::StoreMetrics;
use crate::manifest::{FileKind, SnapshotHeader};
use crate::payloads::{self, PayloadFiles};
use crate::points::Point;
use crate::run::Touched;
use crate::segments::{self, SegmentFile, SegmentMeta, Segments};

pub(crate) struct CoreState {
    pub kinds: Kinds<Segments, ClaimFiles>,
    pub payloads: PayloadFiles,
    pub last_applied: Option<LogId>,
    pub membership: StoredMembership,
}

impl CoreState {
    /// The hash of all that was applied; none before the cluster has agreed to have one.
    pub(super) fn point(&self) -> Option<Point> {
        let (index, hash) = (self.last_applied?.index, self.kinds.rolling_hash()?);
        Some(Point { index, hash })
    }
}

/// A consistent state and the files that hold it.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub generation: u64,
    pub header: Arc<SnapshotHeader>,
    /// In the header's order.
    pub files: Vec<Arc<SegmentFile>>,
    /// Files of tasks' bytes that were retired before.
    pub payloads_retired: u64,
}

impl Captured {
    /// Which of two is newer: what was moved since is no entry of the log, and makes one newer all the same.
    pub(super) fn age(&self) -> (u64, Option<LogId>, u64) {
        (self.generation, self.header.last_log_id, self.payloads_retired)
    }

    /// All but the newest files of tasks' bytes that grow no more: they need not be held, once this is the checkpoint.
    pub(super) fn old_payloads(&self) -> impl Iterator<Item = &Arc<SegmentFile>> {
        let all = self.header.files().zip(&self.files);
        let sealed = all.filter(|((kind, meta), _)| *kind == FileKind::Payloads && meta.sealed);
        let old = self.header.payload_files.len().saturating_sub(payloads::HELD_MAX);
        sealed.take(old).map(|(_, file)| file)
    }
}

/// The file of claims that a run needs first.
pub(super) fn next_claims(state: &CoreState, touched: Touched) -> Option<claims::Next> {
    let are_records = touched.level || (touched.claims && state.kinds.level() >= Level::CLAIM_RECORDS);
    are_records.then(|| state.kinds.claims.records().next()).flatten()
}

/// Whether a run needs another file of tasks' bytes first.
pub(super) fn wants_payloads(state: &CoreState, touched: Touched) -> bool {
    let are_filed = touched.level || (touched.tasks && state.kinds.level() >= Level::TASK_FILES);
    are_filed && state.payloads.next(state.kinds.tasks.heap())
}

/// Where the files of a state are, in the header's order.
pub(super) fn paths(config: &StoreConfig, generation: u64, header: &SnapshotHeader) -> Vec<PathBuf> {
    let (messages, claims) = (Core::messages_dir(config), Core::claims_dir(config));
    let payloads = Core::payloads_dir(config);
    let path = |(kind, meta): (FileKind, SegmentMeta)| match kind {
        FileKind::Messages => segments::segment_path(&messages, generation, meta.first_seq),
        FileKind::Claims => claims::file::path(&claims, generation, meta.first_seq),
        // A header that has another number is refused.
        FileKind::Payloads => payloads::file::path(&payloads, generation, meta.first_seq as u32),
    };
    header.files().map(path).collect()
}

/// Removes the files that are not of this state, before anything is made of it.
pub(super) fn remove_strangers(config: &StoreConfig, state: &CoreState) -> Result<(), StoreError> {
    segments::remove_strangers(&Core::messages_dir(config), &state.kinds.messages.records().known_files())?;
    segments::remove_strangers(&Core::claims_dir(config), &state.kinds.claims.records().known_files())?;
    segments::remove_strangers(&Core::payloads_dir(config), &state.payloads.known_files())
}

/// The files of messages and of claims.
pub(super) fn known_files(state: &CoreState) -> (HashSet<PathBuf>, HashSet<PathBuf>) {
    (state.kinds.messages.records().known_files(), state.kinds.claims.records().known_files())
}

/// Removes the files that a state of this generation has replaced. Bytes of tasks are moved meanwhile, to files that are
/// known later.
pub(super) fn remove_replaced(
    config: &StoreConfig,
    messages: &HashSet<PathBuf>,
    claims: &HashSet<PathBuf>,
    generation: u64,
) -> Result<(), StoreError> {
    segments::remove_strangers(&Core::messages_dir(config), messages)?;
    segments::remove_strangers(&Core::claims_dir(config), claims)?;
    payloads::file::remove_replaced(&Core::payloads_dir(config), generation)
}

pub(super) fn load(
    config: &StoreConfig,
    generation: u64,
    header: &SnapshotHeader,
    behind: &Behind,
    metrics: &Arc<StoreMetrics>,
) -> Result<CoreState, StoreError> {
    let dir = Core::messages_dir(config);
    let limits = segments::Limits {
        segment_bytes_max: config.message_segment_bytes_max,
        held_max: config.message_segments_held_max,
    };
    let last_seq = header.kinds.messages.last_seq;
    let behind_messages = behind.messages.clone();
    let segments = Segments::open(dir, generation, &header.segments, last_seq, limits, behind_messages)?;
    let claims = ClaimFiles::open(
        Core::claims_dir(config),
        generation,
        &header.claim_files,
        header.kinds.claims.first..header.kinds.claims.next,
        &header.kinds.common.mends,
        claims::Limits {
            file_claims_max: config.claim_file_claims_max,
            held_max: config.claim_files_held_max,
        },
        behind.claims.clone(),
    )?;
    let (payloads, heap) = PayloadFiles::open(
        Core::payloads_dir(config),
        generation,
        &header.payload_files,
        config.payload_file_bytes_max,
        behind.payloads.clone(),
        metrics.clone(),
    )?;
    let kinds = Kinds::open(header.kinds.clone(), segments, claims, heap)?;
    Ok(CoreState { kinds, payloads, last_applied: header.last_log_id, membership: header.membership.clone() })
}

pub(super) fn capture(state: &CoreState) -> Captured {
    let records = state.kinds.messages.records();
    let (segments, mut files): (_, Vec<_>) = records.metas().into_iter().unzip();
    let (claim_files, more): (_, Vec<_>) = state.kinds.claims.records().metas().unzip();
    files.extend(more);
    let (payload_files, more): (_, Vec<_>) =
        state.payloads.metas(state.kinds.tasks.heap()).into_iter().unzip();
    files.extend(more);
    let header = SnapshotHeader {
        last_log_id: state.last_applied,
        membership: state.membership.clone(),
        segments,
        claim_files,
        payload_files,
        kinds: state.kinds.record(),
    };
    let payloads_retired = state.payloads.retirements();
    Captured { generation: records.generation, header: Arc::new(header), files, payloads_retired }
}

fn applied_of(state: &CoreState) -> Applied {
    Applied {
        index: state.last_applied.map(|id| id.index),
        seq: state.kinds.messages.records().published_seq(),
        removals: state.kinds.messages.removals(),
        revisions: state.kinds.revisions(),
        latest: state.kinds.clock().latest(),
        keys_are_full: state.kinds.claims.len() >= state.kinds.limits().claims_max as u64,
    }
}

fn gateway_of(state: &CoreState) -> Option<Revision> {
    state.kinds.gateway.newest().map(|(revision, _)| revision)
}

/// How far it is, for those who wait for that: the newest document of the gateway, and the number of the last purge, too.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub applied: Applied,
    pub gateway: Option<Revision>,
    pub purges: u64,
}

pub(super) fn published_of(state: &CoreState) -> Published {
    Published { applied: applied_of(state), gateway: gateway_of(state), purges: state.kinds.purges.last() }
}

pub(super) fn apply_entry(state: &mut CoreState, entry: &Entry) -> Result<CommandOutcome, StoreError> {
    let outcome = match &entry.payload {
        EntryPayload::Blank => CommandOutcome::default(),
        EntryPayload::Membership(membership) => {
            state.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            CommandOutcome::default()
        }
        EntryPayload::Normal(command) => state.kinds.apply(entry.log_id.index, command)?,
    };
    state.last_applied = Some(entry.log_id);
    Ok(outcome)
}
