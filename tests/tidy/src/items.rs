//! What one file says that concerns others: the modules it declares, what it imports, the paths it writes.
//!
//! What is compiled for tests alone is left out.

use crate::tokens::{Token, tokens};

/// A path as it is written, such as `crate::store::Store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    /// The modules within the file that it stands in.
    pub within: Vec<String>,
}

/// One name that `use` brings in; `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub name: String,
    pub path: Path,
    /// It passes the name on to others than those below.
    pub public: bool,
}

/// `mod name;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub for_tests: bool,
}

#[derive(Debug, Default)]
pub struct Items {
    pub modules: Vec<Declared>,
    pub imports: Vec<Import>,
    pub paths: Vec<Path>,
}

pub fn items(text: &str) -> Items {
    let tokens = tokens(text);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        within: Vec::new(),
        depths: Vec::new(),
        depth: 0,
        items: Items::default(),
    };
    parser.run();
    parser.items
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Modules that are open, and how deep the braces were at each.
    within: Vec<String>,
    depths: Vec<usize>,
    depth: usize,
    items: Items,
}

impl Parser<'_> {
    fn run(&mut self) {
        let mut for_tests = false;
        while let Some(token) = self.tokens.get(self.at) {
            if token.is('#') {
                for_tests |= self.attribute();
                continue;
            }
            if for_tests {
                for_tests = false;
                self.skip_item();
                continue;
            }
            match token.word() {
                Some("mod") => self.module(),
                Some("use") => {
                    let before = self.at.checked_sub(1).map(|before| &self.tokens[before]);
                    let public = before.is_some_and(|token| token.word() == Some("pub") || token.is(')'));
                    self.at += 1;
                    self.import_tree(public, &mut Vec::new());
                }
                Some(_) => self.path(),
                None => self.mark(token.is('{'), token.is('}')),
            }
        }
    }

    fn mark(&mut self, opens: bool, closes: bool) {
        if opens {
            self.depth += 1;
        }
        if closes {
            self.depth = self.depth.saturating_sub(1);
            if self.depths.last() == Some(&self.depth) {
                self.depths.pop();
                self.within.pop();
            }
        }
        self.at += 1;
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead).and_then(Token::word)
    }

    fn is(&self, ahead: usize, mark: char) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|token| token.is(mark))
    }

    /// Reads over an attribute, whose paths count; true where it says that what follows is for tests.
    fn attribute(&mut self) -> bool {
        let inner = self.is(1, '!');
        self.at += if inner { 2 } else { 1 };
        let end = self.group_end();
        let words: Vec<&str> = self.tokens[self.at..end].iter().filter_map(Token::word).collect();
        let says_so = match words.as_slice() {
            ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not"),
            ["test"] | ["tokio", "test", ..] => true,
            _ => false,
        };
        if inner && says_so {
            self.at = self.tokens.len();
            return false;
        }
        while self.at < end && !says_so {
            if self.word(0).is_some() { self.path() } else { self.at += 1 }
        }
        self.at = end;
        says_so
    }

    /// Behind the bracket that closes the one which stands here.
    fn group_end(&self) -> usize {
        let mut depth = 0_usize;
        for (ahead, token) in self.tokens[self.at..].iter().enumerate() {
            if ['(', '[', '{'].iter().any(|mark| token.is(*mark)) {
                depth += 1;
            } else if [')', ']', '}'].iter().any(|mark| token.is(*mark)) {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return self.at + ahead + 1;
                }
            }
        }
        self.tokens.len()
    }

    /// Over an item, a field, an arm or a statement.
    fn skip_item(&mut self) {
        while self.is(0, '#') {
            self.at += 1;
            self.at = self.group_end();
        }
        if self.word(0) == Some("mod")
            || self.word(1) == Some("mod")
            || self.is(1, '(') && self.word(4) == Some("mod")
        {
            let name = if self.word(0) == Some("mod") {
                1
            } else if self.word(1) == Some("mod") {
                2
            } else {
                5
            };
            if self.is(name + 1, ';')
                && let Some(name) = self.word(name)
            {
                self.items.modules.push(Declared { name: name.to_owned(), for_tests: true });
            }
        }
        let mut ends_with_mark = false;
        while let Some(token) = self.tokens.get(self.at) {
            match token.word() {
                Some("use" | "static" | "type" | "let" | "const") if self.word(1) != Some("fn") => {
                    ends_with_mark = true
                }
                _ => {}
            }
            if token.is('}') || token.is(')') {
                return;
            }
            if token.is('(') || token.is('[') || token.is('{') {
                let closes_it = token.is('{') && !ends_with_mark;
                self.at = self.group_end();
                if closes_it {
                    return;
                }
                continue;
            }
            self.at += 1;
            if token.is(';') || token.is(',') {
                return;
            }
        }
    }

    fn module(&mut self) {
        let Some(name) = self.word(1).map(str::to_owned) else {
            self.at += 1;
            return;
        };
        if self.is(2, ';') {
            self.items.modules.push(Declared { name, for_tests: false });
        } else if self.is(2, '{') {
            self.within.push(name);
            self.depths.push(self.depth);
            self.depth += 1;
        }
        self.at += 3;
    }

    fn import_tree(&mut self, public: bool, prefix: &mut Vec<String>) {
        let outer = prefix.len();
        loop {
            if self.is(0, '{') {
                self.at += 1;
                while self.at < self.tokens.len() && !self.is(0, '}') {
                    self.import_tree(public, prefix);
                    if self.is(0, ',') {
                        self.at += 1;
                    }
                }
                self.at += 1;
                break;
            }
            if self.is(0, '*') {
                self.import("*".to_owned(), prefix.clone(), public);
                self.at += 1;
                break;
            }
            if self.is(0, ':') {
                self.at += 1;
                continue;
            }
            let Some(word) = self.word(0).map(str::to_owned) else {
                self.at += 1;
                break;
            };
            self.at += 1;
            if self.is(0, ':') && self.is(1, ':') {
                self.at += 2;
                prefix.push(word);
                continue;
            }
            // `self` in braces is what is before them.
            let mut segments = prefix.clone();
            if word != "self" || prefix.is_empty() {
                segments.push(word);
            }
            let name = match (self.word(0), self.word(1)) {
                (Some("as"), Some(name)) => {
                    let name = name.to_owned();
                    self.at += 2;
                    name
                }
                _ => segments.last().cloned().unwrap_or_default(),
            };
            self.import(name, segments, public);
            break;
        }
        prefix.truncate(outer);
    }

    fn import(&mut self, name: String, segments: Vec<String>, public: bool) {
        let line = self.tokens[self.at.min(self.tokens.len()) - 1].line;
        let path = Path { segments, line, within: self.within.clone() };
        self.items.imports.push(Import { name, path, public });
    }

    fn path(&mut self) {
        let line = self.tokens[self.at].line;
        let mut segments = Vec::new();
        while let Some(word) = self.word(0) {
            segments.push(word.to_owned());
            self.at += 1;
            if self.is(0, ':') && self.is(1, ':') {
                self.at += 2;
            } else {
                break;
            }
        }
        self.items.paths.push(Path { segments, line, within: self.within.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Vec<String> {
        let show = |import: Import| format!("{} = {}", import.name, import.path.segments.join("::"));
        items(text).imports.into_iter().map(show).collect()
    }

    fn written(text: &str) -> Vec<String> {
        let paths = items(text).paths.into_iter().map(|path| path.segments.join("::"));
        paths.filter(|path| path.contains("::")).collect()
    }

    #[test]
    fn an_import_with_braces_is_one_for_each_name() {
        let found = imported("pub(crate) use crate::a::{self, b::{C, D as E}, f::*};");
        assert_eq!(found, ["a = crate::a", "C = crate::a::b::C", "E = crate::a::b::D", "* = crate::a::f"]);
    }

    #[test]
    fn paths_in_code_types_and_attributes_are_found() {
        let text =
            "#[derive(x::Y)] fn a(b: &super::c::D) -> crate::E<f::G> { crate::h::i(self.j, k::l::<M>()) }";
        assert_eq!(written(text), ["x::Y", "super::c::D", "crate::E", "f::G", "crate::h::i", "k::l"]);
    }

    #[test]
    fn what_is_for_tests_is_left_out() {
        let text = "
            #[cfg(test)] use crate::a;
            #[cfg(test)] #[derive(Debug)] struct B { c: crate::d::E }
            #[cfg(test)] pub fn f() -> crate::g::H { crate::i::j() }
            #[cfg(test)] const K: crate::l::M = crate::l::M { n: 1 };
            #[cfg(all(test, unix))] mod tests { use crate::o; }
            #[cfg(not(test))] use crate::p;
            #[tokio::test(flavor = \"x\")] async fn q() { crate::r::s() }
            struct T { #[cfg(test)] u: crate::v::W, x: crate::y::Z }
        ";
        assert_eq!(imported(text), ["p = crate::p"]);
        assert_eq!(written(text), ["crate::y::Z"]);
    }

    #[test]
    fn modules_are_declared_for_all_or_for_tests() {
        let text =
            "mod a; pub mod b; pub(crate) mod c; #[cfg(test)] mod d; #[cfg(test)] pub(crate) mod e; mod f {}";
        let found: Vec<_> = items(text).modules.into_iter().map(|one| (one.name, one.for_tests)).collect();
        let expected = [("a", false), ("b", false), ("c", false), ("d", true), ("e", true)];
        assert_eq!(found, expected.map(|(name, for_tests)| (name.to_owned(), for_tests)));
    }

    #[test]
    fn a_path_knows_the_modules_within_the_file() {
        let found = items("mod a { fn b() { { } c::d() } mod e { use super::f; } } use g::h;");
        assert_eq!(found.paths.iter().find(|path| path.segments.len() > 1).unwrap().within, ["a"]);
        assert_eq!(found.imports[0].path.within, ["a", "e"]);
        assert!(found.imports[1].path.within.is_empty());
    }

    #[test]
    fn a_file_for_tests_has_nothing() {
        assert_eq!(imported("#![cfg(test)] use crate::a;"), Vec::<String>::new());
    }
}
