//! The port behind which the bulk of a kind lies: records in order, found by digest.
//!
//! The store's segments implement it, and a vector in tests.

use crate::clock::Stamp;
use crate::kind::Stopped;
use crate::message::{Digest, StoredMessage};

/// A message on its way into the records.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    pub seq: u64,
    pub time: Stamp,
    pub digest: &'a Digest,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

/// Records in the order of `seq`, with no gaps. A record is never changed.
pub trait Records {
    /// The last record's `seq`, 0 where there never was one.
    fn last_seq(&self) -> u64;

    /// The newest record of this digest. One at or below the floor may be found, or not.
    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped>;

    /// The digest of a record above the floor.
    fn digest_at(&self, seq: u64) -> Result<Digest, Stopped>;

    /// Records after a `seq`, in order: at most so many, and no more once they have so many bytes,
    /// but one at least where there is one.
    fn page(&self, after: u64, count_max: usize, bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped>;

    /// Appends the next record.
    fn push(&mut self, record: NewRecord<'_>) -> Result<(), Stopped>;

    /// Nothing needs the records up to this one any more.
    fn let_go(&mut self, floor: u64);
}
