//! Secrets of the gateway's document, as this node has them: sealed and opened by the cluster's keys.
//!
//! In the state a document's secrets lie sealed under data keys, which lie beside, wrapped for each cluster key. Who
//! changes a document opens it and seals what becomes of it, before anything is proposed; what balancers are told is made
//! once for each revision and ring. A secret that no key here opens is absent: balancers are told what nobody knows in its
//! place, so that its tokens are refused and all else is as it was.
//!
//! A data key is spent once a cluster key that opened it is taken away: who has that one, and an old copy of the log, has
//! the data key. What is put then is sealed under another. No tasks.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use skep_base::random::drawn;
use skep_gateway::Kept;
use skep_gateway::kept::Sealer;
use skep_members::data_key::{self, DataKey as OpenKey};
use skep_members::in_force::{InForce, Keys};
use skep_members::key::KeyRing;
use skep_state::gateway::{DataKey, NAMED_MAX, Revision, WRAPPED_AT_ONCE_MAX, WRAPPED_BYTES_MAX};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// What the state takes of a data key is enough for the largest ring.
const _: () = assert!(data_key::WRAPPED_BYTES_MAX <= WRAPPED_BYTES_MAX);

/// A document as it lies in the state.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub document: Bytes,
    /// Under which its secrets are sealed, where they are.
    pub keys: Vec<DataKey>,
}

/// Without what is in the document: secrets may lie open.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, keys) = (self.document.len(), self.ids());
        f.debug_struct("Stored").field("document_bytes", &bytes).field("keys", &keys).finish()
    }
}

impl Stored {
    /// Whether any of its secrets is sealed.
    pub fn is_sealed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The data keys that it names.
    pub fn ids(&self) -> Vec<u128> {
        self.keys.iter().map(|key| key.id).collect()
    }
}

/// A document with its secrets opened, and the keys under which they are sealed.
#[derive(Clone, Copy)]
pub struct Opened<'a> {
    pub kept: &'a Kept,
    pub keys: &'a [DataKey],
}

/// A document as balancers are told it.
pub struct Told {
    pub document: Bytes,
    /// Tells it from others of the same revision.
    pub digest: u64,
    /// Secrets of it that no key here opens.
    pub absent: usize,
}

/// Why a document cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unkept {
    #[error("it is too large with its secrets sealed")]
    TooLarge,
    #[error(
        "secrets of issuers or keys of certificates are sealed under {NAMED_MAX} data keys that are not here, and others \
         cannot be sealed beside them: put these themselves, or take their issuers or certificates out"
    )]
    Absent,
    #[error("its secrets cannot be sealed")]
    Unsealed,
}

/// What is known of all secrets that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// That lie open, in documents of the history too.
    pub open: usize,
    /// Of the newest document, that no key here opens.
    pub absent: usize,
    /// Documents before the newest with data keys that no key here opens.
    pub past_absent: usize,
    /// Each data key is wrapped for the keys of the ring and no other.
    pub may_old_go: bool,
}

/// The same as `/cluster` has it.
#[derive(Debug, Clone, Serialize)]
pub struct SecretsStatus {
    pub open: usize,
    pub absent: usize,
    pub past_absent: usize,
    /// Since when each secret can be opened by each key of the ring; null while one cannot, and while this node does not
    /// know what the cluster has.
    pub old_key_may_go_since: Option<String>,
}

/// Cheap to clone: one node has one.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    /// None where there is no cluster key.
    keys: Option<Keys>,
    /// Never changes, where there are none.
    unchanged: watch::Sender<()>,
    /// Drawn by this process: of this, without a key, nobody knows what follows.
    own: [u8; 32],
    told: AsyncMutex<Option<Known>>,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    counts: Counts,
    /// Since when the old key may go, and the ring of then.
    since: Option<(SystemTime, Option<Arc<InForce>>)>,
}

/// What was made of the newest document.
struct Known {
    revision: Revision,
    /// Its data keys, and how often each was wrapped.
    keys: Vec<(u128, u64)>,
    ring: Option<Arc<InForce>>,
    told: Arc<Told>,
}

impl Secrets {
    /// Those of a node with these keys; without any, secrets lie open.
    pub fn new(keys: Option<Keys>) -> Self {
        Self(Arc::new(Inner {
            keys,
            unchanged: watch::Sender::new(()),
            // Without chance nothing is told in place of an absent secret.
            own: drawn().unwrap_or_default(),
            told: AsyncMutex::new(None),
            counted: Mutex::default(),
        }))
    }

    /// Whether there is a key to seal with.
    pub fn has_key(&self) -> bool {
        self.0.keys.is_some()
    }

    /// Told of each change of the keys.
    pub fn rekeyed(&self) -> watch::Receiver<()> {
        self.0.keys.as_ref().map_or_else(|| self.0.unchanged.subscribe(), Keys::changes)
    }

