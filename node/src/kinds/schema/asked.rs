//! The shapes of what is asked of tasks: what stands beside these members is refused.

use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

/// A task, or several at once: all of them, or none.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum PutTasks {
    One(PutTask),
    Many(Vec<PutTask>),
}

/// What a queue is called.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "mail")]
pub(crate) struct QueueName(String);

/// A task that is to be done.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutTask {
    pub queue: QueueName,
    /// What is to be done, as its worker understands it; the queue's name by default.
    #[schema(required = false, max_length = 128, nullable = false)]
    pub kind: Option<String>,
    /// What its worker is given, byte for byte: up to 256 KiB.
    #[schema(required = false, value_type = Value)]
    pub payload: Option<serde_json::Value>,
    /// 9 is the most urgent.
    #[schema(required = false, maximum = 9, default = 5)]
    pub priority: u8,
    /// For how long it waits; not beside `at`.
    #[schema(required = false, inline)]
    pub delay: Span,
    /// Until when it waits; not beside `delay`.
    #[schema(required = false, format = DateTime, nullable = false)]
    pub at: Option<String>,
    /// Tries after the first.
    #[schema(required = false, maximum = 1000, default = 5)]
    pub retries: u16,
    /// Before the first retry; twice as long before each further one, up to an hour. 5 s by default.
    #[schema(required = false, inline)]
    pub backoff: Span,
    /// How long a try may take; 0 is any time. 5 minutes by default.
    #[schema(required = false, inline)]
    pub timeout: Span,
    /// For how long what came of it is known. A minute by default.
    #[schema(required = false, inline)]
    pub keep: Span,
    /// While an unfinished task of the queue has this key, no second one is put; for one by itself.
    #[schema(required = false, min_length = 1, max_length = 256, nullable = false)]
    pub unique: Option<String>,
    /// Where the queue has `per_key`, so many tasks of one key are active at once.
    #[schema(required = false, min_length = 1, max_length = 256, nullable = false)]
    pub key: Option<String>,
}

/// A length of time: words, as `1m 30s`, or seconds.
pub(crate) struct Span;

impl PartialSchema for Span {
    fn schema() -> RefOr<Schema> {
        let words = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9]{1,4}(ms|s|m)( [0-9]{1,4}(ms|s|m)){0,2}$"))
            .examples(["5s"]);
        let seconds =
            ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(366 * 24 * 3600));
        let either = OneOfBuilder::new().item(words).item(seconds);
        RefOr::T(schema::Schema::OneOf(either.build()))
    }
}

impl ToSchema for Span {}

/// A worker's claim.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskClaim {
    #[schema(pattern = "^[!-.0-~]{1,128}$")]
    pub worker: String,
    #[schema(minimum = 1)]
    pub number: u64,
    /// In the order of preference.
    #[schema(min_items = 1, max_items = 16)]
    pub queues: Vec<QueueName>,
    #[schema(required = false, minimum = 1, maximum = 32, default = 1)]
    pub max: u32,
    /// At most a minute; 30 s by default.
    #[schema(required = false, inline)]
    pub wait: Span,
    #[schema(required = false, max_items = 128)]
    pub holds: Vec<u64>,
}

/// What a worker holds.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beat {
    #[schema(required = false, max_items = 128)]
    pub holds: Vec<u64>,
    /// The number of its newest stream, where it has one.
    #[schema(required = false, default = 0)]
    pub stream: u64,
    /// How many tasks it does at a time.
    #[schema(required = false, minimum = 1, maximum = 2147483647u32, nullable = false)]
    pub slots: Option<u32>,
    /// Of its program.
    #[schema(required = false, pattern = "^[!-~]{1,32}$", nullable = false)]
    pub version: Option<String>,
    /// Whether it claims nothing at present.
    #[schema(required = false, nullable = false)]
    pub quiet: Option<bool>,
}

/// What an operator wants of a worker.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuietWorker {
    /// To claim nothing from here on, or to go on.
    pub quiet: bool,
}

/// A task is done.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteTask {
    pub fence: u64,
    /// Up to 256 KiB.
    #[schema(required = false, value_type = Value)]
    pub result: Option<serde_json::Value>,
    /// What is put with the end.
    #[schema(required = false, max_items = 32)]
    pub follow: Vec<PutTask>,
}

/// A try has failed.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailTask {
    pub fence: u64,
    /// Of more than 4 KiB the beginning.
    #[schema(required = false, nullable = false)]
    pub error: Option<String>,
    /// No retry.
    #[schema(required = false, default = false)]
    pub r#final: bool,
}

/// A task goes back.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseTask {
    pub fence: u64,
}

/// A task comes back later.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnoozeTask {
    pub fence: u64,
    #[schema(inline)]
    pub delay: Span,
}

/// How far a task is.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskProgress {
    pub fence: u64,
    /// Up to 1 KiB.
    #[schema(required = false, value_type = Value)]
    pub progress: Option<serde_json::Value>,
}

/// What is set of a queue.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSettings {
    #[schema(required = false, default = false)]
    pub paused: bool,
    pub length_max: Option<u32>,
    pub active_max: Option<u32>,
    /// How many tasks of one key are active at once.
    #[schema(minimum = 1)]
    pub per_key: Option<u32>,
    /// How long a key has rest between two; none by default.
    #[schema(required = false, inline)]
    pub key_pause: Span,
}

/// A schedule of tasks.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetSchedule {
    /// What is put at each fire: at no time of its own (`at`). With the times, up to 64 KiB.
    pub task: PutTask,
    /// Minute, hour, day of month, month and day of week; not beside `every`.
    #[schema(
        required = false,
        min_length = 9,
        max_length = 256,
        nullable = false,
        example = "0 3 * * mon-fri"
    )]
    pub cron: Option<String>,
    /// By whose clocks, as the IANA database calls it; for `cron`.
    #[schema(required = false, max_length = 64, nullable = false, default = "UTC")]
    pub timezone: Option<String>,
    /// How far apart, at least a second; not beside `cron`.
    #[schema(required = false, inline)]
    pub every: Span,
    /// It does not fire.
    #[schema(required = false, default = false)]
    pub paused: bool,
    /// What was missed is made up for, once; else what is more than a minute late is not.
    #[schema(required = false, default = true)]
    pub catch_up: bool,
}
