//! Secrets as they are kept where there is a cluster key: sealed, each for its place.
//!
//! ```text
//! sealed1:REFERENCE:SEALED     64 hex digits, and base64url of what the cluster's data key sealed
//! sealed:REFERENCE             what is shown of it
//! ```
//!
//! A reference is drawn with the secret, and stays its own where it is sealed anew. It says nothing of the secret: what
//! is shown, now or in the history, is nothing to guess from. Who seals and opens is told the place, of which the
//! reference is a part; what was moved to another issuer, or in the list, does not open there.

use std::collections::BTreeMap;
use std::fmt;

use super::{ABSENT_KEY, Place, each};
use crate::auth::KeyDigest;
use crate::auth::jwt;
use crate::value::Value;

/// What stands before the reference of a secret, as it is kept and as it is shown.
const SEALED_PREFIX: &str = "sealed1:";
const SHOWN_PREFIX: &str = "sealed:";
/// Bytes of a reference; its text is as long as the longest secret that an algorithm asks for.
const REFERENCE_BYTES: usize = 32;

/// The reference in what is shown of a sealed secret.
pub(super) fn reference_shown(text: &str) -> Option<&str> {
    text.strip_prefix(SHOWN_PREFIX).filter(|it| is_reference(it))
}

fn is_reference(text: &str) -> bool {
    text.len() == 2 * REFERENCE_BYTES && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The reference of a sealed secret, and what was sealed, in base64.
pub(super) fn read_sealed(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(SEALED_PREFIX)?.split_once(':').filter(|(reference, _)| is_reference(reference))
}

impl Place {
    /// What a secret with this reference is sealed for: no two places have the same.
    fn bytes(&self, reference: &str) -> Vec<u8> {
        match self {
            Self::Issuer { issuer, key, member } => {
                let (issuer, key) = (issuer.as_bytes(), *key as u64);
                let length = (issuer.len() as u64).to_le_bytes();
                [&length[..], issuer, &key.to_le_bytes(), reference.as_bytes(), member.as_bytes()].concat()
            }
            // No issuer's name has that length. A reference has always the same one.
            Self::Certificate(name) => {
                let kind = u64::MAX.to_le_bytes();
                [&kind[..], b"certificate", reference.as_bytes(), name.as_bytes()].concat()
            }
        }
    }
}

/// A secret that was sealed.
#[derive(Clone, PartialEq)]
struct Sealing {
    reference: String,
    /// As it is kept.
    kept: String,
    /// As it is written open; none where nobody could open it.
    plain: Option<String>,
}

impl Sealing {
    /// What was sealed.
    fn bytes(&self) -> Option<Vec<u8>> {
        read_sealed(&self.kept).and_then(|(_, sealed)| jwt::decode(sealed.as_bytes()))
    }
}

/// The secrets of a document that were sealed, by their places.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Sealings(BTreeMap<Place, Sealing>);

impl fmt::Debug for Sealings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealings").field("secrets", &self.0.len()).finish_non_exhaustive()
    }
}

impl Sealings {
    /// How many could not be opened.
    pub(crate) fn absent(&self) -> usize {
        self.0.values().filter(|it| it.plain.is_none()).count()
    }

    /// What was sealed and could not be opened.
    pub(crate) fn absent_bytes(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.values().filter(|it| it.plain.is_none()).filter_map(Sealing::bytes)
    }

    /// What is shown of a secret that was sealed.
    pub(super) fn shown_of(&self, place: &Place, text: &str) -> Option<String> {
        if let Some((reference, _)) = read_sealed(text) {
            return Some(format!("{SHOWN_PREFIX}{reference}"));
        }
        let sealing = self.0.get(place).filter(|it| it.plain.as_deref() == Some(text))?;
        Some(format!("{SHOWN_PREFIX}{}", sealing.reference))
    }

    /// How one is kept that nobody could open, and of which this is shown.
    pub(super) fn absent_shown_as(&self, place: &Place, text: &str) -> Option<String> {
        let reference = reference_shown(text)?;
        let sealing = self.0.get(place).filter(|it| it.plain.is_none() && it.reference == reference)?;
        Some(sealing.kept.clone())
    }

    fn is_absent(&self, place: &Place, text: &str) -> bool {
        self.0.get(place).is_some_and(|it| it.plain.is_none() && it.kept == text)
    }
}

