//! The shapes of schedules of tasks, as they are shown.

use utoipa::ToSchema;

/// All schedules.
#[derive(ToSchema)]
pub(crate) struct ScheduleList {
    pub schedules: Vec<ListedSchedule>,
}

/// A schedule, but for what it puts.
#[derive(ToSchema)]
pub(crate) struct ListedSchedule {
    pub name: String,
    pub queue: String,
    pub kind: String,
    #[schema(required = false, nullable = false)]
    pub cron: Option<String>,
    #[schema(required = false, nullable = false)]
    pub timezone: Option<String>,
    /// In words, as `1m 30s`.
    #[schema(required = false, nullable = false)]
    pub every: Option<String>,
    pub paused: bool,
    pub catch_up: bool,
    /// Since when it fires at these times.
    #[schema(value_type = String, format = DateTime)]
    pub since: String,
    /// The time that comes next, or has come and is owed; null where it does not fire.
    #[schema(required = true, format = DateTime)]
    pub next: Option<String>,
    /// The time of the last fire.
    #[schema(required = true, format = DateTime)]
    pub last: Option<String>,
    /// What it put, or met.
    #[schema(required = true, format = "uuid")]
    pub last_task: Option<String>,
    /// Fires that put a task.
    pub fired: u64,
    /// Fires that met an unfinished task of the same unique key.
    pub met: u64,
    /// Fires that never were.
    pub missed: u64,
    /// Tries for whose tasks there was no room.
    pub refused: u64,
    /// Why its times cannot be read by this version, which does not fire it.
    #[schema(required = false, nullable = false)]
    pub error: Option<String>,
}

/// A schedule.
#[derive(ToSchema)]
pub(crate) struct Schedule {
    #[schema(inline = false)]
    #[serde(flatten)]
    pub listed: ListedSchedule,
    pub task: ScheduledTask,
}

/// What is put, as it can be posted.
#[derive(ToSchema)]
pub(crate) struct ScheduledTask {
    pub queue: String,
    pub kind: String,
    #[schema(value_type = Value)]
    pub payload: serde_json::Value,
    #[schema(maximum = 9)]
    pub priority: u8,
    pub delay: String,
    pub retries: u16,
    pub backoff: String,
    pub timeout: String,
    pub keep: String,
    #[schema(required = false, nullable = false)]
    pub unique: Option<String>,
    #[schema(required = false, nullable = false)]
    pub key: Option<String>,
}

/// What was taken out.
#[derive(ToSchema)]
pub(crate) struct ScheduleRemoved {
    pub removed: String,
}
