//! The one place that knows bincode.
//!
//! Integers are variable-length little-endian, lengths come first, nothing describes itself:
//! a reader must know the type. Decoding is bounded by a size limit given at the call, so that
//! a length from the wire never allocates more than the bytes that came; bytes left over are an
//! error.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes that one encoded value may have: a frame, a log entry, a checkpoint's header.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that are not the value they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value ends before it is whole.
    #[error("the bytes end before the value is whole")]
    UnexpectedEnd,
    /// More bytes than the value takes.
    #[error("{0} bytes follow the value")]
    TrailingBytes(usize),
    /// The value is larger than the limit.
    #[error("the value is larger than {VALUE_BYTES_MAX} bytes")]
    TooLarge,
    /// The bytes make no value of that type.
    #[error("the bytes are no such value: {0}")]
    Invalid(String),
    /// The value cannot be written.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        let kind = match error {
            CodecError::UnexpectedEnd => std::io::ErrorKind::UnexpectedEof,
            _ => std::io::ErrorKind::InvalidData,
        };
        std::io::Error::new(kind, error)
    }
}

fn config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// Encodes a value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends a value's encoding to `bytes`.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = bytes.len();
    bincode::serde::encode_into_std_write(value, bytes, config::<VALUE_BYTES_MAX>())
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    if bytes.len() - start > VALUE_BYTES_MAX {
        bytes.truncate(start);
        return Err(CodecError::TooLarge);
    }
    Ok(())
}

/// Decodes a value that takes all of `bytes`.
///
/// The library allocates a string on the word of its length, up to the limit, before it reads it;
/// so the limit follows from how many bytes came. It counts a number with its full size, which is
/// up to 16 times that of its variable-length form.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.len().saturating_mul(16) {
        ..=0x1000 => decode_within::<T, 0x1000>(bytes),
        0x1001..=0x1_0000 => decode_within::<T, 0x1_0000>(bytes),
        0x1_0001..=0x10_0000 => decode_within::<T, 0x10_0000>(bytes),
        _ => decode_within::<T, VALUE_BYTES_MAX>(bytes),
    }
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    use bincode::error::DecodeError;
    let decoded = bincode::serde::decode_from_slice(bytes, config::<LIMIT>());
    let (value, used) = decoded.map_err(|error| match error {
        DecodeError::UnexpectedEnd { .. } => CodecError::UnexpectedEnd,
        // No such value fits into what came.
        DecodeError::LimitExceeded if LIMIT < VALUE_BYTES_MAX => CodecError::UnexpectedEnd,
        DecodeError::LimitExceeded => CodecError::TooLarge,
        error => CodecError::Invalid(error.to_string()),
    })?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::TrailingBytes(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> (u16, Vec<(String, u64)>) {
        (2, vec![("text/plain".into(), 1), ("foo".into(), 1 << 40)])
    }

    #[test]
    fn a_value_survives_the_codec() {
        let bytes = encode(&value()).unwrap();
        assert_eq!(decode::<(u16, Vec<(String, u64)>)>(&bytes).unwrap(), value());
    }

    #[test]
    fn a_value_cut_anywhere_is_an_unexpected_end() {
        let bytes = encode(&value()).unwrap();
        for end in 0..bytes.len() {
            let decoded = decode::<(u16, Vec<(String, u64)>)>(&bytes[..end]);
            assert!(matches!(decoded, Err(CodecError::UnexpectedEnd)), "{end}");
        }
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        let mut bytes = encode(&value()).unwrap();
        bytes.push(0);
        let decoded = decode::<(u16, Vec<(String, u64)>)>(&bytes);
        assert!(matches!(decoded, Err(CodecError::TrailingBytes(1))));
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut bytes = vec![253];
        bytes.extend((1u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::UnexpectedEnd)));
    }
}
