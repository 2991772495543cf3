//! What is replicated has no clock, no file and no chance: every node comes to the same. And consensus
//! does not know what is decided.

use crate::items::items;
use crate::tree::{Files, is_for_tests, rust};

const STATE: &str = "node/state/src/";
const RAFT: &str = "node/raft/src/";
/// The only modules of `skep-raft` that name what is decided: what goes over the wire, and openraft's types.
const NAME_STATE: [&str; 2] = ["wire", "types"];

/// Words of a path by which a function comes to something else at another node or time. The order of a
/// `HashMap` is chance.
const FORBIDDEN: [&str; 13] = [
    "Instant",
    "SystemTime",
    "fs",
    "net",
    "env",
    "process",
    "thread",
    "tokio",
    "rand",
    "getrandom",
    "HashMap",
    "HashSet",
    "RandomState",
];

/// Places where the replicated state could come to different things.
pub fn impure(files: &Files, looked_up: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let hashes = |file: &&&str| files.get(**file).is_some_and(|text| text.contains("Hash"));
    for file in looked_up.iter().filter(|file| !hashes(file)) {
        found.push(format!("no hashes any more, take it out of tests/tidy/src/exceptions.rs: {file}"));
    }
    for (file, text) in rust(files).filter(|(file, _)| file.starts_with(STATE) && !is_for_tests(file)) {
        let items = items(text);
        let paths = items.imports.iter().map(|import| &import.path).chain(&items.paths);
        for path in paths {
            // A word by itself may be anybody's own name; where it comes from is what counts.
            let known = path.segments.len() > 1
                || path.segments.iter().all(|word| word.starts_with(char::is_uppercase));
            let word = path.segments.iter().find(|word| FORBIDDEN.contains(&word.as_str()));
            let word = word
                .filter(|word| known && !(word.starts_with("Hash") && looked_up.contains(&file.as_str())));
            if let Some(word) = word {
                found.push(format!(
                    "{file}:{}: {word} in skep-state: every node must come to the same. Time and chance come in \
                     with the command, files are behind a port of the store; a BTreeMap has an order",
                    path.line
                ));
            }
        }
    }
    found
}

/// Places where consensus names what is decided.
pub fn known_to_raft(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in rust(files).filter(|(file, _)| file.starts_with(RAFT) && !is_for_tests(file)) {
        let room = file[RAFT.len()..].split(['/', '.']).next().unwrap_or_default();
        if NAME_STATE.contains(&room) {
            continue;
        }
        let items = items(text);
        let mut paths = items.imports.iter().map(|import| &import.path).chain(&items.paths);
        if let Some(path) = paths.find(|path| path.segments[0] == "skep_state") {
            found.push(format!(
                "{file}:{}: skep-raft names skep-state here; only its {} may: take it as a type parameter, or hand \
                 it through",
                path.line,
                NAME_STATE.join(" and ")
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exceptions::LOOKED_UP;
    use crate::tree::{files, sample};

    fn judged(text: &str) -> usize {
        impure(
            &sample(&[("node/state/src/a.rs", text), ("node/state/src/a/tests.rs", "use tokio::time;")]),
            &[],
        )
        .len()
    }

    #[test]
    fn clocks_files_and_chance_are_found() {
        for text in [
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "fn f() { std::fs::read(p) }",
            "use std::collections::HashMap;",
            "fn f() { rand::random() }",
        ] {
            assert_eq!(judged(text), 1, "{text}");
        }
    }

    #[test]
    fn durations_ordered_maps_own_names_and_tests_are_not() {
        let text = "use std::time::Duration; use std::collections::BTreeMap; fn f(net: u64) -> u64 { net.process(env) }
            #[cfg(test)] mod tests { use std::time::Instant; }";
        assert_eq!(judged(text), 0);
    }

    #[test]
    fn a_hash_map_may_be_looked_up_where_that_is_known() {
        let files = sample(&[("node/state/src/a.rs", "use std::collections::HashMap;")]);
        assert_eq!(impure(&files, &["node/state/src/a.rs"]), Vec::<String>::new());
        assert_eq!(impure(&files, &["node/state/src/a.rs", "node/state/src/b.rs"]).len(), 1);
    }

    #[test]
    fn raft_names_the_state_in_its_wire_and_types_alone() {
        let text = "use skep_state::Command;";
        let files = sample(&[
            ("node/raft/src/wire/request.rs", text),
            ("node/raft/src/types.rs", text),
            ("node/raft/src/peers.rs", text),
            ("node/raft/src/peers/tests.rs", text),
        ]);
        let found = known_to_raft(&files);
        assert!(found.len() == 1 && found[0].starts_with("node/raft/src/peers.rs:1"), "{found:?}");
    }

    #[test]
    fn the_replicated_state_has_no_clock_file_or_chance() {
        let found = impure(&files(), LOOKED_UP);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn consensus_does_not_know_what_is_decided() {
        let found = known_to_raft(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
