//! Sections: how the kinds lie in a checkpoint and a snapshot, side by side.
//!
//! ```text
//! sections   count:u16, then each: kind:u16 format:u16 len:u32 crc:u32 record[len]
//! ```
//!
//! Little-endian; `crc` covers all of a section but itself. The record is in the codec's encoding. A kind of which there is
//! nothing has no section: a program that does not know it reads the rest.

use crc32fast::Hasher;
use skep_base::codec::CodecError;

use crate::kind::{Invalid, KindId, Record};

/// Most sections in one checkpoint.
pub const SECTIONS_MAX: usize = 64;

const COUNT_BYTES: usize = 2;
const HEAD_BYTES: usize = 12;
const CRC_AT: usize = 8;

/// A section as it lies among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    pub kind: KindId,
    pub format: u16,
    pub record: &'a [u8],
}

/// A record of whichever kind, as its section is written.
pub trait Written {
    fn id(&self) -> KindId;
    /// There is nothing of it. One who does not know the kind reads what has no section of it.
    fn is_new(&self) -> bool;
    /// See [`Record::format`].
    fn its_format(&self) -> u16;
    /// See [`Record::encode_piece`].
    fn piece(&self, format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError>;
}

impl<R: Record> Written for R {
    fn id(&self) -> KindId {
        R::ID
    }

    fn is_new(&self) -> bool {
        *self == R::default()
    }

    fn its_format(&self) -> u16 {
        self.format()
    }

    fn piece(&self, format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        self.encode_piece(format, number, bytes)
    }
}

/// What the sections of some records come to. Lengths and checksums stand before what they are of, so they are found
/// first, and the bytes are made after that, a piece at a time: nowhere are all of them.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Of each record that has a section, in their order.
    heads: Vec<Option<Head>>,
    len: usize,
    crc: Hasher,
}

/// What stands before a record.
#[derive(Debug, Clone, Copy)]
struct Head {
    format: u16,
    bytes: [u8; HEAD_BYTES],
}

/// How far the bytes of sections are made.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    has_count: bool,
    section: usize,
    piece: usize,
}

impl Outline {
    pub fn of(records: &[&dyn Written]) -> Result<Outline, CodecError> {
        let mut found = Vec::with_capacity(records.len());
        let mut piece = Vec::new();
        for record in records {
            found.push(if record.is_new() { None } else { Some(measure(*record, &mut piece)?) });
        }
        let mut outline = Outline { heads: Vec::new(), len: COUNT_BYTES, crc: Hasher::new() };
        outline.heads = found.iter().map(|found| found.as_ref().map(|(head, ..)| *head)).collect();
        outline.crc.update(&outline.count());
        for (head, len, crc) in found.iter().flatten() {
            outline.crc.update(&head.bytes);
            outline.crc.combine(crc);
            outline.len += HEAD_BYTES + len;
        }
        Ok(outline)
    }

    fn count(&self) -> [u8; COUNT_BYTES] {
        (self.heads.iter().flatten().count() as u16).to_le_bytes()
    }

    /// All bytes.
    #[allow(clippy::len_without_is_empty, reason = "a count of sections is always there")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The checksum of all bytes, as one to go on with.
    pub fn crc(&self) -> &Hasher {
        &self.crc
    }

    /// Appends the next bytes; whether there were some. The records are those that this is the outline of.
    pub fn next(
        &self,
        records: &[&dyn Written],
        progress: &mut Progress,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        if !progress.has_count {
            progress.has_count = true;
            bytes.extend_from_slice(&self.count());
            return Ok(true);
        }
        for (record, head) in records.iter().zip(&self.heads).skip(progress.section) {
            if let Some(head) = head {
                if progress.piece == 0 {
                    bytes.extend_from_slice(&head.bytes);
                }
                progress.piece += 1;
                if record.piece(head.format, progress.piece - 1, bytes)? {
                    return Ok(true);
                }
            }
            (progress.section, progress.piece) = (progress.section + 1, 0);
        }
        Ok(false)
    }
}

/// The head of a record's section, and the length and the checksum of the record.
fn measure(record: &dyn Written, piece: &mut Vec<u8>) -> Result<(Head, usize, Hasher), CodecError> {
    let format = record.its_format();
    let (mut len, mut crc) = (0, Hasher::new());
    for number in 0.. {
        piece.clear();
        if !record.piece(format, number, piece)? {
            break;
        }
        crc.update(piece);
        len += piece.len();
    }
    let mut bytes = [0; HEAD_BYTES];
    bytes[..2].copy_from_slice(&record.id().0.to_le_bytes());
    bytes[2..4].copy_from_slice(&format.to_le_bytes());
    bytes[4..CRC_AT].copy_from_slice(&u32::try_from(len).map_err(|_| CodecError::TooLarge)?.to_le_bytes());
    let mut of_all = Hasher::new();
    of_all.update(&bytes[..CRC_AT]);
    of_all.combine(&crc);
    bytes[CRC_AT..].copy_from_slice(&of_all.finalize().to_le_bytes());
    Ok((Head { format, bytes }, len, crc))
}

