//! The shapes of bodies, for the API's document. Where a body is written by hand, a test holds it
//! against these.

// Read by the document alone.
#![allow(dead_code)]

mod asked;
mod schedules;

use utoipa::ToSchema;

pub(crate) use asked::{
    Beat, CompleteTask, FailTask, PutTasks, QueueSettings, QuietWorker, ReleaseTask, SetSchedule, SnoozeTask,
    TaskClaim, TaskProgress,
};
pub(crate) use schedules::{Schedule, ScheduleList, ScheduleRemoved};

/// A message that is a text.
#[derive(ToSchema)]
pub(crate) struct TextMessage {
    /// The text. It has at least one character.
    #[schema(min_length = 1, example = "foo")]
    pub message: String,
}

/// Bytes of whatever kind.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary, min_length = 1)]
pub(crate) struct Raw(Vec<u8>);

/// A text.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, example = "a text")]
pub(crate) struct Text(String);

/// Any JSON value.
#[derive(ToSchema)]
#[schema(value_type = Value, example = json!({"any": ["JSON", 1]}))]
pub(crate) struct Json(serde_json::Value);

/// What a message came to.
#[derive(ToSchema)]
pub(crate) struct Stored {
    /// The SHA-256 of the message's bytes: its id.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    /// Its place in the log of messages.
    #[schema(minimum = 1)]
    pub seq: u64,
}

/// How many texts were written.
#[derive(ToSchema)]
pub(crate) struct TextVersion {
    #[schema(minimum = 1)]
    pub version: u64,
}

/// A stored message.
#[derive(ToSchema)]
pub(crate) struct Message {
    /// Its place in the log of messages, from 1.
    #[schema(minimum = 1)]
    pub seq: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub time: String,
    pub content_type: String,
    /// The text, or base64 where it is none.
    pub message: String,
    /// `base64`, or absent.
    #[schema(required = false, pattern = "^base64$", nullable = false)]
    pub encoding: Option<String>,
}

/// A stored message; one that came as JSON is the value that it is.
#[derive(ToSchema)]
pub(crate) struct Item {
    #[schema(minimum = 1)]
    pub seq: u64,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    #[schema(value_type = String, format = DateTime)]
    pub time: String,
    pub content_type: String,
    #[schema(value_type = Value)]
    pub message: serde_json::Value,
    #[schema(required = false, pattern = "^base64$", nullable = false)]
    pub encoding: Option<String>,
}

/// Messages in order.
#[derive(ToSchema)]
pub(crate) struct MessagePage {
    pub messages: Vec<Message>,
    /// The `after` of the next page; null where this one reaches the end.
    #[schema(required = true)]
    pub next: Option<u64>,
}

/// An error (RFC 9457). The types are stable: see the table of problems.
#[derive(ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    #[schema(example = "urn:skep:problem:message-not-found")]
    pub r#type: String,
    pub title: String,
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    pub detail: String,
}

/// A task that was put, or several.
#[derive(ToSchema)]
pub(crate) struct TaskPut {
    /// Of the task that was posted by itself.
    #[schema(required = false, format = "uuid", nullable = false)]
    pub id: Option<String>,
    /// Of those of an array, in its order.
    #[schema(required = false, nullable = false)]
    pub ids: Option<Vec<String>>,
}

/// A task.
#[derive(ToSchema)]
pub(crate) struct Task {
    #[schema(format = "uuid")]
    pub id: String,
    pub queue: String,
    pub kind: String,
    #[schema(pattern = "^(ready|due|active|done|dead|cancelled)$")]
    pub state: String,
    #[schema(maximum = 9)]
    pub priority: u8,
    /// Tries that failed.
    pub tries: u16,
    /// Workers that were lost with it.
    pub lost: u8,
    #[schema(value_type = String, format = DateTime)]
    pub put: String,
    /// Since when it is in its state.
    #[schema(value_type = String, format = DateTime)]
    pub since: String,
    #[schema(required = false, format = DateTime, nullable = false)]
    pub due: Option<String>,
    #[schema(required = false, nullable = false)]
    pub worker: Option<String>,
    #[schema(required = false, value_type = Value)]
    pub progress: Option<serde_json::Value>,
    #[schema(required = false, value_type = Value)]
    pub result: Option<serde_json::Value>,
    #[schema(required = false, nullable = false)]
    pub error: Option<String>,
}

/// Tasks that are put as a batch.
#[derive(ToSchema)]
pub(crate) struct BatchPut {
    /// As `POST /tasks` takes them.
    #[schema(min_items = 1, max_items = 1000)]
    pub tasks: Vec<serde_json::Value>,
    /// For how long it is known once it is over.
    #[schema(required = false, default = "1h", nullable = false)]
    pub keep: Option<String>,
}

/// Of what was put.
#[derive(ToSchema)]
pub(crate) struct Id {
    #[schema(format = "uuid")]
    pub id: String,
}

/// What has come of a batch.
#[derive(ToSchema)]
pub(crate) struct Batch {
    #[schema(format = "uuid")]
    pub id: String,
    /// All tasks of it, and what met others.
    pub total: u32,
    /// What met an unfinished task of the same unique key, and is not waited for.
    pub met: u32,
    pub unfinished: u32,
    pub done: u32,
    pub dead: u32,
    pub cancelled: u32,
    #[schema(value_type = String, format = DateTime)]
    pub put: String,
    /// Since when it is over.
    #[schema(required = false, format = DateTime, nullable = false)]
    pub ended: Option<String>,
    /// Of pages: from each URL that could not be looked at to the reason.
    #[schema(required = false, nullable = false)]
    pub errors: Option<std::collections::HashMap<String, String>>,
    pub tasks: Vec<BatchTask>,
}

