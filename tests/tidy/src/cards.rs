//! Each module says what it owns, and holds no more than a reader keeps in mind.

use crate::tree::{Files, rust};

/// A file that grows past this holds two things.
const LINES_MAX: usize = 450;

/// Files without a card. A module's unit tests, in `tests.rs` and below, are of what the module's card says.
pub fn missing(files: &Files) -> Vec<String> {
    let needs =
        |path: &str| !path.contains("/src/") || !path.split('/').any(|part| part.starts_with("tests"));
    let found = rust(files).filter(|(path, text)| needs(path) && !text.starts_with("//!"));
    found
        .map(|(path, _)| {
            format!(
                "{path}: begins with no //! card: say what it owns, which tasks it runs, what is cancel-safe"
            )
        })
        .collect()
}

/// Files that are too long, and exceptions that are not any more or have grown.
pub fn too_long(files: &Files, exceptions: &[(&str, usize)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(files) {
        let lines = text.lines().count();
        let most = exceptions.iter().find(|(file, _)| file == path).map_or(LINES_MAX, |(_, most)| *most);
        if lines > most {
            found.push(format!("{path}: {lines} lines, {most} are the most: it holds two things, part them"));
        }
    }
    for (file, _) in exceptions {
        if files.get(*file).is_none_or(|text| text.lines().count() <= LINES_MAX) {
            found.push(format!("not too long any more, take it out of tests/tidy/src/exceptions.rs: {file}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exceptions::LONG_FILES;
    use crate::tree::{files, sample};

    #[test]
    fn a_file_without_a_card_is_named_but_for_a_modules_own_tests() {
        let files = sample(&[
            ("a/src/b.rs", "//! Owns b."),
            ("a/src/c.rs", "use d;"),
            ("a/src/c/tests.rs", "use super::*;"),
            ("a/src/c/tests/e.rs", "use super::*;"),
            ("a/tests/f.rs", "use a;"),
        ]);
        let found = missing(&files);
        assert!(
            found.len() == 2 && found[0].starts_with("a/src/c.rs") && found[1].starts_with("a/tests/f.rs")
        );
    }

    #[test]
    fn a_long_file_is_named_unless_it_is_an_exception_that_has_not_grown() {
        let files = sample(&[("a.rs", &"\n".repeat(451)), ("b.rs", &"\n".repeat(450))]);
        assert_eq!(too_long(&files, &[]).len(), 1);
        assert_eq!(too_long(&files, &[("a.rs", 451)]), Vec::<String>::new());
        assert_eq!(too_long(&files, &[("a.rs", 450)]).len(), 1);
        assert_eq!(too_long(&files, &[("a.rs", 451), ("b.rs", 450), ("c.rs", 500)]).len(), 2);
    }

    #[test]
    fn each_module_has_its_card() {
        let found = missing(&files());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn no_file_is_too_long() {
        let found = too_long(&files(), LONG_FILES);
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
