//! The repository's files as the rules read them: by their path from its root, without what was built or brought in.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Path from the root, and text. Files that are no text are there with none.
pub type Files = BTreeMap<String, String>;

/// Not ours, or made from what is.
const LEFT_OUT: [&str; 4] = [".git", "target", "vendor", "node_modules"];

/// The root of the repository that cargo runs the tests of.
pub fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.ancestors().nth(2).expect("the package lies two folders deep").to_owned()
}

/// All files below the root.
pub fn files() -> Files {
    let mut files = Files::new();
    let root = root();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("the repository's folders can be read");
        for entry in entries {
            let path = entry.expect("the repository's folders can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !LEFT_OUT.contains(&&*name) {
                    folders.push(path);
                }
            } else if let Ok(within) = path.strip_prefix(&root) {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                files.insert(within.to_string_lossy().into_owned(), text);
            }
        }
    }
    files
}

/// Rust's own, with those that are compiled for tests alone.
pub fn rust(files: &Files) -> impl Iterator<Item = (&String, &String)> {
    files.iter().filter(|(path, _)| path.ends_with(".rs"))
}

/// Whether all of a file is for tests, going by where it lies.
pub fn is_for_tests(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// What a rule's sample tests read.
#[cfg(test)]
pub fn sample(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}
