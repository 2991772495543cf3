//! Snapshots: one format for the wire and for files.
//!
//! ```text
//! magic[8] format:u32 header_len:u32 header_crc:u32 header                 (see `SnapshotHeader`)
//! each file's bytes in chunks      len:u32 (1..=262,144) crc:u32 bytes     no chunk spans two
//! end mark                         0:u32 total:u64 crc:u32                 total: files' bytes
//! ```
//!
//! Little-endian. Nothing may follow the end mark. The header says how the bytes divide: into the messages' segments, and the
//! files of claims, and those of tasks' bytes.

mod decoder;
mod sink;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use skep_raft::types::TypeConfig;
use skep_state::Kinds;
use skep_state::clock::Stamp;
use skep_state::command::ClaimKey;
use skep_state::kind::Stopped;
use skep_state::kinds::claims::records::{ClaimRecords, Spans};
use skep_state::kinds::claims::remembered::Remembered;
use skep_state::message::{Digest, StoredMessage};
use skep_state::records::{NewRecord, Records};

use crate::claims;
use crate::core::Captured;
use crate::error::StoreError;
use crate::from_file::FromFile;
use crate::manifest::{FileKind, HEADER_FORMAT, Outline, Progress, SnapshotHeader};
use crate::payloads;
use crate::segments::{
    Lookup, Sealed, SegmentFile, SegmentMeta, View, Wait, index, index_path, scan, summary_path,
};
use decoder::{Decoder, Event};
pub use sink::SnapshotSink;

pub(crate) const MAGIC: &[u8; 8] = b"SKEPSNP\n";
/// The newest snapshot format that this program reads: that of the header.
pub const SNAPSHOT_FORMAT: u32 = HEADER_FORMAT;
/// Magic, format, header length and checksum.
pub(crate) const PREFIX_BYTES: usize = 20;
/// The most bytes of a segment in one chunk.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024 - CHUNK_HEAD_BYTES;
pub(crate) const CHUNK_HEAD_BYTES: usize = 8;
/// Bytes of the header after which a chunk takes no further piece of it.
const HEADER_CHUNK_BYTES: usize = 128 * 1024;
pub(crate) const END_BYTES: usize = 16;

/// What openraft calls a snapshot.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// A consistent state of the store: its header and open handles of the segments it is made of.
/// They stay readable whatever the store does meanwhile.
#[derive(Debug)]
pub struct SnapshotData {
    header: Arc<SnapshotHeader>,
    files: Vec<Arc<SegmentFile>>,
    /// Where a received snapshot waits; its files are moved, not copied, when it is installed.
    staged: Option<StagingDir>,
}

/// A folder that goes with the value.
#[derive(Debug)]
pub(crate) struct StagingDir(PathBuf);

impl StagingDir {
    pub(crate) fn segment(&self, number: usize) -> PathBuf {
        self.0.join(format!("{number:08}.seg"))
    }