/// Opens what was sealed; what does not open stays as it is.
pub(crate) fn open(document: &mut Value, mut open: impl FnMut(&[u8], &[u8]) -> Option<Vec<u8>>) -> Sealings {
    let mut sealings = BTreeMap::new();
    each(document, |place, form, text| {
        let Some((reference, sealed)) = read_sealed(text) else { return };
        let plain = jwt::decode(sealed.as_bytes()).and_then(|it| open(&place.bytes(reference), &it));
        let plain = plain.and_then(|it| form.written(&it));
        let sealing = Sealing { reference: reference.to_owned(), kept: text.clone(), plain };
        if let Some(plain) = &sealing.plain {
            text.clone_from(plain);
        }
        sealings.insert(place, sealing);
    });
    Sealings(sealings)
}

/// Those that nobody could open, and that stand in this document in the same places.
pub(crate) fn retained(document: &mut Value, before: &Sealings) -> Sealings {
    let mut retained = BTreeMap::new();
    if before.absent() > 0 {
        each(document, |place, _, text| {
            if before.is_absent(&place, text)
                && let Some(sealing) = before.0.get(&place)
            {
                retained.insert(place, sealing.clone());
            }
        });
    }
    Sealings(retained)
}

/// What takes the place of secrets that nobody could open.
pub(crate) enum Absent<'a> {
    /// Something, for who only looks whether the document holds.
    Judged,
    /// What nobody knows, by what is kept of each.
    Told(&'a dyn Fn(&[u8]) -> Option<[u8; 32]>),
}

/// Puts it there; whether there is something for each. Nothing stands in for a certificate's key: that it is absent is said.
pub(crate) fn stand_in_for_absent(document: &mut Value, sealings: &Sealings, with: &Absent<'_>) -> bool {
    let mut all = true;
    each(document, |place, form, text| {
        if !sealings.is_absent(&place, text) {
            return;
        }
        if place.is_certificate() {
            ABSENT_KEY.clone_into(text);
            return;
        }
        let bytes = match with {
            Absent::Judged => Some(KeyDigest::of(text.as_bytes()).digits()),
            Absent::Told(drawn) => drawn(text.as_bytes()).map(|it| crate::auth::hex(&it)),
        };
        // 64 digits are long enough for any algorithm.
        match bytes.and_then(|it| form.written(it.as_bytes())) {
            Some(stand_in) => *text = stand_in,
            None => all = false,
        }
    });
    all
}

/// Seals what stands at a place.
pub type Seals<'a> = dyn Fn(&[u8], &[u8]) -> Option<Vec<u8>> + 'a;

/// What seals secrets.
pub struct Sealer<'a> {
    /// Whether what was sealed before may stay to the letter.
    pub stays: &'a dyn Fn(&[u8]) -> bool,
    pub seal: &'a Seals<'a>,
    /// Draws a reference.
    pub draw: &'a dyn Fn() -> Option<[u8; REFERENCE_BYTES]>,
}

/// Seals what lies open. What one of `known` has in the same place keeps its reference, and stays to the letter where it may.
/// None where something cannot be sealed.
pub(crate) fn seal(document: &mut Value, known: &[&Sealings], sealer: &Sealer<'_>) -> Option<()> {
    let mut all = Some(());
    each(document, |place, form, text| {
        let Some(secret) = form.bytes(text) else { return };
        let is_it = |it: &&Sealing| it.plain.as_deref() == Some(text.as_str());
        let there: Vec<&Sealing> = known.iter().filter_map(|it| it.0.get(&place)).filter(is_it).collect();
        if let Some(same) = there.iter().find(|it| it.bytes().is_some_and(|it| (sealer.stays)(&it))) {
            text.clone_from(&same.kept);
            return;
        }
        let reference = there.first().map(|it| it.reference.clone());
        let reference = reference.or_else(|| (sealer.draw)().map(|it| crate::auth::hex(&it)));
        let kept = reference.and_then(|reference| {
            let sealed = (sealer.seal)(&place.bytes(&reference), &secret)?;
            Some(format!("{SEALED_PREFIX}{reference}:{}", jwt::encode(&sealed)))
        });
        match kept {
            Some(kept) => *text = kept,
            None => all = None,
        }
    });
    all
}