/// What an id names.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum TaskOrBatch {
    Task(Task),
    Batch(Batch),
}

/// A task of a batch.
#[derive(ToSchema)]
pub(crate) struct BatchTask {
    /// Its place in what was posted, from 0.
    pub place: u32,
    #[schema(format = "uuid")]
    pub id: String,
    #[schema(pattern = "^(ready|due|active|done|dead|cancelled)$")]
    pub state: String,
}

/// Pages that are to be looked at for images.
#[derive(ToSchema)]
pub(crate) struct Crawl {
    /// With `http` or `https`; one that is there twice is one.
    #[schema(min_items = 1, max_items = 1000)]
    pub urls: Vec<String>,
}

/// How far it is.
#[derive(ToSchema)]
pub(crate) struct CrawlStatus {
    #[schema(format = "uuid")]
    pub id: String,
    /// URLs that were looked at, or could not be.
    pub completed: u32,
    /// URLs that are still to be looked at.
    pub inprogress: u32,
}

/// What a claim came to.
#[derive(ToSchema)]
pub(crate) struct ClaimedTasks {
    pub tasks: Vec<ClaimedTask>,
}

/// A task in its worker's hands.
#[derive(ToSchema)]
pub(crate) struct ClaimedTask {
    #[schema(format = "uuid")]
    pub id: String,
    /// Rises with each claim, over all tasks.
    #[schema(minimum = 1)]
    pub fence: u64,
    pub queue: String,
    pub kind: String,
    #[schema(value_type = Value)]
    pub payload: serde_json::Value,
    /// Which try it is.
    #[schema(minimum = 1)]
    pub r#try: u32,
    pub lost: u8,
    /// Seconds that the try may take.
    #[schema(required = true)]
    pub timeout: Option<f64>,
}

/// What is not the worker's any more.
#[derive(ToSchema)]
pub(crate) struct BeatAnswer {
    pub lost: Vec<u64>,
    /// What an operator wants of it: to claim nothing, or to go on.
    #[schema(required = false, pattern = "^(quiet|run)$", nullable = false)]
    pub say: Option<String>,
}

/// What a task is from here on.
#[derive(ToSchema)]
pub(crate) struct TaskEnded {
    #[schema(format = "uuid")]
    pub id: String,
    pub state: String,
}

/// All queues.
#[derive(ToSchema)]
pub(crate) struct Queues {
    pub queues: Vec<Queue>,
}

/// A queue.
#[derive(ToSchema)]
pub(crate) struct Queue {
    pub queue: String,
    pub paused: bool,
    #[schema(required = true)]
    pub length_max: Option<u32>,
    #[schema(required = true)]
    pub active_max: Option<u32>,
    #[schema(required = true)]
    pub per_key: Option<u32>,
    /// In seconds.
    pub key_pause: f64,
    pub ready: u32,
    /// Of the ready ones those that wait for others of their keys.
    pub aside: u32,
    pub due: u32,
    pub active: u32,
    pub dead: u32,
    pub put: u64,
    pub done: u64,
    pub failed: u64,
    pub lost: u64,
    pub died: u64,
    pub cancelled: u64,
    /// Since when the next task could be claimed.
    #[schema(required = true, format = DateTime)]
    pub oldest_ready: Option<String>,
}

/// A part of a queue's tasks.
#[derive(ToSchema)]
pub(crate) struct TaskList {
    pub tasks: Vec<ListedTask>,
    /// After which task the list goes on; null at its end.
    #[schema(required = true, format = "uuid")]
    pub after: Option<String>,
}

/// A task in a list.
#[derive(ToSchema)]
pub(crate) struct ListedTask {
    #[schema(inline = false)]
    #[serde(flatten)]
    pub task: Task,
    /// Null where it is let go: the task is finished.
    #[schema(required = true, value_type = Value)]
    pub payload: Option<serde_json::Value>,
    /// Its payload, or its result or error, is there but at other nodes alone: this one's disk has lost it.
    #[schema(required = false)]
    pub bytes_lost: bool,
}

/// How many tasks are changed.
#[derive(ToSchema)]
pub(crate) struct TasksChanged {
    pub changed: u64,
}

/// A part of the workers.
#[derive(ToSchema)]
pub(crate) struct WorkerList {
    pub workers: Vec<Worker>,
    /// After which worker the list goes on; null at its end.
    #[schema(required = true)]
    pub after: Option<String>,
}

/// A worker, and what it holds.
#[derive(ToSchema)]
pub(crate) struct Worker {
    pub worker: String,
    /// When it last claimed; null where it has not yet.
    #[schema(required = true, format = DateTime)]
    pub claimed: Option<String>,
    /// When it was last heard of; null where it was not within a lease's length, or where there is no leader.
    #[schema(required = true, format = DateTime)]
    pub beat: Option<String>,
    /// How many tasks it does at a time; null where it does not say.
    #[schema(required = true)]
    pub slots: Option<u32>,
    /// Null where it does not say.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Whether it claims nothing, or is to; null where it does not say.
    #[schema(required = true)]
    pub quiet: Option<bool>,
    pub holds: Vec<HeldTask>,
}

/// What a worker is to do.
#[derive(ToSchema)]
pub(crate) struct WorkerQuieted {
    pub worker: String,
    pub quiet: bool,
}

/// A task in a worker's hands.
#[derive(ToSchema)]
pub(crate) struct HeldTask {
    #[schema(format = "uuid")]
    pub id: String,
    #[schema(minimum = 1)]
    pub fence: u64,
    pub queue: String,
    pub kind: String,
    #[schema(value_type = String, format = DateTime)]
    pub since: String,
}