    /// The header's bytes, while they come.
    fn header(&self) -> PathBuf {
        self.0.join("header")
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        let dir = std::mem::take(&mut self.0);
        let remove = move || match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The folder is emptied at each start as well.
                tracing::debug!("cannot remove {}: {error}", dir.display());
            }
            _ => {}
        };
        // A connection that broke may drop it on the thread of consensus.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl SnapshotData {
    pub(crate) fn of(captured: Captured) -> SnapshotData {
        SnapshotData { header: captured.header, files: captured.files, staged: None }
    }

    /// What the snapshot holds.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The bytes of the snapshot file.
    pub fn file_bytes(&self) -> u64 {
        let header = self.header.outline().map_or(0, |outline| outline.len);
        let chunks: u64 =
            self.header.files().map(|(_, meta)| meta.len.div_ceil(CHUNK_BYTES_MAX as u64)).sum();
        (PREFIX_BYTES + header + END_BYTES) as u64
            + self.header.file_bytes()
            + chunks * CHUNK_HEAD_BYTES as u64
    }

    /// The snapshot file, in chunks of at most 256 KiB, but for what of the header is one piece and larger.
    pub fn into_chunks(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::unfold(Some(Encoder { data: Arc::new(self), next: Step::Begin }), |encoder| async move {
            let encoder = encoder?;
            // Reads may have to wait for the disk.
            let chunk = tokio::task::spawn_blocking(move || encoder.chunk());
            Some(match chunk.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok((bytes, encoder)) => (Ok(bytes), encoder),
                Err(error) => (Err(error), None),
            })
        })
    }

    /// Whether all bytes of tasks are there, in a snapshot that was received. One that is installed is taken without:
    /// this node then has what the other has, and says what is lost when it is asked for. Blocks.
    pub fn check_payloads(&self) -> Result<(), StoreError> {
        let Some(staged) = &self.staged else { return Ok(()) };
        for (number, (kind, meta)) in self.header.files().enumerate() {
            if kind == FileKind::Payloads {
                payloads::file::check_places(&staged.segment(number), meta, &self.header.kinds.tasks)?;
            }
        }
        Ok(())
    }

    /// The contents of a snapshot that was received, to be read. Blocks.
    pub fn contents(&self) -> Result<Kinds<Received, ReceivedClaims>, StoreError> {
        let Some(staged) = &self.staged else {
            return Err(StoreError::Stopped("only a received snapshot is read message by message".into()));
        };
        let segments = self.header.segments.iter().enumerate();
        let opened = segments.map(|(number, meta)| {
            let segment = Sealed::open(staged.segment(number), *meta)?;
            segment.let_go();
            Ok::<_, StoreError>(segment)
        });
        let view = View::of(opened.collect::<Result<_, _>>()?);
        let messages = Received { view, last_seq: self.header.last_seq() };
        let claims = &self.header.kinds.claims;
        let claims = ReceivedClaims(Spans::unread(claims.first..claims.next));
        let files = self.header.files().enumerate().filter(|(_, (kind, _))| *kind == FileKind::Payloads);
        let files = files.map(|(number, (_, meta))| (meta, staged.segment(number)));
        let heap = payloads::received(files)?;
        Ok(Kinds::open(self.header.kinds.clone(), messages, claims, heap)?)
    }

    /// Puts the segments under these names, durable and indexed: moved where they were received
    /// for this, else copied. Can be called again after a failure. Blocks.
    pub(crate) fn place(&self, paths: &[PathBuf]) -> Result<(), StoreError> {
        for (number, (to, (kind, meta))) in paths.iter().zip(self.header.files()).enumerate() {
            match &self.staged {
                Some(staged) => {
                    let from = staged.segment(number);
                    if kind == FileKind::Messages {
                        move_over(&index_path(&from), &index_path(to))?;
                        if summary_path(&from).exists() {
                            move_over(&summary_path(&from), &summary_path(to))?;
                        }
                    }
                    move_over(&from, to)?;
                }
                None => self.copy_file(number, to, kind, meta)?,
            }
        }
        Ok(())
    }

    fn copy_file(
        &self,
        number: usize,
        to: &Path,
        kind: FileKind,
        meta: SegmentMeta,
    ) -> Result<(), StoreError> {
        let Some(from) = self.files.get(number) else {
            return Err(StoreError::Stopped("a snapshot has fewer files than segments".into()));
        };
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(to)
            .map_err(StoreError::io("create", to))?;
        let from = from.open()?;
        let mut at = 0;
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        while at < meta.len {
            let step = (meta.len - at).min(buffer.len() as u64) as usize;
            from.read_exact_at(&mut buffer[..step], at).map_err(StoreError::io("copy to", to))?;
            out.write_all(&buffer[..step]).map_err(StoreError::io("copy to", to))?;
            at += step as u64;
        }
        check_and_index(&out, to, kind, meta, &self.header)
    }
}

/// Checks every record of a file of a snapshot that came from elsewhere, makes it durable, builds its index.
pub(crate) fn check_and_index(
    file: &File,
    path: &Path,
    kind: FileKind,
    meta: SegmentMeta,
    header: &SnapshotHeader,
) -> Result<(), StoreError> {
    file.sync_all().map_err(StoreError::sync(path))?;
    match kind {
        FileKind::Messages => {}
        FileKind::Claims => return claims::file::check(path, meta, header.kinds.claims.first),
        FileKind::Payloads => return payloads::file::check(path, meta),
    }
    let memory = scan(file, path, meta)?;
    let key = index::IndexKey { first_seq: meta.first_seq, count: meta.count, data_len: meta.len };
    index::build(&index_path(path), key, &memory)?;
    memory.types().keep(path, key);
    Ok(())
}

fn move_over(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::rename(from, to) {
        // Moved already, by an attempt that failed later.
        Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
        result => result.map_err(StoreError::io("move to", to)),
    }
}

/// The records of a snapshot that was received: to be read alone.
pub struct Received {
    view: View,
    last_seq: u64,
}

impl Records for Received {
    fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped> {
        Ok(match self.view.get(digest, Wait::ForDisk)? {
            Lookup::Here(message) => Some(message.seq),
            Lookup::Gone | Lookup::Unknown => None,
        })
    }

    fn digest_at(&self, seq: u64) -> Result<Digest, Stopped> {
        let one = self.page(seq - 1, 1, 1)?;
        let missing = || StoreError::Stopped(format!("message {seq} is in no segment"));
        Ok(one.first().map(|message| message.digest).ok_or_else(missing)?)
    }

    fn page(&self, after: u64, count_max: usize, bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped> {
        let count = self.last_seq.saturating_sub(after).min(count_max as u64);
        Ok(self.view.page(after + 1, count, bytes_max, Wait::ForDisk)?.0)
    }

    fn push(&mut self, _record: NewRecord<'_>) -> Result<(), Stopped> {
        Err(Stopped::ReadOnly)
    }

    fn let_go(&mut self, _floor: u64) {}
}

/// The claims of a snapshot that was received: they are of their time, and nobody asks for them.
pub struct ReceivedClaims(Spans);

impl ClaimRecords for ReceivedClaims {
    fn spans(&self) -> &Spans {
        &self.0
    }

