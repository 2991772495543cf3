//! Secrets of issuers in a document's tree: they go in, and what is shown of each names it and says nothing of it. Unlike
//! a key of a consumer, a secret itself is needed to look at tokens, so it is kept; a document that has what was shown
//! means the secret that is there already.
//!
//! A secret is kept sealed (`sealed`), or lies open where there is no cluster key or a member is of a version before. Of
//! one that lies open the SHA-256 is shown, from which a secret that people thought of can be guessed; of one that is
//! sealed a random reference.

mod sealed;

use std::collections::HashMap;

use crate::auth::jwt::{self, SECRET_BYTES_MAX};
use crate::auth::{KEPT_PREFIX, KeyDigest};
use crate::value::Value;

pub use self::sealed::Sealer;
pub(crate) use self::sealed::{Absent, Sealings, open, retained, seal, stand_in_for_absent};
use self::sealed::{read_sealed, reference_shown};

/// The secret of a text: its bytes.
pub(super) fn of_text(text: &str) -> Result<Vec<u8>, String> {
    let fits = text.len() <= SECRET_BYTES_MAX;
    let bytes = fits.then(|| Form::Text.bytes(text)).flatten();
    bytes.ok_or_else(|| fault(text, &format!("a secret has at most {SECRET_BYTES_MAX} bytes")))
}

/// That of a text in base64.
pub(super) fn of_base64(text: &str) -> Result<Vec<u8>, String> {
    let fits = text.len() <= 2 * SECRET_BYTES_MAX;
    let bytes = fits.then(|| Form::Base64.bytes(text)).flatten();
    bytes.ok_or_else(|| fault(text, "expected is a secret in base64url, without padding"))
}

fn fault(text: &str, otherwise: &str) -> String {
    if is_shown(text) {
        return "this is what is shown of a secret, and there is no such secret here that can be opened: put the \
                secret itself"
            .to_owned();
    }
    if read_sealed(text).is_some() {
        return "this is how nodes keep a secret, and no document that is put has it: put the secret itself, or what \
                is shown of it"
            .to_owned();
    }
    otherwise.to_owned()
}

/// Whether a text is what is shown of a secret.
fn is_shown(text: &str) -> bool {
    text.starts_with(KEPT_PREFIX) || reference_shown(text).is_some()
}

/// How a secret is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Base64,
}

impl Form {
    /// By the member of a key that has it.
    const MEMBERS: [(&str, Self); 2] = [("secret", Self::Text), ("k", Self::Base64)];

    /// None of what is shown of one, and of one that is sealed.
    fn bytes(self, text: &str) -> Option<Vec<u8>> {
        match self {
            _ if is_shown(text) || read_sealed(text).is_some() => None,
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Base64 => jwt::decode(text.as_bytes()),
        }
    }

    fn written(self, secret: &[u8]) -> Option<String> {
        match self {
            Self::Text => String::from_utf8(secret.to_vec()).ok(),
            Self::Base64 => Some(jwt::encode(secret)),
        }
    }
}

/// Where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    issuer: String,
    /// Which of its keys it is of.
    key: usize,
    member: &'static str,
}

/// Each secret's text.
fn each(document: &mut Value, mut with: impl FnMut(Place, Form, &mut String)) {
    let Value::Object(members) = document else { return };
    let Some(Value::Object(issuers)) = members.get_mut("issuers") else { return };
    for (issuer, fields) in issuers {
        let Value::Object(fields) = fields else { continue };
        let list = match fields.get_mut("keys") {
            Some(Value::Object(set)) => set.get_mut("keys"),
            list => list,
        };
        let Some(Value::List(keys)) = list else { continue };
        for (at, key) in keys.iter_mut().enumerate() {
            let Value::Object(key) = key else { continue };
            for (member, form) in Form::MEMBERS {
                if let Some(Value::Text(text)) = key.get_mut(member) {
                    with(Place { issuer: issuer.clone(), key: at, member }, form, text);
                }
            }
        }
    }
}

/// Shows of each secret what names it.
pub(crate) fn hide(document: &mut Value, sealings: &Sealings) {
    each(document, |place, form, text| {
        if let Some(shown) = sealings.shown_of(&place, text) {
            *text = shown;
        } else if let Some(secret) = form.bytes(text) {
            *text = KeyDigest::of(&secret).kept();
        }
    });
}

/// Puts the secrets that `before` has where they are named by what was shown of them. One that nobody can open stays as it
/// is kept, in its place alone.
pub(crate) fn put_back(document: &mut Value, before: &Value, sealings: &Sealings) {
    if !any(document, |_, text| is_shown(text)) {
        return;
    }
    let mut known = HashMap::new();
    each(&mut before.clone(), |place, form, text| {
        if let Some(secret) = form.bytes(text) {
            known.extend(sealings.shown_of(&place, text).map(|shown| (shown, secret.clone())));
            // Also what was shown of it while it lay open.
            known.insert(KeyDigest::of(&secret).kept(), secret);
        }
    });
    each(document, |place, form, text| {
        if let Some(secret) = known.get(text).and_then(|it| form.written(it)) {
            *text = secret;
        } else if let Some(kept) = sealings.absent_shown_as(&place, text) {
            *text = kept;
        }
    });
}

/// Puts other bytes in the place of secrets that are only named: so that a document is judged where nobody knows them.
pub(crate) fn stand_in(document: &mut Value) {
    each(document, |_, form, text| {
        let digits = text.strip_prefix(KEPT_PREFIX).filter(|it| KeyDigest::read(it).is_some());
        let digits = digits.or_else(|| reference_shown(text));
        if let Some(stand_in) = digits.and_then(|it| form.written(format!("stand-in:{it}").as_bytes())) {
            *text = stand_in;
        }
    });
}

/// Whether there is any that is to be hidden.
pub(crate) fn has_some(document: &Value) -> bool {
    any(document, |form, text| form.bytes(text).is_some() || read_sealed(text).is_some())
}

/// How many lie open.
pub(crate) fn count_open(document: &Value) -> usize {
    let mut open = 0;
    any(document, |form, text| {
        open += usize::from(form.bytes(text).is_some());
        false
    });
    open
}

fn any(document: &Value, mut is_it: impl FnMut(Form, &str) -> bool) -> bool {
    let Value::Object(members) = document else { return false };
    let Some(issuers) = members.get("issuers") else { return false };
    let mut found = false;
    let mut looked = Value::Object([("issuers".to_owned(), issuers.clone())].into());
    each(&mut looked, |_, form, text| found |= is_it(form, text));
    found
}

#[cfg(test)]
mod tests;
