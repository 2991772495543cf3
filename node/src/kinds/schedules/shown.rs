//! How schedules are shown, as JSON: what was set can be set again.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use skep_state::schedule::{HeldSchedule, Timing};
use skep_state::task::{NewTask, When};

use crate::kinds::tasks::shown::time;
use crate::service::schedules::Times;

/// A schedule in a list: all but what is put.
#[derive(Serialize)]
pub(super) struct ListedShown {
    name: String,
    queue: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    paused: bool,
    catch_up: bool,
    /// Since when it fires at these times.
    since: String,
    /// The time that comes next, or has come and is owed.
    next: Option<String>,
    last: Option<String>,
    last_task: Option<String>,
    fired: u64,
    met: u64,
    missed: u64,
    refused: u64,
    /// Why this program cannot read its times.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A schedule.
#[derive(Serialize)]
pub(super) struct ScheduleShown {
    #[serde(flatten)]
    listed: ListedShown,
    task: TemplateShown,
}

/// What is put, as it can be posted.
#[derive(Serialize)]
struct TemplateShown {
    queue: String,
    kind: String,
    payload: Option<Box<RawValue>>,
    priority: u8,
    delay: String,
    retries: u16,
    backoff: String,
    timeout: String,
    keep: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

fn span(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

impl ListedShown {
    pub(super) fn of(name: &str, held: &HeldSchedule) -> Self {
        let (schedule, task) = (&held.schedule, &held.schedule.task);
        let (cron, timezone, every) = match &schedule.timing {
            Timing::Cron { expression, zone } => (Some(expression.clone()), Some(zone.clone()), None),
            Timing::Every { ms } => (None, None, Some(span(*ms))),
        };
        let (times, error) = match Times::of(&schedule.timing, held.anchor_ms) {
            Ok(times) => (Some(times).filter(|_| !schedule.is_paused), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            name: name.to_owned(),
            queue: task.queue.clone(),
            kind: task.kind.clone(),
            cron,
            timezone,
            every,
            paused: schedule.is_paused,
            catch_up: schedule.catches_up,
            since: time(held.anchor_ms),
            next: times.and_then(|times| times.after(held.after_ms)).map(time),
            last: (held.last_ms > 0).then(|| time(held.last_ms)),
            last_task: held.last_task.map(|id| id.to_string()),
            fired: held.fires.fired,
            met: held.fires.met,
            missed: held.fires.missed,
            refused: held.fires.refused,
            error,
        }
    }
}

impl ScheduleShown {
    pub(super) fn of(name: &str, held: &HeldSchedule) -> Self {
        let NewTask { queue, kind, payload, priority, when, policy, unique, key } =
            held.schedule.task.clone();
        let delay_ms = match when {
            When::After { delay_ms } => delay_ms,
            When::At { .. } => 0,
        };
        let payload = String::from_utf8_lossy(&payload).into_owned();
        let task = TemplateShown {
            queue,
            kind,
            payload: RawValue::from_string(payload).ok(),
            priority,
            delay: span(delay_ms),
            retries: policy.retries,
            backoff: span(policy.backoff_ms),
            timeout: span(policy.timeout_ms),
            keep: span(policy.keep_ms),
            unique,
            key,
        };
        Self { listed: ListedShown::of(name, held), task }
    }
}
