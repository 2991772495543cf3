//! A token's three parts (RFC 7515, 3.1): its head, what it says, and the signature of both.

use std::collections::BTreeMap;

use super::Refused;
use super::base64;
use crate::value::Value;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a head must not have: keys and where to get some are the document's to say, and what has to be understood is
/// not; nor is what says that a token is within it, or that it is encrypted (RFC 8725, 3.6 and 3.10; RFC 7515, 4.1.11).
const REFUSED_MEMBERS: [&str; 9] = ["b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip"];

/// What kinds of tokens are taken: others of the same issuer mean something else (RFC 8725, 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token whose signature nobody has looked at.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub algorithm: String,
    /// The key that it names.
    pub kid: Option<String>,
    /// What is signed.
    pub signed: &'a [u8],
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

/// Whether it may be a token and no other text: of three parts.
pub(in crate::auth) fn is_like_token(text: &[u8]) -> bool {
    text.iter().filter(|b| **b == b'.').count() == 2
}

impl<'a> Compact<'a> {
    pub(super) fn read(token: &'a [u8]) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let mut parts = token.split(|b| *b == b'.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Malformed);
        };
        let signed = &token[..head.len() + 1 + payload.len()];
        let mut head = object(&decoded(head)?)?;
        if REFUSED_MEMBERS.iter().any(|it| head.contains_key(*it)) {
            return Err(Refused::Header);
        }
        let text = |value: Value| match value {
            Value::Text(text) => Ok(text),
            _ => Err(Refused::Header),
        };
        let algorithm = text(head.remove("alg").ok_or(Refused::Header)?)?;
        let kid = head.remove("kid").map(text).transpose()?;
        if let Some(typ) = head.remove("typ").map(text).transpose()? {
            let typ = typ.to_ascii_lowercase();
            let typ = typ.strip_prefix("application/").unwrap_or(&typ);
            if !TYPES.contains(&typ) {
                return Err(Refused::Header);
            }
        }
        Ok(Self { algorithm, kid, signed, payload: decoded(payload)?, signature: decoded(signature)? })
    }
}

fn decoded(part: &[u8]) -> Result<Vec<u8>, Refused> {
    base64::decode(part).ok_or(Refused::Malformed)
}

/// An object in which no name stands twice.
pub(super) fn object(json: &[u8]) -> Result<BTreeMap<String, Value>, Refused> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Refused::Malformed),
    }
}
