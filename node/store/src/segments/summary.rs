//! How many messages of each content type a sealed segment has: what most of a filtered count, and of a
//! filtered page, goes by instead of reading the segment.
//!
//! It is kept in a file beside the segment's, derived as the index is: where it is missing, damaged or of
//! another segment, the segment is read, and it is made again.
//!
//! ```text
//! magic[8] format:u32 first_seq:u64 count:u64 data_len:u64 others:u64 types:u32
//! types x (len:u16 type count:u64)   crc:u32
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use skep_base::id::ClusterId;

use crate::segments::meta::IndexKey;
use crate::segments::summary_path;

const MAGIC: &[u8; 8] = b"SKEPSUM\n";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 * 8 + 4;
/// Content types that are told apart in one segment; messages of further ones count as others.
const TYPES_MAX: usize = 64;
/// The longest content type that is told apart.
const TYPE_BYTES_MAX: usize = 128;
/// The most bytes of a summary.
const FILE_BYTES_MAX: u64 = (HEADER_BYTES + TYPES_MAX * (2 + TYPE_BYTES_MAX + 8) + 4) as u64;

/// Messages by their content types, in lowercase and without parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    types: BTreeMap<String, u64>,
    /// Those of types that are not told apart.
    others: u64,
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

impl Summary {
    pub(crate) fn add(&mut self, content_type: &str) {
        let name = essence(content_type);
        // Mostly it is in lowercase already, and there: nothing is allocated.
        if let Some(count) = self.types.get_mut(name) {
            *count += 1;
            return;
        }
        let name = name.to_ascii_lowercase();
        let is_told_apart = self.types.len() < TYPES_MAX && name.len() <= TYPE_BYTES_MAX;
        match self.types.get_mut(&name) {
            Some(count) => *count += 1,
            None if is_told_apart => drop(self.types.insert(name, 1)),
            None => self.others += 1,
        }
    }

    /// How many messages are of a type for which `is_wanted` holds; none where that takes reading them. What it
    /// is asked of is in lowercase, without parameters.
    pub fn count(&self, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
        let told = self.types.iter().filter(|(name, _)| is_wanted(name)).map(|(_, count)| count).sum();
        (self.others == 0).then_some(told)
    }

    fn messages(&self) -> u64 {
        self.types.values().sum::<u64>() + self.others
    }

    fn encode(&self, key: IndexKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [key.first_seq, key.count, key.data_len, self.others] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.types.len() as u32).to_le_bytes());
        for (name, count) in &self.types {
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], key: IndexKey) -> Result<Summary, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return Err("its checksum does not match");
        }
        let mut rest = body.strip_prefix(MAGIC).ok_or("it does not begin like a summary")?;
        if take::<4>(&mut rest).map(u32::from_le_bytes) != Some(FORMAT) {
            return Err("it has another format");
        }
        for expected in [key.first_seq, key.count, key.data_len] {
            if take::<8>(&mut rest).map(u64::from_le_bytes) != Some(expected) {
                return Err("it is of another segment");
            }
        }
        let short = "it ends too early";
        let others = take::<8>(&mut rest).map(u64::from_le_bytes).ok_or(short)?;
        let types = take::<4>(&mut rest).map(u32::from_le_bytes).ok_or(short)?;
        let mut summary = Summary { types: BTreeMap::new(), others };
        for _ in 0..types {
            let len = take::<2>(&mut rest).map(u16::from_le_bytes).ok_or(short)?;
            let (name, after) = rest.split_at_checked(usize::from(len)).ok_or(short)?;
            rest = after;
            let name = std::str::from_utf8(name).map_err(|_| "a content type is not text")?;
            let count = take::<8>(&mut rest).map(u64::from_le_bytes).ok_or(short)?;
            summary.types.insert(name.to_owned(), count);
        }
        if !rest.is_empty() || summary.messages() != key.count {
            return Err("it does not add up");
        }
        Ok(summary)
    }

    /// Reads a segment's, or says why there is none.
    pub(crate) fn open(segment: &Path, key: IndexKey) -> Result<Summary, String> {
        let path = &summary_path(segment);
        let len = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if len > FILE_BYTES_MAX {
            return Err(format!("it has {len} bytes"));
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        Summary::decode(&bytes, key).map_err(str::to_owned)
    }

    /// Writes it beside the segment. Where that cannot be done, the segment is read again after a start, and that
    /// is all.
    ///
    /// Nothing is synced: what a crash leaves of it shows by its checksum, and a sync of the folder that failed here
    /// would not fail again for the checkpoint, which needs it.
    pub(crate) fn keep(&self, segment: &Path, key: IndexKey) {
        let path = summary_path(segment);
        // Two may make one at the same time.
        let staged = path.with_extension(format!("{}.tmp", ClusterId::random()));
        let kept = fs::write(&staged, self.encode(key)).and_then(|()| fs::rename(&staged, &path));
        if let Err(error) = kept {
            let _ = fs::remove_file(&staged);
            tracing::debug!(%error, "a segment's summary is not kept");
        }
    }
}

impl<'a> FromIterator<&'a str> for Summary {
    /// Of the content types of so many messages.
    fn from_iter<T: IntoIterator<Item = &'a str>>(content_types: T) -> Self {
        let mut summary = Summary::default();
        content_types.into_iter().for_each(|content_type| summary.add(content_type));
        summary
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: IndexKey = IndexKey { first_seq: 7, count: 5, data_len: 900 };

    fn summary(types: &[&str]) -> Summary {
        types.iter().copied().collect()
    }

    fn five() -> Summary {
        summary(&["text/plain", "Text/Plain; charset=utf-8", "image/png", "text/html", ""])
    }

    #[test]
    fn types_are_counted_without_case_and_parameters() {
        let five = five();
        assert_eq!(five.count(|name| name == "text/plain"), Some(2));
        assert_eq!(five.count(|name| name.starts_with("text/")), Some(3));
        assert_eq!(five.count(|name| name == "video/mp4"), Some(0));
        assert_eq!(five.count(|_| true), Some(5));
    }

    #[test]
    fn where_types_are_not_told_apart_nothing_is_said() {
        let many: Vec<String> = (0..=TYPES_MAX).map(|n| format!("application/x-{n}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(summary(&names[..TYPES_MAX]).count(|name| name == "application/x-3"), Some(1));
        assert_eq!(summary(&names).count(|name| name == "application/x-3"), None);
        assert_eq!(summary(&["x".repeat(TYPE_BYTES_MAX + 1).as_str()]).count(|_| false), None);
    }

    #[test]
    fn it_survives_its_file_and_is_refused_where_it_is_of_another_segment_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.seg");
        assert!(Summary::open(&path, KEY).is_err());
        five().keep(&path, KEY);
        assert_eq!(Summary::open(&path, KEY).unwrap(), five());
        for other in [
            IndexKey { first_seq: 8, ..KEY },
            IndexKey { count: 6, ..KEY },
            IndexKey { data_len: 901, ..KEY },
        ] {
            assert!(Summary::open(&path, other).is_err());
        }
        let good = five().encode(KEY);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Summary::decode(&bad, KEY).is_err(), "byte {at}");
            assert!(Summary::decode(&good[..at], KEY).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_with_a_right_checksum_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let crc = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = Summary::decode(&bytes, KEY);
        }
    }
}
