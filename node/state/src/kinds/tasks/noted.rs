//! What the rolling hash is told of tasks: all that an operation changes, as it is afterwards.
//!
//! ```text
//! task        1 slot seq nonce queue priority state ended tries lost fence since_ms timer_ms edge streak, worker
//! body        2 seq put_ms retries backoff_ms timeout_ms keep_ms has_unique has_key, kind payload unique key
//! outcome     3 seq, outcome
//! progress    4 seq, progress
//! forgotten   5 seq
//! worker      6 number seen_ms fell kept given fence.., name
//! no worker   7 name
//! queue       8 queue, name
//! settings    9 queue paused length_max active_max per_key key_pause_ms
//! counts     10 queue put done failed lost dead cancelled dropped
//! put        11 nonce first count
//! given      12 last_seq fence
//! listed     13 seq since_ms edge
//! rest       14 queue until_ms, key
//! member     15 seq batch place
//! batch      16 seq nonce posted met keep_ms put_ms ended_ms
//! no batch   17 seq
//! ```
//!
//! Numbers of 64 bits, and texts after their lengths. Lists are not told: a task's state, its slot and the edge at
//! which it came in make them.

use super::queue::{Counts, Worker};
use super::table::Edge;
use super::{Ended, Task};
use crate::rolling::{Effect, Rolling};
use crate::task::{Member, QueueSettings, SavedBatch, TaskState};

/// A task has come into a list, or a time, of its state; its queue has taken so many in a row.
pub(super) fn task(rolling: &mut Rolling, slot: u32, task: &Task, edge: Edge, streak: u8) {
    let state = match task.state {
        TaskState::Ready => 0,
        TaskState::Due => 1,
        TaskState::Active => 2,
        TaskState::Done => 3,
        TaskState::Dead => 4,
        TaskState::Cancelled => 5,
    };
    let ended = match task.ended() {
        Ended::Not => 0,
        Ended::Done => 1,
        Ended::Failed => 2,
        Ended::Released => 3,
        Ended::Snoozed => 4,
        Ended::Otherwise => 5,
    };
    let numbers = [
        slot.into(),
        task.id.seq,
        task.id.nonce,
        task.queue.into(),
        task.priority.into(),
        state,
        ended,
        task.tries.into(),
        task.lost.into(),
        task.fence,
        task.since_ms(),
        task.timer_ms,
        u64::from(edge == Edge::Head),
        streak.into(),
    ];
    let worker = task.worker.as_ref().map_or(&b""[..], |name| name.as_bytes());
    rolling.note(Effect::Tasks { what: 1, numbers: &numbers, texts: &[worker] });
}

/// What of a task never changes.
pub(super) fn body<'a>(rolling: &mut Rolling, task: &'a Task, payload: &[u8]) {
    let (body, policy) = (&task.body, task.body.policy);
    let numbers = [
        task.id.seq,
        task.put_ms(),
        policy.retries.into(),
        policy.backoff_ms,
        policy.timeout_ms,
        policy.keep_ms,
        body.unique.is_some().into(),
        body.key.is_some().into(),
    ];
    let bytes = |key: &'a Option<String>| key.as_ref().map_or(&b""[..], |key| key.as_bytes());
    rolling.note(Effect::Tasks {
        what: 2,
        numbers: &numbers,
        texts: &[body.kind.as_bytes(), payload, bytes(&body.unique), bytes(&body.key)],
    });
}

pub(super) fn outcome(rolling: &mut Rolling, seq: u64, outcome: &[u8]) {
    rolling.note(Effect::Tasks { what: 3, numbers: &[seq], texts: &[outcome] });
}

pub(super) fn progress(rolling: &mut Rolling, task: &Task) {
    rolling.note(Effect::Tasks { what: 4, numbers: &[task.id.seq], texts: &[&task.progress] });
}

