//! What is told of a segment beside its file.

use serde::{Deserialize, Serialize};

/// A message segment, as it is in a consistent state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentMeta {
    pub first_seq: u64,
    /// Messages in it; never 0.
    pub count: u64,
    /// Its bytes; the file may since have grown past them.
    pub len: u64,
    /// It will not grow any more.
    pub sealed: bool,
}

/// Which segment an index belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexKey {
    pub first_seq: u64,
    pub count: u64,
    pub data_len: u64,
}
