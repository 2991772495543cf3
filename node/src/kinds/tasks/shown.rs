//! How tasks are shown, as JSON.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use skep_state::heap::Held;
use skep_state::kinds::tasks::{Batch, QueueView, Task, Tasks};
use skep_state::task::{QueueSettings, TaskId, TaskState};

use super::pages::{self, Errors, Page};
use crate::http::Account;
use crate::http::encode::time_rfc3339;
use crate::http::headers::JSON;
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::TaskApi;
use crate::service::ServiceError;

/// What became of a task.
#[derive(Serialize)]
pub(crate) struct TaskShown {
    id: String,
    queue: String,
    kind: String,
    state: &'static str,
    priority: u8,
    tries: u16,
    lost: u8,
    put: String,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl TaskShown {
    pub(crate) fn of(queue: &str, task: &Task, outcome: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let json = |bytes: &[u8]| RawValue::from_string(text(bytes)).ok();
        let is_done = task.state == TaskState::Done;
        let error = task.error(outcome);
        let has_error = !is_done && !error.is_empty();
        Self {
            id: task.id.to_string(),
            queue: queue.to_owned(),
            kind: task.body.kind.clone(),
            state: task.state.as_str(),
            priority: task.priority,
            tries: task.tries,
            lost: task.lost,
            put: time(task.put_ms()),
            since: time(task.since_ms()),
            due: (task.state == TaskState::Due).then(|| time(task.timer_ms)),
            worker: task.worker.as_ref().filter(|_| task.state == TaskState::Active).map(ToString::to_string),
            progress: json(&task.progress),
            result: is_done.then(|| json(outcome)).flatten(),
            error: has_error.then(|| text(error)),
        }
    }
}

/// What a claim came to.
#[derive(Serialize)]
pub(crate) struct GivenShown {
    pub tasks: Vec<ClaimedShown>,
}

/// A task in its worker's hands.
#[derive(Serialize)]
pub(crate) struct ClaimedShown {
    id: String,
    fence: u64,
    queue: String,
    kind: String,
    payload: Option<Box<RawValue>>,
    /// Which try it is, from 1.
    r#try: u32,
    lost: u8,
    /// Seconds that the try may take; null is any time.
    timeout: Option<f64>,
}

impl ClaimedShown {
    pub(crate) fn of(queue: &str, task: &Task, payload: &[u8]) -> Self {
        let payload = String::from_utf8_lossy(payload).into_owned();
        let timeout_ms = task.body.policy.timeout_ms;
        Self {
            id: task.id.to_string(),
            fence: task.fence,
            queue: queue.to_owned(),
            kind: task.body.kind.clone(),
            payload: RawValue::from_string(payload).ok(),
            r#try: u32::from(task.tries) + u32::from(task.lost) + 1,
            lost: task.lost,
            timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms).as_secs_f64()),
        }
    }
}

/// What has come of a batch.
#[derive(Serialize)]
pub(crate) struct BatchShown {
    id: String,
    /// All tasks of it, and what met others.
    total: u32,
    met: u32,
    unfinished: u32,
    done: u32,
    dead: u32,
    cancelled: u32,
    put: String,
    /// Since when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    /// Of a batch of pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Errors>,
    tasks: Vec<MemberShown>,
    /// Pages that could not be looked at, of which the reasons are not read yet.
    #[serde(skip)]
    failed: Option<Vec<Page<Held>>>,
}

/// A task of a batch.
#[derive(Serialize)]
struct MemberShown {
    /// Its place in what was posted, from 0.
    place: u32,
    #[serde(serialize_with = "id")]
    id: TaskId,
    #[serde(serialize_with = "state")]
    state: TaskState,
}

