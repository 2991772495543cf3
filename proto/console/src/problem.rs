//! Errors as RFC 9457 problem documents: the one table of what goes wrong anywhere, and its one writer.
//! Types are stable: clients may match on them.
//!
//! | type `urn:skep:problem:…` | status | when |
//! |---|---|---|
//! | `invalid-idempotency-key` | 400 | `Idempotency-Key` is no key |
//! | `no-operator` | 401 | the operators' token is missing or another one |
//! | `no-operators` | 403 | the node has no operators' token |
//! | `foreign-origin` | 403 | a page of another origin may not send this: `--allow-origins` |
//! | `foreign-host` | 421 | an operators' address is asked by a name that is not its own |
//! | `message-gone` | 410 | the message was there, and was taken out |
//! | `invalid-task` | 400 | a task, or what is said of one, is not as it can be |
//! | `no-worker` | 401 | the workers' token is missing or another one |
//! | `invalid-schedule` | 400 | a schedule of tasks is not as it can be |
//! | `schedule-not-found` | 404 | no schedule of tasks has this name |
//! | `task-not-found` | 404 | no task has this id |
//! | `batch-not-found` | 404 | no batch of tasks has this id |
//! | `worker-not-found` | 404 | the leader has not heard of this worker for as long as a lease |
//! | `batch-gone` | 410 | the batch was there, and is known no more |
//! | `lease-lost` | 409 | the fence is not the task's any more: another worker has it, or may |
//! | `task-finished` | 409 | the task has ended otherwise |
//! | `task-gone` | 410 | the task was there, and is known no more |
//! | `queue-full` | 429 | the queue has as many unfinished tasks as it may |
//! | `tasks-full` | 429 | there is no room for more tasks, queues, workers or schedules |
//! | `no-balancer` | 403 | this is for balancers, over TLS with the cluster's or the edge key |
//! | `no-gateway` | 404 | there is no document of the gateway, or it has no such object, or not such a past |
//! | `invalid-gateway` | 422 | the gateway's document has faults, each of which `faults` names |
//! | `gateway-clash` | 409 | objects of the gateway's document do not go together, or are another source's; `faults` names each |
//! | `precondition-required` | 428 | say with `If-Match` of which state the change is made |
//! | `idempotency-key-reused` | 422 | `Idempotency-Key` was given to another request |
//! | `invalid-json` | 400 | the body is not JSON, or not a JSON object where one is expected |
//! | `invalid-utf-8` | 400 | a JSON body or a text is not UTF-8 |
//! | `message-missing` | 400 | the JSON object has no member `message` |
//! | `message-not-a-string` | 400 | `message` is not a JSON string |
//! | `empty-body` | 400 | there is no body where one is needed |
//! | `empty-message` | 400 | `message` is the empty string |
//! | `incomplete-body` | 400 | the body ended before it was whole |
//! | `invalid-content-type` | 400 | the content type is no media type, or too long to be stored |
//! | `invalid-digest` | 400 | the path's digest is not 64 lowercase hex digits |
//! | `ambiguous-path` | 400 | a gateway reads the path in more than one way |
//! | `address-refused` | 403 | a route is not for the address that asks |
//! | `unauthenticated` | 401 | a route wants to know who asks, and the request does not prove it |
//! | `group-refused` | 403 | a route is not for the groups of the consumer who asks |
//! | `rate-limited` | 429 | a route was asked for too often; `Retry-After` says when it may be again |
//! | `invalid-query` | 400 | a query parameter is out of its range |
//! | `invalid-request` | 400 | an admin request's body is not what the route takes |
//! | `malformed-request` | 400 | the request's head is no HTTP/1.1 |
//! | `not-found` | 404 | there is nothing at this path |
//! | `message-not-found` | 404 | no message has this digest |
//! | `no-text` | 404 | no text was written yet |
//! | `invalid-upgrade` | 400 | a wish for a WebSocket that is none |
//! | `method-not-allowed` | 405 | the path does not take the method; `Allow` has those it takes |
//! | `not-acceptable` | 406 | the route has nothing that `Accept` admits |
//! | `body-timeout` | 408 | the body did not arrive in time |
//! | `request-timeout` | 408 | the request did not arrive in time |
//! | `refused` | 409 | an operation that would do harm, or makes no sense now |
//! | `precondition-failed` | 412 | `If-Match` names no tag of what is there |
//! | `body-too-large` | 413 | the body is larger than is taken here: `--max-body` |
//! | `uri-too-long` | 414 | the request's target is too long |
//! | `unsupported-content-encoding` | 415 | the body is compressed |
//! | `unsupported-content-type` | 415 | an admin request of another content type |
//! | `head-too-large` | 431 | the request's head is too large, or has too many header fields |
//! | `internal` | 500 | the program failed; a node stops then |
//! | `unsupported-transfer-coding` | 501 | the body is under a transfer coding other than `chunked` |
//! | `backend-failed` | 502 | a backend took the request, and gave no answer or a malformed one |
//! | `operation-failed` | 503 | an operation was not carried out |
//! | `idempotency-keys-full` | 503 | as many idempotency keys are remembered as can be; without one it is taken |
//! | `maintenance` | 503 | a route is closed for maintenance |
//! | `ask-failed` | 503 | the service that a route asks first whether a request may go on said nothing that is understood |
//! | `no-backend` | 503 | a balancer has nobody to send the request to |
//! | `not-ready` | 503 | the program should get no traffic now; `detail` says why |
//! | `overloaded` | 503 | more requests wait than the program holds; not executed |
//! | `unavailable` | 503 | no leader or no quorum inside the request's deadline |
//! | `backend-timeout` | 504 | no backend answered in time |
//! | `storage-full` | 507 | the disk has no room |
//!
//! A balancer says `malformed-request` with 414, 417, 431, 501 and 505 as well.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Says that the request was certainly not executed: it may be sent elsewhere.
pub const SKEP_UNPROCESSED: HeaderName = HeaderName::from_static("skep-unprocessed");
/// Seconds after which a client may try again what could not be served now.
pub const RETRY_AFTER_S: u32 = 1;

