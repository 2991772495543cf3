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
    /// What was written could not be made durable. The kernel tells of it once and may have dropped the
    /// pages, so that a second sync that succeeds proves nothing: it is never tried again.
    #[error("sync {}: {source}", path.display())]
    Sync { path: PathBuf, source: io::Error },
    /// A value does not fit its format.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A command of a format that this program does not know: going on would diverge.
    #[error("log entry {index} has command format {format}; this program reads up to {known}")]
    CommandFormat { index: u64, format: u16, known: u16 },
    /// What was asked for is not in memory, and whoever asked may not wait for the disk.
    #[error("it is not in memory")]
    WouldWait,
    /// The store stopped after an earlier failure.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { action, path, source }
    }

    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Sync { path, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: path.to_path_buf(), offset, detail: detail.into() }
    }

    /// What lets the same step succeed once there is some again. Never of a failed sync, whatever it failed
    /// of.
    pub(crate) fn lack(&self) -> Option<Lack> {
        match self {
            StoreError::Io { source, .. } => lack(source),
            _ => None,
        }
    }

    /// The file of records that is not as it was written, where that is what is wrong.
    pub fn rotten_path(&self) -> Option<&Path> {
        let path = match self {
            StoreError::Corrupt { path, .. } => path,
            StoreError::Io { path, source, .. } if is_rot(source) => path,
            _ => return None,
        };
        path.extension().is_some_and(|end| end == "seg" || end == "clm").then_some(path)
    }

    /// Whether the store waits for what is lacking, and goes on by itself.
    pub fn is_full(&self) -> bool {
        self.lack().is_some()
    }
}

/// Whether a disk does not give what it had, or a file ends too early, or is gone.
fn is_rot(error: &io::Error) -> bool {
    let is_short = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound);
    is_short || error.raw_os_error() == Some(libc::EIO)
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
            StoreError::Io { source, .. } | StoreError::Sync { source, .. } => source.kind(),
            StoreError::WouldWait => io::ErrorKind::WouldBlock,
            StoreError::Stopped(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The disk is full, over quota or read-only.
    Room,
    /// The process or the host has no file descriptors left.
    Files,
    /// The kernel has no memory for it.
    Memory,
}

impl Lack {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Lack::Room => "the disk is full",
            Lack::Files => "no file can be opened: there are no descriptors left",
            Lack::Memory => "the host has no memory left",
        }
    }
}

/// Whether an error ends when the disk has room or is writable, or other files are closed.
pub(crate) fn lack(error: &io::Error) -> Option<Lack> {
    match error.raw_os_error()? {
        libc::ENOSPC | libc::EDQUOT | libc::EROFS => Some(Lack::Room),
        libc::EMFILE | libc::ENFILE => Some(Lack::Files),
        libc::ENOMEM => Some(Lack::Memory),
        _ => None,
    }
}