    fn ring(&self) -> Option<Arc<InForce>> {
        self.0.keys.as_ref().map(Keys::now)
    }

    /// What a document says, with what can be opened of its secrets; none where this version cannot read it. Takes the
    /// processor for long.
    pub fn open(&self, stored: &Stored) -> Option<Kept> {
        let text = std::str::from_utf8(&stored.document).ok()?;
        if !stored.is_sealed() {
            return Kept::trusted(text);
        }
        let ring = self.ring();
        let unwrap = |key: &DataKey| unwrapped(&ring.as_ref()?.ring, key);
        let opened: Vec<OpenKey> = stored.keys.iter().filter_map(unwrap).collect();
        Kept::opened(text, |place, sealed| {
            let id = data_key::id_of(sealed)?;
            opened.iter().find(|key| key.id() == id)?.open(place, sealed)
        })
    }

    /// As what a document is kept that was made of these. Its secrets are `sealed` where the members have agreed to that and
    /// there is a key: under the key of one of these, unless that is spent, else under a new one. What cannot be opened stays
    /// as it is, under its own. Takes the processor for long.
    pub fn keep(&self, document: &Kept, of: &[Opened<'_>], sealed: bool) -> Result<Stored, Unkept> {
        let absent: Vec<u128> = document.absent_sealed().filter_map(|it| data_key::id_of(&it)).collect();
        let there = || of.iter().flat_map(|it| it.keys);
        let mut keys: Vec<DataKey> = Vec::new();
        for key in there().filter(|key| absent.contains(&key.id)) {
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key.clone());
            }
        }
        let ring = self.ring().filter(|_| sealed && document.secrets_open() > 0);
        let Some(ring) = ring else { return stored(document, keys) };
        let ring = &ring.ring;
        let usable = |key: &&DataKey| !is_spent(ring, key);
        let known = there().filter(usable).find_map(|key| Some((key.clone(), unwrapped(ring, key)?)));
        let (key, opened) = known.map_or_else(|| drawn_for(ring), Ok)?;
        if keys.iter().all(|known| known.id != key.id) {
            keys.push(key);
        }
        if keys.len() > NAMED_MAX {
            return Err(Unkept::Absent);
        }
        let known: Vec<&Kept> = of.iter().map(|it| it.kept).collect();
        let sealer = Sealer {
            stays: &|sealed| data_key::id_of(sealed) == Some(opened.id()),
            seal: &|place, plain| opened.seal(place, plain).ok(),
            draw: &drawn,
        };
        stored(&document.sealed(&known, &sealer).ok_or(Unkept::Unsealed)?, keys)
    }

    /// As what a document of another past is kept. Its data keys are good for nothing new, for the past may have been rotated
    /// away from them: what can be opened is sealed under another, what cannot stays as it is. Takes the processor for long.
    pub fn keep_anew(&self, past: Stored, sealed: bool) -> Result<Stored, Unkept> {
        let keys: Vec<DataKey> = past.keys.into_iter().map(|key| DataKey { is_spent: true, ..key }).collect();
        let past = Stored { document: past.document, keys };
        match self.open(&past) {
            Some(kept) => self.keep(&kept, &[Opened { kept: &kept, keys: &past.keys }], sealed),
            None => Ok(past),
        }
    }

    /// Whether something is sealed under a key that is spent, and can be sealed under another.
    pub fn is_to_be_renewed(&self, stored: &Stored) -> bool {
        let Some(ring) = self.ring() else { return false };
        stored.keys.iter().any(|key| is_spent(&ring.ring, key) && unwrapped(&ring.ring, key).is_some())
    }

    /// Data keys that are to be wrapped anew, for the ring is another.
    pub fn wrapped_anew<'a>(&self, keys: impl Iterator<Item = &'a DataKey>) -> Vec<DataKey> {
        let Some(ring) = self.ring() else { return Vec::new() };
        let ring = &ring.ring;
        let stale = keys.filter(|key| !data_key::is_wrapped_for(ring, &key.wrapped));
        let anew = stale.filter_map(|key| {
            let wrapped = unwrapped(ring, key)?.wrap(ring).ok()?;
            Some(DataKey { is_spent: is_spent(ring, key), wrapped: wrapped.into(), ..*key })
        });
        anew.take(WRAPPED_AT_ONCE_MAX).collect()
    }

    /// Whether each data key is wrapped for the ring, and for nobody else.
    pub fn are_wrapped<'a>(&self, mut keys: impl Iterator<Item = &'a DataKey>) -> bool {
        let Some(ring) = self.ring() else { return false };
        keys.all(|key| data_key::is_wrapped_for(&ring.ring, &key.wrapped))
    }

    /// Whether one of these cannot be opened.
    pub fn has_absent<'a>(&self, mut keys: impl Iterator<Item = &'a DataKey>) -> bool {
        let ring = self.ring();
        let is_none = |ring: &InForce, key: &DataKey| data_key::is_wrapped_for_none(&ring.ring, &key.wrapped);
        keys.any(|key| ring.as_ref().is_none_or(|ring| is_none(ring, key)))
    }

    /// What balancers are told of a document. It is made once, however many ask; none where this process
    /// ends, or the system gives no chance.
    pub async fn told(&self, revision: Revision, stored: &Stored) -> Option<Arc<Told>> {
        let ring = self.ring();
        let keys: Vec<_> = stored.keys.iter().map(|key| (key.id, key.version)).collect();
        let mut known = self.0.told.lock().await;
        let is_it = |it: &&Known| {
            let is_same_ring = it.ring.as_ref().map(Arc::as_ptr) == ring.as_ref().map(Arc::as_ptr);
            it.revision == revision && it.keys == keys && (is_same_ring || keys.is_empty())
        };
        if let Some(it) = known.as_ref().filter(is_it) {
            return Some(it.told.clone());
        }
        let (secrets, stored) = (self.clone(), stored.clone());
        let told = tokio::task::spawn_blocking(move || secrets.made(&stored).map(Arc::new)).await.ok()??;
        *known = Some(Known { revision, keys, ring, told: told.clone() });
        Some(told)
    }

    /// The text that balancers are told of a document that is in no state. Takes the processor for long.
    pub fn told_of(&self, stored: &Stored) -> Option<Bytes> {
        Some(self.made(stored)?.document)
    }

    fn made(&self, stored: &Stored) -> Option<Told> {
        let (mut document, mut absent) = (stored.document.clone(), 0);
        // What cannot be read is told as it lies: its secrets are in no form that opens anything.
        let opened = stored.is_sealed().then(|| self.open(stored)).flatten();
        if let Some(opened) = opened {
            absent = opened.secrets_absent();
            document = opened.told(&|sealed| self.in_place_of(sealed))?.json()?.into();
        }
        let mut digest = DefaultHasher::new();
        digest.write(&document);
        Some(Told { document, digest: digest.finish(), absent })
    }

    /// What nobody knows: the same at all nodes with the cluster's key, so that they tell the same.
    fn in_place_of(&self, sealed: &[u8]) -> Option<[u8; 32]> {
        match self.ring() {
            Some(ring) => data_key::in_place_of(&ring.ring, sealed),
            None if self.0.own == [0; 32] => None,
            None => Some(Sha256::new().chain_update(self.0.own).chain_update(sealed).finalize().into()),
        }
    }

    /// Takes note of what was found.
    pub fn note(&self, counts: Counts, now: SystemTime) {
        let ring = self.ring();
        let mut counted = self.counted();
        // Of another ring it is another word.
        let before = counted.since.take().filter(|(_, of)| is_same(of.as_deref(), ring.as_deref()));
        counted.since = before.or_else(|| Some((now, ring.clone()))).filter(|_| counts.may_old_go);
        counted.counts = counts;
    }

    pub fn counts(&self) -> Counts {
        self.counted().counts
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None where there is no cluster key.
    pub fn status(&self) -> Option<SecretsStatus> {
        self.0.keys.as_ref()?;
        let ring = self.ring();
        let counted = self.counted();
        let since = counted.since.as_ref().filter(|(_, of)| is_same(of.as_deref(), ring.as_deref()));
        let old_key_may_go_since = since.map(|(at, _)| humantime::format_rfc3339_seconds(*at).to_string());
        let Counts { open, absent, past_absent, .. } = counted.counts;
        Some(SecretsStatus { open, absent, past_absent, old_key_may_go_since })
    }
}

fn unwrapped(ring: &KeyRing, key: &DataKey) -> Option<OpenKey> {
    OpenKey::unwrap(ring, key.id, &key.wrapped)
}

/// Whether somebody may have it who has no key of the ring.
fn is_spent(ring: &KeyRing, key: &DataKey) -> bool {
    key.is_spent || data_key::is_wrapped_for_others(ring, &key.wrapped)
}

fn is_same(one: Option<&InForce>, other: Option<&InForce>) -> bool {
    one.map(|it| &it.ring) == other.map(|it| &it.ring)
}

fn stored(document: &Kept, keys: Vec<DataKey>) -> Result<Stored, Unkept> {
    Ok(Stored { document: document.json().ok_or(Unkept::TooLarge)?.into(), keys })
}

/// A new data key.
fn drawn_for(ring: &KeyRing) -> Result<(DataKey, OpenKey), Unkept> {
    let opened = OpenKey::draw().map_err(|_| Unkept::Unsealed)?;
    let wrapped = opened.wrap(ring).map_err(|_| Unkept::Unsealed)?.into();
    Ok((DataKey { id: opened.id(), version: 0, is_spent: false, wrapped }, opened))
}

#[cfg(test)]
mod tests;
