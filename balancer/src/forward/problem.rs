//! Answers of the balancer's own: problem documents (RFC 9457), by the table that all programs share.

use skep_console::ProblemKind;
use skep_console::problem::{self, PROBLEM_JSON};

use crate::core::routes::Added;
use crate::forward::retry::Failure;
use crate::wire::request_head::Refusal;
use crate::wire::write::{Framing, write_added};

/// Why a request was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Refused(Refusal),
    /// The client's body is not what its framing says.
    BadBody(&'static str),
    /// The client took too long.
    RequestTimeout,
    BodyTooLarge,
    /// There is no backend to send it to.
    NoBackend,
    /// All backends have as much as they may, and the queue is full or its time is over.
    Overloaded,
    /// The process or its client holds too many connections.
    TooManyConnections,
    /// The client has as many bodies on their way as it may.
    TooManyUploads,
    /// Requests hold as much memory as they may.
    OutOfMemory,
    Failed(Failure),
}

/// What a trailer is refused with that may only come before the body.
pub const MISPLACED_TRAILER: Problem = Problem::BadBody("a trailer that may only come before the body");

impl Problem {
    pub fn status(self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::BadBody(_) => 400,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::NoBackend | Self::Overloaded | Self::TooManyConnections => 503,
            Self::TooManyUploads | Self::OutOfMemory => 503,
            Self::Failed(Failure::Deadline | Failure::Silent) => 504,
            Self::Failed(Failure::Connect | Failure::OwnLack) => 503,
            Self::Failed(_) => 502,
        }
    }

    fn type_of(self) -> ProblemKind {
        match self {
            Self::Refused(_) | Self::BadBody(_) => ProblemKind::MalformedRequest,
            Self::RequestTimeout => ProblemKind::RequestTimeout,
            Self::BodyTooLarge => ProblemKind::BodyTooLarge,
            Self::NoBackend | Self::Failed(Failure::Connect) => ProblemKind::NoBackend,
            Self::Overloaded | Self::TooManyConnections | Self::TooManyUploads | Self::OutOfMemory => {
                ProblemKind::Overloaded
            }
            Self::Failed(Failure::OwnLack) => ProblemKind::Overloaded,
            Self::Failed(Failure::Deadline | Failure::Silent) => ProblemKind::BackendTimeout,
            Self::Failed(_) => ProblemKind::BackendFailed,
        }
    }

    /// Stable: what a program may compare.
    pub fn kind(self) -> &'static str {
        self.type_of().name()
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Refused(Refusal::BadRequest(detail) | Refusal::NotImplemented(detail)) => detail,
            Self::Refused(Refusal::TargetTooLong) => "the request's target is too long",
            Self::Refused(Refusal::HeadTooLarge) => "the request's head is too large",
            Self::Refused(Refusal::Expectation) => "no expectation but 100-continue is known",
            Self::Refused(Refusal::Version) => "HTTP/1.0 and HTTP/1.1 are served here",
            Self::BadBody(detail) => detail,
            Self::RequestTimeout => "the request took too long to come",
            Self::BodyTooLarge => "the request's body is too large",
            Self::NoBackend => "no backend is ready",
            Self::Overloaded => "all backends are busy",
            Self::TooManyConnections => "too many connections",
            Self::TooManyUploads => "this client has too many bodies on their way",
            Self::OutOfMemory => "requests hold as much memory as this balancer gives them",
            Self::Failed(Failure::Connect) => "no backend could be reached",
            Self::Failed(Failure::OwnLack) => "the balancer has no descriptor or port left",
            Self::Failed(Failure::Deadline) => "no backend answered in time",
            Self::Failed(Failure::Silent) => "the backend stopped answering",
            Self::Failed(Failure::Unprocessed) => "no backend could take the request now",
            Self::Failed(Failure::Reset) => "the backend ended the connection before it answered",
            Self::Failed(Failure::BadAnswer) => "the backend's answer is malformed",
        }
    }

    /// Whether the client may take it that nothing was executed. A failure is that of all attempts.
    pub fn is_unprocessed(self) -> bool {
        match self {
            Self::Failed(failure) => failure.is_unprocessed(),
            _ => true,
        }
    }

    /// When to come again.
    pub fn retry_after_s(self) -> Option<u32> {
        problem::retry_after_s(self.status())
    }

    pub fn body(self) -> Vec<u8> {
        problem::document(self.type_of(), self.status(), self.detail())
    }

    /// The whole answer for an HTTP/1.x client. It is not to be stored: it says how things are now. `readers` says which
    /// pages may read it.
    pub fn write(self, framing: Framing, readers: &[Added], out: &mut Vec<u8>) {
        let body = self.body();
        let mut text = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncache-control: no-store\r\ncontent-length: {}\r\n",
            self.status(),
            reason(self.status()),
            body.len()
        );
        if let Some(seconds) = self.retry_after_s() {
            text += &format!("retry-after: {seconds}\r\n");
            if self.is_unprocessed() {
                text += "skep-unprocessed: 1\r\n";
            }
        }
        out.extend_from_slice(text.as_bytes());
        readers.iter().for_each(|(name, value)| write_added(name, value, out));
        framing.write_connection(None, false, out);
        framing.write_date(out);
        out.extend_from_slice(b"\r\n");
        if !framing.is_head {
            out.extend_from_slice(&body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
