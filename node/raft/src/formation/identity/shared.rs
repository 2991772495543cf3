//! One place for the folders of several nodes, of which each takes one that nobody has: `--data` with
//! `{n}` in it, as in `/data/node-{n}`.
//!
//! An orchestrator decides anew where a task runs, and numbers of tasks say nothing of the host that
//! they come to. A folder that belonged to a number would be missed where the number went elsewhere;
//! when all tasks of a service are started anew at once, that may be every one of them, and a cluster
//! would begin with nothing beside its own data. What a host has, the nodes on it take up, whichever
//! they are: the folder that was written last first, since one that was left behind by a node that is
//! gone has an older log.
//!
//! No tasks. Blocks on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{DataFolder, IDENTITY_FILE, IdentityError, LOCK_FILE, LOG_DIR};

/// What stands for the folder's number.
pub const NUMBER: &str = "{n}";

/// Most nodes of one place.
pub const FOLDERS_MAX: usize = 64;

/// Takes the folder that `data` names, or where that has [`NUMBER`] in it, the best that is free.
///
/// # Errors
/// As [`DataFolder::open`]; a folder among several that is broken is left alone, and said so.
pub fn open(data: &Path) -> Result<DataFolder, IdentityError> {
    let Some(pattern) = data.to_str().filter(|text| text.contains(NUMBER)) else {
        return DataFolder::open(data);
    };
    let mut folders: Vec<Folder> = (1..=FOLDERS_MAX)
        .map(|n| Folder::at(PathBuf::from(pattern.replace(NUMBER, &n.to_string()))))
        .collect();
    // Stable: those that were never used stay in the order of their numbers.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.written));
    for folder in &folders {
        match DataFolder::open(&folder.dir) {
            Err(IdentityError::Locked { .. }) => {}
            Err(
                error @ (IdentityError::Unreadable { .. }
                | IdentityError::LogWithoutIdentity { .. }
                | IdentityError::IdentityWithoutLog { .. }),
            ) => tracing::error!(%error, "a data folder is left alone"),
            opened => return opened,
        }
    }
    Err(IdentityError::AllTaken { data: data.into(), count: FOLDERS_MAX })
}

struct Folder {
    dir: PathBuf,
    /// None: never used.
    written: Option<SystemTime>,
}

impl Folder {
    fn at(dir: PathBuf) -> Self {
        let is_used = dir.join(IDENTITY_FILE).exists() || has_log(&dir);
        let written = if is_used { last_written(&dir) } else { None };
        Self { dir, written }
    }
}

fn has_log(dir: &Path) -> bool {
    fs::read_dir(dir.join(LOG_DIR)).is_ok_and(|mut entries| entries.next().is_some())
}

/// When the log was appended to, or else a node began with the folder.
fn last_written(dir: &Path) -> Option<SystemTime> {
    let modified = |path: PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    let log = fs::read_dir(dir.join(LOG_DIR)).into_iter().flatten();
    let of_log = log.filter_map(|entry: io::Result<fs::DirEntry>| modified(entry.ok()?.path()));
    of_log.chain(modified(dir.join(IDENTITY_FILE))).chain(modified(dir.join(LOCK_FILE))).max()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let pattern = dir.path().join("node-{n}");
        (dir, pattern)
    }

    fn number(folder: &DataFolder) -> String {
        folder.dir().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// As if the folder had been written last so long ago.
    fn age(dir: &Path, name: &str, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        for file in [IDENTITY_FILE, LOCK_FILE] {
            let file = fs::File::options().write(true).open(dir.join(name).join(file)).unwrap();
            file.set_modified(then).unwrap();
        }
    }

    #[test]
    fn each_process_takes_a_folder_that_nobody_has_and_the_same_again() {
        let (_dir, pattern) = place();
        let (one, two) = (open(&pattern).unwrap(), open(&pattern).unwrap());
        assert_eq!((number(&one), number(&two)), ("node-1".into(), "node-2".into()));
        let id = one.identity().node;
        drop(one);
        let again = open(&pattern).unwrap();
        assert_eq!((number(&again), again.identity().node), ("node-1".into(), id));
        assert_eq!(number(&open(&pattern).unwrap()), "node-3");
    }

    #[test]
    fn of_those_that_are_free_the_one_that_was_written_last_is_taken() {
        let (dir, pattern) = place();
        drop([open(&pattern).unwrap(), open(&pattern).unwrap(), open(&pattern).unwrap()]);
        for (name, seconds) in [("node-1", 300), ("node-2", 10), ("node-3", 200)] {
            age(dir.path(), name, seconds);
        }
        let taken = [open(&pattern).unwrap(), open(&pattern).unwrap(), open(&pattern).unwrap()];
        assert_eq!(taken.each_ref().map(number), ["node-2", "node-3", "node-1"]);
    }

    #[test]
    fn a_broken_folder_is_left_alone_and_one_that_cannot_be_written_is_an_error() {
        let (dir, pattern) = place();
        drop(open(&pattern).unwrap());
        fs::write(dir.path().join("node-1").join(IDENTITY_FILE), "no identity").unwrap();
        assert_eq!(number(&open(&pattern).unwrap()), "node-2");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(open(&file.join("node-{n}")).is_err());
    }

    #[test]
    fn a_name_without_a_number_is_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()).unwrap_err(), IdentityError::Locked { .. }));
        assert_eq!(held.dir(), dir.path());
    }
}
