//! A slot as it is carried.
//!
//! In the first format a payload and an outcome are there themselves; in the second a tag
//! comes before each, and behind it mostly its [place](crate::heap::Place).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::Slot;
use crate::heap::{Blob, PLACE_BYTES};
use crate::kinds::tasks::packed::Marks;
use crate::kinds::tasks::{Body, Ended, Rest, Task};
use crate::task::{Member, Policy, TaskId, TaskState};

/// Before the bytes themselves, or the bytes of a place.
pub(in crate::kinds::tasks) const TAG_HERE: u8 = 0;
pub(in crate::kinds::tasks) const TAG_PLACE: u8 = 1;

/// Its fields, of which the larger are owned where it is read, and borrowed where it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct WireSlot<T = String, B = Blob> {
    prev: u32,
    next: u32,
    task: Option<WireTask<T, B>>,
}

#[derive(Serialize, Deserialize)]
struct WireTask<T, B> {
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
    body: WireBody<T, B>,
    outcome: B,
    progress: Bytes,
    member: Option<Member>,
}

#[derive(Serialize, Deserialize)]
struct WireBody<T, B> {
    kind: T,
    payload: B,
    unique: Option<T>,
    key: Option<T>,
    policy: Policy,
}

impl From<WireSlot> for Slot {
    fn from(WireSlot { prev, next, task }: WireSlot) -> Self {
        Self { prev, next, task: task.map(Task::from) }
    }
}

impl From<WireTask<String, Blob>> for Task {
    fn from(task: WireTask<String, Blob>) -> Self {
        let WireTask { id, queue, priority, state, is_aside, ended, tries, lost, fence, put_ms, .. } = task;
        let WireTask { since_ms, timer_ms, worker, outcome, progress, member, .. } = task;
        let WireBody { kind, payload, unique, key, policy } = task.body;
        let mut task = Self {
            id,
            queue,
            priority,
            state,
            marks: Marks::new(ended, is_aside),
            tries,
            lost,
            counted: 0,
            put: put_ms.into(),
            since: since_ms.into(),
            body: Arc::new(Body { kind, unique, key, policy }),
            payload,
            rest: Rest { fence, timer_ms, worker, outcome, progress, member }.into(),
        };
        task.counted = task.memory();
        task
    }
}

/// As it is written, with tags or without.
pub(in crate::kinds::tasks) struct Told<'a> {
    pub slot: &'a Slot,
    pub tagged: bool,
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
        let task = task.as_ref().map(|task| WireTask::of(task, self.tagged));
        WireSlot { prev: *prev, next: *next, task }.serialize(serializer)
    }
}

impl<'a> WireTask<&'a str, ToldBlob<'a>> {
    fn of(task: &'a Task, tagged: bool) -> Self {
        let Body { kind, unique, key, policy } = &*task.body;
        let payload = ToldBlob { blob: &task.payload, tagged };
        let (unique, key) = (unique.as_deref(), key.as_deref());
        Self {
            id: task.id,
            queue: task.queue,
            priority: task.priority,
            state: task.state,
            is_aside: task.is_aside(),
            ended: task.ended(),
            tries: task.tries,
            lost: task.lost,
            fence: task.fence,
            put_ms: task.put_ms(),
            since_ms: task.since_ms(),
            timer_ms: task.timer_ms,
            worker: task.worker.clone(),
            body: WireBody { kind, payload, unique, key, policy: *policy },
            outcome: ToldBlob { blob: &task.outcome, tagged },
            progress: task.progress.clone(),
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
            Blob::Here(Some(bytes)) if self.tagged => {
                serializer.serialize_bytes(&[&[TAG_HERE], &bytes[..]].concat())
            }
            blob => blob.serialize(serializer),
        }
    }
}
