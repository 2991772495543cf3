//! Sections: how the kinds lie in a checkpoint and a snapshot, side by side.
//!
//! ```text
//! sections   count:u16, then each: kind:u16 format:u16 len:u32 crc:u32 record[len]
//! ```
//!
//! Little-endian; `crc` covers all of a section but itself. The record is in the codec's encoding. A kind of which there is
//! nothing has no section: a program that does not know it reads the rest.

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

/// Writes sections, one after another.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    count: u16,
}

impl Default for Writer {
    fn default() -> Self {
        Self { bytes: vec![0; COUNT_BYTES], count: 0 }
    }
}

impl Writer {
    /// Appends a kind's section, unless it is that of a new state.
    pub fn push<R: Record>(&mut self, record: &R) -> Result<(), CodecError> {
        // One who does not know the kind reads what has nothing of it.
        if *record == R::default() {
            return Ok(());
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        let format = record.encode_into(&mut self.bytes)?;
        let (head, encoded) = self.bytes[start..].split_at_mut(HEAD_BYTES);
        head[..2].copy_from_slice(&R::ID.0.to_le_bytes());
        head[2..4].copy_from_slice(&format.to_le_bytes());
        head[4..CRC_AT].copy_from_slice(&(encoded.len() as u32).to_le_bytes());
        let crc = checksum(&head[..CRC_AT], encoded);
        head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// All of them.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[..COUNT_BYTES].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// Of what stands before the checksum, and of the record behind it.
fn checksum(head: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
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

    fn written() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.push(&removed(4)).unwrap();
        writer.push(&text()).unwrap();
        writer.finish()
    }

    #[test]
    fn sections_say_the_records_that_were_written() {
        let bytes = written();
        let sections = read(&bytes).unwrap();
        assert_eq!((find(&sections), find(&sections)), (Ok(removed(4)), Ok(text())));
    }

    #[test]
    fn sections_with_any_bit_flipped_or_cut_anywhere_are_refused() {
        let good = written();
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
        let mut writer = Writer::default();
        writer.push(&removed(10)).unwrap();
        let bytes = writer.finish();
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
        let mut writer = Writer::default();
        writer.push(&text()).unwrap();
        writer.push(&text()).unwrap();
        assert!(read(&writer.finish()).is_err());
    }
}
