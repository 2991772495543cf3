//! A segment's file: held open while there is a place for it, else opened for each look.
//!
//! A store has as many segments as it has messages, and a process only so many descriptors. The newest
//! segments are held: they are what is written, and mostly what is read.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Lack, StoreError, lack};
use crate::segments::read::Wait;

/// Descriptors that a look gets where there are no others: what is applied cannot wait in the middle.
const SPARES: usize = 2;

/// Of the whole process: so are descriptors.
fn spares() -> MutexGuard<'static, Vec<File>> {
    static SPARE: Mutex<Vec<File>> = Mutex::new(Vec::new());
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that there are spare descriptors. Fails, and can be called again, where there are none.
pub(crate) fn keep_spares(dir: &Path) -> Result<(), StoreError> {
    while !has_spares() {
        let spare = File::open(dir).map_err(StoreError::io("open folder", dir))?;
        spares().push(spare);
    }
    Ok(())
}

/// Whether there are as many as there should be.
pub(crate) fn has_spares() -> bool {
    spares().len() >= SPARES
}

#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    held: Mutex<Option<Arc<File>>>,
}

impl SegmentFile {
    /// One that is open.
    pub(crate) fn held(path: PathBuf, file: File) -> SegmentFile {
        SegmentFile { path, held: Mutex::new(Some(Arc::new(file))) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To read from it, or to make it durable.
    pub(crate) fn open(&self) -> Result<Arc<File>, StoreError> {
        self.open_for(Wait::ForDisk)
    }

    /// To read from it. To open a file takes looks at folders, which may have to come from the disk.
    pub(crate) fn open_for(&self, wait: Wait) -> Result<Arc<File>, StoreError> {
        let held = self.lock().clone();
        match (held, wait) {
            (Some(file), _) => Ok(file),
            (None, Wait::Never) => Err(StoreError::WouldWait),
            (None, Wait::ForDisk) => self.open_anew(),
        }
    }

    /// Gives its descriptor back, once those who read it now are done. Closing may wait for the disk.
    pub(crate) fn let_go(&self) {
        let held = self.lock().take();
        drop(held);
    }

    /// Holds it open: it can be read also when its name is gone.
    pub(crate) fn hold(&self) -> Result<(), StoreError> {
        if !self.is_held() {
            let file = self.open_anew()?;
            self.lock().get_or_insert(file);
        }
        Ok(())
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lock().is_some()
    }

    fn open_anew(&self) -> Result<Arc<File>, StoreError> {
        loop {
            match open(OpenOptions::new().read(true), &self.path) {
                Ok(file) => return Ok(Arc::new(file)),
                Err(error) => {
                    let spare = if lack(&error) == Some(Lack::Files) { spares().pop() } else { None };
                    match spare {
                        Some(spare) => drop(spare),
                        None => return Err(StoreError::io("open", &self.path)(error)),
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file whose reads do not count as uses of it: to note them down is a write, for which a read that may
/// not wait would wait. Only its owner may ask for that.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    match options.custom_flags(libc::O_NOATIME).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            options.custom_flags(0).open(path)
        }
        opened => opened,
    }
}
