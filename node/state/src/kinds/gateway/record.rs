//! The gateway as a checkpoint and a snapshot carry it.
//!
//! ```text
//! section   len:u32 head[len], each document: its bytes
//! ```
//!
//! Little-endian. The head, in the codec's encoding, has the lineage, of each document its number, its time, where it
//! comes from and its length, and the requests that are remembered. In format 2, which is written where secrets are
//! sealed, each document has the data keys that it names as well, and these keys follow.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use super::{REMEMBERED_MAX, Told, keys};
use crate::clock::Stamp;
use crate::gateway::{DataKey, NAMED_MAX, SOURCE_BYTES_MAX};
use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;

const LEN_BYTES: usize = 4;

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// 0 while there was never a document.
    pub(super) lineage: u128,
    /// The newest last.
    pub(super) told: VecDeque<Told>,
    /// The latest requests, the oldest first: their nonces, and the numbers that they made.
    pub(super) recent: VecDeque<(u64, u64)>,
    /// The data keys that documents name, each once.
    pub(super) keys: Vec<DataKey>,
}

/// All but the documents themselves.
#[derive(Serialize, Deserialize)]
struct Head {
    lineage: u128,
    told: Vec<(u64, Stamp, String, u64)>,
    recent: VecDeque<(u64, u64)>,
}

/// What format 2 has behind it: of each document the key that it names, and the keys.
#[derive(Default, Serialize, Deserialize)]
struct Sealed {
    named: Vec<Vec<u128>>,
    keys: Vec<DataKey>,
}

/// From this format on there are data keys.
const SEALED: u16 = 2;

impl GatewayRecord {
    /// The newest document.
    pub fn newest(&self) -> Option<&Told> {
        self.told.back()
    }

    /// The data keys that a document names.
    pub fn keys_of(&self, told: &Told) -> impl Iterator<Item = &DataKey> {
        told.keys.iter().filter_map(|id| self.keys.iter().find(|key| key.id == *id))
    }

    /// Whether secrets of a document are sealed.
    pub fn is_sealed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether each key is named, and each document has those that it names, each once.
    fn check_keys(&self) -> Result<(), Invalid> {
        let is_there = |id: u128| self.keys.iter().filter(|key| key.id == id).count() == 1;
        let is_named = |key: &DataKey| self.told.iter().any(|told| told.keys.contains(&key.id));
        let has_its_own = |told: &Told| {
            let is_once = |id: &u128| told.keys.iter().filter(|other| *other == id).count() == 1;
            told.keys.len() <= NAMED_MAX && told.keys.iter().all(|id| is_there(*id) && is_once(id))
        };
        // So there are no more of them than documents can name.
        let most = self.told.len() * NAMED_MAX;
        let all = self.keys.len() <= most && self.keys.iter().all(|key| is_named(key) && keys::fits(key));
        match all && self.keys.iter().all(|key| is_there(key.id)) && self.told.iter().all(has_its_own) {
            true => Ok(()),
            false => Err(Invalid(format!("{} data keys of the gateway", self.keys.len()))),
        }
    }

    /// Whether more documents before the newest are kept than may be.
    pub(super) fn is_beyond(&self, limits: &Limits) -> bool {
        let past = self.told.len().saturating_sub(1);
        let bytes: usize = self.told.iter().take(past).map(|told| told.document.len()).sum();
        past > limits.gateway_history_max || bytes > limits.gateway_history_bytes_max
    }
}

impl Record for GatewayRecord {
    const ID: KindId = KindId(8);
    const NAME: &'static str = "gateway";
    const FORMATS: (u16, u16) = (1, SEALED);

    fn format(&self) -> u16 {
        if self.is_sealed() { SEALED } else { 1 }
    }

    fn check(&self) -> Result<(), Invalid> {
        let invalid = |what: String| Err(Invalid(what));
        if self.is_beyond(&Limits::WIDEST) {
            return invalid(format!("{} documents of the gateway", self.told.len()));
        }
        self.check_keys()?;
        let mut last = 0;
        for Told { number, source, document, .. } in &self.told {
            if *number <= last {
                return invalid(format!("a document {number} of the gateway after {last}"));
            }
            let (length, source) = (document.len(), source.len());
            if length > Limits::WIDEST.gateway_document_bytes_max || source > SOURCE_BYTES_MAX {
                return invalid(format!("a document of the gateway of {length} bytes, from {source}"));
            }
            last = *number;
        }
        let is_known = |(_, number): &(u64, u64)| (1..=last).contains(number);
        if self.recent.len() > REMEMBERED_MAX || !self.recent.iter().all(is_known) {
            return invalid(format!("{} remembered requests of the gateway", self.recent.len()));
        }
        match self.lineage == 0 || !self.told.is_empty() {
            true => Ok(()),
            false => invalid("a lineage of no document".into()),
        }
    }

    fn encode_piece(&self, format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        if let Some(number) = number.checked_sub(1) {
            let told = self.told.get(number);
            told.iter().for_each(|it| bytes.extend_from_slice(&it.document));
            return Ok(told.is_some());
        }
        let told =
            self.told.iter().map(|it| (it.number, it.time, it.source.clone(), it.document.len() as u64));
        let head = Head { lineage: self.lineage, told: told.collect(), recent: self.recent.clone() };
        let at = bytes.len();
        bytes.extend_from_slice(&[0; LEN_BYTES]);
        codec::encode_into(&head, bytes)?;
        if format >= SEALED {
            let named = self.told.iter().map(|it| it.keys.clone()).collect();
            codec::encode_into(&Sealed { named, keys: self.keys.clone() }, bytes)?;
        }
        let len = (bytes.len() - at - LEN_BYTES) as u32;
        bytes[at..at + LEN_BYTES].copy_from_slice(&len.to_le_bytes());
        Ok(true)
    }

    fn decode(format: u16, bytes: &[u8]) -> Result<Self, Invalid> {
        let ends = || Invalid("the gateway's documents end before they are whole".into());
        let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>().ok_or_else(ends)?;
        let (head, mut rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(ends)?;
        let (head, sealed): (Head, Sealed) = match format < SEALED {
            true => (codec::decode(head)?, Sealed::default()),
            false => codec::decode(head)?,
        };
        let mut named = sealed.named.into_iter();
        let mut told = VecDeque::new();
        for (number, time, source, len) in head.told {
            let keys = named.next().unwrap_or_default();
            let len = usize::try_from(len).map_err(|_| ends())?;
            let (document, behind) = rest.split_at_checked(len).ok_or_else(ends)?;
            told.push_back(Told { number, time, source, document: Bytes::copy_from_slice(document), keys });
            rest = behind;
        }
        match rest.is_empty() {
            true if named.next().is_some() => {
                Err(Invalid("more documents of the gateway name keys than there are".into()))
            }
            true => Ok(Self { lineage: head.lineage, told, recent: head.recent, keys: sealed.keys }),
            false => Err(Invalid(format!("{} bytes follow the gateway's documents", rest.len()))),
        }
    }
}
