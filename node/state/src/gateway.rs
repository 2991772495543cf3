//! What changes the gateway's document, and what that comes to.
//!
//! A document is bytes here: who proposes one has looked whether it is one. So programs of two versions, of which one
//! knows more of documents, apply alike.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest word on where a document comes from, in bytes.
pub const SOURCE_BYTES_MAX: usize = 256;

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
}

impl GatewayOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        match self {
            Self::Set { document, source, .. } => 96 + document.len() + source.len(),
            Self::Add { document, source, .. } => 64 + document.len() + source.len(),
            Self::Renew { .. } => 64,
        }
    }

    /// Tells the request that it is of, carried again, from one that repeats it; 0 of what has none.
    pub fn nonce(&self) -> u64 {
        match self {
            Self::Set { nonce, .. } => *nonce,
            Self::Add { .. } | Self::Renew { .. } => 0,
        }
    }

    /// The same of another lineage: where it is made anew in a cluster of another past.
    pub fn of_lineage(mut self, other: u128) -> Self {
        let (Self::Set { lineage, .. } | Self::Add { lineage, .. } | Self::Renew { lineage }) = &mut self;
        *lineage = other;
        self
    }
}
