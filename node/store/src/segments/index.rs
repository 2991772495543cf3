//! Finding messages in a segment: by digest and by `seq`.
//!
//! The segment that grows is indexed in memory. A sealed one has an index file, of which memory
//! holds a Bloom filter and a fence per block: some two bytes a message. The file is derived: where
//! it is missing or of another segment, it is built again.
//!
//! ```text
//! block 0      magic[8] format:u32 first_seq:u64 count:u64 data_len:u64 meta_crc:u32 crc:u32
//! filter       64 bytes for every 42 messages (12 bits each)   } both under meta_crc,
//! fences       the first digest prefix of each digest block    } padded to a block
//! digest block 340 x (prefix:u64 message:u32), sorted, crc at the end    4096 bytes
//! offset block 1023 x offset:u32 in the order of seq, crc at the end     4096 bytes
//! ```

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use skep_base::id::ClusterId;
use skep_state::message::Digest;

use crate::error::StoreError;
use crate::files;
use crate::segments::file::{self, SegmentFile};
pub(crate) use crate::segments::meta::IndexKey;
use crate::segments::read::{Wait, read_exact_at};
use crate::segments::summary::Summary;

const MAGIC: &[u8; 8] = b"SKEPIDX\n";
const FORMAT: u32 = 1;
const BLOCK_BYTES: usize = 4096;
const CRC_AT: usize = BLOCK_BYTES - 4;
const PAIRS_PER_BLOCK: usize = 340;
const PAIR_BYTES: usize = 12;
const OFFSETS_PER_BLOCK: usize = 1023;
/// Words of one filter block: a cache line, so that a lookup touches one.
const FILTER_WORDS: usize = 8;
const MESSAGES_PER_FILTER_BLOCK: usize = 42;
const FILTER_PROBES: u32 = 6;

fn prefix_of(digest: &Digest) -> u64 {
    let d = &digest.0;
    u64::from_be_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
}

/// The index of a segment in memory. Messages are numbered from 0 in the segment.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    by_prefix: HashMap<u64, u32>,
    /// Messages whose prefix another one had first: none, but for who makes them on purpose.
    collisions: Vec<(u64, u32)>,
    digests: Vec<Digest>,
    offsets: Vec<u32>,
    types: Summary,
}

impl MemoryIndex {
    pub(crate) fn push(&mut self, digest: Digest, offset: u32, content_type: &str) {
        let message = self.offsets.len() as u32;
        let prefix = prefix_of(&digest);
        match self.by_prefix.entry(prefix) {
            std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(message)),
            std::collections::hash_map::Entry::Occupied(mut place) => {
                let digests = &self.digests;
                let is_same = |other: u32| digests[other as usize] == digest;
                // One that was taken out and came again: only the newer one may be there.
                if is_same(*place.get()) {
                    place.insert(message);
                } else {
                    self.collisions.retain(|(_, other)| !is_same(*other));
                    self.collisions.push((prefix, message));
                }
            }
        }
        self.digests.push(digest);
        self.offsets.push(offset);
        self.types.add(content_type);
    }

    /// What there is of each content type.
    pub(crate) fn types(&self) -> &Summary {
        &self.types
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<u32> {
        let prefix = prefix_of(digest);
        let first = *self.by_prefix.get(&prefix)?;
        if self.digests[first as usize] == *digest {
            return Some(first);
        }
        let others = self.collisions.iter().filter(|(other, _)| *other == prefix);
        others.map(|(_, message)| *message).find(|message| self.digests[*message as usize] == *digest)
    }

    pub(crate) fn offset(&self, message: u32) -> Option<u32> {
        self.offsets.get(message as usize).copied()
    }

    pub(crate) fn digest(&self, message: u32) -> Option<Digest> {
        self.digests.get(message as usize).copied()
    }

    /// The first message whose record begins at this offset or later.
    pub(crate) fn first_from(&self, offset: u32) -> u32 {
        self.offsets.partition_point(|own| *own < offset) as u32
    }

    pub(crate) fn count(&self) -> u64 {
        self.offsets.len() as u64
    }
}

struct Filter(Vec<[u64; FILTER_WORDS]>);

