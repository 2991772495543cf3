//! Data keys: under which secrets of the documents are sealed.
//!
//! Each document names one, or none. A key is there for as long as a document that is kept names it, and no longer: so
//! there are never more of them than documents, and none is missing that a way back needs. They are wrapped by who
//! proposes; here they are bytes.
//!
//! In the rolling hash, as what: 0 a document (its number, the key's id in two halves), 1 a key that is new or wrapped
//! anew (its id, its version, whether it is spent; its bytes), 2 a document that was sealed (as 0; its bytes).

use bytes::Bytes;

use super::{Gateway, Told};
use crate::gateway::{DataKey, GatewayOutcome, Revision, WRAPPED_AT_ONCE_MAX, WRAPPED_BYTES_MAX};
use crate::kind::At;
use crate::rolling::Effect;

/// Whether it is no larger than a key may be.
pub(super) fn fits(key: &DataKey) -> bool {
    key.wrapped.len() <= WRAPPED_BYTES_MAX
}

fn halves(id: u128) -> [u64; 2] {
    [(id >> 64) as u64, id as u64]
}

fn note(key: &DataKey, at: &mut At<'_>) {
    let [high, low] = halves(key.id);
    let numbers = [high, low, key.version, u64::from(key.is_spent)];
    at.rolling.note(Effect::GatewaySecrets { what: 1, numbers: &numbers, texts: &[&key.wrapped] });
}

/// A copy: it must not keep a whole log entry's memory alive.
fn copied(key: &DataKey) -> DataKey {
    DataKey { wrapped: Bytes::copy_from_slice(&key.wrapped), ..*key }
}

impl Gateway {
    /// The data key that a document names.
    pub fn key_of(&self, told: &Told) -> Option<&DataKey> {
        self.held.key_of(told)
    }

    /// All data keys that documents name.
    pub fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.held.keys.iter()
    }

    /// A document is to name this key: it is there from now on.
    pub(super) fn name(&mut self, number: u64, key: &DataKey, at: &mut At<'_>) -> u128 {
        let [high, low] = halves(key.id);
        at.rolling.note(Effect::GatewaySecrets { what: 0, numbers: &[number, high, low], texts: &[] });
        self.hold(key, at);
        key.id
    }

    /// One that is there may have been wrapped anew since whoever names it looked: it stays.
    fn hold(&mut self, key: &DataKey, at: &mut At<'_>) {
        if self.held.keys.iter().all(|known| known.id != key.id) {
            note(key, at);
            self.held.keys.push(copied(key));
        }
    }

    /// Keys go that no document names any more.
    pub(super) fn forget_keys(&mut self) {
        let told = &self.held.told;
        self.held.keys.retain(|key| told.iter().any(|told| told.key == Some(key.id)));
    }

    /// Puts the sealed form of a document in its place.
    pub(super) fn seal(
        &mut self,
        which: Revision,
        from: Option<u128>,
        document: &Bytes,
        key: &DataKey,
        at: &mut At<'_>,
    ) -> GatewayOutcome {
        if document.len() > at.limits.gateway_document_bytes_max || !fits(key) {
            return GatewayOutcome::TooLarge;
        }
        let is_of = self.held.lineage == which.lineage;
        let mut told = self.held.told.iter_mut().filter(|told| is_of && told.number == which.number);
        let Some(told) = told.next().filter(|told| told.key == from && from != Some(key.id)) else {
            return GatewayOutcome::Sealed { is_done: false };
        };
        told.document = Bytes::copy_from_slice(document);
        told.key = Some(key.id);
        let [high, low] = halves(key.id);
        let numbers = [which.number, high, low];
        at.rolling.note(Effect::GatewaySecrets { what: 2, numbers: &numbers, texts: &[document] });
        self.hold(key, at);
        // It is longer than it was.
        self.forget(at.limits);
        GatewayOutcome::Sealed { is_done: true }
    }

    /// Takes keys as they were wrapped anew.
    pub(super) fn wrap(&mut self, keys: &[DataKey], at: &mut At<'_>) -> GatewayOutcome {
        if keys.len() > WRAPPED_AT_ONCE_MAX || !keys.iter().all(fits) {
            return GatewayOutcome::TooLarge;
        }
        let mut is_done = false;
        for key in keys {
            let is_it = |known: &&mut DataKey| known.id == key.id && known.version == key.version;
            let Some(known) = self.held.keys.iter_mut().find(is_it) else { continue };
            let is_spent = known.is_spent || key.is_spent;
            *known = DataKey { version: key.version.saturating_add(1), is_spent, ..copied(key) };
            note(known, at);
            is_done = true;
        }
        GatewayOutcome::Sealed { is_done }
    }
}
