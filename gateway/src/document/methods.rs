//! Methods, as a document names them.

/// Most that are named in one place.
pub const METHODS_MAX: usize = 16;
/// Longest, in bytes.
const METHOD_BYTES_MAX: usize = 32;

/// A method as it is sent: case matters (RFC 9110, 9.1).
pub(super) fn read(text: &str) -> Result<String, String> {
    let is_letter = |b: u8| b.is_ascii_uppercase() || b == b'-';
    let fits = (1..=METHOD_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter);
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no method: expected as in GET")) }
}
