//! Names of objects and of groups.

/// Longest, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

pub fn is_name(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}
