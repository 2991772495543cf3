//! The sealed copy of what the cluster's configuration was, under `--state`: what a balancer serves by that starts while
//! no node is there.
//!
//! One file, `gateway.sealed`: a line that says what it is, then the line in which a node told it, both sealed with the
//! cluster's keys. Written beside it under a name of its own, synced, renamed and the folder synced, so that it is the
//! one before or the next, also where another process writes there, too. What no key opens, and what cannot be read, is
//! as if it were not there. No tasks: all of it blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_base::id::ClusterId;
use skep_gateway::told::{LINE_MAX, Told};
use skep_members::in_force::Keys;
use skep_members::stored::{self, For, OVERHEAD_BYTES};
use tokio::sync::watch;

use super::hear::State;
use crate::core::following::Position;

const NAME: &str = "gateway.sealed";
/// Most bytes before the line.
const HEAD_BYTES_MAX: usize = 1024;
const FILE_BYTES_MAX: usize = HEAD_BYTES_MAX + LINE_MAX + 2 + OVERHEAD_BYTES;
/// After that long nobody writes any more what lies beside.
const BESIDE_MAX: Duration = Duration::from_secs(600);
/// Files of a folder that are looked at for such.
const LOOKED_AT_MAX: usize = 4096;
/// The form of what is sealed.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// None where the cluster is not known.
    cluster: Option<String>,
    /// When a node last said so, in seconds of Unix time.
    written_s: u64,
}

/// Where it lies, and what opens it.
#[derive(Debug, Clone)]
pub struct Copies {
    folder: PathBuf,
    keys: Keys,
}

/// Why there is a copy that cannot be served by.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sealed(#[from] stored::OpenError),
    #[error("it says nothing that this version reads")]
    Content,
}

impl Copies {
    pub fn at(folder: &Path, keys: Keys) -> Self {
        Self { folder: folder.to_owned(), keys }
    }

    /// Told of each change of the keys in force.
    pub fn rekeyed(&self) -> watch::Receiver<()> {
        self.keys.changes()
    }

