//! Reads of segments' files: as long as the disk takes, or at once and of what is in memory alone.
//!
//! The thread that runs consensus may not wait for a disk. What it reads, it tries without waiting; where
//! that comes to nothing, one that may wait reads it.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::error::StoreError;

/// Whether a read may wait for the disk. Where it may not, and would have to, it ends with
/// [`StoreError::WouldWait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Never,
    ForDisk,
}

/// Fills `bytes` from `at` on.
pub(crate) fn read_exact_at(
    file: &File,
    path: &Path,
    bytes: &mut [u8],
    at: u64,
    wait: Wait,
) -> Result<(), StoreError> {
    match wait {
        Wait::ForDisk => file.read_exact_at(bytes, at).map_err(StoreError::io("read", path)),
        Wait::Never => read_cached(file, bytes, at),
    }
}

/// Of the page cache alone. Whatever else comes of it, a file system that cannot tell (EOPNOTSUPP), a kernel
/// that does not know the call (ENOSYS), an end too early, is told by a read that may wait.
fn read_cached(file: &File, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
    let mut done = 0;
    while done < bytes.len() {
        let mut rest = [IoSliceMut::new(&mut bytes[done..])];
        match preadv2(file, &mut rest, at + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(StoreError::WouldWait),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(_) => return Err(StoreError::WouldWait),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_in_memory_is_read_at_once_and_nothing_else_is_said_without_waiting() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        let mut bytes = [0; 4];
        // Just written, it is in memory; a file system that cannot tell says so each time.
        match read_exact_at(&file, Path::new("x"), &mut bytes, 1, Wait::Never) {
            Ok(()) => assert_eq!(&bytes, b"bcde"),
            Err(error) => assert!(matches!(error, StoreError::WouldWait), "{error}"),
        }
        read_exact_at(&file, Path::new("x"), &mut bytes, 2, Wait::ForDisk).unwrap();
        assert_eq!(&bytes, b"cdef");
        let beyond = read_exact_at(&file, Path::new("x"), &mut bytes, 4, Wait::Never);
        assert!(matches!(beyond, Err(StoreError::WouldWait)), "{beyond:?}");
        let beyond = read_exact_at(&file, Path::new("x"), &mut bytes, 4, Wait::ForDisk);
        assert!(matches!(beyond, Err(StoreError::Io { .. })), "{beyond:?}");
    }
}
