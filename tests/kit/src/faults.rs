//! A host that fails: clocks that are wrong, disks that cannot sync, reads that take long, files that cannot
//! be opened. A small library between a program and the C library (`shim/shim.c`), told by a file what to do.
//!
//! For the programs as they are built here; a static one knows no such library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::effort::left_out;
use crate::folders::{root, scratch};

/// Whether faults can be made here; says why not.
pub fn possible(test: &str) -> bool {
    if std::env::var_os("SKEP_TEST_PROGRAM").is_some() {
        left_out(test, "SKEP_TEST_PROGRAM may be static, where no fault can be made");
        return false;
    }
    if library().is_none() {
        left_out(test, "the library that makes faults cannot be compiled: cc is missing");
        return false;
    }
    true
}

/// The library, compiled once.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let process = std::process::id();
        let (made, library) = (scratch().join(format!("shim-{process}.so")), scratch().join("shim.so"));
        let source = root().join("tests/kit/shim/shim.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&made).arg(source);
        let status = cc.args(["-ldl", "-lpthread"]).status();
        if !status.is_ok_and(|status| status.success()) {
            return None;
        }
        // Whole or not at all: tests run beside each other.
        std::fs::rename(made, &library).ok()?;
        Some(library)
    };
    LIBRARY.get_or_init(compile).as_deref()
}

/// Has the kernel forget what it read of the files in a folder, so that they are read from the disk again. What
/// is not on the disk yet stays in memory.
pub fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        // A program may take a file away meanwhile.
        let Ok(file) = entry.and_then(|entry| std::fs::File::open(entry.path())) else { continue };
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// The faults of one program.
#[derive(Debug, Clone)]
pub struct Faults {
    rules: PathBuf,
}

impl Faults {
    /// None yet; told by a file in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let faults = Self { rules: folder.join(format!("faults-{name}")) };
        faults.set(&[]);
        faults
    }

    /// From now on these, a rule each; in force some milliseconds later.
    pub fn set(&self, rules: &[&str]) {
        let made = self.rules.with_extension("tmp");
        std::fs::write(&made, rules.join("\n")).expect("the rules can be written");
        std::fs::rename(made, &self.rules).expect("the rules can be put in place");
    }

    /// What a program's environment needs.
    pub fn env(&self) -> Vec<(String, String)> {
        let library = library().expect("the test has asked whether faults are possible");
        vec![
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("SHIM_RULES".to_owned(), self.rules.display().to_string()),
        ]
    }
}