fn id<S: Serializer>(id: &TaskId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn state<S: Serializer>(state: &TaskState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

impl BatchShown {
    /// What there is of it; it becomes text later, when nobody waits for this look.
    pub(crate) fn of(tasks: &Tasks, batch: &Batch) -> Self {
        let member = |(place, task): (u32, &Task)| MemberShown { place, id: task.id, state: task.state };
        Self {
            id: batch.id.to_string(),
            total: batch.total(),
            met: batch.met,
            unfinished: batch.unfinished,
            done: batch.done,
            dead: batch.dead,
            cancelled: batch.cancelled,
            put: time(batch.put_ms),
            ended: (batch.ended_ms > 0).then(|| time(batch.ended_ms)),
            errors: None,
            tasks: tasks.members(batch).map(member).collect(),
            failed: pages::failed(tasks, batch),
        }
    }

    /// With the reasons why pages could not be looked at.
    pub(crate) async fn read<A: TaskApi>(mut self, api: &A) -> Result<Self, ServiceError> {
        if let Some(failed) = self.failed.take() {
            self.errors = Some(Errors::read(api, failed).await?);
        }
        Ok(self)
    }
}

/// A queue.
#[derive(Serialize)]
pub(crate) struct QueueShown {
    queue: String,
    #[serde(flatten)]
    settings: SettingsShown,
    ready: u32,
    /// Of the ready ones those that wait for others of their keys.
    aside: u32,
    due: u32,
    active: u32,
    dead: u32,
    put: u64,
    done: u64,
    failed: u64,
    lost: u64,
    died: u64,
    cancelled: u64,
    /// Since when the next task could be claimed.
    oldest_ready: Option<String>,
}

/// What is set of a queue.
#[derive(Serialize)]
pub(crate) struct SettingsShown {
    paused: bool,
    length_max: Option<u32>,
    active_max: Option<u32>,
    per_key: Option<u32>,
    /// In seconds.
    key_pause: f64,
}

impl SettingsShown {
    pub(crate) fn of(settings: &QueueSettings) -> Self {
        let bound = |count: u32| (count != u32::MAX).then_some(count);
        Self {
            paused: settings.paused,
            length_max: bound(settings.length_max),
            active_max: bound(settings.active_max),
            per_key: bound(settings.per_key),
            key_pause: Duration::from_millis(settings.key_pause_ms).as_secs_f64(),
        }
    }
}

impl QueueShown {
    pub(crate) fn of(view: &QueueView) -> Self {
        Self {
            queue: view.name.to_string(),
            settings: SettingsShown::of(&view.settings),
            ready: view.ready,
            aside: view.aside,
            due: view.due,
            active: view.active,
            dead: view.dead,
            put: view.counts.put,
            done: view.counts.done,
            failed: view.counts.failed,
            lost: view.counts.lost,
            died: view.counts.dead,
            cancelled: view.counts.cancelled,
            oldest_ready: (view.oldest_ready_ms > 0).then(|| time(view.oldest_ready_ms)),
        }
    }
}

pub(crate) fn time(ms: u64) -> String {
    let mut text = Vec::new();
    time_rfc3339(ms, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// An answer in JSON, which is short.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    Ok(with(status, Body::from(json(value)?)))
}

/// One that may have payloads or a result in it: what it takes is charged until the client has it.
pub(crate) fn answer_within(
    account: &Account,
    status: StatusCode,
    value: &impl Serialize,
) -> Result<Response, Problem> {
    Ok(with(status, account.body(json(value)?)?))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))
}

pub(super) fn with(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_is_charged_and_refused_where_requests_hold_too_much() {
        let account = Account::new(1 << 20);
        let answer = |kib: usize| answer_within(&account, StatusCode::OK, &"x".repeat(kib * 1024));
        let held = answer(300).unwrap();
        assert!(account.bytes() >= 300 * 1024, "{}", account.bytes());
        assert_eq!(answer(300).unwrap_err().kind, ProblemKind::Overloaded);
        assert_eq!(answer(1).unwrap().status(), StatusCode::OK, "what is short is answered");
        drop(held);
        assert_eq!(account.bytes(), 0);
    }
}
