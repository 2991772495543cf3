//! One task is done: by a program or by a server. Dropping the future stops it.

mod exec;
mod forward;

use std::time::Duration;

use http::Uri;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::api::Task;
use crate::client::Client;
use crate::config::How;

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
            Self::Done(_) => "done",
            Self::Failed { is_final: false, .. } => "failed",
            Self::Failed { is_final: true, .. } => "gave_up",
            Self::Later(_) => "later",
            Self::Stopped => "stopped",
        }
    }
}

/// Who does them.
#[derive(Debug)]
pub enum Doer {
    Exec(Vec<String>),
    Forward { to: Uri, client: Client },
}

impl Doer {
    pub fn new(how: &How) -> Self {
        match how {
            How::Exec(command) => Self::Exec(command.clone()),
            // The workers' token is for the cluster alone.
            How::Forward(to) => Self::Forward { to: to.clone(), client: Client::new(vec![to.clone()], None) },
        }
    }

    /// Has it done, until it is stopped or its try's time is over.
    pub async fn run(&self, task: &Task, stop: &CancellationToken) -> Outcome {
        let limit = (task.timeout > 0.0).then(|| Duration::try_from_secs_f64(task.timeout).ok()).flatten();
        match self {
            Self::Exec(command) => exec::run(command, task, limit, stop).await,
            Self::Forward { to, client } => {
                let done = forward::run(client, to, task, limit);
                tokio::select! {
                    outcome = done => outcome,
                    () = stop.cancelled() => Outcome::Stopped,
                }
            }
        }
    }
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
