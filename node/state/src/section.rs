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
use crate::part::{Part, Source};

/// Most sections in one checkpoint.
pub const SECTIONS_MAX: usize = 64;

const COUNT_BYTES: usize = 2;
const HEAD_BYTES: usize = 12;
const CRC_AT: usize = 8;

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

    /// How many bytes there are.
    pub fn size(&self) -> usize {
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
    assert_eq!((outline.size(), outline.crc().clone().finalize()), (bytes.len(), crc32fast::hash(&bytes)));
    Ok(bytes)
}

/// Takes sections apart, one after another. Hostile bytes are refused.
pub struct Sections<'a> {
    source: &'a mut dyn Source,
    /// Bytes of the source behind what was read.
    left: usize,
    count: u16,
    seen: Vec<KindId>,
}

/// A section of which the record comes next.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    pub kind: KindId,
    format: u16,
    len: usize,
    crc: u32,
    /// What stands before the checksum, which is of this too.
    head: [u8; CRC_AT],
}

impl<'a> Sections<'a> {
    /// Those of a source that has so many bytes.
    pub fn begin(source: &'a mut dyn Source, len: usize) -> Result<Self, Invalid> {
        let mut sections = Sections { source, left: len, count: 0, seen: Vec::new() };
        sections.count = u16::from_le_bytes(sections.bytes()?);
        match usize::from(sections.count) {
            count if count > SECTIONS_MAX => Err(Invalid(format!("{count} sections"))),
            _ => Ok(sections),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        self.left = self.left.checked_sub(N).ok_or(CodecError::UnexpectedEnd)?;
        let mut bytes = [0; N];
        self.source.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next one; none at their end. The record of the one before was [taken](Sections::record).
    pub fn next_section(&mut self) -> Result<Option<Section>, Invalid> {
        if self.seen.len() == usize::from(self.count) {
            return match self.left {
                0 => Ok(None),
                left => Err(Invalid(format!("{left} bytes follow the sections"))),
            };
        }
        let bytes: [u8; HEAD_BYTES] = self.bytes()?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut head = [0; CRC_AT];
        head.copy_from_slice(&bytes[..CRC_AT]);
        let (kind, len) = (KindId(u16_at(0)), u32_at(4) as usize);
        if self.seen.contains(&kind) {
            return Err(Invalid(format!("two sections of kind {}", kind.0)));
        }
        self.seen.push(kind);
        self.left = self.left.checked_sub(len).ok_or(CodecError::UnexpectedEnd)?;
        Ok(Some(Section { kind, format: u16_at(2), len, crc: u32_at(CRC_AT), head }))
    }

    /// The record of the section that came last.
    pub fn record<R: Record>(&mut self, section: &Section) -> Result<R, Invalid> {
        let (oldest, newest) = R::FORMATS;
        if !(oldest..=newest).contains(&section.format) {
            let (name, format) = (R::NAME, section.format);
            return Err(Invalid(format!(
                "{name} of format {format}; this program reads {oldest} to {newest}"
            )));
        }
        let mut part = Part::new(self.source, section.len);
        part.crc.update(&section.head);
        let record = R::read(section.format, &mut part)?;
        part.end()?;
        if part.crc.finalize() != section.crc {
            return Err(Invalid(format!("the checksum of the section of kind {} is wrong", section.kind.0)));
        }
        record.check()?;
        Ok(record)
    }
}

/// The kinds that have sections.
#[cfg(test)]
pub fn kinds(mut bytes: &[u8]) -> Vec<KindId> {
    let len = bytes.len();
    let mut sections = Sections::begin(&mut bytes, len).unwrap();
    let mut kinds = Vec::new();
    while let Some(section) = sections.next_section().unwrap() {
        Part::new(sections.source, section.len).next(section.len).unwrap();
        kinds.push(section.kind);
    }
    kinds
}

/// The record of the only section.
#[cfg(test)]
pub fn only<R: Record>(mut bytes: &[u8]) -> Result<R, Invalid> {
    let len = bytes.len();
    let mut sections = Sections::begin(&mut bytes, len)?;
    let section = sections.next_section()?.unwrap();
    sections.record(&section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::KindsRecord;
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

    fn read(bytes: &[u8]) -> Result<KindsRecord, Invalid> {
        KindsRecord::decode(bytes)
    }

    #[test]
    fn sections_say_the_records_that_were_written() {
        let said = KindsRecord { messages: removed(4), text: text(), ..KindsRecord::default() };
        assert_eq!(read(&two()), Ok(said));
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
        assert!(read(&[&good[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_record_that_no_state_has_is_refused_though_its_checksum_is_right() {
        assert!(read(&written(&[&removed(10)]).unwrap()).is_err());
    }

    #[test]
    fn a_section_of_a_newer_format_is_refused_by_its_name() {
        let mut bytes = written(&[&text()]).unwrap();
        bytes[COUNT_BYTES + 2] = TextRecord::FORMATS.1 as u8 + 1;
        let refused = read(&bytes).unwrap_err();
        assert!(refused.0.starts_with("text of format 2"), "{refused}");
    }

    #[test]
    fn two_sections_of_one_kind_are_refused() {
        assert!(read(&written(&[&text(), &text()]).unwrap()).is_err());
    }
}
