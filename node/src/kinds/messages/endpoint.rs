//! `POST /endpoint/` takes any JSON value, `GET /endpoint/` lists everything that is stored.
//!
//! The list is written as it is read, piece by piece: however many messages there are, it costs two
//! pieces of memory. The next piece is read while the last one is on its way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, VARY};
use tokio_util::task::AbortOnDropHandle;

use super::entry::{self, Form};
use super::stored;
use super::{body, idempotency};
use crate::http::account::Charge;
use crate::http::headers::{JSON, NDJSON};
use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::schema;
use crate::kinds::served::MessageApi;
use crate::kinds::served::Served;
use crate::service::ServiceError;
use skep_console::accept::want;

/// What is read at once: messages, and bytes of their records.
const PIECE_MESSAGES_MAX: usize = 4096;
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// What a list holds: records and text of a piece that is read, and text of one that is on its way.
pub(crate) const LIST_BYTES: usize = 5 * PIECE_BYTES_MAX;

/// Stores any JSON value as a message.
#[utoipa::path(
    post, path = "/endpoint/", operation_id = "storeJson", tag = "pipeline",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(content = schema::Json, content_type = "application/json"),
    responses(
        (status = 201, description = "Stored: a quorum has it on disk", body = schema::Stored),
        (status = 200, description = "It was there already", body = schema::Stored),
        (status = 400, description = "No such body, type or key", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The body is compressed", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The key was given to another request", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 507, description = "The disk is full", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn post<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let body = body::read(&head.headers, body, public.max_body_bytes, &public.account).await?;
    if body.is_empty() {
        return Err(Problem::new(ProblemKind::EmptyBody, "expected a JSON value, as in {\"a\":1}"));
    }
    let text = std::str::from_utf8(&body).map_err(Problem::invalid_utf8)?;
    // Wholly, with each escape and no deeper than most parsers go: whoever lists all of it must
    // not fail because of one.
    serde_json::from_str::<serde_json::Value>(text)
        .map_err(|error| Problem::new(ProblemKind::InvalidJson, error.to_string()))?;
    let claim = key.map(|key| key.claim("/endpoint/", "", &body));
    stored(public.api.put_message("application/json".into(), body, claim).await?, true)
}

/// Lists everything that is stored.
#[utoipa::path(
    get, path = "/endpoint/", operation_id = "listEverything", tag = "pipeline",
    responses(
        (status = 200, description = "All that was acknowledged before the request", content(
            (Vec<schema::Item> = "application/json"), (String = "application/x-ndjson"))),
    ),
)]
pub(crate) async fn get<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let lines = want(request.headers(), NDJSON) > want(request.headers(), "application/json");
    let charge = public.account.charge(LIST_BYTES)?;
    let upto = public.api.current().await?;
    let mut response = Response::new(Body::from_stream(list(public.api.clone(), upto, lines, charge)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, if lines { HeaderValue::from_static(NDJSON) } else { JSON });
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    // Its length is not known beforehand, so idleness after it would not be seen.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// Every message up to `upto`, as one JSON array or one object a line.
pub(crate) fn list<A: MessageApi>(
    api: Arc<A>,
    upto: u64,
    lines: bool,
    charge: Charge,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let open = if lines { "" } else { "[" };
    let reading = Piece { after: 0, upto, lines }.read(&api);
    let begun = Some((Bytes::from_static(open.as_bytes()), reading, api, charge));
    stream::unfold(begun, |state| async {
        let (mut head, reading, api, charge) = state?;
        if !head.is_empty() {
            // The first byte goes out before anything is read.
            return Some((Ok(std::mem::take(&mut head)), Some((head, reading, api, charge))));
        }
        match reading.await {
            Ok(Ok((json, Some(next)))) => {
                let reading = next.read(&api);
                Some((Ok(json), Some((head, reading, api, charge))))
            }
            Ok(Ok((json, None))) => Some((Ok(json), None)),
            // The connection ends early: that is how a client sees that the list is not whole.
            Ok(Err(error)) => Some((Err(std::io::Error::other(error)), None)),
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    })
}

/// A piece of the list.
#[derive(Clone, Copy)]
struct Piece {
    after: u64,
    upto: u64,
    lines: bool,
}

type Read = AbortOnDropHandle<Result<(Bytes, Option<Piece>), ServiceError>>;

impl Piece {
    /// Its text, and the piece that follows.
    fn read<A: MessageApi>(self, api: &Arc<A>) -> Read {
        let Piece { after, upto, lines } = self;
        // Begun now, and not when the piece before it is gone.
        AbortOnDropHandle::new(tokio::spawn(api.read_here(
            after,
            PIECE_MESSAGES_MAX,
            PIECE_BYTES_MAX,
            move |messages| {
                let fatal = |error: serde_json::Error| ServiceError::Fatal { detail: error.to_string() };
                let mut json = Vec::with_capacity(2 * PIECE_BYTES_MAX);
                let mut end = upto;
                for message in &messages {
                    if message.seq > upto {
                        end = upto;
                        break;
                    }
                    end = message.seq;
                    if !lines {
                        json.extend_from_slice(if after == 0 && json.is_empty() { b"\n" } else { b",\n" });
                    }
                    entry::push(message, Form::Value, &mut json).map_err(fatal)?;
                    if lines {
                        json.push(b'\n');
                    }
                }
                let next = (end < upto).then_some(Piece { after: end, upto, lines });
                if next.is_none() && !lines {
                    json.extend_from_slice(b"\n]\n");
                }
                Ok((json.into(), next))
            },
        )))
    }
}
