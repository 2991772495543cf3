//! One task is done: by a program, by a server or by the crawler.
//!
//! How a built-in is added: a module under `doing/` whose value lives as long as the worker, a variant of
//! [`How`] with what it is told (`config`), a variant of [`Doer`] that holds the value, and an arm in
//! [`Doer::new`], which may count what it does in the registry, and in [`Doer::run`], by [`within`]. It has
//! `async fn run(&self, task: &Task) -> Outcome` and knows nothing of claims, beats and ends. Its future is
//! dropped at any await where the task is another's, the worker ends or the try takes too long; so what it
//! began has to end with it. Its results are at most [`RESULT_BYTES_MAX`] long ([`result`] sees to it), its
//! errors [`ERROR_BYTES_MAX`] ([`end_of`]).

mod crawl;
mod exec;
mod forward;

use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::api::{Follow, Task};
use crate::config::How;
use crawl::Crawl;
use forward::Forward;

/// Largest result, in bytes: as much as a node takes.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;
/// Longest error that is told, in bytes.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// Before one comes back that is not to be done now, where nobody says when.
const LATER: Duration = Duration::from_secs(5);

/// What came of a task.
#[derive(Debug)]
pub enum Outcome {
    Done(Box<RawValue>),
    /// The same, and a task that goes on from it.
    DoneBefore(Box<RawValue>, Follow),
    Failed {
        error: String,
        /// No try would help.
        is_final: bool,
    },
    /// It is to come back, and no try is counted.
    Later(Duration),
    /// It was stopped.
    Stopped,
}

impl Outcome {
    fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), is_final: false }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) | Self::DoneBefore(..) => "done",
            Self::Failed { is_final: false, .. } => "failed",
            Self::Failed { is_final: true, .. } => "gave_up",
            Self::Later(_) => "later",
            Self::Stopped => "stopped",
        }
    }
}

/// Who does them: one value for all of a worker's tasks.
#[derive(Debug)]
pub enum Doer {
    Exec(Vec<String>),
    Forward(Box<Forward>),
    Crawl(Box<Crawl>),
}

impl Doer {
    /// `counted` is where a built-in may register what it counts.
    pub fn new(how: &How, counted: &mut Registry) -> anyhow::Result<Self> {
        Ok(match how {
            How::Exec(command) => {
                exec::keep_descriptors().context("/proc/self/fd")?;
                // A program of the same user reads nothing of this process, as the token in its environment.
                set_dumpable_behavior(DumpableBehavior::NotDumpable).context("PR_SET_DUMPABLE")?;
                Self::Exec(command.clone())
            }
            How::Forward(to) => Self::Forward(Box::new(Forward::new(to.clone()))),
            How::Crawl(config) => Self::Crawl(Box::new(Crawl::new(config, counted)?)),
        })
    }

    /// Has it done, until it is stopped or its try's time is over.
    pub async fn run(&self, task: &Task, stop: &CancellationToken) -> Outcome {
        match self {
            Self::Exec(command) => exec::run(command, task, stop).await,
            Self::Forward(forward) => within(task, stop, forward.run(task)).await,
            Self::Crawl(crawl) => within(task, stop, crawl.run(task)).await,
        }
    }
}

/// Drops what does a task where it is stopped or its try's time is over.
async fn within(task: &Task, stop: &CancellationToken, done: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        outcome = done => outcome,
        () = stop.cancelled() => Outcome::Stopped,
        () = over(task) => Outcome::failed(took_too_long(task)),
    }
}

/// Returns once a try that begins now has taken too long.
async fn over(task: &Task) {
    match task.limit() {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn took_too_long(task: &Task) -> String {
    format!("it took longer than {} s", task.timeout.unwrap_or_default())
}

/// Bytes as a result: JSON where they are that, else a string; nothing is null.
fn result(bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let text = if text.is_empty() { "null" } else { text };
    let raw = RawValue::from_string(text.to_owned())
        .or_else(|_| serde_json::to_string(text).and_then(RawValue::from_string));
    match raw {
        // A string may be longer as JSON than it was.
        Ok(raw) if raw.get().len() <= RESULT_BYTES_MAX => Outcome::Done(raw),
        Ok(_) => too_large(),
        Err(error) => Outcome::failed(format!("the result is no text: {error}")),
    }
}

fn too_large() -> Outcome {
    Outcome::failed(format!("the result is larger than {RESULT_BYTES_MAX} bytes"))
}

/// The end of a text, for it says why.
fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(ERROR_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_is_taken_as_it_is_and_all_else_is_a_string() {
        for (bytes, expected) in [
            (&b" {\"a\": 1.0}\n"[..], "{\"a\": 1.0}"),
            (b"sent\n", "\"sent\""),
            (b"", "null"),
            (b"a \"b\"", "\"a \\\"b\\\"\""),
            (b"\xff", "\"\u{fffd}\""),
        ] {
            let Outcome::Done(raw) = result(bytes) else { panic!("{bytes:?}") };
            assert_eq!(raw.get(), expected);
        }
        assert!(matches!(result(&[b'"'; RESULT_BYTES_MAX]), Outcome::Failed { is_final: false, .. }));
    }

    #[test]
    fn of_a_long_error_the_end_is_told() {
        let text = "é".repeat(ERROR_BYTES_MAX);
        assert_eq!(end_of(&text).len(), ERROR_BYTES_MAX);
        assert_eq!(end_of("short"), "short");
    }
}
