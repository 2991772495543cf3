//! A segment's file: checked when it is opened, read record by record, and indexed once sealed.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use skep_state::message::Digest;

use crate::error::StoreError;
use crate::segments::SegmentMeta;
use crate::segments::file::{self, SegmentFile};
use crate::segments::index::{self, DiskIndex, IndexKey, MemoryIndex};
use crate::segments::read::{Wait, read_exact_at};
use crate::segments::record::{self, HEADER_BYTES, Record};
use crate::segments::summary::Summary;
use crate::segments::{Active, index_path};

pub(super) const READ_BUFFER_BYTES: usize = 256 * 1024;
/// What is read at first of a message, in the hope that it is all.
const READ_AHEAD_BYTES: usize = 1024;

/// A segment that no longer changes.
pub(crate) struct Sealed {
    pub file: Arc<SegmentFile>,
    pub first_seq: u64,
    pub count: u64,
    pub len: u64,
    /// In memory until its file is built.
    index: RwLock<Arc<SealedIndex>>,
    /// Once it is known.
    types: OnceLock<Arc<Summary>>,
}

pub(crate) enum SealedIndex {
    Memory(MemoryIndex),
    Disk(DiskIndex),
}

impl Sealed {
    /// A segment that has just become full.
    pub(super) fn of(full: Active) -> Sealed {
        let types = OnceLock::from(Arc::new(full.index.types().clone()));
        Sealed {
            types,
            file: full.file,
            first_seq: full.first_seq,
            count: full.index.count(),
            len: full.len,
            index: RwLock::new(Arc::new(SealedIndex::Memory(full.index))),
        }
    }

    fn key(&self) -> IndexKey {
        IndexKey { first_seq: self.first_seq, count: self.count, data_len: self.len }
    }