impl Filter {
    fn new(count: usize) -> Filter {
        Filter(vec![[0; FILTER_WORDS]; count.div_ceil(MESSAGES_PER_FILTER_BLOCK).max(1)])
    }

    /// The digest is a good hash already: 64 of its bits choose the block, 54 the bits in it.
    fn bits(&self, digest: &Digest) -> (usize, u64) {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let block = ((u128::from(word(8)) * self.0.len() as u128) >> 64) as usize;
        (block, word(16))
    }

    fn insert(&mut self, digest: &Digest) {
        let (block, bits) = self.bits(digest);
        for probe in 0..FILTER_PROBES {
            let bit = bits >> (9 * probe) & 511;
            self.0[block][(bit >> 6) as usize] |= 1 << (bit & 63);
        }
    }

    fn may_contain(&self, digest: &Digest) -> bool {
        let (block, bits) = self.bits(digest);
        (0..FILTER_PROBES).all(|probe| {
            let bit = bits >> (9 * probe) & 511;
            self.0[block][(bit >> 6) as usize] & 1 << (bit & 63) != 0
        })
    }
}

/// A sealed segment's index file.
pub(crate) struct DiskIndex {
    pub(super) file: SegmentFile,
    filter: Filter,
    fences: Vec<u64>,
    count: u64,
    pairs_at: u64,
    offsets_at: u64,
}

fn meta_bytes(count: u64) -> usize {
    let filter = (count as usize).div_ceil(MESSAGES_PER_FILTER_BLOCK).max(1) * FILTER_WORDS * 8;
    let fences = (count as usize).div_ceil(PAIRS_PER_BLOCK) * 8;
    filter + fences
}

fn head_block(key: IndexKey, meta_crc: u32) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..8].copy_from_slice(MAGIC);
    block[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    block[12..20].copy_from_slice(&key.first_seq.to_le_bytes());
    block[20..28].copy_from_slice(&key.count.to_le_bytes());
    block[28..36].copy_from_slice(&key.data_len.to_le_bytes());
    block[36..40].copy_from_slice(&meta_crc.to_le_bytes());
    seal_block(&mut block);
    block
}

