//! The routes that every program's admin address has, and the forms of what others answer with.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 `live` while the process runs |
//! | `GET /readyz` | 200 `ready`, or 503 with the reason in `detail` |
//! | `GET /metrics` | the metrics, in the form that `Accept` wants |

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::metrics::{self, Form};
use crate::problem::{Problem, ProblemKind};

/// An answer that is there as a whole.
pub type Answer = Response<Full<Bytes>>;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `GET /livez`.
pub fn live() -> Answer {
    state("live", Ok::<_, &str>(()))
}

/// `GET /readyz`.
pub fn ready(is: Result<(), impl Into<Cow<'static, str>>>) -> Answer {
    state("ready", is)
}

/// The program's word where the state is as the word says, or a problem that says why it is not.
pub fn state(word: &str, is: Result<(), impl Into<Cow<'static, str>>>) -> Answer {
    match is {
        Ok(()) => fresh(TEXT, format!("{word}\n")),
        Err(reason) => Problem::new(ProblemKind::NotReady, reason).answer(),
    }
}

/// `GET /metrics`.
pub fn metrics(request: &HeaderMap, registry: &Registry) -> Answer {
    let form = Form::wanted(request);
    match metrics::encode(registry, form) {
        Ok(text) => {
            let mut answer = fresh(form.media_type(), text);
            answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
            answer
        }
        Err(error) => internal(&error),
    }
}

/// A value as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(json) => fresh(JSON, json),
        Err(error) => internal(&error),
    }
}

/// What is true now, and perhaps not any more in a moment.
pub fn fresh(content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn internal(error: &dyn std::fmt::Display) -> Answer {
    Problem::new(ProblemKind::Internal, error.to_string()).answer()
}