    fn index(&self) -> Arc<SealedIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a sealed segment; its index is built where it is missing or not its own.
    pub(crate) fn open(path: PathBuf, meta: SegmentMeta) -> Result<Sealed, StoreError> {
        let file = open_checked(&path, meta)?;
        let key = IndexKey { first_seq: meta.first_seq, count: meta.count, data_len: meta.len };
        let types = OnceLock::new();
        if let Ok(known) = Summary::open(&path, key) {
            let _ = types.set(Arc::new(known));
        }
        let index = match DiskIndex::open(&index_path(&path), key) {
            Ok(index) => index,
            Err(reason) => {
                tracing::info!(file = %path.display(), %reason, "building the segment's index");
                let memory = scan(&file, &path, meta)?;
                memory.types().keep(&path, key);
                let _ = types.set(Arc::new(memory.types().clone()));
                match index::build(&index_path(&path), key, &memory) {
                    Ok(index) => index,
                    // A full disk keeps nobody from starting: it is how it gets room again.
                    Err(error) if error.is_full() => {
                        let SegmentMeta { first_seq, count, len, .. } = meta;
                        let index = RwLock::new(Arc::new(SealedIndex::Memory(memory)));
                        let file = Arc::new(SegmentFile::held(path, file));
                        return Ok(Sealed { file, first_seq, count, len, index, types });
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let index = RwLock::new(Arc::new(SealedIndex::Disk(index)));
        let SegmentMeta { first_seq, count, len, .. } = meta;
        Ok(Sealed { file: Arc::new(SegmentFile::held(path, file)), first_seq, count, len, index, types })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives its descriptors back.
    pub(crate) fn let_go(&self) {
        self.file.let_go();
        if let SealedIndex::Disk(index) = &*self.index() {
            index.file.let_go();
        }
    }

    pub(crate) fn hold(&self) -> Result<(), StoreError> {
        if let SealedIndex::Disk(index) = &*self.index() {
            index.file.hold()?;
        }
        self.file.hold()
    }

    /// Holds its files open for those who still read them: their names are about to go.
    pub(crate) fn hold_for_readers(self: &Arc<Self>) -> Result<(), StoreError> {
        if Arc::strong_count(self) > 1 {
            self.hold()?;
        }
        // A snapshot has the file alone.
        self.file.hold_for_readers()
    }

    /// Moves the index from memory into its file. Blocks for tens of milliseconds.
    pub(crate) fn build_index(&self) -> Result<(), StoreError> {
        let index = self.index();
        let SealedIndex::Memory(memory) = &*index else { return Ok(()) };
        let disk = index::build(&index_path(self.path()), self.key(), memory)?;
        memory.types().keep(self.path(), self.key());
        let disk = Arc::new(SealedIndex::Disk(disk));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = disk.clone();
        // Only now: whoever holds or lets go of the files from here on finds it.
        if let SealedIndex::Disk(disk) = &*disk
            && !self.file.is_held()
        {
            disk.file.let_go();
        }
        Ok(())
    }

    /// What it has of each content type, where that is known.
    pub(crate) fn types(&self) -> Option<Arc<Summary>> {
        self.types.get().cloned()
    }

    /// The same; where it is not known, the segment is read. Blocks.
    pub(crate) fn read_types(&self) -> Result<Arc<Summary>, StoreError> {
        if let Some(known) = self.types() {
            return Ok(known);
        }
        let meta = SegmentMeta { first_seq: self.first_seq, count: self.count, len: self.len, sealed: true };
        let memory = scan(&*self.file.open()?, self.path(), meta)?;
        memory.types().keep(self.path(), self.key());
        Ok(self.types.get_or_init(|| Arc::new(memory.types().clone())).clone())
    }

    /// Where the message of this digest begins, if the segment has it.
    pub(super) fn find(&self, digest: &Digest, wait: Wait) -> Result<Option<Place>, StoreError> {
        match &*self.index() {
            SealedIndex::Memory(memory) => Ok(memory.find(digest).and_then(|message| {
                Some(Place { seq: self.first_seq + u64::from(message), offset: memory.offset(message)? })
            })),
            SealedIndex::Disk(disk) => {
                // The newest first: where a message was taken out and came again, it alone counts.
                let path = self.path();
                for message in disk.candidates(digest, wait)?.into_iter().rev() {
                    let Some(offset) = disk.offset(message, wait)? else { continue };
                    let bytes =
                        read_record(&*self.file.open_for(wait)?, path, u64::from(offset), self.len, wait)?;
                    if checked(&bytes, path, u64::from(offset))?.digest() == *digest {
                        return Ok(Some(Place { seq: self.first_seq + u64::from(message), offset }));
                    }
                }
                Ok(None)
            }
        }
    }

    /// A message's digest, by its number in the segment.
    pub(super) fn digest(&self, message: u32, wait: Wait) -> Result<Digest, StoreError> {
        let missing = || StoreError::corrupt(self.path(), 0, format!("message {message} is not indexed"));
        if let SealedIndex::Memory(memory) = &*self.index() {
            return memory.digest(message).ok_or_else(missing);
        }
        let offset = u64::from(self.offset(message, wait)?.ok_or_else(missing)?);
        let mut digest = [0; 32];
        let file = self.file.open_for(wait)?;
        read_exact_at(&file, self.path(), &mut digest, offset + record::DIGEST_AT, wait)?;
        Ok(Digest(digest))
    }

    /// The first message whose record begins at this offset or later.
    pub(crate) fn first_from(&self, offset: u64) -> Result<u64, StoreError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let begins = match u32::try_from(middle) {
                Ok(message) => self.offset(message, Wait::ForDisk)?,
                Err(_) => None,
            };
            match begins {
                Some(begins) if u64::from(begins) < offset => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    pub(super) fn offset(&self, message: u32, wait: Wait) -> Result<Option<u32>, StoreError> {
        match &*self.index() {
            SealedIndex::Memory(memory) => Ok(memory.offset(message)),
            SealedIndex::Disk(disk) => disk.offset(message, wait),
        }
    }
}

/// A message's place in its segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub seq: u64,
    pub offset: u32,
}

/// The bytes of the record at `offset` of a file whose records end at `len`.
pub(super) fn read_record(
    file: &File,
    path: &Path,
    offset: u64,
    len: u64,
    wait: Wait,
) -> Result<Bytes, StoreError> {
    let left = len.saturating_sub(offset);
    let mut bytes = vec![0; left.min(READ_AHEAD_BYTES as u64) as usize];
    read_exact_at(file, path, &mut bytes, offset, wait)?;
    let whole = record::record_bytes(&bytes)
        .filter(|whole| *whole as u64 <= left)
        .ok_or_else(|| StoreError::corrupt(path, offset, "a message's length is wrong"))?;
    let had = bytes.len();
    bytes.resize(whole, 0);
    if whole > had {
        read_exact_at(file, path, &mut bytes[had..], offset + had as u64, wait)?;
    }
    Ok(bytes.into())
}

pub(super) fn checked<'a>(bytes: &'a Bytes, path: &Path, offset: u64) -> Result<Record<'a>, StoreError> {
    Record::check(bytes).map_err(|detail| StoreError::corrupt(path, offset, detail))
}

pub(crate) fn open_checked(path: &Path, meta: SegmentMeta) -> Result<File, StoreError> {
    let file =
        file::open(OpenOptions::new().read(true).write(true), path).map_err(StoreError::io("open", path))?;
    let len = file.metadata().map_err(StoreError::io("examine", path))?.len();
    if len < meta.len {
        let detail = format!("it ends here, but should have {} bytes", meta.len);
        return Err(StoreError::corrupt(path, len, detail));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(StoreError::io("read", path))?;
    record::check_header(&header, meta.first_seq).map_err(|detail| StoreError::corrupt(path, 0, detail))?;
    Ok(file)
}

/// Reads and checks every record of a segment.
pub(crate) fn scan(file: &File, path: &Path, meta: SegmentMeta) -> Result<MemoryIndex, StoreError> {
    let mut file = file.try_clone().map_err(StoreError::io("open", path))?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(HEADER_BYTES as u64))
        .map_err(StoreError::io("read", path))?;
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut index = MemoryIndex::default();
    let mut at = HEADER_BYTES as u64;
    let mut bytes = Vec::new();
    while at < meta.len {
        let wrong = |detail: &str| StoreError::corrupt(path, at, detail);
        bytes.resize(record::HEAD_BYTES, 0);
        reader.read_exact(&mut bytes).map_err(StoreError::io("read", path))?;
        let whole = record::record_bytes(&bytes).ok_or_else(|| wrong("a message's length is wrong"))?;
        if at + whole as u64 > meta.len {
            return Err(wrong("a message reaches beyond the segment's end"));
        }
        bytes.resize(whole, 0);
        reader.read_exact(&mut bytes[record::HEAD_BYTES..]).map_err(StoreError::io("read", path))?;
        let record = Record::check(&bytes).map_err(|detail| wrong(&detail))?;
        if record.seq() != meta.first_seq + index.count() {
            return Err(wrong("a message is out of order"));
        }
        let offset = u32::try_from(at).map_err(|_| wrong("the segment is too large"))?;
        index.push(record.digest(), offset, record.content_type());
        at += whole as u64;
    }
    if index.count() != meta.count {
        let detail = format!("it has {} messages instead of {}", index.count(), meta.count);
        return Err(StoreError::corrupt(path, at, detail));
    }
    Ok(index)
}