pub(super) fn forgotten(rolling: &mut Rolling, seq: u64) {
    rolling.note(Effect::Tasks { what: 5, numbers: &[seq], texts: &[] });
}

pub(super) fn worker(rolling: &mut Rolling, name: &str, worker: &Worker) {
    let Worker { number, seen_ms, kept, given, fell } = worker;
    let mut numbers = vec![*number, *seen_ms, u64::from(*fell), kept.len() as u64, given.len() as u64];
    // A fence is of one task.
    numbers.extend(kept.iter().chain(given).map(|lease| lease.fence));
    rolling.note(Effect::Tasks { what: 6, numbers: &numbers, texts: &[name.as_bytes()] });
}

pub(super) fn no_worker(rolling: &mut Rolling, name: &str) {
    rolling.note(Effect::Tasks { what: 7, numbers: &[], texts: &[name.as_bytes()] });
}

/// A queue is made, in the place of another one or in one of its own.
pub(super) fn queue(rolling: &mut Rolling, queue: u16, name: &str) {
    rolling.note(Effect::Tasks { what: 8, numbers: &[queue.into()], texts: &[name.as_bytes()] });
}

pub(super) fn settings(rolling: &mut Rolling, queue: u16, settings: QueueSettings) {
    let QueueSettings { paused, length_max, active_max, per_key, key_pause_ms } = settings;
    let bounds = [length_max, active_max, per_key].map(u64::from);
    let numbers = [queue.into(), u64::from(paused), bounds[0], bounds[1], bounds[2], key_pause_ms];
    rolling.note(Effect::Tasks { what: 9, numbers: &numbers, texts: &[] });
}

pub(super) fn counts(rolling: &mut Rolling, queue: u16, counts: Counts) {
    let Counts { put, done, failed, lost, dead, cancelled, dropped } = counts;
    let numbers = [queue.into(), put, done, failed, lost, dead, cancelled, dropped];
    rolling.note(Effect::Tasks { what: 10, numbers: &numbers, texts: &[] });
}

pub(super) fn put(rolling: &mut Rolling, nonce: u64, first: u64, count: u32) {
    rolling.note(Effect::Tasks { what: 11, numbers: &[nonce, first, count.into()], texts: &[] });
}

pub(super) fn given(rolling: &mut Rolling, last_seq: u64, fence: u64) {
    rolling.note(Effect::Tasks { what: 12, numbers: &[last_seq, fence], texts: &[] });
}

/// A task that waited for others of its key may be claimed.
pub(super) fn listed(rolling: &mut Rolling, task: &Task, edge: Edge) {
    let numbers = [task.id.seq, task.since_ms(), u64::from(edge == Edge::Head)];
    rolling.note(Effect::Tasks { what: 13, numbers: &numbers, texts: &[] });
}

/// A key has rest until then, or no more (0).
pub(super) fn rest(rolling: &mut Rolling, queue: u16, until_ms: u64, key: &str) {
    rolling.note(Effect::Tasks { what: 14, numbers: &[queue.into(), until_ms], texts: &[key.as_bytes()] });
}

pub(super) fn member(rolling: &mut Rolling, seq: u64, Member { batch, place }: Member) {
    rolling.note(Effect::Tasks { what: 15, numbers: &[seq, batch, place.into()], texts: &[] });
}

/// What of a batch its tasks do not tell.
pub(super) fn batch(rolling: &mut Rolling, batch: &SavedBatch) {
    let SavedBatch { id, posted, met, keep_ms, put_ms, ended_ms } = batch.clone();
    let numbers = [id.seq, id.nonce, posted.into(), met.into(), keep_ms, put_ms, ended_ms];
    rolling.note(Effect::Tasks { what: 16, numbers: &numbers, texts: &[] });
}

pub(super) fn no_batch(rolling: &mut Rolling, seq: u64) {
    rolling.note(Effect::Tasks { what: 17, numbers: &[seq], texts: &[] });
}
