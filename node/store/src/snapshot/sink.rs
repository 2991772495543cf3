//! Receiving a snapshot: into a folder of its own, checked as it comes, durable when it is whole.
//!
//! The bytes are written by a blocking thread, and synced every MiB, so that a large snapshot
//! never becomes one long stall of the disk for the log. Dropping the sink removes what came.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use skep_base::id::ClusterId;

use crate::error::StoreError;
use crate::files;
use crate::from_file::FromFile;
use crate::manifest::{SnapshotHeader, decode_header};
use crate::reader::Reader;
use crate::segments::SegmentFile;
use crate::snapshot::decoder::{Decoder, Event};
use crate::snapshot::{SnapshotData, StagingDir, check_and_index};

/// Written bytes after which the file is synced.
const SYNC_BYTES: u64 = 1024 * 1024;

/// Receives a snapshot.
pub struct SnapshotSink {
    /// Away while a blocking thread has it; for good once that has failed.
    state: Option<Receiving>,
}

struct Receiving {
    dir: StagingDir,
    /// The folder is there.
    is_begun: bool,
    decoder: Decoder,
    header: Option<Arc<SnapshotHeader>>,
    /// Where the header's bytes are put aside while they come.
    aside: Option<File>,
    files: Vec<Arc<SegmentFile>>,
    unsynced: u64,
}

impl std::fmt::Debug for SnapshotSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotSink")
    }
}

impl SnapshotSink {
    /// To receive one, in the folder of the reader's store.
    pub fn new(reader: &Reader) -> Self {
        let dir = reader.core().incoming_dir().join(ClusterId::random().to_string());
        SnapshotSink {
            state: Some(Receiving {
                dir: StagingDir(dir),
                is_begun: false,
                decoder: Decoder::default(),
                header: None,
                aside: None,
                files: Vec::new(),
                unsynced: 0,
            }),
        }
    }

    /// Takes the next bytes, however they were cut. What it answers with an error is over: the
    /// bytes are no snapshot, or the disk has failed. Not cancel-safe.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut state = self.state.take().ok_or_else(over)?;
        let work = tokio::task::spawn_blocking(move || state.take_bytes(&bytes).map(|()| state));
        self.state = Some(work.await.map_err(io::Error::other)??);
        Ok(())
    }

    /// Checks that the snapshot is whole, and makes it durable.
    pub async fn finish(mut self) -> io::Result<SnapshotData> {
        let state = self.state.take().ok_or_else(over)?;
        tokio::task::spawn_blocking(move || state.finish()).await.map_err(io::Error::other)?
    }
}

fn over() -> io::Error {
    io::Error::other("the snapshot was refused before")
}

impl Receiving {
    fn take_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_begun {
            let dir = &self.dir.0;
            fs::create_dir_all(dir).map_err(StoreError::io("create folder", dir))?;
            self.is_begun = true;
        }
        self.decoder.push(bytes);
        while let Some(event) = self.decoder.next()? {
            match event {
                Event::HeaderBytes(bytes) => self.take_header_bytes(&bytes)?,
                Event::HeaderEnd { format, len, crc } => {
                    let header = Arc::new(self.read_header(format, len, crc)?);
                    self.decoder.go_on(header.clone());
                    self.header = Some(header);
                }
                Event::Bytes { segment, offset, bytes, done } => {
                    self.take_segment_bytes(segment, offset, &bytes, done)?;
                }
                Event::End => {}
            }
        }
        Ok(())
    }

    /// With many tasks there are a hundred megabytes of them, which are not held in memory.
    fn take_header_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.header();
        let mut file = match self.aside.take() {
            Some(file) => file,
            None => File::create_new(&path).map_err(StoreError::io("create", &path))?,
        };
        file.write_all(bytes).map_err(StoreError::io("write", &path))?;
        self.pace(&file, &path, bytes.len())?;
        self.aside = Some(file);
        Ok(())
    }

    /// Syncs what is written, now and then.
    fn pace(&mut self, file: &File, path: &Path, written: usize) -> Result<(), StoreError> {
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_BYTES {
            file.sync_data().map_err(StoreError::sync(path))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn read_header(&mut self, format: u32, len: usize, crc: u32) -> Result<SnapshotHeader, StoreError> {
        let path = self.dir.header();
        self.aside = None;
        let mut file = match len {
            // It is refused by what is read of it.
            0 => return decode_header(format, &[]),
            _ => File::open(&path).map_err(StoreError::io("open", &path))?,
        };
        let mut source = FromFile::new(&mut file);
        let header = source.header(format, len, crc);
        let header = source.checked(&path, header)?;
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        Ok(header)
    }

    fn take_segment_bytes(
        &mut self,
        segment: usize,
        offset: u64,
        bytes: &[u8],
        done: bool,
    ) -> io::Result<()> {
        let path = self.dir.segment(segment);
        if segment == self.files.len() {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(StoreError::io("create", &path))?;
            self.files.push(Arc::new(SegmentFile::held(path.clone(), file)));
        }
        let known = self.files.get(segment).ok_or_else(over)?.clone();
        let file = known.open()?;
        file.write_all_at(bytes, offset).map_err(StoreError::io("write", &path))?;
        self.pace(&file, &path, bytes.len())?;
        if done
            && let Some(header) = &self.header
            && let Some((kind, meta)) = header.file(segment)
        {
            check_and_index(&file, &path, kind, meta, header)?;
            // There may be more segments than descriptors.
            known.let_go();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<SnapshotData> {
        self.decoder.finish()?;
        let header = self.header.ok_or_else(over)?;
        files::sync_dir(&self.dir.0)?;
        Ok(SnapshotData { header, files: self.files, staged: Some(self.dir) })
    }
}
