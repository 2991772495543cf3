//! Files under `--state`, sealed with the cluster's keys.
//!
//! Each is written beside under a name of its own, synced, renamed and the folder synced, so that it is the one before or
//! the next, also where another process writes there, too. What no key opens, and what cannot be read, is as if it were
//! not there. No tasks: all of it blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use skep_members::in_force::Keys;
use skep_members::stored::{self, For, OVERHEAD_BYTES};
use tokio::sync::watch;

/// How the name of each ends.
pub const SUFFIX: &str = ".sealed";
/// After that long nobody writes any more what lies beside.
const BESIDE_MAX: Duration = Duration::from_secs(600);
/// Files of a folder that are looked at.
const LOOKED_AT_MAX: usize = 4096;

/// Where they lie, and what opens them.
#[derive(Debug, Clone)]
pub struct Sealed {
    folder: PathBuf,
    keys: Keys,
}

/// Why there is one that cannot be served by.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sealed(#[from] stored::OpenError),
    #[error("it says nothing that this version reads")]
    Content,
}

impl Sealed {
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
                name.to_str().is_some_and(|it| it.contains(&format!("{SUFFIX}.")) && !it.ends_with(SUFFIX));
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

    /// What is in the file of that name, which has at most so many bytes; `None` where there is none.
    pub fn read(&self, name: &str, what: For, bytes_max: usize) -> Result<Option<Vec<u8>>, Unread> {
        let file = match File::open(self.folder.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let file_bytes_max = bytes_max + OVERHEAD_BYTES;
        let mut sealed = Vec::new();
        file.take(file_bytes_max as u64 + 1).read_to_end(&mut sealed)?;
        if sealed.len() > file_bytes_max {
            return Err(Unread::Content);
        }
        Ok(Some(stored::open(&self.keys.now().ring, what, &sealed)?))
    }

    /// Puts that there, under a name that ends as these do.
    pub fn write(&self, name: &str, what: For, plain: &[u8]) -> io::Result<()> {
        let sealed = stored::seal(&self.keys.now().ring, what, plain).map_err(io::Error::other)?;
        self.make_folder()?;
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("there are no random numbers"))?;
        let beside = self.folder.join(format!("{name}.{:016x}", u64::from_le_bytes(random)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = self.put(name, &sealed, file, &beside);
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Writes it beside, and puts that in its place.
    fn put(&self, name: &str, sealed: &[u8], mut file: File, beside: &Path) -> io::Result<()> {
        file.write_all(sealed)?;
        file.sync_all()?;
        fs::rename(beside, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Takes away what is there under that name, where something is.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| File::open(&self.folder)?.sync_all()),
        }
    }

    /// Takes away those that begin so and whose name between that and the end is none of these.
    pub fn remove_others(&self, prefix: &str, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)?.take(LOOKED_AT_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().and_then(|it| it.strip_prefix(prefix)?.strip_suffix(SUFFIX));
            if name.is_some_and(|it| !is_kept(it)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skep_members::key::KeyRing;

    use super::*;

    fn sealed(folder: &Path) -> Sealed {
        Sealed::at(folder, Keys::of_edge(KeyRing::insecure_loopback().into()).unwrap())
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_and_what_was_left_is_cleared_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let (files, now) = (sealed(folder.path()), SystemTime::now());
        // Something else is in its place.
        fs::create_dir(folder.path().join("a.sealed")).unwrap();
        assert!(files.write("a.sealed", For::Gateway, b"x").is_err());
        assert_eq!(names(folder.path()), ["a.sealed"]);
        fs::write(folder.path().join("a.sealed.1"), "half").unwrap();
        files.prepare(now).unwrap();
        assert_eq!(names(folder.path()).len(), 2, "somebody may be writing it");
        files.prepare(now + BESIDE_MAX * 2).unwrap();
        assert_eq!(names(folder.path()), ["a.sealed"]);
        // A folder that cannot be.
        fs::write(folder.path().join("file"), "").unwrap();
        let nowhere = sealed(&folder.path().join("file/below"));
        assert!(nowhere.prepare(now).is_err() && nowhere.write("a.sealed", For::Gateway, b"x").is_err());
        assert!(nowhere.read("a.sealed", For::Gateway, 9).is_err());
    }

    #[test]
    fn what_is_too_large_or_for_something_else_is_not_read_and_others_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = sealed(folder.path());
        files.write("issuer-a.sealed.b.sealed", For::Keys, b"text").unwrap();
        files.write("issuer-c.sealed", For::Keys, b"text").unwrap();
        files.write("gateway.sealed", For::Gateway, b"text").unwrap();
        let read = |most| files.read("issuer-c.sealed", For::Keys, most);
        assert_eq!(read(4).unwrap().unwrap(), b"text");
        assert!(matches!(read(3), Err(Unread::Content)));
        assert!(files.read("issuer-c.sealed", For::Gateway, 4).is_err());
        assert!(files.read("issuer-d.sealed", For::Keys, 4).unwrap().is_none());
        files.prepare(SystemTime::now() + BESIDE_MAX * 2).unwrap();
        files.remove_others("issuer-", |it| it == "a.sealed.b").unwrap();
        let mut left = names(folder.path());
        left.sort_unstable();
        assert_eq!(left, ["gateway.sealed", "issuer-a.sealed.b.sealed"]);
    }
}
