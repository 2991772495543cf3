//! Messages as served: `POST /messages`, `GET` and `HEAD /messages/{digest}`; lists, the pipeline and the
//! live feed are beside it.

pub(crate) mod endpoint;
mod entry;
pub(crate) mod live;
mod page;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, post};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use skep_state::message::{CONTENT_TYPE_LEN_MAX, Digest, StoredMessage, TEXT_PLAIN};

use crate::http::conditions::{self, Condition};
use crate::http::headers::{JSON, essence, insert, is_token};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{body, idempotency, json};
use crate::kinds::schema;
use crate::kinds::served::MessageApi;
use crate::kinds::served::Served;
use crate::service::Put;
use live::Feed;
use skep_console::accept::want;
use skep_store::Lookup;
use utoipa::OpenApi;

const OCTET_STREAM: &str = "application/octet-stream";
/// A message never changes, and its digest names no other. But it may be removed: no cache gives it for longer
/// than an hour without asking.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=3600, immutable");
/// A message's place, by which caches that skep tells know of its removal.
const SEQ: HeaderName = HeaderName::from_static(skep_gateway::purge::SEQ);
/// The path that a message's digest follows.
const MESSAGE_PATH: &str = "/messages/";

/// The routes of messages.
pub(crate) fn routes<A: MessageApi>(served: Arc<Served<A>>, feed: Arc<Feed<A>>) -> Router {
    Router::new()
        .route("/messages", post(store::<A>).get(page::get::<A>).head(page::head::<A>))
        .route("/endpoint", post(endpoint::post::<A>).get(endpoint::get::<A>))
        .route("/endpoint/", post(endpoint::post::<A>).get(endpoint::get::<A>))
        .route("/messages/{digest}", routing::get(get::<A>))
        .with_state(served)
        .merge(Router::new().route("/messages/live", routing::get(live::get::<A>)).with_state(feed))
}

/// Their part of the API's document.
#[derive(OpenApi)]
#[openapi(
    paths(store, get, page::get, page::head, live::get, endpoint::post, endpoint::get),
    tags(
        (name = "messages", description = "Messages, named by the SHA-256 of their bytes"),
        (name = "pipeline", description = "Any JSON value in, all that is stored out"),
    ),
)]
pub(crate) struct Document;

/// Past the router: `GET /messages/{digest}`.
pub(crate) fn shortcut<A: MessageApi>(
    served: &Arc<Served<A>>,
    request: &mut http::Request<Incoming>,
) -> Option<BoxFuture<'static, Response>> {
    /// As long as a path with a digest.
    const DIGEST_PATH_BYTES: usize = MESSAGE_PATH.len() + 64;
    let path = request.uri().path();
    if path.len() != DIGEST_PATH_BYTES || !path.starts_with(MESSAGE_PATH) {
        return None;
    }
    let (served, uri) = (served.clone(), request.uri().clone());
    let headers = std::mem::take(request.headers_mut());
    Some(async move { find(&served, uri.path(), &headers).await.into_response() }.boxed())
}

/// Stores a message.
///
/// Answers 201, or 200 where the message was there already.
#[utoipa::path(
    post, path = "/messages", operation_id = "storeMessage", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "The same request of the same key takes effect once, and is given the same answer for a day"),),
    request_body(
        description = "A text as JSON; of any other content type, the bytes themselves",
        content((schema::TextMessage = "application/json"), (schema::Raw = "application/octet-stream")),
    ),
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
async fn store<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let content_type = content_type(&head.headers)?;
    let is_json = essence(&content_type).eq_ignore_ascii_case("application/json");
    let body = body::read(&head.headers, body, public.max_body_bytes, &public.account).await?;
    let (content_type, message) = if is_json {
        (TEXT_PLAIN.to_owned(), json::message(&body)?)
    } else if body.is_empty() {
        return Err(Problem::new(ProblemKind::EmptyBody, "a message has at least one byte"));
    } else {
        (content_type, body)
    };
    let claim = key.map(|key| key.claim("/messages", &content_type, &message));
    let is_text = text_of(&content_type, &message).is_some();
    stored(public.api.put_message(content_type, message, claim).await?, is_text)
}