fn seal_block(block: &mut [u8; BLOCK_BYTES]) {
    let crc = crc32fast::hash(&block[..CRC_AT]);
    block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Writes the index file of a segment that will not change any more, durably, and opens it.
pub(crate) fn build(path: &Path, key: IndexKey, memory: &MemoryIndex) -> Result<DiskIndex, StoreError> {
    let mut pairs: Vec<(u64, u32)> =
        memory.digests.iter().zip(0..).map(|(digest, message)| (prefix_of(digest), message)).collect();
    pairs.sort_unstable();
    let mut filter = Filter::new(memory.digests.len());
    memory.digests.iter().for_each(|digest| filter.insert(digest));

    let mut meta = Vec::with_capacity(meta_bytes(key.count).next_multiple_of(BLOCK_BYTES));
    filter.0.iter().flatten().for_each(|word| meta.extend_from_slice(&word.to_le_bytes()));
    pairs.chunks(PAIRS_PER_BLOCK).for_each(|block| meta.extend_from_slice(&block[0].0.to_le_bytes()));
    let meta_crc = crc32fast::hash(&meta);
    meta.resize(meta.len().next_multiple_of(BLOCK_BYTES), 0);

    // Two builders of one index must not write into one file.
    let staged = path.with_extension(format!("{}.tmp", ClusterId::random()));
    let written = (|| {
        let mut out = BufWriter::with_capacity(64 * 1024, File::create(&staged)?);
        out.write_all(&head_block(key, meta_crc))?;
        out.write_all(&meta)?;
        for chunk in pairs.chunks(PAIRS_PER_BLOCK) {
            let mut block = [0; BLOCK_BYTES];
            for (place, (prefix, message)) in block.chunks_exact_mut(PAIR_BYTES).zip(chunk) {
                place[..8].copy_from_slice(&prefix.to_le_bytes());
                place[8..].copy_from_slice(&message.to_le_bytes());
            }
            seal_block(&mut block);
            out.write_all(&block)?;
        }
        for chunk in memory.offsets.chunks(OFFSETS_PER_BLOCK) {
            let mut block = [0; BLOCK_BYTES];
            for (place, offset) in block.chunks_exact_mut(4).zip(chunk) {
                place.copy_from_slice(&offset.to_le_bytes());
            }
            seal_block(&mut block);
            out.write_all(&block)?;
        }
        out.into_inner().map_err(|error| error.into_error())
    })();
    let synced = written
        .map_err(StoreError::io("write", path))
        .and_then(|file| file.sync_all().map_err(StoreError::sync(path)))
        .and_then(|()| fs::rename(&staged, path).map_err(StoreError::io("rename", &staged)));
    if let Err(error) = synced {
        let _ = fs::remove_file(&staged);
        return Err(error);
    }
    files::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    DiskIndex::open(path, key)
}

impl DiskIndex {
    /// Opens the index of the segment that `key` tells of.
    pub(crate) fn open(path: &Path, key: IndexKey) -> Result<DiskIndex, StoreError> {
        let mut file =
            file::open(OpenOptions::new().read(true), path).map_err(StoreError::io("open", path))?;
        let mut head = [0; BLOCK_BYTES];
        file.read_exact(&mut head).map_err(StoreError::io("read", path))?;
        let meta_crc = u32_at(&head, 36);
        if head != head_block(key, meta_crc) {
            return Err(StoreError::corrupt(path, 0, "it is not the index of its segment"));
        }
        let mut meta = vec![0; meta_bytes(key.count)];
        file.read_exact(&mut meta).map_err(StoreError::io("read", path))?;
        if crc32fast::hash(&meta) != meta_crc {
            return Err(StoreError::corrupt(
                path,
                BLOCK_BYTES as u64,
                "its filter's checksum does not match",
            ));
        }
        let mut filter = Filter::new(key.count as usize);
        let words = filter.0.len() * FILTER_WORDS;
        for (i, word) in filter.0.iter_mut().flatten().enumerate() {
            *word = u64_at(&meta, i * 8);
        }
        let fences: Vec<u64> = meta[words * 8..].chunks_exact(8).map(|bytes| u64_at(bytes, 0)).collect();
        let pairs_at = (BLOCK_BYTES + meta.len().next_multiple_of(BLOCK_BYTES)) as u64;
        let offsets_at = pairs_at + (fences.len() * BLOCK_BYTES) as u64;
        Ok(DiskIndex {
            file: SegmentFile::held(path.to_path_buf(), file),
            filter,
            fences,
            count: key.count,
            pairs_at,
            offsets_at,
        })
    }

    fn block(&self, at: u64, wait: Wait) -> Result<[u8; BLOCK_BYTES], StoreError> {
        let mut block = [0; BLOCK_BYTES];
        read_exact_at(&*self.file.open_for(wait)?, self.file.path(), &mut block, at, wait)?;
        if crc32fast::hash(&block[..CRC_AT]) != u32_at(&block, CRC_AT) {
            let detail =
                "a block's checksum does not match; the file may be removed: it is built again at the start";
            return Err(StoreError::corrupt(self.file.path(), at, detail));
        }
        Ok(block)
    }

    /// False where the segment certainly does not have the message.
    pub(crate) fn may_contain(&self, digest: &Digest) -> bool {
        self.filter.may_contain(digest)
    }

    /// The messages of the segment that may be the one: those with its digest's first 8 bytes.
    pub(crate) fn candidates(&self, digest: &Digest, wait: Wait) -> Result<Vec<u32>, StoreError> {
        let mut found = Vec::new();
        if !self.may_contain(digest) {
            return Ok(found);
        }
        let prefix = prefix_of(digest);
        // Equal prefixes may begin in the block before the first fence that is not smaller.
        let first = self.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        for number in first..self.fences.len() {
            if self.fences[number] > prefix {
                break;
            }
            let block = self.block(self.pairs_at + (number * BLOCK_BYTES) as u64, wait)?;
            let pairs = (self.count as usize - number * PAIRS_PER_BLOCK).min(PAIRS_PER_BLOCK);
            let pair = |i: usize| &block[i * PAIR_BYTES..(i + 1) * PAIR_BYTES];
            let mut low = 0;
            let mut high = pairs;
            while low < high {
                let middle = (low + high) / 2;
                if u64_at(pair(middle), 0) < prefix { low = middle + 1 } else { high = middle }
            }
            found.extend((low..pairs).map(pair).take_while(|p| u64_at(p, 0) == prefix).map(|p| u32_at(p, 8)));
        }
        Ok(found)
    }

    pub(crate) fn offset(&self, message: u32, wait: Wait) -> Result<Option<u32>, StoreError> {
        if u64::from(message) >= self.count {
            return Ok(None);
        }
        let (block, place) = (message as usize / OFFSETS_PER_BLOCK, message as usize % OFFSETS_PER_BLOCK);
        let block = self.block(self.offsets_at + (block * BLOCK_BYTES) as u64, wait)?;
        Ok(Some(u32_at(&block, place * 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u32) -> (MemoryIndex, IndexKey) {
        let mut memory = MemoryIndex::default();
        for message in 0..count {
            memory.push(Digest::of(&message.to_le_bytes()), 24 + message * 100, "text/plain");
        }
        (memory, IndexKey { first_seq: 1, count: u64::from(count), data_len: 1000 })
    }

    #[test]
    fn every_message_is_found_on_disk_as_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 339, 340, 341, 1023, 1024, 5000] {
            let (memory, key) = filled(count);
            let disk = build(&dir.path().join("x.idx"), key, &memory).unwrap();
            for message in 0..count {
                let digest = Digest::of(&message.to_le_bytes());
                assert_eq!(memory.find(&digest), Some(message));
                assert_eq!(disk.candidates(&digest, Wait::ForDisk).unwrap(), [message]);
                assert_eq!(disk.offset(message, Wait::ForDisk).unwrap(), memory.offset(message));
            }
            assert_eq!(disk.offset(count, Wait::ForDisk).unwrap(), None);
        }
    }

    #[test]
    fn absent_messages_are_mostly_refused_by_the_filter() {
        let dir = tempfile::tempdir().unwrap();
        let (memory, key) = filled(5000);
        let disk = build(&dir.path().join("x.idx"), key, &memory).unwrap();
        let absent = |i: u32| Digest::of(format!("absent {i}").as_bytes());
        let passed = (0..5000).filter(|i| disk.may_contain(&absent(*i))).count();
        assert!(passed < 150, "{passed} of 5000 passed");
        assert!((0..5000).all(|i| disk.candidates(&absent(i), Wait::ForDisk).unwrap().is_empty()));
    }

    #[test]
    fn messages_with_equal_prefixes_are_told_apart_even_across_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let alike = |last: u32| {
            let mut digest = Digest::of(b"prefix");
            digest.0[28..].copy_from_slice(&last.to_le_bytes());
            digest
        };
        let mut memory = MemoryIndex::default();
        (0..800).for_each(|last| memory.push(alike(last), last, "text/plain"));
        let key = IndexKey { first_seq: 1, count: 800, data_len: 1000 };
        let disk = build(&dir.path().join("x.idx"), key, &memory).unwrap();
        assert_eq!(memory.find(&alike(799)), Some(799));
        assert_eq!(memory.find(&alike(800)), None);
        assert_eq!(disk.candidates(&alike(0), Wait::ForDisk).unwrap(), (0..800).collect::<Vec<_>>());
    }

    #[test]
    fn an_index_with_any_byte_changed_is_refused_when_that_byte_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.idx");
        let (memory, key) = filled(700);
        drop(build(&path, key, &memory).unwrap());
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            let Ok(disk) = DiskIndex::open(&path, key) else { continue };
            for message in 0..700u32 {
                let digest = Digest::of(&message.to_le_bytes());
                assert!(
                    disk.candidates(&digest, Wait::ForDisk).is_err()
                        || disk.candidates(&digest, Wait::ForDisk).unwrap() == [message]
                );
                assert!(
                    disk.offset(message, Wait::ForDisk).is_err()
                        || disk.offset(message, Wait::ForDisk).unwrap() == memory.offset(message)
                );
            }
        }
    }
}
