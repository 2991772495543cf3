//! A vendored crate is there because the build takes it in place of its release.

use crate::tree::Files;

/// Vendored crates that `Cargo.lock` does not take, given the folders of `vendor/`.
pub fn unneeded(folders: &[String], files: &Files) -> Vec<String> {
    let lock = files.get("Cargo.lock").expect("the workspace has a Cargo.lock");
    let used = |name: &String| {
        let named = format!("name = \"{name}\"");
        let packages = lock.split("[[").filter(|package| package.lines().any(|line| line == named));
        // A release's entry says where it is from; one of a folder does not.
        packages
            .filter(|package| package.starts_with("package]]"))
            .any(|package| !package.contains("\nsource = "))
    };
    let unused = folders.iter().filter(|name| !used(name));
    unused
        .map(|name| {
            format!(
                "vendor/{name}: Cargo.lock does not take it: remove the folder and its line in [patch.crates-io], or \
                 bring its patch to the release that is used now"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{files, root, sample};

    #[test]
    fn a_crate_that_the_lock_takes_from_a_release_is_not_needed() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1\"\n\n[[package]]\nname = \"b\"\nversion = \"1\"\nsource = \
                    \"registry\"\n\n[[patch.unused]]\nname = \"c\"\nversion = \"1\"\n";
        let folders = ["a", "b", "c"].map(str::to_owned);
        let found = unneeded(&folders, &sample(&[("Cargo.lock", lock)]));
        assert!(
            found.len() == 2 && found[0].starts_with("vendor/b") && found[1].starts_with("vendor/c"),
            "{found:?}"
        );
    }

    #[test]
    fn each_vendored_crate_is_still_needed() {
        let entries = std::fs::read_dir(root().join("vendor")).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let folders: Vec<String> =
            folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let found = unneeded(&folders, &files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