/// The answer to who sent a message. The tag is that of the form in which it is given by default.
fn stored(put: Put, is_text: bool) -> Result<Response, Problem> {
    let mut text = String::with_capacity(112);
    // Writing to a string does not fail.
    let _ = write!(text, r#"{{"digest":"{}","seq":{}}}"#, put.digest, put.seq);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    let mut location = String::with_capacity(MESSAGE_PATH.len() + 64);
    let _ = write!(location, "{MESSAGE_PATH}{}", put.digest);
    insert(headers, LOCATION, location);
    insert(headers, ETAG, if is_text { json_etag(&put.digest) } else { etag(&put.digest) });
    idempotency::mark(headers, put.repeated);
    Ok(response)
}

/// Gives a message back.
///
/// JSON for a text unless the client prefers the bytes, else the bytes.
// axum answers HEAD from this too, without the body.
#[utoipa::path(
    get, path = "/messages/{digest}", operation_id = "getMessage", tag = "messages",
    params(("digest" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The SHA-256 of the message's bytes")),
    responses(
        (status = 200, description = "The message", content(
            (schema::TextMessage = "application/json"), (schema::Raw = "application/octet-stream"))),
        (status = 304, description = "The client has it"),
        (status = 400, description = "That is no digest", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "If-Match names another tag", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "There is no such message", body = schema::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "The message was taken out", body = schema::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
async fn get<A: MessageApi>(
    State(public): State<Arc<Served<A>>>,
    request: Request,
) -> Result<Response, Problem> {
    find(&public, request.uri().path(), request.headers()).await
}

/// [`get`], for one that has the request's parts.
async fn find<A: MessageApi>(
    public: &Served<A>,
    path: &str,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let digest = digest_of(path)?;
    let message = match public.api.message(&digest).await? {
        Lookup::Here(message) => message,
        Lookup::Gone => {
            let detail = format!("the message {digest} was taken out");
            return Err(Problem::new(ProblemKind::MessageGone, detail));
        }
        Lookup::Unknown => {
            let detail = format!("no message has the digest {digest}");
            return Err(Problem::new(ProblemKind::MessageNotFound, detail));
        }
    };

    let text = as_text(&message);
    let (is_text, as_json) = (text.is_some(), text.filter(|_| !prefers_bytes(request, &message)));
    // Two forms, two tags (RFC 9110, 8.8.3).
    let etag = if as_json.is_some() { json_etag(&digest) } else { etag(&digest) };
    let condition = conditions::evaluate(request, &etag)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    insert(headers, ETAG, etag);
    headers.insert(CACHE_CONTROL, IMMUTABLE);
    // By which a cache is told that it was taken out.
    insert(headers, SEQ, message.seq.to_string());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_text {
        headers.insert(VARY, HeaderValue::from_static("accept"));
    }
    if as_json.is_none() {
        // Whoever stored it may have stored a page with scripts: it gets no origin of ours.
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    if condition == Condition::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    match as_json {
        Some(text) => {
            headers.insert(CONTENT_TYPE, JSON);
            let mut json = Vec::with_capacity(text.len() + text.len() / 8 + 16);
            json.extend_from_slice(br#"{"message":"#);
            serde_json::to_writer(&mut json, text)
                .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
            json.push(b'}');
            *response.body_mut() = Body::from(json);
        }
        None => {
            let content_type = HeaderValue::from_maybe_shared(Bytes::from(message.content_type))
                .unwrap_or(HeaderValue::from_static(OCTET_STREAM));
            headers.insert(CONTENT_TYPE, content_type);
            *response.body_mut() = Body::from(message.body);
        }
    }
    Ok(response)
}

/// The digest that a message's path ends with.
pub(crate) fn digest_of(path: &str) -> Result<Digest, Problem> {
    let digest = path.strip_prefix(MESSAGE_PATH).unwrap_or_default();
    digest
        .parse()
        .map_err(|error| Problem::new(ProblemKind::InvalidDigest, format!("the path's digest is {error}")))
}

/// The request's content type, known to be one that can be stored.
fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let problem = |detail: String| Problem::new(ProblemKind::InvalidContentType, detail);
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(OCTET_STREAM.to_owned()),
        (Some(value), None) => value.to_str().map_err(|_| problem("the content type is not ASCII".into()))?,
        (Some(_), Some(_)) => return Err(problem("there is more than one content type".into())),
    };
    let value = value.trim();
    if value.len() > CONTENT_TYPE_LEN_MAX {
        return Err(problem(format!("a content type may have at most {CONTENT_TYPE_LEN_MAX} bytes")));
    }
    match essence(value).split_once('/') {
        Some((main, sub)) if is_token(main) && is_token(sub) => Ok(value.to_owned()),
        _ => Err(problem(format!("{value:?} is no media type; expected one as in text/plain"))),
    }
}

/// The message as text, if its type says that it is one and its bytes are UTF-8.
fn as_text(message: &StoredMessage) -> Option<&str> {
    text_of(&message.content_type, &message.body)
}

fn text_of<'a>(content_type: &str, body: &'a [u8]) -> Option<&'a str> {
    let essence = essence(content_type).to_ascii_lowercase();
    let is_text = essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        // What `curl -d` calls its bytes.
        || matches!(essence.as_str(), "application/json" | "application/xml" | "application/x-www-form-urlencoded");
    if is_text { std::str::from_utf8(body).ok() } else { None }
}

/// Whether the client prefers the bytes to JSON: it names their type more exactly, or wants it
/// more. Where it says nothing, or `*/*`, it gets JSON.
fn prefers_bytes(headers: &HeaderMap, message: &StoredMessage) -> bool {
    let stored = want(headers, &essence(&message.content_type).to_ascii_lowercase());
    let octets = want(headers, OCTET_STREAM);
    // `application/*` means JSON rather than octets.
    let bytes = if octets.is_exact() { stored.max(octets) } else { stored };
    bytes.is_some() && bytes > want(headers, "application/json")
}

/// The tag of a text as JSON.
fn json_etag(digest: &Digest) -> String {
    let mut etag = String::with_capacity(71);
    let _ = write!(etag, "\"{digest}-json\"");
    etag
}

/// The tag of a message's bytes.
fn etag(digest: &Digest) -> String {
    let mut etag = String::with_capacity(66);
    let _ = write!(etag, "\"{digest}\"");
    etag
}
