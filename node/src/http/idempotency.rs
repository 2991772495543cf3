//! `Idempotency-Key`: a client's word that it may send the same request again.
//!
//! The first request of a key takes effect; the same request again is given the same answer, for as
//! long as the key is remembered; another request of the same key is refused.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Digest as _;
use skep_state::command::ClaimKey;

use super::problem::{Problem, ProblemKind};
use crate::service::Claim;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request, as other services call it.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A key as the client gave it.
pub(crate) struct Key<'a>(&'a [u8]);

/// The request's key, if it has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<Key<'_>>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(IDEMPOTENCY_KEY) {
            true => Err(invalid("there is more than one".into())),
            false => Ok(None),
        };
    };
    let key = value.as_bytes();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err(invalid(format!("expected 1 to {KEY_BYTES_MAX} visible characters, as in a UUID")));
    }
    Ok(Some(Key(key)))
}

fn invalid(detail: String) -> Problem {
    Problem::new(ProblemKind::InvalidIdempotencyKey, detail)
}

impl Key<'_> {
    /// The claim of this key for a request.
    pub(crate) fn claim(&self, path: &str, content_type: &str, body: &[u8]) -> Claim {
        Claim {
            key: ClaimKey(hash(&[self.0])),
            fingerprint: hash(&[path.as_bytes(), content_type.as_bytes(), body]),
        }
    }
}

/// Marks an answer that was given before.
pub(crate) fn mark(headers: &mut HeaderMap, repeated: bool) {
    if repeated {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// Half of a SHA-256 of the parts and of where each ends.
fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    digest.iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte))
}
