//! What the rolling hash is told of schedules: all that an operation changes, as it is afterwards.
//!
//! ```text
//! schedule    1 revision anchor_ms after_ms last_ms task_seq task_nonce fired met missed refused is_paused catches_up
//!               every_ms priority delay_ms retries backoff_ms timeout_ms keep_ms has_unique has_key,
//!               name cron zone queue kind payload unique key
//! fired       2 after_ms last_ms task_seq task_nonce fired met missed refused, name
//! removed     3 , name
//! remembered  4 nonce created
//! ```
//!
//! Numbers of 64 bits, and texts after their lengths. What all have fired follows from what each has.

use crate::rolling::{Effect, Rolling};
use crate::schedule::{Fires, HeldSchedule, Timing};
use crate::task::When;

fn note(rolling: &mut Rolling, what: u8, numbers: &[u64], texts: &[&[u8]]) {
    rolling.note(Effect::Schedules { what, numbers, texts });
}

/// How far it is.
fn progress(held: &HeldSchedule) -> [u64; 8] {
    let HeldSchedule { after_ms, last_ms, last_task, fires, .. } = held;
    let Fires { fired, met, missed, refused } = *fires;
    let (seq, nonce) = last_task.map_or((0, 0), |id| (id.seq, id.nonce));
    [*after_ms, *last_ms, seq, nonce, fired, met, missed, refused]
}

pub(super) fn schedule(rolling: &mut Rolling, name: &str, held: &HeldSchedule) {
    let (schedule, task) = (&held.schedule, &held.schedule.task);
    let (every_ms, cron, zone) = match &schedule.timing {
        Timing::Cron { expression, zone } => (0, expression.as_str(), zone.as_str()),
        Timing::Every { ms } => (*ms, "", ""),
    };
    let (When::After { delay_ms: when_ms } | When::At { time_ms: when_ms }) = task.when;
    let mut numbers = vec![held.revision, held.anchor_ms];
    numbers.extend(progress(held));
    numbers.extend([u64::from(schedule.is_paused), schedule.catches_up.into(), every_ms]);
    numbers.extend([u64::from(task.priority), when_ms, task.policy.retries.into()]);
    numbers.extend([task.policy.backoff_ms, task.policy.timeout_ms, task.policy.keep_ms]);
    numbers.extend([task.unique.is_some(), task.key.is_some()].map(u64::from));
    let key = |key: &Option<String>| key.clone().unwrap_or_default();
    let (unique, of) = (key(&task.unique), key(&task.key));
    let texts = [name, cron, zone, &task.queue, &task.kind].map(str::as_bytes);
    let texts: Vec<&[u8]> =
        texts.into_iter().chain([&*task.payload, unique.as_bytes(), of.as_bytes()]).collect();
    note(rolling, 1, &numbers, &texts);
}

pub(super) fn fired(rolling: &mut Rolling, name: &str, held: &HeldSchedule) {
    note(rolling, 2, &progress(held), &[name.as_bytes()]);
}

pub(super) fn removed(rolling: &mut Rolling, name: &str) {
    note(rolling, 3, &[], &[name.as_bytes()]);
}

pub(super) fn remembered(rolling: &mut Rolling, nonce: u64, created: bool) {
    note(rolling, 4, &[nonce, created.into()], &[]);
}
