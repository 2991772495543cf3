//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use skep_base::codec::CodecError;
use skep_state::kind::{Invalid, Stopped};

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Bytes on disk are not what was written there. Nothing is served from such a store.
    #[error("{} is corrupt at byte {offset}: {detail}", path.display())]
    Corrupt { path: PathBuf, offset: u64, detail: String },
    /// The folder was written by a program that this one does not know.
    #[error("{} has format {found:?}; this program reads {expected:?}", path.display())]
    Format { path: PathBuf, found: String, expected: String },
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A value does not fit its format.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A command of a format that this program does not know: going on would diverge.
    #[error("log entry {index} has command format {format}; this program reads up to {known}")]
    CommandFormat { index: u64, format: u16, known: u16 },
    /// The store stopped after an earlier failure.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: path.to_path_buf(), offset, detail: detail.into() }
    }

    /// True where room on the disk, or its being writable again, lets the same write succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if is_full(source))
    }
}

impl From<Invalid> for StoreError {
    fn from(invalid: Invalid) -> StoreError {
        StoreError::Codec(CodecError::Invalid(invalid.0))
    }
}

impl From<Stopped> for StoreError {
    fn from(stopped: Stopped) -> StoreError {
        match stopped {
            Stopped::Format { index, format, known } => StoreError::CommandFormat { index, format, known },
            Stopped::ReadOnly => StoreError::Stopped(stopped.to_string()),
            Stopped::Records(error) => match error.downcast::<StoreError>() {
                Ok(error) => *error,
                Err(error) => StoreError::Stopped(error.to_string()),
            },
        }
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Stopped {
        Stopped::Records(Box::new(error))
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> io::Error {
        let kind = match &error {
            StoreError::Corrupt { .. } | StoreError::Codec(_) => io::ErrorKind::InvalidData,
            StoreError::Format { .. } | StoreError::CommandFormat { .. } => io::ErrorKind::Unsupported,
            StoreError::Io { source, .. } => source.kind(),
            StoreError::Stopped(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// True for errors that end when the disk has room, or is writable, again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS))
}
