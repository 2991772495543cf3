//! Errors as RFC 9457 problem documents. Types are stable: clients may match on them.
//!
//! | type `urn:skep:problem:…` | status | when |
//! |---|---|---|
//! | `invalid-idempotency-key` | 400 | `Idempotency-Key` is no key |
//! | `no-operator` | 401 | the operators' token is missing or another one |
//! | `no-operators` | 403 | the node has no operators' token |
//! | `message-gone` | 410 | the message was there, and was taken out |
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
//! | `refused` | 409 | an operation that would do harm, or makes no sense now |
//! | `body-too-large` | 413 | the body is larger than `--max-body` |
//! | `uri-too-long` | 414 | the request's target is too long |
//! | `unsupported-content-encoding` | 415 | the body is compressed |
//! | `unsupported-content-type` | 415 | an admin request of another content type |
//! | `head-too-large` | 431 | the request's head is too large, or has too many header fields |
//! | `internal` | 500 | the node failed, and is stopping |
//! | `operation-failed` | 503 | an operation was not carried out |
//! | `not-ready` | 503 | the node should get no traffic now; `detail` says why |
//! | `overloaded` | 503 | more requests wait than the node holds; not executed |
//! | `unavailable` | 503 | no leader or no quorum inside the request's deadline |
//! | `storage-full` | 507 | the disk has no room |

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{StatusCode, header};
use serde::Serialize;

use crate::service::ServiceError;
use crate::service::operator::OperatorError;

/// Says that the request was certainly not executed: it may be sent elsewhere.
pub(crate) const SKEP_UNPROCESSED: HeaderName = HeaderName::from_static("skep-unprocessed");

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
    MessageGone = "message-gone", GONE, "The message is gone";
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY,
        "The idempotency key belongs to another request";
    MalformedRequest = "malformed-request", BAD_REQUEST, "The request is malformed";
    NotFound = "not-found", NOT_FOUND, "There is nothing here";
    MessageNotFound = "message-not-found", NOT_FOUND, "There is no such message";
    NoText = "no-text", NOT_FOUND, "There is no text yet";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "There is no such representation";
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    Refused = "refused", CONFLICT, "The operation was refused";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    UriTooLong = "uri-too-long", URI_TOO_LONG, "The request's target is too long";
    UnsupportedContentEncoding = "unsupported-content-encoding", UNSUPPORTED_MEDIA_TYPE,
        "The body's encoding is not supported";
    UnsupportedContentType = "unsupported-content-type", UNSUPPORTED_MEDIA_TYPE,
        "The body's type is not supported";
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The node failed";
    OperationFailed = "operation-failed", SERVICE_UNAVAILABLE, "The operation was not carried out";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "The node is not ready";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too many requests wait";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The request cannot be served now";
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
}

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), unprocessed: false }
    }

    /// The problem as JSON.
    pub(crate) fn document(&self) -> Vec<u8> {
        let document = Document {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
        };
        // Strings and a number: this cannot fail, and if it did, the status still says it.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// Text that is none, and from where on.
    pub(crate) fn invalid_utf8(error: std::str::Utf8Error) -> Self {
        let detail = format!("the byte at offset {} makes it no UTF-8", error.valid_up_to());
        Self::new(ProblemKind::InvalidUtf8, detail)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let mut response = Response::new(Body::from(self.document()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.unprocessed {
            headers.insert(SKEP_UNPROCESSED, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let (kind, detail, unprocessed) = match error {
            ServiceError::Unavailable { detail, unprocessed } => {
                (ProblemKind::Unavailable, detail, unprocessed)
            }
            ServiceError::Overloaded { detail } => (ProblemKind::Overloaded, detail, true),
            ServiceError::KeyTaken { detail } => (ProblemKind::IdempotencyKeyReused, detail, false),
            ServiceError::TooOld { detail } => (ProblemKind::Unavailable, detail, false),
            ServiceError::Full { detail } => (ProblemKind::StorageFull, detail, false),
            ServiceError::Fatal { detail } => (ProblemKind::Internal, detail, false),
        };
        Self { kind, detail: detail.into(), unprocessed }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let kind = match &error {
            OperatorError::Refused(_) => ProblemKind::Refused,
            OperatorError::Failed(_) => ProblemKind::OperationFailed,
            OperatorError::NoMessage(_) => ProblemKind::MessageNotFound,
            OperatorError::Gone(_) => ProblemKind::MessageGone,
        };
        Self::new(kind, error.to_string())
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
}
