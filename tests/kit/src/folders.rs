//! Where the repository is, where programs are built, and where tests may write.

use std::path::{Path, PathBuf};

/// The folder with `scripts/`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the kit lies two folders deep")
}

/// Where cargo puts the programs of the profile that this test was built with.
pub fn programs() -> PathBuf {
    above_own(2)
}

/// For files of tests; cargo never empties it.
pub fn scratch() -> PathBuf {
    let folder = above_own(3).join("tmp");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// A test's program is `target/<profile>/deps/<name>`.
fn above_own(folders: usize) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors().nth(folders).expect("a test's program lies in the target folder").to_owned()
}