    /// Makes the folder, where it is not there, and clears what a process left that ended while it wrote.
    pub fn prepare(&self, now: SystemTime) -> io::Result<()> {
        self.make_folder()?;
        for entry in fs::read_dir(&self.folder)?.take(LOOKED_AT_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let is_beside =
                name.to_str().and_then(|it| it.strip_prefix(NAME)).is_some_and(|it| it.starts_with('.'));
            let is_old = |modified| now.duration_since(modified).is_ok_and(|it| it > BESIDE_MAX);
            // One that another process has just renamed is gone.
            if is_beside && entry.metadata().and_then(|it| it.modified()).is_ok_and(is_old) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// What lies there, and how old it is; `None` where nothing does.
    pub fn read(&self, now: SystemTime) -> Result<Option<(State, Duration)>, Unread> {
        let file = match File::open(self.folder.join(NAME)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut sealed = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut sealed)?;
        if sealed.len() > FILE_BYTES_MAX {
            return Err(Unread::Content);
        }
        let plain = stored::open(&self.keys.now().ring, For::Gateway, &sealed)?;
        let (state, written) = decode(&plain).ok_or(Unread::Content)?;
        Ok(Some((state, now.duration_since(written).unwrap_or_default())))
    }

    /// Puts a state there that a node said then.
    pub fn write(&self, state: &State, then: SystemTime) -> io::Result<()> {
        let plain = encode(state, then);
        let sealed = stored::seal(&self.keys.now().ring, For::Gateway, &plain).map_err(io::Error::other)?;
        self.make_folder()?;
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("there are no random numbers"))?;
        let beside = self.folder.join(format!("{NAME}.{:016x}", u64::from_le_bytes(random)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = self.put(&sealed, file, &beside);
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Writes it beside, and puts that in its place.
    fn put(&self, sealed: &[u8], mut file: File, beside: &Path) -> io::Result<()> {
        file.write_all(sealed)?;
        file.sync_all()?;
        fs::rename(beside, self.folder.join(NAME))?;
        File::open(&self.folder)?.sync_all()
    }
}

fn encode(state: &State, then: SystemTime) -> Vec<u8> {
    let written_s = then.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let head = Head { format: FORMAT, cluster: state.cluster.map(|it| it.to_string()), written_s };
    // A struct of words and numbers always has its form in JSON.
    let mut plain = serde_json::to_vec(&head).unwrap_or_default();
    plain.push(b'\n');
    let Position { lineage, revision } = state.position;
    plain.extend(Told::State { lineage, revision, document: state.document.as_deref() }.encode());
    plain
}

fn decode(plain: &[u8]) -> Option<(State, SystemTime)> {
    let at = plain.iter().take(HEAD_BYTES_MAX).position(|b| *b == b'\n')?;
    let head: Head = serde_json::from_slice(&plain[..at]).ok()?;
    let Ok(Told::State { lineage, revision, document }) = Told::decode(&plain[at + 1..]) else { return None };
    if head.format != FORMAT {
        return None;
    }
    let cluster = head.cluster.map(|it| it.parse::<ClusterId>()).transpose().ok()?;
    let state =
        State { cluster, position: Position { lineage, revision }, document: document.map(str::to_owned) };
    Some((state, UNIX_EPOCH.checked_add(Duration::from_secs(head.written_s))?))
}

#[cfg(test)]
mod tests {
    use skep_members::key::KeyRing;

    use super::*;

    fn keys_of(ring: KeyRing) -> Keys {
        Keys::of_edge(ring.into()).unwrap()
    }

    fn state(document: Option<&str>) -> State {
        State {
            cluster: Some(ClusterId(7)),
            position: Position { lineage: 5, revision: 3 },
            document: document.map(str::to_owned),
        }
    }

    fn copies(folder: &Path) -> Copies {
        Copies::at(folder, keys_of(KeyRing::insecure_loopback()))
    }

    #[test]
    fn what_was_written_is_read_with_its_age_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let copies = copies(&folder.path().join("a/b"));
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(copies.read(then).unwrap().is_none());
        for document in [Some("{\"routes\":{}}"), None] {
            copies.write(&state(document), then).unwrap();
            let (read, age) = copies.read(then + Duration::from_secs(9)).unwrap().unwrap();
            assert_eq!((read, age), (state(document), Duration::from_secs(9)));
        }
        let (_, age) = copies.read(then - Duration::from_secs(9)).unwrap().unwrap();
        assert_eq!(age, Duration::ZERO, "a clock that went back makes nothing younger than it is");
        assert_eq!(names(&copies.folder), [NAME]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_and_what_was_left_is_cleared_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let (copies, now) = (copies(folder.path()), SystemTime::now());
        // Something else is in its place.
        fs::create_dir(folder.path().join(NAME)).unwrap();
        assert!(copies.write(&state(None), now).is_err());
        assert_eq!(names(folder.path()), [NAME]);
        let left = format!("{NAME}.1");
        fs::write(folder.path().join(&left), "half").unwrap();
        copies.prepare(now).unwrap();
        assert_eq!(names(folder.path()).len(), 2, "somebody may be writing it");
        copies.prepare(now + BESIDE_MAX * 2).unwrap();
        assert_eq!(names(folder.path()), [NAME]);
        // A folder that cannot be.
        fs::write(folder.path().join("file"), "").unwrap();
        let nowhere = self::copies(&folder.path().join("file/below"));
        assert!(nowhere.prepare(now).is_err() && nowhere.write(&state(None), now).is_err());
        assert!(nowhere.read(now).is_err());
    }

    #[test]
    fn what_was_damaged_or_is_another_clusters_is_not_served_by() {
        let folder = tempfile::tempdir().unwrap();
        let (copies, now) = (copies(folder.path()), SystemTime::now());
        copies.write(&state(Some("{}")), now).unwrap();
        let other = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        let theirs = Copies::at(folder.path(), keys_of(other));
        assert!(matches!(theirs.read(now), Err(Unread::Sealed(stored::OpenError::UnknownKey))));
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(copies.read(now).is_err());
        fs::write(&path, vec![0; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
        // A form of a later version.
        let later = stored::seal(&copies.keys.now().ring, For::Gateway, b"{\"format\":2,\"written_s\":1}\nx")
            .unwrap();
        fs::write(&path, later).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
    }
}
