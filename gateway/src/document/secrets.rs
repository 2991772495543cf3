//! Secrets of issuers, and private keys of certificates, in a document's tree: they go in, and what is shown of each names
//! it and says nothing of it. Unlike a key of a consumer, a secret itself is needed to look at tokens, so it is kept; a
//! document that has what was shown means the secret that is there already.
//!
//! A secret is kept sealed (`sealed`), or lies open where there is no cluster key or a member is of a version before. Of
//! one that lies open the SHA-256 is shown, from which a secret that people thought of can be guessed; of one that is
//! sealed a random reference.

mod sealed;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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

/// A private key in PEM.
pub(super) fn of_pem(text: &str, bytes_max: usize) -> Result<&str, String> {
    let is_one = text.len() <= bytes_max && !is_shown(text) && read_sealed(text).is_none();
    is_one.then_some(text).ok_or_else(|| fault(text, &format!("a key has at most {bytes_max} bytes")))
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

/// The kinds of objects that have some, and the member of a certificate that is one.
const CERTIFICATES: &str = "certificates";
const CERTIFICATE_KEY: &str = "key";
const CERTIFICATE: &str = "certificate";
/// What stands in place of a certificate's key that nobody could open, for who judges a document and for balancers.
pub(crate) const ABSENT_KEY: &str = "absent";
const ISSUERS: &str = "issuers";

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
enum Place {
    Issuer {
        issuer: String,
        /// Which of its keys it is of.
        key: usize,
        member: &'static str,
    },
    /// The key of the certificate with that name.
    Certificate(String),
}

impl Place {
    fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }
}

/// Each secret's text.
fn each(document: &mut Value, mut with: impl FnMut(Place, Form, &mut String)) {
    let Value::Object(members) = document else { return };
    if let Some(Value::Object(certificates)) = members.get_mut(CERTIFICATES) {
        for (name, fields) in certificates {
            let Value::Object(fields) = fields else { continue };
            if let Some(Value::Text(text)) = fields.get_mut(CERTIFICATE_KEY) {
                with(Place::Certificate(name.clone()), Form::Text, text);
            }
        }
    }
    let Some(Value::Object(issuers)) = members.get_mut(ISSUERS) else { return };
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
                    with(Place::Issuer { issuer: issuer.clone(), key: at, member }, form, text);
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
    let (mut known, others) = (HashMap::new(), other_leaves(document, before));
    each(&mut before.clone(), |place, form, text| {
        if let Some(secret) = form.bytes(text) {
            // A certificate's key is no issuer's secret, whoever says so.
            let of = place.is_certificate();
            known.extend(sealings.shown_of(&place, text).map(|shown| ((of, shown), secret.clone())));
            // Also what was shown of it while it lay open.
            known.insert((of, KeyDigest::of(&secret).kept()), secret);
        }
    });
    each(document, |place, form, text| {
        let named = known.get(&(place.is_certificate(), text.clone()));
        if let Some(secret) = named.and_then(|it| form.written(it)) {
            *text = secret;
        } else if let Some(kept) = sealings.absent_shown_as(&place, text)
            && !others.contains(&place)
        {
            *text = kept;
        }
    });
}

/// Puts other bytes in the place of secrets that are only named: so that a document is judged where nobody knows them. Nothing
/// stands in for a certificate's key: all else of it is judged.
pub(crate) fn stand_in(document: &mut Value) {
    each(document, |place, form, text| {
        if place.is_certificate() && is_shown(text) {
            ABSENT_KEY.clone_into(text);
            return;
        }
        let digits = text.strip_prefix(KEPT_PREFIX).filter(|it| KeyDigest::read(it).is_some());
        let digits = digits.or_else(|| reference_shown(text));
        if let Some(stand_in) = digits.and_then(|it| form.written(format!("stand-in:{it}").as_bytes())) {
            *text = stand_in;
        }
    });
}

/// The places of certificates that are others than before: what nobody can open may not be their key.
fn other_leaves(document: &Value, before: &Value) -> BTreeSet<Place> {
    let leaves = |document: &Value| {
        let mut leaves = BTreeMap::new();
        let Value::Object(members) = document else { return leaves };
        let Some(Value::Object(certificates)) = members.get(CERTIFICATES) else { return leaves };
        for (name, fields) in certificates {
            let Value::Object(fields) = fields else { continue };
            if let Some(Value::Text(chain)) = fields.get(CERTIFICATE) {
                let leaf = CertificateDer::pem_slice_iter(chain.as_bytes()).next().and_then(Result::ok);
                leaves.insert(Place::Certificate(name.clone()), leaf);
            }
        }
        leaves
    };
    let (now, before) = (leaves(document), leaves(before));
    now.into_iter().filter(|(place, leaf)| before.get(place) != Some(leaf)).map(|(place, _)| place).collect()
}

/// Whether a certificate has in place of its key what stands for one that is absent: nobody puts that.
pub(crate) fn says_absent(document: &Value) -> bool {
    any(document, |_, text| text == ABSENT_KEY)
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
    let (mut found, mut looked) = (false, BTreeMap::new());
    for kind in [CERTIFICATES, ISSUERS] {
        looked.extend(members.get(kind).map(|it| (kind.to_owned(), it.clone())));
    }
    let mut looked = Value::Object(looked);
    each(&mut looked, |_, form, text| found |= is_it(form, text));
    found
}

#[cfg(test)]
mod tests;
