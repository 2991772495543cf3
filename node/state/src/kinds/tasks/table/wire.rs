//! A slot as it is carried.
//!
//! In the first format a payload and an outcome are there themselves; in the second a tag
//! comes before each, and behind it mostly its [place](crate::heap::Place).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::Slot;
use crate::heap::{Blob, PLACE_BYTES};
use crate::kinds::tasks::{Body, Ended, Rest, Task};
use crate::task::{Member, Policy, TaskId, TaskState};

/// Before the bytes themselves, or the bytes of a place.
pub(in crate::kinds::tasks) const TAG_HERE: u8 = 0;
pub(in crate::kinds::tasks) const TAG_PLACE: u8 = 1;

/// As it is read.
#[derive(Deserialize)]
pub(super) struct WireSlot {
    prev: u32,
    next: u32,
    task: Option<WireTask>,
}

#[derive(Deserialize)]
struct WireTask {
    id: TaskId,
    queue: u16,
    priority: u8,
    state: TaskState,
    is_aside: bool,
    ended: Ended,
    tries: u16,
    lost: u8,
    fence: u64,
    put_ms: u64,
    since_ms: u64,
    timer_ms: u64,
    worker: Option<Arc<str>>,
    body: WireBody,
    outcome: Blob,
    progress: Bytes,
    member: Option<Member>,
}

#[derive(Deserialize)]
struct WireBody {
    kind: String,
    payload: Blob,
    unique: Option<String>,
    key: Option<String>,
    policy: Policy,
}

impl From<WireSlot> for Slot {
    fn from(WireSlot { prev, next, task }: WireSlot) -> Self {
        Self { prev, next, task: task.map(Task::from) }
    }
}

impl From<WireTask> for Task {
    fn from(task: WireTask) -> Self {
        let WireTask { id, queue, priority, state, is_aside, ended, tries, lost, fence, put_ms, .. } = task;
        let WireTask { since_ms, timer_ms, worker, outcome, progress, member, .. } = task;
        let WireBody { kind, payload, unique, key, policy } = task.body;
        let mut task = Self {
            id,
            queue,
            priority,
            state,
            is_aside,
            ended,
            tries,
            lost,
            counted: 0,
            put_ms,
            since_ms,
            body: Arc::new(Body { kind, unique, key, policy }),
            payload,
            rest: Rest { fence, timer_ms, worker, outcome, progress, member }.into(),
        };
        task.counted = task.memory();
        task
    }
}

/// As it is written, with tags or without: nothing of it is copied.
pub(in crate::kinds::tasks) struct Told<'a> {
    pub slot: &'a Slot,
    pub tagged: bool,
}

#[derive(Serialize)]
struct ToldSlot<'a> {
    prev: u32,
    next: u32,
    task: Option<ToldTask<'a>>,
}

/// As [`WireTask`].
#[derive(Serialize)]
struct ToldTask<'a> {
    id: TaskId,
    queue: u16,
    priority: u8,
    state: TaskState,
    is_aside: bool,
    ended: Ended,
    tries: u16,
    lost: u8,
    fence: u64,
    put_ms: u64,
    since_ms: u64,
    timer_ms: u64,
    worker: Option<&'a str>,
    body: ToldBody<'a>,
    outcome: ToldBlob<'a>,
    progress: &'a Bytes,
    member: Option<Member>,
}

/// As [`WireBody`].
#[derive(Serialize)]
struct ToldBody<'a> {
    kind: &'a str,
    payload: ToldBlob<'a>,
    unique: Option<&'a str>,
    key: Option<&'a str>,
    policy: Policy,
}

struct ToldBlob<'a> {
    blob: &'a Blob,
    tagged: bool,
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Told { slot: self, tagged: false }.serialize(serializer)
    }
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Slot { prev, next, task } = self.slot;
        let task = task.as_ref().map(|task| ToldTask::of(task, self.tagged));
        ToldSlot { prev: *prev, next: *next, task }.serialize(serializer)
    }
}

impl<'a> ToldTask<'a> {
    fn of(task: &'a Task, tagged: bool) -> Self {
        let Body { kind, unique, key, policy } = &*task.body;
        let payload = ToldBlob { blob: &task.payload, tagged };
        let (unique, key) = (unique.as_deref(), key.as_deref());
        Self {
            id: task.id,
            queue: task.queue,
            priority: task.priority,
            state: task.state,
            is_aside: task.is_aside,
            ended: task.ended,
            tries: task.tries,
            lost: task.lost,
            fence: task.fence,
            put_ms: task.put_ms,
            since_ms: task.since_ms,
            timer_ms: task.timer_ms,
            worker: task.worker.as_deref(),
            body: ToldBody { kind, payload, unique, key, policy: *policy },
            outcome: ToldBlob { blob: &task.outcome, tagged },
            progress: &task.progress,
            member: task.member,
        }
    }
}

impl Serialize for ToldBlob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.blob {
            Blob::Filed(place) if self.tagged => {
                let mut bytes = [TAG_PLACE; 1 + PLACE_BYTES];
                bytes[1..].copy_from_slice(&place.to_bytes());
                serializer.serialize_bytes(&bytes)
            }
            Blob::Here(bytes) if self.tagged => {
                serializer.serialize_bytes(&[&[TAG_HERE], &bytes[..]].concat())
            }
            blob => blob.serialize(serializer),
        }
    }
}