macro_rules! kinds {
    ($($kind:ident = $uri:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, as a client may match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind { $($kind),* }

        impl ProblemKind {
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind),*];
            /// The problem's `type`.
            pub fn uri(self) -> &'static str {
                match self { $(ProblemKind::$kind => concat!("urn:skep:problem:", $uri)),* }
            }
            /// The same words for every problem of the type.
            pub fn title(self) -> &'static str {
                match self { $(ProblemKind::$kind => $title),* }
            }
            pub fn status(self) -> StatusCode {
                match self { $(ProblemKind::$kind => StatusCode::$status),* }
            }
            /// The problem's `type` without what all have in common.
            pub fn name(self) -> &'static str {
                match self { $(ProblemKind::$kind => $uri),* }
            }
        }
    };
}

kinds! {
    InvalidJson = "invalid-json", BAD_REQUEST, "The body is not the JSON that is expected";
    InvalidUtf8 = "invalid-utf-8", BAD_REQUEST, "The body is not UTF-8";
    MessageMissing = "message-missing", BAD_REQUEST, "The body has no member \"message\"";
    MessageNotAString = "message-not-a-string", BAD_REQUEST, "The member \"message\" is not a string";
    EmptyBody = "empty-body", BAD_REQUEST, "The body is empty";
    EmptyMessage = "empty-message", BAD_REQUEST, "The message is empty";
    IncompleteBody = "incomplete-body", BAD_REQUEST, "The body is not whole";
    InvalidContentType = "invalid-content-type", BAD_REQUEST, "The content type cannot be stored";
    InvalidDigest = "invalid-digest", BAD_REQUEST, "Not a digest";
    InvalidQuery = "invalid-query", BAD_REQUEST, "A query parameter is out of its range";
    InvalidRequest = "invalid-request", BAD_REQUEST, "The request is not what this route takes";
    InvalidUpgrade = "invalid-upgrade", BAD_REQUEST, "The request asks for no WebSocket as it should";
    InvalidIdempotencyKey = "invalid-idempotency-key", BAD_REQUEST, "The idempotency key is none";
    NoOperator = "no-operator", UNAUTHORIZED, "This is for operators";
    NoOperators = "no-operators", FORBIDDEN, "Nobody can do this here";
    ForeignOrigin = "foreign-origin", FORBIDDEN, "A page of another origin may not send this";
    ForeignHost = "foreign-host", MISDIRECTED_REQUEST, "This address has another name";
    MessageGone = "message-gone", GONE, "The message is gone";
    InvalidTask = "invalid-task", BAD_REQUEST, "There can be no such task";
    NoWorker = "no-worker", UNAUTHORIZED, "This is for workers";
    InvalidSchedule = "invalid-schedule", BAD_REQUEST, "There can be no such schedule";
    ScheduleNotFound = "schedule-not-found", NOT_FOUND, "There is no such schedule";
    TaskNotFound = "task-not-found", NOT_FOUND, "There is no such task";
    WorkerNotFound = "worker-not-found", NOT_FOUND, "There is no such worker";
    BatchNotFound = "batch-not-found", NOT_FOUND, "There is no such batch";
    BatchGone = "batch-gone", GONE, "The batch is gone";
    LeaseLost = "lease-lost", CONFLICT, "The task is in other hands";
    TaskFinished = "task-finished", CONFLICT, "The task has ended";
    TaskGone = "task-gone", GONE, "The task is gone";
    QueueFull = "queue-full", TOO_MANY_REQUESTS, "The queue is full";
    TasksFull = "tasks-full", TOO_MANY_REQUESTS, "There is no room for more tasks";
    NoBalancer = "no-balancer", FORBIDDEN, "This is for balancers";
    NoGateway = "no-gateway", NOT_FOUND, "The gateway has no such thing";
    InvalidGateway = "invalid-gateway", UNPROCESSABLE_ENTITY, "There can be no such document";
    GatewayClash = "gateway-clash", CONFLICT, "The objects do not go together";
    PreconditionRequired = "precondition-required", PRECONDITION_REQUIRED, "A condition is needed";
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY,
        "The idempotency key belongs to another request";
    AmbiguousPath = "ambiguous-path", BAD_REQUEST, "The path has more than one reading";
    AddressRefused = "address-refused", FORBIDDEN, "This address may not ask for this";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "Who asks has to prove it";
    GroupRefused = "group-refused", FORBIDDEN, "This consumer may not ask for this";
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "This was asked for too often";
    Maintenance = "maintenance", SERVICE_UNAVAILABLE, "This is closed for maintenance";
    AskFailed = "ask-failed", SERVICE_UNAVAILABLE, "Who says who may ask gives no answer";
    MalformedRequest = "malformed-request", BAD_REQUEST, "The request is malformed";
    NotFound = "not-found", NOT_FOUND, "There is nothing here";
    MessageNotFound = "message-not-found", NOT_FOUND, "There is no such message";
    NoText = "no-text", NOT_FOUND, "There is no text yet";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "There is no such representation";
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "The request did not arrive in time";
    Refused = "refused", CONFLICT, "The operation was refused";
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, "The condition does not hold";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    UriTooLong = "uri-too-long", URI_TOO_LONG, "The request's target is too long";
    UnsupportedContentEncoding = "unsupported-content-encoding", UNSUPPORTED_MEDIA_TYPE,
        "The body's encoding is not supported";
    UnsupportedContentType = "unsupported-content-type", UNSUPPORTED_MEDIA_TYPE,
        "The body's type is not supported";
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The program failed";
    UnsupportedTransferCoding = "unsupported-transfer-coding", NOT_IMPLEMENTED,
        "The body's transfer coding is not supported";
    BackendFailed = "backend-failed", BAD_GATEWAY, "The backend failed";
    OperationFailed = "operation-failed", SERVICE_UNAVAILABLE, "The operation was not carried out";
    IdempotencyKeysFull = "idempotency-keys-full", SERVICE_UNAVAILABLE,
        "There is no room for another idempotency key";
    NoBackend = "no-backend", SERVICE_UNAVAILABLE, "There is no backend to serve it";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "The program is not ready";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too many requests wait";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The request cannot be served now";
    BackendTimeout = "backend-timeout", GATEWAY_TIMEOUT, "The backend did not answer in time";
    StorageFull = "storage-full", INSUFFICIENT_STORAGE, "There is no room left";
}

