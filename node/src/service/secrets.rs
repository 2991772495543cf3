//! Secrets of the gateway's document, as this node has them: sealed and opened by the cluster's keys.
//!
//! In the state a document's secrets lie sealed under a data key, which lies beside, wrapped for each cluster key. Who
//! changes a document opens it and seals what becomes of it, before anything is proposed; what balancers are told is made
//! once for each revision and ring. A secret that no key here opens is absent: balancers are told what nobody knows in its
//! place, so that its tokens are refused and all else is as it was.
//!
//! A data key is spent once a cluster key that opened it is taken away: who has that one, and an old copy of the log, has
//! the data key. What is put then is sealed under another. No tasks.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use skep_base::random::drawn;
use skep_gateway::Kept;
use skep_members::data_key::{self, DataKey as OpenKey};
use skep_members::in_force::{InForce, Keys};
use skep_members::key::KeyRing;
use skep_state::gateway::{DataKey, Revision, WRAPPED_AT_ONCE_MAX};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// A document as it lies in the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub document: Bytes,
    /// Under which its secrets are sealed, where they are.
    pub key: Option<DataKey>,
}

/// A document with its secrets opened, and under which key they are sealed.
#[derive(Clone, Copy)]
pub struct Opened<'a> {
    pub kept: &'a Kept,
    pub key: Option<&'a DataKey>,
}

/// A document as balancers are told it.
#[derive(Debug)]
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
        "a secret of an issuer is sealed under a key that is not here, and others cannot be sealed beside it: put that \
         secret itself, or take its issuer out"
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
    /// Every data key that can be opened is wrapped for the key that seals.
    pub may_old_go: bool,
}

