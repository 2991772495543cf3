//! What this node gives of its records to another whose disk has lost them.

use bytes::Bytes;
use skep_raft::wire::{FRAME_BYTES_MAX, RECORDS_MAX, RecordName};

use crate::error::StoreError;
use crate::reader::Reader;
use crate::segments::{Shown, Wait, record};

/// Once they have so many bytes, no more records are given at a time.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// A record that is longer has no room in a frame.
const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;

impl Reader {
    /// The bytes of the first of these records, as many as are given at a time; none for one that is not here, or is
    /// lost here, too. Blocks.
    pub fn records(&self, names: &[RecordName]) -> Vec<Option<Bytes>> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for name in names.iter().take(RECORDS_MAX) {
            let record = self.record(*name).unwrap_or_else(|error| {
                tracing::debug!(%error, ?name, "a record is not given");
                None
            });
            let record = record.filter(|record| record.len() <= RECORD_BYTES_MAX);
            bytes += record.as_ref().map_or(0, Bytes::len);
            if bytes > BYTES_MAX && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        records
    }

    fn record(&self, name: RecordName) -> Result<Option<Bytes>, StoreError> {
        match name {
            RecordName::Message { seq } => {
                let view = {
                    let state = self.core().lock();
                    let messages = &state.kinds.messages;
                    // What is dropped may be something else by now that fills its place.
                    if seq <= messages.removed().floor() || seq > messages.records().published_seq() {
                        return Ok(None);
                    }
                    // As it is on the disk, also where it was taken out, or counts as of another time.
                    messages.records().view_from(seq, 1, Shown::default())
                };
                let (messages, _) = view.page(seq, 1, usize::MAX, Wait::ForDisk)?;
                Ok(messages.first().filter(|message| message.seq == seq).map(record::of))
            }
            RecordName::Claim { number } => {
                let place = {
                    let state = self.core().lock();
                    let claims = &state.kinds.claims;
                    if !claims.numbers().contains(&number) {
                        return Ok(None);
                    }
                    claims.records().place(number)?
                };
                Ok(Some(Bytes::copy_from_slice(&place.read(Wait::ForDisk)?.to_bytes(number))))
            }
        }
    }
}
