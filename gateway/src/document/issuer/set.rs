//! A set of keys as its issuer publishes it: bytes of somebody else's. What of it is not for looking at tokens is passed
//! over, as it has to be (RFC 7517, 5), and so is what a document may not have; what nobody should have seen is refused.

use std::collections::HashSet;

use super::{ISSUER_KEYS_MAX, NAMELESS_KEYS_MAX, PRIVATE, key};
use crate::auth::jwt::VerifyKey;
use crate::fault::Faults;
use crate::reader::Spot;
use crate::value::Value;

/// Largest set, in bytes.
pub const SET_BYTES_MAX: usize = 256 * 1024;
/// Most that stands in one, for whatever it may be.
const MEMBERS_MAX: usize = 256;

/// The keys of a set that can be looked at tokens by: one at least.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySet {
    /// In an order that hangs on them alone.
    pub keys: Vec<VerifyKey>,
    /// How many were passed over: for something else, of a kind that is not known here, or weak.
    pub passed_over: usize,
    /// How many were refused, for whoever has the set could sign by them: private keys, and secrets.
    pub secret: usize,
}

impl KeySet {
    /// Any bytes; allocates no more than some times their length.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > SET_BYTES_MAX {
            return Err(format!("it has more than {SET_BYTES_MAX} bytes"));
        }
        let tree: Value = serde_json::from_slice(bytes).map_err(|_| "it is no JSON".to_owned())?;
        let Value::Object(members) = &tree else { return Err("it is no set of keys".to_owned()) };
        let Some(Value::List(list)) = members.get("keys") else {
            return Err("it is no set of keys".to_owned());
        };
        if list.len() > MEMBERS_MAX {
            return Err(format!("it has more than {MEMBERS_MAX} keys"));
        }
        let mut set = Self { keys: Vec::new(), passed_over: 0, secret: 0 };
        let (mut names, mut nameless) = (HashSet::new(), HashSet::new());
        for member in list {
            if is_secret(member) {
                set.secret += 1;
                continue;
            }
            // Of two of one name the first is meant.
            let is_another = |key: &VerifyKey| match &key.kid {
                Some(kid) => names.insert(kid.clone()),
                None => nameless.len() < NAMELESS_KEYS_MAX && nameless.insert(key.id),
            };
            match public(member).filter(is_another) {
                Some(key) => set.keys.push(key),
                None => set.passed_over += 1,
            }
            if set.keys.len() > ISSUER_KEYS_MAX {
                return Err(format!("it has more than {ISSUER_KEYS_MAX} keys that tokens are looked at by"));
            }
        }
        if set.keys.is_empty() {
            return Err(format!(
                "none of its keys can be looked at tokens by: {} are private or secrets, {} for something else, not \
                 known here, or weak",
                set.secret, set.passed_over
            ));
        }
        set.keys.sort_by(|a, b| (&a.kid, a.id).cmp(&(&b.kid, b.id)));
        Ok(set)
    }
}

/// Whether who has it can sign by it.
fn is_secret(member: &Value) -> bool {
    let Value::Object(key) = member else { return false };
    let is_symmetric = matches!(key.get("kty"), Some(Value::Text(kty)) if kty == "oct");
    is_symmetric || PRIVATE.iter().chain(&["k", "secret"]).any(|it| key.contains_key(*it))
}

/// A public key that tokens can be looked at by. What a document alone says otherwise (`pem`) is none.
fn public(member: &Value) -> Option<VerifyKey> {
    let Value::Object(members) = member else { return None };
    if !members.contains_key("kty") || members.contains_key("pem") {
        return None;
    }
    let mut faults = Faults::default();
    let key = key(&Spot::of(member), &mut faults);
    faults.none_or(key).ok().flatten()
}

#[cfg(test)]
mod tests;
