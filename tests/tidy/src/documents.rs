//! What documents name is there: files, and the tests that show what is promised.

use crate::tokens::{Token, tokens};
use crate::tree::{Files, rust};

const PROMISES: &str = "docs/promises.md";
/// The heading of the column that names tests.
const SHOWN_BY: &str = "shown by";

/// Each test as `path/of/the/file::name`.
pub fn tests(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(files) {
        let tokens = tokens(text);
        let is_test = |at: usize| {
            let attribute: Vec<&str> = tokens[at..].iter().take(6).filter_map(Token::word).collect();
            tokens[at].is('#') && matches!(attribute.as_slice(), ["test", ..] | ["tokio", "test", ..])
        };
        for at in (0..tokens.len()).filter(|at| is_test(*at)) {
            let name = tokens[at..].windows(2).find(|pair| pair[0].word() == Some("fn"));
            if let Some(name) = name.and_then(|pair| pair[1].word()) {
                found.push(format!("{}::{name}", path.trim_end_matches(".rs")));
            }
        }
    }
    found
}

/// Whether `scripts/test NAME` would run one of these, by a module of that name or in a test's name.
fn is_there(name: &str, tests: &[String]) -> bool {
    tests.iter().any(|test| {
        let (path, function) = test.rsplit_once("::").unwrap_or_default();
        path.split('/').any(|part| part == name) || function.contains(name)
    })
}

/// Names in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Tests that promises name and that are not there, and tables of promises that name none.
pub fn unshown(files: &Files) -> Vec<String> {
    let tests = tests(files);
    let text = files.get(PROMISES).map(String::as_str).unwrap_or_default();
    let (mut found, mut named, mut in_table) = (Vec::new(), 0, false);
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            in_table = false;
        } else if cells.last() == Some(&SHOWN_BY) {
            in_table = true;
        } else if let Some(last) = cells.last().filter(|_| in_table) {
            for name in quoted(last) {
                named += 1;
                if !is_there(name, &tests) {
                    found.push(format!(
                        "{PROMISES}:{}: no test is called {name}: name the one that shows this, or write it",
                        number + 1
                    ));
                }
            }
        }
    }
    if named == 0 {
        found.push(format!("{PROMISES}: no table has a column that says {SHOWN_BY:?}"));
    }
    found
}

/// Whether rules about paths hold for a document: what is true now, not what once was.
fn is_checked(path: &str) -> bool {
    let kept = path.starts_with("docs/") || !path.contains('/');
    kept && path.ends_with(".md") && path != "CHANGELOG.md"
}

/// Paths and links that lead nowhere, and exceptions that do not any more.
pub fn dead_paths(files: &Files, exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut used = Vec::new();
    for (document, text) in files.iter().filter(|(path, _)| is_checked(path)) {
        for (number, line) in text.lines().enumerate() {
            let linked = links(line).map(|link| beside(document, link));
            let written = quoted(line).filter_map(|text| as_path(text, files)).map(str::to_owned);
            for path in linked.chain(written).filter(|path| !exists(path, files)) {
                if let Some(exception) = exceptions.iter().find(|one| **one == (document, &path)) {
                    used.push(exception);
                    continue;
                }
                found.push(format!("{document}:{}: there is no {path}: say where it is now", number + 1));
            }
        }
    }
    for exception in exceptions.iter().filter(|exception| !used.contains(exception)) {
        found.push(format!(
            "no dead path any more, take it out of tests/tidy/src/exceptions.rs: {exception:?}"
        ));
    }
    found
}

/// What looks like a path of this repository: from one of its folders on, or a source file's bare name.
fn as_path<'a>(text: &'a str, files: &Files) -> Option<&'a str> {
    let path = text.split(' ').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !path.chars().all(plain) || path.contains("NAME") || path.contains("..") {
        return None;
    }
    match path.split_once('/') {
        Some((first, _)) if !first.is_empty() => {
            let folder = format!("{first}/");
            files.keys().any(|file| file.starts_with(&folder)).then_some(path)
        }
        Some(_) => None,
        // `foo.rs` and `mod.rs` stand for any.
        None => (path.ends_with(".rs") && !["foo.rs", "mod.rs"].contains(&path)).then_some(path),
    }
}

/// A file, a folder, or the end of a file's path. What is made by a build is not looked for.
fn exists(path: &str, files: &Files) -> bool {
    let path = path.trim_end_matches('/');
    let (folder, end) = (format!("{path}/"), format!("/{path}"));
    path == "target"
        || path.starts_with("target/")
        || path.starts_with("vendor/")
        || files.contains_key(path)
        || files.keys().any(|file| file.starts_with(&folder) || file.ends_with(&end))
}

/// Targets of links within the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// A link's target as a path from the root.
fn beside(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::exceptions::DEAD_PATHS;
    use crate::tree::{files, sample};

    const TABLE: &str = "| promise | shown by |\n|---|---|\n| kept | `crashes`, `a_leader` |\n";

    #[test]
    fn a_promise_is_shown_by_a_module_or_by_a_tests_name() {
        let tests = "#[tokio::test(flavor = \"x\")]\nasync fn what_a_leader_does() {}";
        let files = sample(&[(PROMISES, TABLE), ("t/crashes.rs", "#[test] fn b() {}"), ("t/c.rs", tests)]);
        assert_eq!(unshown(&files), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_is_not_there_is_named_with_its_line() {
        let files = sample(&[
            (PROMISES, TABLE),
            ("t/crashes.rs", "fn b() {}"),
            ("t/c.rs", "#[test] fn a_leader() {}"),
        ]);
        let found = unshown(&files);
        assert!(found.len() == 1 && found[0].contains(":3: no test is called crashes"), "{found:?}");
        assert_eq!(unshown(&sample(&[(PROMISES, "no table")])).len(), 1);
    }

    #[test]
    fn paths_that_lead_nowhere_are_named() {
        let text = "`a/src/b.rs` `a/src` `a/gone.rs` `b.rs` `c.rs` `/route/x` `x/y` `a/NAME.rs` [l](docs/d.md#e) [m](n.md) \
                    [o](https://p) `a/run --it`";
        let files =
            sample(&[("A.md", text), ("a/src/b.rs", ""), ("docs/d.md", "[up](../A.md)"), ("a/run", "")]);
        let found = dead_paths(&files, &[]);
        let named: Vec<_> = found.iter().map(|line| line.split(' ').nth(4).unwrap()).collect();
        assert_eq!(named, ["n.md:", "a/gone.rs:", "c.rs:"]);
        let exceptions = [("A.md", "n.md"), ("A.md", "a/gone.rs"), ("A.md", "c.rs")];
        assert_eq!(dead_paths(&files, &exceptions), Vec::<String>::new());
        assert_eq!(dead_paths(&files, &[&exceptions[..], &[("A.md", "a/src")]].concat()).len(), 1);
    }

    #[test]
    fn each_test_that_a_promise_names_is_there() {
        let found = unshown(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn each_path_that_a_document_names_is_there() {
        let found = dead_paths(&files(), DEAD_PATHS);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
