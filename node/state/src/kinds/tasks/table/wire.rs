//! A slot as it is carried.
//!
//! In the first format a payload and an outcome are there themselves; in the second a tag
//! comes before each, and behind it mostly its [place](crate::heap::Place).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Slot;
use crate::heap::Blob;
use crate::kinds::tasks::{Body, Ended, Rest, Task};
use crate::task::{Member, Policy, TaskId, TaskState};

#[derive(Serialize, Deserialize)]
pub(super) struct WireSlot {
    prev: u32,
    next: u32,
    task: Option<WireTask>,
}

#[derive(Serialize, Deserialize)]
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

#[derive(Serialize, Deserialize)]
struct WireBody {
    kind: String,
    payload: Blob,
    unique: Option<String>,
    key: Option<String>,
    policy: Policy,
}

impl From<Slot> for WireSlot {
    fn from(Slot { prev, next, task }: Slot) -> Self {
        Self { prev, next, task: task.map(WireTask::from) }
    }
}

impl From<WireSlot> for Slot {
    fn from(WireSlot { prev, next, task }: WireSlot) -> Self {
        Self { prev, next, task: task.map(Task::from) }
    }
}

impl From<Task> for WireTask {
    fn from(task: Task) -> Self {
        let Rest { fence, timer_ms, worker, outcome, progress, member } = Rest::clone(&task);
        let Task { id, queue, priority, state, is_aside, ended, tries, lost, put_ms, since_ms, .. } = task;
        let payload = task.payload;
        let Body { kind, unique, key, policy } = Arc::unwrap_or_clone(task.body);
        let body = WireBody { kind, payload, unique, key, policy };
        Self {
            id,
            queue,
            priority,
            state,
            is_aside,
            ended,
            tries,
            lost,
            fence,
            put_ms,
            since_ms,
            timer_ms,
            worker,
            body,
            outcome,
            progress,
            member,
        }
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
