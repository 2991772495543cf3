//! Images in CSS: `url()` and `image-set()` in a style sheet or in a `style` attribute. Pure.
//!
//! What is no image does not count: `@import` and `@namespace`, and the fonts of `@font-face`.

use super::is_space;

/// Deepest nesting of functions that is read.
const DEPTH_MAX: usize = 32;

/// Gives the URLs in the text, in order; each with its escapes undone. None is kept here: there may be
/// millions.
pub fn urls(text: &str, found: &mut dyn FnMut(&str)) {
    Reader { text, at: 0, functions: Vec::new(), found }.read();
}

/// A function that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    /// Strings in it are URLs.
    ImageSet,
    Other,
}

/// What an at-rule keeps from being images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    None,
    /// To the end of the statement.
    Statement,
    /// To the end of the block, once it has begun.
    Fonts {
        has_begun: bool,
    },
}

struct Reader<'a, 'f> {
    text: &'a str,
    at: usize,
    functions: Vec<Function>,
    found: &'f mut dyn FnMut(&str),
}

impl<'a> Reader<'a, '_> {
    fn read(&mut self) {
        let mut rule = Rule::None;
        while let Some(c) = self.peek() {
            match c {
                '/' if self.rest().starts_with("/*") => {
                    let rest = &self.rest()[2..];
                    self.at += 2 + rest.find("*/").map_or(rest.len(), |end| end + 2);
                }
                '"' | '\'' => {
                    let string = self.string(c);
                    // In type("image/png") it names a type.
                    if self.functions.last() == Some(&Function::ImageSet) && rule == Rule::None {
                        (self.found)(&string);
                    }
                }
                '@' => {
                    self.at += 1;
                    let name = self.name();
                    rule = match name.to_ascii_lowercase().as_str() {
                        "import" | "namespace" | "charset" => Rule::Statement,
                        "font-face" => Rule::Fonts { has_begun: false },
                        _ => Rule::None,
                    };
                }
                ')' => {
                    self.at += 1;
                    self.functions.pop();
                }
                '(' => {
                    self.at += 1;
                    self.open(Function::Other);
                }
                ';' | '{' | '}' => {
                    self.at += 1;
                    self.functions.clear();
                    rule = match (rule, c) {
                        (Rule::Fonts { .. }, '{') => Rule::Fonts { has_begun: true },
                        (Rule::Fonts { has_begun: true }, ';') => rule,
                        _ => Rule::None,
                    };
                }
                _ if is_name(c) => self.word(rule),
                _ => self.at += c.len_utf8(),
            }
        }
    }

    /// A name, which may begin a function.
    fn word(&mut self, rule: Rule) {
        let name = self.name().to_ascii_lowercase();
        if self.peek() != Some('(') {
            return;
        }
        self.at += 1;
        match name.as_str() {
            "url" | "src" => {
                let url = self.url();
                if let Some(url) = url.filter(|_| rule == Rule::None) {
                    (self.found)(&url);
                }
            }
            "image-set" | "-webkit-image-set" | "image" => self.open(Function::ImageSet),
            _ => self.open(Function::Other),
        }
    }

    fn open(&mut self, function: Function) {
        if self.functions.len() < DEPTH_MAX {
            self.functions.push(function);
        }
    }

    /// What stands in `url(`, to its end.
    fn url(&mut self) -> Option<String> {
        self.skip_spaces();
        let url = match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let url = self.string(quote);
                let rest = self.rest();
                // A modifier may stand behind it.
                self.at += rest.find([')', ';', '}']).unwrap_or(rest.len());
                url
            }
            _ => self.until_end_of_url()?,
        };
        if self.peek() == Some(')') {
            self.at += 1;
        }
        // Of a part of this document it is no image.
        (!url.trim_matches(is_space).is_empty() && !url.starts_with('#')).then_some(url)
    }

    /// A URL without quotes; none where it is no URL.
    fn until_end_of_url(&mut self) -> Option<String> {
        let mut url = String::new();
        let mut is_url = true;
        while let Some(c) = self.peek() {
            match c {
                ')' => break,
                '\\' => url.extend(self.escape()),
                '"' | '\'' | '(' => {
                    is_url = false;
                    self.at += 1;
                }
                _ if is_space(c) => {
                    self.skip_spaces();
                    is_url &= self.peek().is_none_or(|c| c == ')');
                }
                _ => {
                    url.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        is_url.then_some(url)
    }

    /// A string whose quote is next; it ends at the end of its line at the latest.
    fn string(&mut self, quote: char) -> String {
        let mut string = String::new();
        self.at += 1;
        while let Some(c) = self.peek() {
            match c {
                '\\' => string.extend(self.escape()),
                '\n' | '\r' | '\u{c}' => break,
                _ => {
                    self.at += c.len_utf8();
                    if c == quote {
                        break;
                    }
                    string.push(c);
                }
            }
        }
        string
    }

    /// What an escape stands for; nothing where it continues a line.
    fn escape(&mut self) -> Option<char> {
        self.at += 1;
        let c = self.peek()?;
        let digits = self.rest().bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        if digits == 0 {
            self.at += c.len_utf8();
            return (!matches!(c, '\n' | '\r' | '\u{c}')).then_some(c);
        }
        let number = u32::from_str_radix(&self.rest()[..digits], 16).unwrap_or_default();
        self.at += digits;
        if self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        Some(char::from_u32(number).filter(|c| *c != '\0').unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::urls as give;

    fn urls(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        give(text, &mut |url| found.push(url.to_owned()));
        found
    }

    #[test]
    fn images_are_found_and_what_is_none_is_not() {
        for (text, expected) in [
            ("background: url(a.png)", &["a.png"][..]),
            ("background:URL( \"a b.png\" ) no-repeat, url('c.png')", &["a b.png", "c.png"]),
            ("background: url( \n a.png\t )", &["a.png"]),
            ("a { background: url(a.png) } b{list-style:url(b.png)}", &["a.png", "b.png"]),
            ("background: url(a\\(1\\).png)", &["a(1).png"]),
            ("background: url(\\61 .png), url('\\62.png'), url('a\\\nb')", &["a.png", "b.png", "ab"]),
            ("background: url(a b.png) url(c.png)", &["c.png"]),
            ("background: url(a'b.png) url(c.png)", &["c.png"]),
            ("/* url(no.png) */ a{background:url(yes.png)} /* url(", &["yes.png"]),
            ("content: \"url(no.png)\"", &[]),
            ("x: my-url(no.png)", &[]),
            (
                "background: image-set('a.png' 1x, url(b.png) 2x, 'c.png' type('image/png') 3x)",
                &["a.png", "b.png", "c.png"],
            ),
            ("background: -webkit-image-set(url(a.png) 1x); content: 'b'", &["a.png"]),
            ("background: image-set(linear-gradient(red, 'no') 1x, 'a.png' 2x)", &["a.png"]),
            ("background: cross-fade(url(a.png), url(b.png), 50%)", &["a.png", "b.png"]),
            ("cursor: url(a.cur) 2 2, auto; mask: url(m.svg#x)", &["a.cur", "m.svg#x"]),
            ("filter: url(#blur); background: url(), url('  ')", &[]),
            ("@import url(no.css); a { background: url(a.png) }", &["a.png"]),
            ("@import 'no.css' layer(x); @namespace url(no); a{b:url(a.png)}", &["a.png"]),
            (
                "@font-face { font-family: x; src: url(no.woff2) format('woff2'), url(no.ttf) } a{b:url(a.png)}",
                &["a.png"],
            ),
            ("@media print { a { background: url(a.png) } }", &["a.png"]),
            ("background: url(a.png", &["a.png"]),
            ("background: url('a.png", &["a.png"]),
            ("background: url('a.png\n); b: url(c.png)", &["a.png", "c.png"]),
            ("b: url(", &[]),
            ("b: url(\\", &[]),
            ("b: url(ü.png)", &["ü.png"]),
        ] {
            assert_eq!(urls(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_nests_without_end_is_read_all_the_same() {
        let text = format!("a: {}url(a.png)", "x(".repeat(100_000));
        assert_eq!(urls(&text), ["a.png"]);
    }
}
