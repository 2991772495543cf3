//! The workspace's crates and their floors: who may use whom.

use std::collections::BTreeMap;

use crate::tree::Files;

/// Each crate, with those below it. A crate uses none but these, directly.
///
/// `base < members < raft < store < node`, `base < state < raft`, `base < console`, `base < gateway < node, balancer`,
/// `base, members, console < vrrp < balancer`, `cache < balancer`, and `base, members, console, crawl < worker`.
const FLOORS: &[(&str, &[&str])] = &[
    ("skep-base", &[]),
    ("skep-members", &["skep-base"]),
    ("skep-console", &["skep-base"]),
    ("skep-state", &["skep-base"]),
    ("skep-raft", &["skep-base", "skep-members", "skep-state"]),
    ("skep-store", &["skep-base", "skep-members", "skep-state", "skep-raft"]),
    ("skep-gateway", &["skep-base"]),
    ("skep-cache", &[]),
    (
        "skep-node",
        &[
            "skep-base",
            "skep-members",
            "skep-console",
            "skep-gateway",
            "skep-state",
            "skep-raft",
            "skep-store",
        ],
    ),
    ("skep-vrrp", &["skep-base", "skep-members", "skep-console"]),
    (
        "skep-balancer",
        &["skep-base", "skep-members", "skep-console", "skep-cache", "skep-gateway", "skep-vrrp"],
    ),
    ("skep-crawl", &[]),
    ("skep-worker", &["skep-base", "skep-members", "skep-console", "skep-crawl"]),
    // What makes one file of the programs.
    ("skep-image", &["skep-base", "skep-node", "skep-vrrp", "skep-balancer", "skep-worker"]),
    // What stands outside and only asks.
    ("skep-load", &[]),
    ("skep-kit", &[]),
    ("skep-system-tests", &[]),
    ("skep-tidy", &[]),
];

/// A crate of the workspace.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    /// Its folder from the root.
    pub folder: String,
    /// Ours that it uses, but for its tests.
    pub uses: Vec<String>,
}

/// Those that the root's `Cargo.toml` lists.
pub fn packages(files: &Files) -> Vec<Package> {
    let root = files.get("Cargo.toml").expect("the workspace has a Cargo.toml");
    let members = root.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.expect("the workspace lists its members");
    let package = |folder: &str| {
        let manifest = &files[&format!("{folder}/Cargo.toml")];
        let of = sections(manifest);
        let value = |line: &&str| line.split('"').nth(1).map(str::to_owned);
        let name = of["package"].iter().find(|line| line.starts_with("name")).and_then(value);
        let uses = of
            .iter()
            .filter(|(section, _)| section.ends_with("dependencies") && **section != "dev-dependencies");
        let ours = |line: &&str| line.starts_with("skep-");
        let uses = uses.flat_map(|(_, lines)| lines.iter().copied().filter(ours));
        let key = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
        Package {
            name: name.expect("a package has a name"),
            folder: folder.to_owned(),
            uses: uses.map(key).collect(),
        }
    };
    members.split('"').skip(1).step_by(2).map(package).collect()
}

/// A manifest's lines by their section.
fn sections(manifest: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut section = "";
    for line in manifest.lines() {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name,
            None => sections.entry(section).or_default().push(line),
        }
    }
    sections
}

/// Crates that use what is not below them, and exceptions that are none any more.
pub fn complaints(packages: &[Package], exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (user, used) in exceptions {
        let still = packages
            .iter()
            .any(|package| package.name == *user && package.uses.iter().any(|one| one == used));
        if !still {
            found.push(format!(
                "no arrow any more, take it out of tests/tidy/src/exceptions.rs: {user} -> {used}"
            ));
        }
    }
    for package in packages {
        let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == package.name) else {
            found.push(format!(
                "{} has no floor: say in FLOORS of tests/tidy/src/crates.rs which crates lie below it",
                package.name
            ));
            continue;
        };
        let allowed = |used: &str| below.contains(&used) || exceptions.contains(&(&package.name, used));
        for used in package.uses.iter().filter(|used| !allowed(used)) {
            found.push(format!(
                "{}/Cargo.toml: {} may not use {used}: what both need goes into a crate below both, what {used} \
                 must tell it goes through a channel or a closure that the program's wiring hands down",
                package.folder, package.name
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exceptions::ARROWS;
    use crate::tree::{files, sample};

    const ROOT: &str = "[workspace]\nmembers = [\"proto/base\", \"node\"]\n";

    fn found(node: &str) -> Vec<String> {
        let node = format!("[package]\nname = \"skep-members\"\n{node}");
        let files = sample(&[
            ("Cargo.toml", ROOT),
            (
                "proto/base/Cargo.toml",
                "[package]\nname = \"skep-base\"\n[dependencies]\nbytes.workspace = true\n",
            ),
            ("node/Cargo.toml", &node),
        ]);
        complaints(&packages(&files), &[])
    }

    #[test]
    fn a_crate_may_use_what_is_below_it() {
        assert_eq!(found("[dependencies]\nskep-base.workspace = true\n"), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_uses_what_is_above_it_is_named_in_any_form() {
        for line in ["skep-raft.workspace = true", "skep-raft = { path = \"x\" }"] {
            for section in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
                let found = found(&format!("[{section}]\n{line}\n"));
                assert!(found.len() == 1 && found[0].contains("may not use skep-raft"), "{found:?}");
            }
        }
    }

    #[test]
    fn a_crates_tests_may_use_any() {
        assert_eq!(found("[dev-dependencies]\nskep-raft.workspace = true\n"), Vec::<String>::new());
    }

    #[test]
    fn each_crate_uses_only_those_below_it() {
        let found = complaints(&packages(&files()), ARROWS);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
