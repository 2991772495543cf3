//! A segment's file: held open while there is a place for it, else opened for each look.
//!
//! A store has as many segments as it has messages, and a process only so many descriptors. The newest
//! segments are held: they are what is written, and mostly what is read.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};

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

    /// The same, where somebody else has it as well: its name is about to go.
    pub(crate) fn hold_for_readers(self: &Arc<Self>) -> Result<(), StoreError> {
        if Arc::strong_count(self) > 1 { self.hold() } else { Ok(()) }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lock().is_some()
    }

    /// Another file has taken the name: those who read from now on read that.
    pub(crate) fn renew(&self) {
        let anew = if self.is_held() { self.open_anew().ok() } else { None };
        let mut held = self.lock();
        let old = match held.is_some() {
            true => std::mem::replace(&mut *held, anew),
            false => None,
        };
        drop(held);
        // Closing may wait for the disk.
        drop(old);
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

impl Drop for SegmentFile {
    /// The last to close a file whose name is gone waits until all of it is freed: never the thread of consensus,
    /// on which whoever read it last may let it go.
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(last) = held.and_then(Arc::into_inner) else { return };
        let is_unlinked = rustix::fs::fstat(&last).is_ok_and(|found| found.st_nlink == 0);
        if is_unlinked {
            close_elsewhere(Box::new(last));
        }
    }
}

/// Has a thread of its own drop it: one for the process, which is there once something was to be closed. What waits
/// for it is open, and so no more than the files that may be.
fn close_elsewhere(what: Box<dyn Any + Send>) {
    static CLOSER: LazyLock<Option<mpsc::Sender<Box<dyn Any + Send>>>> = LazyLock::new(|| {
        let (sender, closing) = mpsc::channel();
        let closer = std::thread::Builder::new().name("skep-closer".into());
        closer.spawn(move || closing.into_iter().for_each(drop)).ok().map(|_| sender)
    });
    if let Some(closer) = &*CLOSER {
        // Without its thread it is dropped here.
        let _ = closer.send(what);
    }
}

/// Opens a file that has so many bytes at least, and begins with this header, which is of what is said to be in it.
pub(crate) fn open_with_header<const N: usize>(
    path: &Path,
    bytes: u64,
    header: &[u8; N],
    what: &str,
) -> Result<File, StoreError> {
    let file = open(OpenOptions::new().read(true).write(true), path).map_err(StoreError::io("open", path))?;
    let len = file.metadata().map_err(StoreError::io("examine", path))?.len();
    if len < bytes {
        let detail = format!("it ends here, but should have {bytes} bytes");
        return Err(StoreError::corrupt(path, len, detail));
    }
    let mut found = [0; N];
    file.read_exact_at(&mut found, 0).map_err(StoreError::io("read", path))?;
    match found == *header {
        true => Ok(file),
        false => Err(StoreError::corrupt(path, 0, format!("its header is not that of these {what}"))),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this process has a file open of which the name is gone.
    fn is_open(path: &Path) -> bool {
        let gone = format!("{} (deleted)", path.display());
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|to| to.to_string_lossy() == gone)
    }

    /// Its drop waits.
    struct Long(mpsc::Receiver<()>);

    impl Drop for Long {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn a_file_whose_name_is_gone_is_closed_by_a_thread_that_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (go_on, wait) = mpsc::channel();
        close_elsewhere(Box::new(Long(wait)));
        let file = SegmentFile::held(path.clone(), File::create(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        drop(file);
        assert!(is_open(&path), "this thread did not close it");
        drop(go_on);
        // Behind the file.
        let (go_on, wait) = mpsc::channel::<()>();
        close_elsewhere(Box::new(go_on));
        assert!(wait.recv().is_err());
        assert!(!is_open(&path));
        // One that keeps its name is closed at once, whatever the closer does.
        let (go_on, wait) = mpsc::channel();
        close_elsewhere(Box::new(Long(wait)));
        let named = folder.path().join("b");
        drop(SegmentFile::held(named.clone(), File::create(&named).unwrap()));
        std::fs::remove_file(&named).unwrap();
        assert!(!is_open(&named));
        drop(go_on);
    }
}
