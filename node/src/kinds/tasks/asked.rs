//! What clients and workers say of tasks, as JSON; an error names the member that is wrong, or its place.

mod span;
mod whole;
mod worker;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_state::task::{
    KEY_BYTES_MAX, KIND_BYTES_MAX, NewTask, PAYLOAD_BYTES_MAX, PRIORITIES, PUT_TASKS_MAX, Policy,
    QUEUE_BYTES_MAX, QueueSettings, RETRIES_MAX, UNIQUE_BYTES_MAX, WORKER_BYTES_MAX, When, is_queue,
    is_worker,
};

use crate::http::problem::{Problem, ProblemKind};
use crate::http::query;
pub(crate) use span::Span;
pub(crate) use worker::{BeatAsked, ClaimAsked, EndAsked, QuietAsked};

/// Longest that a claim, or a reader of one task, waits.
pub(crate) const WAIT_MS_MAX: u64 = 60_000;

const PRIORITY: u8 = 5;
const RETRIES: u16 = 5;
const BACKOFF_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 300_000;
const KEEP_MS: u64 = 60_000;
const BATCH_KEEP_MS: u64 = 3_600_000;

/// A task as it is posted.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskAsked<'a> {
    #[serde(borrow)]
    queue: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "whole::some")]
    priority: Option<u8>,
    delay: Option<Span>,
    #[serde(borrow, default)]
    at: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "whole::some")]
    retries: Option<u16>,
    backoff: Option<Span>,
    timeout: Option<Span>,
    keep: Option<Span>,
    #[serde(borrow, default)]
    unique: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
}

/// One task, or several.
pub(crate) enum PutAsked {
    One(NewTask),
    Many(Vec<NewTask>),
}

/// The tasks of a body.
pub(crate) fn put(body: &[u8]) -> Result<PutAsked, Problem> {
    let text = text(body)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(PutAsked::One(parse::<TaskAsked<'_>>(text)?.task()?));
    }
    let asked: Vec<TaskAsked<'_>> = parse(text)?;
    if let Some(number) = asked.iter().position(|asked| asked.unique.is_some()) {
        return Err(invalid(format!("task {number}: unique is for a task by itself, or in a batch")));
    }
    Ok(PutAsked::Many(many(asked)?))
}

/// Tasks that are one batch, as they are posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchAsked<'a> {
    #[serde(borrow)]
    tasks: Vec<TaskAsked<'a>>,
    keep: Option<Span>,
}

/// The tasks of a batch, and for how many milliseconds it is known once it is over.
pub(crate) fn batch(body: &[u8]) -> Result<(Vec<NewTask>, u64), Problem> {
    let BatchAsked { tasks, keep } = parse(text(body)?)?;
    Ok((many(tasks)?, keep.map_or(BATCH_KEEP_MS, |keep| keep.0)))
}

fn many(asked: Vec<TaskAsked<'_>>) -> Result<Vec<NewTask>, Problem> {
    if !(1..=PUT_TASKS_MAX).contains(&asked.len()) {
        return Err(invalid(format!("{} tasks; expected 1 to {PUT_TASKS_MAX}", asked.len())));
    }
    let numbered = asked.into_iter().enumerate();
    let tasks = numbered.map(|(number, asked)| {
        asked.task().map_err(|problem| invalid(format!("task {number}: {}", problem.detail)))
    });
    tasks.collect()
}

/// Any JSON value as the payload of a task of a queue.
pub(crate) fn put_any(queue: &str, body: &[u8]) -> Result<NewTask, Problem> {
    let payload: &RawValue = parse(text(body)?)?;
    let asked = TaskAsked {
        queue: queue.into(),
        kind: None,
        payload: Some(payload),
        priority: None,
        delay: None,
        at: None,
        retries: None,
        backoff: None,
        timeout: None,
        keep: None,
        unique: None,
        key: None,
    };
    asked.task()
}

