//! Data keys: under which secrets of the documents are sealed.
//!
//! Each document names a few, or none. A key is there for as long as a document that is kept names it, and no longer: so
//! their number is bounded by that of the documents, and none is missing that a way back needs. They are wrapped by who
//! proposes; here they are bytes.
//!
//! In the rolling hash, as what: 0 a document that names keys (its number, each id in two halves), 1 a key that is new or
//! wrapped anew (its id, its version, whether it is spent; its bytes), 2 a document that was sealed (as 0; its bytes).

use bytes::Bytes;

use super::{Gateway, Told};
use crate::gateway::{DataKey, GatewayOutcome, NAMED_MAX, Revision, WRAPPED_AT_ONCE_MAX, WRAPPED_BYTES_MAX};
use crate::kind::At;
use crate::rolling::Effect;

/// Whether a document may name these, each once, and none is larger than a key may be.
pub(super) fn fit(keys: &[DataKey]) -> bool {
    let is_once = |key: &DataKey| keys.iter().filter(|other| other.id == key.id).count() == 1;
    keys.len() <= NAMED_MAX && keys.iter().all(|key| fits(key) && is_once(key))
}

pub(super) fn fits(key: &DataKey) -> bool {
    key.wrapped.len() <= WRAPPED_BYTES_MAX
}

fn halves(id: u128) -> [u64; 2] {
    [(id >> 64) as u64, id as u64]
}

/// A document's number, and the keys that it names.
fn numbers(number: u64, keys: &[DataKey]) -> Vec<u64> {
    [number].into_iter().chain(keys.iter().flat_map(|key| halves(key.id))).collect()
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
    /// The data keys that a document names.
    pub fn keys_of(&self, told: &Told) -> impl Iterator<Item = &DataKey> {
        self.held.keys_of(told)
    }

    /// All data keys that documents name.
    pub fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.held.keys.iter()
    }

    /// A document is to name these keys: they are there from now on.
    pub(super) fn name(&mut self, number: u64, keys: &[DataKey], at: &mut At<'_>) -> Vec<u128> {
        if !keys.is_empty() {
            let numbers = numbers(number, keys);
            at.rolling.note(Effect::GatewaySecrets { what: 0, numbers: &numbers, texts: &[] });
            self.hold(keys, at);
        }
        keys.iter().map(|key| key.id).collect()
    }

    /// One that is there may have been wrapped anew since whoever names it looked: it stays.
    fn hold(&mut self, keys: &[DataKey], at: &mut At<'_>) {
        for key in keys {
            if self.held.keys.iter().all(|known| known.id != key.id) {
                note(key, at);
                self.held.keys.push(copied(key));
            }
        }
    }

    /// Keys go that no document names any more.
    pub(super) fn forget_keys(&mut self) {
        let told = &self.held.told;
        self.held.keys.retain(|key| told.iter().any(|told| told.keys.contains(&key.id)));
    }

    /// Puts the sealed form of a document in its place, where that names the keys that were looked at.
    pub(super) fn seal(
        &mut self,
        which: Revision,
        from: &[u128],
        (document, keys): (&Bytes, &[DataKey]),
        at: &mut At<'_>,
    ) -> GatewayOutcome {
        if document.len() > at.limits.gateway_document_bytes_max || keys.is_empty() || !fit(keys) {
            return GatewayOutcome::TooLarge;
        }
        let not_done = GatewayOutcome::Sealed { is_done: false };
        if self.held.lineage != which.lineage {
            return not_done;
        }
        let ids: Vec<u128> = keys.iter().map(|key| key.id).collect();
        let Some(told) = self.held.told.iter_mut().find(|told| told.number == which.number) else {
            return not_done;
        };
        // What is carried again finds the keys that it has put there.
        if told.keys != from || told.keys == ids {
            return not_done;
        }
        told.document = Bytes::copy_from_slice(document);
        told.keys = ids;
        let numbers = numbers(which.number, keys);
        at.rolling.note(Effect::GatewaySecrets { what: 2, numbers: &numbers, texts: &[document] });
        self.hold(keys, at);
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
