//! The data folder: its lock, and the identity that lives and dies with it.
//!
//! `data/lock` is held by `flock` for as long as a [`DataFolder`] lives, so that two processes
//! never write one folder. `data/identity.json` holds the node's id, the id of its cluster, and
//! what it promised while that cluster was being formed; it is replaced atomically (temporary
//! file, fsync, rename, fsync of the folder), so a crash leaves the old text or the new one.
//!
//! `data/run` has the number of the node's latest run, of which the next is higher whatever the clock says.
//!
//! **Invariant**: what [`DataFolder::change`] returned with success is on disk. A caller may
//! therefore answer a peer on the strength of it.
//!
//! No tasks. Every call may block on the disk: call from a blocking thread.

mod file;
mod run;
pub mod shared;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_base::id::{ClusterId, NodeId};

/// The file that is locked.
pub const LOCK_FILE: &str = "lock";

/// The file that holds the identity.
pub const IDENTITY_FILE: &str = "identity.json";

/// The folder of Raft's log, whose presence is held against the identity's.
pub const LOG_DIR: &str = "log";

/// Most bytes that an identity file is read to.
pub const IDENTITY_BYTES_MAX: u64 = 1024 * 1024;

/// Most proposals that a node may have turned away from; then it turns away from no other.
pub const PAST_PROMISES_MAX: usize = 16;

/// A word given to a proposer: this node joins that cluster, and no other, unless
/// [`crate::formation::bootstrap`]'s rules let it take the word back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Orders proposals: a node only ever promises to a higher one.
    pub ballot: u64,
    pub proposer: NodeId,
    pub cluster: ClusterId,
    /// The first voters, sorted.
    pub members: Vec<NodeId>,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    /// `None` while the node is pristine.
    pub cluster: Option<ClusterId>,
    /// The members with which this node initialises `cluster`'s Raft, where that is its part.
    /// Kept, so that a restart between the decision and the initialisation makes up for it.
    pub planned: Option<Vec<NodeId>>,
    /// The word that holds now. Its proposer may be this node.
    pub promise: Option<Promise>,
    /// Words taken back although their clusters may have been decided.
    pub past: Vec<Promise>,
    /// The highest ballot that was ever promised to.
    pub ballot: u64,
}

impl Identity {
    /// A new node's.
    pub fn new(node: NodeId) -> Self {
        Self { node, cluster: None, planned: None, promise: None, past: Vec::new(), ballot: 0 }
    }
}

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the data folder {dir} is in use by another process{holder}")]
    Locked { dir: PathBuf, holder: String },
    #[error("all {count} data folders of {data} are in use by other processes")]
    AllTaken { data: PathBuf, count: usize },
    #[error("the data folder {dir} cannot be written: {source}")]
    ReadOnly { dir: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not an identity ({detail}); restore it, or start with an empty folder as a new node")]
    Unreadable { path: PathBuf, detail: String },
    #[error("{path} has format {format}, which a newer version wrote; this one reads up to {newest}")]
    TooNew { path: PathBuf, format: u16, newest: u16 },
    #[error(
        "{dir} has a Raft log but no {IDENTITY_FILE}: a log under a new id could break the cluster's \
             safety; restore the file, or start with an empty folder as a new node"
    )]
    LogWithoutIdentity { dir: PathBuf },
    #[error(
        "{dir} belongs to cluster {cluster} but its Raft log is gone: the old id with no log could break \
             the cluster's safety; start with an empty folder as a new node"
    )]
    IdentityWithoutLog { dir: PathBuf, cluster: ClusterId },
}

/// A locked data folder with its identity.
#[derive(Debug)]
pub struct DataFolder {
    dir: PathBuf,
    identity: Mutex<Identity>,
    /// Locked until dropped.
    _lock: File,
}

impl DataFolder {
    /// Locks the folder, making it where there is none, and reads the identity, making a new
    /// one where the folder is empty. Open it before the store, which makes the log.
    ///
    /// # Errors
    /// Another process has it; it cannot be read or written; its identity and its log do not
    /// belong together.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        create_dir(dir)?;
        let lock = lock(dir)?;
        let path = dir.join(IDENTITY_FILE);
        let has_log = has_entries(&dir.join(LOG_DIR))?;
        let identity = match read(&path)? {
            Some(identity) => {
                if let (Some(cluster), false) = (identity.cluster, has_log) {
                    return Err(IdentityError::IdentityWithoutLog { dir: dir.into(), cluster });
                }
                identity
            }
            None if has_log => return Err(IdentityError::LogWithoutIdentity { dir: dir.into() }),
            None => {
                let identity = Identity::new(NodeId::random());
                write(dir, &identity)?;
                identity
            }
        };
        Ok(Self { dir: dir.into(), identity: Mutex::new(identity), _lock: lock })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity as it is on disk.
    pub fn identity(&self) -> Identity {
        self.locked().clone()
    }

    /// Changes the identity. Where `change` changed it, it is on disk when this returns; where
    /// it could not be written, the change did not happen. Changes exclude each other, so
    /// `change` may compare and set.
    pub fn change<T>(&self, change: impl FnOnce(&mut Identity) -> T) -> Result<T, IdentityError> {
        let mut held = self.locked();
        let mut next = held.clone();
        let outcome = change(&mut next);
        if next != *held {
            write(&self.dir, &next)?;
            *held = next;
        }
        Ok(outcome)
    }

    fn locked(&self) -> MutexGuard<'_, Identity> {
        // The identity is replaced whole, so a panic elsewhere left none half-changed.
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn create_dir(dir: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| write_error(dir, dir, source))
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let path = dir.join(LOCK_FILE);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|source| write_error(dir, &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only to help; the holder may not have written it yet.
            let _ = (&mut file).take(16).read_to_string(&mut pid);
            let holder = match pid.trim().parse::<u32>() {
                Ok(pid) => format!(" (pid {pid})"),
                Err(_) => String::new(),
            };
            return Err(IdentityError::Locked { dir: dir.into(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(IdentityError::Io { path, source }),
    }
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    if let Err(error) = noted {
        // Only to help: a full disk keeps nobody from starting.
        tracing::debug!(%error, "the lock file does not tell this process's id");
    }
    Ok(file)
}

fn has_entries(dir: &Path) -> Result<bool, IdentityError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(IdentityError::Io { path: dir.into(), source }),
    }
}

fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
    let io_error = |source| IdentityError::Io { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(source)),
    };
    let mut bytes = Vec::new();
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error)?;
    file::decode(path, &bytes).map(Some)
}

fn write(dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let path = dir.join(IDENTITY_FILE);
    let text = file::encode(&path, identity)?;
    let temporary = dir.join(format!("{IDENTITY_FILE}.tmp"));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|source| write_error(dir, &path, source))
}

fn write_error(dir: &Path, path: &Path, source: io::Error) -> IdentityError {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            IdentityError::ReadOnly { dir: dir.into(), source }
        }
        _ => IdentityError::Io { path: path.into(), source },
    }
}

#[cfg(test)]
mod tests;
