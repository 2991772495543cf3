//! Says what came of a task, until a node has heard.
//!
//! An end may be said again: its fence makes it one. It is given up where the task is another's, or nobody's
//! any more.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::api::{Complete, Fail, Release, Snooze, Task};
use crate::claims::Pauses;
use crate::doing::Outcome;
use crate::held::Stopped;
use crate::run::Worker;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a node has heard of it.
pub async fn end(worker: &Worker, task: &Task, outcome: &Outcome) -> bool {
    let fence = task.fence;
    match outcome {
        Outcome::Done(result) => match say(worker, task, "complete", &Complete { fence, result }).await {
            // Else it would be done again and again.
            Said::Refused(why) => {
                let error = format!("the result was refused: {why}");
                let fail = Fail { fence, error: &error, is_final: true };
                matches!(say(worker, task, "fail", &fail).await, Said::Heard)
            }
            said => matches!(said, Said::Heard),
        },
        Outcome::Failed { error, is_final } => {
            let fail = Fail { fence, error, is_final: *is_final };
            matches!(say(worker, task, "fail", &fail).await, Said::Heard)
        }
        Outcome::Later(delay) => {
            let snooze = Snooze { fence, delay: delay.as_secs_f64() };
            matches!(say(worker, task, "snooze", &snooze).await, Said::Heard)
        }
        Outcome::Stopped => matches!(say(worker, task, "release", &Release { fence }).await, Said::Heard),
    }
}

/// What became of saying so.
enum Said {
    Heard,
    /// It is of no use to anybody.
    Late,
    Refused(String),
}

async fn say(worker: &Worker, task: &Task, how: &str, body: &impl Serialize) -> Said {
    let path = format!("/tasks/{}/{how}", task.id);
    let mut pauses = Pauses::default();
    loop {
        if worker.held.why_stopped(task.fence) == Some(Stopped::Lost) {
            return Said::Late;
        }
        let answer = worker.client.post(&path, body, ANSWER_TIMEOUT).await;
        let (why, after) = match answer {
            Ok(answer) if answer.status.is_success() => {
                worker.heard();
                return Said::Heard;
            }
            Ok(answer) => match answer.status {
                StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::GONE => {
                    tracing::warn!(task = task.id, "{how}: {}", answer.detail());
                    return Said::Late;
                }
                StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY => {
                    return Said::Refused(answer.detail());
                }
                _ => (answer.detail(), answer.retry_after()),
            },
            Err(error) => (error.to_string(), None),
        };
        worker.metrics.request_failures.inc();
        tracing::warn!(task = task.id, "{how}: {why}");
        tokio::time::sleep(pauses.next(after)).await;
    }
}
