//! What changes the gateway's document, and what that comes to.
//!
//! A document is bytes here: who proposes one has looked whether it is one. So programs of two versions, of which one
//! knows more of documents, apply alike. Its secrets may be sealed: then it names the data keys under which they are, and
//! these lie here, wrapped, which is bytes as well. Nothing is opened or sealed where it is applied.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::level::Level;

/// Longest word on where a document comes from, in bytes.
pub const SOURCE_BYTES_MAX: usize = 256;

/// Most bytes of a data key, wrapped for all keys of a ring.
pub const WRAPPED_BYTES_MAX: usize = 1024;

/// Most data keys that a document names: one for all that is sealed, and some of what nobody there could open.
pub const NAMED_MAX: usize = 4;

/// Most data keys that one operation wraps anew.
pub const WRAPPED_AT_ONCE_MAX: usize = 64;

/// A key under which secrets of documents are sealed, as everybody has it who keeps them: for those who have the
/// cluster's key to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// Drawn with the key: never another's.
    pub id: u128,
    /// How often it was wrapped anew.
    pub version: u64,
    /// A key that was taken out of the ring had opened it: what is new is sealed under another.
    pub is_spent: bool,
    pub wrapped: Bytes,
}

/// Which document. A lineage is drawn with the first one, and anew where another past may go on elsewhere (restore,
/// recover): the same number of two lineages may be two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    pub lineage: u128,
    /// From 1; it rises with each document.
    pub number: u64,
}

/// One change. Variants are only ever added at the end: the codec numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayOp {
    /// Makes a document the newest, where the one that it was made of still is.
    Set {
        /// Tells this request, carried again, from another.
        nonce: u64,
        /// None where there is to be no document yet.
        expect: Option<Revision>,
        /// That of the cluster, where this is its first document.
        lineage: u128,
        document: Bytes,
        source: String,
    },
    /// Makes a document the first, where there is none: of what is made anew of a snapshot.
    Add { lineage: u128, document: Bytes, source: String },
    /// Gives the newest document a number of another lineage.
    Renew { lineage: u128 },
    /// The same as [`GatewayOp::Set`] of a document whose secrets are sealed under these keys. Level
    /// [`Level::SEALED`](crate::level::Level::SEALED), as all that follow. A key that is there stays as it is.
    SetSealed {
        nonce: u64,
        expect: Option<Revision>,
        lineage: u128,
        document: Bytes,
        source: String,
        keys: Vec<DataKey>,
    },
    /// The same as [`GatewayOp::Add`] of such a document.
    AddSealed { lineage: u128, document: Bytes, source: String, keys: Vec<DataKey> },
    /// Puts in the place of a document that is kept one that says the same, and whose secrets are sealed. It stays of
    /// its revision: who has its tag has the same document.
    Seal {
        lineage: u128,
        number: u64,
        /// The keys that it named when it was looked at.
        from: Vec<u128>,
        document: Bytes,
        keys: Vec<DataKey>,
    },
    /// Wraps keys anew, each where it is still of the version that was looked at.
    Wrap { keys: Vec<DataKey> },
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayOutcome {
    /// The document is of this revision.
    Set { revision: Revision },
    /// Another one is there than was expected, and nothing was done.
    Other { newest: Option<Revision> },
    /// The document is larger than may be, or where it comes from is: nothing was done.
    TooLarge,
    /// There is no document, and nothing was done.
    NoDocument,
    /// A document that is kept was sealed, or keys were wrapped anew; or what was looked at is another by now.
    Sealed { is_done: bool },
}

impl DataKey {
    fn size_estimate(&self) -> usize {
        48 + self.wrapped.len()
    }

    fn size_of_all(keys: &[Self]) -> usize {
        keys.iter().map(Self::size_estimate).sum()
    }
}

impl GatewayOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        match self {
            Self::Set { document, source, .. } => 96 + document.len() + source.len(),
            Self::Add { document, source, .. } => 64 + document.len() + source.len(),
            Self::Renew { .. } => 64,
            Self::SetSealed { document, source, keys, .. } => {
                96 + document.len() + source.len() + DataKey::size_of_all(keys)
            }
            Self::AddSealed { document, source, keys, .. } => {
                64 + document.len() + source.len() + DataKey::size_of_all(keys)
            }
            Self::Seal { document, from, keys, .. } => {
                64 + document.len() + 16 * from.len() + DataKey::size_of_all(keys)
            }
            Self::Wrap { keys } => 16 + DataKey::size_of_all(keys),
        }
    }

    /// The first level whose readers know it.
    pub fn level(&self) -> Level {
        match self {
            Self::Set { .. } | Self::Add { .. } | Self::Renew { .. } => Level::GATEWAY,
            Self::SetSealed { .. } | Self::AddSealed { .. } | Self::Seal { .. } | Self::Wrap { .. } => {
                Level::SEALED
            }
        }
    }

    /// Whether a client's data takes room by it. Keys that are wrapped anew are the way out of a ring's change.
    pub fn takes_room(&self) -> bool {
        !matches!(self, Self::Wrap { .. })
    }

    /// Tells the request that it is of, carried again, from one that repeats it; 0 of what has none.
    pub fn nonce(&self) -> u64 {
        match self {
            Self::Set { nonce, .. } | Self::SetSealed { nonce, .. } => *nonce,
            Self::Add { .. }
            | Self::Renew { .. }
            | Self::AddSealed { .. }
            | Self::Seal { .. }
            | Self::Wrap { .. } => 0,
        }
    }

    /// The same of another lineage: where it is made anew in a cluster of another past.
    pub fn of_lineage(mut self, other: u128) -> Self {
        match &mut self {
            Self::Set { lineage, .. }
            | Self::Add { lineage, .. }
            | Self::Renew { lineage }
            | Self::SetSealed { lineage, .. }
            | Self::AddSealed { lineage, .. }
            | Self::Seal { lineage, .. } => *lineage = other,
            Self::Wrap { .. } => {}
        }
        self
    }
}
