//! Says what came of a task, until a node has heard.
//!
//! An end may be said again: its fence makes it one. It is given up where a node says that the task is
//! another's, or has ended otherwise.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::api::{Complete, Fail, Release, Snooze, Task};
use crate::doing::Outcome;
use crate::held::{Slot, Stopped};
use crate::pauses::Pauses;
use crate::worker::Worker;

/// Longer than a node waits for a leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether it counts.
pub async fn end(worker: &Worker, task: &Task, slot: &Slot<'_>, outcome: &Outcome) -> bool {
    let fence = task.fence;
    let said = match outcome {
        Outcome::Done(result) => {
            say(worker, task, "complete", &Complete { fence, result, follow: &[] }).await
        }
        Outcome::DoneBefore(result, follow) => {
            let follow = std::slice::from_ref(follow);
            say(worker, task, "complete", &Complete { fence, result, follow }).await
        }
        Outcome::Failed { error, is_final } => {
            say(worker, task, "fail", &Fail { fence, error, is_final: *is_final }).await
        }
        Outcome::Later(delay) => {
            say(worker, task, "snooze", &Snooze { fence, delay: delay.as_secs_f64() }).await
        }
        Outcome::Stopped if slot.why_stopped() == Some(Stopped::Lost) => Said::Late,
        // Also where nobody was heard of: if the fence still is the task's, no loss is counted.
        Outcome::Stopped => say(worker, task, "release", &Release { fence }).await,
    };
    let said = match said {
        // Else it would be done again and again. A result that is refused once is refused each time.
        Said::Refused(why) => {
            let error = format!("what came of it was refused: {why}");
            // A node of another version may not know of what follows.
            let is_final = matches!(outcome, Outcome::Done(_));
            say(worker, task, "fail", &Fail { fence, error: &error, is_final }).await
        }
        said => said,
    };
    matches!(said, Said::Heard)
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
        let (why, after) = match worker.client.post(&path, body, ANSWER_TIMEOUT).await {
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
                    tracing::warn!(task = task.id, "{how}: {}", answer.detail());
                    return Said::Refused(answer.detail());
                }
                _ => (answer.detail(), answer.retry_after()),
            },
            Err(error) => (error.to_string(), None),
        };
        worker.failed(&why);
        if pauses.is_first() {
            tracing::warn!(task = task.id, "{how}: {why}; it is said until a node has heard");
        }
        tokio::time::sleep(pauses.next(after)).await;
    }
}
