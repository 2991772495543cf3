//! File systems that a test makes small or read-only; for root alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::effort::left_out;
use crate::folders::scratch;
use crate::programs::{is_root, system};

/// A mount that goes away with this value.
pub struct Mount {
    path: PathBuf,
}

/// Whether mounts are possible here; says why not, so that a skipped test does not look like a passed one.
pub fn possible(test: &str) -> bool {
    if !is_root() {
        left_out(test, "mounting needs root");
        return false;
    }
    let folder = tempfile::tempdir_in(scratch()).expect("a folder can be made");
    let tried = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder.path()).output();
    match tried {
        Ok(output) if output.status.success() => {
            system("umount", &[text(folder.path())]);
            true
        }
        Ok(output) => {
            left_out(test, String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            left_out(test, &format!("mount: {error}"));
            false
        }
    }
}

impl Mount {
    /// A file system of a fixed size in memory.
    pub fn tmpfs(path: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(path).expect("the mount point can be made");
        system("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "none", text(path)]);
        Self { path: path.to_owned() }
    }

    /// A folder seen read-only at its own path.
    pub fn read_only(path: &Path) -> Self {
        system("mount", &["--bind", text(path), text(path)]);
        let mount = Self { path: path.to_owned() };
        system("mount", &["-o", "remount,bind,ro", text(path)]);
        mount
    }

    pub fn resize(&self, mib: u64) {
        system("mount", &["-o", &format!("remount,size={mib}m"), text(&self.path)]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process of a failing test may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' folders have plain names")
}