    fn find(&self, _key: ClaimKey) -> Result<Option<(u64, Remembered)>, Stopped> {
        Err(Stopped::ReadOnly)
    }

    fn push(&mut self, _claim: &Remembered, _instead_of: Option<u64>) -> Result<(), Stopped> {
        Err(Stopped::ReadOnly)
    }

    fn forget_oldest(&mut self) {}

    fn mend_time(&mut self, _ceiling: Stamp) {}
}

struct Encoder {
    data: Arc<SnapshotData>,
    next: Step,
}

enum Step {
    Begin,
    Header { outline: Outline, progress: Progress },
    Chunk { segment: usize, offset: u64 },
}

impl Encoder {
    fn chunk(self) -> io::Result<(Bytes, Option<Encoder>)> {
        let Encoder { data, next } = self;
        let (segment, offset) = match next {
            Step::Begin => {
                let outline = data.header.outline()?;
                let bytes = prefix(&outline);
                return header_chunk(data, outline, Progress::default(), bytes);
            }
            Step::Header { outline, progress } => return header_chunk(data, outline, progress, Vec::new()),
            Step::Chunk { segment, offset } => (segment, offset),
        };
        let (Some((_, meta)), Some(file)) = (data.header.file(segment), data.files.get(segment)) else {
            let mut end = Vec::with_capacity(END_BYTES);
            end.extend_from_slice(&0u32.to_le_bytes());
            end.extend_from_slice(&data.header.file_bytes().to_le_bytes());
            end.extend_from_slice(&crc32fast::hash(&end).to_le_bytes());
            return Ok((end.into(), None));
        };
        let len = (meta.len - offset).min(CHUNK_BYTES_MAX as u64) as usize;
        let mut bytes = vec![0; CHUNK_HEAD_BYTES + len];
        let file = file.open().map_err(io::Error::other)?;
        file.read_exact_at(&mut bytes[CHUNK_HEAD_BYTES..], offset)?;
        let crc = crc32fast::hash(&bytes[CHUNK_HEAD_BYTES..]);
        bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let offset = offset + len as u64;
        let next = match offset < meta.len {
            true => Step::Chunk { segment, offset },
            false => Step::Chunk { segment: segment + 1, offset: 0 },
        };
        Ok((bytes.into(), Some(Encoder { data, next })))
    }
}

fn prefix(outline: &Outline) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&outline.format.to_le_bytes());
    bytes.extend_from_slice(&(outline.len as u32).to_le_bytes());
    bytes.extend_from_slice(&outline.crc.clone().finalize().to_le_bytes());
    bytes
}

/// The next bytes of the header, behind these.
fn header_chunk(
    data: Arc<SnapshotData>,
    outline: Outline,
    mut progress: Progress,
    mut bytes: Vec<u8>,
) -> io::Result<(Bytes, Option<Encoder>)> {
    let next = match data.header.fill(&outline, &mut progress, HEADER_CHUNK_BYTES, &mut bytes)? {
        true => Step::Header { outline, progress },
        false => Step::Chunk { segment: 0, offset: 0 },
    };
    Ok((bytes.into(), Some(Encoder { data, next })))
}

/// What a snapshot file holds, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotInfo {
    pub header: SnapshotHeader,
    pub messages: u64,
    pub message_bytes: u64,
    pub file_bytes: u64,
}

fn header_of(path: &Path, format: u32, len: usize, crc: u32) -> Result<Arc<SnapshotHeader>, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut source = FromFile::new(&mut file);
    source.seek(PREFIX_BYTES as u64)?;
    let found = source.header(format, len, crc);
    let found = found.map_err(|error| StoreError::corrupt(path, PREFIX_BYTES as u64, error.to_string()));
    source.checked(path, found).map(Arc::new)
}

/// Reads a whole snapshot file and checks every checksum in it. Blocks.
pub fn inspect(path: &Path) -> Result<SnapshotInfo, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut decoder = Decoder::default();
    let mut header = None;
    let mut file_bytes = 0u64;
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    loop {
        let len = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if len == 0 {
            break;
        }
        decoder.push(&buffer[..len]);
        while let Some(event) = decoder
            .next()
            .map_err(|error| StoreError::corrupt(path, decoder.position(), error.to_string()))?
        {
            if let Event::HeaderEnd { format, len, crc } = event {
                let found = header_of(path, format, len, crc)?;
                decoder.go_on(found.clone());
                header = Some(found);
            }
        }
        file_bytes += len as u64;
    }
    decoder.finish().map_err(|error| StoreError::corrupt(path, file_bytes, error.to_string()))?;
    let header = header.ok_or_else(|| StoreError::corrupt(path, file_bytes, "it ends before its header"))?;
    let (messages, message_bytes) = (header.messages(), header.message_bytes());
    Ok(SnapshotInfo { header: Arc::unwrap_or_clone(header), messages, message_bytes, file_bytes })
}
