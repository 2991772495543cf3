//! The bytes of a message segment: a header, then the messages in the order of `seq`.
//!
//! ```text
//! header   magic[8] format:u32 first_seq:u64 crc:u32                                    = 24 bytes
//! record   len:u32 crc:u32 seq:u64 time_ms:u64 digest[32] type_len:u16 type body        = 8 + len
//! ```
//!
//! All little-endian; `crc` covers `len` and all that follows `crc`.

use bytes::Bytes;
use skep_state::clock::Stamp;
use skep_state::message::{Digest, StoredMessage};
use skep_state::records::NewRecord;

pub(crate) const MAGIC: &[u8; 8] = b"SKEPMSG\n";
pub(crate) const FORMAT: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 24;
/// `len` and `crc`.
pub(crate) const HEAD_BYTES: usize = 8;
/// `seq`, `time_ms`, `digest` and `type_len`.
const FIXED_BYTES: usize = 8 + 8 + 32 + 2;
/// Where a record has its digest.
pub(crate) const DIGEST_AT: u64 = (HEAD_BYTES + 8 + 8) as u64;
/// The shortest record.
pub(crate) const RECORD_BYTES_MIN: usize = HEAD_BYTES + FIXED_BYTES;
/// The longest record: a log entry holds it, so it is no longer than one.
pub(crate) const RECORD_BYTES_MAX: usize = skep_base::codec::VALUE_BYTES_MAX + 1024;

pub(crate) fn header(first_seq: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..20].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What is wrong with the header of a segment that should begin with `first_seq`, if anything.
pub(crate) fn check_header(bytes: &[u8], first_seq: u64) -> Result<(), String> {
    match bytes {
        _ if bytes == header(first_seq) => Ok(()),
        _ if !bytes.starts_with(MAGIC) => Err("it does not begin like a message segment".into()),
        _ => Err(format!("its header is not that of a segment of format {FORMAT} from seq {first_seq}")),
    }
}

/// Appends a message's record.
pub(crate) fn push(bytes: &mut Vec<u8>, record: &NewRecord<'_>) {
    let NewRecord { seq, time, digest, content_type, body } = *record;
    // The API admits far shorter ones. Cutting alike on every node keeps the nodes alike.
    let mut end = content_type.len().min(usize::from(u16::MAX));
    while !content_type.is_char_boundary(end) {
        end -= 1;
    }
    let content_type = &content_type[..end];
    let len = (FIXED_BYTES + content_type.len() + body.len()) as u32;
    let start = bytes.len();
    bytes.reserve(HEAD_BYTES + len as usize);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&time.0.to_le_bytes());
    bytes.extend_from_slice(&digest.0);
    bytes.extend_from_slice(&(content_type.len() as u16).to_le_bytes());
    bytes.extend_from_slice(content_type.as_bytes());
    bytes.extend_from_slice(body);
    let crc = crc_of(&bytes[start..]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// A message's record, as it is on every node.
pub(crate) fn of(message: &StoredMessage) -> Bytes {
    let StoredMessage { seq, time_ms, digest, content_type, body } = message;
    let mut bytes = Vec::new();
    push(&mut bytes, &NewRecord { seq: *seq, time: Stamp(*time_ms), digest, content_type, body });
    bytes.into()
}

fn crc_of(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[HEAD_BYTES..]);
    hasher.finalize()
}

/// The length of the record whose first bytes these are; `None` where they are too few or the
/// length is out of range.
pub(crate) fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let whole = HEAD_BYTES.checked_add(len)?;
    (RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&whole).then_some(whole)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A whole record that has proved itself.
pub(crate) struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    /// The record that `bytes` are exactly, or what is wrong with them.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Record<'a>, String> {
        if record_bytes(bytes) != Some(bytes.len()) {
            return Err("a message's length is wrong".into());
        }
        if bytes[4..8] != crc_of(bytes).to_le_bytes() {
            return Err("a message's checksum does not match".into());
        }
        let record = Record(bytes);
        if record.body_at() > bytes.len() {
            return Err("a message's content type is longer than the message".into());
        }
        Ok(record)
    }

    pub(crate) fn seq(&self) -> u64 {
        u64_at(self.0, 8)
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.0[24..56]);
        Digest(digest)
    }

    fn body_at(&self) -> usize {
        RECORD_BYTES_MIN + usize::from(u16::from_le_bytes([self.0[56], self.0[57]]))
    }

    /// Empty where it is no text.
    pub(crate) fn content_type(&self) -> &str {
        std::str::from_utf8(&self.0[RECORD_BYTES_MIN..self.body_at()]).unwrap_or_default()
    }

    /// The message, whose body shares the memory of `bytes`: those that were checked.
    pub(crate) fn message(&self, bytes: &Bytes) -> Result<StoredMessage, String> {
        let content_type = std::str::from_utf8(&self.0[RECORD_BYTES_MIN..self.body_at()])
            .map_err(|_| "a message's content type is not text")?;
        Ok(StoredMessage {
            seq: self.seq(),
            time_ms: u64_at(self.0, 16),
            digest: self.digest(),
            content_type: content_type.to_owned(),
            body: bytes.slice_ref(&self.0[self.body_at()..]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = Vec::new();
        let (digest, content_type, body) = (&Digest::of(b"foo"), "text/plain", b"foo");
        push(&mut bytes, &NewRecord { seq: 7, time: Stamp(9), digest, content_type, body });
        bytes
    }

    #[test]
    fn a_message_survives_its_record() {
        let bytes = Bytes::from(record());
        let message = Record::check(&bytes).unwrap().message(&bytes).unwrap();
        assert_eq!((message.seq, message.time_ms), (7, 9));
        assert_eq!((message.content_type.as_str(), &message.body[..]), ("text/plain", &b"foo"[..]));
        assert_eq!(message.digest, Digest::of(b"foo"));
    }

    #[test]
    fn a_record_with_any_bit_flipped_or_cut_anywhere_is_refused() {
        let good = record();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::check(&bad).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(Record::check(&good[..end]).is_err(), "cut at {end}");
        }
    }
}
