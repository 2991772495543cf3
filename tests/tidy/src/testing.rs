//! How tests are written: they await events, say so where they measure, and their kit has nothing that
//! none of them uses.

use std::collections::BTreeMap;

use crate::tokens::{Token, tokens};
use crate::tree::{Files, is_for_tests, rust};

/// Where whole programs are tested.
const SYSTEM: &str = "tests/system/";
const KIT: &str = "tests/kit/";
/// Of test programs that have the machine for themselves as a whole.
const ALONE: [&str; 2] = ["tests/system/address/", "tests/system/swarm/"];

/// The tokens of a file that are compiled for tests alone: all, or those of its `mod tests { … }`.
fn for_tests(path: &str, text: &str) -> Vec<Token> {
    let all = tokens(text);
    if is_for_tests(path) || path.starts_with(KIT) {
        return all;
    }
    let begins = |at: &usize| {
        let words: Vec<&str> = all[*at..].iter().take(9).filter_map(Token::word).collect();
        all[*at].is('#') && matches!(words.as_slice(), ["cfg", "test", "mod", _])
    };
    // Whatever else is for tests is small, and declares; a module of them is the last in its file.
    let inline = (0..all.len()).filter(begins).find(|at| all.get(at + 9).is_some_and(|token| token.is('{')));
    all[inline.unwrap_or(all.len())..].to_vec()
}

/// Sleeps in tests by file, but for those that are known to be no synchronisation.
pub fn sleeps(files: &Files, exceptions: &[(&str, usize, &str)]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (path, text) in rust(files) {
        let tokens = for_tests(path, text);
        let calls = tokens.windows(2).filter(|pair| pair[0].word() == Some("sleep") && pair[1].is('('));
        let lines: Vec<usize> = calls.map(|pair| pair[0].line).collect();
        if !lines.is_empty() {
            places.insert(path, lines);
        }
    }
    let mut found = Vec::new();
    for (path, lines) in &places {
        let known = exceptions.iter().find(|(file, ..)| file == path).map_or(0, |(_, count, _)| *count);
        if lines.len() > known {
            found.push(format!(
                "{path}: sleeps in lines {lines:?}, {known} are known: await the event (skep_kit::wait::until), hand \
                 the time in, or pause tokio's clock"
            ));
        }
    }
    for (file, count, _) in exceptions {
        if places.get(file).map_or(0, Vec::len) < *count {
            found.push(format!("fewer sleeps than that, correct it in tests/tidy/src/exceptions.rs: {file}"));
        }
    }
    found
}

/// Tests that measure and do not say so by a module `measures`, and the other way about.
pub fn measures(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(files).filter(|(path, _)| path.starts_with(SYSTEM)) {
        let tokens = tokens(text);
        let says = |word: &str| tokens.iter().any(|token| token.word() == Some(word));
        let says_so = path.contains("/measures/") || ALONE.iter().any(|folder| path.starts_with(folder));
        let held = ["machine_alone", "expect_under"].into_iter().find(|word| says(word));
        if let Some(word) = held.filter(|_| !says_so) {
            found.push(format!(
                "{path}: {word} in a test that runs beside others: move it into a module `measures`, which \
                 .config/nextest.toml has run alone"
            ));
        }
        if path.contains("/measures/") && says("machine_shared") {
            found.push(format!("{path}: machine_shared in `measures`: what only behaves belongs beside it"));
        }
    }
    found
}

/// Functions and constants of the kit that nothing else names; a type may be held without its name.
pub fn unused_kit(files: &Files) -> Vec<String> {
    let users: Vec<(&String, Vec<Token>)> = rust(files)
        .filter(|(path, _)| path.contains("tests/"))
        .map(|(path, text)| (path, tokens(text)))
        .collect();
    let mut found = Vec::new();
    for (path, tokens) in users.iter().filter(|(path, _)| path.starts_with(KIT)) {
        for three in tokens.windows(4).filter(|words| words[0].word() == Some("pub")) {
            let name = match [three[1].word(), three[2].word(), three[3].word()] {
                [Some("fn" | "const"), Some(name), _] => name,
                [Some("async"), Some("fn"), Some(name)] => name,
                _ => continue,
            };
            let calls = |tokens: &[Token]| tokens.iter().filter(|token| token.word() == Some(name)).count();
            let elsewhere = users.iter().any(|(other, tokens)| other != path && calls(tokens) > 0);
            if !elsewhere {
                let what = if calls(tokens) > 1 {
                    "is used here alone: it need not be pub"
                } else {
                    "is used nowhere"
                };
                found.push(format!("{path}:{}: {name} {what}", three[0].line));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exceptions::SLEEPS;
    use crate::tree::{files, sample};

    #[test]
    fn a_sleep_in_a_test_is_named_and_one_in_a_program_is_not() {
        let files = sample(&[
            (
                "a/src/b.rs",
                "fn f() { sleep(x) }\n#[cfg(test)]\nmod tests { fn g() { tokio::time::sleep(y) } }",
            ),
            ("a/src/c.rs", "async fn f() { tokio::time::sleep(x).await }"),
            ("a/tests/d.rs", "fn f() { std::thread::sleep(x) } // sleep(z)"),
        ]);
        let found = sleeps(&files, &[]);
        assert!(
            found.len() == 2 && found[0].contains("lines [3]") && found[1].contains("lines [1]"),
            "{found:?}"
        );
        let known = [("a/src/b.rs", 1, "why"), ("a/tests/d.rs", 1, "why")];
        assert_eq!(sleeps(&files, &known), Vec::<String>::new());
        assert_eq!(sleeps(&files, &[("a/src/b.rs", 2, "why"), known[1]]).len(), 1);
    }

    #[test]
    fn a_measure_is_in_a_module_that_says_so() {
        let alone = "fn f() { let _m = machine_alone(); }";
        let shared = "fn f() { let _m = machine_shared(); }";
        let files = sample(&[
            ("tests/system/cluster/a.rs", alone),
            ("tests/system/cluster/b.rs", shared),
            ("tests/system/cluster/measures/c.rs", alone),
            ("tests/system/cluster/measures/d.rs", shared),
            ("tests/system/address/e.rs", alone),
            ("tests/kit/src/f.rs", alone),
        ]);
        let found = measures(&files);
        assert!(found.len() == 2 && found[0].contains("/a.rs") && found[1].contains("/d.rs"), "{found:?}");
    }

    #[test]
    fn what_only_the_kit_itself_names_is_named() {
        let files = sample(&[
            (
                "tests/kit/src/a.rs",
                "pub fn used() {} pub async fn never() {} pub fn within() {} fn b() { within() }",
            ),
            ("tests/system/x.rs", "fn f() { used() }"),
        ]);
        let found = unused_kit(&files);
        assert!(found.len() == 2 && found[0].contains("never is used nowhere"), "{found:?}");
    }

    #[test]
    fn no_test_sleeps_where_it_could_await() {
        let found = sleeps(&files(), SLEEPS);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn tests_that_measure_say_so_by_their_module() {
        let found = measures(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn the_kit_has_nothing_that_no_test_uses() {
        let found = unused_kit(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