/// The sections of some records, all of them at once.
#[cfg(test)]
pub fn written(records: &[&dyn Written]) -> Result<Vec<u8>, CodecError> {
    let outline = Outline::of(records)?;
    let (mut progress, mut bytes) = (Progress::default(), Vec::new());
    while outline.next(records, &mut progress, &mut bytes)? {}
    assert_eq!((outline.len(), outline.crc().clone().finalize()), (bytes.len(), crc32fast::hash(&bytes)));
    Ok(bytes)
}

/// Of what stands before the checksum, and of the record behind it.
fn checksum(head: &[u8], record: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(head);
    hasher.update(record);
    hasher.finalize()
}

/// Takes sections apart. Hostile bytes are refused; nothing is copied.
pub fn read(bytes: &[u8]) -> Result<Vec<Section<'_>>, Invalid> {
    let ends = || Invalid("the sections end before they are whole".into());
    let (count, mut rest) = bytes.split_first_chunk::<COUNT_BYTES>().ok_or_else(ends)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if count > SECTIONS_MAX {
        return Err(Invalid(format!("{count} sections")));
    }
    let mut sections: Vec<Section<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, behind) = rest.split_first_chunk::<HEAD_BYTES>().ok_or_else(ends)?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (record, behind) = behind.split_at_checked(u32_at(4) as usize).ok_or_else(ends)?;
        let section = Section { kind: KindId(u16_at(0)), format: u16_at(2), record };
        if sections.iter().any(|before| before.kind == section.kind) {
            return Err(Invalid(format!("two sections of kind {}", section.kind.0)));
        }
        if checksum(&head[..CRC_AT], record) != u32_at(CRC_AT) {
            return Err(Invalid(format!("the checksum of the section of kind {} is wrong", section.kind.0)));
        }
        sections.push(section);
        rest = behind;
    }
    match rest.is_empty() {
        true => Ok(sections),
        false => Err(Invalid(format!("{} bytes follow the sections", rest.len()))),
    }
}

/// A kind's record among sections; that of a new state where it has none.
pub fn find<R: Record>(sections: &[Section<'_>]) -> Result<R, Invalid> {
    let Some(section) = sections.iter().find(|section| section.kind == R::ID) else {
        return Ok(R::default());
    };
    let (oldest, newest) = R::FORMATS;
    if !(oldest..=newest).contains(&section.format) {
        let (name, format) = (R::NAME, section.format);
        return Err(Invalid(format!("{name} of format {format}; this program reads {oldest} to {newest}")));
    }
    let record = R::decode(section.format, section.record)?;
    record.check()?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::messages::removed::RemovedRecord;
    use crate::kinds::text::TextRecord;

    fn text() -> TextRecord {
        TextRecord { version: 3, text: "a text".into(), ..TextRecord::default() }
    }

    fn removed(floor: u64) -> RemovedRecord {
        RemovedRecord { floor, last_seq: 9, ..RemovedRecord::default() }
    }

    fn two() -> Vec<u8> {
        written(&[&removed(4), &text()]).unwrap()
    }

    #[test]
    fn sections_say_the_records_that_were_written() {
        let bytes = two();
        let sections = read(&bytes).unwrap();
        assert_eq!((find(&sections), find(&sections)), (Ok(removed(4)), Ok(text())));
    }

    #[test]
    fn sections_with_any_bit_flipped_or_cut_anywhere_are_refused() {
        let good = two();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_record_that_no_state_has_is_refused_though_its_checksum_is_right() {
        let bytes = written(&[&removed(10)]).unwrap();
        assert!(find::<RemovedRecord>(&read(&bytes).unwrap()).is_err());
    }

    #[test]
    fn a_section_of_a_newer_format_is_refused_by_its_name() {
        let (kind, format) = (TextRecord::ID, TextRecord::FORMATS.1 + 1);
        let refused = find::<TextRecord>(&[Section { kind, format, record: &[] }]).unwrap_err();
        assert!(refused.0.starts_with("text of format 2"), "{refused}");
    }

    #[test]
    fn two_sections_of_one_kind_are_refused() {
        assert!(read(&written(&[&text(), &text()]).unwrap()).is_err());
    }
}