/// The same as `/cluster` has it.
#[derive(Debug, Clone, Serialize)]
pub struct SecretsStatus {
    pub open: usize,
    pub absent: usize,
    /// Since when no secret needs another cluster key than the first of the ring; null while one does.
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
    /// Its data key, and how often that was wrapped.
    key: Option<(u128, u64)>,
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
        let Some(key) = &stored.key else { return Kept::trusted(text) };
        let ring = self.ring();
        let opened = ring.and_then(|it| unwrapped(&it.ring, key));
        Kept::opened(text, |place, sealed| opened.as_ref()?.open(place, sealed))
    }

    /// As what a document is kept that was made of the first of these. Its secrets are `sealed` where the members have
    /// agreed to that and there is a key. Takes the processor for long.
    pub fn keep(&self, document: &Kept, of: &[Opened<'_>], sealed: bool) -> Result<Stored, Unkept> {
        let has_open = document.secrets_open() > 0;
        if document.secrets_absent() > 0 {
            // They stay as they are, under their key.
            let Some(&Opened { kept, key: Some(key) }) = of.first() else { return Err(Unkept::Absent) };
            if !has_open {
                return stored(document, Some(key.clone()));
            }
            let opened = self.ring().and_then(|it| unwrapped(&it.ring, key)).ok_or(Unkept::Absent)?;
            return seal(document, of, Some(kept), &opened, key.clone());
        }
        let Some(ring) = self.ring().filter(|_| has_open && sealed) else { return stored(document, None) };
        for &Opened { kept, key } in of {
            if let Some(key) = key.filter(|key| !is_spent(&ring.ring, key))
                && let Some(opened) = unwrapped(&ring.ring, key)
            {
                return seal(document, of, Some(kept), &opened, key.clone());
            }
        }
        anew(document, of, &ring.ring)
    }

    /// As what a document of another past is kept. Its data key is good for nothing new, for the past may have been rotated
    /// away from it: what can be opened is sealed under another, what cannot stays as it is.
    pub fn keep_anew(&self, past: Stored, sealed: bool) -> Stored {
        let ring = self.ring().filter(|_| sealed);
        if let Some(kept) = self.open(&past)
            && let Some(ring) = ring.filter(|_| kept.secrets_absent() == 0 && kept.secrets_open() > 0)
            && let Ok(anew) = anew(&kept, &[Opened { kept: &kept, key: None }], &ring.ring)
        {
            return anew;
        }
        Stored { key: past.key.map(|key| DataKey { is_spent: true, ..key }), ..past }
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

    /// Whether no data key needs another cluster key than the one that seals.
    pub fn may_old_go<'a>(&self, mut keys: impl Iterator<Item = &'a DataKey>) -> bool {
        let Some(ring) = self.ring() else { return false };
        !keys.any(|key| data_key::needs_others_than_first(&ring.ring, &key.wrapped))
    }

    /// What balancers are told of a document. It is made once, however many ask; none where this process ends.
    pub async fn told(&self, revision: Revision, stored: &Stored) -> Option<Arc<Told>> {
        let ring = self.ring();
        let key = stored.key.as_ref().map(|key| (key.id, key.version));
        let mut known = self.0.told.lock().await;
        let is_it = |it: &&Known| {
            let is_same_ring = it.ring.as_ref().map(Arc::as_ptr) == ring.as_ref().map(Arc::as_ptr);
            (it.revision, it.key) == (revision, key) && (is_same_ring || key.is_none())
        };
        if let Some(it) = known.as_ref().filter(is_it) {
            return Some(it.told.clone());
        }
        let (secrets, stored) = (self.clone(), stored.clone());
        let told = tokio::task::spawn_blocking(move || Arc::new(secrets.made(&stored))).await.ok()?;
        *known = Some(Known { revision, key, ring, told: told.clone() });
        Some(told)
    }

    /// The text that balancers are told of a document that is in no state. Takes the processor for long.
    pub fn told_of(&self, stored: &Stored) -> Bytes {
        self.made(stored).document
    }

    fn made(&self, stored: &Stored) -> Told {
        let opened = stored.key.as_ref().and_then(|_| self.open(stored));
        let told = opened.as_ref().and_then(|it| it.told(&|sealed| self.in_place_of(sealed))?.json());
        // What cannot be read is told as it lies, and has nothing in it that is open.
        let document = told.map_or_else(|| stored.document.clone(), Bytes::from);
        let mut digest = DefaultHasher::new();
        digest.write(&document);
        let absent = opened.map_or(0, |it| it.secrets_absent());
        Told { digest: digest.finish(), document, absent }
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
        let seals_as = |of: &Option<Arc<InForce>>| match (of, &ring) {
            (Some(of), Some(ring)) => of.ring.seals_as(&ring.ring),
            _ => of.is_none() && ring.is_none(),
        };
        // Of another first key it is another word.
        let before = counted.since.take().filter(|(_, of)| seals_as(of));
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
        let counted = self.counted();
        let since = counted.since.as_ref().map(|(at, _)| humantime::format_rfc3339_seconds(*at).to_string());
        let Counts { open, absent, .. } = counted.counts;
        Some(SecretsStatus { open, absent, old_key_may_go_since: since })
    }
}

fn unwrapped(ring: &KeyRing, key: &DataKey) -> Option<OpenKey> {
    OpenKey::unwrap(ring, key.id, &key.wrapped)
}

/// Whether somebody may have it who has no key of the ring.
fn is_spent(ring: &KeyRing, key: &DataKey) -> bool {
    key.is_spent || data_key::is_wrapped_for_others(ring, &key.wrapped)
}

fn stored(document: &Kept, key: Option<DataKey>) -> Result<Stored, Unkept> {
    Ok(Stored { document: document.json().ok_or(Unkept::TooLarge)?.into(), key })
}

fn seal(
    document: &Kept,
    of: &[Opened<'_>],
    same: Option<&Kept>,
    opened: &OpenKey,
    key: DataKey,
) -> Result<Stored, Unkept> {
    let known: Vec<&Kept> = of.iter().map(|it| it.kept).collect();
    let sealed = document.sealed(&known, same, |place, plain| opened.seal(place, plain).ok(), drawn);
    stored(&sealed.ok_or(Unkept::Unsealed)?, Some(key))
}

/// Under a data key that is new.
fn anew(document: &Kept, of: &[Opened<'_>], ring: &KeyRing) -> Result<Stored, Unkept> {
    let opened = OpenKey::draw().map_err(|_| Unkept::Unsealed)?;
    let wrapped = opened.wrap(ring).map_err(|_| Unkept::Unsealed)?.into();
    let key = DataKey { id: opened.id(), version: 0, is_spent: false, wrapped };
    seal(document, of, None, &opened, key)
}

#[cfg(test)]
mod tests;
