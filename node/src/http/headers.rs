//! Header fields and media types that more than one resource speaks of.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// One JSON object a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Whether it is a token (RFC 9110, 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A content type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Sets a header whose text is known to be visible ASCII.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.insert(name, value);
    }
}
