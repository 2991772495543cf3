//! The sealed copy of what the cluster's configuration was, under `--state`: what a balancer serves by that starts while
//! no node is there.
//!
//! One file, `gateway.sealed`: a line that says what it is, then the line in which a node told it (`sealed` is how it is
//! kept). No tasks: all of it blocks.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_base::id::ClusterId;
use skep_gateway::told::{LINE_MAX, Told};
use skep_members::in_force::Keys;
use skep_members::stored::For;

use super::hear::State;
use super::sealed::{Sealed, Unread};
use crate::core::following::Position;

const NAME: &str = "gateway.sealed";
/// Most bytes before the line.
const HEAD_BYTES_MAX: usize = 1024;
const BYTES_MAX: usize = HEAD_BYTES_MAX + LINE_MAX + 2;
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

/// Where it lies.
#[derive(Debug, Clone)]
pub struct Copies(Sealed);

impl Copies {
    pub fn at(folder: &Path, keys: Keys) -> Self {
        Self(Sealed::at(folder, keys))
    }

    /// Where others may lie, too.
    pub fn sealed(&self) -> Sealed {
        self.0.clone()
    }

    /// What lies there, and how old it is; `None` where nothing does.
    pub fn read(&self, now: SystemTime) -> Result<Option<(State, Duration)>, Unread> {
        let Some(plain) = self.0.read(NAME, For::Gateway, BYTES_MAX)? else { return Ok(None) };
        let (state, written) = decode(&plain).ok_or(Unread::Content)?;
        Ok(Some((state, now.duration_since(written).unwrap_or_default())))
    }

    /// Puts a state there that a node said then.
    pub fn write(&self, state: &State, then: SystemTime) -> io::Result<()> {
        self.0.write(NAME, For::Gateway, &encode(state, then))
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
    use std::fs;

    use skep_members::key::KeyRing;
    use skep_members::stored;

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
        assert_eq!(names(&folder.path().join("a/b")), [NAME]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
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
        fs::write(&path, vec![0; BYTES_MAX + stored::OVERHEAD_BYTES + 1]).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
        // A form of a later version.
        let later =
            stored::seal(&KeyRing::insecure_loopback(), For::Gateway, b"{\"format\":2,\"written_s\":1}\nx")
                .unwrap();
        fs::write(&path, later).unwrap();
        assert!(matches!(copies.read(now), Err(Unread::Content)));
    }
}
