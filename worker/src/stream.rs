//! Shows that the worker lives, by an answer without an end: where this process dies its kernel closes the
//! connection, and what it had is another's within seconds, not after a lease. It may be dropped at any await.
//!
//! A help, and no need: nodes of the version before have none. Where one ends for another reason a beat says so
//! at once, and the next one is opened.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::worker::Worker;

const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A node writes more often: from one that does not for so long nothing more is expected.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Before the next is opened: after one that ended, after one that was not had, and where there are none.
const AGAIN: Duration = Duration::from_millis(100);
const NOT_HAD: Duration = Duration::from_secs(1);
const NONE_THERE: Duration = Duration::from_secs(60);

/// Has one open until it is dropped.
pub async fn stay(worker: &Worker) {
    let path = format!("/workers/{}/stream", worker.name);
    loop {
        let pause = match worker.client.open(&path, OPEN_TIMEOUT).await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                worker.metrics.streams.inc();
                until_end(answer.into_body()).await;
                worker.metrics.streams.dec();
                // Else its end is taken for the worker's.
                worker.beat_now.notify_one();
                AGAIN
            }
            Ok(answer)
                if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) =>
            {
                NONE_THERE
            }
            Ok(_) | Err(_) => NOT_HAD,
        };
        sleep(pause).await;
    }
}

/// Nothing of it is kept.
async fn until_end(mut stream: Incoming) {
    while let Ok(Some(Ok(_))) = timeout(SILENCE_MAX, stream.frame()).await {}
}
