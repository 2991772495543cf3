//! Why a head is refused, and which refusal fits what is wrong with it. Pure.

/// Why a head is refused. Each ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the request's target is too long")]
    TargetTooLong,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("the request's head is too large")]
    HeadTooLarge,
    #[error("{0}")]
    NotImplemented(&'static str),
    #[error("a version other than HTTP/1.0 and HTTP/1.1")]
    Version,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::Version => 505,
        }
    }
}

/// What is wrong already is refused before the rest comes: a bare LF would be waited on for long.
pub(super) fn partial(window: &[u8]) -> Result<(), Refusal> {
    let mut lines = window.split_inclusive(|b| *b == b'\n');
    if lines.any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n")) {
        return Err(Refusal::BadRequest("a line that does not end with CRLF"));
    }
    Ok(())
}

pub(super) fn refusal(error: httparse::Error, window: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if is_other_version(window) => Refusal::Version,
        httparse::Error::HeaderName => Refusal::BadRequest("a malformed header name"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a malformed header value"),
        httparse::Error::NewLine => Refusal::BadRequest("a line that does not end with CRLF"),
        _ => Refusal::BadRequest("a malformed request line"),
    }
}

fn is_other_version(window: &[u8]) -> bool {
    let line = window.split(|b| *b == b'\n').next().unwrap_or_default();
    let Some(version) = line.strip_suffix(b"\r").and_then(|line| line.rsplit(|b| *b == b' ').next()) else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && *minor <= b'1'))
}

/// A coding that is not known is 501 (RFC 9112, 6.1); chunked in a list is one that somebody
/// else could read in another way.
pub(super) fn unknown_coding(value: &[u8]) -> Refusal {
    let plain = !value.is_empty() && value.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if plain {
        Refusal::NotImplemented("a transfer coding other than chunked")
    } else {
        Refusal::BadRequest("a Transfer-Encoding other than chunked alone")
    }
}
