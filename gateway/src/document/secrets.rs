//! Secrets of issuers in a document's tree: they go in, and what is shown of each is its SHA-256. Unlike a key of a
//! consumer, a secret itself is needed to look at tokens, so it is kept; a document that has what was shown means the
//! secret that is there already.

use std::collections::HashMap;

use crate::auth::jwt::{self, SECRET_BYTES_MAX};
use crate::auth::{KEPT_PREFIX, KeyDigest};
use crate::value::Value;

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
    if text.starts_with(KEPT_PREFIX) {
        return "this is what is shown of a secret, and there is no such secret here: put the secret itself"
            .to_owned();
    }
    otherwise.to_owned()
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

    /// None of what is shown of one.
    fn bytes(self, text: &str) -> Option<Vec<u8>> {
        match self {
            _ if text.starts_with(KEPT_PREFIX) => None,
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

/// Each secret's text.
fn each(document: &mut Value, mut with: impl FnMut(Form, &mut String)) {
    let Value::Object(members) = document else { return };
    let Some(Value::Object(issuers)) = members.get_mut("issuers") else { return };
    for issuer in issuers.values_mut() {
        let Value::Object(fields) = issuer else { continue };
        let list = match fields.get_mut("keys") {
            Some(Value::Object(set)) => set.get_mut("keys"),
            list => list,
        };
        let Some(Value::List(keys)) = list else { continue };
        for key in keys {
            let Value::Object(key) = key else { continue };
            for (name, form) in Form::MEMBERS {
                if let Some(Value::Text(text)) = key.get_mut(name) {
                    with(form, text);
                }
            }
        }
    }
}

/// Shows of each secret its SHA-256.
pub(crate) fn hide(document: &mut Value) {
    each(document, |form, text| {
        if let Some(secret) = form.bytes(text) {
            *text = KeyDigest::of(&secret).kept();
        }
    });
}

/// Puts the secrets that `before` has where they are named by what was shown of them.
pub(crate) fn put_back(document: &mut Value, before: &Value) {
    if !has_shown(document) {
        return;
    }
    let mut known = HashMap::new();
    each(&mut before.clone(), |form, text| {
        if let Some(secret) = form.bytes(text) {
            known.insert(KeyDigest::of(&secret).kept(), secret);
        }
    });
    each(document, |form, text| {
        if let Some(secret) = known.get(text).and_then(|it| form.written(it)) {
            *text = secret;
        }
    });
}

/// Puts other bytes in the place of secrets that are only named: so that a document is judged where nobody knows them.
pub(crate) fn stand_in(document: &mut Value) {
    each(document, |form, text| {
        let digest = text.strip_prefix(KEPT_PREFIX).and_then(KeyDigest::read);
        if let Some(stand_in) = digest.and_then(|it| form.written(it.kept().as_bytes())) {
            *text = stand_in.replace(KEPT_PREFIX, "stand-in:");
        }
    });
}

/// Whether any is only named.
fn has_shown(document: &Value) -> bool {
    any(document, |_, text| text.starts_with(KEPT_PREFIX))
}

/// Whether there is any that is to be hidden.
pub(crate) fn has_some(document: &Value) -> bool {
    any(document, |form, text| form.bytes(text).is_some())
}

fn any(document: &Value, is_it: impl Fn(Form, &str) -> bool) -> bool {
    let Value::Object(members) = document else { return false };
    let Some(issuers) = members.get("issuers") else { return false };
    let mut found = false;
    let mut looked = Value::Object([("issuers".to_owned(), issuers.clone())].into());
    each(&mut looked, |form, text| found |= is_it(form, text));
    found
}
