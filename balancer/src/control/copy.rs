//! The sealed copy of what the cluster's configuration was, under `--state`: what a balancer serves by that starts while
//! no node is there.
//!
//! One file, `gateway.sealed`: a line that says what it is, then the line in which a node told it, both sealed with the
//! cluster's keys. Written beside it, synced, renamed and the folder synced, so that it is the one before or the next.
//! What no key opens, and what cannot be read, is as if it were not there. No tasks: all of it blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_base::id::ClusterId;
use skep_gateway::told::{LINE_MAX, Told};
use skep_members::key::KeyRing;
use skep_members::stored::{self, For, OVERHEAD_BYTES};

use super::hear::State;
use crate::core::following::Position;

const NAME: &str = "gateway.sealed";
/// Most bytes before the line.
const HEAD_BYTES_MAX: usize = 1024;
const FILE_BYTES_MAX: usize = HEAD_BYTES_MAX + LINE_MAX + 2 + OVERHEAD_BYTES;
/// The form of what is sealed.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// None where the cluster is not known.
    cluster: Option<String>,
    /// When it was written, in seconds of Unix time.
    written_s: u64,
}

/// Where it lies, and what opens it.
#[derive(Debug, Clone)]
pub struct Copies {
    folder: PathBuf,
    keys: KeyRing,
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
    /// Makes the folder, where it is not there.
    pub fn at(folder: &Path, keys: KeyRing) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), keys })
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
        let plain = stored::open(&self.keys, For::Gateway, &sealed)?;
        let (state, written) = decode(&plain).ok_or(Unread::Content)?;
        Ok(Some((state, now.duration_since(written).unwrap_or_default())))
    }

    pub fn write(&self, state: &State, now: SystemTime) -> io::Result<()> {
        let plain = encode(state, now);
        let sealed = stored::seal(&self.keys, For::Gateway, &plain).map_err(io::Error::other)?;
        // Another process may have the folder, too, while it takes this one's place.
        let beside = self.folder.join(format!("{NAME}.{}", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        fs::rename(beside, self.folder.join(NAME))?;
        File::open(&self.folder)?.sync_all()
    }
}

fn encode(state: &State, now: SystemTime) -> Vec<u8> {
    let written_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
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
    use super::*;

    fn state(document: Option<&str>) -> State {
        State {
            cluster: Some(ClusterId(7)),
            position: Position { lineage: 5, revision: 3 },
            document: document.map(str::to_owned),
        }
    }

    fn copies(folder: &Path) -> Copies {
        Copies::at(folder, KeyRing::insecure_loopback()).unwrap()
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
        let names: Vec<_> = fs::read_dir(&copies.folder).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, [NAME]);
    }

    #[test]
    fn what_was_damaged_or_is_another_clusters_is_not_served_by() {
        let folder = tempfile::tempdir().unwrap();
        let (copies, now) = (copies(folder.path()), SystemTime::now());
        copies.write(&state(Some("{}")), now).unwrap();
        let other = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        let theirs = Copies::at(folder.path(), other).unwrap();
        assert!(matches!(theirs.read(now), Err(Unread::Sealed(stored::OpenError::UnknownKey))));
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(copies.read(now).is_err());
        fs::write(&path, vec![0; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
        // A form of a later version.
        let later = stored::seal(&copies.keys, For::Gateway, b"{\"format\":2,\"written_s\":1}\nx").unwrap();
        fs::write(&path, later).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
    }
}
