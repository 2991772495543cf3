//! Rust's text as tokens: what is in comments, strings and characters is gone, and each token knows its line.
//!
//! Enough of the language for its paths, items and attributes; no more is looked at.

/// A word, a mark, or something whose content does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Word(String),
    Mark(char),
    /// A number, string, character or byte.
    Literal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// From 1.
    pub line: usize,
}

impl Token {
    pub fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Mark(_) | Kind::Literal => None,
        }
    }
}

/// All tokens of a file. What does not end, ends with the file.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(c) = reader.peek(0) {
        let line = reader.line;
        let kind = match c {
            _ if c.is_whitespace() => {
                reader.step();
                continue;
            }
            '/' if reader.peek(1) == Some('/') => {
                reader.skip_while(|c| c != '\n');
                continue;
            }
            '/' if reader.peek(1) == Some('*') => {
                reader.skip_block_comment();
                continue;
            }
            '"' => reader.string(),
            '\'' => match reader.quote() {
                Some(kind) => kind,
                None => continue,
            },
            _ if c.is_ascii_digit() => reader.number(),
            _ if c == '_' || c.is_alphabetic() => reader.word(),
            _ => {
                reader.step();
                Kind::Mark(c)
            }
        };
        found.push(Token { kind, line });
    }
    found
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.step();
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => return,
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.step();
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.step();
                }
                _ => {}
            }
            self.step();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) -> Kind {
        self.step();
        while let Some(c) = self.peek(0) {
            self.step();
            match c {
                '\\' => self.step(),
                '"' => break,
                _ => {}
            }
        }
        Kind::Literal
    }

    /// `r"…"`, `r#"…"#`; the `r` is behind already.
    fn raw_string(&mut self) -> Kind {
        let from = self.at;
        self.skip_while(|c| c == '#');
        let hashes = self.at - from;
        self.step();
        while let Some(c) = self.peek(0) {
            self.step();
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                break;
            }
        }
        Kind::Literal
    }

    /// A character; None for a lifetime, which is no token here.
    fn quote(&mut self) -> Option<Kind> {
        self.step();
        if self.peek(0) != Some('\\') && self.peek(1) != Some('\'') {
            self.skip_while(|c| c == '_' || c.is_alphanumeric());
            return None;
        }
        if self.peek(0) == Some('\\') {
            self.step();
            self.step();
            self.skip_while(|c| c != '\'');
        } else {
            self.step();
        }
        self.step();
        Some(Kind::Literal)
    }

    fn number(&mut self) -> Kind {
        self.skip_while(|c| c == '_' || c.is_ascii_alphanumeric());
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.step();
            self.skip_while(|c| c == '_' || c.is_ascii_alphanumeric());
        }
        Kind::Literal
    }

    fn word(&mut self) -> Kind {
        let from = self.at;
        self.skip_while(|c| c == '_' || c.is_alphanumeric());
        let word: String = self.chars[from..self.at].iter().collect();
        let raw = || {
            let hashes = (0..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
            self.peek(hashes) == Some('"')
        };
        match word.as_str() {
            "r" | "br" | "cr" if raw() => self.raw_string(),
            "b" | "c" if self.peek(0) == Some('"') => self.string(),
            "b" if self.peek(0) == Some('\'') => self.quote().unwrap_or(Kind::Literal),
            // r#type
            "r" if self.peek(0) == Some('#') && self.peek(1).is_some_and(char::is_alphabetic) => {
                self.step();
                self.word()
            }
            _ => Kind::Word(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn what_is_in_comments_strings_and_characters_is_no_word() {
        let text = r####"
            // one use crate::a;
            /* two /* within */ three */
            let a = "four \" five"; let b = r#"six " seven"#; let c = b"eight"; let d = 'n'; let e = '\'';
            let f = br##"nine"# ten"##;
        "####;
        assert_eq!(words(text), ["let", "a", "let", "b", "let", "c", "let", "d", "let", "e", "let", "f"]);
    }

    #[test]
    fn a_lifetime_swallows_nothing() {
        assert_eq!(words("fn a<'b>(c: &'b str) -> &'static D {}"), ["fn", "a", "c", "str", "D"]);
    }

    #[test]
    fn a_range_of_numbers_and_a_field_of_a_tuple_are_no_decimal_points() {
        let text = "0..n; t.0.m(); 1.5e3";
        assert_eq!(words(text), ["n", "t", "m"]);
    }

    #[test]
    fn each_token_knows_its_line() {
        let found = tokens("a\n/* \n */ b\n\"\n\" c");
        let lines: Vec<usize> = found.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
    }

    #[test]
    fn a_raw_name_is_the_name() {
        assert_eq!(words("r#type r#fn"), ["type", "fn"]);
    }
}