impl TaskAsked<'_> {
    pub(crate) fn task(self) -> Result<NewTask, Problem> {
        let queue = queue_name(&self.queue)?.to_owned();
        let ms = |span: Option<Span>, default| span.map_or(default, |span| span.0);
        let when = match (self.delay, self.at) {
            (Some(_), Some(_)) => return Err(invalid("delay and at: give one of them")),
            (None, Some(at)) => When::At {
                time_ms: query::time_ms("at", &at).map_err(|problem| invalid(problem.detail.into_owned()))?,
            },
            (delay, None) => When::After { delay_ms: ms(delay, 0) },
        };
        let task = NewTask {
            kind: self.kind.map_or_else(|| queue.clone(), Cow::into_owned),
            queue,
            payload: Bytes::copy_from_slice(self.payload.map_or("null", RawValue::get).as_bytes()),
            priority: self.priority.unwrap_or(PRIORITY),
            when,
            policy: Policy {
                retries: self.retries.unwrap_or(RETRIES),
                backoff_ms: ms(self.backoff, BACKOFF_MS),
                timeout_ms: ms(self.timeout, TIMEOUT_MS),
                keep_ms: ms(self.keep, KEEP_MS),
            },
            unique: self.unique.map(Cow::into_owned),
            key: self.key.map(Cow::into_owned),
        };
        let len = |key: &Option<String>| key.as_ref().map_or(1, String::len);
        let wrong = [
            (task.kind.len() > KIND_BYTES_MAX, format!("kind: expected at most {KIND_BYTES_MAX} bytes")),
            (
                task.payload.len() > PAYLOAD_BYTES_MAX,
                format!("payload: {} bytes; expected at most {PAYLOAD_BYTES_MAX}", task.payload.len()),
            ),
            (
                usize::from(task.priority) >= PRIORITIES,
                format!("priority: expected 0 to {}, the most urgent", PRIORITIES - 1),
            ),
            (task.policy.retries > RETRIES_MAX, format!("retries: expected at most {RETRIES_MAX}")),
            (
                !(1..=UNIQUE_BYTES_MAX).contains(&len(&task.unique)),
                format!("unique: expected 1 to {UNIQUE_BYTES_MAX} bytes"),
            ),
            (
                !(1..=KEY_BYTES_MAX).contains(&len(&task.key)),
                format!("key: expected 1 to {KEY_BYTES_MAX} bytes"),
            ),
            (!task.is_bounded(), "the task is beyond its bounds".to_owned()),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, detail)) => Err(invalid(detail)),
            None => Ok(task),
        }
    }
}

/// What an operator sets of a queue; what is not given is as at first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueAsked {
    #[serde(default)]
    pub paused: bool,
    #[serde(default, deserialize_with = "whole::some")]
    pub length_max: Option<u32>,
    #[serde(default, deserialize_with = "whole::some")]
    pub active_max: Option<u32>,
    #[serde(default, deserialize_with = "whole::some")]
    pub per_key: Option<u32>,
    pub key_pause: Option<Span>,
}

impl QueueAsked {
    pub(crate) fn settings(&self, queue: &str) -> Result<QueueSettings, Problem> {
        let first = QueueSettings::of(queue);
        let settings = QueueSettings {
            paused: self.paused,
            length_max: self.length_max.unwrap_or(first.length_max),
            active_max: self.active_max.unwrap_or(first.active_max),
            per_key: self.per_key.unwrap_or(first.per_key),
            key_pause_ms: self.key_pause.map_or(first.key_pause_ms, |pause| pause.0),
        };
        settings.is_bounded().then_some(settings).ok_or_else(|| invalid("per_key: expected at least 1"))
    }
}

pub(crate) fn queue_name(name: &str) -> Result<&str, Problem> {
    is_queue(name).then_some(name).ok_or_else(|| {
        invalid(format!(
            "queue: expected 1 to {QUEUE_BYTES_MAX} letters, digits, dots, hyphens and underscores"
        ))
    })
}

pub(crate) fn worker_name(name: &str) -> Result<&str, Problem> {
    is_worker(name).then_some(name).ok_or_else(|| {
        invalid(format!("worker: expected 1 to {WORKER_BYTES_MAX} visible ASCII characters, no slash"))
    })
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => invalid(error.to_string()),
        _ => Problem::new(ProblemKind::InvalidJson, error.to_string()),
    })
}