/// An error's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// About this occurrence, for people.
    pub detail: Cow<'static, str>,
    /// The request was certainly not executed.
    pub unprocessed: bool,
    /// When a client may try again, where its status is one that passes.
    pub retry_after_s: u32,
}

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), unprocessed: false, retry_after_s: RETRY_AFTER_S }
    }

    /// Of a request that was certainly not executed.
    pub fn unprocessed(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { unprocessed: true, ..Self::new(kind, detail) }
    }

    pub fn not_found(path: &str) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is nothing at {}", shortened(path)))
    }

    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let detail = format!("{} does not take {}", shortened(path), shortened(method));
        Self::new(ProblemKind::MethodNotAllowed, detail)
    }

    /// Text that is none, and from where on.
    pub fn invalid_utf8(error: std::str::Utf8Error) -> Self {
        let detail = format!("the byte at offset {} makes it no UTF-8", error.valid_up_to());
        Self::new(ProblemKind::InvalidUtf8, detail)
    }

    /// The problem as JSON.
    pub fn document(&self) -> Vec<u8> {
        document(self.kind, self.kind.status().as_u16(), &self.detail)
    }

    /// The whole answer. Of a method that is not allowed, [`Problem::answer_allowing`] says which are.
    pub fn answer(&self) -> Response<Full<Bytes>> {
        let status = self.kind.status();
        let mut answer = Response::new(Full::new(Bytes::from(self.document())));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if retry_after_s(status.as_u16()).is_some() {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        if self.unprocessed {
            headers.insert(SKEP_UNPROCESSED, HeaderValue::from_static("1"));
        }
        answer
    }

    /// [`Problem::answer`], and the methods that are taken.
    pub fn answer_allowing(&self, methods: &'static str) -> Response<Full<Bytes>> {
        let mut answer = self.answer();
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        answer
    }
}

