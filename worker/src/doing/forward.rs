//! A task is done by a server: its payload is posted there, and the answer is its result.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};

use super::{LATER, Outcome, RESULT_BYTES_MAX, end_of, result, too_large};
use crate::api::Task;
use crate::client::Client;

/// For a task that may take any time.
const LIMIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest time after which a server may have a task come back.
const LATER_MAX: Duration = Duration::from_secs(3600);

/// The server.
#[derive(Debug)]
pub struct Forward {
    to: Uri,
    client: Client,
}

impl Forward {
    pub fn new(to: Uri) -> Self {
        // The workers' token is for the cluster alone.
        Self { client: Client::new(vec![to.clone()], None, None), to }
    }

    pub async fn run(&self, task: &Task) -> Outcome {
        let body = Bytes::copy_from_slice(task.payload.get().as_bytes());
        let limit = task.limit().unwrap_or(LIMIT_MAX);
        let answer = match self.client.send(self.to.clone(), body, headers(task), limit).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        let said = || format!("{}: {}", answer.status, end_of(String::from_utf8_lossy(&answer.body).trim()));
        match answer.status {
            status if status.is_success() && answer.body.len() > RESULT_BYTES_MAX => too_large(),
            status if status.is_success() => result(&answer.body),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Outcome::Later(answer.retry_after().unwrap_or(LATER).min(LATER_MAX))
            }
            // It has understood the task, and says that nothing can come of it. Any other refusal may be a
            // mistake of who runs the server, and shall not cost all tasks.
            StatusCode::UNPROCESSABLE_ENTITY => Outcome::Failed { error: said(), is_final: true },
            _ => Outcome::failed(said()),
        }
    }
}

fn headers(task: &Task) -> HeaderMap {
    let numbers = [
        (HeaderName::from_static("skep-task-try"), u64::from(task.try_number)),
        (HeaderName::from_static("skep-task-lost"), u64::from(task.lost)),
        (HeaderName::from_static("skep-task-fence"), task.fence),
    ];
    let words = [
        (HeaderName::from_static("skep-task-id"), &task.id),
        (HeaderName::from_static("skep-task-queue"), &task.queue),
        (HeaderName::from_static("skep-task-kind"), &task.kind),
    ];
    let mut headers: HeaderMap =
        numbers.map(|(name, number)| (name, HeaderValue::from(number))).into_iter().collect();
    headers
        .extend(words.into_iter().filter_map(|(name, word)| Some((name, HeaderValue::from_str(word).ok()?))));
    headers
}