pub(crate) fn text(body: &[u8]) -> Result<&str, Problem> {
    if body.is_empty() {
        return Err(Problem::new(ProblemKind::EmptyBody, "expected JSON"));
    }
    std::str::from_utf8(body).map_err(Problem::invalid_utf8)
}

/// The text of an object: serde would take its members in an array as well.
pub(crate) fn object(body: &[u8]) -> Result<&str, Problem> {
    let text = text(body)?;
    match text.trim_ascii_start().starts_with('[') {
        true => Err(invalid("expected an object")),
        false => Ok(text),
    }
}

pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(ProblemKind::InvalidTask, detail)
}

#[cfg(test)]
mod tests {
    use skep_state::task::ERROR_BYTES_MAX;

    use super::*;

    fn one(text: &str) -> Result<NewTask, String> {
        match put(text.as_bytes()) {
            Ok(PutAsked::One(task)) => Ok(task),
            Ok(PutAsked::Many(_)) => Err("several".into()),
            Err(problem) => Err(problem.detail.into_owned()),
        }
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let task = one(r#"{"payload": {"b": 1.50, "a":[1e400]} ,"queue":"q"}"#).unwrap();
        assert_eq!(task.payload, r#"{"b": 1.50, "a":[1e400]}"#);
        assert_eq!(
            (task.kind.as_str(), one(r#"{"queue":"q"}"#).unwrap().payload.as_ref()),
            ("q", &b"null"[..])
        );
        assert_eq!(put_any("q", b" [1, 2]\n").unwrap().payload, "[1, 2]");
    }

    #[test]
    fn times_are_words_or_seconds() {
        for (text, ms) in [("\"1m 30s\"", 90_000), ("2", 2_000), ("0.5", 500), ("\"0s\"", 0)] {
            let task = one(&format!(r#"{{"queue":"q","delay":{text}}}"#)).unwrap();
            assert_eq!(task.when, When::After { delay_ms: ms }, "{text}");
        }
        let task = one(r#"{"queue":"q","at":"2026-11-21T03:10:00Z"}"#).unwrap();
        assert_eq!(task.when, When::At { time_ms: 1_795_230_600_000 });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (r#"{}"#, "queue"),
            (r#"{"queue":"a b"}"#, "queue"),
            (r#"{"queue":"q","priority":10}"#, "priority"),
            (r#"{"queue":"q","priority":-1}"#, "-1"),
            (r#"{"queue":"q","delay":-1}"#, "below 0"),
            (r#"{"queue":"q","delay":"soon"}"#, "soon"),
            (r#"{"queue":"q","delay":1e300}"#, "year"),
            (r#"{"queue":"q","delay":1,"at":"2026-11-21T03:10:00Z"}"#, "delay and at"),
            (r#"{"queue":"q","at":"tomorrow"}"#, "tomorrow"),
            (r#"{"queue":"q","unique":""}"#, "unique"),
            (r#"{"queue":"q","key":""}"#, "key"),
            (r#"{"queue":"q","retries":1001}"#, "retries"),
            (r#"{"queue":"q","then":[]}"#, "then"),
            (r#"[]"#, "0 tasks"),
            (r#"[{"queue":"q"},{"queue":""}]"#, "task 1: queue"),
            (r#"[{"queue":"q","unique":"u"}]"#, "task 0: unique"),
        ] {
            let detail = one(text).unwrap_err();
            assert!(detail.contains(named), "{text}: {detail}");
        }
        let large = format!(r#"{{"queue":"q","payload":"{}"}}"#, "x".repeat(PAYLOAD_BYTES_MAX));
        assert!(one(&large).unwrap_err().contains("payload"));
    }

    #[test]
    fn an_error_that_is_too_long_is_cut_between_characters() {
        let body = format!(r#"{{"fence":1,"error":"a{}"}}"#, "é".repeat(ERROR_BYTES_MAX));
        let error = EndAsked::parse(body.as_bytes(), &["error"]).unwrap().error();
        assert_eq!(error.len(), ERROR_BYTES_MAX - 1);
        assert!(EndAsked::parse(body.as_bytes(), &["result"]).is_err());
    }
}