/// When to come again, after an answer of this status.
pub fn retry_after_s(status: u16) -> Option<u32> {
    matches!(status, 429 | 503).then_some(RETRY_AFTER_S)
}

/// A problem's document, where its status is not that of its kind's other problems.
pub fn document(kind: ProblemKind, status: u16, detail: &str) -> Vec<u8> {
    let document = Document { r#type: kind.uri(), title: kind.title(), status, detail };
    // Strings and a number: this cannot fail, and if it did, the status still says it.
    let mut json = serde_json::to_vec(&document).unwrap_or_default();
    json.push(b'\n');
    json
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

/// A client's text, no longer than an error message should be.
fn shortened(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 200;
    text.get(..SHOWN_BYTES_MAX).unwrap_or(text.get(..text.len().min(64)).unwrap_or("…"))
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Problem {
    fn into_response(self) -> axum_core::response::Response {
        self.answer().map(axum_core::body::Body::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_type_of_its_own_that_the_module_documents() {
        let source = include_str!("problem.rs");
        let mut seen = std::collections::HashSet::new();
        for kind in ProblemKind::ALL {
            assert!(seen.insert(kind.uri()));
            let name = kind.uri().trim_start_matches("urn:skep:problem:");
            let row = format!("//! | `{name}` | {} |", kind.status().as_u16());
            assert!(source.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_a_client_sent_is_escaped_and_shortened() {
        let path = format!("/\"\\\u{1}\n</script>{}", "x".repeat(500));
        let problem = Problem::not_found(&path);
        let document: serde_json::Value = serde_json::from_slice(&problem.document()).unwrap();
        assert_eq!(document["type"], "urn:skep:problem:not-found");
        assert_eq!((&document["title"], &document["status"]), (&"There is nothing here".into(), &404.into()));
        let detail = document["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("there is nothing at /\"\\\u{1}\n</script>x") && detail.len() < 240,
            "{detail}"
        );
    }

    #[test]
    fn what_cannot_be_served_now_says_when_to_come_again_and_whether_it_was_executed() {
        let now = Problem::unprocessed(ProblemKind::Overloaded, "full").answer();
        assert_eq!((now.status().as_u16(), &now.headers()[RETRY_AFTER]), (503, &HeaderValue::from(1)));
        assert_eq!(now.headers()[SKEP_UNPROCESSED], "1");
        let never = Problem::method_not_allowed("PUT", "/livez").answer_allowing("GET, HEAD");
        assert_eq!(
            (never.status().as_u16(), &never.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
        assert!(
            !never.headers().contains_key(RETRY_AFTER) && !never.headers().contains_key(SKEP_UNPROCESSED)
        );
    }
}
